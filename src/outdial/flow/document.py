"""A flow's document: the kinds of steps as a table, and `check`, which makes a `Flow` of a document.

A step is an object with exactly one kind, and beside it `next` and `otherwise` where its kind takes them:
`{"play": {"prompts": "hello"}, "next": "menu"}`. The table says all of it once, for the checker and for
the JSON schema.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from outdial import jsontext
from outdial.flow import graph
from outdial.flow.fields import (
    MAX_ITEMS,
    STEP_NAME,
    Choice,
    Defaults,
    Field,
    Findings,
    Flag,
    FlowError,
    Keys,
    Literal,
    Literals,
    Prompts,
    Seconds,
    Speech,
    StepName,
    Target,
    Text,
    Value,
    VariableName,
    Whole,
    inside,
    near,
    object_schema,
    read_fields,
)
from outdial.flow.words import (
    NORMAL_CLEARING,
    BranchStep,
    Case,
    CollectStep,
    Flow,
    HangupStep,
    OnMachine,
    PlayStep,
    SayStep,
    SetStep,
    Step,
    TransferMode,
    TransferStep,
)

MAX_BYTES: Final = 64 * 1024
"""Bytes of a document, as JSON in UTF-8."""

MAX_STEPS: Final = 200

MAX_FLOW_NAME: Final = 64
"""Characters, like the `deviceSign` that names the flow."""

DEFAULT_FLOW: Final = "default"
"""The flow of campaigns that name none."""


_STEP: Final = StepName()
_NEEDED_STEP: Final = StepName(needed=True)
_INTO: Final = VariableName(needed=True)


class _Cases(Field):
    """The ways out of a branch, tried in order."""

    TESTS: Final[Mapping[str, Field]] = {
        "equals": Literal(),
        "one_of": Literals(),
        "prefix": Literal(),
        "present": Flag(),
    }

    def read(self, found: Findings, place: str, value: Any) -> tuple[Case, ...] | None:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
            found.problem(place, f"must be a list of 1 to {MAX_ITEMS} cases")
            return None
        cases = [self._case(found, f"{place}[{n}]", item) for n, item in enumerate(value)]
        return tuple(case for case in cases if case is not None)

    def _case(self, found: Findings, place: str, value: Any) -> Case | None:
        read = read_fields(found, place, value, {**self.TESTS, "next": _NEEDED_STEP})
        if read is None:
            return None
        given = [test for test in self.TESTS if test in value]
        if len(given) != 1:
            found.problem(place, f"needs exactly one of {', '.join(self.TESTS)}")
        elif value.get("present") is False:
            found.problem(f"{place}.present", "must be true; `otherwise` is for a value that is not there")
        equals, one_of = read["equals"], read["one_of"]
        return Case(read["next"], (equals,) if equals is not None else one_of, read["prefix"])

    def schema(self) -> dict[str, Any]:
        one = object_schema({**self.TESTS, "next": _NEEDED_STEP})
        one["properties"]["present"] = {"const": True}
        one["oneOf"] = [{"required": [test]} for test in self.TESTS]
        return {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": one}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of step: its fields, what stands beside them, and the word it becomes."""

    meaning: str
    make: Callable[..., Step]
    fields: Mapping[str, Field]
    beside: Mapping[str, Field]


_INTO_NEXT: Final = {"next": _NEEDED_STEP, "otherwise": _STEP}
_PROMPTS: Final = Prompts(needed=True)
_INTERRUPTIBLE: Final = Flag(default=True)
_VALUE: Final = Value(needed=True)

