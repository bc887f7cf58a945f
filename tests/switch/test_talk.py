"""A talk whose call is handed over while the detector listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from outdial import flow
from outdial.amd import AmdThresholds
from outdial.flow import FlowRun
from outdial.switch.talk import Talk


class Audio:
    """Keeps who listens, and what it was told."""

    def __init__(self) -> None:
        self.listener: Callable[[bytes], None] | None = None

    def play(self, audio: bytes, on_done: Callable[[], None]) -> None:
        raise AssertionError("nothing is played")

    def stop(self) -> None:
        return

    def listen(self, on_frame: Callable[[bytes], None] | None) -> None:
        self.listener = on_frame


class Silent:
    """No prompts, no voice."""

    def prompt(self, name: str) -> bytes | None:
        return None

    def say(self, text: str) -> Awaitable[bytes]:
        raise AssertionError("nothing is said")


async def test_the_detector_leaves_a_bridged_call_alone() -> None:
    """Who presses a key before the verdict is transferred at once; its time must not cut the audio."""
    document = {
        "start": "ask",
        "on_machine": "hangup",
        "steps": {
            "ask": {"collect": {"into": "k"}, "next": "over", "otherwise": "over"},
            "over": {"transfer": {"target": "1", "mode": "bridge"}},
        },
    }
    audio, asked = Audio(), list[flow.Transfer]()
    run = FlowRun(flow.check(document, prompts=None, can_say=False), {})
    talk = Talk(
        run,
        audio,
        Silent(),
        hang_up=lambda cause: None,
        hand_over=asked.append,
        thresholds=replace(AmdThresholds(), total=0),
    )
    talk.begin()
    assert audio.listener is not None
    talk.tell(flow.Key("1"))
    assert [one.target for one in asked] == ["1"]
    assert audio.listener is None
    heard: list[bytes] = []
    audio.listen(heard.append)
    await asyncio.sleep(0.6)  # longer than the slack of the verdict's time
    assert audio.listener == heard.append
    talk.over()
    assert audio.listener is None
