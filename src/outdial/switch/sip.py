"""The `Switch` over SIP trunks: it lives in the engine's process and does not outlive it.

So an answer is acknowledged only once its dialog is stored, and what a dead run left open is ended when the
engine asks about it: BYE where the dialog is known, CANCEL where it is not (both follow from the attempt's
id).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog

from outdial import flow, routing
from outdial.amd import AmdThresholds
from outdial.errors import CommitUnknown, StoreUnavailable, SwitchError
from outdial.flow import Flow
from outdial.model import (
    Attempt,
    Disposition,
    Ended,
    Fate,
    HungUpBy,
    Inquiry,
    OpenCall,
    Originate,
    Room,
    SwitchEvent,
    Transferring,
    Trunk,
    TrunkState,
)
from outdial.routing import Board
from outdial.sip import sdp
from outdial.sip.call import Call
from outdial.sip.endpoint import Endpoint
from outdial.sip.message import Response
from outdial.sip.resolver import Resolver
from outdial.sip.rtp import MediaSession
from outdial.sip.words import Effect, Hop, Over, Refused
from outdial.switch import Announce, OnDown, OnEvent
from outdial.switch.gateway import Gateway
from outdial.switch.line import Desk, Line
from outdial.switch.refer import Leg
from outdial.switch.specs import answered_elsewhere, call_spec, dialog_spec, from_text
from outdial.switch.voice import Voice

log = structlog.get_logger()

_LOOK_EVERY: Final = 1.0
"""Seconds between looks at trunks, destinations, flows and prompts."""

_ORPHAN_TIME: Final = 4.0
"""Seconds that an inquiry waits for the end of what a dead run left; the messages go on after that."""

_CLOSE_TIME: Final = 1.5
"""Seconds for the last BYEs and CANCELs when the engine ends."""


@dataclass(frozen=True, slots=True)
class Trunking:
    """What the store knows of the ways out: trunks, each VDN's trunk group and allowed prefixes.

    `active`: VDNs with a started campaign. `shares`: how many engines share the trunks.
    """

    trunks: tuple[Trunk, ...] = ()
    groups: Mapping[int, str] = field(default_factory=dict)
    prefixes: Mapping[int, frozenset[str]] = field(default_factory=dict)
    active: frozenset[int] = frozenset()
    shares: int = 1


class Shelf(Protocol):
    """Flows and prompts, at hand."""

    async def refresh(self, vdn_ids: Collection[int]) -> None:
        """Have what these VDNs have now."""
        ...

    def flow_for(self, vdn_id: int, device_sign: str) -> Flow | None:
        """The flow of a campaign with this device sign; None: it cannot be had."""
        ...

    def audio(self, vdn_id: int, prompt: str) -> bytes | None:
        """A prompt's µ-law; None when there is none of this name."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the switch asks the store."""

    trunking: Callable[[], Awaitable[Trunking]]
    permits: Callable[[Originate], Awaitable[bool]]
    count_minutes: Callable[[Board], Awaitable[None]]
    intends: Callable[[Originate, Disposition | None], Awaitable[Attempt | None]]


def _ignore(effect: Effect) -> None:
    """Nobody waits for the end of a stray call."""


class _Sounds:
    """The prompts and the voice of a VDN."""

    def __init__(self, shelf: Shelf, voice: Voice, vdn_id: int) -> None:
        self._shelf = shelf
        self._vdn_id = vdn_id
        self.say = voice.say

    def prompt(self, name: str) -> bytes | None:
        return self._shelf.audio(self._vdn_id, name)


