"""What happens within an answered call: the far end's requests, new offers, session timers."""

from __future__ import annotations

from random import Random

import pytest
from sip_talk import OFFER, THEIRS, Talk

from outdial.model import HungUpBy
from outdial.sip import sdp
from outdial.sip.dialog import Branches
from outdial.sip.words import Accepted, Credentials, Hop, KeyPressed, MediaMoved, Over, Refused

SDP = ("Content-Type", "application/sdp")
HOLD = sdp.offer(address="192.0.2.1", port=6000, session_id=5, version=2, direction="sendonly")
ASKS = 'Digest realm="carrier", nonce="n1", qop="auth"'


@pytest.fixture
def talk() -> Talk:
    """An answered call."""
    talk = Talk()
    talk.connect()
    return talk


# -- small requests (RFC 3261 §12.2.2) --------------------------------------------------------------------


def test_options_is_answered(talk: Talk) -> None:
    talk.asks("OPTIONS")
    assert "UPDATE" in (talk.says(200).get("Allow") or "")


@pytest.mark.parametrize("method", ["REFER", "PUBLISH", "MESSAGE", "PRACK", "SUBSCRIBE"])
def test_what_we_do_not_do_is_refused_with_what_we_do(talk: Talk, method: str) -> None:
    talk.asks(method)
    assert talk.says(405).get("Allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY"


def test_a_required_extension_that_we_lack(talk: Talk) -> None:
    talk.asks("UPDATE", ("Require", "timer, 100rel"))
    assert talk.says(420).get("Unsupported") == "100rel"


def test_a_repeated_request_gets_the_same_answer_and_has_no_second_effect(talk: Talk) -> None:
    talk.asks("INFO", ("Content-Type", "application/dtmf"), body=b"5")
    first = talk.says(200)
    assert talk.tells() == KeyPressed("5")
    talk.at(31.9).asks("INFO", ("Content-Type", "application/dtmf"), body=b"5", cseq=101)
    assert talk.says(200).to_bytes() == first.to_bytes()
    talk.quiet()


def test_a_number_out_of_order_is_refused(talk: Talk) -> None:
    talk.asks("OPTIONS", cseq=500)
    talk.says(200)
    talk.asks("INFO", ("Content-Type", "application/dtmf"), body=b"5", cseq=499)
    talk.says(500)
    talk.quiet()


@pytest.mark.parametrize("names", [{"tag": "other"}, {"local": "other"}])
@pytest.mark.parametrize("method", ["BYE", "INVITE", "INFO"])
def test_a_request_of_another_dialog(talk: Talk, method: str, names: dict[str, str]) -> None:
    talk.asks(method, **names)
    talk.says(481)
    talk.quiet()


def test_an_ack_or_cancel_of_nothing(talk: Talk) -> None:
    talk.asks("ACK")
    talk.quiet().asks("CANCEL")
    talk.says(481)
    talk.quiet()


def test_after_our_bye_nothing_but_a_bye_is_granted(talk: Talk) -> None:
    talk.hang_up().sends("BYE")
    talk.asks("INVITE", SDP, body=THEIRS)
    talk.says(481)
    talk.quiet()


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", KeyPressed("5", 160)),
        ("application/dtmf-relay", b"signal= *\nduration = 90", KeyPressed("*", 90)),
        ("application/DTMF-Relay; x=y", b"Signal=#", KeyPressed("#")),
        ("application/dtmf-relay", b"Signal=11\r\nDuration=250\r\n", KeyPressed("#", 250)),
        ("application/dtmf", b"d\r\n", KeyPressed("D")),
        ("application/dtmf", b"10", KeyPressed("*")),
        ("application/dtmf-relay", b"Signal=16\r\n", None),
        ("application/dtmf-relay", b"Duration=160\r\n", None),
        ("application/dtmf", b"\xff\xfe", None),
        ("application/dtmf", b"", None),
    ],
)
def test_keys_by_info(talk: Talk, kind: str, body: bytes, told: KeyPressed | None) -> None:
    talk.asks("INFO", ("Content-Type", kind), body=body)
    talk.says(200)
    if told:
        assert talk.tells() == told
    talk.quiet()


def test_an_info_of_another_kind(talk: Talk) -> None:
    talk.asks("INFO", ("Content-Type", "application/media_control+xml"), body=b"<x/>")
    assert talk.says(415).get("Accept") == "application/dtmf-relay, application/dtmf"
    talk.asks("INFO")
    talk.says(200)


