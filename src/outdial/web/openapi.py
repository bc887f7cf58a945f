"""The OpenAPI 3.1 document, made of the routes and of the table of operations.

Nothing is written here twice: paths and methods are those that `web/app.py` serves, bodies those that the
field rules judge, codes those that the rules and the operation can answer. It holds no secret and is the
same for every caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from outdial import __version__
from outdial.errors import Code
from outdial.wire import paths, shapes
from outdial.wire.operations import EVERY, OPERATIONS, Operation

PREFIXES: Final = {"": "/rest/isales/v1/openapi/campaigns/", "v2: ": "/rest/isales/v2/openapi/campaigns/"}
"""How an operation's path is headed, and where it stands."""

JSON: Final = "application/json; charset=UTF-8"
SCHEMA: Final = "#/components/schemas/"

SIGNATURE: Final = """\
`auth-v2/{ak}/{timestamp}/{signedHeaders}/{signature}`: a signature of every request under an access key.

`timestamp` is UTC, `yyyy-mm-ddThh:mm:ssZ` or with milliseconds, at most 15 minutes off. `signedHeaders` are \
names in lower case, in order, joined by `;`; `host` must be among them. The signing key is the HMAC-SHA256, \
in lower-case hex, of `auth-v2/{ak}/{timestamp}/{signedHeaders}` under the secret key. `signature` is the \
HMAC-SHA256, in hex, of these lines under the signing key (its hex text): the method, the path as sent, the \
query in canonical form where there is one, `signedHeaders`, the signed headers as `name:value`, and the \
body, percent-encoded, where there is one. `outdial.client` makes it. A key speaks for one VDN."""

DESCRIPTION: Final = """\
Campaigns of outbound calls: numbers, campaigns, retry policies, special dates, the blacklist.

An answer has `resultCode` and `resultDesc`, repeated as `returnCode` and `returnDesc`; `0200000` is \
success. A refusal of a field or a rule has HTTP status 200 and its own code: read the code, not the status. \
Nothing of a refused request is kept."""

STATUSES: Final = {
    400: "not HTTP, or a body that is not JSON",
    401: "the signature does not hold, or the key is of another VDN",
    404: "unknown path",
    405: "the path does not take this method",
    408: "the request took too long",
    413: "the body is larger than 1 MiB",
    414: "the target is longer than 8 KiB",
    415: "Content-Type is not application/json in UTF-8, or there is a Content-Encoding",
    421: "Host is not a name of this server",
    429: "too many wrong signatures of this key, or too many connections, from this address: wait as long as "
    "Retry-After says",
    431: "the head of the request is too long",
    500: "our own fault",
    501: "a Transfer-Encoding other than chunked",
    503: "the server has as many connections as it takes: wait as long as Retry-After says",
    505: "an HTTP version other than 1.0 and 1.1",
}
"""Refusals below the interface: any operation can answer them, with the code 0200001."""

_RETRY_AFTER: Final = {"required": True, "schema": {"type": "integer", "minimum": 1}}

