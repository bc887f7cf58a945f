"""`outdial destination`: the list of a VDN, changed whole or not at all."""

from __future__ import annotations

import json

import pytest
from scripted import Run, error_of


@pytest.fixture(autouse=True)
def _vdn(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    for vdn in ("1", "2"):
        assert run("vdn", "create", vdn).code == 0


def allowed(run: Run, vdn: str = "1") -> list[str]:
    found = json.loads(run("destination", "list", "--vdn", vdn, "--json").out)
    assert found["vdn"] == int(vdn)
    return sorted(found["allowed"])


def test_nothing_is_allowed_at_first(run: Run) -> None:
    assert allowed(run) == []
    assert run("destination", "list", "--vdn", "1") == (0, "", "")


def test_allow_and_deny(run: Run) -> None:
    assert run("destination", "allow", "--vdn", "1", "+49") == (0, "VDN 1 may dial +49\n", "")
    told = json.loads(run("destination", "allow", "--vdn", "1", "*31#", "+49", "--json").out)
    assert sorted(told["allowed"]) == ["*31#", "+49"] == allowed(run)
    assert allowed(run, "2") == []
    assert run("destination", "list", "--vdn", "1").out.split() == ["*31#", "+49"]
    assert run("destination", "deny", "--vdn", "1", "*31#").out == "VDN 1 may dial +49\n"
    assert run("destination", "deny", "--vdn", "1", "+49") == (0, "VDN 1 may dial nothing\n", "")


def test_deny_says_what_is_allowed_all_the_same(run: Run) -> None:
    """Deny is no rule of its own: it only takes off the list."""
    run("destination", "allow", "--vdn", "1", "+49", "+4930", "+43")
    ended = run("destination", "deny", "--vdn", "1", "+4930")
    assert (ended.code, ended.err) == (0, "+4930 is still allowed by +49\n")
    ended = run("destination", "deny", "--vdn", "1", "+43")
    assert (ended.code, ended.err) == (0, "")


def test_deny_of_what_is_not_on_the_list_changes_nothing(run: Run) -> None:
    run("destination", "allow", "--vdn", "1", "+49")
    ended = run("destination", "deny", "--vdn", "1", "+49", "+41")
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == "VDN 1: not on its list, so nothing was changed: +41"
    assert allowed(run) == ["+49"]


def test_everything_is_allowed_only_by_its_word_and_with_a_warning(run: Run) -> None:
    ended = run("destination", "allow", "--vdn", "1", "any")
    assert (ended.code, ended.out) == (0, "VDN 1 may dial any\n")
    assert ended.err.startswith("any: premium and foreign numbers too")
    assert run("destination", "deny", "--vdn", "1", "any").code == 0
    assert allowed(run) == []


@pytest.mark.parametrize("verb", ["allow", "deny"])
@pytest.mark.parametrize("prefix", ["", "all", "+49x", "4 9", "Any", "0" * 33])
def test_a_wrong_prefix_is_refused(run: Run, verb: str, prefix: str) -> None:
    ended = run("destination", verb, "--vdn", "1", "+49", prefix)
    assert (ended.code, ended.out) == (2, "")
    assert error_of(ended).startswith(f"prefix '{prefix}': must be 1 to 32 of 0-9, '*', '#' and '+', or")
    assert allowed(run) == []


@pytest.mark.parametrize("arguments", [("allow", "+49"), ("deny", "+49"), ("list",)])
def test_a_vdn_that_is_not_there_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run("destination", *arguments, "--vdn", "5")
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == "there is no VDN 5; `outdial vdn create 5` makes it"
