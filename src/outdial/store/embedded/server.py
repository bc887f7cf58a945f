"""Starts, joins, watches and stops the PostgreSQL of a data folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote, urlencode

import structlog

from outdial.errors import SettingError
from outdial.store.embedded.account import Account, account_for
from outdial.store.embedded.binaries import Binaries, find_binaries, runnable_by
from outdial.store.embedded.child import Guard, guard, spawn
from outdial.store.embedded.cluster import (
    NAME,
    is_made,
    major_of,
    read_password,
    ready_cluster,
    server_command,
)
from outdial.store.embedded.layout import (
    ELSEWHERE,
    SOCKET,
    Layout,
    check_closed,
    finish_swap,
    locate,
    make_folder,
    owner_of,
    reachable,
    socket_folder,
)
from outdial.store.embedded.lock import AlreadyRunning, FolderLock, is_held, open_private, take
from outdial.store.embedded.options import EmbeddedOptions
from outdial.store.embedded.survivors import clear_survivors, pid_file

log = structlog.get_logger()

_POLL = 0.01  # seconds between two looks at a server that starts
_CHECK = 0.2  # seconds between two looks at a server that runs
_SLOWEST_CHECK = 2.0  # seconds, when it dies again and again: when its disk has room, it works within 5 s
_READY_WITHIN = 300.0  # seconds; the recovery after a kill may read gigabytes
_JOIN_WITHIN = 30.0  # seconds that a command waits for a PostgreSQL that another process starts or makes
_USERS_WITHIN = 60.0  # seconds that a command which started PostgreSQL waits for those that joined it
_PROBED = 0.2  # seconds: those who ask whether the lock is held take it for an instant
_STOP_STEPS = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 10.0))  # fast, immediate, kill
_ROOM = 32 * 1024 * 1024  # bytes: two segments of the write-ahead log; with less it may not start
_LOG_MAX = 10_000_000  # bytes; then the log becomes postgres.log.1
_PROTOCOL = 196608  # 3.0, "Message Formats", StartupMessage


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cluster that is ready to be started."""

    layout: Layout
    account: Account
    sockets: Path
    command: list[str]


class EmbeddedPostgres:
    """PostgreSQL as our own child process, for whoever starts it; also a context manager.

    It holds the lock of the data folder while it runs and ends within a second when we die, even by
    `kill -9`. `start`, `restart` and `watch` belong to the main thread (see `child`). A child of ours that
    was made by a bare fork shares the lock: it must not outlive us.
    """

    def __init__(self, options: EmbeddedOptions) -> None:
        self._options = options
        self._lock: FolderLock | None = None
        self._prepared: Prepared | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def start(self, *, wait: float = 0.0) -> None:
        """Takes the lock, makes the cluster when there is none, starts it, returns when it answers.

        `wait`: seconds to wait for the lock, which an administration command may hold for a moment.
        Raises AlreadyRunning when another process holds it, SettingError for whatever prevents the start.
        """
        if self._lock is not None:
            raise RuntimeError("PostgreSQL is started already")
        data = self._options.data
        try:
            data = make_folder(data)
            self._lock = lock_or_refuse(locate(data), wait)
            self._prepared = _prepare(data, self._options)
            self._start()
        except OSError as error:
            self.stop()
            raise SettingError(f"data folder {data}: PostgreSQL cannot be prepared: {error}") from error
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Starts it again, after its death or after a stop. Raises SettingError when it does not come up."""
        self._end()
        self._clear()
        self._start()

    def stop(self) -> None:
        """Stops it: fast, then immediately, then by force; lets go of the lock. Twice is fine."""
        self._end()
        self._dismiss_guard()
        self._process = None
        if self._prepared is not None:
            _remove_foreign_sockets(self._prepared)
            self._prepared = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def alive(self) -> bool:
        """Whether the postmaster lives; a dead one is reaped by this."""
        return self._process is not None and self._process.poll() is None

    async def watch(self) -> None:
        """Restarts it after each death, within about a second; runs until cancelled.

        To be run by an event loop of the main thread, and cancelled before `stop`.
        """
        pause = _CHECK
        while True:
            await asyncio.sleep(pause)
            if self.alive():
                pause = _CHECK
                continue
            log.warning("postgres died", status=self._process.returncode if self._process else None)
            try:
                await asyncio.to_thread(self._clear)
                self._launch()
                await asyncio.to_thread(self._await_answer)
                log.info("postgres restarted", pid=self.pid)
            except (SettingError, OSError) as error:
                pause = min(2 * pause, _SLOWEST_CHECK)
                log.error("postgres does not start", reason=str(error), next_try_in=pause)

    @property
    def dsn(self) -> str:
        """The DSN for libpq and asyncpg, password included. Raises RuntimeError before `start`."""
        prepared = self._ready()
        return _dsn(prepared.sockets, read_password(prepared.layout) or "")

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises RuntimeError before `start`."""
        if self._process is None:
            raise RuntimeError("PostgreSQL is not started")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ready(self) -> Prepared:
        if self._prepared is None:
            raise RuntimeError("PostgreSQL is not started")
        return self._prepared

    def _start(self) -> None:
        self._launch()
        self._await_answer()

    def _clear(self) -> None:
        prepared = self._ready()
        clear_survivors(prepared.layout.pgdata, prepared.sockets)

    def _launch(self) -> None:
        prepared = self._ready()
        self._dismiss_guard()
        with _open_log(prepared.layout.log) as file:
            out = file.fileno()
            # Immediate, not fast: WAL recovery makes it safe, and it ends within the second.
            death = signal.SIGQUIT
            self._process = spawn(prepared.command, prepared.account, death=death, stdout=out, stderr=out)
        self._guard = guard(self._process, death)

    def _await_answer(self) -> None:
        prepared, process = self._ready(), self._process
        assert process is not None
        deadline = time.monotonic() + _READY_WITHIN
        while not (_says_ready(prepared.layout.pgdata, process.pid) and answers(prepared.sockets)):
            if process.poll() is not None:
                raise SettingError(f"PostgreSQL ended while it started: {_why(prepared.layout)}")
            if time.monotonic() > deadline:
                raise SettingError(f"PostgreSQL does not answer after {_READY_WITHIN:.0f} s")
            time.sleep(_POLL)

    def _end(self) -> None:
        """Orders it to end, more firmly each time.

        One that does not answer is not asked for a fast end: it recovers, nobody works with it, and
        PostgreSQL 18 does not end when that order comes while it recovers from the death of a backend.
        """
        process, prepared = self._process, self._prepared
        if process is None or prepared is None:
            return
        for order, within in _STOP_STEPS if answers(prepared.sockets) else _STOP_STEPS[1:]:
            if process.poll() is not None:
                return
            process.send_signal(order)
            with suppress(subprocess.TimeoutExpired):
                process.wait(within)

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None


