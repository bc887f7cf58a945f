"""A backup taken under load holds every number that was acknowledged before it began (trust.md R26)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adding import OK, Adders, Verdict, adders, verdict
from evidence import evidence
from journal import lines_of
from serving import Serve, Server, clean_environment, wait_for


def outdial(*arguments: object) -> str:
    """Run a command; what it printed to stdout."""
    command = [sys.executable, "-m", "outdial", *map(str, arguments)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accepted(journal: Path) -> set[int]:
    """The requests whose acceptance is on the disk by now."""
    return {line["request"] for line in lines_of(journal) if line["event"] == "end" and line["outcome"] == OK}


def backed_up(server: Server, clients: Adders, file: Path, acknowledged: int) -> tuple[set[int], set[int]]:
    """Back up while the clients add; what was accepted before it began, and by its end.

    The clients pause in step with one another, and a backup may fit into a pause: then once more.
    """
    journal = server.data.with_name("journal.jsonl")
    with clients.adding():
        wait_for(lambda: len(accepted(journal)) >= acknowledged, 120, "nothing is accepted")
        for _ in range(20):
            before = accepted(journal)
            outdial("db", "backup", file, "--data", server.data)
            after = accepted(journal)
            if after > before:
                break
        wait_for(lambda: len(accepted(journal)) > len(after), 60, "nothing is accepted after the backup")
    return before, after


def restored(server: Server, file: Path) -> Verdict:
    """The verdict on a server that runs on what was restored."""
    data = server.data.with_name("restored")
    outdial("db", "restore", file, "--data", data)
    shutil.copy(server.data.with_name("data.key"), data.with_name("restored.key"))
    second = Server(data)
    try:
        second.start()
        return verdict(server.data.with_name("journal.jsonl"), second)
    finally:
        second.close()
        shutil.rmtree(data, ignore_errors=True)


def holds_what_was_acknowledged(serve: Serve, rounds: int, acknowledged: int) -> None:
    server = serve()
    with adders(server) as clients:
        for nth in range(1, rounds + 1):
            file = server.data.with_name(f"{nth}.backup")
            before, after = backed_up(server, clients, file, nth * acknowledged)
            found = restored(server, file)
            print(found)
            evidence(
                {"accepted_before": nth * acknowledged, "accepted_during": 1},
                accepted_before=len(before),
                accepted_during=len(after - before),
                lost_before=len(before & set(found.lost)),
            )
            assert not before & set(found.lost)
            assert not [*found.torn, *found.twice, *found.uninvited, *found.miscounted], found
            assert found.lost, "what came after the backup is there: it is no backup of one moment"


def test_a_backup_under_load_holds_what_was_acknowledged(serve: Serve) -> None:
    holds_what_was_acknowledged(serve, rounds=1, acknowledged=150)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_five_backups_under_load(serve: Serve) -> None:
    holds_what_was_acknowledged(serve, rounds=5, acknowledged=1000)
