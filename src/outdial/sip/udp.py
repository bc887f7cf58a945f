"""UDP sockets for audio: the range of their ports, and what Linux can do for them."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from array import array
from collections.abc import Collection
from typing import Final

_LINUX: Final = sys.platform == "linux"
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_MEMINFO = 26, 27, 55  # asm-generic/socket.h
_BPF: Final = struct.Struct("HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_MEMINFO: Final = struct.Struct("9I")
_MEMINFO_DROPS: Final = 8


class MediaError(Exception):
    """Audio cannot be set up: no free port, or an address that cannot be sent to."""


class PortRange:
    """Even ports of one local address, given out in turn, so that a port rests before it is used again."""

    def __init__(self, address: str, first: int, last: int) -> None:
        """Ports `first` to `last`, both counted. Raises `MediaError` when no even one is among them."""
        self._address = address
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._ports = range(first + first % 2, last + 1, 2)
        self._next = 0
        self._sockets: dict[int, socket.socket] = {}
        if not self._ports or not 0 < first <= last <= 65_535:
            raise MediaError(
                f"RTP ports {first} to {last}: they must hold an even port and lie within 1 to 65535"
            )

    def allocate(self) -> socket.socket:
        """A UDP socket bound to the next free port; closing it gives the port back.

        Raises `MediaError` when all are taken or the address is not one of this machine.
        """
        for _ in self._ports:
            port = self._ports[self._next]
            self._next = (self._next + 1) % len(self._ports)
            held = self._sockets.get(port)
            if held is not None and held.fileno() != -1:
                continue
            bound = self._bind(port)
            if bound is not None:
                self._sockets[port] = bound
                return bound
        raise MediaError(
            f"all {len(self._ports)} RTP ports of {self._address}, {self._ports[0]} to {self._ports[-1]},"
            " are taken: widen the range or place fewer calls"
        )

    def _bind(self, port: int) -> socket.socket | None:
        """The bound socket, or None when another program has the port."""
        try:
            bound = socket.socket(self._family, socket.SOCK_DGRAM)
        except OSError as error:
            raise MediaError(f"no socket for RTP: {error.strerror}") from error
        try:
            bound.setblocking(False)
            if self._family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((self._address, port))
        except OSError as error:
            bound.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return None
            raise MediaError(f"RTP address {self._address}: {error.strerror}") from error
        return bound


# -- the socket filter -----------------------------------------------------------------------------------


def attach_filter(sock: socket.socket, payload_types: Collection[int]) -> bool:
    """Have Linux drop what is not of these RTP payload types before it reaches the socket's queue.

    False where the system has no such filter. A classic BPF program: offsets count from the UDP header, so
    RTP's second byte is at 9. Datagrams too short for that are dropped too.
    """
    if not _LINUX:
        return False
    load = [_BPF.pack(0x30, 0, 0, 9), _BPF.pack(0x54, 0, 0, 0x7F)]
    rest = range(len(payload_types), 0, -1)  # instructions from each comparison to "accept"
    compare = [_BPF.pack(0x15, skip, 0, kind) for skip, kind in zip(rest, payload_types, strict=True)]
    end = [_BPF.pack(0x06, 0, 0, 0), _BPF.pack(0x06, 0, 0, 0xFFFF)]
    program = array("B", b"".join(load + compare + end))
    count, address = len(program) // _BPF.size, program.buffer_info()[0]
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", count, address))
    return True


def detach_filter(sock: socket.socket) -> None:
    """Let everything through again."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def dropped(sock: socket.socket) -> int:
    """Datagrams that the filter, or a full queue, has dropped so far; 0 where the system does not say."""
    if not _LINUX:
        return 0
    info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    count: int = _MEMINFO.unpack(info)[_MEMINFO_DROPS]
    return count
