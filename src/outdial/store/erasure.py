"""A number is taken out of a VDN (the right to erasure, GDPR article 17), and stays refused where it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from outdial.audit import change
from outdial.store.hiding import Hiding
from outdial.store.postgres import Postgres, Transaction

SHORTEST_WORD: Final = 5
"""Characters from which on a number is looked for inside other texts: shorter ones stand for anything."""

_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ID: Final = UUID(int=0)


class CannotErase(Exception):
    """The number cannot be erased now; the message says what to do. Doing it again goes on from there."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows lost the number, and whether the blacklist holds it under a hash."""

    numbers: int
    results: int
    records: int
    blacklisted: bool


class Erasure:
    """Erases numbers. Small transactions, and each may be repeated."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], hiding: Hiding) -> None:
        self._db = db
        self._now = now
        self._hiding = hiding

    async def erase(self, vdn_id: int, number: str) -> Erased:
        """Take the number out of every table of the VDN.

        Raises `CannotErase` while it is called, and while a setting of the VDN names it; `SettingError` when
        the blacklist has it and the master key is missing.
        """
        word = _word(number)
        blacklisted = await self._begin(vdn_id, number, word)
        numbers = await self._numbers(vdn_id, number, word)
        results = await self._results(vdn_id, number, word)
        records = await self._records(vdn_id, number, word)
        return Erased(numbers, results, records, blacklisted)

    async def _begin(self, vdn_id: int, number: str, word: str) -> bool:
        """The blacklist hides the number, at once for adds and claims; the caps forget it."""
        if await self._db.fetchval("present_names", vdn_id, [number]):
            await self._hiding.ensure(vdn_id)
        async with self._db.transaction() as tx:
            await tx.fetchrow("lock_vdn", vdn_id)
            await self._check(tx, vdn_id, number, word)
            await tx.execute("erase_from_deleted", vdn_id, word)
            await tx.execute("forget_count", vdn_id, number)
            hidden = await self._hide(tx, vdn_id, number)
            tx.tells(change(vdn_id, "erase", f"number …{number[-4:]}", blacklisted=hidden))
        return hidden

    async def _check(self, tx: Transaction, vdn_id: int, number: str, word: str) -> None:
        settings = await tx.fetch("settings_that_name", vdn_id, word)
        if settings:
            named = ", ".join(row["what"] for row in settings)
            raise CannotErase(f"the number is in {named}: take it out there, then erase it")
        if await tx.fetchval("calls_under_way", vdn_id, number):
            raise _called()

    async def _hide(self, tx: Transaction, vdn_id: int, number: str) -> bool:
        """Put the number's entry on the blacklist under its hash; False when it has none."""
        name = (await self._hiding.stored_names(tx, vdn_id, [number]))[number]
        if name != number:
            await tx.execute("forget_entry", vdn_id, number)
            return True
        if not await tx.fetch("present_names", vdn_id, [number]):
            return False
        if not await self._hiding.look(vdn_id, tx):
            raise CannotErase("the blacklist was changed just now: erase the number again")
        await tx.execute("hide_entry", vdn_id, number, self._hiding.name(vdn_id, number))
        return True

    async def _numbers(self, vdn_id: int, number: str, word: str) -> int:
        after: Any = 0
        gone = 0
        while after is not None:
            page = await self._db.fetchrow("numbers_to_erase", vdn_id, after, number, word)
            if page["found"]:
                gone += await self._erase_contacts(vdn_id, page["found"], number, word)
            after = page["last"]
        return gone

    async def _erase_contacts(self, vdn_id: int, contact_ids: list[int], number: str, word: str) -> int:
        async with self._db.transaction() as tx:
            await tx.fetch("lock_campaigns_of_numbers", vdn_id, contact_ids)
            if await tx.fetchval("dialing_of", vdn_id, contact_ids, number):
                raise _called()
            row = await tx.fetchrow("erase_numbers", vdn_id, contact_ids, number, word, self._now())
        return int(row["gone"])

    async def _results(self, vdn_id: int, number: str, word: str) -> int:
        after: Any = _NO_ID
        gone = 0
        while after is not None:
            page = await self._db.fetchrow("erase_results", vdn_id, after, number, word)
            gone += page["gone"]
            after = page["last"]
        return gone

    async def _records(self, vdn_id: int, number: str, word: str) -> int:
        place: Any = (_BEGIN, _NO_ID)
        gone = 0
        while place is not None:
            since, after = place
            page = await self._db.fetchrow("erase_records", vdn_id, since, number, word, after)
            gone += page["gone"]
            place = (page["intent_at"], page["last"]) if page["last"] else None
        return gone


def _called() -> CannotErase:
    return CannotErase("a call to the number is under way: erase it again when that has ended")


def _word(number: str) -> str:
    """An expression (PostgreSQL's) for the number in a text, where it is not a part of a longer one."""
    escaped = re.sub(r"([*#])", r"[\1]", number)
    return f"(?<![0-9]){escaped}(?![0-9])" if len(number) >= SHORTEST_WORD else f"^{escaped}$"
