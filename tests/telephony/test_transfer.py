"""Answered calls that are handed over, with sipp as the far end: its exit code is its judgement."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, trunk_to
from sipp import ANSWER, END, Sipp, bye, pause, recv, send

from outdial import flow
from outdial.model import (
    Answered,
    Disposition,
    Ended,
    HungUpBy,
    PrefixRule,
    Ringing,
    Transferring,
)

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

Far = Callable[..., Sipp]
TARGET = "+4930555#"


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


def told(status: str, nth: int = 1, state: str = "terminated;reason=noresource") -> str:
    """The far end's NOTIFY, and our 200."""
    return (
        '<send retrans="500"><![CDATA[\n\nNOTIFY [next_url] SIP/2.0\n'
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        f"[routes]\nFrom: [$to]\nTo: [$from]\n[last_Call-ID:]\nCSeq: {nth} NOTIFY\nMax-Forwards: 70\n"
        f"Contact: <sip:far@[local_ip]:[local_port]>\nEvent: refer\nSubscription-State: {state}\n"
        "Content-Type: message/sipfrag;version=2.0\nContent-Length: [len]\n\n"
        f'SIP/2.0 {status}\n]]></send><recv response="200"/>'
    )


REFERRED = [*ANSWER, recv("REFER"), send("202 Accepted", tagged=False)]


def calling(caller: Caller, target: str = TARGET, **step: Any) -> str:
    """The name of a flow that hands the call over at once; `otherwise` is a hang-up with cause 31."""
    document = {
        "start": "over",
        "steps": {
            "over": {"transfer": {"target": target, **step}, "otherwise": "sorry"},
            "sorry": {"hangup": {"cause": 31}},
        },
    }
    caller.shelf.flows["f"] = flow.check(document, prompts=None, can_say=False)
    return "f"


def transfer_of(caller: Caller) -> tuple[Transferring, list[Any]]:
    """The one transfer, and what was told of it afterwards."""
    (begun,) = [one for one in caller.events if isinstance(one, Transferring)]
    return begun, [e for e in caller.events if e.attempt_id == begun.attempt_id and e is not begun]


async def test_a_call_is_handed_over(far: Far) -> None:
    """REFER, 202, NOTIFY 180 and 200, then our BYE; the number goes over the trunk's prefix rules."""
    ringing = told("180 Ringing", 1, "active;expires=60")
    peer = far(steps=[*REFERRED, ringing, told("200 OK", 2), *END])
    async with Caller(trunk_to(peer.port, prefix_rules=(PrefixRule("+", "00"),))) as caller:
        ended = await caller.call(device_sign=calling(caller))
        begun, heard = transfer_of(caller)
    assert peer.result() == 0, peer.said()
    assert (ended.answered, ended.hung_up_by, ended.cause) == (True, HungUpBy.CALLER, 16)
    assert ended.record is not None
    assert ended.record.steps == ("over",)
    assert begun.sent
    assert [type(one) for one in heard] == [Ringing, Answered, Ended]
    assert (heard[-1].answered, heard[-1].sip_status, heard[-1].record.trunk) == (True, 200, "one")
    (order,) = caller.intended
    assert (order.called, order.transfer_of, order.campaign_id) == (TARGET, ended.attempt_id, 7)
    assert re.findall(r"^Refer-To: (.*?)\r?$", peer.log(), re.MULTILINE) == [
        f"<sip:004930555%23@127.0.0.1:{peer.port}>"
    ]
    assert caller.events.index(begun) < caller.events.index(ended)


@pytest.mark.parametrize("code", [405, 501, 603])
async def test_a_far_end_that_refuses_to_refer(far: Far, code: int) -> None:
    """The flow goes its `otherwise`."""
    peer = far(steps=[*ANSWER, recv("REFER"), send(f"{code} No", tagged=False), *END])
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call(device_sign=calling(caller))
        _, heard = transfer_of(caller)
    assert peer.result() == 0, peer.said()
    assert [(one.answered, one.sip_status, one.lost) for one in heard] == [(False, code, False)]
    assert ended.record is not None
    assert (ended.cause, ended.record.steps) == (31, ("over", "sorry"))


async def test_a_target_that_is_busy(far: Far) -> None:
    peer = far(steps=[*REFERRED, told("486 Busy Here"), *END])
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call(device_sign=calling(caller))
        _, heard = transfer_of(caller)
    assert peer.result() == 0, peer.said()
    assert [(one.answered, one.sip_status) for one in heard] == [(False, 486)]
    assert ended.cause == 31


async def test_nobody_says_how_it_went(far: Far) -> None:
    """A subscription that ends while it rings: UNKNOWN."""
    peer = far(steps=[*REFERRED, told("180 Ringing"), *END])
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call(device_sign=calling(caller))
        _, heard = transfer_of(caller)
    assert peer.result() == 0, peer.said()
    assert [one.lost for one in heard] == [True]
    assert ended.cause == 31


