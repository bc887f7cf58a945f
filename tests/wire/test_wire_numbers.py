"""The entries of an add: the look at all of them at once agrees with the judgement of one after the other."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outdial.errors import Refusal
from outdial.intake import POLICIES, IntakePolicy
from outdial.model import Edition
from outdial.wire import numbers

FIELDS = {
    "called": ["13800000000", "13800000001", "*1#", "", None, "a", 7],
    "sessionId": ["s", "s" * 33, "a\nb", None, 1],
    "caller": ["100", "\x01", ""],
    "customField": ["batch 1", "a,b", None],
    "callData": ['{"a":1}', "x" * 1025, []],
    "recycleTime": ["2026-12-01 00:00:00", "soon", None],
    "priority": ["1", "6", 1, None],
    "unknown": [1],
}
ENTRIES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in FIELDS.items()}
)


def judged(listed: list[Any], policy: IntakePolicy) -> Any:
    try:
        return numbers.entries({"callDataList": listed}, policy, UTC)
    except Refusal as refused:
        return str(refused)


@settings(max_examples=500)
@given(st.sampled_from(list(Edition)), st.lists(ENTRIES | st.just("x"), min_size=1, max_size=3))
def test_at_once_is_as_one_by_one(edition: Edition, listed: list[Any]) -> None:
    policy = POLICIES[edition]
    at_once = judged(listed, policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "_faultless", lambda *_: None)
        assert judged(listed, policy) == at_once


def test_a_plain_add_is_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the look at all of them would be there in vain."""
    monkeypatch.setattr(numbers, "_entry", lambda *_: pytest.fail("judged one by one"))
    listed = [{"called": str(n), "sessionId": "s", "callData": '{"a": 1}'} for n in range(20)]
    assert [entry.called for entry in judged(listed, POLICIES[Edition.Y2023])] == [str(n) for n in range(20)]
