"""What a server that died left behind: a pid file, sockets, processes.

PostgreSQL refuses to start while the number in `postmaster.pid` is alive, whoever has it now, and counts
a zombie as alive (src/backend/utils/init/miscinit.c, CreateLockFile). We know better: a process is of a
cluster when it is called postgres, is no zombie, and works in the cluster's folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from outdial.errors import SettingError
from outdial.store.embedded.layout import SOCKET

_NAMES = ("postgres", "postmaster")
_PAUSE = 0.01
_OWN_END = 0.5  # seconds that orphans get to notice that their postmaster is gone; busy ones never do
_SHUTDOWN = 6.0  # seconds more for a postmaster on its way out: it kills its children after 5
_QUIT_END = 2.0  # seconds that they get after SIGQUIT
_KILL_END = 10.0  # seconds after SIGKILL: only a process stuck in the kernel needs them


def clear_survivors(pgdata: Path, *sockets: Path) -> None:
    """Makes sure that no process of the cluster lives, then removes its pid file and socket files.

    To be called with the folder's lock held. Orphans of a dead postmaster are waited for, then ended: one
    that writes beside a new server would damage the data. Raises SettingError when a postmaster lives
    that is none of ours, or an orphan cannot be ended.
    """
    if not pgdata.exists():
        return
    if not _gone(pgdata, within=_OWN_END):
        _refuse_postmaster(pgdata)
        _end(pgdata)
    (pgdata / "postmaster.pid").unlink(missing_ok=True)
    for folder in sockets:
        for name in (SOCKET, f"{SOCKET}.lock"):
            (folder / name).unlink(missing_ok=True)


def _gone(pgdata: Path, *, within: float) -> bool:
    deadline = time.monotonic() + within
    while processes_of(pgdata):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _refuse_postmaster(pgdata: Path) -> None:
    postmaster = postmaster_pid(pgdata)
    deadline = time.monotonic() + _SHUTDOWN
    while postmaster in processes_of(pgdata) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    if postmaster in processes_of(pgdata):
        raise SettingError(
            f"PostgreSQL runs on {pgdata} as process {postmaster}, but nothing of ours runs it:"
            f" stop it with kill -INT {postmaster}"
        )


def _end(pgdata: Path) -> None:
    for death, within in ((signal.SIGQUIT, _QUIT_END), (signal.SIGKILL, _KILL_END)):
        for pid in processes_of(pgdata):
            with suppress(ProcessLookupError):
                os.kill(pid, death)
        if _gone(pgdata, within=within):
            return
    left = ", ".join(str(pid) for pid in processes_of(pgdata))
    raise SettingError(f"processes of a dead PostgreSQL still use {pgdata} and do not end: {left}")


def postmaster_pid(pgdata: Path) -> int | None:
    """The number in `postmaster.pid`, whoever has it now; None without a readable one."""
    lines = pid_file(pgdata)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def pid_file(pgdata: Path) -> list[str]:
    """The lines of `postmaster.pid`: pid, folder, start, port, socket folder, ..; none when absent."""
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def processes_of(pgdata: Path) -> list[int]:
    """The living processes of the server that works in `pgdata`."""
    look: Callable[[Path], Iterator[int]] = _by_proc if sys.platform == "linux" else _by_ps
    return list(look(pgdata))


def _by_proc(pgdata: Path) -> Iterator[int]:
    place = pgdata.stat()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            name, state = _name_and_state(Path(entry.path, "stat").read_text())
            if name in _NAMES and state not in "ZX" and os.path.samestat(os.stat(f"{entry.path}/cwd"), place):
                yield int(entry.name)
        except OSError:  # it ended, or is someone else's
            continue


def _name_and_state(facts: str) -> tuple[str, str]:
    """From /proc/PID/stat: `PID (name) state ..`; a name may hold parentheses itself (proc(5))."""
    name, rest = facts[facts.index("(") + 1 :].rsplit(")", 1)
    return name, rest.split()[0]


def _by_ps(pgdata: Path) -> Iterator[int]:
    """Without /proc only the postmaster is known, by its command; PostgreSQL itself sees its orphans."""
    listed = subprocess.run(
        ["ps", "-axo", "pid=,stat=,command="],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
    )
    for line in listed.stdout.splitlines():
        pid, state, command = line.split(None, 2)
        if not state.startswith("Z") and f"-D {pgdata}" in command and "/postgres " in command:
            yield int(pid)
