"""Call records: every attempt that has ended, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from outdial.model import CallRecord, Disposition, HungUpBy
from outdial.store.postgres import Postgres

_FIRST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One ended attempt with its record. `session_id` is gone when its campaign was deleted.

    `transfer_of`: it handed the call of that attempt over; `attempt_no` is then that attempt's.
    """

    attempt_id: UUID
    campaign_id: int
    contact_id: int
    attempt_no: int
    called: str
    caller: str
    session_id: str | None
    intent_at: datetime
    sent_at: datetime | None
    ringing_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime
    disposition: Disposition
    cause: int | None
    sip_status: int | None
    hung_up_by: HungUpBy | None
    record: CallRecord
    transfer_of: UUID | None


class Records:
    """The call records of a VDN."""

    def __init__(self, db: Postgres) -> None:
        self._db = db

    async def pages(
        self, vdn_id: int, *, campaign_id: int | None, since: datetime, until: datetime
    ) -> AsyncIterator[list[CallRow]]:
        """Attempts made in `[since, until)` that have ended, oldest first, a bounded page at a time.

        A page reads as many attempts of the VDN whatever the campaign, so it is quick where few match.
        """
        after, last = since, _FIRST
        while rows := await self._db.fetch("records_page", vdn_id, after, last, until):
            yield [_row(row) for row in rows if row["ended_at"] and campaign_id in (None, row["campaign_id"])]
            after, last = rows[-1]["intent_at"], rows[-1]["attempt_id"]


def _row(row: Any) -> CallRow:
    hung_up_by = row["hung_up_by"]
    return CallRow(
        attempt_id=row["attempt_id"],
        campaign_id=row["campaign_id"],
        contact_id=row["contact_id"],
        attempt_no=row["attempt_no"],
        called=row["called"],
        caller=row["caller"],
        session_id=row["session_id"],
        intent_at=row["intent_at"],
        sent_at=row["sent_at"],
        ringing_at=row["ringing_at"],
        answered_at=row["answered_at"],
        ended_at=row["ended_at"],
        disposition=Disposition(row["disposition"]),
        cause=row["cause"],
        sip_status=row["sip_status"],
        hung_up_by=HungUpBy(hung_up_by) if hung_up_by is not None else None,
        record=CallRecord(
            trunk=row["trunk"],
            keys=row["keys"] or "",
            steps=tuple(row["steps"] or ()),
            detector=row["detector"],
            rtp_sent=row["rtp_sent"],
            rtp_received=row["rtp_received"],
        ),
        transfer_of=row["transfer_of"],
    )
