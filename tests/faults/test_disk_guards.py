"""The proofs of disks and of leaks are seen red with a bug seeded into a copy of src."""

from __future__ import annotations

from pathlib import Path

import pytest
from adding import adders, verdict
from calling import SECRET
from disks import use_up_the_log
from serving import Mutate, ready, wait_for
from test_disk import OUTSIDE, on_a_small_disk, survives, through_a_full_log, through_a_full_tmpdir
from test_fault_guards import ANSWERED_BEFORE, STATEMENT
from test_io_errors import survives_failures
from test_leaks import lived, numbers_found, secrets_found

pytestmark = [pytest.mark.guard, pytest.mark.long]

EARLY = ("store/numbers.py", STATEMENT, ANSWERED_BEFORE + STATEMENT)
"""The answer goes out, and then the database is asked to keep the numbers."""


def test_an_answer_before_a_full_disk_refuses_is_seen(place: Path, mutate: Mutate) -> None:
    with (
        on_a_small_disk(place, OUTSIDE, mutate(EARLY)) as (server, disk),
        adders(server, secret=SECRET) as clients,
    ):
        with clients.adding():
            wait_for(lambda: clients.acknowledged() >= 20, 60, "nothing is accepted")
            disk.fill()
            use_up_the_log(server.dsn)
            wait_for(lambda: not ready(server.port), 60, "PostgreSQL lives on")
            disk.make_room()
            wait_for(lambda: ready(server.port), 60, "it does not come back")
        found = verdict(server.data.with_name("journal.jsonl"), server)
    print(found)
    assert found.lost


def test_an_answer_before_the_sync_that_fails_is_seen(place: Path, mutate: Mutate) -> None:
    with pytest.raises(AssertionError, match=r"lost=\[\d"):
        survives_failures(place, ["sync"], calls=40, most=3, source=mutate(EARLY))


def test_pauses_that_grow_too_long_are_seen(place: Path, mutate: Mutate) -> None:
    slow = ("store/embedded/server.py", "_SLOWEST_CHECK = 2.0", "_SLOWEST_CHECK = 20.0")
    with pytest.raises(AssertionError, match=r"<= 5\.0"):
        survives(place, rounds=1, numbers=300, lasting=15, source=mutate(slow))


def test_a_log_whose_failure_goes_through_is_seen(place: Path, mutate: Mutate) -> None:
    strict = ("logs.py", "        except OSError:\n", "        except KeyError:\n")
    with pytest.raises(AssertionError):
        through_a_full_log(place, source=mutate(strict))


def test_counters_in_a_sparse_file_are_seen(place: Path, mutate: Mutate) -> None:
    sparse = (
        "metrics.py",
        "        there = os.fstat",
        "        os.ftruncate(descriptor, _cells.nbytes)\n        there = os.fstat",
    )
    with pytest.raises(AssertionError):
        through_a_full_tmpdir(place, source=mutate(sparse))


def test_a_number_in_the_log_is_seen(place: Path, mutate: Mutate) -> None:
    talkative = ("web/app.py", '            method=scope["method"],\n', '            path=scope["path"],\n')
    life = lived(place, 15, 40, source=mutate(talkative))
    assert {file for file, _ in numbers_found(life)} == {str(place / "stderr.log")}
    assert not secrets_found(life)


def test_a_secret_in_the_database_is_seen(place: Path, mutate: Mutate) -> None:
    clear = ("store/vdns.py", 'f"key {ak}"))\n        except', 'f"key {ak} {secret}"))\n        except')
    life = lived(place, 15, 40, source=mutate(clear))
    assert any("/data/postgres/base/" in file for file, _ in secrets_found(life))
    assert any("/data/postgres/pg_wal/" in file for file, _ in secrets_found(life))
    assert any(file.endswith("backup.tar") for file, _ in secrets_found(life))
    assert not numbers_found(life)
