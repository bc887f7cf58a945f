"""SIP messages: parsed from bytes, written to bytes (RFC 3261 §7, §18.3, §25).

The head is split once; the values of its fields are read when they are asked for. What a datagram or a
stream brings is judged as RFC 4475 judges its torture messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from outdial.sip.fields import (
    NAMES,
    TOKEN,
    NameAddr,
    ParseError,
    Uri,
    Via,
    branch_of,
    canonical,
    first_via,
    parse_name_addrs,
    plain_route,
    split_list,
    tag_of,
)

__all__ = [
    "BadRequest",
    "Message",
    "NameAddr",
    "ParseError",
    "Request",
    "Response",
    "Uri",
    "Via",
    "Written",
    "canonical",
    "parse",
    "parse_name_addrs",
    "response_to",
]

MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 256 * 1024
"""Bytes of a head and of a body."""
MAX_HEADERS: Final = 200

Header = tuple[str, str]

_MANDATORY = ("Via", "From", "To", "Call-ID", "CSeq")
_METHODS = frozenset(("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE"))
_ONCE = frozenset(("From", "To", "Call-ID", "CSeq", "Max-Forwards"))
_LISTS = frozenset(
    ("Via", "Route", "Record-Route", "Contact", "Allow", "Supported", "Require", "Unsupported")
)

_TOKEN = re.compile(f"{TOKEN}++")
_FOLD = re.compile(r"\r\n[ \t]++")
_CSEQ = re.compile(f"([0-9]{{1,10}})[ \t]++({TOKEN}++)")
_STATUS = re.compile(r"([1-6][0-9][0-9])(?: (.*))?", re.DOTALL)
_GMT = re.compile(r"[A-Za-z]{3}, [0-9]{2} [A-Za-z]{3} [0-9]{4} [0-9:]{8} GMT")
_BLANKED = str.maketrans("\r\n\0", "   ")
_LENGTH = re.compile(r"[0-9]{1,10}")


class BadRequest(ParseError):
    """A request at fault. `request` is what could be read of it: enough to refuse it with 400."""

    def __init__(self, request: Request, reason: str) -> None:
        super().__init__(reason)
        self.request = request


class Message:
    """What requests and responses have in common.

    `headers` have canonical names and unfolded values. Values read by a property are remembered: change
    the headers before, not after.
    """

    __slots__ = ("_branch", "_cseq", "_first", "_from", "_tags", "_to", "_via", "body", "headers")

    def __init__(self, headers: Iterable[Header] = (), body: bytes = b"") -> None:
        self.headers: list[Header] = (
            [(NAMES.get(name) or canonical(name), value) for name, value in headers] if headers else []
        )
        self.body = body
        self._first: dict[str, str] | None = None  # the first value of each header, of one that was read
        self._branch: str | None = None
        self._tags: tuple[str | None, str | None] | None = None  # of From and To, once read
        self._via: Via | None = None
        self._from: NameAddr | None = None
        self._to: NameAddr | None = None
        self._cseq: tuple[int, str] | None = None

    def get(self, name: str) -> str | None:
        """The first value of a header as it stands, or None."""
        name = NAMES.get(name) or canonical(name)
        if self._first is not None:
            return self._first.get(name)
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def all(self, name: str) -> list[str]:
        """Every value of a header.

        Lists of Via, Route, Record-Route, Contact, Allow, Supported, Require and Unsupported are split at
        their commas; others are not. Raises `ParseError` where a list cannot be split.
        """
        name = NAMES.get(name) or canonical(name)
        if self._first is not None and name not in self._first:
            return []
        values = [value for known, value in self.headers if known == name]
        if values and name in _LISTS:
            return [element for value in values for element in split_list(value)]
        return values

    @property
    def call_id(self) -> str:
        """Raises `ParseError`, as all of these properties do, where the header is missing or malformed."""
        return self._need("Call-ID")

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method."""
        if self._cseq is None:
            self._cseq = _numbered(self._need("CSeq"))
        return self._cseq

    @property
    def from_(self) -> NameAddr:
        """The From header."""
        if self._from is None:
            self._from = NameAddr.parse(self._need("From"))
        return self._from

    @property
    def to(self) -> NameAddr:
        """The To header."""
        if self._to is None:
            self._to = NameAddr.parse(self._need("To"))
        return self._to

    @property
    def via(self) -> Via:
        """The topmost Via."""
        if self._via is None:
            self._via = first_via(self._need("Via"))
        return self._via

    @property
    def branch(self) -> str | None:
        """The branch of the topmost Via."""
        return self._branch or branch_of(self._need("Via"))

    @property
    def from_tag(self) -> str | None:
        """The tag of From."""
        return self._tags[0] if self._tags else tag_of(self._need("From"))

    @property
    def to_tag(self) -> str | None:
        """The tag of To."""
        return self._tags[1] if self._tags else tag_of(self._need("To"))

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact, or None where there is none or it is "*"."""
        for element in self.all("Contact"):
            return None if element == "*" else NameAddr.parse(element)
        return None

    @property
    def record_routes(self) -> list[str]:
        """The Record-Route set in its order, each as it stands, but without a display name."""
        return [plain_route(element) for element in self.all("Record-Route")]

    def to_bytes(self) -> bytes:
        """Write the message; Content-Length is always ours.

        Raises `ValueError` where a value holds CR, LF or NUL, or a name or the start line is malformed:
        nobody's data may become a header of its own.
        """
        return self._write(
            [
                f"{name}: {value}"
                for name, value in self.headers
                if (name in NAMES or named(name)) and name != "Content-Length"
            ]
        )

    def _write(self, lines: list[str]) -> bytes:
        head = "\r\n".join((self._start_line(), *lines))
        breaks = len(lines)
        if head.count("\r") != breaks or head.count("\n") != breaks or "\0" in head:
            raise ValueError("header or start line: a value holds CR, LF or NUL")
        encoded = head.encode("utf-8", "surrogateescape")
        return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (encoded, len(self.body), self.body)

    def _start_line(self) -> str:
        raise NotImplementedError

    def _need(self, name: str) -> str:
        value = self.get(name)
        if not value:
            raise ParseError(f"{name}: missing or empty")
        return value


class Request(Message):
    """A request. `uri` is its Request-URI as it stands."""

    __slots__ = ("method", "uri")

    def __init__(self, method: str, uri: str, headers: Iterable[Header] = (), body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri

    def _start_line(self) -> str:
        visible = self.uri.isascii() and self.uri.isprintable() and self.uri and " " not in self.uri
        if not (visible and (self.method in _METHODS or _TOKEN.fullmatch(self.method))):
            raise ValueError("request line: the method is no token, or the URI not printable ASCII")
        return f"{self.method} {self.uri} SIP/2.0"

    def __repr__(self) -> str:
        return f"<Request {self.method}>"


class Written(Request):
    """A request of ours, written at once and kept as bytes: its headers are read only if they are asked for.

    `lines` are "Name: value", without Content-Length. Raises `ValueError`, as `to_bytes` does.
    """

    __slots__ = ("_bytes", "_read")

    def __init__(
        self, method: str, uri: str, lines: list[str], body: bytes, *, cseq: int, branch: str
    ) -> None:
        self.method, self.uri, self.body = method, uri, body
        self._cseq, self._branch = (cseq, method), branch
        self._first = self._tags = self._via = self._from = self._to = None
        self._read: list[Header] | None = None
        self._bytes = self._write(lines)

    @property
    def headers(self) -> list[Header]:  # type: ignore[override]
        """Its headers, which stay as they are."""
        if self._read is None:
            head = self._bytes[: self._bytes.index(b"\r\n\r\n")].decode("utf-8", "surrogateescape")
            fields = (line.partition(": ") for line in head.split("\r\n")[1:-1])
            self._read = [(name, value) for name, _, value in fields]
        return self._read

    def to_bytes(self) -> bytes:
        """What was written."""
        return self._bytes


class Response(Message):
    """A response. `reason` of one that was read is printable: what was not is U+FFFD."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str, headers: Iterable[Header] = (), body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason

    def _start_line(self) -> str:
        return f"SIP/2.0 {self.status:03d} {self.reason}"

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


