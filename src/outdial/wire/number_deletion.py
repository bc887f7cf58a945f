"""POST .../calldata/{campaignId}/delete: deleting outbound numbers (wire/data-api.md §4.1; rules.md §3)."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

from outdial import calendar, jsontext
from outdial.errors import Code, Refusal
from outdial.model import Vdn
from outdial.service import Deleted, Service
from outdial.store.campaigns import ContactFilter
from outdial.wire import envelope
from outdial.wire.fields import LocalTime, OneOf, RawObject, Text, an_object, instant
from outdial.wire.numbers import CUSTOM_FIELD, SESSION_ID

__all__ = ["CUSTOM_FIELD", "SESSION_ID", "delete"]

CALLED = Text("called", 24, forbidden="^0-9*#", of="ASCII digits, * and #")
RECYCLE_TIME = LocalTime("recycleTime")
RECYCLE_TYPE = OneOf("recycleType", ("1", "2", "3"))
ARCHIVE_HISTORY = OneOf("archiveHistory", (0, 1))
ALL = OneOf("all", (0, 1))

UP_TO_DAY, ON_DAY, EXACTLY = "1", "2", "3"
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_LAST: Final = datetime.max.replace(tzinfo=UTC) - _SECOND
_EVERYTHING: Final = ContactFilter()


async def delete(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """The numbers that every filter given fits. Raises `Refusal`, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body") if body else {}
    wanted = _filter(raw, calendar.zone(vdn.time_zone))
    archive = ARCHIVE_HISTORY.read(raw) == 1
    every = ALL.read(raw) == 1
    if wanted == _EVERYTHING and not every:
        raise Refusal(
            Code.EMPTY,
            "sessionId, called, customField or recycleTime: one is needed, or all: 1 for every number",
        )
    if wanted != _EVERYTHING and every:
        raise Refusal(Code.COMBINATION, "all: goes without sessionId, called, customField and recycleTime")
    deleted = await service.delete_numbers(vdn.vdn_id, campaign_id, wanted, archive=archive)
    return envelope.success(
        _told(deleted), returnObject={"deleted": deleted.gone, "totalSize": deleted.incomplete}
    )


def _told(deleted: Deleted) -> str:
    if deleted.being_called:
        return f"delete data success; {deleted.being_called} numbers are being called and were left"
    return "delete data success"


def _filter(raw: RawObject, tz: tzinfo) -> ContactFilter:
    session_id, called, custom_field = SESSION_ID.read(raw), CALLED.read(raw), CUSTOM_FIELD.read(raw)
    local, kind = RECYCLE_TIME.read(raw), RECYCLE_TYPE.read(raw)
    if local is None:  # recycleType alone is without effect
        return ContactFilter(session_id, called, custom_field)
    at = instant(local, tz, RECYCLE_TIME.name)
    if kind is None:
        raise Refusal(Code.COMBINATION, "recycleTime: needs recycleType")
    since, until = _span(kind, local, at, tz)
    return ContactFilter(session_id, called, custom_field, since, until, has_recycle=True)


def _span(kind: str, local: datetime, at: datetime, tz: tzinfo) -> tuple[datetime | None, datetime | None]:
    """The recycle times that are meant, half-open; None at the ends of the calendar: no bound."""
    if kind == EXACTLY:
        return at, at + _SECOND if at < _LAST else None
    midnight = datetime.combine(local.date(), time())
    since = _bound(midnight, timedelta(), tz) if kind == ON_DAY else None
    return since, _bound(midnight, _DAY, tz)


def _bound(midnight: datetime, after: timedelta, tz: tzinfo) -> datetime | None:
    try:
        return calendar.to_utc(midnight + after, tz)
    except OverflowError:
        return None
