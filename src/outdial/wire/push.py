"""The result push: the body that a receiver gets (wire/data-api.md §6.3)."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec

from outdial.disposition import call_status, fail_code
from outdial.model import CallResult

CONTENT_TYPE = "application/json; charset=UTF-8"


class _Element(msgspec.Struct, frozen=True, gc=False):
    """One result; the fields in the order of the page. An optional string that is absent is ""."""

    campaignId: str
    sessionId: str
    called: str
    callTimeStr: str
    callStatus: int
    failCode: str
    vdnId: int
    callId: str
    customField: str
    recordPath: str


_encoder = msgspec.json.Encoder()


def push_body(result: CallResult, time_zone: str) -> bytes:
    """A bare JSON array with the one result, in UTF-8.

    `callTimeStr` is `yyyy-mm-dd hh:mm:ss` in `time_zone`, the VDN's IANA name (semantics.md §4); raises
    KeyError for a name that is none. `callId` is the attempt's id, "" for a number that ended without a
    call (semantics.md §7).
    """
    local = result.call_at.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None)
    element = _Element(
        campaignId=str(result.campaign_id),
        sessionId=result.session_id or "",
        called=result.called,
        callTimeStr=local.isoformat(" ", "seconds"),
        callStatus=call_status(result.disposition),
        failCode=fail_code(result.disposition),
        vdnId=result.vdn_id,
        callId=str(result.attempt_id) if result.attempt_id is not None else "",
        customField=result.custom_field or "",
        recordPath="",
    )
    return _encoder.encode([element])
