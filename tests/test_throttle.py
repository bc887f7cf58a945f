"""Wrong signatures are slowed down by key and address, in bounded memory; no key is ever locked."""

from __future__ import annotations

import pytest

from outdial.throttle import FAILURES, MAX_KNOWN, RETURNS, Throttle, source

US, THEM = ("ak", "192.0.2.1"), ("ak", "192.0.2.2")


def after_failures(count: int, at: float = 0.0) -> Throttle:
    throttle = Throttle()
    for _ in range(count):
        throttle.failed(US, at)
    return throttle


def test_so_many_are_judged_at_once_and_not_one_more() -> None:
    assert after_failures(FAILURES - 1).wait(US, 0.0) == 0
    assert after_failures(FAILURES).wait(US, 0.0) == RETURNS


def test_another_address_and_another_key_are_judged() -> None:
    """A lockout of the key would let anybody who knows it lock it."""
    throttle = after_failures(FAILURES)
    assert throttle.wait(THEM, 0.0) == 0
    assert throttle.wait(("other", US[1]), 0.0) == 0


def test_one_more_is_judged_after_the_bound_and_not_before() -> None:
    throttle = after_failures(FAILURES)
    assert throttle.wait(US, RETURNS - 0.001) == 1
    assert throttle.wait(US, RETURNS) == 0
    throttle.failed(US, RETURNS)
    assert throttle.wait(US, RETURNS) == RETURNS


def test_what_is_not_judged_does_not_prolong_the_wait() -> None:
    throttle = after_failures(FAILURES)
    assert [throttle.wait(US, second) for second in (1, 3, 5)] == [5, 3, 1]


def test_in_a_minute_at_most_so_many_are_judged() -> None:
    throttle, judged = Throttle(), 0
    for tenth in range(600):
        if throttle.wait(US, tenth / 10) == 0:
            throttle.failed(US, tenth / 10)
            judged += 1
    assert judged == FAILURES + 60 / RETURNS - 1


def test_a_right_signature_forgets_the_failures() -> None:
    throttle = after_failures(FAILURES - 1)
    throttle.held(US)
    assert len(throttle) == 0
    throttle.failed(US, 0.0)
    assert throttle.wait(US, 0.0) == 0


def test_memory_is_bounded_and_the_oldest_failure_goes_first() -> None:
    throttle = Throttle()
    for n in range(MAX_KNOWN):
        throttle.failed(("ak", str(n)), 0.0)
    for _ in range(FAILURES - 1):
        throttle.failed(("ak", "0"), 1.0)
    throttle.failed(("made up", ""), 2.0)
    assert len(throttle) == MAX_KNOWN
    assert throttle.wait(("ak", "0"), 2.0) > 0


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_address_of_ipv6_stands_for_its_network(address: str, stands_for: str) -> None:
    assert source(address) == stands_for
