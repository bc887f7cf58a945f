"""The life of a campaign: states, transitions, quotas (semantics.md §5, wire/campaign-api.md §3)."""

from __future__ import annotations

from datetime import datetime, tzinfo

from outdial import calendar
from outdial.errors import Code, Refusal
from outdial.model import Campaign, CampaignState, DeviceType, Standing

IVR_TYPES = (DeviceType.INTELLIGENT_IVR, DeviceType.AUTOMATIC_IVR)
SKILL_TYPES = (DeviceType.PREDICTED, DeviceType.PREVIEW, DeviceType.PREEMPTED)

MAX_SPECIAL_DATES = 20
"""Of a campaign (wire/campaign-api.md §4.2: fewer than 20 when one is added)."""

TRANSITIONS: dict[str, dict[CampaignState, CampaignState]] = {
    "resume": {
        CampaignState.DRAFT: CampaignState.STARTED,
        CampaignState.SUSPENDED: CampaignState.STARTED,
    },
    "pause": {CampaignState.STARTED: CampaignState.SUSPENDED},
    "end": {
        CampaignState.DRAFT: CampaignState.ENDED,
        CampaignState.STARTED: CampaignState.ENDED,
        CampaignState.SUSPENDED: CampaignState.ENDED,
    },
}
"""Verb -> from -> to. What is not here is refused."""

WAY_OUT = {
    "resume": "only a draft or suspended campaign can be resumed",
    "pause": "only a started campaign can be paused",
    "end": "it has ended already",
}


def state_at(campaign: Campaign, now: datetime) -> CampaignState:
    """The state by the clock: past its end time every campaign is ended."""
    return CampaignState.ENDED if now >= campaign.end_at else campaign.state


def standing(campaign: Campaign, now: datetime) -> Standing:
    """What the campaign shows at `now`."""
    state = state_at(campaign, now)
    if state is not CampaignState.STARTED:
        return Standing(state.value)
    if now < campaign.begin_at:
        return Standing.NOT_STARTED
    return Standing.EXECUTING if campaign.incomplete else Standing.CALL_COMPLETED


def apply(verb: str, campaign: Campaign, now: datetime) -> CampaignState:
    """The state after `verb` ("resume", "pause", "end"). Raises `Refusal` 0200011."""
    state = state_at(campaign, now)
    try:
        return TRANSITIONS[verb][state]
    except KeyError:
        raise Refusal(
            Code.STATE_FORBIDS, f"the campaign is {standing(campaign, now)}: {WAY_OUT[verb]}"
        ) from None


def check_delete(campaign: Campaign, now: datetime) -> None:
    """A started campaign cannot be deleted. Raises `Refusal` 0200009."""
    if state_at(campaign, now) is CampaignState.STARTED:
        raise Refusal(
            Code.STILL_STARTED, f"the campaign is {standing(campaign, now)}: pause it, then delete it"
        )


def check_delete_numbers(campaign: Campaign, now: datetime) -> None:
    """Nothing is deleted from an executing campaign (wire/data-api.md §4.1). Raises `Refusal` 0200011."""
    if standing(campaign, now) is Standing.EXECUTING:
        raise Refusal(Code.STATE_FORBIDS, "the campaign is executing: pause it, delete, resume")


def check_begin(begin_at: datetime, now: datetime, tz: tzinfo) -> None:
    """A begin before today's midnight of the VDN is refused. Raises `Refusal` 0200002."""
    if begin_at < calendar.period_start("day", now, tz):
        raise Refusal(
            Code.BEGIN_TOO_EARLY, "strBeginTime: earlier than 00:00 of today in the VDN's time zone"
        )


def kind_of(device_type: DeviceType) -> tuple[DeviceType, ...]:
    """The device types that share a quota with this one."""
    return IVR_TYPES if device_type in IVR_TYPES else SKILL_TYPES


def check_quota(device_type: DeviceType, active: int, max_active: int) -> None:
    """One more active campaign must fit. Raises `Refusal` 0200003 or 0200004."""
    if active >= max_active:
        code = Code.IVR_CAP if device_type in IVR_TYPES else Code.SKILL_CAP
        raise Refusal(
            code,
            f"{active} campaigns of this kind are started or suspended, {max_active} are allowed:"
            " end or delete one first",
        )


def in_hours(campaign: Campaign, time_zone: str, now: datetime) -> bool:
    """Whether a call may leave at `now`: between begin and end, and in the hours of that day (G6)."""
    return campaign.begin_at <= now < campaign.end_at and is_open(campaign, calendar.zone(time_zone), now)


def is_open(campaign: Campaign, tz: tzinfo, now: datetime) -> bool:
    """Whether `now` is in the hours of its day, whatever the campaign's dates."""
    return calendar.is_open(campaign.windows, now, tz, campaign.special_dates, campaign.special_windows)


def opens_at(campaign: Campaign, tz: tzinfo, now: datetime) -> datetime | None:
    """When the hours of its days allow a call, from `now` on; None: never."""
    return calendar.next_open(campaign.windows, now, tz, campaign.special_dates, campaign.special_windows)


def hours(campaign: Campaign) -> tuple[object, ...]:
    """What decides, with a time zone, when calls may be placed, but for the dates of the campaign."""
    return campaign.windows, campaign.special_dates, campaign.special_windows


def callers(campaign: Campaign) -> tuple[str, ...]:
    """The calling numbers that take turns: those of the first priority; the others stand by."""
    numbers = campaign.caller_numbers
    first = min((one.priority for one in numbers), default=0)
    return tuple(one.number for one in numbers if one.priority == first) or (campaign.caller_no,)


def check_modify(campaign: Campaign, changed: Campaign, now: datetime, tz: tzinfo) -> None:
    """Whether a campaign may be changed so (wire/campaign-api.md §3.5). A begin that stays may be long past.

    Raises `Refusal` 0200016, 02000007, 02000009, 0200002.
    """
    if state_at(campaign, now) is CampaignState.ENDED:
        raise Refusal(Code.ALREADY_ENDED, "the campaign is ended: create another one")
    if changed.device_type is not campaign.device_type:
        raise Refusal(Code.VALUE, f"deviceType: must stay {int(campaign.device_type)}")
    if changed.end_at <= changed.begin_at:
        raise Refusal(Code.COMBINATION, "strEndTime: must be later than strBeginTime")
    if changed.begin_at != campaign.begin_at:
        check_begin(changed.begin_at, now, tz)


def check_special_dates(campaign: Campaign) -> None:
    """One more special date must fit. Raises `Refusal` 0200015."""
    if len(campaign.special_dates) >= MAX_SPECIAL_DATES:
        raise Refusal(
            Code.TOO_MANY_DATES, f"the campaign has {MAX_SPECIAL_DATES} special dates: delete one first"
        )
