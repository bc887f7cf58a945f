"""Audio made by the tests: tones, noise, and what a telephone makes of them."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterable, Sequence

from outdial.g711 import FRAME, RATE, ULAW_LINEAR, encoder

LOUD = 8000


def tone(hertz: float, seconds: float, rate: int = RATE, amplitude: float = LOUD) -> list[int]:
    """Samples of a sine."""
    turn = 2 * math.pi * hertz / rate
    return [round(amplitude * math.sin(turn * n)) for n in range(round(seconds * rate))]


def noise(seconds: float, level: float, seed: int = 1) -> list[int]:
    """White noise of this standard deviation."""
    source = random.Random(seed)
    return [round(source.gauss(0, level)) for _ in range(round(seconds * RATE))]


def mixed(*parts: Sequence[int]) -> list[int]:
    """Sounds at once, as long as the shortest."""
    return [max(-32_768, min(32_767, sum(samples))) for samples in zip(*parts, strict=False)]


def ulaw(samples: Iterable[int]) -> bytes:
    """Samples on the telephone."""
    return bytes(map(encoder(), samples))


def frames(audio: bytes) -> list[bytes]:
    """Whole frames of 20 ms."""
    return [audio[at : at + FRAME] for at in range(0, len(audio) - FRAME + 1, FRAME)]


def heard(audio: bytes) -> array[int]:
    """The samples of µ-law."""
    return array("h", (ULAW_LINEAR[byte] for byte in audio))


def power_at(audio: bytes, hertz: float) -> float:
    """The amplitude of one tone in µ-law."""
    samples, turn = heard(audio), 2 * math.pi * hertz / RATE
    real = sum(value * math.cos(turn * n) for n, value in enumerate(samples))
    imaginary = sum(value * math.sin(turn * n) for n, value in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples)


def loudness(audio: bytes) -> float:
    """The root mean square of the samples."""
    return math.sqrt(sum(value * value for value in heard(audio)) / len(audio))
