"""The far end of a call's audio: a plain UDP socket that keeps what came and sends what it is told."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 10.0
PATIENCE = 0.005


@dataclass(frozen=True)
class Media:
    """What was agreed on, as `sip/sdp.py` says it."""

    address: str
    port: int
    codec: str = "PCMU"
    codec_pt: int = 0
    event_pt: int | None = 101
    direction: str = "sendrecv"


@dataclass(frozen=True)
class Got:
    """One RTP packet, read here without the code under test."""

    first: int
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    at: float
    source: tuple[str, int]


class FarEnd:
    """One address of the far end."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self.host, self.port = host, self._socket.getsockname()[1]
        self.got: list[Got] = []
        self._sequence = 1000
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        data, source = self._socket.recvfrom(4096)
        first, kind, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
        now = self._loop.time()
        self.got.append(
            Got(first, kind > 127, kind & 127, sequence, timestamp, ssrc, data[12:], now, source[:2])
        )

    @property
    def audio(self) -> bytes:
        """All payloads in the order in which they came."""
        return b"".join(packet.payload for packet in self.got)

    def media(self, **changes: object) -> Media:
        """What it signals."""
        return Media(self.host, self.port, **changes)  # type: ignore[arg-type]

    def send_raw(self, data: bytes, port: int, host: str | None = None) -> None:
        self._socket.sendto(data, (host or self.host, port))

    def send(
        self,
        port: int,
        payload: bytes = b"\xd5" * 160,
        *,
        kind: int = 0,
        timestamp: int = 0,
        marker: bool = False,
        skip: int = 0,
        host: str | None = None,
    ) -> None:
        """One packet; `skip`: so many before it were lost."""
        self._sequence += 1 + skip
        second = kind | (0x80 if marker else 0)
        head = struct.pack("!BBHII", 0x80, second, self._sequence & 0xFFFF, timestamp, 4711)
        self.send_raw(head + payload, port, host)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so. Fails after 10 seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < deadline, "it did not come to be within 10 s"
        await asyncio.sleep(PATIENCE)


def event(code: int, duration: int, *, end: bool = False, reserved: bool = False) -> bytes:
    """The payload of a telephone event (RFC 4733 §2.3)."""
    return struct.pack("!BBH", code, (0x80 if end else 0) | (0x40 if reserved else 0) | 10, duration)


def recorded(path: Path) -> Iterator[tuple[float, bytes]]:
    """Time and payload of each UDP datagram over IPv4 in a pcap file of Ethernet or Linux "any"."""
    data = path.read_bytes()
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    link = {1: 14, 113: 16}[struct.unpack_from(order + "I", data, 20)[0]]
    at = 24
    while at < len(data):
        seconds, micros, length, _ = struct.unpack_from(order + "4I", data, at)
        network = data[at + 16 + link : at + 16 + length]
        yield seconds + micros / 1e6, network[(network[0] & 15) * 4 + 8 :]
        at += 16 + length
