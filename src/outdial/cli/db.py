"""`outdial db`: the database as a whole. Migrate, back up, restore, bring to a newer PostgreSQL."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from outdial.cli.examples import examples
from outdial.cli.failures import WrongUsage
from outdial.cli.output import note, print_json
from outdial.cli.store_access import PgUser, StoreOptions, dsn_of, need_data, with_store
from outdial.cli.targets import Json

if TYPE_CHECKING:
    from outdial.store.backup import Summary

app = typer.Typer(help="The database as a whole (administration).")


@app.command(epilog=examples("outdial db migrate --data /srv/outdial"))
@with_store
def migrate(*, options: StoreOptions, json: Json = False) -> None:
    """Bring the database's schema to this program's version.

    All pending migrations are one transaction: what stops it leaves the database as it was. `outdial serve`
    does the same at its start. A database of a newer outdial is refused.
    """
    import asyncio

    from outdial.store import migrate as migrations
    from outdial.store.postgres import check_server

    async def work(dsn: str) -> migrations.Prepared:
        await check_server(dsn)
        return await migrations.prepare(dsn)

    need_data(options)
    with dsn_of(options) as dsn:
        done = asyncio.run(work(dsn))
    if json:
        print_json({"from": done.before, "to": done.after})
    elif done.before == done.after:
        print(f"the schema is at version {done.after}: nothing to do")
    else:
        print(f"the schema went from version {done.before} to version {done.after}")


@app.command(
    epilog=examples(
        "outdial db backup /backup/outdial.backup --data /srv/outdial",
        "outdial db backup - --data /srv/outdial | ssh elsewhere 'cat > outdial.backup'",
    )
)
@with_store
def backup(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is stdout.")],
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Write all of the database into one file, as it is at one moment, while a server runs or not.

    FILE gets its name when it is whole and on the disk; one that has the name already is replaced then. It
    holds phone numbers: it is readable by you only. The master key is not in it: keep a copy of it elsewhere.
    """
    import asyncio

    from outdial.store.backup import back_up

    if file == "-" and json:
        raise WrongUsage("--json: the backup itself goes to stdout")
    need_data(options)
    with dsn_of(options) as dsn, _written(file) as out:
        done = asyncio.run(back_up(dsn, out))
    said = f"{sum(done.rows.values())} rows of {len(done.rows)} tables, schema version {done.version}"
    if json:
        print_json({"file": file, "rows": done.rows, "version": done.version, "masterKeys": done.master_keys})
    elif file != "-":
        print(f"{file}: {said}")
    else:
        note(said)
    _say_where_the_key_is(options, done)


