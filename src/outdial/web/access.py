"""Who asks: the signature, the key behind it, the VDN (semantics.md §2; trust.md B.3).

Keys and VDN settings are looked at again after half a second, so that a revocation is felt by every
process within one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from outdial import audit
from outdial.errors import Code, Refusal
from outdial.model import AccessKey, Vdn
from outdial.service import AddRequest, Service, key_of
from outdial.signing import DUMMY_SECRET, WINDOW, Authorization, BadSignature, Headers, verify
from outdial.throttle import Throttle, source

FRESH = 0.5
"""Seconds for which a looked-up key is believed."""

MAX_KNOWN = 10_000
"""Keys kept in memory; made-up ones cannot fill it, since it is emptied when full."""


def unauthenticated(headers: Headers, now: datetime) -> Refusal:
    """What a 401 says: the same for all causes, the two clocks included (trust.md B.3 rules 3 and 7).

    So whoever has a clock that is off can see it, and nobody learns whether a key is known.
    """
    said = f"authentication failed; this server has {now:%Y-%m-%d %H:%M:%S} UTC"
    try:
        late = round((now - Authorization.of(headers).timestamp).total_seconds())
    except BadSignature:
        return Refusal(Code.PARAMETER, said)
    side = "behind" if late >= 0 else "ahead of"
    return Refusal(Code.PARAMETER, f"{said}, the request's timestamp is {abs(late)} s {side} it")


class TooManyFailures(Exception):
    """Too many wrong signatures of this key from this address: nothing was judged. `wait` is in seconds."""

    def __init__(self, wait: int) -> None:
        self.wait = wait
        super().__init__(f"nothing is judged for {wait} s")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A living key and the VDN that it speaks for."""

    key: AccessKey
    vdn: Vdn


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A request whose signature holds."""

    tenant: Tenant
    authorization: Authorization


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated request for its own VDN."""

    vdn: Vdn
    authorization: Authorization

    def add_request(
        self, campaign_id: int, body: bytes, idempotency_key: str | None, path: bytes
    ) -> AddRequest:
        """An add, with the keys that make it the same request when it comes again."""
        ak = self.authorization.ak.encode()
        return AddRequest(
            campaign_id=campaign_id,
            body=body,
            request_key=key_of(ak, self.authorization.signature.encode()),
            valid_until=self.authorization.timestamp + WINDOW,
            idempotency_key=_idempotency_key(ak, path, idempotency_key),
        )


def _idempotency_key(ak: bytes, path: bytes, given: str | None) -> UUID | None:
    if given is None:
        return None
    if not 1 <= len(given) <= 255 or not given.isprintable():
        raise Refusal(Code.PARAMETER, "Idempotency-Key: must be 1 to 255 printable characters")
    return key_of(ak, path, given.encode())


class Gate:
    """Authenticates. One per process."""

    def __init__(self, service: Service, now: Callable[[], datetime]) -> None:
        self._service = service
        self.now = now
        self._known: dict[str, tuple[float, Tenant | None]] = {}
        self._asking: dict[str, asyncio.Task[Tenant | None]] = {}
        self._throttle = Throttle()

    async def authenticate(self, scope: Mapping[str, Any], body: bytes) -> Authenticated:
        """The tenant that signed this request.

        Raises `BadSignature`, `StoreUnavailable`, and `TooManyFailures` before anything costs.
        """
        authorization = Authorization.of(scope["headers"])
        clock = asyncio.get_running_loop().time
        pair = (authorization.ak, source(scope["client"][0]))
        if wait := self._throttle.wait(pair, clock()):
            raise TooManyFailures(wait)
        try:
            found = await self._verified(scope, authorization, body)
        except BadSignature:
            self._throttle.failed(pair, clock())
            raise
        self._throttle.held(pair)
        return found

    async def _verified(
        self, scope: Mapping[str, Any], authorization: Authorization, body: bytes
    ) -> Authenticated:
        tenant = await self._tenant(authorization.ak)
        secret = tenant.key.secret if tenant is not None else DUMMY_SECRET
        verify(
            authorization,
            secret,
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            scope["headers"],
            body,
            self.now(),
            window=WINDOW,
        )
        if tenant is None:
            raise BadSignature("unknown or revoked key")
        return Authenticated(tenant, authorization)

    async def admit(self, authenticated: Authenticated, vdn_id: int) -> Caller:
        """The caller, if the key belongs to the VDN of the path; what the task changes is its key's doing.

        Raises `BadSignature`.
        """
        vdn = authenticated.tenant.vdn
        if vdn.vdn_id != vdn_id:
            raise BadSignature("the key belongs to another VDN")
        audit.who.set(f"key {authenticated.authorization.ak}")
        return Caller(vdn, authenticated.authorization)

    async def _tenant(self, ak: str) -> Tenant | None:
        loop = asyncio.get_running_loop()
        known = self._known.get(ak)
        if known is not None and loop.time() - known[0] < FRESH:
            return known[1]
        task = self._asking.get(ak)
        if task is None:
            task = self._asking[ak] = loop.create_task(self._ask(ak))
            task.add_done_callback(lambda _: self._asking.pop(ak, None))
        return await asyncio.shield(task)

    async def _ask(self, ak: str) -> Tenant | None:
        asked = asyncio.get_running_loop().time()
        key = await self._service.store.vdns.key(ak)
        vdn = await self._service.store.vdns.one(key.vdn_id) if key is not None else None
        tenant = Tenant(key, vdn) if key and vdn and key.revoked_at is None else None
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[ak] = (asked, tenant)
        return tenant
