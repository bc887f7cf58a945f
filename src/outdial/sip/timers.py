"""When which conversation of an endpoint is looked at next: one timer of the loop for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

_SLOTS: Final = 32
"""Slots of a second: what is due within one is looked at together, at its end, so up to 32 ms late."""

_ROUNDED: Final = 0.001
"""Seconds: uvloop rounds its timers to milliseconds, and may ring before the end of a slot."""

_STALLED: Final = 1.0
"""Seconds: who was stopped for so long may have been overtaken by another engine, and learns that first."""

BEAT: Final = 0.4
"""Seconds between two notes that this process runs: so a stop of `_STALLED` is always noticed."""


class Timers:
    """Times are the loop's, in seconds.

    `stalls`: how often this process was stopped for so long that another engine may have taken over its
    calls. It is `held` from then on until `go_on` has this number: nothing is due, so no INVITE is sent
    again (RFC 3261 §17.1.1.2, timer A). Without an engine nobody says so, and nobody can take over: who has
    never heard `go_on` is never held.
    """

    def __init__(self, look: Callable[[str, float, float], None]) -> None:
        """`look` gets the Call-ID, the time it was set for, and now."""
        self._look = look
        self._due: list[int] = []  # the slots of `_slots`, a heap
        self._slots: dict[int, list[tuple[float, str]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed = float("inf")
        self._has_engine = False
        self._alive_at = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self.held = False
        self.stalls = 0
        self._loop: asyncio.AbstractEventLoop

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run on this loop."""
        self._loop = loop
        self._beat_on()

    def close(self) -> None:
        """Look at nothing any more."""
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()

    def set(self, at: float, call_id: str) -> None:
        """Look at it at this time; what was set before stays set."""
        slot = int(at * _SLOTS) + 1
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.append((at, call_id))
            return
        self._slots[slot] = [(at, call_id)]
        heappush(self._due, slot)
        if slot / _SLOTS < self._armed and not self.held:
            self._arm()

    def go_on(self, stalls: int) -> None:
        """This run was alive after so many stalls: what is due goes on."""
        self._has_engine = True
        if self.held and stalls == self.stalls:
            self.held, self._armed = False, float("inf")
            self._arm()

    def notice(self, now: float) -> None:
        """Note that this process runs, and whether it was stopped for long before."""
        if self._has_engine and now - self._alive_at > _STALLED:
            self.stalls, self.held = self.stalls + 1, True
        self._alive_at = now

    def _beat_on(self) -> None:
        now = self._loop.time()
        self.notice(now)
        self._beat = self._loop.call_at(now + BEAT, self._beat_on)

    def _arm(self) -> None:
        """Set the loop's timer for what is due first."""
        if self._timer is not None:
            self._timer.cancel()
        if self._due:
            self._armed = self._due[0] / _SLOTS + _ROUNDED
            self._timer = self._loop.call_at(self._armed, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        self.notice(now)
        if self.held:
            return
        self._armed = float("inf")
        while self._due and self._due[0] / _SLOTS <= now:
            for at, call_id in self._slots.pop(heappop(self._due)):
                self._look(call_id, at, now)
        if self._due and self._due[0] / _SLOTS < self._armed:
            self._arm()
