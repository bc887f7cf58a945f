"""Signed adds over keep-alive connections: built before the clock starts, so that the load is cheap."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from outdial.signing import sign

_numbers = itertools.count(random.Random().randrange(10**9))


def entries(count: int) -> list[dict[str, str]]:
    """Entries as a business sends them: a session id, a number, a batch name."""
    return [
        {
            "sessionId": f"{next(_numbers):020d}",
            "called": f"1{random.randrange(10**9):09d}{random.randrange(6)}",  # those on the list end in 7
            "customField": "november reminder",
        }
        for _ in range(count)
    ]


def add_request(host: str, ak: str, sk: str, vdn: int, campaign: int, listed: list[dict[str, str]]) -> bytes:
    """The bytes of one signed add."""
    path = f"/rest/isales/v1/openapi/campaigns/{vdn}/calldata/{campaign}".encode()
    body = json.dumps({"callDataList": listed}).encode()
    headers = [(b"host", host.encode()), (b"content-type", b"application/json; charset=UTF-8")]
    signature = sign(sk, ak, "POST", path, b"", headers, body, datetime.now(UTC), milliseconds=True)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return (
        b"POST %b HTTP/1.1\r\n%bauthorization: %b\r\ncontent-length: %d\r\n\r\n"
        % (path, head, signature.encode(), len(body))
        + body
    )


async def send_all(host: str, port: int, requests: Sequence[bytes], connections: int) -> list[str]:
    """Send every request once over so many connections; the result codes in no order."""
    waiting: Iterator[bytes] = iter(requests)
    codes: list[str] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
            answer = await reader.readexactly(length)
            codes.append(json.loads(answer)["resultCode"])
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return codes
