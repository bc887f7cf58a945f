"""What a campaign's body says: create and modify, V1 and V2 (wire/campaign-api.md §2, §3.5, §4.1, §5).

Fields are judged in the order of the documented tables. An optional field that is absent keeps, in a
modification, what the campaign has; null or "" gives it back what a new campaign has.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from enum import Enum
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from outdial.errors import Code, Refusal
from outdial.model import (
    CallerNumber,
    CallWindow,
    Campaign,
    CampaignState,
    DeviceType,
    Duplicates,
    OnUnknown,
    RetryPolicy,
    TimerPacing,
    Vdn,
)
from outdial.wire import retry
from outdial.wire.fields import (
    ClockTime,
    Integer,
    LocalTime,
    OneOf,
    Positive,
    RawObject,
    Text,
    an_object,
    an_object_at,
    missing,
    not_served,
    wrong_type,
)

NAME = Text("name", 100, mandatory=True)
DESCRIPTION = Text("description", 200, forbidden=r'\x00"\[\]=;<>', of='anything but U+0000 and "[]=;<>')
BEGIN = LocalTime("strBeginTime")
END = LocalTime("strEndTime")
DEVICE_TYPE = OneOf("deviceType", tuple(int(d) for d in DeviceType), mandatory=True)
CALLER_NO = Text("callerNo", 24, forbidden="^0-9*#", of="ASCII digits, * and #", mandatory=True)
ACCESS_CODE = Text("accessCode", 24, forbidden="^0-9*#", of="ASCII digits, * and #", mandatory=True)
PRIORITY = Integer("priority", 1, 5)
MAX_ALERTING_TIME = Integer("maxAlertingTime", 5, 120, mandatory=True)
DEVICE_SIGN = Text("deviceSign", 64)
CALL_COUNT = Integer("callCount", 1, 1000, mandatory=True)
CALL_INTERVAL = Integer("callInterval", 1, 86_400, mandatory=True)
CALL_TYPE = Integer("callType", 0, 100)
CHOOSE_TYPE = Integer("chooseType", 0, 100)
TURN_TYPE = Text("turnType", 32)
INIT_STATUS = OneOf("initStatus", (0, 1, 2, 3))
CALLBACK_URL = Text("callBackUrl", 512)
DUPLICATES = OneOf("duplicates", tuple(d.value for d in Duplicates))
ON_UNKNOWN = OneOf("onUnknown", tuple(u.value for u in OnUnknown))
MAX_CPS = Positive("maxCps", 10_000)
MAX_CHANNELS = Integer("maxChannels", 1, 100_000)

MAX_CALLER_NUMBERS = 100
NORMAL_PRIORITY = 3
SLOTS = (1, 2, 3)
WINDOWS = ("workday", "holiday")
SERVED_TYPES = (DeviceType.INTELLIGENT_IVR, DeviceType.AUTOMATIC_IVR)
INIT_STATES = {
    0: CampaignState.STARTED,
    1: CampaignState.DRAFT,
    2: CampaignState.STARTED,
    3: CampaignState.SUSPENDED,
}


class Version(Enum):
    """The two versions of the interfaces that create and modify."""

    V1 = "v1"
    V2 = "v2"


def window_names(kind: str, slot: int) -> tuple[str, str]:
    """The names of a window's begin and end."""
    return f"{kind}BeginTime{slot}", f"{kind}EndTime{slot}"


WINDOW_NAMES = tuple(window_names(kind, slot) for kind in WINDOWS for slot in SLOTS)


def created(vdn: Vdn, raw: RawObject, version: Version) -> Campaign:
    """The campaign of a create. Raises `Refusal`."""
    facts = {"description": ""} | _facts(raw, version, dates=True)
    state = INIT_STATES[INIT_STATUS.read(raw) or 0]
    return Campaign(vdn_id=vdn.vdn_id, campaign_id=0, state=state, **facts)


