"""G3 to G6 over SIP: engines killed and frozen, the database killed; the far end's own log is the witness."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from calling import SECRET, CarrierLog, launched, receiving, rows, start_campaign
from engines import Engines, Run, engines
from evidence import evidence
from serving import VDN, Serve, Server, make_vdn, wait_for
from trunks import ENDINGS, LATE_ANSWER, all_over, attempts_open, call_no_more, connect, far_end, over_sip

from outdial import flow
from outdial.store.postgres import utc_now
from outdial.store.sealing import create_master_key
from outdial.store.store import Store
from ports import free_port

SEED = 20261125
MANY = 5
"""Calls under way that make a kill worth something."""

RELEASED_WITHIN = 8.0
"""Seconds after the new engine is there in which the far end has no call of the old one any more.

Most take 2: the new one waits 1.5 until no order of the old one can leave. An answer that is
repeated before may come again only 4 later (T2).
"""

RESUMED_WITHIN = 5.0
"""Seconds after the database is there again in which calls leave."""


# -- an engine that is killed ------------------------------------------------------------------------------


@dataclass
class Victim:
    """An engine that is killed, and what begins the next one and waits for its run."""

    kill: Callable[[], None]
    begin: Callable[[], None]


def under_the_supervisor(server: Server) -> Victim:
    """It takes its time after a few deaths."""
    before = [0]

    def kill() -> None:
        before[0] = runs(server)
        server.one("engine").signal(signal.SIGKILL)

    return Victim(kill, lambda: wait_for_run(server, before[0]))


def at_one_address(around: Engines) -> Victim:
    """Without a supervisor: the next one begins at once."""
    around.address = over_sip()
    around.engine()

    def kill() -> None:
        around.runs[-1].close()

    def begin() -> None:
        around.engine()

    return Victim(kill, begin)


def kill_and_see_it_released(
    server: Server, log: CarrierLog, victim: Victim, chance: random.Random
) -> set[str]:
    """Kill the engine with calls under way; the next one ends them all. The attempts that were open."""
    launched(log)
    wait_for(lambda: len(log.look().alive) >= MANY, 60, "too few calls are under way")
    time.sleep(chance.uniform(0.0, 0.5))
    victim.kill()
    in_flight, left = attempts_open(server.dsn), set(log.look().alive)
    victim.begin()
    took = wait_for(
        lambda: not left & log.look().alive, RELEASED_WITHIN + 5, lambda: said(server, log, left), every=0.02
    )
    print(f"{len(left)} calls under way, all over {took:.2f} s after the next engine was there")
    assert took <= RELEASED_WITHIN
    assert not log.repeated()
    return in_flight


def wait_for_run(server: Server, before: int) -> None:
    """Wait until there is one more run of an engine."""
    wait_for(lambda: runs(server) > before, 30, "no new engine")


def runs(server: Server) -> int:
    """How many runs of engines there have been."""
    return int(server.rows("SELECT count(*) AS n FROM engine")[0]["n"])


def said(server: Server, log: CarrierLog, left: set[str]) -> str:
    """What is still open, as the far end and the database know it."""
    open_ = sorted(left & log.look().alive)
    found = server.rows("SELECT * FROM attempt WHERE attempt_id::text = ANY($1)", open_[:3])
    runs_ = server.rows("SELECT epoch, pid, lease_until, fenced_at, recovered_at FROM engine ORDER BY epoch")
    told = [line for line in server.errors.read_text().splitlines() if '"engine"' in line or "rror" in line]
    lines = "\n".join(told[-20:])
    return f"{len(open_)} lines of {len(left)} stay open: {found}\nruns: {runs_}\n{lines}"


def survives_kills(
    serve: Serve,
    kills: int,
    *,
    supervised: bool = True,
    source: Path | None = None,
    endings: Sequence[str] = ENDINGS,
    rings: int = 2,
    bridged: bool = False,
) -> None:
    """Kills, then the verdict: each attempt one INVITE at most, and UNKNOWN are none but calls in flight.

    `bridged`: who answers is connected to a second leg.
    """
    far_port = free_port()
    roles = {} if supervised else {"roles": "api,push"}
    server = serve(source=source, **over_sip(), **roles)
    server.make_vdn(secret=SECRET)
    folder, chance = server.data.parent, random.Random(SEED)
    with (
        receiving(folder) as receiver,
        far_end(folder, far_port, ring=0.3, talk=25.0) as log,
        engines(server.dsn, folder, source=source, sip=True) as around,
    ):
        connect(server.dsn, far_port)
        if bridged:
            with_second_legs(server.dsn)
        numbers = 1000 + 200 * kills
        start_campaign(server.dsn, numbers, receiver.url, per_second=20, endings=endings, rings=rings)
        victim = under_the_supervisor(server) if supervised else at_one_address(around)
        in_flight: set[str] = set()
        for _ in range(kills):
            in_flight |= kill_and_see_it_released(server, log, victim, chance)
        call_no_more(server.dsn)
        found = all_over(server.dsn, log, receiver, in_flight)
        legs = second_legs(server.dsn) & in_flight
    evidence(
        {"calls_in_flight": kills * MANY, "second_legs_in_flight": kills if bridged else 0},
        seed=SEED,
        kills=kills,
        calls_in_flight=len(in_flight),
        second_legs_in_flight=len(legs),
        calls=found.placed,
        unknown=found.unknown,
    )


def with_second_legs(dsn: str) -> None:
    """Whoever answers a call of the VDN is connected to the number in `to`."""
    bridge = {"start": "over", "steps": {"over": {"transfer": {"target": "{to}", "mode": "bridge"}}}}

    async def work() -> None:
        async with Store(dsn, None, size=1) as store:
            await store.flows.add(VDN, flow.DEFAULT_FLOW, flow.document_text(bridge), ())

    asyncio.run(work())


def second_legs(dsn: str) -> set[str]:
    """The attempts of transfers."""
    query = "SELECT attempt_id::text AS id FROM attempt WHERE transfer_of IS NOT NULL"
    return {row["id"] for row in rows(dsn, query)}


def test_kill_of_the_engine(serve: Serve) -> None:
    """At most one INVITE for each attempt, no line left open, every number ends."""
    survives_kills(serve, 5)


def test_kill_of_the_engine_with_bridged_calls(serve: Serve) -> None:
    """The same of second legs: each has an attempt of its own."""
    survives_kills(serve, 3, supervised=False, endings=("01",), bridged=True)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_thirty_kills_of_the_engine_with_bridged_calls(serve: Serve) -> None:
    survives_kills(serve, 30, supervised=False, endings=("01",), bridged=True)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_forty_kills_of_the_engine(serve: Serve) -> None:
    """300 with those below."""
    survives_kills(serve, 40)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(4))
def test_260_kills_of_the_engine(serve: Serve, part: int) -> None:
    """65 at each of four servers, in which the next one begins at once."""
    survives_kills(serve, 65, supervised=False)


def answered_when_forgotten(serve: Serve, source: Path | None = None) -> None:
    """Two engines are killed one after the other; only then the far end answers what the first one placed."""
    far_port = free_port()
    server = serve(source=source, **over_sip())
    server.make_vdn(secret=SECRET)
    folder = server.data.parent
    with receiving(folder) as receiver, far_end(folder, far_port, late=25.0, talk=300.0, ring=0.3) as log:
        connect(server.dsn, far_port)
        start_campaign(server.dsn, MANY, receiver.url, per_second=MANY, endings=LATE_ANSWER, rings=60)
        wait_for(lambda: log.look().placed == MANY, 30, "nothing is called")
        server.one("engine").signal(signal.SIGKILL)
        in_flight = attempts_open(server.dsn)
        wait_for(lambda: not attempts_open(server.dsn), 30, "what it left is not taken over", every=0.1)
        before = runs(server)
        server.one("engine").signal(signal.SIGKILL)
        wait_for_run(server, before)
        assert len(log.look().alive) == MANY, "it answered before: nothing is proved"
        wait_for(
            lambda: log.path.read_text().count('"answered", "attempt"') == MANY, 40, "nothing is answered"
        )
        all_over(server.dsn, log, receiver, in_flight, RELEASED_WITHIN)
    evidence({"calls_in_flight": MANY}, kills=2, calls_in_flight=len(in_flight))


@pytest.mark.long
def test_an_answer_to_a_call_that_nobody_knows_any_more_is_released(serve: Serve) -> None:
    answered_when_forgotten(serve)


# -- an engine that is frozen ------------------------------------------------------------------------------


def overtaken(around: Engines, frozen: Run, log: CarrierLog) -> tuple[Run, set[str]]:
    """Freeze an engine with calls under way, let another take over, thaw it: it ends, and calls nobody."""
    launched(log)
    wait_for(lambda: len(log.look().alive) >= MANY, 60, "too few calls are under way", every=0.001)
    time.sleep(random.Random(log.placed).choice((0.0, 0.002, 0.01, 0.3)))
    frozen.freeze()
    in_flight, under_way = attempts_open(around.dsn), set(log.look().alive)
    other = taken_over(around, frozen)
    launched(log)
    frozen.thaw()
    took = wait_for(frozen.ended, 10, "the overtaken engine goes on")
    print(f"{len(under_way)} calls under way when frozen; the loser ended after {took:.2f} s")
    assert "has been fenced" in frozen.said()
    assert not log.look().repeated()
    return other, in_flight


def taken_over(around: Engines, frozen: Run) -> Run:
    """Another engine, once nothing of the frozen one is open any more."""
    other = around.engine()
    query = "SELECT recovered_at FROM engine WHERE pid = $1 AND recovered_at IS NOT NULL"
    wait_for(lambda: rows(around.dsn, query, frozen.pid), 60, other.said, every=0.05)
    assert "attempts adopted" in other.said()
    return other


def outlives_freezes(dsn: str, place: Path, rounds: int, *, source: Path | None = None) -> None:
    create_master_key(place / "data")
    make_vdn(dsn, place / "data", SECRET)
    far_port = free_port()
    connect(dsn, far_port)
    with (
        receiving(place) as receiver,
        far_end(place, far_port, ring=0.3, talk=6.0) as log,
        engines(dsn, place, source=source, sip=True) as around,
    ):
        around.pusher()
        engine = around.engine()
        start_campaign(dsn, 100_000, receiver.url, per_second=20, endings=ENDINGS)
        wait_for(lambda: log.look().placed >= 20, 60, "nothing is called")
        in_flight: set[str] = set()
        for _ in range(rounds):
            engine, open_ = overtaken(around, engine, log)
            in_flight |= open_
        call_no_more(dsn)
        # A frozen engine acknowledges nothing: the far end gives such a call up after 32 s.
        found = all_over(dsn, log, receiver, in_flight, within=40)
    evidence(
        {"calls": rounds * 20, "calls_in_flight": rounds * MANY},
        freezes=rounds,
        calls=found.placed,
        calls_in_flight=len(in_flight),
        unknown=found.unknown,
    )


def test_a_frozen_engine_is_overtaken_once(database: str, place: Path) -> None:
    outlives_freezes(database, place, 5)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(2))
def test_fifty_frozen_engines(database: str, place: Path, part: int) -> None:
    """25 on each of two databases."""
    outlives_freezes(database, place, 25)


def frozen_in_the_middle_of_a_launch(dsn: str, place: Path, *, source: Path | None = None) -> None:
    """What it had not sent by then belongs to the next engine, and never leaves it again (G3).

    One call may be on its way from the last look at the clock to the socket; no number is called twice by it.
    """
    create_master_key(place / "data")
    make_vdn(dsn, place / "data", SECRET)
    far_port = free_port()
    connect(dsn, far_port)
    with (
        receiving(place) as receiver,
        far_end(place, far_port, ring=0.3, talk=3.0) as log,
        engines(dsn, place, source=source, sip=True) as around,
    ):
        around.pusher()
        first = around.engine()
        start_campaign(dsn, 1000, receiver.url, per_second=400, endings=("03",))
        launched(log)
        first.freeze()
        in_flight = attempts_open(dsn)
        taken_over(around, first)
        ours = log.look().orders[0]["connection"]
        placed = sum(order["connection"] == ours for order in log.orders)
        first.thaw()
        wait_for(first.ended, 10, "the overtaken engine goes on")
        time.sleep(0.5)  # what is on its way to the far end arrives
        late = sum(order["connection"] == ours for order in log.look().orders) - placed
        assert late <= 1, f"the overtaken engine placed {late} calls"
        all_over(dsn, log, receiver, in_flight)
    evidence({"sent": 1, "not_sent": 1}, sent=placed, not_sent=len(in_flight) - placed, sent_late=late)


def test_an_engine_frozen_in_the_middle_of_a_launch(database: str, place: Path) -> None:
    frozen_in_the_middle_of_a_launch(database, place)


# -- a database that is killed -----------------------------------------------------------------------------


def kill_the_database(server: Server, log: CarrierLog, *, frozen: float) -> float:
    """Kill PostgreSQL with calls under way, after so many seconds in which it stands still.

    Returns the seconds until calls left after it was there again.
    """
    launched(log)
    wait_for(lambda: len(log.look().alive) >= MANY, 60, "too few calls are under way")
    victims = server.of("postmaster", "backend")
    if frozen:
        for victim in victims:
            victim.signal(signal.SIGSTOP)
    gone = utc_now()
    if frozen:
        time.sleep(frozen)
        late = ordered_after(log, gone + timedelta(seconds=1))
        assert not late, f"{len(late)} calls without the database"
    for victim in victims:
        victim.signal(signal.SIGKILL)
    server.rows("SELECT 1")
    placed, back = log.look().placed, utc_now()
    took = wait_for(lambda: log.look().placed > placed, 60, "dialing does not go on", every=0.005)
    print(f"away for {(back - gone).total_seconds():.1f} s; calls leave {took:.2f} s after it is back")
    return took


def ordered_after(log: CarrierLog, moment: datetime) -> list[dict[str, object]]:
    """Calls that reached the far end later than that."""
    return [order for order in log.look().orders if datetime.fromisoformat(order["at"]) > moment]


def survives_database_kills(serve: Serve, kills: int, source: Path | None = None) -> None:
    """Each attempt of the far end has its row, every number ends, and no engine was overtaken."""
    far_port = free_port()
    server = serve(source=source, **over_sip())
    server.make_vdn(secret=SECRET)
    folder = server.data.parent
    with receiving(folder) as receiver, far_end(folder, far_port, ring=0.3, talk=4.0) as log:
        connect(server.dsn, far_port)
        start_campaign(server.dsn, 100_000, receiver.url, per_second=20, endings=ENDINGS)
        resumed = []
        for nth in range(kills):
            resumed.append(kill_the_database(server, log, frozen=3.0 if nth % 2 else 0.0))
            assert resumed[-1] <= RESUMED_WITHIN, "dialing goes on late"
        call_no_more(server.dsn)
        found = all_over(server.dsn, log, receiver, set(), within=10)
        assert runs(server) == 1
    evidence({"calls": kills * MANY}, kills=kills, calls=found.placed, resumed_within=round(max(resumed), 2))


def test_kill_of_the_database(serve: Serve) -> None:
    """No call without it (G6), and dialing goes on by itself."""
    survives_database_kills(serve, 2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_kills_of_the_database(serve: Serve) -> None:
    survives_database_kills(serve, 20)
