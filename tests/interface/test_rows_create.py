"""Create campaign V1, field by field, and what query one shows of it (wire/campaign-api.md §2, §3.6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from face import NEW, OLD, Face, hides, new_campaign

from outdial.store.postgres import utc_now

DAY = timedelta(days=1)


def create(face: Face, body: Any, vdn: int = OLD) -> Any:
    return face.call("POST", f"{vdn}", body, vdn=vdn)


def shown(face: Face, campaign: int, vdn: int = OLD) -> Any:
    answer = face.call("GET", f"{vdn}/{campaign}", vdn=vdn)
    assert answer.code == "0200000"
    return answer.json["returnObject"]


def text(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%d %H:%M:%S"))


# -- create: every field ---------------------------------------------------------------------------------

SCHEDULE = {"workdayBeginTime1": "08:00", "workdayEndTime1": "11:30"}
HOLIDAY = {"holidayBeginTime1": "10:00", "holidayEndTime1": "12:00"}
IVR = {"deviceSign": "70941", "callCount": 10, "callInterval": 5}


def rows(name: str, *cases: tuple[str, Any, str]) -> list[Any]:
    return [pytest.param({name: value}, code, name, id=f"{name}: {rule}") for rule, value, code in cases]


def inner(parent: str, whole: dict[str, Any], name: str, *cases: tuple[str, Any, str]) -> list[Any]:
    return [
        pytest.param({parent: whole | {name: value}}, code, f"{parent}.{name}", id=f"{parent}.{name}: {rule}")
        for rule, value, code in cases
    ]


ABSENT = (("missing", ..., "02000001"), ("null", None, "02000001"), ("empty", "", "02000001"))
NO_STRING: tuple[tuple[str, Any, str], ...] = (("a number", 1234567, "02000006"), ("a list", [], "02000006"))
NO_INTEGER = (("a string", "30", "02000006"), ("a float", 30.0, "02000006"), ("true", True, "02000006"))

REFUSED = [
    *rows("name", *ABSENT, *NO_STRING, ("101 characters", "n7Q" * 34, "02000003")),
    *rows("name", ("U+0000", "abc\0defg", "02000002")),
    *rows("description", *NO_STRING, ("201 characters", "d7Q" * 67 + "d", "02000003")),
    *[
        pytest.param({"description": f"text {c} text"}, "02000002", "description", id=f"description: {c}")
        for c in '"[]=;<>\0'
    ],
    *rows("strBeginTime", *ABSENT, *NO_STRING, ("a date", "2026-11-23", "0200030")),
    *rows("strBeginTime", ("30 February", "2027-02-30 00:00:00", "0200030")),
    *rows("strBeginTime", ("last year", "2020-01-01 03:04:05", "0200002")),
    *rows("strEndTime", *ABSENT, *NO_STRING, ("no time", "never", "0200030")),
    *rows("strEndTime", ("before the begin", "2020-01-01 00:00:00", "02000009")),
    *rows("deviceType", *ABSENT, *NO_INTEGER, ("0", 0, "02000007"), ("4", 4, "02000007")),
    *rows("deviceType", ("7", 7, "02000007"), ("2", 2, "0200001"), ("5", 5, "0200001"), ("6", 6, "0200001")),
    *rows("callerNo", *ABSENT, *NO_STRING, ("25 characters", "1" * 25, "02000003")),
    *rows("callerNo", ("a plus sign", "+49301234", "02000002"), ("a letter", "10a", "02000002")),
    *rows("maxAlertingTime", *ABSENT, *NO_INTEGER, ("4", 4, "02000007"), ("121", 121, "02000007")),
    *rows("scheduleParam", *ABSENT, ("a list", [1], "02000006"), ("a string", "08:00", "02000006")),
    *rows("scheduleParam", ("nothing in it", {}, "02000001")),
    *inner("scheduleParam", SCHEDULE, "workdayBeginTime1", ("a number", 8, "02000006")),
    *inner("scheduleParam", SCHEDULE, "workdayBeginTime1", ("8:00", "8:00", "0200030")),
    *inner("scheduleParam", SCHEDULE, "workdayBeginTime1", ("24:00", "24:00", "0200030")),
    *inner("scheduleParam", SCHEDULE, "workdayBeginTime1", ("null", None, "02000009")),
    *inner("scheduleParam", SCHEDULE, "workdayEndTime1", ("25:00", "25:00", "0200030")),
    *inner("scheduleParam", SCHEDULE, "workdayEndTime1", ("24:01", "24:01", "0200030")),
    *inner("scheduleParam", SCHEDULE, "workdayEndTime1", ("with seconds", "11:30:00", "0200030")),
    *inner("scheduleParam", SCHEDULE, "workdayEndTime1", ("over midnight", "02:00", "02000007")),
    *inner("scheduleParam", SCHEDULE, "workdayEndTime1", ("of no length", "08:00", "02000007")),
    pytest.param(
        {"scheduleParam": SCHEDULE | {"workdayEndTime3": "20:00"}},
        "02000009",
        "workdayEndTime3 must be set together",
        id="scheduleParam.workdayEndTime3: without a begin",
    ),
    *inner("scheduleParam", SCHEDULE | HOLIDAY, "holidayBeginTime1", ("a number", 8, "02000006")),
    *inner("scheduleParam", SCHEDULE | HOLIDAY, "holidayBeginTime1", ("10", "10", "0200030")),
    *inner("scheduleParam", SCHEDULE | HOLIDAY, "holidayBeginTime1", ("null", None, "02000009")),
    *inner("scheduleParam", SCHEDULE | HOLIDAY, "holidayEndTime1", ("over midnight", "02:00", "02000007")),
    *inner("scheduleParam", HOLIDAY, "workdayBeginTime1", ("no workday window", None, "02000001")),
    pytest.param(
        {"scheduleParam": SCHEDULE | {"holidayEndTime3": "20:00"}},
        "02000009",
        "holidayEndTime3 must be set together",
        id="scheduleParam.holidayEndTime3: without a begin",
    ),
    pytest.param(
        {"scheduleParam": SCHEDULE | HOLIDAY | {"holidayBeginTime2": "11:00", "holidayEndTime2": "13:00"}},
        "02000009",
        "two holiday windows overlap",
        id="scheduleParam.holidayBeginTime2: an overlap",
    ),
    *rows("ivrParam", *ABSENT, ("a list", [1], "02000006"), ("a string", "x", "02000006")),
    *inner("ivrParam", IVR, "deviceSign", ("a number", 70941, "02000006"), ("65", "d" * 65, "02000003")),
    *inner(
        "ivrParam", IVR, "callCount", *ABSENT, *NO_INTEGER, ("0", 0, "02000007"), ("1001", 1001, "02000007")
    ),
    *inner("ivrParam", IVR, "callInterval", *ABSENT, *NO_INTEGER, ("0", 0, "02000007")),
    *inner("ivrParam", IVR, "callInterval", ("86401", 86_401, "02000007")),
    *rows("skillParam", ("not served", {"skillId": 5}, "0200001"), ("anything", 0, "0200001")),
    *rows("initStatus", ("a string", "1", "02000006"), ("4", 4, "02000007"), ("-1", -1, "02000007")),
    *rows("callBackUrl", *NO_STRING, ("513", "http://a/" + "x" * 504, "02000003")),
    *rows("callBackUrl", *((url, url, "02000007") for url in ("ftp://a/", "//a/b", "http://", "a/b"))),
    *rows(
        "callBackUrl", *((url, url, "02000007") for url in ("http://u:p@a/", "http://a b/", "http://a:0/"))
    ),
    *rows(
        "callBackUrl", *((url, url, "02000007") for url in ("http://a:99999/", "http://[::1/", "http://é/"))
    ),
    *rows("duplicates", ("a boolean", True, "02000006"), ("another word", "drop", "02000007")),
    *rows("onUnknown", ("a number", 1, "02000006"), ("another word", "retry", "02000007")),
]


@pytest.mark.parametrize(("change", "code", "place"), REFUSED)
def test_create_refuses(face: Face, change: dict[str, Any], code: str, place: str) -> None:
    """Code, the place in the description, not the value, nothing stored."""
    with face.nothing_kept():
        answer = create(face, present(new_campaign() | change))
    face.refuses(answer, code, says=place)
    for value in change.values():
        assert not isinstance(value, str) or hides(answer.desc, value)


def present(body: dict[str, Any]) -> dict[str, Any]:
    """The body without the fields that are missing (`...`)."""
    kept = {name: value for name, value in body.items() if value is not ...}
    return {name: present(value) if isinstance(value, dict) else value for name, value in kept.items()}


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null"])
def test_create_needs_an_object(face: Face, body: bytes) -> None:
    with face.nothing_kept():
        face.refuses(create(face, body), "02000006", says="the body")


ACCEPTED = [
    ("name", "n" * 99 + "😀"),
    ("description", "d" * 200),
    ("description", None),
    ("deviceType", 1),
    ("deviceType", 3),
    ("callerNo", "0123456789*#" * 2),
    ("maxAlertingTime", 5),
    ("maxAlertingTime", 120),
    ("skillParam", None),
    ("skillParam", ""),
    ("callBackUrl", "http://127.0.0.1:9/results?a=1"),
    ("callBackUrl", "https://[::1]:8443/"),
    ("callBackUrl", ""),
    ("strEndTime", "9999-12-31 23:59:59"),
    ("duplicates", "refuse"),
    ("duplicates", "skip"),
    ("onUnknown", "redial"),
    ("locale", "en_US"),
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=[f"{n}: {str(v)[:20]}" for n, v in ACCEPTED])
def test_create_accepts_and_query_shows(face: Face, name: str, value: Any) -> None:
    answer = create(face, new_campaign(**{name: value}))
    assert answer.code == "0200000"
    found = shown(face, answer.json["returnObject"]["id"])
    default: Any = {"description": "", "callBackUrl": None}.get(name)
    if name in found:
        assert found[name] == (value or default)


def test_query_one_shows_what_was_created(face: Face) -> None:
    """The documented members, and ours: limits, callerNoList, duplicates, onUnknown, standing, incomplete."""
    body = new_campaign(
        description="Compulsory traffic insurance",
        callBackUrl="http://127.0.0.1:1/",
        scheduleParam={
            "workdayBeginTime1": "13:00",
            "workdayEndTime1": "24:00",
            "workdayBeginTime2": "",
            "workdayEndTime2": None,
            "workdayBeginTime3": "08:00",
            "workdayEndTime3": "13:00",
            "holidayBeginTime1": "",
            "holidayEndTime1": None,
            "holidayBeginTime2": "09:30",
            "holidayEndTime2": "24:00",
        },
    )
    answer = create(face, body)
    campaign = answer.json["returnObject"]["id"]
    assert answer.json["returnObject"] == {"id": campaign}
    schedule: dict[str, Any] = {
        f"{kind}{end}Time{slot}": None
        for kind in ("workday", "holiday")
        for end in ("Begin", "End")
        for slot in (1, 2, 3)
    }
    schedule |= {name: value or None for name, value in body["scheduleParam"].items()}
    assert shown(face, campaign) == {
        "id": campaign,
        "name": body["name"],
        "description": body["description"],
        "status": 1,
        "strBeginTime": body["strBeginTime"],
        "strEndTime": body["strEndTime"],
        "deviceType": 3,
        "callerNo": "100",
        "maxAlertingTime": 30,
        "scheduleParam": schedule,
        "ivrParam": IVR,
        "skillParam": None,
        "callBackUrl": "http://127.0.0.1:1/",
        "priority": 3,
        "retryPolicy": None,
        "callerNoList": [],
        "maxCps": None,
        "maxChannels": None,
        "duplicates": "allow",
        "onUnknown": "count",
        "standing": "draft",
        "incomplete": 0,
    }


@pytest.mark.parametrize(
    "windows",
    [
        (("08:00", "12:00"), ("11:59", "13:00"), None),
        (("13:00", "14:00"), None, ("08:00", "13:01")),
        (("08:00", "12:00"), ("08:00", "12:00"), None),
        (("00:00", "24:00"), ("12:00", "13:00"), None),
    ],
)
def test_windows_may_not_overlap(face: Face, windows: tuple[tuple[str, str] | None, ...]) -> None:
    """Half-open: one that ends when the next begins is none (`test_query_one_shows_what_was_created`)."""
    schedule: dict[str, str] = {}
    for slot, window in enumerate(windows, 1):
        if window:
            schedule |= {f"workdayBeginTime{slot}": window[0], f"workdayEndTime{slot}": window[1]}
    with face.nothing_kept():
        answer = create(face, new_campaign(scheduleParam=schedule))
    face.refuses(answer, "02000009", says="overlap")


def test_a_name_is_unique_among_the_campaigns_that_exist(face: Face) -> None:
    """0200005; of this VDN; a deleted campaign frees its name."""
    body = new_campaign()
    campaign = create(face, body).json["returnObject"]["id"]
    with face.nothing_kept():
        face.refuses(create(face, body), "0200005", says="name")
    assert create(face, body, vdn=NEW).code == "0200000"
    assert face.call("DELETE", f"{OLD}/{campaign}").code == "0200000"
    assert create(face, body).code == "0200000"


@pytest.mark.parametrize(("zone", "vdn"), [("UTC", 11), ("Asia/Tokyo", 12), ("America/Los_Angeles", 13)])
def test_begin_not_earlier_than_today_00_00_of_the_vdns_zone(face: Face, zone: str, vdn: int) -> None:
    """`strBeginTime` itself is UTC (semantics.md §4)."""
    face.vdn(vdn, zone)
    midnight = utc_now().astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    today = midnight.astimezone(ZoneInfo("UTC"))
    early = new_campaign(strBeginTime=text(today - timedelta(seconds=1)))
    face.refuses(create(face, early, vdn), "0200002", says="strBeginTime")
    assert create(face, new_campaign(strBeginTime=text(today)), vdn).code == "0200000"


@pytest.mark.parametrize(("status", "state"), [(0, 2), (1, 1), (2, 2), (3, 3), (None, 2), ("", 2), (..., 2)])
def test_init_status(face: Face, status: Any, state: int) -> None:
    """0, 2 or absent started, 1 draft, 3 suspended (semantics.md §5)."""
    campaign = create(face, present(new_campaign(initStatus=status))).json["returnObject"]["id"]
    assert shown(face, campaign)["status"] == state
