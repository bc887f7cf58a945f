"""The switch over the simulated carrier: orders leave at once or never, and inquiries adopt."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from far_end import BY_CALLEE, LONG, QUICK, Far, Listener, order, until

from outdial.errors import SwitchError
from outdial.model import (
    Answered,
    Ended,
    Fate,
    Inquiry,
    Ringing,
)
from outdial.switch import Switch
from outdial.switch.simulated import SimulatedSwitch


@pytest.mark.parametrize("lost", [True, False])
async def test_an_inquiry_adopts_a_call(far: Far, engines: Callable[[], Listener], lost: bool) -> None:
    """Whoever inquires hears the rest, whether the first engine is dead or only stopped (R2, R3)."""
    far.start(*LONG)
    first, second = engines(), engines()
    await first.connect()
    await second.connect()
    ringing, talking, over = order("04"), order("01"), order("03")
    for call in (ringing, talking, over):
        first.switch.originate(call)
    await until(lambda: Answered(talking.attempt_id) in first.events)
    if lost:
        await first.switch.close()
    asked = [ringing.attempt_id, talking.attempt_id, over.attempt_id]
    words = {word.attempt_id: word for word in await second.inquire(asked)}
    assert words == {
        ringing.attempt_id: Inquiry(ringing.attempt_id, Fate.ALIVE, answered=False),
        talking.attempt_id: Inquiry(talking.attempt_id, Fate.ALIVE, answered=True),
        over.attempt_id: Ended(over.attempt_id, cause=17, sip_status=486),
    }
    heard_by_first = len(first.events)
    for call in (ringing, talking):
        second.switch.hang_up(call.attempt_id)
        assert [type(event) for event in await second.ended(call.attempt_id)] == [Ended]
    assert (len(first.events), first.downs) == (heard_by_first, 0)


async def test_the_events_of_a_lost_engine_go_to_nobody_else(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """Without an inquiry nothing is adopted; the end is there for who asks."""
    far.start()
    first, second = engines(), engines()
    await first.connect()
    await second.connect()
    call = order("01")
    first.switch.originate(call)
    await until(lambda: first.events != [])
    await first.switch.close()
    await until(lambda: far.lines(event="ended") != [])
    assert await second.inquire([call.attempt_id]) == [Ended(call.attempt_id, **BY_CALLEE)]
    assert second.events == []


async def test_an_inquiry_of_any_length_is_answered(engine: Listener) -> None:
    """One word for each id."""
    asked = [uuid4() for _ in range(1201)]
    assert await engine.inquire(asked) == [Inquiry(one, Fate.UNSEEN) for one in asked]


async def test_while_the_carrier_is_down_every_order_is_refused_and_none_is_kept(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """An order leaves at once or never (G3)."""
    listener = engines()
    await listener.switch.start(listener.events.append, listener.down, listener.announce)
    refused = order("01")
    with pytest.raises(SwitchError, match="not connected"):
        listener.switch.originate(refused)
    with pytest.raises(SwitchError, match="not connected"):
        await listener.inquire([refused.attempt_id])
    listener.switch.hang_up(refused.attempt_id)
    far.start()
    await until(lambda: listener.switch.connected)
    far.end(signal.SIGKILL)
    await until(lambda: listener.downs == 1)
    with pytest.raises(SwitchError, match="not connected"):
        listener.switch.originate(refused)
    far.start()
    await until(lambda: listener.switch.connected)
    assert await listener.inquire([refused.attempt_id]) == [Inquiry(refused.attempt_id, Fate.UNSEEN)]
    assert far.lines(order="originate") == far.lines(order="hang_up") == []
    assert listener.downs == 1


async def test_an_order_does_not_wait_behind_a_carrier_that_does_not_read(
    far: Far, engines: Callable[[], Listener]
) -> None:
    """What the socket does not take is refused, and never called later; an inquiry has a deadline."""
    far.start(*QUICK)
    listener = engines()
    listener.switch = SimulatedSwitch(far.address, reply_timeout=0.2)
    await listener.connect()
    far.process.send_signal(signal.SIGSTOP)
    with pytest.raises(SwitchError, match="an inquiry within"):
        await listener.inquire([uuid4()])
    taken: list[UUID] = []

    def order_for_ever() -> None:
        while True:
            call = order("03")
            listener.switch.originate(call)
            taken.append(call.attempt_id)

    with pytest.raises(SwitchError, match="does not read"):
        order_for_ever()
    assert len(taken) > 100
    far.process.send_signal(signal.SIGCONT)
    await until(lambda: len(listener.events) == len(taken))
    assert {line["attempt"] for line in far.lines(order="originate")} == {str(one) for one in taken}


async def test_a_line_that_left_in_part_costs_the_connection(far: Far) -> None:
    """The rest of it would be a late order, and the next line would be torn."""
    far.address = "127.0.0.1:0"
    far.start()
    await until(lambda: far.log.exists() and far.lines(event="listening") != [])
    listener = Listener(far.lines(event="listening")[0]["address"])
    listener.switch = SimulatedSwitch(far.lines(event="listening")[0]["address"], reply_timeout=0.5)
    await listener.connect()
    far.process.send_signal(signal.SIGSTOP)
    ids = [uuid4()] * 500
    inquiries = [listener.inquire(ids) for _ in range(1000)]
    refusals = await asyncio.gather(*inquiries, return_exceptions=True)
    assert {type(refusal) for refusal in refusals} == {SwitchError}
    assert listener.downs == 1
    far.process.send_signal(signal.SIGCONT)
    await until(lambda: listener.switch.connected)
    call = order("03")
    listener.switch.originate(call)
    await listener.ended(call.attempt_id)
    await listener.switch.close()


async def test_an_inquiry_fails_when_the_carrier_is_lost(far: Far, engine: Listener) -> None:
    """Not at the deadline but at the loss."""
    far.process.send_signal(signal.SIGSTOP)
    inquiry = asyncio.create_task(engine.inquire([uuid4()]))
    await asyncio.sleep(0)
    far.end(signal.SIGKILL)
    with pytest.raises(SwitchError, match="lost"):
        await inquiry


async def test_closing_leaves_the_calls_alive(far: Far, engines: Callable[[], Listener]) -> None:
    """Switch.close: calls that are alive stay alive, and it is no loss."""
    far.start(*LONG)
    first, second = engines(), engines()
    await first.connect()
    call = order("04")
    first.switch.originate(call)
    await until(lambda: first.events != [])
    await first.switch.close()
    await second.connect()
    assert await second.inquire([call.attempt_id]) == [Inquiry(call.attempt_id, Fate.ALIVE)]
    assert (first.downs, first.switch.connected) == (0, False)
    with pytest.raises(SwitchError):
        first.switch.originate(order("01"))


async def test_a_line_cut_short_by_a_crash_does_not_spoil_the_next_connection(far: Far) -> None:
    """Half an event, the loss, then a whole event; then something that is none."""
    call = order("01")
    whole = b'{"ringing":{"attempt_id":"%s"}}\n' % str(call.attempt_id).encode()
    says = iter([whole[:20], whole + b'{"ringing":[]}\n', whole])

    async def far_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = next(says)
        writer.write(said)
        await writer.drain()
        if said != whole[:20]:
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        over.append(said)

    over: list[bytes] = []
    listener = Listener(far.address)
    async with await asyncio.start_unix_server(far_end, far.address):
        await listener.connect()
        await until(lambda: listener.downs == 2 and len(listener.events) == 2)
        assert listener.events == [Ringing(call.attempt_id)] * 2
        await listener.switch.close()
        await until(lambda: len(over) == 3)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_over_tcp_on_loopback(far: Far, host: str) -> None:
    """The same over an address; port 0 picks one, and the log names it."""
    far.address = f"{host}:0"
    far.start()
    await until(lambda: far.log.exists() and far.lines(event="listening") != [])
    listener = Listener(far.lines(event="listening")[0]["address"])
    await listener.connect()
    call = order("01")
    listener.switch.originate(call)
    assert [type(event) for event in await listener.ended(call.attempt_id)] == [Ringing, Answered, Ended]
    far.end(signal.SIGKILL)
    await until(lambda: listener.downs == 1)
    await listener.switch.close()


def test_it_is_a_switch(far: Far) -> None:
    """mypy and this line hold the class to the protocol."""
    switch: Switch = SimulatedSwitch(far.address)
    assert not switch.connected
