"""The retry policy: set, query, and inside create V2 (wire/campaign-api.md §5.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from face import ABSENT, OLD, Face

BY_RESULT = "[{'dataType':'SI','type':1,'policy':[{'result':4,'retryNumber':3,'callInterval':600}]}]"
"""The pages' sample, in single quotes."""
BY_DAY = '[{"type": 0, "policy": {"retryDay": 3, "retryTime": 2}}]'


def set_policy(face: Face, campaign: int, body: Any) -> Any:
    return face.call("POST", f"{OLD}/retryPolicy/{campaign}", body)


def policy_of(face: Face, campaign: int) -> Any:
    answer = face.call("GET", f"{OLD}/retryPolicy/{campaign}")
    assert answer.code == "0200000", answer.desc
    return answer.json["data"]


def one(**changes: Any) -> dict[str, Any]:
    """A body whose policyJson is a by-result policy of these members."""
    entry = {"dataType": "SI", "type": 1, "policy": [rule()]} | changes
    return {"policyType": 0, "policyJson": json.dumps([entry])}


def rule(**changes: Any) -> dict[str, Any]:
    return {"result": 4, "retryNumber": 3, "callInterval": 600} | changes


def by_day(**changes: Any) -> dict[str, Any]:
    return one(type=0, policy={"retryDay": 3, "retryTime": 2} | changes)


def test_the_pages_sample_is_taken_and_shown(face: Face) -> None:
    """Single quotes come in, double quotes go out; both mean the same."""
    campaign = face.campaign()
    wanted = json.loads(BY_RESULT.replace("'", '"'))
    for text in (BY_RESULT, json.dumps(wanted)):
        assert set_policy(face, campaign, {"policyType": 1, "policyJson": text}).code == "0200000"
        shown = policy_of(face, campaign)
        assert json.loads(shown.pop("policyJson")) == wanted
        assert shown == {"retryPolicyId": campaign, "policyType": 1, "noRetryPolicy": [], "busiPolicy": None}


@pytest.mark.parametrize("name", ["retryTime", "retryTimes"])
def test_days_and_tries_a_day(face: Face, name: str) -> None:
    """`retryDay` is days, `retryTime` or `retryTimes` tries a day, whatever page one comes from."""
    campaign = face.campaign()
    body = one(type=0, policy={"retryDay": 3, name: 2}) | {"noRetryPolicy": ["00538", "00263"]}
    assert set_policy(face, campaign, body).code == "0200000"
    shown = policy_of(face, campaign)
    policy = [{"type": 0, "policy": {"retryDay": 3, "retryTimes": 2}}]
    assert (json.loads(shown["policyJson"]), shown["noRetryPolicy"]) == (policy, ["00538", "00263"])
    stored = json.loads(face.sql.value("SELECT retry FROM campaign WHERE campaign_id = $1", campaign))
    assert (stored["days"], stored["tries_a_day"]) == (3, 2)


def test_without_a_policy_and_without_it_again(face: Face) -> None:
    campaign = face.campaign()
    none = {"policyType": 0, "policyJson": "[]", "noRetryPolicy": [], "busiPolicy": None}
    assert policy_of(face, campaign) == {"retryPolicyId": campaign} | none
    assert set_policy(face, campaign, by_day()).code == "0200000"
    assert set_policy(face, campaign, {"policyType": 0, "policyJson": "[]"}).code == "0200000"
    assert policy_of(face, campaign) == {"retryPolicyId": campaign} | none
    assert face.sql.value("SELECT retry FROM campaign WHERE campaign_id = $1", campaign) is None


def test_a_campaign_that_is_not_there(face: Face) -> None:
    """The set interface has a code of its own for it; the query answers as all others."""
    with face.nothing_kept():
        face.refuses(set_policy(face, ABSENT, by_day()), "0200-01", says="campaignId")
        face.refuses(face.call("GET", f"{OLD}/retryPolicy/{ABSENT}"), "0200007", says="campaignId")


NOT_JSON = ("x", "{}", '"a"', "[", "[}", "null", "[{'type\":1}]", '[{"type":1,"type":1}]', "[NaN]")

