"""Which candidates of a claim are dialed: judged at the moment of dialing, under the campaign's row lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from uuid import UUID

from outdial import calendar
from outdial.dialing.caps import allowed_at
from outdial.model import NO_CAPS, Campaign, Caps, Disposition, HeldBy, Recycle


@dataclass(frozen=True, slots=True)
class PacedCampaign:
    """A campaign with what its VDN decides."""

    campaign: Campaign
    time_zone: str
    recycle: Recycle = Recycle.KEEP
    caps: Caps = NO_CAPS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A contact that is due. `listed`: its number has an entry on the blacklist."""

    contact_id: int
    called: str
    caller: str | None
    recycle_at: datetime | None
    listed: bool
    session_id: str | None = None
    call_data: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """A blacklist entry. `window_calls` were made in the hour or day that began at `window_begin`."""

    restrict_times: int | None
    restrict_period: str | None
    window_begin: datetime | None
    window_calls: int

    @property
    def plain(self) -> bool:
        """Whether it allows no call at all."""
        return self.restrict_times is None


@dataclass(frozen=True, slots=True)
class Selection:
    """What becomes of candidates: contacts to dial with their new attempt ids, to end, and to postpone.

    `ended`: by how they end without a call. `postponed`: until when, and by what.
    `called`: how often each number is, where the VDN has caps.
    """

    dial: list[tuple[UUID, Candidate]] = field(default_factory=list)
    ended: dict[Disposition, list[int]] = field(default_factory=dict)
    postponed: list[tuple[int, datetime, HeldBy]] = field(default_factory=list)
    counted: dict[str, Listing] = field(default_factory=dict)
    called: Counter[str] = field(default_factory=Counter)


def select(
    candidates: Iterable[Candidate],
    listings: Mapping[str, Listing],
    *,
    now: datetime,
    tz: tzinfo,
    recycle: Recycle,
    refuses: Callable[[Candidate], Disposition | None],
    caps: Caps,
    calls: Mapping[str, Sequence[datetime]],
    room: int,
    new_id: Callable[[], UUID],
) -> Selection:
    """Judge candidates at the moment of dialing (semantics.md §4, §8); at most `room` of them are dialed.

    A plain blacklist entry ends the number, and so does a switch that `refuses` it; a restriction that is
    used up in this hour or day of the VDN's clock moves it to the next; one that is not counts the call.
    Where the VDN has `caps`, `calls` says when each number was called: over a cap it waits until it may be.
    """
    chosen = Selection()
    entries = {number: _this_period(listing, now, tz) for number, listing in listings.items()}
    for candidate in candidates:
        entry = entries.get(candidate.called)
        end = _end(candidate, entry, recycle, now) or refuses(candidate)
        if end is not None:
            chosen.ended.setdefault(end, []).append(candidate.contact_id)
            continue
        due_at, held_by = _restricted_until(entry, now, tz), HeldBy.BLACKLIST
        if caps:
            made = [*calls.get(candidate.called, ()), *[now] * chosen.called[candidate.called]]
            free_at = allowed_at(made, caps, now, tz)
            if free_at > due_at:
                due_at, held_by = free_at, HeldBy.CAP
        if due_at > now:
            chosen.postponed.append((candidate.contact_id, due_at, held_by))
        elif len(chosen.dial) < room:
            chosen.dial.append((new_id(), candidate))
            if caps:
                chosen.called[candidate.called] += 1
            if entry is not None:
                entry = replace(entry, window_calls=entry.window_calls + 1)
                entries[candidate.called] = chosen.counted[candidate.called] = entry
    return chosen


def _restricted_until(entry: Listing | None, now: datetime, tz: tzinfo) -> datetime:
    """When a blacklist entry allows the next call; `now` when it does already."""
    if entry is None or entry.window_calls < (entry.restrict_times or 0):
        return now
    return calendar.period_end(entry.restrict_period or "day", now, tz)


def _end(candidate: Candidate, entry: Listing | None, recycle: Recycle, now: datetime) -> Disposition | None:
    """How a contact ends without a call, by its recycle time and the blacklist."""
    if recycle is Recycle.RETIRE and candidate.recycle_at is not None and candidate.recycle_at <= now:
        return Disposition.RECYCLED
    return Disposition.BLACKLISTED if entry is not None and entry.plain else None


def _this_period(listing: Listing, now: datetime, tz: tzinfo) -> Listing:
    """The entry as it counts this hour or day. A begin after it (the clock went back) goes on counting."""
    start = calendar.period_start(listing.restrict_period or "day", now, tz)
    if listing.window_begin is not None and listing.window_begin >= start:
        return listing
    return replace(listing, window_begin=start, window_calls=0)
