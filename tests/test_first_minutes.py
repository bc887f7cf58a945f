"""The first five minutes as README.md tells them: its commands, and the two lines that `dev` prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTDIAL = [sys.executable, "-m", "outdial"]
WITHIN = 60.0


@contextmanager
def dev(*options: str) -> Iterator[Callable[[], str]]:
    """`outdial dev` on a free port; gives its next line on stdout, within a minute."""
    process = subprocess.Popen(
        [*OUTDIAL, "dev", "--listen", "127.0.0.1:0", *options], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line.rstrip("\n"))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield lambda: lines.get(timeout=WITHIN)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        reader.join(10)
        process.stdout.close()
    assert process.returncode == 0


def readme_commands() -> list[str]:
    """The lines of README.md that call the installed command, without comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (\.venv/bin/outdial .*)$", text, re.MULTILINE)
    return [line.partition("    #")[0].strip() for line in lines]


def run(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command line of the README, with this Python's outdial in place of the one in .venv."""
    words = shlex.split(command)
    assert words[0].endswith("outdial")
    return subprocess.run(
        [*OUTDIAL, *words[1:]], env=os.environ | environment, capture_output=True, text=True, timeout=WITHIN
    )


def test_the_commands_of_the_readme_do_what_it_says() -> None:
    """Every one is run; their number is held, so that none slips by."""
    started, *rest = readme_commands()
    assert started == ".venv/bin/outdial dev"
    assert len(rest) == 3
    with dev("--json") as line:
        place: dict[str, Any] = json.loads(line())
        environment = {f"OUTDIAL_{key.upper()}": str(place[key]) for key in ("url", "ak", "sk", "vdn")}
        for command in rest:
            ended = run(command.replace("CAMPAIGN", str(place["campaign"])), environment)
            assert ended.returncode == 0, f"{command}: {ended.stderr}"
        results = [json.loads(line()) for _ in range(2)]
    assert {result["called"]: result["failCode"] for result in results} == {
        "80001": "00000",
        "80003": "00537",
    }


def python_blocks(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_programs_of_the_documents_do_what_they_say() -> None:
    """Each is run as it stands, one after the other; their number is held, so that none slips by."""
    plain, loop, _ = python_blocks("README.md")
    (reference,) = python_blocks("docs/reference/client.md")
    said = []
    with dev("--json") as line:
        place: dict[str, Any] = json.loads(line())
        names = ("url", "ak", "sk", "vdn")
        environment = {f"OUTDIAL_{name.upper()}": str(place[name]) for name in names}
        environment["CAMPAIGN"] = str(place["campaign"])
        for program in (plain, loop, reference):
            ended = subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=WITHIN,
            )
            assert (ended.returncode, ended.stderr) == (0, "")
            said.append(ended.stdout)
    assert said[0].startswith("25 numbers are in\n0200011: ")
    assert said[1] == f"{place['campaign']} dev DRAFT\n"
    assert said[2] == "30 are in; 57 are incomplete\n"


def test_the_example_of_a_test_passes_and_nothing_is_left(tmp_path: Path, open_folder: Path) -> None:
    """It needs no other set-up than what it shows, and ends what it starts."""
    *_, example = python_blocks("README.md")
    plugins, _, rest = example.partition("\n")
    (tmp_path / "conftest.py").write_text(plugins)
    (tmp_path / "test_example.py").write_text(rest)
    pytest_ = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    ended = subprocess.run(
        [*pytest_, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(open_folder)},
        capture_output=True,
        text=True,
        timeout=3 * WITHIN,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
    assert [path.name for path in open_folder.glob("outdial-*")] == []


def test_the_two_lines_that_dev_prints_can_be_copied() -> None:
    """Issue, `outdial dev`: one adds numbers, one starts the campaign."""
    with dev() as line:
        copied: list[str] = []
        while (said := line()) != "Ctrl-C ends it.":
            if said.startswith("OUTDIAL_URL="):
                copied.append(said)
        assert ["numbers add" in copied[0], "campaign start" in copied[1], len(copied)] == [True, True, 2]
        for command in copied:
            ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=WITHIN)
            assert ended.returncode == 0, ended.stderr
        results: list[str] = []
        while len(results) < 3:
            if (said := line()).startswith("result"):
                results.append(said)
    assert sorted(json.loads(said.removeprefix("result "))["called"] for said in results) == [
        "80001",
        "80002",
        "80003",
    ]


@pytest.mark.parametrize("options", [("--listen", "0.0.0.0:0"), ("--listen", "nowhere")])
def test_dev_refuses_an_address_that_is_not_loopback(options: tuple[str, ...]) -> None:
    """Plain HTTP is for loopback only; the refusal names the setting."""
    ended = subprocess.run([*OUTDIAL, "dev", *options], capture_output=True, text=True, timeout=WITHIN)
    assert ended.returncode == 2
    assert "listen" in ended.stderr or "loopback" in ended.stderr
    assert "Traceback" not in ended.stderr
