"""flock(2) on files of the data folder: who runs PostgreSQL, and who still uses it.

A lock belongs to the open file, so it ends with the process that took it, by whatever death. Python opens
files so that programs we start do not inherit them; a child made by a bare fork would share the lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from outdial.errors import SettingError

_PAUSE = 0.02


class AlreadyRunning(SettingError):
    """Another process runs PostgreSQL on this data folder; it can be joined with `running_dsn`."""


class FolderLock:
    """A held lock on `path`; `release` it. Made by `take` and `try_take`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Lets go; more than once is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_private(path: Path, flags: int) -> int:
    """Opens or makes a file that only the data folder's owner may read; never through a symbolic link."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    owner = path.parent.stat()
    if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)  # root in a folder of someone else
    return descriptor


def try_take(path: Path, *, shared: bool = False) -> FolderLock | None:
    """The lock, or None when someone holds it in a way that excludes ours."""
    descriptor = open_private(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return FolderLock(descriptor)


def take(path: Path, *, wait: float, shared: bool = False) -> FolderLock | None:
    """As `try_take`, but tries for `wait` seconds."""
    deadline = time.monotonic() + wait
    while (lock := try_take(path, shared=shared)) is None and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return lock


def is_held(path: Path) -> bool:
    """Whether someone holds the exclusive lock just now.

    The question takes a shared lock for an instant, which is why those who want the lock try for a while.
    """
    if not path.exists():
        return False
    lock = try_take(path, shared=True)
    if lock is None:
        return True
    lock.release()
    return False
