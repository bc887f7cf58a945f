"""Campaigns: create V1, query one, query all, delete (wire/campaign-api.md §2 to §4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from outdial import campaigns, jsontext
from outdial.errors import Code, Refusal
from outdial.model import (
    CallWindow,
    Campaign,
    CampaignState,
    DeviceType,
    Duplicates,
    OnUnknown,
    TimerPacing,
    Vdn,
)
from outdial.service import Service
from outdial.store.campaigns import CampaignFilter
from outdial.wire import envelope
from outdial.wire.fields import (
    ClockTime,
    Integer,
    LocalTime,
    OneOf,
    RawObject,
    Text,
    an_object,
    missing,
    parse_time,
)

NAME = Text("name", 100, mandatory=True)
DESCRIPTION = Text("description", 200, forbidden=r"\x00\"\[\]=;<>", of='anything but U+0000 and "[]=;<>')
BEGIN = LocalTime("strBeginTime", mandatory=True)
END = LocalTime("strEndTime", mandatory=True)
DEVICE_TYPE = OneOf("deviceType", tuple(int(d) for d in DeviceType), mandatory=True)
CALLER_NO = Text("callerNo", 24, forbidden="^0-9*#", of="ASCII digits, * and #", mandatory=True)
MAX_ALERTING_TIME = Integer("maxAlertingTime", 5, 120, mandatory=True)
DEVICE_SIGN = Text("deviceSign", 64)
CALL_COUNT = Integer("callCount", 1, 1000, mandatory=True)
CALL_INTERVAL = Integer("callInterval", 1, 86_400, mandatory=True)
INIT_STATUS = OneOf("initStatus", (0, 1, 2, 3))
CALLBACK_URL = Text("callBackUrl", 512)
DUPLICATES = OneOf("duplicates", tuple(d.value for d in Duplicates))
ON_UNKNOWN = OneOf("onUnknown", tuple(u.value for u in OnUnknown))
ARCHIVE_HISTORY = OneOf("archiveHistory", (0, 1))

SLOTS = (1, 2, 3)
SERVED_TYPES = (DeviceType.INTELLIGENT_IVR, DeviceType.AUTOMATIC_IVR)
STATUS = {
    CampaignState.DRAFT: 1,
    CampaignState.STARTED: 2,
    CampaignState.SUSPENDED: 3,
    CampaignState.ENDED: 4,
}
INIT_STATES = {
    0: CampaignState.STARTED,
    1: CampaignState.DRAFT,
    2: CampaignState.STARTED,
    3: CampaignState.SUSPENDED,
}


async def create(service: Service, vdn: Vdn, body: bytes) -> bytes:
    """POST .../{vdnId}. Raises `Refusal`, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body")
    return envelope.success(
        "create campaign success", returnObject={"id": await service.create_campaign(_campaign(vdn, raw))}
    )


def _campaign(vdn: Vdn, raw: RawObject) -> Campaign:
    """The campaign of a request body, judged field by field in the order of the documented table."""
    name = NAME.required(raw)
    description = DESCRIPTION.read(raw) or ""
    begin_at, end_at = _dates(raw)
    device_type = _device_type(raw)
    caller_no = CALLER_NO.required(raw)
    max_alerting_time = MAX_ALERTING_TIME.required(raw)
    windows = _windows(raw)
    pacing = _pacing(raw)
    _not_served(raw, "skillParam")
    init_status = INIT_STATUS.read(raw) or 0
    return Campaign(
        vdn_id=vdn.vdn_id,
        campaign_id=0,
        name=name,
        description=description,
        device_type=device_type,
        state=INIT_STATES[init_status],
        begin_at=begin_at,
        end_at=end_at,
        caller_no=caller_no,
        max_alerting_time=max_alerting_time,
        windows=windows,
        pacing=pacing,
        callback_url=_callback_url(raw),
        duplicates=Duplicates(DUPLICATES.read(raw) or Duplicates.ALLOW),
        on_unknown=OnUnknown(ON_UNKNOWN.read(raw) or OnUnknown.COUNT),
    )


def _dates(raw: RawObject) -> tuple[datetime, datetime]:
    begin_at, end_at = BEGIN.required(raw), END.required(raw)
    if end_at <= begin_at:
        raise Refusal(Code.COMBINATION, "strEndTime: must be later than strBeginTime")
    return begin_at.replace(tzinfo=UTC), end_at.replace(tzinfo=UTC)


def _device_type(raw: RawObject) -> DeviceType:
    device_type = DeviceType(DEVICE_TYPE.required(raw))
    if device_type not in SERVED_TYPES:
        raise Refusal(
            Code.PARAMETER,
            f"deviceType: {int(device_type)} is not served yet;"
            " 1 (intelligent IVR) and 3 (automatic IVR) are",
        )
    return device_type


def _windows(raw: RawObject) -> tuple[CallWindow | None, ...]:
    schedule = _object(raw, "scheduleParam")
    place = "scheduleParam."
    for slot in SLOTS:
        _not_served(schedule, f"holidayBeginTime{slot}", place)
        _not_served(schedule, f"holidayEndTime{slot}", place)
    windows = tuple(_window(schedule, slot, place) for slot in SLOTS)
    used = sorted((w for w in windows if w is not None), key=lambda w: w.begin)
    if not used:
        raise missing(f"{place}workdayBeginTime1 (one window is needed)")
    for earlier, later in pairwise(used):
        if later.begin < earlier.end:
            raise Refusal(Code.COMBINATION, "scheduleParam: two workday windows overlap")
    return windows


