"""`outdial campaign delete`, `numbers delete`, `blacklist`, `results list|show`: what is sent and printed."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from scripted import ROOT, Run, Script, error_of

CALL = "2f1c9a5e-8f0e-4c57-9a55-0d6f3b7f1c11"
RESULT = {
    "campaignId": "46",
    "sessionId": "s\n1",
    "called": "80001",
    "callTimeStr": "2030-01-02 03:04:05",
    "callStatus": 5,
    "failCode": "00537",
    "resultCode": "OB99999",
    "vdnId": 7,
    "callId": CALL,
    "recordPath": "",
}


# -- campaigns and numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "archive"), [((), 0), (("--archive",), 1)])
def test_a_campaign_is_deleted(run: Run, script: Script, option: tuple[str, ...], archive: int) -> None:
    assert run("campaign", "delete", "46", *option) == (0, "campaign 46 deleted\n", "")
    assert (script.asked[0].line, script.asked[0].body) == (
        f"DELETE {ROOT}/46",
        {"archiveHistory": archive},
    )


@pytest.mark.parametrize(
    ("command", "document"),
    [
        (("campaign", "start", "46"), {"id": 46, "done": "started"}),
        (("campaign", "resume", "46"), {"id": 46, "done": "started"}),
        (("campaign", "pause", "46"), {"id": 46, "done": "paused"}),
        (("campaign", "delete", "46"), {"id": 46, "done": "deleted"}),
        (("campaign", "special-dates", "remove", "46", "5"), {"campaignId": 46, "removed": 5}),
        (("campaign", "special-dates", "remove", "46", "--all"), {"campaignId": 46, "removed": None}),
        (("blacklist", "add", "1", "2"), {"added": 2}),
        (("blacklist", "remove", "1"), {"removed": 1}),
        (("blacklist", "remove", "--all"), {"removed": "all"}),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_was_done_as_a_document(
    run: Run, script: Script, command: tuple[str, ...], document: dict[str, Any]
) -> None:
    assert script.url
    ended = run(*command, "--json")
    assert (ended.code, json.loads(ended.out), ended.err) == (0, document, "")


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (("--called", "80001"), {"called": "80001"}),
        (("--session-id", "s", "--custom-field", "c"), {"sessionId": "s", "customField": "c"}),
        (("--recycle-time", "T"), {"recycleTime": "T", "recycleType": "3"}),
        (("--recycle-time", "T", "--recycled", "on"), {"recycleTime": "T", "recycleType": "2"}),
        (("--recycle-time", "T", "--recycled", "until"), {"recycleTime": "T", "recycleType": "1"}),
        (("--all",), {"all": 1}),
        (("--all", "--archive"), {"all": 1, "archiveHistory": 1}),
    ],
)
def test_numbers_are_deleted(
    run: Run, script: Script, options: tuple[str, ...], body: dict[str, Any]
) -> None:
    script.success(returnObject={"deleted": 2, "totalSize": 5})
    ended = run("numbers", "delete", "46", *options)
    assert ended == (0, "2 numbers deleted; 5 incomplete in campaign 46\n", "")
    assert script.asked[0].line == f"POST {ROOT}/calldata/46/delete"
    assert script.asked[0].body == {"archiveHistory": 0} | body


@pytest.mark.parametrize("options", [(), ("--all", "--called", "1"), ("--recycled", "on"), ("--archive",)])
def test_a_delete_without_a_filter_is_not_sent(run: Run, script: Script, options: tuple[str, ...]) -> None:
    ended = run("numbers", "delete", "46", *options)
    assert ended.code == 2
    assert "--all" in error_of(ended)
    assert script.asked == []


# -- the blacklist ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ((), {}),
        (("--until", "2030-03-31 18:00:00"), {"validityExpirationTime": "2030-03-31 18:00:00"}),
        (("--hours", "3"), {"validityTime": 3}),
        (("--times", "2", "--per", "day"), {"restrictTimes": 2, "restrictPeriod": "1"}),
        (("--times", "2", "--per", "hour"), {"restrictTimes": 2, "restrictPeriod": "0"}),
        (("--overwrite",), {"isCoverDupNo": 1}),
    ],
)
def test_numbers_are_added_20_at_a_time(
    run: Run,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    rules: dict[str, Any],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeff" + "\n".join(str(n) for n in range(21))))
    assert run("blacklist", "add", "-", *options) == (0, "21 numbers added to the blacklist\n", "")
    assert [asked.line for asked in script.asked] == [f"POST {ROOT}/blocklist/add"] * 2
    assert [asked.body for asked in script.asked] == [
        {"blocklist": [str(n) for n in range(20)]} | rules,
        {"blocklist": ["20"]} | rules,
    ]


def test_an_add_that_is_refused_says_how_many_are_in(run: Run, script: Script) -> None:
    script.success()
    script.refusal("0200007", "blocklist[0]: already in the blacklist")
    ended = run("blacklist", "add", *(str(n) for n in range(21)))
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended).endswith("[0200007, request r-1]; 20 of 21 numbers were added")


def test_numbers_are_taken_off(run: Run, script: Script) -> None:
    assert run("blacklist", "remove", "1", "2") == (0, "2 numbers are off the blacklist\n", "")
    assert [asked.body for asked in script.asked] == [{"blocklistNo": "1"}, {"blocklistNo": "2"}]
    assert run("blacklist", "remove", "--all") == (0, "every number is off the blacklist\n", "")
    assert script.asked[-1].line == f"DELETE {ROOT}/blocklist"


@pytest.mark.parametrize("numbers", [(), ("1", "--all")])
def test_what_is_taken_off_must_be_said(run: Run, script: Script, numbers: tuple[str, ...]) -> None:
    assert error_of(run("blacklist", "remove", *numbers)) == "NUMBER or --all: one of them"
    assert script.asked == []


def entry(number: str, **more: Any) -> dict[str, Any]:
    blank = {"validityExpirationTime": None, "restrictTimes": None, "restrictPeriod": None}
    return {"blockNum": number} | blank | more


def test_the_blacklist_is_read_to_its_end(run: Run, script: Script) -> None:
    script.success(data=[entry(str(n)) for n in range(100)], totalCount=101)
    script.success(data=[entry("100", restrictTimes=2, restrictPeriod="1")], totalCount=101)
    script.success(data=[], totalCount=101)
    lines = run("blacklist", "list").out.splitlines()
    assert len(lines) == 101
    assert lines[-1] == "100\t\t2\tday"
    assert [asked.body for asked in script.asked] == [
        {"offset": 0, "limit": 100},
        {"offset": 100, "limit": 100},
        {"offset": 101, "limit": 100},
    ]


def test_some_numbers_are_looked_up(run: Run, script: Script) -> None:
    script.success(data=[entry("1", restrictTimes=2, restrictPeriod="0")], totalCount=1)
    found = json.loads(run("blacklist", "list", "1", "2", "--json").out)
    assert found == [{"number": "1", "until": None, "calls": 2, "per": "hour"}]
    assert script.asked[0].body == {"blocklist": ["1", "2"]}


# -- results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "detail", "size"), [((), 0, 500), (("--calls",), 1, 100)])
def test_results_are_read_to_their_end(
    run: Run, script: Script, option: tuple[str, ...], detail: int, size: int
) -> None:
    script.success(data=[RESULT] * size, totalCount=size)
    script.success(data=[], totalCount=size)
    lines = run("results", "list", "46", *option).out.splitlines()
    assert lines == [f"80001\t2030-01-02 03:04:05\tfailed\t00537\ts\\n1\t{CALL}"] * size
    assert [asked.line for asked in script.asked] == [f"POST {ROOT}/callresult/46"] * 2
    pages = [{"showDetail": detail, "pageSize": size, "pageNum": n} for n in (1, 2)]
    assert [asked.body for asked in script.asked] == pages


def test_results_by_the_options(run: Run, script: Script) -> None:
    script.success(data=[RESULT], totalCount=1)
    options = ("--session-id", "s", "--custom-field", "c", "--begin", "2030-01-01", "--end", "2030-01-02")
    assert json.loads(run("results", "list", "46", *options, "--json").out) == [RESULT]
    assert script.asked[0].body == {
        "sessionId": "s",
        "customField": "c",
        "beginTime": "2030-01-01",
        "endTime": "2030-01-02",
        "showDetail": 0,
        "pageSize": 500,
        "pageNum": 1,
    }


def test_one_call_is_shown(run: Run, script: Script) -> None:
    shown = RESULT | {
        "callStatus": "6",
        "ackBeginTime": "",
        "callBeginTime": "2030-01-02 03:04:06",
        "callEndTime": "2030-01-02 03:04:07",
    }
    script.success(data=shown)
    script.success(data=shown)
    lines = run("results", "show", CALL).out.splitlines()
    assert lines[:3] == ["called\t80001", "ringing\t", "answered\t2030-01-02 03:04:06"]
    assert lines[-1] == f"call\t{CALL}"
    assert "status\tsucceeded" in lines
    assert json.loads(run("results", "show", CALL, "--json").out) == shown
    assert script.asked[0].line == f"GET {ROOT}/callresultdetail/{CALL}"


def test_the_id_of_a_call_cannot_lead_elsewhere(run: Run, script: Script) -> None:
    script.refusal("0200007", "callId: no such call")
    assert run("results", "show", "../x?y#z").code == 1
    assert script.asked[0].line == f"GET {ROOT}/callresultdetail/..%2Fx%3Fy%23z"
