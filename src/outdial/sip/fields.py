"""Names and values of SIP header fields: URIs, addresses and Vias (RFC 3261 §19.1, §20, §25.1).

Every expression here is anchored and possessive, so that no input costs more than its length. Where peers
are known to stray from the grammar without doubt about what they mean, they are understood (a display name
in raw UTF-8, an underscore in a host); what is ambiguous is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

Params = dict[str, str | None]
"""Names in lower case; None where there is no "="; a quoted value keeps its quotes."""

MAX_ELEMENTS: Final = 200
"""Commas in a list, and semicolons in the parameters of one value."""

TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]"  # noqa: S105
QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._\-]*+)|\[[0-9A-Fa-f:.]++\])"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*+")
_PRINTABLE = re.compile(r"[!#-;=?-~]++")
_USER = re.compile(r"[!#-;=?A-~]++")
_HOST_PART = re.compile(rf"({_HOST})(?::([0-9]{{1,5}}))?(;[!#-+\--;=A-~]*+)?(?:\?([!#-+\--;=?A-~]*+))?")
_PARAM = re.compile(
    rf"[ \t]*+;[ \t]*+({TOKEN}++)[ \t]*+(?:=[ \t]*+({QUOTED}|[!#-+\-./0-9:=?-~]*+))?[ \t]*+", re.DOTALL
)
_PLAIN_PARAMS = re.compile(rf"(?:;{TOKEN}++(?:=[!#-+\-./0-9:?A-~]*+)?)++")
_DISPLAYED = re.compile(
    rf"[ \t]*+(?:({QUOTED})|([A-Za-z0-9\-.!%*_+`'~ \t\x80-\U0010ffff]*+))[ \t]*+<([^<>]*+)>", re.DOTALL
)
_VIA = re.compile(
    rf"[ \t]*+SIP[ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+({TOKEN}++)[ \t]++({_HOST})[ \t]*+"
    r"(?::[ \t]*+([0-9]{1,5}))?",
    re.IGNORECASE,
)
_COMMON_VALUE = r"[!#-+\-./0-9:A-~]++"
_COMMON_PORT = r"(?::(?:[1-5][0-9]{4}|[1-9][0-9]{0,3}))?+"
_COMMON_PARAMS = rf"(?:;{TOKEN}++(?:={_COMMON_VALUE})?){{0,50}}+"
_COMMON_URI = rf"sips?:(?:[!#-;=?A-~]++@)?{_HOST}{_COMMON_PORT}{_COMMON_PARAMS}"
_COMMON_ADDRESS = re.compile(
    rf"(?:{QUOTED} ?)?<{_COMMON_URI}>(?:;{TOKEN}++={_COMMON_VALUE}){{0,50}}+", re.DOTALL
)
_TAGGED_ADDRESS = re.compile(rf"(?:{QUOTED} ?)?<{_COMMON_URI}>(?:;tag=({_COMMON_VALUE}))?", re.DOTALL)
_BRANCHED_VIA = re.compile(
    rf"SIP/2\.0/[A-Z]++ {_HOST}{_COMMON_PORT};branch=({_COMMON_VALUE}){_COMMON_PARAMS}"
)
_ELEMENT = re.compile(rf'(?:[^",<]|{QUOTED}|<[^>]*+>)*+', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(r'(["\\])')

_COMPACT = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
"""The compact forms that IANA has registered."""

_COMMON = (
    "Accept Allow Authorization Call-ID Contact Content-Length Content-Type CSeq Date Expires From "
    "MIME-Version Max-Forwards Min-SE P-Asserted-Identity Proxy-Authenticate Proxy-Authorization RAck "
    "RSeq Reason Record-Route Require Retry-After Route Server SIP-ETag SIP-If-Match Session-Expires "
    "Subject Supported To Unsupported User-Agent Via WWW-Authenticate Warning"
)
NAMES: Final = (
    _COMPACT | {name.lower(): name for name in _COMMON.split()} | {name: name for name in _COMMON.split()}
)
"""Canonical names, by what peers are likely to write."""


class ParseError(ValueError):
    """The bytes are not what the grammar allows, or more than our caps."""


def canonical(name: str) -> str:
    """The one spelling of a header name that we use: `Call-ID` for `call-id` and `i`."""
    known = NAMES.get(name)
    if known is None:
        lower = name.lower()
        known = NAMES.get(lower) or "-".join(part.capitalize() for part in lower.split("-"))
    return known


@dataclass(slots=True)
class Uri:
    """A URI. `host` of a sip or sips URI comes without the brackets of an IPv6 address.

    A tel URI (RFC 3966) has its number in `user` and an empty `host`. Every other scheme is opaque: all that
    follows the colon is in `host`.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    params: Params = field(default_factory=dict)
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read a URI, without any blank around it. Raises `ParseError`."""
        scheme, _, rest = text.partition(":")
        scheme = scheme.lower()
        if scheme in ("sip", "sips"):
            return cls._parse_sip(scheme, rest)
        if not (_SCHEME.fullmatch(scheme) and _PRINTABLE.fullmatch(rest)):
            raise ParseError("URI: not scheme:… in printable ASCII")
        if scheme != "tel":
            return cls(scheme, None, rest)
        number, semicolon, params = rest.partition(";")
        return cls("tel", number, "", None, parse_params(semicolon + params, "URI"))

    @classmethod
    def _parse_sip(cls, scheme: str, rest: str) -> Uri:
        user, at, host_part = rest.rpartition("@")
        match = _HOST_PART.fullmatch(host_part)
        if match is None:
            raise ParseError("URI: host, port or parameters are malformed")
        if at and not _USER.fullmatch(user):
            raise ParseError("URI: the user part is empty or holds forbidden characters")
        host, port, params, headers = match.groups()
        known = parse_params(params, "URI") if params else {}
        return cls(scheme, user if at else None, _bare(host), _port(port), known, headers or "")

    def __str__(self) -> str:
        if self.scheme == "tel":
            return f"tel:{self.user}{format_params(self.params)}"
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.host}"
        user = "" if self.user is None else f"{self.user}@"
        headers = f"?{self.headers}" if self.headers else ""
        sent = sent_by(self.host, self.port)
        return f"{self.scheme}:{user}{sent}{format_params(self.params)}{headers}"


@dataclass(slots=True)
class NameAddr:
    """The value of From, To, Contact, Route or Record-Route. `display` comes without quotes and escapes."""

    uri: Uri
    display: str | None = None
    params: Params = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read one address. Without <> all parameters belong to the field, not to the URI (RFC 3261 §20.10).

        Raises `ParseError`.
        """
        match = _DISPLAYED.match(text)
        if match is None:
            return cls._parse_bare(text)
        quoted, tokens, uri = match.groups()
        display = _ESCAPED.sub(r"\1", quoted[1:-1]) if quoted else tokens.strip(" \t") or None
        return cls(Uri.parse(uri), display, _address_params(text, match.end()))

    @classmethod
    def _parse_bare(cls, text: str) -> NameAddr:
        uri, semicolon, params = text.partition(";")
        if "?" in uri or "," in uri:
            raise ParseError('address: a URI with "?" or "," needs <> around it')
        return cls(Uri.parse(uri.strip(" \t")), None, _address_params(semicolon + params, 0))

    @property
    def tag(self) -> str | None:
        """The tag parameter (RFC 3261 §19.3)."""
        return self.params.get("tag")

    def __str__(self) -> str:
        display = "" if self.display is None else '"' + _TO_ESCAPE.sub(r"\\\1", self.display) + '" '
        return f"{display}<{self.uri}>{format_params(self.params)}"


