"""`outdial db`: migrate, backup, restore and upgrade as commands."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from scripted import Run, error_of

from outdial.errors import SettingError
from outdial.store import migrate
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster
from outdial.store.embedded.binaries import find_binaries, newest_binaries
from outdial.store.embedded.layout import locate

LATEST = migrate.migrations()[-1][0]
MASTER_KEY = "00" * 32


@pytest.fixture
def data(open_folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A data folder of this test, gone afterwards with its key and its neighbours."""
    home = open_folder / f"db{abs(hash(request.node.name)) % 10**8}"
    home.mkdir()
    home.chmod(0o711)
    yield home / "data"
    for folder in (home / "data", home / "other"):
        remove_cluster(folder)
    shutil.rmtree(home)


def execute(dsn: str, sql: str) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    asyncio.run(run())


def old_database(make_database: Callable[..., str]) -> str:
    dsn = make_database("TEMPLATE template0")
    _, name, text = migrate.migrations()[0]
    entered = f"INSERT INTO schema_version VALUES (1, '{name}', '{migrate._checksum(text)}')"
    execute(dsn, f"{migrate._VERSIONS}; {text}; {entered}")
    return dsn


def vdns(run: Run, *where: str) -> list[int]:
    return [one["vdn"] for one in json.loads(run("vdn", "list", "--json", *where).out)]


# -- migrate -----------------------------------------------------------------------------------------------


def test_migrate_says_from_what_to_what(run: Run, make_database: Callable[..., str]) -> None:
    dsn = old_database(make_database)
    assert run("db", "migrate", "--database", dsn).out == (
        f"the schema went from version 1 to version {LATEST}\n"
    )
    assert run("db", "migrate", "--database", dsn).out == (
        f"the schema is at version {LATEST}: nothing to do\n"
    )
    new = make_database("TEMPLATE template0")
    assert json.loads(run("db", "migrate", "--database", new, "--json").out) == {"from": 0, "to": LATEST}


def test_migrate_refuses_a_newer_database(run: Run, database: str) -> None:
    execute(database, "INSERT INTO schema_version VALUES (9999, '9999_future.sql', 'x')")
    ended = run("db", "migrate", "--database", database)
    assert (ended.code, ended.out) == (2, "")
    assert "9999_future.sql" in error_of(ended)
    assert "newer" in error_of(ended)


