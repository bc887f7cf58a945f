"""`outdial numbers`: into a campaign, 20 a request and a second apart as the contract asks, and out of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import EXIT_INTERRUPTED, Failure, WrongUsage
from outdial.cli.output import print_done, print_json
from outdial.cli.targets import CampaignId, Json, ServerOptions, connected, failure_of, with_server

if TYPE_CHECKING:
    from outdial.client import BlockingClient, Chunk

app = typer.Typer(help="Outbound numbers: add them to a campaign, delete them.")

STDIN = "-"
ONE_REQUEST = 20
"""Numbers that are one request."""
RECYCLED = {"until": "1", "on": "2", "at": "3"}
"""`recycleType`, in words."""


@dataclass
class Progress:
    """How far an add of many numbers has got."""

    given: int
    added: int = 0
    total_size: int | None = None
    data_ids: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0

    def take(self, chunk: Chunk) -> None:
        """The request under way was accepted."""
        self.added += len(chunk.numbers)
        self.under_way = 0
        self.total_size = chunk.total_size
        self.data_ids += [{"called": called, "dataId": one} for called, one in chunk.data_ids.items()]

    def report(self, fate: str) -> str:
        """What is in and what is not; `fate` is that of the request under way."""
        text = f"; {self.added} of {self.given} numbers were added"
        if self.under_way:
            text += f", numbers {self.added + 1} to {self.added + self.under_way} {fate}"
        rest = self.given - self.added - self.under_way
        return text + (f", the last {rest} were not sent" if rest else "")

    def document(self) -> dict[str, Any]:
        """The state for programs."""
        found: dict[str, Any] = {"given": self.given, "added": self.added, "totalSize": self.total_size}
        return found | ({"dataIdList": self.data_ids} if self.data_ids else {})


@app.command(
    epilog=examples(
        "outdial numbers add 46 80001 80003",
        "outdial numbers add 46 80001 --session-id order-17 --custom-field north",
        "outdial numbers add 46 - < numbers.txt",
    )
)
@with_server
def add(
    *,
    campaign: CampaignId,
    numbers: Annotated[
        list[str],
        typer.Argument(metavar="NUMBER", help="Called numbers: digits, * and #; - reads more from stdin."),
    ],
    session_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Session id of each number; comes back with its result."),
    ] = None,
    caller: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Calling number, instead of the campaign's.")
    ] = None,
    custom_field: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Field of your own; comes back with the result."),
    ] = None,
    call_data: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Data for the call flow; JSON for device type 1.")
    ] = None,
    recycle_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Recycle time, 'yyyy-mm-dd hh:mm:ss' in the VDN's time zone."),
    ] = None,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Add numbers to a campaign; the options hold for each of them.

    20 numbers are one request, which is accepted or refused whole; more are sent in several, a second
    apart. The command stops at the first that is refused, and says how many numbers are in.
    """
    called = given_numbers(numbers)
    common = {
        "sessionId": session_id,
        "caller": caller,
        "customField": custom_field,
        "callData": call_data,
        "recycleTime": recycle_time,
    }
    given = {name: value for name, value in common.items() if value is not None}
    progress = Progress(len(called))
    with connected(server) as client:
        try:
            with _shown(progress) as tick:
                _add_all(client, campaign, [{"called": number, **given} for number in called], progress, tick)
        finally:
            if json:
                print_json(progress.document())
    if not json:
        print(f"{progress.added} numbers added; {progress.total_size} incomplete in campaign {campaign}")


def given_numbers(numbers: list[str]) -> list[str]:
    """The numbers of a command line, those of stdin in the place of `-`. Raises `WrongUsage` for none."""
    called: list[str] = []
    for number in numbers:
        called += sys.stdin.read().removeprefix("\ufeff").split() if number == STDIN else [number]
    if not called:
        raise WrongUsage("NUMBER: stdin held no number")
    return called


def _add_all(
    client: BlockingClient,
    campaign: int,
    entries: list[dict[str, Any]],
    progress: Progress,
    tick: Callable[[], None],
) -> None:
    from outdial.client import ClientError, NoAnswer

    def under_way() -> Iterator[dict[str, Any]]:
        for entry in entries:
            progress.under_way += 1
            yield entry

    try:
        for chunk in client.add_in_chunks(campaign, under_way()):
            progress.take(chunk)
            tick()
    except ClientError as error:
        fate = "may or may not be in" if isinstance(error, NoAnswer) else "were not"
        raise failure_of(error, report=progress.report(fate)) from error
    except KeyboardInterrupt as error:
        report = progress.report("may or may not be in")
        raise Failure(f"interrupted{report}", EXIT_INTERRUPTED) from error


@contextmanager
def _shown(progress: Progress) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr when that is a terminal and there is more than one request."""
    if not sys.stderr.isatty() or progress.given <= ONE_REQUEST:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=progress.given)
        yield lambda: bar.update(task, completed=progress.added)


@app.command(
    epilog=examples(
        "outdial numbers delete 46 --called 80001",
        "outdial numbers delete 46 --custom-field north --archive",
        "outdial numbers delete 46 --recycle-time '2030-03-01 00:00:00' --recycled until",
        "outdial numbers delete 46 --all",
    )
)
@with_server
def delete(
    *,
    campaign: CampaignId,
    called: Annotated[str | None, typer.Option(metavar="NUMBER", help="Numbers called so.")] = None,
    session_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Numbers with this session id.")
    ] = None,
    custom_field: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Numbers with this field of your own.")
    ] = None,
    recycle_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="By recycle time, 'yyyy-mm-dd hh:mm:ss' in the VDN's time zone."),
    ] = None,
    recycled: Annotated[
        Literal["until", "on", "at"],
        typer.Option(
            metavar="until|on|at",
            help="Recycle times up to the end of that day, on that day, or exactly then.",
        ),
    ] = "at",
    every: Annotated[bool, typer.Option("--all", help="Every number.")] = False,
    archive: Annotated[
        bool, typer.Option("--archive", help="Keep them as history; they are never called again.")
    ] = False,
    server: ServerOptions,
    json: Json = False,
) -> None:
    """Delete numbers of a campaign that is not executing: those that every option given fits.

    A number that is being called, or is done, is left.
    """
    given = {
        "called": called,
        "sessionId": session_id,
        "customField": custom_field,
        "recycleTime": recycle_time,
        "recycleType": RECYCLED[recycled] if recycle_time is not None else None,
    }
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if bool(body) is every:
        raise WrongUsage(
            "--called, --session-id, --custom-field, --recycle-time: at least one, or --all alone"
        )
    body |= {"archiveHistory": int(archive)} | ({"all": 1} if every else {})
    with connected(server) as client:
        done = client.delete_numbers(campaign, body)
    left = f"{done.total_size} incomplete in campaign {campaign}"
    document = {"deleted": done.deleted, "totalSize": done.total_size}
    print_done(f"{done.deleted} numbers deleted; {left}", document, json=json)
