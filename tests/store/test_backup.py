"""A backup holds every row and sequence of one moment, and goes back whole or not at all."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import tarfile
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from outdial.errors import SettingError
from outdial.store import migrate
from outdial.store.archive import CHECKSUM, HEAD, TOTALS, BadBackup, Writer
from outdial.store.backup import Summary, back_up, judged, restore

NASTY = "tab\t line\n back\\slash \\. \\N 'quote' \" 春 \x7f"

FILL = """
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', '\\x01aabbccdd00ff'::bytea, now());
INSERT INTO vdn VALUES (2, 'Europe/Berlin', '2025-11', 0, 'retire', NULL, '2026-03-29 01:59:59.999999+01');
INSERT INTO access_key VALUES (1, 'ak', '\\x0111223344000a5c09'::bytea, now(), NULL);
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at,
    retry, max_cps)
SELECT 1, 'c' || n, NASTY, 3, 'started', now(), 'infinity', '1', 30, '{0,1440,NULL,NULL}', '', 1, 1,
    'allow', 'count', now(), '{"a": [1, null, "\\u6625\\n"]}', 0.1 FROM generate_series(1, 3) n;
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, custom_field, priority, state, due_at)
SELECT 1, nextval('contact_id'), 1, n::text, CASE WHEN n % 2 = 0 THEN NASTY END, 3, 'ready', now()
FROM generate_series(1, 40000) n;
INSERT INTO prompt VALUES (1, 'p', decode(repeat('0a5c09ff', 500000), 'hex'), 1, 'x', now());
INSERT INTO flow VALUES (1, 'f', '{}', 'x', now(), now());
INSERT INTO flow_prompt VALUES (1, 'f', 'p');
INSERT INTO called_count VALUES (1, '1', ARRAY[now(), '-infinity'], now());
INSERT INTO engine (host, pid, started_at, lease_until) VALUES ('h', 1, now(), now());
INSERT INTO special_date (vdn_id, name, kind, weekdays, first, last) VALUES (1, NASTY, 1, '{}', '', '');
""".replace("NASTY", f"$text${NASTY}$text$")


async def contents(dsn: str) -> dict[str, Any]:
    """Every row of every table as text, and every sequence."""
    conn = await asyncpg.connect(dsn)
    try:
        names = [
            r[0] for r in await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        found: dict[str, Any] = {}
        for name in names:
            wanted = "version, name, checksum" if name == "schema_version" else "*"
            query = f"SELECT t::text FROM (SELECT {wanted} FROM {name}) t ORDER BY 1"
            found[name] = [row[0] for row in await conn.fetch(query)]
        sequences = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"
        found["sequences"] = [tuple(row) for row in await conn.fetch(sequences)]
        return found
    finally:
        await conn.close()


async def execute(dsn: str, sql: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


def taken(dsn: str, out: io.BytesIO | None = None) -> bytes:
    out = out or io.BytesIO()
    asyncio.run(back_up(dsn, out))
    return out.getvalue()


def put_back(dsn: str, archive: bytes) -> Summary:
    return asyncio.run(restore(dsn, io.BytesIO(archive), "the file"))


@pytest.fixture
def empty(make_database: Callable[..., str]) -> str:
    return make_database("TEMPLATE template0")


@pytest.fixture
def archive(database: str) -> bytes:
    """A small one."""
    asyncio.run(execute(database, "INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now())"))
    return taken(database)


def tables_of(dsn: str) -> list[str]:
    return [name for name in asyncio.run(contents(dsn)) if name != "sequences"]


def test_every_row_and_sequence_comes_back(database: str, empty: str) -> None:
    asyncio.run(execute(database, FILL))
    before = asyncio.run(contents(database))
    assert sum(bool(rows) for rows in before.values()) >= 12
    made = taken(database)
    assert put_back(empty, made).rows["contact"] == 40_000
    assert asyncio.run(contents(empty)) == before
    with tarfile.open(fileobj=io.BytesIO(made), mode="r:gz") as tar:
        assert len([name for name in tar.getnames() if name.startswith("tables/contact/")]) > 1


def test_ids_go_on_where_they_were(database: str, empty: str) -> None:
    """An id that was given away is not given again: no result goes to another number's name."""
    asyncio.run(execute(database, FILL))
    put_back(empty, taken(database))

    async def next_ids(dsn: str) -> tuple[int, ...]:
        conn = await asyncpg.connect(dsn)
        try:
            epoch = "INSERT INTO engine (host, pid, started_at, lease_until) VALUES ('h', 2, now(), now())"
            return (
                await conn.fetchval("SELECT nextval('contact_id')"),
                await conn.fetchval(f"{epoch} RETURNING epoch"),
            )
        finally:
            await conn.close()

    contact, epoch = asyncio.run(next_ids(empty))
    assert contact > 40_000
    assert epoch == 2


