"""What a command prints: tables for people, tab-separated lines for pipes, one JSON document for programs.

Text that came from elsewhere is made visible first: a campaign's name must not steer a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any


def visible(value: object) -> str:
    """The text with control, format and line-breaking characters as escapes; None is empty."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def for_person() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def print_json(document: Any, *, indent: int | None = None) -> None:
    """One JSON document, in ASCII so that every locale carries it; `indent` spreads it over lines."""
    print(json.dumps(document, indent=indent))


def print_done(sentence: str, document: dict[str, Any], *, json: bool) -> None:
    """What a command has done: a sentence, or with `json` a document."""
    if json:
        print_json(document)
    else:
        print(sentence)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with headings on a terminal; else a line per row, tab-separated, without headings."""
    shown = [[visible(value) for value in row] for row in rows]
    if for_person():
        _print_table(columns, shown)
        return
    for row in shown:
        print("\t".join(row))


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Names and values of one thing, a line each."""
    shown = [[name, visible(value)] for name, value in facts]
    if for_person():
        _print_table(None, shown)
        return
    for row in shown:
        print("\t".join(row))


def _print_table(columns: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if columns else None, show_header=columns is not None)
    for column in columns or ("", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    Console().print(table)


def note(line: str) -> None:
    """A hint for a person, on stderr, so that it never gets into a pipe."""
    print(visible(line), file=sys.stderr)


def instant(value: datetime | None) -> str | None:
    """An instant as `yyyy-mm-dd hh:mm:ss` UTC, the form of the interface."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if value is not None else None
