"""The live state of all trunks of one engine, sans-IO: which of them can take a call now, and which one does.

Every time is in seconds of a monotonic clock. A trunk is named by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from outdial.model import Trunk
from outdial.routing.breaker import Breaker
from outdial.routing.rate import Rate
from outdial.routing.rules import allowed, dial_string


class Bar(StrEnum):
    """Why a trunk takes no call now."""

    REMOVED = "removed: its last calls are running"
    DISABLED = "disabled"
    UNREACHABLE = "no address known, or no connection"
    UNREGISTERED = "not registered there"
    MINUTES = "the answered minutes of today are used up"
    MINUTES_UNKNOWN = "the answered minutes of today are not known yet"
    BREAKER = "circuit breaker open"
    TRIAL = "one trial call is under way"
    CHANNELS = "all channels in use"
    CPS = "calls a second used up"


@dataclass(frozen=True, slots=True)
class TrunkStanding:
    """What a trunk can do at this moment.

    `bar` None: it takes calls. `until` (monotonic): when that may change by itself; None: not by the clock
    (minutes come back at midnight UTC). `channels` is this engine's share of them. `alive`: the last ping.
    """

    name: str
    group: str
    bar: Bar | None
    until: float | None
    detail: str
    in_use: int
    channels: int
    alive: bool | None


@dataclass(slots=True)
class _Line:
    trunk: Trunk
    rate: Rate
    breaker: Breaker
    removed: bool = False
    barred: Bar | None = None
    why: str = ""
    in_use: int = 0
    turn: int = 0  # smooth weighted round robin: how far this trunk's turn has come

    def closed(self) -> Bar | None:
        """What keeps it from every call, whatever the clock and the other calls say."""
        if self.removed:
            return Bar.REMOVED
        if not self.trunk.enabled:
            return Bar.DISABLED
        return self.barred

    def change(self, trunk: Trunk) -> None:
        """Other settings. Another far end begins with a closed breaker."""
        if _far_end(trunk) != _far_end(self.trunk):
            self.breaker = Breaker()
        elif not trunk.ping_every:
            self.breaker.alive = None
        self.trunk, self.removed = trunk, False


def _far_end(trunk: Trunk) -> tuple[object, ...]:
    return trunk.host, trunk.port, trunk.transport, trunk.outbound_proxy


class Board:
    """Takes note of every call of this engine, and says where the next one may go.

    `shares`: how many engines share the trunks. This one uses 1/n of every cap: the channels rounded down,
    the rate as a rate, and of the minutes that are left an n-th, each time it learns what all have used. It
    may be set at any time.

    For each call: `choose`, `took`, then once `failed` (where `fails_over` says so of an end without a ring)
    or `succeeded` (at the first 18x, the answer, or any other end), then once `released`.
    """

    def __init__(self, *, shares: int = 1) -> None:
        self.shares = shares
        self._lines: dict[str, _Line] = {}
        self._used: Mapping[str, float] | None = None
        self._unsaved: dict[str, float] = {}

    def load(self, trunks: Iterable[Trunk], now: float) -> None:
        """The trunks as they are set now. One that is gone takes no new call; its running ones go on."""
        given = {trunk.name: trunk for trunk in trunks}
        for name, line in list(self._lines.items()):
            line.removed = name not in given
            if line.removed and not line.in_use and line.rate.quiet(now):
                del self._lines[name]
        for name, trunk in given.items():
            if name in self._lines:
                self._lines[name].change(trunk)
            else:
                self._lines[name] = _Line(trunk, Rate(trunk.max_cps), Breaker())

    def room(self, group: str, now: float) -> int:
        """How many calls the group could place at `now`, whatever their destinations."""
        return sum(self._room(line, now) for line in self._group(group))

    def choose(
        self, group: str, called: str, prefixes: Collection[str], now: float, *, tried: Collection[str] = ()
    ) -> tuple[Trunk, str] | None:
        """The trunk that takes this call and the dial string, or None when none can now.

        Among those with room whose dial string is allowed: the first position; there each in its turn, as
        often as its weight says. `tried` are left out. To choose is to take the turn.
        """
        open_ = [
            (line, dialed)
            for line in self._group(group)
            if line.trunk.name not in tried
            and allowed(dialed := dial_string(called, line.trunk), prefixes)
            and self._bar(line, now) is None
        ]
        if not open_:
            return None
        first = min(line.trunk.position for line, _ in open_)
        line, dialed = _in_turn([entry for entry in open_ if entry[0].trunk.position == first])
        return line.trunk, dialed

    def took(self, trunk: str, now: float) -> None:
        """A call starts on the trunk."""
        line = self._lines[trunk]
        self._rate(line).start(now)
        line.breaker.took(now)
        line.in_use += 1

    def adopted(self, trunk: str) -> None:
        """A call of an engine that died is ours now: it holds a channel, and starts no more."""
        if (line := self._lines.get(trunk)) is not None:
            line.in_use += 1

    def failed(self, trunk: str, status: int, now: float) -> None:
        """A call failed in a way that another trunk might not (`fails_over`)."""
        if (line := self._lines.get(trunk)) is not None:
            line.breaker.failed(status, now)

    def succeeded(self, trunk: str, now: float) -> None:
        """The trunk did its part: it rang, was answered, or refused with a word about the number."""
        if (line := self._lines.get(trunk)) is not None:
            line.breaker.succeeded()

    def barred(self, trunk: str, bar: Bar | None, why: str = "") -> None:
        """What keeps calls from leaving over the trunk; None: nothing. Until this is said, nothing does."""
        if (line := self._lines.get(trunk)) is not None:
            line.barred, line.why = bar, why

    def pinged(self, trunk: str, status: int | None, now: float) -> None:
        """The answer to an OPTIONS; `status` None: there was none.

        Whoever answers is alive, but for 408 and 5xx, which a call would get too (RFC 3261 §11.2); a 501
        only says that it does not know OPTIONS.
        """
        answered = status is not None and (status == 501 or not (status == 408 or 500 <= status <= 599))
        if (line := self._lines.get(trunk)) is not None:
            line.breaker.pinged(answered, now)

    def released(self, trunk: str, now: float, answered_seconds: float = 0.0) -> None:
        """A call is over. Its `answered_seconds` count in the day in which they are stored."""
        if answered_seconds:
            self._unsaved[trunk] = self._unsaved.get(trunk, 0.0) + answered_seconds
        if (line := self._lines.get(trunk)) is not None:
            line.in_use = max(0, line.in_use - 1)
            if not line.in_use:
                line.breaker.drained()

    def unsaved(self) -> dict[str, float]:
        """Answered seconds by trunk that the store does not know yet; to be stored as today's (UTC)."""
        return dict(self._unsaved)

    def counted(self, saved: Mapping[str, float], used: Mapping[str, float]) -> None:
        """`saved` has been stored; `used` are the answered seconds of today by trunk, of all engines.

        Before the first of these a trunk with a limit of minutes takes no call.
        """
        self._used = used
        for name, seconds in saved.items():
            left = self._unsaved.get(name, 0.0) - seconds
            if left > 0:
                self._unsaved[name] = left
            else:
                self._unsaved.pop(name, None)

    def standing(self, now: float) -> list[TrunkStanding]:
        """Every trunk by name: whether it takes calls at `now`, or what keeps it from that."""
        return [self._standing(self._lines[name], now) for name in sorted(self._lines)]

    def _standing(self, line: _Line, now: float) -> TrunkStanding:
        bar, trunk = self._bar(line, now), line.trunk
        until: float | None = None
        if bar is Bar.BREAKER:
            until = line.breaker.open_until()
        elif bar is Bar.CPS:
            until = self._rate(line).next_room(now)
        detail = line.breaker.reason if bar in (Bar.BREAKER, Bar.TRIAL) else ""
        detail = line.why if bar is Bar.UNREGISTERED else detail
        channels = self._channels(trunk)
        return TrunkStanding(
            trunk.name, trunk.group, bar, until, detail, line.in_use, channels, line.breaker.alive
        )

    def _group(self, group: str) -> list[_Line]:
        return [line for line in self._lines.values() if line.trunk.group == group]

    def _room(self, line: _Line, now: float) -> int:
        if self._bar(line, now) is not None:
            return 0
        if line.breaker.half_open(now):
            return 1
        return min(self._rate(line).room(now), self._channels(line.trunk) - line.in_use)

    def _bar(self, line: _Line, now: float) -> Bar | None:
        closed = line.closed()
        if closed is not None:
            return closed
        if self._seconds_left(line.trunk) <= 0:
            return Bar.MINUTES if self._used is not None else Bar.MINUTES_UNKNOWN
        if line.breaker.blocks(now):
            return Bar.TRIAL if line.breaker.open_until() is None else Bar.BREAKER
        if line.in_use >= self._channels(line.trunk):
            return Bar.CHANNELS
        return None if self._rate(line).room(now) else Bar.CPS

    def _rate(self, line: _Line) -> Rate:
        line.rate.change(line.trunk.max_cps / self.shares)
        return line.rate

    def _channels(self, trunk: Trunk) -> int:
        return trunk.max_channels // self.shares

    def _seconds_left(self, trunk: Trunk) -> float:
        if trunk.max_minutes is None:
            return inf
        if self._used is None:
            return 0.0
        left = 60 * trunk.max_minutes - self._used.get(trunk.name, 0.0)
        return left / self.shares - self._unsaved.get(trunk.name, 0.0)


def _in_turn(entries: list[tuple[_Line, str]]) -> tuple[_Line, str]:
    """Smooth weighted round robin: of weights 2 and 1 the turns are a, b, a, and not a, a, b."""
    for line, _ in entries:
        line.turn += line.trunk.weight
    chosen = max(entries, key=lambda entry: entry[0].turn)
    chosen[0].turn -= sum(line.trunk.weight for line, _ in entries)
    return chosen