def changes(raw: RawObject, version: Version) -> dict[str, Any]:
    """The facts of a campaign that a modification sets, by the names of `Campaign`. Raises `Refusal`."""
    return _facts(raw, version, dates=version is Version.V2)


def _facts(raw: RawObject, version: Version, *, dates: bool) -> dict[str, Any]:
    """`dates`: begin and end are mandatory."""
    optional = _Optional(raw)
    facts: dict[str, Any] = {"name": NAME.required(raw)}
    facts |= optional(DESCRIPTION, "description", lambda: DESCRIPTION.read(raw) or "")
    facts |= _dates(raw, mandatory=dates)
    facts["device_type"] = _device_type(raw)
    facts |= _callers(raw) if version is Version.V2 else _caller(raw)
    facts["max_alerting_time"] = MAX_ALERTING_TIME.required(raw)
    facts |= _schedule(raw)
    facts["pacing"] = _pacing(raw)
    not_served(raw, "skillParam")
    if version is Version.V2:
        facts |= _of_v2(raw, optional)
    facts |= optional(CALLBACK_URL, "callback_url", lambda: _callback_url(raw))
    return facts | _ours(raw, optional)


class _Optional:
    """Reads a field only where the body names it: null and "" mean what a new campaign has."""

    def __init__(self, raw: RawObject) -> None:
        self._raw = raw

    def __call__(
        self, rule: Text | Integer | OneOf | Positive, fact: str, read: Callable[[], Any]
    ) -> dict[str, Any]:
        return {fact: read()} if rule.name in self._raw else {}


def _of_v2(raw: RawObject, optional: _Optional) -> dict[str, Any]:
    facts = optional(PRIORITY, "priority", lambda: PRIORITY.read(raw) or NORMAL_PRIORITY)
    if "retryPolicy" in raw:
        facts["retry"] = _retry(raw["retryPolicy"])
    _single_number(raw)
    not_served(raw, "callOrder")
    not_served(raw, "busiPolicy")
    return facts


def _ours(raw: RawObject, optional: _Optional) -> dict[str, Any]:
    return {
        **optional(DUPLICATES, "duplicates", lambda: Duplicates(DUPLICATES.read(raw) or Duplicates.ALLOW)),
        **optional(ON_UNKNOWN, "on_unknown", lambda: OnUnknown(ON_UNKNOWN.read(raw) or OnUnknown.COUNT)),
        **optional(MAX_CPS, "max_cps", lambda: MAX_CPS.read(raw)),
        **optional(MAX_CHANNELS, "max_channels", lambda: MAX_CHANNELS.read(raw)),
    }


