"""Sockets and timers of the user agent: bytes from the network to calls, what calls say to the network.

Who is no peer of ours gets no answer at all; a peer's requests outside a dialog get 200 (OPTIONS), 481 or
405. Over TCP and TLS we connect and never listen: our Contact names the connection's own port, so that the
far end's requests come back over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import structlog

from outdial.errors import SwitchError
from outdial.sip.connection import Stream
from outdial.sip.datagrams import Datagrams, family_of
from outdial.sip.framing import Malformed
from outdial.sip.message import (
    BadRequest,
    ParseError,
    Request,
    Response,
    parse,
    response_to,
)
from outdial.sip.timers import Timers
from outdial.sip.words import T1, Effect, Hop, Transmit

log = structlog.get_logger()

ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE"

_BACKLOG: Final = 64 << 10
"""Bytes that may wait for a peer that does not read before nothing new is sent to it."""

_LONGEST_WAIT: Final = 4 << 20
"""Bytes that may wait for a connection: the BYEs of 5,000 calls."""

_REMEMBERED: Final = 1024
"""Addresses of peers about which something is remembered."""

_CONNECT_WITHIN: Final = 4.0
"""Seconds for a connection and its TLS handshake."""


class Conversation(Protocol):
    """What lives on an endpoint: a call, a registration, a ping. Times are monotonic seconds."""

    call_id: str

    def receive(self, message: Request | Response, now: float, source: Hop) -> list[Effect]:
        """Hear a message with our Call-ID."""
        ...

    def poll(self, now: float) -> list[Effect]:
        """Do what is due."""
        ...

    def wake_at(self) -> float | None:
        """When `poll` is due next. A time nearer than T1 may be missed, by T1 at most."""
        ...

    def unreachable(self, hop: Hop, now: float) -> list[Effect]:
        """The way to this hop failed."""
        ...

    @property
    def finished(self) -> bool:
        """Nothing more can come."""
        ...


Hear = Callable[[Effect], None]


@dataclass(slots=True)
class _Entry:
    """A conversation that lives here, and when it is looked at next."""

    conversation: Conversation
    hear: Hear
    look_at: float = float("inf")


class Endpoint:
    """The sockets of one engine, and the conversations on them."""

    def __init__(
        self,
        listen: Collection[tuple[str, int]],
        *,
        external: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`listen`: local addresses and ports for UDP. `external`: ours as peers see it, behind a NAT."""
        self._listen = tuple(listen)
        self._external = external
        self._tls = tls
        self.counts: Counter[str] = Counter()
        self._udp = Datagrams(self._hear, self.counts)
        self._streams: dict[Hop, Stream] = {}
        self._connecting: dict[Hop, asyncio.Task[None]] = {}
        self._waiting: dict[Hop, bytes] = {}
        self._names: dict[Hop, asyncio.Task[None]] = {}
        self._conversations: dict[str, _Entry] = {}
        self.timers = Timers(self._look)
        self._peers: frozenset[str] = frozenset()
        self.on_stray: Callable[[Response, Hop], None] = lambda response, source: None
        """Hears a peer's 2xx to an INVITE of no conversation: a call that a predecessor placed."""
        self._loop: asyncio.AbstractEventLoop

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind the sockets. Raises `SwitchError` where an address cannot be had."""
        self._loop = asyncio.get_running_loop()
        self.timers.start(self._loop)
        for host, port in self._listen:
            try:
                self._udp.bind(host, port)
            except OSError as error:
                await self.close()
                raise SwitchError(f"sip_listen: {host} port {port}: {error.strerror or error}") from error

    async def close(self) -> None:
        """Close every socket. What still talks is cut off: hang up before."""
        self.timers.close()
        for task in (*self._connecting.values(), *self._names.values()):
            task.cancel()
        for stream in list(self._streams.values()):
            stream.transport.abort()
        self._udp.close()
        self._streams.clear()
        self._conversations.clear()

    @property
    def families(self) -> tuple[str, ...]:
        """The DNS types of the addresses that we can send to."""
        return self._udp.families

    # -- our own addresses -----------------------------------------------------------------------------

    def local(self, hop: Hop) -> tuple[str, int]:
        """Our address and port as this hop sees them: in Via and, for UDP, in Contact."""
        bound = self._udp.bound.get(family_of(hop.host))
        if bound is None:
            raise SwitchError(f"no address of sip_listen has the family of {hop.host}")
        host, port = bound
        if host in ("0.0.0.0", "::"):  # noqa: S104
            host = self._external or _address_towards(hop)
        return self._external or host, port

    def contact(self, hop: Hop) -> tuple[str, int]:
        """Where requests of the far end reach us: over TCP and TLS the connection itself."""
        stream = self._streams.get(hop)
        if hop.transport == "udp" or stream is None:
            return self.local(hop)
        host, port = stream.transport.get_extra_info("sockname")[:2]
        return host, port

    # -- conversations ---------------------------------------------------------------------------------

    def ready(self, hop: Hop) -> bool:
        """Whether something sent to this hop leaves at once."""
        if hop.transport == "udp":
            return hop.host in self._udp
        stream = self._streams.get(hop)
        return stream is not None and stream.transport.get_write_buffer_size() <= _BACKLOG

    def begin(self, conversation: Conversation, effects: Iterable[Effect], hear: Hear) -> None:
        """Take a conversation in and do its first effects; `hear` gets what is no `Transmit`."""
        self._conversations[conversation.call_id] = _Entry(conversation, hear)
        self.perform(conversation, effects)

    def perform(self, conversation: Conversation, effects: Iterable[Effect]) -> None:
        """Do what a conversation asks; what it tells is heard after all of it was sent.

        While we are held, an INVITE (again with credentials, say) counts as lost on the way: timer A sends
        it again once we know that nobody has taken over its call.
        """
        told: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Transmit):
                if not (self.timers.held and effect.data.startswith(b"INVITE ")):
                    self._send(effect.data, effect.hop)
            else:
                told.append(effect)
        entry = self._conversations.get(conversation.call_id)
        if entry is None:
            return
        if conversation.finished:
            del self._conversations[conversation.call_id]
        elif entry.look_at > self._loop.time() + T1:
            self._arm(entry)
        for effect in told:
            entry.hear(effect)

    def __len__(self) -> int:
        """Conversations that are not finished."""
        return len(self._conversations)

    def know(self, hosts: Iterable[str]) -> None:
        """Whose requests are answered: the IP addresses of our trunks."""
        self._peers = frozenset(hosts)

    def meet(self, hosts: Iterable[str]) -> None:
        """Some more of them, at once: what a predecessor left may speak first."""
        self._peers |= frozenset(hosts)

    # -- timers ----------------------------------------------------------------------------------------

    def _arm(self, entry: _Entry) -> None:
        """See that it is looked at in time; one look too many is cheaper than to take back each."""
        at = entry.conversation.wake_at()
        if at is not None and at < entry.look_at:
            entry.look_at = at
            self.timers.set(at, entry.conversation.call_id)

    def _look(self, call_id: str, at: float, now: float) -> None:
        entry = self._conversations.get(call_id)
        if entry is None or entry.look_at != at:
            return
        entry.look_at = float("inf")
        due = entry.conversation.wake_at()
        if due is not None and due <= now:
            self.perform(entry.conversation, entry.conversation.poll(now))
        else:
            self._arm(entry)

    # -- receiving -------------------------------------------------------------------------------------

    def _hear(self, data: bytes, source: Hop) -> None:
        try:
            self._receive(parse(data), source)
        except ParseError as error:
            self._malformed(error.request if isinstance(error, BadRequest) else None, source)

    def _malformed(self, request: Request | None, source: Hop) -> None:
        """Count it. A peer's request that can be answered gets 400 (RFC 3261 §8.2); an ACK never does."""
        self.counts["malformed"] += 1
        if request is not None and source.host in self._peers and request.method != "ACK":
            self._send(response_to(request, 400, "Bad Request").to_bytes(), source)

    def _receive(self, message: Request | Response, source: Hop) -> None:
        entry = self._conversations.get(message.call_id)
        if entry is not None:
            conversation, now = entry.conversation, self._loop.time()
            self.timers.notice(now)
            self.perform(conversation, conversation.receive(message, now, source))
            return
        self.counts["strays"] += 1
        if source.host not in self._peers:
            return
        if isinstance(message, Response):
            if message.status // 100 == 2 and message.cseq[1] == "INVITE":
                self.on_stray(message, source)
        elif message.method != "ACK":
            self._send(self._refusal(message).to_bytes(), source)

    def _refusal(self, request: Request) -> Response:
        """To a peer's request that belongs to nothing of ours: we take no calls."""
        tag = None if request.to_tag else "outdial"
        if request.method == "OPTIONS" and tag:
            return response_to(request, 200, "OK", to_tag=tag, headers=[("Allow", ALLOW)])
        if request.to_tag or request.method == "CANCEL":
            return response_to(request, 481, "Call/Transaction Does Not Exist", to_tag=tag)
        return response_to(request, 405, "Method Not Allowed", to_tag=tag, headers=[("Allow", ALLOW)])

    # -- sending ---------------------------------------------------------------------------------------

    def _send(self, data: bytes, hop: Hop) -> None:
        if not _is_literal(hop.host):
            self._look_up(data, hop)
        elif hop.transport == "udp":
            self._send_datagram(data, hop)
        elif hop in self._streams:
            self._streams[hop].transport.write(data)
        else:
            self._connect_for(data, hop)

    def _send_datagram(self, data: bytes, hop: Hop) -> None:
        try:
            self._udp.send(data, hop.host, hop.port)
        except OSError as error:
            log.warning("SIP not sent", hop=hop.host, reason=str(error))
            self._loop.call_soon(self._failed, hop)

    def _look_up(self, data: bytes, hop: Hop) -> None:
        """A name in a Contact or Route of the far end: rare, and only on the way to an end of a call."""

        async def resolve() -> None:
            try:
                async with asyncio.timeout(_CONNECT_WITHIN):
                    found = await self._loop.getaddrinfo(hop.host, hop.port, type=socket.SOCK_DGRAM)
                self._send(data, Hop(hop.transport, str(found[0][4][0]), hop.port))
            except (OSError, TimeoutError):
                self._failed(hop)

        task = self._loop.create_task(resolve())
        self._names[hop] = task
        task.add_done_callback(lambda _: self._names.pop(hop, None))

    def _failed(self, hop: Hop) -> None:
        now = self._loop.time()
        for entry in list(self._conversations.values()):
            self.perform(entry.conversation, entry.conversation.unreachable(hop, now))

    # -- TCP and TLS -----------------------------------------------------------------------------------

    async def connect(self, hop: Hop, *, server_name: str | None = None) -> None:
        """Have a connection to this hop. Raises `OSError` (with `ssl.SSLError` and `TimeoutError` among it).

        `server_name` is what the certificate must name: the trunk's host.
        """
        if hop in self._streams:
            return
        context = self._tls or ssl.create_default_context() if hop.transport == "tls" else None
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                await self._loop.create_connection(
                    lambda: Stream(hop, self._receive_stream, self._stream_lost),
                    hop.host,
                    hop.port,
                    ssl=context,
                    server_hostname=(server_name or hop.host) if context else None,
                )
        except OSError:
            self.counts["connections failed"] += 1
            raise

    def _receive_stream(self, stream: Stream, data: bytes) -> None:
        try:
            messages = stream.parser.feed(data)
        except ParseError:
            self.counts["malformed"] += 1
            stream.transport.abort()
            return
        for message in messages:
            if isinstance(message, Malformed):
                self._malformed(message.request, stream.hop)
                continue
            try:
                self._receive(message, stream.hop)
            except ParseError:
                self._malformed(None, stream.hop)

    def _stream_lost(self, stream: Stream, *, lost: bool) -> None:
        if not lost:
            self._streams[stream.hop] = stream
        elif self._streams.get(stream.hop) is stream:
            del self._streams[stream.hop]
            self._failed(stream.hop)

    def _connect_for(self, data: bytes, hop: Hop) -> None:
        """Something for the far end's own Contact, where no connection is yet. Nothing over TCP is resent."""

        async def go() -> None:
            try:
                await self.connect(hop)
                self._streams[hop].transport.write(self._waiting[hop])
            except OSError as error:
                log.warning("SIP connection failed", hop=hop.host, port=hop.port, reason=str(error))
                self._failed(hop)
            finally:
                del self._waiting[hop]

        waiting = self._waiting.get(hop, b"")
        if len(waiting) > _LONGEST_WAIT:
            self.counts["dropped while connecting"] += 1
            return
        self._waiting[hop] = waiting + data
        if hop in self._connecting:
            return
        task = self._loop.create_task(go())
        self._connecting[hop] = task
        task.add_done_callback(lambda _: self._connecting.pop(hop, None))


@lru_cache(_REMEMBERED)
def _is_literal(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _address_towards(hop: Hop) -> str:
    """The local address from which the system would send to this hop."""
    family = family_of(hop.host)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((hop.host, hop.port))
        return str(probe.getsockname()[0])
