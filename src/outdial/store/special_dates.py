"""Special dates: a VDN's objects, and the copies that its campaigns carry.

A claim must see the dates as they are under its campaign's row lock, so each campaign has a copy in its row.
Whatever changes dates holds the VDN's row; then campaign rows, in id order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from outdial.audit import change
from outdial.model import Campaign, SpecialDate, SpecialDateKind
from outdial.store.campaigns import campaign, json_text
from outdial.store.postgres import Postgres, Transaction


class SpecialDates:
    """The special dates of all VDNs."""

    def __init__(self, db: Postgres) -> None:
        self._db = db

    @asynccontextmanager
    async def held(
        self, vdn_id: int, campaign_id: int, changing: int = 0
    ) -> AsyncIterator[tuple[Campaign | None, HeldDates]]:
        """A transaction that holds the VDN, the campaign, and those that use the date `changing`."""
        async with self._db.transaction() as tx:
            await tx.fetchrow("lock_vdn", vdn_id)
            if changing:
                await tx.fetch("lock_users", vdn_id, changing)
            row = await tx.fetchrow("lock_campaign_row", vdn_id, campaign_id)
            held = campaign(row) if row is not None else None
            yield held, HeldDates(tx, vdn_id, campaign_id)
            await tx.fetch("wake_engines")


class HeldDates:
    """The verbs inside `SpecialDates.held`."""

    def __init__(self, tx: Transaction, vdn_id: int, campaign_id: int) -> None:
        self._tx = tx
        self._key = (vdn_id, campaign_id)

    async def create(self, new: SpecialDate) -> int | None:
        """A new object of the VDN; its id, or None when the name is taken."""
        await self._tx.execute("forget_unused_dates", self._key[0])
        made = await self._tx.fetchval("create_special_date", self._key[0], *_facts(new))
        if made is not None:
            self._tells("create", f"special date {made}", name=new.name)
        return int(made) if made is not None else None

    async def one(self, special_date_id: int) -> SpecialDate | None:
        """An object of the VDN."""
        row = await self._tx.fetchrow("special_date", self._key[0], special_date_id)
        return _special_date(row) if row is not None else None

    async def put(self, dates: Sequence[SpecialDate]) -> None:
        """The campaign has these; what no campaign uses any more is gone."""
        await self._tx.execute("put_special_dates", *self._key, json_text(dates))
        ids = [one.special_date_id for one in dates]
        self._tells("set special dates", f"campaign {self._key[1]}", ids=ids)
        await self._tx.execute("forget_unused_dates", self._key[0])

    async def change(self, changed: SpecialDate) -> bool:
        """Change an object, in every campaign that uses it; False when another one has the name."""
        vdn_id, special_date_id = self._key[0], changed.special_date_id
        row = await self._tx.fetchrow("change_special_date", vdn_id, special_date_id, *_facts(changed))
        if row is not None:
            await self._tx.execute("copy_special_date", vdn_id, special_date_id, json_text(changed))
            self._tells("change", f"special date {special_date_id}", name=changed.name)
        return row is not None

    def _tells(self, action: str, object_: str, **details: Any) -> None:
        self._tx.tells(change(self._key[0], action, object_, **details))


def _facts(said: SpecialDate) -> tuple[Any, ...]:
    return said.name, int(said.kind), list(said.weekdays), said.first, said.last


def _special_date(row: Any) -> SpecialDate:
    return SpecialDate(
        row["special_date_id"],
        row["name"],
        SpecialDateKind(row["kind"]),
        tuple(row["weekdays"]),
        row["first"],
        row["last"],
    )
