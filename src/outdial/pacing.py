"""How many calls may be launched when: the timer of automatic campaigns (wire/campaign-api.md §2).

The timer places `call_count` calls every `call_interval` seconds. The time of the last launch is kept in
the store, so the pace outlives an engine and holds across several.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from outdial import calendar
from outdial.model import Campaign, CampaignState, TimerPacing

MAX_LAUNCH: Final = 2000
"""Calls of one launch, at most: they are intended in one transaction and must leave within 0.9 s of it."""

CLOCK_SKEW: Final = timedelta(seconds=5)
"""A last launch this far ahead was made by a neighbour whose clock is ahead; farther, our clock went back."""


def next_launch(pacing: TimerPacing, last_launch_at: datetime | None, now: datetime) -> datetime:
    """When the timer allows the next launch; `now` when it does already.

    A launch that lies in the future because the clock went back never blocks (semantics.md §3 says so of
    the interval between adds; the same holds here).
    """
    if last_launch_at is None or last_launch_at > now + CLOCK_SKEW:
        return now
    return max(now, last_launch_at + timedelta(seconds=pacing.call_interval))


def allowance(campaign: Campaign, time_zone: str, now: datetime) -> int:
    """How many calls of the campaign may be launched at `now`: 0 where state, dates, hours or pace forbid."""
    inside = campaign.state is CampaignState.STARTED and campaign.begin_at <= now < campaign.end_at
    if not inside or next_launch(campaign.pacing, campaign.last_launch_at, now) > now:
        return 0
    hours = (campaign.special_dates, campaign.special_windows)
    if not calendar.is_open(campaign.windows, now, calendar.zone(time_zone), *hours):
        return 0
    return min(campaign.pacing.call_count, MAX_LAUNCH)
