"""Local times, windows and periods (semantics.md §4), against a minute-by-minute oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outdial import calendar
from outdial.model import CallWindow

YORK = calendar.zone("America/New_York")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(begin: str, end: str) -> CallWindow:
    def minutes(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    return CallWindow(minutes(begin), minutes(end))


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("UTC", "2026-01-02 03:04:05", "2026-01-02 03:04:05"),
        ("Asia/Kathmandu", "2026-01-02 05:45:00", "2026-01-02 00:00:00"),
        # the gap of 2026-03-08 in New York: 02:00 to 03:00 does not exist
        ("America/New_York", "2026-03-08 02:30:00", "2026-03-08 07:00:00"),
        ("America/New_York", "2026-03-08 03:00:00", "2026-03-08 07:00:00"),
        ("America/New_York", "2026-03-08 01:59:59", "2026-03-08 06:59:59"),
        # the fold of 2026-11-01: 01:30 exists twice, the first counts
        ("America/New_York", "2026-11-01 01:30:00", "2026-11-01 05:30:00"),
        ("America/New_York", "2026-11-01 02:00:00", "2026-11-01 07:00:00"),
        # Santiago changes at midnight: 2026-09-06 begins at 01:00
        ("America/Santiago", "2026-09-06 00:00:00", "2026-09-06 04:00:00"),
        ("Australia/Lord_Howe", "2026-10-04 02:15:00", "2026-10-03 15:30:00"),
    ],
)
def test_a_local_time_is_one_instant(zone: str, local: str, instant: str) -> None:
    """A time that does not exist moves over the gap; one that exists twice is the first."""
    assert calendar.to_utc(datetime.fromisoformat(local), calendar.zone(zone)) == utc(instant)


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        ("hour", "2026-05-01 10:06:25", "2026-05-01 10:00:00", "2026-05-01 11:00:00"),
        ("day", "2026-05-01 10:06:25", "2026-05-01 04:00:00", "2026-05-02 04:00:00"),
        ("day", "2026-03-08 10:00:00", "2026-03-08 05:00:00", "2026-03-09 04:00:00"),
        ("day", "2026-11-01 10:00:00", "2026-11-01 04:00:00", "2026-11-02 05:00:00"),
    ],
)
def test_hours_and_days_are_those_of_the_zone(period: str, now: str, start: str, end: str) -> None:
    """A restriction counts per clock hour or per day of the VDN (wire/data-api.md §7.1)."""
    assert calendar.period_start(period, utc(now), YORK) == utc(start)
    assert calendar.period_end(period, utc(now), YORK) == utc(end)


def test_half_hour_zones_have_their_own_hours() -> None:
    """10:06 UTC is 15:51 in Kathmandu: its hour began at 10:15 - 1 h."""
    tz = calendar.zone("Asia/Kathmandu")
    assert calendar.period_start("hour", utc("2026-05-01 10:06:00"), tz) == utc("2026-05-01 09:15:00")


def test_a_window_is_half_open() -> None:
    """`[begin, end)`, and 24:00 is an end."""
    windows = [window("08:00", "12:00"), None, window("20:00", "24:00")]
    opened = [
        calendar.is_open(windows, utc(f"2026-05-01 {at}"), UTC)
        for at in ("07:59:59", "08:00:00", "11:59:59", "12:00:00", "23:59:59", "00:00:00")
    ]
    assert opened == [False, True, True, False, True, False]


def test_next_open_is_now_or_the_next_begin() -> None:
    """What an operator is told: when dialing goes on."""
    windows = [window("08:00", "12:00")]
    assert calendar.next_open(windows, utc("2026-05-01 09:00:00"), UTC) == utc("2026-05-01 09:00:00")
    assert calendar.next_open(windows, utc("2026-05-01 12:00:00"), UTC) == utc("2026-05-02 08:00:00")
    assert calendar.next_open([None], utc("2026-05-01 12:00:00"), UTC) is None


def test_a_window_inside_a_gap_is_never_open_that_day() -> None:
    """02:15 to 02:45 does not exist on 2026-03-08 in New York."""
    windows = [window("02:15", "02:45")]
    assert calendar.next_open(windows, utc("2026-03-08 05:00:00"), YORK) == utc("2026-03-09 06:15:00")


def test_the_second_pass_of_a_fold_stays_closed_after_the_end() -> None:
    """00:00 to 01:30 ends at the first 01:30 of 2026-11-01; 01:15 the second time is closed."""
    windows = [window("00:00", "01:30")]
    assert calendar.is_open(windows, utc("2026-11-01 05:15:00"), YORK)
    assert not calendar.is_open(windows, utc("2026-11-01 06:15:00"), YORK)


ZONES = ["America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca"]


@pytest.mark.parametrize("name", ZONES)
def test_no_open_minute_is_outside_the_wall_clock_hours(name: str) -> None:
    """G6, on every minute of the days around each change of offset in 400 days."""
    tz = calendar.zone(name)
    windows = [window("01:20", "02:40"), window("09:00", "12:30"), window("23:00", "24:00")]
    start = utc("2026-01-01 00:00:00")
    changes = [
        day
        for day in (start + timedelta(days=n) for n in range(400))
        if day.astimezone(tz).utcoffset() != (day + timedelta(days=1)).astimezone(tz).utcoffset()
    ]
    assert len(changes) >= 2, "the zone must change its offset in the span"
    opened = 0
    for day in changes:
        for minute in range(-1440, 2 * 1440):
            now = day + timedelta(minutes=minute)
            local = now.astimezone(tz)
            at = local.hour * 60 + local.minute
            inside = any(w.begin <= at < w.end for w in windows)
            found = calendar.is_open(windows, now, tz)
            assert inside or not found, f"open outside the hours at {local}"
            if inside and not found:
                assert local.fold == 1, f"closed inside the hours at {local}"
            opened += found
    assert opened > 100 * len(changes)


def test_an_unknown_zone_is_refused() -> None:
    """A zone that is no IANA name is refused by its name."""
    with pytest.raises(ValueError, match="no IANA time zone"):
        calendar.zone("Mars/Olympus")
