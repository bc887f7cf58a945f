"""The embedded PostgreSQL: found on this machine, run as our own child process, gone when we are.

    options   what the operator says                 EmbeddedOptions
    binaries  which PostgreSQL                        find_binaries
    account   as which user                           account_for
    layout    where things stand on disk              locate
    cluster   made once, whole or not at all          make_cluster
    survivors what a dead server left behind          clear_survivors
    child     a child process that ends when we end   spawn
    lock      who may start it                        FolderLock
    server    starts, joins, watches, stops           EmbeddedPostgres, running_dsn, borrowed
    upgrade   to a newer major version                upgrade

Someone who brings a database of their own (a DSN) needs none of this.
"""

from __future__ import annotations

from outdial.store.embedded.binaries import Binaries, find_binaries
from outdial.store.embedded.lock import AlreadyRunning
from outdial.store.embedded.options import EmbeddedOptions
from outdial.store.embedded.server import EmbeddedPostgres, borrowed, has_cluster, remove_cluster, running_dsn

__all__ = [
    "AlreadyRunning",
    "Binaries",
    "EmbeddedOptions",
    "EmbeddedPostgres",
    "borrowed",
    "find_binaries",
    "has_cluster",
    "remove_cluster",
    "running_dsn",
]
