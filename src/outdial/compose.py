"""The composition: what a server is made of, and what each of its processes runs.

`serve` is the supervisor's life; `python -m outdial.compose ROLE` is a process under it. This is where the
concrete store, switch and carrier are chosen.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from outdial import logs, metrics, tls
from outdial.config import Settings, load, networks, variable_of
from outdial.errors import SettingError
from outdial.store.postgres import check_server, utc_now
from outdial.store.sealing import load_master_key
from outdial.store.store import Store

if TYPE_CHECKING:  # each process imports what it needs: a start is mostly imports
    from outdial.sip.rtp import MediaSession
    from outdial.sip.words import Hop
    from outdial.store.embedded import EmbeddedPostgres
    from outdial.supervisor import Child, Supervisor
    from outdial.switch import Switch
    from outdial.web.certificates import Keeper

log = structlog.get_logger()

LISTEN_FD = "OUTDIAL_LISTEN_FD"
CARRIER_SOCKET = "OUTDIAL_CARRIER_SOCKET"

METRICS_FD = "OUTDIAL_METRICS_FD"

FRONT, CARRIER = 0, 1
"""Groups of processes in the order in which they are stopped: the carrier outlives its callers."""


def opened(settings: Settings, name: str, *, size: int = 4) -> Store:
    """The store of a settled database (`settings.database`); the master key is looked for when needed."""
    assert settings.database is not None, "the supervisor hands the DSN to its processes"
    return Store(settings.database, lambda: load_master_key(settings.data, os.environ), size=size, name=name)


async def prepare(settings: Settings) -> None:
    """Check the database, bring its schema to the present, check the master key. Raises `SettingError`."""
    from outdial.store import migrate

    assert settings.database is not None
    await check_server(settings.database)
    await migrate.prepare(settings.database)
    async with opened(settings, "outdial prepare", size=1) as store:
        await store.vdns.check_master_key()


# -- the supervisor ----------------------------------------------------------------------------------------


def serve(settings: Settings) -> int:
    """Run a server until a signal ends it; the exit status. Raises `SettingError`."""
    from outdial.supervisor import as_init

    as_init()
    logs.configure(settings.log_level, "supervisor")
    with listening(settings) as sock, metrics_listening(settings) as metrics_sock:
        settings, keeper = tls.secured(settings)
        with database(settings) as (settled, postgres), scratch() as folder:
            asyncio.run(prepare(settled))
            supervisor = supervised(settled, sock, postgres, folder, serving=Serving(keeper, metrics_sock))
            tls.announce(settled, sock, keeper)
            asyncio.run(supervisor.run())
    return 0


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket that the api processes share. Raises `SettingError` before anything else is started."""
    from outdial.web.server import listening_socket

    sock = listening_socket(*settings.address())
    try:
        yield sock
    finally:
        sock.close()


@contextmanager
def metrics_listening(settings: Settings) -> Iterator[socket.socket | None]:
    """The socket of /metrics, if it is wanted. Raises `SettingError`."""
    from outdial.web.server import listening_socket

    address = settings.metrics_address()
    sock = listening_socket(*address) if address is not None else None
    try:
        yield sock
    finally:
        if sock is not None:
            sock.close()


@contextmanager
def database(settings: Settings) -> Iterator[tuple[Settings, EmbeddedPostgres | None]]:
    """The settings with a DSN, and the embedded PostgreSQL if that is what it belongs to, running."""
    if settings.database is not None:
        _make_folder(settings.data)
        yield settings, None
        return
    if settings.data is None:
        raise SettingError("data or database: one of them is needed")
    from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres

    postgres = EmbeddedPostgres(EmbeddedOptions(settings.data, settings.pg_bin, settings.pg_user))
    postgres.start(wait=10.0)  # an administration command may hold the folder for a moment
    try:
        yield settings.with_options(database=postgres.dsn), postgres
    finally:
        postgres.stop()


