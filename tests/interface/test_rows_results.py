"""Results of a campaign and one call (wire/data-api.md §6.1, §6.2; rules.md §7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from face import ABSENT, NEW, OLD, Answer, Face

EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])
TOKYO = 81
"""A VDN nine hours ahead of UTC."""
AT = datetime(2031, 3, 1, 14, 59, 58, tzinfo=UTC)
"""Two seconds before midnight in Tokyo."""


def call(face: Face, campaign: int, at: datetime = AT, vdn: int = OLD, **columns: Any) -> UUID:
    """A call that has ended, with its result: the final one unless said otherwise; its id."""
    made = uuid4()
    row = {
        "session_id": None,
        "custom_field": None,
        "called": "80001",
        "disposition": "BUSY",
        "final": True,
        "ringing_at": None,
        "answered_at": None,
        "transfer_of": None,
    } | columns
    face.sql.do(
        "INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,"
        " intent_at, ringing_at, answered_at, ended_at, disposition, transfer_of)"
        " VALUES ($1, $2, $3, nextval('contact_id'), 1, $4, '1', 1, $5::timestamptz, $6, $7,"
        " $5::timestamptz + interval '9 s', $8, $9)",
        *(vdn, made, campaign, row["called"], at, row["ringing_at"], row["answered_at"]),
        *(row["disposition"], row["transfer_of"]),
    )
    if row["transfer_of"] is None:
        result(face, campaign, at, vdn, made, **row)
    return made


def result(
    face: Face, campaign: int, at: datetime, vdn: int = OLD, attempt: UUID | None = None, **row: Any
) -> None:
    face.sql.do(
        "INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, attempt_id, called, session_id,"
        " custom_field, disposition, call_at, created_at, final)"
        " VALUES ($1, gen_random_uuid(), $2, nextval('contact_id'), $3, $4, $5, $6, $7, $8, now(), $9)",
        *(vdn, campaign, attempt, row["called"], row.get("session_id"), row.get("custom_field")),
        *(row["disposition"], at, row.get("final", True)),
    )


def query(face: Face, campaign: int, body: Any = None, vdn: int = OLD, **how: Any) -> Answer:
    return face.call("POST", f"{vdn}/callresult/{campaign}", body, vdn=vdn, **how)


def called(answer: Answer) -> list[str]:
    assert answer.code == "0200000", answer.desc
    return [row["called"] for row in answer.json["data"]]


# -- what is answered ------------------------------------------------------------------------------------


@EDITIONS
def test_a_result_has_the_fields_of_the_page_in_its_order(face: Face, vdn: int) -> None:
    campaign = face.campaign(vdn)
    made = call(face, campaign, vdn=vdn, session_id="s1", custom_field="north", disposition="ANSWERED")
    answer = query(face, campaign, vdn=vdn)
    assert (answer.desc, answer.json["totalCount"]) == ("Query Success!", 1)
    assert list(answer.json["data"][0].items()) == [
        ("campaignId", str(campaign)),
        ("sessionId", "s1"),
        ("called", "80001"),
        ("callTimeStr", "2031-03-01 14:59:58"),
        ("callStatus", 6),
        ("failCode", "00000"),
        ("resultCode", "OB99999"),
        ("vdnId", vdn),
        ("callId", str(made)),
        ("recordPath", ""),
    ]


def test_a_number_without_a_call_has_an_empty_call_and_a_code_of_ours(face: Face) -> None:
    campaign = face.campaign()
    result(face, campaign, AT, called="80002", disposition="BLACKLISTED")
    found = query(face, campaign).json["data"][0]
    assert (found["callId"], found["sessionId"], found["callStatus"], found["failCode"]) == (
        "",
        "",
        5,
        "90001",
    )


def test_times_are_the_vdns(face: Face) -> None:
    face.vdn(TOKYO, "Asia/Tokyo")
    campaign = face.campaign(TOKYO)
    made = call(face, campaign, vdn=TOKYO)
    assert query(face, campaign, vdn=TOKYO).json["data"][0]["callTimeStr"] == "2031-03-01 23:59:58"
    one = face.call("GET", f"{TOKYO}/callresultdetail/{made}", vdn=TOKYO).json["data"]
    assert one["callEndTime"] == "2031-03-02 00:00:07"
    body = {"beginTime": "2031-03-01", "endTime": "2031-03-02"}
    assert called(query(face, campaign, body, vdn=TOKYO)) == ["80001"]
    call(face, campaign, AT + timedelta(seconds=2), vdn=TOKYO, called="2")
    assert called(query(face, campaign, body, vdn=TOKYO)) == ["80001"]
    later = {"beginTime": "2031-03-02", "endTime": "2031-03-03"}
    assert called(query(face, campaign, later, vdn=TOKYO)) == ["2"]


@pytest.fixture(scope="module")
def some(face: Face) -> int:
    """Five results of a campaign; "2" is not the last word about its number."""
    campaign = face.campaign()
    fields = [("a", "x"), ("a", "y"), ("b", "x"), (None, None), ("a", "x")]
    for n, (session_id, custom_field) in reversed(list(enumerate(fields, 1))):
        at = AT + timedelta(days=n)
        final = n != 2
        call(face, campaign, at, called=f"{n}", session_id=session_id, custom_field=custom_field, final=final)
    return campaign


ASKED: list[tuple[dict[str, Any], list[str], int]] = [
    ({}, ["1", "3", "4", "5"], 4),
    ({"showDetail": 0}, ["1", "3", "4", "5"], 4),
    ({"showDetail": 1}, ["1", "2", "3", "4", "5"], 5),
    ({"showDetail": None, "sessionId": "", "beginTime": None, "endTime": ""}, ["1", "3", "4", "5"], 4),
    ({"sessionId": "a"}, ["1", "5"], 2),
    ({"sessionId": "a", "showDetail": 1}, ["1", "2", "5"], 3),
    ({"customField": "x"}, ["1", "3", "5"], 3),
    ({"customField": "y"}, [], 0),
    ({"customField": "x", "sessionId": "a"}, ["1", "5"], 2),
    ({"sessionId": "nobody"}, [], 0),
    ({"pageSize": 3, "pageNum": 1}, ["1", "3", "4"], 4),
    ({"pageSize": 3, "pageNum": 2}, ["5"], 4),
    ({"pageSize": 3, "pageNum": 3}, [], 4),
    ({"pageSize": 500, "pageNum": 2**31 - 1}, [], 4),
    ({"pageSize": 1, "pageNum": 2, "sessionId": "a"}, ["5"], 2),
    ({"pageSize": 2, "pageNum": 2, "customField": "x"}, ["5"], 3),
    ({"pageSize": 100, "pageNum": 1, "showDetail": 1}, ["1", "2", "3", "4", "5"], 5),
    ({"beginTime": "2031-03-02", "endTime": "2031-03-04"}, ["1"], 1),
    ({"beginTime": "2031-03-02", "endTime": "2031-03-04", "showDetail": 1}, ["1", "2"], 2),
    ({"beginTime": "2031-03-04", "endTime": "2031-04-03"}, ["3", "4", "5"], 3),
    ({"beginTime": "0001-01-01", "endTime": "0001-01-02"}, [], 0),
    ({"beginTime": "9999-12-30", "endTime": "9999-12-31"}, [], 0),
    ({"unknown": 1}, ["1", "3", "4", "5"], 4),
]


@pytest.mark.parametrize(("body", "found", "total"), ASKED, ids=repr)
def test_a_query_finds(face: Face, some: int, body: dict[str, Any], found: list[str], total: int) -> None:
    answer = query(face, some, body)
    assert (called(answer), answer.json["totalCount"]) == (found, total)


def test_without_pages_2000_rows_are_answered(face: Face) -> None:
    campaign = face.campaign()
    face.sql.do(
        "INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, disposition, call_at,"
        " created_at) SELECT $1, gen_random_uuid(), $2, nextval('contact_id'), n::text, 'BUSY',"
        " now() + n * interval '1 s', now() FROM generate_series(1, 2001) n",
        OLD,
        campaign,
    )
    answer = query(face, campaign)
    assert called(answer) == [str(n) for n in range(1, 2001)]
    assert answer.json["totalCount"] == 2001
    pages = [query(face, campaign, {"pageSize": 500, "pageNum": n}) for n in range(1, 6)]
    assert [row for page in pages for row in called(page)] == [str(n) for n in range(1, 2002)]


# -- what is refused -------------------------------------------------------------------------------------

REFUSED: list[tuple[str, Any, str, str]] = [
    ("no object", [], "02000006", "the body"),
    ("sessionId no string", {"sessionId": 1}, "02000006", "sessionId"),
    ("sessionId 33", {"sessionId": "s" * 33}, "02000003", "sessionId"),
    ("customField no string", {"customField": 1}, "02000006", "customField"),
    ("customField 201", {"customField": "c" * 201}, "02000003", "customField"),
    ("customField forbidden", {"customField": "a?"}, "02000002", "customField"),
    ("pageSize no integer", {"pageSize": "10", "pageNum": 1}, "02000006", "pageSize"),
    ("pageSize 0", {"pageSize": 0, "pageNum": 1}, "02000007", "pageSize"),
    ("pageSize 501", {"pageSize": 501, "pageNum": 1}, "02000007", "pageSize"),
    ("pageSize 101 in detail", {"pageSize": 101, "pageNum": 1, "showDetail": 1}, "02000007", "1 to 100"),
    ("pageNum no integer", {"pageSize": 1, "pageNum": True}, "02000006", "pageNum"),
    ("pageNum 0", {"pageSize": 1, "pageNum": 0}, "02000007", "pageNum"),
    ("pageSize alone", {"pageSize": 1}, "02000009", "pageSize and pageNum"),
    ("pageNum alone", {"pageNum": 1}, "02000009", "pageSize and pageNum"),
    ("showDetail 2", {"showDetail": 2}, "02000007", "showDetail"),
    ("showDetail no integer", {"showDetail": "1"}, "02000006", "showDetail"),
    ("beginTime no string", {"beginTime": 1}, "02000006", "beginTime"),
    ("beginTime a moment", {"beginTime": "2031-01-01 00:00:00"}, "0200030", "beginTime"),
    ("beginTime no real day", {"beginTime": "2031-02-29"}, "0200030", "beginTime"),
    ("beginTime short", {"beginTime": "20310201"}, "0200030", "beginTime"),
    ("endTime no string", {"endTime": []}, "02000006", "endTime"),
    ("endTime no day", {"endTime": "2031-13-01"}, "0200030", "endTime"),
    ("beginTime alone", {"beginTime": "2031-01-01"}, "02000009", "beginTime and endTime"),
    ("endTime alone", {"endTime": "2031-01-01"}, "02000009", "beginTime and endTime"),
    ("no day", {"beginTime": "2031-01-01", "endTime": "2031-01-01"}, "02000009", "endTime"),
    ("backwards", {"beginTime": "2031-01-02", "endTime": "2031-01-01"}, "02000009", "endTime"),
    ("31 days", {"beginTime": "2031-01-01", "endTime": "2031-02-01"}, "02000007", "30 days"),
    # the order: the fields as the page has them, then what belongs together, then the campaign
    ("first sessionId", {"sessionId": 1, "customField": 1}, "02000006", "sessionId"),
    ("first pageSize", {"pageSize": 0, "showDetail": 2}, "02000007", "pageSize"),
    ("first endTime's form", {"pageSize": 1, "endTime": "x"}, "0200030", "endTime"),
]


@pytest.mark.parametrize(("body", "code", "place"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_query_is_refused(face: Face, body: Any, code: str, place: str) -> None:
    """Before the campaign is looked up."""
    face.refuses(query(face, ABSENT, body), code, says=place)


def test_below_the_fields(face: Face) -> None:
    face.refuses(query(face, ABSENT, b"{"), "0200001", status=400)
    face.refuses(query(face, ABSENT), "0200007", says="campaignId: no such campaign in this VDN")
    face.refuses(face.call("POST", f"{OLD}/callresult/x"), "02000006", says="campaignId")
    face.refuses(face.call("POST", f"{OLD}/callresult/0"), "02000007", says="campaignId")
    face.refuses(face.call("GET", f"{OLD}/callresult/1"), "0200001", status=405)
    face.refuses(face.call("POST", f"{OLD}/callresultdetail/{uuid4()}"), "0200001", status=405)


# -- one call --------------------------------------------------------------------------------------------


def detail(face: Face, call_id: object) -> Answer:
    return face.call("GET", f"{OLD}/callresultdetail/{call_id}")


def test_one_call_has_the_fields_of_the_page_in_its_order(face: Face) -> None:
    """Its `callStatus` is a string, as in the sample."""
    rang, answered = AT + timedelta(seconds=2), AT + timedelta(seconds=5)
    made = call(face, face.campaign(), disposition="ANSWERED", ringing_at=rang, answered_at=answered)
    answer = detail(face, made)
    assert answer.desc == "Query Success!"
    assert list(answer.json["data"].items()) == [
        ("called", "80001"),
        ("ackBeginTime", "2031-03-01 15:00:00"),
        ("callBeginTime", "2031-03-01 15:00:03"),
        ("callEndTime", "2031-03-01 15:00:07"),
        ("callStatus", "6"),
        ("failCode", "00000"),
        ("resultCode", "OB99999"),
        ("vdnId", OLD),
        ("callId", str(made)),
        ("recordPath", ""),
    ]
    assert detail(face, str(made).upper()).body == answer.body


def test_a_call_that_never_rang_has_no_such_times(face: Face) -> None:
    found = detail(face, call(face, face.campaign(), final=False)).json["data"]
    assert (found["ackBeginTime"], found["callBeginTime"], found["callStatus"]) == ("", "", "5")


def test_what_is_no_ended_call_is_not_there(face: Face) -> None:
    campaign = face.campaign()
    running, handed_over = call(face, campaign), call(face, campaign, transfer_of=uuid4())
    face.sql.do("UPDATE attempt SET ended_at = NULL, disposition = NULL WHERE attempt_id = $1", running)
    for absent in (running, handed_over, uuid4(), "1644464743-1388", "", "%00", f"{{{uuid4()}}}"):
        face.refuses(detail(face, absent), "0200007", says="callId")


# -- deleted campaigns -----------------------------------------------------------------------------------


@EDITIONS
@pytest.mark.parametrize(
    ("body", "kept"), [(None, False), ({"archiveHistory": 0}, False), ({"archiveHistory": 1}, True)]
)
def test_a_deleted_campaign_has_results_where_its_history_is_kept(
    face: Face, vdn: int, body: Any, kept: bool
) -> None:
    campaign = face.campaign(vdn)
    made = call(face, campaign, vdn=vdn)
    assert face.call("DELETE", f"{vdn}/{campaign}", body, vdn=vdn).code == "0200000"
    answers = [
        query(face, campaign, vdn=vdn),
        face.call("GET", f"{vdn}/callresultdetail/{made}", vdn=vdn),
    ]
    assert {answer.code for answer in answers} == {"0200000" if kept else "0200007"}
    if kept:
        assert called(answers[0]) == ["80001"]
    assert face.call("GET", f"{vdn}/{campaign}", vdn=vdn).code == "0200007"
