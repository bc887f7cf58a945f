"""A child process that drops to an account and ends when we end, even by `kill -9`.

Linux: PR_SET_PDEATHSIG, set after the privileges are dropped, because a change of credentials clears it
(prctl(2)). The kernel sends it when the *thread* that made the child ends, so `spawn` works in the main
thread only. Elsewhere a guard process reads a pipe whose other end only we hold.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from outdial.errors import SettingError
from outdial.store.embedded.account import Account

_PR_SET_PDEATHSIG = 1
_ON_LINUX = sys.platform == "linux"

# argv: the process to end and the signal; it reads until our end of the pipe is closed, by whatever.
_GUARD = "import os, sys; sys.stdin.buffer.read(); os.kill(int(sys.argv[1]), int(sys.argv[2]))"


def environment() -> dict[str, str]:
    """What PostgreSQL sees of our environment: no secret of ours, no PG* variable, C and UTC."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    seen = {name: os.environ[name] for name in kept if name in os.environ}
    return {**seen, "LC_ALL": "C", "TZ": "UTC"}


def _tie(death: signal.Signals) -> Callable[[], None] | None:
    if not _ON_LINUX:
        return None
    parent, prctl, end = os.getpid(), ctypes.CDLL(None).prctl, int(death)

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, end)
        if os.getppid() != parent:  # we died between fork and prctl: the kernel will not tell any more
            os._exit(1)

    return tie


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    account: Account,
    *,
    death: signal.Signals = signal.SIGKILL,
    **files: Any,
) -> subprocess.Popen[bytes]:
    """Starts `argv` as `account` in a session of its own; `death` is its signal when we die.

    `files` are stdin, stdout and stderr as `subprocess.Popen` takes them; stdin is empty when not given.
    Raises SettingError when the system does not let us become the account, RuntimeError outside the main
    thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("PostgreSQL is started from the main thread: the kernel ends it with its thread")
    files.setdefault("stdin", subprocess.DEVNULL)
    become: Mapping[str, Any] = account.become()
    try:
        return subprocess.Popen(  # noqa: S603
            [os.fspath(word) for word in argv],
            cwd="/",  # the account may not enter ours
            env=environment(),
            start_new_session=True,
            preexec_fn=_tie(death),  # noqa: PLW1509  # two system calls, no lock, no allocation of note
            **files,
            **become,
        )
    except PermissionError as error:
        raise SettingError(f"cannot run {argv[0]} as user {account.name!r}: {error}") from error


def guard(process: subprocess.Popen[bytes], death: signal.Signals) -> Guard | None:
    """Where the kernel does not end a child with its parent, starts the process that does."""
    return None if _ON_LINUX else Guard(process.pid, death)


class Guard:
    """A process that sends `death` to `pid` once we are gone; `dismiss` it when `pid` has ended."""

    def __init__(self, pid: int, death: signal.Signals) -> None:
        argv = [sys.executable, "-I", "-S", "-c", _GUARD, str(pid), str(int(death))]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    @property
    def pid(self) -> int:
        """The guard's own process id."""
        return self._process.pid

    def dismiss(self) -> None:
        """Ends the guard before it sees the pipe closed."""
        self._process.kill()
        self._process.wait()
        pipe: IO[bytes] | None = self._process.stdin
        if pipe:
            pipe.close()
