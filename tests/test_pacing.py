"""The timer: so many calls every so many seconds, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from outdial.model import CallWindow, CampaignState, SpecialDate, SpecialDateKind, TimerPacing
from outdial.pacing import LEAD, MAX_LAUNCH, SLOT, allowance, launched, next_call, next_launch, send_times
from playbook import NOON, campaign

TEN_A_MINUTE = TimerPacing("main", 10, 60)
SECOND = timedelta(seconds=1)


def test_the_first_launch_is_at_once() -> None:
    assert next_launch(TEN_A_MINUTE, None, NOON) == NOON


def test_the_next_launch_is_an_interval_after_the_last() -> None:
    assert next_launch(TEN_A_MINUTE, NOON, NOON + 59 * SECOND) == NOON + 60 * SECOND
    assert next_launch(TEN_A_MINUTE, NOON, NOON + 60 * SECOND) == NOON + 60 * SECOND


def test_missed_launches_are_not_made_up_for() -> None:
    later = NOON + timedelta(days=1)
    assert next_launch(TEN_A_MINUTE, NOON, later) == later


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=1)])
def test_a_clock_that_went_back_never_blocks(back: timedelta) -> None:
    assert next_launch(TEN_A_MINUTE, NOON + back, NOON) == NOON


def test_a_neighbour_whose_clock_is_a_little_ahead_keeps_the_pace() -> None:
    """Two engines: what the other launched "in 20 ms" was launched just now."""
    ahead = timedelta(milliseconds=20)
    assert next_launch(TEN_A_MINUTE, NOON + ahead, NOON) == NOON + 60 * SECOND + ahead


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        ({}, 10),
        ({"state": CampaignState.DRAFT}, 0),
        ({"state": CampaignState.SUSPENDED}, 0),
        ({"state": CampaignState.ENDED}, 0),
        ({"begin_at": NOON}, 10),
        ({"begin_at": NOON + SECOND}, 0),
        ({"end_at": NOON + SECOND}, 10),
        ({"end_at": NOON}, 0),
        ({"last_launch_at": NOON - 60 * SECOND}, 10),
        ({"last_launch_at": NOON - 59 * SECOND}, 0),
        ({"windows": (CallWindow(540, 720), None, None)}, 0),
        ({"windows": (None, None, CallWindow(720, 721))}, 10),
        ({"windows": (None, None, None)}, 0),
        ({"pacing": TimerPacing("main", MAX_LAUNCH + 1, 1)}, MAX_LAUNCH),
    ],
)
def test_state_dates_hours_and_pace_decide(changes: dict[str, object], calls: int) -> None:
    assert allowance(campaign(**{"pacing": TEN_A_MINUTE, **changes}), "UTC", NOON) == calls


def test_a_special_date_has_its_own_hours() -> None:
    """2026-03-02 is a Monday."""
    mondays = (SpecialDate(1, "d", SpecialDateKind.WEEKLY, weekdays=(1,)),)
    assert allowance(campaign(special_dates=mondays), "UTC", NOON) == 0
    noon = (CallWindow(700, 740), None, None)
    assert allowance(campaign(special_dates=mondays, special_windows=noon), "UTC", NOON) == 1
    assert allowance(campaign(special_windows=noon), "UTC", NOON + timedelta(hours=1)) == 1


def test_hours_are_those_of_the_time_zone() -> None:
    """Noon in UTC is 20:00 in Shanghai and 07:00 in New York."""
    until_nine = campaign(windows=(CallWindow(420, 540), None, None))
    assert allowance(until_nine, "America/New_York", NOON) == 1
    assert allowance(until_nine, "Asia/Shanghai", NOON) == 0


# -- what is left of a launch ----------------------------------------------------------------------------


def test_what_found_no_room_may_follow_until_the_next_launch() -> None:
    begun = launched(campaign(pacing=TEN_A_MINUTE), NOON, 3, dry=False, sends=[])
    assert (begun.last_launch_at, begun.launch_rest) == (NOON, 7)
    assert allowance(begun, "UTC", NOON + 59 * SECOND) == 7
    more = launched(begun, NOON + 30 * SECOND, 2, dry=False, sends=[])
    assert (more.last_launch_at, more.launch_rest) == (NOON, 5)
    assert allowance(more, "UTC", NOON + 60 * SECOND) == 10, "the rest is forgotten, not added"


def test_a_launch_that_found_too_few_numbers_is_over() -> None:
    begun = launched(campaign(pacing=TEN_A_MINUTE), NOON, 3, dry=True, sends=[])
    assert allowance(begun, "UTC", NOON + SECOND) == 0


def test_a_claim_without_calls_changes_nothing() -> None:
    before = campaign(pacing=TEN_A_MINUTE, launch_rest=4, last_launch_at=NOON)
    assert launched(before, NOON + SECOND, 0, dry=True, sends=[]) == before


# -- max_cps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [0.1, 0.7, 1.0, 1.5, 4.0, 10.0, 33.3, 200.0])
def test_no_second_has_more_calls_than_max_cps(cap: float) -> None:
    """Claims at random moments, calls up to `SLOT` late: below 1 a second, no 1 / max_cps seconds has two."""
    random = Random(7)
    of, now, sent = campaign(max_cps=cap, pacing=TimerPacing("main", 10**6, 1)), NOON, []
    for _ in range(300):
        now = max(now, next_call(replace(of, launch_rest=1), now)) + random.random() * SECOND / 10
        times = send_times(of, now, random.randint(1, 200))
        of = launched(of, now, len(times), dry=False, sends=times)
        sent += [at.timestamp() + random.uniform(0, SLOT) for at in times]
        assert all(now <= at <= now + LEAD for at in times)
    span, most = max(1.0, 1 / cap), max(1, int(cap))
    sent.sort()
    assert all(later - first >= span - 1e-6 for first, later in zip(sent, sent[most:], strict=False))
    assert len(sent) / (sent[-1] - sent[0]) > 0.6 * most / span, "and it is used"


def test_a_clock_that_went_back_does_not_stop_max_cps() -> None:
    of = campaign(max_cps=1.0, next_send_at=NOON + timedelta(hours=1))
    assert send_times(of, NOON, 1) == [NOON]


def test_max_cps_is_waited_for() -> None:
    of = campaign(max_cps=1.0, next_send_at=NOON + SECOND)
    assert send_times(of, NOON, 5) == []
    assert next_call(of, NOON) == NOON + SECOND
