"""Everything that is sealed in the database: judged by key, and sealed anew under a new master key."""

from __future__ import annotations

from typing import Any

from outdial.audit import change
from outdial.store.postgres import Postgres
from outdial.store.sealing import Keyring, MasterKey

_WRITES = {
    "key": "reseal_keys",
    "webhook": "reseal_webhooks",
    "hiding": "reseal_hiding",
    "trunk": "reseal_trunks",
}
"""Kind of a sealed value -> the query that replaces it."""


class Secrets:
    """Access keys, webhook secrets, the keys of erased numbers and passwords of trunks, of all VDNs."""

    def __init__(self, db: Postgres, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring

    async def reseal(self, key: MasterKey) -> int:
        """Seal everything with `key`, in one transaction; how many secrets that are.

        `key` opens what other keys sealed. Raises `SealBroken` for what it cannot open: nothing is changed
        then; `StoreUnavailable`, `CommitUnknown`.
        """
        async with self._db.transaction() as tx:
            await tx.execute("lock_sealed")
            rows = await tx.fetch("all_sealed")
            for kind, query in _WRITES.items():
                fresh = [(row["name"], _sealed(key, row)) for row in rows if row["kind"] == kind]
                await tx.execute(query, [name for name, _ in fresh], [sealed for _, sealed in fresh])
            tx.tells(change(None, "rotate", "master key", secrets=len(rows)))
        return len(rows)

    async def left_behind(self) -> int:
        """How many secrets another key sealed than the present one.

        Raises `SealBroken` for one that does not open, `SettingError` without a master key.
        """
        rows = await self._db.fetch("all_sealed")
        for row in rows:
            self._keyring.open(row["sealed"], context=row["context"])
        return sum(not self._keyring.key().seals(row["sealed"]) for row in rows)


def _sealed(key: MasterKey, row: Any) -> bytes:
    return key.seal(key.open(row["sealed"], context=row["context"]), context=row["context"])
