"""Blacklist add, delete one, delete all, query (wire/data-api.md §7; semantics.md §8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from face import NEW, OLD, OTHER, Answer, Face, hides

from outdial.store.postgres import utc_now

EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])
ZONE = 51
"""A VDN in Asia/Tokyo, nine hours ahead."""


@pytest.fixture(autouse=True)
def _empty(face: Face) -> None:
    """Each test begins with an empty blacklist."""
    face.sql.do("DELETE FROM blacklist")


def post(face: Face, verb: str, body: Any, vdn: int = OLD) -> Answer:
    return face.call("POST", f"{vdn}/blocklist/{verb}", body, vdn=vdn)


def add(face: Face, numbers: Any, vdn: int = OLD, **fields: Any) -> Answer:
    return post(face, "add", {"blocklist": numbers} | fields, vdn)


def entries(face: Face, vdn: int = OLD) -> dict[str, Any]:
    return {row["number"]: row for row in face.sql.rows("SELECT * FROM blacklist WHERE vdn_id = $1", vdn)}


def near(moment: datetime, wanted: datetime) -> bool:
    return abs(moment - wanted) < timedelta(seconds=10)


# -- add -------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, Any, str, str]] = [
    ("no object", [], "02000006", "the body"),
    ("blocklist missing", {}, "02000001", "blocklist"),
    ("blocklist null", {"blocklist": None}, "02000001", "blocklist"),
    ("blocklist empty", {"blocklist": []}, "02000001", "blocklist"),
    ("blocklist no list", {"blocklist": "13800000000"}, "02000006", "blocklist"),
    ("21 numbers", {"blocklist": [str(n) for n in range(21)]}, "0200029", "20 are allowed"),
    ("a number is null", {"blocklist": ["1", None]}, "02000001", "blocklist[1]"),
    ("a number is empty", {"blocklist": ["1", ""]}, "02000001", "blocklist[1]"),
    ("a number is an integer", {"blocklist": [13800000000]}, "02000006", "blocklist[0]"),
    ("25 characters", {"blocklist": ["1" * 25]}, "02000003", "blocklist[0]"),
    ("a letter", {"blocklist": ["1380000000x"]}, "02000002", "blocklist[0]"),
    ("a plus sign", {"blocklist": ["+13800000000"]}, "02000002", "blocklist[0]"),
    ("twice", {"blocklist": ["123456", "2", "123456"]}, "0200018", "blocklist[2]: the same"),
    *[
        (f"{name} {rule}", {"blocklist": ["1"], name: value}, code, name)
        for name, rule, value, code in (
            ("validityExpirationTime", "no string", 5, "02000006"),
            ("validityExpirationTime", "no time", "2031-01-01", "0200030"),
            ("validityExpirationTime", "past", "2020-02-03 04:05:06", "02000007"),
            ("validityTime", "a string", "1", "02000006"),
            ("validityTime", "0", 0, "02000007"),
            ("validityTime", "121", 121, "02000007"),
            ("restrictTimes", "a string", "1", "02000006"),
            ("restrictTimes", "0", 0, "02000007"),
            ("restrictTimes", "101", 101, "02000007"),
            ("restrictPeriod", "a number", 0, "02000006"),
            ("restrictPeriod", "2", "2", "02000007"),
            ("restrictTimes", "alone", 3, "02000009"),
            ("restrictPeriod", "alone", "1", "02000009"),
        )
    ],
]


@EDITIONS
@pytest.mark.parametrize("row", REFUSED, ids=[row[0] for row in REFUSED])
def test_add_refuses(face: Face, row: tuple[str, Any, str, str], vdn: int) -> None:
    """Nothing is added, not even the good numbers of the list."""
    _, body, code, place = row
    with face.nothing_kept():
        answer = post(face, "add", body, vdn)
    face.refuses(answer, code, says=place)
    numbers = body.get("blocklist") if isinstance(body, dict) else None
    for number in numbers if isinstance(numbers, list) else ():
        assert hides(answer.desc, str(number))


@EDITIONS
def test_add_twenty_numbers(face: Face, vdn: int) -> None:
    numbers = [f"{n}*#" for n in range(19)] + ["9" * 24]
    assert add(face, numbers, vdn).code == "0200000"
    assert set(entries(face, vdn)) == set(numbers)
    assert entries(face, OTHER) == {}


def test_edition_2023_09_refuses_a_number_that_is_there(face: Face) -> None:
    """0200007, in its other meaning; nothing is added. One that has expired does not count."""
    assert add(face, ["111111", "2"]).code == "0200000"
    with face.nothing_kept():
        answer = add(face, ["3", "111111"])
    face.refuses(answer, "0200007", says="blocklist[1]: already in the blacklist; nothing was added")
    assert hides(answer.desc, "111111")
    face.sql.do("UPDATE blacklist SET expires_at = now() WHERE number = '111111'")
    assert add(face, ["3", "111111"]).code == "0200000"
    assert entries(face)["111111"]["expires_at"] is None


def test_edition_2023_09_does_not_know_the_fields_of_the_later_one(face: Face) -> None:
    """`isCoverDupNo` and `validityTimeUnit` are unknown fields: not judged, without effect."""
    assert add(face, ["1"], isCoverDupNo="x", validityTimeUnit=9, validityTime=2).code == "0200000"
    assert near(entries(face)["1"]["expires_at"], utc_now() + timedelta(hours=2))
    face.refuses(add(face, ["1"], isCoverDupNo=1), "0200007")


@pytest.mark.parametrize(("cover", "overwritten"), [(..., False), (0, False), (None, False), (1, True)])
def test_edition_2025_11_skips_or_overwrites(face: Face, cover: Any, overwritten: bool) -> None:
    fields = {} if cover is ... else {"isCoverDupNo": cover}
    assert add(face, ["1"], NEW, validityTime=1).code == "0200000"
    assert add(face, ["1", "2"], NEW, restrictTimes=3, restrictPeriod="1", **fields).code == "0200000"
    found = entries(face, NEW)
    assert (found["2"]["restrict_times"], found["2"]["restrict_period"]) == (3, "day")
    assert (found["1"]["restrict_times"] == 3) is overwritten
    assert (found["1"]["expires_at"] is None) is overwritten


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("isCoverDupNo", 2, "02000007"),
        ("isCoverDupNo", "1", "02000006"),
        ("validityTimeUnit", 0, "02000007"),
        ("validityTimeUnit", 5, "02000007"),
        ("validityTimeUnit", "4", "02000006"),
    ],
)
def test_edition_2025_11_judges_its_fields(face: Face, field: str, value: Any, code: str) -> None:
    with face.nothing_kept():
        face.refuses(add(face, ["1"], NEW, **{field: value}), code, says=field)


@pytest.mark.parametrize(
    ("unit", "days"),
    [(..., 3 / 24), (4, 3 / 24), (3, 3), (2, None), (1, None)],
    ids=["hours by default", "hours", "days", "months", "years"],
)
def test_validity_in_edition_2025_11(face: Face, unit: Any, days: float | None) -> None:
    """Hours and days are so many hours; months and years keep the day of the VDN's calendar."""
    fields = {} if unit is ... else {"validityTimeUnit": unit}
    assert add(face, ["1"], NEW, validityTime=3, **fields).code == "0200000"
    expires, now = entries(face, NEW)["1"]["expires_at"], utc_now()
    if days is not None:
        assert near(expires, now + timedelta(days=days))
    else:
        months = 12 * (expires.year - now.year) + expires.month - now.month
        assert months == (36 if unit == 1 else 3)
        assert expires.day == now.day or expires.day >= 28


