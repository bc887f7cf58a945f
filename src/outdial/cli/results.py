"""`outdial results`: how calls ended, over the interface; undelivered.py has what waits for its receiver."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outdial.cli.examples import examples
from outdial.cli.output import print_facts, print_json, print_rows
from outdial.cli.targets import CampaignId, Json, ServerOptions, connected, with_server

app = typer.Typer(help="Results: list and show them, and those that their receiver has not taken.")

_COLUMNS = ("called", "time", "status", "failCode", "session", "call")
_STATUS = {5: "failed", 6: "succeeded"}


@app.command(
    "list",
    epilog=examples(
        "outdial results list 46",
        "outdial results list 46 --session-id order-17 --calls",
        "outdial results list 46 --begin 2030-03-01 --end 2030-03-08 --json",
    ),
)
@with_server
def list_(
    *,
    campaign: CampaignId,
    session_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of numbers with this session id.")
    ] = None,
    custom_field: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only of numbers with this field of your own.")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="Calls from this day on, yyyy-mm-dd in the VDN's time zone."),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="DAY", help="Calls before this day, at most 30 days later.")
    ] = None,
    calls: Annotated[
        bool, typer.Option("--calls", help="Every call, not only the last one of each number.")
    ] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """List the results of a campaign, oldest call first: one for each number that is done."""
    with connected(server) as client:
        chosen = client.results(
            campaign, session_id=session_id, custom_field=custom_field, begin=begin, end=end, calls=calls
        )
        found = [dict(one.raw) for one in chosen]
    if json:
        print_json(found)
    else:
        print_rows(_COLUMNS, map(_row, found))


def _row(result: dict[str, Any]) -> tuple[object, ...]:
    status = _STATUS.get(result["callStatus"], result["callStatus"])
    code, session_id = result["failCode"], result["sessionId"]
    return result["called"], result["callTimeStr"], status, code, session_id, result["callId"]


@app.command(epilog=examples("outdial results show 2f1c9a5e-8f0e-4c57-9a55-0d6f3b7f1c11"))
@with_server
def show(
    *,
    call: Annotated[
        str, typer.Argument(metavar="CALL", help="The call's id, as `outdial results list` prints it.")
    ],
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Show one call that has ended: when it rang, was answered and ended, and how."""
    with connected(server) as client:
        found = client.show_call(call).raw
    if json:
        print_json(found)
        return
    print_facts(
        [
            ("called", found["called"]),
            ("ringing", found["ackBeginTime"]),
            ("answered", found["callBeginTime"]),
            ("ended", found["callEndTime"]),
            ("status", _STATUS.get(int(found["callStatus"]), found["callStatus"])),
            ("failCode", found["failCode"]),
            ("call", found["callId"]),
        ]
    )
