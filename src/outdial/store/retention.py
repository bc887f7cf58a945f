"""What a VDN keeps no longer is removed, a page of a table at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from outdial.model import Keep
from outdial.store.postgres import Postgres

Place = Any
"""Where a page begins: the key of the row before it; None: the table's begin."""

_NO_ID = UUID(int=0)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a page did: how many rows went, and where the next page begins (None: this was the last)."""

    rows: int
    next: Place


class Retention:
    """Numbers, results and call records of all VDNs; every verb but `keeping` names one VDN."""

    def __init__(self, db: Postgres) -> None:
        self._db = db

    async def keeping(self) -> dict[int, Keep]:
        """Across VDNs: those that do not keep everything for ever."""
        rows = await self._db.fetch("keeping_vdns")
        return {row["vdn_id"]: keep_of(row) for row in rows}

    async def numbers(self, vdn_id: int, after: Place, until: datetime) -> Removed:
        """Remove contacts that were done until then; their campaigns count them on."""
        page = await self._db.fetchrow("old_numbers", vdn_id, after or 0, until)
        gone = 0
        if page["old"]:
            async with self._db.transaction() as tx:
                await tx.fetch("lock_campaigns_of_numbers", vdn_id, page["old"])
                gone = await tx.fetchval("remove_numbers", vdn_id, page["old"])
        return Removed(gone, page["last"])

    async def results(self, vdn_id: int, after: Place, until: datetime) -> Removed:
        """Remove results that were made until then, and wait for no receiver."""
        page = await self._db.fetchrow("remove_results", vdn_id, after or _NO_ID, until)
        return Removed(page["gone"], page["last"])

    async def records(self, vdn_id: int, after: Place, until: datetime) -> Removed:
        """Remove attempts that were made until then, have ended, and whose number is done."""
        since, last = after or (_EARLIEST, _NO_ID)
        page = await self._db.fetchrow("remove_records", vdn_id, since, last, until)
        return Removed(page["gone"], (page["intent_at"], page["last"]) if page["last"] else None)


def keep_of(row: Any) -> Keep:
    """What a VDN keeps, in a row of `vdn`."""
    return Keep(row["keep_numbers"], row["keep_results"], row["keep_records"])
