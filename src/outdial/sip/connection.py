"""A connection of the user agent over TCP or TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from outdial.sip.framing import StreamParser
from outdial.sip.words import Hop


class Stream(asyncio.Protocol):
    """A connection to a hop. `changed` is told when it is there and, with `lost`, when it is gone."""

    transport: asyncio.Transport

    def __init__(
        self,
        hop: Hop,
        received: Callable[[Stream, bytes], None],
        changed: Callable[..., None],
    ) -> None:
        self.hop = hop
        self.parser = StreamParser()
        self._received = received
        self._changed = changed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._changed(self, lost=False)

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        self._received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        self._changed(self, lost=True)
