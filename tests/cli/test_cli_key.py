"""`outdial key`: a secret is shown once, and a master key is never replaced by another."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from scripted import Run, error_of

from outdial.store.sealing import load_master_key
from outdial.store.store import Store

MASTER_KEY = base64.b64encode(bytes(32)).decode()
OTHER_KEY = base64.b64encode(bytes(31) + b"1").decode()


@pytest.fixture(autouse=True)
def _vdn(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    assert run("vdn", "create", "1").code == 0


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a DSN too, the data folder only says where the master key is."""
    monkeypatch.setenv("OUTDIAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def stored_secret(database: str, data: Path, ak: str) -> str:
    async def read() -> str:
        async with Store(database, load_master_key(data, {})) as store:
            key = await store.vdns.key(ak)
            assert key is not None
            return key.secret

    return asyncio.run(read())


def test_create_shows_the_secret_that_is_stored_and_makes_the_master_key(
    run: Run, database: str, data: Path
) -> None:
    made = json.loads(run("key", "create", "--vdn", "1", "--json").out)
    assert set(made) == {"ak", "sk"}
    assert stored_secret(database, data, made["ak"]) == made["sk"]
    assert data.with_name("data.key").stat().st_mode & 0o777 == 0o600
    assert not data.exists()  # no cluster is made where a DSN is given


def test_several_keys_are_listed_without_their_secrets_and_revoked(run: Run, data: Path) -> None:
    assert data
    lines = [run("key", "create", "--vdn", "1").out.splitlines() for _ in range(2)]
    keys = [dict(line.split("\t") for line in pair) for pair in lines]
    shown = run("key", "list", "--vdn", "1").out
    assert [line.split("\t")[0] for line in shown.splitlines()] == [key["AK"] for key in keys]
    assert not any(key["SK"] in shown for key in keys)
    assert run("key", "revoke", keys[0]["AK"]) == (0, f"key {keys[0]['AK']} revoked\n", "")
    first, second = json.loads(run("key", "list", "--vdn", "1", "--json").out)
    assert (first["ak"], second["ak"]) == (keys[0]["AK"], keys[1]["AK"])
    assert first["revokedAt"] >= first["createdAt"]
    assert second["revokedAt"] is None


@pytest.mark.parametrize("verb", ["create", "list"])
def test_a_vdn_that_is_not_there_is_refused(run: Run, data: Path, verb: str) -> None:
    assert data
    ended = run("key", verb, "--vdn", "5")
    assert (ended.code, ended.out) == (1, "")
    assert error_of(ended) == "there is no VDN 5; `outdial vdn create 5` makes it"


def test_an_unknown_key_cannot_be_revoked(run: Run) -> None:
    ended = run("key", "revoke", "nobody")
    assert ended.code == 1
    assert error_of(ended).startswith("there is no such access key")


def test_with_a_database_alone_the_variable_is_needed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run("key", "create", "--vdn", "1")
    assert ended.code == 2
    assert error_of(ended).startswith("OUTDIAL_MASTER_KEY: missing; ")
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    assert run("key", "create", "--vdn", "1").code == 0


def test_a_lost_master_key_is_not_replaced(run: Run, data: Path) -> None:
    """A new one would lock the secrets away that are sealed with the old one."""
    run("key", "create", "--vdn", "1")
    file = data.with_name("data.key")
    kept = file.read_bytes()
    file.unlink()
    ended = run("key", "create", "--vdn", "1")
    assert ended.code == 2
    assert "put the file DIR.key back" in error_of(ended)
    assert not file.exists()
    file.write_bytes(kept)
    file.chmod(0o600)
    assert run("key", "create", "--vdn", "1").code == 0


def test_another_master_key_makes_no_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", MASTER_KEY)
    run("key", "create", "--vdn", "1")
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", OTHER_KEY)
    ended = run("key", "create", "--vdn", "1")
    assert (ended.code, ended.out) == (2, "")
    assert "sealed by master key" in error_of(ended)
    assert OTHER_KEY not in ended.err
    assert run("key", "list", "--vdn", "1").out.count("\n") == 1
