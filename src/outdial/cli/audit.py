"""`outdial audit`: who changed what, and whether the log of it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import instant, print_json, print_rows
from outdial.cli.store_access import StoreOptions, administer, with_store
from outdial.cli.targets import HIGHEST_VDN, Json

if TYPE_CHECKING:
    from outdial.audit import AuditRow

app = typer.Typer(help="The audit log (administration).")


@app.command(
    epilog=examples(
        "outdial audit verify --data /srv/outdial",
        "outdial audit verify --head 412:HASH --data /srv/outdial",
    )
)
@with_store
def verify(
    *,
    known: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="SEQ:HASH",
            help="A head that an earlier run printed: shows a tail that was cut off, or a log written anew.",
        ),
    ] = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Check that every row of the audit log is as it was written, and print the head.

    Names the first row that was changed, removed or moved. Keep the head outside this machine.
    """
    from outdial.audit import Head

    try:
        wanted = Head.parse(known) if known is not None else None
    except ValueError as error:
        raise WrongUsage(f"--head: {error}") from None
    head, fault = administer(options, lambda store: store.audit.verify(wanted))
    if json:
        print_json({"holdsTo": head.seq, "head": str(head), "fault": fault})
    if fault is not None:
        raise Refused(f"the audit log does not hold: {fault}")
    if not json:
        print(head)


@app.command(
    "list", epilog=examples("outdial audit list --vdn 1 --data /srv/outdial", "outdial audit list --json")
)
@with_store
def list_(
    *,
    vdn: Annotated[
        int | None, typer.Option("--vdn", metavar="N", min=1, max=HIGHEST_VDN, help="Of this VDN alone.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="The newest so many, oldest first.")
    ] = 100,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List what was changed, by whom and when. Numbers are cut to their last 4 characters."""
    rows: Sequence[AuditRow] = administer(options, lambda store: store.audit.newest(vdn, limit))
    if json:
        print_json([_document(row) for row in rows])
        return
    print_rows(
        ("row", "at (UTC)", "who", "VDN", "action", "object", "details"),
        [(r.seq, instant(r.at), r.who, r.vdn_id, r.action, r.object, r.details) for r in rows],
    )


def _document(row: AuditRow) -> dict[str, Any]:
    import json as reader

    return {
        "seq": row.seq,
        "at": row.at.isoformat(timespec="microseconds"),
        "who": row.who,
        "vdn": row.vdn_id,
        "action": row.action,
        "object": row.object,
        "details": reader.loads(row.details),
        "previousHash": row.previous_hash,
        "hash": row.hash,
    }
