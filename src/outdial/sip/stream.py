"""What an RTP stream carries, without a socket: packets, losses, keys, frames.

RFC 3550 (RTP), RFC 4733 (telephone events). Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

from outdial.g711 import FRAME, RATE, SILENCE

HEADER: Final = struct.Struct("!BBHII")
"""Version and flags, marker and payload type, sequence number, timestamp, SSRC (RFC 3550 §5.1)."""

MARKER: Final = 0x80
VERSION: Final = 0x80

KEY_PAUSE: Final = 0.2
"""Seconds without a word of a key after which it was released, though no end of it came."""

_EVENT: Final = struct.Struct("!BBH")
_KEYS: Final = "0123456789*#ABCD"
_TIME: Final = 1 << 32
_VOLUME: Final = 10  # -10 dBm0
_LONGEST_PRESS: Final = 8000  # ms: a duration has 16 bits
_FED: Final = 6
_MISORDER: Final = 100
_DROPOUT: Final = 3000


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> Packet | None:
    """The packet in a datagram, or None: not RTP of version 2, or cut short (RFC 3550 §5, §A.1)."""
    if len(data) < HEADER.size or data[0] & 0xC0 != VERSION:
        return None
    flags, kind, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    start, end = HEADER.size + 4 * (flags & 0x0F), len(data)
    if flags & 0x10:  # a header extension, its length in words after two bytes of profile
        if end < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    if flags & 0x20:  # padding, its length in the last byte
        end -= data[-1]
    if end < start or (flags & 0x20 and data[-1] == 0):
        return None
    return Packet(kind >= MARKER, kind & 0x7F, sequence, timestamp, ssrc, data[start:end])


def _after(later: int, earlier: int, size: int) -> int:
    """How far `later` lies after `earlier`, both counted modulo `size`; negative when before."""
    return (later - earlier + size // 2) % size - size // 2


class Reception:
    """Packets received and lost, by sequence numbers (RFC 3550 §A.1, §A.3).

    A jump of 3,000 and more, or back by 100 and more, is a source that began anew, not a loss.
    """

    def __init__(self) -> None:
        self._lost = 0  # of earlier spans
        self._ssrc: int | None = None
        self._first = 0
        self._highest = 0
        self._seen = 0

    @property
    def lost(self) -> int:
        """Packets that should have come and did not. A duplicate makes up for a loss, as in RFC 3550."""
        return self._lost + self._missing()

    def count(self, packet: Packet) -> None:
        """Note one packet."""
        step = _after(packet.sequence, self._highest & 0xFFFF, 1 << 16)
        if packet.ssrc != self._ssrc or not -_MISORDER < step < _DROPOUT:
            self.interrupt()
            self._ssrc = packet.ssrc
            self._first = self._highest = packet.sequence
        else:
            self._highest = max(self._highest, self._highest + step)
        self._seen += 1

    def interrupt(self) -> None:
        """From here packets may go by unseen: the next one is the first of a new span."""
        self._lost += self._missing()
        self._ssrc = None
        self._seen = 0

    def _missing(self) -> int:
        return max(0, self._highest - self._first + 1 - self._seen) if self._ssrc is not None else 0


# -- keys ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was pressed and released, and for how many milliseconds it was held."""

    key: str
    milliseconds: int


@dataclass(slots=True)
class _Press:
    """A key that is down, as far as is known."""

    code: int
    ssrc: int
    timestamp: int
    segment: int  # the timestamp of its latest segment
    duration: int
    seen_at: float


