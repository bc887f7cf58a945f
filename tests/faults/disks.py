"""Disks that are too small: a tmpfs of a few MiB, filled up and freed again. To mount one takes root."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from serving import Server, clean_environment

BLOCK = 1 << 16


class Disk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free(self) -> int:
        """Bytes that are left."""
        facts = os.statvfs(self.path)
        return facts.f_bavail * facts.f_frsize

    def fill(self) -> None:
        """Leave not a byte: every write that needs a new page fails from now on."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            for size in (BLOCK, 1):
                while _written(descriptor, size):
                    pass
        finally:
            os.close(descriptor)
        assert self.free == 0

    def make_room(self) -> None:
        self._filler.unlink()


def _written(descriptor: int, size: int) -> bool:
    try:
        return os.write(descriptor, bytes(size)) == size
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[Disk]:
    """A new file system of this size at `path`, which is made; left out with its reason without root."""
    if os.geteuid() != 0:
        pytest.skip("to mount a file system takes root")
    path.mkdir(exist_ok=True)
    options = f"size={mebibytes}m,mode=0711"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "outdial", str(path)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this system mounts nothing for us: {done.stderr.decode().strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def kept_outside(data: Path, *names: str) -> Iterator[None]:
    """Files of the data folder that live beside it: what witnesses must not be on the disk that is full."""
    try:
        for name in names:
            outside = data.with_name(name)
            outside.touch(mode=0o600)
            (data / name).touch(mode=0o600)
            subprocess.run(["mount", "--bind", str(outside), str(data / name)], check=True)
        yield
    finally:
        for name in names:
            subprocess.run(["umount", "--lazy", str(data / name)], check=True)


def use_up_the_log(dsn: str) -> None:
    """Begin segment after segment of the write-ahead log until PostgreSQL can no more.

    It panics when it cannot have a new one: nothing may go on without it.
    """

    async def work() -> None:
        conn = await asyncpg.connect(dsn, timeout=10, command_timeout=10)
        try:
            for _ in range(100):
                await conn.execute("SELECT pg_logical_emit_message(false, 'full', 'x'), pg_switch_wal()")
        finally:
            conn.terminate()
        raise AssertionError("the write-ahead log never ends: the disk is not full")

    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        asyncio.run(work())


def whole(server: Server) -> tuple[int, int]:
    """Read every row of every table and check every index against them; how many of each. By SQL, now."""

    async def look(conn: asyncpg.Connection) -> tuple[int, int]:
        await conn.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        tables = await conn.fetch(TABLES)
        for table in tables:
            await conn.fetchval(f"SELECT md5(string_agg(t::text, '')) FROM \"{table['name']}\" t")
            damage = await conn.fetch("SELECT * FROM verify_heapam($1::oid::regclass)", table["oid"])
            assert not damage, (table["name"], damage[:3])
        indexes = await conn.fetch(INDEXES)
        for index in indexes:
            await conn.execute("SELECT bt_index_check($1::oid::regclass, true)", index["oid"])
        await conn.execute("DROP EXTENSION amcheck")
        return len(tables), len(indexes)

    return server.ask(look)


TABLES = """
    SELECT c.oid, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind = 'r'
"""
INDEXES = """
    SELECT i.indexrelid AS oid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND i.indisvalid
"""


def outdial(
    *words: str, source: Path | None = None, within: float = 90, **variables: str
) -> tuple[int, str, str]:
    """Run a command of ours; its exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "outdial", *words],
        env=clean_environment(source) | variables,
        capture_output=True,
        timeout=within,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()
