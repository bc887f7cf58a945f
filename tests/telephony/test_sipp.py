"""Calls to sipp over real sockets: the rows of design/telephony.md §4. sipp's exit code is its judgement."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, trunk_to
from sipp import ANSWER, END, Sipp, bye, pause, recv, refuse, send

from outdial.model import HungUpBy, Ringing

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

Far = Callable[..., Sipp]


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
