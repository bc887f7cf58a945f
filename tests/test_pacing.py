"""The timer: so many calls every so many seconds, whatever the clock does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from outdial.model import CallWindow, CampaignState, SpecialDate, SpecialDateKind, TimerPacing
from outdial.pacing import MAX_LAUNCH, allowance, next_launch
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
