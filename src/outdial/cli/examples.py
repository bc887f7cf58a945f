"""The end of every help text: examples to copy, and the exit codes."""

from __future__ import annotations

from outdial.cli.failures import EXIT_CODES

HEADING = "Examples:"


def examples(*commands: str) -> str:
    """The epilog of a command. `\\b` keeps its lines apart where help is wrapped."""
    lines = "\n".join(f"  {command}" for command in commands)
    return f"\b\n{HEADING}\n{lines}\n\n{EXIT_CODES}"
