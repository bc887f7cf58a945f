"""`outdial flow`: call flows, in the store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import instant, print_done, print_json, print_rows
from outdial.cli.store_access import OfVdn, StoreOptions, administer, read_file, with_store
from outdial.cli.targets import HIGHEST_VDN, Json
from outdial.cli.vdn import known

if TYPE_CHECKING:
    from outdial.flow import Flow
    from outdial.store.flows import StoredFlow
    from outdial.store.store import Store

app = typer.Typer(help="Call flows: what an answered call hears and is asked (administration).")

VOICE = "espeak-ng"

FlowName = Annotated[
    str, typer.Argument(metavar="NAME", help="The flow's name: the deviceSign of its campaigns.")
]
FlowFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The flow's document: TOML when named so, else JSON.")
]
CanSay = Annotated[
    bool,
    typer.Option(
        "--can-say", help=f"The engine has {VOICE} for `say` steps, though this machine may have none."
    ),
]


def _can_say(given: bool) -> bool:
    return given or shutil.which(VOICE) is not None


def _document(file: Path) -> Any:
    """The document in a file. Raises `FlowError`, `WrongUsage`."""
    from outdial.flow import read_document
    from outdial.flow.document import MAX_BYTES

    return read_document(read_file(file, MAX_BYTES), file.name)


@app.command(
    epilog=examples(
        "outdial flow add reminder reminder.toml --vdn 1 --data /srv/outdial",
        "outdial flow add default survey.json --vdn 1 --data /srv/outdial --can-say",
    )
)
@with_store
def add(
    *,
    name: FlowName,
    file: FlowFile,
    vdn: OfVdn,
    can_say: CanSay = False,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Check a flow and store it, instead of an older one of its name. Its prompts must be there.

    Campaigns whose deviceSign is NAME use it; the flow named default is that of campaigns without one.
    Calls that are under way go on in the old flow.
    """
    from outdial.flow import FlowError, check, check_flow_name, document_text

    async def work(store: Store) -> tuple[Flow, bool]:
        await known(store, vdn)
        prompts = {prompt.name for prompt in await store.flows.prompts(vdn)}
        flow = check(document, prompts=prompts, can_say=_can_say(can_say))
        return flow, await store.flows.add(vdn, name, document_text(document), flow.prompts)

    try:
        check_flow_name(name)
        document = _document(file)
        flow, created = administer(options, work)
    except FlowError as error:
        raise Refused(str(error)) from error
    if json:
        print_json({"name": name, "created": created, "prompts": sorted(flow.prompts)})
    else:
        print(f"flow {name} {'added' if created else 'replaced'}")


@app.command(
    epilog=examples(
        "outdial flow check reminder.toml",
        "outdial flow check reminder.toml --vdn 1 --data /srv/outdial",
    )
)
@with_store
def check(
    *,
    file: FlowFile,
    vdn: Annotated[
        int | None,
        typer.Option(
            "--vdn",
            envvar="OUTDIAL_VDN",
            metavar="N",
            min=1,
            max=HIGHEST_VDN,
            help="The VDN with the prompts.",
        ),
    ] = None,
    can_say: CanSay = False,
    options: StoreOptions | None,
    json: Json = False,
) -> None:
    """Check a flow, and print every problem or the prompts it plays. Stores nothing.

    Whether the prompts are there is judged when the store is given.
    """
    from outdial import flow as flows

    prompts = _prompts(options, vdn)
    try:
        checked = flows.check(_document(file), prompts=prompts, can_say=_can_say(can_say))
    except flows.FlowError as error:
        _print_problems(error.problems, json)
        raise Refused(f"{file.name}: problems: {len(error.problems)}") from error
    if json:
        print_json({"problems": [], "prompts": sorted(checked.prompts)})
    else:
        print_rows(("prompt",), ((name,) for name in sorted(checked.prompts)))


def _prompts(options: StoreOptions | None, vdn: int | None) -> set[str] | None:
    """The VDN's prompts, or None without a store."""
    if options is None:
        return None
    if vdn is None:
        raise WrongUsage("--vdn (OUTDIAL_VDN): missing; it says whose prompts the store is asked for")

    async def work(store: Store) -> set[str]:
        await known(store, vdn)
        return {prompt.name for prompt in await store.flows.prompts(vdn)}

    return administer(options, work)


def _print_problems(problems: tuple[str, ...], json: bool) -> None:
    if json:
        print_json({"problems": list(problems)})
    else:
        print_rows(("problem",), ((problem,) for problem in problems))


@app.command("list", epilog=examples("outdial flow list --vdn 1 --data /srv/outdial"))
@with_store
def list_(
    *,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List a VDN's flows, with the prompts that they can be known to play."""

    async def work(store: Store) -> list[StoredFlow]:
        await known(store, vdn)
        return await store.flows.all(vdn)

    found = administer(options, work)
    if json:
        print_json([_facts(flow) for flow in found])
        return
    rows = ((f.name, instant(f.created_at), instant(f.updated_at), ", ".join(f.prompts)) for f in found)
    print_rows(("name", "created (UTC)", "updated (UTC)", "prompts"), rows)


def _facts(flow: StoredFlow) -> dict[str, Any]:
    return {
        "name": flow.name,
        "createdAt": instant(flow.created_at),
        "updatedAt": instant(flow.updated_at),
        "sha256": flow.sha256,
        "prompts": list(flow.prompts),
    }


@app.command(epilog=examples("outdial flow show reminder --vdn 1 --data /srv/outdial > reminder.json"))
@with_store
def show(
    *,
    name: FlowName,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Print a flow's document, as JSON that `flow add` takes again; with --json also what `list` says."""
    from outdial.jsontext import decode_text

    async def work(store: Store) -> StoredFlow | None:
        await known(store, vdn)
        return await store.flows.one(vdn, name)

    found = administer(options, work)
    if found is None:
        raise _no_such_flow(vdn)
    document = decode_text(found.document)
    if json:
        print_json(_facts(found) | {"document": document})
    else:
        print_json(document, indent=2)


@app.command(epilog=examples("outdial flow remove reminder --vdn 1 --data /srv/outdial"))
@with_store
def remove(
    *,
    name: FlowName,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Remove a flow. Refused while started campaigns use it: pause or end them first."""
    from outdial.store.flows import StillUsed

    async def work(store: Store) -> bool:
        await known(store, vdn)
        return await store.flows.remove(vdn, name)

    try:
        removed = administer(options, work)
    except StillUsed as error:
        raise Refused(f"flow {name} is in use: {', '.join(error.by)}; pause or end them first") from error
    if not removed:
        raise _no_such_flow(vdn)
    print_done(f"flow {name} removed", {"removed": name}, json=json)


def _no_such_flow(vdn: int) -> Refused:
    return Refused(f"VDN {vdn} has no such flow; `outdial flow list --vdn {vdn}` lists them")
