"""Erased numbers stay on the blacklist under a keyed hash: nobody reads them there, and they stay refused.

The key is the VDN's, random, and sealed with the master key: a copy of the database alone cannot try all
numbers, and a new master key seals it anew. It is made when the first number is hidden, and never changes.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Collection

from outdial.store.postgres import Postgres, Transaction
from outdial.store.sealing import Keyring

MARK = "~"
"""How a hidden name begins: no number does."""


class Hiding:
    """The hidden names of numbers. `keyring` is asked when a VDN hides some."""

    def __init__(self, db: Postgres, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._keys: dict[int, bytes] = {}

    async def look(self, vdn_id: int, tx: Transaction | None = None) -> bool:
        """Learn the VDN's key, in this transaction if there is one; False: it hides nothing."""
        if vdn_id not in self._keys:
            sealed = await (tx or self._db).fetchval("hiding_key", vdn_id)
            if sealed is None:
                return False
            self._learn(vdn_id, sealed)
        return True

    def knows(self, vdn_id: int) -> bool:
        """Whether this process has met a hidden entry of the VDN."""
        return vdn_id in self._keys

    def name(self, vdn_id: int, number: str) -> str:
        """What stands for the number; the VDN's key must be known."""
        return MARK + hmac.digest(self._keys[vdn_id], number.encode(), "sha256").hex()

    async def stored_names(self, tx: Transaction, vdn_id: int, numbers: Collection[str]) -> dict[str, str]:
        """The name under which each number is on the blacklist, or would be: hidden where it is hidden."""
        if not await self.look(vdn_id, tx):
            return {number: number for number in numbers}
        hidden = {number: self.name(vdn_id, number) for number in numbers}
        rows = await tx.fetch("present_names", vdn_id, list(hidden.values()))
        present = {row["number"] for row in rows}
        return {number: name if name in present else number for number, name in hidden.items()}

    async def ensure(self, vdn_id: int) -> None:
        """Make the VDN's key if it has none. Raises `SettingError` without the master key."""
        async with self._db.transaction() as tx:
            await tx.fetchrow("lock_vdn", vdn_id)
            if not await self.look(vdn_id, tx):
                text = base64.b64encode(secrets.token_bytes(32)).decode()
                sealed = self._keyring.seal(text, context=f"hiding {vdn_id}")
                await tx.execute("set_hiding_key", vdn_id, sealed)
        await self.look(vdn_id)  # learned from what was committed alone

    def _learn(self, vdn_id: int, sealed: bytes) -> None:
        text = self._keyring.open(sealed, context=f"hiding {vdn_id}")
        self._keys[vdn_id] = base64.b64decode(text)
