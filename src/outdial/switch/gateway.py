"""One trunk's way out: where it is, whether it answers, our registration there."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from dataclasses import dataclass
from typing import Final

import structlog

from outdial.errors import CommitUnknown, StoreUnavailable
from outdial.model import Trunk
from outdial.routing import Bar, Board
from outdial.sip.endpoint import Endpoint
from outdial.sip.locate import Target
from outdial.sip.registration import Account, OptionsPing, Registration
from outdial.sip.resolver import Resolver
from outdial.sip.words import Effect, Hop
from outdial.switch import Announce
from outdial.switch.specs import bracketed, credentials_of, route_of, sent_by, transport_of

log = structlog.get_logger()

_LOCATE_EVERY: Final = 30.0
"""Seconds between looks at the address of a trunk without pings; the resolver keeps what has a longer TTL."""

_PING_WITHIN: Final = 4.0
"""Seconds for the answer to an OPTIONS."""

_NOTICE_WITHIN: Final = 0.5
"""Seconds until a lost connection is noticed here; a call that meets it first goes elsewhere."""

_UNREGISTER_WITHIN: Final = 1.0

_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
"""Seconds before a trunk that was not reached is tried again: the first wait, doubled up to the longest."""


class Gateway:
    """A trunk as it can be reached now."""

    def __init__(
        self, trunk: Trunk, endpoint: Endpoint, resolver: Resolver, board: Board, announce: Announce
    ) -> None:
        """`announce` is told from where our requests leave before a call does."""
        self.trunk = trunk
        self.tried = asyncio.Event()
        """Set once the trunk was looked for, whether or not it was reached."""
        self._endpoint = endpoint
        self._resolver = resolver
        self._board = board
        self._announce = announce
        self._announced: dict[str, str] = {}
        self._hops: list[Hop] = []
        self._registration: Registration | None = None
        self._said = ""  # of the registration, last
        board.barred(trunk.name, Bar.UNREACHABLE)
        self._task = asyncio.create_task(self._live())

    def hop(self) -> Hop | None:
        """Where calls go now; None while the address is not known, or ours towards it not announced."""
        hop = self._hops[0] if self._hops else None
        return hop if hop is not None and self._announced.get(hop.host) == self._sent_by(hop) else None

    def hosts(self) -> set[str]:
        """The addresses from which requests of this trunk come."""
        return {hop.host for hop in self._hops}

    def moved_on(self, hop: Hop) -> None:
        """Nobody answered there: the next address comes first."""
        if len(self._hops) > 1 and self._hops[0] == hop:
            self._hops = [*self._hops[1:], hop]

    def stop(self) -> None:
        """The trunk is gone or has changed: unregister, and look no more."""
        self._task.cancel()
        self._unregister()

    async def close(self) -> None:
        """End it, and give the registrar a moment to hear of it."""
        self.stop()
        await asyncio.gather(self._task, return_exceptions=True)
        until = self._now() + _UNREGISTER_WITHIN
        while self._unregistering() and self._now() < until:  # noqa: ASYNC110  # it tells no event
            await asyncio.sleep(0.02)

    def _unregistering(self) -> bool:
        return self._registration is not None and not self._registration.finished

    async def _live(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                await self._reach()
            except (OSError, LookupError, TimeoutError, StoreUnavailable, CommitUnknown) as error:
                reason = str(error) or type(error).__name__
                log.warning("trunk not reached", trunk=self.trunk.name, reason=reason)
                self._board.barred(self.trunk.name, Bar.UNREACHABLE)
                self.tried.set()
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                wait = _FIRST_WAIT
                self.tried.set()
                await self._while_ready(self.trunk.ping_every or _LOCATE_EVERY)

    async def _while_ready(self, seconds: float) -> None:
        """Wait; a connection that is lost ends it."""
        until = self._now() + seconds
        while self._tell_board() and self._now() < until:  # noqa: ASYNC110  # neither tells an event
            await asyncio.sleep(min(_NOTICE_WITHIN, seconds))

    def _tell_board(self) -> bool:
        """Whether what is sent leaves at once; the board learns it, and whether we are registered."""
        ready, one = self._ready(), self._registration
        if not ready:
            self._board.barred(self.trunk.name, Bar.UNREACHABLE)
        elif one is not None and not one.registered:
            self._board.barred(self.trunk.name, Bar.UNREGISTERED, one.error)
        else:
            self._board.barred(self.trunk.name, None)
        self._say_registration()
        return ready

    def _ready(self) -> bool:
        hop = self.hop()
        return hop is not None and self._endpoint.ready(hop)

    async def _reach(self) -> None:
        found = await self._resolver.locate(target_of(self.trunk, self._endpoint.families))
        if set(found) != set(self._hops):
            self._hops = found
            self._endpoint.meet(self.hosts())
        await self._announce_us()
        if self.trunk.transport != "udp":
            await self._connect()
        if self.trunk.registers:
            self._keep_registered()
        self._tell_board()
        if self.trunk.ping_every:
            await self._ping()

    def _sent_by(self, hop: Hop) -> str | None:
        """What our Via says now; None: this machine has no way there."""
        try:
            return sent_by(self._endpoint, hop)
        except OSError:
            return None

    async def _announce_us(self) -> None:
        """Who takes over when we die cancels what rings in our name. Raises `StoreUnavailable`."""
        ours = {hop.host: sent_by(self._endpoint, hop) for hop in self._hops}
        if ours != self._announced:
            await self._announce(ours)
            self._announced = ours

    async def _ping(self) -> None:
        """OPTIONS to the first address; where it is dead, the next one is first from now on."""
        hop = self._hops[0]
        status, _ = await ping(self._endpoint, self.trunk, hop)
        self._board.pinged(self.trunk.name, status, self._now())
        if status is None:
            self.moved_on(hop)

    def _keep_registered(self) -> None:
        """At one of the trunk's addresses; at another one when that is none of them any more."""
        if self._registration is not None and self._registration.account.hop in self._hops:
            return
        self._unregister()
        self._register(self._hops[0])

    def _say_registration(self) -> None:
        """Log what has become of it, when that is news."""
        one = self._registration
        said = "" if one is None else "registered" if one.registered else one.error
        if not said or said == self._said:
            return
        self._said = said
        if said == "registered":
            log.info("trunk registered", trunk=self.trunk.name)
        else:
            log.warning("trunk not registered", trunk=self.trunk.name, reason=said)

    def _register(self, hop: Hop) -> None:
        self._registration = registration = Registration(account(self._endpoint, self.trunk, hop))
        self._endpoint.begin(registration, registration.start(self._now()), _ignore)

    def _unregister(self) -> None:
        registration = self._registration
        if registration is not None:
            self._endpoint.perform(registration, registration.stop(self._now()))

    async def _connect(self) -> None:
        """A connection to the first address that takes one."""
        fault: Exception | None = None
        for hop in list(self._hops):
            try:
                await self._endpoint.connect(hop, server_name=self.trunk.host)
            except OSError as error:
                fault = error
            else:
                self._hops = [hop, *(other for other in self._hops if other != hop)]
                return
        raise ConnectionError(
            f"no connection over {self.trunk.transport}: {fault or 'no address'}"
        ) from fault

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def ping(endpoint: Endpoint, trunk: Trunk, hop: Hop) -> tuple[int | None, float]:
    """Send OPTIONS: the status that came (None: nothing did) and the seconds that it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    one = OptionsPing(account(endpoint, trunk, hop, timeout=_PING_WITHIN))
    endpoint.begin(one, one.start(began), _ignore)
    while not one.finished:  # noqa: ASYNC110  # the state machine tells no event
        await asyncio.sleep(0.01)
    return (one.status if one.answered else None), loop.time() - began


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of an OPTIONS. `status` None: no answer, after `seconds`."""

    hop: Hop
    status: int | None
    seconds: float