def running_dsn(data: Path, *, wait: float) -> str | None:
    """The DSN of the PostgreSQL that another process runs on this folder.

    Waits up to `wait` seconds while someone holds the lock and does not answer yet; None when nobody does.
    Raises SettingError when the folder is not ours to read.
    """
    deadline = time.monotonic() + wait
    data = data.absolute().resolve()
    try:
        while (dsn := _answering(data)) is None:
            if time.monotonic() >= deadline or not is_held(locate(data).lock):
                return None
            time.sleep(_POLL)
    except PermissionError as error:
        raise SettingError(f"data folder {data}: belongs to another user: {error}") from error
    return dsn


@contextmanager
def borrowed(options: EmbeddedOptions) -> Iterator[str]:
    """The DSN for an administration command: of the running PostgreSQL, or of one that it starts and stops.

    Who started one waits with stopping for those who joined it. Raises SettingError.
    """
    server = EmbeddedPostgres(options)
    users = locate(_folder(options.data)).users
    using = _share(users)
    try:
        yield _join_or_start(server, options)
    finally:
        using.release()
        last = take(users, wait=_USERS_WITHIN) if server.alive() else None
        server.stop()
        if last:
            last.release()


def has_cluster(data: Path) -> bool:
    """Whether the data folder holds a cluster. Raises SettingError when something stands in its place."""
    layout = locate(data.absolute().resolve())
    return is_made(layout) or layout.beside.complete.exists()


def remove_cluster(data: Path) -> None:
    """Removes what this package keeps for `data`, wherever it lives; other files stay.

    For folders that end with their process, such as those of `outdial dev`. Raises AlreadyRunning.
    """
    layout = locate(data.absolute().resolve())
    if not layout.data.exists():
        return
    lock = lock_or_refuse(layout, wait=0.0)
    if layout.home != layout.data:
        shutil.rmtree(layout.home, ignore_errors=True)
    for folder in (layout.pgdata, layout.nursery, layout.data / "run"):
        shutil.rmtree(folder, ignore_errors=True)
    older = layout.log.with_name(f"{layout.log.name}.1")
    for file in (layout.log, older, layout.password, layout.elsewhere, layout.users, layout.lock):
        file.unlink(missing_ok=True)
    lock.release()


