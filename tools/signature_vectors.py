#!/usr/bin/env python3
"""Write docs/reference/signature-vectors.json, or check that it is current.

The requests stand below. Their signatures come from `outdial.signing`, and a second signer that works on the
parts that a client has before it encodes them must come to the same ones.

usage: tools/signature_vectors.py            write the file
       tools/signature_vectors.py --check    check it; changes nothing
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from outdial import signing

FILE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "signature-vectors.json"

AK = "globalaktest"
SK = "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p"
NOW = datetime(2026, 11, 23, 2, 4, 5, tzinfo=UTC)
STAMP = "2026-11-23T02:04:05Z"
BASE = "/rest/isales/v1/openapi/campaigns"
ADD = f"{BASE}/1/calldata/1001"
CODES = f"{BASE}/1/queryOBSResultCode"
BODY = b'{"callDataList":[{"sessionId":"00750","called":"80021"}]}'
HOST = ("host", "10.22.26.181:28080")
JSON = ("content-type", "application/json; charset=UTF-8")

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sent:
    """A request on the wire. `authorization` empty: to be signed; `parameters` are what was signed."""

    method: str = "POST"
    path: str = ADD
    query: str = ""
    headers: Headers = (HOST, JSON)
    body: bytes = BODY
    authorization: str = ""
    now: datetime = NOW
    canonical: str = ""


def encoded(text: str | bytes) -> str:
    """The scheme's percent-encoding, by the standard library."""
    return quote(text, safe="-._~")


def mac(key: str, message: str) -> str:
    """HMAC-SHA256 in lower-case hex."""
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def signed(
    sent: Sent,
    parameters: Sequence[tuple[str, str]] = (),
    *,
    stamp: str = STAMP,
    names: str | None = None,
    empty_line: bool = False,
    sk: str = SK,
    ak: str = AK,
) -> Sent:
    """The request with its canonical form and its signature, of the values before they were encoded."""
    names = ";".join(sorted(name for name, _ in sent.headers)) if names is None else names
    query = "&".join(sorted(f"{encoded(name)}={encoded(value)}" for name, value in parameters))
    lines = sorted(f"{encoded(name)}:{encoded(value.strip())}" for name, value in sent.headers)
    line = [query] if query or empty_line else []
    canonical = "\n".join([sent.method, sent.path, *line, names, *lines, encoded(sent.body)])
    prefix = f"auth-v2/{ak}/{stamp}/{names}"
    signature = mac(mac(sk, prefix), canonical)
    return replace(sent, canonical=canonical, authorization=f"{prefix}/{signature}")


def asking(query: str, *parameters: tuple[str, str], **changes: Any) -> Sent:
    """A signed GET: `query` goes over the wire, `parameters` are what the client has."""
    return signed(replace(Sent("GET", CODES, query, (HOST,), b""), **changes), parameters)


def adding(headers: Headers = (HOST, JSON), **changes: Any) -> Sent:
    """A signed POST."""
    return signed(replace(Sent(headers=headers), **changes))


POST, GET = adding((HOST,)), asking("pageSize=10&pageNum=1", ("pageSize", "10"), ("pageNum", "1"))
BOTH = adding()
BARE = asking("")
NAMED, PLUS = asking("name=a%20b", ("name", "a b")), asking("name=a%2Bb", ("name", "a+b"))
REPEATED = asking("a=2&a=1", ("a", "1"), ("a", "2"))
EMPTY = asking("name=&status=0", ("name", ""), ("status", "0"))
AMPERSAND = asking("a=1%26b=2", ("a", "1&b=2"))
SLASHED = adding(path=f"{ADD}/")
ESCAPED = adding(path=f"{BASE}/1/calldata%2f1001")
SPACED = adding((HOST, ("x-note", "two  inner   spaces")))
CROSSED = adding((("a", "1"), ("a-b", "2"), HOST))
LENGTH = adding((HOST, JSON, ("content-length", "57")))
NO_BODY, BRACES = adding(body=b""), adding(body=b"{}")
UTF8 = adding(body='{"callDataList":[{"called":"1","callData":"林子航 ¥ 😀"}]}'.encode())
BYTES = adding(body=b'{"a":"\xff\xfe"}')
PERCENT = adding(body=b"%25%%2541")
NO_PORT = adding((("host", "10.22.26.181"), JSON))
MILLI = signed(Sent(), stamp="2026-11-23T02:04:05.250Z")
CHUNKED = replace(BOTH, headers=(HOST, JSON, ("transfer-encoding", "chunked")))
KEYED = adding((HOST, JSON, ("idempotency-key", "order 66")))
NON_ASCII = asking("name=%E6%9E%97", ("name", "林"))

