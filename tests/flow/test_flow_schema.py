"""docs/reference/flow.schema.json is current, and says nothing else than the checker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_flow_check import PROMPTS, menu, problems, read, with_step

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "flow_schema.py"
SCHEMA = json.loads((ROOT / "docs" / "reference" / "flow.schema.json").read_text(encoding="utf-8"))
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def fits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value has the form; the part of JSON Schema that ours is written in."""
    checks = [
        value in schema.get("enum", [value]),
        value == schema.get("const", value),
        "oneOf" not in schema or sum(fits(one, value) for one in schema["oneOf"]) == 1,
        "type" not in schema or isinstance(value, TYPES[schema["type"]]),
    ]
    if isinstance(value, str):
        size = (schema.get("minLength", 0), len(value), schema.get("maxLength", len(value)))
        checks += [re.search(schema.get("pattern", ""), value) is not None, size == tuple(sorted(size))]
    elif isinstance(value, int | float):
        checks.append(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    elif isinstance(value, list):
        size = (schema.get("minItems", 0), len(value), schema.get("maxItems", len(value)))
        checks += [size == tuple(sorted(size)), all(fits(schema.get("items", {}), item) for item in value)]
    elif isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        rest = [item for name, item in value.items() if name not in known]
        checks += [all(fits(more, item) if isinstance(more, dict) else more for item in rest)]
        checks += [
            set(schema.get("required", [])) <= set(value),
            len(value) >= schema.get("minProperties", 0),
        ]
        checks += [fits(known[name], item) for name, item in value.items() if name in known]
    return all(checks)


def test_the_file_is_current() -> None:
    checked = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_the_examples_have_the_form(name: str) -> None:
    assert fits(SCHEMA, read(name))


@pytest.mark.parametrize(
    "step",
    [
        {"collect": {"into": "a"}, "next": "end"},
        {"say": {"text": "x"}, "next": "end", "otherwise": "end"},
        {"branch": {"on": "{a}", "cases": [{"present": True, "next": "end"}]}, "otherwise": "end"},
        {"set": {"into": "a", "value": ""}, "next": "end"},
        {"transfer": {"target": "1", "mode": "bridge"}},
    ],
)
def test_what_the_checker_takes_has_the_form(step: Any) -> None:
    assert fits(SCHEMA, with_step("menu", step))


@pytest.mark.parametrize(
    "document",
    [
        menu(on_machine="stop"),
        menu(max_seconds=0),
        menu(colour="red"),
        menu(steps={}),
        with_step("menu", {"collect": {"into": "a", "max": 33}, "next": "end"}),
        with_step("menu", {"collect": {"into": "a"}}),
        with_step("menu", {"branch": {"on": "{a}", "cases": [{"next": "end"}]}, "otherwise": "end"}),
        with_step("menu", {"play": {"prompts": "hello"}, "hangup": {}}),
        with_step("menu", {"hangup": {}, "next": "end"}),
        with_step("menu", {}),
    ],
)
def test_what_has_not_the_form_is_refused_by_both(document: Any) -> None:
    assert not fits(SCHEMA, document)
    assert problems(document)
