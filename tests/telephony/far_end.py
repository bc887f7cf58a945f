"""A SIP far end as a process, with its own log: the witness of what was really called.

    python far_end.py --port PORT --log FILE [--transport tcp] [--ring S] [--talk S] [--late S] [--give-up S]

The last two digits of the number decide, as at the simulated carrier (`outdial.switch.script`); four more
are known here: 12 says nothing for `late` seconds, then 503; 13 rings for `late` seconds whatever a CANCEL
says, then it answers; 14 is a call of which the caller never hears, and that ends after `late` seconds; 15
says nothing for `late` seconds, then it asks for credentials, and takes any.

The log has that carrier's format, so the same proofs read it; its `attempt` is what the Call-ID begins with,
its `connection` the port that the INVITE came from. Ends of calls are told apart by `by`: caller, callee,
nobody; and say what was heard: packets with a sound, the longest `gap` in seconds. What a call was is
forgotten `give_up` seconds after its end: the same INVITE is a new call then (RFC 3261 §17.2.1, timer H).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from outdial.sip.framing import Malformed, StreamParser
from outdial.sip.message import (
    Message,
    ParseError,
    Request,
    Response,
    parse,
    response_to,
)

REFUSALS = {
    "03": (486, "Busy Here"),
    "05": (404, "Not Found"),
    "06": (503, "Unavailable"),
    "09": (603, "Decline"),
}
SILENT, RINGS_ON = "10", "04"
REFUSES_LATE, ANSWERS_LATE, UNHEARD, ASKS_LATE = "12", "13", "14", "15"
CHALLENGE = ("WWW-Authenticate", 'Digest realm="far", nonce="1", qop="auth"')
UUID_LENGTH = 36
RTP_HEADER = 12


@dataclass(slots=True)
class Call:
    """One dialog or what may become one."""

    invite: Request
    address: Any
    attempt: str
    answer: Response | None = None
    acknowledged: bool = False
    answered: bool = False
    over: bool = False
    bye: Request | None = None
    bye_done: bool = False
    ear: Ear | None = None


class Ear(asyncio.DatagramProtocol):
    """Audio of a call, as it comes in: µ-law, whose silence is 0xFF."""

    def __init__(self) -> None:
        self.sounds = 0
        self.gap = 0.0
        self._last: float | None = None
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        now = time.monotonic()
        self.sounds += data[RTP_HEADER:].count(0xFF) < len(data) - RTP_HEADER
        if self._last is not None:
            self.gap = max(self.gap, now - self._last)
        self._last = now

    def heard(self) -> dict[str, Any]:
        return {"sounds": self.sounds, "gap": round(self.gap, 3)}


class FarEnd(asyncio.DatagramProtocol):
    """Answers calls by their numbers."""

    def __init__(self, log: str, ring: float, talk: float, late: float, give_up: float) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._ring, self._talk, self._late, self._give_up = ring, talk, late, give_up
        self._calls: dict[str, Call] = {}
        self._transport: asyncio.DatagramTransport
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.write(event="listening", pid=os.getpid())

    def write(self, **line: Any) -> None:
        at = datetime.now(UTC).isoformat()
        os.write(self._log, json.dumps({"at": at, **line}).encode() + b"\n")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            self.received(parse(data), addr)
        except ParseError:
            self.write(event="malformed")

    def received(self, message: Message, addr: Any) -> None:
        if isinstance(message, Request):
            self._request(message, addr)
        elif (
            (call := self._calls.get(message.call_id)) and message.cseq[1] == "BYE" and message.status >= 200
        ):
            call.bye_done = True

    def send(self, message: Message, address: Any) -> None:
        if not isinstance(address, asyncio.Transport):
            self._transport.sendto(message.to_bytes(), address)
        elif not address.is_closing():  # who called is gone, and does not listen
            address.write(message.to_bytes())

    # -- requests --------------------------------------------------------------------------------------

    def _request(self, request: Request, address: Any) -> None:
        call = self._calls.get(request.call_id)
        match request.method:
            case "INVITE":
                self._invite(request, call, address)
            case "ACK":
                if call is not None:
                    call.acknowledged = True
            case "CANCEL":
                self._cancel(request, call, address)
            case "BYE":
                self.send(response_to(request, 200 if call else 481, "OK" if call else "Gone"), address)
                if call is not None:
                    self.write(order="hang_up", attempt=call.attempt, connection=_port(address))
                    self._end(call, "caller")
            case "OPTIONS":
                self.send(response_to(request, 200, "OK", to_tag="far"), address)
            case _:
                self.send(response_to(request, 501, "Not Implemented", to_tag="far"), address)

    def _invite(self, request: Request, call: Call | None, address: Any) -> None:
        if call is not None and _same_transaction(call.invite, request):
            if call.answer is not None and not call.acknowledged:
                self.send(call.answer, address)
            return
        called = request.uri.partition(":")[2].partition("@")[0]
        attempt = request.call_id[:UUID_LENGTH]
        # A second INVITE of the same attempt is a second order, whatever its Call-ID.
        self.write(
            order="originate",
            attempt=attempt,
            called=called,
            call=request.call_id,
            connection=_port(address),
        )
        call = self._calls[request.call_id] = Call(request, address, attempt)
        self._start(self._play(call, called[-2:]))

    def _cancel(self, request: Request, call: Call | None, address: Any) -> None:
        mine = call is not None and _same_transaction(call.invite, request)
        self.send(response_to(request, 200 if mine else 481, "OK" if mine else "Gone", to_tag="far"), address)
        if call is None or not mine:
            return
        self.write(order="hang_up", attempt=call.attempt, connection=_port(address))
        called = call.invite.uri.partition(":")[2].partition("@")[0]
        if called[-2:] not in (ANSWERS_LATE, UNHEARD) and (call.answer is None or call.answer.status < 200):
            self._start(self._finally(call, 487, "Request Terminated"))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- how calls go ----------------------------------------------------------------------------------

    async def _play(self, call: Call, ending: str) -> None:
        if ending == SILENT:
            return
        if ending in REFUSALS:
            await self._finally(call, *REFUSALS[ending])
            return
        if ending == REFUSES_LATE:
            await asyncio.sleep(self._late)
            if not call.over:
                await self._finally(call, 503, "Unavailable")
            return
        if ending == ASKS_LATE and not call.invite.get("Authorization"):
            await asyncio.sleep(self._late)
            if not call.over:
                await self._finally(call, 401, "Unauthorized", CHALLENGE)
            return
        if ending == UNHEARD:
            await asyncio.sleep(self._late)
            self._end(call, "callee")
            return
        ringing = response_to(call.invite, 180, "Ringing", to_tag="far", headers=self._contact(call))
        self._answer(call, ringing)
        await asyncio.sleep(self._late if ending == ANSWERS_LATE else self._ring)
        if ending == RINGS_ON or call.over or call.answer is None or call.answer.status >= 200:
            return
        call.answered = True
        await self._accept(call)
        while not call.acknowledged and not call.over:  # no BYE before the ACK (RFC 3261 §15)
            await asyncio.sleep(0.01)
        if not call.over:
            await asyncio.sleep(1.0 if ending == "08" else self._talk)
        if not call.over:
            await self._hang_up(call)

    def _at(self, call: Call) -> tuple[str, int]:
        """Our address, as the caller sees it."""
        way = call.address if isinstance(call.address, asyncio.Transport) else self._transport
        host, port = way.get_extra_info("sockname")[:2]
        return host, port

    def _contact(self, call: Call) -> list[tuple[str, str]]:
        host, port = self._at(call)
        over = ";transport=tcp" if isinstance(call.address, asyncio.Transport) else ""
        return [("Contact", f"<sip:far@{bracketed(host)}:{port}{over}>")]

    def _answer(self, call: Call, response: Response) -> None:
        call.answer = response
        self.send(response, call.address)

    async def _repeat(self, message: Message, address: Any, done: Any) -> bool:
        """Send until it is done; False when it never is."""
        wait, waited = 0.5, 0.0
        while waited < self._give_up:
            self.send(message, address)
            await asyncio.sleep(wait)
            if done():
                return True
            waited, wait = waited + wait, min(2 * wait, 4.0)
        return False

    async def _accept(self, call: Call) -> None:
        host, _ = self._at(call)
        at = f"IN IP{6 if ':' in host else 4} {host}"
        loop = asyncio.get_running_loop()
        _, call.ear = await loop.create_datagram_endpoint(Ear, local_addr=(host, 0))
        port = call.ear.transport.get_extra_info("sockname")[1]
        sdp = f"v=0\r\no=far 1 1 {at}\r\ns=-\r\nc={at}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        headers = [*self._contact(call), ("Content-Type", "application/sdp")]
        call.answer = response_to(call.invite, 200, "OK", to_tag="far", headers=headers, body=sdp.encode())
        self.write(event="answered", attempt=call.attempt)
        self._start(self._until_acknowledged(call))

    async def _until_acknowledged(self, call: Call) -> None:
        """Without an ACK in time the call is over (§13.3.1.4)."""
        assert call.answer is not None
        if not await self._repeat(call.answer, call.address, lambda: call.acknowledged or call.over):
            self._end(call, "nobody")

    async def _finally(self, call: Call, status: int, reason: str, *headers: tuple[str, str]) -> None:
        call.answer = response_to(call.invite, status, reason, to_tag="far", headers=headers)
        self._end(call, "caller" if status == 487 else "callee")
        await self._repeat(call.answer, call.address, lambda: call.acknowledged)

    async def _hang_up(self, call: Call) -> None:
        invite = call.invite
        host, port = self._at(call)
        contact = invite.contact
        assert contact is not None
        headers = [
            ("Via", f"SIP/2.0/{invite.via.transport} {bracketed(host)}:{port};branch=z9hG4bKfar{id(call):x}"),
            ("From", f"{invite.get('To')};tag=far"),
            ("To", invite.get("From") or ""),
            ("Call-ID", invite.call_id),
            ("CSeq", "1 BYE"),
            ("Max-Forwards", "70"),
        ]
        call.bye = Request("BYE", str(contact.uri), headers)
        self._end(call, "callee")
        await self._repeat(call.bye, call.address, lambda: call.bye_done)

    def _end(self, call: Call, by: str) -> None:
        if not call.over:
            call.over = True
            heard = call.ear.heard() if call.ear is not None else {}
            self.write(event="ended", attempt=call.attempt, by=by, answered=call.answered, **heard)
            if call.ear is not None:
                call.ear.transport.close()
            self._start(self._forget(call))

    async def _forget(self, call: Call) -> None:
        await asyncio.sleep(self._give_up)
        self._calls.pop(call.invite.call_id, None)


class Connection(asyncio.Protocol):
    """A connection of a caller over TCP."""

    transport: asyncio.Transport

    def __init__(self, far_end: FarEnd) -> None:
        self._far_end = far_end
        self._parser = StreamParser()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._parser.feed(data):
            assert not isinstance(message, Malformed)
            self._far_end.received(message, self.transport)


def _port(address: Any) -> int:
    """The port of who sent."""
    of = address.get_extra_info("peername") if isinstance(address, asyncio.Transport) else address
    return int(of[1])


def _same_transaction(invite: Request, other: Request) -> bool:
    """By branch and sent-by (RFC 3261 §17.2.3)."""
    mine, theirs = invite.via, other.via
    return (mine.branch, mine.host, mine.port) == (theirs.branch, theirs.host, theirs.port)


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--log", required=True)
    options.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    options.add_argument("--ring", type=float, default=0.1)
    options.add_argument("--talk", type=float, default=0.3)
    options.add_argument("--late", type=float, default=2.0)
    options.add_argument("--give-up", type=float, default=32.0)
    given = options.parse_args()
    loop, address = asyncio.get_running_loop(), (given.host, given.port)
    far_end = FarEnd(given.log, given.ring, given.talk, given.late, given.give_up)
    if given.transport == "udp":
        await loop.create_datagram_endpoint(lambda: far_end, local_addr=address)
    else:
        await loop.create_server(lambda: Connection(far_end), *address)
        far_end.write(event="listening", pid=os.getpid())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
