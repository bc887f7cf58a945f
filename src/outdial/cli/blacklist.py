"""`outdial blacklist`: numbers that a VDN does not call, over the interface."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.numbers import given_numbers
from outdial.cli.output import print_done, print_json, print_rows
from outdial.cli.targets import Json, ServerOptions, connected, failure_of, with_server

if TYPE_CHECKING:
    from outdial.client import BlacklistEntry

app = typer.Typer(help="The VDN's blacklist: add, remove, list.")

AT_A_TIME = 20
"""Numbers of one request (wire/data-api.md §7.1)."""

Numbers = Annotated[
    list[str],
    typer.Argument(metavar="NUMBER", help="Numbers: digits, * and #; - reads more from stdin."),
]
SomeNumbers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NUMBER", help="Numbers: digits, * and #; - reads more from stdin.", show_default=False
    ),
]


@app.command(
    epilog=examples(
        "outdial blacklist add 80001 80003",
        "outdial blacklist add 80001 --until '2030-03-31 18:00:00'",
        "outdial blacklist add 80001 --times 2 --per day",
        "outdial blacklist add - < do-not-call.txt",
    )
)
@with_server
def add(
    *,
    numbers: Numbers,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Until then: 'yyyy-mm-dd hh:mm:ss' in the VDN's time zone."),
    ] = None,
    hours: Annotated[int | None, typer.Option(metavar="N", help="For so many hours, 1 to 120.")] = None,
    times: Annotated[
        int | None, typer.Option(metavar="N", help="So many calls stay allowed, 1 to 100; with --per.")
    ] = None,
    per: Annotated[
        Literal["hour", "day"] | None,
        typer.Option(metavar="hour|day", help="In each clock hour or day; with --times."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Edition 2025-11: an entry that is there already gets these rules."),
    ] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Add numbers; the options hold for each of them.

    20 numbers are one request, which is accepted or refused whole. The command stops at the first that is
    refused, and says how many numbers are in.
    """
    rules: dict[str, Any] = {"hours": hours, "expires": until, "restrict_times": times, "per": per}
    wanted = given_numbers(numbers)

    from outdial.client import ClientError

    added = 0
    with connected(server) as client:
        for batch in _batches(wanted):
            try:
                client.add_to_blacklist(batch, overwrite=overwrite or None, **rules)
            except ClientError as error:
                raise failure_of(error, report=f"; {added} of {len(wanted)} numbers were added") from error
            added += len(batch)
    print_done(f"{added} numbers added to the blacklist", {"added": added}, json=json)


def _batches(numbers: list[str]) -> list[list[str]]:
    return [numbers[first : first + AT_A_TIME] for first in range(0, len(numbers), AT_A_TIME)]


@app.command(epilog=examples("outdial blacklist remove 80001", "outdial blacklist remove --all"))
@with_server
def remove(
    *,
    numbers: SomeNumbers = None,
    every: Annotated[bool, typer.Option("--all", help="Every number of the VDN.")] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Take numbers off the blacklist; one that is not there is off already."""
    if bool(numbers) is every:
        raise WrongUsage("NUMBER or --all: one of them")
    wanted = given_numbers(numbers) if numbers else []
    with connected(server) as client:
        if every:
            client.clear_blacklist()
        for number in wanted:
            client.delete_from_blacklist(number)
    what = "every number is" if every else f"{len(wanted)} numbers are"
    document = {"removed": "all" if every else len(wanted)}
    print_done(f"{what} off the blacklist", document, json=json)


@app.command("list", epilog=examples("outdial blacklist list", "outdial blacklist list 80001 --json"))
@with_server
def list_(
    *,
    numbers: SomeNumbers = None,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """List the blacklist, or those of the given numbers that are on it; times are the VDN's."""
    found: list[BlacklistEntry] = []
    with connected(server) as client:
        if numbers:
            for batch in _batches(given_numbers(numbers)):
                found += client.query_blacklist(batch)
        if not numbers:
            found += client.blacklist()
    names = ("number", "until", "calls", "per")
    rows = [(one.number, _time(one.expires), one.restrict_times, one.per) for one in found]
    if json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    print_rows(names, rows)


def _time(at: datetime | None) -> str | None:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at is not None else None
