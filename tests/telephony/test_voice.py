"""Spoken text by the real program, and what happens where it is not."""

from __future__ import annotations

import pytest

from outdial.switch import voice
from outdial.switch.talk import VoiceError
from outdial.switch.voice import Voice


@pytest.mark.skipif(not voice.present(), reason="espeak-ng is not installed")
async def test_a_text_becomes_audio_once() -> None:
    """A second of µ-law or so, kept: the same text is not spoken anew."""
    one = Voice()
    spoken = await one.say("Your appointment is tomorrow at ten.")
    assert 8000 < len(spoken) < 80_000
    assert len(set(spoken)) > 50
    assert await one.say("Your appointment is tomorrow at ten.") is spoken


@pytest.mark.skipif(not voice.present(), reason="espeak-ng is not installed")
async def test_a_text_is_no_option() -> None:
    """What begins like an option is spoken: texts go through a pipe, which no list of processes shows."""
    assert len(await Voice().say("--version -w /tmp/x")) > 8000


async def test_a_machine_without_a_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the program; the flow goes its `otherwise`."""
    monkeypatch.setattr(voice, "PROGRAM", "no-such-voice")
    assert not voice.present()
    with pytest.raises(VoiceError, match="no-such-voice"):
        await Voice().say("hello")