class Keypad:
    """Keys out of telephone events (RFC 4733 §2).

    A press has one timestamp, which tells the packets of one key from those of the next. It counts once: at
    its first packet with the end flag, of which three copies are sent; when another press begins; or when
    nothing was heard of it for `KEY_PAUSE`. The reserved bit is ignored. A long press that the sender cuts
    into segments with timestamps of their own (§2.5.1.3) is one press: the segments have no marker.
    """

    def __init__(self) -> None:
        self._down: _Press | None = None
        self._counted: deque[tuple[int, int]] = deque(maxlen=8)  # SSRC and timestamp

    @property
    def is_down(self) -> bool:
        """A key waits for its end."""
        return self._down is not None

    def hear(self, packet: Packet, now: float) -> list[Key]:
        """The keys that this event ends, in the order of pressing."""
        if len(packet.payload) < _EVENT.size:
            return []
        code, flags, duration = _EVENT.unpack_from(packet.payload)
        if code >= len(_KEYS) or (packet.ssrc, packet.timestamp) in self._counted:
            return []
        keys = [] if self._goes_on(packet, code) else self._release()
        self._note(packet, code, duration, now)
        return keys + self._release() if flags & 0x80 else keys

    def expire(self, now: float) -> list[Key]:
        """The key whose end did not come, once the pause is over."""
        if self._down is None or now - self._down.seen_at < KEY_PAUSE:
            return []
        return self._release()

    def _goes_on(self, packet: Packet, code: int) -> bool:
        down = self._down
        if down is None or (down.code, down.ssrc) != (code, packet.ssrc):
            return False
        return down.timestamp == packet.timestamp or not packet.marker

    def _note(self, packet: Packet, code: int, duration: int, now: float) -> None:
        if self._down is None:
            self._down = _Press(code, packet.ssrc, packet.timestamp, packet.timestamp, duration, now)
            return
        since = _after(packet.timestamp, self._down.timestamp, _TIME)
        self._down.duration = max(self._down.duration, since + duration)
        self._down.segment = packet.timestamp
        self._down.seen_at = now

    def _release(self) -> list[Key]:
        down, self._down = self._down, None
        if down is None:
            return []
        self._counted.extend({(down.ssrc, down.timestamp), (down.ssrc, down.segment)})
        return [Key(_KEYS[down.code], down.duration * 1000 // RATE)]


# -- frames ----------------------------------------------------------------------------------------------


class Framer:
    """Frames of 20 ms out of µ-law of packets of any length, in the order of their timestamps.

    What is missing is silence; what comes too late is left out. A jump of a second and more, or a source
    that began anew, is not filled.
    """

    def __init__(self) -> None:
        self._next: int | None = None
        self._ssrc = 0
        self._held = b""

    def hear(self, packet: Packet, ulaw: bytes) -> list[bytes]:
        """The frames that this packet completes."""
        if self._next is None or packet.ssrc != self._ssrc:
            self._next, self._ssrc = packet.timestamp, packet.ssrc
        gap = _after(packet.timestamp, self._next, _TIME)
        if -_LATE < gap < 0:
            return []
        if not 0 <= gap < RATE:
            gap = 0
        self._next = (packet.timestamp + len(ulaw)) % _TIME
        return self._cut(SILENCE * gap + ulaw)

    def fill(self) -> list[bytes]:
        """A frame of silence, because nothing came; none before the first packet."""
        if self._next is None:
            return []
        self._next = (self._next + FRAME) % _TIME
        return self._cut(SILENCE * FRAME)

    def _cut(self, ulaw: bytes) -> list[bytes]:
        held = self._held + ulaw
        whole = len(held) - len(held) % FRAME
        self._held = held[whole:]
        return [held[at : at + FRAME] for at in range(0, whole, FRAME)]


_LATE: Final = RATE // 5
"""A packet that is late by as many samples is not late: its source's timestamps began anew."""


class Feed:
    """Frames on their way out again: two are gathered before the first leaves, against the jitter of the way
    in; of more than `_FED` the oldest is dropped.
    """

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque(maxlen=_FED)
        self._flows = False

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: bytes) -> None:
        """The next one."""
        self._frames.append(frame)
        self._flows = self._flows or len(self._frames) > 1

    def take(self) -> bytes:
        """The one whose turn it is, or nothing."""
        self._flows = self._flows and bool(self._frames)
        return self._frames.popleft() if self._flows else b""


def pressing(key: str, milliseconds: int) -> list[tuple[bytes, bool]]:
    """The telephone events of one key, 20 ms apart, each with whether it is the first (RFC 4733 §2.5.1).

    The last is sent three times, with the end flag.
    """
    most = max(1, min(milliseconds, _LONGEST_PRESS) * RATE // (1000 * FRAME))
    events = [_EVENT.pack(_KEYS.index(key), _VOLUME, n * FRAME) for n in range(1, most)]
    events += [_EVENT.pack(_KEYS.index(key), _VOLUME | 0x80, most * FRAME)] * 3
    return [(event, n == 0) for n, event in enumerate(events)]
