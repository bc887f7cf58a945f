"""What runs of an engine know of each other on one machine: where they are, and who is gone."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def this_host() -> str:
    """Where process ids mean the same: the machine since its boot, and the PID namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return " ".join(parts)


def lives(pid: int) -> bool:
    """Whether a process of this host has not ended; one that nobody has reaped yet has."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return True
    return state not in (b"Z", b"X")
