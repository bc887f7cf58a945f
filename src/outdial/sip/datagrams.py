"""UDP for signalling: our sockets, one of each family; what comes in alone is read at once, a flood in gulps.

A datagram that wakes the process by itself costs it 23 us, one of a burst 2 (telephony.md §1). So where many
come, the sockets are looked at every few milliseconds, and nothing wakes us in between. RFC 3261 knows no
wait that short: its T1 is half a second.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from outdial.sip.words import Hop

GULP: Final = 0.005
"""Seconds between two looks at a socket to which many datagrams come."""

_WINDOW: Final = 0.1
"""Seconds over which datagrams are counted."""

_MANY: Final = 30
_FEW: Final = 10
"""Datagrams in a window: from the one on they are read in gulps, below the other one by one."""

_DRAIN: Final = 256
"""Datagrams read in one turn of the loop: about 10 ms of work."""

_BUFFER: Final = 4 << 20
"""Bytes asked of the system for datagrams that wait (it may give less)."""

_REMEMBERED: Final = 1024
"""Addresses of peers about which something is remembered."""


class Datagrams:
    """The UDP sockets of an endpoint. `hear` gets each datagram but keep-alives, and where it is from."""

    def __init__(self, hear: Callable[[bytes, Hop], None], counts: Counter[str]) -> None:
        self._hear = hear
        self._counts = counts
        self._sockets: dict[int, _Socket] = {}
        self.bound: dict[int, tuple[str, int]] = {}
        """Our addresses and ports by their family."""

    def bind(self, host: str, port: int) -> None:
        """Listen there, on the running loop. Raises `OSError` where the address cannot be had."""
        family = family_of(host)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
        except BaseException:
            sock.close()
            raise
        self.bound[family] = sock.getsockname()[:2]
        self._sockets[family] = _Socket(sock, self._hear, self._counts)

    def close(self) -> None:
        """Close every socket."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

    def __contains__(self, host: str) -> bool:
        """Whether something can be sent to this IP literal."""
        return family_of(host) in self._sockets

    @property
    def families(self) -> tuple[str, ...]:
        """The DNS types of the addresses that we can send to."""
        kinds = {socket.AF_INET: "A", socket.AF_INET6: "AAAA"}
        return tuple(kind for family, kind in kinds.items() if family in self._sockets)

    def send(self, data: bytes, host: str, port: int) -> None:
        """Send it, unless the system's buffer is full: then it counts as lost on the way.

        Raises `OSError` where it cannot be sent.
        """
        one = self._sockets.get(family_of(host))
        if one is None:
            raise OSError("no socket of this family")
        try:
            one.sock.sendto(data, (host, port))
        except BlockingIOError:
            self._counts["send buffer full"] += 1


class _Socket:
    """One socket, and how it is read: woken by each datagram, or looked at every `GULP` seconds."""

    __slots__ = ("_counts", "_hear", "_loop", "_read", "_since", "_timer", "sock")

    def __init__(self, sock: socket.socket, hear: Callable[[bytes, Hop], None], counts: Counter[str]) -> None:
        self.sock = sock
        self._hear = hear
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._since = self._loop.time()
        self._read = 0
        self._loop.add_reader(sock, self._woken)

    def close(self) -> None:
        if self._timer is None:
            self._loop.remove_reader(self.sock)
        else:
            self._timer.cancel()
        self.sock.close()

    def _woken(self) -> None:
        now = self._loop.time()
        if now - self._since > _WINDOW:
            self._since, self._read = now, 0
        elif self._read >= _MANY:
            self._loop.remove_reader(self.sock)
            self._since, self._read = now, 0
            self._timer = self._loop.call_later(GULP, self._gulp)
        self._drain()

    def _gulp(self) -> None:
        """Read what has come; the next look is planned before, whatever becomes of this one."""
        now = self._loop.time()
        if now - self._since > _WINDOW and self._read < _FEW:
            self._timer = None
            self._loop.add_reader(self.sock, self._woken)
        else:
            self._timer = self._loop.call_later(GULP, self._gulp)
        if now - self._since > _WINDOW:
            self._since, self._read = now, 0
        self._drain()

    @property
    def _closed(self) -> bool:
        return self.sock.fileno() == -1

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            try:
                data, address = self.sock.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier datagram; the transaction's timers see to it
                if self._closed:
                    return
                self._counts["socket errors"] += 1
                continue
            self._read += 1
            if len(data) <= 4 and not data.strip(b"\r\n\0"):
                continue  # a keep-alive
            self._hear(data, _source(address[0], address[1]))


@lru_cache(_REMEMBERED)
def _source(host: str, port: int) -> Hop:
    return Hop("udp", host, port)


def family_of(host: str) -> socket.AddressFamily:
    """Of an IP literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
