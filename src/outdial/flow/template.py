"""Texts with values in them, and the values of a call.

`{name}` is a value, `{name|default}` one with a default, `{{` and `}}` are braces. A value that is empty
counts as missing, as in the contract.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from outdial import jsontext

BUILT_IN: Final = ("call.last4", "call.campaign", "call.session")
"""Values that every call has (the session only where its number was added with one)."""

MAX_VALUE: Final = 1024
"""Characters of one value; more are cut, so that no loop lets a variable grow."""

_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\s{}|.]+(?:\.[^\s{}|.]+)*")


class NoValue(Exception):
    """A value is missing and has no default; `name` is its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no value for {{{name}}}")


class BadTemplate(ValueError):
    """The text cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Use:
    """A place in a text where a value goes; `default` None: there must be one."""

    name: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Template:
    """A text, in parts."""

    parts: tuple[str | Use, ...]

    def render(self, values: Mapping[str, str]) -> str:
        """The text with these values. Raises `NoValue`."""
        return "".join(part if isinstance(part, str) else _value(part, values) for part in self.parts)

    def by_defaults(self) -> str | None:
        """The text of a call that has no values, or None when it needs one."""
        try:
            return self.render({})
        except NoValue:
            return None

    @property
    def literal(self) -> bool:
        """Whether no value goes into it."""
        return all(isinstance(part, str) for part in self.parts)


def _value(use: Use, values: Mapping[str, str]) -> str:
    found = values.get(use.name) or use.default
    if found is None:
        raise NoValue(use.name)
    return found


def parse(text: str, defaults: Mapping[str, str]) -> Template:
    """Read a text; `defaults` are those of the flow. Raises `BadTemplate`."""
    parts: list[str | Use] = []
    end = 0
    for match in _PLACE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        parts.append(match[0][0] if match[0] in ("{{", "}}") else _use(match, defaults))
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part))


def _use(match: re.Match[str], defaults: Mapping[str, str]) -> Use:
    if match[1] is None:
        raise BadTemplate(f"a {match[0]} stands alone; {match[0] * 2} is a brace")
    name, bar, default = match[1].partition("|")
    if not _NAME.fullmatch(name) or len(name) > 64:
        raise BadTemplate(f"{{{match[1]}}}: a value is named {{name}}, {{outer.inner}} or {{name|default}}")
    if name.startswith("call.") and name not in BUILT_IN:
        raise BadTemplate(f"{{{name}}}: every call has {', '.join(BUILT_IN)}, and nothing else under call")
    return Use(name, default if bar else defaults.get(name))


def values_of(
    call_data: str | None, *, called: str, campaign_id: int, session_id: str | None
) -> dict[str, str]:
    """The values of one call: its call data (JSON text of an object; anything else has none) and `BUILT_IN`.

    What is nested is named with dots, items of a list by their position from 0.
    """
    data = jsontext.object_of(call_data) if call_data else None
    values = {name: text for name, text in _flat(data or {}).items() if not name.startswith("call.")}
    values |= {"call.last4": called[-4:], "call.campaign": str(campaign_id), "call.session": session_id or ""}
    return values


def _flat(data: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = list(data.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{inner}", item) for inner, item in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{name}.{position}", item) for position, item in enumerate(value)]
        else:
            found[name] = _text(value)[:MAX_VALUE]
    return found


def _text(value: str | float | bool | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return str(value)
