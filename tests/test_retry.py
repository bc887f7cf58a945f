"""Whether and when a number is tried again (wire/campaign-api.md §5.1, rules.md §6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from outdial import calendar
from outdial.disposition import fail_code
from outdial.model import (
    CallWindow,
    Campaign,
    CampaignState,
    Disposition,
    RetryPolicy,
    RetryRule,
    SpecialDate,
    SpecialDateKind,
)
from outdial.retry import FINAL, GAP, next_try
from playbook import campaign

BUSY, NO_ANSWER = Disposition.BUSY, Disposition.NO_ANSWER
YORK = calendar.zone("America/New_York")
DAYS = RetryPolicy(days=3, tries_a_day=2)
ON_BUSY = RetryRule(("BUSY",), 3, 600)
ON_SILENCE = RetryRule(("NO_ANSWER", "RING_TIMEOUT"), 1, 60)
BY_RESULT = RetryPolicy(rules=(ON_BUSY, ON_SILENCE))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def again(of: Campaign, *tries: tuple[str, Disposition], tz: tzinfo = UTC) -> datetime | None:
    """When the number is tried again, its attempts having lasted a minute each."""
    history = [(disposition, at(when)) for when, disposition in tries]
    return next_try(of, history, history[-1][1] + timedelta(minutes=1), tz)


def tries(*whens: str) -> list[tuple[str, Disposition]]:
    return [(when, BUSY) for when in whens]


# -- by day ----------------------------------------------------------------------------------------------


def test_so_many_tries_on_each_of_so_many_days() -> None:
    """3 days of 2: the second after the gap, the third on the next day's midnight, never a seventh."""
    of = campaign(retry=DAYS)
    days = [f"2026-03-0{day} {hour}:00" for day in (2, 3, 4) for hour in ("08", "09")]
    found = [again(of, *tries(*days[: n + 1])) for n in range(6)]
    assert found == [
        at("2026-03-02 08:01") + GAP,
        at("2026-03-03 00:00"),
        at("2026-03-03 08:01") + GAP,
        at("2026-03-04 00:00"),
        at("2026-03-04 08:01") + GAP,
        None,
    ]


def test_a_day_without_a_try_does_not_count() -> None:
    """Paused, or closed, on the 3rd: the second day of tries is the 4th."""
    of = campaign(retry=RetryPolicy(days=2, tries_a_day=1))
    assert again(of, *tries("2026-03-02 08:00")) == at("2026-03-03 00:00")
    assert again(of, *tries("2026-03-02 08:00", "2026-03-04 08:00")) is None
    assert again(campaign(retry=DAYS), *tries("2026-03-02 08:00", "2026-03-04 08:00")) is not None


def test_the_day_is_the_vdns() -> None:
    """03:30 UTC is still the day before in New York, whose next day begins at 05:00 UTC."""
    of = campaign(retry=RetryPolicy(days=2, tries_a_day=2))
    late = tries("2026-03-03 03:10", "2026-03-03 03:30")
    assert again(of, *late, tz=YORK) == at("2026-03-03 05:00")
    assert again(of, *late, tz=UTC) == at("2026-03-04 00:00")


def test_a_try_that_the_hours_move_to_the_next_day_is_one_of_that_day() -> None:
    """After 20:00 the gap ends outside the hours: on the only day there is, nothing can come any more."""
    until_eight = (CallWindow(480, 1200), None, None)
    one_day = campaign(retry=RetryPolicy(days=1, tries_a_day=5), windows=until_eight)
    assert again(one_day, *tries("2026-03-02 19:40")) == at("2026-03-02 19:51")
    assert again(one_day, *tries("2026-03-02 19:55")) is None
    two_days = campaign(retry=RetryPolicy(days=2, tries_a_day=5), windows=until_eight)
    assert again(two_days, *tries("2026-03-02 19:55")) == at("2026-03-02 20:06")


def test_a_special_date_without_windows_is_no_day_to_call() -> None:
    """The 3rd is closed: a number with tries on the 2nd alone waits for the 4th, within its 2 days."""
    closed = SpecialDate(1, "d", SpecialDateKind.DATES, first="2026-03-03", last="2026-03-03")
    of = campaign(retry=RetryPolicy(days=2, tries_a_day=1), special_dates=(closed,))
    due_at = again(of, *tries("2026-03-02 08:00"))
    assert due_at is not None
    opens_at = calendar.next_open(of.windows, due_at, UTC, of.special_dates, of.special_windows)
    assert opens_at == at("2026-03-04 00:00")


def test_a_clock_that_went_back_leads_to_no_endless_search() -> None:
    """Tries that lie in the future count for their days."""
    of = campaign(retry=RetryPolicy(days=9, tries_a_day=1))
    future = [(BUSY, at(f"2026-03-0{day} 08:00")) for day in (2, 3, 4)]
    assert next_try(of, future, at("2026-03-02 08:01"), UTC) == at("2026-03-05 00:00")


