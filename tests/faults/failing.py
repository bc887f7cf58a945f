"""A PostgreSQL whose n-th write or sync fails: its programs, over a library made of failing_writes.c."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outdial.store.embedded.account import account_for
from outdial.store.embedded.binaries import find_binaries, runnable_by
from outdial.store.embedded.layout import ELSEWHERE

KINDS = {"sync": 1, "write": 2}
_SOURCE = Path(__file__).with_name("failing_writes.c")


class Faults:
    """What is to fail, and what did: the counters that all processes of the PostgreSQL share."""

    def __init__(self, programs: Path, counters: memoryview[int]) -> None:
        self.programs = programs
        """The folder of its binaries (`pg_bin`)."""
        self._counters = counters

    def arm(self, kind: str, nth: int) -> None:
        """Let the `nth` call from now on fail, of this kind."""
        self.disarm()
        self._counters[1:] = memoryview(bytes(24)).cast("q")
        self._counters[1] = nth
        self._counters[0] = KINDS[kind]

    def disarm(self) -> None:
        self._counters[0] = 0

    @property
    def seen(self) -> int:
        """Calls of the armed kind."""
        return self._counters[2]

    @property
    def failed(self) -> int:
        """Those that have failed: 0 or 1."""
        return self._counters[3]


@contextmanager
def failing_postgres(place: Path) -> Iterator[Faults]:
    """The wrapped programs; left out with its reason where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): what makes writes fail cannot be made")
    library, counters, programs = place / "failing.so", place / "faults", place / "pg"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, _SOURCE, "-ldl"],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr.decode()
    library.chmod(0o755)
    counters.write_bytes(bytes(32))
    counters.chmod(0o666)
    real = runnable_by(account_for(None, owner=None), find_binaries(), store=ELSEWHERE / "binaries").bin
    programs.mkdir(mode=0o755)
    for name, before in (("postgres", f"FAULTS='{counters}' LD_PRELOAD='{library}' "), ("initdb", "")):
        wrapper = programs / name
        wrapper.write_text(f"#!/bin/sh\n{before}exec '{real / name}' \"$@\"\n")
        wrapper.chmod(0o755)
    descriptor = os.open(counters, os.O_RDWR)
    with mmap.mmap(descriptor, 32) as shared, memoryview(shared) as view, view.cast("q") as cells:
        os.close(descriptor)
        yield Faults(programs, cells)
