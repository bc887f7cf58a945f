"""The n-th write or sync of PostgreSQL fails, for n = 1, 2, 3 .. (trust.md R7): nothing is lost by it.

A library under PostgreSQL makes one call fail (failing_writes.c) and counts that it did. After a failed sync
of its log PostgreSQL panics and recovers; the witnesses are those of a full disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import asyncpg
import pytest
from adding import ANSWER_WITHIN, NOT_SENT, Adders, adders
from calling import SECRET, SETTINGS, CarrierLog, all_ended, receiving, start_campaign
from disks import whole
from failing import Faults, failing_postgres
from serving import Server, serving, wait_for
from test_adds import MEASURED, judged
from test_disk import AGAIN_WITHIN, ROLES

ROUND = 15
"""Requests that a round accepts. With its checkpoint it makes a few dozen syncs, and as many writes."""


def one_failure(server: Server, clients: Adders, faults: Faults, kind: str, nth: int) -> float | None:
    """One round in which the nth call fails; the seconds until it works as before, None: there was no nth."""
    before = clients.acknowledged()
    faults.arm(kind, nth)
    wait_for(lambda: faults.failed or clients.acknowledged() >= before + ROUND, 60, "nothing is accepted")
    if not faults.failed:
        with suppress(asyncpg.PostgresError, OSError):  # this may be what fails
            server.ask(lambda conn: conn.execute("CHECKPOINT"))
    faults.disarm()
    if not faults.failed:
        return None
    before = clients.acknowledged()
    return wait_for(lambda: clients.acknowledged() >= before + ROUND, 60, server.said)


def calls_to_fail() -> Iterator[int]:
    """1, 2, 3 .. 8, then with growing steps: each costs a recovery of PostgreSQL."""
    nth = 1
    while True:
        yield nth
        nth += max(1, nth // 4)


def survives_failures(
    place: Path, kinds: Sequence[str], calls: int, *, most: int = 60, source: Path | None = None
) -> dict[str, int]:
    """Rounds of each kind until nothing fails, at most so many; the n that failed no more, 0: not reached."""
    last: dict[str, int] = {}
    with (
        failing_postgres(place) as faults,
        receiving(place) as receiver,
        serving(place, source=source, pg_bin=faults.programs, **SETTINGS) as server,
        adders(server, secret=SECRET) as clients,
    ):
        log = CarrierLog(server.carrier_log)
        survivors = server.of(*ROLES)
        start_campaign(server.dsn, calls, receiver.url, per_second=10)
        back: dict[str, list[float]] = {}
        with clients.adding():
            wait_for(lambda: clients.acknowledged() >= ROUND, 60, "nothing is accepted")
            for kind in kinds:
                back[kind], last[kind] = [], 0
                for nth in islice(calls_to_fail(), most):
                    took = one_failure(server, clients, faults, kind, nth)
                    if took is None:
                        last[kind] = nth
                        break
                    back[kind].append(took)
        found = judged(server, clients)
        ended = all_ended(server.dsn, log, receiver)
        tables, indexes = whole(server)
        panics = server.said_by_postgres().count("PANIC")
        alive = [process.alive() for process in survivors]
    for kind, seconds in back.items():
        ends = f"there was no call {last[kind]}" if last[kind] else "then it was enough"
        print(f"{kind}: {len(seconds)} failed, one a round, {ends}; back after {max(seconds):.1f} s at most")
        assert seconds, "nothing failed: nothing is proved"
        assert max(seconds) <= AGAIN_WITHIN
    print(f"PostgreSQL panicked {panics} times; {tables} tables and {indexes} indexes are whole")
    assert panics >= 1
    assert all(alive)
    assert found.slowest <= ANSWER_WITHIN + MEASURED
    assert found.outcomes[NOT_SENT] == 0
    assert ended.unknown == 0
    return last


def test_the_first_three_syncs_fail(place: Path) -> None:
    survives_failures(place, ["sync"], calls=40, most=3)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_syncs_and_writes_fail_until_none_is_left(place: Path) -> None:
    last = survives_failures(place, ["sync", "write"], calls=300)
    assert all(last.values()), "it did not end by itself"
