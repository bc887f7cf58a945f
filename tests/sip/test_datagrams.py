"""UDP sockets of the user agent: a few datagrams are heard at once, many in gulps, none is left lying."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from outdial.sip.datagrams import GULP, Datagrams
from outdial.sip.words import Hop

MANY = 200


class Heard:
    """What came, and in how many turns of the loop."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.turns = 0
        self._known = False
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
        if not self._known:
            self.turns, self._known = self.turns + 1, True
            asyncio.get_running_loop().call_soon(self._turned)

    def _turned(self) -> None:
        self._known = False

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


async def hears_at_once(heard: Heard) -> bool:
    """Whether each of a few that come alone is heard as soon as the loop looks at its sockets."""
    for _ in range(5):
        known = len(heard.data)
        heard.send(b"alone")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if len(heard.data) == known:
            return False
    return True


async def test_one_is_heard_without_a_wait(heard: Heard) -> None:
    assert await hears_at_once(heard)


async def flood(heard: Heard) -> list[bytes]:
    """So many, one in each turn of the loop; what was sent."""
    sent = [b"datagram %d" % nth for nth in range(MANY)]
    for one in sent:
        heard.send(one)
        await asyncio.sleep(0)
    return sent


async def test_many_are_heard_in_gulps_all_and_in_their_order(heard: Heard) -> None:
    sent = await flood(heard)
    await heard.until(MANY)
    assert heard.data == sent
    assert not await hears_at_once(heard)
    assert heard.turns <= MANY / 3, f"{heard.turns} turns for {MANY} datagrams: each wakes us"


async def test_after_a_flood_one_is_heard_without_a_wait_again(heard: Heard) -> None:
    await flood(heard)
    await heard.until(MANY)
    async with asyncio.timeout(10):
        while not await hears_at_once(heard):
            await asyncio.sleep(10 * GULP)


async def test_an_error_in_a_flood_does_not_make_us_deaf(heard: Heard) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    await flood(heard)
    await heard.until(MANY)
    heard.send(b"fails", b"datagram")
    await heard.until(MANY + 2)
    assert len(errors) == 1


async def test_a_socket_closed_during_a_flood_is_read_no_more(heard: Heard) -> None:
    await flood(heard)
    known = len(heard.data)
    heard.datagrams.close()
    await asyncio.sleep(3 * GULP)
    assert len(heard.data) == known
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
