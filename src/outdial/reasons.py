"""Why a campaign, or a part of its numbers, is not being called right now: every cause, and when it ends.

A pure function of facts: the campaign, what the store counts, and what the engines last said of themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from outdial import calendar, campaigns, pacing
from outdial.model import Campaign, CampaignState, EngineStanding, TrunkState

COUNTED: Final = 10_000
"""Numbers of one kind that are counted; what goes beyond is not looked at."""


class Cause(StrEnum):
    """What holds calls back."""

    DRAFT = "draft"
    SUSPENDED = "suspended"
    ENDED = "ended"
    NOT_BEGUN = "not-begun"
    SPECIAL_DATE = "special-date"
    OUTSIDE_HOURS = "outside-hours"
    NOTHING_LEFT = "nothing-left"
    ALL_DIALING = "all-dialing"
    RETRY = "retry"
    RESTRICTED = "restricted"
    NUMBER_CAP = "number-cap"
    REFUSED = "refused"
    PACE = "pace"
    MAX_CPS = "max-cps"
    MAX_CHANNELS = "max-channels"
    HELD = "held"
    NO_ENGINE = "no-engine"
    SWITCH_DOWN = "switch-down"
    TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause. `until` None: not by time alone; the sentence says what ends it."""

    cause: Cause
    sentence: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Ready numbers that are to be dialed later: how many, and the first of them when."""

    numbers: int = 0
    first_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a campaign at one moment.

    `due`: some number is due now. Others are later because of a retry, a blacklist `restricted`ion or a
    `capped` number of the VDN, or are `refused`: ended, since no trunk may call them; each kind is counted up
    to `COUNTED`. `in_flight`: calls that have not ended. `engines`: what each that is alive says.
    """

    campaign: Campaign
    time_zone: str
    due: bool = False
    retry: Held = Held()
    restricted: Held = Held()
    capped: Held = Held()
    refused: int = 0
    in_flight: int = 0
    engines: tuple[EngineStanding, ...] = ()
    trunk_group: str = "default"


def reasons(facts: Facts, now: datetime) -> list[Reason]:
    """Every cause that holds this campaign, or some of its numbers, back at `now`; the widest first.

    None: its next call may leave at any moment.
    """
    return [*_state(facts, now), *_numbers(facts), *_limits(facts, now), *_engines(facts)]


def _state(facts: Facts, now: datetime) -> Iterator[Reason]:
    """The campaign's own state, dates and hours."""
    campaign = facts.campaign
    if campaign.state is CampaignState.ENDED or now >= campaign.end_at:
        yield Reason(Cause.ENDED, "it has ended, which is final")
        return
    if campaign.state is CampaignState.DRAFT:
        yield Reason(Cause.DRAFT, "it is a draft: start it")
    if campaign.state is CampaignState.SUSPENDED:
        yield Reason(Cause.SUSPENDED, "it is suspended: resume it")
    if now < campaign.begin_at:
        yield Reason(Cause.NOT_BEGUN, "its begin time has not come", campaign.begin_at)
    yield from _hours(facts, now)


def _hours(facts: Facts, now: datetime) -> Iterator[Reason]:
    campaign, tz = facts.campaign, calendar.zone(facts.time_zone)
    if campaigns.is_open(campaign, tz, now):
        return
    opens_at = campaigns.opens_at(campaign, tz, now)
    never = "" if opens_at else "; none are to come"
    if calendar.is_special(now.astimezone(tz).date(), campaign.special_dates):
        yield Reason(Cause.SPECIAL_DATE, f"today is a special date, outside its hours{never}", opens_at)
    else:
        yield Reason(Cause.OUTSIDE_HOURS, f"it is outside its daily hours{never}", opens_at)


def _numbers(facts: Facts) -> Iterator[Reason]:
    """What its numbers wait for."""
    later = facts.retry.numbers + facts.restricted.numbers + facts.capped.numbers
    if not (facts.due or later or facts.in_flight):
        yield Reason(Cause.NOTHING_LEFT, "no number is left to call: add some")
    elif not (facts.due or later):
        yield Reason(Cause.ALL_DIALING, f"all {facts.in_flight} numbers left are being dialed")
    for cause, held, why in (
        (Cause.RETRY, facts.retry, "wait for their next try"),
        (Cause.RESTRICTED, facts.restricted, "have used up what the blacklist allows them"),
        (Cause.NUMBER_CAP, facts.capped, "were called as often as the VDN allows"),
    ):
        if held.numbers:
            yield Reason(cause, f"{_all(held, facts)} {why}", held.first_at)
    if facts.refused:
        ended = f"{_count(facts.refused)} numbers ended without a call"
        yield Reason(Cause.REFUSED, f"{ended}: no trunk may call them")


def _all(held: Held, facts: Facts) -> str:
    count = _count(held.numbers)
    return f"{count} numbers" if facts.due or facts.in_flight else f"all {count} numbers left"


def _count(numbers: int) -> str:
    return f"{numbers}" if numbers < COUNTED else f"{COUNTED} or more"


def _limits(facts: Facts, now: datetime) -> Iterator[Reason]:
    """Its own pace and limits."""
    campaign = facts.campaign
    launch = pacing.next_launch(campaign.pacing, campaign.last_launch_at, now)
    if launch > now and not campaign.launch_rest:
        timer = f"{campaign.pacing.call_count} calls every {campaign.pacing.call_interval} s"
        yield Reason(Cause.PACE, f"its timer ({timer}) has placed this launch", launch)
    if campaign.max_cps is not None and (send := pacing.next_send(campaign, now)) > now:
        yield Reason(Cause.MAX_CPS, f"max_cps {campaign.max_cps:g} is used up for the moment", send)
    if campaign.max_channels is not None and facts.in_flight >= campaign.max_channels:
        used = f"all {campaign.max_channels} channels (max_channels) are in use"
        yield Reason(Cause.MAX_CHANNELS, f"{used}: one must end")


def _engines(facts: Facts) -> Iterator[Reason]:
    """What would place the calls."""
    if not facts.engines:
        yield Reason(Cause.NO_ENGINE, "no engine is running: outdial serve with the role engine")
        return
    if not any(engine.switch for engine in facts.engines):
        yield Reason(Cause.SWITCH_DOWN, "no engine has its switch: the engine's log says why")
    yield from (Reason(Cause.HELD, why) for why in _held(facts))
    trunks = [trunk for engine in facts.engines for trunk in engine.trunks]
    yield from _trunks([trunk for trunk in trunks if trunk.group == facts.trunk_group])


def _held(facts: Facts) -> list[str]:
    """Why engines hold the campaign, where all of them do."""
    of = (facts.campaign.vdn_id, facts.campaign.campaign_id)
    found = [
        {one.why for one in engine.held if (one.vdn_id, one.campaign_id) == of} for engine in facts.engines
    ]
    return sorted(set().union(*found)) if all(found) else []


def _trunks(trunks: list[TrunkState]) -> Iterator[Reason]:
    """Trunks that take no call; one that does takes those of the others."""
    if all(trunk.bar is not None for trunk in trunks):
        for trunk in trunks:
            yield Reason(Cause.TRUNK, f"trunk {trunk.name} takes no call: {trunk.bar}", trunk.until)
