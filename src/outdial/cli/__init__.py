"""The command line. One module a resource; nothing heavy is imported before a command needs it.

campaign, numbers, blacklist, results
                    over the signed client (targets.py says which server); campaign_change,
                    campaign_why and special_dates hold more commands of campaign
vdn, key, db, trunk, destination, flow, prompt, undelivered, records, audit, erase
                    administration in the store (store_access.py opens it); trunk_list
                    holds one more command of trunk
server, doctor      serve and dev; doctor (checks.py says what it looks at)
output, failures, examples   what is printed, how a command ends, what --help ends with
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

from outdial import __version__
from outdial.cli import (
    audit,
    blacklist,
    campaign,
    campaign_why,
    db,
    destination,
    doctor,
    erase,
    flow,
    key,
    numbers,
    prompt,
    records,
    server,
    special_dates,
    trunk_list,
    undelivered,
    vdn,
)
from outdial.cli.examples import examples
from outdial.cli.failures import EXIT_OK, Failure, as_failures
from outdial.cli.output import print_done, visible
from outdial.cli.targets import Json

PROGRAM = "outdial"

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # plain help: it needs no rich, and reads the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "outdial dev",
        "outdial campaign list",
        "outdial numbers add 46 80001 80003",
        "outdial key create --vdn 1 --data /srv/outdial",
    ),
)
app.add_typer(server.app)
campaign.app.add_typer(special_dates.app, name="special-dates")
app.add_typer(campaign_why.app, name="campaign")
app.add_typer(numbers.app, name="numbers")
app.add_typer(blacklist.app, name="blacklist")
app.add_typer(vdn.app, name="vdn")
app.add_typer(key.app, name="key")
app.add_typer(key.app, name="keys", hidden=True)  # the same group
app.add_typer(db.app, name="db")
app.add_typer(trunk_list.app, name="trunk")
app.add_typer(destination.app, name="destination")
app.add_typer(flow.app, name="flow")
app.add_typer(prompt.app, name="prompt")
app.add_typer(undelivered.app, name="results")
app.add_typer(records.app, name="records")
app.add_typer(audit.app, name="audit")
app.add_typer(erase.app)
app.add_typer(doctor.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """An open server for outbound call campaigns, with the CC-iSales REST interface.

    Begin with `outdial dev`: all of it on loopback. Commands over the interface (campaign, numbers,
    blacklist, results list, results show) take OUTDIAL_URL, OUTDIAL_AK, OUTDIAL_SK and OUTDIAL_VDN;
    administration (vdn, key, db, trunk, destination, flow, prompt, records, audit, erase, doctor, results
    undelivered, results resend, campaign end, campaign why) takes OUTDIAL_DATA or OUTDIAL_DATABASE.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog=examples("outdial version", "outdial version --json"))
def version(*, json: Json = False) -> None:
    """Print the version."""
    print_done(f"{PROGRAM} {__version__}", {"version": __version__}, json=json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (`arguments` default to those of the process) and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no locale may fail a command
    try:
        with as_failures():
            code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
            sys.stdout.flush()
    except Failure as failure:
        print(f"error: {visible(failure)}", file=sys.stderr)
        return failure.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except SystemExit as end:  # typer's answer to the same, when the pipe broke before our flush
        if isinstance(end.__context__, BrokenPipeError):
            return EXIT_OK
        raise
    return code if isinstance(code, int) else EXIT_OK
