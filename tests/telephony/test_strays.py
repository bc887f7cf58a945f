"""What a dead engine left may speak as soon as the next one is there."""

from __future__ import annotations

import asyncio
import socket

from caller import Caller, trunk_to

from outdial.sip.message import Request, parse

ANSWER = """SIP/2.0 200 OK
Via: SIP/2.0/UDP 127.0.0.1:{ours};branch=z9hG4bKbefore1
From: <sip:100@127.0.0.1>;tag=before
To: <sip:80001@127.0.0.1>;tag=far
Call-ID: before
CSeq: 1 INVITE
Contact: <sip:far@127.0.0.1:{theirs}>
Content-Length: 0

"""


async def test_an_answer_to_a_call_of_a_dead_engine_is_released_at_once() -> None:
    """It is repeated only after up to 4 s (T2), so the first must not be missed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.setblocking(False)
        theirs = far.getsockname()[1]
        async with Caller(trunk_to(theirs)) as caller:
            text = ANSWER.format(ours=caller.port, theirs=theirs).replace("\n", "\r\n")
            far.sendto(text.encode(), ("127.0.0.1", caller.port))
            heard = [await _request(far) for _ in range(2)]
    assert [(one.method, one.call_id) for one in heard] == [("ACK", "before"), ("BYE", "before")]


async def _request(sock: socket.socket) -> Request:
    async with asyncio.timeout(5):
        message = parse(await asyncio.get_running_loop().sock_recv(sock, 65535))
    assert isinstance(message, Request)
    return message
