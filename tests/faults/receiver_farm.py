"""Receivers as a process with its own synced log: healthy ones, and such as no decent one would be.

    python receiver_farm.py --folder FOLDER NAME:KIND ...

Each has a port of its own. `FOLDER/farm.json` says the URLs once all listen, `FOLDER/farm.jsonl` is the log:
a line when a request is whole (`in_flight`: with it, at this receiver), one when a connection is taken, one
when a request is over (`took` seconds, `sent` bytes of the answer, `cut` by the peer, `status`). SIGUSR1: all
of them are healthy from now on. KIND is one of `KINDS`; certificates lie in FOLDER/certificates.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from journal import Journal

CANARY = "127.0.0.9"
"""The address of the canary that redirects lead to; the receivers are on 127.0.0.1."""

LATE = 16.0
"""Seconds after which the late one answers 200, when nobody listens any more."""

PACE = 0.0005
"""Seconds between two kilobytes of an endless answer: what is read is not hidden by the buffers between."""

SILENT_KINDS = ("silent", "one_byte", "late")
"""With these only the caller's timeout ends a try."""

TLS_KINDS = ("expired", "self_made")
KINDS = (
    *("healthy", *SILENT_KINDS, *TLS_KINDS, "byte_of_a_body", "endless_body", "endless_failure"),
    *("endless_interim", "error", "gone", "to_the_metadata", "to_the_canary", "reset", "canary"),
)

HOSTILE_KINDS = tuple(kind for kind in KINDS if kind not in {"healthy", "canary"})


def seconds_of(line: dict[str, Any]) -> float:
    """The moment of a line, in seconds of the epoch."""
    return datetime.fromisoformat(line["at"]).timestamp()


