"""`outdial doctor`: whether everything that a server needs is as it must be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import EXIT_REFUSED, WrongUsage
from outdial.cli.output import print_json, print_rows
from outdial.cli.store_access import NO_STORE, Data, Database, PgBin, PgUser, StoreOptions, dsn_of
from outdial.cli.targets import Json, Url

if TYPE_CHECKING:
    from outdial.cli.checks import Check
    from outdial.config import Settings

app = typer.Typer()


@app.command(
    epilog=examples(
        "outdial doctor --data /srv/outdial",
        "outdial doctor --config outdial.toml --url http://127.0.0.1:8080",
        "outdial doctor --data /srv/outdial --json",
    )
)
def doctor(
    *,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The server's TOML file.")] = None,
    data: Data = None,
    database: Database = None,
    pg_bin: PgBin = None,
    pg_user: PgUser = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Check what a server needs, print how each stands and what to do. Changes nothing.

    Database, schema, clocks, disk, master key, receivers of results, trunks; with --url the server itself
    and its certificate. Exit code 1 when something failed; a warning is no failure.
    """
    from outdial.config import load

    settings = load(config, os.environ).with_options(
        data=data, database=database, pg_bin=pg_bin, pg_user=pg_user
    )
    if settings.data is None and settings.database is None and url is None:
        raise WrongUsage(f"{NO_STORE}, or --url URL (OUTDIAL_URL)")
    found = _looked(settings, url)
    if json:
        print_json([{"check": c.name, "state": c.state, "said": c.said, "todo": c.todo} for c in found])
    else:
        print_rows(("check", "state", "", "what to do"), [(c.name, c.state, c.said, c.todo) for c in found])
    if any(check.state == "failed" for check in found):
        raise typer.Exit(EXIT_REFUSED)


def _looked(settings: Settings, url: str | None) -> list[Check]:
    import asyncio

    from outdial.cli import checks

    found: list[Check] = []
    if settings.data is not None or settings.database is not None:
        found += _stored(settings)
    if url is not None:
        found += asyncio.run(checks.server(url))
    return found


def _stored(settings: Settings) -> list[Check]:
    """The checks of data folder, master key and database; a folder that is not there is not made."""
    import asyncio

    from outdial.cli import checks
    from outdial.errors import SettingError
    from outdial.store.embedded import has_cluster

    found = [checks.master_key(settings)]
    if settings.data is not None and not settings.database:
        found.append(checks.data_folder(settings.data))
        if not settings.data.is_dir():
            return found
        if not has_cluster(settings.data):
            return [
                *found,
                checks.Check("database", "failed", "the data folder holds none", "outdial serve makes it"),
            ]

    async def look(dsn: str) -> list[Check]:
        return [check async for check in checks.database(dsn, settings)]

    options = StoreOptions(settings.data, settings.database, settings.pg_bin, settings.pg_user)
    try:
        with dsn_of(options) as dsn:
            found += asyncio.run(look(dsn))
    except SettingError as error:
        found.append(checks.Check("database", "failed", str(error), "see the error"))
    return found
