"""One order on its way over the trunks: the INVITE, the next trunk where one fails, the answered call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol
from urllib.parse import quote
from uuid import UUID

import msgspec
import structlog

from outdial import flow
from outdial.amd import AmdThresholds
from outdial.errors import SwitchError
from outdial.flow import Flow, FlowRun
from outdial.model import Answered, CallRecord, Ended, HungUpBy, Originate, Ringing, SwitchEvent, Trunk
from outdial.routing import Board, check_caller, fails_over
from outdial.sip import sdp
from outdial.sip.call import Call
from outdial.sip.dialog import accepted, spec_ids
from outdial.sip.endpoint import Endpoint
from outdial.sip.message import ParseError, Response
from outdial.sip.rtp import MediaError, MediaSession
from outdial.sip.words import (
    Accepted,
    CallSpec,
    Credentials,
    DialogState,
    Effect,
    Hop,
    KeyPressed,
    MediaMoved,
    Over,
    Progress,
    Refused,
)
from outdial.switch.talk import Sounds, Talk

log = structlog.get_logger()

PERMIT_WITHIN: Final = 0.9
"""Seconds from just before a permission was asked in which the next trunk may be tried (guarantee G7)."""

SEND_WITHIN: Final = 0.1
"""Seconds from an order, or a permission, to its INVITE: who was stopped in between may have been overtaken
by another engine. Measured without the loop's clock, which stands still within a turn."""

_PROTOCOL_ERROR: Final = 111
"""Q.850: what came makes no sense."""


class Way(Protocol):
    """A trunk's way out, as a line needs it."""

    def hop(self) -> Hop | None:
        """Where calls of the trunk go now; None: nowhere."""
        ...

    def moved_on(self, hop: Hop) -> None:
        """A call found nobody there."""
        ...


@dataclass(slots=True)
class Desk:
    """What all lines share. `permits` asks the store whether an attempt may still be placed."""

    endpoint: Endpoint
    board: Board
    ways: Mapping[str, Way]
    open_media: Callable[[Hop, Callable[[str, int], None]], MediaSession]
    permits: Callable[[Originate], Awaitable[bool]]
    group: Callable[[int], str]
    prefixes: Callable[[int], Collection[str]]
    flow: Callable[[int, str], Flow | None]
    sounds: Callable[[int], Sounds]
    thresholds: AmdThresholds


