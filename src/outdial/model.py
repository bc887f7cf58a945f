"""The words of the house: values without behaviour that reaches outside.

Names are those of `docs/glossary.md`. Wire names (camelCase) stop at `wire/`. Every instant is an aware
`datetime` in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final
from uuid import UUID

import msgspec


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
class Vdn:
    """A tenant. `max_active` is the quota of active campaigns per kind (semantics.md §5)."""

    vdn_id: int
    time_zone: str = "UTC"
    edition: Edition = Edition.Y2023
    max_active: int = 20
    recycle: Recycle = Recycle.KEEP
    webhook_secret: str | None = field(default=None, repr=False)
    caps: Caps = NO_CAPS


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


class Disposition(StrEnum):
    """How an attempt, or a number without one, ended. `disposition.py` maps it to its failCode."""

    ANSWERED = "ANSWERED"
    MACHINE = "MACHINE"
    BUSY = "BUSY"
    NO_ANSWER = "NO_ANSWER"  # the network or the callee let it ring out
    RING_TIMEOUT = "RING_TIMEOUT"  # we gave up at max_alerting_time
    INVALID = "INVALID"
    REJECTED = "REJECTED"
    CONGESTION = "CONGESTION"
    NO_REPLY = "NO_REPLY"  # the carrier never said a word
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    BLACKLISTED = "BLACKLISTED"
    RECYCLED = "RECYCLED"
    NOT_ATTEMPTED = "NOT_ATTEMPTED"
    NOT_ALLOWED = "NOT_ALLOWED"
    BAD_CALLER = "BAD_CALLER"  # the calling number cannot be sent


class HungUpBy(StrEnum):
    """Which side ended a call."""

    CALLER = "caller"
    CALLEE = "callee"


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


# -- what a switch is asked and what it says -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Originate:
    """The order to place one call. `attempt_id` is the call's id at the switch.

    VDN and campaign choose the route; `device_sign` names the call flow, which reads `call_data` and
    `session_id`. `max_alerting_time` is in seconds.
    """

    attempt_id: UUID
    called: str
    caller: str
    vdn_id: int = 0
    campaign_id: int = 0
    device_sign: str = ""
    call_data: str | None = field(default=None, repr=False)
    session_id: str | None = None
    max_alerting_time: int = 60


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that a switch is asked about: what it needs to find it again, or to end what a dead run left.

    `dialog` is the switch's own text about the answered call, as `Answered` brought it.
    """

    attempt_id: UUID
    vdn_id: int
    called: str
    caller: str
    dialog: str = field(default="", repr=False)
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """How many calls can be placed right now over `group`: the trunks that some VDNs share."""

    group: str
    calls: int


@dataclass(frozen=True, slots=True)
class Ringing:
    """The callee is alerted."""

    attempt_id: UUID


@dataclass(frozen=True, slots=True)
class Answered:
    """The call was answered.

    `dialog` is not empty when the switch waits to acknowledge the call until that text is stored: it is
    what a later run needs to end the call.
    """

    attempt_id: UUID
    dialog: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a switch tells of a call beyond its end.

    `keys` were pressed by the callee, `steps` of the call flow were gone through, `detector` is the verdict
    of the answering-machine detection; the counts are RTP packets.
    """

    trunk: str | None = None
    keys: str = field(default="", repr=False)
    steps: tuple[str, ...] = ()
    detector: str | None = None
    rtp_sent: int | None = None
    rtp_received: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over. `cause` is Q.850, `sip_status` RFC 3261; `machine` the detector's verdict."""

    attempt_id: UUID
    cause: int | None = None
    sip_status: int | None = None
    answered: bool = False
    hung_up_by: HungUpBy | None = None
    machine: bool = False
    record: CallRecord | None = None


SwitchEvent = Ringing | Answered | Ended


class Fate(StrEnum):
    """What a switch knows of an attempt id."""

    ALIVE = "alive"
    UNSEEN = "unseen"  # proven: this id was never originated
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A switch's word about one attempt id; `answered` only when alive."""

    attempt_id: UUID
    fate: Fate
    answered: bool = False


@dataclass(frozen=True, slots=True)
class TrunkState:
    """What an engine says of a trunk. `bar`: why it takes no call, `until` when by itself; None: it does."""

    name: str
    group: str
    bar: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class EngineStanding:
    """What only an engine knows: whether its `switch` is connected, and its trunks."""

    switch: bool
    trunks: tuple[TrunkState, ...] = ()


# -- results ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a contact: the committed intent, and how far it was known to have come."""

    vdn_id: int
    campaign_id: int
    contact_id: int
    attempt_id: UUID
    attempt_no: int
    called: str
    caller: str
    max_alerting_time: int
    intent_at: datetime
    session_id: str | None = None
    call_data: str | None = field(default=None, repr=False)
    sent_at: datetime | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    dialog: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one attempt, ready to be stored."""

    vdn_id: int
    attempt_id: UUID
    disposition: Disposition
    ended_at: datetime
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    cause: int | None = None
    sip_status: int | None = None
    hung_up_by: HungUpBy | None = None
    sent_at: datetime | None = None
    record: CallRecord | None = None


@dataclass(frozen=True, slots=True)
class CallResult:
    """A final result as it leaves the house. `result_id` is stable over every delivery.

    `attempt_id` is None for a number that ended without a call. `call_at` is when the attempt's intent
    was committed, or when the number ended.
    """

    result_id: UUID
    vdn_id: int
    campaign_id: int
    contact_id: int
    attempt_id: UUID | None
    called: str
    session_id: str | None
    custom_field: str | None
    disposition: Disposition
    call_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """A result on its way to its receiver: one row of the outbox, leased to this process.

    `pushes` counts the pushes that failed before this one (each is one POST and one immediate repeat).
    """

    result: CallResult
    url: str
    pushes: int
    time_zone: str
    webhook_secret: str | None = field(default=None, repr=False)
