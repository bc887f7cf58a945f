"""At most one call per attempt, an end for every number, a result for every end (G3 to G6): `kill -9`.

The witnesses are the carrier's own log, the receiver's journal, and the rows of the database.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from calling import (
    SECRET,
    SETTINGS,
    CarrierLog,
    Receiver,
    all_ended,
    launched,
    receiving,
    rows,
    start_campaign,
)
from engines import Engines, Run, engines
from evidence import evidence
from serving import Serve, Server, ask, make_vdn, wait_for
from trunks import call_no_more

from outdial.store.sealing import create_master_key

SEED = 20260302
MANY = 5
"""Calls under way that make a kill worth something."""


def kill_while_calling(server: Server, log: CarrierLog, kills: int, *roles: str) -> None:
    """Kill the processes of these roles (none: everything) again and again while calls are under way.

    In turn at any moment of a launch's second, as soon as calls leave, and when what the kill before left has
    been taken over.
    """
    chance = random.Random(SEED + kills)
    moments = ((0.0, 1.0), (0.0, 0.01), (1.2, 2.5))
    under_way = []
    for nth in range(kills):
        launched(log)
        time.sleep(chance.uniform(*moments[nth % 3]))
        under_way.append(len(log.look().alive))
        if roles:
            for process in server.of(*roles):
                process.signal(signal.SIGKILL)
        else:
            server.kill(chance)
            server.start(wait=False)
    hits = sum(n >= MANY for n in under_way)
    evidence({"hits": 0.3 * kills}, seed=SEED, kills=kills, hits=hits, calls_under_way=under_way)


def leases_run_out(server: Server) -> None:
    """The minute for which a killed pusher holds its deliveries is over."""
    server.rows("UPDATE outbox SET leased_until = now()")


def survives_kills(serve: Serve, kills: int, numbers: int, *roles: str, wait_for_leases: bool = True) -> str:
    """Kills, then the verdict; UNKNOWN at most what died with the carrier. Returns what the server said."""
    server = serve(**SETTINGS)
    server.make_vdn(secret=SECRET)
    log = CarrierLog(server.carrier_log)
    with receiving(server.data.parent) as receiver:
        start_campaign(server.dsn, numbers, receiver.url, per_second=60)
        kill_while_calling(server, log, kills, *roles)
        if not roles:
            server.wait_ready()
        if not wait_for_leases:
            leases_run_out(server)
        found = all_ended(server.dsn, log, receiver)
    assert found.numbers == numbers
    assert found.unknown <= log.cut_off
    assert (log.cut_off > 0) == (roles != ("engine",))
    return server.errors.read_text(encoding="utf-8")


def test_kill_of_the_engine(serve: Serve) -> None:
    assert "attempts adopted" in survives_kills(serve, 5, 500, "engine")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_kills_of_the_engine(serve: Serve) -> None:
    assert "attempts adopted" in survives_kills(serve, 20, 3000, "engine")


def test_kill_of_the_carrier(serve: Serve) -> None:
    """Its calls are gone with it; dialing goes on by itself."""
    survives_kills(serve, 2, 300, "carrier")


def test_kill_of_everything_while_it_calls(serve: Serve) -> None:
    survives_kills(serve, 2, 300, wait_for_leases=False)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_kills_of_everything_while_it_calls(serve: Serve) -> None:
    survives_kills(serve, 10, 2000)


# -- a slow receiver ---------------------------------------------------------------------------------------


def kill_while_pushing(server: Server, receiver: Receiver, kills: int) -> list[int]:
    """Kill the pusher with deliveries under way; how many there were each time."""
    under_way = []
    for _ in range(kills):
        before = len(receiver.pushes())
        wait_for(lambda: len(receiver.pushes()) >= before + 5, 60, "nothing is pushed")  # noqa: B023
        wait_for(lambda: receiver.under_way, 60, "nothing is pushed", every=0.001)
        under_way.append(receiver.under_way)
        server.one("push").signal(signal.SIGKILL)
        leases_run_out(server)
    evidence({"least_under_way": 1}, kills=kills, pushes_under_way=under_way, least_under_way=min(under_way))
    return under_way


def test_kill_of_the_pusher(serve: Serve) -> None:
    """Every result arrives; one that was under way may come twice, with the same id."""
    server = serve(**SETTINGS)
    server.make_vdn(secret=SECRET)
    log = CarrierLog(server.carrier_log)
    with receiving(server.data.parent, delay=0.2) as receiver:
        start_campaign(server.dsn, 150, receiver.url, per_second=50)
        under_way = kill_while_pushing(server, receiver, 3)
        found = all_ended(server.dsn, log, receiver)
    assert found.pushed <= found.numbers + sum(under_way) + 8 * len(under_way)


# -- a frozen engine ---------------------------------------------------------------------------------------


def test_a_session_that_stops_in_the_middle_of_a_request_holds_up_nobody(database: str, place: Path) -> None:
    """As of a process frozen between Parse and Sync: none of PostgreSQL's timeouts covers it then."""
    create_master_key(place / "data")
    make_vdn(database, place / "data", SECRET)

    async def stopped(conn: asyncpg.Connection) -> float:
        await conn.execute("BEGIN")
        await conn.execute("SELECT 1 FROM campaign FOR NO KEY UPDATE")
        await conn.prepare("SELECT 1 FROM attempt")  # asyncpg sends Parse, Describe, Flush
        starting = asyncio.create_task(asyncio.to_thread(around.engine))
        await asyncio.to_thread(wait_for, held_up, 60, "it holds up nobody: nothing is proved")
        took = wait_for(lambda: log.look().placed, 20, "nothing is called")
        await starting
        return took

    def held_up() -> object:
        query = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('tuple', 'transactionid')"
        return rows(database, query)

    with receiving(place) as receiver, engines(database, place) as around:
        around.carrier()
        log = around.log
        start_campaign(database, 20, receiver.url, per_second=20)
        took = ask(f"{database}&application_name=outdial+engine+0", stopped)
    evidence({}, calls_leave_after=round(took, 1))


