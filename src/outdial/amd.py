"""Answering-machine detection: who answered, judged by the rhythm of the first seconds.

A person says a word or two and waits; a machine speaks on. The states and the names of the thresholds are
those of the field (Asterisk's application AMD documents them); what is heard comes in as frames of 20 ms
of µ-law. After a machine was found, `BeepDetector` waits for the tone after which it records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import atan2, cos, pi, sin
from operator import mul
from typing import Final

from outdial.g711 import FRAME, RATE, ULAW_LINEAR

_LEVEL: Final = tuple(abs(sample) for sample in ULAW_LINEAR)
_SAMPLES_PER_MS: Final = RATE // 1000


class AnsweredBy(StrEnum):
    """Who answered the call."""

    HUMAN = "human"
    MACHINE = "machine"
    UNSURE = "unsure"


class Reason(StrEnum):
    """What decided a verdict: the threshold that was passed."""

    INITIAL_SILENCE = "initial silence"
    LONG_GREETING = "long greeting"
    MANY_WORDS = "many words"
    LONG_WORD = "long word"
    SILENCE_AFTER_GREETING = "silence after greeting"
    TOTAL_TIME = "total time"
    NO_AUDIO = "no audio"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who answered, why it is thought so, and after how many milliseconds of audio."""

    answered_by: AnsweredBy
    reason: Reason
    milliseconds: int


@dataclass(frozen=True, slots=True)
class AmdThresholds:
    """When a verdict falls. All are milliseconds but `max_words` (a count) and `level`.

    initial_silence         nothing was said for so long: machine
    greeting                so much speech in the greeting, pauses not counted: machine
    after_greeting_silence  so much silence after something was said: human
    total                   no verdict after so much audio: unsure
    min_word                so much sound without a pause is a word; less is a noise
    between_words           so much silence ends a word
    max_words               more words than so many: machine
    max_word                one word as long as this: machine
    level                   a frame is sound from this mean of its absolute 16-bit samples on (256 is 42 dB
                            below the loudest)
    """

    initial_silence: int = 2500
    greeting: int = 1500
    after_greeting_silence: int = 800
    total: int = 5000
    min_word: int = 100
    between_words: int = 50
    max_words: int = 3
    max_word: int = 5000
    level: int = 256


class Detector:
    """Judges one call. Frames of any length count with their own; the usual one is 20 ms."""

    def __init__(self, thresholds: AmdThresholds | None = None) -> None:
        self._limits = thresholds or AmdThresholds()
        self._verdict: Verdict | None = None
        self._heard = 0  # ms of audio so far
        self._silence = 0  # ms since the last sound
        self._sound = 0  # ms of sound since the last pause that ends a word
        self._speech = 0  # ms of all words
        self._words = 0

    def hear(self, frame: bytes) -> Verdict | None:
        """The verdict, as soon as there is one; it stays. None: more is to be heard."""
        if self._verdict is None and frame:
            milliseconds = len(frame) // _SAMPLES_PER_MS
            self._heard += milliseconds
            if level_of(frame) < self._limits.level:
                self._verdict = self._after_silence(milliseconds)
            else:
                self._verdict = self._after_sound(milliseconds)
            if self._verdict is None and self._heard >= self._limits.total:
                self._verdict = self._say(AnsweredBy.UNSURE, Reason.TOTAL_TIME)
        return self._verdict

    def conclude(self) -> Verdict:
        """The verdict when no more audio comes or is waited for."""
        if self._verdict is None:
            reason = Reason.TOTAL_TIME if self._heard else Reason.NO_AUDIO
            self._verdict = self._say(AnsweredBy.UNSURE, reason)
        return self._verdict

    def _after_silence(self, milliseconds: int) -> Verdict | None:
        self._silence += milliseconds
        if self._silence >= self._limits.between_words:
            self._sound = 0
        if self._words:
            if self._silence >= self._limits.after_greeting_silence:
                return self._say(AnsweredBy.HUMAN, Reason.SILENCE_AFTER_GREETING)
        elif self._silence >= self._limits.initial_silence:
            return self._say(AnsweredBy.MACHINE, Reason.INITIAL_SILENCE)
        return None

    def _after_sound(self, milliseconds: int) -> Verdict | None:
        before = self._sound
        self._sound += milliseconds
        if self._sound < self._limits.min_word:
            return None  # it may be a click, which does not end a silence
        self._silence = 0
        if before < self._limits.min_word:
            self._words += 1
            self._speech += before
        self._speech += milliseconds
        return self._after_word()

    def _after_word(self) -> Verdict | None:
        if self._words > self._limits.max_words:
            return self._say(AnsweredBy.MACHINE, Reason.MANY_WORDS)
        if self._sound >= self._limits.max_word:
            return self._say(AnsweredBy.MACHINE, Reason.LONG_WORD)
        if self._speech >= self._limits.greeting:
            return self._say(AnsweredBy.MACHINE, Reason.LONG_GREETING)
        return None

    def _say(self, answered_by: AnsweredBy, reason: Reason) -> Verdict:
        return Verdict(answered_by, reason, self._heard)


