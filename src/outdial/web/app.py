"""The API as one ASGI callable: routes, the order of judgement, one error mapper (semantics.md §2).

Routing and verification look at the same bytes: the path exactly as sent.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog

from outdial import __version__, metrics
from outdial.errors import Code, CommitUnknown, Refusal, StoreUnavailable
from outdial.jsontext import NotJson
from outdial.service import NotJsonBody, Service
from outdial.signing import BadSignature
from outdial.web import openapi
from outdial.web.access import Caller, Gate, TooManyFailures, unauthenticated
from outdial.web.guard import BodyTooLarge, Disconnected, Receive, Scope, Send, read_body, request_id
from outdial.wire import (
    blacklist,
    campaigns,
    envelope,
    number_deletion,
    numbers,
    results,
    retry,
    special_dates,
)
from outdial.wire.campaign_body import Version
from outdial.wire.paths import CALL_NAMES, NAMES, judged

log = structlog.get_logger()

MAX_BODY = 1 << 20
"""Bytes of a request body (semantics.md §2: 20 full records in escapes are 310 kB)."""


@dataclass(slots=True)
class Request:
    """An authenticated request on its way through a handler; `campaign_id` 0: the path names none.

    `item_id` is the id of something of the campaign; None: the path names none. `named` holds every value of
    the path by its name, as it was sent.
    """

    caller: Caller
    campaign_id: int
    item_id: int | None
    body: bytes
    raw_query: bytes
    idempotency_key: str | None
    path: tuple[bytes, ...]
    named: Mapping[str, bytes]

    def query(self) -> dict[str, str]:
        """The query's parameters. Raises `Refusal` 0200001 for one that occurs twice or is not UTF-8."""
        try:
            pairs = parse_qsl(self.raw_query.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise Refusal(Code.PARAMETER, "the query is not percent-encoded UTF-8") from None
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Refusal(Code.PARAMETER, "a query parameter occurs twice")
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a body and the extra headers."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


OPERATION = "outdial.operation"
"""Where a request's scope names its operation, once it is known."""

_CODES = frozenset(metrics.CODES)

Handler = Callable[["Api", Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path below the prefix (`*` stands for a value) with its methods; `names` are those of the values."""

    path: tuple[bytes, ...]
    handlers: Mapping[bytes, Handler]
    names: tuple[str, ...] = NAMES

    def fits(self, parts: tuple[bytes, ...]) -> bool:
        """Whether the path is this one."""
        return len(parts) == len(self.path) and all(
            mine in (b"*", theirs) for mine, theirs in zip(self.path, parts, strict=True)
        )

    def values(self, parts: tuple[bytes, ...]) -> list[bytes]:
        """What stands in the path for each `*`, in the order of `names`."""
        return [theirs for mine, theirs in zip(self.path, parts, strict=True) if mine == b"*"]


async def _add_numbers(api: Api, request: Request) -> Answer:
    wanted = request.caller.add_request(
        request.campaign_id, request.body, request.idempotency_key, b"/".join(request.path)
    )
    body, replayed = await numbers.add(api.service, request.caller.vdn, wanted)
    return Answer(body, headers=((b"idempotent-replayed", b"true"),) if replayed else ())


async def _delete_numbers(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await number_deletion.delete(api.service, vdn, wanted, request.body))


async def _query_results(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await results.query(api.service, vdn, wanted, request.body))


async def _show_call(api: Api, request: Request) -> Answer:
    return Answer(await results.detail(api.service, request.caller.vdn, request.named["callId"]))


async def _create_campaign(api: Api, request: Request) -> Answer:
    return Answer(await campaigns.create(api.service, request.caller.vdn, request.body, Version.V1))


async def _create_campaign_v2(api: Api, request: Request) -> Answer:
    return Answer(await campaigns.create(api.service, request.caller.vdn, request.body, Version.V2))


async def _modify_campaign(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await campaigns.modify(api.service, vdn, wanted, request.body, Version.V1))


async def _modify_campaign_v2(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await campaigns.modify(api.service, vdn, wanted, request.body, Version.V2))


async def _set_retry_policy(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await retry.set_policy(api.service, vdn, wanted, request.body))


async def _show_retry_policy(api: Api, request: Request) -> Answer:
    return Answer(await retry.query_policy(api.service, request.caller.vdn, request.campaign_id))


async def _list_special_dates(api: Api, request: Request) -> Answer:
    return Answer(await special_dates.query(api.service, request.caller.vdn, request.campaign_id))


async def _add_special_date(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await special_dates.add(api.service, vdn, wanted, request.body))


async def _modify_special_date(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await special_dates.modify(api.service, vdn, wanted, request.body))


async def _delete_special_dates(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await special_dates.delete(api.service, vdn, wanted, request.item_id))


async def _list_campaigns(api: Api, request: Request) -> Answer:
    return Answer(await campaigns.query_all(api.service, request.caller.vdn, request.query(), api.now()))


async def _show_campaign(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await campaigns.query_one(api.service, vdn, wanted, api.now()))


async def _delete_campaign(api: Api, request: Request) -> Answer:
    vdn, wanted = request.caller.vdn, request.campaign_id
    return Answer(await campaigns.delete(api.service, vdn, wanted, request.body))


async def _pause(api: Api, request: Request) -> Answer:
    await api.service.pause(request.caller.vdn.vdn_id, request.campaign_id)
    return Answer(envelope.success("pause campaign success"))


async def _resume(api: Api, request: Request) -> Answer:
    await api.service.resume(request.caller.vdn.vdn_id, request.campaign_id)
    return Answer(envelope.success("resume campaign success"))


async def _blacklist_add(api: Api, request: Request) -> Answer:
    return Answer(await blacklist.add(api.service, request.caller.vdn, request.body, api.now()))


async def _blacklist_delete(api: Api, request: Request) -> Answer:
    return Answer(await blacklist.delete(api.service, request.caller.vdn, request.body))


async def _blacklist_query(api: Api, request: Request) -> Answer:
    return Answer(await blacklist.query(api.service, request.caller.vdn, request.body, api.now()))


async def _blacklist_clear(api: Api, request: Request) -> Answer:
    return Answer(await blacklist.clear(api.service, request.caller.vdn))


ROUTES = (
    Route((b"*", b"calldata", b"*"), {b"POST": _add_numbers}),
    Route((b"*", b"calldata", b"*", b"delete"), {b"POST": _delete_numbers}),
    Route((b"*", b"callresult", b"*"), {b"POST": _query_results}),
    Route((b"*", b"callresultdetail", b"*"), {b"GET": _show_call}, CALL_NAMES),
    Route((b"*",), {b"POST": _create_campaign, b"GET": _list_campaigns}),
    Route((b"*", b"blocklist"), {b"DELETE": _blacklist_clear}),
    Route((b"*", b"blocklist", b"add"), {b"POST": _blacklist_add}),
    Route((b"*", b"blocklist", b"delete"), {b"POST": _blacklist_delete}),
    Route((b"*", b"blocklist", b"query"), {b"POST": _blacklist_query}),
    Route((b"*", b"retryPolicy", b"*"), {b"POST": _set_retry_policy, b"GET": _show_retry_policy}),
    Route(
        (b"*", b"holiday", b"*"),
        {
            b"GET": _list_special_dates,
            b"POST": _add_special_date,
            b"PUT": _modify_special_date,
            b"DELETE": _delete_special_dates,
        },
    ),
    Route((b"*", b"holiday", b"*", b"*"), {b"DELETE": _delete_special_dates}),
    Route((b"*", b"*", b"pause"), {b"PUT": _pause}),
    Route((b"*", b"*", b"resume"), {b"PUT": _resume}),
    Route((b"*", b"*"), {b"GET": _show_campaign, b"PUT": _modify_campaign, b"DELETE": _delete_campaign}),
)
V2_ROUTES = (
    Route((b"*",), {b"POST": _create_campaign_v2}),
    Route((b"*", b"*"), {b"PUT": _modify_campaign_v2}),
)
PREFIXES = {
    b"/rest/isales/v1/openapi/campaigns/": ROUTES,
    b"/rest/isales/v2/openapi/campaigns/": V2_ROUTES,
}
PREFIX_LENGTH = len(b"/rest/isales/v1/openapi/campaigns/")


class Api:
    """The application of one api process."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self.service = service
        self.gate = gate
        self.now = gate.now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        own_id = request_id()
        answer = await self._answer(scope, receive, own_id)
        await _send(send, answer, own_id)
        seconds, code = time.perf_counter() - began, _code(answer)
        operation = scope.get(OPERATION, metrics.NONE)
        metrics.REQUESTS.add(operation, code if code in _CODES else metrics.NONE)
        metrics.REQUEST_SECONDS.observe(seconds, operation)
        log.info(
            "answered",
            request_id=own_id,
            client=scope["client"][0] if scope.get("client") else None,
            method=scope["method"],
            status=answer.status,
            code=code,
            ms=round(seconds * 1000, 1),
        )

    async def _answer(self, scope: Scope, receive: Receive, own_id: str) -> Answer:  # noqa: PLR0911
        """The one error mapper."""
        try:
            return await self._judged(scope, receive)
        except HttpRefusal as error:
            return Answer(envelope.refusal(error.refusal), error.status, error.headers)
        except BadSignature as error:
            log.warning("not authenticated", request_id=own_id, cause=error.cause)
            return Answer(envelope.refusal(unauthenticated(scope["headers"], self.now())), 401)
        except TooManyFailures as error:
            return _slowed_down(error.wait)
        except (NotJsonBody, NotJson) as error:
            return Answer(envelope.refusal(Refusal(Code.PARAMETER, f"the body is not JSON: {error}")), 400)
        except Refusal as error:
            return Answer(envelope.refusal(error))
        except StoreUnavailable as error:
            log.error("store unavailable", request_id=own_id, cause=str(error))
            return Answer(envelope.refusal(_NO_STORE))
        except CommitUnknown as error:
            log.error("no answer: the fate of a commit is unknown", request_id=own_id, cause=str(error))
            raise
        except Disconnected:
            log.info("the client has gone", request_id=own_id)
            raise
        except Exception:
            log.exception("our own fault", request_id=own_id)
            return Answer(
                envelope.refusal(Refusal(Code.PARAMETER, "internal error: give the X-Request-Id")), 500
            )

    async def _judged(self, scope: Scope, receive: Receive) -> Answer:
        """Path, method, size, content type, signature, path values, tenant; then the handler."""
        path, method = scope["raw_path"], scope["method"].encode("ascii")
        routes = PREFIXES.get(path[:PREFIX_LENGTH])
        if routes is None:
            return await self._unsigned(path, method)
        parts = tuple(path[PREFIX_LENGTH:].split(b"/"))
        route = next((route for route in routes if route.fits(parts)), None)
        if route is None:
            raise HttpRefusal(404, Refusal(Code.PARAMETER, "unknown path"))
        handler = route.handlers.get(method)
        if handler is None:
            raise _wrong_method(route.handlers)
        scope[OPERATION] = handler.__name__.lstrip("_")
        headers = scope["headers"]
        body = await _body(receive, headers)
        authenticated = await self.gate.authenticate(scope, body)
        values = route.values(parts)
        numbers_of = judged(values, route.names)
        caller = await self.gate.admit(authenticated, numbers_of["vdnId"])
        key = _one_header(headers, b"idempotency-key")
        request = Request(
            caller,
            numbers_of.get("campaignId", 0),
            numbers_of.get("id"),
            body,
            scope["query_string"],
            key,
            parts,
            dict(zip(route.names, values, strict=False)),
        )
        return await handler(self, request)

    async def _unsigned(self, path: bytes, method: bytes) -> Answer:
        if path not in (b"/healthz", b"/readyz", b"/openapi.json"):
            raise HttpRefusal(404, Refusal(Code.PARAMETER, "unknown path"))
        if method != b"GET":
            raise _wrong_method({b"GET": None})
        if path == b"/openapi.json":
            return Answer(_openapi())
        if path == b"/readyz":
            try:
                await self.service.store.ready()
            except StoreUnavailable:
                return Answer(b'{"status":"no store"}', 503)
        return Answer(b'{"status":"ok","version":"%s"}' % __version__.encode())


class HttpRefusal(Exception):
    """A refusal below the interface: with an HTTP status of its own."""

    def __init__(self, status: int, refusal: Refusal, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.status = status
        self.refusal = refusal
        self.headers = headers
        super().__init__(f"{status} {refusal}")


_NO_STORE = Refusal(Code.DATABASE, "database operation error: nothing was kept, repeat the request")
_CONTENT_TYPE = Refusal(Code.PARAMETER, "Content-Type: must be application/json; charset=UTF-8")
_TOO_LARGE = Refusal(Code.PARAMETER, f"the body is larger than {MAX_BODY} bytes")


def _slowed_down(wait: int) -> Answer:
    refusal = Refusal(Code.PARAMETER, f"too many wrong signatures from this address: wait {wait} s")
    return Answer(envelope.refusal(refusal), 429, ((b"retry-after", b"%d" % wait),))


@cache
def _openapi() -> bytes:
    return msgspec.json.encode(openapi.document(ROUTES, V2_ROUTES))


def _wrong_method(handlers: Mapping[bytes, Any]) -> HttpRefusal:
    allowed = b", ".join(sorted(handlers))
    refusal = Refusal(Code.PARAMETER, f"this path takes {allowed.decode()}")
    return HttpRefusal(405, refusal, ((b"allow", allowed),))


async def _body(receive: Receive, headers: list[tuple[bytes, bytes]]) -> bytes:
    try:
        body = await read_body(receive, MAX_BODY, headers)
    except BodyTooLarge:
        raise HttpRefusal(413, _TOO_LARGE, ((b"connection", b"close"),)) from None
    if not body:
        return body
    content_types = [value for name, value in headers if name == b"content-type"]
    if len(content_types) != 1 or not _is_json(content_types[0]):
        raise HttpRefusal(415, _CONTENT_TYPE)
    return body


def _one_header(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The header's value; None when absent. Raises `Refusal` 0200001 when it occurs twice."""
    found = [value for key, value in headers if key == name]
    if len(found) > 1:
        raise Refusal(Code.PARAMETER, f"{name.decode()}: occurs twice")
    return found[0].decode("latin-1") if found else None


@lru_cache(maxsize=64)  # clients send one of a few
def _is_json(content_type: bytes) -> bool:
    media, *parameters = (part.strip().lower() for part in content_type.decode("latin-1").split(";"))
    return media == "application/json" and parameters in ([], ["charset=utf-8"], ['charset="utf-8"'])


def _code(answer: Answer) -> str:
    """The result code, which every envelope begins with."""
    return answer.body[15:24].split(b'"', 1)[0].decode("ascii", "replace")


async def _send(send: Send, answer: Answer, own_id: str) -> None:
    headers = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", own_id.encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
