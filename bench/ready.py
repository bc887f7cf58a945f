"""How long `outdial dev` takes until it is ready, on a new data folder and on an existing one.

Wall seconds, because that is what the issue bounds (3 and 2); beside them the CPU seconds of all its
processes until they have ended, which a busy machine does not stretch as much.
"""

from __future__ import annotations

import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(rounds: int) -> None:
    """Print the two rows."""
    new, existing = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="outdial-bench-") as name:
            Path(name).chmod(0o711)
            data = Path(name) / "data"
            new.append(_start(data))
            existing.append(_start(data))
            _remove(data)
    for what, found, aim in (("new", new, 3), ("existing", existing, 2)):
        wall = statistics.median(seconds for seconds, _ in found)
        cpu = statistics.median(seconds for _, seconds in found)
        print(
            f"ready: outdial dev on {what} data: {wall:.2f} s, median of {rounds}"
            f" (aim {aim}; {cpu:.2f} CPU-s)"
        )


def _start(data: Path) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "outdial", "dev", "--json", "--listen", "127.0.0.1:0", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert "url" in json.loads(process.stdout.readline())
    seconds = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def _remove(data: Path) -> None:
    from outdial.store.embedded import remove_cluster  # noqa: PLC0415

    remove_cluster(data)
