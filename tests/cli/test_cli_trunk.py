"""`outdial trunk`: every field is an option, a password is none, and what is wrong is refused by name."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shlex
from dataclasses import MISSING, asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from scripted import Run, error_of

from outdial.cli import trunk as command
from outdial.config import load
from outdial.model import EngineStanding, PrefixRule, Trunk, TrunkState
from outdial.routing.faults import TRANSPORTS
from outdial.store.sealing import MasterKey
from outdial.store.store import Store

MASTER_KEY = base64.b64encode(bytes(32)).decode()
SECRET = "s3cret-of-the-trunk"

DEFAULTS = {
    "name": "carrier",
    "host": "sip.example.com",
    "port": None,
    "transport": "udp",
    "group": "default",
    "position": 1,
    "weight": 1,
    "outboundProxy": None,
    "username": None,
    "registers": False,
    "callerId": None,
    "fromDomain": None,
    "prefixRules": [],
    "maxCps": 10.0,
    "maxChannels": 30,
    "maxMinutes": None,
    "timerB": 4.0,
    "pingEvery": 30,
    "enabled": True,
}
ROW = "carrier\tdefault\t1\t1\tsip.example.com/udp\t\t10\t30\t\t"
EVERYTHING = (
    *("--host", "2001:db8::1", "--port", "5080", "--transport", "tls", "--group", "reserve"),
    *("--position", "2", "--weight", "7", "--outbound-proxy", "[2001:db8::2]:5061", "--username", "4711"),
    *("--registers", "--caller-id", "+4930", "--from-domain", "example.com"),
    *("--prefix-rule", "00=+", "--prefix-rule", "0=", "--max-cps", "2.5", "--max-channels", "12"),
    *("--max-minutes", "600", "--timer-b", "3.5", "--ping-every", "0", "--disabled"),
)
FULL = Trunk(
    name="b",
    host="2001:db8::1",
    port=5080,
    transport="tls",
    group="reserve",
    position=2,
    weight=7,
    outbound_proxy="[2001:db8::2]:5061",
    username="4711",
    password=SECRET,
    registers=True,
    caller_id="+4930",
    from_domain="example.com",
    prefix_rules=(PrefixRule("00", "+"), PrefixRule("0", "")),
    max_cps=2.5,
    max_channels=12,
    max_minutes=600,
    timer_b=3.5,
    ping_every=0,
    enabled=False,
)


@pytest.fixture(autouse=True)
def _store(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))


@pytest.fixture
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    monkeypatch.setenv("OUTDIAL_TRUNK_PASSWORD", SECRET)


def listed(run: Run) -> list[dict[str, Any]]:
    """As they are set; no engine runs."""
    found: list[dict[str, Any]] = json.loads(run("trunk", "list", "--json").out)
    assert [trunk.pop("engines") for trunk in found] == [[] for _ in found]
    return found


def stored(database: str) -> list[Trunk]:
    async def read() -> list[Trunk]:
        async with Store(database, MasterKey(bytes(32))) as store:
            return await store.trunks.all()

    return asyncio.run(read())


def document_of(trunk: Trunk) -> dict[str, Any]:
    """Every field but the password, under its name in camelCase."""
    found = asdict(trunk) | {"prefix_rules": [asdict(rule) for rule in trunk.prefix_rules]}
    del found["password"]
    return {re.sub("_(.)", lambda m: m[1].upper(), name): value for name, value in found.items()}


def added(run: Run, *more: str) -> None:
    assert run("trunk", "add", "carrier", "--host", "sip.example.com", *more).code == 0


# -- add and list ----------------------------------------------------------------------------------------


def test_a_trunk_with_defaults(run: Run, database: str) -> None:
    assert run("trunk", "add", "carrier", "--host", "sip.example.com") == (0, "trunk carrier added\n", "")
    assert stored(database) == [Trunk("carrier", "sip.example.com")]
    assert listed(run) == [DEFAULTS]
    assert run("trunk", "list").out == f"{ROW}no engine calls over it\n"


@pytest.mark.usefixtures("_password")
def test_every_field_is_an_option(run: Run, database: str) -> None:
    made = run("trunk", "add", "b", *EVERYTHING, "--json")
    assert made.code == 0, made.err
    assert stored(database) == [FULL]
    assert listed(run) == [json.loads(made.out)] == [document_of(FULL)]
    row = "b\treserve\t2\t7\t[2001:db8::1]:5080/tls\t4711\t2.5\t12\t600\tdisabled\n"
    assert run("trunk", "list").out == row


TAKES = TrunkState("carrier", "default", in_use=2, channels=15)
FULL_OF_CALLS = TrunkState("carrier", "default", "all channels in use", in_use=15, channels=15)
REFUSED = TrunkState("carrier", "default", "not registered there: 403 Forbidden", up=False, channels=15)
BROKEN = TrunkState("carrier", "default", "circuit breaker open", datetime(2030, 1, 2, tzinfo=UTC), up=False)
OTHER = TrunkState("other", "default")


@pytest.mark.parametrize(
    ("engines", "now"),
    [
        ([[]], "no engine calls over it"),
        ([[OTHER]], "no engine calls over it"),
        ([[TAKES]], "takes calls, 2 of 15 channels in use"),
        ([[TAKES, OTHER], [TAKES]], "takes calls, 4 of 30 channels in use"),
        ([[REFUSED], [REFUSED]], "not registered there: 403 Forbidden"),
        ([[FULL_OF_CALLS], [BROKEN]], "all channels in use; circuit breaker open"),
    ],
)
def test_the_list_says_what_the_engines_say_of_a_trunk(
    run: Run, database: str, engines: list[list[TrunkState]], now: str
) -> None:
    async def say() -> None:
        async with Store(database, None) as store:
            for trunks in engines:
                epoch = await store.calls.begin_epoch("here", 1, timedelta(seconds=60))
                await store.calls.say_standing(epoch, EngineStanding(True, tuple(trunks)))

    added(run)
    asyncio.run(say())
    assert run("trunk", "list").out == f"{ROW}{now}\n"
    (found,) = json.loads(run("trunk", "list", "--json").out)
    states = [one for trunks in engines for one in trunks if one.name == "carrier"]
    until = {BROKEN.bar: "2030-01-02 00:00:00"}
    assert found["engines"] == [
        {"bar": one.bar, "until": until.get(one.bar), "inUse": one.in_use, "channels": one.channels}
        for one in states
    ]
    assert run("trunk", "set", "carrier", "--disabled").code == 0
    assert run("trunk", "list").out == f"{ROW}disabled\n"


def test_no_trunk_is_an_empty_list(run: Run) -> None:
    assert run("trunk", "list") == (0, "", "")
    assert listed(run) == []


def test_a_trunk_is_not_added_twice(run: Run) -> None:
    added(run)
    ended = run("trunk", "add", "carrier", "--host", "other")
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == "trunk carrier exists already; `outdial trunk set carrier` changes it"
    assert listed(run) == [DEFAULTS]


WRONG = [
    (("--host", "a b"), "--host: must be a name"),
    (("--host", "[::1]"), "--host: "),
    (("--port", "0"), "--port: must be 1 to 65535"),
    (("--port", "x"), "'--port'"),
    (("--transport", "sctp"), "'--transport'"),
    (("--group", "A"), "--group: must be 1 to 32 of a-z"),
    (("--position", "0"), "--position: must be 1 to 100"),
    (("--weight", "99999999999999999999"), "--weight: must be 1 to 100"),
    (("--outbound-proxy", "a:x"), "--outbound-proxy: must be HOST or HOST:PORT"),
    (("--caller-id", "Sales"), "--caller-id: must be 1 to 32 of 0-9"),
    (("--from-domain", "a@b"), "--from-domain: "),
    (("--prefix-rule", "00"), "--prefix-rule: must be PREFIX=REPLACEMENT, for example 00=+"),
    (("--prefix-rule", "x=1"), "--prefix-rule: a prefix must be"),
    (("--prefix-rule", "1=x"), "--prefix-rule: a replacement must be"),
    (("--prefix-rule", "1=2", "--prefix-rule", "1=3"), "--prefix-rule: must not have the same prefix twice"),
    (("--max-cps", "0"), "--max-cps: must be 0.1 to 1000"),
    (("--max-cps", "nan"), "--max-cps: must be 0.1 to 1000"),
    (("--max-channels", "10001"), "--max-channels: must be 1 to 10000"),
    (("--max-minutes", "0"), "--max-minutes: "),
    (("--timer-b", "33"), "--timer-b: must be 0.5 to 32"),
    (("--ping-every", "1"), "--ping-every: must be 5 to 3600 seconds, or 0"),
    (("--registers",), "--registers: needs a username and a password"),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG)
def test_a_wrong_option_is_refused_by_name(run: Run, arguments: tuple[str, ...], named: str) -> None:
    ended = run("trunk", "add", "carrier", *(() if "--host" in arguments else ("--host", "a")), *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert named in error_of(ended)
    assert listed(run) == []


@pytest.mark.parametrize(("arguments", "named"), WRONG)
def test_a_wrong_change_is_refused_by_name(run: Run, arguments: tuple[str, ...], named: str) -> None:
    added(run)
    ended = run("trunk", "set", "carrier", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert named in error_of(ended)
    assert listed(run) == [DEFAULTS]


def test_a_wrong_name_and_a_missing_host_are_refused(run: Run) -> None:
    assert error_of(run("trunk", "add", "A", "--host", "a")).startswith("name: must be 1 to 32")
    assert "'--host'" in error_of(run("trunk", "add", "a"))
    assert listed(run) == []


# -- set and remove --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_password")
def test_set_changes_what_is_given_and_leaves_the_rest(run: Run, database: str) -> None:
    run("trunk", "add", "b", *EVERYTHING)
    before = listed(run)[0]
    assert run("trunk", "set", "b", "--weight", "3", "--enabled") == (0, "trunk b changed\n", "")
    assert listed(run) == [before | {"weight": 3, "enabled": True}]
    changed = run("trunk", "set", "b", "--prefix-rule", "1=2", "--no-registers", "--json")
    assert json.loads(changed.out)["prefixRules"] == [{"prefix": "1", "replacement": "2"}]
    assert listed(run) == [json.loads(changed.out)]
    assert stored(database)[0].password == SECRET


@pytest.mark.usefixtures("_password")
def test_set_can_change_every_field(run: Run, database: str) -> None:
    run("trunk", "add", "b", "--host", "a")
    assert run("trunk", "set", "b", *EVERYTHING).code == 0
    assert stored(database) == [FULL]


@pytest.mark.usefixtures("_password")
def test_what_may_be_absent_can_be_cleared(run: Run, database: str) -> None:
    run("trunk", "add", "b", *EVERYTHING)
    cleared = [part for field in command.CLEARABLE for part in ("--clear", field)]
    assert run("trunk", "set", "b", "--no-registers", *cleared).code == 0
    found = stored(database)[0]
    for field in fields(Trunk):
        if field.default is None or field.name == "prefix_rules":
            assert not getattr(found, field.name), field.name
    assert found.weight == 7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "give at least one option of what to change"),
        (("--clear", "weight"), "--clear: must be one of port, "),
        (("--clear", "port", "--port", "1"), "--port: given and cleared"),
        (("--clear", "login", "--username", "x"), "--username: given and cleared"),
        (("--new-password",), "password: missing; set OUTDIAL_TRUNK_PASSWORD, or give it on the first line"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(run: Run, arguments: tuple[str, ...], named: str) -> None:
    added(run)
    ended = run("trunk", "set", "carrier", *arguments)
    assert ended.code == 2
    assert named in error_of(ended)
    assert listed(run) == [DEFAULTS]


@pytest.mark.usefixtures("_password")
def test_a_registering_trunk_keeps_its_login(run: Run) -> None:
    run("trunk", "add", "b", *EVERYTHING)
    ended = run("trunk", "set", "b", "--clear", "login")
    assert (ended.code, error_of(ended)) == (2, "--registers: needs a username and a password")


def test_remove(run: Run) -> None:
    added(run)
    assert run("trunk", "remove", "carrier") == (0, "trunk carrier removed\n", "")
    assert listed(run) == []
    added(run)
    assert json.loads(run("trunk", "remove", "carrier", "--json").out) == {"removed": "carrier"}


@pytest.mark.parametrize("arguments", [("set", "no", "--weight", "2"), ("remove", "no")])
def test_a_trunk_that_is_not_there_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run("trunk", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == "there is no trunk no; `outdial trunk list` lists them"


# -- passwords -------------------------------------------------------------------------------------------

LOGIN = ("trunk", "add", "b", "--host", "a", "--username", "u")


def test_a_password_comes_from_stdin_where_the_variable_is_not_set(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    monkeypatch.setattr("sys.stdin", io.StringIO(" with spaces \nmore\n"))
    assert run(*LOGIN).code == 0
    assert stored(database)[0].password == " with spaces "


def test_a_password_is_asked_for_at_a_terminal(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"typed at {prompt}")
    assert run(*LOGIN).code == 0
    assert stored(database)[0].password == "typed at Password at the trunk: "


def test_a_login_without_a_password_is_refused(run: Run) -> None:
    ended = run(*LOGIN)
    assert ended.code == 2
    assert error_of(ended).startswith("password: missing; set OUTDIAL_TRUNK_PASSWORD")
    assert listed(run) == []


@pytest.mark.usefixtures("_password")
def test_a_new_password_replaces_the_one_that_is_there(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*LOGIN)
    monkeypatch.setenv("OUTDIAL_TRUNK_PASSWORD", "other")
    assert run("trunk", "set", "b", "--new-password").code == 0
    assert stored(database)[0].password == "other"


@pytest.mark.usefixtures("_password")
def test_a_password_is_never_shown(run: Run) -> None:
    shown = [run(*LOGIN, "--json"), run("trunk", "list"), run("trunk", "list", "--json")]
    shown += [run("trunk", "set", "b", "--new-password", "--json"), run("trunk", "add", "b", *EVERYTHING)]
    assert not any(SECRET in ended.out + ended.err for ended in shown)


def test_without_a_master_key_no_password_is_stored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_TRUNK_PASSWORD", SECRET)
    ended = run(*LOGIN)
    assert ended.code == 2
    assert error_of(ended).startswith("OUTDIAL_MASTER_KEY: missing; ")
    assert listed(run) == []


def test_the_variable_alone_gives_no_trunk_a_login(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_TRUNK_PASSWORD", SECRET)
    added(run)
    assert run("trunk", "set", "carrier", "--weight", "2").code == 0
    assert listed(run) == [DEFAULTS | {"weight": 2}]


def test_no_option_takes_a_password(run: Run) -> None:
    """Other users of the machine see the arguments of a command."""
    assert "No such option" in error_of(run(*LOGIN, "--password", SECRET))


# -- words -----------------------------------------------------------------------------------------------


def test_the_options_and_their_defaults_are_those_of_the_model() -> None:
    names = {field.name for field in fields(Trunk)} - {"prefix_rules", "password"} | {"prefix_rule"}
    hints = get_type_hints(command.add, include_extras=True)
    store = {"data", "database", "pg_bin", "pg_user", "json", "return"}
    assert set(hints) - store == names
    for field in fields(Trunk):
        if field.default in (MISSING, None) or field.name in ("prefix_rules", "registers", "enabled"):
            continue
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        help_ = get_args(hints[field.name])[1].help
        assert help_.endswith(f"{default} for a new trunk."), field.name
    option = get_args(hints["transport"])[1]
    assert option.metavar == "|".join(TRANSPORTS)


# -- the guide -------------------------------------------------------------------------------------------

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "trunks.md"


def blocks_of_the_guide(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


def commands_of_the_guide() -> list[list[str]]:
    lines = "\n".join(blocks_of_the_guide("")).replace("\\\n", " ").splitlines()
    typed = [re.sub(r"^OUTDIAL_\w+=\S+ | < .*$", "", line) for line in lines]
    return [shlex.split(line)[1:] for line in typed if line.startswith("outdial ")]


@pytest.mark.usefixtures("_password")
def test_every_command_of_the_guide_does_what_it_says(run: Run) -> None:
    commands = commands_of_the_guide()
    assert len(commands) > 12
    for vdn in ("1", "7"):
        run("vdn", "create", vdn)
    for arguments in commands:
        if arguments[:2] == ["trunk", "add"]:
            run("trunk", "remove", arguments[2])  # the guide shows several ways to add one
        ended = run(*arguments)
        assert ended.code == 0, (arguments, ended.err)
    assert sorted(trunk["name"] for trunk in listed(run)) == ["other", "reserve", "vip"]


def test_the_settings_of_the_guide_are_settings(tmp_path: Path) -> None:
    (block,) = blocks_of_the_guide("toml")
    (tmp_path / "outdial.toml").write_text(block.replace("# sip_external", "sip_external"), encoding="utf-8")
    settings = load(tmp_path / "outdial.toml", {})
    assert (settings.switch, settings.sip_external) == ("sip", "203.0.113.5")
    assert settings.sip_addresses() == [("192.0.2.5", 5060)]
