"""When a call's audio begins and ends: with our ACK, and with our BYE (RFC 3261 §13.2.2.4, §15.1.1)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from caller import Caller, trunk_to
from sipp import Sipp, pause, recv, send
from test_bridge import Audio, answer

from outdial.flow import check
from outdial.model import Answered

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

WAIT = {
    "start": "ask",
    "steps": {
        "ask": {"collect": {"into": "key", "first_timeout": 20}, "next": "over", "otherwise": "over"},
        "over": {"hangup": {}},
    },
}
SILENT = 0.2
"""Seconds: ten packets would be sent in it."""


async def test_nothing_is_sent_before_the_ack_and_after_the_bye(tmp_path: Path) -> None:
    """The store takes its time with the answer, and the far end its time with the 200 to our BYE."""
    audio = Audio()
    far = Sipp(tmp_path, steps=[*answer(audio.port), recv("BYE"), pause(600), send("200 OK", tagged=False)])
    far.start()
    try:
        async with Caller(trunk_to(far.port)) as caller:
            caller.confirms = False
            caller.shelf.flows["f"] = check(WAIT, prompts=None, can_say=False)
            attempt = caller.place(device_sign="f")
            await caller.until(lambda: caller.of(attempt, Answered))
            await asyncio.sleep(SILENT)
            assert audio.got == []
            caller.switch.confirm(attempt)
            await caller.until(lambda: len(audio.got) >= 3)
            caller.switch.hang_up(attempt)
            await asyncio.sleep(0)
            sent = len(audio.got)
            await asyncio.sleep(SILENT)
            assert len(audio.got) <= sent + 1, "one may have been on its way"
            ended = await caller.end_of(attempt)
        assert far.result() == 0, far.said()
        assert ended.record is not None
        assert ended.record.rtp_sent == len(audio.got)
    finally:
        far.end()
        audio.close()
