"""Calls to sipp over real sockets: the rows of design/telephony.md §4. sipp's exit code is its judgement."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, trunk_to
from relay import Relay
from sipp import ANSWER, END, Sipp, bye, command, pause, recv, refuse, send

from outdial import flow
from outdial.errors import SwitchError
from outdial.flow import Flow
from outdial.model import HungUpBy, Ringing
from outdial.sip.rtp import MediaSession
from outdial.switch.talk import Talk
from ports import free_port

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

Far = Callable[..., Sipp]
FAR_END = Path(__file__).parent / "far_end.py"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is to be ended after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    """Starts far ends; each is ended by its own id."""
    started: list[Sipp] = []

    def start(*arguments: str, **facts: Any) -> Sipp:
        started.append(Sipp(tmp_path, *arguments, **facts).start())
        return started[-1]

    yield start
    for one in started:
        one.end()


async def test_an_answered_call_is_hung_up_by_us(far: Far) -> None:
    """INVITE, 180, 200, ACK, BYE."""
    peer = far()
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call()
    assert (ended.answered, ended.hung_up_by, ended.cause) == (True, HungUpBy.CALLER, 16)
    assert ended.record is not None
    assert ended.record.trunk == "one"
    assert peer.result() == 0, peer.said()


async def test_the_audio_of_a_call_ends_with_it(far: Far) -> None:
    """It waits for no collector: what a call has besides its messages is gone when it ends."""
    peer = far()
    async with Caller(trunk_to(peer.port)) as caller:
        gc.collect()
        gc.disable()
        try:
            await caller.call()
            assert not [one for one in gc.get_objects() if isinstance(one, MediaSession | Talk)]
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("486 Busy Here", 486),
        ("603 Decline", 603),
        ("404 Not Found", 404),
        ("480 Temporarily Unavailable", 480),
    ],
)
async def test_a_refusal_ends_the_call_with_its_status(far: Far, status: str, code: int) -> None:
    """RFC 3261 §17.1.1.3: acknowledged hop by hop, and never tried elsewhere."""
    peer = far(steps=refuse(status))
    async with Caller(trunk_to(peer.port), trunk_to(peer.port, name="two")) as caller:
        ended = await caller.call()
    assert (ended.sip_status, ended.answered, ended.hung_up_by) == (code, False, None)
    assert peer.result() == 0, peer.said()


async def test_the_cause_of_a_reason_header_is_kept(far: Far) -> None:
    """RFC 3326."""
    peer = far(steps=refuse("480 Gone", headers='Reason: Q.850;cause=20;text="absent"'))
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call()
    assert (ended.sip_status, ended.cause) == (480, 20)


async def test_a_ringing_call_is_cancelled(far: Far) -> None:
    """RFC 3261 §9: CANCEL, its 200, the 487 of the INVITE, ACK."""
    peer = far(
        steps=[
            recv("INVITE", "Via", "CSeq"),
            send("180 Ringing"),
            recv("CANCEL"),
            send("200 OK", tagged=False),
            send("487 Request Terminated", via="Via:[$via]", cseq="CSeq:[$cseq]", retrans=True),
            recv("ACK"),
        ]
    )
    async with Caller(trunk_to(peer.port)) as caller:
        attempt = caller.place()
        await caller.until(lambda: caller.rang(attempt))
        caller.switch.hang_up(attempt)
        ended = await caller.end_of(attempt)
    assert (ended.sip_status, ended.hung_up_by) == (487, HungUpBy.CALLER)
    assert peer.result() == 0, peer.said()


async def test_a_call_is_not_cancelled_before_a_provisional(far: Far) -> None:
    """RFC 3261 §9.1: the CANCEL waits for the 180."""
    peer = far(
        steps=[
            recv("INVITE", "Via", "CSeq"),
            pause(300),
            send("180 Ringing"),
            recv("CANCEL"),
            send("200 OK", tagged=False),
            send("487 Request Terminated", via="Via:[$via]", cseq="CSeq:[$cseq]", retrans=True),
            recv("ACK"),
        ]
    )
    async with Caller(trunk_to(peer.port)) as caller:
        attempt = caller.place()
        caller.switch.hang_up(attempt)
        await caller.end_of(attempt)
    assert peer.result() == 0, peer.said()


async def test_an_answer_that_races_our_cancel_is_released(far: Far) -> None:
    """RFC 3261 §9.1, §15: the 200 that crosses the CANCEL gets ACK and BYE; nobody talks."""
    peer = far(
        steps=[
            recv("INVITE", "Via", "CSeq"),
            send("180 Ringing"),
            recv("CANCEL"),
            send("200 OK", tagged=False),
            send("200 OK", audio="PCMU", via="Via:[$via]", cseq="CSeq:[$cseq]", retrans=True),
            recv("ACK"),
            *END,
        ]
    )
    async with Caller(trunk_to(peer.port)) as caller:
        attempt = caller.place()
        await caller.until(lambda: caller.rang(attempt))
        caller.switch.hang_up(attempt)
        ended = await caller.end_of(attempt)
    assert ended.hung_up_by is HungUpBy.CALLER
    assert peer.result() == 0, peer.said()


async def test_a_slow_answer(far: Far) -> None:
    """Ringing is told when it comes, the answer when it comes."""
    steps = [*ANSWER[:2], pause(1000), *ANSWER[2:], *END]
    peer = far(steps=steps)
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call()
        assert isinstance(caller.events[0], Ringing)
        assert caller.at[1] - caller.at[0] > 0.9
    assert ended.answered
    assert peer.result() == 0, peer.said()


async def test_the_callee_hangs_up(far: Far) -> None:
    """Their BYE is answered 200, and its cause is kept."""
    peer = far(steps=[*ANSWER, pause(200), bye('Q.850;cause=16;text="over"')])
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call()
    assert (ended.answered, ended.hung_up_by, ended.cause) == (True, HungUpBy.CALLEE, 16)
    assert peer.result() == 0, peer.said()


async def test_a_second_trunk_takes_over_from_one_that_refuses(far: Far) -> None:
    """503 before any 18x: the next trunk is tried, if the campaign still may call."""
    first, second = far(steps=refuse("503 Service Unavailable")), far()
    trunks = trunk_to(first.port), trunk_to(second.port, name="two", position=2)
    async with Caller(*trunks) as caller:
        ended = await caller.call()
    assert ended.answered
    assert ended.record is not None
    assert ended.record.trunk == "two"
    assert (first.result(), second.result()) == (0, 0)


async def test_no_second_trunk_after_a_pause(far: Far) -> None:
    """G7: who may not call any more does not call over another trunk either."""
    first, second = far(steps=refuse("503 Service Unavailable")), far()
    trunks = trunk_to(first.port), trunk_to(second.port, name="two", position=2)
    async with Caller(*trunks) as caller:
        caller.permitted = False
        ended = await caller.call()
    assert (ended.answered, ended.sip_status) == (False, 503)
    assert "INVITE" not in second.log()


async def test_no_second_trunk_after_it_rang(far: Far) -> None:
    """A callee whose telephone rang is not rung twice."""
    first = far(
        steps=[recv("INVITE"), send("180 Ringing"), send("503 Unavailable", retrans=True), recv("ACK")]
    )
    second = far()
    trunks = trunk_to(first.port), trunk_to(second.port, name="two", position=2)
    async with Caller(*trunks) as caller:
        ended = await caller.call()
    assert ended.sip_status == 503
    assert "INVITE" not in second.log()


async def test_a_second_trunk_takes_over_from_a_dead_one(far: Far) -> None:
    """Timer B of the trunk: nobody answers, the next one is tried."""
    second = far()
    trunks = trunk_to(9, timer_b=0.7), trunk_to(second.port, name="two", position=2)
    async with Caller(*trunks) as caller:
        ended = await caller.call()
    assert ended.answered
    assert second.result() == 0


async def test_an_order_that_was_stopped_in_the_middle_does_not_leave(far: Far) -> None:
    """G3: who was frozen between the order and the socket may have been overtaken by another engine."""
    peer = far()
    async with Caller(trunk_to(peer.port)) as caller:
        desk = caller.switch._desk
        opened = desk.open_media

        def stopped(*given: Any) -> Any:
            time.sleep(0.15)
            return opened(*given)

        desk.open_media = stopped
        with pytest.raises(SwitchError, match="stopped"):
            caller.place()
        desk.open_media = opened
        assert (await caller.call()).answered
    assert len(re.findall(r"^INVITE ", peer.log(), re.MULTILINE)) == 1
    assert peer.result() == 0, peer.said()


# -- audio -------------------------------------------------------------------------------------------------

TONE = bytes(range(128, 208)) * 200  # two seconds


def playing(*steps: dict[str, Any]) -> Flow:
    """A flow of these steps in turn, then the end."""
    named = {f"s{n}": {"next": f"s{n + 1}", **step} for n, step in enumerate(steps)}
    named[f"s{len(steps)}"] = {"hangup": {}}
    return flow.check({"start": "s0", "steps": named}, prompts={"tone"}, can_say=False)


async def test_a_prompt_is_played_and_its_echo_comes_back(far: Far) -> None:
    """Audio both ways: 100 packets of 20 ms each."""
    peer = far("-rtp_echo")
    async with Caller(trunk_to(peer.port)) as caller:
        caller.shelf.flows["f"] = playing({"play": {"prompts": ["tone"]}})
        caller.shelf.prompts["tone"] = TONE
        ended = await caller.call(device_sign="f")
    assert ended.record is not None
    assert ended.record.steps == ("s0", "s1")
    assert ended.record.rtp_sent is not None
    assert ended.record.rtp_sent >= 100
    assert ended.record.rtp_received is not None
    assert ended.record.rtp_received >= 95
    assert peer.result() == 0, peer.said()


async def test_early_media_is_received_before_the_answer(far: Far) -> None:
    """183 with SDP: their audio comes in while it rings."""
    audio = peer_audio(far)
    steps = [
        recv("INVITE"),
        send("183 Session Progress", audio="PCMU"),
        command(f'rtp_stream="{audio},1,0,PCMU/8000"'),
        pause(1000),
        send("200 OK", audio="PCMU", retrans=True),
        recv("ACK"),
        *END,
    ]
    peer = far(steps=steps)
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call()
    assert ended.record is not None
    assert ended.record.rtp_received is not None
    assert ended.record.rtp_received >= 30
    assert peer.result() == 0, peer.said()


def peer_audio(far: Far) -> Path:
    """A file of audio for sipp."""
    file = Path(tempfile.mkdtemp()) / "prompt.ul"
    file.write_bytes(TONE)
    return file


@pytest.mark.skipif(os.geteuid() != 0, reason="sipp plays a capture only as root")
async def test_keys_that_the_callee_presses_are_collected(far: Far) -> None:
    """RFC 4733: a collect step ends with its key."""
    capture = "/usr/share/sip-tester/dtmf_2833_1.pcap"
    steps = [*ANSWER, pause(300), command(f'play_pcap_audio="{capture}"'), *END]
    peer = far(steps=steps)
    async with Caller(trunk_to(peer.port)) as caller:
        caller.shelf.flows["f"] = playing({"collect": {"into": "k", "max": 1, "first_timeout": 5}})
        ended = await caller.call(device_sign="f")
    assert ended.record is not None
    assert ended.record.keys == "1"
    assert peer.result() == 0, peer.said()


async def test_an_info_request_presses_a_key(far: Far) -> None:
    """application/dtmf-relay over SIP INFO."""
    info = (
        '<send retrans="500"><![CDATA[\n\nINFO [next_url] SIP/2.0\n'
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        "From: [$to]\nTo: [$from]\n[last_Call-ID:]\nCSeq: 2 INFO\nMax-Forwards: 70\n"
        "Content-Type: application/dtmf-relay\nContent-Length: [len]\n\nSignal=7\nDuration=160\n"
        ']]></send><recv response="200"/>'
    )
    peer = far(steps=[*ANSWER, pause(200), info, *END])
    async with Caller(trunk_to(peer.port)) as caller:
        caller.shelf.flows["f"] = playing({"collect": {"into": "k", "max": 1, "first_timeout": 5}})
        ended = await caller.call(device_sign="f")
    assert ended.record is not None
    assert ended.record.keys == "7"
    assert peer.result() == 0, peer.said()


# -- credentials and loss ----------------------------------------------------------------------------------


async def test_a_challenge_is_answered(far: Far) -> None:
    """401: the INVITE again with credentials, the same call."""
    asked = 'WWW-Authenticate: Digest realm="far", nonce="n1", algorithm=MD5, qop="auth"'
    checks = '<ereg regexp="username=.alice." search_in="hdr" header="Authorization:" '
    checks += 'check_it="true" assign_to="a"/>'
    steps = [
        *refuse("401 Unauthorized", headers=asked),
        recv("INVITE", more=checks),
        *ANSWER[1:3],
        recv("ACK"),
        *END,
    ]
    peer = far(steps=steps)
    async with Caller(trunk_to(peer.port, username="alice", password="secret")) as caller:
        ended = await caller.call()
    assert ended.answered
    assert peer.result() == 0, peer.said()


async def test_calls_get_through_a_network_that_loses_a_fifth(tmp_path: Path, stack: ExitStack) -> None:
    """RFC 3261 §17: what is lost is sent again, and no call is placed twice by it."""
    port, log = free_port(), tmp_path / "far.jsonl"
    arguments = [sys.executable, str(FAR_END), "--port", str(port), "--log", str(log)]
    peer = subprocess.Popen(arguments)
    stack.callback(peer.wait, 10)
    stack.callback(peer.kill)
    async with (
        Relay(port, loss=0.2, seed=5) as relay,
        Caller(trunk_to(relay.port, timer_b=32)) as caller,
    ):
        attempts = [caller.place(f"8{n:02}01") for n in range(20)]
        for attempt in attempts:
            assert (await caller.end_of(attempt, 40)).answered
    assert relay.dropped > 20
    orders = [json.loads(line) for line in log.read_text().splitlines() if '"originate"' in line]
    assert len(orders) == 20
