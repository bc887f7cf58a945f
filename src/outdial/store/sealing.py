"""Secrets at rest: AES-256-GCM under one master key that is not in the database (SP 800-38D).

The master key comes from the environment (OUTDIAL_MASTER_KEY) or from the file `DIR.key` beside the data
folder DIR, so that a copy of the folder or of the database alone opens nothing.

A key is replaced in steps (`begin_rotation`, sealing anew, `finish_rotation`), and beside DIR.key lie then
`DIR.key.next`, the key that is coming, and `DIR.key.FINGERPRINT`, those that went. All of them open; only
DIR.key seals. So whatever a crash leaves behind can be read.
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
from collections.abc import Callable, Mapping, Sequence
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


class UnknownMasterKey(SealBroken):
    """Another master key sealed it than those that are here."""


class MasterKey:
    """The key that seals secrets. `fingerprint` names it in logs and messages and reveals nothing of it."""

    __slots__ = ("_ciphers", "_mark")

    def __init__(self, key: bytes, others: Sequence[bytes] = ()) -> None:
        """Takes 32 bytes; `others` only open. Raises ValueError for another length."""
        self._mark = _mark(key)
        self._ciphers = {_mark(one): AESGCM(one) for one in (*others, key)}

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
        return (
            head
            + nonce
            + self._ciphers[self._mark].encrypt(nonce, plaintext.encode(), head + context.encode())
        )

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt what `seal` gave for the same context. Raises SealBroken and says why it cannot."""
        start = 1 + _MARK
        head, nonce, rest = sealed[:start], sealed[start : start + _NONCE], sealed[start + _NONCE :]
        if len(rest) < _TAG or head[0] != _VERSION:
            raise SealBroken(f"{context}: not a sealed value of this version of outdial")
        cipher = self._ciphers.get(head[1:])
        if cipher is None:
            raise UnknownMasterKey(
                f"{context}: sealed by master key {head[1:].hex()}, but the one given is {self.fingerprint}; "
                f"give the right one in {ENVIRONMENT} or in the key file beside the data folder"
            )
        try:
            return cipher.decrypt(nonce, rest, head + context.encode()).decode()
        except InvalidTag:
            raise SealBroken(
                f"{context}: the sealed value was changed, or belongs to another owner"
            ) from None

    @property
    def opens_others(self) -> bool:
        """Whether it knows other keys, which only open."""
        return len(self._ciphers) > 1

    def knows(self, fingerprint: str) -> bool:
        """Whether it opens what the key of this fingerprint sealed."""
        return any(mark.hex() == fingerprint for mark in self._ciphers)

    def seals(self, sealed: bytes) -> bool:
        """Whether this key sealed the value, and not one of the others."""
        return sealed[1 : 1 + _MARK] == self._mark


def _mark(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError("a master key has 32 bytes")
    label = hmac.digest(key, b"outdial master key fingerprint", "sha256")
    return hashlib.sha256(label).digest()[:_MARK]


class Keyring:
    """The master key as a process keeps it: found when first needed, and again when it was replaced.

    A value that an unknown key sealed makes it look once more: a rotation puts the new key where it is found
    before anything is sealed with it, so that a running server needs no restart.
    """

    def __init__(self, find: Callable[[], MasterKey | None]) -> None:
        self._find = find
        self._key: MasterKey | None = None

    def key(self) -> MasterKey:
        """The master key. Raises `SettingError` when it is not here."""
        if self._key is None:
            self._key = self._find()
        if self._key is None:
            raise SettingError(
                "secrets are sealed with a master key that is not here: put the file DIR.key back beside"
                f" the data folder, or set {ENVIRONMENT}"
            )
        return self._key

    def seal(self, plaintext: str, *, context: str) -> bytes:
        """As `MasterKey.seal`. Raises `SettingError` without a key."""
        return self.key().seal(plaintext, context=context)

    def open(self, sealed: bytes, *, context: str) -> str:
        """As `MasterKey.open`. Raises `SettingError` without a key, `SealBroken`."""
        try:
            return self.key().open(sealed, context=context)
        except UnknownMasterKey:
            self._key = None
            return self.key().open(sealed, context=context)


def key_file(data: Path) -> Path:
    """Where the master key of data folder DIR lies: `DIR.key` beside it, in no backup of the folder."""
    folder = Path(os.path.abspath(data))
    if not folder.name:
        raise SettingError(f"data folder {data}: the root folder cannot be the data folder")
    return folder.with_name(folder.name + ".key")


def load_master_key(data: Path | None, env: Mapping[str, str]) -> MasterKey | None:
    """The master key from the environment, else from the key file of `data`; None where neither is there.

    The variable may hold several, separated by commas: the first seals, all of them open. So do the files
    of a rotation beside the key file.
    Raises SettingError for a key of the wrong form and for a file that is not ours alone.
    """
    if (text := env.get(ENVIRONMENT)) is not None:
        key, *others = (_decoded(one, ENVIRONMENT) for one in text.split(","))
        return MasterKey(key, others)
    if data is None:
        return None
    path = key_file(data)
    try:
        others = _read_beside(path)  # first: what a rotation moves away meanwhile is then the key itself
        return MasterKey(_read(path), others)
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
    try:
        _place(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        return MasterKey(_read(path))
    except OSError as error:
        raise SettingError(f"master key file {path}: cannot be created: {error.strerror}") from error


def begin_rotation(data: Path) -> MasterKey:
    """The key that is to come, on disk as DIR.key.next before this returns; it opens what the others sealed.

    One that a crash left behind is taken up again. Raises `SettingError`: no key to replace, no right.
    """
    path = key_file(data)
    coming = _coming(path)
    try:
        _read(path)
        if not coming.exists():
            _place(coming, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        return MasterKey(_read(coming), [_read(path), *_read_beside(path)])
    except FileNotFoundError as error:
        raise SettingError(f"master key file {path}: is not there; there is no key to replace") from error
    except OSError as error:
        raise SettingError(f"master key file {coming}: cannot be created: {error.strerror}") from error


def finish_rotation(data: Path) -> Path:
    """Make the coming key the one that seals, once everything is sealed with it; where the old one now lies.

    Raises `SettingError` when a file cannot be renamed; the next rotation goes on from there.
    """
    path = key_file(data)
    try:
        old = path.with_name(f"{path.name}.{_mark(_read(path)).hex()}")
        with contextlib.suppress(FileExistsError):
            os.link(path, old)
        _sync_folder(path.parent)
        _coming(path).rename(path)  # at no moment is there no DIR.key
        _sync_folder(path.parent)
    except OSError as error:
        raise SettingError(f"master key file {path}: cannot be replaced: {error.strerror}") from error
    return old


def _coming(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _read_beside(path: Path) -> list[bytes]:
    """The key that is coming and those that went, as far as they are there."""
    wanted = re.compile(re.escape(path.name) + rf"\.(next|[0-9a-f]{{{2 * _MARK}}})")
    found = []
    for one in sorted(path.parent.iterdir()):
        if wanted.fullmatch(one.name):
            with contextlib.suppress(FileNotFoundError):
                found.append(_read(one))
    return found


def _place(path: Path, content: bytes) -> None:
    """Write a file that appears whole under its name; one that is there already stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, content)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # like O_EXCL, but never a half-written file under that name
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


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


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _judge_file(path, os.fstat(descriptor))
        text = os.read(descriptor, 1024).decode("ascii", "replace")
    finally:
        os.close(descriptor)
    return _decoded(text, f"master key file {path}")


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
