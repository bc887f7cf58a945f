"""The proof about hostile receivers is seen red with its guards taken out: against mutated copies of src."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import Mutate, Serve
from test_hostile_receivers import SMALL, sooner, stands_up_to

pytestmark = [pytest.mark.long, pytest.mark.guard]

TOTAL = "total=self._timeout, ceil_threshold=self._timeout + 1"
BODY = "if size > BODY_LIMIT:"
HEAD = "if self._heard > HEAD_LIMIT and not self._final:"
REDIRECT = "allow_redirects=False"
PER_RECEIVER = "for _ in range(PER_RECEIVER - 1):"
LATER = "self._book.fail(NotDelivered(delivery, None if last else self._now() + PAUSE, reason))"


def red(serve: Serve, place: Path, source: Path, message: str, *kinds: str) -> None:
    with pytest.raises(AssertionError, match=message):
        stands_up_to(serve, place, SMALL, kinds=kinds, source=source)


def test_a_try_without_an_end_is_seen(serve: Serve, place: Path, mutate: Mutate) -> None:
    """The late one ends it then, by its answer."""
    source = sooner(mutate, ("receivers.py", TOTAL, "total=None"))
    red(serve, place, source, "a try goes on after its timeout", "late")


def test_more_at_a_time_than_allowed_is_seen(serve: Serve, place: Path, mutate: Mutate) -> None:
    source = sooner(mutate, ("push.py", PER_RECEIVER, "for _ in range(100):"))
    red(serve, place, source, "more at a time", "silent")


@pytest.mark.parametrize(("kind", "bound"), [("endless_body", BODY), ("endless_interim", HEAD)])
def test_an_answer_read_without_end_is_seen(
    serve: Serve, place: Path, mutate: Mutate, kind: str, bound: str
) -> None:
    source = sooner(mutate, ("receivers.py", bound, "if False:"))
    red(serve, place, source, r"more of an answer is read|healthy receivers wait", kind)


def test_a_redirect_that_is_followed_is_seen(serve: Serve, place: Path, mutate: Mutate) -> None:
    source = sooner(mutate, ("receivers.py", REDIRECT, "allow_redirects=True"))
    red(serve, place, source, "a redirect was followed", "to_the_canary")


def test_a_result_dropped_after_a_failure_is_seen(serve: Serve, place: Path, mutate: Mutate) -> None:
    source = sooner(mutate, ("push.py", LATER, "self._book.deliver(delivery.result)"))
    red(serve, place, source, "results missing", "error")