KINDS: Final[Mapping[str, _Kind]] = {
    "play": _Kind(
        "Play prompts, one after the other.",
        PlayStep,
        {"prompts": _PROMPTS, "interruptible": _INTERRUPTIBLE},
        _INTO_NEXT,
    ),
    "say": _Kind(
        "Speak a text.", SayStep, {"text": Speech(needed=True), "interruptible": _INTERRUPTIBLE}, _INTO_NEXT
    ),
    "collect": _Kind(
        "Take keys into a variable.",
        CollectStep,
        {
            "into": _INTO,
            "max": Whole(low=1, high=32, default=1),
            "first_timeout": Seconds(low=0.5, high=60, default=5.0),
            "next_timeout": Seconds(low=0.5, high=60, default=3.0),
            "terminators": Keys(default="#"),
            "tries": Whole(low=1, high=10, default=3),
            "prompts": Prompts(default=()),
        },
        _INTO_NEXT,
    ),
    "branch": _Kind(
        "Go on by a value: the first case that holds, else `otherwise`.",
        BranchStep,
        {"on": Text(needed=True), "cases": _Cases(needed=True)},
        {"otherwise": _NEEDED_STEP},
    ),
    "set": _Kind(
        "Give a variable a value.",
        SetStep,
        {"into": _INTO, "value": _VALUE},
        _INTO_NEXT,
    ),
    "hangup": _Kind(
        "End the call.", HangupStep, {"cause": Whole(low=1, high=127, default=NORMAL_CLEARING)}, {}
    ),
    "transfer": _Kind(
        "Hand the call over to a number.",
        lambda target, mode, otherwise: TransferStep(target, TransferMode(mode), otherwise),
        {"target": Target(needed=True), "mode": Choice(words=tuple(TransferMode), default="refer")},
        {"otherwise": _STEP},
    ),
}
"""Every kind of step."""


class _OnMachine(Field):
    """What an answering machine gets."""

    def read(self, found: Findings, place: str, value: Any) -> tuple[OnMachine, str | None] | None:
        if isinstance(value, dict):
            read = read_fields(found, place, value, {OnMachine.WAIT_FOR_BEEP.value: _NEEDED_STEP})
            return (OnMachine.WAIT_FOR_BEEP, read[OnMachine.WAIT_FOR_BEEP.value]) if read else None
        if value in (OnMachine.HANGUP, OnMachine.CONTINUE):
            return OnMachine(value), None
        found.problem(place, 'must be "hangup", "continue" or {"wait_for_beep": STEP}')
        return None

    def schema(self) -> dict[str, Any]:
        waits = object_schema({OnMachine.WAIT_FOR_BEEP.value: _NEEDED_STEP})
        return {"oneOf": [{"enum": [OnMachine.HANGUP.value, OnMachine.CONTINUE.value]}, waits]}


TOP: Final[Mapping[str, Field]] = {
    "start": _NEEDED_STEP,
    "max_seconds": Seconds(low=1, high=3600, default=600.0),
    "on_machine": _OnMachine(default=(OnMachine.CONTINUE, None)),
    "defaults": Defaults(default={}),
}
"""The fields of the document beside `steps`."""


