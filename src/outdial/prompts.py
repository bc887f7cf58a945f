"""Prompts: recordings made ready for the telephone once, when they are uploaded.

In: WAV (PCM, µ-law or A-law) or raw µ-law. Out: µ-law at 8 kHz, mono, which needs no more work per call.
The containers are those of the RIFF WAVE specification (IBM and Microsoft, 1991) with
WAVE_FORMAT_EXTENSIBLE. Resampling goes through a linear-phase low-pass (a sinc under a Kaiser window).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil, gcd, pi, sin, sqrt
from operator import mul
from typing import Final, NoReturn

from outdial.g711 import ALAW_LINEAR, RATE, ULAW_LINEAR, ULAW_TO_ALAW, encoder

MAX_BYTES: Final = 30_000_000
"""Size of an upload."""

MAX_SECONDS: Final = 600
"""Length of a prompt."""

RATES: Final = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)
"""Sampling rates that are read, in Hz."""

ALLOWED: Final = (
    "allowed: WAV with PCM of 8, 16, 24 or 32 bits, µ-law or A-law, mono or stereo, 8 to 96 kHz;"
    " or raw µ-law of 8 kHz without a header; up to 10 minutes and 30 MB"
)
"""What every refusal ends with."""

_PASS, _STOP = 3400, 4200
"""The low-pass leaves what is below the one (Hz) and takes away what is above the other: beyond 4 kHz
a tone would come back mirrored, and between the two it does so only where the telephone carries nothing."""

_ATTENUATION: Final = 55.0
"""Of the low-pass, in dB; the noise of G.711 itself lies at 38."""

_PCM, _ALAW, _ULAW, _EXTENSIBLE = 1, 6, 7, 0xFFFE
_FORMAT: Final = struct.Struct("<HHIIHH")
_BLOCK: Final = 4000
_FOREIGN: Final = {
    b"RIFX": "a big-endian WAV file",
    b"RF64": "an RF64 file",
    b"FORM": "an AIFF file",
    b".snd": "an AU file",
    b"OggS": "an Ogg file",
    b"fLaC": "a FLAC file",
    b"ID3": "an MP3 file",
    b"caff": "a CAF file",
    b"\x1a\x45\xdf\xa3": "a Matroska or WebM file",
}


class PromptError(ValueError):
    """The upload is no recording that can be used; the message says why and what is allowed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A recording as it is played: µ-law, 8 kHz, mono."""

    ulaw: bytes

    @property
    def milliseconds(self) -> int:
        """Its length."""
        return len(self.ulaw) * 1000 // RATE


@dataclass(frozen=True, slots=True)
class _Format:
    """What a WAV file says of its samples."""

    tag: int
    channels: int
    rate: int
    width: int  # bytes of one sample of one channel


def read_prompt(data: bytes) -> Prompt:
    """The prompt in an uploaded file. Raises `PromptError`, and nothing else, whatever the bytes are.

    A file that begins with neither RIFF nor the mark of another known format is raw µ-law. Takes about
    2 s of CPU for a minute of 44.1 kHz, so it belongs into a thread.
    """
    if len(data) > MAX_BYTES:
        _refuse(f"the file has {len(data)} bytes, more than {MAX_BYTES}")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        ulaw = _read_wav(data)
    else:
        _check_raw(data)
        ulaw = bytes(data)
    if not ulaw:
        _refuse("the file holds no audio")
    return Prompt(ulaw)


def to_alaw(ulaw: bytes) -> bytes:
    """The same audio in A-law (ITU-T G.711)."""
    return ulaw.translate(ULAW_TO_ALAW)


def _refuse(why: str) -> NoReturn:
    raise PromptError(f"{why}; {ALLOWED}")


# -- containers ------------------------------------------------------------------------------------------


def _check_raw(data: bytes) -> None:
    """Raw µ-law has no mark of its own, so the marks of what it is not are looked for."""
    for mark, name in _FOREIGN.items():
        if data.startswith(mark):
            _refuse(f"this is {name}")
    if data[:4] == b"RIFF" or data[4:8] == b"ftyp" or _is_mpeg(data):
        _refuse("this is a RIFF file without WAVE, an MP4 or an MP3 file")
    _check_seconds(len(data), RATE)


def _is_mpeg(data: bytes) -> bool:
    """An MPEG audio frame of layer 3: its sync, a bit rate and a sampling rate that exist."""
    return (
        len(data) > 4
        and data[0] == 0xFF
        and data[1] in (0xFA, 0xFB, 0xF2, 0xF3)
        and 0 < data[2] >> 4 < 0x0E
        and data[2] >> 2 & 3 != 3
    )


def _check_seconds(frames: int, rate: int) -> None:
    if frames > MAX_SECONDS * rate:
        _refuse(f"the recording is {frames // rate} seconds long, more than {MAX_SECONDS}")


def _read_wav(data: bytes) -> bytes:
    form, audio = _chunks(data)
    audio = audio[: len(audio) - len(audio) % (form.channels * form.width)]
    _check_seconds(len(audio) // (form.channels * form.width), form.rate)
    if form.tag == _ULAW and form.channels == 1 and form.rate == RATE:
        return audio
    return _encoded(_resampled(_mono(_linear(audio, form), form.channels), form.rate))


def _chunks(data: bytes) -> tuple[_Format, bytes]:
    """The chunks `fmt ` and `data`. A length beyond the end of the file means: up to the end (a stream)."""
    form: _Format | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            form = _format(body)
        elif name == b"data":
            if form is None:
                break
            return form, body
        at += 8 + size + size % 2
    _refuse("the WAV file is cut short: it has no fmt chunk followed by a data chunk")


def _format(body: bytes) -> _Format:
    if len(body) < _FORMAT.size:
        _refuse("the fmt chunk of the WAV file is cut short")
    tag, channels, rate, _, align, bits = _FORMAT.unpack_from(body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack_from("<H", body, 24)
    if tag not in (_PCM, _ALAW, _ULAW):
        _refuse(f"the WAV file has the coding {tag:#06x}")
    if bits not in ((8, 16, 24, 32) if tag == _PCM else (8,)):
        _refuse(f"the WAV file has {bits} bits a sample")
    if channels not in (1, 2):
        _refuse(f"the WAV file has {channels} channels")
    if rate not in RATES:
        _refuse(f"the WAV file has {rate} samples a second")
    if align != channels * bits // 8:
        _refuse(f"the WAV file contradicts itself: {align} bytes for {channels} samples of {bits} bits")
    return _Format(tag, channels, rate, bits // 8)


# -- samples ---------------------------------------------------------------------------------------------


def _linear(audio: bytes, form: _Format) -> array[int]:
    """16-bit samples, the channels still side by side; of wider ones the upper 16 bits."""
    if form.tag != _PCM:
        table = ULAW_LINEAR if form.tag == _ULAW else ALAW_LINEAR
        return array("h", map(table.__getitem__, audio))
    wide = bytearray(len(audio) // form.width * 2)
    if form.width == 1:  # 8-bit samples have no sign; 128 is zero
        wide[1::2] = bytes(byte ^ 0x80 for byte in audio)
    else:
        wide[0::2] = audio[form.width - 2 :: form.width]
        wide[1::2] = audio[form.width - 1 :: form.width]
    samples = array("h")
    samples.frombytes(wide)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _mono(samples: array[int], channels: int) -> array[int]:
    if channels == 1:
        return samples
    pairs = zip(samples[0::2], samples[1::2], strict=True)
    return array("h", (left + right >> 1 for left, right in pairs))


def _encoded(blocks: Iterator[list[int]]) -> bytes:
    encode = encoder()
    return b"".join(bytes(map(encode, block)) for block in blocks)


# -- resampling ------------------------------------------------------------------------------------------


def _resampled(samples: array[int], rate: int) -> Iterator[list[int]]:
    """Blocks of samples at 8 kHz.

    With 8000/rate = up/down in lowest terms, output n lies at n·down/up of the input. Its fraction picks one
    of `up` sets of taps, its whole part where they are laid on the input (a polyphase filter).
    """
    if rate == RATE:
        for start in range(0, len(samples), _BLOCK):
            yield samples[start : start + _BLOCK].tolist()
        return
    up, down = RATE // gcd(RATE, rate), rate // gcd(RATE, rate)
    filters = _filters(rate)
    width = len(filters[0])
    edge = array("h", bytes(width // 2 * 2))
    padded = edge + samples + edge + edge
    total = len(samples) * up // down
    for start in range(0, total, _BLOCK):
        yield _block(padded, filters, range(start * down, min(start + _BLOCK, total) * down, down))


def _block(padded: array[int], filters: tuple[tuple[float, ...], ...], positions: range) -> list[int]:
    """The outputs at these positions, counted in 1/len(filters) of an input sample."""
    up, width = len(filters), len(filters[0])
    first = positions[0] // up
    piece = [float(sample) for sample in padded[first : positions[-1] // up + width]]
    block = []
    for position in positions:
        at = position // up - first
        value = round(sum(map(mul, filters[position % up], piece[at : at + width])))
        block.append(max(-32_768, min(32_767, value)))
    return block


@cache
def _filters(rate: int) -> tuple[tuple[float, ...], ...]:
    """The taps for each fraction of an input sample; each set passes direct current unchanged.

    Length and shape of the window follow Kaiser's formulas for the attenuation and the width of the
    transition (Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5.3).
    """
    up = RATE // gcd(RATE, rate)
    half = ceil((_ATTENUATION - 7.95) / (2.285 * 2 * pi * (_STOP - _PASS) / rate) / 2)
    return tuple(_taps(fraction / up, half, (_PASS + _STOP) / rate) for fraction in range(up))


def _taps(fraction: float, half: int, cutoff: float) -> tuple[float, ...]:
    """A windowed sinc of 2·half taps around `fraction`; `cutoff` is in units of half the sampling rate."""
    beta = 0.1102 * (_ATTENUATION - 8.7)
    taps = []
    for tap in range(-half, half):
        x = tap - fraction
        sinc = sin(pi * cutoff * x) / (pi * x) if x else cutoff
        taps.append(sinc * _bessel(beta * sqrt(max(0.0, 1 - (x / half) ** 2))))
    whole = sum(taps)
    return tuple(tap / whole for tap in taps)


def _bessel(x: float) -> float:
    """The modified Bessel function of the first kind, order zero, by its series."""
    term = total = 1.0
    order = 1
    while term > total * 1e-12:
        term *= (x / (2 * order)) ** 2
        total += term
        order += 1
    return total
