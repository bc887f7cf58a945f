"""The order of codes and the editions as data (semantics.md §1 and §3), without a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from outdial import intake
from outdial.errors import Code, Refusal
from outdial.intake import MAX_ENTRIES, MAX_INCOMPLETE, POLICIES, Facts, check_unique, verdict
from outdial.model import CallData, CampaignState, DeviceType, Edition

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOOD = Facts(
    found=True,
    device_type=DeviceType.AUTOMATIC_IVR,
    state=CampaignState.DRAFT,
    begin_at=NOW - timedelta(days=1),
    end_at=NOW + timedelta(days=1),
    now=NOW,
    takes_numbers=True,
)

REFUSING: list[tuple[Code, dict[str, Any]]] = [
    (Code.NOT_FOUND, {"found": False}),
    (Code.VALUE, {"device_type": DeviceType.INTELLIGENT_IVR, "no_object": 3}),
    (Code.STATE_TAKES_NO_NUMBERS, {"takes_numbers": False, "state": CampaignState.STARTED}),
    (Code.TOO_SOON, {"too_soon": True}),
    (Code.BLACKLISTED, {"blacklisted": 0}),
    (Code.DUPLICATE, {"repeated": 1}),
    (Code.TOO_MANY_INCOMPLETE, {"incomplete": MAX_INCOMPLETE}),
]
"""The facts that refuse, in the order of semantics.md §3, step 5; 0200018 is the campaign's own option."""


def code(facts: Facts, added: int = 1) -> Code | None:
    refused = verdict(facts, added)
    return refused.code if refused else None


def test_nothing_that_refuses_is_an_acceptance() -> None:
    assert verdict(GOOD, 20) is None


@pytest.mark.parametrize(("expected", "change"), REFUSING)
def test_each_fact_has_its_code(expected: Code, change: dict[str, Any]) -> None:
    assert code(replace(GOOD, **change)) is expected


@pytest.mark.parametrize(("first", "second"), [*combinations(REFUSING, 2)])
def test_of_two_facts_the_earlier_answers(first: Any, second: Any) -> None:
    assert code(replace(GOOD, **second[1], **first[1])) is first[0]


def test_the_order_holds_for_all_facts_at_once() -> None:
    """Without the first, the next answers, to the last; every judge of the table is in use."""
    assert len(intake.ORDER) == len(REFUSING)
    for step in range(len(REFUSING)):
        change = {name: value for _, facts in REFUSING[step:] for name, value in facts.items()}
        assert code(replace(GOOD, **change)) is REFUSING[step][0]


@pytest.mark.parametrize(
    ("incomplete", "added", "refused"),
    [(0, 20, False), (199_980, 20, False), (199_981, 20, True), (200_000, 0, False), (200_001, 0, True)],
)
def test_the_limit_counts_what_would_be_there(incomplete: int, added: int, refused: bool) -> None:
    found = code(replace(GOOD, incomplete=incomplete), added)
    assert found is (Code.TOO_MANY_INCOMPLETE if refused else None)


@pytest.mark.parametrize("device_type", [d for d in DeviceType if d is not DeviceType.INTELLIGENT_IVR])
def test_call_data_is_judged_for_intelligent_ivr_alone(device_type: DeviceType) -> None:
    assert verdict(replace(GOOD, device_type=device_type, no_object=0), 1) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": "started", "incomplete": 4}, "the campaign is executing: pause it, add, resume"),
        ({"state": "started"}, "the campaign is call completed: pause it, add, resume"),
        ({"state": "ended"}, "the campaign has ended"),
        ({"state": "started", "end_at": NOW}, "the campaign has ended"),
        ({"state": "draft", "end_at": NOW - timedelta(days=1)}, "the campaign has ended"),
    ],
)
def test_the_state_refusal_names_the_standing_and_the_way_out(change: dict[str, Any], says: str) -> None:
    refused = verdict(replace(GOOD, takes_numbers=False, **change), 1)
    assert refused is not None
    assert refused.detail.startswith(says)


def test_positions_are_those_of_the_request() -> None:
    changes: dict[int, Any] = {7: {"no_object": 7}, 11: {"blacklisted": 11}, 19: {"repeated": 19}}
    for at, change in changes.items():
        facts = replace(GOOD, device_type=DeviceType.INTELLIGENT_IVR, **change)
        refused = verdict(facts, 20)
        assert refused is not None
        assert refused.detail.startswith(f"callDataList[{at}].")


# -- one request's own numbers ---------------------------------------------------------------------------


def entries(*called: str) -> list[CallData]:
    return [CallData(number) for number in called]


@pytest.mark.parametrize("called", [(), ("1",), ("1", "01", "1*", "1#", "11")])
def test_different_numbers_are_unique(called: tuple[str, ...]) -> None:
    check_unique(entries(*called))


@pytest.mark.parametrize(
    ("called", "places"),
    [
        (("1", "1"), (1, 0)),
        (("1", "2", "3", "2"), (3, 1)),
        (("1", "2", "2", "1"), (2, 1)),
        (("5", "5", "5"), (1, 0)),
    ],
)
def test_the_first_repetition_is_named(called: tuple[str, ...], places: tuple[int, int]) -> None:
    with pytest.raises(Refusal) as refused:
        check_unique(entries(*called))
    assert refused.value.code is Code.DUPLICATE
    later, earlier = places
    assert refused.value.detail == (
        f"callDataList[{later}].called: the same number as callDataList[{earlier}].called"
    )


# -- the editions ----------------------------------------------------------------------------------------


def test_the_numbers_of_the_contract() -> None:
    assert (MAX_ENTRIES, MAX_INCOMPLETE) == (20, 200_000)


def test_every_edition_has_a_policy_and_every_state_but_ended_is_in_one() -> None:
    """semantics.md §1, row by row."""
    assert set(POLICIES) == set(Edition)
    old, new = POLICIES[Edition.Y2023], POLICIES[Edition.Y2025]
    assert set(old.accepting) == {CampaignState.DRAFT, CampaignState.SUSPENDED}
    assert set(new.accepting) == set(CampaignState) - {CampaignState.ENDED}
    assert (old.restricted_passes, new.restricted_passes) == (True, False)
    assert (old.answers_ids, new.answers_ids) == (False, True)
    assert (old.reads_priority, new.reads_priority) == (False, True)
    assert (old.success, new.success) == ("", "create data succeeded")
