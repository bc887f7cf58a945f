"""`outdial records`: what became of every call, for spreadsheets and programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store

if TYPE_CHECKING:
    from outdial.store.records import CallRow
    from outdial.store.store import Store

app = typer.Typer(help="Call records (administration).")

FIELDS: Final = (
    *("attemptId", "campaignId", "contactId", "attemptNo", "called", "caller", "sessionId"),
    *("madeAt", "sentAt", "ringingAt", "answeredAt", "endedAt", "trunk", "sipStatus", "q850", "hungUpBy"),
    *("disposition", "failCode", "keys", "steps", "detector", "rtpSent", "rtpReceived"),
    "transferOf",
)

EVER: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))

GUARDED: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a spreadsheet may take for a formula, and the guard itself: then exactly one is to be taken away."""


@app.command(
    epilog=examples(
        "outdial records export --vdn 1 --data /srv/outdial > calls.csv",
        "outdial records export --vdn 1 --campaign 46 --since 2026-03-01 --until 2026-04-01 --format ndjson",
        "outdial records export --vdn 1 --spreadsheet --data /srv/outdial > calls.csv",
    )
)
@with_store
def export(
    *,
    vdn: OfVdn,
    campaign: Annotated[
        int | None, typer.Option("--campaign", metavar="ID", min=1, help="Of this campaign alone.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Calls from then on (UTC): yyyy-mm-dd[Thh:mm:ss].")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Calls before then (UTC).")] = None,
    format_: Annotated[
        Literal["csv", "ndjson"], typer.Option("--format", metavar="csv|ndjson", help="What is written.")
    ] = "csv",
    spreadsheet: Annotated[
        bool, typer.Option("--spreadsheet", help="CSV: put ' before what a spreadsheet takes for a formula.")
    ] = False,
    options: StoreOptions,
) -> None:
    """Write a line for every call that has ended, oldest first; times are UTC.

    A transfer has a line of its own, which names in transferOf the call that it handed over.

    CSV is RFC 4180 with a heading. With --spreadsheet a cell that begins with = + - @ a tab, CR or ' gets
    a ' in front: who reads it back takes exactly one away. ndjson is one JSON document a line.
    """
    if spreadsheet and format_ != "csv":
        raise WrongUsage("--spreadsheet: goes with --format csv")
    begin, end = _time("--since", since, EVER[0]), _time("--until", until, EVER[1])

    async def work(store: Store) -> None:
        write = _csv_writer(guard if spreadsheet else str) if format_ == "csv" else _write_json
        async for page in store.records.pages(vdn, campaign_id=campaign, since=begin, until=end):
            for row in page:
                write(_document(row))

    administer(options, work)


def _time(option: str, text: str | None, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text) if text is not None else otherwise
    except ValueError:
        raise WrongUsage(f"{option}: must be a time like 2026-03-01 or 2026-03-01T12:00:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _document(row: CallRow) -> dict[str, Any]:
    from outdial.disposition import fail_code

    of = row.record
    values = (
        *(str(row.attempt_id), row.campaign_id, row.contact_id, row.attempt_no, row.called, row.caller),
        *(row.session_id, *map(_instant, (row.intent_at, row.sent_at, row.ringing_at, row.answered_at))),
        *(_instant(row.ended_at), of.trunk, row.sip_status, row.cause, row.hung_up_by, row.disposition),
        *(fail_code(row.disposition), of.keys or None, list(of.steps) or None, of.detector),
        *(of.rtp_sent, of.rtp_received, str(row.transfer_of) if row.transfer_of is not None else None),
    )
    return dict(zip(FIELDS, values, strict=True))


def _instant(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat(timespec="milliseconds") if value is not None else None


def _write_json(document: dict[str, Any]) -> None:
    print(json.dumps(document))


def _csv_writer(cell: Callable[[str], str]) -> Callable[[dict[str, Any]], None]:
    """A writer of rows, which has written the heading."""
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(FIELDS)
    return lambda document: writer.writerow([cell(_text(value)) for value in document.values()])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, list) else str(value)


def guard(text: str) -> str:
    """The cell for a spreadsheet: nothing in it is a formula (OWASP, CSV Injection)."""
    return f"'{text}" if text.startswith(GUARDED) else text
