"""A DSN with several hosts: the one that takes writes is found, whatever the others do."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from outdial.errors import StoreUnavailable
from outdial.store.hosts import connect, hosts_of
from outdial.store.postgres import Postgres, check_server


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p%40@a:1,b:2/n", [("a", 1), ("b", 2)]),
        ("postgresql://u@a,b:6000/n?sslmode=require", [("a", None), ("b", 6000)]),
        ("postgresql://[::1]:1,[fd00::2]/n", [("::1", 1), ("fd00::2", None)]),
        ("postgresql:///n?host=/run/a,/run/b&port=1,2", [("/run/a", 1), ("/run/b", 2)]),
        ("postgresql:///n?host=a,b&port=7", [("a", 7), ("b", 7)]),
        ("postgresql://a/n", [("a", None)]),
        ("postgresql:///n", [("", None)]),
    ],
)
def test_the_hosts_of_a_dsn(dsn: str, hosts: list[tuple[str, int | None]]) -> None:
    assert hosts_of(dsn) == hosts


@pytest.mark.parametrize("dsn", ["postgresql://a:x,b/n", "postgresql:///n?host=a,b,c&port=1,2"])
def test_hosts_that_cannot_be_read_are_refused(dsn: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|as many ports"):
        hosts_of(dsn)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections and says nothing, as one does that is frozen."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def beside(database: str, port: int) -> str:
    """The DSN with a host before the database's own."""
    parts = urlsplit(database)
    host = parse_qs(parts.query)["host"][0]
    return f"postgresql://{parts.netloc}{parts.path}?host=127.0.0.1,{host}&port={port},5432"


def test_a_host_that_is_dead_without_a_word_holds_up_nobody(database: str, silent: int) -> None:
    """As a primary whose machine is gone: no connection is refused."""

    async def works() -> float:
        db = Postgres(beside(database, silent))
        await db.open()
        began = time.monotonic()
        await db.fetch("ready")
        took = time.monotonic() - began
        await db.close()
        return took

    assert asyncio.run(works()) < 1.4, "it waited for the silent host"


def test_a_host_that_takes_no_writes_is_passed_over(database: str) -> None:
    """A standby, or an old primary that was closed on purpose."""
    name = urlsplit(database).path[1:]

    async def closed() -> None:
        conn = await connect(database, timeout=10)
        await conn.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await conn.close()
        with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
            await connect(database, timeout=10)
        reading = await connect(database, timeout=10, standby=True)
        assert await reading.fetchval("SELECT 1") == 1
        await reading.close()

    asyncio.run(closed())
    with pytest.raises(StoreUnavailable, match="takes no writes"):
        asyncio.run(check_server(database))
    with pytest.raises(StoreUnavailable, match="takes no writes"):
        asyncio.run(check_server(beside(database, 1)))
