"""The embedded PostgreSQL lives: it starts once, keeps what was committed, and ends with us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from toy_embedded import (
    BORROWER,
    HOLDER,
    STARTER,
    Run,
    fetch,
    new_folder,
    options,
    pgdata,
    programs,
    said,
    state,
    until,
)

from outdial.errors import SettingError
from outdial.store.embedded import (
    AlreadyRunning,
    EmbeddedPostgres,
    borrowed,
    child,
    running_dsn,
    survivors,
)
from outdial.store.embedded.account import account_for
from outdial.store.embedded.layout import locate

try:
    account_for(None, owner=None)
except SettingError as reason:
    pytest.skip(f"PostgreSQL cannot run here: {reason}", allow_module_level=True)

PHONE = "8613800138000"


@pytest.fixture
def data() -> Iterator[Path]:
    with new_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data folder with a stopped cluster, which every test leaves so: making one takes a second."""
    with new_folder() as folder:
        with EmbeddedPostgres(options(folder)):
            pass
        yield folder


@pytest.fixture
def runs() -> Iterator[Run]:
    with programs() as run:
        yield run


@contextlib.asynccontextmanager
async def busy(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A backend that computes and looks at nothing else."""
    connection = await asyncpg.connect(dsn)
    work = asyncio.create_task(connection.fetchval("SELECT count(*) FROM generate_series(1, 2000000000)"))
    await asyncio.sleep(0.1)
    yield connection
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError, asyncpg.PostgresError, OSError):
        await work
    connection.terminate()


class TestCluster:
    def test_encoding_locale_and_durability(self, made: Path) -> None:
        """initdb with UTF8 and locale C; nothing that loses a commit; no network."""
        asked = (
            "server_encoding lc_messages data_checksums fsync synchronous_commit timezone listen_addresses"
        )
        with EmbeddedPostgres(options(made)) as server:
            values = [fetch(server.dsn, f"SHOW {name}") for name in asked.split()]
            database = "SELECT datcollate || ' ' || datctype FROM pg_database WHERE datname = 'outdial'"
            assert fetch(server.dsn, database) == "C C"
        assert values == ["UTF8", "C", "on", "on", "on", "UTC", ""]

    def test_nothing_is_trusted(self, made: Path) -> None:
        """scram, never trust: no such line, and a wrong password is refused."""
        with EmbeddedPostgres(options(made)) as server:
            rules = "SELECT string_agg(type || ' ' || auth_method, ',') FROM pg_hba_file_rules"
            assert fetch(server.dsn, rules) == "local scram-sha-256"
            kept = "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'outdial'"
            assert fetch(server.dsn, kept) is True
            password = urlsplit(server.dsn).password or ""
            with pytest.raises(asyncpg.InvalidPasswordError):
                fetch(server.dsn.replace(password, "x" * len(password)), "SELECT 1")

    def test_who_may_read_what(self, made: Path) -> None:
        """The socket's folder is 0700, the cluster is 0700, the password 0600."""
        with EmbeddedPostgres(options(made)) as server:
            sockets = Path(parse_qs(urlsplit(server.dsn).query)["host"][0])
            assert len(os.fsencode(sockets / ".s.PGSQL.5432")) < 100
            owner = pgdata(made).stat().st_uid
            for folder in (sockets, pgdata(made)):
                assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (0o700, owner)
            for name in ("postgres.password", "postgres.log", "outdial.lock"):
                facts = (made / name).stat()
                assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o600, os.geteuid())

    @pytest.mark.parametrize("name", ["d" * 100, 'it\'s a "folder", ü 100%'])
    def test_a_folder_whose_path_fits_no_socket(self, made: Path, name: str) -> None:
        """A path too long or with odd characters: the socket lives in a private temporary folder."""
        place = made.rename(made.with_name(name))
        try:
            with EmbeddedPostgres(options(place)) as server:
                sockets = Path(parse_qs(urlsplit(server.dsn).query)["host"][0])
                assert fetch(server.dsn, "SELECT 1") == 1
                assert running_dsn(place, wait=0) == server.dsn
                assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            assert not sockets.exists() or sockets.parent == locate(place).home
        finally:
            place.rename(made)

    def test_no_phone_number_in_the_log(self, made: Path) -> None:
        """An error holds the value and the row; the log holds neither, and no statement."""
        with EmbeddedPostgres(options(made)) as server:
            fetch(
                server.dsn,
                "CREATE TABLE numbers (number text PRIMARY KEY)",
                f"INSERT INTO numbers VALUES ('{PHONE}')",
            )
            for statement in (
                f"INSERT INTO numbers VALUES ('{PHONE}')",
                f"SELECT '{PHONE}x'::bigint",
                f"{PHONE}",
            ):
                with pytest.raises(asyncpg.PostgresError):
                    fetch(server.dsn, statement)
            backend = "SELECT pg_backend_pid()"

            async def die() -> None:
                connection = await asyncpg.connect(server.dsn)
                pid = await connection.fetchval(backend)
                work = asyncio.create_task(connection.execute(f"SELECT pg_sleep(60), '{PHONE}'"))
                await asyncio.sleep(0.1)
                os.kill(pid, signal.SIGKILL)
                with pytest.raises((asyncpg.PostgresError, OSError)):
                    await work

            asyncio.run(die())
        log = (made / "postgres.log").read_text()
        assert "was terminated by signal 9" in log
        assert PHONE[:8] not in log

    def test_stop_while_it_recovers(self, made: Path) -> None:
        """After the death of a backend: version 18 never obeys a fast stop then, and is not asked for one."""

        async def kill_backend(dsn: str) -> None:
            connection = await asyncpg.connect(dsn)
            os.kill(connection.get_server_pid(), signal.SIGKILL)
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await connection.fetchval("SELECT pg_sleep(10)")

        with EmbeddedPostgres(options(made)) as server:
            asyncio.run(kill_backend(server.dsn))
            until(lambda: "reinitializing" in (made / "postgres.log").read_text()[-2000:], 5)
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 5

    def test_a_lost_password_file(self, made: Path) -> None:
        """Who owns the folder gets a new password; the rows stay."""
        with EmbeddedPostgres(options(made)) as server:
            fetch(server.dsn, "CREATE TABLE lost AS SELECT 7 AS i")
            first = server.dsn
        (made / "postgres.password").unlink()
        with EmbeddedPostgres(options(made)) as server:
            assert server.dsn != first
            assert fetch(server.dsn, "SELECT i FROM lost") == 7

    def test_killed_while_it_makes_the_cluster(self, data: Path, runs: Run) -> None:
        """kill -9 in the middle of initdb leaves no half cluster that counts as a whole one."""
        process = runs(HOLDER, data)

        def begun() -> bool:
            return (locate(data).nursery / "data" / "PG_VERSION").exists()

        until(begun, 10)
        process.kill()
        process.wait()
        assert not pgdata(data).exists()
        with EmbeddedPostgres(options(data)) as server:
            assert fetch(server.dsn, "SELECT 1") == 1
        assert not locate(data).nursery.exists()