class SipSwitch:
    """Calls over SIP trunks."""

    def __init__(
        self,
        endpoint: Endpoint,
        open_media: Callable[[Hop, Callable[[str, int], None]], MediaSession],
        shelf: Shelf,
        facts: Facts,
        *,
        resolver: Resolver | None = None,
        thresholds: AmdThresholds | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._shelf = shelf
        self._facts = facts
        self._resolver = resolver or Resolver()
        self._board = Board()
        self._voice = Voice()
        self._gateways: dict[str, Gateway] = {}
        self._trunking: Trunking | None = None
        self._lines: dict[UUID, Leg] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._on_event: OnEvent
        self._announce: Announce
        self._desk = Desk(
            endpoint=endpoint,
            board=self._board,
            ways=self._gateways,
            open_media=open_media,
            permits=self._permits,
            intend=self._intend,
            tell=self._heard,
            group=self._group,
            prefixes=self._prefixes,
            refuses=self.refuses,
            flow=shelf.flow_for,
            sounds=lambda vdn_id: _Sounds(shelf, self._voice, vdn_id),
            thresholds=thresholds or AmdThresholds(),
        )

    @property
    def connected(self) -> bool:
        """True while orders can be given."""
        return self._trunking is not None and not self._closing

    @property
    def stalls(self) -> int:
        """How often the endpoint was stopped for long."""
        return self._endpoint.timers.stalls

    def go_on(self, stalls: int) -> None:
        """Let the endpoint repeat what is due."""
        self._endpoint.timers.go_on(stalls)

    async def start(self, on_event: OnEvent, on_down: OnDown, announce: Announce) -> None:
        """Bind the sockets and look for trunks. Raises `SwitchError` where an address cannot be had."""
        self._on_event, self._announce = on_event, announce
        self._endpoint.on_stray = self._release_stray
        await self._endpoint.start()
        self._keeper = asyncio.create_task(self._keep())

    # -- the protocol ----------------------------------------------------------------------------------

    def room(self, vdn_id: int) -> Room:
        """How many calls of this VDN could be placed right now."""
        group = self._group(vdn_id)
        return Room(group, self._board.room(group, self._now()))

    def refuses(self, vdn_id: int, called: str, caller: str) -> Disposition | None:
        """NOT_ALLOWED, BAD_CALLER or None. A VDN without any allowed destination waits for its first."""
        prefixes = self._prefixes(vdn_id)
        if not prefixes:
            return None
        return routing.refusal(called, caller, self._trunks_of(vdn_id), prefixes)

    def holds(self, vdn_id: int, device_sign: str) -> str | None:
        """Why no call of such a campaign is placed at all now."""
        if self._shelf.flow_for(vdn_id, device_sign) is None:
            return f"the flow {device_sign or flow.DEFAULT_FLOW} is not there"
        if not self._trunks_of(vdn_id):
            return f"there is no trunk in the group {self._group(vdn_id)}"
        return None if self._prefixes(vdn_id) else "no destination is allowed"

    def originate(self, order: Originate) -> None:
        """Place one call. Raises `SwitchError` when it certainly did not leave."""
        if self._closing:
            raise SwitchError("the switch is closing")
        line = Line(order, self._desk, self._heard)
        self._lines[order.attempt_id] = line
        try:
            line.place()
        except SwitchError:
            del self._lines[order.attempt_id]
            raise

    def confirm(self, attempt_id: UUID) -> None:
        """The answer is stored: acknowledge the call."""
        if (line := self._lines.get(attempt_id)) is not None:
            line.confirm()

    def hang_up(self, attempt_id: UUID) -> None:
        """Cancel or release the call."""
        if (line := self._lines.get(attempt_id)) is not None:
            line.hang_up()

    async def inquire(self, calls: Sequence[OpenCall]) -> list[Inquiry | Ended]:
        """Our own calls are alive; what a dead run left is ended here and now."""
        alive = [one for one in calls if one.attempt_id in self._lines]
        orphans = [one for one in calls if one.attempt_id not in self._lines]
        ended = await asyncio.gather(*(self._end_orphan(one) for one in orphans))
        return [
            *(Inquiry(one.attempt_id, Fate.ALIVE, one.answered_at is not None) for one in alive),
            *ended,
        ]

    async def close(self) -> None:
        """Hang up what still talks: nobody would play or hear anything any more."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for line in list(self._lines.values()):
            line.hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIME):
                while self._lines:  # noqa: ASYNC110  # each line ends by itself
                    await asyncio.sleep(0.02)
        for line in self._lines.values():
            line.close()
        for gateway in self._gateways.values():
            await gateway.close()
        await self._endpoint.close()

    def trunks(self) -> list[TrunkState]:
        """The trunks, and what keeps each from taking calls. What ends within a second is no news."""
        now, wall = self._now(), datetime.now(UTC).replace(microsecond=0)
        return [_state(one, now, wall) for one in self._board.standing(now)]

    # -- lines -----------------------------------------------------------------------------------------

    def _heard(self, event: SwitchEvent) -> None:
        if isinstance(event, Ended) or (isinstance(event, Transferring) and not event.sent):
            self._lines.pop(event.attempt_id, None)
        if not self._closing:
            # Later, not within the order: the dialer is told one thing at a time.
            asyncio.get_running_loop().call_soon(self._on_event, event)

    async def _permits(self, order: Originate) -> bool:
        try:
            return await self._facts.permits(order)
        except StoreUnavailable:
            return False

    async def _intend(self, order: Originate, refused: Disposition | None, leg: Leg) -> Attempt | None:
        """Whoever finds the attempt open in the store, while we have not said so yet, finds its leg alive."""
        self._lines[order.attempt_id] = leg
        attempt: Attempt | None = None
        try:
            attempt = await self._facts.intends(order, refused)
        except (StoreUnavailable, CommitUnknown) as error:
            log.warning("call not handed over", attempt=str(order.transfer_of), reason=str(error))
        except Exception as error:
            # The flow goes on whatever it was. The error's own words may hold numbers.
            log.error("transfer failed", attempt=str(order.transfer_of), error=type(error).__name__)
        finally:
            if attempt is None:
                self._lines.pop(order.attempt_id, None)
        return attempt

    # -- what a dead run left --------------------------------------------------------------------------

    async def _end_orphan(self, orphan: OpenCall) -> Inquiry | Ended:
        await self._trunks_tried(orphan.vdn_id)
        waits = self._release(orphan) if orphan.dialog else self._cancel(orphan)
        if waits:
            await asyncio.wait(waits, timeout=_ORPHAN_TIME)
        if orphan.dialog:
            return Ended(orphan.attempt_id, answered=True, hung_up_by=HungUpBy.CALLER)
        return Inquiry(orphan.attempt_id, Fate.CANNOT_TELL)

    async def _trunks_tried(self, vdn_id: int) -> None:
        """Wait until the trunks were looked for: what is sent before goes nowhere."""
        found = (self._gateways.get(trunk.name) for trunk in self._trunks_of(vdn_id))
        looks = [asyncio.create_task(one.tried.wait()) for one in found if one is not None]
        if looks:
            _, late = await asyncio.wait(looks, timeout=_ORPHAN_TIME)
            for look in late:
                look.cancel()

    def _release(self, orphan: OpenCall) -> list[asyncio.Future[None]]:
        """BYE: the dialog is known."""
        name, dialog = from_text(orphan.dialog)
        trunk = next((one for one in self._trunks_of(orphan.vdn_id) if one.name == name), None)
        call = Call.restored(dialog_spec(dialog, trunk, self._endpoint), dialog)
        return [self._until_over(call, call.hang_up(self._now()))]

    def _cancel(self, orphan: OpenCall) -> list[asyncio.Future[None]]:
        """CANCEL over every trunk that may have been tried; who knows nothing of it says so.

        It names its sender as the INVITE did: a CANCEL is known by that too (RFC 3261 §9.1, §17.2.3). The
        response comes back to us all the same, by `rport` (RFC 3581).
        """
        waits = []
        for trunk in self._trunks_of(orphan.vdn_id):
            gateway = self._gateways.get(trunk.name)
            hop = gateway.hop() if gateway is not None else None
            if hop is None or not self._endpoint.ready(hop):
                continue
            dialed = routing.dial_string(orphan.called, trunk)
            offer = sdp.offer(address=self._endpoint.local(hop)[0], port=9, session_id=1)
            spec = call_spec(
                self._endpoint,
                hop,
                trunk,
                attempt=orphan.attempt_id,
                dialed=dialed,
                caller=orphan.caller,
                offer=offer,
            )
            call = Call.abandoned(replace(spec, via=orphan.sent_by.get(hop.host, spec.via)))
            waits.append(self._until_over(call, call.start(self._now())))
        return waits

    def _release_stray(self, response: Response, source: Hop) -> None:
        """An answer to a call that is not ours any more: acknowledge it and hang up, before anybody asks."""
        call = answered_elsewhere(response, source, self._endpoint)
        now = self._now()
        self._endpoint.begin(call, call.receive(response, now), _ignore)
        self._endpoint.perform(call, call.hang_up(now))

    def _until_over(self, call: Call, effects: Sequence[Effect]) -> asyncio.Future[None]:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(effect: Effect) -> None:
            if isinstance(effect, Over | Refused) and not over.done():
                over.set_result(None)

        self._endpoint.begin(call, effects, hear)
        return over

    # -- trunks ----------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                await self._facts.count_minutes(self._board)
                trunking = await self._facts.trunking()
                talking = {line.vdn_id for line in self._lines.values()}
                await self._shelf.refresh(trunking.active | talking)
                self._learn(trunking)
            except (StoreUnavailable, CommitUnknown) as error:
                log.warning("store unavailable", doing="look at the trunks", reason=str(error))
            except Exception as error:
                # What was known stays in force: the calls under way do not end for a look that failed.
                log.error("trunks not looked at", error=type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY)

    def _learn(self, trunking: Trunking) -> None:
        self._board.shares = trunking.shares
        self._board.load(trunking.trunks, self._now())
        given = {trunk.name: trunk for trunk in trunking.trunks}
        for name in [*self._gateways]:
            if self._gateways[name].trunk != given.get(name):
                self._gateways.pop(name).stop()
        for name, trunk in given.items():
            if name not in self._gateways:
                self._gateways[name] = Gateway(
                    trunk, self._endpoint, self._resolver, self._board, self._announce
                )
        self._endpoint.know(host for gateway in self._gateways.values() for host in gateway.hosts())
        self._trunking = trunking

    def _group(self, vdn_id: int) -> str:
        return self._trunking.groups.get(vdn_id, "default") if self._trunking else "default"

    def _prefixes(self, vdn_id: int) -> frozenset[str]:
        return self._trunking.prefixes.get(vdn_id, frozenset()) if self._trunking else frozenset()

    def _trunks_of(self, vdn_id: int) -> list[Trunk]:
        group = self._group(vdn_id)
        return [trunk for trunk in self._trunking.trunks if trunk.group == group] if self._trunking else []

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _state(one: routing.TrunkStanding, now: float, wall: datetime) -> TrunkState:
    """A trunk's standing in words that outlive this process; `wall` is the time at `now`."""
    state = TrunkState(
        one.name,
        one.group,
        up=one.bar in (None, routing.Bar.CPS, routing.Bar.CHANNELS),
        in_use=one.in_use,
        channels=one.channels,
    )
    if one.bar is None or one.bar is routing.Bar.CPS:
        return state
    return replace(
        state,
        bar=f"{one.bar}: {one.detail}" if one.detail else str(one.bar),
        until=wall + timedelta(seconds=round(one.until - now)) if one.until is not None else None,
    )
