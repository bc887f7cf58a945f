"""As whom PostgreSQL runs. It refuses to run as root, so root names someone else."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outdial.errors import SettingError

_CANDIDATES = ("outdial", "postgres")
_WAY_OUT = (
    "name an existing user with --pg-user (not root, not nobody), add one"
    " (useradd --system --no-create-home outdial), or give a database of your own with --database DSN"
    " (OUTDIAL_DATABASE)"
)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine; `other` when it is not the one we are and must be switched to."""

    name: str
    uid: int
    gid: int
    other: bool

    def become(self) -> dict[str, Any]:
        """The arguments that make `subprocess` run as this account, with no group but its own."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}

    def give(self, path: Path) -> Path:
        """Makes the account the owner of a file or folder that we have just made."""
        if self.other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return path


def account_for(pg_user: str | None, *, owner: int | None) -> Account:
    """The account PostgreSQL runs as; `owner` is the uid that owns the existing cluster, if there is one.

    As an ordinary user it is that user. As root: the owner of the cluster, else `pg_user`, else the user
    `outdial`, else `postgres`; never root or nobody, and no user is added. Raises SettingError with what
    is allowed.
    """
    if os.geteuid() != 0:
        return _ourselves(pg_user, owner)
    if owner is not None:
        return _owner(pg_user, owner)
    names = (pg_user,) if pg_user else _CANDIDATES
    for name in names:
        if entry := _entry(name):
            return _allowed(entry)
    tried = " nor ".join(f"'{name}'" for name in names)
    raise SettingError(f"PostgreSQL does not run as root and there is no user {tried}: {_WAY_OUT}")


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _allowed(entry: pwd.struct_passwd) -> Account:
    if entry.pw_uid == 0 or entry.pw_name == "nobody":
        raise SettingError(f"PostgreSQL does not run as user {entry.pw_name!r}: {_WAY_OUT}")
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid, other=True)
    if not run_as(account, ["/bin/sh", "-c", ":"]):  # root without CAP_SETUID
        raise SettingError(f"the system does not let us become user {entry.pw_name!r}: {_WAY_OUT}")
    return account


def _named(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:  # a container that runs under a bare number
        return None


def _ourselves(pg_user: str | None, owner: int | None) -> Account:
    uid = os.geteuid()
    entry = _named(uid)
    name = entry.pw_name if entry else str(uid)
    if pg_user is not None and pg_user != name:
        raise SettingError(f"--pg-user {pg_user} needs root; as user {name!r} PostgreSQL runs as {name!r}")
    if owner is not None and owner != uid:
        other = _named(owner)
        whose = other.pw_name if other else owner
        raise SettingError(
            f"the data folder's cluster belongs to user {whose!r}, not to {name!r}:"
            " run as that user or as root"
        )
    return Account(name, uid, os.getegid(), other=False)


def _owner(pg_user: str | None, owner: int) -> Account:
    entry = _named(owner)
    if entry is None:
        raise SettingError(f"the data folder's cluster belongs to uid {owner}, which is no user here")
    if pg_user is not None and pg_user != entry.pw_name:
        raise SettingError(
            f"--pg-user {pg_user}: the data folder's cluster belongs to user {entry.pw_name!r};"
            " leave --pg-user out or name that user"
        )
    return _allowed(entry)


def run_as(account: Account, argv: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether `argv` can be run as `account` and ends well."""
    try:
        done = subprocess.run(  # noqa: S603
            [os.fspath(word) for word in argv],
            cwd="/",
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **account.become(),
        )
    except PermissionError:
        return False
    return bool(done.returncode == 0)


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the account may pass through `folder`. The system is asked, not the mode bits (ACLs)."""
    return not account.other or run_as(account, ["/bin/sh", "-c", 'cd -P "$1"', "sh", folder])
