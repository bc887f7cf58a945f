"""When calls may be placed: local times as instants, daily windows, special dates, hours and days of a zone.

A local time that does not exist is moved forward over the gap; one that exists twice is the first
(semantics.md §4). A moment is inside a window when it lies between the two instants and its own wall
time lies between the two wall times, so that no call leaves outside the hours on any clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from outdial.model import CallWindow, SpecialDate, SpecialDateKind

HORIZON = 8 * 366 + 9
"""Days that are searched for an open window: a 29 February is among them (1900 and its like aside)."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@lru_cache(maxsize=600)
def zone(name: str) -> ZoneInfo:
    """The IANA zone `name`. Raises `ValueError` for a name that is not one."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name[:40]!r} is no IANA time zone") from error


def to_utc(local: datetime, tz: tzinfo) -> datetime:
    """The instant of a naive local time, by the rules above."""
    early = local.replace(tzinfo=tz, fold=0).astimezone(UTC)
    if early.astimezone(tz).replace(tzinfo=None) == local:
        return early
    late = local.replace(tzinfo=tz, fold=1).astimezone(UTC)
    return _change(min(early, late), max(early, late), tz)


def period_start(period: str, now: datetime, tz: tzinfo) -> datetime:
    """The begin of the clock hour or day (`period` "hour" or "day") of `tz` in which `now` lies."""
    local = now.astimezone(tz)
    if period == "day":
        return to_utc(datetime.combine(local.date(), time()), tz)
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return now.astimezone(UTC) - into


def period_end(period: str, now: datetime, tz: tzinfo) -> datetime:
    """The begin of the next clock hour or day of `tz` after `now`."""
    if period == "day":
        return to_utc(datetime.combine(now.astimezone(tz).date() + _DAY, time()), tz)
    return period_start(period, now, tz) + timedelta(hours=1)


def is_open(
    windows: Sequence[CallWindow | None],
    now: datetime,
    tz: tzinfo,
    special_dates: Sequence[SpecialDate] = (),
    special_windows: Sequence[CallWindow | None] = (),
) -> bool:
    """Whether calls may be placed at `now`; on a special date the special windows hold."""
    day = now.astimezone(tz).date()
    hours = special_windows if is_special(day, special_dates) else windows
    return any(begin <= now < end for begin, end in _open_on(tuple(hours), day, tz))


def next_open(
    windows: Sequence[CallWindow | None],
    now: datetime,
    tz: tzinfo,
    special_dates: Sequence[SpecialDate] = (),
    special_windows: Sequence[CallWindow | None] = (),
) -> datetime | None:
    """The first instant from `now` on at which calls may be placed; None when there is none in `HORIZON`."""
    today = now.astimezone(tz).date()
    for days in range(-1, HORIZON):
        day = today + days * _DAY
        hours = special_windows if is_special(day, special_dates) else windows
        for begin, end in sorted(_intervals(hours, day, tz)):
            if end > now:
                return max(begin, now)
    return None


def is_special(day: date, special_dates: Sequence[SpecialDate]) -> bool:
    """Whether a local day is one of the special dates (wire/campaign-api.md §4.2)."""
    if not special_dates:
        return False
    weekday, text = day.isoweekday(), day.isoformat()
    return any(_matches(weekday, text, special) for special in special_dates)


def _matches(weekday: int, day: str, special: SpecialDate) -> bool:
    """`day` in ISO form, which compares as it comes. A yearly span may run over the turn of the year."""
    match special.kind:
        case SpecialDateKind.WEEKLY:
            return weekday in special.weekdays
        case SpecialDateKind.DATES:
            return special.first <= day <= special.last
        case SpecialDateKind.YEARLY:
            if special.first <= special.last:
                return special.first <= day[5:] <= special.last
            return day[5:] >= special.first or day[5:] <= special.last


@lru_cache(maxsize=4096)
def _open_on(
    windows: tuple[CallWindow | None, ...], day: date, tz: tzinfo
) -> tuple[tuple[datetime, datetime], ...]:
    """The same, at hand: every call asks whether it may leave."""
    return tuple(_intervals(windows, day, tz))


def _intervals(
    windows: Sequence[CallWindow | None], day: date, tz: tzinfo
) -> Iterator[tuple[datetime, datetime]]:
    """The open stretches of a local day, as instants."""
    for window in windows:
        if window is None:
            continue
        opens, closes = _local(day, window.begin), _local(day, window.end)
        first, last = to_utc(opens, tz), to_utc(closes, tz)
        for begin, end, offset in _segments(day, tz):
            low = max(first, begin, (opens - offset).replace(tzinfo=UTC))
            high = min(last, end, (closes - offset).replace(tzinfo=UTC))
            if low < high:
                yield low, high


def _local(day: date, minutes: int) -> datetime:
    return datetime.combine(day, time()) + timedelta(minutes=minutes)


@lru_cache(maxsize=4096)
def _segments(day: date, tz: tzinfo) -> tuple[tuple[datetime, datetime, timedelta], ...]:
    """A local day cut where its UTC offset changes: begin, end, offset."""
    begin, end = to_utc(_local(day, 0), tz), to_utc(_local(day, 1440), tz)
    found = []
    while begin < end:
        cut = begin
        while cut < end and _offset(cut, tz) == _offset(begin, tz):
            cut = min(cut + timedelta(hours=1), end)
        if cut < end or _offset(end - _SECOND, tz) != _offset(begin, tz):
            cut = _change(begin, cut, tz)
        found.append((begin, cut, _offset(begin, tz)))
        begin = cut
    return tuple(found)


def _offset(instant: datetime, tz: tzinfo) -> timedelta:
    return instant.astimezone(tz).utcoffset() or timedelta()


def _change(low: datetime, high: datetime, tz: tzinfo) -> datetime:
    """The second in `(low, high]` at which the offset of `low` ends."""
    before = _offset(low, tz)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if _offset(middle, tz) == before:
            low = middle
        else:
            high = middle
    return high
