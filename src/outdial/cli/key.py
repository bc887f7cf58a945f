"""`outdial key`: access keys, in the store. A secret is shown once, when its key is made.

The group is called `keys` too. `rotate-master` replaces the master key under which all secrets are sealed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import for_person, instant, note, print_done, print_facts, print_json, print_rows
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store
from outdial.cli.targets import Json
from outdial.cli.vdn import no_such_vdn

if TYPE_CHECKING:
    from outdial.model import AccessKey
    from outdial.store.sealing import MasterKey
    from outdial.store.store import Store

app = typer.Typer(help="Access keys (administration).")


@app.command(
    epilog=examples(
        "outdial key create --vdn 1 --data /srv/outdial",
        "outdial key create --vdn 1 --data /srv/outdial --json",
    )
)
@with_store
def create(
    *,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Make an access key of a VDN. Its secret (SK) is shown this once.

    Secrets are encrypted with the master key: the file DIR.key beside the data folder DIR, made when
    missing, or the variable OUTDIAL_MASTER_KEY, which is needed with --database alone.
    """

    async def work(store: Store) -> AccessKey:
        if await store.vdns.one(vdn) is None:
            raise no_such_vdn(vdn)
        return await store.vdns.create_key(vdn)

    key = administer(options, work, makes_secrets=True)
    if json:
        print_json({"ak": key.ak, "sk": key.secret})
        return
    print_facts([("AK", key.ak), ("SK", key.secret)])
    if for_person():
        note("the SK is not shown again")


@app.command("list", epilog=examples("outdial key list --vdn 1 --data /srv/outdial"))
@with_store
def list_(
    *,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List a VDN's access keys, without their secrets."""

    async def work(store: Store) -> list[AccessKey]:
        if await store.vdns.one(vdn) is None:
            raise no_such_vdn(vdn)
        return await store.vdns.keys_of(vdn)

    found = [(key.ak, instant(key.created_at), instant(key.revoked_at)) for key in administer(options, work)]
    if json:
        names = ("ak", "createdAt", "revokedAt")
        print_json([dict(zip(names, row, strict=True)) for row in found])
        return
    print_rows(("AK", "created (UTC)", "revoked (UTC)"), found)


@app.command(epilog=examples("outdial key revoke 4f0c2d9be3a1c07755aa --data /srv/outdial"))
@with_store
def revoke(
    *,
    ak: Annotated[str, typer.Argument(metavar="AK", help="The access key.")],
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Revoke an access key for good: within a second no process takes it any more."""
    if administer(options, lambda store: store.vdns.revoke_key(ak)) is None:
        raise Refused("there is no such access key; `outdial key list --vdn N` lists them")
    print_done(f"key {ak} revoked", {"ak": ak, "done": "revoked"}, json=json)


@app.command("rotate-master", epilog=examples("outdial keys rotate-master --data /srv/outdial"))
@with_store
def rotate_master(
    *,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Replace the master key: every stored secret is encrypted anew, in one transaction.

    The new key is in DIR.key afterwards, the old one in DIR.key.FINGERPRINT: backups from before need it.
    A server that reads the same DIR.key needs no restart. After a crash run the command again. With the
    variable OUTDIAL_MASTER_KEY no file is written: it must hold NEW,OLD, and servers OLD,NEW beforehand.
    """
    from outdial.store.sealing import ENVIRONMENT, begin_rotation, finish_rotation, load_master_key

    key: MasterKey | None
    if ENVIRONMENT in os.environ:
        key = load_master_key(None, os.environ)
        assert key is not None
        if not key.opens_others:
            raise WrongUsage(f"{ENVIRONMENT}: must be NEW,OLD here: the new key, a comma, the key until now")
        data = None
    elif options.data is not None:
        data = options.data
        key = begin_rotation(data)
    else:
        raise WrongUsage(f"--data DIR or {ENVIRONMENT}=NEW,OLD: one says where the master key is")

    count = administer(options, lambda store: store.secrets.reseal(key))
    old = finish_rotation(data) if data is not None else None
    if json:
        print_json({"fingerprint": key.fingerprint, "secrets": count, "old": str(old) if old else None})
        return
    print(f"{count} secrets are sealed with master key {key.fingerprint}")
    note(
        f"the old key lies in {old}: backups from before need it" if old else f"now set {ENVIRONMENT} to NEW"
    )
