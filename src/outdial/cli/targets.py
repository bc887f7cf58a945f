"""Which server a command speaks to, and as whom: the options of every command over the signed client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from outdial.cli.failures import EXIT_REFUSED, EXIT_UNAVAILABLE, Failure, WrongUsage
from outdial.errors import Code

if TYPE_CHECKING:
    from outdial.client import BlockingClient, ClientError

HIGHEST_VDN = 9999

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="OUTDIAL_URL", metavar="URL", help="The server: http://host:port."),
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


@contextmanager
def connected(url: str | None, ak: str | None, sk: str | None, vdn: int | None) -> Iterator[BlockingClient]:
    """A client of the server that the options name. Raises `WrongUsage` and `Failure`, `SettingError`."""
    given = {"url": url, "ak": ak, "sk": sk, "vdn": vdn}
    absent = [f"--{name} (OUTDIAL_{name.upper()})" for name, value in given.items() if not value]
    if absent or not url or not ak or not sk or not vdn:
        raise WrongUsage(f"{', '.join(absent)}: missing; `outdial dev` prints what to set")

    from outdial.client import BlockingClient, ClientError

    try:
        with BlockingClient(url, ak, sk, vdn) as client:
            yield client
    except ClientError as error:
        raise failure_of(error) from error


def failure_of(error: ClientError, *, report: str = "") -> Failure:
    """A client's error as the end of the command: what is wrong, the way out, code and request id.

    `report` says what was achieved before it.
    """
    text = error.description or "no description"
    if hint := _way_out(error):
        text += f"; {hint}"
    request = f"request {error.request_id}" if error.request_id else None
    if facts := [fact for fact in (error.code, request) if fact]:
        text += f" [{', '.join(facts)}]"
    refused = error.code is not None and error.code != Code.DATABASE.wire
    return Failure(text + report, EXIT_REFUSED if refused else EXIT_UNAVAILABLE)


def _way_out(error: ClientError) -> str:
    from outdial.client import NoAnswer, NotConnected

    if isinstance(error, NotConnected):
        return "is the server running, and --url (OUTDIAL_URL) its address?"
    if isinstance(error, NoAnswer):
        return "whether it took effect is not known"
    if error.http_status == 401:
        return "check OUTDIAL_AK, OUTDIAL_SK, OUTDIAL_VDN and this machine's clock"
    if error.code == Code.DATABASE.wire:
        return "nothing was kept; try again later"
    return ""
