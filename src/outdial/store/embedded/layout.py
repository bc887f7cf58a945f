"""Where things stand on disk.

    DIR/outdial.lock       held by whoever runs PostgreSQL
    DIR/outdial.users      held, shared, by each administration command that uses it
    DIR/postgres.password  0600, ours
    DIR/postgres.log
    DIR/cluster            the ID of a cluster that lives in /var/lib/outdial/ID, when it does
    HOME/postgres          PGDATA, PostgreSQL's user only
    HOME/run               the socket, 0700, PostgreSQL's user only
    HOME/postgres.N        a cluster of major version N, kept by an upgrade
    HOME/upgrade           the HOME of the cluster that an upgrade fills

HOME is DIR, or /var/lib/outdial/ID where PostgreSQL's user cannot enter DIR.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from outdial.errors import SettingError
from outdial.store.embedded.account import Account, can_enter
from outdial.store.embedded.lock import open_private

ELSEWHERE = Path("/var/lib/outdial")
SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 99  # bytes: sockaddr_un holds 104 on macOS and 108 on Linux, its end included
_ID = re.compile(r"[0-9a-f]{16}")
# What may stand in unix_socket_directories (a comma list) and in a DSN without a doubt.
_PLAIN = re.compile(r"[A-Za-z0-9/._+=@~ -]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one data folder: `data` is DIR, `home` is where the cluster lives."""

    data: Path
    home: Path

    @property
    def pgdata(self) -> Path:
        """The cluster itself."""
        return self.home / "postgres"

    @property
    def nursery(self) -> Path:
        """Where a cluster is made before it is renamed to `pgdata`."""
        return self.home / "postgres.new"

    @property
    def beside(self) -> Layout:
        """Of the cluster that an upgrade fills; it has the same password."""
        return Layout(self.data, self.home / "upgrade")

    @property
    def complete(self) -> Path:
        """The file that says that the cluster here is whole and takes the other's place."""
        return self.home / "complete"

    @property
    def lock(self) -> Path:
        """The lock that decides who runs PostgreSQL."""
        return self.data / "outdial.lock"

    @property
    def users(self) -> Path:
        """The lock that tells the one who started PostgreSQL that others still use it."""
        return self.data / "outdial.users"

    @property
    def password(self) -> Path:
        """The superuser's password, readable by us only."""
        return self.data / "postgres.password"

    @property
    def log(self) -> Path:
        """What PostgreSQL says."""
        return self.data / "postgres.log"

    @property
    def elsewhere(self) -> Path:
        """The file that names a cluster outside the data folder."""
        return self.data / "cluster"


def make_folder(data: Path) -> Path:
    """The data folder, resolved; made when absent: closed, but as root PostgreSQL's user may pass.

    Raises OSError.
    """
    data = data.absolute().resolve()
    mode = 0o711 if os.geteuid() == 0 else 0o700
    if not data.exists():
        data.mkdir(mode=mode, parents=True, exist_ok=True)
        data.chmod(mode)  # the umask of a root shell may be 077
    return data


def locate(data: Path) -> Layout:
    """The places of an existing data folder. Raises SettingError when its file `cluster` is damaged."""
    note = data / "cluster"
    if not note.exists():
        return Layout(data, data)
    name = note.read_text().strip()
    if not _ID.fullmatch(name):
        raise SettingError(f"{note}: holds no cluster ID (16 hexadecimal digits)")
    return Layout(data, ELSEWHERE / name)


def finish_swap(layout: Layout) -> None:
    """Give a cluster that an upgrade has filled its place, when the old one has left it.

    To be called with the folder's lock held. A crash between the two renames is finished by the next start.
    """
    beside = layout.beside
    if not beside.complete.exists():
        return
    if not layout.pgdata.exists() and beside.pgdata.exists():
        beside.pgdata.rename(layout.pgdata)
        sync_folder(layout.home)
    if not beside.pgdata.exists():
        shutil.rmtree(beside.home, ignore_errors=True)


def owner_of(path: Path) -> int | None:
    """The uid that owns `path`, None when it is not there."""
    return path.stat().st_uid if path.exists() else None


def reachable(layout: Layout, account: Account, notice: Callable[[str], None]) -> Layout:
    """The layout whose `home` the account can enter: this one, or one in /var/lib/outdial.

    Nobody's rights are widened. The ID of a new one is kept in the data folder first, so that a crash
    leaves no cluster that nothing names. Raises SettingError when there is no such place.
    """
    if layout.home == layout.data and not can_enter(account, layout.data):
        if layout.pgdata.exists():
            raise SettingError(
                f"user {account.name!r} cannot enter {layout.data} any more, its cluster is there"
            )
        name = token_hex(8)
        write_private(layout.elsewhere, name)
        layout = Layout(layout.data, ELSEWHERE / name)
    if layout.home != layout.data:
        for folder in (ELSEWHERE, layout.home):
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o711)
        if not can_enter(account, layout.home):
            raise SettingError(f"user {account.name!r} cannot enter {layout.home}: let that user pass it")
        notice(
            f"user {account.name!r} cannot enter {layout.data}: its cluster lives in {layout.home}"
            f" (the ID stands in {layout.elsewhere})"
        )
    return layout


def write_private(path: Path, text: str) -> None:
    """Writes a file that only the owner of its folder may read; whole or not at all, even in a crash."""
    fresh = path.with_name(f"{path.name}.new")
    with open(open_private(fresh, os.O_WRONLY | os.O_TRUNC), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def socket_folder(layout: Layout, account: Account) -> Path:
    """The folder of the socket, made when absent, 0700 and the account's.

    It is `run` beside the cluster, unless that path is too long or holds what a DSN would have to quote.
    Raises SettingError when someone else made it, or no place is short enough.
    """
    for folder in _socket_folders(layout, account):
        path = os.fsencode(folder / SOCKET)
        if len(path) <= _SOCKET_PATH_MAX and _PLAIN.fullmatch(str(folder)):
            return _closed(folder, account)
    raise SettingError(
        f"no folder for the PostgreSQL socket has a path under 100 bytes: {layout.home} is too long"
    )


def _socket_folders(layout: Layout, account: Account) -> Iterator[Path]:
    yield layout.home / "run"
    name = f"outdial-{account.uid}-{hashlib.sha256(os.fsencode(layout.home)).hexdigest()[:16]}"
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and not account.other:
        yield Path(session) / name
    places = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  # judged by `_closed` before use
    yield from (place / name for place in places if can_enter(account, place))


def _closed(folder: Path, account: Account) -> Path:
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)
        account.give(folder)
    except FileExistsError:
        pass
    check_closed(folder, account.uid)
    return folder


def check_closed(folder: Path, uid: int) -> None:
    """Raises SettingError unless `folder` is a real folder of `uid` that nobody else may enter."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != uid or stat.S_IMODE(facts.st_mode) & 0o077:
        raise SettingError(f"{folder}: is not a folder of uid {uid} alone (mode 0700); remove it")
