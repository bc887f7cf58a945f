"""What a field of a flow's document may hold: one class a kind, for the checker and for the JSON schema."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outdial.flow.template import BadTemplate, Template, parse
from outdial.flow.words import KEYS

PROMPT_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
STEP_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"
VARIABLE_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
TARGET: Final = r"\+?[0-9*#]{1,32}"

MAX_TEXT: Final = 1000
"""Characters of a text or a value in the document."""

MAX_ITEMS: Final = 50
"""Cases of a branch, prompts of one step, variables of one set."""


class FlowError(Exception):
    """A flow, a name or a document is refused. `problems` holds every one of them, each with its place."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def check_prompt_name(name: str) -> str:
    """The name, when a prompt may have it. Raises `FlowError`."""
    if not re.fullmatch(PROMPT_NAME, name):
        raise FlowError(
            "the name of a prompt has 1 to 64 ASCII letters, digits, _ . - and begins without . or -"
        )
    return name


@dataclass
class Findings:
    """What the checker was told and what it found."""

    known_prompts: Collection[str] | None
    can_say: bool
    steps: Collection[str] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    prompts: set[str] = field(default_factory=set)
    says: bool = False

    def problem(self, place: str, text: str) -> None:
        """Note that something at `place` is wrong."""
        self.problems.append(f"{place}: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of an object. `default` holds for one that is not there and not `needed`."""

    needed: bool = False
    default: Any = None

    def read(self, found: Findings, place: str, value: Any) -> Any:
        """The value as a word of the flow; what is wrong is noted, and the answer is then None."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """The field in JSON Schema."""
        raise NotImplementedError


def read_fields(
    found: Findings, place: str, value: Any, fields: Mapping[str, Field], *, also: Collection[str] = ()
) -> dict[str, Any] | None:
    """The fields of an object, or None when one is wrong. `also` names what others read of it."""
    if not isinstance(value, dict):
        found.problem(place, "must be an object")
        return None
    before = len(found.problems)
    for name in sorted(value.keys() - fields.keys() - set(also)):
        found.problem(inside(place, name), f"no such field{near(name, [*fields, *also])}")
    read: dict[str, Any] = {}
    for name, rule in fields.items():
        if name in value:
            read[name] = rule.read(found, inside(place, name), value[name])
        elif rule.needed:
            found.problem(inside(place, name), "missing")
        else:
            read[name] = rule.default
    return read if len(found.problems) == before else None


def object_schema(fields: Mapping[str, Field]) -> dict[str, Any]:
    """An object of these fields and no others, in JSON Schema."""
    return {
        "type": "object",
        "properties": {name: rule.schema() | _default(rule.default) for name, rule in fields.items()},
        "required": [name for name, rule in fields.items() if rule.needed],
        "additionalProperties": False,
    }


def _default(value: Any) -> dict[str, Any]:
    return {"default": value} if isinstance(value, str | int | float) else {}


def inside(place: str, name: str) -> str:
    """The place of a field."""
    shown = name if len(name) <= 64 and name.isprintable() else repr(name[:64])
    return f"{place}.{shown}" if place else shown


def near(name: str, known: Collection[str]) -> str:
    """A hint for a name that is not known."""
    if close := difflib.get_close_matches(name[:64], sorted(known), 1):
        return f"; did you mean {close[0]}?"
    return f"; one of {', '.join(known)}" if 0 < len(known) < 10 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Field):
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def read(self, found: Findings, place: str, value: Any) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return value
        found.problem(place, f"must be {self.low} to {self.high}, a whole number")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds(Field):
    """A time from `low` to `high` seconds."""

    low: float
    high: float

    def read(self, found: Findings, place: str, value: Any) -> float | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and self.low <= value <= self.high:
            return float(value)
        found.problem(place, f"must be {self.low:g} to {self.high:g} seconds")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


class Flag(Field):
    """Yes or no."""

    def read(self, found: Findings, place: str, value: Any) -> bool | None:
        if isinstance(value, bool):
            return value
        found.problem(place, "must be true or false")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Field):
    """One of some words."""

    words: tuple[str, ...]

    def read(self, found: Findings, place: str, value: Any) -> str | None:
        if isinstance(value, str) and value in self.words:
            return value
        found.problem(place, f"must be {' or '.join(self.words)}")
        return None

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


class Keys(Field):
    """Keys of a telephone, each once; none is an empty text."""

    def read(self, found: Findings, place: str, value: Any) -> str | None:
        if isinstance(value, str) and set(value) <= set(KEYS) and len(set(value)) == len(value):
            return value
        found.problem(place, f"must be a text of keys, each once: {KEYS}")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^[{KEYS}]*$"}


class StepName(Field):
    """The name of a step that is there."""

    def read(self, found: Findings, place: str, value: Any) -> str | None:
        if isinstance(value, str) and value in found.steps:
            return value
        wrong = f"there is no step {value}{near(value, found.steps)}" if isinstance(value, str) else None
        found.problem(place, wrong or "must be the name of a step")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{STEP_NAME}$"}


class VariableName(Field):
    """The name of a variable."""

    def read(self, found: Findings, place: str, value: Any) -> str | None:
        if isinstance(value, str) and re.fullmatch(VARIABLE_NAME, value):
            return value
        found.problem(place, "must be the name of a variable: ASCII letters, digits and _, at most 64")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{VARIABLE_NAME}$"}


class Text(Field):
    """A text with values in it."""

    def read(self, found: Findings, place: str, value: Any) -> Template | None:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
            found.problem(place, f"must be a text of 1 to {MAX_TEXT} characters")
            return None
        try:
            return self.judge(found, place, parse(value, found.defaults))
        except BadTemplate as error:
            found.problem(place, str(error))
            return None

    def judge(self, found: Findings, place: str, template: Template) -> Template:
        """What more is asked of the text."""
        return template

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}


class Speech(Text):
    """A text that a voice says."""

    def judge(self, found: Findings, place: str, template: Template) -> Template:
        found.says = True
        if not found.can_say:
            found.problem(
                place, "needs a voice, and the engine has none: install espeak-ng, or play a prompt"
            )
        return template


class Target(Text):
    """A telephone number."""

    def judge(self, found: Findings, place: str, template: Template) -> Template:
        number = template.by_defaults()
        if number is not None and not is_target(number):
            found.problem(
                place, "must be a telephone number: digits, * and #, at most 32, + in front allowed"
            )
        return template


def is_target(number: str) -> bool:
    """Whether a transfer may go there."""
    return re.fullmatch(TARGET, number, re.ASCII) is not None


class Value(Text):
    """A value of a variable; it may be empty."""

    def read(self, found: Findings, place: str, value: Any) -> Template | None:
        return Template(()) if value == "" else Text.read(self, found, place, value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": MAX_TEXT}


class Prompt(Text):
    """The name of a prompt; one that can be known must be there."""

    def judge(self, found: Findings, place: str, template: Template) -> Template:
        name = template.by_defaults()
        if name is None:
            return template
        if not re.fullmatch(PROMPT_NAME, name):
            found.problem(place, "no prompt can have this name: ASCII letters, digits, _ . - up to 64")
        elif found.known_prompts is not None and name not in found.known_prompts:
            found.problem(place, f"there is no prompt {name}{near(name, found.known_prompts)}")
        else:
            found.prompts.add(name)
        return template


class Prompts(Field):
    """The name of one prompt, or a list of names."""

    def read(self, found: Findings, place: str, value: Any) -> tuple[Template, ...] | None:
        if isinstance(value, str):
            one = Prompt().read(found, place, value)
            return (one,) if one is not None else None
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
            found.problem(place, f"must be the name of a prompt, or a list of 1 to {MAX_ITEMS} names")
            return None
        read = [Prompt().read(found, f"{place}[{n}]", item) for n, item in enumerate(value)]
        return tuple(template for template in read if template is not None)

    def schema(self) -> dict[str, Any]:
        one = Prompt().schema()
        return {"oneOf": [one, {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": one}]}


class Literal(Field):
    """A text that is compared as it stands."""

    def read(self, found: Findings, place: str, value: Any) -> str | None:
        if isinstance(value, str) and 1 <= len(value) <= MAX_TEXT:
            return value
        found.problem(place, f"must be a text of 1 to {MAX_TEXT} characters")
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}


class Literals(Field):
    """Several of them."""

    def read(self, found: Findings, place: str, value: Any) -> tuple[str, ...] | None:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
            found.problem(place, f"must be a list of 1 to {MAX_ITEMS} texts")
            return None
        return tuple(Literal().read(found, f"{place}[{n}]", item) or "" for n, item in enumerate(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": Literal().schema()}


class Defaults(Field):
    """Values for uses that have no default of their own, by name."""

    def read(self, found: Findings, place: str, value: Any) -> dict[str, str] | None:
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            found.problem(place, f"must be an object of at most {MAX_ITEMS} texts by name")
            return None
        rule = Literal()
        read = {name: rule.read(found, inside(place, name), text) for name, text in value.items()}
        return {name: text for name, text in read.items() if text is not None}

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "maxProperties": MAX_ITEMS,
            "additionalProperties": Literal().schema(),
        }
