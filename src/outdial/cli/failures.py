"""How a command ends when it does not succeed: one line on stderr and a documented exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from outdial.errors import CommitUnknown, Refusal, SettingError, StoreUnavailable

EXIT_OK = 0
EXIT_REFUSED = 1
"""The server or a rule said no."""
EXIT_USAGE = 2
"""An option, an argument or a setting is wrong or missing."""
EXIT_UNAVAILABLE = 3
"""No connection, no answer, or the store is unavailable: the same command may succeed later."""
EXIT_INTERRUPTED = 130
"""Ctrl-C (128 and the number of SIGINT)."""

EXIT_CODES = (
    f"Exit codes: {EXIT_OK} ok, {EXIT_REFUSED} refused by the server or a rule, {EXIT_USAGE} wrong usage or"
    f" setting, {EXIT_UNAVAILABLE} no connection, no answer or store unavailable, {EXIT_INTERRUPTED} Ctrl-C."
)

UsageError: Any = typer.BadParameter.__base__  # typer gives no other name to it, nor to its parent
_Complaint: Any = UsageError.__base__


class Failure(Exception):
    """An expected end of a command: the line to print and the exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class WrongUsage(Failure):
    """A missing or wrong option or argument."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EXIT_USAGE)


class Refused(Failure):
    """A rule said no."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EXIT_REFUSED)


@contextmanager
def as_failures() -> Iterator[None]:
    """Turn every expected error into a `Failure`. What is not expected stays a traceback."""
    try:
        yield
    except _Complaint as error:
        raise WrongUsage(_complaint(error)) from error
    except SettingError as error:
        raise WrongUsage(str(error)) from error
    except Refusal as error:
        raise Refused(f"{error.detail} [{error.code.wire}]") from error
    except StoreUnavailable as error:
        raise Failure(f"the store is unavailable: {error}", EXIT_UNAVAILABLE) from error
    except CommitUnknown as error:
        text = f"the store did not say whether this was kept: look, then repeat: {error}"
        raise Failure(text, EXIT_UNAVAILABLE) from error
    except typer.Abort as error:
        raise Failure("interrupted", EXIT_INTERRUPTED) from error


def _complaint(error: Any) -> str:
    """Typer's message on one line, and the command whose --help explains."""
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path} --help" if context is not None else message