def _dates(raw: RawObject, *, mandatory: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for rule, fact in ((BEGIN, "begin_at"), (END, "end_at")):
        local = rule.read(raw)
        if local is None and mandatory:
            raise missing(rule.name)
        if local is not None:
            facts[fact] = local.replace(tzinfo=UTC)
    if len(facts) == 2 and facts["end_at"] <= facts["begin_at"]:
        raise Refusal(Code.COMBINATION, "strEndTime: must be later than strBeginTime")
    return facts


def _device_type(raw: RawObject) -> DeviceType:
    device_type = DeviceType(DEVICE_TYPE.required(raw))
    if device_type not in SERVED_TYPES:
        raise Refusal(
            Code.PARAMETER,
            f"deviceType: {int(device_type)} is not served yet;"
            " 1 (intelligent IVR) and 3 (automatic IVR) are",
        )
    return device_type


# -- calling numbers -------------------------------------------------------------------------------------


def _caller(raw: RawObject) -> dict[str, Any]:
    return {"caller_no": CALLER_NO.required(raw), "caller_numbers": ()}


def _callers(raw: RawObject) -> dict[str, Any]:
    """V2's list. The campaign's own number is the first of those with the smallest priority."""
    listed = raw.get("callerNo")
    if listed in (None, "", []):
        raise missing("callerNo")
    if type(listed) is not list:
        raise wrong_type("callerNo", "a list")
    if len(listed) > MAX_CALLER_NUMBERS:
        raise Refusal(
            Code.TOO_MANY_ENTRIES, f"callerNo: {len(listed)} numbers, {MAX_CALLER_NUMBERS} are allowed"
        )
    numbers: dict[str, CallerNumber] = {}
    for n, value in enumerate(listed):
        entry, place = an_object(value, f"callerNo[{n}]"), f"callerNo[{n}]."
        number = ACCESS_CODE.required(entry, place)
        if number in numbers:
            raise Refusal(Code.DUPLICATE, f"{place}accessCode: stands twice in the list")
        numbers[number] = CallerNumber(number, PRIORITY.read(entry, place) or NORMAL_PRIORITY)
    first = min(numbers.values(), key=lambda one: one.priority)
    return {"caller_no": first.number, "caller_numbers": tuple(numbers.values())}


# -- hours and pace --------------------------------------------------------------------------------------


def _schedule(raw: RawObject) -> dict[str, Any]:
    schedule = an_object_at(raw, "scheduleParam")
    workday, holiday = WINDOWS
    windows = _windows(schedule, workday)
    if not any(windows):
        raise missing("scheduleParam.workdayBeginTime1 (one window is needed)")
    special = _windows(schedule, holiday)
    return {"windows": windows, "special_windows": special if any(special) else ()}


def _windows(schedule: RawObject, kind: str) -> tuple[CallWindow | None, ...]:
    windows = tuple(_window(schedule, kind, slot) for slot in SLOTS)
    used = sorted((w for w in windows if w is not None), key=lambda w: w.begin)
    for earlier, later in pairwise(used):
        if later.begin < earlier.end:
            raise Refusal(Code.COMBINATION, f"scheduleParam: two {kind} windows overlap")
    return windows


def _window(schedule: RawObject, kind: str, slot: int) -> CallWindow | None:
    place = "scheduleParam."
    begin_name, end_name = window_names(kind, slot)
    begin = ClockTime(begin_name).read(schedule, place)
    end = ClockTime(end_name, ends=True).read(schedule, place)
    if begin is None and end is None:
        return None
    if begin is None or end is None:
        raise Refusal(Code.COMBINATION, f"{place}{begin_name} and {end_name} must be set together")
    if begin >= end:
        raise Refusal(
            Code.VALUE, f"{place}{end_name}: must be later than {begin_name}; a window cannot cross midnight"
        )
    return CallWindow(begin, end)


def _pacing(raw: RawObject) -> TimerPacing:
    ivr = an_object_at(raw, "ivrParam")
    return TimerPacing(
        DEVICE_SIGN.read(ivr, "ivrParam.") or "",
        CALL_COUNT.required(ivr, "ivrParam."),
        CALL_INTERVAL.required(ivr, "ivrParam."),
    )


# -- policies --------------------------------------------------------------------------------------------


def _retry(value: Any) -> RetryPolicy:
    if value is None or value == "":
        return RetryPolicy()
    return retry.policy_of(an_object(value, "retryPolicy"), "retryPolicy.")


def _single_number(raw: RawObject) -> None:
    """`callPolicy` orders the several numbers of a customer; this server has one each."""
    policy = raw.get("callPolicy")
    if policy is None or policy == "":
        return
    policy = an_object(policy, "callPolicy")
    CALL_TYPE.read(policy, "callPolicy.")
    CHOOSE_TYPE.read(policy, "callPolicy.")
    turns = policy.get("turns")
    if turns is None or turns == "":
        return
    if type(turns) is not list:
        raise wrong_type("callPolicy.turns", "a list")
    if len(turns) > 1:
        raise Refusal(
            Code.PARAMETER, "callPolicy.turns: several numbers of one customer are not served yet; name one"
        )
    for turn in turns:
        TURN_TYPE.read(an_object(turn, "callPolicy.turns[0]"), "callPolicy.turns[0].")


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
