"""The planner's statistics of the tables that fill: they follow a table's growth.

Autovacuum looks once a minute. A plan made before, on a table without statistics, takes the VDN's id for
selective and reads all rows of the VDN for every batch (docs/why/decisions/0014).
"""

from __future__ import annotations

from typing import Final

from outdial.store.postgres import Postgres

_TABLES: Final = ("attempt", "blacklist", "call_result", "called_count", "campaign", "contact", "outbox")

_SMALL: Final = 8
_LARGE: Final = 4000
"""Pages (mostly of 8 KiB) of a table that may be read whole, and of one whose plans change no more."""


class Statistics:
    """Keeps plans in step with tables that grow fast."""

    def __init__(self, db: Postgres) -> None:
        self._db = db

    async def follow(self) -> None:
        """Take the statistics anew of each table that has doubled since. Raises `StoreUnavailable`."""
        for row in await self._db.fetch("outgrown", _TABLES, _SMALL, _LARGE):
            await self._db.run("analyze", table=row["name"])
