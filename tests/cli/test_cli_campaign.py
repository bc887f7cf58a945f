"""`outdial campaign`: what is sent to the interface, and what is printed of its answers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_type_hints

import pytest
from scripted import ROOT, Run, Script, error_of

from outdial.cli import campaign as command
from outdial.model import CampaignState, Duplicates, OnUnknown
from outdial.wire.campaigns import STATUS

FOUND = {
    "id": 46,
    "name": "spring",
    "status": 2,
    "strBeginTime": "2030-03-01 00:00:00",
    "strEndTime": "2030-03-31 00:00:00",
    "deviceType": 3,
    "callerNo": "4008000",
}
SHOWN = FOUND | {
    "description": "",
    "maxAlertingTime": 30,
    "scheduleParam": {
        "workdayBeginTime1": "08:00",
        "workdayEndTime1": "12:00",
        "workdayBeginTime2": None,
        "workdayEndTime2": None,
        "workdayBeginTime3": "13:00",
        "workdayEndTime3": "24:00",
        "holidayBeginTime2": "10:00",
        "holidayEndTime2": "11:00",
    },
    "ivrParam": {"deviceSign": "", "callCount": 10, "callInterval": 1},
    "callBackUrl": None,
    "duplicates": "allow",
    "onUnknown": "count",
    "standing": "executing",
    "incomplete": 3,
}


def wire_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def test_create_sends_a_draft_from_now_for_30_days_round_the_clock(run: Run, script: Script) -> None:
    script.success(returnObject={"id": 46})
    before = datetime.now(UTC).replace(microsecond=0)
    assert run("campaign", "create", "spring", "--caller-no", "4008000") == (0, "46\n", "")
    asked = script.asked[0]
    assert asked.line == f"POST {ROOT}"
    begin, end = wire_time(asked.body.pop("strBeginTime")), wire_time(asked.body.pop("strEndTime"))
    assert before <= begin <= datetime.now(UTC)
    assert end - begin == timedelta(days=30)
    assert asked.body == {
        "name": "spring",
        "deviceType": 3,
        "callerNo": "4008000",
        "maxAlertingTime": 30,
        "scheduleParam": {"workdayBeginTime1": "00:00", "workdayEndTime1": "24:00"},
        "ivrParam": {"callCount": 10, "callInterval": 1},
        "initStatus": 1,
        "duplicates": "allow",
        "onUnknown": "count",
    }


def test_create_sends_every_option(run: Run, script: Script) -> None:
    script.success(returnObject={"id": 46})
    ended = run(
        *("campaign", "create", "n", "--caller-no", "1", "--begin", "2030-03-01T08:00:00+08:00"),
        *("--end", "2030-04-01 12:30:00", "--window", "08:00-12:00", "--window", "13:00-20:00"),
        *("--calls", "5", "--every", "9", "--ring", "20", "--callback", "https://example.org/r"),
        *("--device-type", "1", "--start", "--description", "d", "--duplicates", "skip"),
        *("--on-unknown", "redial", "--json"),
    )
    assert (ended.code, json.loads(ended.out)) == (0, {"id": 46})
    assert script.asked[0].body == {
        "name": "n",
        "description": "d",
        "strBeginTime": "2030-03-01 00:00:00",
        "strEndTime": "2030-04-01 12:30:00",
        "deviceType": 1,
        "callerNo": "1",
        "maxAlertingTime": 20,
        "scheduleParam": {
            "workdayBeginTime1": "08:00",
            "workdayEndTime1": "12:00",
            "workdayBeginTime2": "13:00",
            "workdayEndTime2": "20:00",
        },
        "ivrParam": {"callCount": 5, "callInterval": 9},
        "initStatus": 2,
        "callBackUrl": "https://example.org/r",
        "duplicates": "skip",
        "onUnknown": "redial",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--begin", "tomorrow"), "--begin: must be ISO 8601"),
        (("--begin", "0001-01-01T00:00:00+14:00"), "--begin: must be ISO 8601"),
        (("--end", "2030-13-01"), "--end: must be ISO 8601"),
        (("--window", "8-20"), "--window: must be HH:MM-HH:MM"),
        (("--window", "08:00-09:00") * 4, "--window: at most 3 times"),
        (("--begin", "9999-12-20"), "--end: "),
        (("--calls", "x"), "'--calls'"),
        (("--duplicates", "never"), "'--duplicates'"),
    ],
)
def test_create_refuses_by_name_before_anything_is_sent(
    run: Run, script: Script, options: tuple[str, ...], message: str
) -> None:
    ended = run("campaign", "create", "n", "--caller-no", "1", *options)
    assert ended.code == 2
    assert message in error_of(ended)
    assert script.asked == []


def test_the_words_of_the_options_are_those_of_the_model() -> None:
    hints = get_type_hints(command.create)
    assert list(get_args(hints["duplicates"])) == list(Duplicates)
    assert list(get_args(hints["on_unknown"])) == list(OnUnknown)
    listed = [state for part in get_args(get_type_hints(command.list_)["status"]) for state in get_args(part)]
    assert listed == list(CampaignState)
    assert {number: state.value for state, number in STATUS.items()} == command.STATUS


def page(size: int, first: int = 1) -> list[dict[str, Any]]:
    return [FOUND | {"id": first + n} for n in range(size)]


def test_list_reads_every_page(run: Run, script: Script) -> None:
    for rows in (page(100), page(100, 101), page(3, 201)):
        script.success(data=rows, totalSize=203)
    ended = run("campaign", "list", "--status", "suspended", "--json")
    assert [row["id"] for row in json.loads(ended.out)] == list(range(1, 204))
    assert [asked.line for asked in script.asked] == [
        f"GET {ROOT}?status=3&deviceType=0&curPage={n}&rowsPerPage=100" for n in (1, 2, 3)
    ]


def test_list_in_a_pipe_is_a_line_per_campaign_that_no_name_can_break(run: Run, script: Script) -> None:
    script.success(data=[FOUND, FOUND | {"id": 47, "name": "\x1b[2Ja\tb\nc\u202e春"}], totalSize=2)
    ended = run("campaign", "list")
    assert ended.out.splitlines() == [
        "46\tspring\tstarted\t2030-03-01 00:00:00\t2030-03-31 00:00:00\t3\t4008000",
        "47\t\\x1b[2Ja\\tb\\nc\\u202e春\tstarted\t2030-03-01 00:00:00\t2030-03-31 00:00:00\t3\t4008000",
    ]


def test_an_empty_list_is_no_line_and_an_empty_document(run: Run, script: Script) -> None:
    script.success(data=[], totalSize=0)
    assert run("campaign", "list") == (0, "", "")
    script.success(data=[], totalSize=0)
    assert run("campaign", "list", "--json").out == "[]\n"


def test_show(run: Run, script: Script) -> None:
    script.success(returnObject=SHOWN)
    lines = dict(line.split("\t") for line in run("campaign", "show", "46").out.splitlines())
    assert lines["standing"] == "executing"
    assert lines["windows"] == "08:00-12:00, 13:00-24:00"
    assert lines["special windows"] == "10:00-11:00"
    assert lines["calls"] == "10 every 1 s"
    assert lines["callback"] == ""
    script.success(returnObject=SHOWN)
    assert json.loads(run("campaign", "show", "46", "--json").out) == SHOWN
    assert script.asked[0].line == f"GET {ROOT}/46"


@pytest.mark.parametrize(
    ("verb", "asked", "said"),
    [("start", "resume", "started"), ("resume", "resume", "started"), ("pause", "pause", "paused")],
)
def test_start_is_resume_and_pause_is_pause(
    run: Run, script: Script, verb: str, asked: str, said: str
) -> None:
    assert run("campaign", verb, "46") == (0, f"campaign 46 {said}\n", "")
    assert [request.line for request in script.asked] == [f"PUT {ROOT}/46/{asked}"]


# -- the way to the server ---------------------------------------------------------------------------------


def test_a_refusal_is_one_line_with_code_and_request_id_and_exit_code_1(run: Run, script: Script) -> None:
    script.refusal("0200011", "the campaign is draft:\nonly a started campaign can be paused")
    ended = run("campaign", "pause", "46")
    assert ended.code == 1
    assert error_of(ended) == (
        "the campaign is draft:\\nonly a started campaign can be paused [0200011, request r-1]"
    )


def test_a_store_that_is_away_is_exit_code_3(run: Run, script: Script) -> None:
    for _ in range(3):
        script.refusal("0200006", "database operation error")
    ended = run("campaign", "pause", "46")
    assert (ended.code, script.answers) == (3, [])
    assert "nothing was kept; try again later [0200006, request r-1]" in error_of(ended)


def test_an_answer_of_another_server_is_exit_code_3(run: Run, script: Script) -> None:
    script.answers.append({"status": 502})
    ended = run("campaign", "pause", "46")
    assert ended.code == 3
    assert "HTTP 502" in error_of(ended)


def test_a_wrong_secret_names_what_to_check_and_never_the_secret(
    run: Run, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTDIAL_SK", "hidden-and-wrong")
    ended = run("campaign", "list")
    assert ended.code == 1
    assert "check the access key, its secret and the VDN (OUTDIAL_AK, OUTDIAL_SK" in error_of(ended)
    assert "hidden" not in ended.out + ended.err


@pytest.mark.usefixtures("script")
def test_no_server_is_exit_code_3(run: Run) -> None:
    ended = run("campaign", "list", "--url", "http://127.0.0.1:1")
    assert ended.code == 3
    assert re.match(r"cannot connect to http://127.0.0.1:1: .*; is the server running", error_of(ended))


@pytest.mark.parametrize("absent", ["url", "ak", "sk", "vdn"])
def test_what_is_missing_is_named_with_its_variable(
    run: Run, script: Script, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.delenv(f"OUTDIAL_{absent.upper()}")
    ended = run("campaign", "list")
    assert ended.code == 2
    assert error_of(ended) == (
        f"--{absent} (OUTDIAL_{absent.upper()}): missing; `outdial dev` prints what to set"
    )
    assert script.asked == []


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("option", "value", "named"), [("--url", "h:80", "url: "), ("--ak", "a/b", "access key: ")]
)
def test_a_wrong_target_is_named(run: Run, option: str, value: str, named: str) -> None:
    ended = run("campaign", "list", option, value)
    assert ended.code == 2
    assert error_of(ended).startswith(named)


def test_options_go_before_variables(run: Run, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in script.environment:
        monkeypatch.setenv(name, "http://127.0.0.1:1" if name == "OUTDIAL_URL" else "9")
    environment = script.environment
    options = [f"--{name}={environment[f'OUTDIAL_{name.upper()}']}" for name in ("url", "ak", "sk", "vdn")]
    assert run("campaign", "pause", "46", *options).code == 0
