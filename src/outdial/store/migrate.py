"""Brings a database to the present schema: `schema.sql` for a new one, numbered migrations for an old one."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from outdial.errors import SettingError, StoreUnavailable
from outdial.store.hosts import connect
from outdial.store.postgres import LOST

_LOCK = 0x6F757464  # "outd": one preparer at a time

LOCK_WITHIN = 60.0
"""Seconds that a migration waits for another preparer, or for a lock that another session holds."""

_VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_version (
    version     integer     PRIMARY KEY,
    name        text        NOT NULL,
    checksum    text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)"""


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and text of every migration, in order."""
    found = [f for f in files("outdial.store").joinpath("migrations").iterdir() if f.name.endswith(".sql")]
    return [
        (int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in sorted(found, key=lambda f: f.name)
    ]


def schema() -> str:
    """The text of `schema.sql`."""
    return files("outdial.store").joinpath("schema.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The schema's version before and after; 0 is a database without a schema."""

    before: int
    after: int


async def prepare(dsn: str, *, from_schema: bool = True) -> Prepared:
    """Make the database's schema the present one, in one transaction with the rows that say so.

    Two that prepare at once follow each other. A process that dies in the middle leaves all as it was.
    Raises `SettingError` for a database of a newer outdial, one whose applied migrations differ from ours,
    or one that refuses them; `StoreUnavailable` when it is lost, or another session is in the way for more
    than `LOCK_WITHIN` seconds.
    """
    async with connected(dsn) as conn, conn.transaction():
        await take_turn(conn)
        known = await recorded(conn)
        check_known(known)
        await apply(conn, known, from_schema=from_schema)
        return Prepared(max(known, default=0), migrations()[-1][0])


async def take_turn(conn: Any) -> None:
    """In a transaction: wait until nobody else prepares the database; then nobody does until its end."""
    await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_WITHIN * 1000:.0f}ms'")
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def standing(dsn: str) -> Prepared:
    """From which version to which `prepare` would bring the database; changes nothing. Raises as it does."""
    async with connected(dsn) as conn:
        known = await recorded(conn)
        check_known(known)
        return Prepared(max(known, default=0), migrations()[-1][0])


@asynccontextmanager
async def connected(dsn: str, *, standby: bool = False) -> AsyncIterator[Any]:
    """A connection for work on the whole database, without a limit of time for its statements.

    `standby`: for reading, one will do.

    Raises `StoreUnavailable` when it is lost or another session's lock is in the way, `SettingError` for
    what the database refuses. When its process is killed the server notices within a second, even while a
    statement waits: what it held does not outlive it.
    """
    try:
        conn = await connect(dsn, timeout=10, standby=standby, server_settings=_SESSION)
        try:
            with suppress(asyncpg.PostgresError):  # a system on which the server cannot look
                await conn.execute("SET client_connection_check_interval = '500ms'")
            yield conn
        finally:
            await conn.close(timeout=2)
    except asyncpg.LockNotAvailableError as error:
        raise StoreUnavailable(
            f"another session holds a lock for more than {LOCK_WITHIN:g} s; nothing was changed: end it, or"
            " wait, and repeat"
        ) from error
    except LOST as error:
        raise StoreUnavailable(f"the database was lost: {type(error).__name__}") from error
    except asyncpg.PostgresError as error:
        raise SettingError(f"the database refuses this, and nothing was changed: {error}") from error


_SESSION = {
    "application_name": "outdial upkeep of the database",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""Also what a backup's text depends on."""


async def recorded(conn: Any) -> dict[int, Any]:
    """The rows of schema_version by number; none for a database without that table."""
    if await conn.fetchval("SELECT to_regclass('schema_version')") is None:
        return {}
    return {row["version"]: row for row in await conn.fetch("SELECT * FROM schema_version")}


async def apply(
    conn: Any, known: Collection[int], *, up_to: int | None = None, from_schema: bool = False
) -> None:
    """Run the migrations that are not `known`, the last one being `up_to`, each with its row.

    To be called in a transaction. `from_schema`: where nothing is known, `schema.sql` stands for them all.
    """
    await conn.execute(_VERSIONS)
    whole = from_schema and not known
    if whole:
        await conn.execute(schema())
    for version, name, text in migrations():
        if version in known or (up_to is not None and version > up_to):
            continue
        if not whole:
            await conn.execute(text)
        await conn.execute(
            "INSERT INTO schema_version (version, name, checksum) VALUES ($1, $2, $3)",
            version,
            name,
            _checksum(text),
        )


def check_known(known: Mapping[int, Any]) -> None:
    """Raises `SettingError` when one of the recorded migrations (`name`, `checksum`) is not ours."""
    ours = {version: _checksum(text) for version, _, text in migrations()}
    for version, row in known.items():
        if version not in ours:
            raise SettingError(
                f"the database has migration {row['name']}, which this outdial does not know:"
                " it belongs to a newer one"
            )
        if row["checksum"] != ours[version]:
            raise SettingError(f"the database's migration {row['name']} is not the one of this outdial")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
