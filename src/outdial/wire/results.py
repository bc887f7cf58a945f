"""Results: those of a campaign, page by page, and one call (wire/data-api.md §6.1, §6.2; rules.md §7)."""

from __future__ import annotations

import re
from datetime import date, datetime, time, tzinfo
from typing import Any, Final
from uuid import UUID

from outdial import calendar, jsontext
from outdial.disposition import call_status, fail_code
from outdial.errors import Code, Refusal
from outdial.model import CallResult, Vdn
from outdial.service import Service
from outdial.store.history import ResultFilter
from outdial.wire import envelope
from outdial.wire.fields import Integer, LocalDay, OneOf, RawObject, an_object
from outdial.wire.numbers import CUSTOM_FIELD, SESSION_ID

__all__ = ["CUSTOM_FIELD", "SESSION_ID", "detail", "query"]

PAGE_SIZE = Integer("pageSize", 1, 500)
PAGE_NUM = Integer("pageNum", 1, 2**31 - 1)
SHOW_DETAIL = OneOf("showDetail", (0, 1))
BEGIN = LocalDay("beginTime")
END = LocalDay("endTime")

LARGEST_DETAIL: Final = 100
"""Rows of a page with `showDetail` 1."""
UNPAGED: Final = 2000
"""Rows of an answer without pages."""
MOST_DAYS: Final = 30
"""Between `beginTime` and `endTime`."""
DISPLAY_RESULT: Final = "OB99999"
"""`resultCode` of every call, as in the pages' sample: nothing is mapped to a display result here."""

_CALL_ID: Final = re.compile(rb"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


async def query(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """POST .../callresult/{campaignId}. Raises `Refusal`, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body") if body else {}
    tz = calendar.zone(vdn.time_zone)
    session_id, custom_field = SESSION_ID.read(raw), CUSTOM_FIELD.read(raw)
    size, number, every_call = PAGE_SIZE.read(raw), PAGE_NUM.read(raw), SHOW_DETAIL.read(raw) == 1
    since, until = _period(raw, tz)
    limit, offset = _rows(size, number, every_call=every_call)
    wanted = ResultFilter(session_id, custom_field, since, until, every_call)
    found, total = await service.result_page(vdn.vdn_id, campaign_id, wanted, limit=limit, offset=offset)
    return envelope.success("Query Success!", totalCount=total, data=[_shown(one, tz) for one in found])


def _period(raw: RawObject, tz: tzinfo) -> tuple[datetime | None, datetime | None]:
    """From 00:00 of the first day, and before 00:00 of the second."""
    begin, end = BEGIN.read(raw), END.read(raw)
    if begin is None and end is None:
        return None, None
    if begin is None or end is None:
        raise Refusal(Code.COMBINATION, "beginTime and endTime must be set together")
    if begin >= end:
        raise Refusal(Code.COMBINATION, "endTime: must be later than beginTime")
    if (end - begin).days > MOST_DAYS:
        raise Refusal(Code.VALUE, f"endTime: must be at most {MOST_DAYS} days after beginTime")
    return _midnight(begin, tz), _midnight(end, tz)


def _midnight(day: date, tz: tzinfo) -> datetime | None:
    try:
        return calendar.to_utc(datetime.combine(day, time()), tz)
    except OverflowError:  # the first day there is, in a zone ahead of UTC
        return None


def _rows(size: int | None, number: int | None, *, every_call: bool) -> tuple[int, int]:
    """How many rows, and how many before them."""
    if size is None and number is None:
        return UNPAGED, 0
    if size is None or number is None:
        raise Refusal(Code.COMBINATION, "pageSize and pageNum must be set together")
    if every_call and size > LARGEST_DETAIL:
        raise Refusal(Code.VALUE, f"pageSize: must be 1 to {LARGEST_DETAIL} where showDetail is 1")
    return size, size * (number - 1)


def _shown(result: CallResult, tz: tzinfo) -> dict[str, Any]:
    return {
        "campaignId": str(result.campaign_id),
        "sessionId": result.session_id or "",
        "called": result.called,
        "callTimeStr": _time(result.call_at, tz),
        "callStatus": call_status(result.disposition),
        "failCode": fail_code(result.disposition),
        "resultCode": DISPLAY_RESULT,
        "vdnId": result.vdn_id,
        "callId": str(result.attempt_id) if result.attempt_id is not None else "",
        "recordPath": "",
    }


def _time(at: datetime | None, tz: tzinfo) -> str:
    return at.astimezone(tz).strftime("%Y-%m-%d %H:%M:%S") if at is not None else ""


async def detail(service: Service, vdn: Vdn, call_id: bytes) -> bytes:
    """GET .../callresultdetail/{callId}. Raises `Refusal` 0200007."""
    wanted = UUID(call_id.decode("ascii")) if _CALL_ID.fullmatch(call_id) else None
    found = await service.ended_call(vdn.vdn_id, wanted)
    tz = calendar.zone(vdn.time_zone)
    shown = {
        "called": found.called,
        "ackBeginTime": _time(found.ringing_at, tz),
        "callBeginTime": _time(found.answered_at, tz),
        "callEndTime": _time(found.ended_at, tz),
        "callStatus": str(call_status(found.disposition)),
        "failCode": fail_code(found.disposition),
        "resultCode": DISPLAY_RESULT,
        "vdnId": vdn.vdn_id,
        "callId": str(found.attempt_id),
        "recordPath": "",
    }
    return envelope.success("Query Success!", data=shown)
