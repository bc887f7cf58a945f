"""`outdial erase`: a number goes from a VDN for good."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import print_json
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store
from outdial.cli.targets import Json
from outdial.cli.vdn import known

if TYPE_CHECKING:
    from outdial.store.erasure import Erased
    from outdial.store.store import Store

app = typer.Typer()

MOST = 24


@app.command(epilog=examples("outdial erase 8613800138000 --vdn 1 --data /srv/outdial"))
@with_store
def erase(
    *,
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="As it was added: 1 to 24 digits, * and #.")
    ],
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Take a number out of a VDN: numbers, results, call records, caps, what waits to be pushed.

    Rows stay without it, so that counts stay. A number that waits to be dialed is done without a call and
    without a push. On the blacklist it stays as a keyed hash, and stays refused. Refused while a call to it
    is under way. Backups and PostgreSQL's log of old rows (WAL) are not touched.
    """
    from outdial.store.erasure import CannotErase

    if not 1 <= len(number) <= MOST or not set(number) <= set("0123456789*#"):
        raise WrongUsage("NUMBER: must be 1 to 24 digits, * and #, as the number was added")

    async def work(store: Store) -> Erased:
        await known(store, vdn)
        try:
            return await store.erasure.erase(vdn, number)
        except CannotErase as error:
            raise Refused(str(error)) from error

    found = administer(options, work)
    if json:
        print_json(asdict(found))
        return
    print(f"erased: {found.numbers} numbers, {found.results} results, {found.records} call records")
    if found.blacklisted:
        print("the blacklist holds it as a hash")