def test_expiration_time_wins_and_is_in_the_vdns_zone(face: Face) -> None:
    if ZONE not in face.keys:
        face.vdn(ZONE, "Asia/Tokyo")
    when = "2031-05-06 07:08:09"
    assert add(face, ["1"], ZONE, validityExpirationTime=when, validityTime=1).code == "0200000"
    assert entries(face, ZONE)["1"]["expires_at"] == datetime(2031, 5, 5, 22, 8, 9, tzinfo=UTC)
    answer = post(face, "query", {"blocklist": ["1"]}, ZONE)
    assert answer.json["data"][0]["validityExpirationTime"] == when


def test_an_entry_stops_the_next_add_and_lets_it_pass_when_it_ends(face: Face) -> None:
    """G, end to end: add, refused, deleted, accepted; expired, accepted."""
    campaign = face.campaign()
    assert add(face, ["13800000000"]).code == "0200000"
    face.refuses(face.add(campaign, ["13800000000"]), "0200024")
    assert post(face, "delete", {"blocklistNo": "13800000000"}).code == "0200000"
    assert face.add(campaign, ["13800000000"]).code == "0200000"
    face.rewind(campaign)
    assert add(face, ["13800000000"], validityTime=1).code == "0200000"
    face.refuses(face.add(campaign, ["13800000000"]), "0200024")
    face.sql.do("UPDATE blacklist SET expires_at = now()")
    assert face.add(campaign, ["13800000000"]).code == "0200000"


