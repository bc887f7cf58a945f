"""A line of the log that cannot be written is lost and counted; nothing else comes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from outdial.logs import Lines

encode = msgspec.json.Encoder().encode


def test_lines_that_found_no_room_are_counted_and_told_of(tmp_path: Path) -> None:
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    where = os.dup(file)
    lines = Lines(where, encode, "api")
    lines.info(b'{"event":"first"}')
    os.dup2(full, where)
    for _ in range(3):
        lines.error(b'{"event":"lost"}')
    os.dup2(file, where)
    lines.info(b'{"event":"last"}')
    lines.info(b'{"event":"one more"}')
    for descriptor in (file, full, where):
        os.close(descriptor)
    first, told, *rest = map(json.loads, (tmp_path / "log").read_bytes().splitlines())
    assert first == {"event": "first"}
    del told["timestamp"]
    assert told == {"lines": 3, "event": "log lines lost", "level": "error", "role": "api"}
    assert rest == [{"event": "last"}, {"event": "one more"}]


def test_a_line_that_was_torn_spoils_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a disk with room for a few bytes more: the first write is short, the second fails."""
    file, write = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), os.write
    lines = Lines(file, encode, "api")

    def short(descriptor: int, text: bytes) -> int:
        if not text.startswith(b"{"):
            raise OSError(28, "No space left on device")
        return write(descriptor, text[:5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        lines.info(b'{"event":"torn"}')
        lines.info(b'{"event":"lost"}')
    lines.info(b'{"event":"last"}')
    os.close(file)
    torn, told, last = (tmp_path / "log").read_bytes().splitlines()
    assert torn == b'{"eve'
    assert json.loads(told)["lines"] == 2
    assert json.loads(last) == {"event": "last"}


def test_a_reader_that_has_gone_or_is_too_slow_is_no_error() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = Lines(writing, encode, "api")
    for _ in range(200):
        lines.info(b"x" * 1000)
    os.close(reading)
    lines.info(b"x")
    os.close(writing)
