"""A disk without a byte left (trust.md R6): answers go on, nothing is lost, and it works again by itself.

Real file systems, filled while clients add and a campaign calls. The witnesses are the clients' journal, the
carrier's log and the receiver's journal, all on another disk, and the rows of the database.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from adding import ANSWER_WITHIN, NO_STORE, NOT_SENT, OK, TOO_SOON, Adders, adders
from calling import SECRET, SETTINGS, CarrierLog, all_ended, launched, receiving, start_campaign
from disks import Disk, kept_outside, outdial, small_disk, use_up_the_log, whole
from serving import VDN, Server, ready, serving, wait_for
from test_adds import MEASURED, judged
from trunks import connect, far_end, over_sip

from outdial.store.store import Store
from ports import free_port

AGAIN_WITHIN = 5.0
"""Seconds from the moment there is room until it works as before."""

MIB = 200
"""Of the disk: a new cluster takes 60, a busy minute the half of the rest."""

ENOUGH = 20
"""Requests that fail because a write found no space; fewer prove nothing."""

OUTSIDE = ("carrier.jsonl", "postgres.log")
"""What is kept on another disk: the witness, and what tells of failures."""

NO_SPACE = "No space left on device"
ROLES = ("supervisor", "api", "engine", "push", "carrier")


@dataclass(frozen=True)
class Full:
    """What was seen while the disk was full: requests refused, failures of PostgreSQL, calls placed."""

    refused: int
    failures: int
    ready: bool
    placed: int


def failures(server: Server) -> int:
    """Writes of PostgreSQL that failed for want of space: for requests of the clients, for itself."""
    told = server.errors.read_text(encoding="utf-8").count('"cause":"DiskFullError')
    return told + server.said_by_postgres().count(NO_SPACE)


@contextmanager
def on_a_small_disk(
    place: Path, outside: Sequence[str], source: Path | None = None
) -> Iterator[tuple[Server, Disk]]:
    """A server whose whole data folder is a disk of its own, but for these files."""
    with (
        small_disk(place / "data", MIB) as disk,
        kept_outside(disk.path, *outside),
        serving(place, source=source, **SETTINGS) as server,
    ):
        yield server, disk


def full_for(server: Server, disk: Disk, clients: Adders, log: CarrierLog, lasting: float) -> Full:
    """Fill the disk under load: requests fail for want of space. Then PostgreSQL's log too: it panics."""
    refused, failed = clients.outcomes()[NO_STORE], failures(server)
    dsn = server.dsn
    disk.fill()
    wait_for(lambda: failures(server) >= failed + ENOUGH, 60, server.said)
    use_up_the_log(dsn)
    wait_for(lambda: clients.outcomes()[NO_STORE] >= refused + ENOUGH, 60, "nothing is refused")
    wait_for(lambda: not ready(server.port), 60, "it stays ready")
    time.sleep(1.0)  # an intent is good for that long
    placed = log.look().placed
    time.sleep(lasting)
    placed = log.look().placed - placed
    is_ready = ready(server.port)
    return Full(clients.outcomes()[NO_STORE] - refused, failures(server) - failed, is_ready, placed)


