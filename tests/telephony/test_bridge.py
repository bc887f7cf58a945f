"""Answered calls that are joined with a second leg: sipp signals both, sockets of ours are their audio."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, trunk_to
from sipp import ANSWER, END, Sipp, bye, pause, recv, refuse, send
from test_transfer import TARGET, calling, transfer_of

from outdial.errors import CommitUnknown, StoreUnavailable
from outdial.g711 import ALAW_TO_ULAW, ULAW_TO_ALAW
from outdial.model import Answered, Disposition, Ended, HungUpBy, Originate, Ringing, Transferring

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

TONE = bytes(range(16, 176))
"""A frame of µ-law that is no silence."""


class Audio:
    """A far end's RTP socket: keeps the payloads by their type, and sends to whoever sent first."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self.got: list[tuple[int, bool, int, bytes]] = []
        self._peer: Any = None
        self._sequence = 0
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        data, self._peer = self._socket.recvfrom(2048)
        _, kind, _, timestamp, _ = struct.unpack_from("!BBHII", data)
        self.got.append((kind & 127, kind > 127, timestamp, data[12:]))

    def send(self, payload: bytes, kind: int, *, timestamp: int | None = None, marker: bool = False) -> None:
        self._sequence += 1
        at = self._sequence * 160 if timestamp is None else timestamp
        head = struct.pack("!BBHII", 0x80, kind | (128 if marker else 0), self._sequence, at, 7)
        if self._peer is not None:
            self._socket.sendto(head + payload, self._peer)

    def heard(self, kind: int) -> list[bytes]:
        return [payload for got, _, _, payload in self.got if got == kind]

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


@pytest.fixture
async def audio() -> AsyncIterator[tuple[Audio, Audio]]:
    ends = Audio(), Audio()
    yield ends
    for one in ends:
        one.close()


Far = Callable[[list[str]], Sipp]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    """Starts far ends; each is ended by its own id."""
    started: list[Sipp] = []

    def start(steps: list[str]) -> Sipp:
        started.append(Sipp(tmp_path, steps=steps).start())
        return started[-1]

    yield start
    for one in started:
        one.end()


def answer(port: int, codec: str = "PCMU") -> list[str]:
    """As ANSWER, with the audio at this port."""
    ok = send("200 OK", audio=codec, retrans=True).replace("[media_port]", str(port))
    return [recv("INVITE", "From"), send("180 Ringing"), ok, recv("ACK", "To")]


def two_trunks(first: Sipp, second: Sipp) -> Caller:
    """The first call goes over the first, which then has no channel left; the second leg over the second."""
    return Caller(trunk_to(first.port, max_channels=1), trunk_to(second.port, name="two", position=2))


async def talk_until(caller: Caller, one: Audio, kind: int, holds: Callable[[], bool]) -> None:
    """Send a frame every 20 ms until something holds."""
    async with asyncio.timeout(10):
        while not holds():
            one.send(TONE if kind == 0 else TONE.translate(ULAW_TO_ALAW), kind)
            await asyncio.sleep(0.02)


async def test_both_sides_hear_each_other(far: Far, audio: tuple[Audio, Audio]) -> None:
    """µ-law on one side, A-law on the other; keys pass as telephone events; the target hangs up."""
    one, two = audio
    first = far([*answer(one.port), *END])
    second = far([*answer(two.port, "PCMA"), pause(2500), bye()])
    async with two_trunks(first, second) as caller:
        attempt = caller.place(device_sign=calling(caller, mode="bridge"))
        alaw = TONE.translate(ULAW_TO_ALAW)
        await talk_until(caller, one, 0, lambda: alaw in two.heard(8))
        await talk_until(caller, two, 8, lambda: alaw.translate(ALAW_TO_ULAW) in one.heard(0))
        begun, _ = transfer_of(caller)
        for n in (1, 2, 3, 4):
            one.send(struct.pack("!BBH", 5, 10, n * 160), 101, timestamp=99999, marker=n == 1)
        for _ in range(3):
            one.send(struct.pack("!BBH", 5, 0x8A, 640), 101, timestamp=99999)
        await caller.until(lambda: len(two.heard(101)) >= 6)
        presses = [got for got in two.got if got[0] == 101]
        assert [struct.unpack("!BBH", payload)[2] for *_, payload in presses] == [160, 320, 480, *[640] * 3]
        assert [marker for _, marker, _, _ in presses] == [True, *[False] * 5]
        assert len({timestamp for _, _, timestamp, _ in presses}) == 1
        ended = await caller.end_of(attempt)
        _, heard = transfer_of(caller)
    assert (first.result(), second.result()) == (0, 0), (first.said(), second.said())
    assert [type(event) for event in heard] == [Ringing, Answered, Ended]
    assert (heard[-1].answered, heard[-1].hung_up_by) == (True, HungUpBy.CALLEE)
    assert (heard[-1].record.trunk, heard[-1].record.keys) == ("two", "")
    assert heard[-1].record.rtp_received > 0
    assert (ended.answered, ended.hung_up_by, ended.cause) == (True, HungUpBy.CALLER, 16)
    assert ended.record is not None
    assert (ended.record.steps, ended.record.keys) == (("over",), "")
    assert begun.sent


