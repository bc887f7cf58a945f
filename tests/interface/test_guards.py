"""Each race is seen red with its guard taken out: the rounds of races.py against mutated copies of src."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from face import Server
from races import Crowd, blacklist_round, limit_round, replay_round, second_round

from mutating import Change, copy_of_src

PROCESSES = 3
ROUNDS = 12
"""Within which a missing guard must show; the gate makes the very first round likely."""

pytestmark = [pytest.mark.guard, pytest.mark.long]

Round = Callable[[Crowd, random.Random], Any]
replay_with_second: Round = partial(replay_round, second=True)


@dataclass(frozen=True)
class Mutation:
    """A guard taken out: in `file`, `text` becomes `instead`; `sees` goes red."""

    guard: str
    file: str
    text: str
    instead: str
    sees: Round
    faults: bool | None = False
    """The database then raises what the guard kept away: answers 500; None: in some rounds."""

    @property
    def change(self) -> Change:
        return self.file, self.text, self.instead


NUMBERS = "store/queries/numbers.sql"
ROW_LOCK = "    ORDER BY campaign_id\n    FOR NO KEY UPDATE\n"
SECOND = "l.last_added_at > c.now - interval '1 second'"
STORED = "        if stored is None:\n            return None\n"

MUTATIONS = [
    Mutation("the row lock (limit)", NUMBERS, ROW_LOCK, "    ORDER BY campaign_id\n", limit_round),
    Mutation("the row lock (1 second)", NUMBERS, ROW_LOCK, "    ORDER BY campaign_id\n", second_round),
    Mutation("the limit", "intake.py", "MAX_INCOMPLETE = 200_000", "MAX_INCOMPLETE = 200_005", limit_round),
    Mutation("the limit in SQL alone", NUMBERS, "AND r.incomplete + r.n <= $24", "", limit_round, None),
    Mutation("the 1-second rule", NUMBERS, SECOND, "false", second_round),
    Mutation("the 1-second rule in SQL alone", NUMBERS, "AND NOT r.too_soon ", "", second_round),
    Mutation("the blacklist", NUMBERS, "= ANY(ARRAY(SELECT hash", "= ALL(ARRAY(SELECT hash", blacklist_round),
    Mutation("the blacklist in SQL alone", NUMBERS, "AND b.req IS NULL", "", blacklist_round),
    Mutation("waiting for the same request", NUMBERS, "    ON CONFLICT DO NOTHING\n", "", replay_round, True),
    Mutation(
        "the signature in the stored answer's key",
        "web/access.py",
        "key_of(ak, self.authorization.signature.encode())",
        "key_of(ak, str(id(self)).encode(), str(datetime.now()).encode())",
        replay_round,
    ),
    Mutation(
        "looking for the stored answer", "service.py", STORED, "        return None\n", replay_with_second
    ),
]


def run(make_server: Server, source: Path, round_: Round) -> str:
    """Run the rounds; what the processes logged until one failed, or until the end."""
    with make_server(processes=PROCESSES, source=source) as face:
        crowd = Crowd(face, PROCESSES)
        try:
            for seed in range(ROUNDS):
                round_(crowd, random.Random(seed))
        except AssertionError:
            return f"red\n{face.processes.log()}"
        finally:
            crowd.close()
        return f"green\n{face.processes.log()}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.guard for mutation in MUTATIONS])
def test_without_its_guard_the_race_is_lost(make_server: Server, tmp_path: Path, mutation: Mutation) -> None:
    """And by that alone: the mutated server has no fault of another kind."""
    seen = run(make_server, copy_of_src(tmp_path, mutation.change), mutation.sees)
    assert seen.startswith("red")
    assert mutation.faults in (None, "our own fault" in seen)


@pytest.mark.parametrize(
    "round_", [limit_round, second_round, blacklist_round, replay_round, replay_with_second], ids=range(5)
)
def test_the_copy_itself_loses_none(make_server: Server, tmp_path: Path, round_: Round) -> None:
    """The control: it is the missing guard that is seen, not the copying."""
    assert run(make_server, copy_of_src(tmp_path), round_).startswith("green")
