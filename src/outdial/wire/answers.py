"""What a success carries beside its code and description, as JSON Schema. Checked against real answers."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from outdial.model import DeviceType, Duplicates, OnUnknown, SpecialDateKind, Standing
from outdial.wire import campaign_body, campaigns

Schema: TypeAlias = dict[str, Any]


def closed(optional: Schema | None = None, **fields: Schema) -> Schema:
    """An object with exactly these fields; those of `optional` may be left out."""
    return {
        "type": "object",
        "properties": fields | (optional or {}),
        "required": list(fields),
        "additionalProperties": False,
    }


def or_null(kind: str, **more: Any) -> Schema:
    """A value of this type, or null."""
    return {"type": [kind, "null"], **more}


STRING: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}
IDENTITY: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
NULL: Final[Schema] = {"type": "null"}
TIME: Final[Schema] = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"}
CLOCK: Final[Schema] = {"type": ["string", "null"], "pattern": "^[0-9]{2}:[0-9]{2}$"}
POLICY: Final[Schema] = {
    "policyType": {"type": "integer", "enum": [0, 1]},
    "policyJson": {"type": "string", "contentMediaType": "application/json"},
    "noRetryPolicy": {"type": "array", "items": {"type": "string", "pattern": "^[0-9]{5}$"}},
}
BRIEF: Final[Schema] = {
    "id": IDENTITY,
    "name": STRING,
    "status": {"type": "integer", "enum": list(campaigns.STATUS.values())},
    "strBeginTime": TIME,
    "strEndTime": TIME,
    "deviceType": {"type": "integer", "enum": [int(kind) for kind in DeviceType]},
    "callerNo": STRING,
}
WHOLE_CAMPAIGN: Final[Schema] = BRIEF | {
    "description": STRING,
    "maxAlertingTime": WHOLE,
    "scheduleParam": closed(**{name: CLOCK for pair in campaign_body.WINDOW_NAMES for name in pair}),
    "ivrParam": closed(deviceSign=STRING, callCount=WHOLE, callInterval=WHOLE),
    "skillParam": NULL,
    "callBackUrl": or_null("string"),
    "priority": WHOLE,
    "retryPolicy": {"anyOf": [closed(**POLICY), NULL]},
    "callerNoList": {"type": "array", "items": closed(accessCode=STRING, priority=WHOLE)},
    "maxCps": or_null("number"),
    "maxChannels": or_null("integer"),
    "duplicates": {"type": "string", "enum": [one.value for one in Duplicates]},
    "onUnknown": {"type": "string", "enum": [one.value for one in OnUnknown]},
    "standing": {"type": "string", "enum": [one.value for one in Standing]},
    "incomplete": WHOLE,
}
SPECIAL_DATE: Final[Schema] = closed(
    id=IDENTITY,
    name=STRING,
    type={"type": "integer", "enum": [int(kind) for kind in SpecialDateKind]},
    week=or_null("string"),
    beginTime=or_null("string"),
    endTime=or_null("string"),
)
LISTED: Final[Schema] = closed(
    optional={"flag": {"type": "boolean"}},
    blockNum=STRING,
    validityExpirationTime={"type": ["string", "null"], "pattern": TIME["pattern"]},
    restrictTimes=or_null("integer"),
    restrictPeriod={"enum": ["0", "1", None]},
)
ADDED: Final[Schema] = closed(
    optional={"dataIdList": {"type": "array", "items": closed(called=STRING, dataId=STRING)}},
    totalSize=WHOLE,
)
RETRY: Final[Schema] = closed(retryPolicyId=IDENTITY, **POLICY, busiPolicy=NULL)
DELETED: Final[Schema] = closed(deleted=WHOLE, totalSize=WHOLE)
_ENDED: Final[Schema] = {
    "called": STRING,
    "failCode": STRING,
    "resultCode": STRING,
    "vdnId": IDENTITY,
    "callId": STRING,
    "recordPath": STRING,
}
CALL_RESULT: Final[Schema] = closed(
    campaignId=STRING,
    sessionId=STRING,
    callTimeStr=STRING,
    callStatus={"type": "integer"},
    **_ENDED,
)
ENDED_CALL: Final[Schema] = closed(
    ackBeginTime=STRING, callBeginTime=STRING, callEndTime=STRING, callStatus=STRING, **_ENDED
)
NEW_ID: Final[Schema] = {"returnObject": closed(id=IDENTITY)}
