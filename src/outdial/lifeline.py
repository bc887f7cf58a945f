"""What a process under the supervisor owes it: it ends when the supervisor dies, and says when it is ready.

The supervisor holds the only write end of a pipe; its end, by whatever death, is the end of all.
"""

from __future__ import annotations

import contextlib
import os
import threading

LIFELINE_FD = "OUTDIAL_LIFELINE_FD"
READY_FD = "OUTDIAL_READY_FD"

ORPHANED = 70
"""Exit status of a process whose supervisor has gone."""


def watch_lifeline() -> None:
    """End this process at once when the supervisor ends. A no-op where there is no supervisor."""
    number = os.environ.pop(LIFELINE_FD, None)
    if number is None:
        return
    fd = int(number)
    os.set_inheritable(fd, False)
    threading.Thread(target=_wait, args=(fd,), name="lifeline", daemon=True).start()


def _wait(fd: int) -> None:
    while os.read(fd, 1):
        pass
    os._exit(ORPHANED)


def say_ready() -> None:
    """Tell the supervisor that this process does its work. A no-op where there is no supervisor."""
    number = os.environ.pop(READY_FD, None)
    if number is None:
        return
    fd = int(number)
    with contextlib.suppress(BrokenPipeError):  # the supervisor is gone: the lifeline sees to it
        os.write(fd, b"ready\n")
    os.close(fd)
