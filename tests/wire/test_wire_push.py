"""The body of a result push (wire/data-api.md §6.3, semantics.md §7)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from outdial.model import CallResult, Disposition
from outdial.wire.push import push_body

CALL = CallResult(
    result_id=UUID(int=1),
    vdn_id=11,
    campaign_id=3,
    contact_id=5,
    attempt_id=UUID("00230000-0000-4000-8000-000134864174"),
    called="60584",
    session_id="1202_test013",
    custom_field="grün 绿",
    disposition=Disposition.ANSWERED,
    call_at=datetime(2020, 8, 30, 12, 0, 0, 999_999, tzinfo=UTC),
)


def test_a_call_is_told_with_the_documented_fields_names_types_and_order() -> None:
    pushed = json.loads(push_body(CALL, "Asia/Shanghai"))
    assert [list(pushed[0].items())] == [
        [
            ("campaignId", "3"),
            ("sessionId", "1202_test013"),
            ("called", "60584"),
            ("callTimeStr", "2020-08-30 20:00:00"),
            ("callStatus", 6),
            ("failCode", "00000"),
            ("vdnId", 11),
            ("callId", "00230000-0000-4000-8000-000134864174"),
            ("customField", "grün 绿"),
            ("recordPath", ""),
        ]
    ]


def test_a_number_that_ended_without_a_call_has_an_empty_call_id_and_absent_strings_are_empty() -> None:
    ended = replace(
        CALL, attempt_id=None, session_id=None, custom_field=None, disposition=Disposition.BLACKLISTED
    )
    (pushed,) = json.loads(push_body(ended, "UTC"))
    assert (pushed["callId"], pushed["sessionId"], pushed["customField"]) == ("", "", "")
    assert (pushed["callStatus"], pushed["failCode"]) == (5, "90001")


@pytest.mark.parametrize(
    ("zone", "at", "local"),
    [
        ("America/New_York", datetime(2026, 3, 8, 6, 59, 59, tzinfo=UTC), "2026-03-08 01:59:59"),
        ("America/New_York", datetime(2026, 3, 8, 7, 0, 0, tzinfo=UTC), "2026-03-08 03:00:00"),
        ("Asia/Kathmandu", datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC), "2026-01-01 05:45:00"),
    ],
)
def test_the_time_is_the_wall_clock_of_the_vdn(zone: str, at: datetime, local: str) -> None:
    (pushed,) = json.loads(push_body(replace(CALL, call_at=at), zone))
    assert pushed["callTimeStr"] == local


def test_the_body_is_utf8_as_its_content_type_says() -> None:
    assert "绿".encode() in push_body(CALL, "UTC")


@pytest.mark.parametrize("ending", list(Disposition))
def test_every_disposition_can_be_told(ending: Disposition) -> None:
    (pushed,) = json.loads(push_body(replace(CALL, disposition=ending), "UTC"))
    assert pushed["callStatus"] in (5, 6)
    assert len(pushed["failCode"]) == 5
