"""A connection to the host that takes writes: one of several that a DSN names, or its only one.

`postgresql://USER:PASSWORD@A:5432,B:5432/NAME` names a primary and its standby. Whichever of them is the
primary now is found at every new connection, so a failover needs no change of settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

Host = tuple[str, int | None]


def hosts_of(dsn: str) -> list[Host]:
    """Host and port (None: the default) of all hosts that a DSN names. Raises `ValueError` for a bad port."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    named = unquote(parts.netloc.rpartition("@")[2]) or query.get("host", [""])[-1]
    ports = [int(port) if port else None for port in query.get("port", [""])[-1].split(",")]
    found = [_host(one) for one in named.split(",")]
    if len(ports) not in (1, len(found)):
        raise ValueError("as many ports as hosts, or one for all")
    default = ports[0] if len(ports) == 1 else None
    return [(host, own or port or default) for (host, own), port in zip_longest(found, ports[: len(found)])]


def _host(text: str) -> Host:
    if text.startswith("/"):
        return text, None
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    return host, int(port) if port else None


async def connect(dsn: str, *, timeout: float, standby: bool = False, **options: Any) -> Any:
    """Connect to the host that takes writes, within `timeout` seconds; a standby is none.

    `standby`: one that is the only host named will do, for who only reads.

    All hosts are tried at once: one that is dead without a word would use up the time of the others. Raises
    what asyncpg raises; `TargetServerAttributeNotMatched` when a host answers and none takes writes.
    """
    hosts = hosts_of(dsn)
    if not standby or len(hosts) > 1:
        options["target_session_attrs"] = "read-write"
    if len(hosts) == 1:
        return await asyncpg.connect(dsn, timeout=timeout, **options)
    trying = [
        asyncio.ensure_future(asyncpg.connect(dsn, host=host, port=port, timeout=timeout, **options))
        for host, port in hosts
    ]
    chosen = None
    try:
        chosen = await _first(trying)
    finally:
        for one in trying:
            one.cancel()
        for other in await asyncio.gather(*trying, return_exceptions=True):
            if other is not chosen and not isinstance(other, BaseException):
                other.terminate()
    return chosen


async def _first(trying: Sequence[asyncio.Future[Any]]) -> Any:
    """The first connection that comes about; else the error that says most."""
    failed: list[Exception] = []
    for one in asyncio.as_completed(trying):
        try:
            return await one
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            failed.append(error)
    raise max(failed, key=_tells)


def _tells(error: Exception) -> int:
    """A server's own words say more than that it is a standby, and that more than that nothing answers."""
    return isinstance(error, asyncpg.PostgresError) + (not isinstance(error, OSError))
