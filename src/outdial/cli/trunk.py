"""`outdial trunk`: the SIP servers that take our calls, in the store. All VDNs share them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import Refused, WrongUsage
from outdial.cli.output import print_json
from outdial.cli.store_access import StoreOptions, administer, with_store
from outdial.cli.targets import Json

if TYPE_CHECKING:
    from outdial.model import PrefixRule, Trunk
    from outdial.switch.gateway import Probe

app = typer.Typer(help="Trunks, the SIP servers that take our calls (administration).")

PASSWORD = "OUTDIAL_TRUNK_PASSWORD"  # noqa: S105 - the name of the variable

CLEARABLE = ("port", "outbound-proxy", "login", "caller-id", "from-domain", "prefix-rules", "max-minutes")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The trunk: 1 to 32 of a-z, 0-9 and '-', not '-' first.")
]
HostNeeded = Annotated[
    str, typer.Option("--host", metavar="HOST", help="The SIP server: a name, or an IPv4 or IPv6 literal.")
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="HOST", help="The SIP server: a name, or an IPv4 or IPv6 literal."),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", metavar="N", help="Its port. Without one: by DNS SRV, else 5060, for tls 5061; the default."
    ),
]
Transport = Annotated[
    Literal["udp", "tcp", "tls"] | None,
    typer.Option("--transport", metavar="udp|tcp|tls", help="How SIP goes there; udp for a new trunk."),
]
Group = Annotated[
    str | None,
    typer.Option("--group", metavar="GROUP", help="The group that VDNs name; default for a new trunk."),
]
Position = Annotated[
    int | None,
    typer.Option(
        "--position",
        metavar="N",
        help="1 to 100; in its group the smallest is tried first; 1 for a new trunk.",
    ),
]
Weight = Annotated[
    int | None,
    typer.Option(
        "--weight", metavar="N", help="1 to 100: its part of the calls of its position; 1 for a new trunk."
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="OUTDIAL_SIP_CA_FILE",
        metavar="FILE",
        help="Certificates that a TLS trunk is verified against; else those of the system.",
    ),
]
OutboundProxy = Annotated[
    str | None,
    typer.Option(
        "--outbound-proxy",
        metavar="HOST[:PORT]",
        help="Requests go there first; an IPv6 literal in brackets.",
    ),
]
Username = Annotated[
    str | None,
    typer.Option(
        "--username",
        metavar="USER",
        help=f"The login. Its password comes from {PASSWORD}, else a prompt, else the first line of stdin.",
    ),
]
NewPassword = Annotated[
    bool, typer.Option("--new-password", help="Take a new password for the login that is there.")
]
Registers = Annotated[
    bool | None,
    typer.Option("--registers/--no-registers", help="Register there; needs a login. Off for a new trunk."),
]
CallerId = Annotated[
    str | None,
    typer.Option("--caller-id", metavar="NUMBER", help="Replaces the calling number of every call."),
]
FromDomain = Annotated[
    str | None,
    typer.Option("--from-domain", metavar="DOMAIN", help="The domain in From; without one the server's."),
]
PrefixRules = Annotated[
    list[str] | None,
    typer.Option(
        "--prefix-rule",
        metavar="PREFIX=REPLACEMENT",
        help="A called number that begins with PREFIX gets REPLACEMENT instead, the longest PREFIX holds."
        " May be repeated; all of them replace those that were there.",
    ),
]
MaxCps = Annotated[
    float | None,
    typer.Option("--max-cps", metavar="X", help="Calls a second, 0.1 to 1000; 10 for a new trunk."),
]
MaxChannels = Annotated[
    int | None,
    typer.Option(
        "--max-channels", metavar="N", help="Calls at the same time, 1 to 10000; 30 for a new trunk."
    ),
]
MaxMinutes = Annotated[
    int | None,
    typer.Option(
        "--max-minutes",
        metavar="N",
        help="Answered minutes a day (UTC) after which no call begins; unbounded for a new trunk.",
    ),
]
TimerB = Annotated[
    float | None,
    typer.Option(
        "--timer-b",
        metavar="SECONDS",
        help="The wait for its first answer to a call, 0.5 to 32; 4 for a new trunk.",
    ),
]
PingEvery = Annotated[
    int | None,
    typer.Option(
        "--ping-every",
        metavar="SECONDS",
        help="How often OPTIONS asks whether it lives, 5 to 3600, 0 for never; 30 for a new trunk.",
    ),
]
Enabled = Annotated[
    bool | None,
    typer.Option("--enabled/--disabled", help="Whether it takes calls; enabled for a new trunk."),
]
Clear = Annotated[
    list[str] | None,
    typer.Option(
        "--clear",
        metavar="FIELD",
        help=f"Take a value away: {', '.join(CLEARABLE)}. May be repeated.",
    ),
]


@app.command(
    epilog=examples(
        "outdial trunk add carrier --host sip.example.com --max-cps 5 --data /srv/outdial",
        "outdial trunk add b --host 192.0.2.7 --username 4711 --prefix-rule 00=+ --prefix-rule 0=+49",
    )
)
@with_store
def add(
    *,
    name: Name,
    host: HostNeeded,
    port: Port = None,
    transport: Transport = None,
    group: Group = None,
    position: Position = None,
    weight: Weight = None,
    outbound_proxy: OutboundProxy = None,
    username: Username = None,
    registers: Registers = None,
    caller_id: CallerId = None,
    from_domain: FromDomain = None,
    prefix_rule: PrefixRules = None,
    max_cps: MaxCps = None,
    max_channels: MaxChannels = None,
    max_minutes: MaxMinutes = None,
    timer_b: TimerB = None,
    ping_every: PingEvery = None,
    enabled: Enabled = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Add a trunk. A running server takes it within a second.

    Nothing is dialed before its destination is allowed: `outdial destination allow`.
    """
    changes = _given(
        port=port,
        transport=transport,
        group=group,
        position=position,
        weight=weight,
        outbound_proxy=outbound_proxy,
        username=username,
        registers=registers,
        caller_id=caller_id,
        from_domain=from_domain,
        prefix_rules=_prefix_rules(prefix_rule),
        max_cps=max_cps,
        max_channels=max_channels,
        max_minutes=max_minutes,
        timer_b=timer_b,
        ping_every=ping_every,
        enabled=enabled,
        password=_password() if username is not None else None,
    )

    from outdial.model import Trunk

    trunk = Trunk(name, host, **changes)
    _check(trunk)
    if not administer(
        options, lambda store: store.trunks.add(trunk), makes_secrets=trunk.password is not None
    ):
        raise Refused(f"trunk {name} exists already; `outdial trunk set {name}` changes it")
    if json:
        print_json(document(trunk))
    else:
        print(f"trunk {name} added")


