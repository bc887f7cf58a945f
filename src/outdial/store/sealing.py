"""Secrets at rest: AES-256-GCM under one master key that is not in the database (SP 800-38D).

The master key comes from the environment (OUTDIAL_MASTER_KEY) or from the file `DIR.key` beside the data
folder DIR, so that a copy of the folder or of the database alone opens nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outdial.errors import SettingError

ENVIRONMENT = "OUTDIAL_MASTER_KEY"
KEY_BYTES = 32

_VERSION = 1
_MARK = 4  # bytes of the fingerprint in every sealed value
_NONCE = 12
_TAG = 16
_FORMS = "must be 32 bytes as base64 (44 characters) or as hex (64 characters)"


class SealBroken(SettingError):
    """A sealed secret cannot be opened: another master key sealed it, or it was changed or moved."""


class MasterKey:
    """The key that seals secrets. `fingerprint` names it in logs and messages and reveals nothing of it."""

    __slots__ = ("_cipher", "_mark")

    def __init__(self, key: bytes) -> None:
        """Takes 32 bytes; raises ValueError for another length."""
        if len(key) != KEY_BYTES:
            raise ValueError("a master key has 32 bytes")
        self._cipher = AESGCM(key)
        label = hmac.digest(key, b"outdial master key fingerprint", "sha256")
        self._mark = hashlib.sha256(label).digest()[:_MARK]

    def __repr__(self) -> str:
        return f"MasterKey({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """Eight hex digits of a hash of a label derived from the key."""
        return self._mark.hex()

    def seal(self, plaintext: str, *, context: str) -> bytes:
        """Encrypt a secret. Only the same `context` (tenant and key id, say) opens it again.

        The value is: version (1 byte), fingerprint (4), nonce (12, random), ciphertext and tag (16).
        """
        head = bytes([_VERSION]) + self._mark
        nonce = os.urandom(_NONCE)
        return head + nonce + self._cipher.encrypt(nonce, plaintext.encode(), head + context.encode())

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt what `seal` gave for the same context. Raises SealBroken and says why it cannot."""
        start = 1 + _MARK
        head, nonce, rest = sealed[:start], sealed[start : start + _NONCE], sealed[start + _NONCE :]
        if len(rest) < _TAG or head[0] != _VERSION:
            raise SealBroken(f"{context}: not a sealed value of this version of outdial")
        if head[1:] != self._mark:
            raise SealBroken(
                f"{context}: sealed by master key {head[1:].hex()}, but the one given is {self.fingerprint}; "
                f"give the right one in {ENVIRONMENT} or in the key file beside the data folder"
            )
        try:
            return self._cipher.decrypt(nonce, rest, head + context.encode()).decode()
        except InvalidTag:
            raise SealBroken(
                f"{context}: the sealed value was changed, or belongs to another owner"
            ) from None


def key_file(data: Path) -> Path:
    """Where the master key of data folder DIR lies: `DIR.key` beside it, in no backup of the folder."""
    folder = Path(os.path.abspath(data))
    if not folder.name:
        raise SettingError(f"data folder {data}: the root folder cannot be the data folder")
    return folder.with_name(folder.name + ".key")


def load_master_key(data: Path | None, env: Mapping[str, str]) -> MasterKey | None:
    """The master key from the environment, else from the key file of `data`; None where neither is there.

    Raises SettingError for a key of the wrong form and for a file that is not ours alone.
    """
    if (text := env.get(ENVIRONMENT)) is not None:
        return MasterKey(_decoded(text, ENVIRONMENT))
    if data is None:
        return None
    path = key_file(data)
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingError(f"master key file {path}: cannot be read: {error.strerror}") from error


def create_master_key(data: Path) -> MasterKey:
    """Write a new master key to the key file of `data`, or load the one there: two creators get one key.

    The file appears whole, mode 0600, and is on disk with its name before this returns. Raises SettingError
    when it cannot be written or is not ours alone.
    """
    path = key_file(data)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            _write(draft, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # like O_EXCL, but never a half-written file under that name
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return _read(path)
    except OSError as error:
        raise SettingError(f"master key file {path}: cannot be created: {error.strerror}") from error


def _decoded(text: str, place: str) -> bytes:
    text = text.strip()
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingError(f"{place}: {_FORMS}")
    return key


def _read(path: Path) -> MasterKey:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _judge_file(path, os.fstat(descriptor))
        text = os.read(descriptor, 1024).decode("ascii", "replace")
    finally:
        os.close(descriptor)
    return MasterKey(_decoded(text, f"master key file {path}"))


def _judge_file(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise SettingError(f"master key file {path}: is not a regular file")
    if facts.st_uid != os.geteuid():
        raise SettingError(
            f"master key file {path}: belongs to user id {facts.st_uid}, must belong to {os.geteuid()}, "
            "the user that runs this command"
        )
    if facts.st_mode & 0o077:
        mode = stat.S_IMODE(facts.st_mode)
        raise SettingError(f"master key file {path}: mode {mode:04o} lets others in, must be 0600")


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
