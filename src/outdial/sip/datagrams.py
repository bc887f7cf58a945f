"""UDP for signalling: our sockets, one of each family."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from outdial.sip.words import Hop

_DRAIN: Final = 64
"""Datagrams read in one turn of the loop: one costs 23 us by itself and 2 us in a burst (telephony.md §1)."""

_BUFFER: Final = 4 << 20
"""Bytes asked of the system for datagrams that wait (it may give less)."""

_REMEMBERED: Final = 1024
"""Addresses of peers about which something is remembered."""


class Datagrams:
    """The UDP sockets of an endpoint. `hear` gets each datagram but keep-alives, and where it is from."""

    def __init__(self, hear: Callable[[bytes, Hop], None], counts: Counter[str]) -> None:
        self._hear = hear
        self._counts = counts
        self._sockets: dict[int, socket.socket] = {}
        self._loop: asyncio.AbstractEventLoop
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
        self._sockets[family] = sock
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._drain, sock)

    def close(self) -> None:
        """Close every socket."""
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
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
        sock = self._sockets.get(family_of(host))
        if sock is None:
            raise OSError("no socket of this family")
        try:
            sock.sendto(data, (host, port))
        except BlockingIOError:
            self._counts["send buffer full"] += 1

    def _drain(self, sock: socket.socket) -> None:
        for _ in range(_DRAIN):
            try:
                data, address = sock.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier datagram; the transaction's timers see to it
                if sock.fileno() == -1:  # closed by who heard the last one
                    return
                self._counts["socket errors"] += 1
                continue
            if len(data) <= 4 and not data.strip(b"\r\n\0"):
                continue  # a keep-alive
            self._hear(data, _source(address[0], address[1]))


@lru_cache(_REMEMBERED)
def _source(host: str, port: int) -> Hop:
    return Hop("udp", host, port)


def family_of(host: str) -> socket.AddressFamily:
    """Of an IP literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
