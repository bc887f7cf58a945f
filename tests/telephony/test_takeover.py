"""What an engine announces of itself, and how another ends in its name what it left."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from caller import VDN, Caller, trunk_to

from outdial.errors import SwitchError
from outdial.model import Answered, Fate, Inquiry, OpenCall
from outdial.sip.endpoint import Endpoint
from outdial.sip.locate import Target
from outdial.sip.resolver import Resolver
from outdial.sip.words import Hop
from ports import free_port

FAR_END = Path(__file__).parent / "far_end.py"
RINGS, ANSWERS = "80004", "80001"


class Slow(Resolver):
    """Names take their time."""

    async def locate(self, target: Target) -> list[Hop]:
        await asyncio.sleep(0.7)
        return await super().locate(target)


class Far:
    """A far end; what its log says."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def said(self, event: str) -> int:
        lines = map(json.loads, self._log.read_text().splitlines()) if self._log.exists() else []
        return sum(line.get("event") == event for line in lines)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    port, log = free_port(), tmp_path / "far.jsonl"
    command = [sys.executable, str(FAR_END), "--port", str(port), "--log", str(log), "--talk", "60"]
    process = subprocess.Popen(command)
    try:
        yield Far(port, log)
    finally:
        process.kill()
        process.wait(10)


async def left_by_a_dead_one(far: Far, host: str = "127.0.0.1") -> OpenCall:
    """A call that rings, and whose engine is gone without a word."""
    dead = Caller(trunk_to(far.port), host=host)
    await dead.__aenter__()
    attempt = dead.place(RINGS)
    await dead.until(lambda: dead.rang(attempt))
    await dead.endpoint.close()
    assert dead.switch._keeper is not None
    dead.switch._keeper.cancel()
    for gateway in dead.switch._gateways.values():
        gateway._task.cancel()
    for line in dead.switch._lines.values():
        line.close()
    return open_call(attempt, dead.announced)


def open_call(attempt: UUID, sent_by: dict[str, str]) -> OpenCall:
    return OpenCall(attempt, VDN, RINGS, "100", sent_by=sent_by)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_what_rings_is_cancelled_in_the_name_of_its_sender(far: Far, host: str) -> None:
    """With a listening address that is none, the system's towards the trunk is announced."""
    orphan = await left_by_a_dead_one(far, host)
    ((to, sent_by),) = orphan.sent_by.items()
    assert (to, sent_by.partition(":")[0]) == ("127.0.0.1", "127.0.0.1")
    async with Caller(trunk_to(far.port), host="127.0.0.3") as heir:
        assert not sent_by.endswith(f":{heir.port}")
        asking = asyncio.create_task(heir.switch.inquire([orphan]))
        await heir.until(lambda: far.said("ended") == 1, within=2)
        assert await asking == [Inquiry(orphan.attempt_id, Fate.CANNOT_TELL)]


async def test_one_who_does_not_know_the_sender_cancels_in_his_own_name(far: Far) -> None:
    """A run of an earlier version announced nothing. At another address that ends no call."""
    orphan = await left_by_a_dead_one(far)
    async with Caller(trunk_to(far.port), host="127.0.0.3") as heir:
        await heir.switch.inquire([open_call(orphan.attempt_id, {})])
        assert far.said("ended") == 0


async def test_an_inquiry_waits_for_trunks_that_are_looked_for(far: Far) -> None:
    """A CANCEL that went nowhere would never be sent again."""
    orphan = await left_by_a_dead_one(far)
    heir = Caller(trunk_to(far.port), host="127.0.0.3", resolver=Slow())
    await heir.switch.start(lambda _: None, lambda: None, heir.announce)
    await heir.until(lambda: heir.switch.connected)
    asking = asyncio.create_task(heir.switch.inquire([orphan]))
    await heir.until(lambda: far.said("ended") == 1, within=3)
    await asking
    await heir.switch.close()


async def test_no_call_leaves_before_its_sender_is_announced(far: Far) -> None:
    """While the store is away nobody could cancel it."""
    caller = Caller(trunk_to(far.port))
    caller.store_away = True
    await caller.switch.start(caller._hear, lambda: None, caller.announce)
    await caller.until(lambda: caller.switch.connected)
    await asyncio.sleep(0.3)  # the trunk's address is known by then
    with pytest.raises(SwitchError):
        caller.place(ANSWERS)
    caller.store_away = False
    await caller.until(lambda: caller.switch.room(VDN).calls > 0)
    assert caller.announced == {"127.0.0.1": f"127.0.0.1:{caller.port}"}
    caller.place(ANSWERS)
    await caller.until(lambda: far.said("answered") == 1)
    await caller.switch.close()


async def test_no_call_leaves_from_an_address_that_has_changed_since(far: Far) -> None:
    """Until the new one is announced. Here the one by which peers reach us takes the place of a new route."""
    async with Caller(trunk_to(far.port)) as caller:
        caller.store_away = True
        caller.endpoint._external = "127.0.0.9"
        with pytest.raises(SwitchError):
            caller.place(ANSWERS)
        caller.store_away = False
        await caller.until(lambda: caller.announced == {"127.0.0.1": f"127.0.0.9:{caller.port}"})
        await caller.until(lambda: caller.switch.room(VDN).calls > 0)
        caller.place(ANSWERS)
        await caller.until(lambda: far.said("answered") == 1)


# -- what running calls need -------------------------------------------------------------------------------


async def test_flows_and_prompts_stay_while_calls_need_them(far: Far) -> None:
    """A pause of the VDN's last campaign takes nothing from the calls that run."""
    async with Caller(trunk_to(far.port)) as caller:
        attempt = caller.place(ANSWERS)
        await caller.until(lambda: caller.of(attempt, Answered))
        caller.trunking = replace(caller.trunking, active=frozenset({9}))
        await caller.until(lambda: caller.shelf.wanted == {VDN, 9})
        caller.switch.hang_up(attempt)
        await caller.end_of(attempt)
        await caller.until(lambda: caller.shelf.wanted == {9})


async def test_what_is_sent_while_a_connection_comes_about_arrives() -> None:
    """Nothing over TCP is resent: the BYEs of a dead engine's calls all go to one new connection."""
    heard, over = bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                heard.extend(data)
        writer.close()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    hop = Hop("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
    endpoint = Endpoint([("127.0.0.1", 0)])
    await endpoint.start()
    words = [f"{n:03}" for n in range(200)]
    for word in words:
        endpoint._send(word.encode(), hop)
    async with asyncio.timeout(5):
        while len(heard) < 600:  # the server tells no event
            await asyncio.sleep(0.01)
    assert bytes(heard) == "".join(words).encode()
    await endpoint.close()
    await over.wait()
    server.close()
    await server.wait_closed()
