"""Keeping a registration alive (RFC 3261 §10), and asking whether a hop is alive (§11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final

from outdial.sip.authenticator import Authenticator, Challenged
from outdial.sip.dialog import BRANCH, bracketed, routed
from outdial.sip.message import NameAddr, ParseError, Request, Response, parse_name_addrs
from outdial.sip.transaction import NO_ANSWER, NO_TRANSPORT, TIMEOUT, NonInviteTransaction, Then
from outdial.sip.words import USER_AGENT, Credentials, Effect, Hop

FIRST_RETRY: Final = 5.0
LAST_RETRY: Final = 300.0
"""Seconds between tries after a failure: doubled each time, from the first to the last."""

SHORTEST: Final = 10.0
"""Seconds between two refreshes at least, whatever the registrar grants."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks whom. `uri` is the registrar (`sip:example.net`), or what an OPTIONS is sent to.

    `aor` is the address of record, `contact` our Contact URI, `via` the sent-by of our Via, `expires` the
    seconds that are asked for, `timeout` the seconds to wait for an answer.
    """

    hop: Hop
    uri: str
    aor: str
    contact: str
    via: str
    call_id: str
    from_tag: str
    route: tuple[str, ...] = ()
    credentials: Credentials | None = None
    expires: int = 3600
    timeout: float = TIMEOUT


class _Client:
    """Requests outside dialogs, one after the other, each repeated with credentials where challenged."""

    method: str

    def __init__(self, account: Account, *, random: Random | None = None) -> None:
        self.account = account
        self.call_id = account.call_id
        self._random = random or SystemRandom()
        self._authenticator = Authenticator(account.credentials, self._random)
        self._cseq = 0
        self._transaction: NonInviteTransaction | None = None

    def receive(self, message: Request | Response, now: float, source: Hop | None = None) -> list[Effect]:
        """A response whose Call-ID is ours; requests are not answered here."""
        current = self._transaction
        if current is None or not isinstance(message, Response) or not current.matches(message):
            return []
        try:
            return current.receive(message, now)
        except ParseError:
            return []

    def unreachable(self, hop: Hop, now: float) -> list[Effect]:
        """The transport to this hop failed."""
        current = self._transaction
        return current.fail(now) if current and current.hop == hop else []

    def _ask(
        self, extra: Sequence[tuple[str, str]], then: Then, now: float, challenged: Challenged | None = None
    ) -> list[Effect]:
        challenged = challenged or Challenged(self._authenticator)
        uri, route = routed(self.account.uri, self.account.route)
        request = self._request(uri, [*route, *extra, *challenged.headers(self.method, uri)])

        def answered(answer: Response | int, now: float) -> list[Effect]:
            if isinstance(answer, Response) and challenged.meet(answer):
                return self._ask(extra, then, now, challenged)
            return then(answer, now)

        self._transaction = NonInviteTransaction(request, self.account.hop, answered, self.account.timeout)
        return self._transaction.begin(now)

    def _request(self, uri: str, extra: Sequence[tuple[str, str]]) -> Request:
        self._cseq += 1
        account = self.account
        branch = f"{BRANCH}{self._random.getrandbits(96):024x}"
        headers = [
            ("Via", f"SIP/2.0/{account.hop.transport.upper()} {account.via};branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", f"{bracketed(account.aor)};tag={account.from_tag}"),
            ("To", bracketed(account.aor if self.method == "REGISTER" else account.uri)),
            ("Call-ID", account.call_id),
            ("CSeq", f"{self._cseq} {self.method}"),
            ("Contact", bracketed(account.contact)),
            ("User-Agent", USER_AGENT),
            *extra,
        ]
        return Request(self.method, uri, headers)


class Registration(_Client):
    """A registration that is refreshed at half of what was granted, and tried again after each failure.

    `until`: registered until then, or None. `error`: why the last try failed, or "".
    """

    method = "REGISTER"

    def __init__(self, account: Account, *, random: Random | None = None) -> None:
        super().__init__(account, random=random)
        self.until: float | None = None
        self.error = ""
        self._expires = account.expires
        self._next: float | None = None
        self._pause = FIRST_RETRY
        self._stopping = False

    def start(self, now: float) -> list[Effect]:
        """Register."""
        self._stopping = False
        return self._register(self._expires, now)

    def stop(self, now: float) -> list[Effect]:
        """Unregister, where there is something to undo."""
        if self._stopping:
            return []
        self._stopping = True
        self._next = None
        pending = self._transaction is not None and self._transaction.waiting
        if self.until is None and not pending:
            return []
        return self._register(0, now)

    @property
    def registered(self) -> bool:
        """The registrar has us, as far as we know. It is judged at each `poll`."""
        return self.until is not None

    @property
    def finished(self) -> bool:
        """It was stopped, and the registrar has answered or will not."""
        return self._stopping and not (self._transaction is not None and self._transaction.waiting)

    def poll(self, now: float) -> list[Effect]:
        """Do what is due."""
        if self.until is not None and now >= self.until:
            self.until = None
        effects = self._transaction.poll(now) if self._transaction else []
        if self._next is not None and now >= self._next:
            self._next = None
            effects += self._register(self._expires, now)
        return effects

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        times = [self._next, self.until, self._transaction.wake_at() if self._transaction else None]
        return min((at for at in times if at is not None), default=None)

    def _register(self, expires: int, now: float) -> list[Effect]:
        return self._ask([("Expires", str(expires))], self._answered, now)

    def _answered(self, answer: Response | int, now: float) -> list[Effect]:
        if self._stopping:
            self.until = None
            return []
        if isinstance(answer, int):
            return self._failed(f"{answer} {_WORDS[answer]}", now)
        if answer.status == 423 and self._longer(answer):
            return self._register(self._expires, now)
        if answer.status >= 300:
            return self._failed(f"{answer.status} {answer.reason}", now)
        granted = self._granted(answer)
        if granted == 0:
            return self._failed("the registrar answered 2xx and granted no time", now)
        self.error, self._pause = "", FIRST_RETRY
        self.until = now + granted
        self._next = now + max(granted / 2, SHORTEST)
        return []

    def _failed(self, error: str, now: float) -> list[Effect]:
        """Try again, later each time, by up to a quarter more so that many do not come at once."""
        self.error = error
        self._next = now + self._pause * self._random.uniform(1.0, 1.25)
        self._pause = min(2 * self._pause, LAST_RETRY)
        return []

    def _longer(self, answer: Response) -> bool:
        """423 names the shortest interval that the registrar takes (§10.2.8). False: no longer than ours."""
        asked = _seconds(answer.get("Min-Expires"))
        if asked is None or asked <= self._expires:
            return False
        self._expires = asked
        return True

    def _granted(self, answer: Response) -> int:
        """What our Contact was granted, in seconds (§10.2.4): its own, the Expires header, or as asked."""
        general = _seconds(answer.get("Expires"))
        granted = self._expires if general is None else general
        ours = NameAddr.parse(bracketed(self.account.contact)).uri
        for contact in _contacts(answer):
            if (contact.uri.user, contact.uri.host, contact.uri.port) == (ours.user, ours.host, ours.port):
                own = _seconds(contact.params.get("expires"))
                return granted if own is None else own
        return granted


class OptionsPing(_Client):
    """One OPTIONS: does somebody answer there in time?

    `alive` is None until it is known. Whoever answers with a status below 500 is alive, except 408, which a
    proxy says for a server that is not; 5xx and 6xx are not. `status` is what came: 408 no answer, 503 the
    transport failed, where `answered` is false.
    """

    method = "OPTIONS"

    def __init__(self, account: Account, *, random: Random | None = None) -> None:
        super().__init__(account, random=random)
        self.alive: bool | None = None
        self.answered = False
        self.status = 0

    def start(self, now: float) -> list[Effect]:
        """Send it."""
        return self._ask([("Accept", "application/sdp")], self._heard, now)

    @property
    def finished(self) -> bool:
        """It is known whether somebody answers."""
        return self.alive is not None

    def poll(self, now: float) -> list[Effect]:
        """Do what is due."""
        return self._transaction.poll(now) if self._transaction else []

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        return self._transaction.wake_at() if self._transaction else None

    def _heard(self, answer: Response | int, now: float) -> list[Effect]:
        self.answered = isinstance(answer, Response)
        self.status = answer if isinstance(answer, int) else answer.status
        self.alive = self.answered and self.status < 500 and self.status != NO_ANSWER
        return []


_WORDS: Final = {NO_ANSWER: "no answer in time", NO_TRANSPORT: "the transport failed"}


def _seconds(value: str | None) -> int | None:
    value = (value or "").strip(" \t")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _contacts(answer: Response) -> list[NameAddr]:
    try:
        return [one for value in answer.all("Contact") for one in parse_name_addrs(value)]
    except ParseError:
        return []