@pytest.mark.parametrize("command", [("migrate",), ("backup", "x")])
def test_a_folder_that_is_not_there_is_not_made(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = run("db", *command, "--data", str(tmp_path / "typo"))
    assert ended.code == 2
    assert "is not there" in error_of(ended)
    assert list(tmp_path.iterdir()) == []


# -- backup and restore ------------------------------------------------------------------------------------


def test_a_folder_comes_back_in_another_folder(run: Run, data: Path) -> None:
    """Stopped or running, it is the same; and it says where the master key lies, which is not in it."""
    where = ("--data", str(data))
    assert run("vdn", "create", "1", *where).code == 0
    key = json.loads(run("key", "create", "--vdn", "1", "--json", *where).out)
    secret = data.with_name("data.key").read_bytes().strip()
    stopped, running = data.with_name("stopped"), data.with_name("running")
    ended = run("db", "backup", str(stopped), *where)
    assert f"is NOT in the backup; it lies in {data}.key" in ended.err
    assert stopped.stat().st_mode & 0o777 == 0o600
    with EmbeddedPostgres(EmbeddedOptions(data, notice=lambda _: None)):
        assert run("db", "backup", str(running), *where).code == 0
    for nth, file in enumerate((stopped, running)):
        assert secret not in file.read_bytes()
        other = data.with_name("other")
        ended = run("db", "restore", str(file), "--data", str(other))
        assert ended.code == 0
        assert f"which is not here: put it in {other}.key" in ended.err, nth
        shutil.copy(data.with_name("data.key"), data.with_name("other.key"))
        assert vdns(run, "--data", str(other)) == [1]
        listed = json.loads(run("key", "list", "--vdn", "1", "--json", "--data", str(other)).out)
        assert [one["ak"] for one in listed] == [key["ak"]]
        remove_cluster(other)
        data.with_name("other.key").unlink()
        other.rmdir()


def test_restore_goes_only_into_an_empty_place(
    run: Run, data: Path, database: str, make_database: Callable[..., str]
) -> None:
    file = data.with_name("file")
    execute(database, "INSERT INTO vdn VALUES (7, 'UTC', '2023-09', 20, 'keep', NULL, now())")
    assert run("db", "backup", str(file), "--database", database).code == 0
    assert run("vdn", "create", "1", "--data", str(data)).code == 0
    for where in (("--data", str(data)), ("--database", database)):
        ended = run("db", "restore", str(file), *where)
        assert ended.code == 2
        assert "the database is not empty" in ended.err
    assert vdns(run, "--data", str(data)) == [1]
    files = data.with_name("other")
    files.mkdir()
    files.joinpath("letter").touch()
    ended = run("db", "restore", str(file), "--data", str(files))
    assert (ended.code, [one.name for one in files.iterdir()]) == (2, ["letter"])
    assert "holds other files" in error_of(ended)
    empty = make_database("TEMPLATE template0")
    assert run("db", "restore", str(file), "--database", empty).code == 0
    assert vdns(run, "--database", empty) == [7]


def test_a_broken_file_makes_no_folder(run: Run, data: Path, database: str) -> None:
    file = data.with_name("file")
    run("db", "backup", str(file), "--database", database)
    file.write_bytes(file.read_bytes()[:-1])
    ended = run("db", "restore", str(file), "--data", str(data))
    assert ended.code == 2
    assert f"{file}: not a whole backup" in error_of(ended)
    assert not data.exists()


def test_a_restore_that_fails_leaves_no_folder(
    run: Run, data: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, but refused by the database: here, because it is an older one that we say it is."""
    file = data.with_name("file")
    run("db", "backup", str(file), "--database", database)
    monkeypatch.setattr(migrate, "migrations", lambda real=migrate.migrations: [*real(), BAD_MIGRATION])
    ended = run("db", "restore", str(file), "--data", str(data))
    assert ended.code == 2
    assert "no_such_table" in ended.err
    assert not data.exists()


BAD_MIGRATION = (9998, "9998_bad.sql", "ALTER TABLE no_such_table ADD x int")


def test_the_name_is_given_when_all_is_written(run: Run, tmp_path: Path, database: str) -> None:
    """A backup that fails leaves the one before it, and nothing half."""
    file = tmp_path / "file"
    assert run("db", "backup", str(file), "--database", database).code == 0
    before = file.read_bytes()
    execute(database, "DROP TABLE outbox CASCADE; CREATE VIEW outbox AS SELECT 1")
    execute(database, "ALTER TABLE prompt ADD bad int")
    execute(database, "CREATE ROLE locked_out; ALTER TABLE flow OWNER TO locked_out")
    execute(database, "UPDATE schema_version SET checksum = 'x' WHERE version = 1")
    assert run("db", "backup", str(file), "--database", database).code == 2
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    execute(database, "ALTER TABLE flow OWNER TO outdial; DROP ROLE locked_out")


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, database: str) -> None:
    """The limit on a file's size stands for it."""
    execute(
        database,
        "INSERT INTO vdn SELECT n, 'UTC', '2023-09', 20, 'keep', NULL, now() FROM generate_series(1, 9999) n",
    )
    limited = (
        f"ulimit -f 8; exec {sys.executable} -m outdial db backup {tmp_path}/file --database '{database}'"
    )
    program = "import signal, os, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    program += "os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])"
    ended = subprocess.run(
        [sys.executable, "-c", program, limited], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2, ended.stderr
    assert "cannot be written: File too large" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path, database: str) -> None:
    ended = run("db", "backup", str(tmp_path / "no" / "file"), "--database", database)
    assert (ended.code, error_of(ended)) == (
        2,
        f"{tmp_path}/no/file: cannot be written: No such file or directory",
    )
    ended = run("db", "restore", str(tmp_path / "no"), "--database", database)
    assert error_of(ended) == f"{tmp_path}/no: cannot be read: No such file or directory"


def test_a_backup_goes_through_a_pipe(run: Run, tmp_path: Path, make_database: Callable[..., str]) -> None:
    source = make_database()
    execute(source, "INSERT INTO vdn VALUES (7, 'UTC', '2023-09', 20, 'keep', NULL, now())")
    file = tmp_path / "file"
    command = [sys.executable, "-m", "outdial", "db", "backup", "-", "--database", source]
    with file.open("wb") as out:
        ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 0
    assert "1 rows of" in ended.stderr
    target = make_database("TEMPLATE template0")
    assert run("db", "restore", str(file), "--database", target).code == 0
    assert vdns(run, "--database", target) == [7]


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "backup.md"


