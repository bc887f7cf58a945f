"""How many calls may be launched when: the timer (wire/campaign-api.md §2), and a campaign's own limits.

The timer places `call_count` calls every `call_interval` seconds. A launch for which there is no room at once
(trunks, `max_cps`, `max_channels`) goes on until the next is due; what is left of it then is forgotten. Under
`max_cps` each call has a moment of its own. The time of the last launch, what is left of it and the next
moment are kept in the store, so the pace outlives an engine and holds across several.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from math import floor
from typing import Final

from outdial.campaigns import in_hours
from outdial.model import Campaign, CampaignState, TimerPacing

MAX_LAUNCH: Final = 2000
"""Calls of one launch, at most: they are intended in one transaction and must leave within 0.9 s of it."""

LEAD: Final = timedelta(seconds=0.4)
"""How far ahead one claim gives calls their moments under `max_cps`."""

SLOT: Final = 0.05
"""Seconds after its moment in which a call under `max_cps` leaves, or not at all."""

_ROUNDING: Final = 1e-9

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


def next_call(campaign: Campaign, now: datetime) -> datetime:
    """When the campaign's pace allows a call: the timer, what is left of its last launch, and `max_cps`."""
    at = now if campaign.launch_rest else next_launch(campaign.pacing, campaign.last_launch_at, now)
    return max(at, next_send(campaign, now)) if campaign.max_cps is not None else at


def allowance(campaign: Campaign, time_zone: str, now: datetime) -> int:
    """How many calls of the campaign may be launched at `now`: 0 where state, dates, hours or pace forbid."""
    calls = campaign.pacing.call_count if is_new_launch(campaign, now) else campaign.launch_rest
    if campaign.state is not CampaignState.STARTED or not calls or not in_hours(campaign, time_zone, now):
        return 0
    return min(calls, MAX_LAUNCH)


def is_new_launch(campaign: Campaign, now: datetime) -> bool:
    """Whether calls placed at `now` begin a launch; else they are of the one before."""
    return next_launch(campaign.pacing, campaign.last_launch_at, now) <= now


def send_times(campaign: Campaign, now: datetime, calls: int) -> list[datetime]:
    """The moments of up to `calls` calls under the campaign's `max_cps`, within `LEAD`.

    At most floor(max_cps) calls leave in any second, below 1 a second one in any 1 / max_cps seconds: the
    moments stand so far apart that this holds although each call may leave up to `SLOT` after its own.
    """
    moments = (next_send(campaign, now) + n * spacing(campaign) for n in range(calls))
    return list(takewhile(lambda at: at <= now + LEAD, moments))


def launched(campaign: Campaign, now: datetime, calls: int, *, dry: bool, sends: list[datetime]) -> Campaign:
    """The campaign after a claim that launched `calls` at `now`, at the moments `sends` if it has `max_cps`.

    `dry`: no more contacts were due, so the launch is over. What is left of it otherwise may follow.
    """
    if not calls:
        return campaign
    new = is_new_launch(campaign, now)
    left = (campaign.pacing.call_count if new else campaign.launch_rest) - calls
    return replace(
        campaign,
        last_launch_at=now if new else campaign.last_launch_at,
        launch_rest=0 if dry else left,
        next_send_at=sends[calls - 1] + spacing(campaign) if campaign.max_cps else None,
    )


def next_send(campaign: Campaign, now: datetime) -> datetime:
    """When `max_cps` allows a call. One far in the future is of a clock that went back, and never blocks."""
    first = campaign.next_send_at
    if first is None or first > now + CLOCK_SKEW + LEAD + spacing(campaign):
        return now
    return max(now, first)


def spacing(campaign: Campaign) -> timedelta:
    """How far apart the moments of two calls under `max_cps` are."""
    max_cps = campaign.max_cps or 1.0
    most = max(1, floor(max_cps + _ROUNDING))
    return timedelta(seconds=(max(1.0, 1 / max_cps) + SLOT) / most)
