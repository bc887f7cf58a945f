"""How campaigns share trunks: priority first, and among equals by turns.

A campaign of a smaller priority number takes what it wants; the next priority gets what is left, so under
trunks that are always full it may get nothing. Campaigns of one priority take turns by the calls they were
given: whoever had the fewest is next, and what there is room for is split evenly among those that wait. One
that comes back after a pause begins at the count of the others, so it neither starves them nor catches up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from outdial.dialing.words import Key, RoomOf
from outdial.pacing import MAX_LAUNCH


@dataclass(slots=True)
class Share:
    """A campaign's place among those that share its trunks.

    `taken`: the calls it was given, counted among its `equals`: those of one trunk group and priority.
    """

    key: Key
    priority: int = 3
    group: str = ""
    equals: tuple[str, int] | None = None
    taken: int = 0

    @property
    def order(self) -> tuple[int, int, Key]:
        """Who is first: priority, then the fewest calls."""
        return self.priority, self.taken, self.key

    def enter(self, group: str, counts: Mapping[tuple[str, int], int]) -> None:
        """Wait for room. Who begins to wait counts from where the others stand; who waited stands there."""
        equals = (group, self.priority)
        count = counts.get(equals, 0)
        if equals != self.equals:
            self.group, self.equals, self.taken = group, equals, count
        self.taken = max(self.taken, count)


@dataclass(frozen=True, slots=True)
class Promise:
    """Room of a trunk group that a claim under way may use."""

    group: str
    calls: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What one campaign may claim now: at most `calls`."""

    share: Share
    calls: int


class Trunks:
    """Room that claims have been promised and calls have not yet taken, by trunk group.

    All promises together are bounded by what can leave in time (`MAX_LAUNCH`).
    """

    def __init__(self) -> None:
        self._promised: Counter[str] = Counter()
        self._counts: dict[tuple[str, int], int] = {}  # how many calls whoever was next had been given

    def offers(self, waiting: Sequence[Share], room: RoomOf) -> Iterator[Offer]:
        """One campaign after the other with what it may claim, as long as there is room.

        What is promised between two of them is gone for the next.
        """
        rooms = {share.key[0]: room(share.key[0]) for share in waiting}
        for share in waiting:
            share.enter(rooms[share.key[0]].group, self._counts)
        equals = Counter(share.equals for share in waiting)
        for share in sorted(waiting, key=lambda share: share.order):
            left = rooms[share.key[0]].calls - self._promised[share.group]
            calls = min(-(-left // equals[share.equals]), MAX_LAUNCH - self._promised.total())
            equals[share.equals] -= 1
            if calls > 0:
                yield Offer(share, calls)

    def promise(self, share: Share, calls: int) -> Promise:
        """A claim of so many is under way."""
        self._promised[share.group] += calls
        self._counts[share.group, share.priority] = share.taken
        return Promise(share.group, calls)

    def claimed(self, share: Share, promise: Promise, calls: int) -> None:
        """The claim is over; its calls keep their promise until they are placed. A claim counts as a call."""
        self._promised[promise.group] += calls - promise.calls
        share.taken += max(1, calls)

    def placed(self, group: str) -> None:
        """A promised call has been placed, or never will be: the switch knows what it takes."""
        self._promised[group] -= 1
