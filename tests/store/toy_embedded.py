"""Programs that run the embedded PostgreSQL in a process of their own, and ways to look at them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg

from outdial.store.embedded import EmbeddedOptions, remove_cluster, survivors
from outdial.store.embedded.layout import locate

Run = Callable[..., subprocess.Popen[str]]

# Each takes the data folder as its argument and says one word a line when it got somewhere.
HOLDER = """
import sys; from pathlib import Path; from outdial.store.embedded import *
pg_bin = Path(sys.argv[2]) if len(sys.argv) > 2 else None
server = EmbeddedPostgres(EmbeddedOptions(Path(sys.argv[1]), pg_bin, notice=lambda line: None))
server.start(); print(server.pid, server.dsn, flush=True); sys.stdin.read(); server.stop()
"""
STARTER = """
import sys; from pathlib import Path; from outdial.store.embedded import *
data = Path(sys.argv[1]); server = EmbeddedPostgres(EmbeddedOptions(data, notice=lambda line: None))
try:
    server.start(); print("won", server.dsn, flush=True)
except AlreadyRunning:
    print("joined", running_dsn(data, wait=60), flush=True)
sys.stdin.read(); server.stop()
"""
BORROWER = """
import sys; from pathlib import Path; from outdial.store.embedded import *
with borrowed(EmbeddedOptions(Path(sys.argv[1]), notice=lambda line: None)) as dsn:
    print("has", dsn, flush=True); sys.stdin.read()
print("left", flush=True)
"""


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A data folder that is not there yet, in a place that PostgreSQL's user may pass."""
    place = Path(tempfile.mkdtemp(prefix="outdial-"))
    place.chmod(0o711)
    yield place / "data"
    remove_cluster(place / "data")
    shutil.rmtree(place)


@contextlib.contextmanager
def programs() -> Iterator[Run]:
    """Starts one of the programs above; all are ended."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, *words: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        argv = [*before, sys.executable, "-c", program, *map(str, words)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        with process:
            process.wait()


def options(data: Path) -> EmbeddedOptions:
    return EmbeddedOptions(data, notice=lambda line: None)


def fetch(dsn: str, *statements: str) -> object:
    """The value of the last statement."""

    async def go() -> object:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            values = [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()
        return values[-1]

    return asyncio.run(go())


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


def until(true: Callable[[], bool], within: float) -> float:
    """Waits for a fact; returns after how many seconds it held."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within, f"not within {within} s"
        time.sleep(0.01)
    return time.monotonic() - began


def state(pid: int) -> str:
    return survivors._name_and_state(Path(f"/proc/{pid}/stat").read_text())[1]


def pgdata(data: Path) -> Path:
    return locate(data).pgdata