class Intruder(io.BytesIO):
    """Lets somebody add rows as soon as the first bytes of the backup are written."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn: str | None = dsn

    def write(self, data: Any) -> int:
        if self._dsn is not None:
            sql = "INSERT INTO vdn VALUES (9, 'UTC', '2023-09', 20, 'keep', NULL, now());"
            sql += "INSERT INTO called_count VALUES (9, '9', '{}', now())"
            dsn, self._dsn = self._dsn, None
            thread = threading.Thread(target=lambda: asyncio.run(execute(dsn, sql)))
            thread.start()
            thread.join()
        return super().write(data)


def test_all_tables_are_of_one_moment(database: str, empty: str) -> None:
    """What is committed after the backup began is in no table of it."""
    asyncio.run(execute(database, FILL))
    put_back(empty, taken(database, Intruder(database)))
    assert any("(9," in row for row in asyncio.run(contents(database))["vdn"])
    found = asyncio.run(contents(empty))
    assert not [row for name in ("vdn", "called_count") for row in found[name] if row.startswith("(9,")]


def test_a_backup_that_was_cut_short_is_refused_and_stores_nothing(archive: bytes, empty: str) -> None:
    for length in {0, 1, 10, 100, len(archive) // 2, len(archive) - 9, len(archive) - 1}:
        with pytest.raises(BadBackup, match="the file: not a whole backup"):
            put_back(empty, archive[:length])
    assert tables_of(empty) == []


def test_a_backup_with_another_bit_is_refused(archive: bytes) -> None:
    """Unless it unpacks to the very same bytes: a distance within a run of zeros may be another one."""
    chance, refused = random.Random(7), 0
    for _ in range(500):
        altered = bytearray(archive)
        altered[chance.randrange(len(archive))] ^= 1 << chance.randrange(8)
        try:
            judged(io.BytesIO(altered), "the file")
        except BadBackup:
            refused += 1
        else:
            assert gzip.decompress(altered) == gzip.decompress(archive)
    assert refused > 350


def rewritten(archive: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """The archive with other members, packed as it should be: only its own checksum can tell."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as old,
        tarfile.open(fileobj=out, mode="w:gz") as new,
    ):
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = change(member.name, file.read())
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda name, content: content.replace(b"UTC", b"CET"),
        lambda name, content: None if name == "tables/vdn/00000001" else content,
        lambda name, content: None if name == CHECKSUM else content,
        lambda name, content: content.replace(b"1000", b"1001") if name == TOTALS else content,
        lambda name, content: content.replace(b'"madeAt"', b'"MadeAt"') if name == HEAD else content,
    ],
    ids=["a row", "a part", "no checksum", "a sequence", "the head"],
)
def test_an_altered_member_is_refused(
    archive: bytes, empty: str, database: str, change: Callable[[str, bytes], bytes | None]
) -> None:
    asyncio.run(execute(database, "SELECT nextval('contact_id')"))
    whole = taken(database)
    altered = rewritten(whole, change)
    assert rewritten(whole, lambda _, content: content) != altered
    with pytest.raises(BadBackup, match="its checksum does not hold"):
        put_back(empty, altered)
    assert tables_of(empty) == []


