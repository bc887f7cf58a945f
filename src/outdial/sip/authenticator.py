"""Answering the digest challenges of one call or registration (RFC 3261 §22)."""

from __future__ import annotations

from random import Random
from typing import Final

from outdial.sip import digest
from outdial.sip.message import Request, Response
from outdial.sip.words import Credentials

MAX_TRIES: Final = 2
"""Challenges answered for one request: two servers on its way, or one whose nonce grew stale meanwhile."""

_HEADERS: Final = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}
_ANSWERS: Final = frozenset(answer for _, answer in _HEADERS.values())


class Authenticator:
    """Counts the uses of each nonce (RFC 7616 §3.4, nc) and makes cnonces."""

    __slots__ = ("_count", "_nonce", "_random", "credentials")

    def __init__(self, credentials: Credentials | None, random: Random) -> None:
        self.credentials = credentials
        self._random = random
        self._nonce = ""
        self._count = 0

    def authorization(self, challenge: digest.Challenge, method: str, uri: str) -> str:
        """The value that answers the challenge."""
        assert self.credentials is not None
        self._count = self._count + 1 if challenge.nonce == self._nonce else 1
        self._nonce = challenge.nonce
        return digest.authorization(
            challenge,
            self.credentials,
            method=method,
            uri=uri,
            cnonce=f"{self._random.getrandbits(64):016x}",
            nc=self._count,
        )


class Challenged:
    """One request and its repetitions: the challenges that they met."""

    __slots__ = ("_authenticator", "_challenges", "_tries")

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._challenges: dict[str, digest.Challenge] = {}
        self._tries = 0

    def meet(self, response: Response) -> bool:
        """Take a 401 or 407. False: it cannot be answered, or the answer to it was already refused."""
        if self._authenticator.credentials is None or response.status not in _HEADERS:
            return False
        asks, answers = _HEADERS[response.status]
        challenge = digest.choose(response.all(asks))
        if challenge is None or self._tries == MAX_TRIES:
            return False
        if answers in self._challenges and not challenge.stale:
            return False
        self._tries += 1
        self._challenges[answers] = challenge
        return True

    def headers(self, method: str, uri: str) -> list[tuple[str, str]]:
        """The credentials for the next repetition."""
        return [
            (name, self._authenticator.authorization(challenge, method, uri))
            for name, challenge in self._challenges.items()
        ]


def credentials_of(request: Request) -> list[tuple[str, str]]:
    """The credentials in a request, which its ACK repeats (§13.2.2.4)."""
    return [header for header in request.headers if header[0] in _ANSWERS]
