"""The whole database into an archive, from one snapshot, and back into an empty database, all or nothing.

By COPY over our own connection: no program of PostgreSQL is needed, and no matching major version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from outdial import __version__
from outdial.errors import SettingError, StoreUnavailable
from outdial.store import migrate
from outdial.store.archive import HEAD, TOTALS, BadBackup, Writer, members, verified
from outdial.store.postgres import utc_now

_OUR_TABLES = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
_OUR_SEQUENCES = re.compile(r"^CREATE SEQUENCE (\w+)", re.MULTILINE)

_COLUMNS = """
SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname = ANY($1::text[])
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
GROUP BY 1"""

_REFERENCES = """
SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent
FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace"""

_SEQUENCES = """
SELECT s.relname AS name FROM pg_class s
LEFT JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('i', 'a') AND d.refclassid = 'pg_class'::regclass
LEFT JOIN pg_class t ON t.oid = d.refobjid
WHERE s.relkind = 'S' AND s.relnamespace = current_schema()::regnamespace
  AND (t.relname = ANY($1::text[]) OR s.relname = ANY($2::text[]))
ORDER BY 1"""

_OCCUPIED = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') LIMIT 1"""

_SEALED = (
    "SELECT DISTINCT encode(substring({column} FROM 2 FOR 4), 'hex') FROM {table} WHERE {column} IS NOT NULL"
)
_SEALED_IN = (("access_key", "sealed"), ("vdn", "webhook_secret"), ("trunk", "password"))


@dataclass(frozen=True, slots=True)
class Summary:
    """What an archive holds: rows by table, version of the schema, fingerprints of the master keys."""

    rows: dict[str, int]
    version: int
    master_keys: tuple[str, ...]


async def back_up(dsn: str, out: IO[bytes]) -> Summary:
    """Write an archive of the database as it is at one moment, after the call; whoever works, works on.

    Raises `SettingError` for a database without outdial or of a newer one, and when `out` cannot be written;
    `StoreUnavailable` when the database is lost, or a migration comes in between.
    """
    async with migrate.connected(dsn, standby=True) as conn:
        known = await migrate.recorded(conn)
        migrate.check_known(known)
        if not known:
            raise SettingError("the database holds no outdial: there is nothing to back up")
        tables = await _tables(conn)
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            # Locks first, the snapshot after them: no migration changes a table between the two.
            await conn.execute(f"SET LOCAL lock_timeout = '{migrate.LOCK_WITHIN * 1000:.0f}ms'")
            await conn.execute(f"LOCK TABLE {', '.join(map(_quoted, tables))} IN ACCESS SHARE MODE")
            if (await migrate.recorded(conn)).keys() != known.keys():
                raise StoreUnavailable("a migration came in between: repeat")
            try:
                return await _write(conn, out, known, tables)
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                raise SettingError(f"the backup cannot be written: {error.strerror}") from error


async def _write(
    conn: Any, out: IO[bytes], known: dict[int, Any], tables: dict[str, Sequence[str]]
) -> Summary:
    keys = await _master_keys(conn, tables)
    writer = Writer(out, _head(conn, known, tables) | {"masterKeys": keys})
    for table, columns in tables.items():

        async def keep(text: bytes, table: str = table) -> None:
            writer.add(table, text)

        await conn.copy_from_table(table, columns=columns, output=keep)
        writer.end_of(table)
    # After the rows: sequences are of no snapshot, and must stand behind every row.
    names = await conn.fetch(_SEQUENCES, list(tables), _created(_OUR_SEQUENCES))
    writer.close({name: await _standing(conn, name) for (name,) in names})
    return Summary(writer.rows, max(known), tuple(keys))


