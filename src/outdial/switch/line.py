"""One order on its way over the trunks: the INVITE, the next trunk where one fails, the answered call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol
from uuid import uuid4

import structlog

from outdial import flow
from outdial.amd import AmdThresholds
from outdial.errors import SwitchError
from outdial.flow import Flow, FlowRun
from outdial.model import (
    Answered,
    Attempt,
    CallRecord,
    Disposition,
    Ended,
    HungUpBy,
    Originate,
    Ringing,
    SwitchEvent,
    Trunk,
)
from outdial.routing import Board, check_caller, fails_over
from outdial.sip import sdp
from outdial.sip.call import Call
from outdial.sip.endpoint import Endpoint
from outdial.sip.message import ParseError
from outdial.sip.rtp import MediaError, MediaSession
from outdial.sip.words import (
    Accepted,
    DialogState,
    Effect,
    Hop,
    KeyPressed,
    Media,
    MediaMoved,
    Over,
    Progress,
    Referred,
    Refused,
)
from outdial.switch.bridge import Bridge
from outdial.switch.refer import PERMIT_WITHIN, Leg, Refer
from outdial.switch.specs import call_spec, number_uri, to_text
from outdial.switch.talk import Sounds, Talk

log = structlog.get_logger()

SEND_WITHIN: Final = 0.1
"""Seconds from an order, or a permission, to its INVITE: who was stopped in between may have been overtaken
by another engine. Measured without the loop's clock, which stands still within a turn."""

_PROTOCOL_ERROR: Final = 111
"""Q.850: what came makes no sense."""


End = partial[Ended]
"""An end as the far end has told it, yet without our record of the call."""


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
    """What all lines share. `permits` asks the store whether an attempt may still be placed.

    `intend` has the attempt of a transfer judged and written, and its leg known by its id; None: it may not
    be. `tell` hears of it.
    """

    endpoint: Endpoint
    board: Board
    ways: Mapping[str, Way]
    open_media: Callable[[Hop, Callable[[str, int], None]], MediaSession]
    permits: Callable[[Originate], Awaitable[bool]]
    intend: Callable[[Originate, Disposition | None, Leg], Awaitable[Attempt | None]]
    tell: Callable[[SwitchEvent], None]
    group: Callable[[int], str]
    prefixes: Callable[[int], Collection[str]]
    refuses: Callable[[int, str, str], Disposition | None]
    flow: Callable[[int, str], Flow | None]
    sounds: Callable[[int], Sounds]
    thresholds: AmdThresholds


