"""Registrations and OPTIONS pings as conversations with explicit times."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from outdial.sip.message import Request, parse, response_to
from outdial.sip.registration import Account, OptionsPing, Registration
from outdial.sip.words import Credentials, Effect, Hop, Transmit

HOP = Hop("udp", "192.0.2.1", 5060)
ASKS = 'Digest realm="carrier", nonce="n1", qop="auth"'
CONTACT = "sip:outdial@198.51.100.7:5060"


def account(**changes: Any) -> Account:
    facts: dict[str, Any] = {
        "hop": HOP,
        "uri": "sip:carrier.example",
        "aor": "sip:10086@carrier.example",
        "contact": CONTACT,
        "via": "198.51.100.7:5060",
        "call_id": "register-1",
        "from_tag": "ours",
        "credentials": Credentials("10086", "secret"),
    }
    return Account(**{**facts, **changes})


class Talk:
    """One client, the time, and the requests that it sent."""

    def __init__(self, client: Registration | OptionsPing) -> None:
        self.client = client
        self.now = 0.0
        self.sent: list[tuple[float, Request]] = []
        self.take(client.start(0.0))

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Transmit)
            assert effect.hop == HOP
            request = parse(effect.data)
            assert isinstance(request, Request)
            self.sent.append((self.now, request))

    def run(self, until: float) -> Talk:
        while (wake := self.client.wake_at()) is not None and wake <= until:
            self.now = max(self.now, wake)
            self.take(self.client.poll(self.now))
        self.now = until
        return self

    def sends(self) -> Request:
        return self.sent.pop(0)[1]

    def answer(self, request: Request, status: int, *headers: tuple[str, str]) -> Talk:
        response = response_to(request, status, "Reason", to_tag="far", headers=headers)
        self.take(self.client.receive(response, self.now))
        return self


def registering(**changes: Any) -> tuple[Talk, Registration]:
    registration = Registration(account(**changes), random=Random(1))
    return Talk(registration), registration


def test_it_registers_and_refreshes_at_half_of_what_was_granted() -> None:
    talk, registration = registering()
    first = talk.sends()
    assert (first.method, first.uri, first.get("Expires")) == ("REGISTER", "sip:carrier.example", "3600")
    assert first.to.uri == first.from_.uri
    assert not registration.registered
    talk.answer(
        first, 200, ("Contact", f"<sip:other@h>;expires=9, <{CONTACT}>;expires=600"), ("Expires", "7")
    )
    assert (registration.registered, registration.until, registration.error) == (True, 600, "")
    assert not talk.run(299.9).sent
    second = talk.run(300).sends()
    assert (second.cseq, second.call_id, second.from_.tag) == ((2, "REGISTER"), "register-1", "ours")
    talk.answer(second, 200, ("Expires", "100"))
    assert registration.until == 400


def test_without_any_word_the_registrar_granted_what_was_asked() -> None:
    talk, registration = registering(expires=120)
    talk.answer(talk.sends(), 200)
    assert registration.until == 120


def test_a_challenge_is_answered_once() -> None:
    talk, registration = registering()
    talk.answer(talk.sends(), 401, ("WWW-Authenticate", ASKS))
    again = talk.sends()
    assert "nc=00000001" in (again.get("Authorization") or "")
    talk.answer(again, 401, ("WWW-Authenticate", ASKS))
    assert not talk.sent
    assert (registration.registered, registration.error) == (False, "401 Reason")


def test_a_nonce_that_is_used_again_is_counted() -> None:
    talk, _ = registering()
    talk.answer(talk.sends(), 401, ("WWW-Authenticate", ASKS)).answer(talk.sends(), 200)
    talk.run(1800).answer(talk.sends(), 401, ("WWW-Authenticate", ASKS))
    assert "nc=00000002" in (talk.sends().get("Authorization") or "")


def test_too_brief_is_asked_for_longer() -> None:
    talk, registration = registering(expires=60)
    talk.answer(talk.sends(), 423, ("Min-Expires", "900"))
    again = talk.sends()
    assert again.get("Expires") == "900"
    talk.answer(again, 423, ("Min-Expires", "900"))
    assert not talk.sent
    assert registration.error == "423 Reason"


def test_failures_are_tried_again_later_and_later() -> None:
    talk, registration = registering()
    times = []
    for _ in range(9):
        talk.answer(talk.sends(), 503)
        assert registration.error == "503 Reason"
        before = talk.now
        wake = registration.wake_at()
        while wake is not None and not talk.sent:
            talk.run(wake)
            wake = registration.wake_at()
        times.append(talk.now - before)
    for pause, least in zip(times, [5, 10, 20, 40, 80, 160, 300, 300, 300], strict=True):
        assert least <= pause <= least * 1.25
    talk.answer(talk.sends(), 200).run(talk.now + 1800).answer(talk.sends(), 503)
    assert registration.error == "503 Reason"
    assert not talk.run(talk.now + 4.9).sent
    assert talk.run(talk.now + 1.4).sent


def test_silence_is_a_failure_and_the_registration_runs_out() -> None:
    talk, registration = registering(expires=60)
    talk.answer(talk.sends(), 200).run(59)
    assert registration.registered
    talk.run(60)
    assert not registration.registered
    talk.run(62)
    assert registration.error == "408 no answer in time"
    assert {request.cseq[0] for _, request in talk.sent} == {2}
    talk.run(75)
    assert talk.sent[-1][1].cseq[0] == 3


def test_a_transport_that_fails() -> None:
    talk, registration = registering()
    talk.take(registration.unreachable(HOP, 0.0))
    assert registration.error == "503 the transport failed"
    assert not registration.registered


def test_stopping_unregisters() -> None:
    talk, registration = registering()
    talk.answer(talk.sends(), 200)
    talk.take(registration.stop(1.0))
    last = talk.sends()
    assert last.get("Expires") == "0"
    assert not registration.finished
    talk.answer(last, 401, ("WWW-Authenticate", ASKS)).answer(talk.sends(), 200)
    assert registration.finished
    assert not registration.registered
    assert not talk.run(10_000).sent


def test_stopping_ends_although_nobody_answers() -> None:
    talk, registration = registering()
    talk.answer(talk.sends(), 200)
    talk.take(registration.stop(0.0))
    talk.run(32)
    assert registration.finished
    assert registration.wake_at() is None


def test_stopping_what_never_registered_sends_nothing() -> None:
    talk, registration = registering()
    talk.answer(talk.sends(), 403)
    talk.take(registration.stop(1.0))
    assert registration.finished
    assert not talk.run(10_000).sent


def test_a_registrar_that_grants_nothing_is_a_failure() -> None:
    talk, registration = registering()
    talk.answer(talk.sends(), 200, ("Contact", f"<{CONTACT}>;expires=0"))
    assert not registration.registered
    assert registration.error


@pytest.mark.parametrize("contact", ["<", "*", f"<{CONTACT}>;expires=soon", "<sip:other@h>;expires=5"])
def test_contacts_that_say_nothing_of_us(contact: str) -> None:
    talk, registration = registering()
    talk.answer(talk.sends(), 200, ("Contact", contact))
    assert registration.until == 3600


# -- ping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "alive"),
    [
        (200, True),
        (404, True),
        (405, True),
        (483, True),
        (408, False),
        (500, False),
        (503, False),
        (603, False),
    ],
)
def test_who_answers_is_alive(status: int, alive: bool) -> None:
    ping = OptionsPing(account(credentials=None), random=Random(1))
    talk = Talk(ping)
    request = talk.sends()
    assert (request.method, request.uri) == ("OPTIONS", "sip:carrier.example")
    assert str(request.to.uri) == "sip:carrier.example"
    assert ping.alive is None
    talk.answer(request, status)
    assert (ping.alive, ping.status, ping.answered) == (alive, status, True)
    talk.run(100)
    assert ping.wake_at() is None


def test_a_ping_that_nobody_answers_in_time() -> None:
    ping = OptionsPing(account(timeout=3.0), random=Random(1))
    talk = Talk(ping).run(2.9)
    assert [moment for moment, _ in talk.sent] == [0, 0.5, 1.5]
    assert ping.alive is None
    talk.run(3.0)
    assert (ping.alive, ping.status, ping.answered) == (False, 408, False)


def test_a_challenged_ping_is_alive_whatever_follows() -> None:
    ping = OptionsPing(account(), random=Random(1))
    talk = Talk(ping)
    talk.answer(talk.sends(), 401, ("WWW-Authenticate", ASKS)).answer(talk.sends(), 401)
    assert ping.alive
