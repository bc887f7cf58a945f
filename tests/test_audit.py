"""The audit log's rules: its hashes hold every word of a row, and its details hold no number."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outdial import audit
from outdial.audit import EMPTY, AuditRow, Head

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def log(count: int) -> list[AuditRow]:
    rows: list[AuditRow] = []
    for n in range(count):
        head = Head(rows[-1].seq, rows[-1].hash) if rows else EMPTY
        what = audit.change(1, "pause", f"campaign {n}", n=n)
        rows.append(audit.sealed(head, AT + timedelta(seconds=n), "key ab", what))
    return rows


def first_fault(rows: list[AuditRow]) -> str | None:
    head = EMPTY
    for row in rows:
        if (wrong := audit.fault(head, row)) is not None:
            return wrong
        head = Head(row.seq, row.hash)
    return None


def test_a_log_as_it_was_written_holds() -> None:
    assert first_fault(log(5)) is None


def test_the_canonical_text_stays_what_it_is() -> None:
    """Who stored a head years ago must still be able to check it: the format never changes under its name."""
    assert log(1)[0].hash == "2fe52d789c5e162674dfdf48253fd613b20c77435370220011ffdf62ee0306e0"


@pytest.mark.parametrize(
    "changed",
    [
        {"at": AT + timedelta(microseconds=1)},
        {"who": "key ac"},
        {"vdn_id": 2},
        {"vdn_id": None},
        {"action": "resume"},
        {"object": "campaign 9"},
        {"details": '{"n":3}'},
        {"hash": "1" * 64},
        {"previous_hash": "1" * 64},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_row_of_which_anything_was_changed_is_named(changed: dict[str, Any]) -> None:
    rows = log(5)
    rows[2] = replace(rows[2], **changed)
    assert (first_fault(rows) or "").startswith("row 3 was changed")


def test_a_row_that_was_sealed_anew_breaks_the_chain_behind_it() -> None:
    """Whoever knows how a hash is made still has to make all that follow."""
    rows = log(5)
    forged = replace(rows[2], who="system")
    rows[2] = replace(forged, hash=audit.hash_of(forged))
    assert first_fault(rows) == "row 4 does not follow row 3: one of them was replaced or moved"


def test_missing_and_moved_rows_are_named() -> None:
    rows = log(6)
    assert first_fault([*rows[:2], *rows[3:]]) == "row 3 is missing"
    assert first_fault([*rows[:1], *rows[3:]]) == "rows 2 to 3 are missing"
    assert first_fault(rows[1:]) == "row 1 is missing"
    swapped = [rows[0], replace(rows[2], seq=2), replace(rows[1], seq=3), *rows[3:]]
    assert (first_fault(swapped) or "").startswith("row 2 was changed")
    assert first_fault([rows[0], rows[0]]) == "row 1 stands where row 2 should"


def test_a_cut_tail_is_seen_with_the_head_that_was_kept() -> None:
    rows = log(5)
    known = Head(5, rows[4].hash)
    assert first_fault(rows[:3]) is None
    cut = audit.cut_off(Head(3, rows[2].hash), known, None)
    assert cut == "rows 4 to 5 are missing: the log ends before the head that was given"
    assert audit.cut_off(known, known, rows[4].hash) is None
    assert "written anew" in (audit.cut_off(known, known, "0" * 64) or "")


def test_a_head_is_read_back() -> None:
    head = Head(412, "ab" * 32)
    assert Head.parse(str(head)) == head
    for wrong in ("", "412", "412:", "-1:" + "ab" * 32, "1:" + "AB" * 32, "1:" + "ab" * 31):
        with pytest.raises(ValueError, match="SEQ:HASH"):
            Head.parse(wrong)


def test_details_hold_no_number_wherever_it_stands() -> None:
    """The last 4 characters stay; dates, counts and hashes are no numbers."""
    said = audit.change(
        1,
        "x",
        "y",
        text="call +8613800138000 or *31#4930123456",
        nested={"a": ["13800138001"], "b": [{"c": "13800138002"}]},
        at=AT,
        count=123456789,
        digest=b"\x12\x34\x56\x78",
        absent=None,
    )
    assert json.loads(said.details) == {
        "text": "call +…8000 or *…3456",
        "nested": {"a": ["…8001"], "b": [{"c": "…8002"}]},
        "at": "2026-03-01T12:00:00+00:00",
        "count": 123456789,
        "digest": "12345678",
    }
