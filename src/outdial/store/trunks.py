"""Trunks, which are the host's, and the destinations that each VDN may dial.

What engines keep of this is read anew when `version` has changed. Everything but the prefixes of one VDN
looks across VDNs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from typing import Any, Final

import asyncpg

from outdial.audit import change
from outdial.errors import SettingError
from outdial.model import PrefixRule, Trunk
from outdial.store.postgres import Postgres
from outdial.store.sealing import Keyring

KEPT: Final = ""
"""As a trunk's password: there is one, not opened; written back it stays as it is."""


class Trunks:
    """Trunks with their use by day, and allowed prefixes. `keyring` is asked when a password needs it."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], keyring: Keyring) -> None:
        self._db = db
        self._now = now
        self._keyring = keyring

    async def version(self) -> int:
        """A number that changes with every change of a trunk, a VDN's trunk group or an allowed prefix.

        Read it before what it stands for: then nothing is missed.
        """
        return await self._db.fetchval("routing_version") or 0

    async def add(self, trunk: Trunk) -> bool:
        """Store a new trunk; False when there is one of that name."""
        sealed = self._seal(trunk, None)
        async with self._db.transaction() as tx:
            await tx.execute("bump_routing")
            row = await tx.fetchrow("add_trunk", *_columns(trunk, sealed), self._now())
            if row is not None:
                tx.tells(change(None, "add", f"trunk {trunk.name}", **_said(trunk)))
        return row is not None

    async def change(self, name: str, revise: Callable[[Trunk], Trunk]) -> Trunk | None:
        """Store what `revise` makes of the trunk, one change at a time; None when there is no such trunk.

        `revise` gets a password as `KEPT`. What it raises keeps everything as it was.
        """
        async with self._db.transaction() as tx:
            await tx.execute("bump_routing")
            row = await tx.fetchrow("trunk", name)
            if row is None:
                return None
            before = _trunk(row)
            revised = revise(before)
            await tx.execute("write_trunk", *_columns(revised, self._seal(revised, row["password"])))
            tx.tells(change(None, "change", f"trunk {name}", **_changed(_said(before), _said(revised))))
        return revised

    async def remove(self, name: str) -> bool:
        """Remove a trunk; False when it is not there. Its calls run on: engines let it drain."""
        async with self._db.transaction() as tx:
            await tx.execute("bump_routing")
            row = await tx.fetchrow("remove_trunk", name)
            if row is not None:
                tx.tells(change(None, "remove", f"trunk {name}"))
        return row is not None

    async def all(self) -> list[Trunk]:
        """Every trunk with its password, by group, position and name.

        Raises `SettingError` when one is sealed and the master key is missing or another one.
        """
        return [self._opened(row) for row in await self._db.fetch("all_trunks")]

    async def listed(self) -> list[Trunk]:
        """Every trunk as in `all`, with a password as `KEPT`: needs no master key."""
        return [_trunk(row) for row in await self._db.fetch("all_trunks")]

    # -- answered time by day --------------------------------------------------------------------------

    async def count_answered(self, day: date, seconds: Mapping[str, float]) -> dict[str, float]:
        """Add answered seconds by trunk to `day` (UTC).

        Returns what was answered on that day in all, of the trunks that have a limit of minutes.
        """
        async with self._db.transaction() as tx:
            if seconds:
                await tx.execute("count_answered", day, list(seconds), list(seconds.values()))
            rows = await tx.fetch("answered_on", day)
        return {row["trunk"]: row["answered_seconds"] for row in rows}

    # -- allowed prefixes ------------------------------------------------------------------------------

    async def groups(self) -> dict[int, str]:
        """The trunk group of every VDN."""
        return {row["vdn_id"]: row["trunk_group"] for row in await self._db.fetch("all_groups")}

    async def prefixes(self) -> dict[int, frozenset[str]]:
        """The allowed prefixes of every VDN that has some."""
        return {row["vdn_id"]: frozenset(row["prefixes"]) for row in await self._db.fetch("all_prefixes")}

    async def prefixes_of(self, vdn_id: int) -> list[str]:
        """The allowed prefixes of one VDN, sorted."""
        return [row["prefix"] for row in await self._db.fetch("prefixes_of", vdn_id)]

    async def allow(self, vdn_id: int, prefixes: Sequence[str]) -> None:
        """Allow prefixes; those that are allowed already stay. Raises `SettingError` for an unknown VDN."""
        try:
            async with self._db.transaction() as tx:
                await tx.execute("bump_routing")
                await tx.execute("allow_prefixes", vdn_id, list(prefixes), self._now())
                tx.tells(change(vdn_id, "allow", "destinations", prefixes=list(prefixes)))
        except asyncpg.ForeignKeyViolationError as error:
            raise SettingError(f"there is no VDN {vdn_id}: outdial vdn create {vdn_id}") from error

    async def deny(self, vdn_id: int, prefixes: Sequence[str]) -> list[str]:
        """Take prefixes from the allowed ones, all or none: returns those that were not there."""
        async with self._db.transaction() as tx:
            await tx.execute("bump_routing")
            rows = await tx.fetch("deny_prefixes", vdn_id, list(prefixes))
            absent = sorted(set(prefixes) - {row["prefix"] for row in rows})
            if absent:
                await tx.roll_back()
            else:
                tx.tells(change(vdn_id, "deny", "destinations", prefixes=list(prefixes)))
        return absent

    # -- passwords -------------------------------------------------------------------------------------

    def _seal(self, trunk: Trunk, stored: bytes | None) -> bytes | None:
        if trunk.password is None:
            return None
        if trunk.password == KEPT:
            return stored
        return self._keyring.seal(trunk.password, context=_context(trunk.name))

    def _opened(self, row: Any) -> Trunk:
        trunk = _trunk(row)
        if trunk.password is None:
            return trunk
        password = self._keyring.open(row["password"], context=_context(trunk.name))
        return replace(trunk, password=password)


def _context(name: str) -> str:
    return f"trunk {name}"


def _said(trunk: Trunk) -> dict[str, Any]:
    """What the audit log tells of a trunk: all but its password, of which only whether it is there."""
    words = asdict(trunk)
    password = words.pop("password")
    words["prefix_rules"] = [f"{rule.prefix}={rule.replacement}" for rule in trunk.prefix_rules]
    return words | {"has_password": password is not None, "new_password": password not in (None, KEPT)}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is different now, as [before, after]."""
    return {name: [before[name], after[name]] for name in after if before[name] != after[name]}