class Line:
    """One order. `tell` hears Ringing, Answered and, once and last, Ended."""

    def __init__(
        self,
        order: Originate,
        desk: Desk,
        tell: Callable[[SwitchEvent], None],
        *,
        join: Callable[[Line], None] | None = None,
    ) -> None:
        """`join` is told of the answer in place of a flow: the line is the second leg of another call."""
        self._join = join
        self._order = order
        self._desk = desk
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._tried: list[str] = []
        self._trunk: Trunk | None = None
        self._hop: Hop | None = None
        self._call: Call | None = None
        self._media: MediaSession | None = None
        self._agreed: Media | None = None
        self._talk: Talk | None = None
        self._transfer: Refer | Bridge | None = None
        self._peer: MediaSession | None = None
        self._confirmed = False
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
                self._media = self._desk.open_media(hop, self._key)
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
        if self._call is None or self._answered_at is None or self._confirmed or self.over:
            return
        self._confirmed = True
        self._desk.endpoint.perform(self._call, self._call.acknowledge(self._loop.time()))
        if self._given_up:
            return
        if not self._connect():
            self.hang_up(_PROTOCOL_ERROR)
            return
        if self._join is not None:
            self._join(self)
            return
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
            hang_up=self.hang_up,
            hand_over=self._hand_over,
            thresholds=self._desk.thresholds,
        )
        self._talk.begin()

    def hang_up(self, cause: int | None = None) -> None:
        """Cancel or release the call. Nothing is sent or heard after our BYE (RFC 3261 §15.1.1)."""
        self._given_up = True
        if self._call is not None and not self.over:
            self._desk.endpoint.perform(self._call, self._call.hang_up(self._loop.time(), cause))
        if self._answered_at is not None and self._media is not None:
            self._media.close()

    def close(self) -> None:
        """Let go of what it holds here. Its end is not told any more."""
        self.over = True
        if self._next is not None:
            self._next.cancel()
        if self._transfer is not None:
            self._transfer.close()
        if self._talk is not None:
            self._talk.over()
        self._release()

    def _release(self) -> None:
        """Let go of what knows us: a cycle would wait for the collector, a whole call in it."""
        if self._media is not None:
            self._media.close()
        self._media = self._talk = None

    # -- handing over ----------------------------------------------------------------------------------

    def _hand_over(self, wanted: flow.Transfer) -> None:
        of = self._order
        assert self._trunk is not None
        order = Originate(
            uuid4(),
            wanted.target,
            of.caller,
            vdn_id=of.vdn_id,
            campaign_id=of.campaign_id,
            max_alerting_time=of.max_alerting_time,
            transfer_of=of.attempt_id,
        )
        if wanted.mode is flow.TransferMode.BRIDGE:
            refused = self._desk.refuses(order.vdn_id, order.called, order.caller)
            bridge = self._transfer = Bridge(order, refused, self._desk, self._handed_over)
            bridge.begin(Line(order, self._desk, bridge.hear, join=self._join_with))
            return
        self._transfer = Refer(
            order,
            self._trunk,
            self._desk,
            send=self._refer,
            stop=self._stop_referring,
            done=self._handed_over,
        )

    def _join_with(self, other: Line) -> None:
        """The second leg was answered: each side hears the other, keys too."""
        if not self.over and self._media is not None and other._media is not None:
            self.hear_through(other._media)
            other.hear_through(self._media)

    def hear_through(self, peer: MediaSession) -> None:
        """Send what is heard here to the peer."""
        self._peer = peer
        if self._media is not None:
            self._media.listen(peer.feed)

    def _refer(self, dialed: str) -> bool:
        """Send the REFER; whether it left."""
        if self.over or self._given_up or self._call is None or self._trunk is None:
            return False
        effects = self._call.refer(self._loop.time(), number_uri(dialed, self._trunk))
        self._desk.endpoint.perform(self._call, effects)
        return bool(effects)

    def _stop_referring(self) -> None:
        if self._call is not None:
            self._desk.endpoint.perform(self._call, self._call.referral.give_up())

    def _handed_over(self, reached: bool) -> None:
        self._transfer = self._peer = None
        if self._talk is not None:
            self._talk.tell(flow.TransferDone(reached))

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
                if cause is None and confirmed:
                    cause = 16
                self._end(partial(Ended, cause=cause, sip_status=200, answered=True, hung_up_by=by))
            case KeyPressed(key, milliseconds):
                self._key(key, milliseconds)
            case MediaMoved(body):
                self._agree(body)
            case Referred() if isinstance(self._transfer, Refer):
                self._transfer.hear(effect)

    def _progress(self, status: int, body: bytes) -> None:
        if status >= 180 and not self._rang:
            self._rang = True
            self._did_its_part()
            self._tell(Ringing(self._order.attempt_id))
        if body:
            self._agree(body)

    def _accepted(self, dialog: DialogState, body: bytes) -> None:
        assert self._trunk is not None
        self._answered_at = self._loop.time()
        self._did_its_part()
        sound = self._agree(body)
        self._tell(Answered(self._order.attempt_id, dialog=to_text(self._trunk.name, dialog)))
        if not sound:
            self.hang_up(_PROTOCOL_ERROR)

    def _agree(self, body: bytes) -> bool:
        """Whether the far end's SDP leaves us an audio stream. After an answer it begins with our ACK."""
        try:
            self._agreed = _as_ours(sdp.read(body))
        except ParseError as error:
            return self._without_audio(error)
        return self._connect() if self._confirmed or self._answered_at is None else True

    def _connect(self) -> bool:
        """Send to and hear what was agreed on; whether that can be had."""
        if self._agreed is None or self._media is None or self._given_up:
            return self._given_up
        try:
            self._media.connect(self._agreed)
        except MediaError as error:
            return self._without_audio(error)
        return True

    def _without_audio(self, error: Exception) -> bool:
        log.warning("no audio", attempt=str(self._order.attempt_id), reason=str(error))
        return False

    def _key(self, key: str, milliseconds: int) -> None:
        if self._peer is not None:
            self._peer.press(key, milliseconds)
        elif self._talk is not None:
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
        ended = partial(
            Ended,
            cause=refused.cause,
            sip_status=None if refused.local else refused.status,
            hung_up_by=HungUpBy.CALLER if self._given_up else None,
        )
        if elsewhere and not self._given_up:
            self._next = self._loop.create_task(self._go_on(ended, name))
        else:
            self._end(ended, name)

    async def _go_on(self, ended: End, last: str) -> None:
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

    def _end(self, ended: End, trunk: str | None = None) -> None:
        if self.over:
            return
        self.over = True
        if self._transfer is not None:
            self._transfer.lost(ended.keywords["hung_up_by"])
        now = self._loop.time()
        answered = now - self._answered_at if self._answered_at is not None else 0.0
        if self._talk is not None:
            self._talk.over()
        if self._trunk is not None:
            trunk = self._trunk.name
            self._desk.board.released(trunk, now, answered)
        record = self._record(trunk)
        machine = self._talk is not None and self._talk.machine
        self._release()
        self._tell(ended(self._order.attempt_id, machine=machine, record=record))

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


def _as_ours(theirs: sdp.Media) -> Media:
    """What they describe, with the direction as we see it."""
    direction = sdp.MIRRORED[theirs.direction]
    return theirs if direction == theirs.direction else replace(theirs, direction=direction)
