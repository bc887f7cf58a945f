"""The auth-v2 signature (wire/data-api.md §1): `sign` for the client, `verify` for the server.

Both build one canonical request, byte by byte, from what is on the wire:

    METHOD \\n raw path \\n [query \\n] signed headers \\n header lines \\n percent-encoded body

* The path is taken exactly as sent: `/a/%31` and `/a/1` have different signatures.
* The query is read as a form (`query_parameters`), because the scheme signs the values and not their
  spelling: `%XX` is a byte and `+` is a space, as every HTTP library writes it and every form reader reads
  it. So the values that were signed are the values that the interface reads. A request without parameters
  has no query line (the vendor's demo) or an empty one (other clients); `verify` takes both, `sign` writes
  none.
* The body is signed as bytes. It need not be UTF-8: that is judged after the signature (semantics.md §2).
* The signer decides which headers it signs; `host` must be among them.

The signature holds no expiry and no nonce: the window is checked here, repeats are the store's matter.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import unquote_to_bytes

SCHEME = "auth-v2"
WINDOW = timedelta(minutes=15)
"""How far a timestamp may be from the server's clock, both ways, ends included (semantics.md §2)."""

DUMMY_SECRET = "no-such-key"  # noqa: S105 - the opposite of a secret: nothing it signs is accepted
"""Given to `verify` for an unknown key: the same work is done, and the request is refused in any case."""

Headers = Sequence[tuple[bytes, bytes]]

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_ESCAPES = {byte: (bytes([byte]), b"%%%02X" % byte) for byte in range(256) if byte not in _UNRESERVED}
_SAMPLE = 64  # bytes that are looked at to find distinct ones: JSON has few, and shows them early

_SEGMENT = r"[!-.0-~]{1,512}"
_SIGNATURE = r"[0-9a-f]{64}"
_AUTHORIZATION = re.compile(f"{SCHEME}/({_SEGMENT})/({_SEGMENT})/({_SEGMENT})/({_SIGNATURE})")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{3})?Z")
_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(rb"/[!-\"$->@-~]*")
_QUERY = re.compile(rb"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")


class BadSignature(Exception):
    """A request is not signed as the scheme says. `cause` is for the log; the wire shows one text for all.

    The cause never repeats a value of the request or a secret.
    """

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parsed value of an Authorization header. `prefix` is all that stands before the signature."""

    ak: str
    timestamp: datetime
    timestamp_text: str
    signed_headers: tuple[str, ...]
    signature: str = field(repr=False)
    prefix: str

    @classmethod
    def parse(cls, value: str | bytes) -> Authorization:
        """Read `auth-v2/{ak}/{timestamp}/{signed headers}/{signature}` (wire/data-api.md §1.2).

        Raises BadSignature when the value has another form.
        """
        text = value if isinstance(value, str) else value.decode("latin-1")
        match = _AUTHORIZATION.fullmatch(text)
        if match is None:
            raise BadSignature(f"authorization: {_fault_of(text)}")
        ak, stamp, names, signature = match.groups()
        prefix = text[: -len(signature) - 1]
        return cls(ak, _instant(stamp), stamp, tuple(names.split(";")), signature, prefix)

    @classmethod
    def of(cls, headers: Headers) -> Authorization:
        """Find and parse the one Authorization header of a request (names in lower case).

        Raises BadSignature when there is none, more than one, or one of another form.
        """
        values = [value for name, value in headers if name == b"authorization"]
        if len(values) != 1:
            raise BadSignature("authorization: no such header" if not values else "authorization: sent twice")
        return cls.parse(values[0])


def normalize(data: bytes) -> bytes:
    """Percent-encode every byte but `A-Z a-z 0-9 - . _ ~`, hex in upper case (wire/data-api.md §1.2).

    One `replace` for each distinct byte to encode: measured two to four times faster on JSON text than a
    table lookup for each byte, a regular expression or `urllib.parse.quote`, and not slower on random bytes.
    """
    special = data.translate(None, _UNRESERVED)
    if b"%" in special:  # first: every later replacement writes percent signs
        special = special.translate(None, b"%")
        data = data.replace(b"%", b"%25")
    while special:
        found = set(special[:_SAMPLE])
        special = special.translate(None, bytes(found))
        for byte in found:
            data = data.replace(*_ESCAPES[byte])
    return data


def query_parameters(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of a raw query in the order sent, form-decoded (`%XX` a byte, `+` a space).

    A parameter without `=` has an empty value. Raises BadSignature for a spelling that readers understand
    differently: a lone `%`, a byte outside visible ASCII, an empty parameter (`a=1&&b=2`).
    """
    if not _QUERY.fullmatch(raw_query):
        raise BadSignature("query: a character that must be percent-encoded, or a lone percent sign")
    pairs: list[tuple[bytes, bytes]] = []
    for parameter in raw_query.split(b"&") if raw_query else ():
        if not parameter:
            raise BadSignature("query: an empty parameter")
        name, _, value = parameter.replace(b"+", b" ").partition(b"=")
        pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def canonical_query(raw_query: bytes) -> bytes:
    """The query line without its end: `name=value` normalised, sorted as whole strings, joined by `&`."""
    if not raw_query:
        return b""
    pairs = query_parameters(raw_query)
    return b"&".join(sorted(normalize(name) + b"=" + normalize(value) for name, value in pairs))


