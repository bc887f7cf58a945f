"""The words of calls: how one is ordered, what a switch says of it, how it ends and is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


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
    CAPPED = "CAPPED"  # of a transfer: its target was called as often as it may be


class HungUpBy(StrEnum):
    """Which side ended a call."""

    CALLER = "caller"
    CALLEE = "callee"


# -- what a switch is asked and what it says -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Originate:
    """The order to place one call. `attempt_id` is the call's id at the switch.

    VDN and campaign choose the route; `device_sign` names the call flow, which reads `call_data` and
    `session_id`. `max_alerting_time` is in seconds. `transfer_of` is the attempt of the call that this one
    hands over.
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
    transfer_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that a switch is asked about: what it needs to find it again, or to end what a dead run left.

    `dialog` is the switch's own text about the answered call, as `Answered` brought it. `sent_by`: what the
    run that placed it announced of itself, by the address that it sent to (RFC 3261 §18.1.1).
    """

    attempt_id: UUID
    vdn_id: int
    called: str
    caller: str
    dialog: str = field(default="", repr=False)
    answered_at: datetime | None = None
    sent_by: Mapping[str, str] = field(default_factory=dict, hash=False)


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
    """The call is over. `cause` is Q.850, `sip_status` RFC 3261; `machine` the detector's verdict.

    `lost`: nobody can say how it ended.
    """

    attempt_id: UUID
    cause: int | None = None
    sip_status: int | None = None
    answered: bool = False
    hung_up_by: HungUpBy | None = None
    machine: bool = False
    record: CallRecord | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Transferring:
    """An answered call is being handed over: the attempt of that, intended a moment ago by the switch.

    `sent` false: it certainly did not leave.
    """

    attempt: Attempt
    sent: bool = True

    @property
    def attempt_id(self) -> UUID:
        """Of the transfer."""
        return self.attempt.attempt_id


SwitchEvent = Ringing | Answered | Ended | Transferring


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
    """What an engine says of a trunk. `bar`: why it takes no call, `until` when by itself; None: it does.

    `up`: it takes calls, or is only busy with them. `in_use` of its `channels`, both of this engine.
    """

    name: str
    group: str
    bar: str | None = None
    until: datetime | None = None
    up: bool = True
    in_use: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class HeldCampaign:
    """A started campaign of which this engine's switch places no call at all, and why."""

    vdn_id: int
    campaign_id: int
    why: str


@dataclass(frozen=True, slots=True)
class EngineStanding:
    """What only an engine knows: whether its `switch` is connected, its trunks, the campaigns it holds."""

    switch: bool
    trunks: tuple[TrunkState, ...] = ()
    held: tuple[HeldCampaign, ...] = ()


# -- results ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a contact: the committed intent, and how far it was known to have come.

    `transfer_of`: it hands that attempt's call over.
    """

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
    transfer_of: UUID | None = None
    sent_by: Mapping[str, str] = field(default_factory=dict, hash=False)


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