def read_document(data: bytes, name: str) -> Any:
    """The document of a file: TOML when its name ends so, else JSON. Raises `FlowError`."""
    if len(data) > MAX_BYTES:
        raise FlowError(f"{name}: {len(data)} bytes; a flow has at most {MAX_BYTES}")
    try:
        if name.lower().endswith(".toml"):
            return tomllib.loads(data.decode("utf-8"))
        return jsontext.decode(data)
    except (jsontext.NotJson, tomllib.TOMLDecodeError) as error:
        raise FlowError(f"{name}: {error}") from error
    except UnicodeDecodeError as error:
        raise FlowError(f"{name}: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise FlowError(f"{name}: nested too deep") from error


def document_text(document: Any) -> str:
    """The document as it is stored: JSON on one line. Raises `FlowError` for what JSON cannot hold."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        size = len(text.encode("utf-8"))
    except (TypeError, ValueError, RecursionError) as error:
        raise FlowError(
            "the document holds what JSON cannot: a date or time, nan, inf, or a lone surrogate"
        ) from error
    if size > MAX_BYTES:
        raise FlowError(f"the document has {size} bytes as JSON; at most {MAX_BYTES}")
    return text


def check(document: Any, *, prompts: Collection[str] | None, can_say: bool) -> Flow:
    """The document as a flow.

    `prompts` are those of the VDN (None: not judged); `can_say`: the engine has a voice. Raises `FlowError`
    with every problem and its place, like `steps.menu.collect.max: must be 1 to 32`.
    """
    document_text(document)
    if not isinstance(document, dict):
        raise FlowError("the document must be an object with start and steps")
    found = Findings(prompts, can_say)
    found.steps = _names(found, document.get("steps"))
    found.defaults = Defaults().read(Findings((), True), "", document.get("defaults", {})) or {}
    top = read_fields(found, "", document, TOP, also=("steps",))
    steps = {name: _step(found, inside("steps", name), document["steps"][name]) for name in found.steps}
    whole = {name: step for name, step in steps.items() if step is not None}
    if top is None or found.problems:
        raise FlowError(*found.problems)
    on_machine, after_beep = top["on_machine"]
    entries = [top["start"], *([after_beep] if after_beep else [])]
    if wrong := [*graph.unreachable(whole, entries), *graph.endless(whole)]:
        raise FlowError(*wrong)
    return Flow(
        top["start"], whole, top["max_seconds"], on_machine, after_beep, frozenset(found.prompts), found.says
    )


def _names(found: Findings, value: Any) -> list[str]:
    """The names of the steps."""
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_STEPS:
        found.problem("steps", f"must be an object of 1 to {MAX_STEPS} steps by name")
        return []
    for name in value:
        if not re.fullmatch(STEP_NAME, name):
            found.problem(inside("steps", name), "a step's name has 1 to 64 ASCII letters, digits, _ and -")
    return list(value)


def _step(found: Findings, place: str, body: Any) -> Step | None:
    if not isinstance(body, dict):
        found.problem(place, "must be an object with the kind of the step")
        return None
    given = [kind for kind in KINDS if kind in body]
    if len(given) != 1:
        found.problem(place, f"needs exactly one kind of {', '.join(KINDS)}{_meant(body)}")
        return None
    kind = KINDS[given[0]]
    fields = read_fields(found, f"{place}.{given[0]}", body[given[0]], kind.fields)
    beside = read_fields(found, place, body, kind.beside, also=given)
    return kind.make(**fields, **beside) if fields is not None and beside is not None else None


WITHOUT_FLOW: Final = check(
    {
        "start": "hold",
        "steps": {
            "hold": {
                "collect": {"into": "key", "first_timeout": 1, "tries": 1},
                "next": "end",
                "otherwise": "end",
            },
            "end": {"hangup": {}},
        },
    },
    prompts=(),
    can_say=False,
)
"""What a campaign that names no flow does where there is none named `default`: a second, then the end."""


def _meant(body: Mapping[str, Any]) -> str:
    hints = (near(name, list(KINDS)) for name in body if name not in ("next", "otherwise", *KINDS))
    return next((hint for hint in hints if "mean" in hint), "")


def check_flow_name(name: str) -> str:
    """The name, when a flow may have it. Raises `FlowError`."""
    if not 1 <= len(name) <= MAX_FLOW_NAME or not name.isprintable() or name != name.strip():
        raise FlowError(
            f"the name of a flow has 1 to {MAX_FLOW_NAME} printable characters and no space at its ends"
        )
    return name


def json_schema() -> dict[str, Any]:
    """The form of a document in JSON Schema 2020-12; `check` asks more than it can say."""
    steps = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_STEPS,
        "propertyNames": {"pattern": f"^{STEP_NAME}$"},
        "additionalProperties": {"oneOf": [_kind_schema(name, kind) for name, kind in KINDS.items()]},
    }
    whole = object_schema(TOP)
    whole["properties"]["steps"] = steps
    whole["required"].append("steps")
    said = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A call flow of outdial"}
    return said | whole


def _kind_schema(name: str, kind: _Kind) -> dict[str, Any]:
    step = object_schema(kind.beside)
    step["properties"] = {name: object_schema(kind.fields), **step["properties"]}
    step["required"].insert(0, name)
    return {"title": name, "description": kind.meaning} | step
