"""`outdial campaign modify` and `retry`: change what a campaign says, over the interface."""

from __future__ import annotations

import json as json_text
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from outdial.cli.campaign import app, instant, schedule, wire_time
from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.output import print_done, print_facts, print_json
from outdial.cli.targets import CampaignId, Json, ServerOptions, connected, with_server

__all__ = ["app", "modify", "retry"]

_RULE = re.compile(r"([0-9]{1,2}):([0-9]{1,5}):([0-9]{1,6})")


@app.command(
    epilog=examples(
        "outdial campaign modify 46 --calls 5 --every 10",
        "outdial campaign modify 46 --special-window 10:00-12:00 --max-channels 20",
    )
)
@with_server
def modify(
    *,
    campaign: CampaignId,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The name, unique in the VDN.")] = None,
    begin: Annotated[
        str | None, typer.Option(metavar="TIME", help="The begin: ISO 8601, UTC without an offset.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="The end, in the same form.")] = None,
    caller_no: Annotated[
        list[str] | None,
        typer.Option("--caller-no", metavar="NUMBER", help="A calling number; several take turns."),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(metavar="HH:MM-HH:MM", help="Daily hours, instead of those there are; up to 3 times."),
    ] = None,
    special_window: Annotated[
        list[str] | None,
        typer.Option(metavar="HH:MM-HH:MM", help="Hours on special dates, in the same way."),
    ] = None,
    calls: Annotated[int | None, typer.Option(metavar="N", help="Calls that leave at a time.")] = None,
    every: Annotated[int | None, typer.Option(metavar="SECONDS", help="Seconds between them.")] = None,
    ring: Annotated[int | None, typer.Option(metavar="SECONDS", help="Seconds that a call may ring.")] = None,
    callback: Annotated[str | None, typer.Option(metavar="URL", help="Where results are pushed to.")] = None,
    priority: Annotated[int | None, typer.Option(metavar="N", help="1 to 5; 1 goes first.")] = None,
    max_cps: Annotated[float | None, typer.Option(metavar="N", help="Calls a second, at most.")] = None,
    max_channels: Annotated[
        int | None, typer.Option(metavar="N", help="Calls at the same time, at most.")
    ] = None,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Modify a campaign that is not ended, also while it runs; what no option names stays."""
    hours = _hours(window, special_window)
    wanted = {
        "name": name,
        "strBeginTime": wire_time(instant("--begin", begin)) if begin else None,
        "strEndTime": wire_time(instant("--end", end)) if end else None,
        "callerNo": [{"accessCode": number} for number in caller_no] if caller_no else None,
        "maxAlertingTime": ring,
        "callBackUrl": callback,
        "priority": priority,
        "maxCps": max_cps,
        "maxChannels": max_channels,
    }
    pace = {"callCount": calls, "callInterval": every}
    with connected(server) as client:
        body = _as_it_is(client.show_campaign(campaign).raw)
        body |= _given(wanted)
        body["ivrParam"] |= _given(pace)
        for kind, fields in hours.items():
            kept = {name: value for name, value in body["scheduleParam"].items() if not name.startswith(kind)}
            body["scheduleParam"] = kept | fields
        client.modify_campaign(campaign, body)
    print_done(f"campaign {campaign} modified", {"id": campaign, "done": "modified"}, json=json)


def _hours(window: list[str] | None, special_window: list[str] | None) -> dict[str, dict[str, str]]:
    hours = {}
    if window:
        hours["workday"] = schedule("workday", "--window", window)
    if special_window:
        hours["holiday"] = schedule("holiday", "--special-window", special_window)
    return hours


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _as_it_is(found: Mapping[str, Any]) -> dict[str, Any]:
    """The mandatory part of a modification that changes nothing."""
    same = (
        "name",
        "strBeginTime",
        "strEndTime",
        "deviceType",
        "maxAlertingTime",
        "scheduleParam",
        "ivrParam",
    )
    body = {name: found[name] for name in same}
    body["callerNo"] = found.get("callerNoList") or [{"accessCode": found["callerNo"]}]
    return body


@app.command(
    epilog=examples(
        "outdial campaign retry 46",
        "outdial campaign retry 46 --days 3 --tries 2 --never 00538",
        "outdial campaign retry 46 --on 2:3:600 --on 4:2:3600",
        "outdial campaign retry 46 --none",
    )
)
@with_server
def retry(
    *,
    campaign: CampaignId,
    days: Annotated[int | None, typer.Option(metavar="N", help="Days on which a number is tried.")] = None,
    tries: Annotated[int | None, typer.Option(metavar="N", help="Tries on each of these days.")] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RESULT:N:SECONDS",
            help="After this result N more tries, so long after one another: 2 busy, 3 rejected, 4 no answer,"
            " 5 machine, 6 invalid, 7 congestion, 8 failed.",
        ),
    ] = None,
    never: Annotated[
        list[str] | None,
        typer.Option(metavar="FAILCODE", help="After this failCode a number is not tried again."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Try no number again.")] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Show or set which numbers are tried again, by day (--days, --tries) or by result (--on)."""
    policy = _policy(days, tries, on, none=none)
    if policy is None and never:
        raise WrongUsage("--never: goes with --days and --tries, or with --on")
    with connected(server) as client:
        if policy is not None:
            body = {"policyType": 0, "policyJson": json_text.dumps(policy), "noRetryPolicy": never or []}
            client.set_retry_policy(campaign, body)
        found = client.show_retry_policy(campaign).raw
    if json:
        print_json(found)
        return
    print_facts([("policy", found["policyJson"]), ("never after", ", ".join(found["noRetryPolicy"]))])


def _policy(
    days: int | None, tries: int | None, on: list[str] | None, *, none: bool
) -> list[dict[str, Any]] | None:
    """The policy that the options name; None: they only ask."""
    by_day = days is not None or tries is not None
    if by_day + bool(on) + none > 1:
        raise WrongUsage("--days and --tries, --on, --none: one of them")
    if none:
        return []
    if on:
        return [{"type": 1, "policy": [_rule(text) for text in on]}]
    if not by_day:
        return None
    if days is None or tries is None:
        raise WrongUsage("--days and --tries go together")
    return [{"type": 0, "policy": {"retryDay": days, "retryTime": tries}}]


def _rule(text: str) -> dict[str, int]:
    match = _RULE.fullmatch(text)
    if match is None:
        raise WrongUsage("--on: must be RESULT:N:SECONDS, for example 2:3:600")
    result, number, interval = (int(part) for part in match.groups())
    return {"result": result, "retryNumber": number, "callInterval": interval}
