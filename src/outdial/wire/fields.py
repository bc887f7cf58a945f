"""Field rules: a table per resource, judged in its order, with the exact codes (contract, Tables 3, 4, 7).

A field that is null or "" counts as absent. Per field: mandatory and absent 02000001, wrong type 02000006,
too long 02000003, forbidden character 02000002, and then what is its own. The detail names the place and
the rule, never the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import Any

from outdial import calendar
from outdial.errors import Code, Refusal

_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")

_QUERY_INTEGER = re.compile(r"-?[0-9]{1,18}")

RawObject = Mapping[str, Any]


def missing(where: str) -> Refusal:
    """A mandatory parameter is absent, null or empty."""
    return Refusal(Code.EMPTY, f"{where}: missing or empty")


def wrong_type(where: str, wanted: str) -> Refusal:
    """A parameter has another JSON type."""
    return Refusal(Code.TYPE, f"{where}: must be {wanted}")


def an_object(value: Any, where: str) -> RawObject:
    """The value, if it is an object. Raises `Refusal` 02000006."""
    if type(value) is not dict:
        raise wrong_type(where, "an object")
    return value


def an_object_at(raw: RawObject, name: str) -> RawObject:
    """The mandatory object of this name. Raises `Refusal` 02000001, 02000006."""
    value = raw.get(name)
    if value is None or value == "":
        raise missing(name)
    return an_object(value, name)


def not_served(raw: RawObject, name: str, place: str = "") -> None:
    """A field that this server does not serve yet must be absent. Raises `Refusal` 0200001."""
    if raw.get(name) not in (None, ""):
        raise Refusal(Code.PARAMETER, f"{place}{name}: not served yet; leave it out")


@dataclass(frozen=True, slots=True)
class Text:
    """A string. `forbidden` is a character class body; `of` says in words what is allowed."""

    name: str
    max_length: int
    forbidden: str = r"\x00"
    of: str = "anything but U+0000"
    mandatory: bool = False
    _good: Callable[[str], object] = field(init=False, repr=False, compare=False)
    _all_good: Callable[[str], object] = field(init=False, repr=False, compare=False)
    _bad: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        negated = self.forbidden[1:] if self.forbidden.startswith("^") else "^" + self.forbidden
        good = re.compile(f"[{negated}]{{1,{self.max_length}}}")
        in_a_line = f"{negated}\n" if negated.startswith("^") else negated
        line = f"[{in_a_line}]{{1,{self.max_length}}}"
        object.__setattr__(self, "_good", good.fullmatch)
        object.__setattr__(self, "_all_good", re.compile(f"{line}(?:\n{line})*").fullmatch)
        object.__setattr__(self, "_bad", re.compile(f"[{self.forbidden}]"))

    def read(self, raw: RawObject, place: str = "") -> str | None:
        """The string, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        if type(value) is str and self._good(value):
            return value
        if value is None or value == "":
            if self.mandatory:
                raise missing(place + self.name)
            return None
        raise self._fault(value, place + self.name)

    def column(self, rows: Sequence[RawObject]) -> list[str | None] | None:
        """`read` of each row, where one look at all their values finds no fault; else None: `read` judges.

        It takes half the time of `read` for one after the other.
        """
        values: list[Any] = [row.get(self.name) for row in rows]
        if values[0] is None:
            return values if not self.mandatory and values.count(None) == len(values) else None
        try:
            lines = "\n".join(values)
        except TypeError:  # not a string, or not in every row
            return None
        good = lines.count("\n") == len(values) - 1 and self._all_good(lines)
        return values if good else None

    def _fault(self, value: Any, where: str) -> Refusal:
        if type(value) is not str:
            return wrong_type(where, "a string")
        if len(value) > self.max_length:
            return Refusal(Code.TOO_LONG, f"{where}: longer than {self.max_length} characters")
        at = self._bad.search(value)
        place = f" at character {at.start() + 1}" if at else ""
        return Refusal(Code.CHARACTERS, f"{where}: forbidden character{place}; allowed: {self.of}")

    def required(self, raw: RawObject, place: str = "") -> str:
        """`read` of a mandatory field."""
        value = self.read(raw, place)
        assert value is not None, f"{self.name} is declared mandatory"
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """A JSON integer in `low` to `high` (02000007 outside)."""

    name: str
    low: int
    high: int
    mandatory: bool = False

    def read(self, raw: RawObject, place: str = "") -> int | None:
        """The integer, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        where = place + self.name
        if value is None or value == "":
            if self.mandatory:
                raise missing(where)
            return None
        if type(value) is not int:
            raise wrong_type(where, "an integer")
        if not self.low <= value <= self.high:
            raise Refusal(Code.VALUE, f"{where}: must be {self.low} to {self.high}")
        return value

    def required(self, raw: RawObject, place: str = "") -> int:
        """`read` of a mandatory field."""
        value = self.read(raw, place)
        assert value is not None, f"{self.name} is declared mandatory"
        return value


@dataclass(frozen=True, slots=True)
class Positive:
    """A JSON number above 0, up to `high` (02000007 outside)."""

    name: str
    high: float

    def read(self, raw: RawObject, place: str = "") -> float | None:
        """The number, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        where = place + self.name
        if value is None or value == "":
            return None
        if type(value) not in (int, float):
            raise wrong_type(where, "a number")
        if not 0 < value <= self.high:
            raise Refusal(Code.VALUE, f"{where}: must be more than 0, up to {self.high:g}")
        return float(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value out of a list, of the type of its members (02000006, then 02000007)."""

    name: str
    allowed: tuple[Any, ...]
    mandatory: bool = False

    def read(self, raw: RawObject, place: str = "") -> Any:
        """The value, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        where = place + self.name
        if value is None or value == "":
            if self.mandatory:
                raise missing(where)
            return None
        wanted = type(self.allowed[0])
        if type(value) is not wanted:
            raise wrong_type(where, "an integer" if wanted is int else "a string")
        if value not in self.allowed:
            raise Refusal(Code.VALUE, f"{where}: must be one of {', '.join(map(str, self.allowed))}")
        return value

    def required(self, raw: RawObject, place: str = "") -> Any:
        """`read` of a mandatory field."""
        return self.read(raw, place)


@dataclass(frozen=True, slots=True)
class LocalTime:
    """`yyyy-mm-dd hh:mm:ss` of a real moment (0200030), without a zone."""

    name: str
    mandatory: bool = False

    def read(self, raw: RawObject, place: str = "") -> datetime | None:
        """The naive time, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        where = place + self.name
        if value is None or value == "":
            if self.mandatory:
                raise missing(where)
            return None
        if type(value) is not str:
            raise wrong_type(where, "a string")
        return parse_time(value, where)

    def required(self, raw: RawObject, place: str = "") -> datetime:
        """`read` of a mandatory field."""
        value = self.read(raw, place)
        assert value is not None, f"{self.name} is declared mandatory"
        return value


def parse_time(text: str, where: str) -> datetime:
    """The naive time of `yyyy-mm-dd hh:mm:ss`. Raises `Refusal` 0200030."""
    if not _DATE_TIME.fullmatch(text):
        raise _no_time(where)
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  the zone is the caller's
    except ValueError:
        raise _no_time(where) from None


def instant(local: datetime, tz: tzinfo, where: str) -> datetime:
    """The instant of a local time. Raises `Refusal` 0200030 at the ends of the calendar, outside UTC's."""
    try:
        return calendar.to_utc(local, tz)
    except OverflowError:
        raise _no_time(where) from None


def _no_time(where: str) -> Refusal:
    return Refusal(Code.TIME_FORMAT, f"{where}: not a real time in the form yyyy-mm-dd hh:mm:ss")


@dataclass(frozen=True, slots=True)
class LocalDay:
    """`yyyy-mm-dd` of a real day (0200030), without a zone."""

    name: str

    def read(self, raw: RawObject, place: str = "") -> date | None:
        """The day, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        where = place + self.name
        if value is None or value == "":
            return None
        if type(value) is not str:
            raise wrong_type(where, "a string")
        if _DAY.fullmatch(value):
            with suppress(ValueError):
                return date.fromisoformat(value)
        raise Refusal(Code.TIME_FORMAT, f"{where}: not a real day in the form yyyy-mm-dd")


@dataclass(frozen=True, slots=True)
class ClockTime:
    """`HH:mm` as minutes after midnight; `24:00` where it ends a window (0200030)."""

    name: str
    ends: bool = False

    def read(self, raw: RawObject, place: str = "") -> int | None:
        """Minutes, or None when absent. Raises `Refusal`."""
        value = raw.get(self.name)
        where = place + self.name
        if value is None or value == "":
            return None
        if type(value) is not str:
            raise wrong_type(where, "a string")
        if not _CLOCK.fullmatch(value) or (value == "24:00" and not self.ends):
            raise Refusal(Code.TIME_FORMAT, f"{where}: not a time in the form HH:mm")
        return int(value[:2]) * 60 + int(value[3:])


@dataclass(frozen=True, slots=True)
class QueryInteger:
    """An integer in a query's text: one of `allowed`, or any where there is no list (02000006, 02000007)."""

    name: str
    allowed: Sequence[int] | None = None
    mandatory: bool = False

    def read(self, query: Mapping[str, str]) -> int | None:
        """The integer, or None when absent. Raises `Refusal`."""
        text = query.get(self.name, "")
        if text == "":
            if self.mandatory:
                raise missing(self.name)
            return None
        if not _QUERY_INTEGER.fullmatch(text):
            raise wrong_type(self.name, "an integer")
        value = int(text)
        if self.allowed is not None and value not in self.allowed:
            raise Refusal(Code.VALUE, f"{self.name}: must be {_in_words(self.allowed)}")
        return value

    def required(self, query: Mapping[str, str]) -> int:
        """`read` of a mandatory parameter."""
        value = self.read(query)
        assert value is not None, f"{self.name} is declared mandatory"
        return value


def _in_words(allowed: Sequence[int]) -> str:
    if isinstance(allowed, range):
        return f"{allowed[0]} to {allowed[-1]}"
    return f"one of {', '.join(map(str, allowed))}"