class TestOneRunsIt:
    def test_two_starters_at_once(self, data: Path, runs: Run) -> None:
        """Exactly one starts it, on a folder that is new to both; the other joins it."""
        pair = [runs(STARTER, data), runs(STARTER, data)]
        words = sorted(said(process) for process in pair)
        assert [word for word, _ in words] == ["joined", "won"]
        assert words[0][1] == words[1][1]
        assert fetch(words[0][1], "SELECT 1") == 1

    def test_a_second_start_is_refused_and_joins(self, made: Path) -> None:
        with EmbeddedPostgres(options(made)) as first:
            second = EmbeddedPostgres(options(made))
            with pytest.raises(AlreadyRunning, match="another process runs PostgreSQL"):
                second.start()
            second.stop()
            with borrowed(options(made)) as dsn:
                assert dsn == first.dsn
            assert first.alive()
        assert running_dsn(made, wait=5) is None

    def test_a_command_starts_and_stops_its_own(self, made: Path) -> None:
        with borrowed(options(made)) as dsn:
            assert fetch(dsn, "SELECT 1") == 1
            assert survivors.processes_of(pgdata(made))
        assert not survivors.processes_of(pgdata(made))
        with EmbeddedPostgres(options(made)):
            pass  # the lock is free again

    def test_who_started_it_waits_for_those_who_joined(self, made: Path, runs: Run) -> None:
        """An administration command that ends does not take the database from under another."""
        starter = runs(BORROWER, made)
        _, dsn = said(starter)
        with borrowed(options(made)) as joined:
            assert joined == dsn
            assert starter.stdin
            starter.stdin.close()
            with pytest.raises(subprocess.TimeoutExpired):
                starter.wait(0.5)
            assert fetch(joined, "SELECT 1") == 1
        assert said(starter) == ["left"]
        assert running_dsn(made, wait=0) is None

    def test_start_waits_for_a_command_when_told(self, made: Path, runs: Run) -> None:
        command = runs(BORROWER, made)
        said(command)
        assert command.stdin
        command.stdin.close()
        server = EmbeddedPostgres(options(made))
        server.start(wait=10)
        server.stop()

    def test_nothing_runs_on_a_folder_that_is_not_there(self, data: Path) -> None:
        assert running_dsn(data, wait=5) is None
        assert not data.exists()