@dataclass(slots=True)
class Via:
    """One Via. `host` comes without the brackets of an IPv6 address; `transport` in upper case."""

    transport: str
    host: str
    port: int | None = None
    params: Params = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one Via. Raises `ParseError`."""
        match = _VIA.match(text)
        if match is None:
            raise ParseError("Via: not SIP/2.0/TRANSPORT host[:port]")
        transport, host, port = match.groups()
        params = parse_params(text, "Via", match.end())
        return cls(transport.upper(), _bare(host), _port(port), params)

    @property
    def branch(self) -> str | None:
        """The branch parameter, which names the transaction (RFC 3261 §8.1.1.7)."""
        return self.params.get("branch")

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {sent_by(self.host, self.port)}{format_params(self.params)}"


@lru_cache(1024)
def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP literal: the same few come with every call. Raises `ValueError`."""
    return ipaddress.ip_address(text)


def tag_of(text: str) -> str | None:
    """The tag of an address. Cheap for the form that most have; raises `ParseError` as `NameAddr.parse`."""
    match = _TAGGED_ADDRESS.fullmatch(text)
    return match[1] if match else NameAddr.parse(text).tag


def uri_of(text: str) -> str:
    """The URI of an address, without its headers. Cheap for the form that most have; raises `ParseError`."""
    if _COMMON_ADDRESS.fullmatch(text):
        return text[text.rindex("<") + 1 : text.rindex(">")]
    uri = NameAddr.parse(text).uri
    uri.headers = ""
    return str(uri)