class Line:
    """One order. `tell` hears Ringing, Answered and, once and last, Ended."""

    def __init__(self, order: Originate, desk: Desk, tell: Callable[[SwitchEvent], None]) -> None:
        self._order = order
        self._desk = desk
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._tried: list[str] = []
        self._trunk: Trunk | None = None
        self._hop: Hop | None = None
        self._call: Call | None = None
        self._media: MediaSession | None = None
        self._talk: Talk | None = None
        self._next: asyncio.Task[None] | None = None
        self._rang = False
        self._succeeded = False
        self._answered_at: float | None = None
        self._given_up = False
        self.over = False
        self.vdn_id = order.vdn_id

    def place(self) -> None:
        """Send the INVITE. Raises `SwitchError` when nothing has left."""
        now, send_by = self._loop.time(), time.monotonic() + SEND_WITHIN
        desk, order = self._desk, self._order
        group, prefixes = desk.group(order.vdn_id), desk.prefixes(order.vdn_id)
        while (
            picked := desk.board.choose(group, order.called, prefixes, now, tried=self._tried)
        ) is not None:
            trunk, dialed = picked
            self._tried.append(trunk.name)
            way = desk.ways.get(trunk.name)
            hop = way.hop() if way is not None else None
            sendable = check_caller(trunk.caller_id or order.caller)
            if sendable and hop is not None and desk.endpoint.ready(hop):
                self._send(trunk, dialed, hop, now, send_by)
                return
        raise SwitchError("no trunk takes a call now")

    def _send(self, trunk: Trunk, dialed: str, hop: Hop, now: float, send_by: float) -> None:
        host, _ = self._desk.endpoint.local(hop)
        if self._media is None:
            try:
                self._media = self._desk.open_media(hop, lambda key, _: self._key(key))
            except MediaError as error:
                raise SwitchError(f"no port for audio: {error}") from error
        offer = sdp.offer(address=host, port=self._media.local_port, session_id=int(time.time()))
        spec = call_spec(
            self._desk.endpoint,
            hop,
            trunk,
            attempt=self._order.attempt_id,
            dialed=dialed,
            caller=self._order.caller,
            offer=offer,
        )
        call = Call(spec)
        effects = call.start(now)
        if time.monotonic() > send_by:
            self._media.close()
            raise SwitchError("stopped for too long in the middle of an order")
        self._trunk, self._hop, self._succeeded = trunk, hop, False
        self._call = call
        self._desk.board.took(trunk.name, now)
        self._desk.endpoint.begin(call, effects, lambda effect: self._hear(call, effect))

    # -- what the engine asks --------------------------------------------------------------------------

    def confirm(self) -> None:
        """The answer is stored: acknowledge it, and begin the flow."""
        if self._call is None or self._answered_at is None or self._talk is not None or self.over:
            return
        self._desk.endpoint.perform(self._call, self._call.acknowledge(self._loop.time()))
        order = self._order
        found = self._desk.flow(order.vdn_id, order.device_sign) or flow.WITHOUT_FLOW
        values = flow.values_of(
            order.call_data, called=order.called, campaign_id=order.campaign_id, session_id=order.session_id
        )
        assert self._media is not None
        self._talk = Talk(
            FlowRun(found, values),
            self._media,
            self._desk.sounds(order.vdn_id),
            self.hang_up,
            self._desk.thresholds,
        )
        self._talk.begin()

    def hang_up(self, cause: int | None = None) -> None:
        """Cancel or release the call."""
        self._given_up = True
        if self._call is not None and not self.over:
            self._desk.endpoint.perform(self._call, self._call.hang_up(self._loop.time(), cause))

    def close(self) -> None:
        """Let go of what it holds here. Its end is not told any more."""
        self.over = True
        if self._next is not None:
            self._next.cancel()
        if self._talk is not None:
            self._talk.over()
        if self._media is not None:
            self._media.close()

    # -- what the far end says -------------------------------------------------------------------------

    def _hear(self, call: Call, effect: Effect) -> None:
        if call is not self._call or self.over:
            return  # what a trunk says after we went on to the next
        match effect:
            case Progress(status, body):
                self._progress(status, body)
            case Accepted(dialog, body):
                self._accepted(dialog, body)
            case Refused():
                self._refused(effect)
            case Over(by, cause, confirmed):
                self._end(
                    Ended(
                        self._order.attempt_id,
                        cause=cause if cause is not None else 16 if confirmed else None,
                        sip_status=200,
                        answered=True,
                        hung_up_by=by,
                    )
                )
            case KeyPressed(key, _):
                self._key(key)
            case MediaMoved(body):
                self._connect(body)

    def _progress(self, status: int, body: bytes) -> None:
        if status >= 180 and not self._rang:
            self._rang = True
            self._did_its_part()
            self._tell(Ringing(self._order.attempt_id))
        if body:
            self._connect(body)

    def _accepted(self, dialog: DialogState, body: bytes) -> None:
        assert self._trunk is not None
        self._answered_at = self._loop.time()
        self._did_its_part()
        sound = self._connect(body)
        self._tell(Answered(self._order.attempt_id, dialog=to_text(self._trunk.name, dialog)))
        if not sound:
            self.hang_up(_PROTOCOL_ERROR)

    def _connect(self, body: bytes) -> bool:
        """Whether the far end's SDP leaves us an audio stream."""
        assert self._media is not None
        try:
            theirs = sdp.read(body)
            self._media.connect(replace(theirs, direction=sdp.MIRRORED[theirs.direction]))
        except (ParseError, MediaError) as error:
            log.warning("no audio", attempt=str(self._order.attempt_id), reason=str(error))
            return False
        return True

    def _key(self, key: str) -> None:
        if self._talk is not None:
            self._talk.tell(flow.Key(key))

    def _did_its_part(self) -> None:
        if not self._succeeded and self._trunk is not None:
            self._succeeded = True
            self._desk.board.succeeded(self._trunk.name, self._loop.time())

    # -- the next trunk, or the end --------------------------------------------------------------------

    def _refused(self, refused: Refused) -> None:
        assert self._trunk is not None
        now = self._loop.time()
        name = self._trunk.name
        elsewhere = fails_over(refused.status, refused.rang or self._rang, refused.local)
        if elsewhere and not self._given_up:
            self._desk.board.failed(name, refused.status, now)
            way = self._desk.ways.get(name)
            if refused.local and way is not None and self._hop is not None:
                way.moved_on(self._hop)
        else:
            self._did_its_part()
        self._desk.board.released(name, now)
        self._trunk = None
        ended = Ended(
            self._order.attempt_id,
            cause=refused.cause,
            sip_status=None if refused.local else refused.status,
            hung_up_by=HungUpBy.CALLER if self._given_up else None,
        )
        if elsewhere and not self._given_up:
            self._next = self._loop.create_task(self._go_on(ended, name))
        else:
            self._end(ended, name)

    async def _go_on(self, ended: Ended, last: str) -> None:
        """Try the next trunk, if the campaign still may call; else the last refusal is the end."""
        asked = time.monotonic()
        permitted = await self._desk.permits(self._order)
        if permitted and not self._given_up and time.monotonic() - asked < PERMIT_WITHIN:
            try:
                self.place()
            except SwitchError:
                pass
            else:
                return
        self._end(ended, last)

    def _end(self, ended: Ended, trunk: str | None = None) -> None:
        if self.over:
            return
        self.over = True
        now = self._loop.time()
        answered = now - self._answered_at if self._answered_at is not None else 0.0
        if self._talk is not None:
            self._talk.over()
        if self._trunk is not None:
            trunk = self._trunk.name
            self._desk.board.released(trunk, now, answered)
        record = self._record(trunk)
        if self._media is not None:
            self._media.close()
        machine = self._talk is not None and self._talk.machine
        self._tell(replace(ended, machine=machine, record=record))

    def _record(self, trunk: str | None) -> CallRecord:
        talk, media = self._talk, self._media
        return CallRecord(
            trunk=trunk,
            keys=talk.keys if talk is not None else "",
            steps=talk.steps if talk is not None else (),
            detector=talk.verdict if talk is not None else None,
            rtp_sent=media.sent if media is not None else None,
            rtp_received=media.received_packets if media is not None else None,
        )


