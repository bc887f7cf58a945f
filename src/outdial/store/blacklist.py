"""The blacklist of a VDN (wire/data-api.md §7, semantics.md §8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from outdial.audit import Change, change
from outdial.model import BlacklistEntry
from outdial.store.hiding import Hiding
from outdial.store.postgres import Postgres


class Blacklist:
    """Entries of all VDNs; every verb names one VDN."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], hiding: Hiding) -> None:
        self._db = db
        self._hiding = hiding
        self._now = now

    async def add(self, entries: Sequence[BlacklistEntry]) -> list[str]:
        """Add all entries (of one VDN, alike but for their numbers), or none.

        Returns the numbers that were in the blacklist already: then nothing was added. One that has
        expired does not count.
        """
        first = entries[0]
        numbers = [entry.number for entry in entries]
        async with self._db.transaction() as tx:
            names = await self._hiding.stored_names(tx, first.vdn_id, numbers)
            await tx.execute("forget_expired", first.vdn_id, list(names.values()), self._now())
            rows = await tx.fetch("add_entries", *_columns(first, names.values()), self._now())
            added = {row["number"] for row in rows}
            present = sorted(number for number, name in names.items() if name not in added)
            if present:
                await tx.roll_back()
            else:
                tx.tells(_told("add", first.vdn_id, numbers))
        return present

    async def add_missing(self, entries: Sequence[BlacklistEntry], *, overwrite: bool) -> None:
        """Add the entries that are not there; overwrite or leave those that are."""
        first = entries[0]
        numbers = [entry.number for entry in entries]
        async with self._db.transaction() as tx:
            names = await self._hiding.stored_names(tx, first.vdn_id, numbers)
            await tx.execute("forget_expired", first.vdn_id, list(names.values()), self._now())
            query = "overwrite_entries" if overwrite else "add_entries"
            await tx.execute(query, *_columns(first, names.values()), self._now())
            tx.tells(_told("overwrite" if overwrite else "add missing", first.vdn_id, numbers))

    async def delete(self, vdn_id: int, number: str) -> bool:
        """Remove one entry; False when it was not there."""
        async with self._db.transaction() as tx:
            names = await self._hiding.stored_names(tx, vdn_id, [number])
            row = await tx.fetchrow("delete_entry", vdn_id, names[number])
            if row is not None:
                tx.tells(_told("delete", vdn_id, [number]))
        return row is not None

    async def delete_all(self, vdn_id: int) -> None:
        """Remove every entry of the VDN."""
        async with self._db.transaction() as tx:
            status = await tx.execute("delete_all_entries", vdn_id)
            tx.tells(change(vdn_id, "clear", "blacklist", entries=int(status.split()[-1])))

    async def some(self, vdn_id: int, numbers: Sequence[str]) -> list[BlacklistEntry]:
        """The entries of these numbers, expired ones too."""
        async with self._db.transaction() as tx:
            names = await self._hiding.stored_names(tx, vdn_id, numbers)
            rows = await tx.fetch("entries_of", vdn_id, list(names.values()))
        asked = {name: number for number, name in names.items()}
        return [replace(_entry(row), number=asked[row["number"]]) for row in rows]

    async def page(self, vdn_id: int, *, limit: int, offset: int) -> tuple[list[BlacklistEntry], int]:
        """A page of entries in number order, and the number of all; but for those of erased numbers."""
        rows = await self._db.fetch("page_of_entries", vdn_id, limit, offset)
        return [_entry(row) for row in rows], await self._db.fetchval("count_entries", vdn_id)


def _told(action: str, vdn_id: int, numbers: Sequence[str]) -> Change:
    return change(vdn_id, action, "blacklist", numbers=[f"…{number[-4:]}" for number in numbers])


def _columns(first: BlacklistEntry, names: Collection[str]) -> tuple[Any, ...]:
    return (
        first.vdn_id,
        list(names),
        first.expires_at,
        first.restrict_times,
        first.restrict_period,
    )


def _entry(row: Any) -> BlacklistEntry:
    return BlacklistEntry(
        row["vdn_id"],
        row["number"],
        row["expires_at"],
        row["restrict_times"],
        row["restrict_period"],
    )
