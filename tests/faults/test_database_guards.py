"""The proofs of the database's failures, each seen red with its guard taken out."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from adding import verdict
from calling import SETTINGS
from outages import Embedded, Trial, trial
from serving import Mutate, Serve
from test_database import foreign, freeze
from test_failover import Pair, nothing_unreplicated_is_acknowledged, pair, synchronous
from test_fault_guards import PLACED_BEFORE

__all__ = ["foreign", "pair", "synchronous"]

pytestmark = [pytest.mark.guard, pytest.mark.long, pytest.mark.timeout(600)]

UNKNOWN = "_fail(waiting, commit_unknown(type(lost).__name__))"


def frozen_to_death(one: Trial, cluster: Any) -> None:
    """It stands still until fates cannot be learned any more, and is killed: what was under way never was."""
    with one.clients.adding():
        one.ready()
        tree = cluster.tree()
        for process in tree:
            process.signal(signal.SIGSTOP)
        time.sleep(6.0)
        for process in tree[1:]:
            process.signal(signal.SIGKILL)
        cluster.signal(signal.SIGKILL)
        cluster.start()
        one.resumes()


def test_an_unknown_fate_that_is_taken_for_a_refusal_is_seen(serve: Serve, mutate: Mutate) -> None:
    refused = UNKNOWN.replace("commit_unknown", "unavailable")
    server = serve(source=mutate(("store/numbers.py", UNKNOWN, refused)), **SETTINGS)
    with trial(server) as one:
        for _ in range(8):  # whether a statement is done when all stands still is luck
            freeze(one, Embedded(server), 6.0)
            found = verdict(server.data.with_name("journal.jsonl"), server)
            print(found)
            if found.uninvited:
                return
    pytest.fail("it is not seen")


def test_an_unknown_fate_that_is_taken_for_kept_is_seen(serve: Serve, mutate: Mutate, foreign: Any) -> None:
    kept = "_resolve(waiting, Outcome(Facts(found=True, takes_numbers=True), kept=True))"
    server = serve(source=mutate(("store/numbers.py", UNKNOWN, kept)), database=foreign.dsn, **SETTINGS)
    with trial(server) as one:
        for _ in range(8):  # whether a COMMIT is under way when all stands still is luck
            frozen_to_death(one, foreign)
            found = verdict(server.data.with_name("journal.jsonl"), server)
            print(found)
            if found.lost:
                return
    pytest.fail("it is not seen")


def test_a_pool_that_is_never_renewed_is_seen(serve: Serve, mutate: Mutate, foreign: Any) -> None:
    acquire = "            held = await self._pool.acquire(timeout=wait)\n"
    once = """\
            if self._pool is None or getattr(self, "lost", False):
                raise asyncpg.InterfaceError("lost")
            try:
                held = await self._pool.acquire(timeout=wait)
            except BaseException:
                self.lost = True
                raise
"""
    server = serve(source=mutate(("store/postgres.py", acquire, once)), database=foreign.dsn, **SETTINGS)
    with trial(server) as one, one.clients.adding():
        one.ready()
        foreign.signal(signal.SIGQUIT)
        time.sleep(1.0)
        foreign.start()
        with pytest.raises(AssertionError, match=r"nothing is (accepted|called) again"):
            one.resumes()


def test_calls_that_leave_before_their_claim_is_kept_are_seen(
    serve: Serve, mutate: Mutate, foreign: Any
) -> None:
    server = serve(source=mutate(*PLACED_BEFORE), database=foreign.dsn, **SETTINGS)
    with trial(server) as one, one.clients.adding():
        for _ in range(5):
            placed = one.log.look().placed
            while one.log.look().placed == placed:
                time.sleep(0.005)
            foreign.signal(signal.SIGKILL)
            foreign.start()
            one.resumes()
    called = {order["attempt"] for order in one.log.look().orders}
    stored = {row["id"] for row in server.rows("SELECT attempt_id::text AS id FROM attempt")}
    print(f"{len(called - stored)} calls without an attempt")
    assert called - stored


def test_a_lookup_that_does_not_wait_for_the_standby_is_seen(
    serve: Serve, mutate: Mutate, synchronous: Pair
) -> None:
    message = ", pg_logical_emit_message(true, 'outdial', '')"
    source = mutate(("store/queries/numbers.sql", message, ""), ("store/queries/commits.sql", message, ""))
    with pytest.raises(AssertionError, match=r"lost=\[\d"):
        nothing_unreplicated_is_acknowledged(lambda **settings: serve(source=source, **settings), synchronous)
