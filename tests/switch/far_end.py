"""A carrier process and the engines that speak to it, for the tests of this folder."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from outdial.model import (
    Ended,
    HungUpBy,
    Inquiry,
    OpenCall,
    Originate,
    SwitchEvent,
)
from outdial.switch.simulated import SimulatedSwitch

CANCELLED: dict[str, Any] = {"sip_status": 487, "hung_up_by": HungUpBy.CALLER}
BY_CALLEE: dict[str, Any] = {"cause": 16, "sip_status": 200, "answered": True, "hung_up_by": HungUpBy.CALLEE}


QUICK = ("--ring", "0.02", "--talk", "0.05", "--drop", "0.1")
LONG = ("--ring", "0.02", "--talk", "60")
DEADLINE = 10.0


class Far:
    """A carrier process with its socket and its log."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "c.sock")
        self.log = folder / "carrier.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(
        self, *options: str, file_limit: int | None = None, pipes: dict[str, int] | None = None
    ) -> None:
        """Start it; `file_limit` is the largest file it may write, `pipes` the descriptors it inherits."""
        environment = os.environ | {name: str(fd) for name, fd in (pipes or {}).items()}

        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        command = [sys.executable, "-m", "outdial.switch.carrier", "--socket", self.address]
        self._process = subprocess.Popen(
            [*command, "--log", str(self.log), *(options or QUICK)],
            env=environment,
            pass_fds=tuple((pipes or {}).values()),
            stderr=subprocess.PIPE,
            preexec_fn=limit,  # noqa: PLW1509 (one system call)
        )

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; the exit code and what it said on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for its end."""
        _, said = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said.decode()

    def stop_if_started(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self.end(signal.SIGKILL)

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        """The log's lines that have these values."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        entries = [json.loads(line) for line in whole.splitlines()]
        return [entry for entry in entries if wanted.items() <= entry.items()]


class Listener:
    """A switch and all that was heard on it."""

    def __init__(self, address: str) -> None:
        self.switch = SimulatedSwitch(address)
        self.events: list[SwitchEvent] = []
        self.downs = 0

    def heard(self, attempt_id: UUID) -> list[SwitchEvent]:
        return [event for event in self.events if event.attempt_id == attempt_id]

    async def announce(self, sent_by: Mapping[str, str]) -> None:
        raise AssertionError("the simulated carrier knows no sender")

    def down(self) -> None:
        self.downs += 1

    async def connect(self) -> None:
        await self.switch.start(self.events.append, self.down, self.announce)
        await until(lambda: self.switch.connected)

    async def inquire(self, attempt_ids: Sequence[UUID]) -> list[Inquiry | Ended]:
        return await self.switch.inquire([OpenCall(one, 1, "", "") for one in attempt_ids])

    async def ended(self, attempt_id: UUID) -> list[SwitchEvent]:
        await until(lambda: any(isinstance(event, Ended) for event in self.heard(attempt_id)))
        return self.heard(attempt_id)


async def until(met: Callable[[], bool]) -> None:
    """Wait until something is so, at most the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not met():
            await asyncio.sleep(0.002)


def order(called: str, attempt_id: UUID | None = None) -> Originate:
    return Originate(attempt_id or uuid4(), f"1380000{called}", "4001")
