"""The checker of flows: what it lets through, and that it names every problem with its place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from outdial import flow
from outdial.flow import FlowError
from outdial.flow.document import KINDS, TOP

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "flows"
PROMPTS = {
    "reminder.toml": {
        "hello",
        "appointment",
        "menu",
        "thanks",
        "cancelled",
        "goodbye",
        *(f"day_{day}" for day in ("monday", "tuesday", "wednesday", "thursday", "friday")),
    },
    "survey.json": {
        "survey_en",
        "rate_service",
        "rate_price",
        "leave_number",
        "thanks",
        "machine_message",
    },
}


def read(name: str) -> Any:
    return flow.read_document((EXAMPLES / name).read_bytes(), name)


def problems(document: Any, *, prompts: set[str] | None = None, can_say: bool = True) -> list[str]:
    known = {"hello", "menu"} if prompts is None else prompts
    with pytest.raises(FlowError) as caught:
        flow.check(document, prompts=known, can_say=can_say)
    return list(caught.value.problems)


def menu(**changes: Any) -> dict[str, Any]:
    """A small flow that is right, with top-level fields changed."""
    document: dict[str, Any] = {
        "start": "hello",
        "steps": {
            "hello": {"play": {"prompts": "hello"}, "next": "menu"},
            "menu": {"collect": {"into": "answer", "prompts": ["menu"]}, "next": "end", "otherwise": "end"},
            "end": {"hangup": {}},
        },
    }
    return copy.deepcopy(document) | changes


def with_step(name: str, step: Any) -> dict[str, Any]:
    document = menu()
    document["steps"][name] = step
    return document


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_the_examples_are_right_and_need_their_prompts(name: str) -> None:
    checked = flow.check(read(name), prompts=PROMPTS[name], can_say=False)
    assert checked.prompts <= PROMPTS[name]
    assert not checked.says
    for prompt in sorted(checked.prompts):
        found = problems(read(name), prompts=PROMPTS[name] - {prompt}, can_say=False)
        assert any(f"there is no prompt {prompt}" in text for text in found)


def test_a_prompt_that_follows_from_defaults_must_be_there() -> None:
    """`survey_{language}` with the flow's default is survey_en."""
    assert (
        "survey_en" in flow.check(read("survey.json"), prompts=PROMPTS["survey.json"], can_say=False).prompts
    )
    document = menu()
    document["steps"]["hello"]["play"]["prompts"] = "hello_{language}"
    assert flow.check(document, prompts={"menu"}, can_say=False).prompts == {"menu"}


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"collect": {"into": "a", "max": 33}, "next": "end"}, "steps.menu.collect.max: must be 1 to 32"),
        ({"collect": {"into": "a", "max": 0}, "next": "end"}, "steps.menu.collect.max: must be 1 to 32"),
        ({"collect": {"into": "a", "max": True}, "next": "end"}, "steps.menu.collect.max: must be 1 to 32"),
        ({"collect": {"into": "a", "max": "4"}, "next": "end"}, "steps.menu.collect.max: must be 1 to 32"),
        (
            {"collect": {"into": "a b"}, "next": "end"},
            "steps.menu.collect.into: must be the name of a variable",
        ),
        ({"collect": {}, "next": "end"}, "steps.menu.collect.into: missing"),
        ({"collect": [], "next": "end"}, "steps.menu.collect: must be an object"),
        (
            {"collect": {"into": "a", "first_timeout": 0.1}, "next": "end"},
            "steps.menu.collect.first_timeout: must be 0.5 to 60 seconds",
        ),
        (
            {"collect": {"into": "a", "terminators": "##"}, "next": "end"},
            "steps.menu.collect.terminators: must be a text of keys",
        ),
        (
            {"collect": {"into": "a", "terminators": "x"}, "next": "end"},
            "steps.menu.collect.terminators: must be a text of keys",
        ),
        ({"collect": {"into": "a", "tries": 11}, "next": "end"}, "steps.menu.collect.tries: must be 1 to 10"),
        (
            {"collect": {"into": "a", "first_timout": 3}, "next": "end"},
            "steps.menu.collect.first_timout: no such field; did you mean first_timeout?",
        ),
        ({"collect": {"into": "a"}}, "steps.menu.next: missing"),
        (
            {"collect": {"into": "a"}, "next": "ende"},
            "steps.menu.next: there is no step ende; did you mean end?",
        ),
        (
            {"collect": {"into": "a"}, "next": "end", "otherwise": "nowhere"},
            "steps.menu.otherwise: there is no step nowhere",
        ),
        ({"play": {"prompts": []}, "next": "end"}, "steps.menu.play.prompts: must be the name of a prompt"),
        (
            {"play": {"prompts": ["hello", "helo"]}, "next": "end"},
            "steps.menu.play.prompts[1]: there is no prompt helo; did you mean hello?",
        ),
        (
            {"play": {"prompts": "../x"}, "next": "end"},
            "steps.menu.play.prompts: no prompt can have this name",
        ),
        (
            {"play": {"prompts": "hello", "interruptible": "no"}, "next": "end"},
            "steps.menu.play.interruptible: must be true or false",
        ),
        ({"say": {"text": ""}, "next": "end"}, "steps.menu.say.text: must be a text of 1 to 1000"),
        ({"say": {"text": "x" * 1001}, "next": "end"}, "steps.menu.say.text: must be a text of 1 to 1000"),
        ({"say": {"text": "a { b"}, "next": "end"}, "steps.menu.say.text: a { stands alone; {{ is a brace"),
        ({"say": {"text": "{a b}"}, "next": "end"}, "steps.menu.say.text: {a b}: a value is named"),
        (
            {"say": {"text": "{call.last5}"}, "next": "end"},
            "steps.menu.say.text: {call.last5}: every call has",
        ),
        ({"set": {"into": "a", "value": 1}, "next": "end"}, "steps.menu.set.value: must be a text"),
        (
            {"branch": {"on": "{a}", "cases": []}, "otherwise": "end"},
            "steps.menu.branch.cases: must be a list of 1 to 50 cases",
        ),
        (
            {"branch": {"on": "{a}", "cases": [{"equals": "1", "next": "end"}]}},
            "steps.menu.otherwise: missing",
        ),
        (
            {"branch": {"on": "{a}", "cases": [{"next": "end"}]}, "otherwise": "end"},
            "steps.menu.branch.cases[0]: needs exactly one of equals, one_of, prefix, present",
        ),
        (
            {"branch": {"on": "{a}", "cases": [{"present": False, "next": "end"}]}, "otherwise": "end"},
            "steps.menu.branch.cases[0].present: must be true",
        ),
        (
            {"branch": {"on": "{a}", "cases": [{"one_of": ["1", 2], "next": "end"}]}, "otherwise": "end"},
            "steps.menu.branch.cases[0].one_of[1]: must be a text",
        ),
        (
            {"branch": {"on": "{a}", "cases": [{"prefix": "1", "next": "x"}]}, "otherwise": "end"},
            "steps.menu.branch.cases[0].next: there is no step x",
        ),
        ({"hangup": {"cause": 128}}, "steps.menu.hangup.cause: must be 1 to 127"),
        ({"hangup": {}, "next": "end"}, "steps.menu.next: no such field"),
        ({"transfer": {"target": "reception"}}, "steps.menu.transfer.target: must be a telephone number"),
        ({"transfer": {"target": "1", "mode": "blind"}}, "steps.menu.transfer.mode: must be refer or bridge"),
        ({"transfer": {"target": "1"}, "next": "end"}, "steps.menu.next: no such field"),
        ({"plai": {"prompts": "hello"}, "next": "end"}, "steps.menu: needs exactly one kind of play, say,"),
        ({"play": {"prompts": "hello"}, "hangup": {}}, "steps.menu: needs exactly one kind of play, say,"),
        ("end", "steps.menu: must be an object with the kind of the step"),
    ],
)
def test_a_problem_is_named_with_its_place(step: Any, problem: str) -> None:
    assert [text for text in problems(with_step("menu", step)) if text.startswith(problem)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"start": "helo"}, "start: there is no step helo; did you mean hello?"),
        ({"max_seconds": 3601}, "max_seconds: must be 1 to 3600 seconds"),
        ({"max_secs": 30}, "max_secs: no such field; did you mean max_seconds?"),
        ({"on_machine": "hang_up"}, 'on_machine: must be "hangup", "continue" or {"wait_for_beep": STEP}'),
        ({"on_machine": {"wait_for_beep": "x"}}, "on_machine.wait_for_beep: there is no step x"),
        ({"on_machine": {}}, "on_machine.wait_for_beep: missing"),
        ({"on_machine": []}, "on_machine: must be"),
        ({"defaults": {"name": 1}}, "defaults.name: must be a text"),
        ({"defaults": []}, "defaults: must be an object"),
        ({"steps": {}}, "steps: must be an object of 1 to 200 steps"),
        ({"steps": None}, "steps: must be an object of 1 to 200 steps"),
        (
            {"steps": {str(n): {"hangup": {}} for n in range(201)}},
            "steps: must be an object of 1 to 200 steps",
        ),
        (
            {"steps": {"hello": {"hangup": {}}, "a b": {"hangup": {}}}},
            "steps.a b: a step's name has",
        ),
    ],
)
def test_a_problem_of_the_document_is_named(changes: dict[str, Any], problem: str) -> None:
    assert [text for text in problems(menu(**changes)) if text.startswith(problem)]


