"""Each crash proof is seen red with its guard taken out: the same proofs against mutated copies of src."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from adding import adders, verdict
from calling import (
    SECRET,
    SETTINGS,
    CarrierLog,
    Receiver,
    incomplete,
    launched,
    outbox,
    receiving,
    rows,
    start_campaign,
)
from calling import Verdict as Calls
from calling import verdict as verdict_on_calls
from engines import engines
from serving import Mutate, Serve, Server, make_vdn, wait_for
from test_adds import kill_while_adding, through_an_outage
from test_calls import kill_while_pushing, overtaken
from test_server import lines_to_each

from outdial.store.sealing import create_master_key
from outdial.store.store import Store

pytestmark = [pytest.mark.guard, pytest.mark.long]

# -- adds --------------------------------------------------------------------------------------------------

STATEMENT = '            try:\n                rows = await conn.fetch(QUERIES["admit"]'
ANSWERED_BEFORE = """\
            for waiting in group:
                _resolve(waiting, Outcome(Facts(found=True, takes_numbers=True), kept=True))
            await asyncio.sleep(0.2)
"""


def test_an_answer_before_the_commit_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("store/numbers.py", STATEMENT, ANSWERED_BEFORE + STATEMENT))
    server = serve(source=source)
    with adders(server) as clients:
        kill_while_adding(server, clients, 2)
        found = verdict(server.data.with_name("journal.jsonl"), server)
    print(found)
    assert found.lost


def test_a_repeated_request_without_a_stored_answer_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(
        ("store/numbers.py", "from uuid import UUID\n", "from uuid import UUID, uuid4\n"),
        ("store/numbers.py", "[add.request_key for add in adds]", "[uuid4() for add in adds]"),
    )
    server = serve(source=source)
    with adders(server) as clients:
        kill_while_adding(server, clients, 4, "api")
        clients.send_again()
        found = verdict(server.data.with_name("journal.jsonl"), server)
    print(found)
    assert found.twice


def test_a_request_that_waits_for_the_database_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(
        ("store/postgres.py", "CLIENT_TIMEOUT = 2.5\n", "CLIENT_TIMEOUT = 60.0\n"),
        ("store/postgres.py", "DEADLINE = 4.7\n", "DEADLINE = 60.0\n"),
    )
    with pytest.raises(AssertionError, match="slowest"):
        through_an_outage(serve(source=source), "postmaster", "backend", frozen=8.0)


# -- calls -------------------------------------------------------------------------------------------------


def after_kills(serve: Serve, source: Path, role: str, kills: int, numbers: int = 200) -> Calls:
    """Kill a role as soon as calls leave; the verdict once every number has ended."""
    server = serve(source=source, **SETTINGS)
    server.make_vdn(secret=SECRET)
    log = CarrierLog(server.carrier_log)
    with receiving(server.data.parent) as receiver:
        start_campaign(server.dsn, numbers, receiver.url, per_second=50)
        for _ in range(kills):
            launched(log)
            server.one(role).signal(signal.SIGKILL)
        return ended(server.dsn, log, receiver)


def ended(dsn: str, log: CarrierLog, receiver: Receiver) -> Calls:
    wait_for(lambda: not incomplete(dsn), 120, "numbers do not end", every=0.1)
    wait_for(lambda: not outbox(dsn), 120, "results are not delivered", every=0.1)
    found = verdict_on_calls(dsn, log, receiver)
    print(found)
    return found


CLAIMING = "        self._claiming = Claiming(store, switch, clock)\n"
CLAIMED = "                event = await self._take(claim, wanted, began, ids)\n"
PLACED_BEFORE = (
    ("engine/shell.py", CLAIMING, CLAIMING + "        self._claiming.shell = self\n"),
    (
        "engine/claiming.py",
        "from outdial import calendar, pacing\n",
        "import asyncio\n\nfrom outdial import calendar, pacing\n",
    ),
    (
        "engine/claiming.py",
        CLAIMED,
        CLAIMED
        + """\
                self.shell._tell(event)
                self.shell._drive()
                await asyncio.sleep(0.3)
