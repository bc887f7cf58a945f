"""The public surface: what `__all__` holds, what docs/reference/client.md describes, one class a code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from outdial import client
from outdial.client import errors
from outdial.errors import Code

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "client.md"


def test_the_page_describes_the_public_names_and_no_others() -> None:
    """Each has one line that begins with it: a heading, or a row of a table."""
    described = re.findall(r"^(?:### |\| )`(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(described) == sorted(client.__all__)
    assert len(client.__all__) > 40


def test_the_page_names_every_verb() -> None:
    text = PAGE.read_text(encoding="utf-8")
    verbs = {name for name in vars(client.Client) if not name.startswith("_")}
    assert {name for name in verbs if f"`{name}(" not in text} == set()


def test_every_public_name_has_a_docstring_of_its_own() -> None:
    public = [getattr(client, name) for name in client.__all__]
    inherited = [one.__name__ for one in public if not (one.__doc__ or "").strip()]
    assert inherited == []
    members = [
        member
        for kind in (client.Client, client.BlockingClient)
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_")
    ]
    assert [member for member in members if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.wire)
def test_every_code_has_a_class_of_its_own(code: Code) -> None:
    kind = errors.refusal_class(code.wire, "/x")
    assert kind is not errors.Refused
    assert code.wire in (kind.__doc__ or "")
    assert [one for one in errors._family(errors.Refused) if code in one.codes] == [kind]


def test_a_code_that_is_not_known_is_a_refusal_all_the_same() -> None:
    assert errors.refusal_class("0209999", "/x") is errors.Refused
