"""`outdial flow` and `outdial prompt`, in a database of their own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from scripted import Ended, Run, error_of

from outdial.cli import flow as command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "flows"
ULAW = b"\x55" * 4000
REMINDER = ["appointment", "cancelled", "day_tuesday", "goodbye", "hello", "menu", "thanks"]


@pytest.fixture(autouse=True)
def _store(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)


@pytest.fixture(autouse=True)
def _no_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.shutil, "which", lambda _: None)


@pytest.fixture
def vdn(run: Run) -> None:
    run("vdn", "create", "1")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], str]:
    def write_(name: str, content: Any) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write_


Write = Callable[[str, Any], str]


def document(prompt: str = "hello") -> dict[str, Any]:
    return {"start": "a", "steps": {"a": {"play": {"prompts": prompt}, "next": "b"}, "b": {"hangup": {}}}}


def add_prompts(run: Run, write: Write, *names: str) -> None:
    path = write("audio.ulaw", ULAW)
    for name in names:
        assert run("prompt", "add", name, path, "--vdn", "1").code == 0


def of(ended: Ended) -> Any:
    return json.loads(ended.out)


def wav(rate: int, seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\x10\x20" * int(rate * seconds))
    return buffer.getvalue()


# -- prompts ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("vdn")
def test_a_prompt_is_added_listed_replaced_and_removed(run: Run, write: Write) -> None:
    added = run("prompt", "add", "hello", write("a.ulaw", ULAW), "--vdn", "1")
    assert added == (0, "prompt hello added: 0.5 s\n", "")
    replaced = run("prompt", "add", "hello", write("a.wav", wav(16_000, 1)), "--vdn", "1", "--json")
    assert of(replaced) == {"name": "hello", "created": False, "milliseconds": 1000}
    (shown,) = of(run("prompt", "list", "--vdn", "1", "--json"))
    assert (shown["name"], shown["milliseconds"], len(shown["sha256"])) == ("hello", 1000, 64)
    name, seconds, _, digest = run("prompt", "list", "--vdn", "1").out.rstrip("\n").split("\t")
    assert (name, seconds, digest) == ("hello", "1.0", shown["sha256"][:12])
    assert run("prompt", "remove", "hello", "--vdn", "1") == (0, "prompt hello removed\n", "")
    assert of(run("prompt", "list", "--vdn", "1", "--json")) == []


@pytest.mark.usefixtures("vdn")
async def test_raw_mu_law_is_kept_as_it_is(run: Run, write: Write, sql: asyncpg.Connection) -> None:
    path = write("a.ulaw", ULAW)
    await in_thread(run, "prompt", "add", "hello", path, "--vdn", "1")
    row = await sql.fetchrow("SELECT audio, sha256 FROM prompt")
    assert (row["audio"], row["sha256"]) == (ULAW, hashlib.sha256(ULAW).hexdigest())


async def in_thread(run: Run, *arguments: str) -> Ended:
    """A command runs a loop of its own."""
    return await asyncio.to_thread(run, *arguments)


@pytest.mark.usefixtures("vdn")
@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("hello", b"ID3\x04 no audio", 1, "bad.wav: this is an MP3 file; allowed: "),
        ("hello", b"", 1, "bad.wav: the file holds no audio; "),
        ("a/b", ULAW, 1, "the name of a prompt has 1 to 64 ASCII letters"),
        ("", ULAW, 1, "the name of a prompt has 1 to 64 ASCII letters"),
        ("x" * 65, ULAW, 1, "the name of a prompt has 1 to 64 ASCII letters"),
    ],
)
def test_a_bad_prompt_is_refused_and_not_kept(
    run: Run, write: Write, name: str, content: bytes, code: int, said: str
) -> None:
    ended = run("prompt", "add", name, write("bad.wav", content), "--vdn", "1")
    assert (ended.code, ended.out) == (code, "")
    assert error_of(ended).startswith(said)
    assert of(run("prompt", "list", "--vdn", "1", "--json")) == []


@pytest.mark.usefixtures("vdn")
def test_a_file_that_cannot_be_read_is_named(run: Run, tmp_path: Path) -> None:
    for words in (("prompt", "add"), ("flow", "add")):
        for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
            ended = run(*words, "x", str(path), "--vdn", "1")
            assert (ended.code, error_of(ended)) == (2, f"{path}: cannot be read: {why}")


# -- flows -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("vdn")
def test_a_flow_is_added_listed_shown_replaced_and_removed(run: Run, write: Write) -> None:
    add_prompts(run, write, *REMINDER)
    path = str(EXAMPLES / "reminder.toml")
    assert run("flow", "add", "reminder", path, "--vdn", "1") == (0, "flow reminder added\n", "")
    again = run("flow", "add", "reminder", path, "--vdn", "1", "--json")
    assert of(again) == {"name": "reminder", "created": False, "prompts": REMINDER}
    (facts,) = of(run("flow", "list", "--vdn", "1", "--json"))
    assert (facts["name"], facts["prompts"], len(facts["sha256"])) == ("reminder", REMINDER, 64)
    line = run("flow", "list", "--vdn", "1").out.rstrip("\n").split("\t")
    assert (line[0], line[3]) == ("reminder", ", ".join(REMINDER))
    shown = run("flow", "show", "reminder", "--vdn", "1").out
    assert list(json.loads(shown)["steps"])[:2] == ["greeting", "menu"]
    told = of(run("flow", "show", "reminder", "--vdn", "1", "--json"))
    assert told == facts | {"document": json.loads(shown), "updatedAt": told["updatedAt"]}
    assert run("flow", "add", "copy", write("copy.json", shown.encode()), "--vdn", "1").code == 0
    assert run("flow", "show", "copy", "--vdn", "1").out == shown
    assert run("flow", "remove", "reminder", "--vdn", "1") == (0, "flow reminder removed\n", "")
    assert [flow["name"] for flow in of(run("flow", "list", "--vdn", "1", "--json"))] == ["copy"]


@pytest.mark.usefixtures("vdn")
def test_a_flow_with_problems_is_refused_with_all_of_them_and_not_kept(run: Run, write: Write) -> None:
    bad = document("helo") | {"max_seconds": 0}
    add_prompts(run, write, "hello")
    ended = run("flow", "add", "f", write("f.json", bad), "--vdn", "1")
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == (
        "max_seconds: must be 1 to 3600 seconds;"
        " steps.a.play.prompts: there is no prompt helo; did you mean hello?"
    )
    assert of(run("flow", "list", "--vdn", "1", "--json")) == []


@pytest.mark.usefixtures("vdn")
@pytest.mark.parametrize("name", ["", "x" * 65, " x"])
def test_a_bad_name_of_a_flow_is_refused(run: Run, write: Write, name: str) -> None:
    ended = run("flow", "add", name, write("f.json", document()), "--vdn", "1")
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended).startswith("the name of a flow has 1 to 64 printable characters")


@pytest.mark.usefixtures("vdn")
def test_what_is_to_be_said_needs_a_voice(run: Run, write: Write) -> None:
    says = {"start": "a", "steps": {"a": {"say": {"text": "x"}, "next": "b"}, "b": {"hangup": {}}}}
    path = write("f.json", says)
    ended = run("flow", "add", "f", path, "--vdn", "1")
    assert ended.code == 1
    assert error_of(ended).startswith("steps.a.say.text: needs a voice")
    assert run("flow", "add", "f", path, "--vdn", "1", "--can-say").code == 0


def test_without_a_store_a_flow_is_checked_but_for_its_prompts(
    run: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUTDIAL_DATABASE")
    assert run("flow", "check", write("f.json", document())) == (0, "hello\n", "")
    ended = run("flow", "check", write("g.json", document() | {"max_seconds": 0, "x": 1}))
    assert (ended.code, error_of(ended)) == (1, "g.json: problems: 2")
    assert len(ended.out.splitlines()) == 2
    assert "max_seconds: must be 1 to 3600 seconds" in ended.out.splitlines()
    ended = run("flow", "check", write("h.json", b"{"), "--json")
    assert ended.code == 1
    (problem,) = of(ended)["problems"]
    assert problem.startswith("h.json: ")


@pytest.mark.usefixtures("vdn")
def test_with_the_store_a_check_looks_for_the_prompts(run: Run, write: Write) -> None:
    path = write("f.json", document())
    assert error_of(run("flow", "check", path)).startswith("--vdn (OUTDIAL_VDN): missing")
    ended = run("flow", "check", path, "--vdn", "1")
    assert (ended.code, ended.out) == (1, "steps.a.play.prompts: there is no prompt hello\n")
    add_prompts(run, write, "hello")
    assert of(run("flow", "check", path, "--vdn", "1", "--json")) == {"problems": [], "prompts": ["hello"]}


@pytest.mark.usefixtures("vdn")
def test_a_prompt_that_a_flow_plays_is_not_removed(run: Run, write: Write) -> None:
    add_prompts(run, write, "hello")
    run("flow", "add", "f", write("f.json", document()), "--vdn", "1")
    ended = run("prompt", "remove", "hello", "--vdn", "1")
    assert (ended.code, error_of(ended)) == (1, "prompt hello is in use: flow f; change that first")


@pytest.mark.usefixtures("vdn")
async def test_a_flow_of_a_started_campaign_is_not_removed(
    run: Run, write: Write, sql: asyncpg.Connection
) -> None:
    await in_thread(run, "prompt", "add", "hello", write("a.ulaw", ULAW), "--vdn", "1")
    await in_thread(run, "flow", "add", "f", write("f.json", document()), "--vdn", "1")
    number = await sql.fetchval(
        """INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
               max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown,
               created_at)
           VALUES (1, 'c', '', 3, 'started', now(), now() + interval '1 day', '1', 30, '{0,1440}', 'f', 1, 1,
                   'allow', 'count', now()) RETURNING campaign_id"""
    )
    ended = await in_thread(run, "flow", "remove", "f", "--vdn", "1")
    assert ended.code == 1
    assert error_of(ended) == f"flow f is in use: campaign {number}; pause or end them first"
    await sql.execute("UPDATE campaign SET state = 'suspended'")
    assert (await in_thread(run, "flow", "remove", "f", "--vdn", "1")).code == 0


@pytest.mark.usefixtures("vdn")
def test_what_is_not_there_is_refused_with_the_way_out(run: Run) -> None:
    for verb in ("show", "remove"):
        ended = run("flow", verb, "f", "--vdn", "1")
        assert (ended.code, ended.out) == (1, "")
        assert error_of(ended) == "VDN 1 has no such flow; `outdial flow list --vdn 1` lists them"
    ended = run("prompt", "remove", "p", "--vdn", "1")
    assert error_of(ended) == "VDN 1 has no such prompt; `outdial prompt list --vdn 1` lists them"


def test_a_vdn_that_is_not_there_is_refused_by_every_command(run: Run, write: Write) -> None:
    flow, audio = write("f.json", document()), write("a.ulaw", ULAW)
    for words in (
        ("flow", "add", "f", flow),
        ("flow", "list"),
        ("flow", "check", flow),
        ("flow", "show", "f"),
        ("flow", "remove", "f"),
        ("prompt", "add", "p", audio),
        ("prompt", "list"),
        ("prompt", "remove", "p"),
    ):
        ended = run(*words, "--vdn", "5")
        assert (ended.code, ended.out) == (1, ""), words
        assert error_of(ended) == "there is no VDN 5; `outdial vdn create 5` makes it"
