"""Campaigns: create and modify V1 and V2, query one, query all, delete (wire/campaign-api.md §2 to §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from outdial import campaigns, jsontext
from outdial.model import CallWindow, Campaign, CampaignState, DeviceType, RetryPolicy, Vdn
from outdial.service import Service
from outdial.store.campaigns import CampaignFilter
from outdial.wire import envelope, retry
from outdial.wire.campaign_body import SLOTS, Version, changes, created
from outdial.wire.fields import LocalTime, OneOf, QueryInteger, Text, an_object

ARCHIVE_HISTORY = OneOf("archiveHistory", (0, 1))
NAME_PART = Text("name", 30)
ANY_STATUS = QueryInteger("status", (0, 1, 2, 3, 4), mandatory=True)
ANY_DEVICE_TYPE = QueryInteger("deviceType", (0, *(int(d) for d in DeviceType)), mandatory=True)
BEGINS_AFTER = LocalTime("beginTime")
ENDS_BEFORE = LocalTime("endTime")
PAGE = QueryInteger("curPage")
ROWS = QueryInteger("rowsPerPage", range(1, 101))
ROWS_BY_DEFAULT = 10

STATUS = {
    CampaignState.DRAFT: 1,
    CampaignState.STARTED: 2,
    CampaignState.SUSPENDED: 3,
    CampaignState.ENDED: 4,
}


async def create(service: Service, vdn: Vdn, body: bytes, version: Version) -> bytes:
    """POST .../{vdnId}. Raises `Refusal`, `NotJson`."""
    wanted = created(vdn, an_object(jsontext.decode(body), "the body"), version)
    return envelope.success(
        "create campaign success", returnObject={"id": await service.create_campaign(wanted)}
    )


async def modify(service: Service, vdn: Vdn, campaign_id: int, body: bytes, version: Version) -> bytes:
    """PUT .../{vdnId}/{campaignId}. Raises `Refusal`, `NotJson`."""
    wanted = changes(an_object(jsontext.decode(body), "the body"), version)
    await service.modify_campaign(vdn.vdn_id, campaign_id, wanted)
    return envelope.success("modify campaign success")


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
        "priority": found.priority,
        "retryPolicy": retry.shown(found.retry) if found.retry != RetryPolicy() else None,
        "callerNoList": [
            {"accessCode": one.number, "priority": one.priority} for one in found.caller_numbers
        ],
        "maxCps": found.max_cps,
        "maxChannels": found.max_channels,
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
    windows = {"workday": found.windows, "holiday": found.special_windows or (None,) * len(SLOTS)}
    for kind, slots in windows.items():
        shown |= _windows(kind, slots)
    return shown


def _windows(kind: str, windows: Sequence[CallWindow | None]) -> dict[str, str | None]:
    shown: dict[str, str | None] = {}
    for slot, window in zip(SLOTS, windows, strict=True):
        shown[f"{kind}BeginTime{slot}"] = _clock(window.begin) if window else None
        shown[f"{kind}EndTime{slot}"] = _clock(window.end) if window else None
    return shown


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _time(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


async def query_all(service: Service, vdn: Vdn, query: Mapping[str, str], now: datetime) -> bytes:
    """GET .../{vdnId}?status=&deviceType=&... (wire/campaign-api.md §3.7). Raises `Refusal`."""
    name = NAME_PART.read(query)
    status, device_type = ANY_STATUS.required(query), ANY_DEVICE_TYPE.required(query)
    begins, ends = _instant(query, BEGINS_AFTER), _instant(query, ENDS_BEFORE)
    page = max(1, PAGE.read(query) or 1)
    rows = ROWS.read(query) or ROWS_BY_DEFAULT
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


def _instant(query: Mapping[str, str], rule: LocalTime) -> datetime | None:
    local = rule.read(query)
    return local.replace(tzinfo=UTC) if local is not None else None


async def delete(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """DELETE .../{vdnId}/{campaignId}. Raises `Refusal` 0200007, 0200009, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body") if body else {}
    archive = ARCHIVE_HISTORY.read(raw) == 1
    await service.delete_campaign(vdn.vdn_id, campaign_id, archive=archive)
    return envelope.success("delete campaign success")
