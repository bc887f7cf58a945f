"""POST .../calldata/{campaignId}: adding outbound numbers (contract; semantics.md §3)."""

from __future__ import annotations

from datetime import tzinfo
from itertools import repeat
from typing import Any

from outdial.errors import Code, Refusal
from outdial.intake import MAX_ENTRIES, Admitted, IntakePolicy, check_unique
from outdial.metrics import NUMBERS_ADMITTED
from outdial.model import CallData, Vdn
from outdial.service import AddRequest, Service
from outdial.wire import envelope
from outdial.wire.fields import LocalTime, OneOf, Text, instant, missing, wrong_type

FORBIDDEN_IN_CUSTOM_FIELD = "`~!@#$%^&*()+=|{}'\":;<>/?.\\[]¥–,"  # noqa: RUF001
"""Contract, Table 4, customField: the characters, as printed."""

_CUSTOM = "".join(f"\\u{ord(c):04x}" for c in FORBIDDEN_IN_CUSTOM_FIELD)

SESSION_ID = Text("sessionId", 32)
CALLED = Text("called", 24, forbidden="^0-9*#", of="ASCII digits, * and #", mandatory=True)
CALLER = Text("caller", 24, forbidden=r"\x00-\x1f\x7f-\x9f", of="anything but control characters")
CUSTOM_FIELD = Text(
    "customField",
    200,
    forbidden=rf"\x00{_CUSTOM}",
    of=f"anything but U+0000 and {FORBIDDEN_IN_CUSTOM_FIELD}",
)
RECYCLE_TIME = LocalTime("recycleTime")
CALL_DATA = Text("callData", 1024)
PRIORITY = OneOf("priority", ("1", "2", "3", "4", "5"))


def entries(body: Any, policy: IntakePolicy, tz: tzinfo) -> list[CallData]:
    """The judged entries of a request body. Raises `Refusal` for its first fault (§3, step 3)."""
    if type(body) is not dict:
        raise wrong_type("the body", "an object")
    listed = body.get("callDataList")
    if listed is None:
        raise missing("callDataList")
    if type(listed) is not list:
        raise wrong_type("callDataList", "a list")
    if not listed:
        raise missing("callDataList")
    if len(listed) > MAX_ENTRIES:
        raise Refusal(
            Code.TOO_MANY_ENTRIES, f"callDataList: {len(listed)} entries, {MAX_ENTRIES} are allowed at a time"
        )
    found = _faultless(listed, policy)
    if found is None:
        found = [_entry(raw, place, policy, tz) for place, raw in zip(_PLACES, listed, strict=False)]
    check_unique(found)
    return found


def _faultless(listed: list[Any], policy: IntakePolicy) -> list[CallData] | None:
    """The entries, where one look at each field finds nothing to say; else None, and `_entry` judges."""
    if set(map(type, listed)) != {dict}:
        return None
    recycled = [raw for raw in listed if "recycleTime" in raw]
    ranked = [raw for raw in listed if "priority" in raw] if policy.reads_priority else []
    columns = [field.column(listed) for field in (CALLED, SESSION_ID, CALLER, CUSTOM_FIELD)]
    call_data = CALL_DATA.column(listed)
    if recycled or ranked or call_data is None or None in columns:
        return None
    return list(map(CallData, *columns, repeat(None), call_data))  # type: ignore[arg-type]


def _entry(raw: Any, place: str, policy: IntakePolicy, tz: tzinfo) -> CallData:
    """One entry, its fields in the order of the contract's Table 4; an absent optional one costs no call."""
    if type(raw) is not dict:
        raise wrong_type(place.removesuffix("."), "an object")
    session_id = SESSION_ID.read(raw, place) if "sessionId" in raw else None
    called = CALLED.required(raw, place)
    caller = CALLER.read(raw, place) if "caller" in raw else None
    custom_field = CUSTOM_FIELD.read(raw, place) if "customField" in raw else None
    recycle_time = RECYCLE_TIME.read(raw, place) if "recycleTime" in raw else None
    recycle_at = instant(recycle_time, tz, f"{place}recycleTime") if recycle_time else None
    call_data = CALL_DATA.read(raw, place) if "callData" in raw else None
    priority = PRIORITY.read(raw, place) if policy.reads_priority else None
    return CallData(
        called,
        session_id,
        caller,
        custom_field,
        recycle_at,
        call_data,
        int(priority or 3),
    )


_PLACES = tuple(f"callDataList[{position}]." for position in range(MAX_ENTRIES))


async def add(service: Service, vdn: Vdn, request: AddRequest) -> tuple[bytes, bool]:
    """The answer, and whether it is a stored one given again. Raises `Refusal`, `StoreUnavailable`."""
    admitted = await service.add_numbers(vdn, request, entries)
    if not admitted.replayed:
        NUMBERS_ADMITTED.add(by=len(admitted.called))
    return _answer(admitted, service.policy(vdn)), admitted.replayed


def _answer(admitted: Admitted, policy: IntakePolicy) -> bytes:
    answered: dict[str, Any] = {"totalSize": admitted.total_size}
    if admitted.contact_ids is not None:
        answered["dataIdList"] = [
            {"called": called, "dataId": str(contact_id)}
            for called, contact_id in zip(admitted.called, admitted.contact_ids, strict=False)
        ]
    return envelope.success(policy.success, returnObject=answered)
