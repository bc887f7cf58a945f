"""`outdial serve` as a real process tree: started, killed, frozen and started again on the same folder."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from outdial.model import AccessKey, Vdn
from outdial.store.embedded import remove_cluster, running_dsn
from outdial.store.sealing import create_master_key, load_master_key
from outdial.store.store import Store

VDN = 1
READY_WITHIN = 60.0
"""Seconds: a machine that is busy with other tests takes long; the figures of a start are the benchmark's."""

LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

T = TypeVar("T")
Serve = Callable[..., "Server"]
"""Starts a server: the fixture `serve`."""

Mutate = Callable[..., Path]
"""Makes a copy of src with changes: the fixture `mutate`."""


@dataclass(frozen=True)
class Process:
    """One process of a tree: supervisor, carrier, engine, push, api, postmaster, backend or other."""

    pid: int
    role: str

    def alive(self) -> bool:
        """Whether it runs; one that waits to be reaped does not."""
        facts = _stat(self.pid)
        return facts is not None and facts[0] not in "ZX"

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Server:
    """A server on a data folder and on one address that it keeps over its lives."""

    def __init__(
        self, data: Path, *, source: Path | None = None, errors: Path | None = None, **settings: Any
    ) -> None:
        """`settings` by the names of `outdial.config.Settings`; `source`: another copy of the package.

        `errors`: where its stdout and stderr go.
        """
        self.data = data
        self.database: str | None = settings.get("database")
        self.errors = errors or data.with_name("stderr.log")
        self.lives = 0
        self._temporary = data.with_name("tmp")
        self._temporary.mkdir(exist_ok=True)
        self._temporary.chmod(0o711)
        self._address = socket.socket()  # bound, never listening: nobody else is given this port
        self._address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._address.bind(("127.0.0.1", 0))
        self.port = int(self._address.getsockname()[1])
        self.environment = clean_environment(source) | {
            "TMPDIR": str(self._temporary),
            "OUTDIAL_LISTEN": f"127.0.0.1:{self.port}",
            **{f"OUTDIAL_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._running: subprocess.Popen[bytes] | None = None
        self._known: dict[int, Process] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- lives ---------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> None:
        """Begin a life; returns when the interface is ready."""
        assert self._running is None, "it runs already"
        command = [sys.executable, "-m", "outdial", "serve", "--data", str(self.data)]
        with self.errors.open("ab") as errors:
            self._running = subprocess.Popen(
                command, env=self.environment, stdout=errors, stderr=errors, cwd=self._temporary
            )
        self.lives += 1
        if wait:
            self.wait_ready()

    def wait_ready(self, within: float = READY_WITHIN) -> None:
        wait_for(lambda: self._ended() or ready(self.port), within, lambda: f"not ready: {self.said()}")
        assert not self._ended(), self.said()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._running is not None
        self.tree()
        self._running.send_signal(signal.SIGTERM)

    def stop(self, within: float = 35.0) -> int:
        """SIGTERM; the exit status."""
        self.terminate()
        return self.wait_end(within)

    def wait_end(self, within: float) -> int:
        """Wait for the supervisor's end; its exit status."""
        assert self._running is not None
        status = self._running.wait(within)
        self._running = None
        return status

    def kill(self, chance: random.Random | None = None) -> list[Process]:
        """`kill -9` of every process of the tree, in any order and within some 10 ms; they are gone then."""
        tree = self.tree()
        chance = chance or random.Random(1)
        chance.shuffle(tree)
        for process in tree:
            process.signal(signal.SIGKILL)
            time.sleep(chance.choice((0.0, 0.0, 0.001)))
        self.bury(tree)
        return tree

    def bury(self, tree: Sequence[Process]) -> None:
        """Wait until the processes of a killed tree are gone; a new life may begin then."""
        if self._running is not None:
            self._running.wait(10)
            self._running = None
        wait_for(lambda: not any(one.alive() for one in tree), 10, "killed processes are still there")

    def close(self) -> None:
        """End whatever is left; nothing of the tree survives."""
        with suppress(OSError):
            self.tree()
        for process in self._known.values():
            if process.alive() and _is_ours(process):
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGKILL)
        if self._running is not None:
            self._running.wait(10)
            self._running = None
        self._address.close()

    def listens(self) -> bool:
        """Whether a connection comes about."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionError:
            return False
        return True

    def _ended(self) -> bool:
        return self._running is None or self._running.poll() is not None

    # -- the tree ------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._running is not None
        return self._running.pid

    def tree(self) -> list[Process]:
        """All processes of this life, the supervisor first."""
        if self._running is None:
            return []
        children = _children()
        found = [Process(self.pid, "supervisor")]
        for one in found:
            for pid in children.get(one.pid, ()):
                found.append(Process(pid, "backend" if one.role == "postmaster" else _role(pid)))
        self._known |= {one.pid: one for one in found}
        return found

    def of(self, *roles: str) -> list[Process]:
        """The processes of these roles."""
        return [one for one in self.tree() if one.role in roles]

    def one(self, role: str, within: float = READY_WITHIN) -> Process:
        """The process of a role that has one, as soon as there is one."""
        wait_for(lambda: self.of(role), within, lambda: f"no {role}: {self.said()}")
        return self.of(role)[0]

    def said(self) -> str:
        """What the tree wrote to stderr and stdout so far: its last 4000 characters."""
        return self.errors.read_text(encoding="utf-8", errors="replace")[-4000:]

    def said_by_postgres(self) -> str:
        """What PostgreSQL wrote to its log so far."""
        return (self.data / "postgres.log").read_text(encoding="utf-8", errors="replace")

    @property
    def dsn(self) -> str:
        """Of the PostgreSQL that runs, or of the one that was given."""
        if self.database is not None:
            return self.database
        found = running_dsn(self.data, wait=READY_WITHIN)
        assert found is not None, self.said()
        return found

    @property
    def carrier_log(self) -> Path:
        return self.data / "carrier.jsonl"

    # -- what is made beside the interface -----------------------------------------------------------------

    def make_vdn(self, *, secret: str | None = None) -> AccessKey:
        """The VDN of the proofs with an access key; `secret`: of its pushes."""
        return make_vdn(self.dsn, self.data, secret)

    def ask(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do something over a fresh connection to the database."""
        return ask(self.dsn, work)

    def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """The rows of a query, read by SQL directly."""
        return [dict(row) for row in self.ask(lambda conn: conn.fetch(query, *args))]


def ask(dsn: str, work: Callable[[asyncpg.Connection], Awaitable[T]], *, writes: bool = True) -> T:
    """Do something over a fresh connection, as soon as the database lets one in; `writes`: to a primary."""

    async def connected() -> T:
        conn = await _connection(dsn, "read-write" if writes else "any")
        try:
            return await work(conn)
        finally:
            conn.terminate()

    return asyncio.run(connected())


async def _connection(dsn: str, whom: str) -> asyncpg.Connection:
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            conn = await asyncpg.connect(dsn, timeout=10, command_timeout=60, target_session_attrs=whom)
            await conn.fetchval("SELECT 1")
        except LOST:  # it recovers from what we did to it
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)
        else:
            return conn


