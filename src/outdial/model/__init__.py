"""The words of the house: values without behaviour that reaches outside; those of calls are in `calls.py`.

Names are those of `docs/glossary.md`. Wire names (camelCase) stop at `wire/`. Every instant is an aware
`datetime` in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from outdial.model.calls import (
    Answered,
    Attempt,
    CallRecord,
    CallResult,
    Delivery,
    Disposition,
    Ended,
    EngineStanding,
    Fate,
    HeldCampaign,
    HungUpBy,
    Inquiry,
    OpenCall,
    Originate,
    Ringing,
    Room,
    Settlement,
    SwitchEvent,
    Transferring,
    TrunkState,
)

__all__ = [
    "Answered",
    "Attempt",
    "CallRecord",
    "CallResult",
    "Delivery",
    "Disposition",
    "Ended",
    "EngineStanding",
    "Fate",
    "HeldCampaign",
    "HungUpBy",
    "Inquiry",
    "OpenCall",
    "Originate",
    "Ringing",
    "Room",
    "Settlement",
    "SwitchEvent",
    "Transferring",
    "TrunkState",
]


class Edition(StrEnum):
    """Which edition of the interface a VDN speaks (semantics.md §1)."""

    Y2023 = "2023-09"
    Y2025 = "2025-11"


class Recycle(StrEnum):
    """What a number's recycle time does (semantics.md §4)."""

    KEEP = "keep"  # only a tag that the delete interface filters by
    RETIRE = "retire"  # an incomplete number ends at that time, RECYCLED


@dataclass(frozen=True, slots=True)
class Caps:
    """How often one number is called by all campaigns of a VDN, at most; None: any number of times.

    Minute and hour slide, the day is that of the VDN's clock.
    """

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None

    def __bool__(self) -> bool:
        return (self.per_minute, self.per_hour, self.per_day) != (None, None, None)


NO_CAPS: Final = Caps()


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days a VDN keeps done numbers, results, and call records; None: for ever."""

    numbers: int | None = None
    results: int | None = None
    records: int | None = None

    def __bool__(self) -> bool:
        return (self.numbers, self.results, self.records) != (None, None, None)


KEEP_ALL: Final = Keep()


@dataclass(frozen=True, slots=True)
class Vdn:
    """A tenant. `max_active` is the quota of active campaigns per kind (semantics.md §5).

    Its calls go over the trunks of `trunk_group`.
    """

    vdn_id: int
    time_zone: str = "UTC"
    edition: Edition = Edition.Y2023
    max_active: int = 20
    recycle: Recycle = Recycle.KEEP
    webhook_secret: str | None = field(default=None, repr=False)
    trunk_group: str = "default"
    caps: Caps = NO_CAPS
    keep: Keep = KEEP_ALL


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key that signs requests of one VDN. The secret is shown once and encrypted at rest."""

    ak: str
    vdn_id: int
    secret: str = field(repr=False)
    created_at: datetime | None = None
    revoked_at: datetime | None = None


class DeviceType(IntEnum):
    """What happens to an answered call (wire/campaign-api.md §8)."""

    INTELLIGENT_IVR = 1
    PREDICTED = 2
    AUTOMATIC_IVR = 3
    PREVIEW = 5
    PREEMPTED = 6


class CampaignState(StrEnum):
    """The stored state of a campaign (semantics.md §5)."""

    DRAFT = "draft"
    STARTED = "started"  # draft, suspended -> started (resume)
    SUSPENDED = "suspended"  # started -> suspended (pause)
    ENDED = "ended"  # any -> ended, at the end time or by command; final


class Standing(StrEnum):
    """What a campaign shows: its state judged by the clock and its incomplete numbers (semantics.md §5)."""

    DRAFT = "draft"
    NOT_STARTED = "not started"  # started, before its begin time
    EXECUTING = "executing"  # started, inside its dates
    CALL_COMPLETED = "call completed"  # started, nothing incomplete left
    SUSPENDED = "suspended"
    ENDED = "ended"


class Duplicates(StrEnum):
    """A campaign's answer to a number that is still incomplete in it (semantics.md §3)."""

    ALLOW = "allow"
    REFUSE = "refuse"
    SKIP = "skip"


class OnUnknown(StrEnum):
    """What follows an attempt whose fate nobody knows (guarantee G4)."""

    COUNT = "count"
    REDIAL = "redial"


@dataclass(frozen=True, slots=True)
class CallWindow:
    """Minutes after local midnight in which calls may be placed, half-open `[begin, end)`; end <= 1440."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TimerPacing:
    """`call_count` calls every `call_interval` seconds (`ivrParam`); `device_sign` names the call flow."""

    device_sign: str
    call_count: int
    call_interval: int


class SpecialDateKind(IntEnum):
    """How a special date says which days it means (wire/campaign-api.md §4.2)."""

    WEEKLY = 1
    DATES = 2
    YEARLY = 3


@dataclass(frozen=True, slots=True)
class SpecialDate:
    """Days on which the special windows hold instead of the daily ones.

    `weekdays` (1 Monday to 7 Sunday) for a weekly one; else `first` and `last`, both inclusive: ISO dates
    "yyyy-mm-dd", or "mm-dd" for a yearly one, which may run over the turn of the year.
    """

    special_date_id: int
    name: str
    kind: SpecialDateKind
    weekdays: tuple[int, ...] = ()
    first: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class RetryRule:
    """After an attempt that ended so: up to `retries` more, each `interval` seconds later."""

    dispositions: tuple[str, ...]
    retries: int
    interval: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which numbers are tried again (wire/campaign-api.md §5.1). Without days and rules: none.

    `days` and `tries_a_day`: every number that was not reached, so often on so many days. `rules`: by the
    result of the attempt. `never`: fail codes after which a number is not tried again. `number_type`: the
    type of number that the policy names; "": every type.
    """

    days: int = 0
    tries_a_day: int = 0
    rules: tuple[RetryRule, ...] = ()
    never: tuple[str, ...] = ()
    number_type: str = ""


