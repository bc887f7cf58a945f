"""Create V2 and modify V1 and V2 (wire/campaign-api.md §2.3, §3.5), and our own fields on all of them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from face import ABSENT, OLD, Answer, Face, new_campaign
from test_rows_create import REFUSED, SCHEDULE, present, shown, text

from outdial.store.postgres import utc_now

DAY = timedelta(days=1)
V2 = "/rest/isales/v2/openapi/campaigns"
BY_DAY = '[{"type": 0, "policy": {"retryDay": 3, "retryTime": 2}}]'


def new_v2(**fields: Any) -> dict[str, Any]:
    return new_campaign(callerNo=[{"accessCode": "100"}]) | fields


def create_v2(face: Face, body: Any) -> Answer:
    return face.call("POST", f"{V2}/{OLD}", body)


def made(face: Face, **fields: Any) -> int:
    answer = create_v2(face, new_v2(**fields))
    assert answer.code == "0200000", answer.desc
    return int(answer.json["returnObject"]["id"])


def modify(face: Face, version: int, campaign: int, body: Any) -> Answer:
    return face.call("PUT", f"{OLD}/{campaign}" if version == 1 else f"{V2}/{OLD}/{campaign}", body)


VERSIONS = pytest.mark.parametrize("version", [1, 2])


def body_of(version: int, **fields: Any) -> dict[str, Any]:
    return (new_campaign if version == 1 else new_v2)(**fields)


# -- create V2 -------------------------------------------------------------------------------------------


def test_v2_takes_it_all_in_one(face: Face) -> None:
    """Query one shows every fact; the campaign's own number is the first of the first priority."""
    numbers = [
        {"accessCode": "200", "priority": 3},
        {"accessCode": "*1#", "priority": 1},
        {"accessCode": "3"},
    ]
    campaign = made(
        face,
        callerNo=numbers,
        priority=1,
        retryPolicy={"policyType": 0, "policyJson": BY_DAY, "noRetryPolicy": ["00538"]},
        callPolicy={"callType": 1, "chooseType": 0, "turns": [{"turnType": "SI"}]},
        callOrder=None,
        busiPolicy="",
        maxCps=0.5,
        maxChannels=7,
    )
    found = shown(face, campaign)
    policy = found.pop("retryPolicy")
    assert json.loads(policy.pop("policyJson")) == [{"type": 0, "policy": {"retryDay": 3, "retryTimes": 2}}]
    assert policy == {"policyType": 0, "noRetryPolicy": ["00538"]}
    assert (found["callerNo"], found["priority"]) == ("*1#", 1)
    assert found["callerNoList"] == [*numbers[:2], {"accessCode": "3", "priority": 3}]
    assert (found["maxCps"], found["maxChannels"]) == (0.5, 7)


LIMITS = [
    ("maxCps", "1", "02000006"),
    ("maxCps", True, "02000006"),
    ("maxCps", 0, "02000007"),
    ("maxCps", -1.5, "02000007"),
    ("maxCps", 10_000.5, "02000007"),
    ("maxCps", 10**400, "02000007"),
    ("maxChannels", 1.0, "02000006"),
    ("maxChannels", "5", "02000006"),
    ("maxChannels", 0, "02000007"),
    ("maxChannels", 100_001, "02000007"),
]


@pytest.mark.parametrize(("name", "value", "code"), LIMITS, ids=[f"{n} {v}"[:20] for n, v, _ in LIMITS])
def test_limits_of_our_own_are_refused_by_v1_and_v2(face: Face, name: str, value: Any, code: str) -> None:
    with face.nothing_kept():
        face.refuses(face.call("POST", f"{OLD}", new_campaign(**{name: value})), code, says=name)
        face.refuses(create_v2(face, new_v2(**{name: value})), code, says=name)


@pytest.mark.parametrize(("name", "value"), [("maxCps", 1), ("maxCps", 10_000), ("maxChannels", 100_000)])
def test_limits_of_our_own_are_taken_by_v1(face: Face, name: str, value: Any) -> None:
    answer = face.call("POST", f"{OLD}", new_campaign(**{name: value}))
    assert shown(face, answer.json["returnObject"]["id"])[name] == value


def callers(*numbers: Any) -> dict[str, Any]:
    return {"callerNo": list(numbers)}


