"""Results as they are asked for: a campaign's, page by page, and one call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from outdial.model import CallResult, Disposition
from outdial.store.postgres import Postgres


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which results of a campaign are meant; None means any.

    The call was made in `[since, until)`. `every_call`: also those that are not the last word about their
    number.
    """

    session_id: str | None = None
    custom_field: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    every_call: bool = False


@dataclass(frozen=True, slots=True)
class EndedCall:
    """One call of a number that has ended."""

    attempt_id: UUID
    called: str
    ringing_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime
    disposition: Disposition


class History:
    """What has happened in campaigns that are there, or were deleted and kept as history."""

    def __init__(self, db: Postgres) -> None:
        self._db = db

    async def keeps(self, vdn_id: int, campaign_id: int) -> bool:
        """Whether there is such a campaign of this VDN."""
        return await self._db.fetchrow("kept_campaign", vdn_id, campaign_id) is not None

    async def page(
        self, vdn_id: int, campaign_id: int, wanted: ResultFilter, *, limit: int, offset: int
    ) -> tuple[list[CallResult], int]:
        """A page of a campaign's results, oldest call first, and the number of all that are meant."""
        name, found_by = _query(wanted)
        rows = await self._db.fetch(
            name,
            vdn_id,
            campaign_id,
            wanted.since,
            wanted.until,
            wanted.every_call,
            limit,
            offset,
            *found_by,
        )
        return [result_of(row) for row in rows if row["result_id"] is not None], rows[0]["total"]

    async def call(self, vdn_id: int, attempt_id: UUID) -> EndedCall | None:
        """The call with this id, once it has ended; a transfer is none."""
        row = await self._db.fetchrow("ended_call", vdn_id, attempt_id)
        if row is None:
            return None
        return EndedCall(attempt_id, **{**dict(row), "disposition": Disposition(row["disposition"])})


def _query(wanted: ResultFilter) -> tuple[str, tuple[str | None, ...]]:
    """The statement that has an index for this filter, and what it looks for."""
    if wanted.session_id is not None:
        return "results_of_session", (wanted.session_id, wanted.custom_field)
    if wanted.custom_field is not None:
        return "results_of_field", (wanted.custom_field,)
    return "results_page", ()


def result_of(row: Any) -> CallResult:
    """A row of `call_result` as a word."""
    return CallResult(
        result_id=row["result_id"],
        vdn_id=row["vdn_id"],
        campaign_id=row["campaign_id"],
        contact_id=row["contact_id"],
        attempt_id=row["attempt_id"],
        called=row["called"],
        session_id=row["session_id"],
        custom_field=row["custom_field"],
        disposition=Disposition(row["disposition"]),
        call_at=row["call_at"],
    )
