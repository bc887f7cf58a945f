"""The proofs about connections are seen red with what they prove taken out of a copy of src."""

from __future__ import annotations

import pytest
from serving import Mutate, Serve
from test_many_connections import crowded
from test_slow_clients import surrounded

pytestmark = [pytest.mark.guard, pytest.mark.long]


@pytest.mark.parametrize(
    ("crowd", "file", "text", "instead", "seen"),
    [
        pytest.param(
            (40, 0, 0),
            "web/limits.py",
            "    head: float = 10.0\n",
            "    head: float = 1e6\n",
            "head: 40 are never cut off",
            id="no deadline for the head",
        ),
        pytest.param(
            (40, 0, 0),
            "web/edge.py",
            "        if self._begun:\n            self._began = self.loop.time()\n",
            "        self._began = self._accepted = self.loop.time()\n",
            "head: 40 are never cut off",
            id="a deadline that every byte restarts",
        ),
        pytest.param(
            (0, 40, 0),
            "web/limits.py",
            "    body: float = 30.0\n",
            "    body: float = 1e6\n",
            "body: 40 are never cut off",
            id="no deadline for the body",
        ),
        pytest.param(
            (0, 0, 40),
            "web/edge.py",
            "self._write_timer = self.loop.call_later(self._limits.write, self._reset)",
            "pass",
            "reader: 40 are never cut off",
            id="no bound for unread answers",
        ),
        pytest.param(
            (0, 0, 40),
            "web/edge.py",
            '        its = self.transport.get_extra_info("socket")\n',
            "        its = None\n",
            "reader: 40 are never cut off",
            id="unread answers that stay with the kernel",
        ),
    ],
)
def test_a_missing_bound_is_seen(
    serve: Serve,
    mutate: Mutate,
    crowd: tuple[int, int, int],
    file: str,
    text: str,
    instead: str,
    seen: str,
) -> None:
    with pytest.raises(AssertionError, match=seen):
        surrounded(serve(source=mutate((file, text, instead))), *crowd, idle_for=1.0, rate=10)


def test_idle_connections_that_are_not_kept_are_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("web/accepting.py", "MOST = 16_384\n", "MOST = 400\n"))
    with pytest.raises(AssertionError, match=r"not accepted|were open"):
        crowded(serve(source=source), 500, rate=10, seconds=3)
