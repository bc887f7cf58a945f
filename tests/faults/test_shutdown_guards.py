"""The proof about the end is seen red with its guards taken out: against mutated copies of src."""

from __future__ import annotations

import pytest
from serving import Mutate, Serve
from test_shutdown import stops

pytestmark = [pytest.mark.long, pytest.mark.guard]


def test_a_server_that_goes_on_calling_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(
        ("dialing/dialer.py", "                self._stopping = True\n", "                pass\n")
    )
    with pytest.raises(AssertionError, match="calls leave after SIGTERM"):
        stops(serve, 1, source=source)


def test_an_end_that_abandons_calls_is_seen(serve: Serve, mutate: Mutate) -> None:
    """The carrier goes with its callers: nobody can say how the calls ended."""
    source = mutate(
        ("engine/shell.py", "not self._dialer.in_flight, self._stop_grace)", "not self._dialer.in_flight, 0)")
    )
    with pytest.raises(AssertionError, match="calls were abandoned"):
        stops(serve, 1, source=source)