def answers(sockets: Path) -> bool:
    """Whether a server takes connections on the socket: it asks for the password, not for patience.

    While it starts it answers with an error (57P03) before it asks (PostgreSQL, "Message Flow").
    """
    words = f"user\0{NAME}\0database\0{NAME}\0\0".encode()
    hello = (8 + len(words)).to_bytes(4, "big") + _PROTOCOL.to_bytes(4, "big") + words
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(2.0)
            door.connect(os.fspath(sockets / SOCKET))
            door.sendall(hello)
            return door.recv(4096)[:1] == b"R"  # read it all: bytes left unread would reset the connection
    except OSError:
        return False


def _says_ready(pgdata: Path, pid: int) -> bool:
    """Whether its pid file says so: asking the socket before only fills the log."""
    lines = pid_file(pgdata)
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _folder(data: Path) -> Path:
    try:
        return make_folder(data)
    except OSError as error:
        raise SettingError(f"data folder {data}: cannot be made: {error}") from error


def lock_or_refuse(layout: Layout, wait: float) -> FolderLock:
    """The lock of the data folder, for which we wait so many seconds. Raises AlreadyRunning."""
    lock = take(layout.lock, wait=max(wait, _PROBED))
    if lock is None:
        raise AlreadyRunning(f"data folder {layout.data}: another process runs PostgreSQL on it")
    return lock


def _prepare(data: Path, options: EmbeddedOptions) -> Prepared:
    layout = locate(data)
    finish_swap(layout)
    account = account_for(options.pg_user, owner=owner_of(layout.pgdata / "PG_VERSION"))
    if account.other:
        options.notice(f"PostgreSQL runs as user {account.name!r}")
    layout = reachable(layout, account, options.notice)
    return prepared(layout, account, find_binaries(given=options.pg_bin, major=major_of(layout)))


def prepared(layout: Layout, account: Account, found: Binaries) -> Prepared:
    """The cluster of `layout`, made when there is none, ready to be run. To be called with the lock held."""
    binaries = runnable_by(account, found, store=ELSEWHERE / "binaries")
    sockets = socket_folder(layout, account)
    clear_survivors(layout.pgdata, sockets)
    ready_cluster(layout, account, binaries)
    return Prepared(layout, account, sockets, server_command(binaries, layout.pgdata, sockets))


@contextmanager
def running(cluster: Prepared, options: EmbeddedOptions) -> Iterator[str]:
    """The DSN of a prepared cluster's server, which runs as long as this lasts. The lock is the caller's."""
    server = EmbeddedPostgres(options)
    server._prepared = cluster
    try:
        server._start()
        yield server.dsn
    finally:
        server.stop()


def _share(users: Path) -> FolderLock:
    using = take(users, wait=_USERS_WITHIN, shared=True)
    if using is None:
        raise SettingError(
            f"{users}: a command that stops PostgreSQL holds it for more than {_USERS_WITHIN:.0f} s"
        )
    return using


def _join_or_start(server: EmbeddedPostgres, options: EmbeddedOptions) -> str:
    deadline = time.monotonic() + _JOIN_WITHIN
    while True:
        if dsn := running_dsn(options.data, wait=max(0.0, deadline - time.monotonic())):
            return dsn
        try:
            server.start()
            return server.dsn
        except AlreadyRunning:
            if time.monotonic() > deadline:
                raise


def _answering(data: Path) -> str | None:
    layout = locate(data)
    lines, password = pid_file(layout.pgdata), read_password(layout)
    if len(lines) < 5 or not password:
        return None
    sockets = Path(lines[4])  # written by the server itself: our own temporary folder may be another one
    if not sockets.is_absolute() or not answers(sockets):
        return None
    check_closed(sockets, layout.pgdata.stat().st_uid)
    return _dsn(sockets, password)


def _dsn(sockets: Path, password: str) -> str:
    where = urlencode({"host": str(sockets), "port": "5432"}, quote_via=quote, safe="")
    return f"postgresql://{NAME}:{quote(password, safe='')}@/{NAME}?{where}"


def _remove_foreign_sockets(prepared: Prepared) -> None:
    """A socket folder outside the cluster's home goes with the server; one inside stays."""
    if prepared.sockets.parent != prepared.layout.home:
        with suppress(OSError):  # not empty after a kill: the next start clears it
            prepared.sockets.rmdir()


def _open_log(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > _LOG_MAX:
        path.rename(path.with_name(f"{path.name}.1"))
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_APPEND), "ab")


def _why(layout: Layout) -> str:
    """Its last words; before them the disk that is full, for then it may not have been able to say so."""
    free = shutil.disk_usage(layout.pgdata).free
    full = f"the disk of {layout.pgdata} is full ({free} bytes free): make room: " if free < _ROOM else ""
    return full + _last_words(layout.log)


def _last_words(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        return " / ".join(file.read().decode(errors="replace").strip().splitlines()[-4:])
