"""`outdial destination`: what a VDN may dial, in the store. Without an allowed prefix it dials nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import note, print_json, print_rows
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store
from outdial.cli.targets import Json
from outdial.cli.vdn import no_such_vdn

if TYPE_CHECKING:
    from outdial.store.store import Store

app = typer.Typer(help="Destinations that a VDN may dial (administration).")

Prefixes = Annotated[
    list[str],
    typer.Argument(
        metavar="PREFIX",
        help="How the final dial string begins, after the trunk's prefix rules; or the word any: every one.",
    ),
]


@app.command(
    epilog=examples(
        "outdial destination allow --vdn 1 +4930 +4940 --data /srv/outdial",
        "outdial destination allow --vdn 1 '*31#'",
    )
)
@with_store
def allow(
    *,
    prefixes: Prefixes,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Allow destinations, besides those that are allowed already.

    A prefix is compared as it stands with what is dialed: +49, 0049 and 49 are three.
    """
    _check(prefixes)

    async def work(store: Store) -> list[str]:
        await _known(store, vdn)
        await store.trunks.allow(vdn, prefixes)
        return await store.trunks.prefixes_of(vdn)

    _print_allowed(vdn, administer(options, work), json)
    if "any" in prefixes:
        note("any: premium and foreign numbers too; shorter lists of prefixes bound what a stolen key costs")


@app.command(epilog=examples("outdial destination deny --vdn 1 +4930 --data /srv/outdial"))
@with_store
def deny(
    *,
    prefixes: Prefixes,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Take prefixes off the list of allowed ones: all that are given, or none.

    What other prefixes of the list allow stays allowed.
    """
    _check(prefixes)

    async def work(store: Store) -> list[str]:
        await _known(store, vdn)
        if absent := await store.trunks.deny(vdn, prefixes):
            raise Refused(f"VDN {vdn}: not on its list, so nothing was changed: {', '.join(absent)}")
        return await store.trunks.prefixes_of(vdn)

    left = administer(options, work)
    _print_allowed(vdn, left, json)
    for prefix in prefixes:
        if covering := [other for other in left if other == "any" or prefix.startswith(other)]:
            note(f"{prefix} is still allowed by {', '.join(covering)}")


@app.command("list", epilog=examples("outdial destination list --vdn 1 --data /srv/outdial"))
@with_store
def list_(
    *,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List the prefixes that a VDN may dial; none: it dials nothing."""

    async def work(store: Store) -> list[str]:
        await _known(store, vdn)
        return await store.trunks.prefixes_of(vdn)

    found = administer(options, work)
    if json:
        print_json({"vdn": vdn, "allowed": found})
    else:
        print_rows(("prefix",), [(prefix,) for prefix in found])


async def _known(store: Store, vdn: int) -> None:
    if await store.vdns.one(vdn) is None:
        raise no_such_vdn(vdn)


def _check(prefixes: Sequence[str]) -> None:
    from outdial.routing import prefix_fault

    for prefix in prefixes:
        if (rule := prefix_fault(prefix)) is not None:
            raise WrongUsage(f"prefix '{prefix}': {rule}")


def _print_allowed(vdn: int, allowed: Sequence[str], json: bool) -> None:
    if json:
        print_json({"vdn": vdn, "allowed": list(allowed)})
    else:
        print(f"VDN {vdn} may dial {', '.join(allowed) or 'nothing'}")
