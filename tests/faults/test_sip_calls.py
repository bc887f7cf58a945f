"""G3 to G6 over SIP: `kill -9` of an engine that talks to a real far end, whose own log is the witness."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from calling import SECRET, CarrierLog, all_ended, launched, receiving, start_campaign
from serving import VDN, Serve, Server, wait_for

from outdial.model import Trunk
from outdial.store.store import Store

FAR_END = Path(__file__).parent.parent / "telephony" / "far_end.py"
SEED = 20261125
MANY = 5
RELEASED_WITHIN = 5.0
"""Seconds after the new engine is there in which the far end has no call of the old one any more."""

ENDINGS = ("01", "01", "01", "03", "01", "04", "01", "09", "01", "01")


@contextmanager
def far_end(folder: Path, port: int, *, ring: float, talk: float) -> Iterator[CarrierLog]:
    """A far end as a process; its log."""
    log = folder / "far_end.jsonl"
    command = [sys.executable, str(FAR_END), "--port", str(port), "--log", str(log)]
    process = subprocess.Popen([*command, "--ring", str(ring), "--talk", str(talk)])
    try:
        wait_for(lambda: log.exists() and "listening" in log.read_text(), 20, "the far end does not start")
        yield CarrierLog(log)
    finally:
        process.kill()
        process.wait(10)


def connect(server: Server, port: int) -> None:
    """A trunk to the far end, and every destination allowed."""

    async def work() -> None:
        async with Store(server.dsn, None, size=1) as store:
            await store.trunks.add(
                Trunk("far", "127.0.0.1", port, max_cps=500, max_channels=5000, ping_every=0, timer_b=4.0)
            )
            await store.trunks.allow(VDN, ["any"])

    asyncio.run(work())


def free_port() -> int:
    """A UDP port of loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def kill_and_see_it_released(server: Server, log: CarrierLog, chance: random.Random) -> int:
    """Kill the engine with calls under way; the next one ends them all. How many there were."""
    launched(log)
    wait_for(lambda: len(log.look().alive) >= MANY, 60, "too few calls are under way")
    time.sleep(chance.uniform(0.0, 0.5))
    (engine,) = server.of("engine")
    engine.signal(signal.SIGKILL)
    left = log.look().alive
    before = runs(server)
    wait_for(lambda: runs(server) > before, 30, "no new engine")
    took = wait_for(
        lambda: not left & log.look().alive, RELEASED_WITHIN + 5, lambda: said(server, log, left), every=0.02
    )
    print(f"{len(left)} calls under way, all over {took:.2f} s after the next engine was there")
    assert took <= RELEASED_WITHIN
    return len(left)


def runs(server: Server) -> int:
    """How many runs of engines there have been."""
    return int(server.rows("SELECT count(*) AS n FROM engine")[0]["n"])


def said(server: Server, log: CarrierLog, left: set[str]) -> str:
    """What is still open, as the far end and the database know it."""
    open_ = sorted(left & log.look().alive)
    found = server.rows("SELECT * FROM attempt WHERE attempt_id::text = ANY($1)", open_[:3])
    return f"{len(open_)} lines of {len(left)} stay open: {found}"


def survives_kills(serve: Serve, kills: int, numbers: int) -> None:
    far_port = free_port()
    server = serve(
        push_allow="127.0.0.0/8", switch="sip", sip_listen=f"127.0.0.1:{free_port()}", rtp_ports="21000-29999"
    )
    server.make_vdn(secret=SECRET)
    chance = random.Random(SEED)
    with (
        receiving(server.data.parent) as receiver,
        far_end(server.data.parent, far_port, ring=0.3, talk=25.0) as log,
    ):
        connect(server, far_port)
        start_campaign(server.dsn, numbers, receiver.url, per_second=20, endings=ENDINGS)
        left = sum(kill_and_see_it_released(server, log, chance) for _ in range(kills))
        server.rows("UPDATE contact SET state = 'done', attempts = 1 WHERE state = 'ready'")
        open_ = "(SELECT count(*) FROM contact WHERE state <> 'done')"
        server.rows(f"UPDATE campaign SET incomplete = {open_}")
        found = all_ended(server.dsn, log, receiver)
    assert found.unknown <= left


def test_kill_of_the_engine(serve: Serve) -> None:
    """At most one INVITE for each attempt, no line left open, every number ends."""
    survives_kills(serve, 5, 2000)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_three_hundred_kills_of_the_engine(serve: Serve) -> None:
    survives_kills(serve, 300, 60_000)
