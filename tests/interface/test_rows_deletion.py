"""Deleting numbers (wire/data-api.md §4.1; rules.md §3): a row per filter, restriction and code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from face import ABSENT, NEW, OLD, Answer, Face
from test_rows_results import call

from outdial.store.postgres import utc_now

EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])
NEW_YORK = 82
"""A VDN whose clock went forward at 02:00 on 2031-03-09."""


def delete(face: Face, campaign: int | str, body: Any = None, vdn: int = OLD) -> Answer:
    return face.call("POST", f"{vdn}/calldata/{campaign}/delete", body, vdn=vdn)


def number(face: Face, campaign: int, called: str, vdn: int = OLD, **columns: Any) -> int:
    """A stored number, counted by its campaign while it is not done; its id."""
    row = {
        "vdn_id": vdn,
        "campaign_id": campaign,
        "called": called,
        "priority": 3,
        "state": "ready",
        "due_at": utc_now(),
    } | columns
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    made = face.sql.value(
        f"INSERT INTO contact (contact_id, {', '.join(row)}) VALUES (nextval('contact_id'), {places})"
        " RETURNING contact_id",
        *row.values(),
    )
    if row["state"] != "done":
        face.sql.do("UPDATE campaign SET incomplete = incomplete + 1 WHERE campaign_id = $1", campaign)
    if row["state"] == "dialing":
        face.sql.do(
            "INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller,"
            " epoch, intent_at) VALUES ($1, gen_random_uuid(), $2, $3, 1, $4, '1', 1, now())",
            *(vdn, campaign, made, called),
        )
    return int(made)


def left(face: Face, campaign: int) -> list[str]:
    return sorted(row["called"] for row in face.contacts(campaign))


def incomplete(face: Face, campaign: int) -> int:
    """As it is counted, which is what is there."""
    counted: int = face.sql.value("SELECT incomplete FROM campaign WHERE campaign_id = $1", campaign)
    assert counted == sum(row["state"] != "done" for row in face.contacts(campaign))
    return counted


# -- filters ---------------------------------------------------------------------------------------------

DAY = [
    ("before", "2031-03-08 23:59:59"),
    ("first", "2031-03-09 00:00:00"),
    ("noon", "2031-03-09 12:00:00"),
    ("last", "2031-03-09 23:59:59"),
    ("after", "2031-03-10 00:00:00"),
]
"""Session ids by their recycle times, around a day of 23 hours."""
RECYCLED: list[tuple[str, str, set[str]]] = [
    ("1", "2031-03-09 07:00:00", {"before", "first", "noon", "last"}),
    ("2", "2031-03-09 07:00:00", {"first", "noon", "last"}),
    ("2", "2031-03-10 23:59:59", {"after"}),
    ("2", "2031-03-11 00:00:00", set()),
    ("3", "2031-03-09 12:00:00", {"noon"}),
    ("3", "2031-03-09 12:00:01", set()),
    ("1", "9999-12-31 12:00:00", {"before", "first", "noon", "last", "after"}),
    ("2", "9999-12-31 12:00:00", set()),
    ("3", "9999-12-31 18:59:59", set()),
    ("1", "0001-01-01 00:00:00", set()),
]


@pytest.mark.parametrize(("kind", "at", "gone"), RECYCLED)
def test_by_recycle_time_in_the_vdns_zone(face: Face, kind: str, at: str, gone: set[str]) -> None:
    if NEW_YORK not in face.keys:
        face.vdn(NEW_YORK, "America/New_York")
    campaign = face.campaign(NEW_YORK)
    entries = [{"called": str(n), "sessionId": name, "recycleTime": at} for n, (name, at) in enumerate(DAY)]
    entries.append({"called": "9", "sessionId": "no recycle time"})
    assert face.add(campaign, entries, vdn=NEW_YORK).code == "0200000"
    answer = delete(face, campaign, {"recycleTime": at, "recycleType": kind}, NEW_YORK)
    assert answer.json["returnObject"] == {"deleted": len(gone), "totalSize": 6 - len(gone)}, answer.desc
    kept = {row["session_id"] for row in face.contacts(campaign)}
    assert kept == {name for name, _ in DAY} - gone | {"no recycle time"}


NUMBERS = [("1", "a", "x"), ("2", "a", "y"), ("3", "b", "x"), ("4", None, None), ("5", "a", "x")]
FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"called": "3"}, ["1", "2", "4", "5"]),
    ({"called": "33"}, ["1", "2", "3", "4", "5"]),
    ({"sessionId": "a"}, ["3", "4"]),
    ({"customField": "x"}, ["2", "4"]),
    ({"customField": "x", "sessionId": "a"}, ["2", "3", "4"]),
    ({"customField": "x", "sessionId": "a", "called": "5"}, ["1", "2", "3", "4"]),
    ({"customField": "y", "called": "5"}, ["1", "2", "3", "4", "5"]),
    ({"sessionId": "a", "recycleType": "1"}, ["3", "4"]),
    ({"sessionId": "a", "recycleTime": "2031-01-01 00:00:00", "recycleType": "1"}, ["1", "2", "3", "4", "5"]),
    ({"called": "1", "sessionId": "", "customField": None, "recycleTime": ""}, ["2", "3", "4", "5"]),
    ({"called": "1", "unknown": 7}, ["2", "3", "4", "5"]),
    ({"called": "1", "all": 0}, ["2", "3", "4", "5"]),
    ({"all": 1}, []),
    ({"all": 1, "recycleType": "2", "archiveHistory": 0}, []),
]


@EDITIONS
@pytest.mark.parametrize(("body", "kept"), FILTERS, ids=repr)
def test_numbers_that_every_filter_fits_go(
    face: Face, vdn: int, body: dict[str, Any], kept: list[str]
) -> None:
    campaign, other = face.campaign(vdn), face.campaign(vdn)
    for called, session_id, custom_field in NUMBERS:
        for where in (campaign, other):
            number(face, where, called, vdn, session_id=session_id, custom_field=custom_field)
    answer = delete(face, campaign, body, vdn)
    assert (answer.code, answer.desc) == ("0200000", "delete data success")
    assert answer.json["returnObject"] == {"deleted": 5 - len(kept), "totalSize": len(kept)}
    assert (left(face, campaign), incomplete(face, campaign)) == (kept, len(kept))
    assert incomplete(face, other) == 5


REFUSED: list[tuple[str, Any, str, str]] = [
    ("no object", [], "02000006", "the body"),
    ("sessionId no string", {"sessionId": 1}, "02000006", "sessionId"),
    ("sessionId 33", {"sessionId": "s" * 33}, "02000003", "sessionId"),
    ("called no string", {"called": 1}, "02000006", "called"),
    ("called 25", {"called": "1" * 25}, "02000003", "called"),
    ("called a letter", {"called": "1a"}, "02000002", "called"),
    ("customField no string", {"customField": 1}, "02000006", "customField"),
    ("customField 201", {"customField": "c" * 201}, "02000003", "customField"),
    ("customField forbidden", {"customField": "a?"}, "02000002", "customField"),
    ("recycleTime no string", {"recycleTime": 1, "recycleType": "1"}, "02000006", "recycleTime"),
    ("recycleTime a day", {"recycleTime": "2031-01-01", "recycleType": "1"}, "0200030", "recycleTime"),
    ("recycleTime alone", {"recycleTime": "2031-01-01 00:00:00"}, "02000009", "needs recycleType"),
    ("recycleType no string", {"recycleType": 1}, "02000006", "recycleType"),
    ("recycleType 4", {"recycleType": "4"}, "02000007", "recycleType"),
    ("archiveHistory 2", {"called": "1", "archiveHistory": 2}, "02000007", "archiveHistory"),
    ("archiveHistory no integer", {"called": "1", "archiveHistory": "1"}, "02000006", "archiveHistory"),
    ("all 2", {"all": 2}, "02000007", "all"),
    ("all no integer", {"all": True}, "02000006", "all"),
    ("no body", None, "02000001", "all: 1"),
    ("nothing", {}, "02000001", "all: 1"),
    ("a misspelt filter", {"calledNo": "1"}, "02000001", "all: 1"),
    ("empty filters", {"called": "", "sessionId": None}, "02000001", "all: 1"),
    ("recycleType alone", {"recycleType": "1"}, "02000001", "all: 1"),
    ("all and a filter", {"all": 1, "called": "1"}, "02000009", "all"),
    # the order: the fields as the page has them, then what belongs together, then the campaign
    ("first sessionId", {"called": 1, "sessionId": 1}, "02000006", "sessionId"),
    ("first recycleTime", {"recycleTime": "x", "recycleType": "4"}, "0200030", "recycleTime"),
]


@pytest.mark.parametrize(("body", "code", "place"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_delete_is_refused(face: Face, body: Any, code: str, place: str) -> None:
    """Before the campaign is looked up; and nothing goes."""
    campaign = face.campaign()
    number(face, campaign, "1")
    with face.nothing_kept():
        face.refuses(delete(face, ABSENT, body), code, says=place)
        face.refuses(delete(face, campaign, body), code, says=place)


def test_below_the_fields(face: Face) -> None:
    face.refuses(delete(face, ABSENT, b"{"), "0200001", status=400)
    face.refuses(delete(face, ABSENT, {"all": 1}), "0200007", says="campaignId: no such campaign in this VDN")
    face.refuses(delete(face, "x", {"all": 1}), "02000006", says="campaignId")
    face.refuses(face.call("GET", f"{OLD}/calldata/1/delete"), "0200001", status=405)


# -- restrictions ----------------------------------------------------------------------------------------

LATER = {"begin_at": timedelta(days=1), "end_at": timedelta(days=2)}
OVER = {"begin_at": timedelta(days=-2), "end_at": timedelta(days=-1)}
STANDINGS: list[tuple[str, str, dict[str, timedelta], str]] = [
    ("draft", "draft", {}, "0200000"),
    ("not started", "started", LATER, "0200000"),
    ("executing", "started", {}, "0200011"),
    ("suspended", "suspended", {}, "0200000"),
    ("ended", "ended", {}, "0200000"),
    ("past its end", "started", OVER, "0200000"),
]


@EDITIONS
@pytest.mark.parametrize(
    ("state", "dates", "code"), [s[1:] for s in STANDINGS], ids=[s[0] for s in STANDINGS]
)
def test_nothing_is_deleted_from_an_executing_campaign(
    face: Face, vdn: int, state: str, dates: dict[str, timedelta], code: str
) -> None:
    now = utc_now()
    moved: dict[str, datetime] = {name: now + distance for name, distance in dates.items()}
    campaign = face.campaign(vdn, state=state, **moved)
    number(face, campaign, "1", vdn)
    answer = delete(face, campaign, {"called": "1"}, vdn)
    assert (answer.code, left(face, campaign)) == (code, [] if code == "0200000" else ["1"])
    if code != "0200000":
        assert answer.desc == "the campaign is executing: pause it, delete, resume"


def test_a_campaign_that_is_call_completed_has_nothing_to_delete(face: Face) -> None:
    campaign = face.campaign(state="started")
    number(face, campaign, "1", state="done")
    answer = delete(face, campaign, {"called": "1"})
    assert answer.json["returnObject"] == {"deleted": 0, "totalSize": 0}
    assert left(face, campaign) == ["1"]


@pytest.mark.parametrize("archive", [0, 1])
def test_numbers_being_called_and_done_stay(face: Face, archive: int) -> None:
    campaign = face.campaign(state="suspended")
    for state in ("ready", "waiting", "dialing", "done"):
        number(face, campaign, "1", state=state, custom_field=state)
    answer = delete(face, campaign, {"called": "1", "archiveHistory": archive})
    assert answer.desc == "delete data success; 1 numbers are being called and were left"
    assert answer.json["returnObject"] == {"deleted": 2, "totalSize": 1}
    states = [(row["custom_field"], row["state"]) for row in face.contacts(campaign)]
    archived = [("ready", "done"), ("waiting", "done")] if archive else []
    assert sorted(states) == sorted([("dialing", "dialing"), ("done", "done"), *archived])
    assert incomplete(face, campaign) == 1


def test_a_number_that_is_being_called_cannot_be_deleted(face: Face) -> None:
    campaign = face.campaign(state="suspended")
    number(face, campaign, "1", state="dialing", session_id="a")
    number(face, campaign, "2")
    for body in ({"called": "1"}, {"sessionId": "a", "archiveHistory": 1}):
        with face.nothing_kept():
            face.refuses(delete(face, campaign, body), "0200011", says="being called cannot be deleted")
    assert delete(face, campaign, {"sessionId": "other"}).json["returnObject"]["deleted"] == 0


@contextmanager
def promised(face: Face, campaign: int) -> Iterator[None]:
    """A delete that stands in another transaction, uncommitted."""
    face.sql.do("BEGIN")
    try:
        face.sql.do("SELECT 1 FROM campaign WHERE campaign_id = $1 FOR UPDATE", campaign)
        yield
    finally:
        face.sql.do("ROLLBACK")


def test_a_campaign_that_is_held_too_long_is_a_busy_store(face: Face) -> None:
    """0200006, and nothing was kept."""
    campaign = face.campaign()
    number(face, campaign, "1")
    with promised(face, campaign):
        face.refuses(delete(face, campaign, {"called": "1"}), "0200006", says="nothing was kept")
    assert left(face, campaign) == ["1"]


def test_a_delete_of_many_numbers_is_whole(face: Face) -> None:
    """More than one statement takes."""
    campaign = face.campaign(incomplete=25_000)
    face.sql.do(
        "INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at)"
        " SELECT $1, nextval('contact_id'), $2, n::text, 3, 'ready', now() FROM generate_series(1, 25000) n",
        OLD,
        campaign,
    )
    answer = delete(face, campaign, {"all": 1})
    assert answer.json["returnObject"] == {"deleted": 25_000, "totalSize": 0}, answer.desc
    assert incomplete(face, campaign) == 0


# -- results ---------------------------------------------------------------------------------------------


def tried(face: Face, campaign: int, called: str) -> UUID:
    """A number that waits for another try, with its first call; that call's id."""
    made = number(face, campaign, called, state="waiting", attempts=1)
    at = call(face, campaign, called=called, final=False)
    face.sql.do("UPDATE attempt SET contact_id = $1 WHERE attempt_id = $2", made, at)
    face.sql.do("UPDATE call_result SET contact_id = $1 WHERE attempt_id = $2", made, at)
    return at


@pytest.mark.parametrize("archive", [0, 1])
def test_calls_that_were_made_are_no_part_of_a_delete(face: Face, archive: int) -> None:
    campaign = face.campaign(state="suspended")
    made = tried(face, campaign, "1")
    assert delete(face, campaign, {"all": 1, "archiveHistory": archive}).json["returnObject"]["deleted"] == 1
    shown = face.call("POST", f"{OLD}/callresult/{campaign}", {"showDetail": 1}).json["data"]
    assert [row["callId"] for row in shown] == [str(made)]
    closing = [row["closing"] for row in face.contacts(campaign)]
    assert closing == ([True] if archive else [])
