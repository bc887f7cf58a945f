"""A call that is handed over by REFER, as a conversation with explicit times (`sip_talk.py`)."""

from __future__ import annotations

import pytest
from sip_talk import Talk

from outdial.model import HungUpBy
from outdial.sip.message import Request
from outdial.sip.words import Credentials, Over, Referred

TARGET = "sip:4930555@192.0.2.1"
ASKS = 'Digest realm="carrier", nonce="n1", qop="auth"'
ACTIVE, OVER = "active;expires=60", "terminated;reason=noresource"


def notify(talk: Talk, status: str, state: str = OVER, event: str = "refer", **facts: int) -> None:
    """The far end tells how it goes; that is answered 200."""
    body = f"SIP/2.0 {status}\r\n".encode() if status else b""
    headers = [("Event", event), ("Subscription-State", state)]
    headers += [("Content-Type", "message/sipfrag;version=2.0")] if status else []
    talk.asks("NOTIFY", *headers, body=body, **facts)
    talk.says(200)


def referring(talk: Talk, status: int = 202) -> Request:
    """An answered call whose REFER got this answer."""
    talk.connect()
    talk.take(talk.call.refer(talk.now, TARGET))
    refer = talk.sends("REFER")
    talk.answer(refer, status, tag="far")
    return refer


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_the_refer_goes_within_the_dialog(talk: Talk) -> None:
    """RFC 3515 §2.4.1, RFC 3892: one Refer-To, who asks, and the dialog's own tags, route and number."""
    refer = referring(talk)
    assert refer.all("Refer-To") == [f"<{TARGET}>"]
    assert refer.all("Referred-By") == [f"<{talk.call.spec.from_uri}>"]
    assert (refer.uri, refer.cseq) == ("sip:far@192.0.2.9:5070", (2, "REFER"))
    assert (refer.from_.tag, refer.to.tag) == (talk.call.spec.from_tag, "far")
    assert refer.all("Contact") == [f"<{talk.call.spec.contact}>"]
    assert refer.body == b""
    talk.quiet()


def test_the_target_answers(talk: Talk) -> None:
    """RFC 3515 §2.4.5: 202 says nothing yet; a NOTIFY with a 2xx does, whatever the subscription's state."""
    referring(talk)
    notify(talk, "100 Trying", ACTIVE)
    assert talk.tells() == Referred(100)
    talk.at(1)
    notify(talk, "180 Ringing", ACTIVE)
    assert talk.tells() == Referred(180)
    notify(talk, "200 OK", ACTIVE)
    assert talk.tells() == Referred(200, final=True)
    notify(talk, "200 OK", OVER)
    talk.quiet().hang_up().sends("BYE")


@pytest.mark.parametrize("status", [302, 486, 503, 603])
def test_the_target_refuses(talk: Talk, status: int) -> None:
    referring(talk)
    notify(talk, f"{status} No")
    assert talk.tells() == Referred(status, final=True)
    talk.at(600)


@pytest.mark.parametrize("status", [403, 405, 481, 501, 603])
def test_the_far_end_refuses_to_refer(talk: Talk, status: int) -> None:
    referring(talk, status)
    assert talk.tells() == Referred(status, final=True)
    talk.at(600).hang_up().sends("BYE")


@pytest.mark.parametrize("last", ["", "100 Trying", "no sipfrag"])
def test_a_subscription_that_ends_without_a_final_status(talk: Talk, last: str) -> None:
    """RFC 3515 §2.4.7: nobody knows; it counts as not reached."""
    referring(talk)
    notify(talk, last, OVER)
    assert talk.tells() == Referred(None, final=True)
    talk.at(600)


def test_a_far_end_that_never_notifies_is_waited_for_32_seconds(talk: Talk) -> None:
    """RFC 6665 §4.1.2.4, timer N."""
    referring(talk)
    talk.at(31.9).run(0.2)
    assert talk.tells() == Referred(None, final=True)
    talk.at(600)


def test_a_subscription_lasts_as_long_as_the_far_end_says(talk: Talk) -> None:
    """RFC 6665 §4.1.3; each NOTIFY counts anew, and one without an end lasts as long as we wait."""
    referring(talk)
    notify(talk, "180 Ringing", "active;expires=60")
    talk.tells()
    talk.at(59)
    notify(talk, "180 Ringing", "ACTIVE ; expires=40")
    talk.tells()
    talk.at(98).run(2)
    assert talk.tells() == Referred(None, final=True)
    talk.take(talk.call.refer(talk.now, TARGET))
    talk.answer(talk.sends("REFER"), 202, tag="far")
    notify(talk, "180 Ringing", "active", event="refer;id=3")
    talk.tells()
    talk.at(900)
    notify(talk, "200 OK", OVER, event="refer;id=3")
    assert talk.tells() == Referred(200, final=True)