# -- by result -------------------------------------------------------------------------------------------


def test_by_result_with_number_and_interval() -> None:
    """The sample: up to 3 times, 600 s apart, counted from the end of the attempt."""
    of = campaign(retry=BY_RESULT)
    whens = ["2026-03-02 08:00", "2026-03-02 09:00", "2026-03-02 10:00", "2026-03-02 11:00"]
    found = [again(of, *tries(*whens[: n + 1])) for n in range(4)]
    assert found == [at(when) + timedelta(seconds=660) for when in whens[:3]] + [None]


def test_each_result_has_its_own_count() -> None:
    of = campaign(retry=BY_RESULT)
    mixed = [("2026-03-02 08:00", BUSY), ("2026-03-02 09:00", NO_ANSWER), ("2026-03-02 10:00", BUSY)]
    assert again(of, *mixed[:2]) == at("2026-03-02 09:02")
    assert again(of, *mixed) == at("2026-03-02 10:11")
    assert again(of, *mixed, ("2026-03-02 11:00", Disposition.RING_TIMEOUT)) is None


def test_a_result_without_a_rule_ends_the_number() -> None:
    assert again(campaign(retry=BY_RESULT), ("2026-03-02 08:00", Disposition.INVALID)) is None


# -- both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", Disposition)
def test_what_is_never_tried_again(ending: Disposition) -> None:
    """No policy can: answered, unknown, what may not be called. A machine is not a person: it can."""
    of = campaign(retry=RetryPolicy(days=3, tries_a_day=2))
    listed = campaign(retry=RetryPolicy(rules=(RetryRule((ending,), 3, 600),)))
    expected = ending not in {
        *(Disposition.ANSWERED, Disposition.UNKNOWN, Disposition.BLACKLISTED, Disposition.RECYCLED),
        *(Disposition.NOT_ATTEMPTED, Disposition.NOT_ALLOWED, Disposition.BAD_CALLER),
        Disposition.CAPPED,
    }
    assert (ending not in FINAL) is expected
    for one in (of, listed):
        assert (again(one, ("2026-03-02 08:00", ending)) is not None) is expected


@pytest.mark.parametrize("policy", [DAYS, BY_RESULT])
def test_fail_codes_that_end_a_number(policy: RetryPolicy) -> None:
    """`noRetryPolicy`, in the codes that the result push carries."""
    never = RetryPolicy(policy.days, policy.tries_a_day, policy.rules, never=(fail_code(BUSY), "00145"))
    assert again(campaign(retry=never), ("2026-03-02 08:00", BUSY)) is None
    assert again(campaign(retry=never), ("2026-03-02 08:00", NO_ANSWER)) is not None


def test_an_attempt_of_unknown_end_is_no_try() -> None:
    """Where the campaign dials it again, the policy counts as if it had not been."""
    of = campaign(retry=RetryPolicy(days=1, tries_a_day=2))
    unknown = ("2026-03-02 08:00", Disposition.UNKNOWN)
    assert again(of, unknown, ("2026-03-02 09:00", BUSY)) == at("2026-03-02 09:01") + GAP
    assert again(of, ("2026-03-02 08:30", BUSY), unknown, ("2026-03-02 09:00", BUSY)) is None


def test_without_a_policy_there_is_no_retry() -> None:
    assert again(campaign(), *tries("2026-03-02 08:00")) is None
    assert again(campaign(retry=RetryPolicy(never=("00538",))), *tries("2026-03-02 08:00")) is None


def test_after_the_campaign_there_is_no_retry() -> None:
    """Ended, or over before the retry could be placed."""
    assert again(campaign(retry=DAYS, state=CampaignState.ENDED), *tries("2026-03-02 08:00")) is None
    over = campaign(retry=BY_RESULT, end_at=at("2026-03-02 08:11"))
    assert again(over, *tries("2026-03-02 08:00")) is None
    just = campaign(retry=BY_RESULT, end_at=at("2026-03-02 08:11") + timedelta(seconds=1))
    assert again(just, *tries("2026-03-02 08:00")) == at("2026-03-02 08:11")
    closed = campaign(
        retry=BY_RESULT, end_at=at("2026-03-03 08:00"), windows=(CallWindow(480, 485), None, None)
    )
    assert again(closed, *tries("2026-03-02 08:00")) is None


def test_suspended_campaigns_keep_their_retries() -> None:
    """They go on when it is resumed."""
    assert again(campaign(retry=BY_RESULT, state=CampaignState.SUSPENDED), *tries("2026-03-02 08:00"))
