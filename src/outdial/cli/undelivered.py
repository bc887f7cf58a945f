"""`outdial results undelivered` and `resend`: what its receiver has not taken, in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import instant, print_json, print_rows
from outdial.cli.results import app
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store
from outdial.cli.targets import Json

if TYPE_CHECKING:
    from outdial.store.results import Undelivered

__all__ = ["app", "resend", "undelivered"]

COLUMNS = ("result", "campaign", "disposition", "failed pushes", "next push (UTC)", "last error", "receiver")
FIELDS = ("resultId", "campaignId", "disposition", "pushes", "dueAt", "lastError", "url", "createdAt")


@app.command(
    epilog=examples(
        "outdial results undelivered --vdn 1 --data /srv/outdial",
        "outdial results undelivered --vdn 1 --limit 10000 --json",
    )
)
@with_store
def undelivered(
    *,
    vdn: OfVdn,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="The most that are listed, oldest first.")
    ] = 100,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List results whose push has failed at least once.

    One without a next push has used up the documented pushes: `outdial results resend` starts them afresh.
    """
    found = [
        _row(result)
        for result in administer(options, lambda store: store.results.undelivered(vdn, limit=limit))
    ]
    if json:
        print_json([dict(zip(FIELDS, row, strict=True)) for row in found])
    else:
        print_rows(COLUMNS, (row[: len(COLUMNS)] for row in found))


def _row(result: Undelivered) -> tuple[str | int | None, ...]:
    return (
        str(result.result_id),
        result.campaign_id,
        result.disposition.value,
        result.pushes,
        instant(result.due_at),
        result.last_error,
        result.url,
        instant(result.created_at),
    )


@app.command(
    epilog=examples(
        "outdial results resend --vdn 1 --data /srv/outdial",
        "outdial results resend --vdn 1 2f1c9a5e-8f0e-4c57-9a55-0d6f3b7f1c11 --data /srv/outdial",
    )
)
@with_store
def resend(
    *,
    vdn: OfVdn,
    result_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RESULT_ID", help="The results; without any: all undelivered.", show_default=False
        ),
    ] = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Start the pushes of undelivered results afresh, to where their campaigns' results go now.

    The running server sends them.
    """
    ids = _ids(result_ids or [])
    count = administer(options, lambda store: store.results.send_again(vdn, ids or None))
    if json:
        print_json({"resent": count})
    else:
        print(f"{count} results will be pushed again")
    if count < len(ids):
        raise Refused(f"{len(ids) - count} of the {len(ids)} are unknown, delivered, or have not failed yet")


def _ids(texts: list[str]) -> list[UUID]:
    try:
        return sorted({UUID(text) for text in texts})
    except ValueError:
        raise WrongUsage("RESULT_ID: must be an id as `outdial results undelivered` prints it") from None
