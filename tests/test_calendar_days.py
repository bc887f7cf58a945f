"""Hours on normal days and special dates, minute by minute against a second telling that shares no code.

The oracle walks the clock on the wall: it lists every minute of a stretch with what a clock of the zone
shows, and finds the instant of a local time as the first minute at which that clock has come to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from outdial import calendar
from outdial.model import CallWindow, SpecialDate, SpecialDateKind

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

ZONES = {
    "America/New_York": 2026,
    "Europe/London": 2026,
    "Australia/Lord_Howe": 2026,
    "Africa/Casablanca": 2026,
    "America/Santiago": 2026,
    "Africa/Cairo": 2026,
    "Pacific/Apia": 2011,  # has no 30 December
    "Asia/Tehran": 2021,  # changed at midnight until 2022
    "Asia/Kathmandu": 2026,
    "America/St_Johns": 2010,  # changed at 00:01 until 2011: a date comes twice
    "Pacific/Chatham": 2026,
    "America/Havana": 2026,  # changes at midnight
}
"""Zone -> the year in which the 400 days begin."""

WINDOWS = (CallWindow(75, 165), CallWindow(510, 1080), CallWindow(1380, 1440))
SPECIAL_WINDOWS = (CallWindow(0, 35), None, CallWindow(600, 845))


def special(kind: SpecialDateKind, **facts: object) -> SpecialDate:
    return SpecialDate(1, "d", kind, **facts)  # type: ignore[arg-type]


WEEKEND = special(SpecialDateKind.WEEKLY, weekdays=(6, 7))
CHRISTMAS = special(SpecialDateKind.YEARLY, first="12-24", last="01-06")
LEAP_DAY = special(SpecialDateKind.YEARLY, first="02-29", last="02-29")


@dataclass(frozen=True)
class Hours:
    """What decides when calls may be placed."""

    dates: tuple[SpecialDate, ...] = ()
    windows: tuple[CallWindow | None, ...] = ()


PLAIN = Hours()
SPECIAL = Hours((WEEKEND, CHRISTMAS), SPECIAL_WINDOWS)
CLOSED = Hours((WEEKEND, CHRISTMAS))
KINDS = {"plain": PLAIN, "special": SPECIAL, "closed": CLOSED}


# -- the oracle ------------------------------------------------------------------------------------------


class Wall:
    """A clock of the zone, seen at every minute of a stretch."""

    def __init__(self, zone: str, start: datetime, days: float) -> None:
        tz = ZoneInfo(zone)
        self.start = start
        minutes = int(days * 1440)
        self.shown = [(start + n * MINUTE).astimezone(tz).replace(tzinfo=None) for n in range(minutes)]
        self._first: dict[datetime, int] = {}
        latest = self.shown[0]
        for n, shown in enumerate(self.shown):
            while n and latest < shown:  # minutes that a change skips come at the change
                latest += MINUTE
                self._first.setdefault(latest, n)
            self._first.setdefault(shown, n)

    def first(self, local: datetime) -> int:
        """The first minute at which the clock has come to this local time."""
        return self._first[local]


def oracle(wall: Wall, n: int, hours: Hours) -> bool:
    """Between the instants of a window's begin and end, and the clock shows a time of the window."""
    shown = wall.shown[n]
    midnight = shown.replace(hour=0, minute=0)
    windows = hours.windows if is_special(shown.date(), hours.dates) else WINDOWS
    at = shown.hour * 60 + shown.minute
    return any(
        window.begin <= at < window.end
        and wall.first(midnight + window.begin * MINUTE) <= n < wall.first(midnight + window.end * MINUTE)
        for window in windows
        if window is not None
    )


def is_special(day: date, dates: Sequence[SpecialDate]) -> bool:
    christmas = (day.month, day.day) >= (12, 24) or (day.month, day.day) <= (1, 6)
    return bool(dates) and (day.weekday() >= 5 or christmas)


# -- the proof -------------------------------------------------------------------------------------------


def stretches(zone: str, days: int) -> Iterator[tuple[datetime, float]]:
    """Three days around each change of the clock in the zone's 400 days, and the turn of the year."""
    tz = ZoneInfo(zone)
    start = datetime(ZONES[zone], 1, 1, tzinfo=UTC)
    found = [start + 360 * DAY]
    for n in range(days):
        day = start + n * DAY
        if day.astimezone(tz).utcoffset() != (day + DAY).astimezone(tz).utcoffset():
            found.append(day - DAY)
    yield from ((day, 3.0) for day in found)


def compare(zone: str, start: datetime, days: float, hours: Hours) -> int:
    """Every minute of a stretch, but for the day at each end that the oracle needs; how many are open."""
    tz = calendar.zone(zone)
    wall = Wall(zone, start - 2 * DAY, days + 4)
    opened = 0
    for n in range(2 * 1440, len(wall.shown) - 2 * 1440):
        now = wall.start + n * MINUTE
        wanted = oracle(wall, n, hours)
        found = calendar.is_open(WINDOWS, now, tz, hours.dates, hours.windows)
        assert found is wanted, f"{now} ({wall.shown[n]}): {found}"
        opened += found
    return opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "America/St_Johns"])