def _columns(trunk: Trunk, sealed: bytes | None) -> tuple[Any, ...]:
    return (
        trunk.name,
        trunk.host,
        trunk.port,
        trunk.transport,
        trunk.group,
        trunk.position,
        trunk.weight,
        trunk.outbound_proxy,
        trunk.username,
        sealed,
        trunk.registers,
        trunk.caller_id,
        trunk.from_domain,
        [part for rule in trunk.prefix_rules for part in (rule.prefix, rule.replacement)],
        trunk.max_cps,
        trunk.max_channels,
        trunk.max_minutes,
        trunk.timer_b,
        trunk.ping_every,
        trunk.enabled,
    )


def _trunk(row: Any) -> Trunk:
    parts = row["prefix_rules"]
    return Trunk(
        name=row["name"],
        host=row["host"],
        port=row["port"],
        transport=row["transport"],
        group=row["trunk_group"],
        position=row["position"],
        weight=row["weight"],
        outbound_proxy=row["outbound_proxy"],
        username=row["username"],
        password=KEPT if row["password"] is not None else None,
        registers=row["registers"],
        caller_id=row["caller_id"],
        from_domain=row["from_domain"],
        prefix_rules=tuple(PrefixRule(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)),
        max_cps=row["max_cps"],
        max_channels=row["max_channels"],
        max_minutes=row["max_minutes"],
        timer_b=row["timer_b"],
        ping_every=row["ping_every"],
        enabled=row["enabled"],
    )
