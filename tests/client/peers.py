"""Servers for the client in this process: one that verifies, one that only records bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from outdial import signing

AK, SK, VDN = "TESTAK", "secret-of-the-test", 7
ROOT = "/rest/isales/v1/openapi/campaigns/7"
CAMPAIGN = {
    "id": 9,
    "name": "a",
    "status": 2,
    "strBeginTime": "2030-01-01 00:00:00",
    "strEndTime": "2030-02-01 00:00:00",
    "deviceType": 3,
    "callerNo": "100",
}
POLICY = {"policyType": 0, "policyJson": "[]", "noRetryPolicy": []}
OK = {
    "resultCode": "0200000",
    "resultDesc": "",
    "returnObject": {"totalSize": 1, **CAMPAIGN},
    "data": [],
    "totalSize": 0,
    "totalCount": 0,
}


class Verifier:
    """Answers with a success if the signature holds over the raw bytes; 401 if not. Keeps what came."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        path, _, query = request.raw_path.encode().partition(b"?")
        body = await request.read()
        headers = [(name.lower(), value) for name, value in request.raw_headers]
        try:
            parsed = signing.Authorization.of(headers)
            signing.verify(parsed, SK, request.method, path, query, headers, body, datetime.now(UTC))
        except signing.BadSignature as error:
            refusal = {"resultCode": "0200001", "resultDesc": error.cause}
            return web.json_response(refusal, status=401, headers={"X-Request-Id": "r-1"})
        self.seen.append(
            {
                "line": f"{request.method} {request.raw_path}",
                "body": json.loads(body) if body else None,
                "signed": list(parsed.signed_headers),
                "headers": {name.decode(): value.decode() for name, value in headers},
            }
        )
        return web.json_response(OK | ({"data": POLICY} if b"retryPolicy" in path else {}))


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server with one handler for everything; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.port}"


class Recorder:
    """Records each request and takes the next step of the script.

    "close" the connection, "hang" until the client gives up, "cut" the answer short, "answer" and close,
    "keep" the connection after the answer, or refuse: an HTTP status, or a result code.
    """

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.url = ""
        self.handlers: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.append(asyncio.current_task())
        step = "keep"
        while step == "keep" and (head := await self.head(reader)):
            lines = head.lower().split(b"\r\n")
            lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
            self.requests.append(head + await reader.readexactly(sum(lengths)))
            step = self.script.pop(0)
            if step == "hang":
                await reader.read()
            elif step != "close":
                writer.write(self.said(step))
                await writer.drain()
        writer.close()
        await writer.wait_closed()

    @staticmethod
    def said(step: str) -> bytes:
        status, document = "200 OK", dict(OK)
        if step.startswith("02"):
            document = {"resultCode": step, "resultDesc": "no"}
        elif step.isdigit():
            status = f"{step} NO\r\nRetry-After: 0"
        text = json.dumps(document).encode()
        sent = text[:5] if step == "cut" else text
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(text), sent)

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Recorder]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
        await asyncio.gather(*filter(None, self.handlers))
