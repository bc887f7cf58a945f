"""The HTTP edge in a process of its own, with the toy application of `toy_edge.py`, and raw sockets to it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOY = Path(__file__).with_name("toy_edge.py")
WITHIN = 8.0  # seconds for what should come at once
CHUNKED = "Transfer-Encoding: chunked"


@dataclass
class Toy:
    """The toy's process."""

    process: subprocess.Popen[str]
    port: int
    record: Path
    _said: list[str]
    _hearing: threading.Thread

    def said(self) -> str:
        """What it wrote until its end."""
        self._hearing.join(WITHIN)
        return "".join(self._said)

    def seen(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def seen_since(self, before: int, least: int = 0) -> list[dict[str, Any]]:
        deadline = time.monotonic() + WITHIN
        while len(found := self.seen()[before:]) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), WITHIN, source_address=(source, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WITHIN)


@contextlib.contextmanager
def toy(
    folder: Path,
    kind: str = "edge",
    hosts: str = "*",
    tls: tuple[Path, ...] = (),
    descriptors: int | None = None,
    **limits: float,
) -> Iterator[Toy]:
    record = folder / f"record-{time.monotonic_ns()}"
    record.touch()
    argv = [sys.executable, str(TOY), str(record), json.dumps(limits), kind, hosts, *map(str, tls)]
    if descriptors is not None:
        argv = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, said = int(process.stdout.readline()), list[str]()
        hearing = threading.Thread(target=said.extend, args=(process.stdout,))
        hearing.start()  # a full pipe would stop who writes
        try:
            yield Toy(process, port, record, said, hearing)
        finally:
            process.kill()
            hearing.join()


@dataclass
class Read:
    """What came back on one connection."""

    raw: bytes
    closed: bool
    after: float = 0.0
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        return [status for status, _, _ in self.answers]


def parse(raw: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers in a stream, which must be nothing but answers with a Content-Length."""
    answers = []
    while raw:
        head, end, rest = raw.partition(b"\r\n\r\n")
        assert end, raw
        line, *fields = head.decode("latin-1").split("\r\n")
        matched = re.fullmatch(r"HTTP/1\.1 ([0-9]{3}) .*", line)
        assert matched, line
        headers = dict(text.lower().split(": ", 1) for text in fields)
        if matched[1] == "100":
            raw = rest
            continue
        size = int(headers["content-length"])
        answers.append((int(matched[1]), headers, rest[:size]))
        raw = rest[size:]
    return answers


def read(connection: socket.socket, quiet: float = WITHIN, answers: int | None = None) -> Read:
    """Reads to the end of the stream, to `quiet` seconds of silence or to a number of answers."""
    raw, closed, began = b"", False, time.monotonic()
    connection.settimeout(quiet)
    with contextlib.suppress(TimeoutError):
        while answers is None or raw.count(b"\r\n\r\n") < answers:
            try:
                piece = connection.recv(1 << 18)
            except ConnectionResetError:
                piece = b""
            if not piece:
                closed = True
                break
            raw += piece
    return Read(raw, closed, time.monotonic() - began, parse(raw))


def ask(running: Toy, data: bytes, **how: Any) -> Read:
    with running.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        return read(connection, **how)


def head(*fields: str, line: str = "POST / HTTP/1.1", host: str = "Host: outdial.test") -> bytes:
    return "\r\n".join([line, *([host] if host else []), *fields, "", ""]).encode("latin-1")


def envelope(answer: tuple[int, dict[str, str], bytes]) -> dict[str, str]:
    """The body of a refusal, whose form is checked here (semantics.md §2)."""
    _, headers, body = answer
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", headers["x-request-id"])
    assert headers["connection"] == "close"
    assert "server" not in headers
    decoded: dict[str, str] = json.loads(body)
    assert list(decoded) == ["resultCode", "resultDesc", "returnCode", "returnDesc"]
    assert decoded["resultCode"] == decoded["returnCode"] == "0200001"
    assert decoded["resultDesc"] == decoded["returnDesc"] != ""
    return decoded


def ask_raw(running: Toy, data: bytes) -> bytes:
    with running.connect() as connection:
        connection.sendall(data)
        pieces = []
        while piece := connection.recv(1 << 18):
            pieces.append(piece)
        return b"".join(pieces)


def send_until_refused(connection: socket.socket, data: bytes, *, most: int, every: float = 0.0) -> int:
    """Bytes that the other side's kernel took, up to `most`, before it said that nobody reads them."""
    sent = 0
    try:
        while sent < most:
            sent += connection.send(data)
            time.sleep(every)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent
