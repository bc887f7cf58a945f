"""Engine processes without a supervisor: two at once on one database and one carrier, frozen and thawed."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calling import CarrierLog
from serving import clean_environment, wait_for
from trunks import over_sip

from outdial import compose
from outdial.config import Settings
from outdial.lifeline import READY_FD


@dataclass
class Run:
    """One process and what it said."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Line:
    """The carrier's protocol: JSON lines, each an object with one key."""

    def __init__(self, words: io.BufferedRWPair) -> None:
        self._words = words

    def tell(self, order: str, **body: Any) -> None:
        self._words.write(json.dumps({order: body}).encode() + b"\n")
        self._words.flush()

    def hear(self) -> dict[str, Any]:
        return dict(json.loads(self._words.readline()))


@dataclass
class Engines:
    """A carrier, a pusher and engines, as they are asked for. With `sip` each engine has its own address."""

    dsn: str
    folder: Path
    ring: float
    talk: float
    source: Path | None = None
    sip: bool = False
    address: dict[str, Any] | None = None
    """Of SIP, for engines that follow one another; else each has its own."""
    runs: list[Run] = field(default_factory=list)

    @property
    def log(self) -> CarrierLog:
        return CarrierLog(self.folder / "carrier.jsonl")

    def start(self, *arguments: str) -> Run:
        """Start `python -m` with these arguments; returns when it says that it is ready."""
        settings = Settings(
            data=self.folder / "data", database=self.dsn, push_allow=("127.0.0.0/8",), stop_grace=2.0
        )
        if self.sip:
            sip = self.address or over_sip()
            settings = settings.with_options(
                switch=sip["switch"], sip_listen=(sip["sip_listen"],), rtp_ports=sip["rtp_ports"]
            )
        ready, tell = os.pipe()
        environment = (
            clean_environment(self.source)
            | compose.environment(settings)
            | {compose.CARRIER_SOCKET: self._socket, READY_FD: str(tell)}
        )
        log = self.folder / f"run-{len(self.runs)}.log"
        with log.open("wb") as out, os.fdopen(ready, "rb") as told:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    env=environment,
                    stdout=out,
                    stderr=out,
                    pass_fds=(tell,),
                    cwd=self.folder,
                )
            finally:
                os.close(tell)
            run = Run(process, log)
            self.runs.append(run)
            assert told.read() == b"ready\n", run.said()
        return run

    def engine(self) -> Run:
        """One more engine, its run begun."""
        run = self.start("outdial.compose", "engine")
        wait_for(lambda: "engine run begun" in run.said() or run.ended(), 30, "no engine run")
        assert not run.ended(), run.said()
        return run

    def carrier(self) -> Run:
        """The carrier that all engines share."""
        times = ("--ring", str(self.ring), "--talk", str(self.talk))
        log = str(self.folder / "carrier.jsonl")
        return self.start("outdial.switch.carrier", "--socket", self._socket, "--log", log, *times)

    def pusher(self) -> Run:
        """A pusher beside them."""
        return self.start("outdial.compose", "push")

    @contextmanager
    def line(self) -> Iterator[Line]:
        """A line to the carrier, as an engine has one."""
        with socket.socket(socket.AF_UNIX) as ours:
            ours.settimeout(10)
            ours.connect(self._socket)
            with ours.makefile("rwb") as words:
                yield Line(words)

    @property
    def _socket(self) -> str:
        return str(self.folder / "carrier.sock")


@contextmanager
def engines(
    dsn: str,
    folder: Path,
    *,
    ring: float = 0.3,
    talk: float = 1.5,
    source: Path | None = None,
    sip: bool = False,
) -> Iterator[Engines]:
    """A place for engines on a database; nothing survives."""
    found = Engines(dsn, folder, ring, talk, source, sip)
    try:
        yield found
    finally:
        for run in found.runs:
            run.close()