def test_the_start_is_needed() -> None:
    document = menu()
    del document["start"]
    assert "start: missing" in problems(document)


def test_every_problem_is_listed_at_once() -> None:
    document = menu(max_seconds=0, colour="red")
    document["steps"]["hello"]["next"] = "nowhere"
    document["steps"]["menu"]["collect"]["max"] = 99
    found = problems(document, prompts=set())
    for place in (
        "max_seconds",
        "colour",
        "steps.hello.next",
        "steps.hello.play.prompts",
        "steps.menu.collect.max",
        "steps.menu.collect.prompts[0]",
    ):
        assert [text for text in found if text.startswith(f"{place}:")], place


def test_a_step_to_which_no_way_leads_is_refused() -> None:
    assert problems(with_step("lost", {"hangup": {}})) == ["steps.lost: no way leads to this step"]


def test_a_step_that_only_the_beep_leads_to_is_reached() -> None:
    document = with_step("message", {"play": {"prompts": "hello"}, "next": "end"})
    checked = flow.check(
        document | {"on_machine": {"wait_for_beep": "message"}}, prompts={"hello", "menu"}, can_say=False
    )
    assert checked.after_beep == "message"


LOOPS: list[dict[str, Any]] = [
    {"a": {"play": {"prompts": "hello"}, "next": "a"}},
    {"a": {"set": {"into": "x", "value": "1"}, "next": "b"}, "b": {"say": {"text": "x"}, "next": "a"}},
    {
        "a": {"branch": {"on": "{x}", "cases": [{"present": True, "next": "b"}]}, "otherwise": "a"},
        "b": {"hangup": {}},
    },
    {"a": {"transfer": {"target": "1"}, "otherwise": "b"}, "b": {"play": {"prompts": "hello"}, "next": "a"}},
    {  # the ways into and out of the loop are not part of it
        "a": {"collect": {"into": "x"}, "next": "b", "otherwise": "c"},
        "b": {"play": {"prompts": "hello"}, "next": "d", "otherwise": "c"},
        "c": {"hangup": {}},
        "d": {"play": {"prompts": "hello"}, "next": "b"},
    },
]


