"""Whom a named proxy speaks for: X-Forwarded-For and X-Forwarded-Proto, believed from those peers only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from outdial.web.guard import App, Headers, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BehindProxy:
    """Puts the client's address and scheme into the scope, where one of `proxies` brought the request."""

    __slots__ = ("_app", "_proxies")

    def __init__(self, app: App, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        peer = _address(scope["client"][0]) if scope.get("client") else None
        if peer is not None and _is_of(peer, self._proxies):
            scope["client"] = (str(client_of(peer, scope["headers"], self._proxies)), 0)
            scope["scheme"] = _scheme(scope["headers"]) or scope["scheme"]
        await self._app(scope, receive, send)


def client_of(peer: Address, headers: Headers, proxies: Sequence[Network]) -> Address:
    """The last address before the named proxies: what stands further left anybody can have written."""
    found = peer
    for text in reversed(_listed(headers, b"x-forwarded-for")):
        if not _is_of(found, proxies):
            break
        before = _address(text)
        if before is None:
            break
        found = before
    return found


def _scheme(headers: Headers) -> str | None:
    listed = _listed(headers, b"x-forwarded-proto")
    return listed[-1] if listed and listed[-1] in ("http", "https") else None


def _listed(headers: Headers, wanted: bytes) -> list[str]:
    joined = b",".join(value for name, value in headers if name == wanted).decode("latin-1")
    return [part.strip() for part in joined.split(",") if part.strip()]


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
