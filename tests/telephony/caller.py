"""The SIP switch with facts of the test's own, and what its events were."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sipp import DEADLINE

from outdial import flow
from outdial.errors import StoreUnavailable
from outdial.flow import Flow
from outdial.model import Answered, Attempt, Disposition, Ended, Originate, Ringing, SwitchEvent, Trunk
from outdial.routing import Board
from outdial.sip.endpoint import Endpoint
from outdial.sip.resolver import Resolver
from outdial.sip.rtp import MediaSession, PortRange, Ticker
from outdial.sip.words import Hop
from outdial.switch.sip import Facts, SipSwitch, Trunking
from ports import free_port

VDN = 1


class Shelf:
    """Flows and prompts in memory."""

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.prompts: dict[str, bytes] = {}
        self.wanted: frozenset[int] = frozenset()

    async def refresh(self, vdn_ids: Collection[int]) -> None:
        self.wanted = frozenset(vdn_ids)

    def flow_for(self, vdn_id: int, device_sign: str) -> Flow | None:
        return self.flows.get(device_sign, flow.WITHOUT_FLOW if not device_sign else None)

    def audio(self, vdn_id: int, prompt: str) -> bytes | None:
        return self.prompts.get(prompt)


class Caller:
    """A switch of one VDN over the given trunks."""

    def __init__(
        self,
        *trunks: Trunk,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        resolver: Resolver | None = None,
    ) -> None:
        self.trunking = Trunking(trunks, {VDN: "default"}, {VDN: frozenset({"any"})}, frozenset({VDN}))
        self.permitted = True
        self.intended: list[Originate] = []
        self.refused: list[Disposition | None] = []
        self.intends = True
        self.delay = 0.0
        self.shelf = Shelf()
        self.events: list[SwitchEvent] = []
        self.announced: dict[str, str] = {}
        self.announcing_fails: Exception | None = None
        self.store_away = False
        self.count_fails: Exception | None = None
        self.at: dict[int, float] = {}
        self.confirms = True
        self.heard = asyncio.Event()
        self.port = free_port()
        self.endpoint = Endpoint([(host, self.port)], tls=tls)
        ticker, ports = Ticker(), PortRange(host, 30000, 40000)

        def open_media(hop: Hop, on_key: Callable[[str, int], None]) -> MediaSession:
            return MediaSession(ticker, ports.allocate(), on_key=on_key, comfort=True)

        async def trunking() -> Trunking:
            return self.trunking

        async def permits(order: Originate) -> bool:
            return self.permitted

        async def count_minutes(board: Board) -> None:
            if (failure := self.count_fails) is not None:
                self.count_fails = None
                raise failure
            board.counted(board.unsaved(), {})

        async def intends(order: Originate, refused: Disposition | None) -> Attempt | None:
            self.intended.append(order)
            self.refused.append(refused)
            await asyncio.sleep(self.delay)
            now = datetime.now(UTC)
            attempt = Attempt(
                *(VDN, 7, 1, order.attempt_id, 1, order.called, order.caller, order.max_alerting_time, now),
                transfer_of=order.transfer_of,
            )
            return attempt if self.intends and refused is None else None

        self.switch = SipSwitch(
            self.endpoint,
            open_media,
            self.shelf,
            Facts(trunking, permits, count_minutes, intends),
            resolver=resolver,
        )

    async def __aenter__(self) -> Caller:
        await self.switch.start(self._hear, lambda: None, self.announce)
        await self.until(lambda: self.switch.connected and self.switch.room(VDN).calls > 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.switch.close()

    async def announce(self, sent_by: Mapping[str, str]) -> None:
        if self.store_away:
            raise StoreUnavailable("away")
        if (failure := self.announcing_fails) is not None:
            self.announcing_fails = None
            raise failure
        self.announced |= sent_by

    def _hear(self, event: SwitchEvent) -> None:
        self.at[len(self.events)] = time.monotonic()
        self.events.append(event)
        self.heard.set()
        if isinstance(event, Answered) and event.dialog and self.confirms:
            self.switch.confirm(event.attempt_id)

    async def until(self, holds: Callable[[], Any], within: float = DEADLINE) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.01)

    def place(self, called: str = "80001", **facts: Any) -> UUID:
        """Place a call."""
        order = Originate(uuid4(), called, "100", vdn_id=VDN, campaign_id=7, max_alerting_time=30)
        order = replace(order, **facts)
        self.switch.originate(order)
        return order.attempt_id

    async def call(self, called: str = "80001", *, within: float = DEADLINE, **facts: Any) -> Ended:
        """Place a call and wait for its end."""
        attempt = self.place(called, **facts)
        return await self.end_of(attempt, within)

    async def end_of(self, attempt: UUID, within: float = DEADLINE) -> Ended:
        """How a call ended."""
        await self.until(lambda: self.of(attempt, Ended), within)
        (ended,) = self.of(attempt, Ended)
        assert isinstance(ended, Ended)
        return ended

    def of(self, attempt: UUID, kind: type) -> list[SwitchEvent]:
        """The events of one call."""
        return [one for one in self.events if isinstance(one, kind) and one.attempt_id == attempt]

    def rang(self, attempt: UUID) -> bool:
        """Whether it rang."""
        return bool(self.of(attempt, Ringing))


def trunk_to(port: int, **facts: Any) -> Trunk:
    """A trunk on loopback."""
    return replace(Trunk("one", "127.0.0.1", port, ping_every=0, max_cps=1000, max_channels=1000), **facts)