def _head(conn: Any, known: dict[int, Any], tables: dict[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "outdial": __version__,
        "madeAt": utc_now().isoformat(timespec="seconds"),
        "postgresql": conn.get_server_version().major,
        "migrations": [
            {"version": version, "name": known[version]["name"], "checksum": known[version]["checksum"]}
            for version in sorted(known)
        ],
        "tables": [{"name": name, "columns": list(columns)} for name, columns in tables.items()],
    }


async def _tables(conn: Any) -> dict[str, Sequence[str]]:
    """Our tables with their columns, each after those that it refers to."""
    found = {row["name"]: row["columns"] for row in await conn.fetch(_COLUMNS, _created(_OUR_TABLES))}
    parents: dict[str, set[str]] = {name: set() for name in found}
    for row in await conn.fetch(_REFERENCES):
        if row["child"] in found and row["parent"] != row["child"]:
            parents[row["child"]].add(row["parent"])
    ordered: dict[str, Sequence[str]] = {}
    while len(ordered) < len(found):
        free = sorted(name for name in found if name not in ordered and parents[name] <= ordered.keys())
        assert free, "tables refer to one another in a circle"
        ordered |= {name: found[name] for name in free}
    return ordered


async def _master_keys(conn: Any, tables: dict[str, Sequence[str]]) -> list[str]:
    found: set[str] = set()
    for table, column in _SEALED_IN:
        if table in tables:
            rows = await conn.fetch(_SEALED.format(table=table, column=column))
            found |= {row[0] for row in rows}
    return sorted(found)


async def _standing(conn: Any, sequence: str) -> list[Any]:
    row = await conn.fetchrow(f"SELECT last_value, is_called FROM {_quoted(sequence)}")  # noqa: S608
    return [row["last_value"], row["is_called"]]


def _created(what: re.Pattern[str]) -> list[str]:
    return [name for _, _, text in migrate.migrations() for name in what.findall(text)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- back again --------------------------------------------------------------------------------------------


def judged(file: IO[bytes], name: str) -> Summary:
    """What the archive holds, after all of it was read and proved; `file` stands at its beginning again.

    Raises `BadBackup`, and `SettingError` when a newer outdial made it.
    """
    head, totals = verified(file, name)
    try:
        known = {int(one["version"]): one for one in head["migrations"]}
        rows = {str(table): int(count) for table, count in totals["rows"].items()}
        found = Summary(rows, max(known), tuple(head["masterKeys"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadBackup(f"{name}: its {HEAD} or {TOTALS} is not what this outdial writes") from error
    try:
        migrate.check_known(known)
    except SettingError as error:
        raise SettingError(f"{name}: {error}") from error
    return found


async def restore(dsn: str, file: IO[bytes], name: str) -> Summary:
    """Put the archive into an empty database and bring it to the present schema, in one transaction.

    The archive is read and proved before anything is stored, and proved again before it is kept. Raises
    `BadBackup`; `SettingError` for a database that is not empty or an archive of a newer outdial.
    """
    found = judged(file, name)
    head, totals = verified(file, name)
    tables = {one["name"]: one["columns"] for one in head["tables"]}
    async with migrate.connected(dsn) as conn, conn.transaction():
        await migrate.take_turn(conn)
        await _refuse_occupied(conn)
        await migrate.apply(conn, (), up_to=found.version)
        if tables.keys() != (await _tables(conn)).keys():
            raise BadBackup(f"{name}: its tables are not those of schema version {found.version}")
        await _empty(conn, tables)
        stored = await _load(conn, members(file, name), tables)
        if stored != found.rows:
            raise BadBackup(f"{name}: its rows are not those that {TOTALS} counts")
        for sequence, (value, called) in totals["sequences"].items():
            await conn.execute("SELECT setval($1::text::regclass, $2, $3)", _quoted(sequence), value, called)
        await migrate.apply(conn, (await migrate.recorded(conn)).keys())
        await conn.execute("ANALYZE")
    return found


async def _refuse_occupied(conn: Any) -> None:
    if (occupied := await conn.fetchval(_OCCUPIED)) is not None:
        raise SettingError(
            f"the database is not empty (it has {occupied!r}): restore goes only into an empty one; nothing"
            " was changed"
        )


async def _empty(conn: Any, tables: Iterable[str]) -> None:
    """A migration may bring rows; tables without any are left alone, the audit log among them."""
    for table in map(_quoted, tables):
        if await conn.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 a name of our schema
            await conn.execute(f"TRUNCATE {table}")


async def _load(
    conn: Any, parts: Iterator[tuple[str, bytes]], tables: dict[str, Sequence[str]]
) -> dict[str, int]:
    rows = dict.fromkeys(tables, 0)
    for member, text in parts:
        folder, _, rest = member.partition("/")
        if folder != "tables":
            continue
        table = rest.partition("/")[0]
        done = await conn.copy_to_table(table, columns=tables[table], source=_whole(text))
        rows[table] += int(done.split()[-1])
    return rows


async def _whole(text: bytes) -> Any:
    yield text
