"""Deadlines: no call is forgotten, however often what is due next changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from outdial.sip import timers as endpoint_timers
from outdial.sip.dialog import Early
from outdial.sip.endpoint import Endpoint
from outdial.sip.message import Response
from outdial.sip.transaction import Timers
from outdial.sip.words import CallSpec, Effect, Hop, Progress


def test_the_earliest_is_due_first_and_the_rest_stays() -> None:
    timers = Timers()
    timers.set("A", 3.0)
    timers.set("B", 2.0)
    timers.set("A", 5.0)
    assert timers.wake_at() == 2.0
    assert timers.pop(1.9) is None
    assert timers.pop(2.0) == "B"
    assert timers.wake_at() == 5.0
    timers.stop()
    assert timers.wake_at() is None
    assert timers.pop(9.0) is None


class Sleeper:
    """A conversation that wants to be polled at `at`."""

    call_id = "sleeper"
    finished = False

    def __init__(self, at: float) -> None:
        self.at: float | None = at
        self.polled = asyncio.Event()

    def receive(self, message: object, now: float, source: Hop) -> list[Effect]:
        return []

    def unreachable(self, hop: Hop, now: float) -> list[Effect]:
        return []

    def wake_at(self) -> float | None:
        return self.at

    def poll(self, now: float) -> list[Effect]:
        assert self.at is not None
        assert now >= self.at
        self.at = None
        self.polled.set()
        return [Progress(100)]


async def polled(*moments: float) -> list[Effect]:
    """What is heard of a conversation whose next deadline is first the one and then the other."""
    endpoint, heard = Endpoint([("127.0.0.1", 0)]), []
    await endpoint.start()
    now = asyncio.get_running_loop().time()
    sleeper = Sleeper(now + moments[0])
    endpoint.begin(sleeper, [], heard.append)
    for moment in moments[1:]:
        sleeper.at = now + moment
        endpoint.perform(sleeper, [])
    async with asyncio.timeout(10):
        await sleeper.polled.wait()
    await endpoint.close()
    return heard


async def test_a_deadline_moved_later_is_kept() -> None:
    assert await polled(0.05, 0.2) == [Progress(100)]


async def test_a_deadline_moved_earlier_is_kept() -> None:
    assert await polled(3600.0, 0.1) == [Progress(100)]


async def test_a_deadline_moved_to_and_fro_is_kept() -> None:
    assert await polled(0.1, 0.05, 0.2) == [Progress(100)]


def ringing(tag: str) -> Response:
    to = f"<sip:1@h>;tag={tag}"
    names = [("Via", "SIP/2.0/UDP h"), ("From", "<sip:2@h>;tag=f"), ("To", to), ("Call-ID", "c")]
    return Response(180, "Ringing", [*names, ("CSeq", "1 INVITE"), ("Contact", f"<sip:{tag}@h>")])


def test_a_forking_far_end_makes_so_many_early_dialogs_and_no_more() -> None:
    uri = "sip:1@h"
    early = Early(CallSpec("c", "f", "b", Hop("udp", "h", 1), uri, uri, uri, uri, "h:1", b""), 2)
    for tag in ("a", "b", "c"):
        early.meet(ringing(tag))
    found = [early.get(tag) for tag in ("a", "b", "c")]
    assert [one and one.state.remote_target for one in found] == ["sip:a@h", "sip:b@h", None]
    assert early.get("a") is found[0]


class Clock:
    """A loop that has a time and timers, and waits for nothing. It rings up to half a millisecond early."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rings = 0
        self._timers: list[tuple[float, Callable[[], None], SimpleNamespace]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, ring: Callable[[], None]) -> Any:
        handle = SimpleNamespace(cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self._timers.append((at, ring, handle))
        return handle

    def run(self, until: float) -> None:
        """Let the time pass."""
        while due := [one for one in self._timers if one[0] <= until and not one[2].cancelled]:
            first = min(due, key=lambda one: one[0])
            self._timers.remove(first)
            self.now = max(self.now + 0.0001, first[0] - 0.0005)
            self.rings += 1
            first[1]()
        self.now = until


def test_looks_of_a_second_share_32_timers_and_none_is_early_or_later_than_33_ms() -> None:
    looked: dict[str, tuple[float, float]] = {}
    clock, random = Clock(), Random(1)
    timers = endpoint_timers.Timers(lambda name, at, now: looked.update({name: (at, now)}))
    timers.start(cast(asyncio.AbstractEventLoop, clock))
    for number in range(2000):
        timers.set(1000 + random.random(), str(number))
    clock.run(1002.0)
    assert len(looked) == 2000
    assert all(at <= now <= at + 0.033 for at, now in looked.values())
    assert clock.rings <= 33 + 2.0 / endpoint_timers.BEAT
