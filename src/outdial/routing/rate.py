"""How fast calls may start on one trunk: a token bucket, and beside it the exact count of the last second.

The bucket keeps the starts apart: carriers count too, and a second's calls sent in one burst, then the next
second's, may reach them as twice the rate. Alone it would let its burst through on top of a full second, so
the count has the last word.
"""

from __future__ import annotations

from collections import deque
from math import floor
from typing import Final

BURST: Final = 0.1
"""Seconds of the rate that may start at once, on top of one call."""

_ROUNDING: Final = 1e-9


class Rate:
    """Starts of calls under `cap` calls a second; every time is in monotonic seconds.

    In any second at most `floor(cap)` calls start; below 1 a second, one call in any `1 / cap` seconds.
    """

    def __init__(self, cap: float) -> None:
        self._set(cap)
        self._tokens = self._capacity
        self._counted_at: float | None = None
        self._starts: deque[float] = deque()

    def _set(self, cap: float) -> None:
        self._cap = cap
        self._most = max(1, floor(cap + _ROUNDING))
        self._span = max(1.0, 1 / cap)
        self._capacity = 1 + BURST * self._most

    def change(self, cap: float) -> None:
        """Another cap from now on; what has started counts on."""
        if cap != self._cap:
            self._set(cap)

    def room(self, now: float) -> int:
        """How many calls may start at `now`."""
        self._count(now)
        return max(0, min(int(self._tokens + _ROUNDING), self._most - len(self._starts)))

    def start(self, now: float) -> None:
        """A call starts."""
        self._count(now)
        self._tokens -= 1
        self._starts.append(now)

    def next_room(self, now: float) -> float:
        """When the next call may start; `now` when it may already."""
        self._count(now)
        token = now + max(0.0, 1 - self._tokens) * self._span / self._most
        if len(self._starts) < self._most:
            return token
        return max(token, self._starts[len(self._starts) - self._most] + self._span)

    def quiet(self, now: float) -> bool:
        """Whether no start counts any more."""
        self._count(now)
        return not self._starts

    def _count(self, now: float) -> None:
        passed = 0.0 if self._counted_at is None else max(0.0, now - self._counted_at)
        self._counted_at = now
        self._tokens = min(self._capacity, self._tokens + passed * self._most / self._span)
        while self._starts and now - self._starts[0] >= self._span:
            self._starts.popleft()
