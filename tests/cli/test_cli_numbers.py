"""`outdial numbers add`: 20 a request, a second apart, and a clear word about what is in."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from scripted import ROOT, Run, Script, error_of

from outdial.client import numbers as command

FORTY_FIVE = [f"8{n:04d}" for n in range(45)]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second between requests: what is proven is not the time."""
    monkeypatch.setattr(command, "BETWEEN", 0.0)
    monkeypatch.setattr(command, "REPEAT_AFTER", 0.0)


def total(script: Script, *sizes: int) -> None:
    for size in sizes:
        script.success(returnObject={"totalSize": size})


def test_a_few_numbers_are_one_request_and_the_options_hold_for_each(run: Run, script: Script) -> None:
    total(script, 5)
    ended = run(
        *(
            "numbers",
            "add",
            "46",
            "80001",
            "8*#",
            "--session-id",
            "s",
            "--caller",
            "c",
            "--custom-field",
            "f",
        ),
        *("--call-data", '{"a": 1}', "--recycle-time", "2030-01-01 00:00:00"),
    )
    assert ended == (0, "2 numbers added; 5 incomplete in campaign 46\n", "")
    common = {
        "sessionId": "s",
        "caller": "c",
        "customField": "f",
        "callData": '{"a": 1}',
        "recycleTime": "2030-01-01 00:00:00",
    }
    entries = [{"called": number, **common} for number in ("80001", "8*#")]
    assert [(asked.line, asked.body) for asked in script.asked] == [
        (f"POST {ROOT}/calldata/46", {"callDataList": entries})
    ]


def test_more_than_20_go_in_requests_of_20_at_least_a_second_apart(run: Run, script: Script) -> None:
    """Contract, Restrictions: at most 20 at a time, not less than 1 second between them."""
    total(script, 20, 40, 45)
    ended = run("numbers", "add", "46", *FORTY_FIVE, "--json")
    assert (ended.code, json.loads(ended.out)) == (0, {"given": 45, "added": 45, "totalSize": 45})
    sent = [[entry["called"] for entry in asked.body["callDataList"]] for asked in script.asked]
    assert sent == [FORTY_FIVE[:20], FORTY_FIVE[20:40], FORTY_FIVE[40:]]
    assert all(later.at - earlier.at >= 1.0 for earlier, later in pairwise(script.asked))


@pytest.mark.usefixtures("hasty")
def test_too_soon_is_sent_again(run: Run, script: Script) -> None:
    script.refusal("0200022", "too soon")
    script.refusal("0200022", "too soon")
    total(script, 1)
    assert run("numbers", "add", "46", "80001").code == 0
    assert len(script.asked) == 3


@pytest.mark.usefixtures("hasty")
def test_too_soon_for_ever_is_given_up(run: Run, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PATIENCE", 0.0)
    script.refusal("0200022", "too soon")
    ended = run("numbers", "add", "46", "80001")
    assert (ended.code, len(script.asked)) == (1, 1)
    assert "0 of 1 numbers were added, numbers 1 to 1 were not" in error_of(ended)


@pytest.mark.usefixtures("hasty")
def test_a_refusal_says_how_many_are_in_and_stops(run: Run, script: Script) -> None:
    total(script, 20)
    script.refusal("0200024", "callDataList[3].called: in the blacklist")
    ended = run("numbers", "add", "46", *FORTY_FIVE, "--json")
    assert ended.code == 1
    assert error_of(ended) == (
        "callDataList[3].called: in the blacklist [0200024, request r-1]; 20 of 45 numbers were added, "
        "numbers 21 to 40 were not, the last 5 were not sent"
    )
    assert json.loads(ended.out) == {"given": 45, "added": 20, "totalSize": 20}
    assert len(script.asked) == 2


@pytest.mark.usefixtures("script")
def test_without_a_connection_nothing_is_in(run: Run) -> None:
    ended = run("numbers", "add", "46", *FORTY_FIVE, "--url", "http://127.0.0.1:1")
    assert ended.code == 3
    assert "0 of 45 numbers were added, numbers 1 to 20 were not, the last 25 were not" in error_of(ended)


@pytest.mark.usefixtures("hasty")
def test_the_ids_of_the_later_edition_are_kept(run: Run, script: Script) -> None:
    """semantics.md §1: edition 2025-11 answers dataIdList."""
    lists = [[{"called": number, "dataId": "1"}] for number in ("80001", "80002")]
    for ids in lists:
        script.success(returnObject={"totalSize": 1, "dataIdList": ids})
    ended = run("numbers", "add", "46", *FORTY_FIVE[:40], "--json")
    assert json.loads(ended.out)["dataIdList"] == lists[0] + lists[1]


def test_a_dash_reads_stdin(run: Run, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeff80002\r\n80003\n\n 80004 80005"))
    assert run("numbers", "add", "46", "80001", "-").code == 0
    assert [entry["called"] for entry in script.asked[0].body["callDataList"]] == [
        f"8000{n}" for n in range(1, 6)
    ]


def test_an_empty_stdin_is_named(run: Run, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    ended = run("numbers", "add", "46", "-")
    assert (ended.code, script.asked) == (2, [])
    assert error_of(ended) == "NUMBER: stdin held no number"


def test_ctrl_c_says_what_is_in_and_ends_with_130(script: Script) -> None:
    total(script, 20)
    script.hold = threading.Event()
    command_line = [sys.executable, "-m", "outdial", "numbers", "add", "46", *FORTY_FIVE]
    with subprocess.Popen(
        command_line, env=os.environ | script.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert script.came.wait(20)
            script.came.clear()
            assert script.came.wait(20)  # the second request is there and gets no answer
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            script.hold.set()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == (
        "error: interrupted; 20 of 45 numbers were added, numbers 21 to 40 may or may not be in, "
        "the last 5 were not sent\n"
    )
