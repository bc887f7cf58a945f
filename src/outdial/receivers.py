"""The way out to receivers: one POST at a time, and only to addresses that may be reached.

A receiver's URL is given by a tenant, so it must not open the operator's own network to him. The address
is judged when it is connected to, after resolution: whatever the URL's spelling and whatever the name
server says the second time, the socket is made by `_socket` or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

Network = IPv4Network | IPv6Network

TIMEOUT: Final = 15.0
"""Seconds from the start of a POST to the receiver's status, whatever it does in between."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes that are read of an answer's body; they are thrown away."""

HEAD_LIMIT: Final = 64 * 1024
"""Bytes that are read before the final status: interim answers may come without end (RFC 9110 §15.2)."""

BODY_TIMEOUT: Final = 1.0
"""Seconds for that. The status has said all; the body is read so that the connection can be used again."""

_KEEP_ALIVE = 3.0  # seconds; below the idle time after which servers commonly close a connection
_READ_BUFFER = 8 * 1024  # bytes; aiohttp stops reading at twice this
_SYSTEM_BUFFER = 16 * 1024  # bytes that the system takes in before we read; answers are short
_LOOKUPS = 64  # names that may be looked up at once: one that hangs does not hold up the others
_ADDRESSES = 8  # of one name that are tried

_SPECIAL: Final = tuple(
    (ip_network(network), name)
    for network, name in (
        ("0.0.0.0/32", "unspecified"),
        ("0.0.0.0/8", "reserved"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/23", "reserved"),  # Teredo, ORCHID, benchmarking and the like
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        ("::/3", "reserved"),  # from here on: all that is not global unicast, 2000::/3
        ("4000::/2", "reserved"),
        ("8000::/1", "reserved"),
    )
)
"""What is no receiver's address, by the registries of special-purpose addresses (RFC 6890), first match.

A table of our own: what `ipaddress` calls global differs between releases of Python.
"""


class NotTaken(Exception):
    """A receiver did not take a result. `again`: a repeat at once may help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        self.reason = reason
        self.again = again
        super().__init__(reason)


class _NotAllowed(OSError):
    """The address is not one that may be connected to; `strerror` is its kind."""


def kind_of_forbidden(address: str, allow: Sequence[Network]) -> str | None:
    """What kind of address that may not be connected to this is; None when it may be.

    `allow` names networks that may be reached all the same. An IPv4-mapped address leads where its IPv4
    address leads, so that one may be allowed too. Raises ValueError for text that is no address.
    """
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    if any(one in network for network in allow for one in (found, mapped) if one is not None):
        return None
    return next((name for network, name in _SPECIAL if found in network), None)


def receiver_of(url: str) -> str:
    """Scheme, host and port: the receiver that the URL leads to. Raises NotTaken as `Receivers.post` does."""
    return str(_target(url).origin())


def _target(url: str) -> URL:
    try:
        target = URL(url)
    except ValueError as error:
        raise _refused("not a URL") from error
    if target.scheme not in {"http", "https"} or not target.raw_host:
        raise _refused("not an http or https URL")
    if target.user is not None or target.password is not None:
        raise _refused("a user in the URL")
    return target


def _refused(kind: str) -> NotTaken:
    return NotTaken(f"address not allowed: {kind}", again=False)


class _Endless(aiohttp.ClientError):
    """What is heard before a final status has no end."""


