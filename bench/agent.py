"""CPU of the SIP user agent alone, INVITE to BYE, beside sipp's own client at the same rate.

Endpoint and calls live in a process of their own with the event loop of the engine; the far end is
`sipp -sn uas`. The specs are made before the clock starts, every call is acknowledged and hung up at once.
What stays of a call for 32 s, lest a repetition is missed, is cleared away within the measurement.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import time
from typing import Any
from uuid import uuid4

import sipp
import uvloop

from outdial.compose import collect_rarely
from outdial.model import Trunk
from outdial.sip import sdp
from outdial.sip.call import Call
from outdial.sip.endpoint import Endpoint
from outdial.sip.words import Accepted, CallSpec, Effect, Hop, Over
from outdial.switch.specs import call_spec

TICK = 0.005
"""Seconds between looks at what is due: sipp's client looks about as often."""

LATER = (6.0, 40.0)
"""Seconds after which timer K, and then timer M, has run out."""


def measure(rates: tuple[int, ...], seconds: float, rounds: int) -> None:
    """Print a row for each rate: the user agent and sipp's client, in turns."""
    if sipp.missing():
        print("user agent: no sipp on this machine, nothing to measure against")
        return
    for rate in rates:
        calls = round(rate * seconds)
        ours, theirs = [], []
        with sipp.far_end() as port:
            for _ in range(rounds):
                ours.append(_apart(port, rate, calls))
                theirs.append(sipp.client(port, rate, calls))
        ratio = statistics.median(a["cpu"] / b[0] for a, b in zip(ours, theirs, strict=True))
        each = 1000 / calls
        print(
            f"user agent: {rate} calls/s (reached {min(one['rate'] for one in ours):.0f}, sipp"
            f" {min(rate for _, rate in theirs):.0f}): {statistics.median(a['cpu'] for a in ours) * each:.3f}"
            f" CPU-s per 1,000 calls, sipp's client {statistics.median(b for b, _ in theirs) * each:.3f};"
            f" ratio {ratio:.2f}, median of {rounds} rounds (aim 3)",
            flush=True,
        )


def _apart(port: int, rate: int, calls: int) -> dict[str, float]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_child, args=(theirs, port, rate, calls))
    child.start()
    found: dict[str, float] = json.loads(ours.recv_bytes())
    child.join()
    return found


def _child(pipe: Any, port: int, rate: int, calls: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(Agent(port).run(rate, calls))
    pipe.send_bytes(json.dumps(found).encode())


class Agent:
    """A user agent that places calls at a rate."""

    def __init__(self, port: int) -> None:
        self._endpoint = Endpoint([(sipp.HOST, 0)])
        self._hop = Hop("udp", sipp.HOST, port)
        self._trunk = Trunk("far", sipp.HOST, port)
        self._calls: list[Call] = []
        self._over = 0

    async def run(self, rate: int, calls: int) -> dict[str, float]:
        """CPU seconds of so many calls, and the rate that was reached."""
        self._loop = asyncio.get_running_loop()
        await self._endpoint.start()
        specs = [self._spec(number) for number in range(calls)]
        collect_rarely()
        cpu, began = time.process_time(), time.monotonic()
        await self._place(specs, rate)
        placed = time.monotonic() - began
        async with asyncio.timeout(30):
            while self._over < calls:
                await asyncio.sleep(0.02)
        for later in LATER:
            for call in self._calls:
                self._endpoint.perform(call, call.poll(self._loop.time() + later))
        assert not len(self._endpoint), f"{len(self._endpoint)} calls are not over"
        cpu = time.process_time() - cpu
        await self._endpoint.close()
        return {"cpu": cpu, "rate": calls / placed}

    def _spec(self, number: int) -> CallSpec:
        return call_spec(
            self._endpoint,
            self._hop,
            self._trunk,
            attempt=uuid4(),
            dialed=f"8{number:07d}",
            caller="100",
            offer=sdp.offer(address=sipp.HOST, port=20_000 + 2 * (number % 5000), session_id=1),
        )

    async def _place(self, specs: list[CallSpec], rate: int) -> None:
        placed, began = self._loop.create_future(), self._loop.time()

        def tick() -> None:
            now = self._loop.time()
            for spec in specs[len(self._calls) : round((now - began) * rate) + 1]:
                call = Call(spec)
                self._calls.append(call)
                self._endpoint.begin(call, call.start(now), self._heard(call))
            if len(self._calls) < len(specs):
                self._loop.call_later(TICK, tick)
            else:
                placed.set_result(None)

        tick()
        await placed

    def _heard(self, call: Call) -> Any:
        def hear(effect: Effect) -> None:
            now = self._loop.time()
            if isinstance(effect, Accepted):
                self._endpoint.perform(call, call.acknowledge(now))
                self._endpoint.perform(call, call.hang_up(now))
            elif isinstance(effect, Over):
                assert effect.confirmed
                self._over += 1

        return hear


if __name__ == "__main__":
    measure((300, 1000), 5.0, 2)
