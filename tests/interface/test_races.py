"""32 clients, one campaign, one moment, three api processes (semantics.md §3; see races.py)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from face import Face, Server
from races import CLIENTS, Crowd, blacklist_round, deletion_round, limit_round, replay_round, second_round

PROCESSES = 3
ROUNDS = [pytest.param(4, id="few"), pytest.param(60, id="many", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def served(make_server: Server) -> Iterator[Face]:
    with make_server(processes=PROCESSES) as face:
        yield face


@pytest.fixture
def crowd(served: Face) -> Iterator[Crowd]:
    gathered = Crowd(served, PROCESSES)
    yield gathered
    gathered.close()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_limit_is_never_passed_by_one(crowd: Crowd, rounds: int) -> None:
    for seed in range(rounds):
        limit_round(crowd, random.Random(seed), gated=seed % 2 == 0)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_1_second_rule_lets_exactly_one_through(crowd: Crowd, rounds: int) -> None:
    """At least half of the rounds took less than a second, so that exactly one was right."""
    exact = sum(second_round(crowd, random.Random(seed), gated=seed % 2 == 0) for seed in range(rounds))
    assert exact >= rounds / 2


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_blacklist_entry_committed_before_a_request_begins_is_seen(crowd: Crowd, rounds: int) -> None:
    """Some of the adds that began before it were accepted: the entry did come between."""
    accepted = [blacklist_round(crowd, random.Random(f"{rounds} {seed}")) for seed in range(rounds)]
    assert sum(accepted) > 0
    assert max(accepted) <= CLIENTS // 2


@pytest.mark.parametrize("rounds", ROUNDS)
def test_adds_and_deletes_at_once_count_right(crowd: Crowd, rounds: int) -> None:
    for seed in range(rounds):
        deletion_round(crowd, random.Random(seed), gated=seed % 2 == 0)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("second", [False, True], ids=["no 1-second rule", "1-second rule"])
@pytest.mark.parametrize("keyed", [False, True], ids=["same bytes", "same key"])
def test_the_same_request_32_times_has_one_effect(
    crowd: Crowd, rounds: int, second: bool, keyed: bool
) -> None:
    for seed in range(rounds):
        replay_round(crowd, random.Random(seed), gated=seed % 2 == 0, second=second, keyed=keyed)