class _Connector(aiohttp.TCPConnector):
    """Its connections bound what they read before a status."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        connection: type[ResponseHandler] = _Connection
        self._factory = functools.partial(connection, loop=self._loop)


class _Connection(ResponseHandler):
    """One on which what comes before the final status of an answer is at most HEAD_LIMIT bytes."""

    _heard = 0
    _final = False

    def set_response_params(self, **params: Any) -> None:
        """A new answer begins."""
        self._heard, self._final = 0, False
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The head of an answer is whole."""
        self._final = self._final or data[0].code >= 200
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Give up an answer that does not come to its point."""
        self._heard += len(data)
        super().data_received(data)
        if self._heard > HEAD_LIMIT and not self._final:
            self.set_exception(_Endless())
            if self.transport is not None:
                self.transport.abort()


class Receivers:
    """POSTs to receivers over connections that are kept and used again. Use it with `async with`.

    `allow` names networks that may be reached although they are not public. `timeout` is in seconds.
    `resolver` looks names up; without it the system does. No proxy, no redirect, no cookie.
    """

    def __init__(
        self,
        allow: Sequence[Network],
        user_agent: str,
        *,
        timeout: float = TIMEOUT,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._user_agent = user_agent
        self._timeout = timeout
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = _Connector(
            resolver=self._resolver or _Lookup(),
            socket_factory=self._socket,
            ssl=_tls(),
            limit=0,  # the caller bounds what is in flight
            keepalive_timeout=_KEEP_ALIVE,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent},
            skip_auto_headers=("Accept-Encoding",),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self._timeout, ceil_threshold=self._timeout + 1),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """POST once. Returns when the receiver has answered 200; raises NotTaken for everything else."""
        if self._session is None:
            raise RuntimeError("the receivers are not open: use `async with Receivers(...)`")
        target = _target(url)
        try:
            async with self._session.post(
                target, data=body, headers=headers, allow_redirects=False
            ) as answer:
                await _throw_away(answer)
        except TimeoutError as error:
            raise NotTaken(f"timeout after {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _reason(error) from error
        if answer.status != 200:
            raise NotTaken(f"HTTP {answer.status}")

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Called by the connector for each address that it is about to connect to."""
        family, kind, protocol, _, address = info
        try:
            forbidden = kind_of_forbidden(str(address[0]), self._allow)
        except ValueError:
            forbidden = "not an address"
        if forbidden is not None:
            raise _NotAllowed(errno.EACCES, forbidden)
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SYSTEM_BUFFER)
        return made


async def reach(url: str, allow: Sequence[Network], *, timeout: float = 5.0) -> None:
    """Connect to the receiver as a POST would, TLS included, and send nothing.

    `timeout` is in seconds for each address. Raises NotTaken for a name that is not found, an address that is
    not allowed, and no connection.
    """
    target = _target(url)
    tls = _tls() if target.scheme == "https" else None
    lookup, failure = _Lookup(), _refused("no address")
    try:
        for found in await lookup.resolve(target.raw_host or "", target.port or 0):
            forbidden = kind_of_forbidden(found["host"], allow)
            if forbidden is not None:
                failure = _refused(forbidden)
                continue
            try:
                await _touch(found["host"], found["port"], tls, target.host or "", timeout)
            except TimeoutError:
                failure = NotTaken(f"timeout after {timeout:g} s")
            except (OSError, ssl.SSLError) as error:
                failure = _reason(error)
            else:
                return
    except (socket.gaierror, UnicodeError) as error:
        raise NotTaken("host name not found") from error
    finally:
        await lookup.close()
    raise failure


async def _touch(host: str, port: int, tls: ssl.SSLContext | None, name: str, timeout: float) -> None:
    async with asyncio.timeout(timeout):
        _, writer = await asyncio.open_connection(
            host, port, ssl=tls, server_hostname=name if tls is not None else None
        )
    writer.transport.abort()


async def _throw_away(answer: aiohttp.ClientResponse) -> None:
    """Read a short body; close the connection over any other. What happens here changes no verdict."""
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in answer.content.iter_any():
                size += len(chunk)
                if size > BODY_LIMIT:
                    answer.close()
                    return
    except (TimeoutError, aiohttp.ClientError, OSError):
        answer.close()


_WORDS: Final = (
    (_Endless, "endless answer"),
    (aiohttp.ClientConnectorDNSError, "host name not found"),
    (UnicodeError, "host name not found"),
    (aiohttp.ClientResponseError, "not an HTTP answer"),
    (aiohttp.ServerDisconnectedError, "closed without an answer"),
)


def _reason(error: Exception) -> NotTaken:
    """Why no status came, in few words and without a part of the URL or the body."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, _NotAllowed):
        return _refused(cause.strerror or "")
    if isinstance(error, aiohttp.InvalidURL):
        return _refused("not a plain host")
    return NotTaken(_words(error, cause))


def _words(error: Exception, cause: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"TLS certificate: {getattr(error.certificate_error, 'verify_message', 'not valid')}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {(cause.reason or 'failed').lower().replace('_', ' ')}"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()
    return "connection lost"


def _tls() -> ssl.SSLContext:
    """Verified against the system's certificates; TLS 1.2 or later (wire/data-api.md §6.3)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Lookup(AbstractResolver):
    """The system's resolver on threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The first addresses of a name. Raises OSError when there are none."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(hostname=host, host=str(at[0]), port=port, family=family, proto=proto, flags=0)
            for family, _, proto, _, at in found[:_ADDRESSES]
        ]

    async def close(self) -> None:
        """Waits for no lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)