class TestKilled:
    async def test_with_us_it_is_gone_within_a_second(self, made: Path, runs: Run) -> None:
        """kill -9 of the process that runs it, in the middle of work: all gone, the committed row kept."""
        holder = runs(HOLDER, made)
        postmaster, dsn = said(holder)
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE killed AS SELECT 42 AS i")
        connection.terminate()
        async with busy(dsn):
            assert int(postmaster) in survivors.processes_of(pgdata(made))
            holder.kill()
            assert until(lambda: not survivors.processes_of(pgdata(made)), 5) < 1.0
        with EmbeddedPostgres(options(made)) as server:
            connection = await asyncpg.connect(server.dsn)
            assert await connection.fetchval("SELECT i FROM killed") == 42
            await connection.close()

    async def test_watch_restarts_it(self, made: Path) -> None:
        """kill -9 of the postmaster beside a backend that computes: back by itself, the row kept."""
        with EmbeddedPostgres(options(made)) as server:
            watching = asyncio.create_task(server.watch())
            connection = await asyncpg.connect(server.dsn)
            await connection.execute("CREATE TABLE watched AS SELECT 42 AS i")
            connection.terminate()
            async with busy(server.dsn) as orphan:
                before, worker = server.pid, orphan.get_server_pid()
                os.kill(before, signal.SIGKILL)
                began = time.monotonic()
                while running_dsn(made, wait=0) is None:
                    assert time.monotonic() - began < 10
                    await asyncio.sleep(0.02)
                assert server.pid != before
                assert worker not in survivors.processes_of(pgdata(made))
            connection = await asyncpg.connect(server.dsn)
            assert await connection.fetchval("SELECT i FROM watched") == 42
            await connection.close()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    def test_restart_after_its_death(self, made: Path) -> None:
        with EmbeddedPostgres(options(made)) as server:
            assert server.alive()
            os.kill(server.pid, signal.SIGKILL)
            until(lambda: not server.alive(), 2)
            server.restart()
            assert server.alive()
            assert fetch(server.dsn, "SELECT 1") == 1
            os.kill(server.pid, signal.SIGKILL)
        assert not survivors.processes_of(pgdata(made)) or until(
            lambda: not survivors.processes_of(pgdata(made)), 2
        )
        server.stop()  # twice is fine

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_stale_pid_that_another_process_has_now(self, made: Path) -> None:
        """PostgreSQL itself refuses while that number lives, whoever it is; in containers it often does.

        This one works in the cluster's folder, as a shell of the operator may: still no process of it.
        """
        account = account_for(None, owner=None)
        stranger = child.spawn(["/bin/sh", "-c", 'cd "$1"; exec sleep 60', "sh", pgdata(made)], account)
        pid, lines = str(stranger.pid), f"{stranger.pid}\n{pgdata(made)}\n1700000000\n5432\n{made}/run\n\n"
        try:
            with EmbeddedPostgres(options(made)):
                pass
            (pgdata(made) / "postmaster.pid").write_text(lines)
            (locate(made).home / "run" / ".s.PGSQL.5432.lock").write_text(lines)
            with EmbeddedPostgres(options(made)) as server:
                assert fetch(server.dsn, "SELECT 1") == 1
                assert str(server.pid) != pid
            assert stranger.poll() is None  # it is none of ours
        finally:
            stranger.kill()
            stranger.wait()

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
    def test_a_zombie_postmaster(self, made: Path, runs: Run) -> None:
        """A container whose process 1 does not reap: the dead postmaster stays in the process list."""
        reaper = """
import ctypes, os, subprocess, sys, time; from pathlib import Path; from outdial.store.embedded import *
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
data = Path(sys.argv[1])
argv = [sys.executable, "-c", sys.argv[2], str(data)]
holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
pid = int(holder.stdout.readline().split()[0])
os.kill(pid, 9)
while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z": time.sleep(0.01)
holder.kill(); holder.wait()
server = EmbeddedPostgres(EmbeddedOptions(data, notice=lambda line: None))
server.start(); print(pid, server.dsn, flush=True); sys.stdin.read(); server.stop()
"""
        words = said(runs(reaper, made, HOLDER))
        assert words, "the start beside the zombie failed"
        assert state(int(words[0])) == "Z"
        assert fetch(words[1], "SELECT 1") == 1

    def test_a_postmaster_that_nobody_holds_is_not_touched(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Someone runs the cluster by hand: refused with its number, never ended."""
        monkeypatch.setattr(survivors, "_SHUTDOWN", 0.1)
        with EmbeddedPostgres(options(made)) as server:
            command = server._ready().command
            account = server._ready().account
        by_hand = child.spawn(command, account, stderr=subprocess.DEVNULL)
        try:
            until(lambda: running_dsn(made, wait=0) is not None, 10)
            with pytest.raises(SettingError, match=f"kill -INT {by_hand.pid}"):
                EmbeddedPostgres(options(made)).start()
            assert by_hand.poll() is None
        finally:
            by_hand.send_signal(signal.SIGINT)
            by_hand.wait(10)
