"""Transfers: the intent to hand an answered call over, in one transaction with what permits it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from outdial.model import Attempt, Disposition, Originate
from outdial.store.calls import Calls, Claim
from outdial.store.postgres import Postgres, Transaction


class Transfers:
    """What a switch does to the store to hand calls over."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], calls: Calls) -> None:
        self._db = db
        self._now = now
        self._calls = calls

    @asynccontextmanager
    async def intending(self, order: Originate) -> AsyncIterator[Intent | None]:
        """A transaction in which a transfer is judged and its attempt written.

        It holds what a claim holds. Yields None when the call that is to be handed over has ended, or its
        engine run was fenced.
        """
        async with self._db.transaction() as tx:
            epoch = await tx.fetchval("hold_engine_of", order.vdn_id, order.transfer_of)
            if epoch is None:
                yield None
            else:
                claim = await self._calls.lock(tx, order.vdn_id, order.campaign_id, epoch)
                yield Intent(tx, order, claim, claim.now if claim is not None else self._now())


class Intent:
    """One transfer under the locks. `claim` is None when its campaign may not call now."""

    def __init__(self, tx: Transaction, order: Originate, claim: Claim | None, now: datetime) -> None:
        self._tx = tx
        self._order = order
        self.claim = claim
        self.now = now

    async def write(self, refused: Disposition | None) -> Attempt | None:
        """Write the transfer's attempt (with the transaction): open, or ended as `refused`, then None."""
        order = self._order
        facts = (order.attempt_id, order.transfer_of, order.called, order.caller, self.now, refused)
        row = await self._tx.fetchrow("intend_transfer", order.vdn_id, *facts)
        if row is None or refused is not None:
            return None
        return Attempt(
            order.vdn_id,
            order.campaign_id,
            row["contact_id"],
            order.attempt_id,
            row["attempt_no"],
            order.called,
            order.caller,
            order.max_alerting_time,
            self.now,
            transfer_of=order.transfer_of,
        )
