"""From one major version of PostgreSQL to a newer one: a new cluster beside the old one takes its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outdial.errors import SettingError
from outdial.store.embedded.account import Account, account_for
from outdial.store.embedded.binaries import find_binaries, newest_binaries
from outdial.store.embedded.cluster import major_of
from outdial.store.embedded.layout import (
    Layout,
    finish_swap,
    locate,
    owner_of,
    reachable,
    sync_folder,
    write_private,
)
from outdial.store.embedded.options import EmbeddedOptions
from outdial.store.embedded.server import lock_or_refuse, prepared, running
from outdial.store.embedded.survivors import clear_survivors


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The major versions, and where the old cluster lies now; None when there was nothing to do."""

    before: int
    after: int
    kept: Path | None


def upgrade(options: EmbeddedOptions, move: Callable[[str, str], None]) -> Upgraded:
    """Bring the data folder's cluster to the newest major version here, or to the one of `pg_bin`.

    `move` brings everything from the database of its first DSN into the empty one of its second. Until it
    has returned the old cluster is what a start uses; from then on the new one is, even after a crash.
    Raises AlreadyRunning; SettingError when the binaries of the old version are missing, or an old cluster is
    kept already.
    """
    layout = locate(options.data.absolute().resolve())
    lock = lock_or_refuse(layout, wait=0.0)
    try:
        return _upgrade(layout, options, move)
    except OSError as error:
        raise SettingError(f"data folder {layout.data}: cannot be upgraded: {error}") from error
    finally:
        lock.release()


def _upgrade(layout: Layout, options: EmbeddedOptions, move: Callable[[str, str], None]) -> Upgraded:
    finish_swap(layout)
    before = major_of(layout)
    if before is None:
        raise SettingError(f"data folder {layout.data}: holds no cluster")
    newest = newest_binaries(options.pg_bin)
    if newest is None or newest.major <= before:
        return Upgraded(before, before, None)
    kept = layout.pgdata.with_name(f"{layout.pgdata.name}.{before}")
    if kept.exists():
        raise SettingError(f"{kept}: is there already, kept by an upgrade before: remove it first")
    account = account_for(options.pg_user, owner=owner_of(layout.pgdata / "PG_VERSION"))
    layout = reachable(layout, account, options.notice)
    clear_survivors(layout.pgdata)
    old = prepared(layout, account, find_binaries(major=before))
    new = prepared(_nursery(layout, account), account, newest)
    with running(old, options) as from_dsn, running(new, options) as to_dsn:
        move(from_dsn, to_dsn)
    write_private(layout.beside.complete, f"{newest.major}\n")
    layout.pgdata.rename(kept)
    sync_folder(layout.home)
    finish_swap(layout)
    return Upgraded(before, newest.major, kept)


def _nursery(layout: Layout, account: Account) -> Layout:
    """An empty home for the new cluster; what a broken upgrade left there goes."""
    beside = layout.beside
    clear_survivors(beside.pgdata)
    shutil.rmtree(beside.home, ignore_errors=True)
    beside.home.mkdir()
    beside.home.chmod(0o711 if account.other else 0o700)
    return beside
