"""The JSON Schema of field rules and of the objects and lists that they make up (JSON Schema 2020-12).

A schema says what one value may be. What holds between fields stands in the description of the operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from outdial.errors import Code
from outdial.model import SpecialDateKind
from outdial.wire.fields import ClockTime, Integer, LocalDay, LocalTime, OneOf, Positive, QueryInteger, Text
from outdial.wire.special_dates import Day

Rule: TypeAlias = Text | Integer | Positive | OneOf | LocalTime | LocalDay | ClockTime | QueryInteger | Day
"""A field rule; a test fails for a kind of rule in `wire/` that is not one of these."""

ABSENT = {"$ref": "#/components/schemas/Absent"}

_MONTH_AND_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = f"(?:{_YEAR}-{_MONTH_AND_DAY}|{_LEAP}-02-29)"
_HOUR = "(?:[01][0-9]|2[0-3])"
_DAYS = {SpecialDateKind.DATES: _DATE, SpecialDateKind.YEARLY: f"(?:{_MONTH_AND_DAY}|02-29)"}


@dataclass(frozen=True, slots=True)
class DayOf:
    """A `Day` of a special date of this kind, whose form depends on it."""

    day: Day
    kind: SpecialDateKind

    @property
    def name(self) -> str:
        """The field's name."""
        return self.day.name


@dataclass(frozen=True, slots=True)
class Digits:
    """A string of so many ASCII digits, in a list (02000006, 02000007)."""

    length: int


@dataclass(frozen=True, slots=True)
class NotServed:
    """A documented field that must be absent as yet."""

    name: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of `low` to `high` items."""

    item: Shape
    low: int
    high: int
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class JsonText:
    """A string that holds JSON of a shape; what `rule` says of the string holds too."""

    rule: Text
    holds: Shape


@dataclass(frozen=True, slots=True)
class Named:
    """A field that holds an object, a list or JSON text."""

    name: str
    of: Object | ListOf | JsonText | Either
    mandatory: bool = False


@dataclass(frozen=True, slots=True)
class Object:
    """An object of these fields; others are not looked at."""

    fields: tuple[Rule | DayOf | NotServed | Named, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several shapes."""

    shapes: tuple[Object | ListOf, ...]


Shape: TypeAlias = "Rule | DayOf | Digits | NotServed | ListOf | JsonText | Object | Either"


class UnknownRule(TypeError):
    """A kind of rule that has no JSON Schema yet: `shapes.py` must learn it."""


def mandatory(rule: Any) -> Any:
    """The rule, for a body in which its field must be there."""
    return replace(rule, mandatory=True)


def schema(shape: Shape) -> dict[str, Any]:  # noqa: PLR0911  one line for each kind
    """The JSON Schema. Raises `UnknownRule`."""
    match shape:
        case NotServed():
            return ABSENT
        case Object():
            return _object(shape)
        case Either():
            return {"anyOf": [schema(one) for one in shape.shapes]}
        case ListOf():
            return _list(shape)
        case JsonText():
            text = value(shape.rule)
            return text | {"contentMediaType": "application/json", "contentSchema": schema(shape.holds)}
        case DayOf() | Day() | Digits():
            return value(shape)
        case _:
            return value(shape) if getattr(shape, "mandatory", False) else optional(value(shape))


def optional(given: dict[str, Any]) -> dict[str, Any]:
    """What is given, or what counts as absent."""
    return {"anyOf": [given, ABSENT]}


def _list(shape: ListOf) -> dict[str, Any]:
    found = {"type": "array", "items": schema(shape.item), "minItems": shape.low, "maxItems": shape.high}
    return found | {"uniqueItems": True} if shape.distinct else found


def _object(shape: Object) -> dict[str, Any]:
    properties = {}
    for field in shape.fields:
        if isinstance(field, Named):
            found = schema(field.of)
            properties[field.name] = found if field.mandatory else optional(found)
        else:
            properties[field.name] = schema(field)
    found = {"type": "object", "properties": properties}
    needed = [field.name for field in shape.fields if _is_mandatory(field)]
    return found | {"required": needed} if needed else found


