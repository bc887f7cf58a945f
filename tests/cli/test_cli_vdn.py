"""`outdial vdn`, in a database of its own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from scripted import Run, error_of

from outdial.cli import vdn as command
from outdial.model import Edition, Recycle, Vdn

DEFAULTS = {
    "vdn": 1,
    "timeZone": "UTC",
    "edition": "2023-09",
    "maxActive": 20,
    "recycle": "keep",
    "signsPushes": False,
    "trunkGroup": "default",
    "maxPerMinute": None,
    "maxPerHour": None,
    "maxPerDay": None,
    "keepNumbers": None,
    "keepResults": None,
    "keepRecords": None,
}
MASTER_KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def _store(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)


def listed(run: Run) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("vdn", "list", "--json").out)
    return found


def test_create_list_set(run: Run) -> None:
    assert run("vdn", "create", "1") == (0, "VDN 1 created\n", "")
    made = run(
        *("vdn", "create", "7", "--time-zone", "Asia/Shanghai", "--edition", "2025-11"),
        *("--max-active", "50", "--recycle", "retire", "--trunk-group", "carrier-b"),
        *("--max-per-day", "5", "--json"),
    )
    seven = DEFAULTS | {
        "vdn": 7,
        "timeZone": "Asia/Shanghai",
        "edition": "2025-11",
        "maxActive": 50,
        "recycle": "retire",
        "signsPushes": False,
        "trunkGroup": "carrier-b",
        "maxPerMinute": None,
        "maxPerHour": None,
        "maxPerDay": 5,
    }
    assert json.loads(made.out) == seven
    assert listed(run) == [DEFAULTS, seven]
    assert run("vdn", "list").out.splitlines() == [
        "1\tUTC\t2023-09\t20\tkeep\tunsigned\tdefault",
        "7\tAsia/Shanghai\t2025-11\t50\tretire\tunsigned\tcarrier-b",
    ]
    assert run("vdn", "set", "7", "--max-active", "0") == (0, "VDN 7 changed\n", "")
    assert listed(run) == [DEFAULTS, seven | {"maxActive": 0}]
    assert run("vdn", "set", "1", "--trunk-group", "b") == (0, "VDN 1 changed\n", "")
    assert listed(run)[0] == DEFAULTS | {"trunkGroup": "b"}
    assert run("vdn", "set", "7", "--max-per-day", "0", "--max-per-hour", "2").code == 0
    assert listed(run)[1] == seven | {"maxActive": 0, "maxPerDay": None, "maxPerHour": 2}
    assert run("vdn", "set", "1", "--keep-numbers", "30", "--keep-results", "1").code == 0
    assert run("vdn", "set", "1", "--keep-results", "0", "--keep-records", "9").code == 0
    kept = {"trunkGroup": "b", "keepNumbers": 30, "keepRecords": 9}
    assert listed(run)[0] == DEFAULTS | kept


def test_a_vdn_is_not_made_twice(run: Run) -> None:
    run("vdn", "create", "1", "--max-active", "3")
    ended = run("vdn", "create", "1")
    assert (ended.code, error_of(ended)) == (1, "VDN 1 exists already; `outdial vdn set 1` changes it")
    assert listed(run) == [DEFAULTS | {"maxActive": 3}]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("create", "0"), "'ID'"),
        (("create", "10000"), "'ID'"),
        (("create", "1", "--time-zone", "Mars/Base"), "--time-zone: 'Mars/Base' is no IANA time zone"),
        (("create", "1", "--time-zone", "../etc/passwd"), "--time-zone: "),
        (("create", "1", "--edition", "2024"), "'--edition'"),
        (("create", "1", "--max-active", "-1"), "'--max-active'"),
        (("create", "1", "--max-active", "3000000000"), "'--max-active'"),
        (("create", "1", "--recycle", "x"), "'--recycle'"),
        (("create", "1", "--trunk-group", "Carrier B"), "--trunk-group: must be 1 to 32 of a-z"),
        (
            ("set", "1"),
            "give at least one of --time-zone, --edition, --max-active, --recycle, --trunk-group",
        ),
    ],
)
def test_a_wrong_option_is_refused_by_name(run: Run, arguments: tuple[str, ...], named: str) -> None:
    ended = run("vdn", *arguments)
    assert ended.code == 2
    assert named in error_of(ended)
    assert listed(run) == []


@pytest.mark.parametrize(
    "arguments",
    [("set", "5", "--max-active", "1"), ("webhook-secret", "5"), ("webhook-secret", "5", "--remove")],
)
def test_a_vdn_that_is_not_there_is_refused_with_the_way_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    ended = run("vdn", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == "there is no VDN 5; `outdial vdn create 5` makes it"


def test_a_webhook_secret_is_shown_once_and_removed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes."""
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    run("vdn", "create", "1")
    first = run("vdn", "webhook-secret", "1").out.strip()
    second = json.loads(run("vdn", "webhook-secret", "1", "--json").out)["webhookSecret"]
    for secret in (first, second):
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert first != second
    assert listed(run) == [DEFAULTS | {"signsPushes": True}]
    table = run("vdn", "list").out
    assert table.endswith("\tsigned\tdefault\n")
    assert "whsec" not in table
    assert run("vdn", "webhook-secret", "1", "--remove").code == 0
    assert listed(run) == [DEFAULTS]


def test_without_a_master_key_no_secret_is_made(run: Run, tmp_path: Path) -> None:
    run("vdn", "create", "1")
    ended = run("vdn", "webhook-secret", "1")
    assert ended.code == 2
    assert error_of(ended).startswith("OUTDIAL_MASTER_KEY: missing; ")
    assert listed(run) == [DEFAULTS]
    assert run("vdn", "webhook-secret", "1", "--data", str(tmp_path / "data")).code == 0
    assert (tmp_path / "data.key").stat().st_mode & 0o777 == 0o600


def test_the_words_and_defaults_of_the_options_are_those_of_the_model() -> None:
    hints = get_type_hints(command.create, include_extras=True)
    for name, words in (("edition", Edition), ("recycle", Recycle)):
        union, option = get_args(hints[name])
        assert [word for part in get_args(union) for word in get_args(part)] == list(words)
        assert option.metavar == "|".join(words)
    for name in ("time_zone", "edition", "max_active", "recycle", "trunk_group"):
        text = get_args(hints[name])[1].help
        assert text.endswith(f"{getattr(Vdn(1), name)} for a new VDN.")
