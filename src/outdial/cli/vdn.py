"""`outdial vdn`: tenants, in the store."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import for_person, note, print_done, print_json, print_rows
from outdial.cli.store_access import StoreOptions, VdnId, administer, with_store
from outdial.cli.targets import Json

if TYPE_CHECKING:
    from outdial.model import Vdn
    from outdial.store.store import Store

app = typer.Typer(help="VDNs, the tenants (administration).")

SECRET_BYTES = 32

TimeZone = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        metavar="TZ",
        help="IANA time zone of the daily hours, of recycle times and of 'today'; UTC for a new VDN.",
    ),
]
EditionOf = Annotated[
    Literal["2023-09", "2025-11"] | None,
    typer.Option(
        "--edition", metavar="2023-09|2025-11", help="The edition of the interface; 2023-09 for a new VDN."
    ),
]
MaxActive = Annotated[
    int | None,
    typer.Option(
        "--max-active",
        metavar="N",
        min=0,
        max=1_000_000,
        help="How many campaigns of one kind may be active; 20 for a new VDN.",
    ),
]
RecycleOf = Annotated[
    Literal["keep", "retire"] | None,
    typer.Option(
        "--recycle",
        metavar="keep|retire",
        help="A recycle time is kept as a tag, or retires its number; keep for a new VDN.",
    ),
]
TrunkGroup = Annotated[
    str | None,
    typer.Option(
        "--trunk-group", metavar="GROUP", help="The trunks that carry its calls; default for a new VDN."
    ),
]

_CAP = "Calls to one number by all campaigns in {}, at most; 0: any number of them."
PerMinute = Annotated[
    int | None,
    typer.Option("--max-per-minute", metavar="N", min=0, max=1000, help=_CAP.format("a minute")),
]
PerHour = Annotated[
    int | None, typer.Option("--max-per-hour", metavar="N", min=0, max=1000, help=_CAP.format("an hour"))
]
PerDay = Annotated[
    int | None,
    typer.Option("--max-per-day", metavar="N", min=0, max=1000, help=_CAP.format("a day of the time zone")),
]

_KEEP = "Days for which {} are kept; 0: for ever."
_MOST_DAYS = 36_500
KeepNumbers = Annotated[
    int | None,
    typer.Option("--keep-numbers", metavar="DAYS", min=0, max=_MOST_DAYS, help=_KEEP.format("done numbers")),
]
KeepResults = Annotated[
    int | None,
    typer.Option("--keep-results", metavar="DAYS", min=0, max=_MOST_DAYS, help=_KEEP.format("results")),
]
KeepRecords = Annotated[
    int | None,
    typer.Option("--keep-records", metavar="DAYS", min=0, max=_MOST_DAYS, help=_KEEP.format("call records")),
]


@app.command(
    epilog=examples(
        "outdial vdn create 1 --data /srv/outdial",
        "outdial vdn create 7 --time-zone Asia/Shanghai --edition 2025-11 --data /srv/outdial",
    )
)
@with_store
def create(
    *,
    vdn: VdnId,
    time_zone: TimeZone = None,
    edition: EditionOf = None,
    max_active: MaxActive = None,
    recycle: RecycleOf = None,
    trunk_group: TrunkGroup = None,
    max_per_minute: PerMinute = None,
    max_per_hour: PerHour = None,
    max_per_day: PerDay = None,
    keep_numbers: KeepNumbers = None,
    keep_results: KeepResults = None,
    keep_records: KeepRecords = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Create a VDN; a data folder that is not there yet is made."""
    changes = _changes(time_zone, edition, max_active, recycle, trunk_group)

    from outdial.model import Caps, Keep, Vdn

    caps = Caps(max_per_minute or None, max_per_hour or None, max_per_day or None)
    keep = Keep(keep_numbers or None, keep_results or None, keep_records or None)
    made = Vdn(vdn, **changes, caps=caps, keep=keep)
    if not administer(options, lambda store: store.vdns.create(made), makes_data=True):
        raise Refused(f"VDN {vdn} exists already; `outdial vdn set {vdn}` changes it")
    if json:
        print_json(_document(made))
    else:
        print(f"VDN {vdn} created")


def _changes(
    time_zone: str | None,
    edition: str | None,
    max_active: int | None,
    recycle: str | None,
    trunk_group: str | None,
) -> dict[str, Any]:
    """What the options say about a VDN, judged, in the words of the model."""
    from outdial import calendar
    from outdial.model import Edition, Recycle
    from outdial.routing import name_fault

    if time_zone is not None:
        try:
            calendar.zone(time_zone)
        except ValueError as error:
            raise WrongUsage(f"--time-zone: {error}; for example Europe/Paris") from None
    if trunk_group is not None and (rule := name_fault(trunk_group)) is not None:
        raise WrongUsage(f"--trunk-group: {rule}")
    found = {
        "time_zone": time_zone,
        "edition": Edition(edition) if edition else None,
        "max_active": max_active,
        "recycle": Recycle(recycle) if recycle else None,
        "trunk_group": trunk_group,
    }
    return {name: value for name, value in found.items() if value is not None}


