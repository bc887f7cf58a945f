"""G.711: the companded samples of the telephone, as tables (ITU-T G.711; 8,000 samples a second).

µ-law is what the house keeps and plays. A-law is made of it, and read into it, one byte for one byte.
Linear samples are 16-bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

RATE: Final = 8000
"""Samples, and with G.711 bytes, of one second."""

FRAME: Final = 160
"""Bytes of 20 ms, the usual packet (RFC 3551 §4.2)."""

SILENCE: Final = b"\xff"
"""The µ-law byte of a sample of zero."""

_LIMIT: Final = 32_767


def _from_ulaw(byte: int) -> int:
    """G.711, table 2: sign, three bits of segment, four of step, all inverted."""
    code = byte ^ 0xFF
    size = (((code & 0x0F) << 3) + 132 << (code >> 4 & 7)) - 132
    return -size if code & 0x80 else size


def _from_alaw(byte: int) -> int:
    """G.711, table 1: as µ-law, but even bits inverted, a set sign is positive, and two flat segments."""
    code = byte ^ 0x55
    segment, step = code >> 4 & 7, code & 0x0F
    size = (step << 4) + 8 if segment == 0 else (step << 4) + 264 << segment - 1
    return size if code & 0x80 else -size


def _to_ulaw(sample: int) -> int:
    size = min(abs(sample), 32_635) + 132
    segment = size.bit_length() - 8
    return (0x80 if sample < 0 else 0) ^ 0xFF ^ (segment << 4 | size >> segment + 3 & 0x0F)


def _to_alaw(sample: int) -> int:
    size = min(abs(sample), _LIMIT)
    segment = max(size.bit_length() - 8, 0)
    return (0 if sample < 0 else 0x80) ^ 0x55 ^ (segment << 4 | size >> max(segment, 1) + 3 & 0x0F)


ULAW_LINEAR: Final = tuple(_from_ulaw(byte) for byte in range(256))
"""The linear sample of each µ-law byte, -32,124 to 32,124."""

ALAW_LINEAR: Final = tuple(_from_alaw(byte) for byte in range(256))
"""The linear sample of each A-law byte, -32,256 to 32,256."""

ULAW_TO_ALAW: Final = bytes(_to_alaw(sample) for sample in ULAW_LINEAR)
ALAW_TO_ULAW: Final = bytes(_to_ulaw(sample) for sample in ALAW_LINEAR)
"""For `bytes.translate`, by way of the linear sample; G.711's own tables 3 and 4 differ in a few by one."""


@cache
def encoder() -> Callable[[int], int]:
    """The µ-law byte of a linear sample, -32,768 to 32,767, by a table made at the first use."""
    upper = bytes(_to_ulaw(sample) for sample in range(_LIMIT + 1))
    lower = bytes(_to_ulaw(sample) for sample in range(-_LIMIT - 1, 0))
    table = upper + lower  # a negative index counts from the end
    return table.__getitem__
