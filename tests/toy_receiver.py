"""A receiver that does what a test says, over real sockets: also what no decent one would do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ssl import SSLContext
from types import TracebackType
from typing import Self


@dataclass
class Request:
    """One request as it came in."""

    target: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answers(*statuses: int, headers: str = "", after: float = 0.0) -> Behaviour:
    """Answer with these statuses in turn, the last one for ever."""
    left = list(statuses)

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        status = left.pop(0) if len(left) > 1 else left[0]
        await asyncio.sleep(after)
        body = b"" if status == 204 else b'{"retCode":"0","retMsg":"success"}'
        writer.write(f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    return behave


async def never_answers(_: Request, writer: asyncio.StreamWriter) -> None:
    """Take the request and say nothing."""
    await asyncio.Event().wait()


def trickles(head: bytes, every: float) -> Behaviour:
    """Say `head` at once and then a byte every so many seconds."""

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            await asyncio.sleep(every)
            writer.write(b" ")
            await writer.drain()

    return behave


async def endless_body(_: Request, writer: asyncio.StreamWriter) -> None:
    """Answer 200 and never come to an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def resets(_: Request, writer: asyncio.StreamWriter) -> None:
    """End the connection with a TCP reset."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ToyReceiver:
    """Listens while it is entered. `hits` counts connections, `open` the requests that have no answer
    yet, `most` how many of them there were at one time."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: SSLContext | None = None,
    ) -> None:
        self.behaviour = behaviour or answers(200)
        self.requests: list[Request] = []
        self.hits = 0
        self.most = 0
        self.cut_off = 0
        self.open = 0
        self._listen = (host, port)
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        host, port = self._listen
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        self.url = f"http{'s' if self._tls else ''}://{name}:{self.port}/results"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                request = await _read(reader)
                self.requests.append(request)
                self.open += 1
                self.most = max(self.most, self.open)
                try:
                    await _until_the_peer_goes(reader, self.behaviour(request, writer))
                finally:
                    self.open -= 1
        except asyncio.IncompleteReadError:
            pass
        except ConnectionError:
            self.cut_off += 1
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(first.split(" ")[1], headers, body)


async def _until_the_peer_goes(reader: asyncio.StreamReader, behaviour: Awaitable[None]) -> None:
    """Behave. Raises ConnectionResetError when the other side hangs up first."""
    answering, hearing = asyncio.ensure_future(behaviour), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({answering, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ConnectionResetError
        answering.result()
    finally:
        answering.cancel()
        hearing.cancel()
        await asyncio.gather(answering, hearing, return_exceptions=True)
