"""A call that is told broken messages: it may refuse or ignore them, and never raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random

import pytest
from mutations import mutate
from sip_talk import HOP, THEIRS, Talk, spec

from outdial.sip.call import Call
from outdial.sip.message import ParseError, Request, parse, response_to
from outdial.sip.words import Credentials, Effect, Transmit

ROUTES = ("Record-Route", '"a" <sip:p1.example;lr>, <sip:192.0.2.7:5080;transport=tcp;lr>')
CHALLENGE = ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5')
FIELDS = (ROUTES, ("Allow", "INVITE, UPDATE"), ("Require", "timer"), ("Session-Expires", "90;refresher=uac"))


def answers(request: Request) -> Iterator[bytes]:
    """What a far end may answer."""
    for status in (100, 180, 183, 200, 200, 200, 302, 401, 407, 422, 486, 491):
        headers = [
            ("Contact", "<sip:far@192.0.2.9:5070;transport=udp>"),
            *FIELDS,
            CHALLENGE,
            ("Min-SE", "200"),
        ]
        headers += [("Reason", 'Q.850;cause=17;text="busy"'), ("Retry-After", "5 (no)")]
        yield response_to(request, status, "Reason", to_tag="far", headers=headers, body=THEIRS).to_bytes()


def asks(talk: Talk) -> Iterator[bytes]:
    """What a far end may ask."""
    sdp = ("Content-Type", "application/sdp")
    for method, kind in (
        ("INVITE", sdp),
        ("UPDATE", sdp),
        ("INFO", ("Content-Type", "application/dtmf-relay")),
    ):
        body = THEIRS if kind == sdp else b"Signal=5\r\nDuration=160\r\n"
        yield talk.request(method, kind, *FIELDS, ("Contact", "<sip:far@192.0.2.9>"), body=body).to_bytes()
    for status, state in ((b"180 Ringing", "active;expires=20"), (b"200 OK", "terminated;reason=x")):
        event = [("Event", "refer;id=2"), ("Subscription-State", state), ("Content-Type", "message/sipfrag")]
        yield talk.request("NOTIFY", *event, body=b"SIP/2.0 " + status + b"\r\n").to_bytes()
    for method in ("BYE", "ACK", "CANCEL", "OPTIONS", "REFER"):
        yield talk.request(method, ("Reason", "Q.850;cause=16")).to_bytes()


def hear(call: Call, data: bytes, now: float) -> list[Effect]:
    with suppress(ParseError):
        return call.receive(parse(data), now, HOP)
    return []


def torment(seed: int) -> None:
    draw = Random(seed)
    call = Call(spec(credentials=Credentials("u", "p"), session_expires=90), random=Random(seed))
    talk = Talk(call)
    now = 0.0
    effects = call.start(now)
    sent: list[Request] = []
    for _ in range(30):
        for effect in effects:
            if isinstance(effect, Transmit) and isinstance(message := parse(effect.data), Request):
                sent.append(message)
        now += draw.choice((0.0, 0.1, 5.0, 40.0))
        data = draw.choice([*answers(draw.choice(sent)), *asks(talk)])
        effects = hear(call, mutate(data, draw) if draw.random() < 0.6 else data, now)
        effects += draw.choice((call.acknowledge, call.poll, call.poll, call.poll))(now)
        if draw.random() < 0.2:
            effects += call.refer(now, "sip:1@192.0.2.1")
        if draw.random() < 0.03:
            effects += draw.choice((call.cancel, call.hang_up))(now)


def test_broken_messages_do_not_break_a_call() -> None:
    for seed in range(300):
        torment(seed)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_broken_messages_do_not_break_a_call_long(part: int) -> None:
    for seed in range(1000 + 2000 * part, 3000 + 2000 * part):
        torment(seed)
