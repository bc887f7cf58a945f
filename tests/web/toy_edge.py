"""A process that serves a toy application and records what it saw, one JSON line a request.

argv: the record's path, the limits as JSON, "edge" or "lenient", the allowed hosts or "*", and for TLS the
files of a certificate and of its key.
It prints its port. SIGTERM ends it with 2 s of grace. "lenient" is a server that believes everything:
the proof that the framing probes can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from outdial.errors import CommitUnknown
from outdial.store.postgres import utc_now
from outdial.web.certificates import Pair, Tls
from outdial.web.guard import Disconnected, Guard, Receive, Scope, Send, read_body
from outdial.web.server import EdgeLimits, listening_socket, run, serve

RECORD = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def record(**seen: Any) -> None:
    os.write(RECORD, json.dumps(seen).encode() + b"\n")


async def answer(send: Send, body: bytes, status: int = 200, *, pieces: int = 1) -> None:
    headers = [(b"content-length", b"%d" % (len(body) * pieces)), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for left in range(pieces, 0, -1):
        await send({"type": "http.response.body", "body": body, "more_body": left > 1})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["raw_path"]
    if path == b"/early":
        await answer(send, b"early")
        return
    if path == b"/crash":
        raise RuntimeError("made to fail")
    if path == b"/lost":
        raise CommitUnknown
    if path == b"/half":
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("made to fail half way")
    try:
        body = await read_body(receive, 1 << 20, scope["headers"] if path == b"/declared" else ())
    except Disconnected:
        record(cut=path.decode())
        raise
    record(
        client=scope["client"][1],
        method=scope["method"],
        path=path.decode(),
        query=scope["query_string"].decode(),
        body=body[:64].decode("latin-1"),
        size=len(body),
        headers=[[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
    )
    if path == b"/slow":
        await asyncio.sleep(float(scope["query_string"]))
    if path == b"/big":
        await answer(send, b"x" * 65536, pieces=int(scope["query_string"]))
        record(sent="big")
        return
    await answer(send, path + b" " + body[:64])


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sock = listening_socket("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    hosts = None if sys.argv[4] == "*" else frozenset(sys.argv[4].split(","))
    limits = EdgeLimits(**json.loads(sys.argv[2]))
    pair = Pair(*map(Path, sys.argv[5:7])) if len(sys.argv) > 5 else None
    tls = Tls(pair, utc_now).context if pair is not None else None
    await serve(Guard(app, allowed_hosts=hosts), sock, stop=stop, grace=2.0, limits=limits, tls=tls)
    record(ended=True)


def believe_everything() -> None:
    """Takes what comes within a moment for requests, one for each word that looks like a method."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, peer = listener.accept()
            with connection, contextlib.suppress(OSError):  # the client may go before it is answered
                for path in re.findall(rb"(?:GET|POST|OPTIONS|TRACE|CONNECT) (\S*)", at_once(connection)):
                    record(client=peer[1], path=path.decode("latin-1"), body="")
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def at_once(connection: socket.socket) -> bytes:
    """What comes until nothing does for a moment."""
    connection.settimeout(0.2)
    data = b""
    with contextlib.suppress(TimeoutError):
        while piece := connection.recv(1 << 18):
            data += piece
    return data


if __name__ == "__main__":
    if sys.argv[3] == "lenient":
        believe_everything()
    else:
        run(main())
