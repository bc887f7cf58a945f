"""Values in the path (contract, Table 1; semantics.md §3, step 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from outdial.errors import Code, Refusal

_INTEGER = re.compile(rb"-?[0-9]+")
_LONGEST = 20  # digits of 2^63 and a sign: longer ones are out of range without being converted
_RANGES = (("vdnId", 9999, "9999"), ("campaignId", 2**63 - 1, "2^63-1"), ("id", 2**63 - 1, "2^63-1"))

HIGHEST = {name: high for name, high, _ in _RANGES}
"""The values of a path in their order, each an integer from 1 to this."""

NAMES = tuple(HIGHEST)


def judged(values: Sequence[bytes]) -> tuple[int, ...]:
    """The VDN of the path and, where it names them, the campaign and something of the campaign.

    The form of every value is judged before the range of any. Raises `Refusal` 02000006, 02000007.
    """
    named = list(zip(values, _RANGES, strict=False))
    for text, (name, _, _) in named:
        if not _INTEGER.fullmatch(text):
            raise Refusal(Code.TYPE, f"{name}: must be an integer")
    return tuple(_in_range(text, *rule) for text, rule in named)


def _in_range(text: bytes, name: str, high: int, shown: str) -> int:
    digits = text.lstrip(b"-").lstrip(b"0")
    value = int(text) if len(digits) <= _LONGEST else -1
    if not 1 <= value <= high:
        raise Refusal(Code.VALUE, f"{name}: must be 1 to {shown}")
    return value