class Answer:
    """What is said to one request; `sent` bytes were taken by the system."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        writer.transport.set_write_buffer_limits(0)  # what has been said is in the system's hands
        self.sent = 0
        self.status = 0

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        self.sent += len(data)

    async def head(self, status: int, *fields: str, length: int = 0) -> None:
        self.status = status
        lines = [f"HTTP/1.1 {status} X", *fields, f"Content-Length: {length}", "", ""]
        await self.say("\r\n".join(lines).encode())

    async def endless(self, piece: bytes) -> None:
        while True:
            await self.say(piece * (1024 // len(piece)))
            await asyncio.sleep(PACE)

    def reset(self) -> None:
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Line(asyncio.StreamReaderProtocol):
    """A connection that says at once when the other side has gone."""

    def __init__(self, reader: asyncio.StreamReader, receiver: Receiver) -> None:
        super().__init__(reader, receiver.serve)
        self._receiver = receiver
        self._heard = reader

    def eof_received(self) -> bool:
        self._receiver.open.discard(self._heard)
        return bool(super().eof_received())

    def connection_lost(self, error: Exception | None) -> None:
        self._receiver.open.discard(self._heard)
        super().connection_lost(error)


class Receiver:
    """One receiver on its port."""

    def __init__(self, name: str, kind: str, folder: Path, journal: Journal) -> None:
        self.name, self.kind = name, kind
        self.canary = ""  # its URL
        self._certificates = folder / "certificates"
        self._journal = journal
        self.open: set[asyncio.StreamReader] = set()  # connections with a request that has no answer yet
        self._numbers = itertools.count(1)
        self._lines: set[asyncio.Task[None]] = set()
        self._tls = self._context() if kind in TLS_KINDS else None

    async def listen(self) -> str:
        """Its URL."""

        def taken() -> Line:
            if self.kind in {"canary", *TLS_KINDS}:  # the others count requests
                self._write(event="connection")
            return Line(asyncio.StreamReader(), self)

        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.bind((CANARY if self.kind == "canary" else "127.0.0.1", 0))
        server = await asyncio.get_running_loop().create_server(taken, sock=sock, ssl=self._tls)
        self._server = server
        host, port = sock.getsockname()
        return f"http{'s' if self._tls else ''}://{host}:{port}/results"

    def recover(self) -> None:
        """Healthy from now on, with a certificate that is trusted."""
        if self.kind != "canary":
            self.kind = "healthy"
        if self._tls is not None:
            self._tls.load_cert_chain(self._certificates / "good.pem", self._certificates / "good.key")

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = self._certificates / self.kind
        context.load_cert_chain(file.with_suffix(".pem"), file.with_suffix(".key"))
        return context

    def _write(self, **fields: Any) -> None:
        """Synced on return: a line is there before the receiver does what it says."""
        self._journal.write(at=datetime.now(UTC).isoformat(), receiver=self.name, kind=self.kind, **fields)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._line(reader, writer))
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while not writer.is_closing():
                await self._request(reader, writer)
        writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = head.partition("content-length:")[2].partition("\r\n")[0].strip()
        body = await reader.readexactly(int(length or 0))
        ids = [one["callId"] for one in json.loads(body)] if body else []
        began, number = time.monotonic(), next(self._numbers)
        self.open.add(reader)
        self._write(event="request", number=number, ids=ids, in_flight=len(self.open))
        answer = Answer(writer)
        cut = True
        try:
            cut = not await self._until_the_peer_goes(reader, BEHAVIOURS[self.kind](self, answer))
        except ConnectionError:
            pass
        finally:
            self.open.discard(reader)
            facts = {"took": time.monotonic() - began, "sent": answer.sent, "status": answer.status}
            self._write(event="over", number=number, ids=ids, cut=cut, **facts)
        if cut:
            raise ConnectionResetError

    async def _until_the_peer_goes(self, reader: asyncio.StreamReader, behaviour: Awaitable[None]) -> bool:
        """Whether the behaviour came to its end before the peer hung up."""
        answering = asyncio.ensure_future(behaviour)
        hearing = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answering, hearing], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
            return answering.done()
        finally:
            for task in (answering, hearing):
                task.cancel()
            await asyncio.gather(answering, hearing, return_exceptions=True)


async def healthy(_: Receiver, answer: Answer) -> None:
    await answer.head(200)


async def silent(_: Receiver, answer: Answer) -> None:
    await asyncio.Event().wait()


async def one_byte(_: Receiver, answer: Answer) -> None:
    """A byte a second, of a status line that has no end."""
    for byte in itertools.chain(b"HTTP/1.1 200 ", itertools.repeat(ord("O"))):
        await asyncio.sleep(1)
        await answer.say(bytes([byte]))


async def late(_: Receiver, answer: Answer) -> None:
    await asyncio.sleep(LATE)
    await answer.head(200)


async def byte_of_a_body(_: Receiver, answer: Answer) -> None:
    await answer.head(200, length=1000)
    while True:
        await asyncio.sleep(1)
        await answer.say(b"x")


async def endless_body(_: Receiver, answer: Answer) -> None:
    await answer.head(200, length=10**12)
    await answer.endless(b"x")


async def endless_failure(_: Receiver, answer: Answer) -> None:
    await answer.head(500, length=10**12)
    await answer.endless(b"x")


async def endless_interim(_: Receiver, answer: Answer) -> None:
    """One interim answer after another, and never a final one (RFC 9110 §15.2)."""
    await answer.endless(b"HTTP/1.1 102 Processing\r\n\r\n")


async def error(_: Receiver, answer: Answer) -> None:
    await answer.head(500)


async def gone(_: Receiver, answer: Answer) -> None:
    await answer.head(410)


async def to_the_metadata(_: Receiver, answer: Answer) -> None:
    await answer.head(301, "Location: http://169.254.169.254/latest/meta-data/")


async def to_the_canary(receiver: Receiver, answer: Answer) -> None:
    await answer.head(301, f"Location: {receiver.canary}")


async def reset(_: Receiver, answer: Answer) -> None:
    answer.reset()


BEHAVIOURS: dict[str, Callable[[Receiver, Answer], Awaitable[None]]] = {
    "canary": healthy,
    **dict.fromkeys(TLS_KINDS, healthy),
    **{kind: globals()[kind] for kind in KINDS if kind not in {"canary", *TLS_KINDS}},
}


async def main(folder: Path, named: list[str]) -> None:
    journal = Journal(folder / "farm.jsonl")
    receivers = [Receiver(*one.split(":"), folder, journal) for one in named]
    urls = {one.name: await one.listen() for one in receivers}
    for one in receivers:
        one.canary = urls.get("canary", "")

    def recover() -> None:
        for one in receivers:
            one.recover()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, recover)
    (folder / "farm.new").write_text(json.dumps(urls), encoding="utf-8")
    os.replace(folder / "farm.new", folder / "farm.json")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[2]), sys.argv[3:]))
