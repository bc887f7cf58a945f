"""The audit log on its way in and out: rows are appended in the transaction of the change they tell of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from outdial import audit
from outdial.audit import EMPTY, AuditRow, Head
from outdial.store.postgres import Postgres

PAGE = 1000
"""Rows that are read at once."""


class Audit:
    """Reads the log. It is appended to by `Transaction.tells` alone."""

    def __init__(self, db: Postgres) -> None:
        self._db = db

    async def verify(self, known: Head | None = None) -> tuple[Head, str | None]:
        """Walk the whole chain: the last row that holds, and what is wrong after it (None: nothing).

        `known` is a head that was kept elsewhere: with it a tail that was cut off is seen, and a log that
        was written anew.
        """
        head, at_known = EMPTY, EMPTY.hash if known == EMPTY else None
        async for row in self._rows():
            if (wrong := audit.fault(head, row)) is not None:
                return head, wrong
            head = Head(row.seq, row.hash)
            if known is not None and row.seq == known.seq:
                at_known = row.hash
        return head, audit.cut_off(head, known, at_known) if known is not None else None

    async def _rows(self) -> AsyncIterator[AuditRow]:
        after = 0
        while rows := await self._db.fetch("audit_rows", after, PAGE):
            for row in rows:
                yield _row(row)
            after = max(after + 1, *(row["seq"] for row in rows))

    async def newest(self, vdn_id: int | None, limit: int) -> list[AuditRow]:
        """The last rows, oldest first; of one VDN, or all."""
        rows = await self._db.fetch("newest_audit_rows", vdn_id, limit)
        return [_row(row) for row in reversed(rows)]


def _row(row: Any) -> AuditRow:
    return AuditRow(**row)
