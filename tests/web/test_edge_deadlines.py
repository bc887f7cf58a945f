"""The HTTP edge against clients that are slow, and its orderly end."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from edges import (
    CHUNKED,
    WITHIN,
    Read,
    Toy,
    ask_raw,
    envelope,
    head,
    parse,
    read,
    send_until_refused,
    toy,
)

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