@app.command("list", epilog=examples("outdial vdn list --data /srv/outdial", "outdial vdn list --json"))
@with_store
def list_(
    *,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List the VDNs."""
    vdns: Sequence[Vdn] = administer(options, lambda store: store.vdns.all())
    if json:
        print_json([_document(vdn) for vdn in vdns])
        return
    print_rows(
        ("id", "time zone", "edition", "max active", "recycle", "pushes", "trunk group"),
        (
            (v.vdn_id, v.time_zone, v.edition, v.max_active, v.recycle, _signed_or_not(v), v.trunk_group)
            for v in vdns
        ),
    )


def _signed_or_not(vdn: Vdn) -> str:
    return "signed" if vdn.webhook_secret else "unsigned"


def _document(vdn: Vdn) -> dict[str, Any]:
    return {
        "vdn": vdn.vdn_id,
        "timeZone": vdn.time_zone,
        "edition": vdn.edition.value,
        "maxActive": vdn.max_active,
        "recycle": vdn.recycle.value,
        "signsPushes": vdn.webhook_secret is not None,
        "trunkGroup": vdn.trunk_group,
        "maxPerMinute": vdn.caps.per_minute,
        "maxPerHour": vdn.caps.per_hour,
        "maxPerDay": vdn.caps.per_day,
        "keepNumbers": vdn.keep.numbers,
        "keepResults": vdn.keep.results,
        "keepRecords": vdn.keep.records,
    }


@app.command("set", epilog=examples("outdial vdn set 1 --max-active 50 --max-per-day 5 --data /srv/outdial"))
@with_store
def set_(
    *,
    vdn: VdnId,
    time_zone: TimeZone = None,
    edition: EditionOf = None,
    max_active: MaxActive = None,
    recycle: RecycleOf = None,
    trunk_group: TrunkGroup = None,
    max_per_minute: PerMinute = None,
    max_per_hour: PerHour = None,
    max_per_day: PerDay = None,
    keep_numbers: KeepNumbers = None,
    keep_results: KeepResults = None,
    keep_records: KeepRecords = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Change a VDN: what is given; the rest stays."""
    changes = _changes(time_zone, edition, max_active, recycle, trunk_group)

    from outdial.model import Caps, Keep

    if caps := Caps(max_per_minute, max_per_hour, max_per_day):
        changes["caps"] = caps
    if keep := Keep(keep_numbers, keep_results, keep_records):
        changes["keep"] = keep
    if not changes:
        raise WrongUsage(
            "give at least one of --time-zone, --edition, --max-active, --recycle, --trunk-group,"
            " --max-per-minute, --max-per-hour, --max-per-day, --keep-numbers, --keep-results, --keep-records"
        )
    if not administer(options, lambda store: store.vdns.change(vdn, **changes)):
        raise no_such_vdn(vdn)
    print_done(f"VDN {vdn} changed", {"vdn": vdn, "done": "changed"}, json=json)


@app.command(
    "webhook-secret",
    epilog=examples(
        "outdial vdn webhook-secret 1 --data /srv/outdial",
        "outdial vdn webhook-secret 1 --remove --data /srv/outdial",
    ),
)
@with_store
def webhook_secret(
    *,
    vdn: VdnId,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the secret away: pushes are no longer signed.")
    ] = False,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Make a new secret that signs the VDN's pushes (Standard Webhooks), instead of any older one.

    The secret is shown this once.
    """
    secret = None if remove else f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"

    async def work(store: Store) -> bool:
        return await store.vdns.set_webhook_secret(vdn, secret)

    if not administer(options, work, makes_secrets=not remove):
        raise no_such_vdn(vdn)
    if json:
        print_json({"vdn": vdn, "webhookSecret": secret})
    elif secret is None:
        print(f"VDN {vdn}: pushes are no longer signed")
    else:
        print(secret)
        if for_person():
            note("this secret is not shown again")


def no_such_vdn(vdn: int) -> Refused:
    """The refusal of a VDN that is not there."""
    return Refused(f"there is no VDN {vdn}; `outdial vdn create {vdn}` makes it")


async def known(store: Store, vdn: int) -> None:
    """Raises the refusal of a VDN that is not there."""
    if await store.vdns.one(vdn) is None:
        raise no_such_vdn(vdn)
