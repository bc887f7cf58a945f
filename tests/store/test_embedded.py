"""The embedded PostgreSQL lives: it starts once, keeps what was committed, and ends with us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from outdial.errors import SettingError
from outdial.store.embedded import (
    AlreadyRunning,
    EmbeddedOptions,
    EmbeddedPostgres,
    binaries,
    borrowed,
    child,
    remove_cluster,
    running_dsn,
    survivors,
)
from outdial.store.embedded.account import Account, account_for
from outdial.store.embedded.layout import locate

try:
    account_for(None, owner=None)
except SettingError as reason:
    pytest.skip(f"PostgreSQL cannot run here: {reason}", allow_module_level=True)

PHONE = "8613800138000"

# Each takes the data folder as its argument and says one word a line when it got somewhere.
HOLDER = """
import sys; from pathlib import Path; from outdial.store.embedded import *
pg_bin = Path(sys.argv[2]) if len(sys.argv) > 2 else None
server = EmbeddedPostgres(EmbeddedOptions(Path(sys.argv[1]), pg_bin, notice=lambda line: None))
server.start(); print(server.pid, server.dsn, flush=True); sys.stdin.read(); server.stop()
"""
STARTER = """
import sys; from pathlib import Path; from outdial.store.embedded import *
data = Path(sys.argv[1]); server = EmbeddedPostgres(EmbeddedOptions(data, notice=lambda line: None))
try:
    server.start(); print("won", server.dsn, flush=True)
except AlreadyRunning:
    print("joined", running_dsn(data, wait=10), flush=True)
sys.stdin.read(); server.stop()
"""
BORROWER = """
import sys; from pathlib import Path; from outdial.store.embedded import *
with borrowed(EmbeddedOptions(Path(sys.argv[1]), notice=lambda line: None)) as dsn:
    print("has", dsn, flush=True); sys.stdin.read()
print("left", flush=True)
"""


def installed() -> list[Path]:
    """One folder of each major version on this machine: 14 and 15 are made in another way than 16."""
    found = (binaries._ask(folder, origin) for folder, origin in binaries._places(None))
    return [*{one.major: one.bin for one in found if one and one.major >= 14}.values()]


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder that is not there yet, in a place that PostgreSQL's user may pass."""
    place = Path(tempfile.mkdtemp(prefix="outdial-"))
    place.chmod(0o711)
    yield place / "data"
    remove_cluster(place / "data")
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data folder with a stopped cluster, which every test leaves so: making one takes a second."""
    place = Path(tempfile.mkdtemp(prefix="outdial-"))
    place.chmod(0o711)
    with EmbeddedPostgres(options(place / "data")):
        pass
    yield place / "data"
    remove_cluster(place / "data")
    shutil.rmtree(place)


@pytest.fixture
def runs() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts one of the programs above; all are ended."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, *words: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        argv = [*before, sys.executable, "-c", program, *map(str, words)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        with process:
            process.wait()


def options(data: Path) -> EmbeddedOptions:
    return EmbeddedOptions(data, notice=lambda line: None)


def fetch(dsn: str, *statements: str) -> object:
    """The value of the last statement."""

    async def go() -> object:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            values = [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()
        return values[-1]

    return asyncio.run(go())


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


def until(true: Callable[[], bool], within: float) -> float:
    """Waits for a fact; returns after how many seconds it held."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within, f"not within {within} s"
        time.sleep(0.01)
    return time.monotonic() - began


def state(pid: int) -> str:
    return survivors._name_and_state(Path(f"/proc/{pid}/stat").read_text())[1]


def pgdata(data: Path) -> Path:
    return locate(data).pgdata


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

    def test_killed_while_it_makes_the_cluster(
        self, data: Path, runs: Callable[..., subprocess.Popen[str]]
    ) -> None:
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

    def test_how_fast_it_starts(self, made: Path) -> None:
        """An existing folder answers within half a second (best of three, the machine is shared)."""

        def seconds() -> float:
            began = time.monotonic()
            with EmbeddedPostgres(options(made)):
                return time.monotonic() - began

        assert min(seconds() for _ in range(3)) < 0.5


class TestOneRunsIt:
    def test_two_starters_at_once(self, data: Path, runs: Callable[..., subprocess.Popen[str]]) -> None:
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

    def test_who_started_it_waits_for_those_who_joined(
        self, made: Path, runs: Callable[..., subprocess.Popen[str]]
    ) -> None:
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

    def test_start_waits_for_a_command_when_told(
        self, made: Path, runs: Callable[..., subprocess.Popen[str]]
    ) -> None:
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
    async def test_with_us_it_is_gone_within_a_second(
        self, made: Path, runs: Callable[..., subprocess.Popen[str]]
    ) -> None:
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
    def test_a_zombie_postmaster(self, made: Path, runs: Callable[..., subprocess.Popen[str]]) -> None:
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


class TestChild:
    def test_only_the_main_thread_starts_one(self) -> None:
        """The kernel ends it with the thread that made it, so another thread may not."""
        caught: list[BaseException] = []
        me = Account("me", os.geteuid(), os.getegid(), other=False)

        def start() -> None:
            try:
                child.spawn(["/bin/true"], me)
            except RuntimeError as error:
                caught.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        assert "main thread" in str(caught[0])

    def test_no_secret_of_ours_in_its_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OUTDIAL_MASTER_KEY", "secret")
        monkeypatch.setenv("PGDATA", "/nowhere")
        me = Account("me", os.geteuid(), os.getegid(), other=False)
        process = child.spawn(["/usr/bin/env"], me, stdout=subprocess.PIPE)
        seen = process.communicate()[0].decode()
        assert "LC_ALL=C" in seen
        assert "secret" not in seen
        assert "PGDATA" not in seen

    def test_the_guard_where_the_kernel_does_not_help(
        self, runs: Callable[..., subprocess.Popen[str]]
    ) -> None:
        """The portable way, as on macOS: a process that reads our pipe ends the child when we are gone."""
        program = """
import signal, subprocess, sys; from outdial.store.embedded.child import Guard
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(child.pid, Guard(child.pid, signal.SIGQUIT).pid, flush=True); sys.stdin.read()
"""
        holder = runs(program)
        pids = [int(word) for word in said(holder)]

        def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() and state(pid) != "Z" for pid in pids)

        assert not gone()
        holder.kill()
        assert until(gone, 5) < 1.0

    @pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts a /dev/shm")
    @pytest.mark.parametrize("pg_bin", installed(), ids=str)
    def test_a_small_dev_shm(
        self, data: Path, pg_bin: Path, runs: Callable[..., subprocess.Popen[str]]
    ) -> None:
        """64 kB of /dev/shm, from initdb to a parallel query (containers have 64 MB, some none)."""
        small = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh")
        if subprocess.run([*small, "true"], capture_output=True).returncode:
            pytest.skip("this root may not unshare or mount")
        words = said(runs(HOLDER, data, pg_bin, before=small))
        assert words, "it did not start"
        plan = (
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;"
            " CREATE TABLE t AS SELECT i, md5(i::text) AS s FROM generate_series(1, 100000) AS i; ANALYZE t"
        )
        join = "SELECT count(*) FROM t AS a JOIN t AS b ON a.s = b.s"

        async def go() -> tuple[str, int]:
            connection = await asyncpg.connect(words[1])
            await connection.execute(plan)
            explained = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN ANALYZE {join}"))
            count = await connection.fetchval(join)
            await connection.close()
            return explained, count

        explained, count = asyncio.run(go())
        assert "Workers Launched: " in explained
        assert "Workers Launched: 0" not in explained
        assert count == 100000
