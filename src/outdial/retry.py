"""Whether and when a number is tried again after an attempt (wire/campaign-api.md §5.1, rules.md §6).

What a person answered, what may not be called and what nobody knows the end of is not tried again by any
policy; the last is the campaign's `on_unknown` to decide, and no try of a policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import Final

from outdial import calendar
from outdial.campaigns import opens_at
from outdial.disposition import fail_code
from outdial.model import Campaign, CampaignState, Disposition, RetryRule

GAP: Final = timedelta(seconds=600)
"""Between two tries of one day, where the policy names no interval (the pages' own example has 600 s)."""

FINAL: Final = frozenset(
    {
        Disposition.ANSWERED,
        Disposition.UNKNOWN,
        Disposition.BLACKLISTED,
        Disposition.RECYCLED,
        Disposition.NOT_ATTEMPTED,
        Disposition.NOT_ALLOWED,
        Disposition.BAD_CALLER,
        Disposition.CAPPED,
    }
)
"""After these no policy tries again."""

Try = tuple[Disposition, datetime]
"""How an attempt of a number ended, and when it was intended."""


def next_try(campaign: Campaign, history: Sequence[Try], now: datetime, tz: tzinfo) -> datetime | None:
    """When the number may be tried again; None when it may not.

    `history` has every attempt of the number, the one that ended at `now` last. The moment may lie outside
    the hours: the number then waits for the next open window, and counts for the day on which it is called.
    """
    last = history[-1][0]
    if last in FINAL or fail_code(last) in campaign.retry.never or campaign.state is CampaignState.ENDED:
        return None
    tries = [one for one in history if one[0] is not Disposition.UNKNOWN]
    rule = next((rule for rule in campaign.retry.rules if last in rule.dispositions), None)
    if rule is None:
        return _by_day(campaign, tries, now, tz)
    return _by_result(campaign, rule, tries, now, tz)


def _by_result(
    campaign: Campaign, rule: RetryRule, tries: Sequence[Try], now: datetime, tz: tzinfo
) -> datetime | None:
    """As many more as the rule says, however often other results came between."""
    ended_so = sum(disposition in rule.dispositions for disposition, _ in tries)
    due_at = now + timedelta(seconds=rule.interval)
    return due_at if ended_so <= rule.retries and _opens(campaign, due_at, tz) is not None else None


def _by_day(campaign: Campaign, tries: Sequence[Try], now: datetime, tz: tzinfo) -> datetime | None:
    """So many tries on each of so many days; days without a try do not count."""
    policy = campaign.retry
    days: Counter[date] = Counter(intent_at.astimezone(tz).date() for _, intent_at in tries)
    due_at = now + GAP
    while (opens := _opens(campaign, due_at, tz)) is not None:
        day = opens.astimezone(tz).date()
        if days[day] < policy.tries_a_day and (day in days or len(days) < policy.days):
            return due_at
        if day not in days:
            return None
        due_at = calendar.period_end("day", opens, tz)
    return None


def _opens(campaign: Campaign, at: datetime, tz: tzinfo) -> datetime | None:
    """When a call that is due then can be placed; None when that is after the campaign's end."""
    found = opens_at(campaign, tz, at)
    return found if found is not None and found < campaign.end_at else None
