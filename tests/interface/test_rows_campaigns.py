"""Quota, pause, resume, delete, query all (wire/campaign-api.md §3; semantics.md §5)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from face import OLD, Face, new_campaign

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


# -- the quota -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 3], ids=["started", "suspended"])
def test_twenty_active_campaigns_of_a_kind(face: Face, first: int) -> None:
    """Started and suspended ones count, drafts, ended and deleted ones do not: 0200004."""
    vdn = face.vdn(20 + first, max_active=20)
    made = [create(face, new_campaign(initStatus=first), vdn).json["returnObject"]["id"] for _ in range(20)]
    draft = create(face, new_campaign(initStatus=1), vdn).json["returnObject"]["id"]
    for status in (0, 2, 3, None):
        with face.nothing_kept():
            answer = create(face, new_campaign(initStatus=status, deviceType=1), vdn)
        face.refuses(answer, "0200004", says="20 campaigns of this kind")
    face.refuses(face.call("PUT", f"{vdn}/{draft}/resume", vdn=vdn), "0200004")
    if first == 0:
        assert face.call("PUT", f"{vdn}/{made[0]}/pause", vdn=vdn).code == "0200000"
        face.refuses(face.call("PUT", f"{vdn}/{draft}/resume", vdn=vdn), "0200004")
    assert face.call("PUT", f"{vdn}/{made[0]}/resume", vdn=vdn).code == "0200000", "it counted already"
    face.change(made[1], begin_at=utc_now() - 2 * DAY, end_at=utc_now() - DAY)
    assert face.call("PUT", f"{vdn}/{draft}/resume", vdn=vdn).code == "0200000", "an ended one is free"
    face.refuses(create(face, new_campaign(initStatus=3), vdn), "0200004")
    face.change(made[2], state="suspended")
    assert face.call("DELETE", f"{vdn}/{made[2]}", vdn=vdn).code == "0200000"
    assert create(face, new_campaign(initStatus=3), vdn).code == "0200000", "a deleted one is free"


def test_the_quota_is_a_setting_of_the_vdn(face: Face) -> None:
    vdn = face.vdn(31, max_active=0)
    face.refuses(create(face, new_campaign(initStatus=0), vdn), "0200004", says="0 are allowed")
    assert create(face, new_campaign(initStatus=1), vdn).code == "0200000"


# -- pause, resume, delete -------------------------------------------------------------------------------

PAST = {"begin_at": -2 * DAY, "end_at": -DAY}
LIVES: list[tuple[str, str, dict[str, timedelta], int, dict[str, str]]] = [
    # standing          stored       dates                                   incomplete
    ("draft", "draft", {}, 0, {"resume": "", "pause": "0200011", "delete": ""}),
    ("not started", "started", {"begin_at": DAY}, 0, {"resume": "0200011", "pause": "", "delete": "0200009"}),
    ("executing", "started", {}, 3, {"resume": "0200011", "pause": "", "delete": "0200009"}),
    ("call completed", "started", {}, 0, {"resume": "0200011", "pause": "", "delete": "0200009"}),
    ("suspended", "suspended", {}, 3, {"resume": "", "pause": "0200011", "delete": ""}),
    ("ended", "ended", {}, 0, {"resume": "0200011", "pause": "0200011", "delete": ""}),
    ("ended", "started", PAST, 3, {"resume": "0200011", "pause": "0200011", "delete": ""}),
    ("ended", "suspended", PAST, 0, {"resume": "0200011", "pause": "0200011", "delete": ""}),
    ("ended", "draft", PAST, 0, {"resume": "0200011", "pause": "0200011", "delete": ""}),
]
METHODS = {"resume": ("PUT", "/resume"), "pause": ("PUT", "/pause"), "delete": ("DELETE", "")}
STATUS = {"draft": 1, "not started": 2, "executing": 2, "call completed": 2, "suspended": 3, "ended": 4}
AFTER = {"resume": "started", "pause": "suspended"}


@pytest.mark.parametrize("verb", METHODS)
@pytest.mark.parametrize("life", LIVES, ids=[f"{stored} shows {row}" for row, stored, *_ in LIVES])
def test_states_and_verbs(face: Face, life: Any, verb: str) -> None:
    """semantics.md §5, every standing with every verb; the refusal names the standing and the way out."""
    standing, state, dates, incomplete, verdicts = life
    columns = {name: utc_now() + distance for name, distance in dates.items()}
    campaign = face.campaign(state=state, incomplete=incomplete, **columns)
    found = shown(face, campaign)
    assert (found["standing"], found["status"]) == (standing, STATUS[standing])
    method, tail = METHODS[verb]
    code = verdicts[verb]
    if code:
        with face.nothing_kept():
            answer = face.call(method, f"{OLD}/{campaign}{tail}")
        face.refuses(answer, code, says=f"the campaign is {standing}: ")
        return
    assert face.call(method, f"{OLD}/{campaign}{tail}").code == "0200000"
    if verb == "delete":
        face.refuses(face.add(campaign, ["1"]), "0200007")
        for other in ("GET", ""), *METHODS.values():
            face.refuses(face.call(other[0], f"{OLD}/{campaign}{other[1]}"), "0200007")
    else:
        stored = face.sql.value("SELECT state FROM campaign WHERE campaign_id = $1", campaign)
        assert stored == AFTER[verb]


def test_a_started_campaign_goes_on_when_numbers_come(face: Face) -> None:
    """Call completed stays 2: pause, add, resume, and it executes."""
    campaign = face.campaign(state="started")
    assert face.call("PUT", f"{OLD}/{campaign}/pause").code == "0200000"
    assert face.add(campaign, ["1"]).code == "0200000"
    assert face.call("PUT", f"{OLD}/{campaign}/resume").code == "0200000"
    assert (shown(face, campaign)["status"], shown(face, campaign)["standing"]) == (2, "executing")


@pytest.mark.parametrize(
    ("body", "archived"),
    [(None, False), ({}, False), ({"archiveHistory": 0}, False), ({"archiveHistory": 1}, True)],
)
def test_delete_may_keep_the_history(face: Face, body: Any, archived: bool) -> None:
    campaign = face.campaign()
    assert face.call("DELETE", f"{OLD}/{campaign}", body).code == "0200000"
    assert face.sql.value("SELECT archived FROM campaign WHERE campaign_id = $1", campaign) is archived


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"archiveHistory": 2}, "02000007"),
        ({"archiveHistory": "1"}, "02000006"),
        ({"archiveHistory": True}, "02000006"),
        ([], "02000006"),
    ],
    ids=repr,
)
def test_delete_refuses(face: Face, body: Any, code: str) -> None:
    campaign = face.campaign()
    with face.nothing_kept():
        face.refuses(face.call("DELETE", f"{OLD}/{campaign}", body), code)


# -- query all -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listing(face: Face) -> dict[str, int]:
    """VDN 40 with a campaign of each status, named by it."""
    now = utc_now()
    face.vdn(40)
    made = {
        "draft one": face.campaign(40, name="draft one"),
        "started one": face.campaign(40, name="started one", state="started", device_type=1),
        "suspended": face.campaign(40, name="suspended", state="suspended", begin_at=now + DAY),
        "over": face.campaign(40, name="over", state="started", begin_at=now - 3 * DAY, end_at=now - 2 * DAY),
        "100% _x": face.campaign(40, name="100% _x", state="ended", end_at=now + 90 * DAY),
    }
    gone = face.campaign(40, name="gone")
    assert face.call("DELETE", f"40/{gone}", vdn=40).code == "0200000"
    return made


def listed(face: Face, query: str) -> Any:
    return face.call("GET", "40", query=query, vdn=40)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=0&deviceType=0", ["100% _x", "over", "suspended", "started one", "draft one"]),
        ("status=1&deviceType=0", ["draft one"]),
        ("status=2&deviceType=0", ["started one"]),
        ("status=3&deviceType=0", ["suspended"]),
        ("status=4&deviceType=0", ["100% _x", "over"]),
        ("status=0&deviceType=1", ["started one"]),
        ("status=0&deviceType=2", []),
        ("status=0&deviceType=0&name=one", ["started one", "draft one"]),
        ("status=0&deviceType=0&name=%25", ["100% _x"]),
        ("status=0&deviceType=0&name=_", ["100% _x"]),
        ("status=0&deviceType=0&name=", ["100% _x", "over", "suspended", "started one", "draft one"]),
        ("status=0&deviceType=0&name=ONE", []),
        ("deviceType=0&status=4&name=over&curPage=1&rowsPerPage=1", ["over"]),
    ],
)
def test_query_all_filters(face: Face, listing: dict[str, int], query: str, names: list[str]) -> None:
    """Newest first; a name is found anywhere in it, its characters mean nothing else; status by the clock."""
    answer = listed(face, query)
    assert answer.code == "0200000"
    assert [row["name"] for row in answer.json["data"]] == names
    assert answer.json["totalSize"] == len(names)


def test_query_all_filters_by_dates(face: Face, listing: dict[str, int]) -> None:
    """`beginTime` is the smallest begin, `endTime` the largest end, both UTC."""
    begin, end = quote(text(utc_now())), quote(text(utc_now() + 60 * DAY))
    both = "status=0&deviceType=0"
    assert [r["name"] for r in listed(face, f"{both}&beginTime={begin}").json["data"]] == ["suspended"]
    names = [r["name"] for r in listed(face, f"{both}&endTime={end}").json["data"]]
    assert names == ["over", "suspended", "started one", "draft one"]


def test_query_all_pages(face: Face, listing: dict[str, int]) -> None:
    """`curPage` below 1 is 1; the totals and the use of the quotas stand on every page."""
    seen = []
    for page in (1, 2, 3, 4):
        answer = listed(face, f"status=0&deviceType=0&curPage={page}&rowsPerPage=2").json
        seen += [row["name"] for row in answer["data"]]
        kept = {name: value for name, value in answer.items() if not name.endswith(("Code", "Desc", "data"))}
        assert kept == {
            "curPage": page,
            "totalSize": 5,
            "rowsPerPage": 2,
            "curSkillQueueCount": 0,
            "curIvrCount": 2,
        }
    assert seen == ["100% _x", "over", "suspended", "started one", "draft one"]
    for page in (0, -3):
        answer = listed(face, f"status=0&deviceType=0&curPage={page}").json
        assert (answer["curPage"], answer["rowsPerPage"], len(answer["data"])) == (1, 10, 5)
    far = listed(face, f"status=0&deviceType=0&curPage={10**17}").json
    assert (far["totalSize"], far["data"]) == (5, [])


def test_query_all_shows_each_campaign_in_brief(face: Face, listing: dict[str, int]) -> None:
    (row,) = listed(face, "status=2&deviceType=0").json["data"]
    assert set(row) == {"id", "name", "status", "strBeginTime", "strEndTime", "deviceType", "callerNo"}
    assert (row["id"], row["status"], row["deviceType"]) == (listing["started one"], 2, 1)


@pytest.mark.parametrize(
    ("query", "code", "place"),
    [
        ("", "02000001", "status"),
        ("deviceType=0", "02000001", "status"),
        ("status=&deviceType=0", "02000001", "status"),
        ("status=0", "02000001", "deviceType"),
        ("status=x&deviceType=0", "02000006", "status"),
        ("status=9&deviceType=0", "02000007", "status"),
        ("status=0&deviceType=4", "02000007", "deviceType"),
        ("status=0&deviceType=1.0", "02000006", "deviceType"),
        ("status=0&deviceType=0&name=" + "n" * 31, "02000003", "name"),
        ("status=0&deviceType=0&name=%00", "02000002", "name"),
        ("status=0&deviceType=0&name=%FF", "0200001", "UTF-8"),
        ("status=0&deviceType=0&status=1", "0200001", "twice"),
        ("status=0&deviceType=0&beginTime=2026", "0200030", "beginTime"),
        ("status=0&deviceType=0&endTime=2026-02-30%2000:00:00", "0200030", "endTime"),
        ("status=0&deviceType=0&rowsPerPage=0", "02000007", "rowsPerPage"),
        ("status=0&deviceType=0&rowsPerPage=101", "02000007", "rowsPerPage"),
        ("status=0&deviceType=0&rowsPerPage=ten", "02000006", "rowsPerPage"),
        ("status=0&deviceType=0&curPage=1e3", "02000006", "curPage"),
        ("status=0&deviceType=0&curPage=%D9%A1", "02000006", "curPage"),
        ("status=0&deviceType=0&curPage=" + "9" * 400, "02000006", "curPage"),
    ],
)
def test_query_all_refuses(face: Face, listing: dict[str, int], query: str, code: str, place: str) -> None:
    face.refuses(listed(face, query), code, says=place)