V2_REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *(({"callerNo": value}, "02000001", "callerNo") for value in (..., None, "", [])),
    ({"callerNo": "100"}, "02000006", "callerNo"),
    (callers(*({"accessCode": str(n)} for n in range(101))), "0200029", "100 are allowed"),
    (callers("100"), "02000006", "callerNo[0]"),
    (callers({}), "02000001", "callerNo[0].accessCode"),
    (callers({"accessCode": 100}), "02000006", "callerNo[0].accessCode"),
    (callers({"accessCode": "1" * 25}), "02000003", "callerNo[0].accessCode"),
    (callers({"accessCode": "+49"}), "02000002", "callerNo[0].accessCode"),
    (callers({"accessCode": "1", "priority": 0}), "02000007", "callerNo[0].priority"),
    (callers({"accessCode": "1", "priority": 6}), "02000007", "callerNo[0].priority"),
    (callers({"accessCode": "1", "priority": "1"}), "02000006", "callerNo[0].priority"),
    (callers({"accessCode": "1"}, {"accessCode": "1"}), "0200018", "callerNo[1].accessCode"),
    *(
        ({"priority": v}, code, "priority")
        for v, code in ((0, "02000007"), (6, "02000007"), ("3", "02000006"))
    ),
    ({"retryPolicy": []}, "02000006", "retryPolicy"),
    ({"retryPolicy": {}}, "02000001", "retryPolicy.policyType"),
    ({"retryPolicy": {"policyType": 0, "policyJson": "x"}}, "02000007", "retryPolicy.policyJson"),
    ({"retryPolicy": {"policyType": 0, "policyJson": "[1]"}}, "02000006", "retryPolicy.policyJson[0]"),
    ({"callPolicy": []}, "02000006", "callPolicy"),
    ({"callPolicy": {"callType": "1"}}, "02000006", "callPolicy.callType"),
    ({"callPolicy": {"chooseType": -1}}, "02000007", "callPolicy.chooseType"),
    ({"callPolicy": {"turns": {}}}, "02000006", "callPolicy.turns"),
    ({"callPolicy": {"turns": ["SI"]}}, "02000006", "callPolicy.turns[0]"),
    ({"callPolicy": {"turns": [{"turnType": "t" * 33}]}}, "02000003", "callPolicy.turns[0].turnType"),
    ({"callPolicy": {"turns": [{"turnType": "SI"}, {"turnType": "M"}]}}, "0200001", "callPolicy.turns"),
    ({"callOrder": 0}, "0200001", "callOrder"),
    ({"busiPolicy": "[]"}, "0200001", "busiPolicy"),
    ({"skillParam": {"skillId": 5}}, "0200001", "skillParam"),
]
V1_ROWS = [(*row.values, row.id) for row in REFUSED if "callerNo" not in row.values[0]]


@pytest.mark.parametrize(("change", "code", "place"), V2_REFUSED, ids=[f"{c}"[:60] for c, *_ in V2_REFUSED])
def test_create_v2_refuses(face: Face, change: dict[str, Any], code: str, place: str) -> None:
    with face.nothing_kept():
        face.refuses(create_v2(face, present(new_v2() | change)), code, says=place)


@pytest.mark.parametrize(("change", "code", "place", "name"), V1_ROWS, ids=[row[3] for row in V1_ROWS])
def test_v2_judges_the_common_fields_as_v1(
    face: Face, change: dict[str, Any], code: str, place: str, name: str
) -> None:
    with face.nothing_kept():
        face.refuses(create_v2(face, present(new_v2() | change)), code, says=place)


def test_v1_ignores_the_fields_of_v2(face: Face) -> None:
    """As every unknown field."""
    answer = face.call("POST", f"{OLD}", new_campaign(priority=9, retryPolicy=1, callOrder=2, busiPolicy=3))
    found = shown(face, answer.json["returnObject"]["id"])
    assert (found["priority"], found["retryPolicy"], found["callerNoList"]) == (3, None, [])


# -- modify ----------------------------------------------------------------------------------------------


@VERSIONS
def test_modify_changes_what_it_says(face: Face, version: int) -> None:
    """Also while the campaign executes; its state, its numbers and its id stay."""
    campaign = made(face, initStatus=0)
    before = shown(face, campaign)
    body = body_of(
        version,
        description="changed",
        callerNo="77" if version == 1 else [{"accessCode": "77", "priority": 2}],
        maxAlertingTime=60,
        scheduleParam=SCHEDULE | {"holidayBeginTime2": "10:00", "holidayEndTime2": "11:00"},
        ivrParam={"callCount": 3, "callInterval": 9},
        callBackUrl="http://127.0.0.1:9/",
        initStatus=1,
        duplicates="skip",
        onUnknown="redial",
        maxCps=2.5,
        maxChannels=4,
    )
    assert modify(face, version, campaign, body).code == "0200000"
    found = shown(face, campaign)
    assert {name for name, value in found.items() if before[name] != value} == {
        *("name", "description", "callerNo", "callerNoList", "maxAlertingTime", "scheduleParam", "ivrParam"),
        *("callBackUrl", "duplicates", "onUnknown", "maxCps", "maxChannels"),
    }
    for name in (
        "name",
        "description",
        "maxAlertingTime",
        "callBackUrl",
        "duplicates",
        "onUnknown",
        "maxCps",
    ):
        assert found[name] == body[name]
    assert (found["callerNo"], found["status"]) == ("77", 2)
    assert found["scheduleParam"]["holidayBeginTime2"] == "10:00"
    assert found["scheduleParam"]["holidayBeginTime1"] is None