def test_requests_before_the_answer() -> None:
    talk = Talk()
    invite = talk.start()
    talk.answer(invite, 183, tag="far").tells()
    talk.asks("UPDATE", SDP, body=THEIRS)
    talk.says(491)
    talk.asks("INFO", ("Content-Type", "application/dtmf"), body=b"1")
    talk.says(200)
    assert talk.tells() == KeyPressed("1")
    talk.accept(invite).tells()
    talk.asks("OPTIONS", cseq=102, branch="again")
    talk.says(500)


# -- new offers (§14.2, RFC 3311) -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_hold_is_answered_recvonly(talk: Talk, method: str) -> None:
    talk.asks(method, SDP, ("Contact", "<sip:moved@192.0.2.10>"), body=HOLD)
    answer = talk.says(200)
    assert talk.hop == Hop("udp", "192.0.2.44", 5099)
    ours, media = sdp.read(answer.body), sdp.read(OFFER)
    assert (ours.address, ours.port, ours.direction) == (media.address, media.port, "recvonly")
    assert b"o=- 77 2 IN IP4" in answer.body
    assert answer.contact
    assert str(answer.contact.uri) == talk.call.spec.contact
    assert talk.tells() == MediaMoved(HOLD)
    if method == "INVITE":
        talk.asks("ACK", cseq=101)
    talk.hang_up()
    assert talk.sends("BYE").uri == "sip:moved@192.0.2.10"


def test_the_version_grows_only_when_something_changes(talk: Talk) -> None:
    for version, (offer, _) in enumerate([(HOLD, 2), (HOLD, 2), (THEIRS, 3)]):
        talk.asks("UPDATE", SDP, body=offer)
        assert b"o=- 77 %d IN" % (2, 2, 3)[version] in talk.says(200).body
        talk.tells()


def test_a_re_invite_is_answered_again_until_its_ack(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=HOLD)
    first = talk.says(200)
    talk.tells()
    talk.run(3.5)
    assert [talk.says(200).to_bytes() for _ in range(3)] == [first.to_bytes()] * 3
    talk.asks("INVITE", SDP, body=HOLD, cseq=101)
    assert talk.says(200).to_bytes() == first.to_bytes()
    talk.asks("ACK", cseq=101, branch="ack")
    talk.at(100)


def test_over_tcp_too_a_2xx_is_resent_until_its_ack_but_no_refusal(talk: Talk) -> None:
    tcp = Hop("tcp", "192.0.2.44", 5099)
    talk.receive(talk.request("INVITE", SDP, body=b"nonsense"), tcp).says(488)
    talk.at(10).receive(talk.request("INVITE", SDP, body=HOLD), tcp).says(200)
    talk.tells()
    talk.run(0.5).says(200)
    assert talk.hop == tcp


def test_our_bye_ends_the_repeating_of_our_answer(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=HOLD)
    talk.says(200)
    talk.tells()
    talk.hang_up().run(3)
    assert len(talk.resends("BYE")) == 3


def test_an_answer_that_is_never_acknowledged_ends_the_call(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=HOLD)
    talk.tells()
    talk.run(31.9)
    while talk.sent:
        talk.says(200)
    talk.run(0.1)
    assert talk.sends("BYE").get("Reason") == "Q.850;cause=102"
    talk.asks("INVITE", SDP, body=HOLD, cseq=103)
    talk.says(481)


def test_a_second_re_invite_before_the_ack_of_the_first(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=HOLD)
    talk.says(200)
    talk.tells()
    talk.asks("INVITE", SDP, body=THEIRS)
    assert talk.says(500).get("Retry-After")
    talk.quiet()


def test_a_re_invite_without_offer_gets_ours_and_its_ack_brings_the_answer(talk: Talk) -> None:
    talk.asks("INVITE")
    assert talk.says(200).body == OFFER
    talk.asks("ACK", SDP, cseq=101, branch="ack", body=HOLD)
    assert talk.tells() == MediaMoved(HOLD)
    talk.asks("ACK", SDP, cseq=101, branch="ack", body=HOLD)
    talk.quiet()


def test_an_offer_that_we_cannot_take_changes_nothing(talk: Talk) -> None:
    video = THEIRS.replace(b"m=audio", b"m=video")
    talk.asks("INVITE", SDP, ("Contact", "<sip:moved@h>"), body=video)
    refused = talk.says(488)
    assert not refused.body
    talk.asks("ACK", cseq=101)
    talk.asks("UPDATE", SDP, body=b"nonsense")
    talk.says(488)
    talk.asks("UPDATE", ("Content-Type", "text/plain"), body=THEIRS)
    talk.says(415)
    talk.quiet().hang_up()
    assert talk.sends("BYE").uri == "sip:far@192.0.2.9:5070"


