"""At most one call per attempt, an end for every number, a result for every end (G3 to G6): `kill -9`.

The witnesses are the carrier's own log, the receiver's journal, and the rows of the database.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from calling import (
    SECRET,
    CarrierLog,
    Receiver,
    Verdict,
    incomplete,
    outbox,
    receiving,
    rows,
    start_campaign,
    verdict,
)
from conftest import Serve
from serving import Server, wait_for

SEED = 20260302
SETTINGS = {"push_allow": "127.0.0.0/8", "carrier_ring": 0.3, "carrier_talk": 1.5}
MANY = 5
"""Calls under way that make a kill worth something."""


def launched(log: CarrierLog, within: float = 60) -> None:
    """Wait until the carrier is asked for new calls."""
    before = log.look().placed
    wait_for(lambda: log.look().placed > before, within, "nothing is called", every=0.001)


def all_ended(server: Server, log: CarrierLog, receiver: Receiver, within: float = 120) -> Verdict:
    """Wait until every number has ended and every result is delivered; the verdict."""
    wait_for(lambda: not incomplete(server.dsn), within, "numbers do not end", every=0.1)
    wait_for(lambda: not outbox(server.dsn), within, "results are not delivered", every=0.1)
    found = verdict(server.dsn, log, receiver)
    print(found)
    assert found.sound, {name: some[:5] for name, some in found.faults.items() if some}
    return found


def kill_while_calling(server: Server, log: CarrierLog, kills: int, *roles: str) -> list[int]:
    """Kill the processes of these roles (none: everything) again and again while calls are under way.

    In turn as soon as calls leave, when intents have just been committed and more are about to be, and at
    any later moment of their second. Returns how many calls were under way at each kill.
    """
    chance = random.Random(SEED + kills)
    under_way = []
    for nth in range(kills):
        launched(log)
        time.sleep(chance.uniform(0, 0.01) if nth % 2 else chance.uniform(0, 1.0))
        under_way.append(len(log.look().alive))
        if roles:
            for process in server.of(*roles):
                process.signal(signal.SIGKILL)
        else:
            server.kill(chance)
            server.start(wait=False)
    print(f"seed {SEED}: {kills} kills, calls under way at each {under_way}")
    assert sum(n >= MANY for n in under_way) >= 0.3 * kills, "too few calls were under way: nothing is proved"
    return under_way


def survives_kills(serve: Serve, kills: int, numbers: int, *roles: str, per_second: int = 60) -> None:
    """Kills, then the verdict; UNKNOWN at most as many as were under way."""
    server = serve(**SETTINGS)
    server.make_vdn(secret=SECRET)
    log = CarrierLog(server.carrier_log)
    with receiving(server.data.parent) as receiver:
        start_campaign(server.dsn, numbers, receiver.url, per_second=per_second)
        under_way = kill_while_calling(server, log, kills, *roles)
        if not roles:
            server.wait_ready()
        found = all_ended(server, log, receiver)
    assert found.numbers == numbers
    assert found.unknown <= sum(under_way)


def test_kill_of_the_engine(serve: Serve) -> None:
    survives_kills(serve, 5, 500, "engine")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_kills_of_the_engine(serve: Serve) -> None:
    survives_kills(serve, 20, 3000, "engine")


def test_kill_of_the_carrier(serve: Serve) -> None:
    """Its calls are gone with it; dialing goes on by itself."""
    survives_kills(serve, 2, 300, "carrier")


def test_kill_of_everything_while_it_calls(serve: Serve) -> None:
    survives_kills(serve, 2, 300)
