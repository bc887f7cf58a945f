"""Secrets at rest: what was sealed opens only with the same key, unchanged, in its own place."""

from __future__ import annotations

import base64
import multiprocessing
import os
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from outdial.errors import SettingError
from outdial.store.sealing import MasterKey, SealBroken, create_master_key, key_file, load_master_key

RAW = bytes(range(32))
KEY = MasterKey(RAW)
SECRET = "1qaz2wsx3edc"
PLACE = "vdn 1 key AK1"


def test_a_sealed_secret_opens_in_its_place_and_shows_nothing() -> None:
    sealed = KEY.seal(SECRET, context=PLACE)
    assert KEY.open(sealed, context=PLACE) == SECRET
    assert SECRET.encode() not in sealed
    assert KEY.open(KEY.seal("", context=PLACE), context=PLACE) == ""
    assert KEY.open(KEY.seal("пароль 密", context=PLACE), context=PLACE) == "пароль 密"


def test_every_seal_has_its_own_nonce() -> None:
    seals = [KEY.seal(SECRET, context=PLACE) for _ in range(100)]
    assert len({sealed[5:17] for sealed in seals}) == 100


def test_a_secret_does_not_open_in_another_place() -> None:
    """A row copied to another tenant or key id is worth nothing."""
    sealed = KEY.seal(SECRET, context=PLACE)
    with pytest.raises(
        SealBroken, match="vdn 2 key AK1: the sealed value was changed, or belongs to another"
    ):
        KEY.open(sealed, context="vdn 2 key AK1")


@pytest.mark.parametrize("index", range(1 + 4 + 12 + len(SECRET) + 16))
def test_a_change_of_any_byte_is_found(index: int) -> None:
    sealed = bytearray(KEY.seal(SECRET, context=PLACE))
    sealed[index] ^= 1
    with pytest.raises(SealBroken):
        KEY.open(bytes(sealed), context=PLACE)


@pytest.mark.parametrize("length", [0, 1, 5, 17, 32])
def test_a_short_value_is_refused(length: int) -> None:
    with pytest.raises(SealBroken, match="not a sealed value"):
        KEY.open(KEY.seal("", context=PLACE)[:length], context=PLACE)


def test_another_version_is_told_apart_from_a_change() -> None:
    with pytest.raises(SealBroken, match="vdn 1 key AK1: not a sealed value of this version"):
        KEY.open(b"\x02" + KEY.seal(SECRET, context=PLACE)[1:], context=PLACE)


def test_another_key_is_named_by_its_fingerprint() -> None:
    other = MasterKey(bytes(32))
    with pytest.raises(SettingError, match=f"by master key {KEY.fingerprint}, but .* is {other.fingerprint}"):
        other.open(KEY.seal(SECRET, context=PLACE), context=PLACE)


def test_the_fingerprint_is_stable_and_not_of_the_key_itself() -> None:
    assert KEY.fingerprint == MasterKey(RAW).fingerprint == "6ee86cc5"
    assert len(KEY.fingerprint) == 8
    assert repr(KEY) == f"MasterKey({KEY.fingerprint})"
    assert RAW.hex()[:8] not in repr(KEY)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        MasterKey(bytes(31))


# -- from the environment ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [RAW.hex(), RAW.hex().upper(), base64.b64encode(RAW).decode(), f" {RAW.hex()}\n"]
)
def test_the_environment_gives_the_key_as_hex_or_base64(text: str, tmp_path: Path) -> None:
    for data in (None, tmp_path / "data"):
        key = load_master_key(data, {"OUTDIAL_MASTER_KEY": text})
        assert key is not None
        assert key.fingerprint == KEY.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        RAW.hex()[:-2],
        RAW.hex() + "00",
        "g" * 64,
        base64.b64encode(RAW[:31]).decode(),
        base64.b64encode(RAW + b"x").decode(),
        base64.b64encode(RAW).decode().rstrip("="),
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        "ключ",
    ],
)
def test_another_form_in_the_environment_is_refused_by_name_and_not_shown(text: str) -> None:
    with pytest.raises(SettingError, match=r"^OUTDIAL_MASTER_KEY: must be 32 bytes as base64") as refusal:
        load_master_key(None, {"OUTDIAL_MASTER_KEY": text})
    assert not text or text not in str(refusal.value)


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    created = create_master_key(tmp_path / "data")
    key = load_master_key(tmp_path / "data", {"OUTDIAL_MASTER_KEY": RAW.hex()})
    assert key is not None
    assert key.fingerprint == KEY.fingerprint != created.fingerprint


# -- from the file -----------------------------------------------------------------------------------------


def test_no_key_anywhere_is_none(tmp_path: Path) -> None:
    assert load_master_key(None, {}) is None
    assert load_master_key(tmp_path / "data", {}) is None


