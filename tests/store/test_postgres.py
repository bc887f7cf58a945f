"""A database that cannot keep the promises is refused at start, with the reason."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest

from outdial.errors import CommitUnknown, SettingError, StoreUnavailable
from outdial.store.embedded import EmbeddedOptions, server
from outdial.store.postgres import Postgres, check_server


async def execute(dsn: str, *statements: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await conn.execute(statement)
    finally:
        await conn.close()


def test_a_sound_database_passes(database: str) -> None:
    """The valid twin of every refusal below."""
    asyncio.run(check_server(database))


def test_an_encoding_other_than_utf8_is_refused(make_database: Callable[..., str]) -> None:
    """Names would not come back as they were."""
    dsn = make_database("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(SettingError, match=r"SQL_ASCII.*UTF8"):
        asyncio.run(check_server(dsn))


def test_synchronous_commit_off_is_refused(database: str) -> None:
    """G1: an answered add could be lost."""
    name = urlsplit(database).path[1:]
    asyncio.run(execute(database, f"ALTER DATABASE {name} SET synchronous_commit = off"))
    with pytest.raises(SettingError, match="synchronous_commit off"):
        asyncio.run(check_server(database))


def test_fsync_off_is_refused(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G1 again: nothing survives a loss of power. A server of its own, since ours insists on fsync."""
    command = server.server_command

    def careless(*arguments: Any) -> list[str]:
        return ["fsync=off" if word == "fsync=on" else word for word in command(*arguments)]

    monkeypatch.setattr(server, "server_command", careless)
    data = open_folder / "careless"
    with (
        server.EmbeddedPostgres(EmbeddedOptions(data=data, notice=lambda _: None)) as running,
        pytest.raises(SettingError, match="fsync off"),
    ):
        asyncio.run(check_server(running.dsn))
    server.remove_cluster(data)


@pytest.fixture
def pooler(database: str) -> Iterator[Callable[[str], str]]:
    """Starts pgbouncer in front of the database in the given mode; returns its DSN."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("left out: pgbouncer is not installed")
    started: list[subprocess.Popen[bytes]] = []
    folder = Path(tempfile.mkdtemp(prefix="outdial-pooler-"))
    folder.chmod(0o755)

    def start(mode: str) -> str:
        parts = urlsplit(database)
        host = parse_qs(parts.query)["host"][0]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ini = folder / f"{mode}.ini"
        ini.write_text(
            f"[databases]\n* = host={host} user={parts.username} password={unquote(parts.password or '')}\n"
            f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\npool_mode={mode}\n"
            "unix_socket_dir=\nmax_client_conn=50\ndefault_pool_size=20\n"
            "ignore_startup_parameters=extra_float_digits,statement_timeout\n"
        )
        ini.chmod(0o644)
        # As root it must become the user that may enter the server's socket folder.
        user = {"user": os.stat(host).st_uid} if os.geteuid() == 0 else {}
        process = subprocess.Popen([program, str(ini)], stderr=subprocess.DEVNULL, **user)
        started.append(process)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        return f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"

    yield start
    for process in started:
        process.terminate()
        process.wait(10)
    shutil.rmtree(folder)


def test_a_transaction_pooler_is_refused(pooler: Callable[[str], str]) -> None:
    """Prepared statements, LISTEN and the look at a lost commit need a server process of one's own."""
    with pytest.raises(SettingError, match="transaction"):
        asyncio.run(check_server(pooler("transaction")))


def test_a_session_pooler_passes(pooler: Callable[[str], str]) -> None:
    """The valid twin."""
    asyncio.run(check_server(pooler("session")))


def test_a_server_that_is_not_there_is_a_clear_refusal() -> None:
    """A server that is away is no wrong setting."""
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        asyncio.run(check_server("postgresql://nobody@127.0.0.1:1/none"))


def test_a_dsn_that_cannot_be_read_is_refused_without_its_password() -> None:
    """Secrets stay out of messages and logs."""
    with pytest.raises(SettingError, match="not a DSN") as refused:
        asyncio.run(check_server("postgresql://user:s3cret/x@host:port/name"))
    assert "s3cret" not in str(refused.value)


