"""What is uploaded becomes µ-law at 8 kHz, or a `PromptError` that says what is allowed."""

from __future__ import annotations

import io
import math
import random
import struct
import time
import wave
from array import array
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audio import LOUD, heard, loudness, noise, power_at, tone, ulaw
from outdial import prompts
from outdial.prompts import RATES, Prompt, PromptError, read_prompt, to_alaw


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(audio: bytes, rate: int = 8000, *, bits: int = 16, channels: int = 1, tag: int = 1) -> bytes:
    """A WAV file with these bytes as its samples."""
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)
    return riff(chunk(b"fmt ", form) + chunk(b"data", audio))


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def pcm(samples: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def middle(prompt: Prompt) -> bytes:
    """A whole number of periods of any tone of a multiple of 20 Hz, away from the ends."""
    return prompt.ulaw[800:3200]


def decibels(found: float, of: float) -> float:
    return 20 * math.log10(max(found, 1e-9) / of)


# -- level and aliasing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_of_440_hz_stays_at_its_level(rate: int) -> None:
    prompt = read_prompt(wav(pcm(tone(440, 0.48, rate)), rate))
    assert prompt.milliseconds == 480
    assert abs(decibels(power_at(middle(prompt), 440), LOUD)) < 0.1


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > 8000])
@pytest.mark.parametrize("hertz", [300, 1000, 3000, 3400])
def test_what_the_telephone_carries_stays(rate: int, hertz: int) -> None:
    prompt = read_prompt(wav(pcm(tone(hertz, 0.5, rate)), rate))
    assert abs(decibels(power_at(middle(prompt), hertz), LOUD)) < 0.2


@pytest.mark.parametrize(
    ("rate", "hertz"),
    [
        (rate, hertz)
        for rate in RATES
        for hertz in (4200, 4600, 5000, 7000, 11_000, 20_000)
        if hertz < rate / 2
    ],
)
def test_a_tone_above_4_khz_vanishes_and_comes_back_nowhere(rate: int, hertz: int) -> None:
    prompt = read_prompt(wav(pcm(tone(hertz, 0.5, rate)), rate))
    assert decibels(loudness(middle(prompt)), LOUD / 2**0.5) < -50


def test_8_khz_is_not_filtered() -> None:
    samples = noise(0.2, 4000)
    assert read_prompt(wav(pcm(samples))).ulaw == ulaw(samples)


