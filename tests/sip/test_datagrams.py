"""UDP sockets of the user agent: what comes is heard in its order, and an error deafens nobody."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from outdial.sip.datagrams import Datagrams
from outdial.sip.words import Hop

MANY = 200


class Heard:
    """Sockets under test, one that sends to them, and what came."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self.datagrams = Datagrams(self._hear, self.counts)
        self.datagrams.bind("127.0.0.1", 0)
        self.address = self.datagrams.bound[socket.AF_INET]
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))

    def _hear(self, data: bytes, source: Hop) -> None:
        assert source == Hop("udp", *self.sock.getsockname())
        self.data.append(data)
        if data == b"fails":
            raise ValueError("of the test")
        if data == b"last":
            self.datagrams.close()

    def send(self, *data: bytes) -> None:
        for one in data:
            self.sock.sendto(one, self.address)

    async def until(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.data) < number:
                await asyncio.sleep(0)


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    one = Heard()
    yield one
    one.datagrams.close()
    one.sock.close()


async def test_all_of_a_burst_are_heard_in_their_order(heard: Heard) -> None:
    sent = [b"datagram %d" % nth for nth in range(MANY)]
    heard.send(*sent)
    await heard.until(MANY)
    assert heard.data == sent


async def test_an_error_about_one_does_not_make_us_deaf(heard: Heard) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    heard.send(b"fails", b"datagram")
    await heard.until(2)
    assert len(errors) == 1


async def test_a_socket_that_is_closed_in_a_burst_is_read_no_more(heard: Heard) -> None:
    heard.send(b"datagram", b"last", b"too late")
    await heard.until(2)
    await asyncio.sleep(0.01)
    assert heard.data == [b"datagram", b"last"]
    assert not heard.counts


async def test_keep_alives_are_passed_over(heard: Heard) -> None:
    """RFC 5626 §3.5.1, and what some gateways send in its place."""
    heard.send(b"", b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"datagram")
    await heard.until(1)
    assert heard.data == [b"datagram"]


async def test_where_no_socket_is_bound_nothing_can_be_sent(heard: Heard) -> None:
    assert "127.0.0.1" in heard.datagrams
    assert "::1" not in heard.datagrams
    assert heard.datagrams.families == ("A",)
    with pytest.raises(OSError, match="no socket of this family"):
        heard.datagrams.send(b"datagram", "::1", 5060)
