"""Connections, transactions and deadlines: what is certain when PostgreSQL is not.

Every statement has a timeout on the server and a longer one here. An error becomes `StoreUnavailable`
when it is certain that nothing was kept, and `CommitUnknown` when the fate of a COMMIT could not be
learned (semantics.md §2, guarantee G2).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog

from outdial import audit
from outdial.errors import CommitUnknown, SettingError, StoreUnavailable
from outdial.metrics import DATABASE_ERRORS
from outdial.store.hosts import connect
from outdial.store.queries import QUERIES

log = structlog.get_logger()

STATEMENT_TIMEOUT = 2.0
"""Seconds after which the server itself gives a statement up: then nothing was kept."""

CLIENT_TIMEOUT = 2.5
"""Seconds after which we stop waiting for a server that does not even do that."""

DEADLINE = 4.7
"""Seconds from a request's start to its answer, whatever the store does (semantics.md §2: 5 s)."""

LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""The connection is gone: a COMMIT under way may or may not have happened."""

REFUSED = (
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""The server said no and rolled back: nothing was kept."""

_LIFE = "SELECT pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time()"
"""The life of a server. When one of its processes crashes, it begins anew, with its statistics, but the
postmaster and its start time stay."""

_FATE = f"{_LIFE}, pg_current_xact_id_if_assigned()::text"
"""What a COMMIT can be asked by if its answer is lost."""

_AUDIT = 0x61756474  # "audt": the advisory lock of whoever appends to the audit log

Connection = Any  # asyncpg.Connection or its pool proxy; asyncpg ships no types


async def _no_reset(_: Connection) -> None:
    """No session state is ever set, so a returned connection needs no round trip to clear it."""


