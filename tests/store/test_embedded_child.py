"""The child process of the embedded PostgreSQL: what it sees, and that it ends when we end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from toy_embedded import HOLDER, Run, new_folder, programs, said, state, until

from outdial.errors import SettingError
from outdial.store.embedded import binaries, child
from outdial.store.embedded.account import Account, account_for

try:
    account_for(None, owner=None)
except SettingError as reason:
    pytest.skip(f"PostgreSQL cannot run here: {reason}", allow_module_level=True)


def installed() -> list[Path]:
    """One folder of each major version on this machine: 14 and 15 are made in another way than 16."""
    found = (binaries._ask(folder, origin) for folder, origin in binaries._places(None))
    return [*{one.major: one.bin for one in found if one and one.major >= 14}.values()]


@pytest.fixture
def data() -> Iterator[Path]:
    with new_folder() as folder:
        yield folder


@pytest.fixture
def runs() -> Iterator[Run]:
    with programs() as run:
        yield run


class TestChild:
    def test_only_the_main_thread_starts_one(self) -> None:
        """The kernel ends it with the thread that made it, so another thread may not."""
        caught: list[BaseException] = []
        me = Account("me", os.geteuid(), os.getegid(), other=False)

        def start() -> None:
            try:
                child.spawn(["/bin/true"], me)
            except RuntimeError as error:
                caught.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        assert "main thread" in str(caught[0])

    def test_no_secret_of_ours_in_its_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OUTDIAL_MASTER_KEY", "secret")
        monkeypatch.setenv("PGDATA", "/nowhere")
        me = Account("me", os.geteuid(), os.getegid(), other=False)
        process = child.spawn(["/usr/bin/env"], me, stdout=subprocess.PIPE)
        seen = process.communicate()[0].decode()
        assert "LC_ALL=C" in seen
        assert "secret" not in seen
        assert "PGDATA" not in seen

    def test_the_guard_where_the_kernel_does_not_help(self, runs: Run) -> None:
        """The portable way, as on macOS: a process that reads our pipe ends the child when we are gone."""
        program = """
import signal, subprocess, sys; from outdial.store.embedded.child import Guard
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(child.pid, Guard(child.pid, signal.SIGQUIT).pid, flush=True); sys.stdin.read()
"""
        holder = runs(program)
        pids = [int(word) for word in said(holder)]

        def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() and state(pid) != "Z" for pid in pids)

        assert not gone()
        holder.kill()
        assert until(gone, 5) < 1.0

    @pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts a /dev/shm")
    @pytest.mark.parametrize("pg_bin", installed(), ids=str)
    def test_a_small_dev_shm(self, data: Path, pg_bin: Path, runs: Run) -> None:
        """64 kB of /dev/shm, from initdb to a parallel query (containers have 64 MB, some none)."""
        small = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh")
        if subprocess.run([*small, "true"], capture_output=True).returncode:
            pytest.skip("this root may not unshare or mount")
        words = said(runs(HOLDER, data, pg_bin, before=small))
        assert words, "it did not start"
        plan = (
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;"
            " CREATE TABLE t AS SELECT i, md5(i::text) AS s FROM generate_series(1, 100000) AS i; ANALYZE t"
        )
        join = "SELECT count(*) FROM t AS a JOIN t AS b ON a.s = b.s"

        async def go() -> tuple[str, int]:
            connection = await asyncpg.connect(words[1])
            await connection.execute(plan)
            explained = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN ANALYZE {join}"))
            count = await connection.fetchval(join)
            await connection.close()
            return explained, count

        explained, count = asyncio.run(go())
        assert "Workers Launched: " in explained
        assert "Workers Launched: 0" not in explained
        assert count == 100000