""",
    ),
)
"""The calls of a claim leave before it is committed."""


def test_a_call_before_its_intent_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(*PLACED_BEFORE)
    found = after_kills(serve, source, "engine", 2)
    assert found.faults["a call without an attempt"]
    assert found.faults["a number called twice"]


def test_a_recovery_that_dials_again_is_seen(serve: Serve, mutate: Mutate) -> None:
    """What a dead engine left is simply put back."""
    adopted = "            self._tell(Adopted(tuple(adopted)))\n        await"
    put_back = """\
            for attempt in adopted:
                self._ledger.add(Withdraw(attempt.vdn_id, attempt.attempt_id))
        await"""
    source = mutate(("engine/shell.py", adopted, put_back))
    found = after_kills(serve, source, "engine", 1)
    assert found.faults["a number called twice"]


def test_a_call_of_unknown_fate_that_is_dialed_again_is_seen(serve: Serve, mutate: Mutate) -> None:
    """The carrier cannot tell, and the dialer takes that for a no."""
    lost = "        if word.fate is not Fate.ALIVE:\n            return [self._lost(call, now)]"
    source = mutate(("dialing/dialer.py", lost, lost.replace("_lost", "_withdraw")))
    found = after_kills(serve, source, "carrier", 1)
    assert found.faults["a number called twice"]


CALLS = "store/queries/calls.sql"
NO_FENCE = (
    (
        CALLS,
        "WHERE epoch = $1 AND fenced_at IS NULL FOR KEY SHARE\n\n-- name: due",
        "WHERE epoch = $1\n\n-- name: due",
    ),
    (CALLS, "WHERE epoch = $1 AND fenced_at IS NULL RETURNING", "WHERE epoch = $1 RETURNING"),
)


def test_an_engine_without_a_fence_is_seen(database: str, place: Path, mutate: Mutate) -> None:
    source = mutate(*NO_FENCE)
    create_master_key(place / "data")
    make_vdn(database, place / "data", SECRET)
    with receiving(place) as receiver, engines(database, place, source=source) as around:
        around.carrier()
        around.pusher()
        log = around.log
        engine = around.engine()
        start_campaign(database, 10_000, receiver.url, per_second=20)
        wait_for(lambda: log.look().placed >= 20, 60, "nothing is called")
        with pytest.raises(AssertionError, match="the overtaken engine goes on"):
            overtaken(around, engine, log)


def test_an_engine_that_goes_on_where_it_was_frozen_is_seen(
    database: str, place: Path, mutate: Mutate
) -> None:
    """Several calls on one reading of the clock, and a carrier that takes what it has called unseen."""
    source = mutate(
        ("dialing/words.py", "PLACES_AT_ONCE: Final = 1\n", "PLACES_AT_ONCE: Final = 500\n"),
        ("switch/carrier.py", "late = order.attempt_id in self._unseen", "late = False"),
    )
    create_master_key(place / "data")
    make_vdn(database, place / "data", SECRET)
    with receiving(place) as receiver, engines(database, place, source=source) as around:
        around.carrier()
        around.pusher()
        log = around.log
        first = around.engine()
        start_campaign(database, 1000, receiver.url, per_second=1000)
        launched(log)
        first.freeze()
        around.engine()
        query = "SELECT 1 FROM engine WHERE pid = $1 AND recovered_at IS NOT NULL"
        wait_for(lambda: rows(database, query, first.pid), 30, "nobody takes over", every=0.05)
        first.thaw()
        found = ended(database, log, receiver)
    assert found.faults["a number called twice"]


# -- results -----------------------------------------------------------------------------------------------


def test_a_result_taken_from_the_outbox_before_its_push_is_seen(serve: Serve, mutate: Mutate) -> None:
    leased = """\
    UPDATE outbox o SET leased_until = $2 FROM chosen c
    WHERE o.vdn_id = c.vdn_id AND o.result_id = c.result_id
"""
    taken = """\
    DELETE FROM outbox o USING chosen c
    WHERE o.vdn_id = c.vdn_id AND o.result_id = c.result_id AND $2::timestamptz IS NOT NULL
"""
    source = mutate(("store/queries/results.sql", leased, taken))
    server = serve(source=source, **SETTINGS)
    server.make_vdn(secret=SECRET)
    log = CarrierLog(server.carrier_log)
    with receiving(server.data.parent, delay=0.2) as receiver:
        start_campaign(server.dsn, 100, receiver.url, per_second=50)
        kill_while_pushing(server, receiver, 1)
        found = ended(server.dsn, log, receiver)
    assert found.faults["results missing"]


# -- the server --------------------------------------------------------------------------------------------


def test_a_listening_socket_that_stays_open_is_seen(serve: Serve, mutate: Mutate) -> None:
    server = serve(
        source=mutate(("compose.py", "        at_stop=lambda: held.close(sock),\n", "")), **SETTINGS
    )
    server.make_vdn()
    log = CarrierLog(server.carrier_log)
    start_campaign(server.dsn, 50, "http://127.0.0.1:9/none", per_second=50)
    launched(log)
    server.terminate()
    with pytest.raises(AssertionError, match="still takes"):
        wait_for(lambda: not server.listens(), 1.0, "it still takes connections")
    assert server.wait_end(within=35) == 0


def test_a_key_that_is_remembered_too_long_is_seen(serve: Serve, mutate: Mutate) -> None:
    server: Server = serve(source=mutate(("web/access.py", "FRESH = 0.5\n", "FRESH = 5.0\n")))
    key = server.make_vdn()
    (line,) = lines_to_each(server, key)

    async def revoke() -> None:
        async with Store(server.dsn, None, size=1) as store:
            await store.vdns.revoke_key(key.ak)

    asyncio.run(revoke())
    with pytest.raises(AssertionError, match="still valid"):
        wait_for(lambda: line.status() == 401, 1.0, "still valid")
    line.close()