def test_a_file_of_another_kind_is_refused(empty: str) -> None:
    for other in (b"", b"-- PostgreSQL database dump", gzip.compress(b"x" * 2000), b"PGDMP" + bytes(2000)):
        with pytest.raises(BadBackup, match="not a whole backup of outdial"):
            put_back(empty, other)


def made_with(head: dict[str, Any], rows: dict[str, bytes]) -> bytes:
    """A whole archive of our own making, checksum and all."""
    out = io.BytesIO()
    writer = Writer(out, head)
    for table, text in rows.items():
        writer.add(table, text)
        writer.end_of(table)
    writer.close({})
    return out.getvalue()


def head_of(archive: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        file = tar.extractfile(HEAD)
        assert file is not None
        found: dict[str, Any] = json.load(file)
        return found


def test_a_restore_that_fails_in_its_middle_leaves_the_database_empty(archive: bytes, empty: str) -> None:
    """A key without its VDN: the rows before it are undone too."""
    head = head_of(archive)
    rows = {one["name"]: b"" for one in head["tables"]}
    rows["allowed_prefix"] = b"7\t1\t2026-01-01 00:00:00+00\n"
    with pytest.raises(SettingError, match=r"nothing was changed.*foreign key"):
        put_back(empty, made_with(head, rows))
    assert tables_of(empty) == []


def test_a_database_that_is_not_empty_is_refused_and_stays(archive: bytes, database: str) -> None:
    before = asyncio.run(contents(database))
    with pytest.raises(SettingError, match="the database is not empty"):
        put_back(database, archive)
    assert asyncio.run(contents(database)) == before


def test_a_backup_of_a_newer_outdial_is_refused(archive: bytes, empty: str) -> None:
    head = head_of(archive)
    head["migrations"].append({"version": 9999, "name": "9999_future.sql", "checksum": "x"})
    with pytest.raises(SettingError, match=r"the file: .*9999_future\.sql.*newer"):
        put_back(empty, made_with(head, {}))
    with pytest.raises(BadBackup, match="a backup of format 2; this outdial reads 1"):
        put_back(empty, made_with({**head, "format": 2}, {}))
    assert tables_of(empty) == []


def test_a_backup_of_an_older_schema_is_brought_to_the_present(
    make_database: Callable[..., str], empty: str, database: str
) -> None:
    """It is put into the schema that it was taken from; then the migrations run over its rows."""
    old = make_database("TEMPLATE template0")
    _, name, text = migrate.migrations()[0]
    entered = f"INSERT INTO schema_version VALUES (1, '{name}', '{migrate._checksum(text)}')"
    rows = """
        INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
        INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at)
        VALUES (1, 1, 1, '1', 3, 'ready', now() + interval '1 hour')"""
    asyncio.run(execute(old, f"{migrate._VERSIONS}; {text}; {entered}; {rows}"))
    assert put_back(empty, taken(old)).version == 1
    found = asyncio.run(contents(empty))
    assert found["schema_version"] == asyncio.run(contents(database))["schema_version"]
    assert "waiting" in found["contact"][0]


def test_a_database_without_outdial_has_nothing_to_back_up(empty: str) -> None:
    with pytest.raises(SettingError, match="nothing to back up"):
        taken(empty)


def test_strange_tables_beside_ours_are_left_alone(database: str, empty: str) -> None:
    asyncio.run(execute(database, "CREATE TABLE somebody_elses (x int)"))
    made = taken(database)
    assert "somebody_elses" not in [one["name"] for one in head_of(made)["tables"]]
    put_back(empty, made)


def test_the_head_names_the_master_keys_and_holds_none(database: str) -> None:
    asyncio.run(execute(database, FILL))
    assert head_of(taken(database))["masterKeys"] == ["11223344", "aabbccdd"]
