"""The simulated carrier as a process of its own: its endings, its log and what it can prove."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from far_end import BY_CALLEE, CANCELLED, DEADLINE, LONG, QUICK, Far, Listener, order, until

from outdial.errors import SettingError
from outdial.model import (
    Answered,
    Ended,
    Fate,
    HungUpBy,
    Inquiry,
    Ringing,
)
from outdial.switch.carrier import parse_address


@pytest.mark.parametrize(
    ("called", "says", "end"),
    [
        ("0001", [Ringing, Answered], BY_CALLEE),
        ("0002", [Ringing, Answered], BY_CALLEE | {"machine": True}),
        ("0003", [], {"cause": 17, "sip_status": 486}),
        ("0005", [], {"cause": 1, "sip_status": 404}),
        ("0006", [], {"cause": 34, "sip_status": 503}),
        ("0008", [Ringing, Answered], {"cause": 41, "sip_status": 200, "answered": True}),
        ("0009", [Ringing], {"cause": 21, "sip_status": 603}),
        ("0042", [Ringing, Answered], BY_CALLEE),
        ("001*", [Ringing, Answered], BY_CALLEE),
        ("03#", [Ringing, Answered], BY_CALLEE),
    ],
)
async def test_endings_by_themselves(
    far: Far, engine: Listener, called: str, says: list[type], end: dict[str, Any]
) -> None:
    """The last two characters decide; the log has the order and the end."""
    call = order(called)
    engine.switch.originate(call)
    expected = [event(call.attempt_id) for event in says] + [Ended(call.attempt_id, **end)]
    assert await engine.ended(call.attempt_id) == expected
    [asked] = far.lines(order="originate")
    assert (asked["attempt"], asked["called"], asked["caller"]) == (
        str(call.attempt_id),
        call.called,
        call.caller,
    )
    assert far.lines(event="ended", attempt=str(call.attempt_id), **end) != []


async def test_04_rings_until_we_cancel(far: Far, engine: Listener) -> None:
    """No answer: ringing, and 487 to our cancel; the cancel stands in the log."""
    call = order("04")
    engine.switch.originate(call)
    await until(lambda: engine.events == [Ringing(call.attempt_id)])
    engine.switch.hang_up(call.attempt_id)
    assert (await engine.ended(call.attempt_id))[1:] == [Ended(call.attempt_id, **CANCELLED)]
    assert len(far.lines(order="hang_up", attempt=str(call.attempt_id))) == 1


@pytest.mark.parametrize("again", [False, True])
async def test_07_answers_during_our_cancel(engine: Listener, again: bool) -> None:
    """The answer crosses the cancel; it is over when we hang up once more, or when the callee does."""
    call = order("07")
    engine.switch.originate(call)
    await until(lambda: engine.events == [Ringing(call.attempt_id)])
    engine.switch.hang_up(call.attempt_id)
    await until(lambda: Answered(call.attempt_id) in engine.events)
    if again:
        engine.switch.hang_up(call.attempt_id)
    _, answered, ended = await engine.ended(call.attempt_id)
    by = HungUpBy.CALLER if again else HungUpBy.CALLEE
    assert answered == Answered(call.attempt_id)
    assert ended == Ended(call.attempt_id, **(BY_CALLEE | {"hung_up_by": by}))


async def test_10_never_says_anything(far: Far, engine: Listener) -> None:
    """Not even when it is hung up; an inquiry is another question."""
    silent, other = order("10"), order("01")
    engine.switch.originate(silent)
    assert await engine.inquire([silent.attempt_id]) == [Inquiry(silent.attempt_id, Fate.ALIVE)]
    engine.switch.hang_up(silent.attempt_id)
    engine.switch.originate(other)
    await engine.ended(other.attempt_id)
    assert engine.heard(silent.attempt_id) == []
    assert await engine.inquire([silent.attempt_id]) == [Ended(silent.attempt_id)]
    assert len(far.lines(event="ended", attempt=str(silent.attempt_id))) == 1


async def test_a_call_nobody_hangs_up_is_over_after_the_ring_limit(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """Calls of a dead engine do not pile up in the carrier."""
    far.start("--ring-limit", "0.05")
    listener = engines()
    await listener.connect()
    ringing, silent, cancelled = order("04"), order("10"), order("04")
    listener.switch.originate(cancelled)
    listener.switch.hang_up(cancelled.attempt_id)
    listener.switch.originate(silent)
    listener.switch.originate(ringing)
    assert await listener.ended(ringing.attempt_id) == [
        Ringing(ringing.attempt_id),
        Ended(ringing.attempt_id, cause=19, sip_status=480),
    ]
    assert await listener.inquire([silent.attempt_id]) == [Ended(silent.attempt_id)]
    assert len(far.lines(event="ended", attempt=str(cancelled.attempt_id))) == 1


async def test_hanging_up_releases_an_answered_call_and_nothing_else(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """hang_up is a no-op for an id that is not alive."""
    far.start(*LONG)
    listener = engines()
    await listener.connect()
    call = order("01")
    listener.switch.hang_up(uuid4())
    listener.switch.originate(call)
    await until(lambda: Answered(call.attempt_id) in listener.events)
    listener.switch.hang_up(call.attempt_id)
    listener.switch.hang_up(call.attempt_id)
    await listener.inquire([])
    assert await listener.ended(call.attempt_id) == [
        Ringing(call.attempt_id),
        Answered(call.attempt_id),
        Ended(call.attempt_id, **(BY_CALLEE | {"hung_up_by": HungUpBy.CALLER})),
    ]
    await listener.inquire([call.attempt_id])
    assert len(listener.events) == 3


async def test_a_second_order_for_an_id_is_logged_and_places_no_call(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """The log counts what was asked: while the call lives, after it, and after a restart."""
    far.start()
    listener = engines()
    await listener.connect()
    call, other = order("04"), order("03")
    listener.switch.originate(call)
    listener.switch.originate(call)
    await until(lambda: listener.events != [])
    listener.switch.hang_up(call.attempt_id)
    await listener.ended(call.attempt_id)
    listener.switch.originate(call)
    listener.switch.originate(other)
    await listener.ended(other.attempt_id)
    far.end(signal.SIGKILL)
    await until(lambda: listener.downs == 1)
    far.start()
    await until(lambda: listener.switch.connected)
    listener.switch.originate(call)
    assert await listener.inquire([call.attempt_id]) == [Ended(call.attempt_id, **CANCELLED)]
    asked = far.lines(order="originate", attempt=str(call.attempt_id))
    assert [line.get("duplicate", False) for line in asked] == [False, True, True, True]
    assert [type(event) for event in listener.heard(call.attempt_id)] == [Ringing, Ended]


async def test_nothing_happens_to_an_order_that_cannot_be_logged(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """The line stands before the call; without a witness the carrier ends. A torn line is no order."""
    far.start(*QUICK, file_limit=250)
    listener = engines()
    await listener.connect()
    call, next_call = order("01"), order("01")
    listener.switch.originate(call)
    code, said = far.wait()
    assert (code, "carrier.log" in said) == (1, True)
    await until(lambda: listener.downs == 1)
    assert listener.events == []
    assert far.log.stat().st_size == 250
    far.start()
    await until(lambda: listener.switch.connected)
    assert await listener.inquire([call.attempt_id]) == [Inquiry(call.attempt_id, Fate.UNSEEN)]
    listener.switch.originate(next_call)
    await listener.ended(next_call.attempt_id)
    whole = [line for line in far.log.read_text().splitlines() if line.endswith("}")]
    assert sum("originate" in line for line in whole) == 1


async def test_full_numbers_stand_in_the_log_alone(far: Far, engine: Listener) -> None:
    """Log and socket are for their owner; stdout and stderr have no number."""
    call = order("01")
    engine.switch.originate(call)
    await engine.ended(call.attempt_id)
    assert stat.S_IMODE(far.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(far.address).stat().st_mode) == 0o600
    code, said = far.end()
    assert (code, call.called in said) == (0, False)
    assert not Path(far.address).exists()


async def test_an_order_on_its_way_is_not_unseen(far: Far, engines: Callable[[], Listener]) -> None:
    """What reached the carrier's sockets before the inquiry counts, even from a line not accepted yet."""
    far.start(*LONG)
    asker = engines()
    await asker.connect()
    await asker.inquire([])
    early, late = order("04"), order("04")
    engine = engines()
    await engine.connect()
    await engine.inquire([uuid4()])
    far.process.send_signal(signal.SIGSTOP)
    stranger = socket.socket(socket.AF_UNIX)
    stranger.connect(far.address)
    inquiry = asyncio.create_task(asker.inquire([early.attempt_id, late.attempt_id]))
    stranger.sendall(
        b'{"originate":{"attempt_id":"%s","called":"04","caller":"1"}}\n' % str(late.attempt_id).encode()
    )
    engine.switch.originate(early)
    stranger.close()
    await asyncio.sleep(0)
    far.process.send_signal(signal.SIGCONT)
    words = await inquiry
    assert {(word.attempt_id, word.fate) for word in words if isinstance(word, Inquiry)} == {
        (early.attempt_id, Fate.ALIVE),
        (late.attempt_id, Fate.ALIVE),
    }