ACCEPTED: dict[str, Sent] = {
    "the contract's page: POST": POST,
    "the contract's page: GET": GET,
    "content-type and host signed": BOTH,
    "three headers signed": LENGTH,
    "idempotency-key signed": KEYED,
    "headers on the wire that are not signed": replace(POST, headers=(HOST, JSON, ("x-trace", "1"))),
    "a header that is not signed, twice": replace(BOTH, headers=(HOST, JSON, ("x", "1"), ("x", "2"))),
    "headers in another order on the wire": replace(BOTH, headers=(JSON, HOST)),
    "header lines are sorted as whole lines": CROSSED,
    "a header value with inner spaces": SPACED,
    "spaces around a header value do not count": replace(
        SPACED, headers=(HOST, ("x-note", " two  inner   spaces\t"))
    ),
    "a header value in UTF-8": adding((HOST, ("x-note", "café"))),
    "host without a port": NO_PORT,
    "host is an IPv6 address with a port": adding((("host", "[::1]:8080"), JSON)),
    "path with a slash at its end": SLASHED,
    "path with an escaped slash, lower-case hex": ESCAPED,
    "path with an escaped slash, upper-case hex": adding(path=f"{BASE}/1/calldata%2F1001"),
    "body {}": BRACES,
    "no body": NO_BODY,
    "body in UTF-8": UTF8,
    "body of bytes that are not UTF-8": BYTES,
    "body of percent signs": PERCENT,
    "chunked body: the bytes without their frames": CHUNKED,
    "query in signed order": replace(GET, query="pageNum=1&pageSize=10"),
    "query with needless escapes, lower-case hex": replace(GET, query="p%61geNum=%31&pageSize=%31%30"),
    "query: a space as %20": NAMED,
    "query: a space as +": replace(NAMED, query="name=a+b"),
    "query: a plus as %2B": PLUS,
    "query: a plus as %2b": replace(PLUS, query="name=a%2bb"),
    "query: a name twice": REPEATED,
    "query: a name twice, in the other order": replace(REPEATED, query="a=1&a=2"),
    "query: an empty value": EMPTY,
    "query: an empty value without =": replace(EMPTY, query="name&status=0"),
    "query: a value with = and /": asking("name=a=b/c", ("name", "a=b/c")),
    "query: a value with an escaped &": AMPERSAND,
    "query: not ASCII": NON_ASCII,
    "query: an empty name": asking("=1", ("", "1")),
    "no query, no line for it": BARE,
    "no query, an empty line for it": signed(replace(BARE, authorization=""), empty_line=True),
    "no query, an empty line for it, POST": signed(Sent(), empty_line=True),
    "PUT without a body": adding(method="PUT", path=f"{BASE}/1/1001/pause", body=b""),
    "DELETE without a body": adding(method="DELETE", path=f"{BASE}/1/blocklist", body=b""),
    "a timestamp with milliseconds": MILLI,
    "15 minutes behind the server's clock": replace(BOTH, now=NOW + timedelta(minutes=15)),
    "15 minutes ahead of the server's clock": replace(BOTH, now=NOW - timedelta(minutes=15)),
}  # fmt: skip


def other(sent: Sent, old: str, new: str) -> Sent:
    """With another text in the Authorization header."""
    assert old in sent.authorization
    return replace(sent, authorization=sent.authorization.replace(old, new))


def body(sent: Sent, old: bytes, new: bytes) -> Sent:
    """With another body, under the same signature."""
    assert old in sent.body
    return replace(sent, body=sent.body.replace(old, new))


