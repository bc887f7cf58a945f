"""`outdial trunk list`: the trunks as they are set, and whether they take calls now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outdial.cli.examples import examples
from outdial.cli.output import instant, print_json, print_rows
from outdial.cli.store_access import StoreOptions, administer, with_store
from outdial.cli.targets import Json
from outdial.cli.trunk import app, document

if TYPE_CHECKING:
    from outdial.model import Trunk, TrunkState
    from outdial.store.store import Store

__all__ = ["app", "list_"]


@app.command("list", epilog=examples("outdial trunk list --data /srv/outdial", "outdial trunk list --json"))
@with_store
def list_(
    *,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """List the trunks, in the order in which their groups try them, and what the engines say of each.

    Passwords are not shown.
    """

    async def look(store: Store) -> list[tuple[Trunk, list[TrunkState]]]:
        trunks, engines = await store.trunks.listed(), await store.calls.standings()
        states = [state for engine in engines for state in engine.trunks]
        return [(trunk, [state for state in states if state.name == trunk.name]) for trunk in trunks]

    found = administer(options, look)
    if json:
        print_json([document(trunk) | {"engines": [*map(_said, states)]} for trunk, states in found])
        return
    print_rows(
        ("name", "group", "position", "weight", "server", "login", "cps", "channels", "minutes", "now"),
        (
            (
                *(t.name, t.group, t.position, t.weight, _server(t), t.username, f"{t.max_cps:g}"),
                *(t.max_channels, t.max_minutes, _now(t, states)),
            )
            for t, states in found
        ),
    )


def _now(trunk: Trunk, states: list[TrunkState]) -> str:
    """Whether it takes calls, or every reason why not: engines may see it differently."""
    if not trunk.enabled:
        return "disabled"
    if not states:
        return "no engine calls over it"
    used, channels = sum(one.in_use for one in states), sum(one.channels for one in states)
    bars = sorted({one.bar or f"takes calls, {used} of {channels} channels in use" for one in states})
    return "; ".join(bars)


def _said(state: TrunkState) -> dict[str, Any]:
    return {
        "bar": state.bar,
        "until": instant(state.until),
        "inUse": state.in_use,
        "channels": state.channels,
    }


def _server(trunk: Trunk) -> str:
    host = f"[{trunk.host}]" if ":" in trunk.host else trunk.host
    port = f":{trunk.port}" if trunk.port is not None else ""
    return f"{host}{port}/{trunk.transport}"
