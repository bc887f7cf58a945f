"""Calls as conversations: from the INVITE to the end (`sip_talk.py`)."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest
from sip_talk import ATTEMPT, HOP, OFFER, TCP, THEIRS, Talk, spec

from outdial.model import HungUpBy
from outdial.sip.call import Call
from outdial.sip.dialog import spec_ids
from outdial.sip.message import Request
from outdial.sip.words import Accepted, Credentials, Hop, Over, Progress, Refused

SECRET = Credentials("10086", "secret")
ASKS = 'Digest realm="carrier", nonce="n1", qop="auth"'
ASKS_ANEW = 'Digest realm="carrier", nonce="n2", qop="auth", stale=true'


@pytest.fixture
def talk() -> Talk:
    return Talk()


def registered() -> Talk:
    """A call with credentials."""
    return Talk(credentials=SECRET)


# -- the INVITE and its timers (RFC 3261 §17.1.1) ---------------------------------------------------------


def test_the_invite_carries_what_the_spec_says() -> None:
    talk = Talk(headers=(("P-Asserted-Identity", "<sip:1@x>"),))
    invite = talk.start()
    assert talk.hop == HOP
    assert invite.uri == "sip:80001@192.0.2.1"
    assert str(invite.via) == f"SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK{talk.call.spec.branch}1;rport"
    assert (invite.cseq, invite.to.tag, invite.from_.tag) == ((1, "INVITE"), None, talk.call.spec.from_tag)
    assert (invite.call_id, invite.body) == (talk.call.call_id, OFFER)
    assert invite.get("P-Asserted-Identity") == "<sip:1@x>"
    assert invite.get("Content-Type") == "application/sdp"


def test_the_ids_of_an_attempt_never_change() -> None:
    assert spec_ids(ATTEMPT, "trunk-1") == (
        "00000000-0000-4000-8000-000000000001-dcd345ff",
        "5c3e0dd7ec250071",
        "69c8bc7c3f9f111c",
    )
    assert len({spec_ids(UUID(int=number), trunk) for number in range(5) for trunk in ("a", "b")}) == 10


def test_without_an_answer_the_invite_is_resent_until_timer_b(talk: Talk) -> None:
    talk.start()
    assert talk.run(31.9).resends("INVITE") == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    talk.quiet().run(0.1)
    assert talk.tells() == Refused(408, "no answer in time", local=True)
    talk.finishes(within=32)


def test_over_tcp_nothing_is_resent_and_timer_b_holds() -> None:
    talk = Talk(hop=TCP, timer_b=4.0)
    talk.start()
    talk.at(3.9).run(0.1)
    assert talk.tells() == Refused(408, "no answer in time", local=True)


def test_a_provisional_response_ends_resending_and_timer_b(talk: Talk) -> None:
    invite = talk.start()
    talk.at(0.1).answer(invite, 100)
    assert talk.tells() == Progress(100)
    talk.at(600).answer(invite, 183, tag="far", body=THEIRS)
    assert talk.tells() == Progress(183, THEIRS)


def test_a_late_poll_resends_once(talk: Talk) -> None:
    talk.start()
    talk.now = 6.0
    talk.take(talk.call.poll(6.0))
    talk.sends("INVITE")
    talk.quiet()


# -- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_refusal_is_acknowledged_hop_by_hop_and_told(talk: Talk, status: int) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="far").tells()
    headers = (("Reason", "Q.850;cause=17"), ("Retry-After", "120 (busy)"), ("Contact", "<sip:else@where>"))
    talk.answer(invite, status, *headers, tag="far")
    ack = talk.sends("ACK")
    assert (ack.uri, str(ack.via), ack.cseq) == (invite.uri, str(invite.via), (1, "ACK"))
    assert (ack.to.tag, talk.hop) == ("far", HOP)
    refused = talk.tells()
    assert isinstance(refused, Refused)
    assert (refused.status, refused.cause, refused.retry_after) == (status, 17, 120)
    assert (refused.rang, refused.local) == (True, False)
    talk.finishes(within=32)


def test_a_repeated_refusal_gets_its_ack_again_and_nothing_else(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 486, tag="far")
    first = talk.sends("ACK")
    talk.tells()
    talk.at(31.9).answer(invite, 486, tag="far")
    assert talk.sends("ACK").to_bytes() == first.to_bytes()
    talk.finishes(within=0.1)
    talk.answer(invite, 486, tag="far").quiet()


def test_over_tcp_a_refused_call_is_finished_at_once() -> None:
    talk = Talk(hop=TCP)
    talk.answer(talk.start(), 486, tag="far").sends("ACK")
    talk.tells()
    assert talk.call.finished


def test_an_ack_of_a_refusal_takes_the_invites_route() -> None:
    talk = Talk(route=("sip:proxy.example;lr",))
    invite = talk.start()
    assert invite.all("Route") == ["<sip:proxy.example;lr>"]
    talk.answer(invite, 486, tag="far")
    assert talk.sends("ACK").all("Route") == ["<sip:proxy.example;lr>"]


def test_a_transport_that_fails_refuses_locally(talk: Talk) -> None:
    talk.start()
    talk.take(talk.call.unreachable(Hop("udp", "192.0.2.2", 5060), 0))
    talk.quiet().take(talk.call.unreachable(HOP, 0))
    assert talk.tells() == Refused(503, "the transport failed", local=True)
    talk.finishes(within=32)


def test_a_call_that_rings_survives_its_transport(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="far").tells()
    talk.take(talk.call.unreachable(HOP, 0))
    talk.quiet().accept(invite)
    assert isinstance(talk.tells(), Accepted)


# -- answered (§13.2.2.4) ---------------------------------------------------------------------------------


def test_the_ack_waits_until_the_dialog_is_stored(talk: Talk) -> None:
    invite = talk.start()
    talk.accept(invite)
    accepted = talk.tells()
    assert isinstance(accepted, Accepted)
    assert (accepted.body, accepted.dialog.remote_tag, accepted.dialog.local_cseq) == (THEIRS, "far", 1)
    assert accepted.dialog == talk.call.dialog
    talk.at(0.5).accept(invite)
    talk.quiet().acknowledge()
    ack = talk.sends("ACK")
    assert (ack.uri, ack.cseq, ack.to.tag) == ("sip:far@192.0.2.9:5070", (1, "ACK"), "far")
    assert ack.via.branch != invite.via.branch
    assert talk.hop == Hop("udp", "192.0.2.9", 5070)
    talk.acknowledge().quiet()
    talk.at(20).accept(invite)
    assert talk.sends("ACK").to_bytes() == ack.to_bytes()
    talk.at(100).accept(invite)
    assert talk.sends("ACK").to_bytes() == ack.to_bytes()


def test_record_routes_are_taken_in_reverse_and_preloaded_routes_dropped() -> None:
    talk = Talk(route=("sip:proxy.example;lr",))
    talk.connect(("Record-Route", "<sip:last.example;lr>, <sip:192.0.2.8:5080;lr;transport=TCP>"))
    assert talk.hop == Hop("tcp", "192.0.2.8", 5080)
    talk.hang_up()
    bye = talk.sends("BYE")
    assert bye.all("Route") == ["<sip:192.0.2.8:5080;lr;transport=TCP>", "<sip:last.example;lr>"]
    assert bye.uri == "sip:far@192.0.2.9:5070"
    assert bye.via.transport == "TCP"
    assert talk.hop == Hop("tcp", "192.0.2.8", 5080)


def test_a_strict_router_gets_its_own_uri(talk: Talk) -> None:
    talk.connect(("Record-Route", "<sip:second.example;lr>"), ("Record-Route", "<sip:strict.example>"))
    talk.hang_up()
    bye = talk.sends("BYE")
    assert bye.uri == "sip:strict.example"
    assert bye.all("Route") == ["<sip:second.example;lr>", "<sip:far@192.0.2.9:5070>"]
    assert talk.hop == Hop("udp", "strict.example", 5060)


@pytest.mark.parametrize("contact", ["", "<tel:+1555>", "<sip:far@0.0.0.0>", "<sip:far@h;transport=ws>", "<"])
def test_a_contact_that_leads_nowhere_leaves_the_invites_hop(talk: Talk, contact: str) -> None:
    talk.connect(contact=contact)
    assert talk.hop == HOP


def test_a_target_without_transport_keeps_the_one_it_was_reached_over() -> None:
    talk = Talk(hop=Hop("tls", "192.0.2.1", 5061))
    talk.connect(contact="<sip:far@192.0.2.9>")
    assert talk.hop == Hop("tls", "192.0.2.9", 5061)


# -- hung up (§15) ----------------------------------------------------------------------------------------


def test_our_bye_with_its_cause(talk: Talk) -> None:
    talk.connect()
    talk.at(60).hang_up(16)
    bye = talk.sends("BYE")
    assert (bye.cseq, bye.get("Reason"), bye.to.tag) == ((2, "BYE"), "Q.850;cause=16", "far")
    talk.hang_up().cancel().quiet()
    talk.answer(bye, 200)
    assert talk.tells() == Over(HungUpBy.CALLER, 16)
    talk.finishes(within=5)


def test_a_bye_before_the_ack_sends_the_ack_first(talk: Talk) -> None:
    talk.accept(talk.start()).tells()
    talk.hang_up()
    talk.sends("ACK")
    talk.sends("BYE")


def test_a_bye_without_answer_is_over_and_not_confirmed(talk: Talk) -> None:
    talk.connect()
    talk.hang_up().run(31.9)
    assert talk.resends("BYE") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    talk.run(0.1)
    assert talk.tells() == Over(HungUpBy.CALLER, confirmed=False)


def test_a_provisional_answer_slows_the_bye_down(talk: Talk) -> None:
    talk.connect()
    talk.hang_up()
    talk.answer(talk.sends("BYE"), 100).run(10)
    assert talk.resends("BYE") == [0.5, 4.5, 8.5]


@pytest.mark.parametrize(("status", "confirmed"), [(200, True), (481, True), (403, False), (503, False)])
def test_what_a_bye_was_answered_with(talk: Talk, status: int, confirmed: bool) -> None:
    talk.connect()
    talk.hang_up()
    talk.answer(talk.sends("BYE"), status)
    assert talk.tells() == Over(HungUpBy.CALLER, confirmed=confirmed)


def test_a_bye_over_udp_is_resent_although_its_transport_fails(talk: Talk) -> None:
    """An unreachable port may come back; a call left open costs money."""
    talk.connect()
    talk.hang_up().sends("BYE")
    talk.take(talk.call.unreachable(Hop("udp", "192.0.2.9", 5070), 0))
    talk.quiet().run(0.5)
    talk.sends("BYE")


def test_a_bye_over_tcp_whose_transport_fails_is_over_and_not_confirmed() -> None:
    talk = Talk(hop=TCP)
    talk.connect()
    talk.hang_up().sends("BYE")
    talk.take(talk.call.unreachable(Hop("tcp", "192.0.2.9", 5070), 0))
    assert talk.tells() == Over(HungUpBy.CALLER, confirmed=False)


def test_their_bye(talk: Talk) -> None:
    talk.connect()
    talk.at(9).asks("BYE", ("Reason", "Q.850;cause=16"))
    answer = talk.says(200)
    assert talk.hop == Hop("udp", "192.0.2.44", 5099)
    assert talk.tells() == Over(HungUpBy.CALLEE, 16)
    talk.at(40.9).asks("BYE", cseq=101)
    assert talk.says(200).to_bytes() == answer.to_bytes()
    talk.hang_up().quiet()
    talk.finishes(within=0.1)


def test_byes_that_cross(talk: Talk) -> None:
    talk.connect()
    talk.hang_up(16)
    bye = talk.sends("BYE")
    talk.asks("BYE")
    talk.says(200)
    assert talk.tells() == Over(HungUpBy.CALLER, 16)
    talk.answer(bye, 481)
    talk.finishes(within=32)


# -- given up (§9.1) --------------------------------------------------------------------------------------


def test_a_cancel_after_ringing(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="far").tells()
    talk.at(20).cancel()
    cancel = talk.sends("CANCEL")
    assert (cancel.uri, str(cancel.via), cancel.cseq) == (invite.uri, str(invite.via), (1, "CANCEL"))
    assert (cancel.get("To"), talk.hop) == (invite.get("To"), HOP)
    talk.cancel().hang_up().quiet()
    talk.answer(cancel, 200).answer(invite, 487, tag="far")
    talk.sends("ACK")
    assert talk.tells() == Refused(487, "Request Terminated", rang=True)
    talk.finishes(within=32)


def test_no_cancel_before_a_provisional_response(talk: Talk) -> None:
    invite = talk.start()
    talk.at(0.2).cancel().quiet()
    talk.run(0.5).resends("INVITE")
    talk.answer(invite, 100)
    talk.sends("CANCEL")
    talk.quiet()


def test_a_cancel_that_waits_in_vain_ends_with_timer_b() -> None:
    talk = Talk(timer_b=4.0)
    talk.start()
    talk.cancel().run(4).resends("INVITE")
    assert talk.tells() == Refused(408, "no answer in time", local=True)


def test_a_cancel_without_any_answer_ends_after_32_seconds(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="far").tells()
    talk.cancel().run(32)
    assert len(talk.resends("CANCEL")) == 11
    assert talk.tells() == Refused(408, "no answer in time", rang=True, local=True)
    talk.finishes(within=32)


def test_an_answer_that_races_the_cancel_is_acknowledged_and_hung_up(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="far").tells()
    talk.cancel().sends("CANCEL")
    talk.accept(invite)
    talk.sends("ACK")
    bye = talk.sends("BYE")
    talk.accept(invite).sends("ACK")
    talk.answer(bye, 200)
    assert talk.tells() == Over(HungUpBy.CALLER)
    talk.accept(invite).sends("ACK")
    talk.finishes(within=32)


def test_an_answer_to_an_invite_that_was_given_up_before_any_provisional(talk: Talk) -> None:
    invite = talk.start()
    talk.cancel()
    talk.accept(invite)
    talk.sends("ACK")
    talk.answer(talk.sends("BYE"), 200)
    assert talk.tells() == Over(HungUpBy.CALLER)


def test_a_cancel_after_the_answer_hangs_up(talk: Talk) -> None:
    talk.accept(talk.start()).tells()
    talk.cancel()
    talk.sends("ACK")
    talk.sends("BYE")


def test_a_call_given_up_before_it_began(talk: Talk) -> None:
    talk.cancel()
    assert talk.tells() == Refused(487, "given up", local=True)
    assert talk.call.finished
    talk.take(talk.call.start(0))
    talk.quiet()


def test_the_cause_of_giving_up_is_told_to_the_far_end(talk: Talk) -> None:
    talk.answer(talk.start(), 180, tag="far").tells()
    talk.hang_up(19)
    assert talk.sends("CANCEL").get("Reason") == "Q.850;cause=19"


def test_ringing_that_comes_after_the_end_is_cancelled(talk: Talk) -> None:
    """Otherwise a telephone rings for a call that was already placed over another trunk."""
    invite = talk.start()
    talk.run(32).resends("INVITE")
    assert isinstance(talk.tells(), Refused)
    talk.at(50).answer(invite, 180, tag="far")
    cancel = talk.sends("CANCEL")
    talk.answer(invite, 180, tag="far").answer(cancel, 200).quiet()
    talk.at(80).answer(invite, 487, tag="far")
    talk.sends("ACK")
    talk.finishes(within=32)


def test_an_answer_that_comes_after_the_end_is_hung_up(talk: Talk) -> None:
    invite = talk.start()
    talk.run(32).resends("INVITE")
    talk.tells()
    talk.at(50).accept(invite)
    talk.sends("ACK")
    bye = talk.sends("BYE")
    talk.at(50.4).answer(bye, 200).accept(invite)
    talk.sends("ACK")
    talk.finishes(within=32)


# -- forks (§13.2.2.4) ------------------------------------------------------------------------------------


def test_a_second_answer_of_a_fork_is_acknowledged_and_hung_up(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="a").tells()
    talk.answer(invite, 180, tag="b").tells()
    talk.accept(invite, tag="a").tells()
    talk.accept(invite, tag="b", contact="<sip:b@192.0.2.77>")
    ack = talk.sends("ACK")
    assert (ack.to.tag, talk.hop) == ("b", Hop("udp", "192.0.2.77", 5060))
    bye = talk.sends("BYE")
    assert bye.to.tag == "b"
    talk.accept(invite, tag="b", contact="<sip:b@192.0.2.77>")
    assert talk.sends("ACK").to_bytes() == ack.to_bytes()
    talk.answer(bye, 200).acknowledge()
    assert talk.sends("ACK").to.tag == "a"
    talk.asks("BYE", tag="b")
    talk.says(200)
    talk.quiet().hang_up()
    assert talk.sends("BYE").to.tag == "a"


def test_a_fork_that_answers_after_our_call_was_over_is_hung_up() -> None:
    talk = Talk(hop=TCP)
    invite = talk.start()
    talk.accept(invite, tag="a").tells()
    talk.hang_up().sends("ACK")
    talk.answer(talk.sends("BYE"), 200).tells()
    talk.at(31)
    assert not talk.call.finished
    talk.accept(invite, tag="b").sends("ACK")
    assert talk.sends("BYE").to.tag == "b"


def test_the_bye_of_a_stray_fork_is_resent_after_the_calls_own_end(talk: Talk) -> None:
    invite = talk.start()
    talk.accept(invite, tag="a").tells()
    talk.accept(invite, tag="b").sends("ACK")
    talk.sends("BYE")
    talk.asks("BYE", tag="a")
    talk.says(200)
    assert talk.tells() == Over(HungUpBy.CALLEE)
    assert talk.run(1.5).resends("BYE") == [0.5, 1.5]


def test_nobody_but_the_calls_own_dialog_is_served(talk: Talk) -> None:
    invite = talk.start()
    talk.accept(invite, tag="a").tells()
    talk.accept(invite, tag="b").sends("ACK")
    talk.sends("BYE")
    talk.asks("INVITE", ("Content-Type", "application/sdp"), tag="b", body=THEIRS)
    talk.says(481)
    talk.quiet()


# -- challenged (§22) -------------------------------------------------------------------------------------


def challenge(talk: Talk, invite: Request, value: str = ASKS, status: int = 401) -> None:
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    talk.answer(invite, status, (name, value), tag="challenger").sends("ACK")


@pytest.mark.parametrize(("status", "name"), [(401, "Authorization"), (407, "Proxy-Authorization")])
def test_a_challenge_is_answered_with_a_new_invite(status: int, name: str) -> None:
    talk = registered()
    first = talk.start()
    challenge(talk, first, status=status)
    invite = talk.sends("INVITE")
    assert (invite.cseq, invite.to.tag, invite.call_id) == ((2, "INVITE"), None, first.call_id)
    assert invite.via.branch == f"z9hG4bK{talk.call.spec.branch}2"
    assert 'nonce="n1"' in (invite.get(name) or "")
    talk.accept(invite).tells()
    talk.acknowledge()
    ack = talk.sends("ACK")
    assert (ack.cseq, ack.get(name)) == ((2, "ACK"), invite.get(name))
    talk.answer(first, 401, tag="challenger")
    assert talk.sends("ACK").cseq == (1, "ACK")


def test_a_wrong_password_ends_the_call() -> None:
    talk = registered()
    challenge(talk, talk.start())
    challenge(talk, talk.sends("INVITE"), ASKS.replace("n1", "n2"))
    assert talk.tells() == Refused(401, "Reason")
    talk.finishes(within=32)


def test_a_stale_nonce_is_worth_one_more_try() -> None:
    talk = registered()
    challenge(talk, talk.start())
    challenge(talk, talk.sends("INVITE"), ASKS_ANEW)
    third = talk.sends("INVITE")
    assert 'nonce="n2"' in (third.get("Authorization") or "")
    challenge(talk, third, ASKS_ANEW.replace("n2", "n3"))
    assert talk.tells() == Refused(401, "Reason")


def test_proxy_and_far_end_both_ask() -> None:
    talk = registered()
    challenge(talk, talk.start(), status=407)
    challenge(talk, talk.sends("INVITE"))
    third = talk.sends("INVITE")
    assert "nc=00000002" in (third.get("Proxy-Authorization") or "")
    assert third.get("Authorization")


def test_without_credentials_a_challenge_is_a_refusal(talk: Talk) -> None:
    challenge(talk, talk.start())
    assert talk.tells() == Refused(401, "Reason")


def test_a_challenge_that_we_cannot_answer_is_a_refusal() -> None:
    talk = registered()
    challenge(talk, talk.start(), 'Digest realm="x", nonce="y", algorithm=SHA-512')
    assert talk.tells() == Refused(401, "Reason")


def test_a_challenge_to_a_call_that_was_given_up_is_its_end() -> None:
    talk = registered()
    first = talk.start()
    talk.cancel()
    challenge(talk, first)
    assert talk.tells() == Refused(487, "given up", local=True)


def test_a_challenged_bye_is_repeated() -> None:
    talk = registered()
    talk.connect()
    talk.hang_up(16)
    bye = talk.sends("BYE")
    talk.answer(bye, 407, ("Proxy-Authenticate", ASKS))
    again = talk.sends("BYE")
    assert (again.cseq, again.get("Reason")) == ((3, "BYE"), "Q.850;cause=16")
    assert again.get("Proxy-Authorization")
    assert again.via.branch != bye.via.branch
    talk.answer(again, 200)
    assert talk.tells() == Over(HungUpBy.CALLER, 16)


# -- after a restart --------------------------------------------------------------------------------------


def restored() -> Talk:
    before = Talk()
    before.connect()
    assert before.call.dialog is not None
    return Talk(Call.restored(spec(branch=""), before.call.dialog, random=Random(2)))


def test_a_restored_call_hangs_up_with_a_number_that_is_certainly_higher() -> None:
    talk = restored()
    talk.hang_up(41)
    bye = talk.sends("BYE")
    assert bye.cseq[0] > 100_000
    assert (bye.to.tag, bye.uri) == ("far", "sip:far@192.0.2.9:5070")
    talk.answer(bye, 200)
    assert talk.tells() == Over(HungUpBy.CALLER, 41)
    talk.finishes(within=5)


def test_a_restored_call_acknowledges_a_repeated_answer_and_hears_the_bye() -> None:
    talk = restored()
    invite = Talk().start()
    talk.accept(invite)
    assert talk.sends("ACK").cseq == (1, "ACK")
    talk.asks("BYE")
    talk.says(200)
    assert talk.tells() == Over(HungUpBy.CALLEE)


def abandoned(**changes: object) -> tuple[Talk, list[Request], list[Request]]:
    """A call that a predecessor left, the CANCELs sent for it, and the INVITEs they belong to."""
    talk = Talk(Call.abandoned(spec(**changes), random=Random(2)))
    talk.take(talk.call.start(0))
    cancels = [talk.sends("CANCEL") for _ in range(len(talk.sent))]
    before = Talk(**changes)
    invites = [before.start()]
    if changes:
        challenge(before, invites[0])
        invites.append(before.sends("INVITE"))
    return talk, cancels, invites


def test_an_abandoned_call_is_cancelled_by_what_its_ids_say() -> None:
    talk, cancels, invites = abandoned(credentials=SECRET)
    assert [cancel.cseq[0] for cancel in cancels] == [1, 2, 3]
    for cancel, invite in zip(cancels, invites, strict=False):
        assert (str(cancel.via), cancel.uri) == (str(invite.via), invite.uri)
        assert (cancel.get("From"), cancel.get("To")) == (invite.get("From"), invite.get("To"))
    talk.answer(cancels[0], 481).answer(cancels[1], 200).answer(invites[1], 487, tag="far")
    assert talk.sends("ACK").cseq == (2, "ACK")
    assert talk.tells() == Refused(487, "Request Terminated")
    talk.finishes(within=32)


def test_an_abandoned_call_without_credentials_had_one_invite() -> None:
    _, cancels, _ = abandoned()
    assert len(cancels) == 1


def test_an_abandoned_call_that_was_answered_meanwhile_is_hung_up() -> None:
    talk, cancels, invites = abandoned()
    talk.answer(cancels[0], 481)
    talk.at(7.9).accept(invites[0])
    talk.sends("ACK")
    talk.answer(talk.sends("BYE"), 200)
    assert talk.tells() == Over(HungUpBy.CALLER)
    talk.finishes(within=32)


def test_an_abandoned_call_that_was_not_there() -> None:
    talk, cancels, invites = abandoned()
    talk.answer(cancels[0], 481)
    talk.at(7.9).run(0.1)
    assert talk.tells() == Refused(481, "nothing left of this call", local=True)
    talk.at(20).accept(invites[0])
    talk.sends("ACK")
    talk.answer(talk.sends("BYE"), 200)
    talk.finishes(within=32)


def test_an_abandoned_call_whose_far_end_is_silent() -> None:
    talk, _, _ = abandoned()
    talk.run(32).resends("CANCEL")
    assert talk.tells() == Refused(408, "no answer in time", local=True)
    talk.finishes(within=0.1)
