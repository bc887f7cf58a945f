"""What the operator says about the embedded PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


def _tell(line: str) -> None:
    with suppress(OSError):  # a log that is full is no reason not to start
        print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """Where the embedded PostgreSQL keeps its data, and as whom it runs.

    `data` is the data folder (`--data`), made when absent. `pg_bin` is the folder that holds `postgres`
    and `initdb` (`--pg-bin`). `pg_user` is the user it runs as when we are root (`--pg-user`). `notice`
    takes the lines that the operator should read: the user, and a cluster that lives elsewhere.
    """

    data: Path
    pg_bin: Path | None = None
    pg_user: str | None = None
    notice: Callable[[str], None] = _tell
