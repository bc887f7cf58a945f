"""Brings a database to the present schema: `schema.sql` for a new one, numbered migrations for an old one."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import asyncpg

from outdial.errors import SettingError, StoreUnavailable
from outdial.store.postgres import LOST

_LOCK = 0x6F757464  # "outd": one preparer at a time

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


async def prepare(dsn: str, *, from_schema: bool = True) -> None:
    """Make the database's schema the present one, in one transaction.

    Two that prepare at once follow each other. Raises `SettingError` for a database of a newer outdial, one
    whose applied migrations differ from ours, or one that refuses them; `StoreUnavailable` when it is lost.
    """
    try:
        conn = await asyncpg.connect(dsn, timeout=10)
        try:
            async with conn.transaction():
                await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                await conn.execute(_VERSIONS)
                await _apply(conn, from_schema)
        finally:
            await conn.close(timeout=2)
    except LOST as error:
        raise StoreUnavailable(f"the database was lost: {type(error).__name__}") from error
    except asyncpg.PostgresError as error:
        raise SettingError(f"the database's schema cannot be brought to the present: {error}") from error


async def _apply(conn: Any, from_schema: bool) -> None:
    known = {row["version"]: row for row in await conn.fetch("SELECT * FROM schema_version")}
    wanted = migrations()
    _check_known(known, wanted)
    if not known and from_schema:
        await conn.execute(schema())
    for version, name, text in wanted:
        if version in known:
            continue
        if known or not from_schema:
            await conn.execute(text)
        await conn.execute(
            "INSERT INTO schema_version (version, name, checksum) VALUES ($1, $2, $3)",
            version,
            name,
            _checksum(text),
        )


def _check_known(known: dict[int, Any], wanted: list[tuple[int, str, str]]) -> None:
    ours = {version: _checksum(text) for version, _, text in wanted}
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
