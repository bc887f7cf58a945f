"""`outdial campaign`: over the interface; to end one, and why it does not call, in the store."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.output import for_person, note, print_done, print_facts, print_json, print_rows
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store
from outdial.cli.targets import CampaignId, Json, ServerOptions, connected, with_server

app = typer.Typer(
    help="Campaigns: create, modify, list, show, retry, special dates, start, pause, end, delete, why."
)

STATUS = {1: "draft", 2: "started", 3: "suspended", 4: "ended"}
"""The interface's status, in words (wire/campaign-api.md §3.1)."""
STATUS_ALL = 0
INIT_DRAFT, INIT_STARTED = 1, 2
MOST_WINDOWS = 3
DEFAULT_DAYS = 30

_WINDOW = re.compile(r"([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})")


@app.command(
    epilog=examples(
        'outdial campaign create "spring offer" --caller-no 4008000',
        "outdial campaign create reminders --caller-no 4008000 --window 09:00-12:00 --window 13:30-18:00 \\",
        "    --begin 2030-03-01 --end '2030-03-31 16:00:00' --calls 20 --every 5 \\",
        "    --callback https://example.org/results",
    )
)
@with_server
def create(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name, unique in the VDN.")],
    caller_no: Annotated[
        str,
        typer.Option("--caller-no", metavar="NUMBER", help="The number that callees see: digits, * and #."),
    ],
    begin: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The begin: ISO 8601 or 'yyyy-mm-dd hh:mm:ss', UTC without an offset.",
            show_default="now",
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The end, in the same form.",
            show_default=f"{DEFAULT_DAYS} days after the begin",
        ),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HH:MM-HH:MM",
            help="Daily hours in which calls may leave, in the VDN's time zone; up to 3 times.",
            show_default="00:00-24:00",
        ),
    ] = None,
    calls: Annotated[int, typer.Option(metavar="N", help="Calls that leave at a time, 1 to 1000.")] = 10,
    every: Annotated[int, typer.Option(metavar="SECONDS", help="Seconds between them, 1 to 86400.")] = 1,
    ring: Annotated[
        int, typer.Option(metavar="SECONDS", help="Seconds that a call may ring, 5 to 120.")
    ] = 30,
    callback: Annotated[
        str | None, typer.Option(metavar="URL", help="Where results are pushed to.", show_default="nowhere")
    ] = None,
    device_type: Annotated[
        int, typer.Option(metavar="N", help="What answers: 1 an intelligent, 3 an automatic IVR flow.")
    ] = 3,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="A description.")] = None,
    duplicates: Annotated[
        Literal["allow", "refuse", "skip"],
        typer.Option(
            metavar="allow|refuse|skip",
            help="What an add does with a number that is still incomplete in the campaign.",
        ),
    ] = "allow",
    on_unknown: Annotated[
        Literal["count", "redial"],
        typer.Option(
            metavar="count|redial",
            help="What follows a call whose end a crash has hidden: it counts, or is made again.",
        ),
    ] = "count",
    start: Annotated[bool, typer.Option("--start", help="Start it at once, instead of a draft.")] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Create a campaign, as a draft unless --start is given; prints its id."""
    begin_at, end_at = dates(begin, end)
    body: dict[str, Any] = {
        "name": name,
        "strBeginTime": wire_time(begin_at),
        "strEndTime": wire_time(end_at),
        "deviceType": device_type,
        "callerNo": caller_no,
        "maxAlertingTime": ring,
        "scheduleParam": schedule("workday", "--window", window or ["00:00-24:00"]),
        "ivrParam": {"callCount": calls, "callInterval": every},
        "initStatus": INIT_STARTED if start else INIT_DRAFT,
        "duplicates": duplicates,
        "onUnknown": on_unknown,
    }
    optional = {"description": description, "callBackUrl": callback}
    body |= {field: value for field, value in optional.items() if value is not None}
    with connected(server) as client:
        campaign_id = client.create_campaign(body)
    if json:
        print_json({"id": campaign_id})
        return
    print(campaign_id)
    if for_person() and not start:
        note(f"a draft: outdial numbers add {campaign_id} NUMBER...; outdial campaign start {campaign_id}")


def dates(begin: str | None, end: str | None) -> tuple[datetime, datetime]:
    """Begin and end of a new campaign. Raises `WrongUsage`."""
    begin_at = instant("--begin", begin) if begin else datetime.now(UTC)
    if end:
        return begin_at, instant("--end", end)
    try:
        return begin_at, begin_at + timedelta(days=DEFAULT_DAYS)
    except OverflowError:
        raise WrongUsage("--end: must be given, since the begin is near the last day there is") from None


def instant(option: str, text: str) -> datetime:
    """The instant that an option names. Raises `WrongUsage`."""
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUsage(f"{option}: must be ISO 8601 or 'yyyy-mm-dd hh:mm:ss' (UTC)") from None


def wire_time(value: datetime) -> str:
    """An instant in the form of the interface."""
    return value.replace(microsecond=0, tzinfo=None).isoformat(sep=" ")


def schedule(kind: str, option: str, windows: list[str]) -> dict[str, str]:
    """Windows as fields of `scheduleParam`; `kind` is workday or holiday. Raises `WrongUsage`."""
    if len(windows) > MOST_WINDOWS:
        raise WrongUsage(f"{option}: at most {MOST_WINDOWS} times")
    fields = {}
    for slot, text in enumerate(windows, start=1):
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise WrongUsage(f"{option}: must be HH:MM-HH:MM, for example 08:00-20:00")
        fields[f"{kind}BeginTime{slot}"], fields[f"{kind}EndTime{slot}"] = match.groups()
    return fields


@app.command(
    "list", epilog=examples("outdial campaign list", "outdial campaign list --status started --json")
)
@with_server
def list_(
    *,
    status: Annotated[
        Literal["draft", "started", "suspended", "ended"] | None,
        typer.Option(
            metavar="|".join(STATUS.values()), help="Only campaigns of this status.", show_default="all"
        ),
    ] = None,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """List the VDN's campaigns."""
    wanted = {word: number for number, word in STATUS.items()}.get(status or "", STATUS_ALL)
    with connected(server) as client:
        found = [one.raw for one in client.campaigns(status=wanted)]
    if json:
        print_json(found)
        return
    print_rows(
        ("id", "name", "status", "begin (UTC)", "end (UTC)", "type", "caller"),
        (
            (
                campaign["id"],
                campaign["name"],
                STATUS.get(campaign["status"], campaign["status"]),
                campaign["strBeginTime"],
                campaign["strEndTime"],
                campaign["deviceType"],
                campaign["callerNo"],
            )
            for campaign in found
        ),
    )


