"""The answering-machine detector: each threshold on a rhythm of its own, and the beep."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from audio import LOUD, frames, mixed, noise, tone, ulaw
from outdial.amd import AmdThresholds, AnsweredBy, Beep, BeepDetector, Detector, Reason, Verdict, level_of
from outdial.g711 import FRAME, SILENCE
from outdial.prompts import read_prompt

HUMAN, MACHINE, UNSURE = AnsweredBy.HUMAN, AnsweredBy.MACHINE, AnsweredBy.UNSURE


def word(milliseconds: int, seed: int = 1, level: float = 3000) -> list[int]:
    """Noise that swells and fades as a word does."""
    samples = noise(milliseconds / 1000, level, seed)
    edge = 160
    return [
        round(value * min(1, (n + 1) / edge, (len(samples) - n) / edge)) for n, value in enumerate(samples)
    ]


def rhythm(*milliseconds: int, floor: float = 60) -> bytes:
    """Silence, word, silence, word … of these lengths, over a noise floor, and silence for long after."""
    samples: list[int] = []
    for number, length in enumerate((*milliseconds, 6000 if len(milliseconds) % 2 == 0 else 0)):
        samples += word(length, number) if number % 2 else [0] * (8 * length)
    return ulaw(mixed(samples, noise(len(samples) / 8000, floor, 99)))


def judged(audio: bytes, thresholds: AmdThresholds | None = None) -> Verdict | None:
    """The first verdict."""
    detector = Detector(thresholds)
    return next((verdict for frame in frames(audio) if (verdict := detector.hear(frame))), None)


# -- who answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [0, 60, 200])
@pytest.mark.parametrize(
    ("lengths", "answered_by", "reason", "milliseconds"),
    [
        ((400, 500), HUMAN, Reason.SILENCE_AFTER_GREETING, 1700),  # "Hello?"
        ((200, 300, 200, 400), HUMAN, Reason.SILENCE_AFTER_GREETING, 1900),  # "Yes, hello?"
        ((2000, 500), HUMAN, Reason.SILENCE_AFTER_GREETING, 3300),  # a slow hand
        ((300, 2500), MACHINE, Reason.LONG_GREETING, 1800),
        ((300, 700, 200, 700, 200, 700), MACHINE, Reason.LONG_GREETING, 2200),
        ((300, 200, 100, 200, 100, 200, 100, 200), MACHINE, Reason.MANY_WORDS, 1300),
        ((), MACHINE, Reason.INITIAL_SILENCE, 2500),
    ],
)
def test_rhythms(
    lengths: tuple[int, ...], answered_by: AnsweredBy, reason: Reason, milliseconds: int, floor: float
) -> None:
    verdict = judged(rhythm(*lengths, floor=floor))
    assert verdict is not None
    assert (verdict.answered_by, verdict.reason) == (answered_by, reason)
    assert abs(verdict.milliseconds - milliseconds) <= 60  # words fade in and out


def test_clicks_are_no_words_and_end_no_silence() -> None:
    """Noises shorter than `min_word`, as a handset makes."""
    verdict = judged(rhythm(500, 60, 500, 60, 500, 60, 500, 60))
    assert verdict is not None
    assert (verdict.answered_by, verdict.reason) == (MACHINE, Reason.INITIAL_SILENCE)


def test_a_gap_shorter_than_between_words_does_not_part_a_word() -> None:
    lengths = (300, *(200, 40) * 5, 200)
    split = judged(rhythm(*lengths))
    assert split is not None
    assert split.reason is Reason.SILENCE_AFTER_GREETING
    parted = judged(rhythm(*lengths), AmdThresholds(between_words=20))
    assert parted is not None
    assert parted.reason is Reason.MANY_WORDS


def test_without_a_verdict_the_total_time_decides() -> None:
    """Silence neither long enough for a human nor sound long enough for a machine."""
    limits = AmdThresholds(max_words=99, greeting=99_999)
    verdict = judged(rhythm(*(600, 200) * 10), limits)
    assert verdict == Verdict(UNSURE, Reason.TOTAL_TIME, 5000)


def test_one_word_without_end() -> None:
    verdict = judged(rhythm(200, 3000), AmdThresholds(greeting=99_999, max_word=1000))
    assert verdict is not None
    assert (verdict.answered_by, verdict.reason) == (MACHINE, Reason.LONG_WORD)


@pytest.mark.parametrize(
    ("field", "value", "lengths", "reason"),
    [
        ("initial_silence", 1000, (2000, 500), Reason.INITIAL_SILENCE),
        ("greeting", 400, (300, 500), Reason.LONG_GREETING),
        ("after_greeting_silence", 400, (300, 300, 500, 2000), Reason.SILENCE_AFTER_GREETING),
        ("total", 400, (300, 500), Reason.TOTAL_TIME),
        ("min_word", 600, (300, 500), Reason.INITIAL_SILENCE),
        ("max_words", 1, (300, 200, 200, 200), Reason.MANY_WORDS),
        ("level", 9000, (300, 500), Reason.INITIAL_SILENCE),
    ],
)
def test_each_threshold_can_be_moved(
    field: str, value: int, lengths: tuple[int, ...], reason: Reason
) -> None:
    usual = judged(rhythm(*lengths))
    moved = judged(rhythm(*lengths), AmdThresholds(**{field: value}))
    assert usual is not None
    assert moved is not None
    assert moved.reason is reason
    assert moved != usual


def test_a_verdict_stays() -> None:
    detector = Detector()
    verdicts = [detector.hear(frame) for frame in frames(rhythm(300, 400) + rhythm(0, 5000))]
    fell = next(n for n, verdict in enumerate(verdicts) if verdict is not None)
    assert set(verdicts[:fell]) == {None}
    assert len(set(verdicts[fell:])) == 1
    assert detector.conclude() is verdicts[fell]


def test_when_no_more_audio_comes() -> None:
    assert Detector().conclude() == Verdict(UNSURE, Reason.NO_AUDIO, 0)
    detector = Detector()
    assert detector.hear(b"") is None
    assert detector.hear(SILENCE * FRAME) is None
    assert detector.conclude() == Verdict(UNSURE, Reason.TOTAL_TIME, 20)


def test_frames_count_with_their_own_length() -> None:
    audio = rhythm(400, 500)
    thirty = Detector()
    found = [thirty.hear(audio[at : at + 240]) for at in range(0, len(audio), 240)]
    verdict = next(verdict for verdict in found if verdict)
    assert verdict.answered_by is HUMAN
    assert abs(verdict.milliseconds - 1700) <= 60


def test_the_level_is_the_mean_of_the_absolute_samples() -> None:
    assert level_of(SILENCE * FRAME) == 0
    assert level_of(bytes([0x80, 0x00])) == 32_124
    assert level_of(ulaw(tone(400, 0.02))) == pytest.approx(LOUD * 2 / 3.14159, rel=0.02)


# -- the beep --------------------------------------------------------------------------------------------


def beeps(audio: bytes) -> list[Beep]:
    detector = BeepDetector()
    return [beep for frame in frames(audio) if (beep := detector.hear(frame))]


def with_silence(samples: list[int], floor: float = 40) -> bytes:
    quiet = [0] * 2400
    whole = quiet + samples + quiet
    return ulaw(mixed(whole, noise(len(whole) / 8000, floor, 7)))


@pytest.mark.parametrize("hertz", [400, 440, 523, 697, 880, 1000, 1270, 1400, 1777, 2000, 2100])
@pytest.mark.parametrize(("seconds", "amplitude"), [(0.2, 12_000), (0.5, 4000), (1.0, 1200)])
def test_a_beep_is_found_once_when_it_has_ended(hertz: int, seconds: float, amplitude: int) -> None:
    (beep,) = beeps(with_silence(tone(hertz, seconds, amplitude=amplitude)))
    assert abs(beep.hertz - hertz) <= 5
    assert abs(beep.milliseconds - seconds * 1000) <= 40


def test_a_beep_is_told_within_60_ms_of_its_end() -> None:
    detector = BeepDetector()
    audio = with_silence(tone(1000, 0.5))
    told = next(n for n, frame in enumerate(frames(audio)) if detector.hear(frame))
    assert 800 <= told * 20 <= 860


@pytest.mark.parametrize(
    "samples",
    [
        tone(1000, 0.1),
        tone(350, 0.5),
        tone(2250, 0.5),
        tone(1000, 4.5),
        tone(1000, 0.5, amplitude=200),
        mixed(tone(440, 0.5), tone(620, 0.5)),
        mixed(tone(697, 0.5), tone(1209, 0.5)),
        noise(1, 3000),
        word(1500),
        [round(LOUD * (n // 20 % 2 - 0.5)) if n % 3 else 0 for n in range(4000)],
        [sample for step in range(30) for sample in tone(600 + 40 * step, 0.02)],
        [sample for _ in range(10) for sample in (*tone(1000, 0.06), *[0] * 800)],
    ],
    ids=[
        "too short", "too low", "too high", "too long", "too quiet", "two tones", "a key", "noise", "a word",
        "rattle", "a siren", "cut",
    ],
)  # fmt: skip
def test_what_is_no_beep(samples: list[int]) -> None:
    assert beeps(with_silence(samples)) == []


def test_a_tone_among_noise_is_found_whole() -> None:
    for seed in range(10):
        (beep,) = beeps(ulaw(mixed(tone(1000, 0.6) + [0] * 1600, noise(0.8, 800, seed))))
        assert abs(beep.hertz - 1000) <= 5


def test_a_lost_packet_does_not_cut_a_beep_in_two_and_two_lost_ones_do() -> None:
    audio = tone(1000, 0.6)
    for lost, found in ((1, [600]), (2, [300, 260])):
        gap = [0] * (FRAME * lost)
        cut = audio[: FRAME * 15] + gap + audio[FRAME * 15 + len(gap) :]
        assert [beep.milliseconds for beep in beeps(ulaw(cut + [0] * 1600))] == found


def test_a_beep_after_speech() -> None:
    found = beeps(rhythm(300, 900, 200, 700) + with_silence(tone(850, 0.4)))
    assert [round(beep.hertz, -1) for beep in found] == [850]


# -- voices ----------------------------------------------------------------------------------------------

ESPEAK = shutil.which("espeak-ng")


@pytest.mark.skipif(ESPEAK is None, reason="needs the program espeak-ng")
@pytest.mark.parametrize(
    ("text", "answered_by"),
    [
        ("Hello?", HUMAN),
        ("Yes, hello?", HUMAN),
        ("Hello, you have reached Mary and John. We are not at home. Please leave a message.", MACHINE),
        ("The person you are calling is not available. Please try again later.", MACHINE),
    ],
)
@pytest.mark.parametrize("voice", ["en-us", "en-gb"])
def test_synthetic_voices(text: str, answered_by: AnsweredBy, voice: str, tmp_path: Path) -> None:
    """Not a claim about real voices: it proves the way from a voice to a verdict."""
    file = tmp_path / "voice.wav"
    subprocess.run([str(ESPEAK), "-v", voice, "-w", str(file), text], check=True, timeout=30)
    audio = SILENCE * 4000 + read_prompt(file.read_bytes()).ulaw + SILENCE * 16_000
    verdict = judged(audio)
    assert verdict is not None
    assert verdict.answered_by is answered_by
    assert beeps(audio) == []


def test_random_audio_always_comes_to_a_verdict() -> None:
    source = random.Random(5)
    for _ in range(20):
        detector = Detector()
        heard = [source.choice((SILENCE * FRAME, ulaw(word(20, source.randrange(99))))) for _ in range(250)]
        verdicts = [detector.hear(frame) for frame in heard]
        assert verdicts[-1] is not None
