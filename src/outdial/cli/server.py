"""`outdial serve` and `outdial dev`: the settings of a server from options, environment and file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.store_access import NO_STORE

app = typer.Typer()

NOT_FOR_DEV = (
    *("OUTDIAL_DATA", "OUTDIAL_DATABASE", "OUTDIAL_ROLES"),
    *("OUTDIAL_TLS_CERT", "OUTDIAL_TLS_KEY", "OUTDIAL_BEHIND_PROXY", "OUTDIAL_METRICS_LISTEN"),
    "OUTDIAL_PUBLIC_NAMES",
)
"""Settings of a real server that `dev` must not touch by a forgotten variable."""

Listen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help="Where the API listens; port 0 picks a free one (OUTDIAL_LISTEN).",
        show_default="127.0.0.1:8080",
    ),
]
PgBin = Annotated[
    Path | None,
    typer.Option(
        "--pg-bin",
        metavar="DIR",
        help="The folder of PostgreSQL's binaries for the embedded one (OUTDIAL_PG_BIN).",
    ),
]
PgUser = Annotated[
    str | None,
    typer.Option(
        "--pg-user",
        metavar="USER",
        help="As root: the system user that runs the embedded PostgreSQL (OUTDIAL_PG_USER).",
    ),
]


@app.command(
    epilog=examples(
        "outdial serve --data /srv/outdial",
        "outdial serve --config outdial.toml --role api --api-processes 4",
        "OUTDIAL_DATABASE=postgresql://... outdial serve --role engine --role push",
    )
)
def serve(
    *,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file of settings; variables go before it.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The data folder, with the embedded PostgreSQL (OUTDIAL_DATA)."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="DSN", help="A PostgreSQL of yours, instead of the embedded one (OUTDIAL_DATABASE)."
        ),
    ] = None,
    listen: Listen = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="What runs here: api, engine, push; may be repeated (OUTDIAL_ROLES).",
            show_default="all",
        ),
    ] = None,
    api_processes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of api processes (OUTDIAL_API_PROCESSES).", show_default="1"),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The certificate of the API and its chain, PEM (OUTDIAL_TLS_CERT)."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key of --tls-cert, PEM (OUTDIAL_TLS_KEY).")
    ] = None,
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="A proxy in front of the API, or its network; may be repeated. Plain HTTP off loopback is "
            "allowed then, and X-Forwarded-For is believed from it alone (OUTDIAL_BEHIND_PROXY).",
        ),
    ] = None,
    pg_bin: PgBin = None,
    pg_user: PgUser = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Api, engine and push run under one supervisor; --role picks. On loopback the API speaks HTTP, elsewhere
    HTTPS: with --tls-cert, or with a self-signed certificate whose fingerprint is printed. SIGHUP takes a
    new certificate from the same files. Every setting has a variable OUTDIAL_NAME; an option goes before
    its variable, a variable before the file.
    """
    from outdial.config import load

    settings = load(config, os.environ).with_options(
        data=data,
        database=database,
        listen=listen,
        roles=tuple(role) if role else None,
        api_processes=api_processes,
        tls_cert=tls_cert,
        tls_key=tls_key,
        behind_proxy=tuple(behind_proxy) if behind_proxy else None,
        pg_bin=pg_bin,
        pg_user=pg_user,
    )
    if settings.data is None and settings.database is None:
        raise WrongUsage(NO_STORE)

    from outdial.compose import serve as run

    raise typer.Exit(run(settings))


@app.command(
    epilog=examples(
        "outdial dev", "outdial dev --data ./data", "outdial dev --json --listen 127.0.0.1:0 > events.jsonl"
    )
)
def dev(
    *,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the data here.", show_default="a folder removed at exit"),
    ] = None,
    listen: Listen = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON lines: first what to connect with, then one per pushed result."
        ),
    ] = False,
    pg_bin: PgBin = None,
    pg_user: PgUser = None,
) -> None:
    """Try it: everything on loopback, with a simulated carrier.

    Makes VDN 1, an access key and a draft campaign, and prints the results that are pushed. Not for
    production. OUTDIAL_DATA and OUTDIAL_DATABASE have no effect here.
    """
    from outdial.config import load

    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_DEV}
    settings = load(None, environment).with_options(data=data, listen=listen, pg_bin=pg_bin, pg_user=pg_user)

    from outdial.dev import dev as run

    raise typer.Exit(run(settings, json_lines=json))