def _make_folder(data: Path | None) -> None:
    """The data folder of a server with a database elsewhere: the carrier's log lives in it."""
    if data is None:
        return
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"data folder {data}: cannot be made: {error}") from error


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this run with a short path, closed to others: for the carrier's socket."""
    folder = Path(tempfile.mkdtemp(prefix="outdial-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server has beside its children: its certificate, the socket of /metrics."""

    keeper: Keeper | None = None
    metrics: socket.socket | None = None

    def reload(self) -> bool:
        """What SIGHUP asks for."""
        if self.keeper is None:
            log.info("nothing to reload: there is no TLS")
            return False
        return self.keeper.reload()

    def close(self, sock: socket.socket) -> None:
        """Nobody will serve these any more."""
        sock.close()
        if self.metrics is not None:
            self.metrics.close()


def supervised(
    settings: Settings,
    sock: socket.socket,
    postgres: EmbeddedPostgres | None,
    folder: Path,
    *,
    serving: Serving | None = None,
) -> Supervisor:
    """The supervisor of the roles that the settings name; a dead PostgreSQL is its to restart and stop.

    Without `serving` a SIGHUP ends it.
    """
    from outdial.supervisor import Supervisor

    held = serving or Serving()

    async def watch() -> None:
        """PostgreSQL, whose end is ours, and beside it the certificate."""
        looking = (
            asyncio.create_task(held.keeper.watch(supervisor.reload)) if held.keeper is not None else None
        )
        try:
            await (postgres.watch() if postgres is not None else asyncio.Event().wait())
        finally:
            if looking is not None:
                looking.cancel()

    supervisor = Supervisor(
        children(settings, sock, folder, held.metrics),
        watch=watch,
        finish=postgres.stop if postgres is not None else None,
        at_stop=lambda: held.close(sock),
        reload=serving.reload if serving is not None else None,
    )
    return supervisor


def children(
    settings: Settings, sock: socket.socket, folder: Path, metrics_sock: socket.socket | None = None
) -> list[Child]:
    """The processes of a server. With a socket for /metrics each counts in a file of its own in `folder`."""
    from outdial.supervisor import Child

    carrier_socket = folder / "carrier.sock"
    given = environment(settings) | {CARRIER_SOCKET: str(carrier_socket)}
    found = []
    if "engine" in settings.roles:
        if settings.switch == "simulated":
            found.append(_carrier(settings, carrier_socket, given))
        found.append(Child("engine", _role("engine"), given, group=FRONT))
    if "push" in settings.roles:
        found.append(Child("push", _role("push"), given, group=FRONT))
    if "api" in settings.roles:
        listening_to = given | {LISTEN_FD: str(sock.fileno())}
        found += [
            Child(
                f"api {n}",
                _role("api"),
                listening_to,
                fds=(sock.fileno(),),
                group=FRONT,
                reloads=settings.tls_cert is not None,
            )
            for n in range(1, settings.api_processes + 1)
        ]
    if metrics_sock is None:
        return found
    fd = metrics_sock.fileno()
    found.append(Child("metrics", _role("metrics"), given | {METRICS_FD: str(fd)}, fds=(fd,), group=FRONT))
    return [_counting(child, folder) for child in found]


def _counting(child: Child, folder: Path) -> Child:
    file = folder / f"{child.name.replace(' ', '-')}.metrics"
    return replace(child, env={**child.env, metrics.METRICS_FILE: str(file)})


def _carrier(settings: Settings, carrier_socket: Path, given: Mapping[str, str]) -> Child:
    from outdial.supervisor import Child

    log_file = (settings.data or carrier_socket.parent) / "carrier.jsonl"
    argv = (
        *(sys.executable, "-m", "outdial.switch.carrier"),
        *("--socket", str(carrier_socket), "--log", str(log_file)),
        *("--ring", str(settings.carrier_ring), "--talk", str(settings.carrier_talk)),
    )
    return Child("carrier", argv, given, group=CARRIER)


def _role(role: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "outdial.compose", role)


def environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment of a process under the supervisor."""
    found = {}
    for name in Settings.__dataclass_fields__:
        value = getattr(settings, name)
        if value is not None:
            found[variable_of(name)] = ",".join(value) if isinstance(value, tuple) else str(value)
    return found


# -- a process under it ------------------------------------------------------------------------------------


def collect_rarely() -> None:
    """Look for cycles of garbage seldom, and never at much at once: requests and calls leave none.

    A look over all that lives would hold up the audio of every call for 0.3 s at 10,000 calls; so for 10 ms
    at most. See docs/why/decisions/0014.
    """
    gc.freeze()
    gc.set_threshold(15_000, 2_000, 10)


async def run_api(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """An api process: serves the interface on the supervisor's listening socket."""
    from outdial.service import Service
    from outdial.web.access import Gate
    from outdial.web.app import Api
    from outdial.web.forwarded import BehindProxy
    from outdial.web.guard import App, Guard
    from outdial.web.server import serve as serve_http

    sock = socket.socket(fileno=int(os.environ[LISTEN_FD]))
    secure = tls.of_process(settings)
    async with opened(settings, "outdial api") as store:
        service = Service(store, utc_now)
        app: App = Guard(Api(service, Gate(service, utc_now)), allowed_hosts=settings.allowed_hosts())
        proxies = networks("behind_proxy", settings.behind_proxy)
        if proxies:
            app = BehindProxy(app, proxies)
        ready()
        collect_rarely()
        await serve_http(app, sock, stop=stop, grace=20.0, tls=secure, proxies=proxies)


async def run_engine(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """The engine process: claims, dials through the switch, settles; and the upkeep."""
    from outdial.engine import Engine
    from outdial.upkeep import Upkeep

    async with opened(settings, "outdial engine", size=6) as store, switch_of(settings, store) as switch:
        engine = Engine(store, switch, stop_grace=settings.stop_grace)
        ready()
        collect_rarely()
        async with asyncio.TaskGroup() as group:
            upkeep = group.create_task(Upkeep(store).run(stop))
            await engine.run(stop)
            upkeep.cancel()


@asynccontextmanager
async def switch_of(settings: Settings, store: Store) -> AsyncIterator[Switch]:
    """What places the calls. Raises `SettingError` for a file of certificates that cannot be read."""
    if settings.switch == "simulated":
        from outdial.switch.simulated import SimulatedSwitch

        yield SimulatedSwitch(os.environ[CARRIER_SOCKET])
        return
    from outdial.engine.trunking import StoreFacts
    from outdial.shelf import Shelf
    from outdial.sip.endpoint import Endpoint
    from outdial.switch import voice
    from outdial.switch.sip import SipSwitch

    endpoint = Endpoint(settings.sip_addresses(), external=settings.sip_external, tls=_certificates(settings))
    with scratch() as own:
        folder = settings.data / "shelf" if settings.data is not None else own
        shelf = Shelf(store, folder, can_say=voice.present())
        yield SipSwitch(
            endpoint,
            media_of(settings),
            shelf,
            StoreFacts(store).facts(),
            thresholds=settings.amd_thresholds(),
        )


def media_of(settings: Settings) -> Callable[[Hop, Callable[[str, int], None]], MediaSession]:
    """Opens the audio of calls: a port of the range, on the address that SIP to the same hop leaves from."""
    from outdial.sip.rtp import MediaSession, PortRange, Ticker

    ticker, ports = Ticker(), settings.rtp_range()
    ranges = {
        ":" in host: PortRange(host, ports.start, ports.stop - 1) for host, _ in settings.sip_addresses()
    }

    def opened_media(hop: Hop, on_key: Callable[[str, int], None]) -> MediaSession:
        # Silence between prompts: jitter buffers give up their last frames only when more comes, and carriers
        # end calls from which nothing does.
        return MediaSession(ticker, ranges[":" in hop.host].allocate(), on_key=on_key, comfort=True)

    return opened_media


def _certificates(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.sip_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"sip_ca_file: {settings.sip_ca_file}: {error}") from error


async def run_push(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """The push process: brings results to their receivers."""
    from outdial.push import Pusher

    allow = networks("push_allow", settings.push_allow)
    async with opened(settings, "outdial push") as store:
        ready()
        await Pusher(store, allow=allow).run(stop)


async def run_metrics(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """The metrics process: serves what the others counted."""
    from outdial.engine.host import this_host
    from outdial.web.exposition import Exposition
    from outdial.web.guard import Guard
    from outdial.web.server import serve as serve_http

    sock = socket.socket(fileno=int(os.environ[METRICS_FD]))
    folder = Path(os.environ[metrics.METRICS_FILE]).parent
    async with opened(settings, "outdial metrics", size=1) as store:
        ready()
        app = Guard(Exposition(store, folder, this_host()), allowed_hosts=None)
        await serve_http(app, sock, stop=stop, grace=1.0)


RUNS: Mapping[str, Callable[[Settings, asyncio.Event, Callable[[], None]], Awaitable[None]]] = {
    "api": run_api,
    "engine": run_engine,
    "push": run_push,
    "metrics": run_metrics,
}


async def _run(role: str, settings: Settings, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await RUNS[role](settings, stop, ready)


def _share(file: Path) -> None:
    try:
        metrics.share(file)
    except OSError as error:
        log.warning("not counted for /metrics", file=str(file), reason=error.strerror)


def main(arguments: Sequence[str]) -> int:
    """A process under the supervisor: `python -m outdial.compose ROLE`, settings in the environment."""
    import uvloop

    from outdial.lifeline import say_ready, watch_lifeline

    (role,) = arguments
    watch_lifeline()
    settings = load(None, os.environ)
    logs.configure(settings.log_level, role)
    if (counted := os.environ.get(metrics.METRICS_FILE)) is not None:
        _share(Path(counted))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(role, settings, say_ready))
    except SettingError as error:
        log.error("wrong setting", reason=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
