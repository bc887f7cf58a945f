"""`outdial campaign modify`, `retry` and `special-dates`: what is sent, and what is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted import ROOT, Run, Script, error_of

V2 = ROOT.replace("/v1/", "/v2/")
SHOWN: dict[str, Any] = {
    "id": 46,
    "name": "spring",
    "status": 2,
    "strBeginTime": "2030-03-01 00:00:00",
    "strEndTime": "2030-03-31 00:00:00",
    "deviceType": 3,
    "callerNo": "4008000",
    "callerNoList": [],
    "maxAlertingTime": 30,
    "scheduleParam": {"workdayBeginTime1": "08:00", "workdayEndTime1": "12:00", "holidayBeginTime1": None},
    "ivrParam": {"deviceSign": "main", "callCount": 10, "callInterval": 1},
    "description": "kept by not being named",
    "standing": "executing",
}
SAME: dict[str, Any] = {
    "name": "spring",
    "strBeginTime": "2030-03-01 00:00:00",
    "strEndTime": "2030-03-31 00:00:00",
    "deviceType": 3,
    "maxAlertingTime": 30,
    "scheduleParam": SHOWN["scheduleParam"],
    "ivrParam": SHOWN["ivrParam"],
    "callerNo": [{"accessCode": "4008000"}],
}
"""What modifies nothing."""


# -- modify ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ((), {}),
        (
            ("--name", "autumn", "--ring", "20", "--priority", "1"),
            {"name": "autumn", "maxAlertingTime": 20, "priority": 1},
        ),
        (("--end", "2030-04-01T08:00:00+08:00"), {"strEndTime": "2030-04-01 00:00:00"}),
        (("--caller-no", "1", "--caller-no", "2"), {"callerNo": [{"accessCode": "1"}, {"accessCode": "2"}]}),
        (("--calls", "5"), {"ivrParam": SHOWN["ivrParam"] | {"callCount": 5}}),
        (("--max-cps", "0.5", "--max-channels", "7"), {"maxCps": 0.5, "maxChannels": 7}),
        (("--callback", "https://example.org/r"), {"callBackUrl": "https://example.org/r"}),
        (
            ("--window", "09:00-10:00", "--window", "11:00-12:00"),
            {
                "scheduleParam": {
                    "holidayBeginTime1": None,
                    "workdayBeginTime1": "09:00",
                    "workdayEndTime1": "10:00",
                    "workdayBeginTime2": "11:00",
                    "workdayEndTime2": "12:00",
                }
            },
        ),
        (
            ("--special-window", "10:00-24:00"),
            {
                "scheduleParam": {
                    "workdayBeginTime1": "08:00",
                    "workdayEndTime1": "12:00",
                    "holidayBeginTime1": "10:00",
                    "holidayEndTime1": "24:00",
                }
            },
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_modify_sends_what_is_there_with_what_changes(
    run: Run, script: Script, options: tuple[str, ...], changed: dict[str, Any]
) -> None:
    script.success(returnObject=SHOWN)
    assert run("campaign", "modify", "46", *options) == (0, "campaign 46 modified\n", "")
    assert [asked.line for asked in script.asked] == [f"GET {ROOT}/46", f"PUT {V2}/46"]
    assert script.asked[1].body == SAME | changed


def test_modify_keeps_several_calling_numbers(run: Run, script: Script) -> None:
    numbers = [{"accessCode": "1", "priority": 2}, {"accessCode": "2", "priority": 1}]
    script.success(returnObject=SHOWN | {"callerNoList": numbers})
    assert run("campaign", "modify", "46").code == 0
    assert script.asked[1].body["callerNo"] == numbers


# -- retry -----------------------------------------------------------------------------------------------

POLICY = {"retryPolicyId": 46, "policyType": 0, "policyJson": "[]", "noRetryPolicy": ["00538"]}


@pytest.mark.parametrize(
    ("options", "policy", "never"),
    [
        (("--days", "3", "--tries", "2"), [{"type": 0, "policy": {"retryDay": 3, "retryTime": 2}}], []),
        (
            ("--on", "2:3:600", "--on", "4:1:60", "--never", "00538"),
            [
                {
                    "type": 1,
                    "policy": [
                        {"result": 2, "retryNumber": 3, "callInterval": 600},
                        {"result": 4, "retryNumber": 1, "callInterval": 60},
                    ],
                }
            ],
            ["00538"],
        ),
        (("--none",), [], []),
    ],
)
def test_retry_sets_and_shows(
    run: Run, script: Script, options: tuple[str, ...], policy: Any, never: list[str]
) -> None:
    script.success()
    script.success(data=POLICY)
    ended = run("campaign", "retry", "46", *options)
    assert (ended.code, ended.out) == (0, "policy\t[]\nnever after\t00538\n")
    assert [asked.line for asked in script.asked] == [f"{m} {ROOT}/retryPolicy/46" for m in ("POST", "GET")]
    body = script.asked[0].body
    assert json.loads(body.pop("policyJson")) == policy
    assert body == {"policyType": 0, "noRetryPolicy": never}


def test_retry_alone_only_asks(run: Run, script: Script) -> None:
    script.success(data=POLICY)
    assert json.loads(run("campaign", "retry", "46", "--json").out) == POLICY
    assert [asked.line for asked in script.asked] == [f"GET {ROOT}/retryPolicy/46"]


# -- special dates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (("weekend", "--week", "6,7"), {"name": "weekend", "type": 1, "week": "6,7"}),
        (
            ("fair", "--dates", "2030-03-04..2030-03-08"),
            {"name": "fair", "type": 2, "beginTime": "2030-03-04", "endTime": "2030-03-08"},
        ),
        (("x", "--yearly", "12-24"), {"name": "x", "type": 3, "beginTime": "12-24", "endTime": "12-24"}),
        (("--use", "5"), {"id": 5}),
    ],
)
def test_special_dates_add(run: Run, script: Script, options: tuple[str, ...], body: Any) -> None:
    for _ in range(2):
        script.success(returnObject={"id": 5})
    assert run("campaign", "special-dates", "add", "46", *options) == (0, "5\n", "")
    assert json.loads(run("campaign", "special-dates", "add", "46", *options, "--json").out) == {"id": 5}
    assert (script.asked[0].line, script.asked[0].body) == (f"POST {ROOT}/holiday/46", body)


def test_special_dates_list(run: Run, script: Script) -> None:
    empty = {"week": None, "beginTime": None, "endTime": None}
    found = [
        empty | {"id": 5, "name": "weekend", "type": 1, "week": "6,7"},
        empty | {"id": 6, "name": "new year", "type": 3, "beginTime": "12-31", "endTime": "01-01"},
    ]
    for _ in range(2):
        script.success(data=found)
    shown = run("campaign", "special-dates", "list", "46").out
    assert shown == "5\tweekend\tweek\t6,7\n6\tnew year\tyearly\t12-31..01-01\n"
    assert json.loads(run("campaign", "special-dates", "list", "46", "--json").out) == found


@pytest.mark.parametrize(
    ("option", "tail", "said"), [("5", "/5", "special date 5"), ("--all", "", "all special dates")]
)
def test_special_dates_remove(run: Run, script: Script, option: str, tail: str, said: str) -> None:
    script.success()
    assert run("campaign", "special-dates", "remove", "46", option) == (
        0,
        f"campaign 46: {said} removed\n",
        "",
    )
    assert script.asked[0].line == f"DELETE {ROOT}/holiday/46{tail}"


# -- wrong usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("modify", "46", "--end", "never"), "--end: must be ISO 8601"),
        (("modify", "46", "--special-window", "8-9"), "--special-window: must be HH:MM-HH:MM"),
        (("modify", "46", *("--window", "08:00-09:00") * 4), "--window: at most 3 times"),
        (("retry", "46", "--days", "3"), "go together"),
        (("retry", "46", "--none", "--on", "2:1:60"), "one of them"),
        (("retry", "46", "--on", "busy"), "--on: must be RESULT:N:SECONDS"),
        (("retry", "46", "--never", "00538"), "--never: goes with"),
        (("special-dates", "add", "46", "x"), "one of them"),
        (("special-dates", "add", "46", "x", "--week", "1", "--use", "5"), "one of them"),
        (("special-dates", "add", "46", "--week", "1"), "NAME: missing"),
        (("special-dates", "add", "46", "x", "--dates", "2030-03-04 to 5"), "--dates: must be one day"),
        (("special-dates", "remove", "46"), "ID or --all"),
        (("special-dates", "remove", "46", "5", "--all"), "ID or --all"),
    ],
)
def test_wrong_usage_is_named_before_anything_is_sent(
    run: Run, script: Script, arguments: tuple[str, ...], message: str
) -> None:
    ended = run("campaign", *arguments)
    assert ended.code == 2
    assert message in error_of(ended)
    assert script.asked == []
