"""What `outdial doctor` looks at. Each check says how it stands and, where something is wrong, what to do.

Nothing is changed, and no check keeps another from its turn.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp

from outdial.config import Settings
from outdial.errors import SettingError, StoreUnavailable, SwitchError
from outdial.model import Trunk
from outdial.receivers import NotTaken, reach, receiver_of
from outdial.store import migrate
from outdial.store.postgres import check_server, utc_now
from outdial.store.sealing import key_file, load_master_key
from outdial.store.store import Store

LEAST_SPACE: Final = 100 * 1024 * 1024
"""Bytes free under which the database is about to stop."""

LITTLE_SPACE: Final = 1024 * 1024 * 1024
"""Bytes free under which somebody should look."""

CLOCK_OFF: Final = 2.0
"""Seconds between two clocks that are worth a look; a Date header has whole seconds."""

CLOCK_WRONG: Final = 60.0
"""Seconds between two clocks with which calling windows and signatures go wrong."""

CERTIFICATE_SOON: Final = 21
"""Days before its end at which a certificate should have been renewed."""

_WITHIN = 10.0  # seconds for the answer of a server
_AT_ONCE = 16  # receivers and trunks that are looked at side by side

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """How one thing stands; `todo` says what to do about it."""

    name: str
    state: State
    said: str
    todo: str = ""


# -- the machine -------------------------------------------------------------------------------------------


def data_folder(data: Path) -> Check:
    """Whether it is there, and how much room it has."""
    if not data.is_dir():
        todo = "name the right one with --data, or start the server once: it makes it"
        return Check("data folder", "failed", f"{data} is not there", todo)
    free = shutil.disk_usage(data).free
    said = f"{data}, {free / 1024**3:.1f} GiB free"
    if free >= LITTLE_SPACE:
        return Check("data folder", "ok", said)
    state: State = "warning" if free >= LEAST_SPACE else "failed"
    return Check("data folder", state, said, "make room: a full disk stops the database")


def master_key(settings: Settings) -> Check:
    """Whether it can be read, by us alone."""
    try:
        key = load_master_key(settings.data, os.environ)
    except SettingError as error:
        return Check("master key", "failed", str(error), "put it right: without it no secret can be read")
    if key is None:
        place = f"{key_file(settings.data)}, " if settings.data is not None else ""
        return Check(
            "master key", "warning", f"none ({place}OUTDIAL_MASTER_KEY)", "the first access key makes it"
        )
    return Check("master key", "ok", f"fingerprint {key.fingerprint}")


# -- the database ------------------------------------------------------------------------------------------


async def database(dsn: str, settings: Settings) -> AsyncIterator[Check]:
    """Server, clock, schema; then what only the present schema can say."""
    try:
        await check_server(dsn)
        async with migrate.connected(dsn) as conn:
            yield await _server_version(conn)
            yield await _database_clock(conn)
        schema = await _schema(dsn)
        yield schema
        if schema.state == "ok":
            key = load_master_key(settings.data, os.environ) if _readable(settings) else None
            async with Store(dsn, key, size=2, name="outdial doctor") as store:
                async for check in _store(store, settings):
                    yield check
    except (SettingError, StoreUnavailable) as error:
        yield Check("database", "failed", str(error), "see the error; nothing works without the database")


async def _server_version(conn: Any) -> Check:
    version = await conn.fetchval("SHOW server_version")
    off = [
        name
        for name in ("full_page_writes", "data_checksums")
        if await conn.fetchval(f"SHOW {name}") == "off"
    ]
    said = f"PostgreSQL {version}"
    if not off:
        return Check("database", "ok", said)
    return Check(
        "database", "warning", f"{said}, {' and '.join(off)} off", "damage on the disk goes unnoticed"
    )


async def _database_clock(conn: Any) -> Check:
    began = utc_now()
    theirs = await conn.fetchval("SELECT clock_timestamp()")
    ended = utc_now()
    return _clock("clock of the database", theirs, began, ended)


def _clock(name: str, theirs: datetime, began: datetime, ended: datetime) -> Check:
    """Compared with the span in which the other clock was read."""
    early, late = (began - theirs).total_seconds(), (theirs - ended).total_seconds()
    off = max(early, late, 0.0)
    said = f"{off:.1f} s {'behind' if early > late else 'ahead of'} ours" if off else "as ours"
    if off <= CLOCK_OFF:
        return Check(name, "ok", said)
    state: State = "warning" if off <= CLOCK_WRONG else "failed"
    return Check(name, state, said, "set both clocks by NTP: windows, leases and signatures go by them")


async def _schema(dsn: str) -> Check:
    standing = await migrate.standing(dsn)
    if standing.before == standing.after:
        return Check("schema", "ok", f"version {standing.after}")
    said = f"version {standing.before}, this outdial wants {standing.after}"
    return Check("schema", "warning", said, "outdial db migrate; the next start of the server does it too")


def _readable(settings: Settings) -> bool:
    return master_key(settings).state != "failed"


# -- what is stored ----------------------------------------------------------------------------------------


async def _store(store: Store, settings: Settings) -> AsyncIterator[Check]:
    yield await _secrets(store)
    allow = [ip_network(network) for network in settings.push_allow]
    urls = {_receiver(url): url for url in await store.results.receiver_urls()}
    for check in await _side_by_side([partial(_push, url, allow) for url in urls.values()]):
        yield check
    if settings.switch != "sip":
        yield Check("switch", "ok", "simulated: no call leaves this machine")
        return
    trunks = [one for one in await store.trunks.listed() if one.enabled]
    if not trunks:
        yield Check(
            "trunks", "warning", "none is enabled", "outdial trunk add: without one no call is dialed"
        )
    for check in await _side_by_side([partial(_trunk, one, settings) for one in trunks]):
        yield check


async def _secrets(store: Store) -> Check:
    try:
        left = await store.secrets.left_behind()
    except SettingError as error:
        return Check("secrets", "failed", str(error), "put the right master key back")
    if left:
        said = f"{left} are sealed with an older master key"
        return Check(
            "secrets", "warning", said, "outdial keys rotate-master, before you remove the older key"
        )
    return Check("secrets", "ok", "all are sealed with the master key")


def _receiver(url: str) -> str:
    try:
        return receiver_of(url)
    except NotTaken:
        return url


async def _push(url: str, allow: list[Any]) -> Check:
    name = f"receiver {_receiver(url)}"
    try:
        await reach(url, allow)
    except NotTaken as error:
        todo = "see that it runs and can be reached from here; a private address needs the setting push_allow"
        return Check(name, "failed", error.reason, todo)
    return Check(name, "ok", "connected")


async def _trunk(trunk: Trunk, settings: Settings) -> Check:
    from outdial.switch.gateway import probe

    name = f"trunk {trunk.name}"
    todo = f"outdial trunk test {trunk.name}; ask the carrier"
    try:
        tls = ssl.create_default_context(cafile=settings.sip_ca_file) if trunk.transport == "tls" else None
        found = await probe(trunk, tls)
    except (LookupError, OSError, SwitchError) as error:
        return Check(name, "failed", f"is not reached: {str(error) or 'no answer in time'}", todo)
    if found.status is None:
        return Check(name, "failed", f"does not answer ({found.seconds:.1f} s)", todo)
    return Check(name, "ok", f"answers {found.status} after {1000 * found.seconds:.0f} ms")


async def _side_by_side(works: list[Callable[[], Awaitable[Check]]]) -> list[Check]:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(work: Callable[[], Awaitable[Check]]) -> Check:
        async with turn:
            return await work()

    return list(await asyncio.gather(*(one(work) for work in works)))


# -- a server ----------------------------------------------------------------------------------------------


async def server(url: str) -> list[Check]:
    """Whether it answers that it is ready, its clock, and its certificate where it has one."""
    found = await _certificate(url) if urlsplit(url).scheme == "https" else []
    if any(check.state == "failed" for check in found):
        return found
    timeout = aiohttp.ClientTimeout(total=_WITHIN)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            began = utc_now()
            ready = f"{url.rstrip('/')}/readyz"
            async with session.get(ready, allow_redirects=False, ssl=_trusted()) as answer:
                ended = utc_now()
                return [*found, _ready(url, answer.status), *_date(answer.headers.get("Date"), began, ended)]
    except (aiohttp.ClientError, OSError, ValueError) as error:
        said = f"{url}: {str(error) or type(error).__name__}"
        return [*found, Check("server", "failed", said, "see that it runs: outdial serve")]


def _ready(url: str, status: int) -> Check:
    if status == 200:
        return Check("server", "ok", f"{url} is ready")
    return Check(
        "server", "failed", f"{url}/readyz: HTTP {status}", "see the server's log; is its database there?"
    )


def _date(header: str | None, began: datetime, ended: datetime) -> Iterator[Check]:
    try:
        theirs = parsedate_to_datetime(header or "").astimezone(UTC)
    except ValueError:
        return
    yield _clock("clock of the server", theirs, began.replace(microsecond=0), ended)


def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _certificate(url: str) -> list[Check]:
    """Verified as every client does it, against the certificates of the system."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_WITHIN):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=_trusted())
    except ssl.SSLCertVerificationError as error:
        todo = "renew it, or give the server the whole chain"
        return [Check("certificate", "failed", error.verify_message, todo)]
    except OSError as error:
        return [Check("server", "failed", f"{url}: {str(error) or 'no answer in time'}", "see that it runs")]
    ends = ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
    writer.transport.abort()
    days = int((ends - time.time()) // 86400)
    if days > CERTIFICATE_SOON:
        return [Check("certificate", "ok", f"holds {days} days more")]
    return [Check("certificate", "warning", f"holds {days} days more", "renew it")]