@dataclass(frozen=True, slots=True)
class CallerNumber:
    """A calling number of a campaign; a smaller `priority` (1 to 5) is taken first."""

    number: str
    priority: int = 3


@dataclass(frozen=True, slots=True)
class Campaign:
    """A list of numbers to call, with when, how fast and where the results go.

    `windows` has three slots; a slot without a window is None; `special_windows` has three or none.
    `max_alerting_time` is in seconds. `priority` 1 is first when campaigns share the trunks. `max_cps` (calls
    a second) and `max_channels` (calls at the same time) bound this campaign alone; None: unbounded.
    `launch_rest`: calls of the last launch that found no room; `next_send_at`: when `max_cps` allows more.
    `caller_turn` counts the calls, so that calling numbers of one priority take turns.
    """

    vdn_id: int
    campaign_id: int
    name: str
    description: str
    device_type: DeviceType
    state: CampaignState
    begin_at: datetime
    end_at: datetime
    caller_no: str
    max_alerting_time: int
    windows: tuple[CallWindow | None, ...]
    pacing: TimerPacing
    callback_url: str | None = None
    duplicates: Duplicates = Duplicates.ALLOW
    on_unknown: OnUnknown = OnUnknown.COUNT
    incomplete: int = 0
    last_launch_at: datetime | None = None
    priority: int = 3
    max_cps: float | None = None
    max_channels: int | None = None
    special_windows: tuple[CallWindow | None, ...] = ()
    special_dates: tuple[SpecialDate, ...] = ()
    retry: RetryPolicy = RetryPolicy()
    caller_numbers: tuple[CallerNumber, ...] = ()
    launch_rest: int = 0
    next_send_at: datetime | None = None
    caller_turn: int = 0


class CallData(msgspec.Struct, frozen=True, gc=False):
    """One entry of an add, judged and converted. `recycle_at` is UTC; `priority` 1 is first."""

    called: str
    session_id: str | None = None
    caller: str | None = None
    custom_field: str | None = None
    recycle_at: datetime | None = None
    call_data: str | None = None
    priority: int = 3


class ContactState(StrEnum):
    """The state of a stored number (semantics.md §6)."""

    READY = "ready"  # dialing -> ready: a withdrawn attempt; waiting -> ready: `due_at` has come (promote)
    DIALING = "dialing"  # ready -> dialing (claim)
    WAITING = "waiting"  # dialing -> waiting: a retry; ready -> waiting: postponed; `due_at` says until when
    DONE = "done"  # ready, waiting, dialing -> done (settle, end, retire, blacklist)


class HeldBy(StrEnum):
    """What a waiting number waits for, when it is not its next try."""

    BLACKLIST = "blacklist"  # its restriction is used up
    CAP = "cap"  # the VDN called it as often as it may


@dataclass(frozen=True, slots=True)
class BlacklistEntry:
    """A number of a VDN that may not be called, or only so often.

    `restrict_times` calls per `restrict_period` ("hour" or "day" of the VDN's clock) stay allowed; None
    means none. `expires_at` None means for ever.
    """

    vdn_id: int
    number: str
    expires_at: datetime | None = None
    restrict_times: int | None = None
    restrict_period: str | None = None


# -- trunks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrefixRule:
    """A called number that begins with `prefix` loses it and gets `replacement`; the longest prefix holds."""

    prefix: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Trunk:
    """A SIP server that takes our calls.

    Trunks of a group are tried by `position`, those of one position in turn by `weight`. `host` is a name or
    an IP literal; `port` None: found by SRV, else 5060 (5061 for "tls"). `outbound_proxy` is "host[:port]".
    `caller_id` replaces the calling number of every call. `max_cps` (calls a second), `max_channels` (calls
    at the same time) and `max_minutes` (answered minutes a day; None: unbounded) bound what we send it.
    `timer_b` (seconds) bounds the wait for its first answer; `ping_every` (seconds, 0: never) sends OPTIONS.
    """

    name: str
    host: str
    port: int | None = None
    transport: str = "udp"
    group: str = "default"
    position: int = 1
    weight: int = 1
    outbound_proxy: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    registers: bool = False
    caller_id: str | None = None
    from_domain: str | None = None
    prefix_rules: tuple[PrefixRule, ...] = ()
    max_cps: float = 10.0
    max_channels: int = 30
    max_minutes: int | None = None
    timer_b: float = 4.0
    ping_every: int = 30
    enabled: bool = True
