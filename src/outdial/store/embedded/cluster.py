"""Makes a cluster, whole or not at all, and says how it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from secrets import token_urlsafe
from typing import IO

from outdial.errors import SettingError
from outdial.store.embedded.account import Account
from outdial.store.embedded.binaries import Binaries
from outdial.store.embedded.child import spawn
from outdial.store.embedded.layout import Layout, sync_folder, write_private
from outdial.store.embedded.survivors import clear_survivors

NAME = "outdial"  # of the superuser and of the database

_HBA = """\
# Written by outdial. Nothing is trusted, nothing comes over the network.
# TYPE  DATABASE  USER  METHOD
local   all       all   scram-sha-256
"""
# The password holds only A-Z a-z 0-9 _ and -, so it needs no quoting.
_SET_PASSWORD = "ALTER ROLE outdial PASSWORD '{password}';\n"  # noqa: S105
# A rename costs nothing; a second database would be a third of the time that initdb takes.
# Client sessions keep errors out of the log, because the text of an error may hold a phone number
# ('invalid input syntax for type bigint: ".."'); the client has it anyway. LOG stands above ERROR here.
_FIRST_STATEMENTS = """\
ALTER DATABASE postgres RENAME TO outdial;
COMMENT ON DATABASE outdial IS NULL;
ALTER ROLE outdial SET log_min_messages = 'log';
"""

_FILE_MEMORY = "dynamic_shared_memory_type=mmap"
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    # Anonymous memory and files in PGDATA: neither needs /dev/shm, which a container may hold at 64 MB or
    # less (with `posix` PostgreSQL does not even start in 64 kB), and nothing is left behind by a kill.
    "shared_memory_type": "mmap",
    "dynamic_shared_memory_type": "mmap",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # our statements are short; compiling them costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    # No statement, parameter or row in the log: they hold phone numbers.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


def server_command(binaries: Binaries, pgdata: Path, sockets: Path) -> list[str]:
    """The command that runs the server. What we need stands here, so that no old conf file undoes it."""
    settings = {**_SETTINGS, "unix_socket_directories": str(sockets)}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(binaries.bin / "postgres"), "-D", str(pgdata), *words]


def read_password(layout: Layout) -> str | None:
    """The superuser's password, None when its file is not there. Raises SettingError, not ours to read."""
    try:
        return layout.password.read_text().strip() or None
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise SettingError(
            f"{layout.password}: belongs to another user; run as its owner or as root"
        ) from error


def is_made(layout: Layout) -> bool:
    """Whether the cluster is there. Raises SettingError when something else stands in its place."""
    if (layout.pgdata / "PG_VERSION").exists():
        return True
    if layout.pgdata.exists() and any(layout.pgdata.iterdir()):
        raise SettingError(f"{layout.pgdata}: is there, but is no PostgreSQL cluster (no PG_VERSION)")
    return False


def major_of(layout: Layout) -> int | None:
    """The major version that made the cluster, None when there is none yet. Raises SettingError."""
    if not is_made(layout):
        return None
    text = (layout.pgdata / "PG_VERSION").read_text().strip()
    if not text.isdigit():
        raise SettingError(
            f"{layout.pgdata / 'PG_VERSION'}: {text!r} is no version of PostgreSQL 14 or newer"
        )
    return int(text)


def ready_cluster(layout: Layout, account: Account, binaries: Binaries) -> None:
    """Makes the cluster when there is none, and a new password when its file was lost.

    To be called with the folder's lock held and no server running. Raises SettingError.
    """
    password = read_password(layout)
    if password is None:
        password = token_urlsafe(24)
        if is_made(layout):
            _single_user(layout.pgdata, account, binaries, _SET_PASSWORD.format(password=password))
        write_private(layout.password, password)
    if not is_made(layout):
        _make(layout, account, binaries, password)


def _make(layout: Layout, account: Account, binaries: Binaries, password: str) -> None:
    """All of it in the nursery, then one rename: a half cluster never has the name of a whole one."""
    nursery, pgdata = layout.nursery, layout.nursery / "data"
    clear_survivors(pgdata)
    shutil.rmtree(nursery, ignore_errors=True)
    nursery.mkdir(mode=0o700)
    secret = nursery / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    for path in (secret, nursery):
        account.give(path)
    _finish(_initdb(binaries, account, pgdata, secret), account, "initdb")
    _single_user(pgdata, account, binaries, _FIRST_STATEMENTS)
    with (pgdata / "pg_hba.conf").open("r+") as rules:  # keeps its owner and mode
        rules.truncate()
        rules.write(_HBA)
        rules.flush()
        os.fsync(rules.fileno())
    pgdata.rename(layout.pgdata)
    sync_folder(layout.home)
    shutil.rmtree(nursery)


def _initdb(binaries: Binaries, account: Account, pgdata: Path, secret: Path) -> list[str]:
    options = (
        "--encoding=UTF8",
        "--locale=C",
        "--auth=scram-sha-256",
        "--data-checksums",
        "--no-instructions",
    )
    named = ("-D", str(pgdata), "-U", NAME, f"--pwfile={secret}", *_initdb_memory(binaries, account, pgdata))
    return [str(binaries.bin / "initdb"), *named, *options]


def _initdb_memory(binaries: Binaries, account: Account, pgdata: Path) -> list[str]:
    """Keeps initdb itself off /dev/shm: where that can be opened it uses it, however small it is.

    From 16 on it takes settings. Before that it takes a folder of its input files: ours is full of links
    to the real ones, with one line more in the sample of postgresql.conf.
    """
    if binaries.major >= 16:
        return ["-c", _FILE_MEMORY]
    shown = _finish([str(binaries.bin / "initdb"), "--show", "-D", str(pgdata)], account, "initdb --show")
    real = Path(next(line for line in shown.splitlines() if line.startswith("share_path="))[11:])
    ours = account.give(_made(pgdata.with_name("share")))
    for path in real.iterdir():
        (ours / path.name).symlink_to(path)
    sample = ours / "postgresql.conf.sample"
    sample.unlink()
    sample.write_text(f"{(real / sample.name).read_text()}\n{_FILE_MEMORY}\n")
    account.give(sample)
    return ["-L", str(ours)]


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _single_user(pgdata: Path, account: Account, binaries: Binaries, statements: str) -> None:
    """Runs statements without a server and without a password; the first error ends it."""
    settings = ("-c", "exit_on_error=on", "-c", _FILE_MEMORY)
    argv = [str(binaries.bin / "postgres"), "--single", "-D", str(pgdata), *settings, "template1"]
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        pipe.write(statements)  # far less than a pipe holds
    with open(reading, "rb") as source:
        _finish(argv, account, "postgres --single", source)


def _finish(
    argv: Sequence[str], account: Account, name: str, source: IO[bytes] | int = subprocess.DEVNULL
) -> str:
    """What the program said. Raises SettingError with its last words when it failed."""
    process = spawn(argv, account, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0].decode(errors="replace").strip()
    if process.returncode != 0:
        raise SettingError(f"{name} failed ({process.returncode}): " + " / ".join(said.splitlines()[-5:]))
    return said