def test_the_file_lies_beside_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_file(tmp_path / "data") == tmp_path / "data.key"
    assert key_file(Path(f"{tmp_path}/data/")) == tmp_path / "data.key"
    monkeypatch.chdir(tmp_path)
    assert key_file(Path()) == tmp_path.with_name(tmp_path.name + ".key")
    assert key_file(Path("x.d/../data")) == tmp_path / "data.key"
    with pytest.raises(SettingError, match="root folder"):
        key_file(Path("/"))


def test_a_created_key_is_there_for_us_alone_and_is_loaded_again(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = create_master_key(tmp_path / "data")
    finally:
        os.umask(before)
    facts = (tmp_path / "data.key").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o600
    assert os.listdir(tmp_path) == ["data.key"]
    loaded = load_master_key(tmp_path / "data", {})
    assert loaded is not None
    assert loaded.open(key.seal(SECRET, context=PLACE), context=PLACE) == SECRET
    assert create_master_key(tmp_path / "data").fingerprint == key.fingerprint
    assert create_master_key(tmp_path / "other").fingerprint != key.fingerprint


def test_the_key_is_on_disk_before_it_has_its_name_and_the_name_before_we_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_link(source: Path, target: Path) -> None:
        steps.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    create_master_key(tmp_path / "data")
    assert steps == ["file", "link", "folder"]


def _create(data: Path, barrier: Barrier) -> str:
    barrier.wait()
    return create_master_key(data).fingerprint


def _create_in_turn(data: Path, barriers: list[Barrier], results: multiprocessing.Queue[list[str]]) -> None:
    results.put([_create(data / str(index), barrier) for index, barrier in enumerate(barriers)])


def test_creators_at_one_moment_end_with_one_key(tmp_path: Path) -> None:
    """Four processes, thirty rounds: no round with two keys, and nobody reads half a file."""
    spawn = multiprocessing.get_context("spawn")
    barriers = [spawn.Barrier(4) for _ in range(30)]
    results: multiprocessing.Queue[list[str]] = spawn.Queue()
    processes = [spawn.Process(target=_create_in_turn, args=(tmp_path, barriers, results)) for _ in range(4)]
    for process in processes:
        process.start()
    rounds = list(zip(*(results.get(timeout=30) for _ in processes), strict=True))
    for process in processes:
        process.join(30)
    assert [len(set(keys)) for keys in rounds] == [1] * 30
    assert len({keys[0] for keys in rounds}) == 30
    assert sorted(os.listdir(tmp_path)) == sorted(f"{index}.key" for index in range(30))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_a_file_that_lets_others_in_is_refused(tmp_path: Path, mode: int) -> None:
    create_master_key(tmp_path / "data")
    (tmp_path / "data.key").chmod(mode)
    with pytest.raises(SettingError, match=rf"data\.key: mode {mode:04o} lets others in, must be 0600"):
        load_master_key(tmp_path / "data", {})
    with pytest.raises(SettingError, match=rf"data\.key: mode {mode:04o} lets others in, must be 0600"):
        create_master_key(tmp_path / "data")


def test_a_read_only_file_of_ours_is_taken(tmp_path: Path) -> None:
    key = create_master_key(tmp_path / "data")
    (tmp_path / "data.key").chmod(0o400)
    loaded = load_master_key(tmp_path / "data", {})
    assert loaded is not None
    assert loaded.fingerprint == key.fingerprint


def test_a_file_of_another_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_master_key(tmp_path / "data")
    us = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 1)
    with pytest.raises(SettingError, match=f"belongs to user id {us}, must belong to {us + 1}"):
        load_master_key(tmp_path / "data", {})


@pytest.mark.parametrize("content", [b"", b"AAECAw==\n", b"\xff" * 32, RAW, b"0" * 2000])
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingError, match=r"data\.key: must be 32 bytes as base64"):
        load_master_key(tmp_path / "data", {})
    with pytest.raises(SettingError, match=r"data\.key: must be 32 bytes as base64"):
        create_master_key(tmp_path / "data")
    assert path.read_bytes() == content


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.key", 0o600)
    (tmp_path / "folder.key").mkdir(mode=0o700)
    with pytest.raises(SettingError, match=r"pipe\.key: is not a regular file"):
        load_master_key(tmp_path / "pipe", {})
    with pytest.raises(SettingError, match=r"folder\.key: is not a regular file"):
        load_master_key(tmp_path / "folder", {})


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.key: cannot be created: No such file"):
        create_master_key(tmp_path / "absent" / "data")
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"data\.key: cannot be read: Not a directory"):
        load_master_key(tmp_path / "file" / "data", {})