def test_a_refer_without_an_answer(talk: Talk) -> None:
    """RFC 3261 §17.1.2.2, timer F; the call stays."""
    talk.connect()
    talk.take(talk.call.refer(talk.now, TARGET))
    talk.sends("REFER")
    talk.run(31.9)
    assert len(talk.resends("REFER")) == 10
    talk.quiet().run(0.2)
    assert talk.tells() == Referred(None, final=True)
    talk.at(600).hang_up().sends("BYE")


def test_a_notify_may_come_before_the_202(talk: Talk) -> None:
    """RFC 3515 §2.4.4: the two race."""
    talk.connect()
    talk.take(talk.call.refer(talk.now, TARGET))
    refer = talk.sends("REFER")
    notify(talk, "100 Trying", ACTIVE)
    assert talk.tells() == Referred(100)
    talk.answer(refer, 202, tag="far").at(50)
    notify(talk, "200 OK")
    assert talk.tells() == Referred(200, final=True)


def test_a_challenged_refer_goes_again_with_credentials() -> None:
    """RFC 3261 §22; a NOTIFY may name the number of either."""
    talk = Talk(credentials=Credentials("10086", "secret"))
    talk.connect()
    talk.take(talk.call.refer(talk.now, TARGET))
    talk.answer(talk.sends("REFER"), 407, ("Proxy-Authenticate", ASKS), tag="far")
    again = talk.sends("REFER")
    assert (again.cseq, again.all("Refer-To")) == ((3, "REFER"), [f"<{TARGET}>"])
    assert 'uri="sip:far@192.0.2.9:5070"' in (again.get("Proxy-Authorization") or "")
    talk.answer(again, 202, tag="far")
    notify(talk, "200 OK", event="Refer ; ID=3")
    assert talk.tells() == Referred(200, final=True)


def test_a_challenge_that_we_cannot_answer_is_a_refusal(talk: Talk) -> None:
    referring(talk, 401)
    assert talk.tells() == Referred(401, final=True)


def test_what_comes_of_an_earlier_refer_does_not_count(talk: Talk) -> None:
    """RFC 3515 §2.4.6: the id is the number of the REFER; without one it is the first one's."""
    referring(talk)
    talk.take(talk.call.referral.give_up())
    assert talk.tells() == Referred(None, final=True)
    talk.take(talk.call.refer(talk.now, "sip:2@192.0.2.1"))
    refer = talk.sends("REFER")
    talk.answer(refer, 202, tag="far")
    notify(talk, "200 OK")
    notify(talk, "200 OK", event="refer;id=2")
    talk.quiet()
    notify(talk, "486 Busy", event=f"refer;id={refer.cseq[0]}")
    assert talk.tells() == Referred(486, final=True)


def test_one_refer_at_a_time(talk: Talk) -> None:
    referring(talk)
    talk.take(talk.call.refer(talk.now, TARGET))
    talk.quiet()


@pytest.mark.parametrize(
    ("event", "status"), [("refer", 481), ("presence", 489), ("", 489), ("referral", 489)]
)
def test_a_notify_that_nobody_asked_for(talk: Talk, event: str, status: int) -> None:
    """RFC 6665 §4.1.3, §8.3.2."""
    talk.connect()
    talk.asks("NOTIFY", *([("Event", event)] if event else []), ("Subscription-State", ACTIVE))
    said = talk.says(status)
    assert (said.get("Allow-Events") == "refer") == (status == 489)
    talk.quiet()


def test_the_callee_hangs_up_meanwhile(talk: Talk) -> None:
    """The call is over, and no timer of the REFER is left; what comes late gets 481."""
    referring(talk)
    talk.asks("BYE")
    talk.says(200)
    assert talk.tells() == Over(HungUpBy.CALLEE, None)
    talk.asks("NOTIFY", ("Event", "refer"), ("Subscription-State", OVER), body=b"SIP/2.0 200 OK\r\n")
    talk.says(481)
    talk.finishes(within=64)


def test_we_hang_up_meanwhile(talk: Talk) -> None:
    referring(talk)
    talk.hang_up()
    talk.answer(talk.sends("BYE"), 200, tag="far")
    assert talk.tells() == Over(HungUpBy.CALLER, None)
    talk.finishes(within=64)


def test_no_refer_before_an_answer_or_after_the_end(talk: Talk) -> None:
    talk.take(talk.call.refer(0, TARGET))
    talk.start()
    talk.take(talk.call.refer(0, TARGET))
    talk.quiet()
