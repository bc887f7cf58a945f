"""States, verbs, standing, quota and begin of campaigns (semantics.md §5), as pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from outdial import campaigns
from outdial.calendar import zone
from outdial.errors import Code, Refusal
from outdial.model import CallWindow, Campaign, CampaignState, DeviceType, Standing, TimerPacing

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DRAFT, STARTED, SUSPENDED, ENDED = CampaignState


def campaign(
    state: CampaignState = DRAFT, begin: timedelta = -DAY, end: timedelta = DAY, incomplete: int = 0
) -> Campaign:
    return Campaign(
        vdn_id=1,
        campaign_id=1,
        name="x",
        description="",
        device_type=DeviceType.AUTOMATIC_IVR,
        state=state,
        begin_at=NOW + begin,
        end_at=NOW + end,
        caller_no="1",
        max_alerting_time=30,
        windows=(CallWindow(0, 1440), None, None),
        pacing=TimerPacing("", 1, 1),
        incomplete=incomplete,
    )


def refused(code: Code) -> pytest.RaisesExc[Refusal]:
    return pytest.raises(Refusal, match=f"^{code.wire}: ")


TABLE = {
    ("resume", DRAFT): STARTED,
    ("resume", STARTED): None,
    ("resume", SUSPENDED): STARTED,
    ("resume", ENDED): None,
    ("pause", DRAFT): None,
    ("pause", STARTED): SUSPENDED,
    ("pause", SUSPENDED): None,
    ("pause", ENDED): None,
    ("end", DRAFT): ENDED,
    ("end", STARTED): ENDED,
    ("end", SUSPENDED): ENDED,
    ("end", ENDED): None,
}


def test_the_table_below_is_complete() -> None:
    """Every verb with every state, and every verb tells its way out."""
    assert set(TABLE) == set(product(campaigns.TRANSITIONS, CampaignState))
    assert set(campaigns.WAY_OUT) == set(campaigns.TRANSITIONS)


@pytest.mark.parametrize(("verb", "state"), TABLE)
def test_transitions(verb: str, state: CampaignState) -> None:
    after = TABLE[verb, state]
    if after is None:
        with refused(Code.STATE_FORBIDS) as caught:
            campaigns.apply(verb, campaign(state), NOW)
        assert campaigns.WAY_OUT[verb] in caught.value.detail
    else:
        assert campaigns.apply(verb, campaign(state), NOW) is after


@pytest.mark.parametrize(("verb", "state"), [*product(campaigns.TRANSITIONS, CampaignState)])
def test_past_its_end_time_a_campaign_is_ended_for_every_verb(verb: str, state: CampaignState) -> None:
    over = campaign(state, begin=-2 * DAY, end=timedelta(0))
    assert campaigns.state_at(over, NOW) is ENDED
    with refused(Code.STATE_FORBIDS):
        campaigns.apply(verb, over, NOW)
    campaigns.check_delete(over, NOW)


def test_the_end_time_itself_is_past() -> None:
    """Half-open: at the very instant it has ended, a microsecond before it has not."""
    just = campaign(STARTED, end=timedelta(microseconds=1))
    assert campaigns.state_at(just, NOW) is STARTED
    assert campaigns.state_at(just, just.end_at) is ENDED


@pytest.mark.parametrize(
    ("state", "begin", "end", "incomplete", "shows"),
    [
        (DRAFT, -DAY, DAY, 5, Standing.DRAFT),
        (SUSPENDED, -DAY, DAY, 5, Standing.SUSPENDED),
        (ENDED, -DAY, DAY, 5, Standing.ENDED),
        (STARTED, DAY, 2 * DAY, 5, Standing.NOT_STARTED),
        (STARTED, timedelta(0), DAY, 5, Standing.EXECUTING),
        (STARTED, -DAY, DAY, 1, Standing.EXECUTING),
        (STARTED, -DAY, DAY, 0, Standing.CALL_COMPLETED),
        (STARTED, DAY, 2 * DAY, 0, Standing.NOT_STARTED),
        (STARTED, -2 * DAY, -DAY, 5, Standing.ENDED),
        (DRAFT, -2 * DAY, -DAY, 5, Standing.ENDED),
    ],
)
def test_standing(
    state: CampaignState, begin: timedelta, end: timedelta, incomplete: int, shows: Standing
) -> None:
    assert campaigns.standing(campaign(state, begin, end, incomplete), NOW) is shows


@pytest.mark.parametrize("state", CampaignState)
def test_delete_from_any_state_but_started(state: CampaignState) -> None:
    if state is STARTED:
        with refused(Code.STILL_STARTED):
            campaigns.check_delete(campaign(state), NOW)
    else:
        campaigns.check_delete(campaign(state), NOW)


@pytest.mark.parametrize("name", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_begin_is_not_before_today_of_the_zone(name: str) -> None:
    tz = zone(name)
    midnight = NOW.astimezone(tz).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    campaigns.check_begin(midnight, NOW, tz)
    with refused(Code.BEGIN_TOO_EARLY):
        campaigns.check_begin(midnight - timedelta(seconds=1), NOW, tz)


def test_device_types_share_a_quota_by_kind() -> None:
    """Every device type is of one kind, and the kinds are the two of the page."""
    kinds = {campaigns.kind_of(device_type) for device_type in DeviceType}
    assert kinds == {campaigns.IVR_TYPES, campaigns.SKILL_TYPES}
    assert sorted(campaigns.IVR_TYPES + campaigns.SKILL_TYPES) == sorted(DeviceType)


@pytest.mark.parametrize("device_type", DeviceType)
def test_the_quota(device_type: DeviceType) -> None:
    campaigns.check_quota(device_type, 19, 20)
    code = Code.IVR_CAP if device_type in (1, 3) else Code.SKILL_CAP
    for active, allowed in ((20, 20), (21, 20), (0, 0)):
        with refused(code):
            campaigns.check_quota(device_type, active, allowed)
