"""The auth-v2 signature: the vendor's vectors, and a table of requests with what may not verify beside them.

`demo_sign` is a second, independent signer: it works like the vendor's demo on the original, unencoded names
and values and shares no code with `outdial.signing`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outdial import signing
from outdial.signing import Authorization, BadSignature

AK = "globalaktest"
SK = "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p"
NOW = datetime(2026, 11, 23, 2, 4, 5, tzinfo=UTC)
STAMP = "2026-11-23T02:04:05Z"
HOST = (b"host", b"10.22.26.181:28080")
JSON = (b"content-type", b"application/json; charset=UTF-8")
ADD = b"/rest/isales/v1/openapi/campaigns/1/calldata/1001"
CODES = b"/rest/isales/v1/openapi/campaigns/1/queryOBSResultCode"
BODY = b'{"callDataList":[{"sessionId":"00750","called":"80021"}]}'

Pairs = Sequence[tuple[str | bytes, str | bytes]]


def percent(text: str | bytes) -> str:
    return quote(text, safe="-._~")


def mac(key: str, message: str) -> str:
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def demo_sign(
    method: str,
    path: str,
    params: Pairs,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    stamp: str = STAMP,
    empty_line: bool = False,
    names: str | None = None,
    sk: str = SK,
) -> str:
    """Sign as the vendor's demo does; `empty_line` as its transcriptions do for a request without query."""
    if names is None:
        names = ";".join(sorted(name.decode() for name, _ in headers))
    query = "&".join(sorted(f"{percent(name)}={percent(value)}" for name, value in params))
    lines = sorted(f"{percent(name)}:{percent(value.strip())}" for name, value in headers)
    request = f"{method}\n{path}\n"
    if query or empty_line:
        request += query + "\n"
    request += f"{names}\n" + "\n".join(lines) + "\n" + percent(body)
    prefix = f"auth-v2/{AK}/{stamp}/{names}"
    return f"{prefix}/{mac(mac(sk, prefix), request)}"


@dataclass(frozen=True)
class Request:
    """A request as the server receives it."""

    authorization: str
    method: str = "POST"
    path: bytes = ADD
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = (HOST, JSON)
    body: bytes = BODY
    secret: str = SK
    now: datetime = NOW


def judge(request: Request) -> None:
    signing.verify(
        Authorization.parse(request.authorization),
        request.secret,
        request.method,
        request.path,
        request.query,
        request.headers,
        request.body,
        request.now,
    )


def accepted(request: Request) -> bool:
    try:
        judge(request)
    except BadSignature:
        return False
    return True


def post(headers: tuple[tuple[bytes, bytes], ...] = (HOST, JSON), **changes: object) -> Request:
    """A signed add; changes are made before signing."""
    request = replace(Request(authorization="", headers=headers), **changes)  # type: ignore[arg-type]
    value = demo_sign(request.method, request.path.decode(), (), request.headers, request.body)
    return replace(request, authorization=value)


def get(query: bytes, params: Pairs, **changes: object) -> Request:
    """A signed query: `query` goes over the wire, `params` are the originals that the client signed."""
    value = demo_sign("GET", CODES.decode(), params, (HOST,), b"")
    request = Request(value, method="GET", path=CODES, query=query, headers=(HOST,), body=b"")
    return replace(request, **changes)  # type: ignore[arg-type]


# -- the vectors of wire/data-api.md §1.5 ------------------------------------------------------------------