async def probe(trunk: Trunk, tls: ssl.SSLContext | None = None) -> Probe:
    """Ask a trunk for a sign of life, from a port of our own.

    Raises `LookupError` where its address cannot be found, `OSError` where no connection comes about,
    `SwitchError` where this machine has no way there.
    """
    (hop, *_) = await Resolver().locate(target_of(trunk))
    endpoint = Endpoint([("::" if ":" in hop.host else "0.0.0.0", 0)], tls=tls)  # noqa: S104  # any way out
    await endpoint.start()
    try:
        if hop.transport != "udp":
            await endpoint.connect(hop, server_name=trunk.host)
        return Probe(hop, *await ping(endpoint, trunk, hop))
    finally:
        await endpoint.close()


def account(endpoint: Endpoint, trunk: Trunk, hop: Hop, *, timeout: float = 32.0) -> Account:
    """Who we are at a trunk, for REGISTER and OPTIONS."""
    host = bracketed(trunk.host)
    contact_host, contact_port = endpoint.contact(hop)
    over = transport_of(hop)
    port = f":{trunk.port}" if trunk.port else ""
    return Account(
        hop=hop,
        uri=f"sip:{host}{port}{over}",
        aor=f"sip:{trunk.username or 'outdial'}@{trunk.from_domain or host}",
        contact=f"sip:{trunk.username or 'outdial'}@{bracketed(contact_host)}:{contact_port}{over}",
        via=sent_by(endpoint, hop),
        call_id=secrets.token_hex(16),
        from_tag=secrets.token_hex(8),
        route=route_of(trunk, over),
        credentials=credentials_of(trunk),
        timeout=timeout,
    )


def _ignore(effect: Effect) -> None:
    """Registrations and pings tell nothing: they are looked at."""


def target_of(trunk: Trunk, families: tuple[str, ...] = ("A", "AAAA")) -> Target:
    """What is to be located: the outbound proxy where there is one, else the trunk's host."""
    if trunk.outbound_proxy is None:
        return Target(trunk.host, trunk.port, trunk.transport, families)
    host, _, port = trunk.outbound_proxy.rpartition(":")
    if host and port.isdigit() and not host.endswith(":"):
        return Target(host.removeprefix("[").removesuffix("]"), int(port), trunk.transport, families)
    return Target(trunk.outbound_proxy.removeprefix("[").removesuffix("]"), None, trunk.transport, families)