async def test_after_a_kill_the_log_tells_unseen_from_cannot_tell(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """trust.md A.2: only what is proven is said."""
    far.start(*LONG)
    listener = engines()
    await listener.connect()
    alive, over, never = order("04"), order("09"), uuid4()
    listener.switch.originate(alive)
    listener.switch.originate(over)
    await listener.ended(over.attempt_id)
    far.end(signal.SIGKILL)
    await until(lambda: listener.downs == 1)
    assert not listener.switch.connected
    far.start(*LONG)
    await until(lambda: listener.switch.connected)
    words = {
        word.attempt_id: word for word in await listener.inquire([alive.attempt_id, over.attempt_id, never])
    }
    assert words == {
        alive.attempt_id: Inquiry(alive.attempt_id, Fate.CANNOT_TELL),
        over.attempt_id: Ended(over.attempt_id, cause=21, sip_status=603),
        never: Inquiry(never, Fate.UNSEEN),
    }
    assert listener.downs == 1


async def test_what_memory_forgot_the_log_knows(far: Far, engines: Callable[[], Listener]) -> None:
    """Memory is bounded, the proof is not: old ends come from the log, and unseen stays proven."""
    far.start(*QUICK, "--remember", "2")
    listener = engines()
    await listener.connect()
    calls = [order("03") for _ in range(6)]
    for call in calls:
        listener.switch.originate(call)
    for call in calls:
        await listener.ended(call.attempt_id)
    never = uuid4()
    asked = [*(call.attempt_id for call in calls), never]
    words = {word.attempt_id: word for word in await listener.inquire(asked)}
    assert words == {
        **{call.attempt_id: Ended(call.attempt_id, cause=17, sip_status=486) for call in calls},
        never: Inquiry(never, Fate.UNSEEN),
    }


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\n",
        b"[]\n",
        b"{}\n",
        b'{"dial":{}}\n',
        b'{"originate":{"attempt_id":"1"}}\n',
        b"x" * (1 << 20) + b"yy",
    ],
)
async def test_nonsense_costs_a_line_and_no_other(far: Far, engine: Listener, nonsense: bytes) -> None:
    """What is not an order cuts its own connection off."""
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(DEADLINE)
    stranger.connect(far.address)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await asyncio.to_thread(stranger.sendall, nonsense)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.to_thread(stranger.recv, 1) == b""
    stranger.close()
    call = order("01")
    engine.switch.originate(call)
    await engine.ended(call.attempt_id)
    assert len(far.lines(order="originate")) == 1