def to_text(trunk: str, dialog: DialogState) -> str:
    """What is stored of an answered call: the trunk's name and the dialog."""
    return msgspec.json.encode((trunk, dialog)).decode()


def from_text(text: str) -> tuple[str, DialogState]:
    """What `to_text` wrote. Raises `ValueError`."""
    return msgspec.json.decode(text, type=tuple[str, DialogState])


def call_spec(
    endpoint: Endpoint, hop: Hop, trunk: Trunk, *, attempt: UUID, dialed: str, caller: str, offer: bytes
) -> CallSpec:
    """The call of an attempt over a trunk: the same again for the same facts, so that it can be cancelled.

    What `routing` lets through as a number holds no character that could end a header.
    """
    call_id, from_tag, branch = spec_ids(attempt, trunk.name)
    host = bracketed(trunk.host)
    place = f"{host}:{trunk.port}" if trunk.port else host
    over = transport_of(hop)
    number = quote(dialed, safe="+*")
    caller = quote(trunk.caller_id or caller, safe="+*")
    contact_host, contact_port = endpoint.contact(hop)
    return CallSpec(
        call_id=call_id,
        from_tag=from_tag,
        branch=branch,
        hop=hop,
        request_uri=f"sip:{number}@{place}{over}",
        from_uri=f"sip:{caller}@{trunk.from_domain or host}",
        to_uri=f"sip:{number}@{place}",
        contact=f"sip:outdial@{bracketed(contact_host)}:{contact_port}{over}",
        via=sent_by(endpoint, hop),
        offer=offer,
        route=route_of(trunk, over),
        credentials=credentials_of(trunk),
        timer_b=trunk.timer_b,
    )


def dialog_spec(dialog: DialogState, trunk: Trunk | None, endpoint: Endpoint) -> CallSpec:
    """What a stored dialog needs to be hung up; the trunk has the credentials, if it is still there."""
    host, _ = endpoint.local(dialog.hop)
    at = sent_by(endpoint, dialog.hop)
    return CallSpec(
        call_id=dialog.call_id,
        from_tag=dialog.local_tag,
        branch="",
        hop=dialog.hop,
        request_uri=dialog.remote_target,
        from_uri=dialog.local_uri,
        to_uri=dialog.remote_uri,
        contact=f"sip:outdial@{at}",
        via=at,
        offer=sdp.offer(address=host, port=9, session_id=1),
        credentials=credentials_of(trunk) if trunk is not None else None,
        session_expires=0,
    )


def answered_elsewhere(response: Response, source: Hop, endpoint: Endpoint) -> Call:
    """The call that this 2xx answers, as far as the 2xx tells: enough to acknowledge it and to hang up."""
    host, _ = endpoint.local(source)
    at = sent_by(endpoint, source)
    contact = response.contact
    spec = CallSpec(
        call_id=response.call_id,
        from_tag=response.from_tag or "",
        branch="",
        hop=source,
        request_uri=str(contact.uri) if contact is not None else str(response.to.uri),
        from_uri=str(response.from_.uri),
        to_uri=str(response.to.uri),
        contact=f"sip:outdial@{at}",
        via=at,
        offer=sdp.offer(address=host, port=9, session_id=1),
        session_expires=0,
    )
    return Call.restored(spec, accepted(spec, response))


def sent_by(endpoint: Endpoint, hop: Hop) -> str:
    """What our Via towards a hop says of where its request comes from (RFC 3261 §18.1.1)."""
    host, port = endpoint.local(hop)
    return f"{bracketed(host)}:{port}"


def transport_of(hop: Hop) -> str:
    """The parameter of a URI that says how its host is reached; UDP goes without saying."""
    return "" if hop.transport == "udp" else f";transport={hop.transport}"


def route_of(trunk: Trunk, over: str) -> tuple[str, ...]:
    """The preloaded route: the trunk's outbound proxy, if it has one."""
    return (f"<sip:{trunk.outbound_proxy}{over};lr>",) if trunk.outbound_proxy else ()


def credentials_of(trunk: Trunk) -> Credentials | None:
    """What answers the trunk's challenges; None: it knows us by our address."""
    return Credentials(trunk.username, trunk.password or "") if trunk.username else None


def bracketed(host: str) -> str:
    """A host as URIs and Via write it."""
    return f"[{host}]" if ":" in host else host