# -- formats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_of_every_width(bits: int) -> None:
    """An independent encoder for each: `struct`, at the full scale of the width."""
    samples = tone(440, 0.3)
    if bits == 8:
        audio = bytes((sample >> 8) + 128 for sample in samples)
    else:
        audio = b"".join(struct.pack("<i", sample << 16)[4 - bits // 8 :] for sample in samples)
    prompt = read_prompt(wav(audio, bits=bits))
    worst = max(abs(a - b) for a, b in zip(heard(prompt.ulaw), samples, strict=True))
    assert worst <= (512 if bits == 8 else 260)  # half a step of µ-law at this level is 256
    assert abs(decibels(power_at(prompt.ulaw[:1600], 440), LOUD)) < 0.3


def test_the_wave_module_of_python_writes_what_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((2, 3, 48_000, 0, "NONE", ""))
        for left in tone(440, 0.5, 48_000):
            writer.writeframes(struct.pack("<i", left << 8)[:3] + struct.pack("<i", left << 8)[:3])
    assert abs(decibels(power_at(middle(read_prompt(file.getvalue())), 440), LOUD)) < 0.1


def test_stereo_becomes_the_mean_of_its_channels() -> None:
    left, right = tone(440, 0.3, amplitude=16_000), [0] * 2400
    both = [sample for pair in zip(left, right, strict=True) for sample in pair]
    prompt = read_prompt(wav(pcm(both), channels=2))
    assert prompt.milliseconds == 300
    assert abs(decibels(power_at(prompt.ulaw[:1600], 440), 8000)) < 0.1


def test_mu_law_and_a_law_in_wav() -> None:
    audio = ulaw(tone(440, 0.3))
    assert read_prompt(wav(audio, bits=8, tag=7)).ulaw == audio
    from_alaw = read_prompt(wav(to_alaw(audio), bits=8, tag=6)).ulaw
    assert abs(decibels(power_at(from_alaw[:1600], 440), LOUD)) < 0.1
    doubled = bytes(byte for byte in audio for _ in range(2))
    assert abs(decibels(power_at(read_prompt(wav(doubled, bits=8, tag=7, channels=2)).ulaw, 440), LOUD)) < 0.1


def test_raw_mu_law_passes_as_it_is() -> None:
    audio = ulaw(noise(1, 3000))
    assert read_prompt(audio).ulaw == audio


def test_extensible_other_chunks_and_odd_lengths() -> None:
    audio = pcm(tone(440, 0.1))
    form = struct.pack("<HHIIHH", 0xFFFE, 1, 8000, 16_000, 2, 16)
    form += struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)
    file = riff(chunk(b"LIST", b"odd") + chunk(b"fmt ", form) + chunk(b"data", audio) + chunk(b"id3 ", b"x"))
    assert read_prompt(file).ulaw == read_prompt(wav(audio)).ulaw


def test_a_stream_whose_length_was_not_known_is_read_to_its_end() -> None:
    audio = pcm(tone(440, 0.1))
    file = wav(audio)
    at = file.index(b"data") + 4
    assert read_prompt(file[:at] + b"\xff\xff\xff\xff" + file[at + 4 :]).milliseconds == 100


def test_loud_audio_is_clipped_and_does_not_wrap() -> None:
    square = [32_767 if n // 20 % 2 else -32_768 for n in range(16_000)]
    found = heard(read_prompt(wav(pcm(square), 16_000)).ulaw)
    for n in range(100, 7900):
        wanted = square[2 * n]
        assert found[n] * wanted > 0 or n % 10 in (0, 9), n


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "word"),
    [
        (b"", "no audio"),
        (wav(b""), "no audio"),
        (wav(b"\0\0", 7999), "7999 samples"),
        (wav(b"\0\0", 0), "0 samples"),
        (wav(b"\0\0", 192_000), "192000 samples"),
        (wav(bytes(6), channels=3), "3 channels"),
        (wav(b"", channels=0), "0 channels"),
        (wav(bytes(4), bits=20), "20 bits"),
        (wav(bytes(4), bits=32, tag=3), "coding 0x0003"),
        (wav(bytes(4), bits=4, tag=0x11), "coding 0x0011"),
        (wav(bytes(4), bits=16, tag=7), "16 bits"),
        (riff(chunk(b"fmt ", b"\1\0\1\0")), "cut short"),
        (riff(chunk(b"data", bytes(100))), "cut short"),
        (wav(bytes(100))[:30], "cut short"),
        (riff(b""), "cut short"),
        (b"RIFF\0\0\0\0AVI LIST", "RIFF"),
        (b"OggS" + bytes(100), "Ogg"),
        (b"fLaC" + bytes(100), "FLAC"),
        (b"ID3\4" + bytes(100), "MP3"),
        (b"\xff\xfb\x90\x64" + bytes(100), "MP3"),
        (b"\0\0\0\x20ftypM4A " + bytes(100), "MP4"),
        (b"FORM" + bytes(100), "AIFF"),
        (b"\xff" * (600 * 8000 + 1), "600 seconds"),
        (wav(bytes(600 * 8000 + 1), bits=8), "600 seconds"),
        (b"\xff" * 30_000_001, "30000001 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_refused_with_what_is_allowed(file: bytes, word: str) -> None:
    with pytest.raises(PromptError, match=word) as refused:
        read_prompt(file)
    assert prompts.ALLOWED in str(refused.value)


def test_ten_minutes_are_allowed() -> None:
    assert read_prompt(b"\xff" * (600 * 8000)).milliseconds == 600_000


def test_a_format_that_contradicts_itself_is_refused() -> None:
    form = struct.pack("<HHIIHH", 1, 2, 8000, 16_000, 2, 16)
    with pytest.raises(PromptError, match="contradicts"):
        read_prompt(riff(chunk(b"fmt ", form) + chunk(b"data", bytes(100))))


SAMPLE = wav(pcm(tone(440, 0.02, 11_025)), 11_025)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_hostile_file_gives_a_prompt_or_a_prompt_error(data: st.DataObject) -> None:
    file = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 60))
        file[at : at + 1] = data.draw(st.binary(max_size=4))
    with suppress(PromptError):
        assert len(read_prompt(bytes(file[: data.draw(st.integers(0, len(file)))])).ulaw) > 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
@example(b"RIFF")
@example(b"\xff\xfb")
def test_any_bytes_give_a_prompt_or_a_prompt_error(tail: bytes) -> None:
    for file in (tail, b"RIFF\0\0\0\0WAVE" + tail, b"RIFF\0\0\0\0WAVEfmt " + tail):
        with suppress(PromptError):
            read_prompt(file)


# -- time ------------------------------------------------------------------------------------------------


def test_ten_seconds_of_stereo_at_44_khz_take_a_bounded_time() -> None:
    """CPU time, far above what it takes (0.35 s), so that only another order of growth can pass it."""
    samples = array("h", (random.Random(2).randrange(-9000, 9000) for _ in range(10 * 44_100)))
    file = wav(array("h", (value for value in samples for _ in range(2))).tobytes(), 44_100, channels=2)
    began = time.process_time()
    assert read_prompt(file).milliseconds == 10_000
    assert time.process_time() - began < 5
