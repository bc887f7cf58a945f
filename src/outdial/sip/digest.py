"""Credentials for a 401 or 407 (RFC 3261 §22, RFC 7616, RFC 8760)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from outdial.sip.fields import QUOTED, TOKEN, ParseError
from outdial.sip.words import Credentials

MAX_CHALLENGE: Final = 4096
"""Characters of a challenge."""

_STRENGTH: Final = {"MD5": 1, "MD5-SESS": 1, "SHA-256": 2, "SHA-256-SESS": 2}
"""The algorithms that we know, in upper case; SHA-256 goes before MD5 (RFC 8760 §2.4)."""

_SCHEME = re.compile(r"[ \t]*+Digest[ \t]++", re.IGNORECASE)
_PARAM = re.compile(
    rf"({TOKEN}++)[ \t]*+=[ \t]*+(?:({QUOTED})|([!#-+\--~]*+))[ \t]*+(?:,[ \t,]*+|\Z)", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A Digest challenge. `algorithm` as it was written, "" where it was not; `qop` the offered qualities.

    `stale`: the credentials were right and only the nonce is too old, so that a repeat is worth it.
    """

    realm: str
    nonce: str
    algorithm: str = ""
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @property
    def usable(self) -> bool:
        """Whether we can answer: an algorithm that we know, and quality auth or none."""
        return self._name in _STRENGTH and (not self.qop or "auth" in self.qop)

    @property
    def strength(self) -> int:
        """The higher, the better; 0 for an algorithm that we do not know."""
        return _STRENGTH.get(self._name, 0)

    @property
    def session(self) -> bool:
        """Whether the algorithm is a -sess variant."""
        return self._name.endswith("-SESS")

    def digest(self, *parts: str) -> str:
        """The hash of the parts joined by colons, in hexadecimal."""
        data = ":".join(parts).encode("utf-8", "surrogateescape")
        if self._name.startswith("MD5"):
            return hashlib.md5(data, usedforsecurity=False).hexdigest()
        return hashlib.sha256(data).hexdigest()

    @property
    def _name(self) -> str:
        return (self.algorithm or "MD5").upper()


def parse_challenge(value: str) -> Challenge:
    """Read the value of WWW-Authenticate or Proxy-Authenticate.

    Raises `ParseError` where it is no Digest challenge with realm and nonce.
    """
    scheme = _SCHEME.match(value)
    if scheme is None:
        raise ParseError("challenge: the scheme is not Digest")
    if len(value) > MAX_CHALLENGE or _CONTROL.search(value):
        raise ParseError("challenge: a control character, or over 4096 characters")
    params = _params(value, scheme.end())
    if "realm" not in params or not params.get("nonce"):
        raise ParseError("challenge: realm or nonce is missing")
    return Challenge(
        realm=params["realm"],
        nonce=params["nonce"],
        algorithm=params.get("algorithm", ""),
        qop=tuple(quality.strip(" \t").lower() for quality in params.get("qop", "").split(",") if quality),
        opaque=params.get("opaque"),
        stale=params.get("stale", "").lower() == "true",
    )


def choose(challenges: Iterable[str]) -> Challenge | None:
    """The strongest of these header values that we can answer, the first among equals; None for none.

    What cannot be read, an algorithm that we do not know, and auth-int alone are passed over.
    """
    best: Challenge | None = None
    for value in challenges:
        try:
            challenge = parse_challenge(value)
        except ParseError:
            continue
        if challenge.usable and (best is None or challenge.strength > best.strength):
            best = challenge
    return best


def authorization(
    challenge: Challenge, credentials: Credentials, *, method: str, uri: str, cnonce: str, nc: int
) -> str:
    """The value of Authorization or Proxy-Authorization that answers (RFC 7616 §3.4).

    `uri` is the Request-URI as sent; `nc` counts the requests with this nonce, from 1. Raises `ValueError`
    for a challenge that is not usable.
    """
    if not challenge.usable:
        raise ValueError("challenge: its algorithm or quality of protection is not ours")
    response = _response(challenge, credentials, method=method, uri=uri, cnonce=cnonce, nc=nc)
    parts = [
        f"username={_quoted(credentials.username)}",
        f"realm={_quoted(challenge.realm)}",
        f"nonce={_quoted(challenge.nonce)}",
        f"uri={_quoted(uri)}",
        f'response="{response}"',
    ]
    if challenge.algorithm:
        parts.append(f"algorithm={challenge.algorithm}")
    if challenge.qop:
        parts.append(f"qop=auth, nc={nc:08x}")
    if challenge.qop or challenge.session:
        parts.append(f"cnonce={_quoted(cnonce)}")
    if challenge.opaque is not None:
        parts.append(f"opaque={_quoted(challenge.opaque)}")
    return "Digest " + ", ".join(parts)


def _response(
    challenge: Challenge, credentials: Credentials, *, method: str, uri: str, cnonce: str, nc: int
) -> str:
    secret = challenge.digest(credentials.username, challenge.realm, credentials.password)
    if challenge.session:
        secret = challenge.digest(secret, challenge.nonce, cnonce)
    request = challenge.digest(method, uri)
    if not challenge.qop:
        return challenge.digest(secret, challenge.nonce, request)
    return challenge.digest(secret, challenge.nonce, f"{nc:08x}", cnonce, "auth", request)


def _params(value: str, position: int) -> dict[str, str]:
    params: dict[str, str] = {}
    while position < len(value):
        match = _PARAM.match(value, position)
        if match is None:
            raise ParseError("challenge: malformed parameters")
        name, quoted, token = match.groups()
        text = _ESCAPED.sub(r"\1", quoted[1:-1]) if quoted else token or ""
        params.setdefault(name.lower(), text)
        position = match.end()
    return params


def _quoted(text: str) -> str:
    return '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'
