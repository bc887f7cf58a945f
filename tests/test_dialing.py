"""The dialer, path by path, as conversations with explicit times (`playbook.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from outdial.dialing import (
    CONFIRM_WITHIN,
    MAX_CALL,
    Adopted,
    Candidate,
    Claim,
    Claimed,
    ClaimFailed,
    Confirm,
    HangUp,
    Inquire,
    Listing,
    NotSent,
    Remember,
    Remembered,
    Selection,
    Stop,
    SwitchDown,
    SwitchUp,
    Told,
    select,
)
from outdial.model import (
    NO_CAPS,
    Answered,
    Attempt,
    CallRecord,
    CallWindow,
    CampaignState,
    Caps,
    Disposition,
    Ended,
    Fate,
    HeldBy,
    HungUpBy,
    Inquiry,
    Recycle,
    Ringing,
    SpecialDate,
    SpecialDateKind,
    TimerPacing,
    Transferring,
)
from playbook import NOON, Playbook, asked, attempt, paced, place, settled, withdraw

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def play() -> Iterator[Playbook]:
    """A conversation in which nothing may stay unsaid."""
    book = Playbook()
    yield book
    book.settle_up()


# -- transfers -------------------------------------------------------------------------------------------


def handing_over(play: Playbook) -> tuple[Attempt, Attempt]:
    """An answered call, and the attempt that hands it over, a second later."""
    one = attempt()
    play.launch(one)
    play >> Answered(one.attempt_id)
    over = replace(attempt(), attempt_id=UUID(int=77), transfer_of=one.attempt_id)
    play.at(1) >> Transferring(over)
    return one, over


def test_a_transfer_is_settled_like_a_call_and_leaves_its_call_alone(play: Playbook) -> None:
    one, over = handing_over(play)
    assert play.dialer.knows(over.attempt_id)
    play >> Transferring(over)  # told twice: nothing
    play.at(2) >> Ringing(over.attempt_id)
    play.at(3) >> Answered(over.attempt_id)
    play >> Ended(over.attempt_id, sip_status=200, answered=True)
    at = [NOON + timedelta(seconds=n) for n in range(4)]
    play << settled(over, Disposition.ANSWERED, sent_at=at[1], ringing_at=at[2], answered_at=at[3])
    assert play.dialer.knows(one.attempt_id)
    play >> Ended(one.attempt_id, 16, 200, answered=True)
    play << settled(one, Disposition.ANSWERED)


def test_a_transfer_that_did_not_leave_was_not_attempted(play: Playbook) -> None:
    over = replace(attempt(), transfer_of=UUID(int=1))
    play >> Transferring(over, sent=False)
    play << settled(over, Disposition.NOT_ATTEMPTED, sent_at=None)
    assert not play.dialer.knows(over.attempt_id)


def test_a_transfer_whose_end_nobody_heard_is_unknown(play: Playbook) -> None:
    """Also where its target rang."""
    one, over = handing_over(play)
    play >> Ringing(over.attempt_id) >> Ended(over.attempt_id, hung_up_by=HungUpBy.CALLEE, lost=True)
    play << settled(over, Disposition.UNKNOWN, hung_up_by=HungUpBy.CALLEE)
    play >> Ended(one.attempt_id, 16, 200, answered=True)
    play << settled(one, Disposition.ANSWERED)


def test_a_transfer_is_waited_for_as_long_as_a_callee_may_ring(play: Playbook) -> None:
    one, over = handing_over(play)
    play.at(1 + over.max_alerting_time - 0.1)
    play.at(1 + over.max_alerting_time) << HangUp(over.attempt_id)
    play >> Ended(over.attempt_id, lost=True)
    play << settled(over, Disposition.UNKNOWN)
    play >> Ended(one.attempt_id, 16, 200, answered=True)
    play << settled(one, Disposition.ANSWERED)


def test_a_dead_runs_transfer_is_never_taken_back(play: Playbook) -> None:
    """Its number is being talked to: even a switch that never saw it leaves it UNKNOWN."""
    over = replace(attempt(), transfer_of=UUID(int=1))
    play >> SwitchUp() >> Adopted((over,))
    play << Inquire((asked(over),), 0)
    play >> Told((Inquiry(over.attempt_id, Fate.UNSEEN),), 0)
    play << settled(over, Disposition.UNKNOWN)


# -- how calls end ---------------------------------------------------------------------------------------


def test_answered(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(1) >> Ringing(one.attempt_id)
    play.at(8) >> Answered(one.attempt_id)
    play.at(70) >> Ended(one.attempt_id, 16, 200, answered=True, hung_up_by=HungUpBy.CALLEE)
    play << settled(
        one,
        Disposition.ANSWERED,
        ringing_at=NOON + timedelta(seconds=1),
        answered_at=NOON + timedelta(seconds=8),
        ended_at=NOON + timedelta(seconds=70),
        cause=16,
        sip_status=200,
        hung_up_by=HungUpBy.CALLEE,
    )
    assert not play.dialer.knows(one.attempt_id)


def test_an_answer_heard_before_the_end_counts_although_the_end_does_not_say_so(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Answered(one.attempt_id) >> Ended(one.attempt_id, cause=16)
    play << settled(one, Disposition.ANSWERED)


def test_busy(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(1) >> Ended(one.attempt_id, cause=17, sip_status=486)
    play << settled(one, Disposition.BUSY, ringing_at=None, answered_at=None, cause=17, sip_status=486)


def test_codes_outside_their_standards_are_not_stored(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Ended(one.attempt_id, cause=99999, sip_status=-1)
    play << settled(one, Disposition.FAILED, cause=None, sip_status=None)


def test_ring_limit_begins_anew_at_ringing_and_then_we_give_up(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(5) >> Ringing(one.attempt_id)
    play.at(24.9)
    play.at(25) << HangUp(one.attempt_id)
    play.at(25.2) >> Ended(one.attempt_id, sip_status=487, hung_up_by=HungUpBy.CALLER)
    play << settled(one, Disposition.RING_TIMEOUT)


def test_ringing_twice_does_not_ring_longer(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(5) >> Ringing(one.attempt_id)
    play.at(15) >> Ringing(one.attempt_id)
    play.at(25) << HangUp(one.attempt_id)
    play >> Ended(one.attempt_id, sip_status=487)
    play << settled(one, Disposition.RING_TIMEOUT, ringing_at=NOON + timedelta(seconds=5))


def test_an_answer_that_crosses_our_cancel_is_hung_up_again(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Ringing(one.attempt_id)
    play.at(20) << HangUp(one.attempt_id)
    play.at(20.1) >> Answered(one.attempt_id)
    play << HangUp(one.attempt_id)
    play >> Answered(one.attempt_id)
    play.at(20.3) >> Ended(one.attempt_id, cause=16, answered=True)
    play << settled(one, Disposition.RING_TIMEOUT, answered_at=NOON + timedelta(seconds=20.1))


def test_a_carrier_that_never_says_a_word(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(20) << HangUp(one.attempt_id)
    play.at(24.9)
    play.at(25) << settled(one, Disposition.NO_REPLY, hung_up_by=HungUpBy.CALLER)


def test_a_carrier_that_rings_and_never_ends_the_call(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Ringing(one.attempt_id)
    play.at(20) << HangUp(one.attempt_id)
    play.at(25) << settled(one, Disposition.RING_TIMEOUT)


def test_a_talk_has_a_bound(play: Playbook) -> None:
    one, two = attempt(), attempt()
    play.launch(one, two)
    play >> Answered(one.attempt_id)
    play.at(1) >> Answered(two.attempt_id)
    play.at(MAX_CALL - 1)
    play.at(MAX_CALL) << HangUp(one.attempt_id)
    play >> Ended(one.attempt_id, cause=16, answered=True)
    play << settled(one, Disposition.ANSWERED)
    play.at(MAX_CALL + 1) << HangUp(two.attempt_id)
    play.at(MAX_CALL + 6) << settled(two, Disposition.ANSWERED)


def test_every_event_twice_changes_nothing(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    for event in (Ringing(one.attempt_id), Answered(one.attempt_id)):
        play >> event >> event
    play >> Ended(one.attempt_id, cause=16, answered=True)
    play << settled(one, Disposition.ANSWERED)
    for event in (
        Ended(one.attempt_id),
        Answered(one.attempt_id),
        Ringing(one.attempt_id),
        NotSent(one.attempt_id),
    ):
        play >> event
    assert play.dialer.ignored == 4


def test_a_claim_reported_twice_places_its_calls_once(play: Playbook) -> None:
    one = attempt()
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    claimed = play.claimed(one)
    play >> claimed
    play << place(one)
    play >> claimed >> Ended(one.attempt_id, cause=17)
    play << settled(one, Disposition.BUSY)
    play >> claimed


# -- placing ---------------------------------------------------------------------------------------------


def test_a_call_leaves_within_the_bound_or_not_at_all(play: Playbook) -> None:
    """G3, G7: measured from before the claim began, on the monotonic clock."""
    early, late = attempt(), attempt()
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play.at(0.9) >> play.claimed(early, began=0.0)
    play << place(early)
    play.at(1.9) << Claim(1, 7, 1)
    play.at(2.81) >> play.claimed(late, began=1.9)
    play << withdraw(late)
    play >> Stop() >> Ended(early.attempt_id, cause=17)
    play << settled(early, Disposition.BUSY)


def test_a_big_launch_is_placed_call_by_call(play: Playbook) -> None:
    crowd = [attempt(contact_id=n) for n in range(50)]
    play.launch(*crowd)
    assert play.dialer.in_flight == 50


def test_hours_that_end_between_claim_and_call(play: Playbook) -> None:
    """G6: judged at the moment of sending."""
    one = attempt()
    of = paced(windows=(CallWindow(540, 721), None, None))
    play >> SwitchUp()
    play.at(59.7).load(of) << Claim(1, 7, 1)
    play.at(60.0) >> play.claimed(one, of=of, began=59.7)
    play << withdraw(one)


def test_a_special_date_that_begins_between_claim_and_call(play: Playbook) -> None:
    """G6: Tuesday is one, and has no windows."""
    one = attempt()
    tuesdays = (SpecialDate(1, "d", SpecialDateKind.WEEKLY, weekdays=(2,)),)
    of = paced(special_dates=tuesdays)
    play >> SwitchUp()
    play.at(12 * 3600 - 0.3).load(of) << Claim(1, 7, 1)
    play.at(12 * 3600) >> play.claimed(one, of=of, began=12 * 3600 - 0.3)
    play << withdraw(one)


def test_hours_that_change_are_judged_anew(play: Playbook) -> None:
    """A special date without windows closes the day until it is taken away, or gets windows."""
    mondays = (SpecialDate(1, "d", SpecialDateKind.WEEKLY, weekdays=(1,)),)
    play >> SwitchUp()
    play.load(paced(special_dates=mondays))
    play.at(10).load(paced(special_dates=mondays, special_windows=paced().campaign.windows)) << Claim(1, 7, 1)


def test_the_end_of_the_campaign_between_claim_and_call(play: Playbook) -> None:
    one = attempt()
    of = paced(end_at=NOON + timedelta(seconds=10))
    play >> SwitchUp()
    play.at(9.5).load(of) << Claim(1, 7, 1)
    play.at(10.0) >> play.claimed(one, of=of, began=9.5)
    play << withdraw(one)


def test_a_stop_between_claim_and_call(play: Playbook) -> None:
    one = attempt()
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play >> Stop() >> play.claimed(one)
    play << withdraw(one)
    play.at(100)


def test_a_stop_lets_calls_end(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Stop()
    play.at(5) >> Answered(one.attempt_id) >> Ended(one.attempt_id, cause=16)
    play << settled(one, Disposition.ANSWERED)


def test_the_switch_is_lost_between_claim_and_call(play: Playbook) -> None:
    one = attempt()
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play >> SwitchDown() >> play.claimed(one)
    play << withdraw(one)


def test_the_switch_refuses_the_order(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> NotSent(one.attempt_id)
    play << withdraw(one)
    play >> NotSent(one.attempt_id)


# -- a lost switch, and a dead run -----------------------------------------------------------------------


def lose_the_switch(play: Playbook, *calls: Attempt, answered_at: datetime | None = None) -> None:
    play >> SwitchDown() >> SwitchUp()
    play << Inquire(tuple(asked(one, answered_at=answered_at) for one in calls), 1)


def test_alive_after_an_outage_goes_on_with_its_ring_limit(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(5)
    lose_the_switch(play, one)
    play >> Told((Inquiry(one.attempt_id, Fate.ALIVE),), 1)
    play.at(19.9)
    play.at(20) << HangUp(one.attempt_id)
    play >> Ended(one.attempt_id, sip_status=487)
    play << settled(one, Disposition.RING_TIMEOUT)


def test_alive_and_answered_during_the_outage(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(5)
    lose_the_switch(play, one)
    play.at(6) >> Told((Inquiry(one.attempt_id, Fate.ALIVE, answered=True),), 1)
    play.at(60) >> Ended(one.attempt_id, cause=16, answered=True)
    play << settled(one, Disposition.ANSWERED, answered_at=NOON + timedelta(seconds=6))


def test_the_ring_limit_waits_for_the_switch(play: Playbook) -> None:
    """While nothing is heard, nobody knows whether the call was answered meanwhile."""
    one = attempt()
    play.launch(one)
    play >> SwitchDown()
    play.at(60) >> SwitchUp()
    play << Inquire((asked(one),), 1)
    play >> Told((Inquiry(one.attempt_id, Fate.ALIVE),), 1)
    play << HangUp(one.attempt_id)
    play.at(65) << settled(one, Disposition.NO_REPLY)


def test_a_cancel_that_may_have_been_lost_is_repeated(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Ringing(one.attempt_id)
    play.at(20) << HangUp(one.attempt_id)
    lose_the_switch(play, one)
    play >> Told((Inquiry(one.attempt_id, Fate.ALIVE),), 1)
    play << HangUp(one.attempt_id)
    play >> Ended(one.attempt_id, sip_status=487)
    play << settled(one, Disposition.RING_TIMEOUT)


@pytest.mark.parametrize("by_event", [True, False])
def test_ended_during_the_outage(play: Playbook, by_event: bool) -> None:
    one = attempt()
    play.launch(one)
    lose_the_switch(play, one)
    ended = Ended(one.attempt_id, cause=17, sip_status=486)
    play >> (ended if by_event else Told((ended,), 1))
    play << settled(one, Disposition.BUSY)
    play >> Told((ended,), 1)


def test_unseen_is_withdrawn(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    lose_the_switch(play, one)
    play >> Told((Inquiry(one.attempt_id, Fate.UNSEEN),), 1)
    play << withdraw(one)


def test_unseen_is_not_believed_of_a_call_that_was_heard(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Ringing(one.attempt_id)
    lose_the_switch(play, one)
    play >> Told((Inquiry(one.attempt_id, Fate.UNSEEN),), 1)
    play << settled(one, Disposition.UNKNOWN)


def test_cannot_tell_is_unknown(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    lose_the_switch(play, one)
    play >> Told((Inquiry(one.attempt_id, Fate.CANNOT_TELL),), 1)
    play << settled(one, Disposition.UNKNOWN)


def test_who_answered_was_reached_even_if_nobody_can_tell_the_end(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Answered(one.attempt_id)
    lose_the_switch(play, one, answered_at=NOON)
    play >> Told((Inquiry(one.attempt_id, Fate.CANNOT_TELL),), 1)
    play << settled(one, Disposition.ANSWERED)


def test_a_switch_that_cannot_be_asked_is_asked_again(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    lose_the_switch(play, one)
    play >> Told((), 1)
    play.at(0.9)
    play.at(1.0) << Inquire((asked(one),), 1)
    play >> Told((Inquiry(one.attempt_id, Fate.UNSEEN),), 1)
    play << withdraw(one)


def test_alive_is_not_believed_across_a_second_outage(play: Playbook) -> None:
    """What the switch said between the answer and the outage after it was not heard."""
    one = attempt()
    play.launch(one)
    lose_the_switch(play, one)
    play >> SwitchDown() >> SwitchUp() >> Told((Inquiry(one.attempt_id, Fate.ALIVE),), 1)
    play << Inquire((asked(one),), 2)
    play >> Told((Ended(one.attempt_id, cause=17),), 2)
    play << settled(one, Disposition.BUSY)


def test_a_switch_that_never_comes_back(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> SwitchDown()
    play.at(MAX_CALL) << settled(one, Disposition.UNKNOWN)


def test_a_dead_runs_attempts_are_asked_about_and_kept(play: Playbook) -> None:
    alive, ended, unseen, lost = (attempt(contact_id=n) for n in range(4))
    crowd = (alive, ended, unseen, lost)
    ids = tuple(one.attempt_id for one in crowd)
    play >> Adopted(crowd) >> SwitchUp()
    play << Inquire(tuple(map(asked, crowd)), 0)
    play >> Told(
        (
            Inquiry(ids[0], Fate.ALIVE),
            Ended(ids[1], cause=17),
            Inquiry(ids[2], Fate.UNSEEN),
            Inquiry(ids[3], Fate.CANNOT_TELL),
        ),
        0,
    )
    play << settled(ended, Disposition.BUSY) << withdraw(unseen) << settled(lost, Disposition.UNKNOWN)
    play >> Adopted((alive,))
    play.at(20) << HangUp(ids[0])
    play >> Ended(ids[0], sip_status=487)
    play << settled(alive, Disposition.RING_TIMEOUT)


def test_many_are_asked_about_in_turn(play: Playbook) -> None:
    crowd = tuple(attempt(contact_id=n) for n in range(700))
    ids = tuple(one.attempt_id for one in crowd)
    play >> SwitchUp() >> Adopted(crowd)
    play << Inquire(tuple(map(asked, crowd[:500])), 0)
    play >> Told(tuple(Inquiry(one, Fate.ALIVE, answered=True) for one in ids[:500]), 0)
    play << Inquire(tuple(map(asked, crowd[500:])), 0)
    play >> Told(tuple(Inquiry(one, Fate.ALIVE, answered=True) for one in ids[500:]), 0)
    assert play.dialer.in_flight == 700


# -- answers that are stored before they are acknowledged ------------------------------------------------


def remember(one: Attempt, dialog: str = "d") -> Remember:
    return Remember(1, one.attempt_id, dialog, NOON, NOON, NOON)


def test_an_answer_is_confirmed_once_it_is_stored(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Ringing(one.attempt_id) >> Answered(one.attempt_id, dialog="d")
    play << remember(one)
    play.at(0.5) >> Remembered((one.attempt_id,))
    play << Confirm(one.attempt_id)
    play >> Remembered((one.attempt_id,))
    play.at(CONFIRM_WITHIN)
    play >> Ended(one.attempt_id, cause=16)
    play << settled(one, Disposition.ANSWERED)


def test_an_answer_that_the_store_does_not_take_is_confirmed_after_a_second(play: Playbook) -> None:
    """The callee hears nothing until then; the answer is stored when the store is back."""
    one, two = attempt(), attempt()
    play.launch(one, two)
    play >> Ringing(one.attempt_id) >> Answered(one.attempt_id, dialog="d")
    play << remember(one)
    play >> Ringing(two.attempt_id) >> Answered(two.attempt_id, dialog="e")
    play << remember(two, "e")
    play >> Ended(two.attempt_id)
    play << settled(two, Disposition.ANSWERED)
    assert play.dialer.wake_at(play.now) == 1001.0
    play.at(0.99)
    play.at(1.0) << Confirm(one.attempt_id)
    play >> Remembered((one.attempt_id, two.attempt_id))


def test_an_answer_of_a_switch_that_waits_for_nothing_is_not_remembered(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play >> Answered(one.attempt_id)
    play.at(2)


def test_an_answer_that_crosses_our_cancel_is_released_unconfirmed(play: Playbook) -> None:
    one = attempt()
    play.launch(one)
    play.at(20) << HangUp(one.attempt_id)
    play >> Answered(one.attempt_id, dialog="d")
    play << HangUp(one.attempt_id)
    play >> Ended(one.attempt_id, cause=16, answered=True)
    play << settled(one, Disposition.RING_TIMEOUT)


@pytest.mark.parametrize("word", [Fate.CANNOT_TELL, Fate.UNSEEN])
def test_a_dead_runs_answered_call_stays_answered(play: Playbook, word: Fate) -> None:
    """The store knew that it was answered: nobody can make it UNKNOWN, or take it back."""
    one = attempt(sent_at=NOON, answered_at=NOON, dialog="d")
    play >> SwitchUp() >> Adopted((one,))
    play << Inquire((asked(one, dialog="d", answered_at=NOON),), 0)
    play.at(5) >> Told((Inquiry(one.attempt_id, word),), 0)
    play << settled(one, Disposition.ANSWERED, sent_at=NOON, answered_at=NOON)


def test_a_dead_runs_answered_call_that_is_alive_has_the_bound_of_a_talk(play: Playbook) -> None:
    one = attempt(answered_at=NOON, dialog="d")
    play >> SwitchUp() >> Adopted((one,))
    play << Inquire((asked(one, dialog="d", answered_at=NOON),), 0)
    play.at(1) >> Told((Inquiry(one.attempt_id, Fate.ALIVE, answered=True),), 0)
    play.at(MAX_CALL - 1)
    play.at(MAX_CALL) << HangUp(one.attempt_id)
    play >> Ended(one.attempt_id, cause=16)
    play << settled(one, Disposition.ANSWERED)


def test_the_record_of_a_call_comes_with_its_end(play: Playbook) -> None:
    one = attempt(session_id="s", call_data='{"a":1}')
    record = CallRecord("north", "12#", ("greet", "ask"), "human", 500, 498)
    play.launch(one)
    play.at(3) >> Ended(one.attempt_id, cause=17, record=record)
    play << settled(one, Disposition.BUSY, sent_at=NOON, record=record)


# -- claiming --------------------------------------------------------------------------------------------


def test_nothing_is_claimed_without_a_switch(play: Playbook) -> None:
    play.load(paced())
    play.at(10) >> SwitchUp()
    play << Claim(1, 7, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": CampaignState.SUSPENDED},
        {"begin_at": NOON + DAY},
        {"end_at": NOON},
        {"windows": (CallWindow(540, 720), None, None)},
        {"windows": (None, None, None)},
    ],
)
def test_what_may_not_be_dialed_is_not_claimed(play: Playbook, changes: dict[str, object]) -> None:
    play >> SwitchUp()
    play.load(paced(**changes))
    play.at(60).load(paced(**changes))


def test_a_campaign_begins_at_its_time(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced(begin_at=NOON + timedelta(seconds=30)))
    assert play.dialer.wake_at(play.now) == 1030.0
    play.at(29.9)
    play.at(30) << Claim(1, 7, 1)


def test_hours_open_at_their_time_on_any_clock(play: Playbook) -> None:
    evening = paced(windows=(CallWindow(540, 720), CallWindow(780, 1020), None))
    play >> SwitchUp()
    play.load(evening)
    play.at(3599)
    play.at(3599.5, wall=NOON - 4 * HOUR).load(evening)  # the clock goes back: before the morning
    play.at(3600, wall=NOON - 2 * HOUR).load(evening) << Claim(1, 7, 1)


def test_the_pace_of_the_timer(play: Playbook) -> None:
    timer = TimerPacing("main", 2, 5)
    play >> SwitchUp()
    play.load(paced(pacing=timer)) << Claim(1, 7, 2)
    one, two = attempt(), attempt(contact_id=2)
    play >> play.claimed(one, two, of=paced(pacing=timer, last_launch_at=play.now.wall))
    play << place(one) << place(two)
    play.at(4.99)
    play.at(5) << Claim(1, 7, 2)


@pytest.mark.parametrize("jump", [-DAY, -HOUR, HOUR, DAY])
def test_the_pace_holds_when_the_clock_jumps(play: Playbook, jump: timedelta) -> None:
    """Forward it is never faster, back it is never stuck."""
    timer = TimerPacing("main", 1, 10)
    of = paced(pacing=timer, last_launch_at=NOON)
    play >> SwitchUp()
    play.load(paced(pacing=timer)) << Claim(1, 7, 1)
    one = attempt()
    play >> play.claimed(one, of=of)
    play << place(one)
    play.at(1, wall=NOON + jump).load(of)
    play.at(9.9).load(of)
    play.at(10) << Claim(1, 7, 1)


def test_a_new_engine_keeps_the_pace_of_the_one_before(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced(pacing=TimerPacing("main", 1, 10), last_launch_at=NOON - timedelta(seconds=4)))
    play.at(5.9)
    play.at(6) << Claim(1, 7, 1)


def test_a_campaign_that_comes_back_keeps_its_pace(play: Playbook) -> None:
    """Paused and resumed within the interval, the clock jumping ahead meanwhile."""
    of = paced(pacing=TimerPacing("main", 1, 10), last_launch_at=NOON)
    play >> SwitchUp()
    play.load(paced(pacing=TimerPacing("main", 1, 10))) << Claim(1, 7, 1)
    one = attempt()
    play >> play.claimed(one, of=of)
    play << place(one)
    play.at(2).load()
    play.at(3, wall=NOON + HOUR).load(of)
    play.at(9.9)
    play.at(10) << Claim(1, 7, 1)


def test_a_failed_claim_is_repeated_after_a_second(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play >> ClaimFailed((1, 7)) >> ClaimFailed((1, 7))
    play.at(0.99).load(paced())
    play.at(1) << Claim(1, 7, 1)


def test_a_campaign_that_was_paused_meanwhile_is_not_claimed_again(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play >> Claimed((1, 7), None, (), began=1000.0)
    play.at(0.5).load()
    play.at(60)


def test_where_nothing_is_due_looks_become_rare(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    at = 0.0
    for rest in (1, 2, 4, 5, 5):
        play >> play.claimed(empty=True)
        play.at(at + rest - 0.01)
        at += rest
        play.at(at) << Claim(1, 7, 1)


def test_more_numbers_end_the_rest(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play >> play.claimed(empty=True)
    play.at(0.5).load(paced(incomplete=101)) << Claim(1, 7, 1)


def test_candidates_that_all_ended_otherwise_are_no_reason_to_rest(play: Playbook) -> None:
    play >> SwitchUp()
    play.load(paced()) << Claim(1, 7, 1)
    play >> play.claimed()
    play.at(0.01) << Claim(1, 7, 1)


def test_claims_at_once_are_bounded_and_fair(play: Playbook) -> None:
    crowd = [paced(campaign_id=n) for n in (1, 2, 3)]
    play >> SwitchUp()
    play.load(*crowd) << Claim(1, 1, 1) << Claim(1, 2, 1)
    play >> play.claimed(empty=True, of=crowd[0])
    play << Claim(1, 3, 1)
    play.at(3) >> play.claimed(empty=True, of=crowd[1])
    play << Claim(1, 1, 1)


# -- choosing under the lock -----------------------------------------------------------------------------


def chosen(
    *candidates: Candidate,
    room: int = 10,
    recycle: Recycle = Recycle.KEEP,
    refused: dict[int, Disposition] | None = None,
    caps: Caps = NO_CAPS,
    calls: dict[str, list[datetime]] | None = None,
    **listings: Listing,
) -> Selection:
    """Select at noon; listings by number, as `n1=...`."""
    ids = count(1)
    return select(
        candidates,
        {number[1:]: listing for number, listing in listings.items()},
        now=NOON,
        tz=ZoneInfo("Asia/Kolkata"),  # 17:30: its hour began half an hour ago
        recycle=recycle,
        refuses=lambda one: (refused or {}).get(one.contact_id),
        caps=caps,
        calls=calls or {},
        room=room,
        new_id=lambda: UUID(int=next(ids)),
    )


def candidate(contact_id: int, called: str = "1", recycle_at: object = None) -> Candidate:
    return Candidate(contact_id, called, None, recycle_at, listed=True)  # type: ignore[arg-type]


def test_numbers_that_are_not_listed_are_dialed_in_order_while_there_is_room() -> None:
    found = chosen(candidate(1), candidate(2), candidate(3), room=2)
    assert [(key.int, one.contact_id) for key, one in found.dial] == [(1, 1), (2, 2)]
    assert found == Selection(dial=found.dial)


def test_a_plain_entry_ends_the_number() -> None:
    assert chosen(candidate(1), n1=Listing(None, None, None, 0)) == Selection(
        ended={Disposition.BLACKLISTED: [1]}
    )


def test_what_the_switch_refuses_ends_without_a_call() -> None:
    """NOT_ALLOWED, BAD_CALLER; what the blacklist says goes before."""
    refused = {1: Disposition.NOT_ALLOWED, 2: Disposition.BAD_CALLER, 3: Disposition.NOT_ALLOWED}
    found = chosen(
        candidate(1),
        candidate(2),
        candidate(3, "9"),
        candidate(4),
        refused=refused,
        n9=Listing(None, None, None, 0),
    )
    assert found.ended == {
        Disposition.NOT_ALLOWED: [1],
        Disposition.BAD_CALLER: [2],
        Disposition.BLACKLISTED: [3],
    }
    assert [one.contact_id for _, one in found.dial] == [4]


def test_a_restriction_counts_calls_one_by_one_and_then_postpones() -> None:
    """Three copies of one number, two calls allowed an hour, one made since 17:00 local time."""
    hour = NOON - HOUR / 2
    found = chosen(*map(candidate, (1, 2, 3)), n1=Listing(2, "hour", hour, 1))
    assert [one.contact_id for _, one in found.dial] == [1]
    assert found.postponed == [(2, NOON + HOUR / 2, HeldBy.BLACKLIST), (3, NOON + HOUR / 2, HeldBy.BLACKLIST)]
    assert found.counted == {"1": Listing(2, "hour", hour, 2)}


def test_a_new_hour_counts_from_nothing() -> None:
    found = chosen(candidate(1), n1=Listing(1, "hour", NOON - 1.5 * HOUR, 1))
    assert found.counted == {"1": Listing(1, "hour", NOON - HOUR / 2, 1)}


def test_a_restriction_a_day_postpones_to_local_midnight() -> None:
    midnight = NOON.replace(hour=18, minute=30)
    found = chosen(candidate(1), n1=Listing(1, "day", midnight - DAY, 1))
    assert found == Selection(postponed=[(1, midnight, HeldBy.BLACKLIST)])


def test_a_clock_that_went_back_allows_no_more_calls() -> None:
    found = chosen(candidate(1), n1=Listing(1, "hour", NOON + HOUR / 2, 1))
    assert found.postponed == [(1, NOON + HOUR / 2, HeldBy.BLACKLIST)]


def test_a_restricted_number_for_which_there_is_no_room_is_not_counted() -> None:
    assert chosen(candidate(1), room=0, n1=Listing(1, "hour", None, 0)) == Selection()


@pytest.mark.parametrize(
    ("recycle", "seconds", "retired"),
    [(Recycle.RETIRE, 0, [1]), (Recycle.RETIRE, 1, []), (Recycle.KEEP, -1, [])],
)
def test_a_recycle_time_retires_where_the_vdn_says_so(
    recycle: Recycle, seconds: int, retired: list[int]
) -> None:
    found = chosen(candidate(1, recycle_at=NOON + timedelta(seconds=seconds)), recycle=recycle)
    assert found.ended.get(Disposition.RECYCLED, []) == retired
    assert len(found.dial) == 1 - len(retired)


# -- how often one number may be called ------------------------------------------------------------------


def test_a_number_over_a_cap_waits_until_it_may_be_called_again() -> None:
    """Sliding minute and hour: the call that is in the way must be that old."""
    calls = {"1": [NOON - HOUR / 2, NOON - timedelta(seconds=20)]}
    found = chosen(candidate(1), caps=Caps(per_minute=1), calls=calls)
    assert found == Selection(postponed=[(1, NOON + timedelta(seconds=40), HeldBy.CAP)])
    found = chosen(candidate(1), caps=Caps(per_minute=1, per_hour=2), calls=calls)
    assert found.postponed == [(1, NOON + HOUR / 2, HeldBy.CAP)]
    assert chosen(candidate(1), caps=Caps(per_minute=2, per_hour=3), calls=calls).called == {"1": 1}


def test_the_day_of_a_cap_is_the_vdns() -> None:
    """In Kolkata it is 17:30; midnight was at 18:30 UTC of the day before."""
    midnight = NOON.replace(hour=18, minute=30)
    caps = Caps(per_day=1)
    assert chosen(candidate(1), caps=caps, calls={"1": [midnight - DAY]}).postponed == [
        (1, midnight, HeldBy.CAP)
    ]
    before = [midnight - DAY - timedelta(seconds=1)]
    assert chosen(candidate(1), caps=caps, calls={"1": before}).called == {"1": 1}


def test_copies_of_a_number_in_one_claim_count_one_by_one() -> None:
    found = chosen(*map(candidate, (1, 2, 3)), caps=Caps(per_day=2))
    assert [one.contact_id for _, one in found.dial] == [1, 2]
    assert [contact_id for contact_id, *_ in found.postponed] == [3]
    assert found.called == {"1": 2}


def test_a_number_over_a_cap_does_not_use_its_restriction() -> None:
    found = chosen(
        candidate(1), caps=Caps(per_hour=1), calls={"1": [NOON]}, n1=Listing(5, "hour", NOON - HOUR / 2, 1)
    )
    assert found == Selection(postponed=[(1, NOON + HOUR, HeldBy.CAP)])


def test_without_room_nothing_is_counted() -> None:
    assert chosen(candidate(1), room=0, caps=Caps(per_day=1)) == Selection()
