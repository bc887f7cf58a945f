"""Fixtures that more than one part needs: a real PostgreSQL, and databases made from a template."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from outdial.store import migrate
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster

TEMPLATE = "outdial_template"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The lines of the proofs that passed stand together at the end (`faults/evidence.py`)."""
    printed = "\n".join(report.capstdout for report in terminalreporter.getreports("passed"))
    lines = [line for line in printed.splitlines() if line.startswith("evidence: ")]
    if lines:
        terminalreporter.section("evidence of the proofs")
        terminalreporter.line("\n".join(line.removeprefix("evidence: ") for line in lines))


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter (pytest's own are closed to PostgreSQL's user when we are root)."""
    folder = Path(tempfile.mkdtemp(prefix="outdial-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(open_folder: Path) -> Iterator[str]:
    """The DSN of this worker's own embedded PostgreSQL, with a migrated template database."""
    data = open_folder / "data"
    server = EmbeddedPostgres(EmbeddedOptions(data=data, notice=lambda _: None))
    server.start()
    try:
        asyncio.run(_make_template(server.dsn))
        yield server.dsn
    finally:
        server.stop()
        remove_cluster(data)


async def _make_template(dsn: str) -> None:
    await _execute(dsn, f"CREATE DATABASE {TEMPLATE}")
    await migrate.prepare(database_of(dsn, TEMPLATE))


def database_of(dsn: str, name: str) -> str:
    """The same server's DSN with another database."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def _execute(dsn: str, sql: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


_numbers = count(1)


@pytest.fixture
def make_database(postgres: str) -> Iterator[Callable[..., str]]:
    """Makes databases: migrated ones, or empty ones with other options of CREATE DATABASE."""
    made: list[str] = []

    def make(options: str = f"TEMPLATE {TEMPLATE}") -> str:
        name = f"t{next(_numbers)}"
        asyncio.run(_execute(postgres, f"CREATE DATABASE {name} {options}"))
        made.append(name)
        return database_of(postgres, name)

    yield make
    for name in made:
        asyncio.run(_execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(make_database: Callable[..., str]) -> str:
    """The DSN of a fresh, migrated database."""
    return make_database()


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database, for what only SQL can see or do."""
    conn = await asyncpg.connect(database)
    yield conn
    await conn.close()
