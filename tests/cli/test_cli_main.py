"""The command as a process: help, usage errors, terminals, pipes, and what it costs to start."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from scripted import Run, Script, error_of

from outdial import __version__
from outdial.cli import app, failures
from outdial.cli.output import visible

OUTDIAL = [sys.executable, "-m", "outdial"]
HEAVY = ("aiohttp", "asyncio", "asyncpg", "cryptography", "msgspec", "rich", "structlog", "uvicorn")


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, (*path, name))


LEAVES = list(leaves())


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_option_is_documented_and_every_command_has_an_example(
    run: Run, path: tuple[str, ...], command: Any
) -> None:
    assert all(parameter.help for parameter in command.params)
    ended = run(*path, "--help")
    assert ended.code == 0
    assert f"    outdial {' '.join(path)}" in ended.out or f" outdial {path[0]}" in ended.out
    assert "Exit codes: 0 ok" in ended.out


def test_every_command_has_json() -> None:
    """One JSON document for programs; a server has its log, and an export a format of its own."""
    without = [path for path, c in LEAVES if "json" not in {p.name for p in c.params}]
    assert without == [("serve",), ("records", "export")]


def test_bare_and_version(run: Run) -> None:
    assert run("--version") == run("version") == (0, f"outdial {__version__}\n", "")
    bare = run()
    assert bare.code == 0
    assert "Usage: outdial [OPTIONS] COMMAND" in bare.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command 'nonsense'; see outdial --help"),
        (("campaign",), "Missing command; see outdial campaign --help"),
        (("campaign", "pause"), "Missing argument 'CAMPAIGN'; see outdial campaign pause --help"),
        (("campaign", "pause", "1", "--speed"), "No such option: --speed; see outdial campaign pause --help"),
        (("numbers", "add", "1"), "Missing argument 'NUMBER'; see outdial numbers add --help"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert error_of(ended) == message


def test_the_exit_codes_are_documented() -> None:
    codes = [
        value for name, value in vars(failures).items() if name.startswith("EXIT_") and type(value) is int
    ]
    assert codes == [0, 1, 2, 3, 130]
    assert all(f" {code} " in failures.EXIT_CODES for code in codes)


def test_nothing_heavy_is_imported_before_a_command_needs_it() -> None:
    program = f"import sys, outdial.cli; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_on_a_terminal_a_list_is_a_table(script: Script) -> None:
    row = {"id": 46, "name": "[red]spring\x1b[2J", "status": 1, "deviceType": 3, "callerNo": "1"}
    row |= {"strBeginTime": "2030-03-01 00:00:00", "strEndTime": "2030-03-31 00:00:00"}
    script.success(data=[row], totalSize=1)
    ours, theirs = pty.openpty()
    try:
        environment = os.environ | script.environment | {"COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1"}
        subprocess.run([*OUTDIAL, "campaign", "list"], stdout=theirs, env=environment, check=True, timeout=30)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "begin (UTC)" in shown
    assert "[red]spring\\x1b[2J" in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(script: Script, unbuffered: str) -> None:
    script.success(data=[], totalSize=0)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*OUTDIAL, "campaign", "list", "--json"],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=os.environ | script.environment | {"PYTHONUNBUFFERED": unbuffered},
            timeout=30,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_locale_that_cannot_print_a_name_fails_no_command(script: Script) -> None:
    row = {"id": 46, "name": "春", "status": 1, "deviceType": 3, "callerNo": "1"}
    times = {"strBeginTime": "2030-01-01 00:00:00", "strEndTime": "2030-02-01 00:00:00"}
    script.success(data=[row | times], totalSize=1)
    environment = os.environ | script.environment | {"PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([*OUTDIAL, "campaign", "list"], capture_output=True, env=environment, timeout=30)
    assert (ended.returncode, ended.stdout) == (
        0,
        b"46\t\\u6625\tdraft\t2030-01-01 00:00:00\t2030-02-01 00:00:00\t3\t1\n",
    )


def test_visible_shows_what_steers_a_terminal() -> None:
    assert visible("a b\u200e\u2028\x9b\x7fé") == "a b\\u200e\\u2028\\x9b\\x7fé"
    assert visible(None) == ""
