"""When a trunk is left alone: after failures in a row or a ping without an answer, until a call succeeds."""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
"""Calls in a row that fail over (408, 5xx, silence, a refused login) before the breaker opens."""

FIRST_BACK_OFF: Final = 5.0
"""Seconds until the first trial call; every trial that fails doubles them."""

LONGEST_BACK_OFF: Final = 300.0


class Breaker:
    """Closed, open, or half-open (one trial call); every time is in monotonic seconds.

    Pings alone open it only while they can be believed: a far end that takes calls and is silent to OPTIONS
    is alive. A ping that is answered ends the wait of a breaker that a ping opened, and no other's: a server
    that answers OPTIONS and refuses every call is not well.
    """

    def __init__(self) -> None:
        self.alive: bool | None = None
        """What the last ping said; None before the first."""
        self.reason = ""
        self._until: float | None = None
        self._failures = 0
        self._back_off = 0.0
        self._on_trial = False
        self._opened_by_ping = False
        self._pings_believed = True

    def blocks(self, now: float) -> bool:
        """Whether no call may be placed: it is open, or half-open and its trial call is under way."""
        return self._until is not None and (now < self._until or self._on_trial)

    def half_open(self, now: float) -> bool:
        """Whether one trial call may be placed, and no more."""
        return self._until is not None and now >= self._until and not self._on_trial

    def open_until(self) -> float | None:
        """When the trial call may be placed; None when it is closed or the trial call is under way."""
        return None if self._on_trial else self._until

    def took(self, now: float) -> None:
        """A call is placed."""
        if self.half_open(now):
            self._on_trial = True

    def failed(self, status: int, now: float) -> None:
        """A call failed over."""
        self._failures += 1
        if self._on_trial:
            self._open(now, f"the trial call failed with {status}")
        elif self._until is None and self._failures >= FAILURES:
            self._opened_by_ping = False
            self._open(now, f"{self._failures} calls in a row failed, the last with {status}")

    def succeeded(self) -> None:
        """A call was rung, answered, or refused with a word about its number: the trunk works."""
        if self._until is not None and self._opened_by_ping:
            self._pings_believed = False
        self._until, self._on_trial, self._failures, self._back_off = None, False, 0, 0.0

    def pinged(self, answered: bool, now: float) -> None:
        """An OPTIONS was answered, or not."""
        self.alive = answered
        if answered:
            self._pings_believed = True
            if self._until is not None and self._opened_by_ping:
                self._until = min(self._until, now)
        elif self._until is None and self._pings_believed:
            self._opened_by_ping = True
            self._open(now, "OPTIONS got no answer")

    def drained(self) -> None:
        """No call is left: a trial that ended without a word is over."""
        self._on_trial = False

    def _open(self, now: float, reason: str) -> None:
        self._back_off = min(LONGEST_BACK_OFF, 2 * self._back_off or FIRST_BACK_OFF)
        self._until, self._on_trial, self.reason = now + self._back_off, False, reason
