"""How many connections a process takes, from one address and in all, and what becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import pytest
from edges import WITHIN, Toy, envelope, head, read, toy
from tlspair import blind, pair

from outdial.web.accepting import MOST, RESERVE, Places
from outdial.web.guard import Receive, Scope, Send
from outdial.web.server import listening_socket, serve

DESCRIPTORS = 256
TOTAL, EACH = 128, 32


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Toy]:
    """A server that may have 256 descriptors."""
    with toy(tmp_path, descriptors=DESCRIPTORS) as running:
        yield running


def served(connection: socket.socket) -> bool:
    connection.sendall(head())
    return read(connection, answers=1).statuses == [200]


def check_refused(connection: socket.socket, status: int) -> None:
    got = read(connection)
    assert (got.statuses, got.closed) == ([status], True)
    envelope(got.answers[0])
    assert got.answers[0][1]["retry-after"] == "1"


def becomes_free(running: Toy, source: str) -> None:
    """A new connection from there is served, soon."""
    deadline = time.monotonic() + WITHIN
    while True:
        with running.connect(source) as connection, contextlib.suppress(OSError):
            if served(connection):
                return
        assert time.monotonic() < deadline, "no place became free"
        time.sleep(0.02)


def test_no_address_takes_all_places(few: Toy) -> None:
    with ExitStack() as stack:
        greedy = [stack.enter_context(few.connect("127.0.0.2")) for _ in range(EACH)]
        for connection in greedy:
            assert served(connection)
        with few.connect("127.0.0.2") as one_more:
            check_refused(one_more, 429)
        with few.connect("127.0.0.3") as other:
            assert served(other)
        assert all(served(connection) for connection in greedy)
        greedy[0].close()
        becomes_free(few, "127.0.0.2")


def test_a_full_server_says_so_and_those_within_go_on(few: Toy) -> None:
    """A clear refusal, at once: those who have a connection are served as before."""
    with ExitStack() as stack:
        sources = [f"127.0.0.{2 + nth % 8}" for nth in range(TOTAL)]
        within = [stack.enter_context(few.connect(source)) for source in sources]
        assert all(served(connection) for connection in within)
        for _ in range(100):  # more than are given time to read; the server closes all of them
            with few.connect("127.0.0.99") as outside, contextlib.suppress(ConnectionResetError):
                outside.recv(1)
        time.sleep(2.2)  # until the last of those has had its time
        with few.connect("127.0.0.99") as outside:
            check_refused(outside, 503)
        assert all(served(connection) for connection in within)
        within[0].close()
        becomes_free(few, "127.0.0.99")


def test_a_process_without_descriptors_goes_on_and_takes_those_who_waited(few: Toy) -> None:
    """EMFILE in spite of all: nobody who is there is harmed, and nobody who waits is turned away."""
    with few.connect() as within:
        assert served(within)
        resource.prlimit(few.process.pid, resource.RLIMIT_NOFILE, (3, DESCRIPTORS))
        with few.connect() as waiting:
            waiting.sendall(head())
            began = time.monotonic()
            while time.monotonic() - began < 0.6:
                assert served(within)
            waiting.settimeout(0.05)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            resource.prlimit(few.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
            assert read(waiting, answers=1).statuses == [200]
    few.stop()
    assert 2 <= len(re.findall(r"accepts no connection.*Too many open files", few.said())) <= 10


def test_a_handshake_that_goes_on_has_a_place(tmp_path: Path) -> None:
    """Else whoever begins handshakes and never ends them could take every descriptor."""
    made = pair(tmp_path, "toy")
    files = (made.certificate, made.key)
    with toy(tmp_path, tls=files, descriptors=DESCRIPTORS, handshake=1.5) as running, ExitStack() as stack:
        silent = [stack.enter_context(running.connect("127.0.0.2")) for _ in range(EACH)]
        with running.connect("127.0.0.2") as one_more:
            assert one_more.recv(1) == b"", "closed without a word: it would have to be an encrypted one"
        assert silent[0].recv(1) == b"", "the handshake took too long"
        context = blind()
        deadline = time.monotonic() + WITHIN
        while True:
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(running.connect("127.0.0.2")) as connection,
            ):
                assert served(connection)
                break
            assert time.monotonic() < deadline, "the places of failed handshakes are lost"
            time.sleep(0.05)


def test_failed_handshakes_give_their_places_back(tmp_path: Path) -> None:
    made = pair(tmp_path, "toy")
    with toy(tmp_path, tls=(made.certificate, made.key), descriptors=DESCRIPTORS) as running:
        for nth in range(3 * EACH):
            with running.connect() as connection:
                connection.sendall((b"", b"GET / HTTP/1.1\r\n\r\n", bytes.fromhex("1603010005"))[nth % 3])
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                with blind().wrap_socket(running.connect()) as connection:
                    assert served(connection)
                    return
            except (OSError, ssl.SSLError):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def of_the_server(port: int) -> list[str]:
    """The states of its connections, as the kernel has them."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    found = [(int(line.split()[1].partition(":")[2], 16), line.split()[3]) for line in lines]
    return [state for local, state in found if local == port and state not in ("0A", "06")]


@pytest.mark.parametrize("size", [1, 2, 40])
def test_the_kernel_keeps_no_answer_that_is_never_taken(tmp_path: Path, size: int) -> None:
    """64 and 128 kB the kernel takes whole, and our part closes long before; 2.6 MB we wait with."""
    with toy(tmp_path, write=2.0, idle=0.5) as running, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", running.port))
        deaf.sendall(head(line=f"GET /big?{size} HTTP/1.1"))
        assert running.seen_since(0, least=1)
        assert of_the_server(running.port)
        deadline = time.monotonic() + 2.0 + 5.0 + WITHIN
        while of_the_server(running.port):
            assert time.monotonic() < deadline, of_the_server(running.port)
            time.sleep(0.05)


async def test_a_named_proxy_may_take_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks for many."""
    monkeypatch.setattr(
        Places, "of_process", lambda exempt: Places(total=6, each=2, exempt=exempt), raising=True
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def status(source: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writers.append(writer)
        writer.write(head())
        return (await asyncio.wait_for(reader.readline(), WITHIN)).decode().split()[1]

    stop, writers = asyncio.Event(), list[asyncio.StreamWriter]()
    sock = listening_socket("127.0.0.1", 0)
    port = sock.getsockname()[1]
    running = asyncio.create_task(serve(app, sock, stop=stop, grace=1, proxies=[ip_network("127.0.0.7")]))
    try:
        assert [await status("127.0.0.8") for _ in range(3)] == ["204", "204", "429"]
        assert [await status("127.0.0.7") for _ in range(5)] == ["204"] * 4 + ["503"]
    finally:
        for writer in writers:
            writer.close()
        stop.set()
        await running


def test_the_places_follow_the_limit_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised as far as the hard one allows; some are kept."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    for soft, hard, raised, total in (
        (1024, 4096, [(4096, 4096)], 4096 - RESERVE),
        (1024, 1 << 20, [(MOST + RESERVE, 1 << 20)], MOST),
        (1 << 20, 1 << 20, [], MOST),
        (200, 200, [], 100),
    ):
        limits.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=(soft, hard): found)
        assert Places.of_process() == Places(total, total // 4)
        assert limits == raised


def test_refused_connections_are_one_line_for_many(few: Toy) -> None:
    with ExitStack() as stack:
        for _ in range(EACH):
            assert served(stack.enter_context(few.connect("127.0.0.2")))
        for _ in range(40):
            with few.connect("127.0.0.2") as refused:
                check_refused(refused, 429)
    few.stop()
    assert few.said().count("connections refused") == 1
