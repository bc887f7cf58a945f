"""Which server a command speaks to, and as whom: the options of every command over the signed client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from outdial.cli.failures import EXIT_REFUSED, EXIT_UNAVAILABLE, Failure, WrongUsage
from outdial.cli.option_sets import spread

if TYPE_CHECKING:
    from outdial.client import BlockingClient, ClientError

HIGHEST_VDN = 9999

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="OUTDIAL_URL",
        metavar="URL",
        help="The server: http://host:port or https://host:port.",
    ),
]
Ak = Annotated[str | None, typer.Option("--ak", envvar="OUTDIAL_AK", metavar="AK", help="The access key.")]
Sk = Annotated[
    str | None,
    typer.Option(
        "--sk",
        envvar="OUTDIAL_SK",
        metavar="SK",
        help="The access key's secret. The variable is better: other users of the machine see options.",
    ),
]
Vdn = Annotated[
    int | None,
    typer.Option(
        "--vdn",
        envvar="OUTDIAL_VDN",
        metavar="N",
        min=1,
        max=HIGHEST_VDN,
        help="The VDN (tenant), 1 to 9999.",
    ),
]
CampaignId = Annotated[int, typer.Argument(metavar="CAMPAIGN", min=1, help="The campaign's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="Certificates (PEM) that an https server is verified against, instead of the system's."
        " Without it OUTDIAL_CA.",
    ),
]
Fingerprint = Annotated[
    str | None,
    typer.Option(
        "--fingerprint",
        metavar="sha256:HEX",
        help="The https server's own certificate (DER), instead of any CA. Without it OUTDIAL_FINGERPRINT.",
    ),
]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The server that a command speaks to, and as whom."""

    url: str | None
    ak: str | None
    sk: str | None
    vdn: int | None
    ca_file: Path | None
    fingerprint: str | None


_SERVER: Final = {"url": Url, "ak": Ak, "sk": Sk, "vdn": Vdn, "ca_file": CaFile, "fingerprint": Fingerprint}


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which server, in the place of its parameter `server`."""
    return spread(command, "server", _SERVER, ServerOptions)


@contextmanager
def connected(server: ServerOptions) -> Iterator[BlockingClient]:
    """A client of the server that the options name. Raises `WrongUsage` and `Failure`, `SettingError`."""
    url, ak, sk, vdn = server.url, server.ak, server.sk, server.vdn
    given = {"url": url, "ak": ak, "sk": sk, "vdn": vdn}
    absent = [f"--{name} (OUTDIAL_{name.upper()})" for name, value in given.items() if not value]
    if absent or not url or not ak or not sk or not vdn:
        raise WrongUsage(f"{', '.join(absent)}: missing; `outdial dev` prints what to set")

    from outdial.client import BlockingClient, ClientError

    trust: Any = {"ca_file": server.ca_file, "fingerprint": server.fingerprint}
    try:
        with BlockingClient(url, ak, sk, vdn, **trust) as client:
            yield client
    except ClientError as error:
        raise failure_of(error) from error


def failure_of(error: ClientError, *, report: str = "") -> Failure:
    """A client's error as the end of the command: what is wrong, the way out, code and request id.

    `report` says what was achieved before it.
    """
    from outdial.client import AuthenticationError, DatabaseUnavailable, Refused

    by_a_rule = isinstance(error, Refused) and not isinstance(
        error, AuthenticationError | DatabaseUnavailable
    )
    text = error.description or "no description"
    if error.hint and not by_a_rule:  # the server's own words name the way out of a rule
        text += f"; {error.hint}"
    request = f"request {error.request_id}" if error.request_id else None
    if facts := [fact for fact in (error.code, request) if fact]:
        text += f" [{', '.join(facts)}]"
    refused = by_a_rule or isinstance(error, AuthenticationError)
    return Failure(text + report, EXIT_REFUSED if refused else EXIT_UNAVAILABLE)
