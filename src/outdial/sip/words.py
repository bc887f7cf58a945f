"""What the parts of the user agent tell one another. All times are seconds of a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from outdial.model import HungUpBy

T1: Final = 0.5
T2: Final = 4.0
T4: Final = 5.0
"""RFC 3261 §17.1.1.1, in seconds."""

USER_AGENT: Final = "outdial"


@dataclass(frozen=True, slots=True)
class Hop:
    """Where bytes go. `transport` is "udp", "tcp" or "tls"; `host` an IP literal or a name to look up."""

    transport: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """What answers a digest challenge."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallSpec:
    """Everything that an outgoing call needs to be placed, and to be found again after a restart.

    `call_id`, `from_tag` and `branch` follow from the attempt's id and the trunk, so that an engine that
    starts anew can cancel what its predecessor left: the INVITE with CSeq n has the Via branch
    `z9hG4bK{branch}n`; where a call is restored it is "". `contact` is our Contact URI, `via` the sent-by of
    our Via ("host:port"). `route` is the preloaded route set (an outbound proxy). `timer_b` bounds the wait
    for any answer to the INVITE; `session_expires` 0 asks for no session timer (RFC 4028).
    """

    call_id: str
    from_tag: str
    branch: str
    hop: Hop
    request_uri: str
    from_uri: str
    to_uri: str
    contact: str
    via: str
    offer: bytes
    route: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    credentials: Credentials | None = None
    timer_b: float = 32.0
    session_expires: int = 1800


@dataclass(frozen=True, slots=True)
class DialogState:
    """A confirmed dialog, as it is stored to survive a restart (RFC 3261 §12.1.2)."""

    call_id: str
    local_tag: str
    remote_tag: str
    local_uri: str
    remote_uri: str
    remote_target: str
    route_set: tuple[str, ...]
    local_cseq: int
    hop: Hop  # where the INVITE went; in-dialog requests follow route set and target


class Phase(StrEnum):
    """Where an outgoing call stands."""

    NEW = "new"
    CALLING = "calling"
    CANCELLING = "cancelling"  # given up, but the far end has not said so yet
    ANSWERED = "answered"
    ENDING = "ending"  # our BYE is out
    OVER = "over"  # Refused or Over was said; late messages are still dealt with


# -- effects: what a sans-IO part asks its endpoint to do, and what it tells ------------------------------


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send these bytes now."""

    data: bytes
    hop: Hop


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response, 100 to 199. `body` is its SDP (early media) or empty."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A 2xx to our INVITE. The ACK leaves by `Call.acknowledge`, once the dialog is stored."""

    dialog: DialogState
    body: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The call ended before an answer. `local`: nobody answered (timer B), or the transport failed.

    `cause` is the Q.850 cause of a Reason header (RFC 3326). `rang`: an 18x came before.
    """

    status: int
    reason: str = ""
    cause: int | None = None
    retry_after: int | None = None
    rang: bool = False
    local: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """An answered call ended. `confirmed` false: our BYE got no answer."""

    by: HungUpBy
    cause: int | None = None
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A key that came by SIP INFO or as an RFC 4733 event. `milliseconds` may be 0 when it was not said."""

    key: str
    milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class MediaMoved:
    """The far end sent a new offer (re-INVITE or UPDATE); we answered it. `body` is its SDP."""

    body: bytes


Effect = Transmit | Progress | Accepted | Refused | Over | KeyPressed | MediaMoved
