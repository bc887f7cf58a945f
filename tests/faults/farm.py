"""A farm of receivers beside a server: started, recovered, and judged by its log and the carrier's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from journal import lines_of
from receiver_farm import seconds_of
from serving import wait_for

from certificates import Certificate

FARM = Path(__file__).with_name("receiver_farm.py")


class Farm:
    """The receivers by name; `kinds` says what each is. What they saw is read from the log's file."""

    def __init__(self, folder: Path, kinds: dict[str, str]) -> None:
        self.folder = folder
        self.kinds = {"canary": "canary", **kinds}
        make_certificates(folder / "certificates")
        command = [sys.executable, str(FARM), "--folder", str(folder)]
        command += [f"{name}:{kind}" for name, kind in self.kinds.items()]
        self._process = subprocess.Popen(command)
        self._place = folder / "farm.json"
        wait_for(self._place.exists, 30, "the farm does not start")
        self.urls: dict[str, str] = json.loads(self._place.read_text())

    @property
    def trusted(self) -> Path:
        """The certificates that a server is to trust."""
        return self.folder / "certificates" / "trusted.pem"

    def named(self, *kinds: str) -> list[str]:
        """The receivers of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def hostile(self) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind not in {"healthy", "canary"}]

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in lines_of(self.folder / "farm.jsonl") if line["event"] == event]

    def hits(self) -> Counter[str]:
        """Connections that each kind took."""
        return Counter(line["kind"] for line in self.lines("connection"))

    def taken(self) -> Counter[str]:
        """How often each result came to one that is healthy: it answers 200 once that is in its log."""
        good = [one for one in self.lines("request") if one["kind"] == "healthy"]
        return Counter(result for one in good for result in one["ids"])

    def recover(self) -> None:
        """All are healthy from now on."""
        os.kill(self._process.pid, signal.SIGUSR1)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@contextmanager
def farming(folder: Path, kinds: dict[str, str]) -> Iterator[Farm]:
    farm = Farm(folder, kinds)
    try:
        yield farm
    finally:
        farm.close()


def delays(farm: Farm, carrier: Path) -> list[float]:
    """Seconds from the end of a call to the healthy receiver's log, sorted: of every result there."""
    over = {line["attempt"]: seconds_of(line) for line in lines_of(carrier) if line.get("event") == "ended"}
    first: dict[str, float] = {}
    names = set(farm.named("healthy"))
    for line in farm.lines("request"):
        if line["receiver"] in names:
            for result in line["ids"]:
                first.setdefault(result, seconds_of(line))
    return sorted(at - over[result] for result, at in first.items())


def percentile(sorted_values: Sequence[float], share: float) -> float:
    return sorted_values[min(int(len(sorted_values) * share), len(sorted_values) - 1)]


def make_certificates(folder: Path) -> None:
    """`good` and `expired`, both trusted, and `self_made`, which is not."""
    folder.mkdir()
    for name, days in (("good", 1), ("expired", -1), ("self_made", 1)):
        Certificate(folder, name=name, days=days)
    trusted = b"".join((folder / f"{name}.pem").read_bytes() for name in ("good", "expired"))
    (folder / "trusted.pem").write_bytes(trusted)