def test_a_refused_re_invite_is_refused_again_until_its_ack(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=b"nonsense")
    talk.run(1.5)
    assert [talk.says(488).status for _ in range(3)]
    talk.asks("ACK", cseq=101)
    talk.at(100)


def test_a_cancel_of_a_re_invite_comes_too_late(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=HOLD, branch="one")
    talk.says(200)
    talk.tells()
    talk.asks("CANCEL", cseq=101, branch="one")
    talk.says(200)
    talk.asks("ACK", cseq=101)
    talk.quiet()


def test_their_bye_ends_the_repeating_of_our_answer(talk: Talk) -> None:
    talk.asks("INVITE", SDP, body=HOLD)
    talk.says(200)
    talk.tells()
    talk.asks("BYE")
    talk.says(200)
    assert talk.tells() == Over(HungUpBy.CALLEE)
    talk.finishes(within=32)


# -- session timers (RFC 4028) ----------------------------------------------------------------------------


def timed(*headers: tuple[str, str], allow: str = "INVITE, UPDATE", **changes: object) -> Talk:
    """An answered call that asked for a session timer."""
    talk = Talk(**{"session_expires": 1800, **changes})
    invite = talk.start()
    assert (invite.get("Session-Expires"), invite.get("Min-SE")) == ("1800", "90")
    assert invite.all("Supported") == ["timer"]
    talk.accept(invite, ("Allow", allow), *headers)
    assert isinstance(talk.tells(), Accepted)
    talk.acknowledge().sends("ACK")
    return talk


WE = (("Require", "timer"), ("Session-Expires", "1800;refresher=uac"))
THEY = (("Require", "timer"), ("Session-Expires", "1800;refresher=uas"))


def test_we_refresh_by_update_at_half_the_interval() -> None:
    talk = timed(*WE)
    talk.at(899.9).run(0.1)
    update = talk.sends("UPDATE")
    assert (update.get("Session-Expires"), update.body) == ("1800;refresher=uac", b"")
    talk.answer(update, 200, *WE).at(1799.9).run(0.1)
    talk.sends("UPDATE")


def test_we_refresh_by_re_invite_where_update_is_not_allowed() -> None:
    talk = timed(*WE, allow="INVITE, BYE")
    talk.run(900)
    invite = talk.sends("INVITE")
    assert (invite.body, invite.to.tag, invite.cseq[0]) == (OFFER, "far", 2)
    talk.asks("INVITE", SDP, body=HOLD)
    talk.says(491)
    talk.asks("ACK", cseq=101)
    talk.answer(invite, 200, *WE, ("Contact", "<sip:moved@192.0.2.10>"), body=THEIRS)
    ack = talk.sends("ACK")
    assert (ack.uri, ack.cseq) == ("sip:moved@192.0.2.10", (2, "ACK"))
    assert talk.tells() == MediaMoved(THEIRS)
    talk.answer(invite, 200, *WE, body=THEIRS)
    assert talk.sends("ACK").to_bytes() == ack.to_bytes()
    talk.at(1799.9).run(0.1)
    talk.sends("INVITE")


def test_an_update_that_is_refused_becomes_a_re_invite() -> None:
    talk = timed(*WE)
    talk.run(900)
    talk.answer(talk.sends("UPDATE"), 405)
    talk.sends("INVITE")


def test_a_challenged_refresh_is_repeated() -> None:
    talk = timed(*WE, allow="", credentials=Credentials("u", "p"))
    talk.run(900)
    talk.answer(talk.sends("INVITE"), 407, ("Proxy-Authenticate", ASKS)).sends("ACK")
    again = talk.sends("INVITE")
    assert again.cseq[0] == 3
    talk.answer(again, 200, *WE)
    assert talk.sends("ACK").get("Proxy-Authorization") == again.get("Proxy-Authorization")


def test_a_refresh_that_is_refused_is_tried_again_and_then_the_call_ends() -> None:
    talk = timed(*WE)
    tries = []
    while talk.now < 1767:
        talk.run(1)
        while talk.sent:
            tries.append(talk.sent[0][0])
            talk.answer(talk.sends("UPDATE"), 500)
    assert tries[:3] == [900, 1334, 1551]
    assert len(tries) < 20
    talk.run(1)
    assert talk.sends("BYE").get("Reason") == "Q.850;cause=102"
    assert talk.now == 1768


