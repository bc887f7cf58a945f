"""The HTTP edge against raw sockets: framing, limits, deadlines, refusals, the orderly end.

The server runs in a process of its own with the toy application of `toy_edge.py`, which records every
request that it saw to its end.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outdial.errors import SettingError
from outdial.web.guard import BodyTooLarge, Disconnected, Message, read_body
from outdial.web.server import EdgeLimits, listening_socket

TOY = Path(__file__).with_name("toy_edge.py")
WITHIN = 8.0  # seconds for what should come at once


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


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A server with the limits as they are."""
    with toy(tmp_path_factory.mktemp("edge")) as running:
        yield running


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


# -- framing: the table of trust.md A.5, and its neighbours ----------------------------------------------

SECOND = head(line="GET /smuggled HTTP/1.1")
CHUNKED = "Transfer-Encoding: chunked"

REFUSED: dict[str, tuple[int, bytes]] = {
    "length and coding, then a second request": (
        400,
        head("Content-Length: 6", CHUNKED) + b"0\r\n\r\nX" + SECOND,
    ),
    "coding and length": (400, head(CHUNKED, "Content-Length: 4") + b"1\r\nZ\r\nQ" + SECOND),
    "two different lengths": (400, head("Content-Length: 3", "Content-Length: 4") + b"abcd" + SECOND),
    "two equal lengths": (400, head("Content-Length: 3", "Content-Length: 3") + b"abc"),
    "a list of lengths": (400, head("Content-Length: 3, 3") + b"abc"),
    "negative length": (400, head("Content-Length: -3") + b"abc"),
    "plus length": (400, head("Content-Length: +3") + b"abc"),
    "hexadecimal length": (400, head("Content-Length: 0x3") + b"abc"),
    "length with underscore": (400, head("Content-Length: 3_0") + b"abc"),
    "empty length": (400, head("Content-Length: ") + b"abc"),
    "length beyond 64 bits": (400, head("Content-Length: 18446744073709551619") + b"abc"),
    "space before the colon": (400, head("Transfer-Encoding : chunked") + b"0\r\n\r\n" + SECOND),
    "space before the length's colon": (400, head("Content-Length : 3") + b"abc"),
    "xchunked": (501, head("Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SECOND),
    "identity": (501, head("Transfer-Encoding: identity", "Content-Length: 3") + b"abc"),
    "gzip, chunked": (501, head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n" + SECOND),
    "chunked, identity": (400, head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n" + SECOND),
    "chunked twice": (400, head(CHUNKED, CHUNKED) + b"0\r\n\r\n" + SECOND),
    "vertical tab before chunked": (400, head("Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n" + SECOND),
    "chunked in HTTP/1.0": (400, head(CHUNKED, line="POST / HTTP/1.0") + b"0\r\n\r\n" + SECOND),
    "bare carriage return": (400, head("X: a\rTransfer-Encoding: chunked") + b"0\r\n\r\n" + SECOND),
    "NUL in a value": (400, head("X: a\x00b")),
    "NUL in a name": (400, head("X\x00: a")),
    "control character in a value": (400, head("X: a\x01b")),
    "empty name": (400, head(": a")),
    "name with a space": (400, head("X Y: a")),
    "no colon": (400, head("Content-Length")),
    "bare line feeds": (400, b"POST / HTTP/1.1\nHost: outdial.test\nContent-Length: 0\n\n"),
    "bare line feed between fields": (
        400,
        b"POST / HTTP/1.1\r\nHost: outdial.test\nContent-Length: 0\r\n\r\n",
    ),
    "bare line feed at the end": (400, b"POST / HTTP/1.1\r\nHost: outdial.test\r\nContent-Length: 0\r\n\n"),
    "folded line": (400, head("X: a", " b")),
    "folded coding": (400, head("Transfer-Encoding:", " chunked") + b"0\r\n\r\n" + SECOND),
    "space before the first field": (400, head(host=" Host: outdial.test")),
    "chunk size 0x3": (400, head(CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size 3_0": (400, head(CHUNKED) + b"3_0\r\nabc\r\n0\r\n\r\n"),
    "chunk size +3": (400, head(CHUNKED) + b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk size -3": (400, head(CHUNKED) + b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a space": (400, head(CHUNKED) + b"3 \r\nabc\r\n0\r\n\r\n"),
    "no chunk size": (400, head(CHUNKED) + b"\r\nabc\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": (400, head(CHUNKED) + b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "bad end of a chunk": (400, head(CHUNKED) + b"3\r\nabcXX0\r\n\r\n" + SECOND),
    "chunk longer than its size": (400, head(CHUNKED) + b"3\r\nabcd\r\n0\r\n\r\n"),
    "bare line feed after a chunk size": (400, head(CHUNKED) + b"3\nabc\r\n0\r\n\r\n"),
    "bare line feed in a chunk extension": (400, head(CHUNKED) + b"3;a\nabc\r\n0\r\n\r\n" + SECOND),
    "bare line feed after a chunk": (400, head(CHUNKED) + b"3\r\nabc\n0\r\n\r\n"),
    "no Host": (400, head(host="")),
    "no Host in HTTP/1.0": (400, head(line="POST / HTTP/1.0", host="")),
    "two Hosts": (400, head("Host: other.test")),
    "two equal Hosts": (400, head("Host: outdial.test")),
    "empty Host": (400, head(host="Host: ")),
    "Host with a path": (400, head(host="Host: outdial.test/a")),
    "Host with a user": (400, head(host="Host: a@outdial.test")),
    "Host with a list": (400, head(host="Host: outdial.test, other.test")),
    "100 kB of one field": (431, head("X: " + "a" * 100_000)),
    "5000 fields": (431, head(*[f"X{number}: a" for number in range(5000)])),
    "65 fields": (431, head(*[f"X{number}: a" for number in range(64)])),
    "17 kB of fields": (431, head(*[f"X{number}: {'a' * 1000}" for number in range(17)])),
    "target of 9 kB": (414, head(line=f"GET /{'a' * 9000} HTTP/1.1")),
    "HTTP/9.9": (400, head(line="GET / HTTP/9.9")),
    "HTTP/2.0": (505, head(line="GET / HTTP/2.0")),
    "HTTP/0.9": (505, head(line="GET / HTTP/0.9")),
    "no version": (505, head(line="GET /")),
    "HTTP/2's preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": (400, bytes.fromhex("16030100c8010000c40303")),
    "absolute target": (400, head(line="GET http://evil/a HTTP/1.1")),
    "absolute target of our own": (400, head(line="GET http://outdial.test/a HTTP/1.1")),
    "authority as target": (400, head(line="GET outdial.test:80 HTTP/1.1")),
    "asterisk": (400, head(line="OPTIONS * HTTP/1.1")),
    "fragment": (400, head(line="GET /a#b HTTP/1.1")),
    "target not in ASCII": (400, head(line="GET /\xe9 HTTP/1.1")),
    "space in the target": (400, head(line="GET /a b HTTP/1.1")),
    "control character in the target": (400, head(line="GET /a\x01b HTTP/1.1")),
    "tab": (400, head(line="GET\t/ HTTP/1.1")),
    "unknown method": (400, head(line="GETT / HTTP/1.1")),
    "method in lower case": (400, head(line="get / HTTP/1.1")),
    "TRACE": (405, head(line="TRACE / HTTP/1.1")),
    "CONNECT": (405, head(line="CONNECT outdial.test:80 HTTP/1.1")),
    "gzip": (415, head("Content-Encoding: gzip", "Content-Length: 3") + b"abc"),
    "identity as content coding": (415, head("Content-Encoding: identity", "Content-Length: 3") + b"abc"),
    "WebSocket": (
        400,
        head(
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            line="GET / HTTP/1.1",
        ),
    ),
}


def fails_to_refuse(running: Toy, name: str) -> str:
    """What is wrong with the answer to a probe; empty when it is refused as the table says."""
    status, data = REFUSED[name]
    before = len(running.seen())
    got = ask(running, data)
    if got.statuses != [status] or not got.closed:
        return f"answered {got.statuses}, {'closed' if got.closed else 'left open'}"
    complete = [one for one in running.seen()[before:] if "cut" not in one]
    return f"seen as {complete}" if complete else ""


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_of_two_meanings_is_refused_and_the_connection_ends(edge: Toy, name: str) -> None:
    """trust.md A.5, R14; RFC 9112, 3.2, 6.1, 6.3, 11.2: refused once, closed, never seen complete."""
    assert fails_to_refuse(edge, name) == ""
    answer = ask(edge, REFUSED[name][1]).answers[0]
    envelope(answer)
    assert ("allow" in answer[1]) == (answer[0] == 405)


def test_the_refusal_of_a_head_request_has_no_body(edge: Toy) -> None:
    """RFC 9110, 9.3.2."""
    got = ask_raw(edge, head("Host: other.test", line="HEAD / HTTP/1.1"))
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.endswith(b"\r\n\r\n")


def ask_raw(running: Toy, data: bytes) -> bytes:
    with running.connect() as connection:
        connection.sendall(data)
        pieces = []
        while piece := connection.recv(1 << 18):
            pieces.append(piece)
        return b"".join(pieces)


@pytest.mark.parametrize(
    "name", ["bad end of a chunk", "two Hosts", "5000 fields", "bare line feeds", "TRACE"]
)
def test_a_refusal_does_not_depend_on_how_the_bytes_arrive(edge: Toy, name: str) -> None:
    """The same probe byte by byte, the last 300 bytes at least."""
    status, data = REFUSED[name]
    with edge.connect() as connection:
        connection.sendall(data[:-300])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(max(0, len(data) - 300), len(data)):
                connection.sendall(data[at : at + 1])
        assert read(connection).statuses == [status]


@pytest.mark.guard
def test_a_lenient_server_fails_every_probe(tmp_path: Path) -> None:
    """The table can fail: a server that believes everything passes no row."""
    with toy(tmp_path, kind="lenient") as lenient:
        quick = [name for name, (_, data) in REFUSED.items() if data.startswith((b"POST", b"GET", b"TRACE"))][
            ::6
        ]
        assert len(quick) > 10
        assert [name for name in quick if fails_to_refuse(lenient, name) == ""] == []


@pytest.mark.parametrize(
    ("fields", "body", "meant"),
    [
        (["Content-Length: 3"], b"abc", "abc"),
        ([CHUNKED], b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "abcde"),
        (["transfer-encoding: CHUNKED"], b"A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ([], b"", ""),
        (["X: \tvalue with spaces \t", "Y:"], b"", ""),
    ],
)
def test_a_request_of_one_meaning_is_seen_once_and_whole(
    edge: Toy, fields: list[str], body: bytes, meant: str
) -> None:
    before = len(edge.seen())
    got = ask(edge, head(*fields) + body, answers=1)
    assert got.statuses == [200]
    assert [one["body"] for one in edge.seen_since(before)] == [meant]


def test_every_split_of_a_chunked_request_means_the_same(edge: Toy) -> None:
    data = head(CHUNKED) + b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: y\r\n\r\n"
    before = len(edge.seen())
    with edge.connect() as connection:
        for at in range(1, len(data)):
            connection.sendall(data[:at])
            connection.sendall(data[at:])
            assert read(connection, answers=1).statuses == [200]
    assert [one["body"] for one in edge.seen_since(before)] == ["abcde"] * (len(data) - 1)


def test_64_fields_and_16_kb_are_taken(edge: Toy) -> None:
    many = head(*[f"X{number}: a" for number in range(63)])
    large = head(*[f"X{number}: {'a' * 1000}" for number in range(16)])
    assert ask(edge, many, answers=1).statuses == [200]
    assert ask(edge, large, answers=1).statuses == [200]


def test_trailers_do_not_become_fields_of_the_head(edge: Toy) -> None:
    """RFC 9110, 6.5.1: a trailer could forge what was judged, such as Host or Authorization."""
    before = len(edge.seen())
    got = ask(edge, head(CHUNKED) + b"3\r\nabc\r\n0\r\nHost: evil\r\nAuthorization: x\r\n\r\n", answers=1)
    assert got.statuses == [200]
    names = [name for name, _ in edge.seen_since(before)[0]["headers"]]
    assert names == ["host", "transfer-encoding"]


@pytest.mark.parametrize("target", ["/a%2Fb/%7E//c;d", "/%e4%bd%a0?x=%20+&x", "/a?", "/?a=b?c", "//evil/a"])
def test_the_target_arrives_as_it_was_sent(edge: Toy, target: str) -> None:
    """trust.md B.3: a signature covers the raw path and the raw query."""
    before = len(edge.seen())
    assert ask(edge, head(line=f"GET {target} HTTP/1.1"), answers=1).statuses == [200]
    path, _, query = target.partition("?")
    (seen,) = edge.seen_since(before)
    assert (seen["path"], seen["query"]) == (path, query)


@pytest.mark.parametrize("offered", ["Connection: Upgrade, HTTP2-Settings", "Connection: upgrade, close"])
def test_the_offer_of_another_protocol_is_ignored_and_the_body_kept(edge: Toy, offered: str) -> None:
    """RFC 9110, 7.8. Java's HTTP client offers h2c with its first request, body and all."""
    before = len(edge.seen())
    fields = [offered, "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"]
    first = head(*fields, "Content-Length: 5") + b"hello"
    closes = "close" in offered
    got = ask(edge, first + head("Content-Length: 3") + b"two", **({} if closes else {"answers": 2}))
    assert got.statuses == ([200] if closes else [200, 200])
    assert got.closed is closes
    assert [one["body"] for one in edge.seen_since(before)] == (["hello"] if closes else ["hello", "two"])


def test_pipelined_requests_are_answered_in_order(edge: Toy) -> None:
    data = b"".join(head("Content-Length: 1", line=f"POST /{number} HTTP/1.1") + b"x" for number in range(9))
    with edge.connect() as connection:
        connection.sendall(data)
        raw = b""
        while raw.count(b"\r\n\r\n") < 9 or not raw.endswith(b"/8 x"):
            raw += connection.recv(1 << 16)
    assert [body for _, _, body in parse(raw)] == [b"/%d x" % number for number in range(9)]


def test_requests_sent_too_far_ahead_are_refused_after_the_answers_before(edge: Toy) -> None:
    """EdgeLimits.pipelined: one runs, eight wait, the next ends the connection in its turn."""
    before = len(edge.seen())
    got = ask(edge, head(line="GET /a HTTP/1.1") * 300)
    assert got.statuses == [200] * 9 + [400]
    assert got.closed
    assert len(edge.seen_since(before)) == 9


def test_a_bad_request_behind_a_good_one_is_refused_after_its_answer(edge: Toy) -> None:
    before = len(edge.seen())
    got = ask(edge, head(line="GET /slow?0.2 HTTP/1.1") + head("Host: x") + SECOND)
    assert got.statuses == [200, 400]
    assert got.closed
    assert [one["path"] for one in edge.seen_since(before)] == ["/slow"]


def test_a_bad_body_behind_a_good_request_is_refused_after_its_answer(edge: Toy) -> None:
    before = len(edge.seen())
    got = ask(edge, head(line="GET /slow?0.2 HTTP/1.1") + head(CHUNKED) + b"3\r\nabcXX")
    assert got.statuses == [200, 400]
    assert [one["path"] for one in edge.seen_since(before)] == ["/slow"]


def test_nothing_is_heard_after_a_request_that_ends_the_connection(edge: Toy) -> None:
    """RFC 9112, 9.6."""
    before = len(edge.seen())
    got = ask(edge, head(line="GET /a HTTP/1.1") + head("Connection: close", line="GET /b HTTP/1.1") + SECOND)
    assert got.statuses == [200, 200]
    assert got.closed
    assert [one["path"] for one in edge.seen_since(before)] == ["/a", "/b"]


def test_http_1_0_is_answered_and_closed(edge: Toy) -> None:
    got = ask(edge, head(line="GET / HTTP/1.0"))
    assert got.statuses == [200]
    assert got.closed


def test_no_answer_names_the_server(edge: Toy) -> None:
    assert "server" not in ask(edge, head(), answers=1).answers[0][1]


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


# -- bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [["Content-Length: 10"], [CHUNKED]])
def test_the_end_of_the_connection_is_never_the_end_of_a_body(edge: Toy, fields: list[str]) -> None:
    """trust.md A.5 (c)."""
    before = len(edge.seen())
    with edge.connect() as connection:
        connection.sendall(head(*fields, line="POST /cut HTTP/1.1") + b"3\r\nabc\r\n")
    assert edge.seen_since(before, least=1) == [{"cut": "/cut"}]


def test_an_end_in_the_middle_of_a_chunk_is_an_error_too(edge: Toy) -> None:
    before = len(edge.seen())
    with edge.connect() as connection:
        connection.sendall(head(CHUNKED, line="POST /cut HTTP/1.1") + b"30\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert read(connection).statuses == []
    assert edge.seen_since(before, least=1) == [{"cut": "/cut"}]


def blocking_client(running: Toy, path: str, size: int) -> tuple[int, bytes, bool]:
    """What a client learns that first sends everything and only then reads."""
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=WITHIN)
    with contextlib.closing(client):
        client.request("POST", path, body=b"x" * size)
        answer = client.getresponse()
        return answer.status, answer.read(), answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/read", "/declared"])
@pytest.mark.parametrize("size", [(1 << 20) + 1, 2 << 20])
def test_a_body_over_the_limit_is_413_and_readable(edge: Toy, path: str, size: int) -> None:
    """semantics.md §2: up to 1 MiB of the rest is read and thrown away, so that the answer arrives."""
    status, body, closes = blocking_client(edge, path, size)
    assert (status, closes) == (413, True)
    assert json.loads(body)["resultCode"] == "0200001"


def test_a_body_at_the_limit_is_taken(edge: Toy) -> None:
    before = len(edge.seen())
    assert blocking_client(edge, "/declared", 1 << 20)[0] == 200
    assert edge.seen_since(before)[0]["size"] == 1 << 20


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(edge: Toy) -> None:
    with edge.connect() as connection:
        line = "POST /declared HTTP/1.1"
        connection.sendall(head("Content-Length: 1048577", "Expect: 100-continue", line=line))
        got = read(connection, answers=1)
    assert got.raw.startswith(b"HTTP/1.1 413 ")


def test_no_more_than_the_bound_of_an_unwanted_body_is_read(edge: Toy) -> None:
    """semantics.md §2: after the second MiB the connection ends, however much is announced."""
    with edge.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        line = "POST /declared HTTP/1.1"
        connection.sendall(head(f"Content-Length: {1 << 30}", line=line))
        sent = send_until_refused(connection, b"x" * (1 << 16), most=64 << 20)
    assert 2 << 20 <= sent < 32 << 20  # what the kernel holds on the way comes on top


def test_an_answer_before_the_body_leaves_the_connection_usable(edge: Toy) -> None:
    """A 404 or 401 needs no body: the rest of it is read, and the next request is the next request."""
    with edge.connect() as connection:
        connection.sendall(head("Content-Length: 300000", line="POST /early HTTP/1.1"))
        assert read(connection, answers=1).statuses == [200]
        connection.sendall(b"G" * 300000 + head(line="GET /next HTTP/1.1"))
        assert read(connection, answers=1).answers[0][2] == b"/next "


def test_an_answered_request_gets_no_second_answer(edge: Toy) -> None:
    with edge.connect() as connection:
        connection.sendall(head(CHUNKED, line="POST /early HTTP/1.1") + b"3\r\n")
        assert read(connection, answers=1).statuses == [200]
        connection.sendall(b"abcXX0\r\n\r\n")
        got = read(connection)
    assert got.raw == b""
    assert got.closed


def test_endless_framing_is_refused(edge: Toy) -> None:
    """Chunk extensions and trailers are no body: no limit of the application would stop them."""
    for endless in (b"3;" + b"a" * 200_000, b"0\r\nX: " + b"a" * 200_000):
        with edge.connect() as connection:
            connection.sendall(head(CHUNKED))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(endless)
            assert read(connection).statuses == [400]


def test_a_head_is_bounded_while_it_comes(edge: Toy) -> None:
    """431 before the end of the head: it may not be gathered without a bound."""
    with edge.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: outdial.test\r\nX: ")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(40):
                connection.sendall(b"a" * 1000)
                time.sleep(0.002)
        assert read(connection).statuses == [431]


def test_expect_100_continue_is_answered_when_the_body_is_wanted(edge: Toy) -> None:
    with edge.connect() as connection:
        connection.sendall(head("Content-Length: 3", "Expect: 100-continue"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read(connection, answers=1).statuses == [200]


# -- faults ----------------------------------------------------------------------------------------------


def test_our_own_fault_is_500_without_detail(edge: Toy) -> None:
    answer = ask(edge, head(line="GET /crash HTTP/1.1")).answers[0]
    assert answer[0] == 500
    assert "made to fail" not in json.dumps(envelope(answer))


def test_a_commit_of_unknown_fate_gets_no_answer(edge: Toy) -> None:
    """semantics.md §2 and G2: the connection is closed without an answer."""
    got = ask(edge, head(line="GET /a HTTP/1.1") + head(line="GET /lost HTTP/1.1") + SECOND)
    assert got.statuses == [200]
    assert got.closed


def test_a_broken_answer_is_not_completed(edge: Toy) -> None:
    raw = ask_raw(edge, head(line="GET /half HTTP/1.1"))
    assert raw.endswith(b"\r\n\r\nhalf")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("outdial.test", 200),
        ("OUTDIAL.test", 200),
        ("outdial.test:8080", 200),
        ("127.0.0.1:80", 200),
        ("127.0.0.1", 421),
        ("127.0.0.1:81", 421),
        ("evil.test", 421),
        ("outdial.test.evil.test", 421),
        ("[::1]:80", 421),
    ],
)
def test_only_an_allowed_host_is_answered(guarded: Toy, host: str, status: int) -> None:
    """trust.md A.5 (b): otherwise a page of a stranger reaches us by a name that it controls."""
    got = ask(guarded, head(host=f"Host: {host}"), answers=1)
    assert got.statuses == [status]
    if status != 200:
        envelope(got.answers[0])


def test_whoever_looks_after_the_process_needs_no_allowed_host(guarded: Toy) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/healthz/", 421), ("/openapi.json", 421)):
        line = f"GET {path} HTTP/1.1"
        assert ask(guarded, head(line=line, host="Host: 10.0.0.7:8080"), answers=1).statuses == [status]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    with toy(tmp_path_factory.mktemp("guarded"), hosts="outdial.test,127.0.0.1:80") as running:
        yield running


# -- deadlines -------------------------------------------------------------------------------------------

HEAD_WITHIN, BODY_WITHIN, IDLE = 0.5, 1.0, 0.7


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A server with short deadlines."""
    folder = tmp_path_factory.mktemp("hasty")
    with toy(folder, head=HEAD_WITHIN, body=BODY_WITHIN, idle=IDLE, write=0.5, linger=0.3) as running:
        yield running


def trickle(running: Toy, start: bytes, slow: bytes, every: float, bound: float) -> Read:
    """Sends `slow` one byte every so often until the server ends the connection; `after` says when."""
    with running.connect() as connection:
        began = time.monotonic()
        connection.sendall(start)
        raw, at = b"", 0
        while time.monotonic() - began < bound:
            if select.select([connection], [], [], every)[0]:
                piece = connection.recv(1 << 16)
                raw += piece
                if not piece:
                    return Read(raw, True, time.monotonic() - began, parse(raw))
            elif at < len(slow):
                connection.sendall(slow[at : at + 1])
                at += 1
        return Read(raw, False, bound, parse(raw))


def check_late(got: Read, within: float) -> None:
    assert got.closed
    assert got.statuses == [408]
    envelope(got.answers[0])
    assert within - 0.1 <= got.after < within + 2.0


def test_a_slow_head_is_cut_at_its_deadline(hasty: Toy) -> None:
    """trust.md A.5: one absolute deadline, which no byte prolongs."""
    check_late(trickle(hasty, b"POST / HT", b"TP/1.1\r\nX: " + b"a" * 999, 0.05, 8), HEAD_WITHIN)


def test_a_slow_body_is_cut_at_its_deadline(hasty: Toy) -> None:
    before = len(hasty.seen())
    start = head("Content-Length: 999", line="POST /cut HTTP/1.1")
    check_late(trickle(hasty, start, b"a" * 998, 0.05, 8), BODY_WITHIN)
    assert hasty.seen_since(before, least=1) == [{"cut": "/cut"}]


def test_a_slow_chunked_body_is_cut_at_its_deadline(hasty: Toy) -> None:
    check_late(trickle(hasty, head(CHUNKED), b"1\r\na\r\n" * 200, 0.05, 8), BODY_WITHIN)


def test_the_body_has_its_own_time_after_a_slow_head(hasty: Toy) -> None:
    """The clock of the body began with the first byte, too: head and body together take one limit."""
    data = head("Content-Length: 999")
    got = trickle(hasty, data[:-4], data[-4:] + b"a" * 998, 0.08, 8)
    check_late(got, BODY_WITHIN)


def test_a_silent_connection_is_closed_without_an_answer(hasty: Toy) -> None:
    got = trickle(hasty, b"", b"", 0.05, 8)
    assert (got.closed, got.raw) == (True, b"")
    assert HEAD_WITHIN - 0.1 <= got.after < HEAD_WITHIN + 2


def test_empty_lines_are_no_request(hasty: Toy) -> None:
    got = trickle(hasty, b"", b"\r\n" * 400, 0.05, 8)
    assert (got.closed, got.raw) == (True, b"")
    assert got.after < HEAD_WITHIN + 2


def test_an_idle_connection_is_closed(hasty: Toy) -> None:
    for slow in (b"", b"\r\n" * 400):
        got = trickle(hasty, head(), slow, 0.05, 8)
        assert (got.closed, got.statuses) == (True, [200])
        assert IDLE - 0.1 <= got.after < IDLE + 2


def test_the_clock_starts_again_for_the_next_request(hasty: Toy) -> None:
    """Five requests, each of them half a deadline long, on one connection; the sixth is too slow."""
    with hasty.connect() as connection:
        for _ in range(5):
            connection.sendall(head("Content-Length: 4") + b"ab")
            time.sleep(BODY_WITHIN / 2)
            connection.sendall(b"cd")
            assert read(connection, answers=1).statuses == [200]
        connection.sendall(b"POST /")
        began = time.monotonic()
        got = read(connection)
    assert got.statuses == [408]
    assert HEAD_WITHIN - 0.1 <= time.monotonic() - began < HEAD_WITHIN + 2


def test_an_answer_may_take_longer_than_the_deadlines(hasty: Toy) -> None:
    """The deadlines are the client's: neither the running request nor the half one behind it is cut."""
    with hasty.connect() as connection:
        connection.sendall(head(line=f"GET /slow?{BODY_WITHIN + 0.5} HTTP/1.1") + b"POST /half HTTP/1.1\r\n")
        assert read(connection, answers=1).statuses == [200]
        connection.sendall(b"Host: outdial.test\r\n\r\n")
        assert read(connection, answers=1).statuses == [200]


def test_a_client_that_does_not_read_is_cut_off(hasty: Toy) -> None:
    """The answer waits for it a bounded time only, and so does what makes the answer."""
    before = len(hasty.seen())
    with hasty.connect() as connection:
        connection.sendall(head(line="GET /big?400 HTTP/1.1"))
        assert hasty.seen_since(before, least=2)[-1] == {"sent": "big"}
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 18):
                size += len(piece)
        assert size < 400 * 65536


def test_a_client_that_reads_gets_all_of_a_large_answer(hasty: Toy) -> None:
    got = ask_raw(hasty, head("Connection: close", line="GET /big?400 HTTP/1.1"))
    assert len(got.partition(b"\r\n\r\n")[2]) == 400 * 65536


def test_the_rest_of_an_unwanted_body_has_the_deadline_too(hasty: Toy) -> None:
    start = head("Content-Length: 1048577", line="POST /declared HTTP/1.1")
    with hasty.connect() as connection:
        connection.sendall(start)
        began = time.monotonic()
        assert send_until_refused(connection, b"a", most=100, every=0.05) < 100
        assert BODY_WITHIN - 0.1 <= time.monotonic() - began < BODY_WITHIN + 2


@pytest.mark.long
def test_the_deadlines_as_they_are_delivered(edge: Toy) -> None:
    """10 s for the head, 30 s for the whole request, 15 s between two; all at once."""
    slow = {
        edge.connect(): (b"POST / HTTP/1.1\r\nX: ", b"a", 10.0),
        edge.connect(): (head("Content-Length: 999"), b"a", 30.0),
        edge.connect(): (head(), b"", 15.0),
    }
    began = time.monotonic()
    ended: dict[socket.socket, float] = {}
    for connection, (start, _, _) in slow.items():
        connection.sendall(start)
    while len(ended) < len(slow) and time.monotonic() - began < 40:
        waiting = [connection for connection in slow if connection not in ended]
        for connection in select.select(waiting, [], [], 1.0)[0]:
            if not connection.recv(1 << 16):
                ended[connection] = time.monotonic() - began
        for connection in waiting:
            if connection not in ended and slow[connection][1]:
                connection.sendall(slow[connection][1])
    for connection, (_, _, within) in slow.items():
        assert within - 0.2 <= ended[connection] < within + 2
        connection.close()


# -- the end ---------------------------------------------------------------------------------------------


def test_the_end_finishes_what_runs_and_closes_what_is_idle(tmp_path: Path) -> None:
    """Running requests are answered, with Connection: close; idle connections end at once."""
    with toy(tmp_path) as running:
        idle, busy, half = running.connect(), running.connect(), running.connect()
        with idle, busy, half:
            idle.sendall(head())
            assert read(idle, answers=1).statuses == [200]
            busy.sendall(head(line="GET /slow?0.7 HTTP/1.1"))
            half.sendall(b"GET /half HTTP/1.1\r\n")
            running.seen_since(0, least=2)
            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert read(idle).closed
            assert time.monotonic() - began < 0.5
            with pytest.raises(ConnectionRefusedError):
                running.connect()
            half.sendall(b"Host: outdial.test\r\n\r\n")
            for connection in (busy, half):
                got = read(connection)
                assert (got.statuses, got.closed) == ([200], True)
                assert got.answers[0][1]["connection"] == "close"
        assert running.process.wait(timeout=WITHIN) == 0
        assert running.seen()[-1] == {"ended": True}


def test_the_end_does_not_wait_longer_than_its_grace(tmp_path: Path) -> None:
    """The toy has 2 s of grace: what is not answered then is cut off without an answer."""
    with toy(tmp_path) as running, running.connect() as busy:
        busy.sendall(head(line="GET /slow?60 HTTP/1.1"))
        running.seen_since(0, least=1)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        got = read(busy)
        assert (got.raw, got.closed) == (b"", True)
        assert running.process.wait(timeout=WITHIN) == 0
        assert 1.9 < time.monotonic() - began < 5


# -- the listening socket --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_a_loopback_address_is_listened_on(host: str) -> None:
    try:
        listener = listening_socket(host, 0)
    except SettingError:
        if ":" in host and not _has_ipv6():
            pytest.skip("no IPv6 on this machine")
        raise
    with listener:
        assert listener.getsockname()[1] > 0
        assert os.get_inheritable(listener.fileno())


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("192.0.2.1", 0, r"cannot listen on 192\.0\.2\.1 port 0: "),
        ("::1%lo", 0, "must be without a zone"),
        ("outdial.test", 0, "address 'outdial.test': must be an IP address or localhost"),
        ("", 0, "must be an IP address or localhost"),
        ("127.0.0.1", 65536, "port 65536: must be 0 to 65535"),
        ("127.0.0.1", -1, "port -1: must be 0 to 65535"),
    ],
)
def test_another_address_is_refused_by_name(host: str, port: int, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        listening_socket(host, port)


def test_a_taken_port_is_named() -> None:
    with listening_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingError, match=rf"127\.0\.0\.1 port {port}: another process listens there"):
            listening_socket("127.0.0.1", port)


# -- read_body -------------------------------------------------------------------------------------------


def messages(*said: Message) -> Callable[[], Any]:
    left = list(said)

    async def receive() -> Message:
        return left.pop(0)

    return receive


def piece(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_one() -> None:
    receive = messages(piece(b"ab", more=True), piece(b"", more=True), piece(b"c", more=False))
    assert await read_body(receive, 3) == b"abc"


async def test_a_disconnect_is_an_error_at_every_place() -> None:
    gone: Message = {"type": "http.disconnect"}
    for before in ([], [piece(b"ab", more=True)], [piece(b"", more=True)]):
        with pytest.raises(Disconnected):
            await read_body(messages(*before, gone), 10)


async def test_the_limit_is_exact_and_judged_before_the_rest_is_asked_for() -> None:
    for said in ([piece(b"abcd", more=False)], [piece(b"ab", more=True), piece(b"cd", more=True)]):
        with pytest.raises(BodyTooLarge):
            await read_body(messages(*said), 3)
    with pytest.raises(BodyTooLarge):
        await read_body(messages(), 3, [(b"content-length", b"4")])
    assert EdgeLimits().drain_bytes == 2 << 20
