"""`outdial campaign special-dates`: days on which other hours hold, over the interface."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.output import print_done, print_json, print_rows
from outdial.cli.targets import CampaignId, Json, ServerOptions, connected, with_server

app = typer.Typer(help="Special dates of a campaign: list, add, remove.")

KINDS = {1: "week", 2: "dates", 3: "yearly"}
"""The interface's types (wire/campaign-api.md §4.2), in words."""

_SPAN = re.compile(r"([0-9-]+)(?:\.\.([0-9-]+))?")


@app.command("list", epilog=examples("outdial campaign special-dates list 46"))
@with_server
def list_(
    *,
    campaign: CampaignId,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """List the special dates of a campaign."""
    with connected(server) as client:
        found = [one.raw for one in client.list_special_dates(campaign)]
    if json:
        print_json(found)
        return
    rows = ((one["id"], one["name"], KINDS.get(one["type"], one["type"]), _days(one)) for one in found)
    print_rows(("id", "name", "kind", "days"), rows)


def _days(one: Mapping[str, Any]) -> str:
    return one["week"] or f"{one['beginTime']}..{one['endTime']}"


@app.command(
    epilog=examples(
        "outdial campaign special-dates add 46 weekend --week 6,7",
        "outdial campaign special-dates add 46 fair --dates 2030-03-04..2030-03-08",
        "outdial campaign special-dates add 46 'new year' --yearly 12-31..01-01",
        "outdial campaign special-dates add 47 --use 5",
    )
)
@with_server
def add(
    *,
    campaign: CampaignId,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The name, unique in the VDN.", show_default=False)
    ] = None,
    week: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Days of the week: 1 Monday to 7 Sunday, with commas.")
    ] = None,
    dates: Annotated[
        str | None, typer.Option(metavar="DAY[..DAY]", help="From one yyyy-mm-dd to another, or one alone.")
    ] = None,
    yearly: Annotated[
        str | None, typer.Option(metavar="DAY[..DAY]", help="The same with mm-dd, every year.")
    ] = None,
    use: Annotated[
        int | None, typer.Option(metavar="ID", help="A special date that another campaign has.")
    ] = None,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Add a special date to a campaign; prints its id."""
    body = _body(name, week, dates, yearly, use)
    with connected(server) as client:
        made = client.add_special_date(campaign, body)
    if json:
        print_json({"id": made})
        return
    print(made)


def _body(
    name: str | None, week: str | None, dates: str | None, yearly: str | None, use: int | None
) -> dict[str, Any]:
    given = {"week": week, "dates": dates, "yearly": yearly, "use": use}
    named = [option for option, value in given.items() if value is not None]
    if len(named) != 1:
        raise WrongUsage("--week, --dates, --yearly, --use: one of them")
    if use is not None:
        return {"id": use}
    if name is None:
        raise WrongUsage("NAME: missing")
    kind = next(number for number, word in KINDS.items() if word == named[0])
    if week is not None:
        return {"name": name, "type": kind, "week": week}
    match = _SPAN.fullmatch(dates or yearly or "")
    if match is None:
        raise WrongUsage(f"--{named[0]}: must be one day, or two with .. between")
    return {"name": name, "type": kind, "beginTime": match[1], "endTime": match[2] or match[1]}


@app.command(
    epilog=examples(
        "outdial campaign special-dates remove 46 5", "outdial campaign special-dates remove 46 --all"
    )
)
@with_server
def remove(
    *,
    campaign: CampaignId,
    special_date: Annotated[
        int | None, typer.Argument(metavar="ID", help="The special date's id.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of the campaign.")] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Take a special date, or all, from a campaign; other campaigns keep theirs."""
    if (special_date is None) is not every:
        raise WrongUsage("ID or --all: one of them")
    with connected(server) as client:
        client.delete_special_dates(campaign, special_date)
    what = "all special dates" if special_date is None else f"special date {special_date}"
    document = {"campaignId": campaign, "removed": special_date}
    print_done(f"campaign {campaign}: {what} removed", document, json=json)