VECTORS = [
    pytest.param(
        Request(
            "auth-v2/globalaktest/2026-11-23T02:04:05Z/host/"
            "534e0ae53aaab71b4b240a7a0029905dea2bbd99973c01e79606bad8f7caa4b4",
            headers=(HOST,),
        ),
        id="post",
    ),
    pytest.param(
        Request(
            "auth-v2/globalaktest/2026-11-23T02:04:05Z/host/"
            "f33ce62c8af69d05c195e5f1c6ce3bae4e6a9ad2d15e14b88e7031147190d3e3",
            method="GET",
            path=CODES,
            query=b"pageSize=10&pageNum=1",
            headers=(HOST,),
            body=b"",
        ),
        id="get",
    ),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_the_vectors_of_the_page_are_signed_and_verified(vector: Request) -> None:
    value = signing.sign(
        SK, AK, vector.method, vector.path, vector.query, vector.headers, vector.body, vector.now
    )
    assert value == vector.authorization
    judge(vector)


# -- the table: every request that is refused stands beside its accepted twin ------------------------------

GOOD_POST = post()
GOOD_GET = get(b"pageSize=10&pageNum=1", [("pageSize", "10"), ("pageNum", "1")])
NAMED = get(b"name=a%20b", [("name", "a b")])
PLUS = get(b"name=a%2Bb", [("name", "a+b")])
REPEATED = get(b"a=2&a=1", [("a", "1"), ("a", "2")])
NOTHING = replace(GOOD_GET, authorization=demo_sign("GET", CODES.decode(), (), (HOST,), b""), query=b"")
THREE = post((HOST, JSON, (b"content-length", b"57")))
# "a" comes before "a-b" as a name, but "a-b:..." before "a:..." as a line
CROSSED = post(((b"a", b"1"), (b"a-b", b"2"), HOST))
SPACED = post((HOST, (b"x-note", b"two  inner   spaces")))
ODD_PATH = post(path=b"/rest/isales/v1/openapi/campaigns/1/calldata/%2f1001/")
UTF8 = post(body='{"callDataList":[{"called":"1","callData":"林子航 ¥ 😀"}]}'.encode())
BARE = replace(NOTHING, path=CODES)
MILLI = replace(
    GOOD_POST,
    authorization=demo_sign("POST", ADD.decode(), (), (HOST, JSON), BODY, stamp="2026-11-23T02:04:05.250Z"),
)


def resigned(request: Request, **how: object) -> Request:
    """The same add, signed in another way."""
    value = demo_sign(
        request.method,
        request.path.decode(),
        (),
        request.headers,
        request.body,
        **how,  # type: ignore[arg-type]
    )
    return replace(request, authorization=value)


def at(offset: timedelta) -> Request:
    return replace(GOOD_POST, now=NOW + offset)


def swapped(request: Request, old: str, new: str) -> Request:
    assert old in request.authorization
    return replace(request, authorization=request.authorization.replace(old, new))


ACCEPTED = {
    "post, content-type and host": GOOD_POST,
    "post, host only": post((HOST,)),
    "post, three headers": THREE,
    "post, not every header sent is signed": replace(post((HOST,)), headers=(HOST, JSON, (b"x", b"1"))),
    "header lines sorted as whole strings": CROSSED,
    "spaces inside a header value": SPACED,
    "spaces around a header value do not count": replace(
        SPACED, headers=(HOST, (b"x-note", b" two  inner   spaces\t"))
    ),
    "headers in another order on the wire": replace(GOOD_POST, headers=(JSON, HOST)),
    "an unsigned header twice": replace(GOOD_POST, headers=(HOST, JSON, (b"x", b"1"), (b"x", b"2"))),
    "host without port": post(((b"host", b"10.22.26.181"),)),
    "host is an IPv6 address": post(((b"host", b"[::1]:8080"),)),
    "path with escapes and a slash at its end": ODD_PATH,
    "body in UTF-8": UTF8,
    "body of bytes that are not UTF-8": post(body=b'{"a":"\xff\xfe"}'),
    "body {}": post(body=b"{}"),
    "body of percent signs": post(body=b"%25%%2541"),
    "no body": post(body=b""),
    "chunked body: no content-length": replace(
        GOOD_POST, headers=(HOST, JSON, (b"transfer-encoding", b"chunked"))
    ),
    "get, parameters in another order than signed": GOOD_GET,
    "get, parameters in signed order": replace(GOOD_GET, query=b"pageNum=1&pageSize=10"),
    "get, needless escapes, lower-case hex": replace(GOOD_GET, query=b"p%61geNum=%31&pageSize=%31%30"),
    "get, space as %20": NAMED,
    "get, space as +": replace(NAMED, query=b"name=a+b"),
    "get, plus as %2B": PLUS,
    "get, plus as %2b": replace(PLUS, query=b"name=a%2bb"),
    "get, repeated name": REPEATED,
    "get, empty value": get(b"name=&status=0", [("name", ""), ("status", "0")]),
    "get, empty value without =": get(b"name&status=0", [("name", ""), ("status", "0")]),
    "get, value with = and /": get(b"name=a=b/c", [("name", "a=b/c")]),
    "get, value with an escaped &": get(b"name=a%26b", [("name", "a&b")]),
    "get, non-ASCII": get(b"name=%E6%9E%97", [("name", "林")]),
    "get, bytes that are not UTF-8": get(b"name=%FF", [("name", b"\xff")]),
    "get, empty name": get(b"=1", [("", "1")]),
    "get, no query": NOTHING,
    "get, no query, empty line signed": resigned(NOTHING, empty_line=True),
    "post, no query, empty line signed": resigned(GOOD_POST, empty_line=True),
    "put": post(method="PUT", body=b""),
    "delete": post(method="DELETE", body=b""),
    "milliseconds": MILLI,
    "15 minutes old": at(timedelta(minutes=15)),
    "15 minutes ahead": at(timedelta(minutes=-15)),
    "a leap day": replace(
        resigned(GOOD_POST, stamp="2024-02-29T23:59:59Z"), now=datetime(2024, 3, 1, tzinfo=UTC)
    ),
}

REFUSED = {
    # each signed part changed on the way
    "method": replace(GOOD_POST, method="PUT"),
    "method in lower case": replace(GOOD_POST, method="post"),
    "path: another campaign": replace(GOOD_POST, path=ADD.replace(b"1001", b"1002")),
    "path: a slash at its end": replace(GOOD_POST, path=ADD + b"/"),
    "path: slash at its end taken away": replace(ODD_PATH, path=ODD_PATH.path[:-1]),
    "path: escape decoded": replace(ODD_PATH, path=ODD_PATH.path.replace(b"%2f", b"/")),
    "path: escape in upper case": replace(ODD_PATH, path=ODD_PATH.path.replace(b"%2f", b"%2F")),
    "path: a digit escaped": replace(GOOD_POST, path=ADD[:-1] + b"%31"),
    "path: dots added": replace(GOOD_POST, path=b"/." + ADD),
    "path: slash doubled": replace(GOOD_POST, path=b"/" + ADD),
    "query added": replace(GOOD_POST, query=b"x=1"),
    "query taken away": replace(GOOD_GET, query=b""),
    "query: value changed": replace(GOOD_GET, query=b"pageNum=2&pageSize=10"),
    "query: values exchanged": replace(GOOD_GET, query=b"pageNum=10&pageSize=1"),
    "query: name in other case": replace(GOOD_GET, query=b"pagenum=1&pageSize=10"),
    "query: parameter repeated": replace(GOOD_GET, query=b"pageNum=1&pageNum=1&pageSize=10"),
    "query: repeated name, one gone": replace(REPEATED, query=b"a=1"),
    "query: plus made a space": replace(PLUS, query=b"name=a+b"),
    "query: space made a plus": replace(NAMED, query=b"name=a%2Bb"),
    "query: escaped twice": replace(NAMED, query=b"name=a%2520b"),
    "query: escaped & made a separator": replace(get(b"a=1%26b=2", [("a", "1&b=2")]), query=b"a=1&b=2"),
    "host: another port": replace(GOOD_POST, headers=((b"host", b"10.22.26.181:28081"), JSON)),
    "host: port taken away": replace(GOOD_POST, headers=((b"host", b"10.22.26.181"), JSON)),
    "content-type changed": replace(GOOD_POST, headers=(HOST, (b"content-type", b"text/plain"))),
    "header value: inner spaces changed": replace(SPACED, headers=(HOST, (b"x-note", b"two inner spaces"))),
    "header values exchanged": replace(CROSSED, headers=((b"a", b"2"), (b"a-b", b"1"), HOST)),
    "signed header not sent": replace(GOOD_POST, headers=(HOST,)),
    "signed header sent twice": replace(GOOD_POST, headers=(HOST, JSON, JSON)),
    "host sent twice": replace(GOOD_POST, headers=(HOST, HOST, JSON)),
    "content-length signed, body sent chunked": replace(THREE, headers=(HOST, JSON)),
    "body changed": replace(GOOD_POST, body=BODY.replace(b"80021", b"80022")),
    "body: a space added": replace(GOOD_POST, body=BODY + b" "),
    "body taken away": replace(GOOD_POST, body=b""),
    "body added": replace(post(body=b""), body=b"{}"),
    "body: percent signs decoded": replace(post(body=b"%25%%2541"), body=b"%%A"),
    "body: bad UTF-8 exchanged for other bad UTF-8": replace(post(body=b"\xff"), body=b"\xfe"),
    "body: bad UTF-8 exchanged for a question mark": replace(post(body=b"\xff"), body=b"?"),
    "timestamp changed": swapped(GOOD_POST, "02:04:05Z", "02:04:06Z"),
    "timestamp: milliseconds added": swapped(GOOD_POST, "02:04:05Z", "02:04:05.000Z"),
    "timestamp: milliseconds taken away": swapped(MILLI, "05.250Z", "05Z"),
    "access key changed": swapped(GOOD_POST, AK, "globalaktesu"),
    "signed headers: one taken off the list": swapped(GOOD_POST, "content-type;host", "host"),
    "signature of another secret": resigned(GOOD_POST, sk=SK + "x"),
    "signature: first digit": replace(GOOD_POST, authorization=GOOD_POST.authorization[:-64] + "0" * 64),
    # no third form of the empty query
    "two empty lines for an empty query": replace(
        NOTHING, authorization=demo_sign("GET", CODES.decode() + "\n", (), (HOST,), b"", empty_line=True)
    ),
    "a lone = for an empty query": replace(
        NOTHING, authorization=demo_sign("GET", CODES.decode(), [("", "")], (HOST,), b"")
    ),
    "an empty line where there is a query": replace(
        get(b"a=1", [("a", "1")]),
        authorization=demo_sign("GET", CODES.decode() + "\n", [("a", "1")], (HOST,), b""),
    ),
    "a query, signed without": replace(NOTHING, query=b"a=1"),
    # the list of signed headers
    "signed headers: not sorted": resigned(GOOD_POST, names="host;content-type"),
    "signed headers: upper case": post(((b"Host", HOST[1]), HOST)),
    "signed headers: one twice": replace(
        GOOD_POST, authorization=demo_sign("POST", ADD.decode(), (), (HOST, HOST, JSON), BODY)
    ),
    "signed headers: without host": replace(post((JSON,)), headers=(HOST, JSON)),
    "signed headers: authorization": replace(
        GOOD_POST,
        authorization=demo_sign("POST", ADD.decode(), (), ((b"authorization", b"x"), HOST, JSON), BODY),
        headers=((b"authorization", b"x"), HOST, JSON),
    ),
    "signed headers: empty name": resigned(GOOD_POST, names=";content-type;host"),
    # spelling that readers understand differently
    "query: lone percent sign": get(b"a=%", [("a", "%")]),
    "query: bad escape": get(b"a=%zz", [("a", "%zz")]),
    "query: raw non-ASCII": get("a=é".encode(), [("a", "é")]),
    "query: raw space": get(b"a=b c", [("a", "b c")]),
    "query: empty parameter": get(b"a=1&&b=2", [("a", "1"), ("b", "2")]),
    "query: & at its end": get(b"a=1&", [("a", "1")]),
    "path: absolute form": post(path=b"http://10.22.26.181:28080" + ADD),
    "path: with the query in it": post(path=ADD + b"?a=1"),
    "path: raw line feed": post(path=ADD + b"\n"),
    # the window
    "15 minutes and 1 ms old": at(timedelta(minutes=15, milliseconds=1)),
    "15 minutes and 1 ms ahead": at(timedelta(minutes=-15, milliseconds=-1)),
    "a year old": at(timedelta(days=365)),
}  # fmt: skip


@pytest.mark.parametrize("request_", [pytest.param(value, id=name) for name, value in ACCEPTED.items()])
def test_a_request_that_was_signed_so_is_accepted(request_: Request) -> None:
    judge(request_)


@pytest.mark.parametrize("request_", [pytest.param(value, id=name) for name, value in REFUSED.items()])
def test_a_request_that_was_not_signed_so_is_refused(request_: Request) -> None:
    with pytest.raises(BadSignature) as refusal:
        judge(request_)
    assert refusal.value.cause


def test_the_table_has_the_size_that_trust_asks_for() -> None:
    """trust.md B.3 rule 1: at least 60 vectors."""
    assert len(ACCEPTED) + len(REFUSED) >= 100


@pytest.mark.parametrize("index", range(64))
def test_every_digit_of_the_signature_counts(index: int) -> None:
    value = list(GOOD_POST.authorization)
    value[-64 + index] = "0" if value[-64 + index] != "0" else "1"
    assert not accepted(replace(GOOD_POST, authorization="".join(value)))


def test_the_window_is_a_parameter() -> None:
    parsed = Authorization.parse(GOOD_POST.authorization)
    rest = (SK, "POST", ADD, b"", GOOD_POST.headers, BODY, NOW + timedelta(seconds=61))
    signing.verify(parsed, *rest, window=timedelta(seconds=61))
    with pytest.raises(BadSignature, match="61 s behind"):
        signing.verify(parsed, *rest, window=timedelta(seconds=60))


def test_a_number_of_seconds_and_the_side_are_in_the_cause() -> None:
    with pytest.raises(BadSignature, match="1000 s ahead of the server's clock"):
        judge(at(timedelta(seconds=-1000)))


# -- unknown keys ------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_even_when_signed_with_the_dummy_secret() -> None:
    """The dummy secret stands in the source: a stranger may sign with it."""
    forged = resigned(GOOD_POST, sk=signing.DUMMY_SECRET)
    for request in (forged, GOOD_POST):
        with pytest.raises(BadSignature, match="unknown key"):
            judge(replace(request, secret=signing.DUMMY_SECRET))


def test_an_unknown_key_takes_the_path_of_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same MACs over the same lengths are computed and compared, whether the key is known or not."""
    work: list[tuple[str, int]] = []
    digest, compare = hmac.digest, hmac.compare_digest

    def counted_digest(key: bytes, msg: bytes, digest_name: str) -> bytes:
        work.append(("digest", len(msg)))
        return digest(key, msg, digest_name)

    def counted_compare(left: bytes, right: bytes) -> bool:
        work.append(("compare", len(left)))
        return compare(left, right)

    monkeypatch.setattr(hmac, "digest", counted_digest)
    monkeypatch.setattr(hmac, "compare_digest", counted_compare)
    seen = []
    for secret in (SK + "x", signing.DUMMY_SECRET):
        work.clear()
        assert not accepted(replace(GOOD_POST, secret=secret))
        seen.append(list(work))
    assert seen[0] == seen[1]
    assert [name for name, _ in seen[0]] == ["digest", "digest", "compare", "digest", "compare"]


# -- parsing -----------------------------------------------------------------------------------------------


def test_parsing_gives_the_parts() -> None:
    parsed = Authorization.parse(MILLI.authorization.encode())
    assert parsed == Authorization.parse(MILLI.authorization)
    assert parsed.ak == AK
    assert parsed.timestamp == NOW + timedelta(milliseconds=250)
    assert parsed.timestamp.tzinfo is UTC
    assert parsed.timestamp_text == "2026-11-23T02:04:05.250Z"
    assert parsed.signed_headers == ("content-type", "host")
    assert f"{parsed.prefix}/{parsed.signature}" == MILLI.authorization
    assert parsed.signature not in repr(parsed)


SIGNATURE = "a" * 64
MALFORMED = [
    "",
    "auth-v2",
    "Bearer abc",
    "SDK-HMAC-SHA256 Access=a, SignedHeaders=host, Signature=b",
    f"auth-v1/{AK}/{STAMP}/host/{SIGNATURE}",
    f"AUTH-V2/{AK}/{STAMP}/host/{SIGNATURE}",
    f"bce-auth-v1/{AK}/{STAMP}/1800/host/{SIGNATURE}",
    f" auth-v2/{AK}/{STAMP}/host/{SIGNATURE}",
    f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE} ",
    f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE}\n",
    f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE}/",
    f"auth-v2/{AK}/x/{STAMP}/host/{SIGNATURE}",
    f"auth-v2/{AK}/{STAMP}/{SIGNATURE}",
    f"auth-v2//{STAMP}/host/{SIGNATURE}",
    f"auth-v2/{'a' * 513}/{STAMP}/host/{SIGNATURE}",
    f"auth-v2/a b/{STAMP}/host/{SIGNATURE}",
    f"auth-v2/ключ/{STAMP}/host/{SIGNATURE}",
    f"auth-v2/\ud800/{STAMP}/host/{SIGNATURE}",
    f"auth-v2/{AK}/{STAMP}//{SIGNATURE}",
    f"auth-v2/{AK}/{STAMP}/ho\nst/{SIGNATURE}",
    f"auth-v2/{AK}/{STAMP}/host/",
    f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE[1:]}",
    f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE}a",
    f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE.upper()}",
    f"auth-v2/{AK}/{STAMP}/host/{'g' * 64}",
]


@pytest.mark.parametrize("value", MALFORMED)
def test_another_form_of_the_header_is_refused(value: str) -> None:
    assert Authorization.parse(f"auth-v2/{AK}/{STAMP}/host/{SIGNATURE}")
    with pytest.raises(BadSignature):
        Authorization.parse(value)


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-11-23T02:04:05",
        "2026-11-23T02:04:05z",
        "2026-11-23t02:04:05Z",
        "2026-11-23 02:04:05Z",
        "2026-11-23T02:04:05+00:00",
        "2026-11-23T02:04:05.2Z",
        "2026-11-23T02:04:05.25Z",
        "2026-11-23T02:04:05.2500Z",
        "2026-11-23T02:04:05,250Z",
        "2026-11-23T02:04Z",
        "20261123T020405Z",
        "2026-1-23T02:04:05Z",
        "+026-11-23T02:04:05Z",
        "2026-02-29T02:04:05Z",
        "2026-13-01T02:04:05Z",
        "2026-11-31T02:04:05Z",
        "0000-01-01T02:04:05Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T02:60:05Z",
        "2026-11-23T02:04:60Z",
        "\u0662026-11-23T02:04:05Z",
        "1795399445",
    ],
)
def test_another_timestamp_is_refused(stamp: str) -> None:
    with pytest.raises(BadSignature):
        Authorization.parse(f"auth-v2/{AK}/{stamp}/host/{SIGNATURE}")


def test_the_header_is_found_once_and_only_once() -> None:
    header = (b"authorization", GOOD_POST.authorization.encode())
    assert Authorization.of([HOST, header]).ak == AK
    with pytest.raises(BadSignature, match="no such header"):
        Authorization.of([HOST])
    with pytest.raises(BadSignature, match="sent twice"):
        Authorization.of([header, HOST, header])


# -- the pieces --------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_normalize_is_percent_encoding(data: bytes) -> None:
    assert signing.normalize(data) == percent(data).encode()


def test_normalize_keeps_only_unreserved_bytes() -> None:
    every = bytes(range(256))
    assert signing.normalize(every) == percent(every).encode()
    assert signing.normalize(b"%25 %") == b"%2525%20%25"


def test_parameters_are_read_as_a_form() -> None:
    raw = b"name=a+b%2B%zz"
    with pytest.raises(BadSignature):
        signing.query_parameters(raw)
    assert signing.query_parameters(b"") == []
    assert signing.query_parameters(b"name=a+b%2Bc&x&=") == [(b"name", b"a b+c"), (b"x", b""), (b"", b"")]


@given(
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=5),
    st.binary(max_size=80),
    st.sampled_from([0, 1, 2]),
)
def test_what_our_signer_signs_is_what_the_demo_signs(
    params: list[tuple[str, str]], body: bytes, extra: int
) -> None:
    safe = [(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in params]
    query = "&".join(f"{percent(name)}={percent(value)}" for name, value in safe).encode()
    headers = (HOST, JSON, (b"a-b", b" x y "))[: 1 + extra]
    ours = signing.sign(SK, AK, "POST", ADD, query, headers, body, NOW)
    assert ours == demo_sign("POST", ADD.decode(), safe, headers, body)
    judge(Request(ours, query=query, headers=headers, body=body))


def test_our_signer_writes_milliseconds_when_asked_and_takes_any_zone() -> None:
    now = (NOW + timedelta(milliseconds=250, microseconds=999)).astimezone(timezone(timedelta(hours=8)))
    args = (SK, AK, "POST", ADD, b"", [(b"Host", HOST[1]), (b"Content-Type", JSON[1])], BODY, now)
    assert signing.sign(*args, milliseconds=True) == MILLI.authorization
    assert signing.sign(*args) == GOOD_POST.authorization


@pytest.mark.parametrize(
    "change",
    [
        {"ak": "a/b"},
        {"ak": ""},
        {"method": "post"},
        {"raw_path": b"x"},
        {"raw_query": b"a=%"},
        {"headers": [JSON]},
        {"headers": [HOST, HOST]},
        {"headers": [HOST, (b"authorization", b"x")]},
        {"headers": [HOST, ("é".encode(), b"x")]},
    ],
)
def test_our_signer_refuses_what_no_server_would_accept(change: dict[str, object]) -> None:
    good: dict[str, object] = {
        "secret": SK,
        "ak": AK,
        "method": "POST",
        "raw_path": ADD,
        "raw_query": b"a=1",
        "headers": [HOST],
        "body": BODY,
        "now": NOW,
    }
    assert signing.sign(**good)  # type: ignore[arg-type]
    with pytest.raises(BadSignature):
        signing.sign(**(good | change))  # type: ignore[arg-type]
