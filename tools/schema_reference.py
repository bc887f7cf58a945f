#!/usr/bin/env python3
"""Write docs/reference/schema.md from store/schema.sql, or check that it is current.

usage: tools/schema_reference.py            write the page
       tools/schema_reference.py --check    check it; changes nothing

Tables, columns and types are those of the schema, and so is the meaning of a column that has a comment
there. The meaning of any other is written on the page itself and kept; a column without one is a fault.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "schema.md"
SCHEMA = ROOT / "src" / "outdial" / "store" / "schema.sql"

HEAD = """\
# The database

Every table and column, made by `tools/schema_reference.py` from `src/outdial/store/schema.sql`; keys, checks
and indexes stand there. One table more, `schema_version`, holds the number, name, sha256 and time of every
migration that was applied. Nobody but outdial writes here. To read is allowed, and what is read may change
with the next version.
"""

TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
COLUMN = re.compile(
    r"^    ([a-z]\w*)\s+((?:double precision|[a-z]+)(?:\[\])?)([^-\n]*(?:-(?!-)[^-\n]*)*)(?:-- (.*))?$",
    re.MULTILINE,
)
ROW = re.compile(r"^\| `(\w+)` \| [^|]* \| (.*?) \|$", re.MULTILINE)
Column = tuple[str, str, str]


def tables(schema: str) -> dict[str, list[Column]]:
    """Name, type and comment of every column, by table."""
    return {
        name: [
            (
                column,
                kind if "NOT NULL" in rest or "PRIMARY KEY" in rest else f"{kind}, or null",
                comment or "",
            )
            for column, kind, rest, comment in COLUMN.findall(body)
        ]
        for name, body in TABLE.findall(schema)
    }


def meanings(page: str) -> dict[tuple[str, str], str]:
    """What the page says: of a table under the name "", of a column under its own."""
    found = {}
    for section in page.split("\n## ")[1:]:
        table, _, text = section.partition("\n")
        found[table, ""] = text.partition("\n")[0]
        found |= {(table, column): meaning for column, meaning in ROW.findall(text)}
    return found


def page(schema: str, known: dict[tuple[str, str], str]) -> str:
    """The page, with what is known already where the schema has no comment."""
    parts = [HEAD]
    for table, columns in tables(schema).items():
        rows = [
            f"| `{name}` | {kind} | {comment.replace('|', '/') or known.get((table, name), '')} |"
            for name, kind, comment in columns
        ]
        head = [f"## {table}", known.get((table, ""), ""), "", "| column | type | meaning |", "|---|---|---|"]
        parts.append("\n".join([*head, *rows]) + "\n")
    return "\n".join(parts)


def faults(schema: str, text: str) -> list[str]:
    """What is wrong with a page, a sentence each."""
    known = meanings(text)
    found = [] if text == page(schema, known) else ["schema.md is not current: run tools/schema_reference.py"]
    for table, columns in tables(schema).items():
        if not known.get((table, "")):
            found.append(f"schema.md: the table {table} has no meaning")
        found += [
            f"schema.md: {table}.{name} has no meaning: a comment in schema.sql, or a word on the page"
            for name, _, _ in columns
            if not known.get((table, name))
        ]
    return found


def main() -> int:
    """Write or check the page; 1 when something is wrong with it."""
    schema = SCHEMA.read_text(encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if sys.argv[1:] != ["--check"]:
        text = page(schema, meanings(text))
        PAGE.write_text(text, encoding="utf-8")
    found = faults(schema, text)
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
