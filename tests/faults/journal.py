"""The independent witness: an append-only file of JSON lines, synced before a line counts as written."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """What was done and what was answered. Threads may write at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._turn = threading.Lock()

    def write(self, **fields: Any) -> None:
        """Append one line; it is on the disk on return."""
        line = json.dumps(fields).encode("ascii") + b"\n"
        with self._turn:
            assert os.write(self._fd, line) == len(line)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal, read from the file. A last line that is being written is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