REFUSED: list[tuple[str, Any, str, str]] = [
    ("no type", {"policyJson": BY_DAY}, "02000001", "policyType"),
    ("type null", {"policyType": None, "policyJson": BY_DAY}, "02000001", "policyType"),
    ("type a string", {"policyType": "0", "policyJson": BY_DAY}, "02000006", "policyType"),
    ("type 2", {"policyType": 2, "policyJson": BY_DAY}, "02000007", "policyType"),
    ("no policy", {"policyType": 0}, "02000001", "policyJson"),
    ("a list for text", {"policyType": 0, "policyJson": [{"type": 0}]}, "02000006", "policyJson"),
    ("too long", {"policyType": 0, "policyJson": "[" + " " * 4096}, "02000003", "policyJson"),
    *((t, {"policyType": 0, "policyJson": t}, "02000007", "policyJson: must be JSON") for t in NOT_JSON),
    ("two types", {"policyType": 0, "policyJson": "[{},{}]"}, "0200001", "policyJson: more than one"),
    ("entry", {"policyType": 0, "policyJson": "[1]"}, "02000006", "policyJson[0]"),
    ("dataType", one(dataType=5), "02000006", "policyJson[0].dataType"),
    ("dataType 33", one(dataType="d" * 33), "02000003", "policyJson[0].dataType"),
    ("dataType for type 1", one(dataType="") | {"policyType": 1}, "02000001", "policyJson[0].dataType"),
    ("kind", one(type=None), "02000001", "policyJson[0].type"),
    ("kind 2", one(type=2), "02000007", "policyJson[0].type"),
    ("kind a string", one(type="1"), "02000006", "policyJson[0].type"),
    *(
        (f"policy {policy!r} of type {kind}", one(type=kind, policy=policy), code, "policyJson[0].policy")
        for kind, policy, code in [
            (1, None, "02000001"),
            (1, [], "02000001"),
            (1, {"result": 4}, "02000006"),
            (1, [4], "02000006"),
            (0, None, "02000001"),
            (0, [1], "02000006"),
        ]
    ),
    *(
        (f"{name} {value!r}", one(policy=[rule(**{name: value})]), code, f"policyJson[0].policy[0].{name}")
        for name, values in {
            "result": [(None, "02000001"), ("4", "02000006"), (1, "02000007"), (9, "02000007")],
            "retryNumber": [(None, "02000001"), (1.0, "02000006"), (0, "02000007"), (11, "02000007")],
            "callInterval": [(None, "02000001"), (True, "02000006"), (0, "02000007"), (86_401, "02000007")],
        }.items()
        for value, code in values
    ),
    ("a result twice", one(policy=[rule(), rule()]), "02000009", "policy[1].result"),
    *(
        (f"{name} {value!r}", by_day(**{name: value}), code, f"policyJson[0].policy.{name}")
        for name, values in {
            "retryDay": [(None, "02000001"), ("3", "02000006"), (0, "02000007"), (31, "02000007")],
            "retryTime": [(None, "02000001"), (2.5, "02000006"), (0, "02000007"), (11, "02000007")],
        }.items()
        for value, code in values
    ),
    ("both names", by_day(retryTimes=3), "02000009", "two names"),
    ("never, no list", by_day() | {"noRetryPolicy": "00538"}, "02000006", "noRetryPolicy"),
    ("never, a number", by_day() | {"noRetryPolicy": [538]}, "02000006", "noRetryPolicy[0]"),
    ("never, a code", by_day() | {"noRetryPolicy": ["00538", "OB999"]}, "02000007", "noRetryPolicy[1]"),
    ("never, ٣", by_day() | {"noRetryPolicy": ["0053٣"]}, "02000007", "noRetryPolicy[0]"),
    ("never, 201", by_day() | {"noRetryPolicy": ["00538"] * 201}, "0200029", "200 are allowed"),
    ("never, type 1", one() | {"policyType": 1, "noRetryPolicy": ["00538"]}, "02000009", "noRetryPolicy"),
    ("busiPolicy", by_day() | {"busiPolicy": "[]"}, "0200001", "busiPolicy"),
    ("the body", [], "02000006", "the body"),
]


@pytest.mark.parametrize(("body", "code", "place"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
def test_set_refuses(face: Face, body: Any, code: str, place: str) -> None:
    campaign = face.campaign()
    with face.nothing_kept():
        face.refuses(set_policy(face, campaign, body), code, says=place)


@pytest.mark.parametrize("result", range(2, 9))
def test_every_type_of_result_can_be_named(face: Face, result: int) -> None:
    """They come back as they went in: each stands for its own endings."""
    campaign = face.campaign()
    assert set_policy(face, campaign, one(policy=[rule(result=result)])).code == "0200000"
    shown = json.loads(policy_of(face, campaign)["policyJson"])
    assert shown[0]["policy"] == [rule(result=result)]