def make_vdn(dsn: str, data: Path, secret: str | None = None) -> AccessKey:
    """The VDN of the proofs with an access key, sealed with the folder's key; `secret`: of its pushes."""

    async def work() -> AccessKey:
        async with Store(dsn, load_master_key(data, {}), size=1) as store:
            assert await store.vdns.create(Vdn(VDN, max_active=1000))
            if secret is not None:
                await store.vdns.set_webhook_secret(VDN, secret)
            return await store.vdns.create_key(VDN)

    return asyncio.run(work())


@contextmanager
def new_place() -> Iterator[Path]:
    """A folder with a short path that any user may enter (PostgreSQL's, when we are root)."""
    folder = Path(tempfile.mkdtemp(prefix="outdial-fault-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        remove_cluster(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(folder: Path, *, source: Path | None = None, **settings: Any) -> Iterator[Server]:
    """A server on a new data folder, running, with what it needs to keep secrets."""
    create_master_key(folder / "data")
    server = Server(folder / "data", source=source, **settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


def clean_environment(source: Path | None = None) -> dict[str, str]:
    """Ours without any setting of outdial; `source`: the package is taken from there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTDIAL_")}
    if source is not None:
        kept["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, [kept.get("PYTHONPATH")])])
    return kept


def ready(port: int) -> bool:
    """Whether /readyz says yes."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=6)
    try:
        line.request("GET", "/readyz")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def wait_for(
    what: Callable[[], object], within: float, otherwise: str | Callable[[], str], every: float = 0.01
) -> float:
    """Look until it is so; the seconds that it took. Fails after `within` seconds."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > within:
            raise AssertionError(
                f"after {within:g} s: {otherwise if isinstance(otherwise, str) else otherwise()}"
            )
        time.sleep(every)
    return time.monotonic() - began


def _stat(pid: int) -> tuple[str, int] | None:
    """State and parent, from /proc/PID/stat: the name before them may hold blanks and parentheses."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return None
    state, parent, *_ = rest.split()
    return state, int(parent)


def _all_stats() -> Iterator[tuple[int, tuple[str, int]]]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (facts := _stat(int(name))) is not None and facts[0] not in "ZX":
            yield int(name), facts


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid, (_, parent) in _all_stats():
        found.setdefault(parent, []).append(pid)
    return found


def children_of(pid: int) -> list[int]:
    """The processes that this one has made."""
    return _children().get(pid, [])


def title_of(pid: int) -> str:
    """The command line, which is what a process of PostgreSQL says that it does."""
    return " ".join(_command(pid))


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return []


def _role(pid: int) -> str:
    """What a child of the supervisor is; "other" has just been forked, or is gone."""
    command = _command(pid)
    if "outdial.switch.carrier" in command:
        return "carrier"
    if "outdial.compose" in command:
        return command[command.index("outdial.compose") + 1]
    return "postmaster" if command and Path(command[0]).name == "postgres" else "other"


def _is_ours(process: Process) -> bool:
    """The number has not been given to a stranger meanwhile."""
    command = " ".join(_command(process.pid))
    return "outdial" in command or command.startswith("postgres")
