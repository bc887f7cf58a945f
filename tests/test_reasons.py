"""Why a campaign does not call: every cause by itself, with the time at which it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outdial.model import (
    CallWindow,
    CampaignState,
    EngineStanding,
    HeldCampaign,
    SpecialDate,
    SpecialDateKind,
    TrunkState,
)
from outdial.reasons import COUNTED, Cause, Facts, Held, Reason, reasons
from playbook import ALWAYS, NOON, campaign

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
UP = EngineStanding(switch=True)
FULL = TrunkState("north", "main", "all channels in use")
HELD = HeldCampaign(campaign().vdn_id, campaign().campaign_id, "the flow f is not there")
OPEN = TrunkState("south", "main")
MORNING = (CallWindow(0, 720), None, None)
TODAY = SpecialDate(1, "fair", SpecialDateKind.DATES, (), "2026-03-02", "2026-03-02")
LATER = NOON + MINUTE


def facts(*, of: dict[str, Any] | None = None, **changes: Any) -> Facts:
    """A campaign that nothing holds back, but for the changes."""
    given: dict[str, Any] = {
        "time_zone": "UTC",
        "trunk_group": "main",
        "due": True,
        "engines": (UP,),
        **changes,
    }
    return Facts(campaign(**(of or {})), **given)


CASES = [
    (Cause.DRAFT, facts(of={"state": CampaignState.DRAFT}), None),
    (Cause.SUSPENDED, facts(of={"state": CampaignState.SUSPENDED}), None),
    (Cause.ENDED, facts(of={"state": CampaignState.ENDED}), None),
    (Cause.ENDED, facts(of={"end_at": NOON}), None),
    (Cause.NOT_BEGUN, facts(of={"begin_at": LATER}), LATER),
    (Cause.OUTSIDE_HOURS, facts(of={"windows": MORNING}), NOON + timedelta(hours=12)),
    (Cause.OUTSIDE_HOURS, facts(of={"windows": (None, None, None)}), None),
    (
        Cause.SPECIAL_DATE,
        facts(of={"special_dates": (TODAY,), "special_windows": MORNING}),
        NOON + timedelta(hours=12),
    ),
    (Cause.NOTHING_LEFT, facts(due=False), None),
    (Cause.ALL_DIALING, facts(due=False, in_flight=3), None),
    (Cause.RETRY, facts(due=False, retry=Held(3, LATER)), LATER),
    (Cause.RESTRICTED, facts(restricted=Held(1, LATER)), LATER),
    (Cause.NUMBER_CAP, facts(capped=Held(2, LATER)), LATER),
    (Cause.REFUSED, facts(refused=2), None),
    (Cause.PACE, facts(of={"last_launch_at": NOON - SECOND / 2}), NOON + SECOND / 2),
    (Cause.MAX_CPS, facts(of={"max_cps": 1.0, "next_send_at": NOON + SECOND}), NOON + SECOND),
    (Cause.MAX_CHANNELS, facts(of={"max_channels": 2}, in_flight=2), None),
    (Cause.HELD, facts(engines=(EngineStanding(True, held=(HELD,)),)), None),
    (Cause.NO_ENGINE, facts(engines=()), None),
    (Cause.SWITCH_DOWN, facts(engines=(EngineStanding(switch=False),)), None),
    (Cause.TRUNK, facts(engines=(EngineStanding(True, (FULL,)),)), None),
    (
        Cause.TRUNK,
        facts(engines=(EngineStanding(True, (TrunkState("north", "main", "breaker", LATER),)),)),
        LATER,
    ),
]


@pytest.mark.parametrize(("cause", "given", "until"), CASES, ids=lambda value: str(value)[:20])
def test_a_cause_is_named_alone_and_with_its_end(cause: Cause, given: Facts, until: object) -> None:
    [found] = reasons(given, NOON)
    assert (found.cause, found.until) == (cause, until)
    assert found.sentence


def test_every_cause_has_its_case() -> None:
    assert {cause for cause, _, _ in CASES} == set(Cause)


@pytest.mark.parametrize(
    "given",
    [
        facts(),
        facts(of={"last_launch_at": NOON, "launch_rest": 3}),
        facts(of={"max_channels": 2, "max_cps": 1.0, "next_send_at": NOON}, in_flight=1),
        facts(engines=(UP, EngineStanding(switch=False))),
        facts(engines=(EngineStanding(True, (FULL, OPEN)),)),
        facts(of={"windows": MORNING, "special_dates": (TODAY,), "special_windows": ALWAYS}),
    ],
)
def test_nothing_holds_back_a_campaign_that_may_call(given: Facts) -> None:
    assert reasons(given, NOON) == []


def test_all_causes_are_named_at_once_the_widest_first() -> None:
    given = facts(
        of={"state": CampaignState.SUSPENDED, "windows": MORNING, "max_channels": 1},
        **{"due": False, "retry": Held(2, LATER), "in_flight": 1, "engines": ()},
    )
    assert [one.cause for one in reasons(given, NOON)] == [
        *(Cause.SUSPENDED, Cause.OUTSIDE_HOURS, Cause.RETRY, Cause.MAX_CHANNELS, Cause.NO_ENGINE)
    ]


def test_a_part_of_the_numbers_is_told_from_all_of_them() -> None:
    [some] = reasons(facts(retry=Held(2, LATER)), NOON)
    [every] = reasons(facts(due=False, retry=Held(2, LATER)), NOON)
    assert some.sentence == "2 numbers wait for their next try"
    assert every.sentence == "all 2 numbers left wait for their next try"


def test_what_goes_beyond_the_count_is_said_to() -> None:
    [some] = reasons(facts(refused=COUNTED), NOON)
    assert some.sentence.startswith("10000 or more numbers ended")
    [every] = reasons(facts(due=False, capped=Held(COUNTED, LATER)), NOON)
    assert every == Reason(
        Cause.NUMBER_CAP, "all 10000 or more numbers left were called as often as the VDN allows", LATER
    )


def test_a_trunk_of_another_group_is_no_reason() -> None:
    """Only the trunks that would carry the VDN's calls are named."""
    other = TrunkState("east", "other", "all channels in use")
    assert reasons(facts(engines=(EngineStanding(True, (other, OPEN)),)), NOON) == []
    assert reasons(facts(engines=(EngineStanding(True, (other,)),)), NOON) == []
