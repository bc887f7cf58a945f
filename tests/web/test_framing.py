"""R14: streams with a mistake in them are read as a strict reader reads them, or refused; never as more."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from edges import Toy, head, toy

SEED = 20261125

INNER = head(line="GET /inner HTTP/1.1")
CHUNKED = "Transfer-Encoding: chunked"
STREAMS = (
    head(f"Content-Length: {len(INNER)}", line="POST /length HTTP/1.1") + INNER,
    head(CHUNKED, line="POST /chunks HTTP/1.1")
    + b"%x\r\n%s\r\n3;a=b\r\nabc\r\n0\r\n\r\n" % (len(INNER), INNER),
    head("Content-Length: 3", line="POST /first HTTP/1.1") + b"abc" + head(line="GET /next HTTP/1.1"),
    head(CHUNKED, line="POST /trailer HTTP/1.1") + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n" + INNER,
)
"""Each sound; in some a request stands inside a body."""

ODD = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"f",
    b"\x0b",
    b"\xa0",
    b"-",
    b"+",
)
LINES = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 03, 3",
    b" folded",
    b"Host: other.test",
)


def mutated(chance: random.Random) -> bytes:
    """A stream with one to three mistakes."""
    data = chance.choice(STREAMS)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = chance.choice((_inserted, _deleted, _replaced, _doubled, _new_line, _no_return))(data, chance)
    return data


def _inserted(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(ODD) + data[at:]


def _deleted(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) - 1)
    return data[:at] + data[at + 1 :]


def _replaced(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(ODD) + data[at + 1 :]


def _doubled(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    at = chance.randrange(len(lines))
    return b"\r\n".join([*lines[:at], lines[at], *lines[at:]])


def _new_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    at = chance.randrange(1, min(4, len(lines)))
    return b"\r\n".join([*lines[:at], chance.choice(LINES), *lines[at:]])


def _no_return(data: bytes, chance: random.Random) -> bytes:
    ends = [found.start() for found in re.finditer(b"\r\n", data)]
    at = chance.choice(ends)
    return data[:at] + data[at + 1 :]


# -- the strict reading ------------------------------------------------------------------------------------

_LINE = re.compile(rb"[A-Z]+ +(/[\x21-\x7e]*) +HTTP/1\.([01])")  # several spaces may be one (RFC 9112 §3)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(;[^\r\n\0]*)?\r\n")


def reading(data: bytes) -> list[tuple[str, bytes]]:
    """Targets and bodies of the whole requests, up to the first that is none (RFC 9112)."""
    found: list[tuple[str, bytes]] = []
    while (one := _one(data.lstrip(b"\r\n"))) is not None:
        target, body, data = one
        found.append((target, body))
    return found


def _one(data: bytes) -> tuple[str, bytes, bytes] | None:
    lines, end, rest = data.partition(b"\r\n\r\n")
    line, *fields = lines.split(b"\r\n")
    if not end or (begins := _LINE.fullmatch(line)) is None:
        return None
    named = [_FIELD.fullmatch(one) for one in fields]
    if any(one is None for one in named):
        return None
    values = [(one[1].lower(), one[2]) for one in named if one is not None]
    codings = [value for name, value in values if name == b"transfer-encoding"]
    lengths = [value for name, value in values if name == b"content-length"]
    framed = None
    if codings:
        if codings[0].lower() == b"chunked" and not lengths and len(codings) == 1 and begins[2] == b"1":
            framed = _chunks(rest)
    elif not lengths:
        framed = (b"", rest)
    elif len(lengths) == 1 and lengths[0].isdigit() and len(rest) >= (size := int(lengths[0])):
        framed = (rest[:size], rest[size:])
    return None if framed is None else (begins[1].decode(), *framed)


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while (line := _CHUNK.match(rest)) is not None:
        size, rest = int(line[1], 16), rest[line.end() :]
        if size == 0:
            trailer, end, after = (b"\r\n" + rest).partition(b"\r\n\r\n")
            sound = all(_FIELD.fullmatch(one) for one in trailer.split(b"\r\n")[1:])
            return (body, after) if end and sound else None
        if rest[size : size + 2] != b"\r\n":
            return None
        body, rest = body + rest[:size], rest[size + 2 :]
    return None


# -- against the server ------------------------------------------------------------------------------------


def another(running: Toy, used: Collection[int]) -> socket.socket:
    """A connection from a port that none before it came from."""
    while (made := running.connect()).getsockname()[1] in used:
        made.close()
    return made


def send_all(running: Toy, streams: Sequence[bytes], at_once: int = 50) -> dict[int, bytes]:
    """Send each over a connection of its own; the streams by the ports that they came from."""
    ports: dict[int, bytes] = {}
    for start in range(0, len(streams), at_once):
        open_ = {another(running, ports): one for one in streams[start : start + at_once]}
        for connection, stream in open_.items():
            ports[connection.getsockname()[1]] = stream
            with contextlib.suppress(OSError):
                connection.sendall(stream)
        listening = set(open_)
        while ready := select.select(list(listening), [], [], 0.3)[0]:
            for connection in ready:
                with contextlib.suppress(ConnectionResetError):
                    if connection.recv(1 << 16):
                        continue
                listening.discard(connection)
        for connection in open_:
            connection.close()
    return ports


def judge(running: Toy, number: int) -> str:
    """Send mutated streams; what was seen is a beginning of the strict reading. One line of counts."""
    chance = random.Random(SEED)
    streams = [*STREAMS * 3, *(mutated(chance) for _ in range(number))]
    ports = send_all(running, streams)
    time.sleep(0.2)
    seen: dict[int, list[tuple[str, bytes]]] = {}
    for one in running.seen():
        if "cut" not in one:
            target = one["path"] + ("?" + one["query"] if one.get("query") else "")
            seen.setdefault(one["client"], []).append((target, one["body"].encode("latin-1")))
    counts: Counter[str] = Counter()
    for port, stream in ports.items():
        meant = [(target.removesuffix("?"), body[:64]) for target, body in reading(stream)]
        got = [(target, body[:64]) for target, body in seen.get(port, [])]
        assert got == meant[: len(got)], f"seed {SEED}: {stream!r} is {meant}, and was seen as {got}"
        counts["whole" if len(got) == len(meant) else "refused"] += bool(meant) or bool(got)
        counts["nothing"] += not meant and not got
    line = f"seed {SEED}: {len(streams)} streams: {dict(counts)}"
    assert counts["whole"] >= 0.1 * len(streams), line
    assert counts["nothing"] >= 0.1 * len(streams), line
    return line


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Toy]:
    with toy(tmp_path) as running:
        yield running


def test_the_sound_streams_are_read_whole() -> None:
    """The reading itself: what is sound is one or two requests, and what stands in a body is none."""
    assert [[target for target, _ in reading(stream)] for stream in STREAMS] == [
        ["/length"],
        ["/chunks"],
        ["/first", "/next"],
        ["/trailer", "/inner"],
    ]
    assert reading(STREAMS[1])[0][1] == INNER + b"abc"


def test_mutated_streams_are_never_seen_as_more_than_they_are(edge: Toy) -> None:
    print(judge(edge, 300))


@pytest.mark.long
def test_many_mutated_streams(edge: Toy) -> None:
    print(judge(edge, 10_000))


def test_a_lenient_server_fails(tmp_path: Path) -> None:
    """The proof can fail: a server that believes everything sees the request inside the body."""
    with toy(tmp_path, kind="lenient") as lenient, pytest.raises(AssertionError, match="was seen as"):
        judge(lenient, 0)