async def test_a_lost_connection_before_commit_is_certain(database: str) -> None:
    """Semantics §2: 0200006 only where nothing was kept."""
    db = Postgres(database)
    await db.open()
    try:
        with pytest.raises(StoreUnavailable):
            async with db.transaction() as tx:
                await tx.execute("create_vdn", *_VDN)
                await _kill_backends_of(database, db.name)
                await tx.fetchval("vdn", 1)
        assert await db.fetchrow("vdn", 1) is None
    finally:
        await db.close()


async def test_a_commit_whose_answer_was_lost_is_looked_up(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction's own status is asked: committed is no error, though the connection died."""
    db = Postgres(database)
    await db.open()
    original = asyncpg.Connection.execute

    async def dies_after(self: asyncpg.Connection, query: str, *args: object, **more: object) -> str:
        done: str = await original(self, query, *args, **more)
        if query == "COMMIT":
            raise ConnectionResetError("the answer never came")
        return done

    try:
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "execute", dies_after)
            async with db.transaction() as tx:
                await tx.execute("create_vdn", *_VDN)
        assert await db.fetchrow("vdn", 1) is not None
    finally:
        await db.close()


async def test_a_commit_that_nobody_can_tell_of_is_unknown(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G2: then there is no answer; a wrong one would be worse."""
    db = Postgres(database)
    await db.open()
    original = asyncpg.Connection.execute

    async def dies_before(self: asyncpg.Connection, query: str, *args: object, **more: object) -> str:
        if query == "COMMIT":
            raise ConnectionResetError("gone")
        done: str = await original(self, query, *args, **more)
        return done

    async def unreachable(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("down")

    try:
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "execute", dies_before)
            with pytest.raises(CommitUnknown):
                async with db.transaction() as tx:
                    await tx.execute("create_vdn", *_VDN)
                    patched.setattr(asyncpg, "connect", unreachable)
    finally:
        await db.close()


async def test_an_id_that_a_crash_gave_away_again_is_not_believed(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The postmaster outlives the crash of a backend; what that had not flushed is lost, with its id.

    Whoever believed the id's new owner would take a lost claim for committed, and call without an attempt.
    """
    options = EmbeddedOptions(data=open_folder / "crashing", notice=lambda _: None)
    original = asyncpg.Connection.execute
    given_away: list[str] = []

    async def crashes_before(self: asyncpg.Connection, query: str, *args: object, **more: object) -> str:
        if query != "COMMIT":
            done: str = await original(self, query, *args, **more)
            return done
        os.kill(self.get_server_pid(), signal.SIGKILL)
        other = await _connected(postgres.dsn)
        given_away.append(await other.fetchval("SELECT pg_current_xact_id()::text"))
        await other.close()
        raise ConnectionResetError("gone")

    with server.EmbeddedPostgres(options) as postgres:
        db = Postgres(postgres.dsn)
        await db.open()
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "execute", crashes_before)
            with pytest.raises(CommitUnknown):
                async with db.transaction() as tx:
                    xid = await tx._conn.fetchval("SELECT pg_current_xact_id()::text")
        await db.close()
    server.remove_cluster(options.data)
    assert given_away == [xid]


async def _connected(dsn: str) -> asyncpg.Connection:
    """A connection, as soon as one can be had."""
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.02)
            try:
                conn = await asyncpg.connect(dsn)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                continue
            try:
                await conn.fetchval("SELECT 1")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                conn.terminate()
            else:
                return conn


async def _kill_backends_of(dsn: str, name: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", name
        )
    finally:
        await conn.close()


_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_VDN = (1, "UTC", "2023-09", 20, "keep", _NOW, "default", *[None] * 6)


async def test_a_question_that_is_given_up_does_not_go_on(database: str, sql: asyncpg.Connection) -> None:
    """One that waits for a standby would hold its session for as long as that is away."""
    db = Postgres(database)

    async def ask(conn: Any) -> str:
        await conn.execute("SELECT pg_sleep(60)")
        return "answered"

    assert await db.settle_fate(ask, until=asyncio.get_running_loop().time() + 0.5) is None
    asking = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()"
    )
    until = time.monotonic() + 5
    while await sql.fetchval(asking):
        assert time.monotonic() < until, "it sleeps on"
        await asyncio.sleep(0.05)
    await db.close()
