"""`outdial blacklist`: numbers that a VDN does not call, over the interface."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.output import print_done, print_json, print_rows
from outdial.cli.targets import Ak, Json, Sk, Url, Vdn, connected, failure_of

app = typer.Typer(help="The VDN's blacklist: add, remove, list.")

AT_A_TIME = 20
"""Numbers of one request (wire/data-api.md §7.1)."""
PAGE = 100
STDIN = "-"
PERIODS = {"hour": "0", "day": "1"}
"""`restrictPeriod`, in words."""

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
    url: Url = None,
    ak: Ak = None,
    sk: Sk = None,
    vdn: Vdn = None,
    json: Json = False,
) -> None:
    """Add numbers; the options hold for each of them.

    20 numbers are one request, which is accepted or refused whole. The command stops at the first that is
    refused, and says how many numbers are in.
    """
    given = {
        "validityExpirationTime": until,
        "validityTime": hours,
        "restrictTimes": times,
        "restrictPeriod": PERIODS[per] if per else None,
        "isCoverDupNo": 1 if overwrite else None,
    }
    rules: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    wanted = _given(numbers)

    from outdial.client import ClientError

    added = 0
    with connected(url, ak, sk, vdn) as client:
        for batch in _batches(wanted):
            try:
                client.add_to_blacklist({"blocklist": batch} | rules)
            except ClientError as error:
                raise failure_of(error, report=f"; {added} of {len(wanted)} numbers were added") from error
            added += len(batch)
    print_done(f"{added} numbers added to the blacklist", {"added": added}, json=json)


def _given(numbers: list[str]) -> list[str]:
    found: list[str] = []
    for number in numbers:
        found += sys.stdin.read().removeprefix("\ufeff").split() if number == STDIN else [number]
    if not found:
        raise WrongUsage("NUMBER: stdin held no number")
    return found


def _batches(numbers: list[str]) -> list[list[str]]:
    return [numbers[first : first + AT_A_TIME] for first in range(0, len(numbers), AT_A_TIME)]


@app.command(epilog=examples("outdial blacklist remove 80001", "outdial blacklist remove --all"))
def remove(
    *,
    numbers: SomeNumbers = None,
    every: Annotated[bool, typer.Option("--all", help="Every number of the VDN.")] = False,
    url: Url = None,
    ak: Ak = None,
    sk: Sk = None,
    vdn: Vdn = None,
    json: Json = False,
) -> None:
    """Take numbers off the blacklist; one that is not there is off already."""
    if bool(numbers) is every:
        raise WrongUsage("NUMBER or --all: one of them")
    wanted = _given(numbers) if numbers else []
    with connected(url, ak, sk, vdn) as client:
        if every:
            client.clear_blacklist()
        for number in wanted:
            client.delete_from_blacklist(number)
    what = "every number is" if every else f"{len(wanted)} numbers are"
    document = {"removed": "all" if every else len(wanted)}
    print_done(f"{what} off the blacklist", document, json=json)


@app.command("list", epilog=examples("outdial blacklist list", "outdial blacklist list 80001 --json"))
def list_(
    *,
    numbers: SomeNumbers = None,
    url: Url = None,
    ak: Ak = None,
    sk: Sk = None,
    vdn: Vdn = None,
    json: Json = False,
) -> None:
    """List the blacklist, or those of the given numbers that are on it; times are the VDN's."""
    found: list[dict[str, Any]] = []
    with connected(url, ak, sk, vdn) as client:
        if numbers:
            for batch in _batches(_given(numbers)):
                found += client.query_blacklist({"blocklist": batch})["data"]
        while not numbers and len(found) % PAGE == 0:
            page = client.query_blacklist({"offset": len(found), "limit": PAGE})["data"]
            found += page
            if not page:
                break
    if json:
        print_json(found)
        return
    print_rows(("number", "until", "calls", "per"), map(_row, found))


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    words = {code: word for word, code in PERIODS.items()}
    per = words.get(entry["restrictPeriod"])
    return entry["blockNum"], entry["validityExpirationTime"], entry["restrictTimes"], per
