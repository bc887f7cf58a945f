"""The audit log's rules: what a row says, its hash, and what breaks the chain (trust.md B.9).

Each row's hash is over its own words and the hash of the row before it. Whoever changes, removes or moves a
row has to make all hashes after it anew; the head, kept elsewhere, shows even that, and a tail cut off.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

FIRST_HASH: Final = "0" * 64
"""What stands before the first row."""

_FORMAT: Final = "outdial-audit-1"
_DIGITS: Final = re.compile(r"\d[\d*#]{4,}")
_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})")

who: ContextVar[str] = ContextVar("who", default="system")
"""Who acts in this task: `key AK`, `command USER`, or `system`, which is time itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did. `vdn_id` None: the host's. `details` are masked and hold no secret."""

    vdn_id: int | None
    action: str
    object: str
    details: str = "{}"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of the log as it is stored. Hashes are SHA-256 in hex."""

    seq: int
    at: datetime
    who: str
    vdn_id: int | None
    action: str
    object: str
    details: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of the log: its number and its hash. Written `SEQ:HASH`."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises ValueError for another form."""
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError("a head is SEQ:HASH, the number of a row and 64 hex digits")
        return cls(int(match[1]), match[2])


EMPTY: Final = Head(0, FIRST_HASH)
"""The head of a log without a row."""


def change(vdn_id: int | None, action: str, object_: str, /, **details: Any) -> Change:
    """A change with its details as JSON, absent ones (None) left out. What looks like a number is masked."""
    said = {name: _plain(value) for name, value in sorted(details.items()) if value is not None}
    return Change(vdn_id, action, object_, json.dumps(said, ensure_ascii=False, separators=(",", ":")))


def masked(text: str) -> str:
    """The text with every run of 5 or more digits, `*` and `#` cut to its last 4."""
    return _DIGITS.sub(lambda match: f"…{match[0][-4:]}", text)


def _plain(value: Any) -> Any:  # noqa: PLR0911
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):  # of a hash: not a number, whatever its digits
        return value.hex()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return masked(str(value))


def sealed(head: Head, at: datetime, by: str, what: Change) -> AuditRow:
    """The row that follows `head`."""
    row = AuditRow(
        head.seq + 1, at, by, what.vdn_id, what.action, what.object, what.details, head.hash, FIRST_HASH
    )
    return replace(row, hash=hash_of(row))


def _words(row: AuditRow) -> tuple[Any, ...]:
    return (
        row.seq,
        row.at,
        row.who,
        row.vdn_id,
        row.action,
        row.object,
        row.details,
        row.previous_hash,
    )


def hash_of(row: AuditRow) -> str:
    """SHA-256 over the row's canonical text: a JSON array of the format, its words and the hash before it."""
    seq, at, *rest = _words(row)
    text = json.dumps(
        [_FORMAT, seq, at.astimezone(UTC).isoformat(timespec="microseconds"), *rest],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fault(after: Head, row: AuditRow) -> str | None:
    """What is wrong with the row that should follow `after`; None: it holds."""
    wanted = after.seq + 1
    if row.seq > wanted:
        gone = f"row {wanted} is" if row.seq == wanted + 1 else f"rows {wanted} to {row.seq - 1} are"
        return f"{gone} missing"
    if row.seq < wanted:
        return f"row {row.seq} stands where row {wanted} should"
    if row.hash != hash_of(row):
        return f"row {row.seq} was changed: its hash does not hold"
    if row.previous_hash != after.hash:
        return f"row {row.seq} does not follow row {after.seq}: one of them was replaced or moved"
    return None


def cut_off(head: Head, known: Head, at_known: str | None) -> str | None:
    """What a head that was kept elsewhere tells; `at_known` is the hash of that row now, None: it is gone."""
    if at_known is None:
        return f"rows {head.seq + 1} to {known.seq} are missing: the log ends before the head that was given"
    if at_known != known.hash:
        return f"row {known.seq} is not the one of the head that was given: the log was written anew"
    return None