BACKENDS = """
    SELECT pid, application_name, state, wait_event, pg_blocking_pids(pid) AS blocked_by,
        now() - xact_start AS transaction, now() - state_change AS since, query
    FROM pg_stat_activity WHERE datname = current_database()
"""


def overtaken(around: Engines, frozen: Run, log: CarrierLog) -> Run:
    """Freeze an engine with calls under way, let another take over, thaw it: it ends within 3 s."""
    launched(log)
    time.sleep(random.Random(log.placed).choice((0.0, 0.002, 0.01, 0.3)))
    frozen.freeze()
    under_way = log.look().alive
    assert len(under_way) >= MANY
    other = around.engine()
    query = "SELECT recovered_at FROM engine WHERE pid = $1 AND recovered_at IS NOT NULL"
    wait_for(
        lambda: rows(around.dsn, query, frozen.pid),
        30,
        lambda: other.said() + "\n" + "\n".join(map(str, rows(around.dsn, BACKENDS))),
        every=0.05,
    )
    assert "attempts adopted" in other.said()
    frozen.thaw()
    took = wait_for(frozen.ended, 10, "the overtaken engine goes on")
    print(f"{len(under_way)} calls under way when frozen; the loser ended after {took:.2f} s")
    assert took <= 3.0
    assert "has been fenced" in frozen.said()
    assert not other.ended()
    return other


def outlives_freezes(database: str, place: Path, rounds: int) -> None:
    create_master_key(place / "data")
    make_vdn(database, place / "data", SECRET)
    with receiving(place) as receiver, engines(database, place) as around:
        around.carrier()
        around.pusher()
        log = around.log
        engine = around.engine()
        start_campaign(database, 100_000, receiver.url, per_second=20)
        wait_for(lambda: log.look().placed >= 20, 60, "nothing is called")
        for _ in range(rounds):
            engine = overtaken(around, engine, log)
        call_no_more(database)
        found = all_ended(database, log, receiver)
    evidence({"calls": rounds * 20}, freezes=rounds, calls=found.placed, unknown=found.unknown)
    assert found.unknown == 0


def test_an_engine_frozen_in_the_middle_of_a_launch(database: str, place: Path) -> None:
    """What it had not sent by then belongs to the next engine, and never leaves it again (G3)."""
    create_master_key(place / "data")
    make_vdn(database, place / "data", SECRET)
    with receiving(place) as receiver, engines(database, place) as around:
        around.carrier()
        around.pusher()
        log = around.log
        first = around.engine()
        start_campaign(database, 1000, receiver.url, per_second=1000)
        launched(log)
        first.freeze()
        time.sleep(0.2)  # what is on its way to the carrier arrives
        placed = log.look().placed
        around.engine()
        wait_for(lambda: log.look().placed > placed, 60, "nobody takes over")
        first.thaw()
        wait_for(first.ended, 10, "the overtaken engine goes on")
        found = all_ended(database, log, receiver)
    late = [order for order in (*log.orders[placed:], *log.hung_up) if order["connection"] == 1]
    evidence(
        {"sent": 1, "not_sent": 1}, sent=placed, not_sent=1000 - placed, late_and_refused=len(log.refused)
    )
    assert not late, "the overtaken engine gave orders"
    assert len(log.refused) <= 1
    assert found.unknown == 0


def test_an_order_that_comes_after_the_word_unseen_is_refused(place: Path) -> None:
    """So nobody is called twice by an engine that was frozen while it gave the order (G3)."""
    late, other = str(uuid4()), str(uuid4())
    with engines("postgresql://", place) as around:
        around.carrier()
        with around.line() as line:
            line.tell("inquire", ref=1, attempt_ids=[late])
            assert [fate["fate"] for fate in line.hear()["fates"]["fates"]] == ["unseen"]
            for attempt in (late, other):
                line.tell("originate", attempt_id=attempt, called="80001", caller="100")
            assert line.hear() == {"ringing": {"attempt_id": other}}
        log = around.log.look()
    assert [order["attempt"] for order in log.orders] == [other]
    assert [order["attempt"] for order in log.refused] == [late]


def test_a_frozen_engine_is_overtaken_once(database: str, place: Path) -> None:
    outlives_freezes(database, place, 5)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_frozen_engines(database: str, place: Path) -> None:
    outlives_freezes(database, place, 25)
