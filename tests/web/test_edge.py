"""The HTTP edge against raw sockets: framing, bodies, refusals, faults; the toy records what it saw."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edges import CHUNKED, WITHIN, Toy, ask, ask_raw, envelope, head, parse, read, send_until_refused, toy

from outdial.web.guard import BodyTooLarge, Disconnected, Message, read_body
from outdial.web.server import EdgeLimits

# -- framing: the table of trust.md A.5, and its neighbours ----------------------------------------------

SECOND = head(line="GET /smuggled HTTP/1.1")

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
