"""Conversations with a SIP call, with explicit times.

    talk.start()
    invite = talk.sends("INVITE")
    talk.at(0.2).answer(invite, 180, tag="far")
    assert talk.tells() == Progress(180)

Everything that a call sends or tells must be looked at: going on, and `quiet`, fail on what was not.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any
from uuid import UUID

from outdial.sip import sdp
from outdial.sip.call import Call
from outdial.sip.dialog import spec_ids
from outdial.sip.message import Request, Response, parse, response_to
from outdial.sip.words import Accepted, CallSpec, Effect, Hop, Transmit

HOP = Hop("udp", "192.0.2.1", 5060)
TCP = Hop("tcp", "192.0.2.1", 5060)
OFFER = sdp.offer(address="198.51.100.7", port=4000, session_id=77, version=1)
THEIRS = sdp.offer(address="192.0.2.1", port=6000, session_id=5, version=1, codecs=("PCMA",))
ATTEMPT = UUID("00000000-0000-4000-8000-000000000001")

REASONS = {200: "OK", 486: "Busy Here", 487: "Request Terminated"}


def spec(**changes: Any) -> CallSpec:
    """A call to 80001 over a trunk by UDP, without session timer."""
    call_id, from_tag, branch = spec_ids(ATTEMPT, "trunk-1")
    facts: dict[str, Any] = {
        "call_id": call_id,
        "from_tag": from_tag,
        "branch": branch,
        "hop": HOP,
        "request_uri": "sip:80001@192.0.2.1",
        "from_uri": "sip:10086@outdial.example",
        "to_uri": "sip:80001@192.0.2.1",
        "contact": "sip:outdial@198.51.100.7:5060",
        "via": "198.51.100.7:5060",
        "offer": OFFER,
        "session_expires": 0,
    }
    return CallSpec(**{**facts, **changes})


class Talk:
    """A call, the time, and what it did that nobody has looked at yet."""

    def __init__(self, call: Call | None = None, **changes: Any) -> None:
        self.now = 0.0
        self.call = call or Call(spec(**changes), random=Random(1))
        self.sent: deque[tuple[float, Request | Response, Hop]] = deque()
        self.told: deque[Effect] = deque()
        self.hop: Hop | None = None
        self.cseq = 100

    # -- the world ---------------------------------------------------------------------------------------

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self.sent.append((self.now, parse(effect.data), effect.hop))
            else:
                self.told.append(effect)

    def run(self, seconds: float) -> Talk:
        """Let the time pass from one timer to the next; look at what happened afterwards."""
        end = self.now + seconds
        for _ in range(10_000):
            wake = self.call.wake_at()
            if wake is None or wake > end:
                break
            self.now = max(self.now, wake)
            self.take(self.call.poll(self.now))
        else:
            raise AssertionError("the call never comes to rest")
        self.now = end
        return self

    def at(self, moment: float) -> Talk:
        """Go to a moment; nothing may happen on the way."""
        self.quiet()
        self.run(moment - self.now)
        return self.quiet()

    def start(self) -> Request:
        self.take(self.call.start(self.now))
        return self.sends("INVITE")

    def cancel(self) -> Talk:
        self.take(self.call.cancel(self.now))
        return self

    def hang_up(self, cause: int | None = None) -> Talk:
        self.take(self.call.hang_up(self.now, cause))
        return self

    def acknowledge(self) -> Talk:
        self.take(self.call.acknowledge(self.now))
        return self

    def receive(self, message: Request | Response, source: Hop | None = None) -> Talk:
        self.take(self.call.receive(parse(message.to_bytes()), self.now, source))
        return self

    def answer(
        self,
        request: Request,
        status: int,
        *headers: tuple[str, str],
        tag: str | None = None,
        body: bytes = b"",
    ) -> Talk:
        """The far end answers a request of ours."""
        reason = REASONS.get(status, "Reason")
        return self.receive(response_to(request, status, reason, to_tag=tag, headers=headers, body=body))

    def accept(self, invite: Request, *headers: tuple[str, str], tag: str = "far", **facts: Any) -> Talk:
        """The far end answers 200 with its Contact."""
        contact = facts.pop("contact", "<sip:far@192.0.2.9:5070>")
        body = facts.pop("body", THEIRS)
        return self.answer(invite, 200, ("Contact", contact), *headers, tag=tag, body=body)

    def connect(self, *headers: tuple[str, str], **facts: Any) -> Request:
        """From the INVITE to the ACK, which is returned."""
        self.accept(self.start(), *headers, **facts)
        assert isinstance(self.tells(), Accepted)
        self.acknowledge()
        return self.sends("ACK")

    def asks(
        self,
        method: str,
        *headers: tuple[str, str],
        body: bytes = b"",
        cseq: int | None = None,
        tag: str = "far",
        branch: str | None = None,
        local: str | None = None,
    ) -> Request:
        """A request of the far end within the dialog, handed in."""
        request = self.request(method, *headers, body=body, cseq=cseq, tag=tag, branch=branch, local=local)
        self.receive(request, Hop("udp", "192.0.2.44", 5099))
        return request

    def request(
        self,
        method: str,
        *headers: tuple[str, str],
        body: bytes = b"",
        cseq: int | None = None,
        tag: str = "far",
        branch: str | None = None,
        local: str | None = None,
    ) -> Request:
        if cseq is None:
            self.cseq += 1
        number = self.cseq if cseq is None else cseq
        ours = self.call.spec
        return Request(
            method,
            ours.contact,
            [
                ("Via", f"SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK{branch or f'far{number}{method}'}"),
                ("From", f"<{ours.to_uri}>;tag={tag}"),
                ("To", f"<{ours.from_uri}>;tag={ours.from_tag if local is None else local}"),
                ("Call-ID", ours.call_id),
                ("CSeq", f"{number} {method}"),
                ("Max-Forwards", "70"),
                *headers,
            ],
            body,
        )

    # -- what the call did -------------------------------------------------------------------------------

    def sends(self, method: str) -> Request:
        """The next message it sent is this request; `hop` says where to."""
        assert self.sent, f"it sent no {method}"
        _, message, self.hop = self.sent.popleft()
        assert isinstance(message, Request), message
        assert message.method == method, message.to_bytes()
        return message

    def says(self, status: int) -> Response:
        """The next message it sent is this response."""
        assert self.sent, f"it sent no {status}"
        _, message, self.hop = self.sent.popleft()
        assert isinstance(message, Response), message
        assert message.status == status, message.to_bytes()
        return message

    def resends(self, method: str) -> list[float]:
        """Everything it sent was this request; when."""
        times = [moment for moment, _, _ in self.sent]
        while self.sent:
            self.sends(method)
        return times

    def tells(self) -> Effect:
        """The next thing it told."""
        assert self.told, "it told nothing"
        return self.told.popleft()

    def quiet(self) -> Talk:
        """It did nothing that was not looked at."""
        assert not self.sent, [message for _, message, _ in self.sent]
        assert not self.told, list(self.told)
        return self

    def finishes(self, within: float) -> None:
        """Without another message it comes to its end in this time, and sends nothing on the way."""
        self.quiet()
        self.run(within).quiet()
        assert self.call.finished
        assert self.call.wake_at() is None