# name: (the accepted request that it is beside one change, the request)
REFUSED: dict[str, tuple[Sent, Sent]] = {
    "method changed": (BOTH, replace(BOTH, method="PUT")),
    "method in lower case": (BOTH, replace(BOTH, method="post")),
    "path changed": (BOTH, replace(BOTH, path=ADD.replace("1001", "1002"))),
    "path: slash at its end added": (BOTH, replace(BOTH, path=f"{ADD}/")),
    "path: slash at its end taken away": (SLASHED, replace(SLASHED, path=ADD)),
    "path: slash doubled": (BOTH, replace(BOTH, path=f"/{ADD}")),
    "path: dots added": (BOTH, replace(BOTH, path=f"/.{ADD}")),
    "path: escape decoded": (ESCAPED, replace(ESCAPED, path=ADD)),
    "path: escape in the other case": (ESCAPED, replace(ESCAPED, path=ESCAPED.path.replace("%2f", "%2F"))),
    "path: a digit escaped": (BOTH, replace(BOTH, path=f"{ADD[:-1]}%31")),
    "path: absolute form": (BOTH, adding(path=f"http://10.22.26.181:28080{ADD}")),
    "query added": (BARE, replace(BARE, query="x=1")),
    "query taken away": (GET, replace(GET, query="")),
    "query: value changed": (GET, replace(GET, query="pageNum=2&pageSize=10")),
    "query: values exchanged": (GET, replace(GET, query="pageNum=10&pageSize=1")),
    "query: parameter repeated": (GET, replace(GET, query="pageNum=1&pageNum=1&pageSize=10")),
    "query: one of two equal names gone": (REPEATED, replace(REPEATED, query="a=1")),
    "query: plus made a space": (PLUS, replace(PLUS, query="name=a+b")),
    "query: space made a plus": (NAMED, replace(NAMED, query="name=a%2Bb")),
    "query: escaped twice": (NAMED, replace(NAMED, query="name=a%2520b")),
    "query: escaped & made a separator": (AMPERSAND, replace(AMPERSAND, query="a=1&b=2")),
    "query: & at its end": (GET, replace(GET, query="pageSize=10&pageNum=1&")),
    "query: a lone percent sign": (PLUS, asking("name=%", ("name", "%"))),
    "query: raw bytes that are not ASCII": (NON_ASCII, replace(NON_ASCII, query="name=林")),
    "no query, two empty lines for it": (
        BARE, replace(signed(replace(BARE, path=f"{CODES}\n"), empty_line=True), path=CODES)),
    "no query, a lone = for it": (BARE, signed(replace(BARE, authorization=""), [("", "")])),
    "host: another port": (BOTH, replace(BOTH, headers=(("host", "10.22.26.181:28081"), JSON))),
    "host: port taken away": (BOTH, replace(BOTH, headers=(("host", "10.22.26.181"), JSON))),
    "host: port added": (NO_PORT, replace(NO_PORT, headers=(("host", "10.22.26.181:80"), JSON))),
    "host twice": (BOTH, replace(BOTH, headers=(HOST, HOST, JSON))),
    "host not signed": (BOTH, replace(adding((JSON,)), headers=(HOST, JSON))),
    "content-type changed": (BOTH, replace(BOTH, headers=(HOST, ("content-type", "text/plain")))),
    "a signed header taken away": (BOTH, replace(BOTH, headers=(HOST,))),
    "a signed header twice": (BOTH, replace(BOTH, headers=(HOST, JSON, JSON))),
    "idempotency-key changed": (KEYED, replace(KEYED, headers=(HOST, JSON, ("idempotency-key", "order 67")))),
    "header value: inner spaces folded": (
        SPACED, replace(SPACED, headers=(HOST, ("x-note", "two inner spaces")))),
    "header values exchanged": (CROSSED, replace(CROSSED, headers=(("a", "2"), ("a-b", "1"), HOST))),
    "content-length signed, body sent chunked": (LENGTH, replace(LENGTH, headers=CHUNKED.headers)),
    "signed headers not sorted": (BOTH, signed(Sent(), names="host;content-type")),
    "signed headers in upper case": (BOTH, signed(Sent(), names="Content-Type;Host")),
    "signed headers: one twice": (BOTH, signed(Sent(headers=(HOST, HOST, JSON)))),
    "signed headers: one taken off the list": (BOTH, other(BOTH, "content-type;host", "host")),
    "body changed": (BOTH, body(BOTH, b"80021", b"80022")),
    "body: a space added": (BOTH, replace(BOTH, body=BODY + b" ")),
    "body taken away": (BRACES, replace(BRACES, body=b"")),
    "body {} for no body": (NO_BODY, replace(NO_BODY, body=b"{}")),
    "body: another spelling of the same JSON": (UTF8, body(UTF8, "林".encode(), b"\\u6797")),
    "body: bad UTF-8 exchanged for other bad UTF-8": (BYTES, body(BYTES, b"\xff\xfe", b"\xfe\xff")),
    "body: bad UTF-8 exchanged for question marks": (BYTES, body(BYTES, b"\xff\xfe", b"??")),
    "body: percent signs decoded": (PERCENT, replace(PERCENT, body=b"%%A")),
    "chunked body: signed with its frames": (
        CHUNKED, replace(adding(body=b"39\r\n%b\r\n0\r\n\r\n" % BODY), body=BODY, headers=CHUNKED.headers)),
    "timestamp changed": (BOTH, other(BOTH, "02:04:05Z", "02:04:06Z")),
    "timestamp: milliseconds added": (BOTH, other(BOTH, "02:04:05Z", "02:04:05.000Z")),
    "timestamp: milliseconds taken away": (MILLI, other(MILLI, "05.250Z", "05Z")),
    "timestamp: an offset for Z": (BOTH, signed(Sent(), stamp="2026-11-23T02:04:05+00:00")),
    "timestamp: microseconds": (MILLI, signed(Sent(), stamp="2026-11-23T02:04:05.250000Z")),
    "15 minutes and 1 ms behind": (BOTH, replace(BOTH, now=NOW + timedelta(minutes=15, milliseconds=1))),
    "15 minutes and 1 ms ahead": (BOTH, replace(BOTH, now=NOW - timedelta(minutes=15, milliseconds=1))),
    "an hour behind": (BOTH, replace(BOTH, now=NOW + timedelta(hours=1))),
    "an hour ahead": (BOTH, replace(BOTH, now=NOW - timedelta(hours=1))),
    "another access key": (BOTH, other(BOTH, AK, "globalaktesu")),
    "another secret": (BOTH, signed(Sent(), sk=f"{SK}x")),
    "another scheme": (BOTH, other(BOTH, "auth-v2", "auth-v1")),
    "signature in upper case": (
        BOTH, other(BOTH, BOTH.authorization[-64:], BOTH.authorization[-64:].upper())),
    "signature of the body alone": (BOTH, other(BOTH, BOTH.authorization[-64:], mac(SK, BODY.decode()))),
    "signature: last digit": (
        BOTH, replace(BOTH, authorization=BOTH.authorization[:-1] + "10"[BOTH.authorization[-1] == "1"])),
}  # fmt: skip


