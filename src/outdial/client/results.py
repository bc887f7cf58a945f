"""What the server tells, with names of Python. `raw` is the object as it came, with the wire's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any


class CampaignStatus(IntEnum):
    """The interface's status of a campaign (wire/campaign-api.md §3.1)."""

    DRAFT = 1
    STARTED = 2
    SUSPENDED = 3
    ENDED = 4


@dataclass(frozen=True, slots=True)
class CampaignSummary:
    """A campaign as the query of all shows it."""

    id: int
    name: str
    status: CampaignStatus
    begin_at: datetime
    end_at: datetime
    device_type: int
    caller: str
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Campaign(CampaignSummary):
    """A campaign as the query of one shows it; its other settings are in `raw`.

    `standing` is what it does now: draft, not started, executing, call completed, suspended, ended.
    `incomplete` counts the numbers that are ready, waiting or being dialed.
    """

    standing: str
    incomplete: int
    callback_url: str | None


@dataclass(frozen=True, slots=True)
class CampaignPage:
    """One page of campaigns, newest first; `total` counts those of all pages."""

    campaigns: list[CampaignSummary]
    total: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which numbers of a campaign are tried again; `policy_json` is the JSON text of the rules."""

    policy_type: int
    policy_json: str
    no_retry: list[str]
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SpecialDate:
    """Days on which the special windows hold. `type`: 1 by week, 2 by date, 3 by date every year."""

    id: int
    name: str
    type: int
    week: str | None
    begin: str | None
    end: str | None
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class BlacklistEntry:
    """A number of the blacklist. `expires` is in the VDN's time zone; `per` is "hour" or "day"."""

    number: str
    expires: datetime | None
    restrict_times: int | None
    per: str | None


@dataclass(frozen=True, slots=True)
class BlacklistPage:
    """One page of the blacklist in number order; `total` counts the entries of all pages."""

    entries: list[BlacklistEntry]
    total: int


@dataclass(frozen=True, slots=True)
class DeletedNumbers:
    """How many numbers were deleted, and how many incomplete ones the campaign still has."""

    deleted: int
    total_size: int


@dataclass(frozen=True, slots=True)
class CallResult:
    """How one call of a number ended. `call_id` is for `show_call`; `status` 6 succeeded, 5 failed."""

    called: str
    session_id: str | None
    call_id: str | None
    status: int
    fail_code: str | None
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResultPage:
    """One page of a campaign's results; `total` counts those of all pages."""

    results: list[CallResult]
    total: int


@dataclass(frozen=True, slots=True)
class EndedCall:
    """One call that has ended; its times are in `raw`."""

    called: str
    call_id: str
    status: int
    fail_code: str | None
    raw: Mapping[str, Any] = field(repr=False)


_PERIODS = {"0": "hour", "1": "day"}


def instant(text: str) -> datetime:
    """A time of the interface, which is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def campaign_page(envelope: Mapping[str, Any]) -> CampaignPage:
    """The answer of the query of all."""
    found = [CampaignSummary(**_common(one)) for one in envelope["data"]]
    return CampaignPage(found, envelope["totalSize"])


def campaign(envelope: Mapping[str, Any]) -> Campaign:
    """The answer of the query of one."""
    raw = envelope["returnObject"]
    return Campaign(
        **_common(raw),
        standing=raw.get("standing", ""),
        incomplete=raw.get("incomplete", 0),
        callback_url=raw.get("callBackUrl"),
    )


def _common(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": raw["id"],
        "name": raw["name"],
        "status": CampaignStatus(raw["status"]),
        "begin_at": instant(raw["strBeginTime"]),
        "end_at": instant(raw["strEndTime"]),
        "device_type": raw["deviceType"],
        "caller": raw["callerNo"],
        "raw": raw,
    }


def added(envelope: Mapping[str, Any]) -> tuple[int, dict[str, str]]:
    """The answer of an add: the incomplete numbers, and the ids of edition 2025-11."""
    raw = envelope["returnObject"]
    return int(raw["totalSize"]), {
        str(one["called"]): str(one["dataId"]) for one in raw.get("dataIdList") or ()
    }


def retry_policy(envelope: Mapping[str, Any]) -> RetryPolicy:
    """The answer of the query of a retry policy."""
    raw = envelope["data"]
    return RetryPolicy(raw["policyType"], raw["policyJson"], list(raw["noRetryPolicy"] or ()), raw)


def special_dates(envelope: Mapping[str, Any]) -> list[SpecialDate]:
    """The answer of the list of special dates."""
    return [_special_date(raw) for raw in envelope["data"]]


def _special_date(raw: Mapping[str, Any]) -> SpecialDate:
    return SpecialDate(
        id=raw["id"],
        name=raw["name"],
        type=raw["type"],
        week=raw.get("week"),
        begin=raw.get("beginTime"),
        end=raw.get("endTime"),
        raw=raw,
    )


def deleted_numbers(envelope: Mapping[str, Any]) -> DeletedNumbers:
    """The answer of a delete of numbers."""
    raw = envelope["returnObject"]
    return DeletedNumbers(raw["deleted"], raw["totalSize"])


def result_page(envelope: Mapping[str, Any]) -> ResultPage:
    """The answer of the query of results."""
    return ResultPage([_call_result(raw) for raw in envelope["data"]], envelope["totalCount"])


def _call_result(raw: Mapping[str, Any]) -> CallResult:
    return CallResult(
        called=raw["called"],
        session_id=raw["sessionId"],
        call_id=raw["callId"],
        status=int(raw["callStatus"]),
        fail_code=raw["failCode"],
        raw=raw,
    )


def ended_call(envelope: Mapping[str, Any]) -> EndedCall:
    """The answer of the query of one call."""
    raw = envelope["data"]
    return EndedCall(raw["called"], raw["callId"], int(raw["callStatus"]), raw["failCode"], raw)


def blacklist_page(envelope: Mapping[str, Any]) -> BlacklistPage:
    """The answer of the query of the blacklist."""
    return BlacklistPage([_blacklist_entry(raw) for raw in envelope["data"]], envelope["totalCount"])


def _blacklist_entry(raw: Mapping[str, Any]) -> BlacklistEntry:
    expires = raw.get("validityExpirationTime")
    return BlacklistEntry(
        number=raw["blockNum"],
        expires=datetime.fromisoformat(expires) if expires else None,
        restrict_times=raw.get("restrictTimes"),
        per=_PERIODS.get(raw.get("restrictPeriod") or ""),
    )