def _window(schedule: RawObject, slot: int, place: str) -> CallWindow | None:
    begin = ClockTime(f"workdayBeginTime{slot}").read(schedule, place)
    end = ClockTime(f"workdayEndTime{slot}", ends=True).read(schedule, place)
    if begin is None and end is None:
        return None
    if begin is None or end is None:
        raise Refusal(
            Code.COMBINATION, f"{place}workdayBeginTime{slot} and workdayEndTime{slot} must be set together"
        )
    if begin >= end:
        raise Refusal(
            Code.VALUE,
            f"{place}workdayEndTime{slot}: must be later than workdayBeginTime{slot};"
            " a window cannot cross midnight",
        )
    return CallWindow(begin, end)


def _pacing(raw: RawObject) -> TimerPacing:
    ivr = _object(raw, "ivrParam")
    return TimerPacing(
        DEVICE_SIGN.read(ivr, "ivrParam.") or "",
        CALL_COUNT.required(ivr, "ivrParam."),
        CALL_INTERVAL.required(ivr, "ivrParam."),
    )


def _object(raw: RawObject, name: str) -> RawObject:
    value = raw.get(name)
    if value is None or value == "":
        raise missing(name)
    return an_object(value, name)


def _not_served(raw: RawObject, name: str, place: str = "") -> None:
    if raw.get(name) not in (None, ""):
        raise Refusal(Code.PARAMETER, f"{place}{name}: not served yet; leave it out")


def _callback_url(raw: RawObject) -> str | None:
    url = CALLBACK_URL.read(raw)
    if url is None:
        return None
    refusal = Refusal(Code.VALUE, "callBackUrl: must be an http or https URL with a host and without a user")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise refusal from None
    if not sound or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        raise refusal
    return url


async def query_one(service: Service, vdn: Vdn, campaign_id: int, now: datetime) -> bytes:
    """GET .../{vdnId}/{campaignId}. Raises `Refusal` 0200007."""
    found = await service.campaign(vdn.vdn_id, campaign_id)
    shown = _brief(found, now) | {
        "description": found.description,
        "maxAlertingTime": found.max_alerting_time,
        "scheduleParam": _schedule(found),
        "ivrParam": {
            "deviceSign": found.pacing.device_sign,
            "callCount": found.pacing.call_count,
            "callInterval": found.pacing.call_interval,
        },
        "skillParam": None,
        "callBackUrl": found.callback_url,
        "duplicates": found.duplicates,
        "onUnknown": found.on_unknown,
        "standing": campaigns.standing(found, now),
        "incomplete": found.incomplete,
    }
    return envelope.success("query campaign success", returnObject=shown)


def _brief(found: Campaign, now: datetime) -> dict[str, Any]:
    return {
        "id": found.campaign_id,
        "name": found.name,
        "status": STATUS[campaigns.state_at(found, now)],
        "strBeginTime": _time(found.begin_at),
        "strEndTime": _time(found.end_at),
        "deviceType": int(found.device_type),
        "callerNo": found.caller_no,
    }


def _schedule(found: Campaign) -> dict[str, str | None]:
    shown: dict[str, str | None] = {}
    for slot, window in zip(SLOTS, found.windows, strict=True):
        shown[f"workdayBeginTime{slot}"] = _clock(window.begin) if window else None
        shown[f"workdayEndTime{slot}"] = _clock(window.end) if window else None
    for slot in SLOTS:
        shown[f"holidayBeginTime{slot}"] = None
        shown[f"holidayEndTime{slot}"] = None
    return shown


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _time(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


async def query_all(service: Service, vdn: Vdn, query: Mapping[str, str], now: datetime) -> bytes:
    """GET .../{vdnId}?status=&deviceType=&... (wire/campaign-api.md §3.7). Raises `Refusal`."""
    name = Text("name", 30).read(query)
    status = _choice(query, "status", (0, 1, 2, 3, 4))
    device_type = _choice(query, "deviceType", (0, *(int(d) for d in DeviceType)))
    begins, ends = _instant(query, "beginTime"), _instant(query, "endTime")
    page = max(1, _number(query, "curPage", 1))
    rows = _number(query, "rowsPerPage", 10)
    if not 1 <= rows <= 100:
        raise Refusal(Code.VALUE, "rowsPerPage: must be 1 to 100")
    wanted = CampaignFilter(
        name=name,
        states=tuple(state for state, shown in STATUS.items() if shown == status) or None,
        device_types=(DeviceType(device_type),) if device_type else None,
        begins_after=begins,
        ends_before=ends,
    )
    offset = min((page - 1) * rows, 2**62)
    found, total = await service.campaign_page(vdn.vdn_id, wanted, limit=rows, offset=offset)
    skill, ivr = await service.active_counts(vdn.vdn_id)
    return envelope.success(
        "query campaigns success",
        curPage=page,
        totalSize=total,
        rowsPerPage=rows,
        curSkillQueueCount=skill,
        curIvrCount=ivr,
        data=[_brief(campaign, now) for campaign in found],
    )


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if text == "":
        return default
    if not (text.isascii() and text.lstrip("-").isdigit() and text.count("-") <= 1 and len(text) <= 18):
        raise Refusal(Code.TYPE, f"{name}: must be an integer")
    return int(text)


def _choice(query: Mapping[str, str], name: str, allowed: tuple[int, ...]) -> int:
    if query.get(name, "") == "":
        raise missing(name)
    value = _number(query, name, 0)
    if value not in allowed:
        raise Refusal(Code.VALUE, f"{name}: must be one of {', '.join(map(str, allowed))}")
    return value


def _instant(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name, "")
    return parse_time(text, name).replace(tzinfo=UTC) if text else None


async def delete(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """DELETE .../{vdnId}/{campaignId}. Raises `Refusal` 0200007, 0200009, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body") if body else {}
    archive = ARCHIVE_HISTORY.read(raw) == 1
    await service.delete_campaign(vdn.vdn_id, campaign_id, archive=archive)
    return envelope.success("delete campaign success")