def test_every_command_of_the_guide_does_what_it_says(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    typed = [line for block in blocks for line in block.splitlines() if line.startswith("outdial ")]
    assert len(typed) == 6
    monkeypatch.setenv("OUTDIAL_DATA", str(data))
    assert run("vdn", "create", "1").code == 0
    assert run("key", "create", "--vdn", "1").code == 0
    for line in typed:
        ours = line.replace("/srv/restored", f"{data.with_name('other')}").replace(
            "/backup/", f"{data.parent}/"
        )
        ended = run(*shlex.split(ours)[1:])
        assert ended.code == 0, (line, ended)
    assert vdns(run, "--data", str(data.with_name("other"))) == [1]


# -- upgrade -----------------------------------------------------------------------------------------------


@pytest.fixture
def older() -> int:
    """An older major version than the newest on this machine."""
    newest = newest_binaries()
    assert newest is not None
    for major in range(newest.major - 1, 13, -1):
        try:
            return find_binaries(major=major).major
        except SettingError:
            continue
    pytest.skip(f"one PostgreSQL alone is here ({newest.major}): install an older one to test the upgrade")


def made_by(run: Run, data: Path, major: int) -> tuple[str, ...]:
    """A data folder of this major version, with a VDN and a key."""
    where = ("--data", str(data))
    binaries = find_binaries(major=major)
    assert run("vdn", "create", "1", *where, "--pg-bin", str(binaries.bin)).code == 0
    assert run("key", "create", "--vdn", "1", *where).code == 0
    assert version_of(data) == major
    return where


def version_of(data: Path) -> int:
    return int((data / "postgres" / "PG_VERSION").read_text())


def test_an_older_cluster_is_brought_to_the_newest(run: Run, data: Path, older: int) -> None:
    where = made_by(run, data, older)
    newest = newest_binaries()
    assert newest is not None
    ended = run("db", "upgrade", *where)
    assert ended.out == f"the data folder went from PostgreSQL {older} to {newest.major}\n"
    assert f"the old cluster is kept in {data}/postgres.{older}" in ended.err
    assert version_of(data) == newest.major
    assert vdns(run, *where) == [1]
    assert len(run("key", "list", "--vdn", "1", *where).out.splitlines()) == 1
    assert (data / f"postgres.{older}" / "PG_VERSION").exists()
    assert not (data / "upgrade").exists()
    assert "nothing to do" in run("db", "upgrade", *where).out


def test_a_failed_upgrade_leaves_the_old_cluster(
    run: Run, data: Path, older: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = made_by(run, data, older)
    monkeypatch.setattr(migrate, "migrations", lambda real=migrate.migrations: [*real(), BAD_MIGRATION])
    ended = run("db", "upgrade", *where)
    assert ended.code == 2
    assert "no_such_table" in ended.err
    monkeypatch.undo()
    assert version_of(data) == older
    assert vdns(run, *where) == [1]
    assert run("db", "upgrade", *where).code == 0  # what the failed one left is no hindrance
    assert vdns(run, *where) == [1]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_crash_between_the_two_renames_is_finished_by_the_next_start(
    run: Run, data: Path, older: int, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always exactly one cluster that a start takes, and never a new empty one."""
    where = made_by(run, data, older)
    done: list[Path] = []
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "postgres":
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert run("db", "upgrade", *where).code == 130
    monkeypatch.undo()
    assert (data / "postgres").exists() is (renames == 0)
    assert vdns(run, *where) == [1]
    newest = newest_binaries()
    assert newest is not None
    assert version_of(data) == (older if renames == 0 else newest.major)


def test_an_upgrade_under_a_running_server_is_refused(run: Run, data: Path, older: int) -> None:
    where = made_by(run, data, older)
    with EmbeddedPostgres(EmbeddedOptions(data, notice=lambda _: None)):
        ended = run("db", "upgrade", *where)
    assert ended.code == 2
    assert "another process runs PostgreSQL on it" in ended.err
    assert version_of(data) == older


def test_without_the_old_binaries_the_package_is_named(run: Run, data: Path) -> None:
    assert run("vdn", "create", "1", "--data", str(data)).code == 0
    version = locate(data).pgdata / "PG_VERSION"
    real = version.read_text()
    version.write_text("14\n")
    try:
        find_binaries(major=14)
    except SettingError:
        ended = run("db", "upgrade", "--data", str(data))
        assert ended.code == 2
        assert "apt install postgresql-14" in ended.err
    finally:
        version.write_text(real)