@pytest.mark.parametrize("steps", LOOPS)
def test_a_loop_that_never_asks_is_refused(steps: dict[str, Any]) -> None:
    (found,) = problems({"start": "a", "steps": steps})
    assert found.endswith("goes round without a collect")


def test_a_loop_with_a_collect_is_a_menu() -> None:
    document = menu()
    document["steps"]["menu"]["otherwise"] = "hello"
    assert flow.check(document, prompts={"hello", "menu"}, can_say=False)


def test_a_text_to_say_needs_a_voice() -> None:
    document = with_step("menu", {"say": {"text": "hello {name|you}"}, "next": "end"})
    (found,) = problems(document, can_say=False)
    assert found.startswith("steps.menu.say.text: needs a voice")
    assert "espeak-ng" in found
    assert flow.check(document, prompts={"hello"}, can_say=True).says


def test_a_document_that_is_too_large_or_no_json_is_refused() -> None:
    big = with_step("menu", {"say": {"text": "x" * 1000}, "next": "end"}) | {"x": "y" * 65536}
    assert "at most 65536" in problems(big)[0]
    assert "what JSON cannot" in problems(menu(max_seconds=float("nan")))[0]
    assert "what JSON cannot" in problems(with_step("menu", {"say": {"text": "\ud800"}, "next": "end"}))[0]
    assert problems([]) == ["the document must be an object with start and steps"]


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        (b"{", "f.json", "f.json: Expecting"),
        (b'{"a": 1, "a": 2}', "f.json", "f.json: a key occurs twice"),
        (b"a = ", "f.toml", "f.toml: "),
        (b"\xff", "f.toml", "f.toml: not UTF-8 at byte 0"),
        (b"[" * 5000, "f.json", "f.json: nested too deep"),
        (b"a = " + b"[" * 5000, "f.toml", "f.toml: nested too deep"),
        (b" " * 65537, "f.json", "f.json: 65537 bytes; a flow has at most 65536"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(data: bytes, name: str, problem: str) -> None:
    with pytest.raises(FlowError) as caught:
        flow.read_document(data, name)
    assert str(caught.value).startswith(problem)


def test_toml_and_json_are_two_ways_to_write_one_document() -> None:
    document = read("reminder.toml")
    assert flow.read_document(json.dumps(document).encode(), "reminder.json") == document


@pytest.mark.parametrize("name", ["", "x" * 65, " a", "a ", "a\nb", "a\x00"])
def test_a_flow_name_that_no_device_sign_could_be_is_refused(name: str) -> None:
    with pytest.raises(FlowError):
        flow.check_flow_name(name)


def test_names_of_flows_and_prompts() -> None:
    assert flow.check_flow_name("70941") == "70941"
    assert flow.check_flow_name("Erinnerung früh") == "Erinnerung früh"
    assert flow.check_prompt_name("day_1.v2-b") == "day_1.v2-b"
    for name in ("", ".x", "-x", "a/b", "ä", "x" * 65, "a b", "a\n"):
        with pytest.raises(FlowError):
            flow.check_prompt_name(name)


def test_the_schema_has_every_field_of_the_table() -> None:
    schema = flow.json_schema()
    assert set(schema["properties"]) == {*TOP, "steps"}
    kinds = {kind["title"]: kind for kind in schema["properties"]["steps"]["additionalProperties"]["oneOf"]}
    assert set(kinds) == set(KINDS)
    for name, kind in KINDS.items():
        assert set(kinds[name]["properties"]) == {name, *kind.beside}
        assert set(kinds[name]["properties"][name]["properties"]) == set(kind.fields)