def _is_mandatory(field: Any) -> bool:
    return isinstance(field, DayOf | Day) or bool(getattr(field, "mandatory", False))


def value(rule: Any) -> dict[str, Any]:  # noqa: PLR0911  one line for each kind
    """What is accepted where the field is there. Raises `UnknownRule`."""
    match rule:
        case Text():
            return _text(rule)
        case Integer():
            return {"type": "integer", "minimum": rule.low, "maximum": rule.high}
        case Positive():
            return {"type": "number", "exclusiveMinimum": 0, "maximum": rule.high}
        case OneOf():
            kind = "integer" if type(rule.allowed[0]) is int else "string"
            return {"type": kind, "enum": list(rule.allowed)}
        case QueryInteger():
            return _query_integer(rule)
        case LocalTime():
            return {"type": "string", "pattern": f"^{_DATE} {_HOUR}:[0-5][0-9]:[0-5][0-9]$"}
        case LocalDay():
            return {"type": "string", "pattern": f"^{_DATE}$"}
        case ClockTime():
            ends = "|24:00" if rule.ends else ""
            return {"type": "string", "pattern": f"^(?:{_HOUR}:[0-5][0-9]{ends})$"}
        case DayOf():
            return {"type": "string", "pattern": f"^{_DAYS[rule.kind]}$"}
        case Digits():
            return {"type": "string", "pattern": f"^[0-9]{{{rule.length}}}$"}
        case Day():
            return {"type": "string", "pattern": f"^(?:{'|'.join(_DAYS.values())})$"}
    raise UnknownRule(f"no JSON Schema for {rule!r}")


def _text(rule: Text) -> dict[str, Any]:
    allowed = rule.forbidden[1:] if rule.forbidden.startswith("^") else f"^{rule.forbidden}"
    pattern = f"^[{re.sub(r'[{}]', _escaped, allowed)}]+$"
    return {"type": "string", "minLength": 1, "maxLength": rule.max_length, "pattern": pattern}


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _query_integer(rule: QueryInteger) -> dict[str, Any]:
    if rule.allowed is None:
        return {"type": "integer", "minimum": 1 - 10**18, "maximum": 10**18 - 1}
    if isinstance(rule.allowed, range):
        return {"type": "integer", "minimum": rule.allowed[0], "maximum": rule.allowed[-1]}
    return {"type": "integer", "enum": list(rule.allowed)}


# -- what a shape can refuse with ------------------------------------------------------------------------


def rules(shape: Any) -> Iterator[Any]:
    """Every rule in a shape."""
    match shape:
        case Object():
            for field in shape.fields:
                yield from rules(field)
        case Either():
            for one in shape.shapes:
                yield from rules(one)
        case ListOf():
            yield from rules(shape.item)
        case Named():
            yield from rules(shape.of)
        case JsonText():
            yield shape.rule
            yield from rules(shape.holds)
        case DayOf():
            yield shape.day
        case NotServed():
            return
        case _:
            yield shape


_OWN_CODES = {
    Text: {Code.TOO_LONG, Code.CHARACTERS},
    Integer: {Code.VALUE},
    Positive: {Code.VALUE},
    OneOf: {Code.VALUE},
    QueryInteger: {Code.VALUE},
    LocalTime: {Code.TIME_FORMAT},
    LocalDay: {Code.TIME_FORMAT},
    ClockTime: {Code.TIME_FORMAT},
    Digits: {Code.VALUE},
    Day: {Code.TIME_FORMAT, Code.EMPTY},
}


def codes(shape: Any) -> set[Code]:
    """The codes that the rules of a shape refuse with. Raises `UnknownRule`."""
    found = {Code.TYPE}
    for rule in rules(shape):
        if type(rule) not in _OWN_CODES:
            raise UnknownRule(f"no codes for {rule!r}")
        found |= _OWN_CODES[type(rule)]
        if getattr(rule, "mandatory", False):
            found.add(Code.EMPTY)
    return found