def branch_of(text: str) -> str | None:
    """The branch of the first Via of this value. Cheap for the usual form; raises `ParseError`."""
    match = _BRANCHED_VIA.fullmatch(text)
    return match[1] if match else first_via(text).branch


def first_via(text: str) -> Via:
    """Read the first Via of a value that may be a list. Raises `ParseError`."""
    elements = split_list(text)
    return Via.parse(elements[0] if elements else "")


def parse_name_addrs(text: str) -> list[NameAddr]:
    """Read addresses separated by commas. Raises `ParseError`."""
    return [NameAddr.parse(element) for element in split_list(text)]


def plain_route(text: str) -> str:
    """One Record-Route as a Route header and a store can have it: as it stands, but without a display name.

    Raises `ParseError`.
    """
    route = NameAddr.parse(text)
    if route.display is not None:
        route.display = None
        text = str(route)
    if not (text.isascii() and text.isprintable()):
        raise ParseError("Record-Route: not printable ASCII")
    return text


def split_list(text: str) -> list[str]:
    """Split at the commas that stand neither in quotes nor in <>; empty elements are left out.

    Raises `ParseError` where a quote or a bracket is not closed.
    """
    if "," not in text:
        return [text] if text else []
    if text.count(",") > MAX_ELEMENTS:
        raise ParseError("list: over 200 commas")
    elements: list[str] = []
    position = 0
    while position <= len(text):
        match = _ELEMENT.match(text, position)
        end = match.end() if match else position
        if end < len(text) and text[end] != ",":
            raise ParseError("list: a quote or a < is not closed")
        if element := text[position:end].strip(" \t"):
            elements.append(element)
        position = end + 1
    return elements


def parse_params(text: str, where: str, position: int = 0) -> Params:
    """Read `;name=value` until the end of `text`. Of a name that comes twice the first counts.

    Raises `ParseError`, naming `where`.
    """
    if text.count(";", position) > MAX_ELEMENTS:
        raise ParseError(f"{where}: over 200 parameters")
    params: Params = {}
    if _PLAIN_PARAMS.fullmatch(text, position):
        for param in text[position + 1 :].split(";"):
            name, equals, value = param.partition("=")
            params.setdefault(name.lower(), value if equals else None)
        return params
    while position < len(text):
        match = _PARAM.match(text, position)
        if match is None:
            raise ParseError(f"{where}: malformed parameters")
        params.setdefault(match[1].lower(), match[2])
        position = match.end()
    return params


def _address_params(text: str, position: int) -> Params:
    params = parse_params(text, "address", position)
    if "tag" in params and (params["tag"] or '"')[0] == '"':
        raise ParseError("address: the tag is not a token")
    return params


def format_params(params: Params) -> str:
    """Write parameters as they follow a value."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params.items())


def sent_by(host: str, port: int | None) -> str:
    """Write host and port, an IPv6 address in brackets (RFC 3261 §25.1, sent-by)."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _bare(host: str) -> str:
    return host[1:-1] if host[0] == "[" else host


def _port(digits: str | None) -> int | None:
    if digits is None:
        return None
    port = int(digits)
    if not 0 < port < 65536:
        raise ParseError("port: not in 1..65535")
    return port