@pytest.mark.parametrize("status", [408, 481])
def test_a_refresh_that_finds_no_dialog_ends_the_call(status: int) -> None:
    talk = timed(*WE)
    talk.run(900)
    talk.answer(talk.sends("UPDATE"), status)
    talk.answer(talk.sends("BYE"), 481)
    assert talk.tells() == Over(HungUpBy.CALLER, 102)


def test_a_refresh_that_nobody_answers_ends_the_call() -> None:
    talk = timed(*WE)
    talk.run(931.9).resends("UPDATE")
    talk.run(0.1).sends("BYE")


def test_after_glare_the_refresh_is_repeated_a_little_later() -> None:
    talk = timed(*WE)
    talk.run(900)
    talk.answer(talk.sends("UPDATE"), 491).at(902).run(2)
    talk.sends("UPDATE")


def test_a_refresh_with_too_short_an_interval_is_repeated_with_a_longer() -> None:
    talk = timed(*WE)
    talk.run(900)
    talk.answer(talk.sends("UPDATE"), 422, ("Min-SE", "2400")).run(1)
    update = talk.sends("UPDATE")
    assert (update.get("Session-Expires"), update.get("Min-SE")) == ("2400;refresher=uac", "2400")


def test_a_far_end_that_does_not_refresh_is_hung_up_a_little_early() -> None:
    talk = timed(*THEY)
    talk.at(1767.9).run(0.1)
    assert talk.sends("BYE").get("Reason") == "Q.850;cause=102"


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_far_end_that_refreshes(method: str) -> None:
    talk = timed(*THEY)
    body = (SDP,) if method == "INVITE" else ()
    talk.at(1700)
    talk.asks(
        method,
        ("Supported", "timer"),
        ("Session-Expires", "1800;refresher=uac"),
        *body,
        body=THEIRS if body else b"",
    )
    answer = talk.says(200)
    assert (answer.get("Session-Expires"), answer.get("Require")) == ("1800;refresher=uac", "timer")
    if body:
        talk.tells()
        talk.asks("ACK", cseq=101)
    talk.at(3467.9).run(0.1)
    talk.sends("BYE")


def test_the_far_end_may_hand_the_refreshing_to_us() -> None:
    talk = timed(*THEY)
    talk.at(100).asks("UPDATE", ("Supported", "timer"), ("Session-Expires", "600;refresher=uas"))
    assert talk.says(200).get("Session-Expires") == "600;refresher=uas"
    talk.at(399.9).run(0.1)
    assert talk.sends("UPDATE").get("Session-Expires") == "600;refresher=uac"


def test_a_refresh_below_our_minimum_is_refused() -> None:
    talk = timed(*THEY)
    talk.asks("UPDATE", ("Supported", "timer"), ("x", "60;refresher=uac"))
    assert talk.says(422).get("Min-SE") == "90"


def test_without_session_expires_in_the_answer_there_is_no_timer() -> None:
    timed().at(100_000)


def test_an_interval_far_too_short_is_stretched() -> None:
    timed(("Session-Expires", "1;refresher=uac")).at(44.9).run(0.1).sends("UPDATE")


def test_too_short_an_interval_for_the_first_invite() -> None:
    talk = Talk(session_expires=300)
    talk.answer(talk.start(), 422, ("Min-SE", "900"), tag="far").sends("ACK")
    invite = talk.sends("INVITE")
    assert (invite.cseq[0], invite.get("Session-Expires"), invite.get("Min-SE")) == (2, "900", "900")
    talk.answer(invite, 422, ("Min-SE", "900"), tag="far").sends("ACK")
    talk.tells()


def test_an_interval_too_short_where_none_was_offered_is_a_refusal() -> None:
    talk = Talk()
    talk.answer(talk.start(), 422, ("Min-SE", "900"), tag="far").sends("ACK")
    assert talk.tells() == Refused(422, "Reason")


def test_a_session_timer_that_was_not_asked_for_is_honoured(talk: Talk) -> None:
    other = Talk()
    invite = other.start()
    assert (invite.get("Session-Expires"), invite.all("Supported")) == (None, ["timer"])
    other.accept(invite, *WE).tells()
    other.acknowledge().sends("ACK")
    other.at(899.9).run(0.1).sends("INVITE")


def test_every_request_of_every_call_has_a_branch_of_its_own() -> None:
    random = Random(1)
    calls = [Branches(random), Branches(random)]
    assert len({call.next() for call in calls for _ in range(12)}) == 24
