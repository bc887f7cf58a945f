"""Values in the path (contract, Table 1; semantics.md §3, step 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from outdial.errors import Code, Refusal

_INTEGER = re.compile(rb"-?[0-9]+")
_LONGEST = 20  # digits of 2^63 and a sign: longer ones are out of range without being converted
_RANGES = {
    "vdnId": (9999, "9999"),
    "campaignId": (2**63 - 1, "2^63-1"),
    "id": (2**63 - 1, "2^63-1"),
}

NAMES = tuple(_RANGES)
"""What the values of most paths are, in their order."""

CALL_NAMES = ("vdnId", "callId")
"""Of a path that names a call; any text may be the id of one."""

HIGHEST = {name: high for name, (high, _) in _RANGES.items()}
"""The integers of a path, each from 1 to this."""


def judged(values: Sequence[bytes], names: Sequence[str] = NAMES) -> dict[str, int]:
    """The integers of a path by their names: VDN, campaign, something of the campaign.

    The form of every value is judged before the range of any. Raises `Refusal` 02000006, 02000007.
    """
    named = {name: text for name, text in zip(names, values, strict=False) if name in _RANGES}
    for name, text in named.items():
        if not _INTEGER.fullmatch(text):
            raise Refusal(Code.TYPE, f"{name}: must be an integer")
    return {name: _in_range(text, name, *_RANGES[name]) for name, text in named.items()}


def _in_range(text: bytes, name: str, high: int, shown: str) -> int:
    digits = text.lstrip(b"-").lstrip(b"0")
    value = int(text) if len(digits) <= _LONGEST else -1
    if not 1 <= value <= high:
        raise Refusal(Code.VALUE, f"{name}: must be 1 to {shown}")
    return value
