"""`outdial prompt`: recordings for call flows, in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused
from outdial.cli.output import instant, print_done, print_json, print_rows
from outdial.cli.store_access import OfVdn, StoreOptions, administer, read_file, with_store
from outdial.cli.targets import Json
from outdial.cli.vdn import known

if TYPE_CHECKING:
    from outdial.store.flows import StoredPrompt
    from outdial.store.store import Store

app = typer.Typer(help="Prompts: recordings that call flows play (administration).")

PromptName = Annotated[
    str, typer.Argument(metavar="NAME", help="The prompt's name: ASCII letters, digits, _ . and -.")
]


@app.command(epilog=examples("outdial prompt add hello hello.wav --vdn 1 --data /srv/outdial"))
@with_store
def add(
    *,
    name: PromptName,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="WAV, or raw µ-law of 8 kHz; up to 10 minutes and 30 MB."),
    ],
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Store a recording, instead of an older one of its name. It is made ready for the telephone here."""
    from outdial.flow import FlowError, check_prompt_name
    from outdial.prompts import MAX_BYTES, PromptError, read_prompt

    try:
        check_prompt_name(name)
        prompt = read_prompt(read_file(file, MAX_BYTES))
    except FlowError as error:
        raise Refused(str(error)) from error
    except PromptError as error:
        raise Refused(f"{file.name}: {error}") from error

    async def work(store: Store) -> bool:
        await known(store, vdn)
        return await store.flows.add_prompt(vdn, name, prompt.ulaw)

    created = administer(options, work)
    if json:
        print_json({"name": name, "created": created, "milliseconds": prompt.milliseconds})
    else:
        print(f"prompt {name} {'added' if created else 'replaced'}: {prompt.milliseconds / 1000:.1f} s")


@app.command("list", epilog=examples("outdial prompt list --vdn 1 --data /srv/outdial"))
@with_store
def list_(
    *,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List a VDN's prompts."""

    async def work(store: Store) -> list[StoredPrompt]:
        await known(store, vdn)
        return await store.flows.prompts(vdn)

    found = [(p.name, p.duration_ms, instant(p.created_at), p.sha256) for p in administer(options, work)]
    if json:
        names = ("name", "milliseconds", "createdAt", "sha256")
        print_json([dict(zip(names, row, strict=True)) for row in found])
        return
    rows = ((name, f"{ms / 1000:.1f}", created, digest[:12]) for name, ms, created, digest in found)
    print_rows(("name", "seconds", "recorded (UTC)", "sha256"), rows)


@app.command(epilog=examples("outdial prompt remove hello --vdn 1 --data /srv/outdial"))
@with_store
def remove(
    *,
    name: PromptName,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Remove a prompt. Refused while a flow plays it."""
    from outdial.store.flows import StillUsed

    async def work(store: Store) -> bool:
        await known(store, vdn)
        return await store.flows.remove_prompt(vdn, name)

    try:
        removed = administer(options, work)
    except StillUsed as error:
        raise Refused(f"prompt {name} is in use: {', '.join(error.by)}; change that first") from error
    if not removed:
        raise Refused(f"VDN {vdn} has no such prompt; `outdial prompt list --vdn {vdn}` lists them")
    print_done(f"prompt {name} removed", {"removed": name}, json=json)
