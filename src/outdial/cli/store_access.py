"""The store for administration, whether or not a server runs: its options, and the way in."""

from __future__ import annotations

import inspect
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from outdial.cli.failures import WrongUsage
from outdial.cli.option_sets import spread
from outdial.cli.targets import HIGHEST_VDN

if TYPE_CHECKING:
    from outdial.store.sealing import MasterKey
    from outdial.store.store import Store

T = TypeVar("T")

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="OUTDIAL_DATA",
        metavar="DIR",
        help="The data folder of the embedded PostgreSQL: joined when it runs, else started and stopped.",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="OUTDIAL_DATABASE",
        metavar="DSN",
        help="The DSN of a PostgreSQL of yours; goes before --data, which then only says where DIR.key is.",
    ),
]
PgBin = Annotated[
    Path | None,
    typer.Option(
        "--pg-bin",
        envvar="OUTDIAL_PG_BIN",
        metavar="DIR",
        help="The folder of PostgreSQL's binaries for the embedded one.",
    ),
]
PgUser = Annotated[
    str | None,
    typer.Option(
        "--pg-user",
        envvar="OUTDIAL_PG_USER",
        metavar="USER",
        help="As root: the system user that runs the embedded PostgreSQL.",
    ),
]
VdnId = Annotated[int, typer.Argument(metavar="ID", min=1, max=HIGHEST_VDN, help="The VDN, 1 to 9999.")]
OfVdn = Annotated[
    int,
    typer.Option(
        "--vdn", envvar="OUTDIAL_VDN", metavar="N", min=1, max=HIGHEST_VDN, help="The VDN, 1 to 9999."
    ),
]

NO_STORE = "--data DIR (OUTDIAL_DATA) or --database DSN (OUTDIAL_DATABASE): one of them is needed"

# Not asyncpg's own words: they may quote a part of the password.


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Where the store is. Raises `WrongUsage` when neither `data` nor `database` says so."""

    data: Path | None
    database: str | None
    pg_bin: Path | None
    pg_user: str | None

    def __post_init__(self) -> None:
        if self.data is None and not self.database:
            raise WrongUsage(NO_STORE)


_WHERE: Final = {"data": Data, "database": Database, "pg_bin": PgBin, "pg_user": PgUser}


def with_store(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the store is, in the place of its parameter `options`.

    Where that may be None, nobody needs to say so.
    """
    needed = inspect.signature(command, eval_str=True).parameters["options"].annotation is StoreOptions

    def made(**where: Any) -> StoreOptions | None:
        said = needed or where["data"] is not None or where["database"]
        return StoreOptions(**where) if said else None

    return spread(command, "options", _WHERE, made)


def read_file(path: Path, limit: int) -> bytes:
    """The content of a file, but at most one byte more than `limit`. Raises `WrongUsage`."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise WrongUsage(f"{path}: cannot be read: {error.strerror}") from error


def administer(
    options: StoreOptions,
    work: Callable[[Store], Awaitable[T]],
    *,
    makes_data: bool = False,
    makes_secrets: bool = False,
) -> T:
    """Run `work` on the opened store and return what it returns.

    `makes_data`: a data folder that is not there is made; else it is refused, since it is most likely
    mistyped. `makes_secrets`: as in `opened_store`.
    """
    if not makes_data:
        need_data(options)

    import asyncio  # 30 ms that a command over the client need not spend here

    from outdial import audit

    async def run() -> T:
        audit.who.set(f"command {_operator()}")
        async with opened_store(options, makes_secrets=makes_secrets) as store:
            return await work(store)

    return asyncio.run(run())


def _operator() -> str:
    """The system's user who runs the command; by sudo, also who asked it to."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    asked = os.environ.get("SUDO_USER")
    return f"{name} (sudo of {asked})" if asked else name


def need_data(options: StoreOptions) -> None:
    """Raises `WrongUsage` for a data folder that is not there, where no DSN is given."""
    if not (options.database or (options.data is not None and options.data.exists())):
        raise WrongUsage(
            f"data folder {options.data}: is not there; `outdial vdn create` and `outdial serve` make it"
        )


@asynccontextmanager
async def opened_store(options: StoreOptions, *, makes_secrets: bool = False) -> AsyncIterator[Store]:
    """The checked store in its present schema. `makes_secrets`: with a master key, made when missing.

    Raises `SettingError`, `StoreUnavailable`.
    """
    from outdial.store import migrate
    from outdial.store.postgres import check_server
    from outdial.store.store import Store

    with dsn_of(options) as dsn:
        await check_server(dsn)
        await migrate.prepare(dsn)
        key = await _master_key(options, dsn, makes_secrets)
        async with Store(dsn, key, size=2, name="outdial administration") as store:
            yield store


@contextmanager
def dsn_of(options: StoreOptions) -> Iterator[str]:
    """The DSN as given, or of the data folder's PostgreSQL, which is joined, or started and stopped."""
    if options.database:
        yield options.database
        return
    from outdial.store.embedded import EmbeddedOptions, borrowed

    assert options.data is not None
    with borrowed(EmbeddedOptions(options.data, options.pg_bin, options.pg_user)) as dsn:
        yield dsn


async def _master_key(options: StoreOptions, dsn: str, makes_secrets: bool) -> MasterKey | None:
    from outdial.store.sealing import ENVIRONMENT, create_master_key, load_master_key
    from outdial.store.store import Store

    key = load_master_key(options.data, os.environ)
    if not makes_secrets:
        return key
    async with Store(dsn, key, size=1, name="outdial administration") as store:
        await store.vdns.check_master_key()  # a second master key would lock the first one's secrets away
    if key is not None:
        return key
    if options.data is None:
        raise WrongUsage(
            f"{ENVIRONMENT}: missing; secrets are encrypted at rest: set it to 32 random bytes as base64 or"
            " hex, the same for the server, or give --data DIR to keep the key in the file DIR.key"
        )
    return create_master_key(options.data)
