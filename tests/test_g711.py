"""G.711 against what the recommendation says of its codes."""

from __future__ import annotations

import random

from outdial.g711 import (
    ALAW_LINEAR,
    ALAW_TO_ULAW,
    SILENCE,
    ULAW_LINEAR,
    ULAW_TO_ALAW,
    encoder,
)
from outdial.prompts import to_alaw


def half_step(code: int, flat: int, smallest: int) -> int:
    """Half the width of the interval that a code stands for; `flat`: segments that share the smallest."""
    return smallest << max(0, (code >> 4 & 7) - flat)


def test_the_codes_of_the_recommendation() -> None:
    """G.711, tables 1a and 2a: the largest, the smallest and the step between the first segments."""
    assert [ULAW_LINEAR[code] for code in (0x80, 0x00, 0xFF, 0x7F, 0xFE, 0xF0, 0xEF)] == [
        32_124, -32_124, 0, 0, 8, 120, 132,
    ]  # fmt: skip
    assert [ALAW_LINEAR[code] for code in (0xAA, 0x2A, 0xD5, 0x55, 0xD4, 0xC5)] == [
        32_256, -32_256, 8, -8, 24, 264,
    ]  # fmt: skip


def test_each_code_is_the_code_of_its_own_sample() -> None:
    encode = encoder()
    again = [encode(sample) for sample in ULAW_LINEAR]
    assert [code for code in range(256) if again[code] != code] == [0x7F]  # the negative zero
    assert again[0x7F] == SILENCE[0]


def test_every_sample_gets_the_code_of_its_interval() -> None:
    encode = encoder()
    for sample in [*range(-300, 300), *random.Random(1).sample(range(-32_635, 32_636), 1500)]:
        code = encode(sample)
        assert abs(ULAW_LINEAR[code] - sample) <= half_step(code ^ 0xFF, 0, 4), sample
    assert (encode(32_767), encode(-32_768)) == (0x80, 0x00)


def test_between_the_laws_each_sample_goes_to_the_interval_that_holds_it() -> None:
    for code in range(256):
        alaw, ulaw = ULAW_TO_ALAW[code], ALAW_TO_ULAW[code]
        assert abs(ALAW_LINEAR[alaw] - ULAW_LINEAR[code]) <= half_step(alaw ^ 0x55, 1, 8)
        assert abs(ULAW_LINEAR[ulaw] - ALAW_LINEAR[code]) <= half_step(ulaw ^ 0xFF, 0, 4)


def test_a_prompt_in_a_law_is_as_long_and_sounds_the_same() -> None:
    audio = bytes(range(256))
    alaw = to_alaw(audio)
    assert len(alaw) == 256
    assert alaw[0xFF] == 0xD5
    for code in range(256):
        assert abs(ALAW_LINEAR[alaw[code]] - ULAW_LINEAR[code]) <= max(16, abs(ULAW_LINEAR[code]) // 16)
