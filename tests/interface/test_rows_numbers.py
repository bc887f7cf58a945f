"""semantics.md §1, §3, §4, §8: what is judged of a number: the blacklist, its recycle time, uniqueness."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from face import NEW, OLD, OTHER, Face

from outdial.store.postgres import utc_now

DAY = timedelta(days=1)
EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])


# -- the blacklist ---------------------------------------------------------------------------------------


def listed(face: Face, vdn: int, number: str, **columns: Any) -> None:
    row = {"vdn_id": vdn, "number": number, "created_at": utc_now()} | columns
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    face.sql.do(f"INSERT INTO blacklist ({', '.join(row)}) VALUES ({places})", *row.values())


def restricted(times: int, period: str, begin: timedelta | None, calls: int) -> dict[str, Any]:
    """A restriction with so many calls counted in the window that began so long ago."""
    now = utc_now()
    start = now.replace(minute=0, second=0, microsecond=0)
    if period == "day":
        start = start.replace(hour=0)
    window = start - begin if begin is not None else None
    return {
        "restrict_times": times,
        "restrict_period": period,
        "window_begin": window,
        "window_calls": calls,
    }


HOUR = timedelta(hours=1)
NOW = timedelta(0)

ENTRIES: list[tuple[str, dict[str, Any], bool, bool]] = [
    # what                                     entry                      refused by 2023-09, 2025-11
    ("plain", {}, True, True),
    ("expired", {"expires_at": -HOUR}, False, False),
    ("not yet expired", {"expires_at": HOUR}, True, True),
    ("restricted, never called", restricted(1, "hour", None, 0), False, True),
    ("restricted, one of two calls", restricted(2, "hour", NOW, 1), False, True),
    ("restricted, used up this hour", restricted(2, "hour", NOW, 2), True, True),
    ("restricted, used up last hour", restricted(2, "hour", HOUR, 2), False, True),
    ("restricted, used up today", restricted(3, "day", NOW, 3), True, True),
    ("restricted, used up yesterday", restricted(3, "day", DAY, 3), False, True),
    ("restricted, used up, expired", restricted(1, "day", NOW, 1) | {"expires_at": -HOUR}, False, False),
]


@EDITIONS
@pytest.mark.parametrize("row", ENTRIES, ids=[row[0] for row in ENTRIES])
def test_a_number_on_the_blacklist(face: Face, row: Any, vdn: int) -> None:
    """semantics.md §1, second row: a restriction that is not used up lets a number in, in 2023-09 alone."""
    what, entry, old, new = row
    number = f"49{ENTRIES.index(row)}301234567"
    columns = {name: utc_now() + value if name == "expires_at" else value for name, value in entry.items()}
    listed(face, vdn, number, **columns)
    campaign = face.campaign(vdn)
    if old if vdn == OLD else new:
        with face.nothing_kept():
            answer = face.add(campaign, ["1", "2", number], vdn=vdn)
        face.refuses(answer, "0200024", says="callDataList[2].called: the number is in the blacklist")
        assert number[-5:] not in answer.desc
    else:
        assert face.add(campaign, ["1", "2", number], vdn=vdn).code == "0200000", what


def test_a_restriction_counts_hours_and_days_of_the_vdns_zone(face: Face) -> None:
    """Half past the UTC hour is the full hour of Kolkata; its day begins at 18:30 UTC."""
    vdn = face.vdn(91, "Asia/Kolkata")
    now = utc_now()
    half_hour = (now - timedelta(minutes=30)).replace(minute=0, second=0, microsecond=0) + timedelta(
        minutes=30
    )
    day = (now + timedelta(hours=5, minutes=30)).replace(hour=0, minute=0, second=0, microsecond=0)
    day -= timedelta(hours=5, minutes=30)
    for number, period, begin in (("1", "hour", half_hour), ("2", "day", day)):
        window = {"restrict_times": 1, "restrict_period": period, "window_calls": 1}
        listed(face, vdn, number, window_begin=begin, **window)
        listed(face, vdn, f"{number}*", window_begin=begin - timedelta(seconds=1), **window)
        face.refuses(face.add(face.campaign(vdn), [number], vdn=vdn), "0200024")
        assert face.add(face.campaign(vdn), [f"{number}*"], vdn=vdn).code == "0200000"


def test_the_blacklist_is_vdn_wide_and_no_wider(face: Face) -> None:
    listed(face, OTHER, "777")
    assert face.add(face.campaign(OLD), ["777"]).code == "0200000"
    face.refuses(face.add(face.campaign(OTHER), ["777"], vdn=OTHER), "0200024")


# -- recycleTime -----------------------------------------------------------------------------------------

RECYCLE = [
    ("UTC", "2031-02-03 04:05:06", "2031-02-03 04:05:06"),
    ("UTC", "1999-12-31 23:59:59", "1999-12-31 23:59:59"),
    ("UTC", "9999-12-31 23:59:59", "9999-12-31 23:59:59"),
    ("UTC", "0001-01-01 00:00:00", "0001-01-01 00:00:00"),
    ("UTC", "2028-02-29 00:00:00", "2028-02-29 00:00:00"),
    ("Asia/Shanghai", "2031-01-01 08:00:00", "2031-01-01 00:00:00"),
    ("Asia/Kathmandu", "2031-01-01 05:45:00", "2031-01-01 00:00:00"),
    # a day of summer time and one of winter time
    ("America/New_York", "2031-07-01 00:00:00", "2031-07-01 04:00:00"),
    ("America/New_York", "2031-01-01 00:00:00", "2031-01-01 05:00:00"),
    # 2026-03-08: 02:00 to 03:00 does not exist and is moved over the gap
    ("America/New_York", "2026-03-08 01:59:59", "2026-03-08 06:59:59"),
    ("America/New_York", "2026-03-08 02:00:00", "2026-03-08 07:00:00"),
    ("America/New_York", "2026-03-08 02:59:59", "2026-03-08 07:00:00"),
    ("America/New_York", "2026-03-08 03:00:00", "2026-03-08 07:00:00"),
    # 2026-11-01: 01:00 to 02:00 exists twice, the first counts
    ("America/New_York", "2026-11-01 01:00:00", "2026-11-01 05:00:00"),
    ("America/New_York", "2026-11-01 01:59:59", "2026-11-01 05:59:59"),
    ("America/New_York", "2026-11-01 02:00:00", "2026-11-01 07:00:00"),
    # Lord Howe moves by half an hour
    ("Australia/Lord_Howe", "2026-10-04 02:15:00", "2026-10-03 15:30:00"),
]
ZONES = {zone: 1000 + n for n, zone in enumerate(sorted({zone for zone, _, _ in RECYCLE}))}


@pytest.mark.parametrize(("zone", "local", "instant"), RECYCLE)
def test_recycle_time_is_in_the_vdns_zone(face: Face, zone: str, local: str, instant: str) -> None:
    """semantics.md §4: stored as an instant; over a gap forward, of two the first; the past is accepted."""
    vdn = ZONES[zone]
    if vdn not in face.keys:
        face.vdn(vdn, zone)
    campaign = face.campaign(vdn)
    answer = face.add(campaign, [{"called": "1", "recycleTime": local}], vdn=vdn)
    assert answer.code == "0200000"
    wanted = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert face.contacts(campaign)[0]["recycle_at"] == wanted


@pytest.mark.parametrize(
    ("zone", "local"),
    [("America/New_York", "9999-12-31 23:59:59"), ("Asia/Shanghai", "0001-01-01 00:00:00")],
)
def test_a_recycle_time_outside_the_calendar_of_utc_is_refused(face: Face, zone: str, local: str) -> None:
    vdn = ZONES[zone]
    if vdn not in face.keys:
        face.vdn(vdn, zone)
    campaign = face.campaign(vdn)
    with face.nothing_kept():
        answer = face.add(campaign, [{"called": "1", "recycleTime": local}], vdn=vdn)
    face.refuses(answer, "0200030")


# -- uniqueness ------------------------------------------------------------------------------------------


def test_uniqueness_is_per_request(face: Face) -> None:
    """Off unless asked for: the same number again, still incomplete, in the same campaign."""
    campaign = face.campaign()
    for total in (2, 4):
        assert face.add(campaign, ["1", "2"]).json["returnObject"] == {"totalSize": total}
        face.rewind(campaign)


def test_duplicates_refuse(face: Face) -> None:
    """A number still incomplete in this campaign is refused, by its place; a completed one is not."""
    campaign, neighbour = face.campaign(duplicates="refuse"), face.campaign(duplicates="refuse")
    assert face.add(campaign, ["1", "2"]).code == "0200000"
    face.rewind(campaign)
    with face.nothing_kept():
        answer = face.add(campaign, ["3", "4", "2"])
    face.refuses(answer, "0200018", says="callDataList[2].called: still incomplete in this campaign")
    face.sql.do("UPDATE contact SET state = 'done' WHERE campaign_id = $1 AND called = '2'", campaign)
    face.change(campaign, incomplete=1)
    assert face.add(campaign, ["3", "4", "2"]).json["returnObject"] == {"totalSize": 4}
    assert face.add(neighbour, ["1", "2"]).code == "0200000"


@EDITIONS
def test_duplicates_skip(face: Face, vdn: int) -> None:
    """The numbers still incomplete are left out, the others are stored; the answer names what was stored."""
    campaign = face.campaign(vdn, duplicates="skip")
    assert face.add(campaign, ["1", "2"], vdn=vdn).code == "0200000"
    face.rewind(campaign)
    request = face.adding(campaign, ["1", "3", "2", "4"], vdn=vdn)
    answer = face.send(request)
    assert answer.json["returnObject"]["totalSize"] == 4
    assert sorted(row["called"] for row in face.contacts(campaign)) == ["1", "2", "3", "4"]
    if vdn == NEW:
        ids = {row["called"]: str(row["contact_id"]) for row in face.contacts(campaign)}
        assert answer.json["returnObject"]["dataIdList"] == [
            {"called": "3", "dataId": ids["3"]},
            {"called": "4", "dataId": ids["4"]},
        ]
    assert face.send(request).body == answer.body, "and so does the stored answer"


def test_duplicates_skip_may_leave_nothing(face: Face) -> None:
    """Then the add is accepted and stores nothing; it starts the second like any accepted add."""
    campaign = face.campaign(duplicates="skip")
    assert face.add(campaign, ["1", "2"]).code == "0200000"
    face.rewind(campaign)
    assert face.add(campaign, ["2", "1"]).json["returnObject"] == {"totalSize": 2}
    face.refuses(face.add(campaign, ["3"]), "0200022")


def test_a_skipped_number_neither_fills_the_campaign_nor_is_looked_up(face: Face) -> None:
    """It is not added, so neither the limit nor the blacklist stops the rest; places stay the request's."""
    campaign = face.campaign(duplicates="skip")
    assert face.add(campaign, ["1", "2"]).code == "0200000"
    face.change(campaign, incomplete=199_999, last_added_at=None)
    assert face.add(campaign, ["1", "2", "3"]).json["returnObject"] == {"totalSize": 200_000}
    face.rewind(campaign)
    face.refuses(face.add(campaign, ["1", "4"]), "0200020", says="1 more would pass")
    listed(face, OLD, "1")
    listed(face, OLD, "59")
    face.change(campaign, incomplete=3)
    face.refuses(face.add(campaign, ["1", "2", "59"]), "0200024", says="callDataList[2].called")
    assert face.add(campaign, ["1", "5"]).json["returnObject"] == {"totalSize": 4}
    face.sql.do("DELETE FROM blacklist WHERE number IN ('1', '59')")