def sign(  # noqa: PLR0917 - the parts of a request, in their order on the wire
    secret: str,
    ak: str,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Headers,
    body: bytes,
    now: datetime,
    *,
    milliseconds: bool = False,
) -> str:
    """The value of the Authorization header for a request (wire/data-api.md §1.2).

    Signs every header given, so give `host` and those others that must not change on the way; each must be
    sent exactly as given. `raw_path` and `raw_query` are the bytes of the request line, `body` those of the
    body. The timestamp is the demo's, in whole seconds, unless `milliseconds` are asked for. Raises
    BadSignature for what `verify` would refuse.
    """
    lowered = [(name.lower(), value) for name, value in headers]
    names = tuple(sorted(name.decode("latin-1") for name, _ in lowered))
    moment = now.astimezone(UTC).isoformat(timespec="milliseconds" if milliseconds else "seconds")
    prefix = f"{SCHEME}/{ak}/{moment.removesuffix('+00:00')}Z/{';'.join(names)}"
    authorization = Authorization.parse(f"{prefix}/{'0' * 64}")
    _judge_signed_names(names)
    head, tail = _around_query(method, raw_path, names, lowered, body)
    query = canonical_query(raw_query)
    signature = _hex_mac(_signing_key(secret, authorization.prefix), head + (query and query + b"\n") + tail)
    return f"{prefix}/{signature.decode()}"


def verify(  # noqa: PLR0917 - the parts of a request, in their order on the wire
    parsed: Authorization,
    secret: str,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Headers,
    body: bytes,
    now: datetime,
    *,
    window: timedelta = WINDOW,
) -> None:
    """Judge a request by its signature; BadSignature says what is wrong, no answer means it is right.

    `raw_path`, `raw_query` (what stands after `?`, empty when nothing does) and `body` are the bytes as
    received, `headers` the request's headers with names in lower case, `now` the server's clock in UTC.
    For an unknown key give DUMMY_SECRET. The signatures are compared in constant time.
    """
    _judge_timestamp(parsed.timestamp, now, window)
    _judge_signed_names(parsed.signed_headers)
    head, tail = _around_query(method, raw_path, parsed.signed_headers, headers, body)
    query = canonical_query(raw_query)
    key = _signing_key(secret, parsed.prefix)
    claimed = parsed.signature.encode("ascii")
    lines = (query + b"\n",) if query else (b"", b"\n")
    matches = any(hmac.compare_digest(_hex_mac(key, head + line + tail), claimed) for line in lines)
    if secret == DUMMY_SECRET:
        raise BadSignature("unknown key")
    if not matches:
        raise BadSignature("the signature does not match the request")


def _fault_of(text: str) -> str:
    """What is wrong with an authorization that is not of the scheme's form."""
    scheme, *segments = text.split("/")
    if scheme != SCHEME:
        return "another scheme than auth-v2"
    if len(segments) != 4:
        return "not five parts"
    if not all(re.fullmatch(_SEGMENT, segment) for segment in segments):
        return "an empty or overlong part, or a forbidden character"
    return "the signature is not 64 lower-case hex digits"


def _instant(text: str) -> datetime:
    if not _TIMESTAMP.fullmatch(text):
        raise BadSignature("timestamp: not yyyy-MM-ddTHH:MM:SSZ, with or without .SSS")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadSignature("timestamp: no such date or time") from None


def _judge_timestamp(timestamp: datetime, now: datetime, window: timedelta) -> None:
    late = now - timestamp
    if abs(late) > window:
        side = "behind" if late > timedelta(0) else "ahead of"
        raise BadSignature(f"timestamp: {abs(late).total_seconds():.0f} s {side} the server's clock")


@lru_cache(maxsize=256)  # a client signs the same headers every time
def _judge_signed_names(names: tuple[str, ...]) -> None:
    """The list is the scheme's own form: lower case, dictionary order, each once, with host."""
    if any(name != name.lower() for name in names):
        raise BadSignature("signed headers: not in lower case")
    if list(names) != sorted(set(names)):
        raise BadSignature("signed headers: not in order, or one twice")
    if "host" not in names:
        raise BadSignature("signed headers: host is missing")
    if "authorization" in names:
        raise BadSignature("signed headers: authorization cannot sign itself")


def _around_query(
    method: str, raw_path: bytes, names: Iterable[str], headers: Headers, body: bytes
) -> tuple[bytes, bytes]:
    """The canonical request in two pieces: what stands before the query line, and what stands after it."""
    if not _METHOD.fullmatch(method):
        raise BadSignature("method: not upper-case letters")
    if not _PATH.fullmatch(raw_path):
        raise BadSignature("path: does not begin with a slash, or holds a forbidden character")
    signed = [name.encode("ascii") for name in names]
    lines = sorted(_header_line(name, headers) for name in signed)
    tail = [b";".join(signed), *lines, normalize(body)]
    return b"%b\n%b\n" % (method.encode("ascii"), raw_path), b"\n".join(tail)


def _header_line(name: bytes, headers: Headers) -> bytes:
    values = [value for sent, value in headers if sent == name]
    if len(values) != 1:
        raise BadSignature("signed headers: one is " + ("sent twice" if values else "missing"))
    return normalize(name) + b":" + normalize(values[0].strip(b" \t"))


def _signing_key(secret: str, prefix: str) -> bytes:
    return _hex_mac(secret.encode(), prefix.encode("ascii"))


def _hex_mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 in lower-case hex; the scheme uses the hex text itself as the next key."""
    return hmac.digest(key, message, "sha256").hex().encode("ascii")
