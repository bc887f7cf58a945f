"""The OpenAPI document is made of the tables, is current, and knows every route and every field rule."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

import outdial.wire
from outdial import metrics
from outdial.errors import Code, Refusal
from outdial.web import openapi
from outdial.web.app import ROUTES, V2_ROUTES, Route
from outdial.wire import shapes
from outdial.wire.fields import ClockTime, Integer, LocalTime, OneOf, QueryInteger, Text, parse_time
from outdial.wire.operations import OPERATIONS

FILE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"
RULES = get_args(shapes.Rule)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(ROUTES, V2_ROUTES)


def test_the_file_is_current(document: dict[str, Any]) -> None:
    """tools/openapi.py writes it."""
    assert json.loads(FILE.read_text(encoding="utf-8")) == document


def modules() -> list[Any]:
    names = [found.name for found in pkgutil.iter_modules(outdial.wire.__path__, "outdial.wire.")]
    return [importlib.import_module(name) for name in names]


def declared() -> Iterator[tuple[str, Any]]:
    """Every field rule that a module of the wire declares: what has a name and reads."""
    for module in modules():
        for name, value in vars(module).items():
            reads = hasattr(value, "read") or hasattr(value, "required")
            if name.isupper() and reads and hasattr(value, "name"):
                yield f"{module.__name__}.{name}", value


def facts(rule: Any) -> tuple[Any, ...]:
    """A rule without what a body may say of it: that it is mandatory, or fewer of its values."""
    kept = ("name", "max_length", "forbidden", "low", "high", "ends")
    return (type(rule), *(getattr(rule, name, None) for name in kept))


def described() -> list[Any]:
    found = []
    for operation in OPERATIONS.values():
        found += list(operation.query)
        found += list(shapes.rules(operation.body)) if operation.body is not None else []
    return found


def test_every_field_rule_stands_in_an_operation() -> None:
    known = {facts(rule) for rule in described()}
    rules = dict(declared())
    assert len(rules) > 50
    assert [name for name, rule in rules.items() if facts(rule) not in known] == []


def test_every_kind_of_rule_has_a_schema_and_codes() -> None:
    """Of what the modules declare, and of the classes themselves."""
    assert {type(rule) for _, rule in declared()} <= set(RULES)
    kinds = [
        value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "__slots__")
        if hasattr(value, "read") or hasattr(value, "required")
    ]
    assert set(kinds) == set(RULES)


@dataclass(frozen=True)
class Colour:
    """A kind of rule that nobody has described."""

    name: str = "colour"
    mandatory: bool = True


def test_a_kind_of_rule_that_is_not_known_is_an_error() -> None:
    with pytest.raises(shapes.UnknownRule):
        shapes.schema(shapes.Object((Colour(),)))  # type: ignore[arg-type]
    with pytest.raises(shapes.UnknownRule):
        shapes.codes(shapes.Object((Colour(),)))  # type: ignore[arg-type]


def test_a_route_that_is_not_described_is_an_error_and_so_is_an_operation_without_one() -> None:
    another = Route((b"*", b"colour"), {b"GET": ROUTES[0].handlers[b"POST"]})
    with pytest.raises(openapi.Undescribed, match="colour"):
        openapi.document((*ROUTES, another), V2_ROUTES)
    with pytest.raises(openapi.Undescribed, match="calldata"):
        openapi.document(ROUTES[1:], V2_ROUTES)


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def test_operations_have_ids_of_their_own_and_links_lead_to_them(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(ids) == len(set(ids)) == len(OPERATIONS) + len(openapi.PROBES)
    links = [
        link["operationId"]
        for operation in operations(document)
        for link in operation["responses"]["200"].get("links", {}).values()
    ]
    assert len(links) > 10
    assert set(links) <= set(ids)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/([^"]+)"', json.dumps(document)))
    assert len(references) > 10
    for reference in references:
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_every_code_can_be_answered_by_an_operation() -> None:
    answered = {code for operation in OPERATIONS.values() for code in openapi.earned(operation)}
    assert answered == set(Code)


def test_every_status_of_the_edge_stands_in_the_document() -> None:
    assert {int(status) for status in metrics.STATUSES} <= openapi.STATUSES.keys()


def test_only_what_needs_no_signature_says_so(document: dict[str, Any]) -> None:
    assert document["security"] == [{"auth-v2": []}]
    open_to_all = {path for path, methods in document["paths"].items() if "security" in str(methods)}
    assert open_to_all == set(openapi.PROBES)


def test_no_number_and_no_secret_stands_in_an_address(document: dict[str, Any]) -> None:
    """Paths and queries end in the logs of others: they hold ids, states, pages and a part of a name."""
    named = {
        parameter["name"]
        for operation in operations(document)
        for parameter in operation.get("parameters", ())
        if parameter.get("in") == "query"
    }
    assert named == {"name", "status", "deviceType", "beginTime", "endTime", "curPage", "rowsPerPage"}
    in_path = [one for one in document["components"]["parameters"].values() if one["in"] == "path"]
    assert {one["name"] for one in in_path if one["schema"]["type"] != "integer"} == {"callId"}


# -- a schema says what its rule says --------------------------------------------------------------------


def agrees(rule: Any, value: Any) -> bool:
    """Whether the rule takes a value exactly if the pattern does."""
    pattern = re.compile(shapes.value(rule)["pattern"].replace("$", r"\Z"))
    try:
        taken = rule.read({rule.name: value}) is not None
    except Refusal:
        taken = False
    return taken == bool(pattern.search(value))


TEXTS = {facts(rule): rule for rule in described() if isinstance(rule, Text)}
CHARACTERS = [chr(n) for n in [*range(0x300), 0x2013, 0x4E2D, 0xFFFD, 0x1F600, 0x10FFFF]]


@pytest.mark.parametrize("rule", TEXTS.values(), ids=lambda rule: rule.name)
def test_a_pattern_takes_the_characters_that_its_rule_takes(rule: Text) -> None:
    assert [character for character in CHARACTERS if not agrees(rule, character)] == []
    schema = shapes.value(rule)
    assert (schema["minLength"], schema["maxLength"]) == (1, rule.max_length)


@pytest.mark.parametrize("ends", [False, True])
def test_a_clock_pattern_takes_the_times_that_its_rule_takes(ends: bool) -> None:
    rule = ClockTime("t", ends=ends)
    texts = [f"{hour:02}:{minute:02}" for hour in range(30) for minute in range(0, 70, 5)]
    assert [text for text in [*texts, "9:00", "24:00\n", "x09:00"] if not agrees(rule, text)] == []


def test_a_time_pattern_takes_the_days_that_are_real() -> None:
    """Every day of leap years and others, and what is no day."""
    rule = LocalTime("t")
    years = (0, 1, 4, 99, 100, 400, 1900, 2000, 2023, 2024, 2100, 9999)
    texts = [f"{y:04}-{m:02}-{d:02} 00:00:00" for y in years for m in range(14) for d in range(33)]
    texts += [f"2024-02-29 {h:02}:{m:02}:{m:02}" for h in range(26) for m in range(0, 62)]
    assert [
        text for text in [*texts, "2024-02-29T00:00:00", "2024-02-29 00:00:00\n"] if not agrees(rule, text)
    ] == []
    assert parse_time("2024-02-29 00:00:00", "t")


def test_limits_and_choices_are_those_of_the_rule() -> None:
    assert shapes.value(Integer("n", 3, 7)) == {"type": "integer", "minimum": 3, "maximum": 7}
    assert shapes.value(OneOf("n", ("0", "1"))) == {"type": "string", "enum": ["0", "1"]}
    assert shapes.value(QueryInteger("n", range(1, 101)))["maximum"] == 100
    assert shapes.schema(Integer("n", 3, 7)) == {
        "anyOf": [{"type": "integer", "minimum": 3, "maximum": 7}, {"$ref": "#/components/schemas/Absent"}]
    }
