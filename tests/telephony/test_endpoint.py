"""The sockets of the user agent: IPv6, strangers, torture messages, and a life after each of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, trunk_to

from outdial.errors import CommitUnknown
from outdial.sip.endpoint import Endpoint
from outdial.sip.words import Hop
from ports import free_port

FAR_END = Path(__file__).parent / "far_end.py"
ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpora" / "sip-torture"
MESSAGES = 50

OPTIONS = (
    "OPTIONS sip:outdial@127.0.0.1 SIP/2.0\r\n"
    "Via: SIP/2.0/{transport} 127.0.0.1:{port};branch=z9hG4bK{n}\r\n"
    "From: <sip:far@127.0.0.1>;tag=f{n}\r\nTo: <sip:outdial@127.0.0.1>\r\nCall-ID: options-{n}\r\n"
    "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


def torture() -> list[Path]:
    """The messages of RFC 4475, counted."""
    if not CORPUS.is_dir():
        pytest.skip("../shared/corpora/sip-torture is not here")
    found = sorted(path for path in CORPUS.iterdir() if path.suffix != ".tsv")
    assert len(found) == MESSAGES
    return found


# -- IPv6 --------------------------------------------------------------------------------------------------


@pytest.fixture
def far_v6(tmp_path: Path) -> Iterator[int]:
    """A far end on ::1; its port."""
    port, log = free_port(), tmp_path / "far.jsonl"
    command = [sys.executable, str(FAR_END), "--host", "::1", "--port", str(port), "--log", str(log)]
    process = subprocess.Popen(command)
    try:
        yield port
    finally:
        process.kill()
        process.wait(10)


async def test_a_call_over_ipv6(far_v6: int) -> None:
    """Brackets in Via, Contact and SDP: RFC 3261 §19.1.1, RFC 4566 §5.7."""
    trunk = trunk_to(far_v6, host="::1", timer_b=20)
    async with Caller(trunk, host="::1") as caller:
        ended = await caller.call("80001")
    assert ended.answered


# -- peers and strangers -----------------------------------------------------------------------------------


class Peer(asyncio.DatagramProtocol):
    """Sends to an endpoint and keeps what comes back."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.put_nowait(data)

    async def ask(self, n: int) -> bytes:
        """The answer to an OPTIONS; what else comes is passed over."""
        self.transport.sendto(OPTIONS.format(transport="UDP", port=self.port, n=n).encode())
        async with asyncio.timeout(1.0):
            while True:
                data = await self.heard.get()
                if f"Call-ID: options-{n}\r\n".encode() in data:
                    return data


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[Endpoint, int]]:
    port = free_port()
    one = Endpoint([("127.0.0.1", port)])
    await one.start()
    yield one, port
    await one.close()


@pytest.fixture
async def peer(endpoint: tuple[Endpoint, int]) -> AsyncIterator[Peer]:
    transport, one = await asyncio.get_running_loop().create_datagram_endpoint(
        Peer, remote_addr=("127.0.0.1", endpoint[1])
    )
    yield one
    transport.close()


async def test_a_peer_is_answered_and_a_stranger_is_not(endpoint: tuple[Endpoint, int], peer: Peer) -> None:
    """Nobody learns from outside that somebody speaks SIP here."""
    with pytest.raises(TimeoutError):
        await peer.ask(1)
    endpoint[0].know(["127.0.0.1"])
    assert (await peer.ask(2)).startswith(b"SIP/2.0 200 ")


@pytest.mark.parametrize(
    ("method", "to_tag", "status"),
    [
        ("INVITE", "", 405),
        ("REGISTER", "", 405),
        ("INVITE", ";tag=x", 481),
        ("BYE", ";tag=x", 481),
        ("CANCEL", "", 481),
    ],
)
async def test_requests_for_nothing_of_ours(
    endpoint: tuple[Endpoint, int], peer: Peer, method: str, to_tag: str, status: int
) -> None:
    """We take no calls: 405; what belongs to no dialog: 481 (RFC 3261 §12.2.2, §8.2.1)."""
    endpoint[0].know(["127.0.0.1"])
    text = OPTIONS.format(transport="UDP", port=peer.port, n=3).replace("OPTIONS", method)
    peer.transport.sendto(
        text.replace("To: <sip:outdial@127.0.0.1>", f"To: <sip:o@127.0.0.1>{to_tag}").encode()
    )
    async with asyncio.timeout(5):
        answer = await peer.heard.get()
    assert answer.startswith(f"SIP/2.0 {status} ".encode())


async def test_torture_over_udp(endpoint: tuple[Endpoint, int], peer: Peer) -> None:
    """After each message of RFC 4475 a valid OPTIONS is answered within a second."""
    endpoint[0].know(["127.0.0.1"])
    for n, path in enumerate(torture()):
        peer.transport.sendto(path.read_bytes())
        assert (await peer.ask(n)).startswith(b"SIP/2.0 200 "), path.name


async def test_torture_over_tcp_split_at_every_byte(endpoint: tuple[Endpoint, int]) -> None:
    """On one connection of ours the far end sends the message byte by byte; another is served meanwhile."""
    one, _ = endpoint
    one.know(["127.0.0.1"])
    corpus = torture()
    message, sent = b"", asyncio.Event()

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for at in range(len(message)):
                writer.write(message[at : at + 1])
                await writer.drain()
        sent.set()
        writer.close()

    async def sound(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sent.wait()
        writer.write(OPTIONS.format(transport="TCP", port=5060, n=1).encode())
        answers.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    answers: asyncio.Queue[bytes] = asyncio.Queue()
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (hostile, sound)]
    hops = [Hop("tcp", "127.0.0.1", server.sockets[0].getsockname()[1]) for server in servers]
    for path in corpus:
        message = path.read_bytes()
        sent.clear()
        for hop in hops:
            await one.connect(hop)
        await sent.wait()
        async with asyncio.timeout(1.0):
            assert (await answers.get()).startswith(b"SIP/2.0 200 "), path.name
        async with asyncio.timeout(5.0):
            while any(one.ready(hop) for hop in hops):  # the other end has closed it
                await asyncio.sleep(0.001)
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("failure", [CommitUnknown("the answer never came"), ValueError("a bug")])
async def test_a_failure_does_not_end_the_looks_at_the_trunks(failure: Exception) -> None:
    """Else a trunk that is removed would go on taking calls, and a new engine would never be connected."""
    async with Caller(trunk_to(free_port())) as caller:
        caller.count_fails = failure
        await caller.until(lambda: caller.count_fails is None)
        caller.trunking = replace(caller.trunking, trunks=())
        await caller.until(lambda: not caller.switch.trunks())


async def test_a_trunk_whose_announcement_failed_is_tried_again() -> None:
    """Whatever the store says: without the announcement no call may leave over it, now or ever."""
    caller = Caller(trunk_to(free_port()))
    caller.announcing_fails = CommitUnknown("the answer never came")
    async with caller:
        assert caller.announcing_fails is None