async def test_an_engine_that_does_not_read_is_cut_off(far: Far, engine: Listener) -> None:
    """The carrier keeps a bounded number of bytes for it."""
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(DEADLINE)
    stranger.connect(far.address)
    ids = json.dumps([str(uuid4())] * 5000)

    def ask_for_ever() -> None:
        for ref in range(1000):
            stranger.sendall(b'{"inquire":{"ref":%d,"attempt_ids":%s}}\n' % (ref, ids.encode()))

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await asyncio.to_thread(ask_for_ever)
    stranger.close()
    call = order("01")
    engine.switch.originate(call)
    await engine.ended(call.attempt_id)


async def test_it_ends_with_its_supervisor(far: Far) -> None:
    """The lifeline: it says ready when it listens, and ends when the other end of the pipe is closed."""
    lifeline, held = os.pipe()
    ready, says = os.pipe()
    far.start(pipes={"OUTDIAL_LIFELINE_FD": lifeline, "OUTDIAL_READY_FD": says})
    os.close(lifeline)
    os.close(says)
    assert await asyncio.to_thread(os.read, ready, 10) == b"ready\n"
    os.close(ready)
    assert far.process.poll() is None
    assert far.lines(event="listening") != []
    os.close(held)
    code, _ = await asyncio.to_thread(far.wait)
    assert code == 70


async def test_a_log_has_one_writer(far: Far, engine: Listener, second: Far) -> None:
    """Two carriers with one log would prove nothing."""
    second.address = far.address + "2"
    second.start()
    assert second.wait() == (2, f"--log {far.log}: another carrier writes to it\n")


async def test_a_socket_in_use_is_not_taken(far: Far, engine: Listener, second: Far) -> None:
    """A killed carrier's socket is replaced (other tests), a living one's is not."""
    second.log = far.log.with_name("second.log")
    second.start()
    code, said = second.wait()
    assert (code, "in use" in said) == (1, True)
    assert await engine.inquire([]) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "carrier",
        "10.0.0.1:5000",
        "localhost:5000",
        "127.0.0.1",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        "0.0.0.0:1",
    ],
)
def test_an_address_off_this_machine_is_refused_by_name(text: str) -> None:
    """Only a path or a loopback address."""
    with pytest.raises(SettingError, match="must be a path with a '/' or a loopback address"):
        parse_address(text)
    with pytest.raises(SettingError, match="shorter than 100 bytes"):
        parse_address("/" + "x" * 99)
    assert parse_address("/" + "x" * 98) == "/" + "x" * 98
    assert parse_address("[::1]:7000") == ("::1", 7000)
