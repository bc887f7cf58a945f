"""`kill -9` in the middle of a migration (trust.md R26): all is as before, and the next start goes on.

A lock that another session holds makes the migration stand still at a statement of our choice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from evidence import evidence
from serving import ask, clean_environment, wait_for

from outdial.errors import StoreUnavailable
from outdial.store import migrate
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres
from outdial.store.embedded.survivors import processes_of

STANDS = ("vdn", "campaign", "contact", "engine", "attempt", "blacklist")
"""Tables whose lock stops the migrations at six statements, from the second migration to the last but one."""

LATEST = migrate.migrations()[-1][0]

SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public'
UNION ALL SELECT indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public'
ORDER BY 1, 2"""

ROWS = """
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at)
SELECT 1, n, 1, n::text, 3, 'ready', now() + interval '1 day' FROM generate_series(1, {count}) n
"""


def make_old(dsn: str, count: int) -> None:
    """A database of the first schema, with so many numbers that the third changes."""
    _, name, text = migrate.migrations()[0]
    entered = f"INSERT INTO schema_version VALUES (1, '{name}', '{migrate._checksum(text)}')"
    parts = ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", migrate._VERSIONS, text, entered)
    ask(dsn, lambda conn: conn.execute(";".join((*parts, ROWS.format(count=count)))))


def facts(dsn: str) -> tuple[Any, ...]:
    """Shape, versions and numbers by state, as another session sees them."""

    async def read(conn: asyncpg.Connection) -> tuple[Any, ...]:
        return (
            [tuple(row) for row in await conn.fetch(SHAPE)],
            [row[0] for row in await conn.fetch("SELECT version FROM schema_version ORDER BY 1")],
            [tuple(row) for row in await conn.fetch("SELECT state, count(*) FROM contact GROUP BY 1")],
        )

    return ask(dsn, read)


@contextmanager
def locked(dsn: str, table: str) -> Iterator[None]:
    """A session of somebody else that holds the table."""
    with asyncio.Runner() as runner:
        conn = runner.run(asyncpg.connect(dsn))
        try:
            runner.run(conn.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            yield
        finally:
            conn.terminate()
            runner.run(asyncio.sleep(0))


def started(*where: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "outdial", "db", "migrate", *where]
    return subprocess.Popen(
        command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


WAITING = """
SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND l.locktype = 'relation' AND l.relation = $1::text::regclass
  AND a.application_name = 'outdial upkeep of the database' AND a.datname = current_database()"""


def stands(dsn: str, table: str) -> bool:
    """Whether a migration waits for this table."""
    return bool(ask(dsn, lambda conn: conn.fetch(WAITING, table)))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def killed_in(dsn: str, table: str, *where: str) -> None:
    """Start a migration, wait until it stands still at the table, kill it."""
    process = started(*where)
    try:
        wait_for(lambda: stands(dsn, table), 60, f"the migration does not come to {table}", every=0.05)
    finally:
        process.kill()
        ended(process)


def rounds(make_database: Callable[..., str], tables: tuple[str, ...], count: int) -> None:
    dsn = make_database("TEMPLATE template0")
    for table in tables:
        make_old(dsn, count)
        before = facts(dsn)
        with locked(dsn, table):
            killed_in(dsn, table, "--database", dsn)
            # The dead process' session ends although its statement waits on: it stands in nobody's way.
            wait_for(lambda table=table: not stands(dsn, table), 10, "it outlives its process", every=0.05)
        assert facts(dsn) == before, table
        code, out, err = ended(started("--database", dsn))
        assert (code, out) == (0, f"the schema went from version 1 to version {LATEST}\n"), err
        assert facts(dsn)[1:] == (list(range(1, LATEST + 1)), [("waiting", count)])
    evidence({"kills_inside": 3}, kills_inside=len(tables), numbers=count, version=LATEST)


def test_a_migration_killed_at_any_statement_changes_nothing(make_database: Callable[..., str]) -> None:
    rounds(make_database, STANDS[::2], 2_000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_migration_killed_with_200_000_numbers(make_database: Callable[..., str]) -> None:
    assert len(STANDS) >= 5
    rounds(make_database, STANDS, 200_000)


def embedded_rounds(place: Path, tables: tuple[str, ...], count: int) -> None:
    data = place / "data"
    server = EmbeddedPostgres(EmbeddedOptions(data, notice=lambda _: None))
    server.start()
    try:
        for table in tables:
            make_old(server.dsn, count)
            before = facts(server.dsn)
            with locked(server.dsn, table):
                killed_in(server.dsn, table, "--data", str(data))
                for pid in processes_of(data / "postgres"):
                    os.kill(pid, signal.SIGKILL)
            server.restart()
            assert facts(server.dsn) == before, table
            code, out, err = ended(started("--data", str(data)))
            assert (code, out) == (0, f"the schema went from version 1 to version {LATEST}\n"), err
            assert facts(server.dsn)[2] == [("waiting", count)]
        evidence({"kills_inside": 2}, kills_inside=len(tables), numbers=count, version=LATEST)
    finally:
        server.stop()


def test_the_embedded_database_killed_with_its_migration(place: Path) -> None:
    """Recovery from the log undoes what no COMMIT made true."""
    embedded_rounds(place, ("contact", "blacklist"), 2_000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_embedded_database_killed_with_200_000_numbers(place: Path) -> None:
    embedded_rounds(place, STANDS, 200_000)


def test_a_second_start_waits_for_the_first(make_database: Callable[..., str]) -> None:
    dsn = make_database("TEMPLATE template0")
    make_old(dsn, 10)
    with locked(dsn, "blacklist"):
        first = started("--database", dsn)
        wait_for(lambda: stands(dsn, "blacklist"), 60, "it does not come there", every=0.05)
        second = started("--database", dsn)
        query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: ask(dsn, lambda conn: conn.fetch(query)), 60, "the second waits", every=0.05)
    assert ended(first)[:2] == (0, f"the schema went from version 1 to version {LATEST}\n")
    assert ended(second)[:2] == (0, f"the schema is at version {LATEST}: nothing to do\n")


def test_who_waits_too_long_is_told_and_nothing_is_changed(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_WITHIN", 0.2)
    dsn = make_database("TEMPLATE template0")
    make_old(dsn, 10)
    before = facts(dsn)
    with locked(dsn, "blacklist"), pytest.raises(StoreUnavailable, match="another session holds a lock"):
        asyncio.run(migrate.prepare(dsn))
    assert facts(dsn) == before