@app.command(
    "set",
    epilog=examples(
        "outdial trunk set carrier --max-channels 60 --data /srv/outdial",
        "outdial trunk set carrier --clear caller-id --disabled",
    ),
)
@with_store
def set_(
    *,
    name: Name,
    host: Host = None,
    port: Port = None,
    transport: Transport = None,
    group: Group = None,
    position: Position = None,
    weight: Weight = None,
    outbound_proxy: OutboundProxy = None,
    username: Username = None,
    new_password: NewPassword = False,
    registers: Registers = None,
    caller_id: CallerId = None,
    from_domain: FromDomain = None,
    prefix_rule: PrefixRules = None,
    max_cps: MaxCps = None,
    max_channels: MaxChannels = None,
    max_minutes: MaxMinutes = None,
    timer_b: TimerB = None,
    ping_every: PingEvery = None,
    enabled: Enabled = None,
    clear: Clear = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Change a trunk: what is given; the rest stays. A running server follows within a second."""
    changes = _given(
        host=host,
        port=port,
        transport=transport,
        group=group,
        position=position,
        weight=weight,
        outbound_proxy=outbound_proxy,
        username=username,
        registers=registers,
        caller_id=caller_id,
        from_domain=from_domain,
        prefix_rules=_prefix_rules(prefix_rule),
        max_cps=max_cps,
        max_channels=max_channels,
        max_minutes=max_minutes,
        timer_b=timer_b,
        ping_every=ping_every,
        enabled=enabled,
    )
    cleared = _cleared(clear or [])
    if both := sorted(changes.keys() & cleared.keys()):
        raise WrongUsage(f"{_option(both[0])}: given and cleared")
    if not (changes or cleared or new_password):
        raise WrongUsage("give at least one option of what to change; see outdial trunk set --help")
    if username is not None or new_password:
        changes["password"] = _password()

    def revise(trunk: Trunk) -> Trunk:
        revised = replace(trunk, **cleared, **changes)
        _check(revised)
        return revised

    changed = administer(
        options, lambda store: store.trunks.change(name, revise), makes_secrets="password" in changes
    )
    if changed is None:
        raise _no_such_trunk(name)
    if json:
        print_json(document(changed))
    else:
        print(f"trunk {name} changed")


@app.command(epilog=examples("outdial trunk remove carrier --data /srv/outdial"))
@with_store
def remove(
    *,
    name: Name,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Remove a trunk. It takes no new call within a second; calls that run go on to their end."""
    if not administer(options, lambda store: store.trunks.remove(name)):
        raise _no_such_trunk(name)
    if json:
        print_json({"removed": name})
    else:
        print(f"trunk {name} removed")


@app.command(
    "test",
    epilog=examples("outdial trunk test carrier --data /srv/outdial", "outdial trunk test carrier --json"),
)
@with_store
def sign_of_life(
    *,
    name: Name,
    ca_file: CaFile = None,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Send OPTIONS to a trunk, and say what it answers and how fast. Refused when it does not answer."""
    trunks = administer(options, lambda store: store.trunks.all())
    trunk = next((one for one in trunks if one.name == name), None)
    if trunk is None:
        raise _no_such_trunk(name)
    found = _probed(trunk, ca_file)
    place = f"{found.hop.transport}:{found.hop.host} port {found.hop.port}"
    if found.status is None:
        raise Refused(f"trunk {name} does not answer at {place} ({found.seconds:.1f} s)")
    if json:
        shown = {"trunk": name, "place": place, "status": found.status, "seconds": round(found.seconds, 3)}
        print_json(shown)
    else:
        print(f"trunk {name} answers {found.status} at {place} after {1000 * found.seconds:.0f} ms")


def _probed(trunk: Trunk, ca_file: Path | None) -> Probe:
    import asyncio
    import ssl

    from outdial.errors import SwitchError
    from outdial.switch.gateway import probe

    try:
        tls = ssl.create_default_context(cafile=ca_file) if trunk.transport == "tls" else None
        return asyncio.run(probe(trunk, tls))
    except (LookupError, OSError, SwitchError) as error:
        raise Refused(f"trunk {trunk.name} is not reached: {str(error) or 'no answer in time'}") from error


def _no_such_trunk(name: str) -> Refused:
    return Refused(f"there is no trunk {name}; `outdial trunk list` lists them")


def _given(**options: Any) -> dict[str, Any]:
    return {field: value for field, value in options.items() if value is not None}


def _cleared(fields: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields:
        if field not in CLEARABLE:
            raise WrongUsage(f"--clear: must be one of {', '.join(CLEARABLE)}")
        if field == "login":
            values |= {"username": None, "password": None}
        else:
            values[field.replace("-", "_")] = () if field == "prefix-rules" else None
    return values


def _prefix_rules(texts: list[str] | None) -> tuple[PrefixRule, ...] | None:
    from outdial.model import PrefixRule

    if not texts:
        return None
    parts = [text.partition("=") for text in texts]
    if not all(equals for _, equals, _ in parts):
        raise WrongUsage("--prefix-rule: must be PREFIX=REPLACEMENT, for example 00=+")
    return tuple(PrefixRule(prefix, replacement) for prefix, _, replacement in parts)


def _password() -> str:
    """From the variable, a prompt or stdin; never from an option, which other users of the machine see."""
    password = os.environ.get(PASSWORD)
    if password is None and sys.stdin.isatty():
        from getpass import getpass

        password = getpass("Password at the trunk: ")
    if password is None:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise WrongUsage(f"password: missing; set {PASSWORD}, or give it on the first line of stdin")
    return password


def _check(trunk: Trunk) -> None:
    from outdial.routing import faults

    found = faults(trunk)
    if found:
        raise WrongUsage("; ".join(f"{_option(field)}: {rule}" for field, rule in found))


def _option(field: str) -> str:
    if field in ("name", "password"):
        return field
    return "--prefix-rule" if field == "prefix_rules" else f"--{field.replace('_', '-')}"


def document(trunk: Trunk) -> dict[str, Any]:
    """A trunk in JSON, without its password."""
    return {
        "name": trunk.name,
        "host": trunk.host,
        "port": trunk.port,
        "transport": trunk.transport,
        "group": trunk.group,
        "position": trunk.position,
        "weight": trunk.weight,
        "outboundProxy": trunk.outbound_proxy,
        "username": trunk.username,
        "registers": trunk.registers,
        "callerId": trunk.caller_id,
        "fromDomain": trunk.from_domain,
        "prefixRules": [{"prefix": r.prefix, "replacement": r.replacement} for r in trunk.prefix_rules],
        "maxCps": trunk.max_cps,
        "maxChannels": trunk.max_channels,
        "maxMinutes": trunk.max_minutes,
        "timerB": trunk.timer_b,
        "pingEvery": trunk.ping_every,
        "enabled": trunk.enabled,
    }
