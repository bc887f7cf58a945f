"""The cause table and the failCodes (semantics.md §7, wire/data-api.md §6.4, wire/campaign-api.md §7.1)."""

from __future__ import annotations

from uuid import UUID

import pytest

from outdial.disposition import call_status, disposition, fail_code
from outdial.model import Disposition, Ended, HungUpBy

ID = UUID(int=1)
D = Disposition

DOCUMENTED = {
    "00000": D.ANSWERED,
    "00263": D.MACHINE,
    "00537": D.BUSY,
    "00538": D.INVALID,
    "00551": D.FAILED,
    "00603": D.NO_ANSWER,
    "00604": D.REJECTED,
    "00605": D.CONGESTION,
    "01040": D.RING_TIMEOUT,
    "34606": D.NO_REPLY,
    "34608": D.UNKNOWN,
}
OUR_OWN = {
    "90001": D.BLACKLISTED,
    "90002": D.RECYCLED,
    "90003": D.NOT_ATTEMPTED,
    "90004": D.NOT_ALLOWED,
    "90005": D.BAD_CALLER,
    "90006": D.CAPPED,
}


def test_every_disposition_has_a_fail_code_of_its_own() -> None:
    """data-api.md §6.4 and semantics.md §7: the codes as written there, and none stands for two endings."""
    assert {fail_code(one): one for one in D} == DOCUMENTED | OUR_OWN
    assert len({fail_code(one) for one in D}) == len(D)


def test_call_status_is_success_only_for_an_answer() -> None:
    """data-api.md §6.3: callStatus 6 or 5."""
    assert {one for one in D if call_status(one) == 6} == {D.ANSWERED}
    assert {call_status(one) for one in D} == {5, 6}


@pytest.mark.parametrize(
    ("judged", "causes"),
    [
        (D.BUSY, {17}),
        (D.INVALID, {1, 22, 28}),
        (D.REJECTED, {21}),
        (D.NO_ANSWER, {18, 19, 20}),
        (D.CONGESTION, {27, 34, 38, 41, 42, 44, 47}),
        (D.FAILED, {2, 16, 31, 58, 88, 127, 0, -1, 999}),
    ],
)
def test_causes(judged: Disposition, causes: set[int]) -> None:
    """ITU-T Q.850."""
    for cause in causes:
        assert disposition(Ended(ID, cause=cause), gave_up=False, rang=True) is judged, cause


@pytest.mark.parametrize(
    ("judged", "statuses"),
    [
        (D.BUSY, {486, 600}),
        (D.INVALID, {404, 410, 484, 604}),
        (D.REJECTED, {403, 603, 607, 608}),
        (D.NO_ANSWER, {408, 480, 487}),
        (D.CONGESTION, {500, 502, 503, 504}),
        (D.FAILED, {400, 401, 407, 415, 488, 501, 606, 699, 0}),
    ],
)
def test_statuses(judged: Disposition, statuses: set[int]) -> None:
    """RFC 3261 §21."""
    for status in statuses:
        assert disposition(Ended(ID, sip_status=status), gave_up=False, rang=False) is judged, status


def test_the_cause_decides_before_the_status_and_a_cause_without_meaning_does_not() -> None:
    """RFC 3326: a Reason header says more than the status beside it; cause 31 or 127 says nothing."""
    busy = Ended(ID, cause=17, sip_status=480)
    unspecified = Ended(ID, cause=31, sip_status=486)
    assert disposition(busy, gave_up=False, rang=False) is D.BUSY
    assert disposition(unspecified, gave_up=False, rang=False) is D.BUSY


def test_an_answer_beats_every_cause_and_the_detector_beats_the_answer() -> None:
    """A call that was answered and then dropped was answered."""
    for cause in (16, 17, 34, 41, None):
        ended = Ended(ID, cause=cause, sip_status=200, answered=True, hung_up_by=HungUpBy.CALLEE)
        assert disposition(ended, gave_up=False, rang=True) is D.ANSWERED
    machine = Ended(ID, cause=16, answered=True, machine=True)
    assert disposition(machine, gave_up=False, rang=True) is D.MACHINE


@pytest.mark.parametrize(
    "ended",
    [
        Ended(ID, sip_status=487, hung_up_by=HungUpBy.CALLER),
        Ended(ID, cause=16, sip_status=200, answered=True),
        Ended(ID, answered=True, machine=True),
    ],
)
def test_a_call_we_gave_up_is_a_ring_timeout_even_if_it_answered_our_cancel(ended: Ended) -> None:
    """campaign-api.md §7.1: 01040, ring timeout (maxAlertingTime)."""
    for rang in (True, False):
        assert disposition(ended, gave_up=True, rang=rang) is D.RING_TIMEOUT


def test_silence() -> None:
    """No word from the carrier is NO_REPLY; ringing is a word."""
    silent = Ended(ID)
    assert disposition(silent, gave_up=True, rang=False) is D.NO_REPLY
    assert disposition(silent, gave_up=False, rang=False) is D.NO_REPLY
    assert disposition(silent, gave_up=True, rang=True) is D.RING_TIMEOUT
    assert disposition(silent, gave_up=False, rang=True) is D.FAILED
