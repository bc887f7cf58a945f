"""Accepting connections: as many as there are descriptors for, and never all of them from one address.

A loop's own server would take what comes until accept fails for want of a descriptor (EMFILE), and the store
and the files of the process with it; and it counts no connection whose TLS handshake goes on. So the socket
is accepted from here, and a connection has its place from its first moment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import ssl
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from outdial.metrics import HTTP_REFUSALS
from outdial.throttle import source
from outdial.web.edge import EdgeProtocol
from outdial.web.guard import Fault
from outdial.web.limits import EdgeLimits

RESERVE = 128
"""Descriptors that are kept for the store, the files of the process, and those who are being refused."""

MOST = 16_384
"""Connections of one process, however many descriptors it may have: some 20 kB of memory each."""

_AT_ONCE = 64  # accepted before the requests that are here go on
_REFUSED_AT_ONCE = 64  # who are given time to read why
_UNSENT = 128 * 1024  # bytes of answers that the kernel takes from us (it counts twice as many)
_LATER = 5.0  # seconds that the kernel waits on: our own bound comes first, because it tells the client
_PAUSE = 0.2  # seconds without accepting, when the system has no descriptor or no memory
_SAY_EVERY = 5.0  # seconds

_FULL = Fault(503, "the server has as many connections as it takes: try again later, or another server")
_GREEDY = Fault(429, "too many connections from this address: close some, or use those that are open")

log = structlog.get_logger()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Places:
    """How many connections a process takes: in all, and from one address that is in none of `exempt`."""

    total: int
    each: int
    exempt: Sequence[Network] = ()

    @classmethod
    def of_process(cls, exempt: Sequence[Network] = ()) -> Places:
        """What the limit of descriptors leaves, which is raised as far as needed and allowed.

        An address gets a quarter of the places. `exempt` are proxies, which speak for many.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < min(hard, MOST + RESERVE):
            soft = min(hard, MOST + RESERVE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        total = min(MOST, max(soft - RESERVE, soft // 2))
        return cls(total, max(1, total // 4), exempt)


class Acceptor:
    """Takes connections from a listening socket; `connection(leave)` makes the protocol of each.

    The protocol calls `leave` when its connection is lost. `refused` makes the bytes of a refusal.
    """

    def __init__(
        self,
        sock: socket.socket,
        places: Places,
        connection: Callable[[Callable[[], None]], EdgeProtocol],
        refused: Callable[[Fault], bytes],
        *,
        tls: ssl.SSLContext | None,
        limits: EdgeLimits,
    ) -> None:
        self._sock = sock
        self._places = places
        self._connection = connection
        self._refused = refused
        self._tls = tls
        self._linger = limits.linger
        self._write = limits.write
        self._within = (
            {"ssl_handshake_timeout": limits.handshake, "ssl_shutdown_timeout": limits.linger} if tls else {}
        )
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._by_source: Counter[str] = Counter()
        self._attended: set[asyncio.Task[None]] = set()
        self._leaving: deque[socket.socket] = deque()
        self._resume: asyncio.TimerHandle | None = None
        self._unsaid: Counter[str] = Counter()
        self._said = float("-inf")

    def start(self) -> None:
        """Accept from now on."""
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more, and close the listening socket; the connections live on."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for task in self._attended:
            task.cancel()
        while self._leaving:
            self._leaving.popleft().close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                conn, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            conn.setblocking(False)
            self._bound(conn)
            self._seat(conn, address[0])

    def _bound(self, conn: socket.socket) -> None:
        """What the kernel keeps of answers that are not taken: how much, and how long after no byte goes on.

        It would keep megabytes, and for minutes after we have closed.
        """
        with suppress(OSError):  # gone already
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT)
            if sys.platform == "linux":
                conn.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round((self._write + _LATER) * 1000)
                )

    def _pause(self, error: OSError) -> None:
        """The system gives us none: those who wait stay in its queue, and the rest of us goes on."""
        log.error("accepts no connection", reason=error.strerror, connections=self._taken)
        self._loop.remove_reader(self._sock)
        self._resume = self._loop.call_later(_PAUSE, self.start)

    def _seat(self, conn: socket.socket, address: str) -> None:
        origin = source(address)
        if self._taken >= self._places.total:
            self._refuse(conn, _FULL)
            return
        if self._by_source[origin] >= self._places.each and not self._is_exempt(address):
            self._refuse(conn, _GREEDY)
            return
        self._taken += 1
        self._by_source[origin] += 1
        task = self._loop.create_task(self._attend(conn, origin))
        self._attended.add(task)
        task.add_done_callback(self._attended.discard)

    async def _attend(self, conn: socket.socket, origin: str) -> None:
        connection = self._connection(lambda: self._leave(origin))
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                conn,
                ssl=self._tls,
                **self._within,
            )
        except OSError:  # a handshake that failed or took too long, or a client that has gone
            conn.close()
        finally:
            if not connection.made:
                self._leave(origin)

    def _leave(self, origin: str) -> None:
        self._taken -= 1
        self._by_source[origin] -= 1
        if not self._by_source[origin]:
            del self._by_source[origin]

    def _is_exempt(self, address: str) -> bool:
        found = ipaddress.ip_address(address.partition("%")[0])
        return any(found in network for network in self._places.exempt)

    def _refuse(self, conn: socket.socket, fault: Fault) -> None:
        """Say why, where TLS does not stand between, and part; some have the time to read it."""
        HTTP_REFUSALS.add(str(fault.status))
        self._say(fault)
        if self._tls is not None or len(self._leaving) >= _REFUSED_AT_ONCE:
            conn.close()
            return
        with suppress(OSError):
            conn.send(self._refused(fault))
            conn.shutdown(socket.SHUT_WR)
        self._leaving.append(conn)
        self._loop.call_later(self._linger, self._part)

    def _part(self) -> None:
        if self._leaving:
            self._leaving.popleft().close()

    def _say(self, fault: Fault) -> None:
        """One line for many: who is refused must not fill the log."""
        self._unsaid[str(fault.status)] += 1
        if self._loop.time() - self._said >= _SAY_EVERY:
            log.warning("connections refused", connections=self._taken, by_status=dict(self._unsaid))
            self._unsaid.clear()
            self._said = self._loop.time()
