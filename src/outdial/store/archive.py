"""The file that a backup is: a gzipped tar that names what it holds and proves that all of it is there.

    backup.json            format, versions, migrations, tables and columns, fingerprints of master keys
    tables/NAME/00000001   rows in the text form of COPY, whole lines, about 1 MiB each
    totals.json            rows by table, and where every sequence stands
    sha256                 of all members before it: name, size, content

Any tar program lists it, and any PostgreSQL reads its rows.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final

from outdial.errors import SettingError

FORMAT: Final = 1
PART: Final = 1024 * 1024
"""Bytes after which a part ends, with the row that reaches them."""

HEAD, TOTALS, CHECKSUM = "backup.json", "totals.json", "sha256"

_MEMBER_MAX = 256 * 1024 * 1024  # bytes; a part holds a row more than PART, and a prompt is a row
_BROKEN = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, KeyError, TypeError)


class BadBackup(SettingError):
    """The file is no backup, or not whole, or was altered."""


class Writer:
    """Writes an archive; `close` makes it whole. OSErrors of the file come through."""

    def __init__(self, file: IO[bytes], head: dict[str, Any]) -> None:
        self._packed = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0)
        self._tar = tarfile.open(fileobj=self._packed, mode="w|", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._digest = hashlib.sha256()
        self._rest = b""
        self._parts = 0
        self.rows: dict[str, int] = {}
        self._add(HEAD, _json({"format": FORMAT, **head}))

    def add(self, table: str, text: bytes) -> None:
        """Some bytes of the table's rows; a part is written when enough have come."""
        self._rest += text
        if len(self._rest) >= PART and (end := self._rest.rfind(b"\n") + 1):
            self._part(table, self._rest[:end])
            self._rest = self._rest[end:]

    def end_of(self, table: str) -> None:
        """No more rows of this table."""
        if self._rest:
            self._part(table, self._rest)
        self.rows.setdefault(table, 0)
        self._rest, self._parts = b"", 0

    def close(self, sequences: dict[str, Any]) -> None:
        """Totals and checksum: without them no archive is read."""
        self._add(TOTALS, _json({"rows": self.rows, "sequences": sequences}))
        self._add(CHECKSUM, self._digest.hexdigest().encode())
        self._tar.close()
        self._packed.close()

    def _part(self, table: str, text: bytes) -> None:
        self._parts += 1
        self.rows[table] = self.rows.get(table, 0) + text.count(b"\n")  # within a row it is escaped
        self._add(f"tables/{table}/{self._parts:08d}", text)

    def _add(self, name: str, content: bytes) -> None:
        _count(self._digest, name, content)
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        self._tar.addfile(member, io.BytesIO(content))


def members(file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every member but the checksum, in order; the last step proves all of them.

    `name` is the file's, for messages. Raises `BadBackup`, before or after the members came: what was made of
    them must be undone then.
    """
    digest, said = hashlib.sha256(), None
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as packed:
            with tarfile.open(fileobj=packed, mode="r|") as tar:
                for member in tar:
                    if said is not None or not member.isfile() or member.size > _MEMBER_MAX:
                        raise ValueError(f"a member {member.name!r} that does not belong there")
                    reader = tar.extractfile(member)
                    assert reader is not None
                    content = reader.read()
                    if member.name == CHECKSUM:
                        said = content.decode()
                        continue
                    _count(digest, member.name, content)
                    yield member.name, content
            while packed.read(PART):  # its own checksum stands at the end
                pass
    except _BROKEN as error:
        raise BadBackup(f"{name}: not a whole backup of outdial ({type(error).__name__}: {error})") from error
    if said != digest.hexdigest():
        raise BadBackup(f"{name}: not a whole backup of outdial (its checksum does not hold)")


def verified(file: IO[bytes], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and totals of a whole archive; `file` stands at its beginning again. Raises `BadBackup`."""
    wanted = {member: text for member, text in members(file, name) if member in (HEAD, TOTALS)}
    file.seek(0)
    try:
        head, totals = json.loads(wanted[HEAD]), json.loads(wanted[TOTALS])
        version = head["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadBackup(f"{name}: not a whole backup of outdial ({HEAD} or {TOTALS} is missing)") from error
    if version != FORMAT:
        raise BadBackup(f"{name}: a backup of format {version}; this outdial reads {FORMAT}")
    return head, totals


def _count(digest: Any, name: str, content: bytes) -> None:
    digest.update(f"{name}\0{len(content)}\0".encode())
    digest.update(content)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
