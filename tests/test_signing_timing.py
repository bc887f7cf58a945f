"""No time tells how much of a signature is right, or whether a key is known (trust.md B.3 rule 5).

Structure proves it in test_signing.py: the same MACs and comparisons for both. Here the clock is asked, and a
verifier that leaks on purpose has to be found out by the same question.
"""

from __future__ import annotations

import hmac
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from outdial import signing
from test_signing import GOOD_POST, SK, Request, accepted

SAMPLES = 20_000
SEEN = 0.55
"""The chance that one kind takes longer than the other, from which on it is told apart; 0.5 is no leak."""


def chance_of_longer(first: Callable[[], object], second: Callable[[], object], samples: int) -> float:
    """How likely a run of the second takes longer than one of the first (Mann and Whitney's U over n·m).

    Runs alternate by chance, so that whatever else the machine does falls on both alike.
    """
    order = [0, 1] * samples
    random.Random(samples).shuffle(order)
    took: tuple[list[int], list[int]] = ([], [])
    for kind in order:
        work = second if kind else first
        began = time.perf_counter_ns()
        work()
        took[kind].append(time.perf_counter_ns() - began)
    ranked = sorted((ns, kind) for kind in (0, 1) for ns in took[kind])
    ranks, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        ranks += (at + 1 + end) / 2 * sum(kind for _, kind in ranked[at:end])
        at = end
    return (ranks - samples * (samples + 1) / 2) / samples**2


def wrong_from(place: int) -> Request:
    """The good request with a signature that is right up to this digit, and wrong from there on.

    A letter stays a letter: the reader of the header takes longer for those, whatever the server knows.
    """
    head, signature = GOOD_POST.authorization[:-64], GOOD_POST.authorization[-64:]
    wrong = signature[place:].translate(str.maketrans("0123456789abcdef", "1234567890bcdefa"))
    return replace(GOOD_POST, authorization=head + signature[:place] + wrong)


def leaks(samples: int) -> tuple[float, float]:
    """By digits that are right, and by whether the key is known."""
    first, last = wrong_from(0), wrong_from(63)
    unknown = replace(first, secret=signing.DUMMY_SECRET)
    other = replace(first, secret=SK[:-1] + "x")
    digits = chance_of_longer(lambda: accepted(first), lambda: accepted(last), samples)
    return digits, chance_of_longer(lambda: accepted(other), lambda: accepted(unknown), samples)


def told_apart(chance: float) -> bool:
    return abs(chance - 0.5) > SEEN - 0.5


def compare_digit_by_digit(left: bytes, right: bytes) -> bool:
    """What `==` of a simple program does: it ends at the first difference."""
    return all(one == other for one, other in zip(left, right, strict=True))


@pytest.mark.long
def test_no_time_tells_what_was_wrong() -> None:
    digits, known = leaks(SAMPLES)
    print(
        f"{SAMPLES} samples of each: by right digits {digits:.3f}, by known key {known:.3f}; 0.5 is no leak"
    )
    assert not told_apart(digits)
    assert not told_apart(known)


@pytest.mark.guard
def test_a_comparison_that_leaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmac, "compare_digest", compare_digit_by_digit)
    digits, _ = leaks(1000)
    print(f"a leaky comparison, 1000 samples of each: {digits:.3f}")
    assert told_apart(digits)