def parse(data: bytes) -> Request | Response:
    """Read one datagram. Bytes beyond Content-Length are ignored (RFC 3261 §18.3).

    Raises `ParseError`, and of these `BadRequest` where the bytes were a request that 400 can answer.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
    if end < 0:
        raise ParseError("head: no empty line within 64 KiB")
    head = Head(data[:end])
    body = data[end + 4 :]
    try:
        length = head.content_length()
        if length is not None and length > len(body):
            raise ParseError("body: shorter than Content-Length")
        if length is None and len(body) > MAX_BODY:
            raise ParseError("body: over 256 KiB")
    except ParseError as error:
        raise head.blame(error) from None
    return head.message(body[:length])


class Head:
    """A start line and its headers, split but not judged; `fault` is the first thing wrong with them."""

    __slots__ = ("fault", "first", "headers", "start")

    def __init__(self, head: bytes) -> None:
        text = head.decode("utf-8", "surrogateescape")
        self.fault = ""
        breaks = text.count("\r\n")
        if text.count("\r") != breaks or text.count("\n") != breaks:
            self.fault = "head: CR or LF alone"
        if "\r\n " in text or "\r\n\t" in text:
            text = _FOLD.sub(" ", text)
            breaks = text.count("\r\n")
        if breaks > MAX_HEADERS:
            raise ParseError("head: over 200 headers")
        self.start, *lines = text.split("\r\n")
        self.headers = [field for line in lines if (field := _field(line)) is not None]
        if len(self.headers) < len(lines):
            self.fault = self.fault or "head: a line is no header"
        self.first = dict(reversed(self.headers))  # the first value of each

    def content_length(self) -> int | None:
        """What Content-Length says, or None where it is missing. Raises `ParseError`."""
        value = self.first.get("Content-Length")
        if value is None:
            return None
        another = len(self.first) < len(self.headers) and any(
            name == "Content-Length" and other != value for name, other in self.headers
        )
        if another:
            raise ParseError("Content-Length: not one number")
        return _length(value)

    def blame(self, fault: ParseError) -> ParseError:
        """The same fault, with the request as far as it can be read."""
        try:
            message = self._start()
        except ParseError:
            return fault
        if isinstance(message, Response):
            return fault
        message.headers = self.headers
        return BadRequest(message, str(fault))

    def message(self, body: bytes) -> Request | Response:
        """The message, judged. Raises `ParseError`."""
        message = self._start()
        message.headers, message._first = self.headers, self.first
        message.body = body
        try:
            if self.fault:
                raise ParseError(self.fault)
            _check(message, self.first)
        except ParseError as error:
            raise self.blame(error) from None
        return message

    def _start(self) -> Request | Response:
        first, _, rest = self.start.partition(" ")
        if first.upper() == "SIP/2.0":
            return Response(*_status_line(rest))
        uri, _, version = rest.partition(" ")
        if not _TOKEN.fullmatch(first) or version.upper() != "SIP/2.0":
            raise ParseError("start line: neither METHOD URI SIP/2.0 nor SIP/2.0 STATUS REASON")
        if Uri.parse(uri).headers:
            raise ParseError("request line: a Request-URI has no headers")
        return Request(first, uri)


def _field(line: str) -> Header | None:
    """The canonical name and the value of a line, or None: it is no header."""
    name, colon, value = line.partition(":")
    known = NAMES.get(name) or _name(name)
    return (known, value.strip(" \t")) if colon and known else None


def _name(name: str) -> str:
    name = name.rstrip(" \t")
    return canonical(name) if _TOKEN.fullmatch(name) else ""


def named(name: str) -> str:
    """The canonical name of a header that is to be written. Raises `ValueError` where it is no token."""
    if not _TOKEN.fullmatch(name):
        raise ValueError("header name: not a token")
    return canonical(name)


@lru_cache(128)
def _length(value: str) -> int:
    if not _LENGTH.fullmatch(value):
        raise ParseError("Content-Length: not one number")
    if int(value) > MAX_BODY:
        raise ParseError("body: over 256 KiB")
    return int(value)


@lru_cache(128)
def _numbered(value: str) -> tuple[int, str]:
    match = _CSEQ.fullmatch(value)
    if match is None or int(match[1]) >= 2**31:
        raise ParseError("CSeq: not a number under 2^31 and a method")
    return int(match[1]), match[2]


@lru_cache(128)
def _status_line(rest: str) -> tuple[int, str]:
    match = _STATUS.fullmatch(rest)
    if match is None:
        raise ParseError("status line: no status from 100 to 699")
    reason = match[2] or ""
    if not reason.isprintable():
        reason = "".join(char if char.isprintable() else "\ufffd" for char in reason)
    return int(match[1]), reason


def _check(message: Request | Response, first: dict[str, str]) -> None:
    """The headers without which there is no transaction and no dialog, each there and well formed."""
    if len(first) < len(message.headers):
        names = [name for name, _ in message.headers]
        for name in _ONCE:
            if names.count(name) > 1:
                raise ParseError(f"{name}: more than once")
    for name in _MANDATORY:
        if not first.get(name):
            raise ParseError(f"{name}: missing or empty")
    message._branch = branch_of(first["Via"])
    message._tags = tag_of(first["From"]), tag_of(first["To"])
    message._cseq = _numbered(first["CSeq"])
    if isinstance(message, Request):
        _check_request(message, message._cseq[1])


def _check_request(request: Request, method: str) -> None:
    if method != request.method:
        raise ParseError("CSeq: another method than the request's")
    for contact in request.all("Contact"):
        if contact != "*":
            NameAddr.parse(contact)
    date = request.get("Date")
    if date is not None and not _GMT.fullmatch(date):
        raise ParseError("Date: not in the form of RFC 1123, GMT")


def response_to(
    request: Request,
    status: int,
    reason: str,
    *,
    to_tag: str | None = None,
    headers: Iterable[Header] = (),
    body: bytes = b"",
) -> Response:
    """Answer a request, which may be a malformed one (RFC 3261 §8.2.6). `to_tag` is added where To has none.

    A CR, LF or NUL that stands alone in the request comes back as a blank.
    """
    copied = []
    for name, value in request.headers:
        if name in _MANDATORY:
            tag = f";tag={to_tag}" if name == "To" and to_tag and _untagged(value) else ""
            copied.append((name, value.translate(_BLANKED) + tag))
    return Response(status, reason, [*copied, *headers], body)


def _untagged(value: str) -> bool:
    try:
        return NameAddr.parse(value).tag is None
    except ParseError:
        return False
