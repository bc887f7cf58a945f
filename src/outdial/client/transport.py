"""One signed request on its way: sent, judged, and sent again where that is safe.

What is signed is what is sent: path, query, Host and body leave byte for byte as they were signed, and a
repeat is the very same bytes. Signed are always `content-type`, `host` and, when given, `idempotency-key`:
the scheme lets the signer decide, and nothing that changes what a request means should be left open. The
timestamp has milliseconds, so that two requests made in one second are two requests and not one sent twice
(semantics.md §3).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from outdial import signing
from outdial.client import errors, tls
from outdial.client.errors import Busy, ClientError, DatabaseUnavailable, NoAnswer, NotConnected
from outdial.errors import Code, SettingError

CONTENT_TYPE = "application/json; charset=UTF-8"
RETRY_WAITS = (0.2, 1.0)
"""Seconds before the first and the second repeat."""
LONGEST_WAIT = 10.0
"""Seconds of a `Retry-After` that are waited for, at most."""
LONGEST_TIMEOUT = 240
"""Seconds: three tries in a row stay inside the 15 minutes in which a signature is valid."""

_KEEP_ALIVE = 3.0  # seconds; below the idle time after which servers commonly close a connection
_BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request ready to be sent, once or again: the same bytes are the same request (guarantee G2)."""

    method: str
    target: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: the JSON object, and whether it is the stored one of an earlier try."""

    envelope: Mapping[str, Any]
    replayed: bool


class Transport:
    """Signs and sends the requests of one access key to one server."""

    def __init__(
        self,
        url: str,
        ak: str,
        sk: str,
        *,
        timeout: float,
        ca_file: str | os.PathLike[str] | None,
        fingerprint: str | None,
    ) -> None:
        """Raises SettingError for what cannot be right."""
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise SettingError(f"timeout: must be more than 0 and at most {LONGEST_TIMEOUT} s")
        self.origin = _origin(url)
        self._ak = ak
        self._sk = sk
        self._timeout = timeout
        self._trust = tls.trust_for(self.origin, ca_file, fingerprint)
        self._session: aiohttp.ClientSession | None = None
        if not sk:
            raise SettingError("secret key: is empty")
        try:
            self.signed("GET", "/")
        except signing.BadSignature:
            raise SettingError("access key: must be 1 to 512 visible ASCII characters, no slash") from None

    def open(self) -> None:
        """Make ready to send; needs a running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            middlewares=(_send_once,),
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def signed(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
    ) -> SignedRequest:
        """Sign a request now. Raises ValueError or TypeError for a body that JSON cannot hold."""
        raw_query = urlencode(query) if query else ""
        raw_body = b"" if body is None else json.dumps(body, allow_nan=False).encode("ascii")
        headers = {"Content-Type": CONTENT_TYPE, "Host": self.origin.raw_authority}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        authorization = signing.sign(
            self._sk,
            self._ak,
            method,
            path.encode(),
            raw_query.encode("ascii"),
            [(name.encode(), value.encode()) for name, value in headers.items()],
            raw_body,
            datetime.now(UTC),
            milliseconds=True,
        )
        target = f"{path}?{raw_query}" if raw_query else path
        return SignedRequest(method, target, raw_body, {**headers, "Authorization": authorization})

    async def deliver(self, request: SignedRequest, *, repeatable: bool) -> Answer:
        """Send a request, and the same bytes at most twice more.

        Whatever certainly changed nothing is sent again: no connection, 0200006, HTTP 429 and 503. What
        got no answer only if it is `repeatable`: queries, and adds, whose answers the server stores. Raises
        ClientError; NoAnswer when any try may have taken effect and none was judged.
        """
        lost = False
        for tries, wait in enumerate((*RETRY_WAITS, None), start=1):
            try:
                return await self.send(request)
            except (NotConnected, NoAnswer, DatabaseUnavailable, Busy) as error:
                lost = lost or isinstance(error, NoAnswer)
                if wait is None or (lost and not repeatable):
                    if lost and tries > 1:
                        text = f"sent {tries} times, no answer; the last time: {error.description}"
                        raise NoAnswer(None, text) from error
                    raise
                asked = error.retry_after or 0.0 if isinstance(error, Busy) else 0.0
            await asyncio.sleep(min(max(wait, asked), LONGEST_WAIT))
        raise AssertionError("the last try returns or raises")

    async def send(self, request: SignedRequest) -> Answer:
        """Send a request once. Raises ClientError."""
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(...)`")
        try:
            async with self._session.request(
                request.method,
                URL(f"{self.origin}{request.target}", encoded=True),
                data=request.body or None,
                headers=request.headers,
                allow_redirects=False,
                ssl=self._trust,
            ) as answer:
                return _judged(request, answer, await answer.read())
        except TimeoutError as error:
            raise NoAnswer(None, f"no answer from {self.origin} within {self._timeout:g} s") from error
        except aiohttp.ClientError as error:
            raise self._failure(error) from error

    def _failure(self, error: aiohttp.ClientError) -> ClientError:
        if (found := tls.certificate_error(self.origin, error)) is not None:
            return found
        if isinstance(error, aiohttp.ClientConnectorError):
            return NotConnected(None, f"cannot connect to {self.origin}: {error.strerror or error}")
        return NoAnswer(None, f"the connection to {self.origin} was lost: {error}")


async def _send_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep the transport from sending a GET, PUT or DELETE again when the connection is lost.

    It does so for errors of its own kind only, so the loss leaves here as an error of ours. A pause that
    took effect and is sent again would be refused, and its caller misled.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise NoAnswer(None, f"the connection to {request.url.origin()} was lost: {error}") from error


def _origin(url: str) -> URL:
    try:
        parsed = URL(url)
        whole = parsed.scheme in {"http", "https"} and bool(parsed.raw_host) and parsed.raw_path_qs == "/"
    except ValueError:
        whole = False
    if not whole or parsed.user is not None or parsed.password is not None or parsed.raw_fragment:
        raise SettingError("url: must be http://host:port or https://host:port, nothing after it")
    return parsed.origin()


def _judged(request: SignedRequest, answer: aiohttp.ClientResponse, content: bytes) -> Answer:
    envelope = _envelope(content)
    if envelope is None:
        raise _without_code(answer)
    if answer.status == 200 and envelope["resultCode"] == Code.OK.wire:
        return Answer(envelope, answer.headers.get("Idempotent-Replayed") == "true")
    raise _refusal(request, answer, str(envelope["resultCode"]), str(envelope.get("resultDesc") or ""))


def _envelope(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "resultCode" in found else None


def _without_code(answer: aiohttp.ClientResponse) -> ClientError:
    text = f"HTTP {answer.status} ({answer.content_type}): the answer is not one of this interface"
    if answer.status in _BUSY:
        return _busy(answer, None, text)
    return errors.UnexpectedAnswer(None, text, answer.status, answer.headers.get("X-Request-Id"))


def _refusal(
    request: SignedRequest, answer: aiohttp.ClientResponse, code: str, description: str
) -> ClientError:
    facts = (code, description, answer.status, answer.headers.get("X-Request-Id"))
    if answer.status in _BUSY:
        return _busy(answer, code, description)
    if answer.status == 401:
        return errors.AuthenticationError(*facts, hint=errors.way_into(_date(answer), datetime.now(UTC)))
    if answer.status >= 500 or code == Code.OK.wire:
        return errors.ServerFault(*facts)
    return errors.refusal_class(code, request.target)(*facts)


def _busy(answer: aiohttp.ClientResponse, code: str | None, description: str) -> Busy:
    error = Busy(code, description, answer.status, answer.headers.get("X-Request-Id"))
    seconds = answer.headers.get("Retry-After", "")
    if seconds.isascii() and seconds.isdigit():
        error.retry_after = float(seconds)
    return error


def _date(answer: aiohttp.ClientResponse) -> datetime | None:
    """The server's clock, where it tells it."""
    try:
        found = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
