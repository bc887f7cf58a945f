"""Each rule's test is seen red under a bug of its own: ordinary tests, run against mutated copies of src."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from mutating import Change, copy_of_src, run_tests

pytestmark = [pytest.mark.guard, pytest.mark.long]

INTERVALS = "datetime.combine(day, time()) + timedelta(minutes=minutes)"
OWN = "SELECT * FROM campaign WHERE vdn_id = $1 AND campaign_id = $2 AND deleted_at IS NULL"
POSTED = "callback_url, $10, $10 FROM number WHERE callback_url IS NOT NULL\n"
UNLISTED = "DELETE FROM blacklist WHERE vdn_id = $1 AND number = $2 RETURNING number"
LOST = "        if word.fate is not Fate.ALIVE:\n            return [self._lost(call, now)]"

PURE = tuple(f"tests/test_{name}.py" for name in ("signing", "calendar", "pacing", "throttle", "audit"))


@dataclass(frozen=True)
class Bug:
    """A seeded bug and the test that must fail under it, and under nothing else."""

    name: str
    change: Change
    test: str


BUGS = [
    Bug(
        "skip-signature-body",
        ("signing.py", "*lines, normalize(body)]", '*lines, normalize(b"")]'),
        "tests/test_signing.py::test_a_request_that_was_signed_so_is_accepted",
    ),
    Bug(
        "skip-signature",
        ("signing.py", "    if not matches:\n", "    if not claimed:\n"),
        "tests/test_signing.py::test_a_request_that_was_not_signed_so_is_refused",
    ),
    Bug(
        "window-off-by-one-hour",
        ("calendar.py", INTERVALS, INTERVALS.replace("minutes=minutes", "minutes=minutes + 60")),
        "tests/test_calendar.py::test_no_open_minute_is_outside_the_wall_clock_hours",
    ),
    Bug(
        "window-off-by-one-hour over SIP",
        ("calendar.py", INTERVALS, INTERVALS.replace("minutes=minutes", "minutes=minutes + 60")),
        "tests/faults/test_sip_clock.py::test_the_clock_is_set_while_it_calls",
    ),
    Bug(
        "drop-outbox-row",
        ("store/queries/calls.sql", POSTED, POSTED.replace("IS NOT NULL", "IS NULL")),
        "tests/test_engine.py::test_every_ending_becomes_its_result",
    ),
    Bug(
        "drop-tenant-filter",
        ("store/queries/campaigns.sql", f"{OWN}\n", f"{OWN.replace('vdn_id = $1', '$1::int > 0')}\n"),
        "tests/interface/test_tenant_matrix.py::test_anothers_campaign_is_one_that_is_not_there",
    ),
    Bug(
        "drop-tenant-filter of the blacklist",
        ("store/queries/blacklist.sql", UNLISTED, UNLISTED.replace("vdn_id = $1", "$1::int > 0")),
        "tests/interface/test_tenant_matrix.py::test_anothers_blacklisted_number_is_one_that_is_not_there",
    ),
    Bug(
        "requeue in the simulated worlds",
        ("dialing/dialer.py", LOST, LOST.replace("_lost", "_withdraw")),
        "tests/test_dialing_simulation.py::test_guarantees_hold_in_every_world",
    ),
    Bug(
        "a timer that does not count",
        (
            "pacing.py",
            "return max(now, last_launch_at + timedelta(seconds=pacing.call_interval))",
            "return now",
        ),
        "tests/test_pacing.py::test_the_next_launch_is_an_interval_after_the_last",
    ),
    Bug(
        "one wrong signature more",
        ("throttle.py", "(FAILURES - 1) * RETURNS", "FAILURES * RETURNS"),
        "tests/test_throttle.py::test_in_a_minute_at_most_so_many_are_judged",
    ),
    Bug(
        "an audit row that does not name the one before",
        ("audit.py", "    if row.previous_hash != after.hash:\n", "    if not row.previous_hash:\n"),
        "tests/test_audit.py::test_a_row_that_was_sealed_anew_breaks_the_chain_behind_it",
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_rule_that_is_broken_is_seen(tmp_path: Path, bug: Bug) -> None:
    """And by the test itself: a copy that cannot be imported would prove nothing."""
    done = run_tests(copy_of_src(tmp_path, bug.change), bug.test)
    print(done.stdout[-3000:])
    assert done.returncode == 1, "the test passes with the bug, or does not run"
    assert re.search(rf"^FAILED {re.escape(bug.test)}", done.stdout, re.MULTILINE)
    assert not re.search(r"^ERROR ", done.stdout, re.MULTILINE)


def test_the_copy_itself_is_sound(tmp_path: Path) -> None:
    """The control: it is the bug that is seen, not the copying."""
    done = run_tests(copy_of_src(tmp_path), *(bug.test for bug in BUGS if bug.test.startswith(PURE)))
    assert done.returncode == 0, done.stdout[-3000:]
