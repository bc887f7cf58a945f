"""Every operation of the interface as data: what it takes, what a success carries, which codes it answers.

The bodies are made of the field rules that judge them. `web/openapi.py` makes the OpenAPI document of
this table and of the routes; a route without an operation here, or the reverse, is an error there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from outdial.errors import Code
from outdial.wire import answers, bodies, campaigns
from outdial.wire.answers import Schema
from outdial.wire.campaign_body import Version
from outdial.wire.shapes import Either, Object, Rule

EVERY = frozenset({Code.OK, Code.PARAMETER, Code.TYPE, Code.VALUE, Code.DATABASE})
"""Codes that any operation answers: path values, headers and body, signature, the store."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `codes`: besides `EVERY` and those that the rules of body and query earn.

    `answer`: what a success carries beside code and description. `example` is a body that is accepted.
    `note`: what holds between fields, which no schema says.
    """

    summary: str
    body: Object | Either | None = None
    body_may_be_absent: bool = False
    example: Schema | None = None
    query: tuple[Rule, ...] = ()
    query_example: dict[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    answer: Schema = field(default_factory=dict)
    codes: frozenset[Code] = frozenset()
    note: str = ""
    makes: str = ""
    """The path value that its answer gives in `returnObject.id`: links lead on to what takes it."""


def of(*codes: Code) -> frozenset[Code]:
    """These codes."""
    return frozenset(codes)


_CAMPAIGN: Final[Schema] = {
    "name": "Reminders",
    "strBeginTime": "2099-01-01 00:00:00",
    "strEndTime": "2099-12-31 00:00:00",
    "deviceType": 3,
    "callerNo": "4000",
    "maxAlertingTime": 30,
    "scheduleParam": {"workdayBeginTime1": "09:00", "workdayEndTime1": "17:00"},
    "ivrParam": {"deviceSign": "reminder", "callCount": 10, "callInterval": 5},
    "initStatus": 1,
}
_CAMPAIGN_V2: Final[Schema] = _CAMPAIGN | {
    "name": "Reminders, V2",
    "callerNo": [{"accessCode": "4000", "priority": 1}],
    "priority": 2,
}
_RETRY: Final[Schema] = {
    "policyType": 0,
    "policyJson": '[{"type": 0, "policy": {"retryDay": 2, "retryTimes": 3}}]',
    "noRetryPolicy": ["10005"],
}
_WEEKEND: Final[Schema] = {"name": "Weekend", "type": 1, "week": "6,7"}
_HOURS = (
    "The begin of a window is before its end and comes with it; windows of one kind do not overlap; one "
    "workday window is needed. `strEndTime` is later than `strBeginTime`, which is not before today. "
    "`callBackUrl` is an http or https URL."
)
_POLICY = (
    "`noRetryPolicy` not with policyType 1, which needs `dataType`; each `result` once; `retryTime` and "
    "`retryTimes` are two names of one field, and one is needed."
)
_BODY_CODES = of(
    Code.BEGIN_TOO_EARLY, Code.NAME_EXISTS, Code.COMBINATION, Code.TYPE, Code.VALUE, Code.PARAMETER
)
_QUOTA = of(Code.SKILL_CAP, Code.IVR_CAP)
_V2_CODES = of(Code.DUPLICATE, Code.TOO_MANY_ENTRIES)
_CHANGE_CODES = of(Code.NOT_FOUND, Code.ALREADY_ENDED)

OPERATIONS: Final[dict[str, Operation]] = {
    "POST {vdnId}/calldata/{campaignId}": Operation(
        "Adds outbound numbers, all or none",
        body=bodies.NUMBERS,
        example={"callDataList": [{"called": "4001", "sessionId": "s1", "customField": "first"}]},
        headers=("Idempotency-Key",),
        answer={"returnObject": answers.ADDED},
        codes=of(
            Code.NOT_FOUND,
            Code.DUPLICATE,
            Code.STATE_TAKES_NO_NUMBERS,
            Code.TOO_MANY_INCOMPLETE,
            Code.TOO_SOON,
            Code.BLACKLISTED,
            Code.TOO_MANY_ENTRIES,
            Code.COMBINATION,
        ),
        note="Each `called` once. `callData` is JSON text of an object in a campaign of device type 1. "
        "`priority` is read, and `dataIdList` answered, in edition 2025-11.",
    ),
    "POST {vdnId}": Operation(
        "Creates a campaign (V1)",
        body=bodies.campaign(Version.V1, dates=True, new=True),
        example=_CAMPAIGN,
        answer=answers.NEW_ID,
        codes=_BODY_CODES | _QUOTA,
        note=_HOURS,
        makes="campaignId",
    ),
    "POST v2: {vdnId}": Operation(
        "Creates a campaign (V2)",
        body=bodies.campaign(Version.V2, dates=True, new=True),
        example=_CAMPAIGN_V2,
        answer=answers.NEW_ID,
        codes=_BODY_CODES | _QUOTA | _V2_CODES,
        note=f"{_HOURS} Each `accessCode` once. {_POLICY}",
        makes="campaignId",
    ),
    "PUT {vdnId}/{campaignId}": Operation(
        "Modifies a campaign (V1)",
        body=bodies.campaign(Version.V1, dates=False, new=False),
        example={name: value for name, value in _CAMPAIGN.items() if name != "initStatus"},
        codes=_BODY_CODES | _CHANGE_CODES,
        note=f"{_HOURS} `deviceType` must stay. A field that is not named stays as it is.",
    ),
    "PUT v2: {vdnId}/{campaignId}": Operation(
        "Modifies a campaign (V2)",
        body=bodies.campaign(Version.V2, dates=True, new=False),
        example={name: value for name, value in _CAMPAIGN_V2.items() if name != "initStatus"},
        codes=_BODY_CODES | _CHANGE_CODES | _V2_CODES,
        note=f"{_HOURS} Each `accessCode` once. `deviceType` must stay. {_POLICY}",
    ),
    "GET {vdnId}": Operation(
        "Queries campaigns, newest first, a page at a time",
        query=(
            campaigns.NAME_PART,
            campaigns.ANY_STATUS,
            campaigns.ANY_DEVICE_TYPE,
            campaigns.BEGINS_AFTER,
            campaigns.ENDS_BEFORE,
            campaigns.PAGE,
            campaigns.ROWS,
        ),
        query_example={"status": 0, "deviceType": 0, "curPage": 1, "rowsPerPage": 10},
        answer={
            "curPage": answers.IDENTITY,
            "totalSize": answers.WHOLE,
            "rowsPerPage": answers.WHOLE,
            "curSkillQueueCount": answers.WHOLE,
            "curIvrCount": answers.WHOLE,
            "data": {"type": "array", "items": answers.closed(**answers.BRIEF)},
        },
    ),
    "GET {vdnId}/{campaignId}": Operation(
        "Queries one campaign",
        answer={"returnObject": answers.closed(**answers.WHOLE_CAMPAIGN)},
        codes=of(Code.NOT_FOUND),
    ),
    "POST {vdnId}/calldata/{campaignId}/delete": Operation(
        "Deletes the numbers that every filter fits",
        body=bodies.NUMBERS_DELETE,
        example={"called": "4001", "archiveHistory": 0},
        answer={"returnObject": answers.DELETED},
        codes=of(Code.NOT_FOUND, Code.STATE_FORBIDS, Code.COMBINATION, Code.EMPTY),
        note="A filter is needed, or `all` 1 alone. `recycleTime` needs `recycleType`: 1 up to the end of"
        " that day, 2 on that day, 3 exactly then.",
    ),
    "POST {vdnId}/callresult/{campaignId}": Operation(
        "Queries the results of a campaign, oldest call first",
        body=bodies.RESULTS,
        body_may_be_absent=True,
        example={"showDetail": 0, "pageSize": 100, "pageNum": 1},
        answer={"totalCount": answers.WHOLE, "data": {"type": "array", "items": answers.CALL_RESULT}},
        codes=of(Code.NOT_FOUND, Code.COMBINATION),
        note="`beginTime` and `endTime` go together, at most 30 days apart; so do `pageSize` and `pageNum`."
        " `pageSize` is at most 100 where `showDetail` is 1.",
    ),
    "GET {vdnId}/callresultdetail/{callId}": Operation(
        "Queries one call that has ended",
        answer={"data": answers.ENDED_CALL},
        codes=of(Code.NOT_FOUND),
    ),
    "DELETE {vdnId}/{campaignId}": Operation(
        "Deletes a campaign that is not started",
        body=bodies.CAMPAIGN_DELETE,
        body_may_be_absent=True,
        example={"archiveHistory": 0},
        codes=of(Code.NOT_FOUND, Code.STILL_STARTED),
    ),
    "PUT {vdnId}/{campaignId}/pause": Operation(
        "Pauses a started campaign", codes=of(Code.NOT_FOUND, Code.STATE_FORBIDS)
    ),
    "PUT {vdnId}/{campaignId}/resume": Operation(
        "Starts a draft campaign, or lets a suspended one go on",
        codes=of(Code.NOT_FOUND, Code.STATE_FORBIDS) | _QUOTA,
    ),
    "POST {vdnId}/retryPolicy/{campaignId}": Operation(
        "Sets which numbers are tried again",
        body=bodies.RETRY,
        example=_RETRY,
        codes=of(Code.NO_CAMPAIGN, Code.COMBINATION, Code.TOO_MANY_ENTRIES),
        note=_POLICY,
    ),
    "GET {vdnId}/retryPolicy/{campaignId}": Operation(
        "Queries the retry policy",
        answer={
            "data": answers.closed(retryPolicyId=answers.IDENTITY, **answers.POLICY, busiPolicy=answers.NULL)
        },
        codes=of(Code.NOT_FOUND),
    ),
    "GET {vdnId}/holiday/{campaignId}": Operation(
        "Queries the special dates of a campaign",
        answer={"data": {"type": "array", "items": answers.SPECIAL_DATE}},
        codes=of(Code.NOT_FOUND),
    ),
    "POST {vdnId}/holiday/{campaignId}": Operation(
        "Makes a special date and gives it to the campaign, or gives it one by its id",
        body=bodies.NEW_DATE,
        example=_WEEKEND,
        answer=answers.NEW_ID,
        codes=of(Code.NOT_FOUND, Code.DATE_NAME_EXISTS, Code.TOO_MANY_DATES, Code.COMBINATION),
        note="`week`: each day once. `endTime` is not before `beginTime`, except for type 3. With `id` "
        "nothing else is read.",
        makes="id",
    ),
    "PUT {vdnId}/holiday/{campaignId}": Operation(
        "Changes a special date, in every campaign that uses it",
        body=bodies.CHANGED_DATE,
        example={"id": 1, **_WEEKEND},
        codes=of(Code.NOT_FOUND, Code.DATE_NAME_EXISTS, Code.COMBINATION),
        note="`week`: each day once. `endTime` is not before `beginTime`, except for type 3.",
    ),
    "DELETE {vdnId}/holiday/{campaignId}": Operation(
        "Takes all special dates from the campaign", codes=of(Code.NOT_FOUND)
    ),
    "DELETE {vdnId}/holiday/{campaignId}/{id}": Operation(
        "Takes one special date from the campaign", codes=of(Code.NOT_FOUND)
    ),
    "POST {vdnId}/blocklist/add": Operation(
        "Adds numbers to the blacklist, all or none",
        body=bodies.BLACKLIST_ADD,
        example={"blocklist": ["4002"], "validityTime": 24, "restrictTimes": 3, "restrictPeriod": "1"},
        codes=of(Code.NOT_FOUND, Code.DUPLICATE, Code.TOO_MANY_ENTRIES, Code.COMBINATION),
        note="`restrictTimes` and `restrictPeriod` come together. `validityExpirationTime` lies in the "
        "future. `validityTimeUnit` and `isCoverDupNo` are read in edition 2025-11.",
    ),
    "POST {vdnId}/blocklist/delete": Operation(
        "Takes one number off the blacklist",
        body=bodies.BLACKLIST_DELETE,
        example={"blocklistNo": "4002"},
    ),
    "DELETE {vdnId}/blocklist": Operation("Takes every number off the blacklist"),
    "POST {vdnId}/blocklist/query": Operation(
        "Looks numbers up, or pages through all",
        body=bodies.BLACKLIST_QUERY,
        example={"offset": 0, "limit": 10},
        answer={"totalCount": answers.WHOLE, "data": {"type": "array", "items": answers.LISTED}},
        codes=of(Code.DUPLICATE, Code.TOO_MANY_ENTRIES, Code.COMBINATION),
        note="Either `blocklist`, or `offset` and `limit`.",
    ),
}