def accepted(sent: Sent, signer: Any = signing) -> bool:
    """The verdict of a copy of `outdial.signing`."""
    headers = [(name.encode(), value.encode()) for name, value in sent.headers]
    try:
        parsed = signer.Authorization.parse(sent.authorization)
        secret = SK if parsed.ak == AK else signer.DUMMY_SECRET
        signer.verify(
            parsed, secret, sent.method, sent.path.encode(), sent.query.encode(), headers, sent.body, sent.now
        )
    except signer.BadSignature:
        return False
    return True


def _named(sent: Sent) -> str:
    return next(name for name, one in ACCEPTED.items() if one == sent)


def _vector(name: str, sent: Sent, **more: str) -> dict[str, Any]:
    return {
        "name": name,
        **more,
        "serverTime": sent.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "method": sent.method,
        "path": sent.path,
        "query": sent.query,
        "headers": [list(header) for header in sent.headers],
        "bodyBase64": base64.b64encode(sent.body).decode(),
        "authorization": sent.authorization,
    }


def document() -> dict[str, Any]:
    """The file: how it is read stands in docs/reference/signature.md."""
    good = [
        _vector(name, sent, verdict="accepted", canonicalRequest=sent.canonical)
        for name, sent in ACCEPTED.items()
    ]
    bad = [
        _vector(name, sent, verdict="refused", beside=_named(twin)) for name, (twin, sent) in REFUSED.items()
    ]
    return {"scheme": "auth-v2", "accessKey": AK, "secretKey": SK, "vectors": good + bad}


def faults(vectors: Sequence[Mapping[str, Any]], signer: Any = signing) -> list[str]:
    """Names of the vectors of a file whose verdict is another one."""
    return [one["name"] for one in vectors if accepted(read(one), signer) != (one["verdict"] == "accepted")]


def read(vector: Mapping[str, Any]) -> Sent:
    """A vector of the file as a request."""
    return Sent(
        vector["method"],
        vector["path"],
        vector["query"],
        tuple((name, value) for name, value in vector["headers"]),
        base64.b64decode(vector["bodyBase64"]),
        vector["authorization"],
        datetime.fromisoformat(vector["serverTime"]),
        vector.get("canonicalRequest", ""),
    )


def text() -> str:
    """The file's text."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check; 1 when the file is not current, or a verdict is another one."""
    if wrong := faults(document()["vectors"]):
        print(f"outdial.signing judges otherwise: {', '.join(wrong)}", file=sys.stderr)
        return 1
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != text():
            print(f"{FILE.name} is not current: run tools/signature_vectors.py", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