# -- delete ----------------------------------------------------------------------------------------------


def test_delete_one_and_delete_all(face: Face) -> None:
    """Of this VDN alone. One that is not there is deleted already."""
    for vdn in (OLD, OTHER):
        assert add(face, ["1", "2", "3"], vdn).code == "0200000"
    assert post(face, "delete", {"blocklistNo": "2"}).code == "0200000"
    assert set(entries(face)) == {"1", "3"}
    assert post(face, "delete", {"blocklistNo": "2"}).code == "0200000"
    assert face.call("DELETE", f"{OLD}/blocklist").code == "0200000"
    assert entries(face) == {}
    assert set(entries(face, OTHER)) == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "02000006"),
        ({}, "02000001"),
        ({"blocklistNo": ""}, "02000001"),
        ({"blocklistNo": 1}, "02000006"),
        ({"blocklistNo": ["1"]}, "02000006"),
        ({"blocklistNo": "1" * 25}, "02000003"),
        ({"blocklistNo": "1a"}, "02000002"),
    ],
    ids=repr,
)
def test_delete_refuses(face: Face, body: Any, code: str) -> None:
    assert add(face, ["1"]).code == "0200000"
    with face.nothing_kept():
        face.refuses(post(face, "delete", body), code)


# -- query -----------------------------------------------------------------------------------------------


def test_query_some(face: Face) -> None:
    """Only those that are listed, with a flag that says whether the entry is valid."""
    assert add(face, ["1"]).code == "0200000"
    assert add(face, ["2"], restrictTimes=5, restrictPeriod="0", validityTime=1).code == "0200000"
    assert add(face, ["3"], validityTime=1).code == "0200000"
    face.sql.do("UPDATE blacklist SET expires_at = now() WHERE number = '3'")
    answer = post(face, "query", {"blocklist": ["3", "2", "1", "4"]}).json
    found = {row["blockNum"]: row for row in answer["data"]}
    assert answer["totalCount"] == 3
    assert {number: row["flag"] for number, row in found.items()} == {"1": True, "2": True, "3": False}
    assert (found["2"]["restrictTimes"], found["2"]["restrictPeriod"]) == (5, "0")
    assert (found["1"]["restrictTimes"], found["1"]["validityExpirationTime"]) == (None, None)


def test_query_a_page(face: Face) -> None:
    numbers = [f"{n:02d}" for n in range(15)]
    assert add(face, numbers).code == "0200000"
    assert add(face, ["99"], OTHER).code == "0200000"
    seen: list[str] = []
    for offset in (0, 6, 12, 18):
        answer = post(face, "query", {"offset": offset, "limit": 6}).json
        assert answer["totalCount"] == 15
        assert all("flag" not in row for row in answer["data"])
        seen += [row["blockNum"] for row in answer["data"]]
    assert seen == numbers


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        ([], "02000006", "the body"),
        ({}, "02000009", "either blocklist, or offset and limit"),
        ({"blocklist": ["1"], "limit": 5}, "02000009", "either blocklist"),
        ({"blocklist": ["1"], "offset": 0}, "02000009", "either blocklist"),
        ({"offset": 0}, "02000001", "limit"),
        ({"limit": 1}, "02000001", "offset"),
        ({"offset": -1, "limit": 1}, "02000007", "offset"),
        ({"offset": 0, "limit": 0}, "02000007", "limit"),
        ({"offset": 0, "limit": 101}, "02000007", "limit"),
        ({"offset": "0", "limit": 1}, "02000006", "offset"),
        ({"blocklist": []}, "02000001", "blocklist"),
        ({"blocklist": "1"}, "02000006", "blocklist"),
        ({"blocklist": [str(n) for n in range(21)]}, "0200029", "blocklist"),
        ({"blocklist": ["1", "1"]}, "0200018", "blocklist[1]"),
        ({"blocklist": ["x"]}, "02000002", "blocklist[0]"),
    ],
    ids=repr,
)
def test_query_refuses(face: Face, body: Any, code: str, place: str) -> None:
    face.refuses(post(face, "query", body), code, says=place)