def level_of(frame: bytes) -> int:
    """The mean of the absolute 16-bit samples of µ-law bytes, 0 to 32,124."""
    return sum(map(_LEVEL.__getitem__, frame)) // len(frame)


# -- the beep --------------------------------------------------------------------------------------------

_LOWEST, _HIGHEST = 400, 2100
"""Frequencies of the beep, in Hz."""

_SHORTEST, _LONGEST = 150, 4000
"""Lengths of the beep, in ms. What sounds on longer is a tone of the network or a fax."""

_BEEP_LEVEL: Final = 256
_DRIFT: Final = 15.0
"""A steady tone is always this near, in Hz, to where it began."""

_PURITY: Final = 0.8
"""The part of a frame's power that lies in the tone, at least."""

_WORTH_ANOTHER: Final = 0.3
"""With less of its power there, a frame is no tone whatever the guess."""

_HALF: Final = FRAME // 2
_STEP: Final = 25
"""Hz between the tones that a frame is compared with: zero crossings count no finer in 20 ms."""

_SIGNS: Final = bytes(byte >> 7 for byte in range(256))
_WAVES: Final = {
    hertz: (
        tuple(cos(2 * pi * hertz * n / RATE) for n in range(FRAME)),
        tuple(sin(2 * pi * hertz * n / RATE) for n in range(FRAME)),
    )
    for hertz in range(_LOWEST - 2 * _STEP, _HIGHEST + 3 * _STEP, _STEP)
}


@dataclass(frozen=True, slots=True)
class Beep:
    """A beep that has ended: its frequency in Hz and its length."""

    hertz: int
    milliseconds: int


class BeepDetector:
    """Finds a steady single tone of 400 to 2,100 Hz and at least 150 ms, once it has ended.

    It is told at its end, because a machine records from there on. A tone longer than 4 s is no beep.
    """

    def __init__(self) -> None:
        self._first = 0.0
        self._frames = 0
        self._missed = 0

    def hear(self, frame: bytes) -> Beep | None:
        """The beep that has ended, or None. Frames are 20 ms; one frame without the tone does not end it."""
        hertz = tone_of(frame)
        if hertz is not None and self._frames and abs(hertz - self._first) <= _DRIFT:
            self._frames += 1 + self._missed
            self._missed = 0
            return None
        if hertz is None and self._frames and not self._missed:
            self._missed = 1
            return None
        first, milliseconds = self._first, self._frames * 20
        self._first, self._frames, self._missed = hertz or 0.0, int(hertz is not None), 0
        if _SHORTEST <= milliseconds <= _LONGEST:
            return Beep(round(first), milliseconds)
        return None


def tone_of(frame: bytes) -> float | None:
    """The frequency in Hz of the single tone that fills a frame of 160 bytes, or None.

    Zero crossings give it roughly. Both halves of the frame are compared with that frequency: how much of
    their power lies there tells a tone from speech and noise, and how far the phase moves from one half to
    the other tells the frequency finely. Noise at the crossings may put the first guess off; then the
    comparison is made again with what the phase said.
    """
    if len(frame) != FRAME or level_of(frame) < _BEEP_LEVEL:
        return None
    signs = frame.translate(_SIGNS)
    samples = [ULAW_LINEAR[byte] for byte in frame]
    power = sum(map(mul, samples, samples))
    hertz, purity = _compare(samples, power, _STEP * (signs.count(b"\0\1") + signs.count(b"\1\0")))
    if _WORTH_ANOTHER <= purity < _PURITY:
        hertz, purity = _compare(samples, power, _STEP * round(hertz / _STEP))
    return hertz if purity >= _PURITY and _LOWEST - _DRIFT <= hertz <= _HIGHEST + _DRIFT else None


def _compare(samples: list[int], power: int, guess: int) -> tuple[float, float]:
    """The tone near `guess` (Hz) and the part of the power that lies there, 0 to 1."""
    if guess not in _WAVES:
        return 0.0, 0.0
    cosine, sine = _WAVES[guess]
    real, imaginary = list(map(mul, samples, cosine)), list(map(mul, samples, sine))
    one = complex(sum(real[:_HALF]), -sum(imaginary[:_HALF]))
    two = complex(sum(real[_HALF:]), -sum(imaginary[_HALF:]))
    turn = two * one.conjugate()
    hertz = guess + atan2(turn.imag, turn.real) / (2 * pi) * RATE / _HALF
    return hertz, 2 / _HALF * (abs(one) ** 2 + abs(two) ** 2) / power
