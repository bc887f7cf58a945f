"""JSON logs, one line an event, on stderr. No number beyond its last 4 digits ever gets here.

A line that cannot be written (a full disk, a reader that has gone) is lost, never an error: no call and no
answer waits for the log. The next line that can be written is preceded by one that says how many were lost.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Lines:
    """The lines of a log on a file descriptor, each in one write where the system takes it whole."""

    def __init__(self, descriptor: int, encode: Callable[[Any], bytes], role: str) -> None:
        self._descriptor = descriptor
        self._encode = encode
        self._role = role
        self._lost = 0
        self._torn = False  # the last byte there is in the middle of a line

    def write(self, line: bytes) -> None:
        """Write one line, or count it as lost."""
        text = b"\n" * self._torn + (self._notice() if self._lost else b"") + line + b"\n"
        written = 0
        try:
            while written < len(text):
                written += os.write(self._descriptor, text[written:])
        except OSError:
            self._lost += 1
            self._torn = text[written - 1] != ord("\n") if written else self._torn
        else:
            self._lost, self._torn = 0, False

    debug = info = warning = error = write

    def _notice(self) -> bytes:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        said = {"lines": self._lost, "event": "log lines lost", "level": "error", "role": self._role}
        return self._encode({**said, "timestamp": at}) + b"\n"


def configure(level: str, role: str) -> None:
    """Send this process's log to stderr, from `level` up, each line with its `role`."""
    encode = msgspec.json.Encoder(enc_hook=str).encode
    lines = Lines(sys.stderr.fileno(), encode, role)

    def name_role(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["role"] = role
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            name_role,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            lambda _, __, event: encode(event),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