@app.command(epilog=examples("outdial db restore /backup/outdial.backup --data /srv/outdial"))
@with_store
def restore(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup that `outdial db backup` wrote.")],
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Put a backup into a new data folder or an empty database, all of it or nothing.

    FILE is read and checked before anything is stored. Numbers that were called after the backup are ready
    in it: they are called again when a server starts, unless their campaigns are paused or ended before.
    """
    import asyncio

    from outdial.store.backup import judged
    from outdial.store.backup import restore as restored
    from outdial.store.postgres import check_server

    async def work(dsn: str) -> Summary:
        await check_server(dsn)
        return await restored(dsn, archive, str(file))

    with _opened(file) as archive:
        judged(archive, str(file))
        with _new_folder(options), dsn_of(options) as dsn:
            done = asyncio.run(work(dsn))
    if json:
        print_json({"rows": done.rows, "version": done.version, "masterKeys": done.master_keys})
    else:
        print(f"{file}: {sum(done.rows.values())} rows restored, schema version {done.version} brought up")
    _say_which_key_opens(options, done)


@app.command(epilog=examples("outdial db upgrade --data /srv/outdial"))
def upgrade(
    *,
    data: Annotated[
        Path,
        typer.Option("--data", envvar="OUTDIAL_DATA", metavar="DIR", help="The data folder."),
    ],
    pg_bin: Annotated[
        Path | None,
        typer.Option(
            "--pg-bin",
            envvar="OUTDIAL_PG_BIN",
            metavar="DIR",
            help="The folder of the newer PostgreSQL's binaries.",
            show_default="the newest on this machine",
        ),
    ] = None,
    pg_user: PgUser = None,
    json: Json = False,
) -> None:
    """Bring a data folder to a newer major version of PostgreSQL. The server must be stopped.

    The old cluster's rows go into a new one beside it, which takes its place when it is whole. The old one is
    kept until you remove it. Needs the binaries of both versions.
    """
    from outdial.store.embedded import EmbeddedOptions
    from outdial.store.embedded.upgrade import upgrade as upgraded

    if not data.exists():
        raise WrongUsage(f"data folder {data}: is not there")
    done = upgraded(EmbeddedOptions(data, pg_bin, pg_user), lambda old, new: _move(old, new, data))
    if json:
        print_json({"from": done.before, "to": done.after, "old": str(done.kept) if done.kept else None})
    elif done.kept is None:
        print(f"the data folder is of PostgreSQL {done.before}, and nothing newer is here: nothing to do")
    else:
        print(f"the data folder went from PostgreSQL {done.before} to {done.after}")
        note(f"the old cluster is kept in {done.kept}: remove it when all is well")


def _move(old: str, new: str, data: Path) -> None:
    """All rows of one database into another, by way of a file without a name."""
    import asyncio
    from tempfile import TemporaryFile

    from outdial.store.backup import back_up
    from outdial.store.backup import restore as restored

    with TemporaryFile(dir=data) as file:
        asyncio.run(back_up(old, file))
        file.seek(0)
        asyncio.run(restored(new, file, "the way over"))


# -- files -------------------------------------------------------------------------------------------------


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Where the backup goes: stdout, or a file that gets its name when all of it is on the disk."""
    if file == "-":
        if sys.stdout.isatty():
            raise WrongUsage("-: a backup is no text for a terminal; give a FILE or a pipe")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WrongUsage(f"{file}: cannot be written: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.rename(path)
        _sync(path.absolute().parent)
    except OSError as error:
        raise WrongUsage(f"{file}: cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise WrongUsage(f"{file}: cannot be read: {error.strerror}") from error


@contextmanager
def _new_folder(options: StoreOptions) -> Iterator[None]:
    """A data folder that was not there is gone again when the restore fails."""
    data = options.data
    if options.database or data is None:
        yield
        return
    from outdial.store.embedded import has_cluster

    new = not data.exists() or not any(data.iterdir())
    if not new and not has_cluster(data):
        raise WrongUsage(
            f"data folder {data}: holds other files; restore goes only into a new or empty folder"
        )
    try:
        yield
    except BaseException:
        if new:
            _remove(data)
        raise


def _remove(data: Path) -> None:
    from outdial.store.embedded import remove_cluster

    remove_cluster(data)
    with suppress(OSError):
        data.rmdir()


# -- what to know about the master key ---------------------------------------------------------------------


def _say_where_the_key_is(options: StoreOptions, done: Summary) -> None:
    from outdial.store.sealing import ENVIRONMENT, key_file

    if not done.master_keys:
        return
    where = f"the variable {ENVIRONMENT}"
    if ENVIRONMENT not in os.environ and options.data is not None:
        where = str(key_file(options.data))
    keys = ", ".join(done.master_keys)
    note(f"the master key {keys} is NOT in the backup; it lies in {where}: keep a copy of it elsewhere")


def _say_which_key_opens(options: StoreOptions, done: Summary) -> None:
    from outdial.store.sealing import ENVIRONMENT, key_file, load_master_key

    key = load_master_key(options.data, os.environ)
    missing = [one for one in done.master_keys if key is None or not key.knows(one)]
    if missing:
        place = key_file(options.data) if options.data is not None else ENVIRONMENT
        note(f"its secrets need the master key {', '.join(missing)}, which is not here: put it in {place}")