def test_no_minute_of_error_around_the_changes(zone: str, kind: str) -> None:
    """The hours of normal days and special dates, where the clock is changed."""
    found = [compare(zone, start, days, KINDS[kind]) for start, days in stretches(zone, 400)]
    assert len(found) >= 3
    assert sum(found) > 500


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "special"])
@pytest.mark.parametrize("zone", ZONES)
def test_no_minute_of_error_in_400_days(zone: str, kind: str) -> None:
    """576,000 minutes each; the offsets of these years are whole minutes."""
    start = datetime(ZONES[zone], 1, 1, tzinfo=UTC)
    assert compare(zone, start, 400, KINDS[kind]) > 100_000


@pytest.mark.parametrize("zone", ZONES)
def test_the_oracle_sees_days_as_the_zone_has_them(zone: str) -> None:
    """The control: its days are those of the zone, some of them longer or shorter than 24 hours."""
    start = datetime(ZONES[zone], 1, 1, tzinfo=UTC)
    wall = Wall(zone, start, 400)
    days = [(start + n * DAY).astimezone(ZoneInfo(zone)).date() for n in range(2, 398)]
    lengths = {
        wall.first(datetime.combine(day + DAY, datetime.min.time()))
        - wall.first(datetime.combine(day, datetime.min.time()))
        for day in days
    }
    assert 1440 in lengths
    assert (len(lengths) > 1) is (zone != "Asia/Kathmandu")


# -- which day is special --------------------------------------------------------------------------------


def days_of(one: SpecialDate, first: date, last: date) -> list[str]:
    span = [first + n * DAY for n in range((last - first).days + 1)]
    return [day.isoformat() for day in span if calendar.is_special(day, [one])]


def test_weekly() -> None:
    """1 is Monday."""
    one = special(SpecialDateKind.WEEKLY, weekdays=(1, 7))
    assert days_of(one, date(2026, 3, 1), date(2026, 3, 9)) == [
        "2026-03-01",
        "2026-03-02",
        "2026-03-08",
        "2026-03-09",
    ]


def test_dates_include_both_ends() -> None:
    one = special(SpecialDateKind.DATES, first="2026-12-31", last="2027-01-01")
    assert days_of(one, date(2026, 1, 1), date(2028, 12, 31)) == ["2026-12-31", "2027-01-01"]


def test_yearly_over_the_turn_of_the_year() -> None:
    one = special(SpecialDateKind.YEARLY, first="12-31", last="01-01")
    found = days_of(one, date(2026, 1, 1), date(2027, 1, 31))
    assert found == ["2026-01-01", "2026-12-31", "2027-01-01"]


def test_29_february_comes_in_leap_years_alone() -> None:
    assert days_of(LEAP_DAY, date(2026, 1, 1), date(2032, 12, 31)) == ["2028-02-29", "2032-02-29"]
    over = special(SpecialDateKind.YEARLY, first="02-28", last="03-01")
    assert days_of(over, date(2027, 1, 1), date(2028, 12, 31)) == [
        *("2027-02-28", "2027-03-01", "2028-02-28", "2028-02-29", "2028-03-01"),
    ]


# -- the next opening ------------------------------------------------------------------------------------


def test_the_next_opening_skips_special_dates_without_windows() -> None:
    """Friday evening to Monday morning; over Christmas into January."""
    windows = [CallWindow(480, 1200)]
    friday = datetime(2026, 3, 6, 21, 0, tzinfo=UTC)
    assert calendar.next_open(windows, friday, UTC, [WEEKEND]) == datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
    eve = datetime(2026, 12, 24, 9, 0, tzinfo=UTC)
    assert calendar.next_open(windows, eve, UTC, [CHRISTMAS]) == datetime(2027, 1, 7, 8, 0, tzinfo=UTC)


def test_the_next_opening_may_be_one_of_the_special_windows() -> None:
    saturday = datetime(2026, 3, 7, 1, 0, tzinfo=UTC)
    found = calendar.next_open(WINDOWS, saturday, UTC, [WEEKEND], SPECIAL_WINDOWS)
    assert found == datetime(2026, 3, 7, 10, 0, tzinfo=UTC)


def test_the_next_opening_may_be_years_away_or_never_come() -> None:
    """All year but 29 February; every day of the week."""
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    all_but = special(SpecialDateKind.YEARLY, first="03-01", last="02-28")
    assert calendar.next_open([CallWindow(0, 1440)], now, UTC, [all_but]) == datetime(2028, 2, 29, tzinfo=UTC)
    always = special(SpecialDateKind.WEEKLY, weekdays=(1, 2, 3, 4, 5, 6, 7))
    assert calendar.next_open([CallWindow(0, 1440)], now, UTC, [always]) is None


@pytest.mark.parametrize("zone", ["America/New_York", "America/Havana", "Pacific/Apia"])
def test_the_next_opening_is_the_first_open_minute(zone: str) -> None:
    """Around the changes and the turn of the year: what `is_open` says, minute by minute."""
    tz = calendar.zone(zone)
    for start, _ in stretches(zone, 400):
        moments = [start + n * MINUTE for n in range(4 * 1440)]
        opened = [calendar.is_open(WINDOWS, now, tz, SPECIAL.dates, SPECIAL.windows) for now in moments]
        for n in range(0, 2 * 1440, 97):
            wanted = moments[opened.index(True, n)]
            assert calendar.next_open(WINDOWS, moments[n], tz, SPECIAL.dates, SPECIAL.windows) == wanted
