"""Reference pages that are held against the code: codes, database, security requirements, proofs."""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest

from outdial.errors import Code
from outdial.web import openapi

ROOT = Path(__file__).resolve().parent.parent


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def functions_of(path: str) -> frozenset[str]:
    """The tests of a file; none where there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def named_tests(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def dangling(text: str) -> list[str]:
    """Tests that are named and not there."""
    return [
        f"{path}::{name}"
        for path, name in named_tests(text)
        if name not in functions_of(path) or not name.startswith("test_")
    ]


# -- the codes -------------------------------------------------------------------------------------------


def test_the_page_of_codes_says_who_answers_each() -> None:
    """As the OpenAPI document has it; tools/openapi.py writes the column."""
    assert tool("openapi").codes_page(read("docs/reference/codes.md")) == read("docs/reference/codes.md")


def test_every_code_names_a_test_that_earns_it() -> None:
    rows = re.findall(
        r"^\| `(0[\d-]+)` \|.*\| (`tests/[^|]+`) \|$", read("docs/reference/codes.md"), re.MULTILINE
    )
    assert [code for code, _ in rows] == [code.wire for code in Code]
    assert [row for row in rows if len(named_tests(row[1])) != 1 or dangling(row[1])] == []


def test_the_page_of_codes_has_every_status_below_the_interface() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", read("docs/reference/codes.md"), re.MULTILINE)
    assert {int(status): said for status, said in rows} == openapi.STATUSES


# -- the database ----------------------------------------------------------------------------------------


def test_the_page_of_the_database_is_current_and_nothing_is_without_a_meaning() -> None:
    schema = read("src/outdial/store/schema.sql")
    assert tool("schema_reference").faults(schema, read("docs/reference/schema.md")) == []


async def test_the_page_has_the_columns_of_the_real_database(sql: asyncpg.Connection) -> None:
    """What the reader of schema.sql overlooked would be missing on the page."""
    rows = await sql.fetch(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'schema_version'"
    )
    real = {(row["table_name"], row["column_name"]) for row in rows}
    known = {
        (table, column)
        for table, column in tool("schema_reference").meanings(read("docs/reference/schema.md"))
        if column
    }
    assert known == real


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "    time_zone       text",
            "    colour text NOT NULL,\n    time_zone       text",
            "vdn.colour has no meaning",
        ),
        (
            "CREATE TABLE shelf",
            "CREATE TABLE colour (\n    id integer\n);\nCREATE TABLE shelf",
            "table colour has no",
        ),
        ("-- sealed; NULL: pushes are not signed", "-- sealed", "schema.md is not current"),
    ],
)
def test_a_page_of_another_schema_is_found(old: str, new: str, fault: str) -> None:
    reference, page = tool("schema_reference"), read("docs/reference/schema.md")
    schema = read("src/outdial/store/schema.sql")
    assert old in schema
    changed = schema.replace(old, new, 1)
    found = reference.faults(changed, reference.page(changed, reference.meanings(page)))
    found += reference.faults(changed, page)
    assert any(fault in sentence for sentence in found), found


# -- the security requirements ---------------------------------------------------------------------------

POINTS = """
1.2.5 1.2.10* 1.3.6 1.5.3 2.2.1-3 2.3.1 2.3.3 2.3.4 2.3.5* 2.4.1
3.3.1-4 3.4.1 3.4.3 3.4.4 3.4.5 3.4.6 3.4.8* 3.5.1-3 3.5.8*
4.1.1 4.1.2 4.1.3 4.1.4* 4.1.5* 4.2.1 4.2.2* 4.2.3* 4.2.4* 4.2.5*
5.2.1-3 5.2.4* 5.4.1-2
6.2.1-12 6.3.1 6.3.2 6.3.3 6.3.8* 6.4.1 6.4.6*
7.2.2-4 7.3.1-2 7.4.1-5
8.2.1-3 8.3.1 8.3.2* 8.4.1
11.2.2 11.2.4* 11.3.2-3 11.3.4* 11.4.1 11.4.2 11.5.1 12.1.1 12.2.1 12.3.1-4
13.1.1 13.2.3 13.2.4 13.3.1 13.4.2 13.4.5
14.2.1 14.2.6* 14.2.7* 14.3.2
15.1.2 15.3.1-5 15.3.7 15.4.2* 15.4.4*
16.2.1-5 16.3.1-4 16.4.1 16.4.2 16.5.1-3
"""
"""The points of ASVS 5.0.0 that concern this server."""


def points() -> list[str]:
    found = []
    for word in POINTS.split():
        first, _, last = word.partition("-")
        chapter, _, number = first.rpartition(".")
        found += [f"{chapter}.{n}" for n in range(int(number), int(last) + 1)] if last else [first]
    return found


def missing(page: str) -> list[str]:
    """The points without a proof or a reason, and the tests that are not there."""
    rows = dict(re.findall(r"^\| ([\d.]+\*?) \| [^|]+ \| ([^|]*?) ?\|$", page, re.MULTILINE))
    faults = [point for point in points() if len(rows.get(point, "")) < len("only HTTP/1.1")]
    faults += [f"{point}: no test and no reason" for point, why in rows.items() if not _says_something(why)]
    return faults + sorted(set(rows) - set(points())) + dangling(page)


def _says_something(why: str) -> bool:
    return bool(named_tests(why)) or len(re.findall(r"\w+", why)) > 2


def test_every_point_has_a_test_or_a_reason() -> None:
    page = read("docs/asvs.md")
    assert len(points()) > 100
    assert missing(page) == []
    assert "`tests/" in page


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("| 8.4.1 |", "| 8.4.9 |", "8.4.1"),
        ("::test_transitions`", "::test_translations`", "tests/test_campaigns.py::test_translations"),
        (
            "| 4.2.3* | headers of HTTP/2 and 3 | Only HTTP/1.1 is spoken |",
            "| 4.2.3* | headers of HTTP/2 and 3 |  |",
            "4.2.3*",
        ),
    ],
)
def test_a_point_without_either_is_found(old: str, new: str, fault: str) -> None:
    page = read("docs/asvs.md")
    assert old in page
    assert fault in missing(page.replace(old, new, 1))


# -- the proofs ------------------------------------------------------------------------------------------

NAMED_BUGS = (
    *("ack-before-commit", "dial-before-commit", "requeue-by-age", "no-epoch"),
    *("skip-signature-body", "window-off-by-one-hour", "drop-outbox-row", "drop-tenant-filter"),
)
"""What must turn some proof red (trust.md A.4, rule 4)."""


@cache
def guards_of(path: str) -> frozenset[str]:
    """The tests of a file that have the marker `guard`, of their own or with the whole file."""
    tree = ast.parse(read(path))
    whole = [
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tests = [node for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")]
    return frozenset(
        test.name
        for test in tests
        if "pytest.mark.guard" in " ".join([*whole, *map(ast.unparse, test.decorator_list)])
    )


@cache
def guarded_files() -> list[str]:
    paths = (path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
    return sorted(str(path) for path in paths if "pytest.mark.guard" in read(str(path)))


def unproved(page: str) -> list[str]:
    """Rows without a test or a guard that is there, guards and named bugs that no row has."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)[1:]
    faults = dangling(page)
    for proof, test, bug, guard in rows:
        guarded = named_tests(guard)
        if len(named_tests(test)) != 1 or len(guarded) != 1 or not bug.strip():
            faults.append(f"{proof}: not one test, one bug and one guard")
        faults += [f"{name} is no guard" for path, name in guarded if name not in guards_of(path)]
    every = [name for path in guarded_files() for name in guards_of(path)]
    faults += [
        f"{name} has no proof"
        for name in every
        if f"::{name}`" not in page and not name.startswith("test_the_copy_itself_")  # the controls
    ]
    return faults + [bug for bug in NAMED_BUGS if not any(f"`{bug}`" == row[2] for row in rows)]


def test_every_proof_names_its_test_and_the_guard_that_sees_it_red() -> None:
    page = read("docs/reference/proofs.md")
    assert page.count("\n| ") > 40
    assert unproved(page) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("test_kill_of_the_carrier", "test_fill_of_the_carrier", "test_fill_of_the_carrier"),
        ("::test_a_denial_that_is_noticed_late_is_seen", "", "a denied destination is not called: not one"),
        ("`skip-signature-body`", "none", "skip-signature-body"),
        ("::test_a_host_that_is_not_checked_is_seen`", "`", "test_a_host_that_is_not_checked_is_seen has no"),
        (
            "tests/faults/test_fault_guards.py::test_an_answer_before_the_commit_is_seen",
            "tests/faults/test_adds.py::test_kill_of_every_backend",
            "test_kill_of_every_backend is no guard",
        ),
    ],
)
def test_a_proof_without_its_guard_is_found(old: str, new: str, fault: str) -> None:
    page = read("docs/reference/proofs.md")
    assert old in page
    found = unproved(page.replace(old, new, 1))
    assert any(fault in sentence for sentence in found), found
