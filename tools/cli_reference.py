#!/usr/bin/env python3
"""Write docs/reference/cli.md from the commands themselves, or check that it is current.

usage: tools/cli_reference.py            write the page
       tools/cli_reference.py --check    check it; changes nothing
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from outdial.cli import PROGRAM, app
from outdial.cli.examples import HEADING
from outdial.cli.failures import EXIT_CODES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"

HEAD = f"""\
# The command line

Made by `tools/cli_reference.py` from the commands; `{PROGRAM} COMMAND --help` prints the same.

On a terminal a list is a table; in a pipe it is one line per row, tab-separated and without headings; with \
`--json` it is one JSON document. What is wrong is one line on stderr that begins with `error:` and, where \
the server answered, ends with its result code and request id.

{EXIT_CODES}
"""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with what one types to get there."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, found in inner.items():
        if found.hidden:  # another name of a group
            continue
        yield from commands(found, f"{path} {name}")


def section(path: str, command: Any) -> str:
    """One command: usage, meaning, options, examples."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    parts = [f"## {' '.join([path, *(_argument(a) for a in arguments)])}", inspect.cleandoc(command.help)]
    if arguments:
        rows = [f"| `{a.metavar}` | {_cell(a.help)} |" for a in arguments]
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    if options:
        rows = [f"| `{_option(o)}` | {_variable(o)} | {_default(o)} | {_cell(o.help)} |" for o in options]
        header = ["| option | variable | default | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([*header, *rows]))
    lines = command.epilog.partition(f"{HEADING}\n")[2].partition("\n\n")[0]
    parts.append(f"```\n{inspect.cleandoc(lines)}\n```")
    return "\n\n".join(parts) + "\n"


def _argument(argument: Any) -> str:
    shown = argument.metavar + ("..." if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def _option(option: Any) -> str:
    name = ", ".join(option.opts)
    if option.is_flag:
        return name
    return _cell(f"{name} {option.metavar}")


def _variable(option: Any) -> str:
    return f"`{option.envvar}`" if option.envvar else ""


def _default(option: Any) -> str:
    if option.required:
        return "needed"
    if isinstance(option.show_default, str):
        return option.show_default
    return "" if option.is_flag or option.default is None else str(option.default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    found = commands(typer.main.get_command(app), PROGRAM)
    return "\n".join([HEAD, *(section(path, command) for path, command in found)])


def main() -> int:
    """Write or check the page; 1 when it is not current."""
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE.name} is not current: run tools/cli_reference.py", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