OF_STATUS: Final[dict[int, dict[str, Any]]] = {
    405: {"Allow": {"required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}
"""What the head of such a refusal carries besides."""

CALL_ID: Final = "callId"
_CALL: Final = {"type": "string", "pattern": "^[0-9A-Za-z-]{1,64}$"}

HEADERS: Final = {
    "Idempotency-Key": {
        "description": "1 to 255 printable characters: for 24 hours the same key gives the same answer again",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    }
}

PROBES: Final = {
    "/healthz": ("healthz", "Whether the process serves", {200: "it does"}),
    "/readyz": ("readyz", "Whether the store answers too", {200: "it does", 503: "the store does not"}),
}


class Served(Protocol):
    """A path with its methods, as `web/app.py` routes it."""

    @property
    def path(self) -> tuple[bytes, ...]:
        """Below the prefix; `*` stands for a value."""

    @property
    def handlers(self) -> Mapping[bytes, Any]:
        """By method."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the values of the path are."""


class Undescribed(LookupError):
    """A route without an operation, or an operation without a route."""


def document(routes: Sequence[Served], v2_routes: Sequence[Served]) -> dict[str, Any]:
    """The document. Raises `Undescribed`, and `shapes.UnknownRule`."""
    served = dict(_served("", routes)) | dict(_served("v2: ", v2_routes))
    if served.keys() != OPERATIONS.keys():
        raise Undescribed(f"only a route, or only an operation: {sorted(served.keys() ^ OPERATIONS.keys())}")
    found: dict[str, dict[str, Any]] = {}
    for key in served:
        method, _, path = key.partition(" ")
        version = next(version for version in sorted(PREFIXES, reverse=True) if path.startswith(version))
        whole = PREFIXES[version] + path.removeprefix(version)
        found.setdefault(whole, {})[method.lower()] = _operation(key, path, served)
    return {
        "openapi": "3.1.0",
        "info": {"title": "outdial", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"auth-v2": []}],
        "paths": found | {path: {"get": _probe(*said)} for path, said in PROBES.items()},
        "components": _components(),
    }


def _served(version: str, routes: Sequence[Served]) -> Iterator[tuple[str, str]]:
    """The key of every operation that is served, with the name of what handles it."""
    for route in routes:
        path = _path(route)
        for method, handler in route.handlers.items():
            name = handler.__name__.strip("_")
            yield f"{method.decode()} {version}{path}", f"{name}_one" if "{id}" in path else name


def _path(route: Served) -> str:
    values = iter(route.names)
    return "/".join(f"{{{next(values)}}}" if part == b"*" else part.decode() for part in route.path)


def codes_of(route: Served, method: str, *, v2: bool) -> frozenset[Code]:
    """Every code that this method of a route can answer. Raises KeyError for one that is not described."""
    return earned(OPERATIONS[f"{method} {'v2: ' if v2 else ''}{_path(route)}"])


def _operation(key: str, path: str, served: Mapping[str, str]) -> dict[str, Any]:
    described = OPERATIONS[key]
    named = [name for name in (*paths.NAMES, CALL_ID) if f"{{{name}}}" in path]
    parameters = [{"$ref": f"#/components/parameters/{name}"} for name in (*named, *described.headers)]
    found: dict[str, Any] = {
        "operationId": served[key],
        "summary": described.summary,
        "parameters": parameters + [_in_query(rule, described) for rule in described.query],
        "responses": _responses(described, _links(described, path, served)),
    }
    if described.note:
        found["description"] = described.note
    if described.body is not None:
        content = {"schema": shapes.schema(described.body), "example": described.example}
        found["requestBody"] = {"required": not described.body_may_be_absent, "content": {JSON: content}}
    return found


def _in_query(rule: Any, described: Operation) -> dict[str, Any]:
    parameter = {"name": rule.name, "in": "query", "required": rule.mandatory}
    parameter["schema"] = shapes.value(rule)
    if rule.name in described.query_example:
        parameter["example"] = described.query_example[rule.name]
    return parameter


def _responses(described: Operation, links: dict[str, Any]) -> dict[str, Any]:
    refusals = sorted(code.wire for code in earned(described) - {Code.OK})
    answer = {
        "description": "success, or a refusal with its own code",
        "headers": _REQUEST_ID,
        "content": {JSON: {"schema": {"oneOf": [_success(described.answer), _envelope(refusals)]}}},
    }
    below = {str(status): {"$ref": f"#/components/responses/{status}"} for status in STATUSES}
    return {"200": answer | ({"links": links} if links else {})} | below


def earned(described: Operation) -> frozenset[Code]:
    """Every code that the operation can answer. Raises `shapes.UnknownRule`."""
    of_rules: set[Code] = set()
    for rule in (described.body, *described.query):
        of_rules |= shapes.codes(rule) if rule is not None else set()
    return EVERY | described.codes | of_rules


def answering(routes: Sequence[Served], v2_routes: Sequence[Served]) -> dict[str, list[str]]:
    """The ids of the operations that answer each code, by the code of the wire."""
    served = dict(_served("", routes)) | dict(_served("v2: ", v2_routes))
    return {
        code.wire: sorted(name for key, name in served.items() if code in earned(OPERATIONS[key]))
        for code in Code
    }


_REQUEST_ID: Final = {
    "X-Request-Id": {"required": True, "schema": {"type": "string"}, "description": "stands in the log too"}
}


def _envelope(codes: Sequence[str], answer: Mapping[str, Any] | None = None) -> dict[str, Any]:
    code: dict[str, Any] = {"type": "string", "enum": list(codes)}
    said = {"resultCode": code, "resultDesc": {"type": "string"}}
    said |= {"returnCode": code, "returnDesc": {"type": "string"}} | dict(answer or {})
    return {"type": "object", "properties": said, "required": list(said), "additionalProperties": False}


def _success(answer: Mapping[str, Any]) -> dict[str, Any]:
    return _envelope([Code.OK.wire], answer)


def _links(described: Operation, path: str, served: Mapping[str, str]) -> dict[str, Any]:
    """From what makes a campaign or a special date to the operations of that one."""
    found: dict[str, Any] = {}
    known = [name for name in paths.NAMES if f"{{{name}}}" in path]
    for key, name in served.items() if described.makes else ():
        wanted = [one for one in paths.NAMES if f"{{{one}}}" in key]
        if wanted != [*known, described.makes]:
            continue
        values = {one: f"$request.path.{one}" for one in known}
        values[described.makes] = "$response.body#/returnObject/id"
        found[name] = {"operationId": name, "parameters": values}
    return found


def _probe(name: str, summary: str, statuses: Mapping[int, str]) -> dict[str, Any]:
    said = {"type": "object", "properties": {"status": {"type": "string"}, "version": {"type": "string"}}}
    answers = {
        str(status): {"description": what, "content": {JSON: {"schema": said | {"required": ["status"]}}}}
        for status, what in statuses.items()
    }
    below = {str(status): {"$ref": f"#/components/responses/{status}"} for status in (405, 421, 431)}
    return {"operationId": name, "summary": summary, "security": [], "responses": answers | below}


def _components() -> dict[str, Any]:
    refused = _envelope([Code.PARAMETER.wire])
    return {
        "securitySchemes": {
            "auth-v2": {"type": "apiKey", "in": "header", "name": "Authorization", "description": SIGNATURE}
        },
        "parameters": {name: _in_path(name, high) for name, high in paths.HIGHEST.items()}
        | {CALL_ID: {"name": CALL_ID, "in": "path", "required": True, "schema": _CALL}}
        | {name: {"name": name, "in": "header"} | said for name, said in HEADERS.items()},
        "schemas": {
            "Absent": {"enum": [None, ""], "description": "the same as leaving the field out"},
            "Refused": refused,
        },
        "responses": {str(status): _refusal(status, said) for status, said in STATUSES.items()},
    }


def _in_path(name: str, high: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": high}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _refusal(status: int, said: str) -> dict[str, Any]:
    return {
        "description": said,
        "headers": _REQUEST_ID | OF_STATUS.get(status, {}),
        "content": {JSON: {"schema": {"$ref": f"{SCHEMA}Refused"}}},
    }
