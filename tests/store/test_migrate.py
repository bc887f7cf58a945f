"""schema.sql and the migrations lead to the same database; foreign and changed ones are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from outdial.errors import SettingError
from outdial.store import migrate

SHAPE = """
SELECT 'column' AS kind, c.table_name || '.' || c.column_name AS name,
       concat_ws(' ', c.data_type, c.is_nullable, c.column_default, c.identity_generation) AS said
FROM information_schema.columns c WHERE c.table_schema = 'public'
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'relation', relname, relkind::text || coalesce(reloptions::text, '')
FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'sequence', sequencename, concat_ws(' ', data_type, start_value, increment_by, cache_size)
FROM pg_sequences WHERE schemaname = 'public'
UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
ORDER BY 1, 2, 3
"""


async def shape(dsn: str) -> list[tuple[Any, ...]]:
    conn = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await conn.fetch(SHAPE)]
    finally:
        await conn.close()


async def execute(dsn: str, sql: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


def test_schema_and_migrations_lead_to_the_same_database(make_database: Callable[..., str]) -> None:
    """House rule: schema.sql is the truth for new databases, the migrations for old ones."""
    new, old = make_database("TEMPLATE template0"), make_database("TEMPLATE template0")
    asyncio.run(migrate.prepare(new))
    asyncio.run(migrate.prepare(old, from_schema=False))
    found = asyncio.run(shape(new))
    assert asyncio.run(shape(old)) == found
    assert {name for kind, name, _ in found if kind == "relation"} >= {
        "campaign",
        "contact",
        "attempt",
        "outbox",
    }


def test_preparing_twice_and_at_once_changes_nothing(make_database: Callable[..., str]) -> None:
    """Two servers that start together prepare one after the other."""
    dsn = make_database("TEMPLATE template0")

    async def together() -> None:
        await asyncio.gather(*(migrate.prepare(dsn) for _ in range(4)))

    asyncio.run(together())
    before = asyncio.run(shape(dsn))
    asyncio.run(migrate.prepare(dsn))
    assert asyncio.run(shape(dsn)) == before


def test_a_database_of_a_newer_outdial_is_refused(database: str) -> None:
    """Going back is not silently tried."""
    asyncio.run(execute(database, "INSERT INTO schema_version VALUES (9999, '9999_future.sql', 'x')"))
    with pytest.raises(SettingError, match=r"9999_future\.sql.*newer"):
        asyncio.run(migrate.prepare(database))


def test_a_changed_migration_is_refused(database: str) -> None:
    """An applied migration is never edited."""
    asyncio.run(execute(database, "UPDATE schema_version SET checksum = 'other' WHERE version = 1"))
    with pytest.raises(SettingError, match=r"0001_first_schema\.sql"):
        asyncio.run(migrate.prepare(database))


OLD_ROWS = """
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at) VALUES
    (1, 1, 1, '1', 3, 'ready', now() + interval '1 hour'), (1, 2, 1, '2', 3, 'ready', now()),
    (1, 3, 1, '3', 3, 'done', now() + interval '1 hour')
"""


def test_numbers_that_were_due_later_wait(make_database: Callable[..., str]) -> None:
    """0003: nothing ready lies in the future, so that nothing stands in the claim's way."""
    dsn = make_database("TEMPLATE template0")
    _, name, text = migrate.migrations()[0]
    entered = f"INSERT INTO schema_version VALUES (1, '{name}', '{migrate._checksum(text)}')"
    asyncio.run(execute(dsn, f"{migrate._VERSIONS}; {text}; {entered}; {OLD_ROWS}"))
    asyncio.run(migrate.prepare(dsn))

    async def states() -> list[str]:
        conn = await asyncpg.connect(dsn)
        try:
            return [row["state"] for row in await conn.fetch("SELECT state FROM contact ORDER BY contact_id")]
        finally:
            await conn.close()

    assert asyncio.run(states()) == ["waiting", "ready", "done"]


def test_what_waits_when_0007_comes_is_told_apart(make_database: Callable[..., str]) -> None:
    """As the query of `outdial campaign why` told it before."""
    dsn = make_database("TEMPLATE template0")
    waiting = """
        INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
        INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at, attempts)
        VALUES (1, 1, 1, '1', 3, 'waiting', now(), 1), (1, 2, 1, '2', 3, 'waiting', now(), 0),
               (1, 3, 1, '3', 3, 'waiting', now(), 0), (1, 4, 1, '3', 3, 'waiting', now(), 1),
               (1, 5, 1, '2', 3, 'ready', now(), 0);
        INSERT INTO blacklist (vdn_id, number, restrict_times, restrict_period, created_at)
        VALUES (1, '2', 1, 'day', now());
        INSERT INTO called_count VALUES (1, '2', '{}', now()), (1, '3', '{}', now());
    """

    async def held() -> list[str | None]:
        conn = await asyncpg.connect(dsn)
        try:
            return [row[0] for row in await conn.fetch("SELECT held_by FROM contact ORDER BY contact_id")]
        finally:
            await conn.close()

    for version, _, text in migrate.migrations():
        if version == 7:
            asyncio.run(execute(dsn, waiting))
        asyncio.run(execute(dsn, text))
    assert asyncio.run(held()) == [None, "blacklist", "cap", None, None]
