"""What a SIP switch asks the store: trunks and destinations, whether a call may leave or be handed over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from outdial.campaigns import in_hours
from outdial.engine.transferring import intend_transfer
from outdial.model import Attempt, Disposition, Originate
from outdial.routing import Board
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.switch.sip import Facts, Trunking

_COUNT_EVERY: Final = 5
"""Looks between two counts of answered minutes."""


class StoreFacts:
    """The facts of a switch, from the store; what seldom changes is read when its version does."""

    def __init__(self, store: Store, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now
        self._version: int | None = None
        self._known = Trunking()
        self._looks = 0

    def facts(self) -> Facts:
        """As the switch takes them."""
        return Facts(self.trunking, self.permits, self.count_minutes, self.intends)

    async def trunking(self) -> Trunking:
        """Trunks, groups and prefixes. Raises `StoreUnavailable`, and `SettingError` without a master key."""
        store = self._store
        version = await store.trunks.version()
        active, shares = await store.calls.active()
        if version != self._version:
            self._known = Trunking(
                trunks=tuple(await store.trunks.all()),
                groups=await store.trunks.groups(),
                prefixes=await store.trunks.prefixes(),
                active=active,
                shares=shares,
            )
            self._version = version
        elif (active, shares) != (self._known.active, self._known.shares):
            self._known = Trunking(
                self._known.trunks, self._known.groups, self._known.prefixes, active, shares
            )
        return self._known

    async def permits(self, order: Originate) -> bool:
        """Whether this open attempt may still be placed: its run lives, its campaign is started and open."""
        paced = await self._store.calls.permitted(order.vdn_id, order.attempt_id)
        return paced is not None and in_hours(paced.campaign, paced.time_zone, self._now())

    async def intends(self, order: Originate, refused: Disposition | None) -> Attempt | None:
        """The attempt of a transfer, committed; None where it may not be."""
        return await intend_transfer(self._store, order, refused)

    async def count_minutes(self, board: Board) -> None:
        """Store the answered time of this engine, learn that of all; at once when there is some to store."""
        self._looks += 1
        unsaved = board.unsaved()
        if unsaved or self._looks % _COUNT_EVERY == 1:
            used = await self._store.trunks.count_answered(self._today(), unsaved)
            board.counted(unsaved, used)

    def _today(self) -> date:
        return self._now().date()
