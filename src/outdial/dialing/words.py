"""What the dialer is told and what it asks for: events in, actions out, all of them values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from outdial.dialing.selection import PacedCampaign
from outdial.model import Attempt, Ended, Inquiry, OpenCall, Originate, Room, Settlement, SwitchEvent

SEND_WITHIN: Final = 0.9
"""Seconds from just before a claim begins in which its calls may be placed."""

MAX_CALL: Final = 4 * 3600.0
"""Seconds after which an answered call is hung up, and one that no switch can be asked about is settled."""

RELEASE_WITHIN: Final = 5.0
"""Seconds that a switch has to say the end of a call that was hung up."""

CONFIRM_WITHIN: Final = 1.0
"""Seconds that an answered call waits to be stored; then it is acknowledged all the same."""

PLACES_AT_ONCE: Final = 1
"""Calls placed on one reading of the clocks: a process that is frozen between two of them must notice."""

INQUIRE_AT_ONCE: Final = 500
"""Attempts in one inquiry."""

RETRY: Final = 1.0
"""Seconds until a claim or an inquiry that failed is repeated."""

ROOM_LOOK: Final = 0.05
"""Seconds until trunks that had no room are looked at again."""

Key = tuple[int, int]
"""VDN and campaign."""

RoomOf = Callable[[int], Room]
"""What the switch says of a VDN: over which trunks its calls go, and how many of them now."""


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks: `wall` aware in UTC, `mono` in seconds."""

    wall: datetime
    mono: float


# -- actions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim contacts of the campaign, `limit` at most; answered by `Claimed` or `ClaimFailed`.

    `rest`: of the launch under way; a new one is not to be begun.
    """

    vdn_id: int
    campaign_id: int
    limit: int
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Place the call now; answered by `NotSent` when it certainly did not leave."""

    order: Originate


@dataclass(frozen=True, slots=True)
class HangUp:
    """Cancel or release the call."""

    attempt_id: UUID


@dataclass(frozen=True, slots=True)
class Settle:
    """Store the end of an attempt."""

    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take back an attempt whose order provably never left."""

    vdn_id: int
    attempt_id: UUID


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask the switch what became of these; answered by `Told` with the same `outages`."""

    calls: tuple[OpenCall, ...]
    outages: int


@dataclass(frozen=True, slots=True)
class Remember:
    """Store that the call was answered, and the switch's `dialog`; answered by `Remembered`."""

    vdn_id: int
    attempt_id: UUID
    dialog: str = field(repr=False)
    answered_at: datetime
    ringing_at: datetime | None
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Confirm:
    """Tell the switch to acknowledge the answer: it is stored, or the store did not take it in time."""

    attempt_id: UUID


Action = Claim | Place | HangUp | Settle | Withdraw | Inquire | Remember | Confirm


# -- events ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim has committed. `began`: the monotonic time just before it. `paced` None: nothing to dial there.

    `send_at`: the moments (monotonic) of the attempts under `max_cps`; empty: at once. `empty`: a call was
    allowed and no contact was due. `full`: all of the campaign's `max_channels` are in use.
    """

    key: Key
    paced: PacedCampaign | None
    attempts: tuple[Attempt, ...]
    began: float
    send_at: tuple[float, ...] = ()
    empty: bool = False
    full: bool = False


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """A claim kept nothing, or its fate is not known; none of its calls may be placed."""

    key: Key


@dataclass(frozen=True, slots=True)
class NotSent:
    """The switch refused the order before anything left."""

    attempt_id: UUID


@dataclass(frozen=True, slots=True)
class Adopted:
    """Attempts of a dead engine run that are ours now."""

    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to `Inquire`; no words when the switch could not be asked."""

    words: tuple[Inquiry | Ended, ...]
    outages: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """These answers are stored."""

    attempt_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class SwitchUp:
    """Orders can be given."""


@dataclass(frozen=True, slots=True)
class SwitchDown:
    """The switch was lost; what it said meanwhile was not heard."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Place and claim nothing more; calls in flight go on."""


Event = (
    Claimed | ClaimFailed | NotSent | Adopted | Told | Remembered | SwitchUp | SwitchDown | Stop | SwitchEvent
)
