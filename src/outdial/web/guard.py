"""The outermost ASGI callable, and what it shares with the connection below it and the routes above it.

The connection (`web/edge.py`) has judged the head of each request before this is called: exactly one Host,
no second meaning of where the body ends. Here: which Host, how a body is read, and what is answered when
nothing above has an answer.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog

from outdial.errors import Code, CommitUnknown
from outdial.metrics import HTTP_REFUSALS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

ABORT = "outdial.abort"
"""`scope["extensions"][ABORT]()` closes the connection without an answer (errors.CommitUnknown)."""

PROBES = frozenset({b"/healthz", b"/readyz"})

log = structlog.get_logger()

_process = secrets.token_hex(6)
_numbers = itertools.count(1)


class BodyTooLarge(Exception):
    """The body is larger than the limit given to `read_body`; answer 413 and `Connection: close`."""


class Disconnected(Exception):
    """The client went away before the end of the body: there is no request, and nobody to answer."""


class Fault(NamedTuple):
    """A request that is refused below the interface: the HTTP status, and what to change."""

    status: int
    detail: str


def request_id() -> str:
    """An id for one request, unique among the processes of all servers; not a secret."""
    return f"{_process}-{next(_numbers):x}"


def refusal(fault: Fault, request_id: str) -> tuple[Headers, bytes]:
    """Headers and body of an answer that refuses and ends the connection (semantics.md §2)."""
    code = Code.PARAMETER.wire
    envelope = {
        "resultCode": code,
        "resultDesc": fault.detail,
        "returnCode": code,
        "returnDesc": fault.detail,
    }
    body = json.dumps(envelope, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    if fault.status == 405:
        headers.append((b"allow", b"DELETE, GET, POST, PUT"))
    if fault.status in (429, 503):
        headers.append((b"retry-after", b"1"))
    return headers, body


def answer_of(fault: Fault, request_id: str, more: Headers) -> bytes:
    """The bytes of a refusal that ends the connection, `more` headers among its own."""
    headers, body = refusal(fault, request_id)
    head = b"HTTP/1.1 %d %s\r\n" % (fault.status, HTTPStatus(fault.status).phrase.encode())
    return head + b"".join(b"%s: %s\r\n" % field for field in [*more, *headers]) + b"\r\n" + body


async def read_body(receive: Receive, limit: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The whole body.

    `limit` is in bytes. With the request's `headers` a Content-Length over the limit is refused before the
    first byte of the body is asked for. Raises BodyTooLarge; Disconnected, because the end of the
    connection is never the end of a body.
    """
    for name, value in headers:
        if name == b"content-length" and int(value) > limit:
            raise BodyTooLarge
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message["body"]
        if len(body) > limit:
            raise BodyTooLarge
        return body
    return await _read_rest(message, receive, limit)


async def _read_rest(message: Message, receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


_OTHER_HOST = Fault(421, "Host: this server does not answer for it (its setting public_names)")


class Guard:
    """Refuses a Host that is not ours and answers for an application that could not.

    `allowed_hosts`: names or addresses, with or without a port, in lower case; one without a port stands
    for every port. None allows any: the signature of a request covers its Host, and a request signed for
    another server that knows the same key would be done here (trust.md B.3). `PROBES` are answered for any:
    they change nothing, and who looks after a process asks by its address.
    """

    __slots__ = ("_allowed", "_app")

    def __init__(self, app: App, *, allowed_hosts: frozenset[str] | None) -> None:
        self._app = app
        self._allowed = None if allowed_hosts is None else frozenset(host.encode() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        if self._allowed is not None and not _is_allowed(scope, self._allowed):
            own_id = request_id()
            log.info("request refused", status=421, reason=_OTHER_HOST.detail, request_id=own_id)
            await _refuse(send, _OTHER_HOST, own_id)
            return
        try:
            await self._app(scope, receive, send)
        except Disconnected:
            return
        except BodyTooLarge:
            await _refuse(send, Fault(413, "the body is too large"), request_id())
        except CommitUnknown:
            scope["extensions"][ABORT]()
        except Exception:
            await _confess(scope, send)


def _is_allowed(scope: Scope, allowed: frozenset[bytes]) -> bool:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").lower()
    if host in allowed or scope["raw_path"] in PROBES:
        return True
    name, _, port = host.rpartition(b":")
    return port.isdigit() and name in allowed


async def _refuse(send: Send, fault: Fault, request_id: str) -> None:
    HTTP_REFUSALS.add(str(fault.status))
    headers, body = refusal(fault, request_id)
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _confess(scope: Scope, send: Send) -> None:
    """500 without detail; the log has the request id that the answer carries."""
    own_id = request_id()
    log.exception("our own fault", request_id=own_id)
    try:
        await _refuse(send, Fault(500, "internal error: give the X-Request-Id"), own_id)
    except RuntimeError:  # an answer has begun, and a second one may not follow it
        scope["extensions"][ABORT]()