def survives(
    place: Path,
    *,
    rounds: int,
    numbers: int,
    lasting: float,
    outside: Sequence[str] = OUTSIDE,
    source: Path | None = None,
) -> None:
    full: list[Full] = []
    back: list[float] = []
    with (
        on_a_small_disk(place, outside, source) as (server, disk),
        receiving(place) as receiver,
        adders(server, secret=SECRET) as clients,
    ):
        log = CarrierLog(server.carrier_log)
        survivors = server.of(*ROLES)
        start_campaign(server.dsn, numbers, receiver.url, per_second=20)
        with clients.adding():
            for _ in range(rounds):
                before = clients.acknowledged()
                wait_for(lambda: clients.acknowledged() >= before + 20, 60, "nothing is accepted")  # noqa: B023
                launched(log)
                full.append(full_for(server, disk, clients, log, lasting))
                before, placed = clients.acknowledged(), log.look().placed
                disk.make_room()
                took = wait_for(lambda: clients.acknowledged() >= before + 20, 60, server.said)  # noqa: B023
                took += wait_for(lambda: log.look().placed > placed, 60, "nothing is called")  # noqa: B023
                back.append(took)
        found = judged(server, clients)
        calls = all_ended(server.dsn, log, receiver)
        tables, indexes = whole(server)
        alive = [process.alive() for process in survivors]
    refused, failed = [one.refused for one in full], [one.failures for one in full]
    print(
        f"{rounds} times full: refused {refused}, writes failed {failed}, back after"
        f" {[round(one, 1) for one in back]} s; {tables} tables and {indexes} indexes are whole"
    )
    assert max(back) <= AGAIN_WITHIN
    assert all(alive)
    assert found.slowest <= ANSWER_WITHIN + MEASURED
    assert found.outcomes[NOT_SENT] == 0
    assert not any(one.ready for one in full), "ready without a database"
    assert not any(one.placed for one in full), "called without a database"
    assert calls.unknown == 0
    assert tables >= 20
    assert min(*refused, *failed) >= ENOUGH, "too few met the full disk: nothing is proved"


def test_a_full_disk(place: Path) -> None:
    survives(place, rounds=1, numbers=150, lasting=0.5)


@pytest.mark.long
def test_a_disk_that_is_full_for_long(place: Path) -> None:
    """PostgreSQL has ended again and again by then; the pauses between two starts have grown."""
    survives(place, rounds=2, numbers=200, lasting=15)


@pytest.mark.long
def test_a_full_disk_that_holds_the_log_of_postgres(place: Path) -> None:
    survives(place, rounds=1, numbers=100, lasting=5, outside=["carrier.jsonl"])


# -- a start -----------------------------------------------------------------------------------------------


def refused_to_start(disk: Disk) -> str:
    status, _, said = outdial("serve", "--data", str(disk.path), "--listen", "127.0.0.1:0")
    assert status == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.long
def test_a_start_on_a_full_disk(place: Path) -> None:
    """It says what is wrong and where, so does the doctor; nothing is half done, and with room it starts."""
    with small_disk(place / "data", MIB) as disk:
        disk.fill()
        said = refused_to_start(disk)
        assert str(disk.path) in said
        assert NO_SPACE in said
        disk.make_room()
        with serving(place, **SETTINGS) as server:
            assert server.stop() == 0
            disk.fill()
            said = refused_to_start(disk)
            assert f"the disk of {disk.path / 'postgres'} is full (0 bytes free): make room" in said
            status, found, _ = outdial("doctor", "--data", str(disk.path))
            assert status == 1
            (line,) = (line for line in found.splitlines() if line.startswith("data folder\t"))
            assert line.startswith(f"data folder\tfailed\t{disk.path}, 0.0 GiB free\tmake room")
            disk.make_room()
            server.start()


# -- the log -----------------------------------------------------------------------------------------------


def lost_lines(log: Path) -> int:
    """Lines that the processes say they could not write."""
    said = (line for line in log.read_text(encoding="utf-8").splitlines() if "log lines lost" in line)
    return sum(json.loads(line)["lines"] for line in said)


def through_a_full_log(place: Path, source: Path | None = None) -> None:
    """Start, add and call with nowhere to log to: nothing of it is noticed from outside."""
    with small_disk(place / "logs", 1) as disk:
        errors = disk.path / "stderr.log"
        disk.fill()
        with (
            receiving(place) as receiver,
            serving(place, source=source, errors=errors, **SETTINGS) as server,
            adders(server, 50, secret=SECRET) as clients,
        ):
            survivors = server.of(*ROLES)
            log = CarrierLog(server.carrier_log)
            start_campaign(server.dsn, 50, receiver.url, per_second=25)
            with clients.adding():
                wait_for(lambda: clients.acknowledged() >= 100, 60, "nothing is accepted")
            calls = all_ended(server.dsn, log, receiver)
            found = judged(server, clients)
            assert errors.stat().st_size == 0, "something was written: the log was not full"
            disk.make_room()
            clients.send_once_more()
            wait_for(lambda: lost_lines(errors) >= 20, 10, server.said)
            alive = [process.alive() for process in survivors]
            assert server.stop() == 0
        print(f"{lost_lines(errors)} lines of the log were lost")
    assert all(alive)
    assert found.outcomes.keys() <= {OK, TOO_SOON}
    assert calls.unknown == 0


