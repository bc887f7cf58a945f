"""Wrong signatures are slowed down, by access key and address; a key is never locked (trust.md B.3, rule 7).

Each pair has a token bucket: a wrong signature takes a token, and one comes back every few seconds. Where
none is left nothing is judged. A right signature fills the bucket, so a client that is right again is free.
"""

from __future__ import annotations

import ipaddress
import math
from typing import Final

FAILURES: Final = 10
"""Wrong signatures of one pair that are judged at once."""

RETURNS: Final = 6.0
"""Seconds after which one more is judged: 10 a minute. A right key on its own address waits no longer."""

MAX_KNOWN: Final = 10_000
"""Pairs that are remembered; beyond it the one whose failure is the oldest is forgotten."""

_NETWORK: Final = 64
"""Bits of an IPv6 address that name a network: its hosts choose the rest (RFC 4291, section 2.5.1)."""

Pair = tuple[str, str]
"""An access key as it was given, and the source of the request."""


class Throttle:
    """What one process remembers of wrong signatures. `now` is in seconds and never goes back."""

    def __init__(self) -> None:
        self._free_at: dict[Pair, float] = {}  # when the bucket will be full; the oldest failure first

    def wait(self, pair: Pair, now: float) -> int:
        """Whole seconds until a signature of this pair is judged; 0: now."""
        free_at = self._free_at.get(pair)
        if free_at is None:
            return 0
        return max(0, math.ceil(free_at - now - (FAILURES - 1) * RETURNS))

    def failed(self, pair: Pair, now: float) -> None:
        """A signature of this pair was wrong."""
        free_at = max(now, self._free_at.pop(pair, now)) + RETURNS
        self._free_at[pair] = free_at
        if len(self._free_at) > MAX_KNOWN:
            del self._free_at[next(iter(self._free_at))]

    def held(self, pair: Pair) -> None:
        """A signature of this pair was right: its failures are forgotten."""
        if self._free_at:
            self._free_at.pop(pair, None)

    def __len__(self) -> int:
        return len(self._free_at)


def source(address: str) -> str:
    """What stands for a client's address: IPv4 as it is, IPv6 as its network of 64 bits."""
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address.partition("%")[0])
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), _NETWORK), strict=False))