class Postgres:
    """A small pool of connections to one database (2 to 4 a process are best: design, stack.md §2.1)."""

    def __init__(self, dsn: str, *, size: int = 4, name: str = "outdial") -> None:
        self.dsn = dsn
        self._size = size
        self.name = f"{name} {secrets.token_hex(4)}"
        self._pool: Any = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the pool; connections are made when first needed, so a store that is down is no error here."""
        self._pool = await asyncpg.create_pool(
            self.dsn,
            connect=connect,
            min_size=0,
            max_size=self._size,
            reset=_no_reset,
            **self._options(),
        )

    def _options(self) -> dict[str, Any]:
        return {
            "timeout": 1.5,
            "command_timeout": CLIENT_TIMEOUT,
            "statement_cache_size": 200,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                "application_name": self.name,
                "statement_timeout": f"{int(STATEMENT_TIMEOUT * 1000)}",
                "idle_in_transaction_session_timeout": "5000",
                "timezone": "UTC",
                "jit": "off",
                "plan_cache_mode": "force_generic_plan",
                # A plan made while a table is empty is kept: it must already be the one for a full table.
                "enable_seqscan": "off",
            },
        }

    async def close(self) -> None:
        """Close the connections; bounded, since a frozen server never says goodbye."""
        for task in tuple(self._leaving):
            task.cancel()
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 2)
            except (TimeoutError, *LOST):
                self._pool.terminate()

    @asynccontextmanager
    async def connection(self, *, wait: float = 1.5) -> AsyncIterator[Connection]:
        """A connection for one statement. Raises `StoreUnavailable` if none comes within `wait` seconds."""
        try:
            held = await self._pool.acquire(timeout=wait)
        except (*LOST, *REFUSED, asyncpg.PostgresError) as error:
            raise unavailable(_reason(error)) from error
        try:
            yield held
        except (TimeoutError, asyncio.CancelledError):
            drop(held)
            raise
        finally:
            # Shielded inside asyncpg; a dead connection is dropped by the pool here.
            try:
                await self._pool.release(held, timeout=1)
            except LOST:
                drop(held)

    async def fetch(self, name: str, *args: Any) -> list[Any]:
        """Run a named query that keeps nothing, or whose repetition changes nothing."""
        async with self.connection() as conn:
            try:
                return list(await conn.fetch(QUERIES[name], *args))
            except (*LOST, *REFUSED) as error:
                raise unavailable(_reason(error)) from error

    async def fetchrow(self, name: str, *args: Any) -> Any:
        """The first row of `fetch`, or None."""
        rows = await self.fetch(name, *args)
        return rows[0] if rows else None

    async def fetchval(self, name: str, *args: Any) -> Any:
        """The first value of `fetch`, or None."""
        row = await self.fetchrow(name, *args)
        return row[0] if row is not None else None

    async def run(self, name: str, **names: str) -> None:
        """Run a named query that takes names of tables in its `{...}` places, and may be repeated."""
        async with self.connection() as conn:
            try:
                await conn.execute(QUERIES[name].format(**names))
            except (*LOST, *REFUSED) as error:
                raise StoreUnavailable(_reason(error)) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction (READ COMMITTED). Leaves by COMMIT, or rolls back and raises.

        Raises `StoreUnavailable` (nothing kept) or `CommitUnknown`.
        """
        async with self.connection() as conn:
            transaction = Transaction(conn)
            try:
                await conn.execute("BEGIN")
                yield transaction
                await transaction.append_told()
                *life, xid = await conn.fetchrow(_FATE)
            except (*LOST, *REFUSED) as error:
                drop(conn)
                raise unavailable(_reason(error)) from error
            except BaseException:
                await _roll_back(conn)
                raise
            await self._commit(conn, xid, life)

    async def _commit(self, conn: Connection, xid: str | None, life: list[datetime | None]) -> None:
        pid = conn.get_server_pid()
        try:
            await conn.execute("COMMIT")
        except REFUSED as error:
            raise unavailable(_reason(error)) from error
        except LOST as error:
            drop(conn)
            if xid is None:
                return
            status = await self._status_of(xid, life, pid)
            if status == "aborted":
                raise unavailable(_reason(error)) from error
            if status != "committed":
                raise commit_unknown(_reason(error)) from error

    async def _status_of(self, xid: str, life: list[datetime | None], pid: int) -> str | None:
        """What became of a transaction: committed, aborted, or None when that cannot be known in time.

        After a restart or a crash of the server a lost transaction's id is given away again, so only the
        life that ran it is believed. A commit that is seen is confirmed first (queries/commits.sql).
        """

        async def ask(conn: Connection) -> str | None:
            if None in life or list(await conn.fetchrow(_LIFE)) != life:
                return "restarted"
            await self.end_backend(conn, pid)
            return str(await conn.fetchval(QUERIES["fate"], xid))

        found = await self.settle_fate(ask, until=asyncio.get_running_loop().time() + 1.5)
        return found if found in ("committed", "aborted") else None

    async def settle_fate(
        self, ask: Callable[[Connection], Awaitable[str | None]], *, until: float
    ) -> str | None:
        """Ask on fresh connections until there is an answer or `until` (loop time) has come."""
        loop = asyncio.get_running_loop()
        while (left := until - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    conn = await connect(self.dsn, timeout=left, command_timeout=left)
                    try:
                        return await ask(conn)
                    finally:
                        self._leave(conn)
            except (*LOST, *REFUSED, asyncpg.PostgresError):
                await asyncio.sleep(min(0.05, max(0.0, until - loop.time())))
        return None

    def _leave(self, conn: Connection) -> None:
        """Close it beside our work: a question that waits for a standby is cancelled first, or it stays."""
        task = asyncio.get_running_loop().create_task(_say_goodbye(conn))
        self._leaving.add(task)

        def gone(task: asyncio.Task[None]) -> None:
            self._leaving.discard(task)
            drop(conn)  # where there was no time for a goodbye

        task.add_done_callback(gone)

    async def end_backend(self, conn: Connection, pid: int) -> None:
        """End the backend of ours that ran a lost statement and wait until it is gone: its fate is sealed.

        Only connections of this process carry `self.name`, so a number given away again hits none else.
        """
        ours = "FROM pg_stat_activity WHERE pid = $1 AND application_name = $2"
        await conn.execute(f"SELECT pg_terminate_backend(pid) {ours}", pid, self.name)
        for _ in range(400):
            if not await conn.fetchval(f"SELECT EXISTS (SELECT 1 {ours})", pid, self.name):
                return
            await asyncio.sleep(0.005)
        raise TimeoutError(f"backend {pid} does not end")

    async def listen(self, channel: str, heard: Callable[[], None]) -> Connection:
        """A connection of its own that calls `heard` at every notification, and once when it is lost."""
        conn: Connection = None
        try:
            conn = await connect(self.dsn, **self._options())
            conn.add_termination_listener(lambda _: heard())
            await conn.add_listener(channel, lambda *_: heard())
        except (*LOST, *REFUSED, asyncpg.PostgresError) as error:
            if conn is not None:
                drop(conn)
            raise unavailable(_reason(error)) from error
        return conn


class Transaction:
    """The named queries inside one transaction."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._told: list[audit.Change] = []

    def tells(self, *changes: audit.Change) -> None:
        """Have the audit log tell of changes, with this transaction or not at all."""
        self._told += changes

    async def append_told(self) -> None:
        """Append to the audit log. It holds the log until the COMMIT that must follow at once."""
        if not self._told:
            return
        await self.execute("lock_audit", _AUDIT)
        last = await self.fetchrow("audit_head")
        head = audit.Head(last["seq"], last["hash"]) if last["seq"] is not None else audit.EMPTY
        rows = []
        for change in self._told:
            rows.append(audit.sealed(head, last["now"], audit.who.get(), change))
            head = audit.Head(rows[-1].seq, rows[-1].hash)
        columns = zip(*(astuple(row) for row in rows), strict=True)
        await self.execute("append_audit", *(list(column) for column in columns))

    async def fetch(self, name: str, *args: Any, **literals: int) -> list[Any]:
        """Run a named query; `literals` fill its `{...}` places (LIMIT in the claim)."""
        sql = QUERIES[name].format(**literals) if literals else QUERIES[name]
        return list(await self._conn.fetch(sql, *args))

    async def fetchrow(self, name: str, *args: Any) -> Any:
        """The first row, or None."""
        return await self._conn.fetchrow(QUERIES[name], *args)

    async def fetchval(self, name: str, *args: Any) -> Any:
        """The first value, or None."""
        return await self._conn.fetchval(QUERIES[name], *args)

    async def execute(self, name: str, *args: Any) -> str:
        """Run a named query for its effect; returns the command tag."""
        return str(await self._conn.execute(QUERIES[name], *args))

    async def roll_back(self) -> None:
        """Undo what was done so far; the COMMIT that follows then keeps nothing of it."""
        self._told.clear()
        await self._conn.execute("ROLLBACK AND CHAIN")


def unavailable(reason: str) -> StoreUnavailable:
    """What the database did not do, counted."""
    DATABASE_ERRORS.add("unavailable")
    return StoreUnavailable(reason)


def commit_unknown(reason: str) -> CommitUnknown:
    """A COMMIT whose fate was not learned, counted."""
    DATABASE_ERRORS.add("commit_unknown")
    return CommitUnknown(reason)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no detail'}"


def drop(conn: Connection) -> None:
    """Cut a connection that is in doubt; one that the pool has dropped itself is cut already."""
    with suppress(asyncpg.InterfaceError):
        conn.terminate()


async def _say_goodbye(conn: Connection) -> None:
    """Bounded, since a frozen server never says it too."""
    with suppress(*LOST, asyncpg.PostgresError):
        await conn.close(timeout=1)


async def _roll_back(conn: Connection) -> None:
    try:
        await asyncio.wait_for(conn.execute("ROLLBACK"), 1)
    except (TimeoutError, *LOST, asyncpg.PostgresError):
        drop(conn)


async def check_server(dsn: str) -> None:
    """Refuse a database that cannot keep the promises.

    Raises `SettingError` with the reason, `StoreUnavailable` for a database that is away.
    Not UTF8: names would not come back as they were. `fsync` or `synchronous_commit` off, or a synchronous
    standby that is not waited for: an answered add could be lost (G1). A transaction pooler: prepared
    statements, LISTEN and session locks break. A standby alone counts as away: it may be promoted.
    """
    try:
        first = await connect(dsn, timeout=5, command_timeout=5, statement_cache_size=0)
    except ValueError as error:  # its own words may quote the password
        raise SettingError(
            "database (--database, OUTDIAL_DATABASE): not a DSN like postgresql://USER:PASSWORD@HOST:5432/NAME"
        ) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise StoreUnavailable(
            "the database takes no writes: it is a standby, or read-only; name the primary, or both hosts"
            " (postgresql://USER:PASSWORD@A:5432,B:5432/NAME)"
        ) from error
    except LOST as error:
        raise StoreUnavailable(f"the database cannot be reached: {_reason(error)}") from error
    except asyncpg.PostgresError as error:
        raise SettingError(f"the database refuses us: {_reason(error)}") from error
    try:
        await _check_settings(first)
        await _check_pooler(dsn, first)
    finally:
        await first.close(timeout=2)


async def _check_settings(conn: Connection) -> None:
    if conn.get_server_version().major < 14:
        raise SettingError("the database server is older than PostgreSQL 14")
    encoding = await conn.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise SettingError(
            f"the database's encoding is {encoding}: it must be UTF8 (createdb -E UTF8 -T template0)"
        )
    for setting in ("fsync", "synchronous_commit"):
        if await conn.fetchval(f"SHOW {setting}") == "off":
            raise SettingError(f"the database has {setting} off: an answered add could be lost; set it on")
    waits = await conn.fetchval("SHOW synchronous_commit")
    if waits in ("local", "remote_write") and await conn.fetchval("SHOW synchronous_standby_names"):
        raise SettingError(
            f"the database has a synchronous standby and synchronous_commit {waits}: a failover could lose an"
            " answered add; set synchronous_commit on (ALTER ROLE ... SET), or name no synchronous standby"
        )


async def _check_pooler(dsn: str, first: Connection) -> None:
    """Two client connections that share one server process can only do so behind a transaction pooler."""
    pid = await first.fetchval("SELECT pg_backend_pid()")
    held: list[Connection] = []
    try:
        for _ in range(4):
            conn = await connect(dsn, timeout=5, command_timeout=5, statement_cache_size=0)
            held.append(conn)
            await conn.execute("BEGIN")
            if await conn.fetchval("SELECT pg_backend_pid()") == pid:
                raise SettingError(
                    "the database sits behind a transaction pooler: give the DSN of PostgreSQL itself,"
                    " or of a pooler in session mode"
                )
        if await first.fetchval("SELECT pg_backend_pid()") != pid:
            raise SettingError(
                "the database sits behind a transaction pooler: give the DSN of PostgreSQL itself"
            )
    except (TimeoutError, asyncpg.PostgresError) as error:
        raise SettingError(
            f"the database does not serve five connections at once ({_reason(error)}): a pooler in"
            " transaction mode, or too few connections"
        ) from error
    finally:
        for conn in held:
            conn.terminate()


def utc_now() -> datetime:
    """The wall clock, aware, in UTC."""
    return datetime.now(UTC)