@VERSIONS
def test_what_a_modification_does_not_name_stays(face: Face, version: int) -> None:
    """null and "" give an optional field back what a new campaign has."""
    policy = {"policyType": 0, "policyJson": BY_DAY}
    optional: dict[str, Any] = {
        "description": "text",
        "callBackUrl": "http://127.0.0.1:9/",
        "priority": 1,
        "duplicates": "skip",
        "onUnknown": "redial",
        "maxCps": 2.5,
        "maxChannels": 4,
    }
    campaign = made(face, retryPolicy=policy, **optional)
    assert modify(face, version, campaign, body_of(version)).code == "0200000"
    found = shown(face, campaign)
    assert {name: found[name] for name in optional} == optional
    assert found["retryPolicy"] is not None
    bare = body_of(version, retryPolicy=None, **dict.fromkeys(optional, ""))
    assert modify(face, version, campaign, bare).code == "0200000"
    found = shown(face, campaign)
    new = {
        "description": "",
        "callBackUrl": None,
        "priority": 3 if version == 2 else 1,
        "duplicates": "allow",
        "onUnknown": "count",
        "maxCps": None,
        "maxChannels": None,
    }
    assert {name: found[name] for name in optional} == new
    assert (found["retryPolicy"] is None) is (version == 2)


def test_v1_may_leave_the_dates_out(face: Face) -> None:
    """V2 may not."""
    campaign = made(face)
    before = shown(face, campaign)
    dates = {"strBeginTime": ..., "strEndTime": ...}
    assert modify(face, 1, campaign, present(new_campaign(**dates))).code == "0200000"
    found = shown(face, campaign)
    assert [found[name] for name in dates] == [before[name] for name in dates]
    for name in dates:
        with face.nothing_kept():
            answer = modify(face, 2, campaign, present(new_v2(**{name: ...})))
        face.refuses(answer, "02000001", says=name)
    early = present(new_campaign(strBeginTime=..., strEndTime="2020-01-01 00:00:00"))
    with face.nothing_kept():
        face.refuses(modify(face, 1, campaign, early), "02000009", says="strEndTime")


@VERSIONS
def test_a_begin_that_stays_may_be_long_past(face: Face, version: int) -> None:
    """Another one must be today or later: 0200002."""
    past = (utc_now() - 9 * DAY).replace(microsecond=0)
    campaign = face.campaign(state="started", begin_at=past)
    assert modify(face, version, campaign, body_of(version, strBeginTime=text(past))).code == "0200000"
    earlier = body_of(version, strBeginTime=text(past + timedelta(seconds=1)))
    with face.nothing_kept():
        face.refuses(modify(face, version, campaign, earlier), "0200002", says="strBeginTime")


@VERSIONS
@pytest.mark.parametrize(
    "columns",
    [{"state": "ended"}, {"state": "started", "begin_at": -2 * DAY, "end_at": -DAY}],
    ids=["ended", "past its end"],
)
def test_an_ended_campaign_stays_as_it_is(face: Face, version: int, columns: dict[str, Any]) -> None:
    now = utc_now()
    campaign = face.campaign(**{k: now + v if isinstance(v, timedelta) else v for k, v in columns.items()})
    with face.nothing_kept():
        face.refuses(modify(face, version, campaign, body_of(version)), "0200016", says="ended")


@VERSIONS
def test_modify_refuses_what_others_decide(face: Face, version: int) -> None:
    campaign, other = made(face), shown(face, made(face))["name"]
    with face.nothing_kept():
        face.refuses(modify(face, version, ABSENT, body_of(version)), "0200007", says="campaignId")
        face.refuses(modify(face, version, campaign, body_of(version, name=other)), "0200005", says="name")
        wrong = body_of(version, deviceType=1)
        face.refuses(modify(face, version, campaign, wrong), "02000007", says="deviceType: must stay 3")
        face.refuses(modify(face, version, campaign, []), "02000006", says="the body")
    own = shown(face, campaign)["name"]
    assert modify(face, version, campaign, body_of(version, name=own)).code == "0200000"


NOT_JUDGED = ("initStatus", "strBeginTime: missing", "strBeginTime: null", "strBeginTime: empty")
MODIFY_ROWS = [
    row
    for row in V1_ROWS
    if not row[3].startswith((*NOT_JUDGED, *(name.replace("Begin", "End") for name in NOT_JUDGED)))
]


@pytest.mark.parametrize(
    ("change", "code", "place", "name"), MODIFY_ROWS, ids=[row[3] for row in MODIFY_ROWS]
)
def test_modify_judges_the_fields_as_create(
    face: Face, change: dict[str, Any], code: str, place: str, name: str
) -> None:
    campaign = face.campaign()
    for version in (1, 2):
        with face.nothing_kept():
            answer = modify(face, version, campaign, present(body_of(version) | change))
        face.refuses(answer, code, says=place)


@pytest.mark.parametrize(("change", "code", "place"), V2_REFUSED, ids=[f"{c}"[:60] for c, *_ in V2_REFUSED])
def test_modify_v2_refuses(face: Face, change: dict[str, Any], code: str, place: str) -> None:
    campaign = made(face)
    with face.nothing_kept():
        face.refuses(modify(face, 2, campaign, present(new_v2() | change)), code, says=place)
