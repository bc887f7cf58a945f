"""An engine's copy of flows and prompts: current, right, and there when the store is not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outdial.flow import WITHOUT_FLOW
from outdial.model import Vdn
from outdial.shelf import Shelf
from outdial.store.store import Store

HELLO, BYE = b"\x01" * 800, b"\x02" * 1600
NOBODY = "postgresql://nobody@127.0.0.1:1/none"


def document(prompt: str = "hello") -> str:
    return json.dumps(
        {"start": "a", "steps": {"a": {"play": {"prompts": prompt}, "next": "b"}, "b": {"hangup": {}}}}
    )


SAYS = json.dumps({"start": "a", "steps": {"a": {"say": {"text": "x"}, "next": "b"}, "b": {"hangup": {}}}})


def digest(audio: bytes) -> str:
    return f"{hashlib.sha256(audio).hexdigest()}.ulaw"


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store(database, None, size=2) as opened:
        await opened.vdns.create(Vdn(1))
        await opened.vdns.create(Vdn(2))
        yield opened


@pytest.fixture
async def nobody() -> AsyncIterator[Store]:
    """A store that is away."""
    async with Store(NOBODY, None, size=1) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


async def fill(store: Store, vdn: int = 1) -> None:
    await store.flows.add_prompt(vdn, "hello", HELLO)
    await store.flows.add_prompt(vdn, "bye", BYE)
    await store.flows.add(vdn, "f", document(), {"hello"})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_what_the_store_has_is_here_after_a_refresh(store: Store, folder: Path) -> None:
    await fill(store)
    shelf = Shelf(store, folder)
    assert (shelf.flow(1, "f"), shelf.audio(1, "hello")) == (None, None)
    await shelf.refresh([1])
    flow = shelf.flow(1, "f")
    assert flow is not None
    assert flow.start == "a"
    assert (shelf.audio(1, "hello"), shelf.audio(1, "bye")) == (HELLO, BYE)
    assert (shelf.audio(1, "none"), shelf.flow(1, "g"), shelf.flow(2, "f")) == (None, None, None)
    assert names(folder) == {"vdn-1.json", digest(HELLO), digest(BYE)}


async def test_a_change_is_seen_and_what_is_not_needed_goes(store: Store, folder: Path) -> None:
    await fill(store)
    shelf = Shelf(store, folder)
    await shelf.refresh([1])
    await store.flows.add_prompt(1, "hello", b"\x03" * 8)
    await store.flows.remove_prompt(1, "bye")
    await store.flows.add(1, "g", document(), {"hello"})
    await store.flows.remove(1, "f")
    await shelf.refresh([1])
    assert (shelf.audio(1, "hello"), shelf.audio(1, "bye")) == (b"\x03" * 8, None)
    assert (shelf.flow(1, "f") is None, shelf.flow(1, "g") is not None) == (True, True)
    assert names(folder) == {"vdn-1.json", digest(b"\x03" * 8)}


async def test_without_a_change_a_refresh_is_one_query(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, 1)
    await fill(store, 2)
    shelf = Shelf(store, folder)
    await shelf.refresh([1, 2])
    asked: list[str] = []
    fetch = store.db.fetch

    async def counted(name: str, *args: Any) -> list[Any]:
        asked.append(name)
        return await fetch(name, *args)

    monkeypatch.setattr(store.db, "fetch", counted)
    await shelf.refresh([1, 2])
    assert asked == ["shelf_versions"]


async def test_a_recording_that_is_on_disk_is_not_fetched_again(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    await Shelf(store, folder).refresh([1])

    async def never(*_: Any) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(store.flows, "audio", never)
    again = Shelf(store, folder)
    await again.refresh([1])
    assert again.audio(1, "hello") == HELLO


@pytest.mark.parametrize("damage", [b"", HELLO[:-1], HELLO + b"\x00", b"\x07" * 800])
async def test_a_recording_that_is_not_itself_is_fetched_again(
    store: Store, folder: Path, damage: bytes
) -> None:
    await fill(store)
    await Shelf(store, folder).refresh([1])
    (folder / digest(HELLO)).write_bytes(damage)
    again = Shelf(store, folder)
    await again.refresh([1])
    assert again.audio(1, "hello") == HELLO
    assert (folder / digest(HELLO)).read_bytes() == HELLO


async def test_a_store_that_goes_away_leaves_what_is_in_memory(
    store: Store, folder: Path, sql: asyncpg.Connection, postgres: str
) -> None:
    await fill(store)
    shelf = Shelf(store, folder)
    await shelf.refresh([1])
    name = await sql.fetchval("SELECT current_database()")
    other = await asyncpg.connect(postgres)
    try:
        await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        ours = "application_name LIKE 'outdial%' AND datname = $1"
        await other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}", name)
        await shelf.refresh([1, 2])
        assert shelf.flow(1, "f") is not None
        assert shelf.audio(1, "hello") == HELLO
    finally:
        await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await other.close()
    await store.flows.add(1, "g", document(), {"hello"})
    await shelf.refresh([1])
    assert shelf.flow(1, "g") is not None


async def test_an_engine_that_starts_without_the_store_has_what_was_last_on_disk(
    store: Store, nobody: Store, folder: Path
) -> None:
    await fill(store)
    await Shelf(store, folder).refresh([1])
    shelf = Shelf(nobody, folder)
    await shelf.refresh([1, 2])
    assert shelf.flow(1, "f") is not None
    assert (shelf.audio(1, "hello"), shelf.flow_for(2, "")) == (HELLO, None)


async def test_what_came_from_the_disk_is_asked_of_the_store_when_it_is_back(
    store: Store, nobody: Store, folder: Path
) -> None:
    await fill(store)
    await Shelf(store, folder).refresh([1])
    (folder / digest(HELLO)).unlink()
    shelf = Shelf(nobody, folder)
    await shelf.refresh([1])
    assert shelf.audio(1, "hello") is None
    assert shelf.flow(1, "f") is None, "a flow whose prompt is missing is not there"
    assert shelf.audio(1, "bye") == BYE
    shelf._store = store
    await shelf.refresh([1])
    assert shelf.audio(1, "hello") == HELLO
    assert shelf.flow(1, "f") is not None


@pytest.mark.parametrize("damage", [b"", b"{}", b"x\n{}"])
async def test_a_file_of_a_vdn_that_is_not_itself_counts_as_not_there(
    store: Store, nobody: Store, folder: Path, damage: bytes
) -> None:
    await fill(store)
    await Shelf(store, folder).refresh([1])
    whole = (folder / "vdn-1.json").read_bytes()
    for data in (damage, whole[:-5], whole.replace(b"hello", b"jello")):
        (folder / "vdn-1.json").write_bytes(data)
        shelf = Shelf(nobody, folder)
        await shelf.refresh([1])
        assert shelf.flow(1, "f") is None
        assert shelf.audio(1, "hello") is None


async def test_a_vdn_that_is_not_asked_for_any_more_goes(store: Store, folder: Path) -> None:
    await fill(store, 1)
    await store.flows.add_prompt(2, "own", b"\x09")
    shelf = Shelf(store, folder)
    await shelf.refresh([1, 2])
    await shelf.refresh([2])
    assert shelf.flow(1, "f") is None
    assert names(folder) == {"vdn-2.json", digest(b"\x09")}


async def test_files_of_others_and_what_an_aborted_write_left(store: Store, folder: Path) -> None:
    folder.mkdir()
    (folder / "README").write_text("mine")
    (folder / f"{digest(HELLO)}.part").write_bytes(HELLO[:10])
    (folder / digest(b"old")).write_bytes(b"old")
    await fill(store)
    await Shelf(store, folder).refresh([1])
    assert names(folder) == {"README", "vdn-1.json", digest(HELLO), digest(BYE)}


async def test_a_folder_that_cannot_be_written_is_no_obstacle(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    await fill(store)
    shelf = Shelf(store, tmp_path / "file" / "shelf")
    await shelf.refresh([1])
    assert shelf.flow(1, "f") is not None
    assert shelf.audio(1, "hello") == HELLO


async def test_a_campaign_finds_its_flow_or_is_held(store: Store, folder: Path) -> None:
    """An empty device sign: the flow `default`, else a second of silence. A name that is not there: held."""
    await fill(store)
    shelf = Shelf(store, folder)
    assert shelf.flow_for(1, "") is None, "nothing is known of this VDN yet"
    await shelf.refresh([1])
    assert shelf.flow_for(1, "") is WITHOUT_FLOW
    assert shelf.flow_for(1, "f") is shelf.flow(1, "f")
    assert shelf.flow_for(1, "g") is None
    await store.flows.add(1, "default", document("bye"), {"bye"})
    await shelf.refresh([1])
    assert shelf.flow_for(1, "") is shelf.flow(1, "default") is not None


async def test_an_engine_without_a_voice_holds_what_is_to_be_said(store: Store, folder: Path) -> None:
    await store.flows.add(1, "default", SAYS, set())
    dumb, speaking = Shelf(store, folder), Shelf(store, folder, can_say=True)
    for shelf in (dumb, speaking):
        await shelf.refresh([1])
    assert dumb.flow_for(1, "") is None, "the default is there, but not for this engine"
    assert speaking.flow_for(1, "") is not None


async def test_a_refresh_that_was_cancelled_is_made_good_by_the_next(store: Store, folder: Path) -> None:
    await fill(store)
    shelf = Shelf(store, folder)
    for turns in range(12):
        task = asyncio.create_task(shelf.refresh([1]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await shelf.refresh([1])
    assert shelf.audio(1, "hello") == HELLO
    assert shelf.flow(1, "f") is not None
