"""The database fails while clients add and calls leave (G1 to G3, G6): it ends, loses backends, stands still.

The witnesses are the journal of the clients, the carrier's log, the receiver's journal and SQL. A copy of
the server that notes each statement whose end was not heard shows that the faults landed.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adding import CUT, NO_STORE
from calling import SETTINGS
from clusters import clusters
from outages import Embedded, Foreign, Target, Trial, fates, outcome, trial, witnessing
from serving import Mutate, Serve

SEED = 20261125


@pytest.fixture
def foreign(place: Path) -> Iterator[Any]:
    """A running PostgreSQL that is given by its DSN."""
    with clusters(place) as made:
        cluster = made("foreign")
        cluster.make()
        cluster.start()
        yield cluster


def strike(one: Trial, target: Target, *, stops: int = 0, kills: int = 0, backends: int = 0) -> None:
    """Immediate stops, kills of the postmaster and of backends, in any order, under load."""
    chance = random.Random(SEED)
    blows = ["stop"] * stops + ["kill"] * kills + ["backend"] * backends
    chance.shuffle(blows)
    with one.clients.adding():
        for nth, blow in enumerate(blows):
            if blow == "backend":
                one.kill_backend(target, chance, calls=backends < 10 or nth % 10 == 9)
            else:
                one.end(target, signal.SIGQUIT if blow == "stop" else signal.SIGKILL)
    print(f"seed {SEED}: {dict(Counter(blows))}")


def freeze(one: Trial, target: Target, seconds: float) -> None:
    """It stands still under load."""
    with one.clients.adding():
        one.freeze(target, seconds)


def test_a_foreign_postgresql_stops_and_loses_backends(
    serve: Serve, place: Path, mutate: Mutate, foreign: Any
) -> None:
    server = serve(source=witnessing(place, mutate), database=foreign.dsn, **SETTINGS)
    with trial(server) as one:
        strike(one, Foreign(foreign, away=(2.5, 0.0)), stops=1, kills=1, backends=3)
        outcome(one)
    assert sum(fates(place).values()) >= 1, "no end of a statement was lost: nothing is proved"


def test_the_embedded_postgresql_stops_and_stands_still(serve: Serve) -> None:
    server = serve(**SETTINGS)
    with trial(server) as one:
        strike(one, Embedded(server), stops=1)
        freeze(one, Embedded(server), 6.0)
        found = outcome(one)
    assert found.adds.outcomes[NO_STORE] >= 1
    assert found.calls.placed >= 20


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_stops_and_ten_kills_of_a_foreign_postgresql(
    serve: Serve, place: Path, mutate: Mutate, foreign: Any
) -> None:
    """Away for up to 5.5 s, longer than a fate is asked for: there may be no answer then."""
    server = serve(source=witnessing(place, mutate), database=foreign.dsn, **SETTINGS)
    with trial(server) as one:
        strike(one, Foreign(foreign, away=(0.0, 0.5, 0.0, 5.5, 0.0, 1.5)), stops=20, kills=10)
        found = outcome(one)
    noted = fates(place)
    assert sum(noted.values()) + found.adds.outcomes[CUT] >= 1, "no end was lost: nothing is proved"
    assert noted["kept"] + found.adds.kept >= 1, "none whose end was not heard was kept"
    assert noted["absent"] + found.adds.absent >= 1, "all of them were kept"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_hundred_backends(serve: Serve, place: Path, mutate: Mutate, foreign: Any) -> None:
    server = serve(source=witnessing(place, mutate), database=foreign.dsn, **SETTINGS)
    with trial(server) as one:
        strike(one, Foreign(foreign), backends=200)
        outcome(one)
    noted = fates(place)
    assert sum(noted.values()) >= 200 / 50, "too few ends of statements were lost: nothing is proved"
    assert noted["kept"] >= 1, "none of them was kept"
    assert noted["absent"] >= 1, "all of them were kept"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_embedded_postgresql_ends_thirty_times(serve: Serve) -> None:
    server = serve(**SETTINGS)
    with trial(server) as one:
        strike(one, Embedded(server), stops=20, kills=10)
        outcome(one)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_postgresql_that_stands_still_for_half_a_minute(serve: Serve) -> None:
    server = serve(**SETTINGS)
    with trial(server) as one:
        freeze(one, Embedded(server), 30.0)
        found = outcome(one)
    assert found.adds.outcomes[NO_STORE] >= 5
