"""Call flows and prompts of the VDNs. Documents are checked and audio is converted before they get here."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from outdial.audit import Change, change
from outdial.errors import SettingError
from outdial.flow import DEFAULT_FLOW, FlowError
from outdial.store.postgres import Postgres, Transaction

SAMPLES_A_MILLISECOND: Final = 8
"""Of µ-law at 8 kHz, a byte each."""


class StillUsed(Exception):
    """What was to be removed is in use; `by` names up to 10 of its users."""

    def __init__(self, by: Sequence[str]) -> None:
        self.by = tuple(by)
        super().__init__(f"still used by {', '.join(by)}")


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """A flow as it is kept. `prompts` are those that it can be known to play; `sha256` is its document's."""

    name: str
    document: str
    sha256: str
    created_at: datetime
    updated_at: datetime
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """A prompt without its audio, whose sha256 it names. `created_at` is that of the recording."""

    name: str
    duration_ms: int
    sha256: str
    created_at: datetime


class Flows:
    """Flows and prompts of all VDNs; every verb names one VDN, but `versions`."""

    def __init__(self, db: Postgres, now: Callable[[], datetime]) -> None:
        self._db = db
        self._now = now

    async def add(self, vdn_id: int, name: str, document: str, prompts: Collection[str]) -> bool:
        """Store a checked flow, instead of an older one of that name; True when there was none.

        Raises `SettingError` for a VDN that is not there, `FlowError` when one of `prompts` is not.
        """
        sha256 = hashlib.sha256(document.encode()).hexdigest()
        try:
            async with self._change(vdn_id) as tx:
                created = await tx.fetchval("put_flow", vdn_id, name, document, sha256, self._now())
                await tx.execute("unlink_prompts", vdn_id, name)
                await tx.execute("link_prompts", vdn_id, name, sorted(prompts))
                tx.tells(
                    change(
                        vdn_id, "add" if created else "replace", f"flow {name}", sha256=bytes.fromhex(sha256)
                    )
                )
        except asyncpg.ForeignKeyViolationError as error:
            raise FlowError("a prompt that the flow plays was removed meanwhile: check it again") from error
        return bool(created)

    async def one(self, vdn_id: int, name: str) -> StoredFlow | None:
        """The flow, or None for one that is not there."""
        row = await self._db.fetchrow("flow", vdn_id, name)
        return _flow(row) if row is not None else None

    async def all(self, vdn_id: int) -> list[StoredFlow]:
        """The VDN's flows, by name."""
        return [_flow(row) for row in await self._db.fetch("all_flows", vdn_id)]

    async def remove(self, vdn_id: int, name: str) -> bool:
        """Remove a flow; False when there is none. Raises `StillUsed` while started campaigns use it."""
        signs = [name, ""] if name == DEFAULT_FLOW else [name]
        async with self._change(vdn_id) as tx:
            await tx.fetch("lock_vdn", vdn_id)  # no campaign is created or leaves the draft meanwhile
            rows = await tx.fetch("campaigns_of_flow", vdn_id, signs, self._now())
            if rows:
                raise StillUsed([f"campaign {row['campaign_id']}" for row in rows])
            removed = await tx.fetchval("remove_flow", vdn_id, name) is not None
            if removed:
                tx.tells(change(vdn_id, "remove", f"flow {name}"))
        return removed

    async def add_prompt(self, vdn_id: int, name: str, ulaw: bytes) -> bool:
        """Store a prompt (µ-law, 8 kHz, mono), instead of an older one of its name; True when there was none.

        Raises `SettingError` for a VDN that is not there.
        """
        sha256 = hashlib.sha256(ulaw).hexdigest()
        duration = len(ulaw) // SAMPLES_A_MILLISECOND
        async with self._change(vdn_id) as tx:
            created = await tx.fetchval("put_prompt", vdn_id, name, ulaw, duration, sha256, self._now())
            tx.tells(
                change(
                    vdn_id, "add" if created else "replace", f"prompt {name}", sha256=bytes.fromhex(sha256)
                )
            )
        return bool(created)

    async def prompts(self, vdn_id: int) -> list[StoredPrompt]:
        """The VDN's prompts, by name."""
        return [StoredPrompt(**row) for row in await self._db.fetch("all_prompts", vdn_id)]

    async def audio(self, vdn_id: int, prompt: StoredPrompt) -> bytes | None:
        """The audio of just this recording, or None when it is there no more."""
        audio = await self._db.fetchval("prompt_audio", vdn_id, prompt.name, prompt.sha256)
        return bytes(audio) if audio is not None else None

    async def remove_prompt(self, vdn_id: int, name: str) -> bool:
        """Remove a prompt; False when there is none. Raises `StillUsed` while flows play it."""
        async with self._change(vdn_id) as tx:
            rows = await tx.fetch("flows_of_prompt", vdn_id, name)
            if rows:
                raise StillUsed([f"flow {row['flow']}" for row in rows])
            removed = await tx.fetchval("remove_prompt", vdn_id, name) is not None
            if removed:
                tx.tells(change(vdn_id, "remove", f"prompt {name}"))
        return removed

    async def versions(self, vdn_ids: Collection[int]) -> dict[int, int]:
        """How often the flows and prompts of these VDNs have changed: a number that only rises."""
        rows = await self._db.fetch("shelf_versions", list(vdn_ids))
        return dict.fromkeys(vdn_ids, 0) | {row["vdn_id"]: row["version"] for row in rows}

    @asynccontextmanager
    async def _change(self, vdn_id: int) -> AsyncIterator[Transaction]:
        """A transaction that alone changes this VDN's flows and prompts."""
        async with self._db.transaction() as tx:
            try:
                await tx.execute("touch_shelf", vdn_id)
            except asyncpg.ForeignKeyViolationError as error:
                raise SettingError(f"there is no VDN {vdn_id}: outdial vdn create {vdn_id}") from error
            yield tx


def _put(vdn_id: int, object_: str, created: bool, sha256: str) -> Change:
    return change(vdn_id, "add" if created else "replace", object_, sha256=bytes.fromhex(sha256))


def _flow(row: Any) -> StoredFlow:
    return StoredFlow(**{**row, "prompts": tuple(row["prompts"])})