async def test_the_engine_waits_no_longer(far: Far) -> None:
    """The dialer hangs the transfer's attempt up; the callee is still ours."""
    peer = far(steps=[*REFERRED, *END])
    async with Caller(trunk_to(peer.port)) as caller:
        attempt = caller.place(device_sign=calling(caller))
        await caller.until(lambda: any(isinstance(one, Transferring) for one in caller.events))
        caller.switch.hang_up(transfer_of(caller)[0].attempt_id)
        ended = await caller.end_of(attempt)
        assert [one.lost for one in transfer_of(caller)[1]] == [True]
    assert peer.result() == 0, peer.said()
    assert ended.cause == 31


async def test_the_callee_hangs_up_meanwhile(far: Far) -> None:
    """Both attempts end, the transfer's first: nobody knows what became of it."""
    peer = far(steps=[*REFERRED, pause(200), bye()])
    async with Caller(trunk_to(peer.port)) as caller:
        ended = await caller.call(device_sign=calling(caller))
        _, heard = transfer_of(caller)
        assert not caller.switch._lines
    assert peer.result() == 0, peer.said()
    assert [(one.lost, one.hung_up_by) for one in heard] == [(True, HungUpBy.CALLEE)]
    assert (ended.hung_up_by, caller.events[-1]) == (HungUpBy.CALLEE, ended)


async def test_a_target_that_is_not_allowed(far: Far) -> None:
    """Judged by the final dial string of the trunk; no REFER leaves."""
    peer = far(steps=[*ANSWER, *END])
    async with Caller(trunk_to(peer.port, prefix_rules=(PrefixRule("+", "00"),))) as caller:
        allow(caller, "8", "+49")
        ended = await caller.call(device_sign=calling(caller))
    assert peer.result() == 0, peer.said()
    assert (ended.cause, caller.refused) == (31, [Disposition.NOT_ALLOWED])
    assert not [one for one in caller.events if isinstance(one, Transferring)]


async def test_the_dial_string_of_a_target_may_be_allowed(far: Far) -> None:
    """The control of the one before."""
    peer = far(steps=[*REFERRED, told("200 OK"), *END])
    async with Caller(trunk_to(peer.port, prefix_rules=(PrefixRule("+", "00"),))) as caller:
        allow(caller, "8", "0049")
        await caller.call(device_sign=calling(caller))
    assert (peer.result(), caller.refused) == (0, [None])


def allow(caller: Caller, *prefixes: str) -> None:
    """Allow these destinations alone."""
    of = caller.trunking
    caller.trunking = type(of)(of.trunks, of.groups, dict.fromkeys(of.groups, frozenset(prefixes)), of.active)
    caller.switch._learn(caller.trunking)


@pytest.mark.parametrize("late", [False, True])
async def test_no_refer_without_a_permission_in_time(far: Far, late: bool) -> None:
    """G3, G7: refused by the store, or permitted too long ago: nothing leaves, and the attempt is told so."""
    peer = far(steps=[*ANSWER, *END])
    async with Caller(trunk_to(peer.port)) as caller:
        caller.intends, caller.delay = late, 1.0 if late else 0.0
        ended = await caller.call(device_sign=calling(caller))
        begun = [one.sent for one in caller.events if isinstance(one, Transferring)]
        assert not caller.switch._lines
    assert peer.result() == 0, peer.said()
    assert (ended.cause, begun) == (31, [False] if late else [])


async def test_a_callee_who_hangs_up_before_the_permission(far: Far) -> None:
    """What was intended did not leave."""
    peer = far(steps=[*ANSWER, pause(50), bye()])
    async with Caller(trunk_to(peer.port)) as caller:
        caller.delay = 0.4
        await caller.call(device_sign=calling(caller))
        await caller.until(lambda: any(isinstance(one, Transferring) for one in caller.events))
        begun, heard = transfer_of(caller)
        assert not caller.switch._lines
    assert (begun.sent, heard, peer.result()) == (False, [], 0)


HOSTILE = [
    "1\r\nX-Evil: 1",
    "1>\r\nX-Evil: 1",
    "1>;method=BYE",
    "1@evil.example",
    "1?Replaces=x",
    "1;tag=evil",
    "1%0d%0a",
    "٣",
    "sip:1@evil.example",
]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_target_never_leaves(far: Far, hostile: str) -> None:
    """Whatever call data or keys say, nothing but 0-9*#+ reaches a header: the store is not even asked."""
    peer = far(steps=[*ANSWER, *END])
    async with Caller(trunk_to(peer.port)) as caller:
        data = json.dumps({"to": hostile})
        ended = await caller.call(device_sign=calling(caller, "{to}"), call_data=data)
    assert peer.result() == 0, peer.said()
    assert (ended.cause, caller.intended) == (31, [])
    assert "vil" not in peer.log()


async def test_a_prefix_rule_that_makes_a_hostile_target_is_refused(far: Far) -> None:
    """The last word is on the dial string itself, even where every destination is allowed."""
    peer = far(steps=[*ANSWER, *END])
    async with Caller(trunk_to(peer.port, prefix_rules=(PrefixRule("+", "1>\r\nX-Evil: 1"),))) as caller:
        await caller.call(device_sign=calling(caller))
    assert peer.result() == 0, peer.said()
    assert caller.refused == [Disposition.NOT_ALLOWED]
    assert "vil" not in peer.log()
