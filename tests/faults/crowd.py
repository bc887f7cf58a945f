"""A process full of connections that behave badly, or only wait; it writes down what became of each.

argv: port, kind (head, body, reader, idle), how many, the address that they come from, for how many seconds
at most, and how many come a second (0: all at once). The first line on stdout says how many are open; the
last, once all are closed or the time is over, what was seen, as JSON. A line on stdin ends it before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections import Counter
from typing import Any

EVERY = 2.0  # seconds between two bytes of one connection
AGAIN = 10.0  # seconds between two requests of an idle one
TICKS = 20  # parts of the crowd that take turns, so that it does not all speak at once
AT_ONCE = 50  # connections that are being made at a time
ESTABLISHED = 1  # tcpi_state

BODY = b"POST /rest/isales/v1/openapi/campaigns/1/calldata/1 HTTP/1.1\r\nHost: x\r\n"
START = {
    "head": b"POST /rest HTTP/1.1\r\nHost: x\r\nX: ",
    "body": BODY + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
    "reader": b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 9,
    "idle": b"",
}
PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class One(asyncio.Protocol):
    """One connection."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.ended: float | None = None
        self.statuses: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.began = self.asked = asyncio.get_running_loop().time()
        if self.crowd.kind == "reader":
            transport.pause_reading()
        transport.write(PING if self.crowd.kind == "idle" else START[self.crowd.kind])

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            self.statuses.append(data[9:12].decode())

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def turn(self, now: float) -> None:
        """What it does every now and then."""
        if self.ended is not None:
            return
        if self.crowd.kind == "idle":
            if now - self.asked >= AGAIN:
                self.asked = now
                self.transport.write(PING)
        elif self.crowd.kind != "reader":
            self.transport.write(b"a")
        elif not self._is_established():  # nothing is read, so nothing tells
            self._end()

    def _is_established(self) -> bool:
        its = self.transport.get_extra_info("socket")
        return its.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED

    def _end(self) -> None:
        if self.ended is None:
            self.ended = asyncio.get_running_loop().time()


class Crowd:
    """All of them."""

    def __init__(self, port: int, kind: str, number: int, source: str, pace: float) -> None:
        self.kind = kind
        self._pace = pace
        self._port = port
        self._number = number
        self._source = source
        self._members: list[One] = []
        self._failed: Counter[str] = Counter()

    async def gather(self) -> dict[str, Any]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def connect(nth: int) -> None:
            if self._pace:
                await asyncio.sleep(nth / self._pace)
            async with gate:
                try:
                    await self._connect()
                except OSError as error:
                    self._failed[str(error)] += 1

        await asyncio.gather(*(connect(nth) for nth in range(self._number)))
        return {"open": len(self._members), "failed": self._failed}

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if self.kind == "reader":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            sock.bind((self._source, 0))
            await loop.sock_connect(sock, ("127.0.0.1", self._port))
        except OSError:
            sock.close()
            raise
        _, one = await loop.create_connection(lambda: One(self), sock=sock)
        self._members.append(one)

    async def live(self) -> None:
        """Take turns, also while others are still being connected."""
        loop = asyncio.get_running_loop()
        nth = 0
        while True:
            for one in self._members[nth % TICKS :: TICKS]:
                one.turn(loop.time())
            nth += 1
            await asyncio.sleep(EVERY / TICKS)

    async def ended(self) -> None:
        while any(one.ended is None for one in self._members):
            await asyncio.sleep(0.1)

    def seen(self) -> dict[str, Any]:
        return {
            "after": sorted(one.ended - one.began for one in self._members if one.ended is not None),
            "still_open": sum(one.ended is None for one in self._members),
            "statuses": Counter(status for one in self._members for status in one.statuses),
        }


async def main() -> None:
    port, kind, number, source, seconds, pace = sys.argv[1:]
    crowd = Crowd(int(port), kind, int(number), source, float(pace))
    living = asyncio.create_task(crowd.live())
    print(json.dumps(await crowd.gather()), flush=True)
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    waits = [told] if kind == "idle" else [told, asyncio.create_task(crowd.ended())]
    await asyncio.wait(waits, timeout=float(seconds), return_when=asyncio.FIRST_COMPLETED)
    living.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await living
    print(json.dumps(crowd.seen()), flush=True)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    sys.stdout.flush()
    import os

    os._exit(0)  # with what is still open: nobody waits for stdin
