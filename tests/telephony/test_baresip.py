"""A prompt as a softphone hears it: baresip records what we play."""

from __future__ import annotations

import cmath
import math
import shutil
import signal
import subprocess
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from caller import Caller, trunk_to
from sipp import DEADLINE, _listens

from outdial import flow
from outdial.g711 import SILENCE, encoder
from ports import free_port

BARESIP = shutil.which("baresip")
MODULES = Path("/usr/lib/baresip/modules")
pytestmark = pytest.mark.skipif(BARESIP is None or not MODULES.is_dir(), reason="baresip is not installed")

NUMBER = "80001"
TONE, SECONDS, RATE = 440.0, 2, 8000
WAV_HEADER = 44

CONFIG = """
poll_method epoll
sip_listen 127.0.0.1:{port}
net_interface 127.0.0.1
call_local_timeout 120
audio_player aubridge,sink
audio_source aubridge,sink
audio_alert aubridge,sink
ausrc_srate 8000
auplay_srate 8000
rtp_ports {first}-{last}
module_path {modules}
module g711.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
snd_path {folder}
"""


@pytest.fixture
def softphone(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A baresip that answers by itself and records; its port and folder."""
    assert BARESIP is not None
    port, media = free_port(), free_port()
    config = CONFIG.format(port=port, first=media, last=media + 50, modules=MODULES, folder=tmp_path)
    (tmp_path / "config").write_text(config)
    account = f"<sip:{NUMBER}@127.0.0.1:{port}>;regint=0;answermode=auto;audio_codecs=pcmu,pcma\n"
    (tmp_path / "accounts").write_text(account)
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [BARESIP, "-f", str(tmp_path)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    try:
        until = time.monotonic() + DEADLINE
        while not _listens(port):
            assert process.poll() is None, (tmp_path / "out").read_text(errors="replace")
            assert time.monotonic() < until
            time.sleep(0.05)
        yield port, tmp_path
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)


async def test_a_prompt_has_the_right_frequency_and_no_gap(softphone: tuple[int, Path]) -> None:
    """20 ms by 20 ms: the tone is there from its begin to its end."""
    port, folder = softphone
    document = {
        "start": "play",
        "steps": {"play": {"play": {"prompts": ["tone"]}, "next": "end"}, "end": {"hangup": {}}},
    }
    async with Caller(trunk_to(port)) as caller:
        caller.shelf.flows["f"] = flow.check(document, prompts={"tone"}, can_say=False)
        caller.shelf.prompts["tone"] = SILENCE * RATE + tone()  # a second in which its audio gets ready
        ended = await caller.call(NUMBER, device_sign="f")
        assert ended.answered
        await caller.until(lambda: recorded(folder))
    frames = heard(folder)
    loud = [n for n, frame in enumerate(frames) if level(frame) > 1000]
    assert loud, "nothing was heard"
    within = frames[loud[0] : loud[-1] + 1]
    assert len(within) >= 0.95 * SECONDS * 50
    assert [n for n, frame in enumerate(within) if level(frame) < 1000] == [], "a gap"
    middle = [sample for frame in within[10:60] for sample in frame]
    assert strongest(middle) == TONE


def tone() -> bytes:
    """µ-law of the tone."""
    samples = (int(12000 * math.sin(2 * math.pi * TONE * n / RATE)) for n in range(SECONDS * RATE))
    return bytes(map(encoder(), samples))


def recorded(folder: Path) -> bool:
    """Whether baresip has closed its recording: only then its header knows the length."""
    (file,) = folder.glob("dump-*-dec.wav")
    data = file.read_bytes()
    return int.from_bytes(data[WAV_HEADER - 4 : WAV_HEADER], "little") == len(data) - WAV_HEADER > 0


def heard(folder: Path) -> list[array[int]]:
    """What baresip decoded, in frames of 20 ms."""
    (file,) = folder.glob("dump-*-dec.wav")
    data = file.read_bytes()[WAV_HEADER:]
    samples = array("h", data[: len(data) // 2 * 2])
    return [samples[at : at + 160] for at in range(0, len(samples) - 160, 160)]


def level(frame: array[int]) -> float:
    """The mean of the absolute samples."""
    return sum(abs(sample) for sample in frame) / len(frame)


def strongest(samples: list[int]) -> float:
    """The frequency, of 100 to 1000 Hz in steps of 10, that is strongest."""

    def power(hertz: float) -> float:
        turn = -2j * math.pi * hertz / RATE
        return abs(sum(sample * cmath.exp(turn * n) for n, sample in enumerate(samples)))

    return max((float(hertz) for hertz in range(100, 1000, 10)), key=power)
