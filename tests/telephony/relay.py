"""A UDP relay that loses datagrams both ways, by a seed."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any


class Relay:
    """Stands before a far end; each peer gets a socket of its own towards it."""

    def __init__(self, port: int, *, loss: float, seed: int) -> None:
        self._far = ("127.0.0.1", port)
        self._loss = loss
        self._random = Random(seed)
        self._lines: dict[Any, asyncio.DatagramTransport] = {}
        self.dropped = 0
        self.port = 0

    async def __aenter__(self) -> Relay:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Ear(self._from_near), local_addr=("127.0.0.1", 0)
        )
        self.port = self._front.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._front.close()
        for line in self._lines.values():
            line.close()

    def _loses(self) -> bool:
        lost = self._random.random() < self._loss
        self.dropped += lost
        return lost

    def _from_near(self, data: bytes, address: Any) -> None:
        if not self._loses():
            asyncio.get_running_loop().create_task(self._forward(data, address))

    async def _forward(self, data: bytes, address: Any) -> None:
        if address not in self._lines:
            loop = asyncio.get_running_loop()
            line, _ = await loop.create_datagram_endpoint(
                lambda: _Ear(lambda back, _: self._back(back, address)), remote_addr=self._far
            )
            self._lines.setdefault(address, line)
        self._lines[address].sendto(data)

    def _back(self, data: bytes, address: Any) -> None:
        if not self._loses():
            self._front.sendto(data, address)


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, hear: Any) -> None:
        self._hear = hear

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._hear(data, addr)

    def error_received(self, exc: Exception) -> None:
        return