@app.command(epilog=examples("outdial campaign show 46", "outdial campaign show 46 --json"))
@with_server
def show(
    *,
    campaign: CampaignId,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Show one campaign: its settings, what it does now, and how many numbers are incomplete."""
    with connected(server) as client:
        found = client.show_campaign(campaign).raw
    if json:
        print_json(found)
        return
    ivr = found.get("ivrParam") or {}
    print_facts(
        [
            ("id", found["id"]),
            ("name", found["name"]),
            ("description", found.get("description")),
            ("status", STATUS.get(found["status"], found["status"])),
            ("standing", found.get("standing")),
            ("incomplete", found.get("incomplete")),
            ("begin (UTC)", found["strBeginTime"]),
            ("end (UTC)", found["strEndTime"]),
            ("windows", _windows("workday", found.get("scheduleParam") or {})),
            ("special windows", _windows("holiday", found.get("scheduleParam") or {})),
            ("type", found["deviceType"]),
            ("caller", found["callerNo"]),
            ("calls", f"{ivr.get('callCount')} every {ivr.get('callInterval')} s"),
            ("priority", found.get("priority")),
            ("most calls a second", found.get("maxCps")),
            ("most calls at a time", found.get("maxChannels")),
            ("ring", f"{found.get('maxAlertingTime')} s"),
            ("callback", found.get("callBackUrl")),
            ("duplicates", found.get("duplicates")),
            ("on unknown", found.get("onUnknown")),
        ]
    )


def _windows(kind: str, fields: dict[str, str | None]) -> str:
    slots = range(1, MOST_WINDOWS + 1)
    pairs = ((fields.get(f"{kind}BeginTime{n}"), fields.get(f"{kind}EndTime{n}")) for n in slots)
    return ", ".join(f"{begin}-{end}" for begin, end in pairs if begin)


@app.command(epilog=examples("outdial campaign start 46"))
@with_server
def start(
    *,
    campaign: CampaignId,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Start a draft, or go on with a paused campaign (the same as resume)."""
    _resume(campaign, server, json=json)


@app.command(epilog=examples("outdial campaign resume 46"))
@with_server
def resume(
    *,
    campaign: CampaignId,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Go on with a paused campaign, or start a draft (the same as start)."""
    _resume(campaign, server, json=json)


def _resume(campaign: int, server: ServerOptions, *, json: bool) -> None:
    with connected(server) as client:
        client.resume(campaign)
    _tell(campaign, "started", json=json)


def _tell(campaign: int, word: str, *, json: bool) -> None:
    print_done(f"campaign {campaign} {word}", {"id": campaign, "done": word}, json=json)


@app.command(epilog=examples("outdial campaign pause 46"))
@with_server
def pause(
    *,
    campaign: CampaignId,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Pause a started campaign: no new call leaves later than 1 s after this; running calls finish."""
    with connected(server) as client:
        client.pause(campaign)
    _tell(campaign, "paused", json=json)


@app.command(epilog=examples("outdial campaign end 46 --vdn 1 --data /srv/outdial"))
@with_store
def end(
    *,
    campaign: CampaignId,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """End a campaign for good, with all its incomplete numbers (administration; needs the store)."""
    from outdial.service import Service

    administer(options, lambda store: Service(store).end_campaign(vdn, campaign))
    _tell(campaign, "ended", json=json)


@app.command(epilog=examples("outdial campaign delete 46", "outdial campaign delete 46 --archive"))
@with_server
def delete(
    *,
    campaign: CampaignId,
    archive: Annotated[
        bool,
        typer.Option("--archive", help="Keep its results as history: `outdial results list` finds them."),
    ] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Delete a campaign that is not started, with its numbers and results."""
    with connected(server) as client:
        client.delete_campaign(campaign, archive_history=archive)
    _tell(campaign, "deleted", json=json)
