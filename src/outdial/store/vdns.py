"""VDNs and their access keys. Secrets are sealed before they get here in SQL and opened on the way out."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import astuple
from datetime import datetime
from typing import Any, Final

import asyncpg

from outdial.audit import change
from outdial.errors import SettingError
from outdial.model import KEEP_ALL, NO_CAPS, AccessKey, Caps, Edition, Keep, Recycle, Vdn
from outdial.store.postgres import Postgres
from outdial.store.retention import keep_of
from outdial.store.sealing import Keyring


class Vdns:
    """Tenants and keys. The master key is asked for when something sealed is first read or made.

    It may come into being while a server runs: with the first access key.
    """

    def __init__(self, db: Postgres, now: Callable[[], datetime], keyring: Keyring) -> None:
        self._db = db
        self._now = now
        self._keyring = keyring

    async def create(self, vdn: Vdn) -> bool:
        """Store a new VDN; False when there is one of that id."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(
                "create_vdn",
                vdn.vdn_id,
                vdn.time_zone,
                vdn.edition,
                vdn.max_active,
                vdn.recycle,
                self._now(),
                vdn.trunk_group,
                vdn.caps.per_minute,
                vdn.caps.per_hour,
                vdn.caps.per_day,
                *astuple(vdn.keep),
            )
            if row is not None:
                tx.tells(change(vdn.vdn_id, "create", f"vdn {vdn.vdn_id}", **_said(vdn)))
        return row is not None

    async def change(
        self,
        vdn_id: int,
        *,
        time_zone: str | None = None,
        edition: Edition | None = None,
        max_active: int | None = None,
        recycle: Recycle | None = None,
        trunk_group: str | None = None,
        caps: Caps = NO_CAPS,
        keep: Keep = KEEP_ALL,
    ) -> bool:
        """Change what is given; False when there is no such VDN.

        A cap of 0 takes the cap away; 0 days keep for ever.
        """
        columns = (time_zone, edition, max_active, recycle, trunk_group)
        async with self._db.transaction() as tx:
            if trunk_group is not None:
                await tx.execute("bump_routing")
            before = await tx.fetchrow("lock_vdn", vdn_id)
            if before is None:
                return False
            await tx.execute("change_vdn", vdn_id, *columns, *astuple(caps), *astuple(keep))
            after = await tx.fetchrow("vdn", vdn_id)
            tx.tells(change(vdn_id, "change", f"vdn {vdn_id}", **_changed(before, after)))
        return True

    async def one(self, vdn_id: int) -> Vdn | None:
        """The VDN, or None for an id that is not there."""
        row = await self._db.fetchrow("vdn", vdn_id)
        return self.vdn(row) if row is not None else None

    async def all(self) -> list[Vdn]:
        """Every VDN, by id."""
        return [self.vdn(row) for row in await self._db.fetch("all_vdns")]

    def vdn(self, row: Any) -> Vdn:
        """A row of `vdn` as a word."""
        return Vdn(
            row["vdn_id"],
            row["time_zone"],
            Edition(row["edition"]),
            row["max_active"],
            Recycle(row["recycle"]),
            self.webhook_secret(row["vdn_id"], row["webhook_secret"]),
            row["trunk_group"],
            caps_of(row),
            keep_of(row),
        )

    def webhook_secret(self, vdn_id: int, sealed: bytes | None) -> str | None:
        """The opened webhook secret of a VDN."""
        if sealed is None:
            return None
        return self._keyring.open(sealed, context=f"webhook {vdn_id}")

    async def set_webhook_secret(self, vdn_id: int, secret: str | None) -> bool:
        """Give the VDN a secret that signs its pushes, or take it away; False when there is no such VDN."""
        sealed = self._keyring.seal(secret, context=f"webhook {vdn_id}") if secret is not None else None
        async with self._db.transaction() as tx:
            row = await tx.fetchrow("set_webhook_secret", vdn_id, sealed)
            if row is not None:
                action = "remove" if secret is None else "set"
                tx.tells(change(vdn_id, action, f"webhook secret of vdn {vdn_id}"))
        return row is not None

    async def create_key(self, vdn_id: int) -> AccessKey:
        """Make an access key. Raises `SettingError` for a VDN that is not there."""
        ak = secrets.token_hex(10)
        secret = secrets.token_urlsafe(32)
        sealed = self._keyring.seal(secret, context=f"key {vdn_id} {ak}")
        try:
            async with self._db.transaction() as tx:
                await tx.execute("create_key", vdn_id, ak, sealed, self._now())
                tx.tells(change(vdn_id, "create", f"key {ak}"))
        except asyncpg.ForeignKeyViolationError as error:
            raise SettingError(f"there is no VDN {vdn_id}: outdial vdn create {vdn_id}") from error
        return AccessKey(ak, vdn_id, secret, self._now())

    async def key(self, ak: str) -> AccessKey | None:
        """The key with its secret, revoked or not; None for one that is not there."""
        row = await self._db.fetchrow("key", ak)
        if row is None:
            return None
        secret = self._keyring.open(row["sealed"], context=f"key {row['vdn_id']} {ak}")
        return AccessKey(ak, row["vdn_id"], secret, row["created_at"], row["revoked_at"])

    async def keys_of(self, vdn_id: int) -> list[AccessKey]:
        """The VDN's keys, without their secrets."""
        rows = await self._db.fetch("keys_of", vdn_id)
        return [AccessKey(r["ak"], r["vdn_id"], "", r["created_at"], r["revoked_at"]) for r in rows]

    async def revoke_key(self, ak: str) -> AccessKey | None:
        """Revoke; a key already revoked stays as it is. None for one that is not there."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow("revoke_key", ak, self._now())
            if row is not None:
                tx.tells(change(row["vdn_id"], "revoke", f"key {ak}"))
        return AccessKey(ak, row["vdn_id"], "", None, row["revoked_at"]) if row is not None else None

    async def check_master_key(self) -> None:
        """Raises `SettingError` when something is sealed and the master key is missing or another one."""
        row = await self._db.fetchrow("any_sealed")
        if row is None:
            return
        self._keyring.open(row["sealed"], context=row["context"])


_TOLD: Final = (
    *("time_zone", "edition", "max_active", "recycle", "trunk_group"),
    *("max_per_minute", "max_per_hour", "max_per_day", "keep_numbers", "keep_results", "keep_records"),
)
"""The columns of a VDN whose changes the audit log tells in words."""


def _changed(before: Any, after: Any) -> dict[str, Any]:
    """What is different now, as [before, after]."""
    differs = [name for name in _TOLD if before[name] != after[name]]
    return {name: [_or_none(before[name]), _or_none(after[name])] for name in differs}


def _or_none(value: Any) -> Any:
    return "none" if value is None else value


def _said(vdn: Vdn) -> dict[str, Any]:
    return {
        "time_zone": vdn.time_zone,
        "edition": vdn.edition,
        "max_active": vdn.max_active,
        "recycle": vdn.recycle,
        "trunk_group": vdn.trunk_group,
        "max_per_minute": vdn.caps.per_minute,
        "max_per_hour": vdn.caps.per_hour,
        "max_per_day": vdn.caps.per_day,
        "keep_numbers": vdn.keep.numbers,
        "keep_results": vdn.keep.results,
        "keep_records": vdn.keep.records,
    }


def caps_of(row: Any) -> Caps:
    """The caps per number in a row of `vdn`."""
    return Caps(row["max_per_minute"], row["max_per_hour"], row["max_per_day"])