async def test_the_callee_hangs_up_and_the_target_is_released(far: Far, audio: tuple[Audio, Audio]) -> None:
    one, two = audio
    first = far([*answer(one.port), pause(600), bye()])
    second = far([*answer(two.port), *END])
    async with two_trunks(first, second) as caller:
        ended = await caller.call(device_sign=calling(caller, mode="bridge"))
        await caller.until(lambda: not caller.switch._lines)
        await caller.until(lambda: any(isinstance(one, Ended) for one in transfer_of(caller)[1]))
        _, heard = transfer_of(caller)
    assert (first.result(), second.result()) == (0, 0), (first.said(), second.said())
    assert (ended.hung_up_by, heard[-1].hung_up_by) == (HungUpBy.CALLEE, HungUpBy.CALLER)


async def test_the_callee_hangs_up_while_the_target_rings(far: Far) -> None:
    """The second leg is cancelled."""
    first = far([*ANSWER, pause(400), bye()])
    second = far(
        [
            recv("INVITE", "Via", "CSeq"),
            send("180 Ringing"),
            recv("CANCEL"),
            send("200 OK", tagged=False),
            send("487 Request Terminated", via="Via:[$via]", cseq="CSeq:[$cseq]", retrans=True),
            recv("ACK"),
        ]
    )
    async with two_trunks(first, second) as caller:
        await caller.call(device_sign=calling(caller, mode="bridge"))
        await caller.until(lambda: not caller.switch._lines)
        await caller.until(lambda: any(isinstance(one, Ended) for one in transfer_of(caller)[1]))
        _, heard = transfer_of(caller)
    assert (first.result(), second.result()) == (0, 0), (first.said(), second.said())
    assert (heard[-1].answered, heard[-1].sip_status) == (False, 487)


@pytest.mark.parametrize(("status", "code"), [("486 Busy Here", 486), ("603 Decline", 603)])
async def test_a_target_that_refuses(far: Far, status: str, code: int) -> None:
    """The flow goes its `otherwise`."""
    first, second = far([*ANSWER, *END]), far(refuse(status))
    async with two_trunks(first, second) as caller:
        ended = await caller.call(device_sign=calling(caller, mode="bridge"))
        _, heard = transfer_of(caller)
    assert (first.result(), second.result()) == (0, 0), (first.said(), second.said())
    assert [(one.answered, one.sip_status) for one in heard] == [(False, code)]
    assert ended.cause == 31


async def test_a_target_that_rings_too_long_is_given_up(far: Far) -> None:
    """The dialer hangs the transfer's attempt up; the callee is still ours."""
    first = far([*ANSWER, *END])
    second = far(
        [
            recv("INVITE", "Via", "CSeq"),
            send("180 Ringing"),
            recv("CANCEL"),
            send("200 OK", tagged=False),
            send("487 Request Terminated", via="Via:[$via]", cseq="CSeq:[$cseq]", retrans=True),
            recv("ACK"),
        ]
    )
    async with two_trunks(first, second) as caller:
        attempt = caller.place(device_sign=calling(caller, mode="bridge"))
        await caller.until(lambda: any(isinstance(one, Ringing) for one in caller.events[3:]))
        caller.switch.hang_up(transfer_of(caller)[0].attempt_id)
        ended = await caller.end_of(attempt)
    assert (first.result(), second.result()) == (0, 0), (first.said(), second.said())
    assert ended.cause == 31


async def test_a_second_leg_without_a_permission_or_a_way_out(far: Far) -> None:
    """Not allowed, refused by the store, no trunk with a channel, permitted too late: nothing is dialed."""
    for case in ("not allowed", "refused", "no channel", "late"):
        first = far([*ANSWER, *END])
        async with Caller(trunk_to(first.port, max_channels=2 if case == "late" else 1)) as caller:
            of = caller.trunking
            caller.delay = 1.0 if case == "late" else 0.0
            if case == "not allowed":
                caller.trunking = type(of)(of.trunks, of.groups, {1: frozenset({"8"})}, of.active)
                caller.switch._learn(caller.trunking)
            caller.intends = case != "refused"
            ended = await caller.call(device_sign=calling(caller, mode="bridge"))
            begun = [one.sent for one in caller.events if isinstance(one, Transferring)]
            assert not caller.switch._lines
        assert first.result() == 0, first.said()
        assert ended.cause == 31
        assert first.log().count("INVITE sip:") == 1
        assert begun == ([False] if case in ("no channel", "late") else [])
        assert caller.refused == [Disposition.NOT_ALLOWED if case == "not allowed" else None]


@pytest.mark.parametrize("mode", ["refer", "bridge"])
@pytest.mark.parametrize("fault", [StoreUnavailable("away"), CommitUnknown("away"), ValueError("a bug")])
async def test_a_store_that_is_away_permits_nothing(far: Far, mode: str, fault: Exception) -> None:
    """G6: whatever the fault, the flow goes its `otherwise`."""
    first = far([*ANSWER, *END])
    async with Caller(trunk_to(first.port)) as caller:

        async def away(order: Originate, refused: Disposition | None) -> None:
            raise fault

        object.__setattr__(caller.switch._facts, "intends", away)
        ended = await caller.call(device_sign=calling(caller, TARGET, mode=mode))
        assert not caller.switch._lines
    assert first.result() == 0, first.said()
    assert ended.cause == 31
