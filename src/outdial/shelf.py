"""An engine's own copy of flows and prompts: ready in memory, and on its disk for the day the store is away.

The folder holds one file a VDN (`vdn-7.json`: flows, and names of prompts) and one a recording
(`SHA256.ulaw`). Files are written whole or not at all, believed only when their digest is right, and
removed when nothing needs them. A folder belongs to one engine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from outdial import jsontext
from outdial.errors import StoreUnavailable
from outdial.flow import DEFAULT_FLOW, WITHOUT_FLOW, Flow, FlowError, check
from outdial.store.flows import StoredPrompt
from outdial.store.store import Store

log = structlog.get_logger()

_FORM: Final = 1
"""Of the file of a VDN; one of another form counts as not there."""

_OURS = re.compile(r"vdn-\d+\.json|[0-9a-f]{64}\.ulaw|.+\.part")


@dataclass(slots=True)
class _Vdn:
    """What is kept of one VDN. `documents` by name of the flow, `prompts`: the digest by name.

    `version` None: it came from the disk, and the store has to be asked.
    """

    version: int | None
    documents: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)


class Shelf:
    """Flows and prompts of the VDNs that were last asked for.

    `can_say`: this engine has a voice; without one, a flow that says something is not there.
    """

    def __init__(self, store: Store, folder: Path, *, can_say: bool = False) -> None:
        self._store = store
        self._folder = folder
        self._can_say = can_say
        self._vdns: dict[int, _Vdn] = {}
        self._audio: dict[str, bytes] = {}

    async def refresh(self, vdn_ids: Collection[int]) -> None:
        """Keep just these VDNs, as the store has them now; one query when nothing changed. One at a time.

        When the store is away, what is here stays, and what is not comes from the disk as it was last.
        """
        wanted = set(vdn_ids)
        try:
            versions = await self._store.flows.versions(wanted)
            for vdn_id, version in versions.items():
                if vdn_id not in self._vdns or self._vdns[vdn_id].version != version:
                    await self._fetch(vdn_id, version)
        except StoreUnavailable as error:
            log.warning("flows and prompts stay as they are", error=str(error))
            for vdn_id in wanted - self._vdns.keys():
                await self._recall(vdn_id)
            return
        if gone := self._vdns.keys() - wanted:
            for vdn_id in gone:
                del self._vdns[vdn_id]
            await self._clean()

    def flow(self, vdn_id: int, name: str) -> Flow | None:
        """The flow of this name, or None."""
        kept = self._vdns.get(vdn_id)
        return kept.flows.get(name) if kept is not None else None

    def flow_for(self, vdn_id: int, device_sign: str) -> Flow | None:
        """The flow of a campaign with this device sign; None: the campaign is to be held, not dialed.

        An empty sign means the flow `default`, and where there is none `WITHOUT_FLOW`.
        """
        if device_sign:
            return self.flow(vdn_id, device_sign)
        kept = self._vdns.get(vdn_id)
        if kept is None or DEFAULT_FLOW in kept.documents:
            return self.flow(vdn_id, DEFAULT_FLOW)
        return WITHOUT_FLOW

    def audio(self, vdn_id: int, prompt: str) -> bytes | None:
        """A prompt's µ-law at 8 kHz, or None for one that is not there."""
        kept = self._vdns.get(vdn_id)
        return self._audio.get(kept.prompts.get(prompt, "")) if kept is not None else None

    # -- from the store ----------------------------------------------------------------------------------

    async def _fetch(self, vdn_id: int, version: int) -> None:
        """Read a VDN anew. What changes meanwhile raises the version again, and is read the next time."""
        flows = await self._store.flows.all(vdn_id)
        prompts = await self._store.flows.prompts(vdn_id)
        for prompt in prompts:
            await self._obtain(vdn_id, prompt)
        here = {prompt.name: prompt.sha256 for prompt in prompts if prompt.sha256 in self._audio}
        kept = _Vdn(version, {flow.name: flow.document for flow in flows}, here)
        self._take(vdn_id, kept)
        await asyncio.to_thread(_write, self._file(vdn_id), _encode(kept))
        await self._clean()

    async def _obtain(self, vdn_id: int, prompt: StoredPrompt) -> None:
        if await self._load(prompt.sha256):
            return
        audio = await self._store.flows.audio(vdn_id, prompt)
        if audio is not None:
            self._audio[prompt.sha256] = audio
            await asyncio.to_thread(_write, self._recording(prompt.sha256), audio)

    def _take(self, vdn_id: int, kept: _Vdn) -> None:
        for name, document in kept.documents.items():
            try:
                kept.flows[name] = check(
                    jsontext.decode_text(document), prompts=kept.prompts, can_say=self._can_say
                )
            except (FlowError, jsontext.NotJson) as error:
                log.error("flow cannot be used", vdn=vdn_id, flow=name, error=str(error))
        self._vdns[vdn_id] = kept

    # -- from and to the disk ----------------------------------------------------------------------------

    async def _recall(self, vdn_id: int) -> None:
        data = await asyncio.to_thread(_read, self._file(vdn_id))
        kept = _decode(data) if data is not None else None
        if kept is None:
            return
        kept.prompts = {name: digest for name, digest in kept.prompts.items() if await self._load(digest)}
        self._take(vdn_id, kept)

    async def _load(self, digest: str) -> bool:
        """Have a recording in memory, from the disk where it is right; False when it is not there."""
        if digest in self._audio:
            return True
        data = await asyncio.to_thread(_read, self._recording(digest))
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            return False
        self._audio[digest] = data
        return True

    async def _clean(self) -> None:
        """Forget recordings and files that no VDN here needs."""
        needed = {digest for kept in self._vdns.values() for digest in kept.prompts.values()}
        self._audio = {digest: audio for digest, audio in self._audio.items() if digest in needed}
        files = {self._file(vdn_id) for vdn_id in self._vdns} | {self._recording(one) for one in needed}
        await asyncio.to_thread(_remove_others, self._folder, files)

    def _file(self, vdn_id: int) -> Path:
        return self._folder / f"vdn-{vdn_id}.json"

    def _recording(self, digest: str) -> Path:
        return self._folder / f"{digest}.ulaw"


def _encode(kept: _Vdn) -> bytes:
    body = {"form": _FORM, "flows": kept.documents, "prompts": kept.prompts}
    text = json.dumps(body)
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode()


def _decode(data: bytes) -> _Vdn | None:
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    read: dict[str, Any] = json.loads(body)
    return _Vdn(None, read["flows"], read["prompts"]) if read["form"] == _FORM else None


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all. A disk that is full or gone is logged: what is in memory serves."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        log.warning("flows and prompts cannot be kept on disk", file=path.name, error=error.strerror)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _remove_others(folder: Path, needed: Collection[Path]) -> None:
    try:
        for path in folder.iterdir():
            if path not in needed and _OURS.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        log.warning("unused files stay in the folder of flows and prompts", error=error.strerror)
