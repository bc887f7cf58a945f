"""PostgreSQL servers of the tests' own: one that is given by a DSN, and a primary with its standby."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from serving import Process, ask, children_of, title_of, wait_for

from outdial.store.embedded import Binaries, find_binaries
from outdial.store.embedded.account import Account, account_for
from outdial.store.embedded.binaries import runnable_by
from outdial.store.embedded.layout import ELSEWHERE
from ports import free_port

NEEDED = ("initdb", "postgres", "pg_basebackup", "pg_isready")
USER = "outdial"


class Cluster:
    """One PostgreSQL on a port of its own at 127.0.0.1. Nothing but the test starts it again."""

    def __init__(self, folder: Path, binaries: Binaries, account: Account) -> None:
        self.folder = folder
        self.port = free_port()
        self.given: dict[str, str] = {}
        self._binaries = binaries
        self._account = account
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """A new, empty one."""
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C")

    def standby_of(self, primary: Cluster) -> None:
        """A copy of that one, which follows it under the name of its folder."""
        source = f"host=127.0.0.1 port={primary.port} user={USER} application_name={self.folder.name}"
        copy = ("-D", str(self._data), "-d", source, "-R", "-X", "stream", "-c", "fast")
        self._run("pg_basebackup", *copy)

    def start(self, **settings: str) -> None:
        """Start it, with settings that it keeps over its lives; returns when it answers."""
        self.given |= settings
        words = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in (words | self.given).items()]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._binaries.bin / "postgres"), "-D", str(self._data), *options],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account.become(),
            )
        wait_for(lambda: self._server.poll() is not None or self.answers(), 30, self.said)  # type: ignore[union-attr]
        assert self._server.poll() is None, self.said()

    def answers(self) -> bool:
        """Whether it lets somebody in."""
        program = [str(self._binaries.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(program, check=False).returncode == 0

    def tree(self) -> list[Process]:
        """All its processes, the postmaster first."""
        assert self._server is not None
        pid = self._server.pid
        return [Process(pid, "postmaster"), *(Process(one, "backend") for one in children_of(pid))]

    def one(self, title: str) -> Process:
        """Its process whose title holds this."""
        return next(one for one in self.tree() if title in title_of(one.pid))

    def signal(self, number: signal.Signals) -> None:
        """To the postmaster: SIGQUIT is an immediate stop. Returns when all of it has ended."""
        tree = self.tree()
        assert self._server is not None
        tree[0].signal(number)
        self._server.wait(10)
        # Backends of a killed postmaster notice its end by themselves; the next life waits for them.
        wait_for(lambda: not any(one.alive() for one in tree), 10, "it does not end")

    def promote(self) -> None:
        """Make a primary of this standby."""
        ask(self.dsn, lambda conn: conn.fetchval("SELECT pg_promote(true, 20)"), writes=False)

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def close(self) -> None:
        """End it with whatever is frozen or left of it."""
        if self._server is None:
            return
        tree = self.tree()
        for one in tree:
            one.signal(signal.SIGCONT)
        for one in tree:
            one.signal(signal.SIGKILL)
        self._server.wait(10)

    @property
    def _data(self) -> Path:
        return self.folder / "pgdata"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries.bin / program), *arguments],
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **self._account.become(),
        )
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def clusters(place: Path) -> Iterator[Any]:
    """Makes servers that are not running yet, by name: `made("primary")`; nothing of them survives."""
    account = account_for(None, owner=None)
    found = find_binaries()
    missing = [name for name in NEEDED if not (found.bin / name).exists()]
    assert not missing, f"{found.bin} has no {', '.join(missing)}"
    binaries = runnable_by(account, found, store=ELSEWHERE / "binaries")
    for name in NEEDED:  # a copy holds what the server needs, and we need more
        if not (binaries.bin / name).exists():
            shutil.copy2(found.bin / name, binaries.bin / name)
    with ExitStack() as stack:

        def made(name: str) -> Cluster:
            folder = place / name
            folder.mkdir()
            account.give(folder)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            cluster = Cluster(folder, binaries, account)
            stack.callback(cluster.close)
            return cluster

        yield made