@pytest.mark.long
def test_a_full_log_stops_nothing(place: Path) -> None:
    through_a_full_log(place)


# -- the counters of /metrics ------------------------------------------------------------------------------


def through_a_full_tmpdir(place: Path, source: Path | None = None) -> None:
    """The files that processes count in lie in TMPDIR; one begins anew when it is full."""
    address = {"metrics_listen": f"127.0.0.1:{free_port()}"}
    with (
        small_disk(place / "tmp", 1) as disk,
        receiving(place) as receiver,
        serving(place, source=source, **SETTINGS, **address) as server,
    ):
        wait_for(lambda: "engine run begun" in server.said(), 60, "no engine run")
        disk.fill()
        engine = server.one("engine")
        survivors = [one for one in server.of(*ROLES) if one != engine]
        (counted,) = disk.path.glob("outdial-*/engine.metrics")
        counted.unlink()
        supervisor = server.one("supervisor")
        supervisor.signal(signal.SIGSTOP)  # the next engine begins when what this one held is taken
        engine.signal(signal.SIGKILL)
        wait_for(lambda: not engine.alive(), 10, "it lives on")
        disk.fill()
        supervisor.signal(signal.SIGCONT)
        server.make_vdn(secret=SECRET)
        start_campaign(server.dsn, 20, receiver.url, per_second=20)
        all_ended(server.dsn, CarrierLog(server.carrier_log), receiver, within=30)
        assert ready(server.port)
        assert all(process.alive() for process in survivors), "a counter ended a process"
        assert "not counted for /metrics" in server.errors.read_text(encoding="utf-8")


@pytest.mark.long
def test_a_counter_without_a_page_ends_no_process(place: Path) -> None:
    through_a_full_tmpdir(place)


# -- the engine's prompts ----------------------------------------------------------------------------------

PROMPTS = 20
FLOW = {"start": "a", "steps": {"a": {"play": {"prompts": "p0"}, "next": "b"}, "b": {"hangup": {}}}}


async def fill_shelf(dsn: str) -> None:
    async with Store(dsn, None, size=1) as store:
        for nth in range(PROMPTS):
            await store.flows.add_prompt(VDN, f"p{nth}", bytes([nth]) * 1600)
        await store.flows.add(VDN, "default", json.dumps(FLOW), {"p0"})


@pytest.mark.long
def test_calls_are_played_what_cannot_be_kept_on_disk(place: Path) -> None:
    (place / "data").mkdir(mode=0o711)
    port = free_port()
    with (
        small_disk(place / "data" / "shelf", 1) as disk,
        receiving(place) as receiver,
        far_end(place, port, ring=0.1, talk=20) as log,
        serving(place, **over_sip()) as server,
    ):
        engine = server.one("engine")
        server.make_vdn(secret=SECRET)
        disk.fill()
        asyncio.run(fill_shelf(server.dsn))
        connect(server.dsn, port)
        start_campaign(server.dsn, 20, receiver.url, per_second=20, endings=("01",))
        calls = all_ended(server.dsn, log, receiver, within=15)
        failed = server.errors.read_text(encoding="utf-8").count(NO_SPACE)
        assert engine.alive()
    print(f"{failed} files could not be written")
    assert calls.dispositions == {"ANSWERED": 20}, "the flow hangs up long before the far end"
    assert failed >= PROMPTS, "the disk was not full: nothing is proved"
