"""Transactions: one request with its answers, resent until the other side was heard (RFC 3261 §17).

A client transaction tells each answer to its user by calling `then`: with the response, or, when there was
none, with the status that stands for that (§8.1.3.1): 408 no answer in time, 503 the transport failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from outdial.sip.message import Request, Response
from outdial.sip.words import T1, T2, T4, Effect, Hop, Transmit

TIMEOUT: Final = 64 * T1
"""Timers B, F, H, J, L and M (§17, RFC 6026), in seconds."""

TIMER_D: Final = 32.0
NO_ANSWER: Final = 408
NO_TRANSPORT: Final = 503
GIVEN_UP: Final = 487
LOCAL: Final = {
    NO_ANSWER: "no answer in time",
    NO_TRANSPORT: "the transport failed",
    GIVEN_UP: "given up",
    481: "nothing left of this call",
}
"""The statuses that we find ourselves, in words."""

MAX_KEPT = 32
"""Answers kept of one call, so that a far end which asks without end fills no memory."""

Then = Callable[[Response | int, float], list[Effect]]


class Timers:
    """Deadlines by name."""

    __slots__ = ("_at", "earliest")

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self.earliest: float | None = None

    def set(self, name: str, at: float) -> None:
        """Let `name` be due at `at`, whatever it was before."""
        self._at[name] = at
        self.earliest = at if len(self._at) == 1 else min(self._at.values())

    def stop(self) -> None:
        """Forget all."""
        self._at.clear()
        self.earliest = None

    def pop(self, now: float) -> str | None:
        """Take out the earliest that is due."""
        if self.earliest is None or self.earliest > now:
            return None
        name = min(self._at, key=self._at.__getitem__)
        del self._at[name]
        self.earliest = min(self._at.values()) if self._at else None
        return name

    def wake_at(self) -> float | None:
        """When the next one is due: `earliest`."""
        return self.earliest


def earliest(times: Iterable[float | None]) -> float | None:
    """The first of these times; None is never."""
    found = None
    for at in times:
        if at is not None and (found is None or at < found):
            found = at
    return found


class State(StrEnum):
    """Where a client transaction stands (§17.1, RFC 6026 §7.2)."""

    CALLING = "calling"  # sent, nothing heard; for other methods than INVITE "trying"
    PROCEEDING = "proceeding"  # a provisional response came
    COMPLETED = "completed"  # a final response came; its repetitions are dealt with
    ACCEPTED = "accepted"  # an INVITE with a 2xx; more of them may come
    ABANDONED = "abandoned"  # nobody waits any more; what comes late is dealt with
    TERMINATED = "terminated"


def _nobody(answer: Response | int, now: float) -> list[Effect]:
    """Hears what comes when all is over."""
    return []


class ClientTransaction:
    """What INVITE and the other methods share."""

    __slots__ = ("_branch", "_cseq", "_interval", "_then", "_transmit", "hop", "request", "state", "timers")

    def __init__(self, request: Request, hop: Hop, then: Then) -> None:
        self.request = request
        self.hop = hop
        self.state = State.CALLING
        self.timers = Timers()
        self._then = then
        self._interval = T1
        self._transmit = Transmit(request.to_bytes(), hop)
        self._branch = request.branch
        self._cseq = request.cseq

    def matches(self, response: Response) -> bool:
        """§17.1.3: the branch of the topmost Via and the method, and for certainty the number."""
        return response.branch == self._branch and response.cseq == self._cseq

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        return self.timers.wake_at()

    @property
    def waiting(self) -> bool:
        """No final response came yet, and somebody waits for it."""
        return self.state in (State.CALLING, State.PROCEEDING)

    @property
    def over(self) -> bool:
        """Nothing that comes now belongs to it."""
        return self.state is State.TERMINATED

    def _resend_after(self, name: str, seconds: float, now: float) -> None:
        if self.hop.transport == "udp":
            self._interval = seconds
            self.timers.set(name, now + seconds)

    def _complete(self, timer: str, seconds: float, now: float) -> Then:
        """Stay for repetitions as long as the transport can bring some. Who is to be told."""
        then = self._then
        if self.hop.transport == "udp":
            self.timers.stop()
            self.state = State.COMPLETED
            self.timers.set(timer, now + seconds)
        else:
            self._terminate()
        return then

    def _terminate(self) -> None:
        """Nothing can come any more. Who would be told is let go: a cycle would wait for the collector."""
        self.timers.stop()
        self.state = State.TERMINATED
        self._then = _nobody


class InviteTransaction(ClientTransaction):
    """§17.1.1, with the state "accepted" of RFC 6026. `timer_b` seconds bound the wait for any answer.

    After timer B it stays for another 32 s: an answer that comes late is told, because the far end rings or
    is connected, and must be relieved of that.
    """

    __slots__ = ("_timer_b",)

    def __init__(self, request: Request, hop: Hop, then: Then, timer_b: float = TIMEOUT) -> None:
        super().__init__(request, hop, then)
        self._timer_b = timer_b

    def begin(self, now: float) -> list[Effect]:
        """Send the request."""
        self._resend_after("A", T1, now)
        self.timers.set("B", now + self._timer_b)
        return [self._transmit]

    def receive(self, response: Response, now: float) -> list[Effect]:
        """A response that `matches`."""
        if response.status < 200:
            return self._provisional(response, now)
        if response.status < 300:
            return self._success(response, now)
        return self._refusal(response, now)

    def _provisional(self, response: Response, now: float) -> list[Effect]:
        if self.state is State.ABANDONED:
            return self._then(response, now)
        if not self.waiting:
            return []
        self.timers.stop()
        self.state = State.PROCEEDING
        return self._then(response, now)

    def _success(self, response: Response, now: float) -> list[Effect]:
        if self.state in (State.CALLING, State.PROCEEDING, State.ABANDONED):
            self.state = State.ACCEPTED
            self.timers.stop()
            self.timers.set("M", now + TIMEOUT)
        return self._then(response, now)

    def _refusal(self, response: Response, now: float) -> list[Effect]:
        if self.state is State.ACCEPTED:
            return []
        ack = Transmit(ack_of(self.request, response).to_bytes(), self.hop)
        if self.state is State.COMPLETED:
            return [ack]
        then = self._complete("D", TIMER_D, now)
        return [ack, *then(response, now)]

    def poll(self, now: float) -> list[Effect]:
        """Resend, give up, or end, as the timers say."""
        effects: list[Effect] = []
        while name := self.timers.pop(now):
            if name == "A":
                self._resend_after("A", 2 * self._interval, now)
                effects.append(self._transmit)
            elif name == "B":
                self.abandon(now)
                effects += self._then(NO_ANSWER, now)
            else:
                self._terminate()
        return effects

    def abandon(self, now: float) -> None:
        """Wait no longer; nothing is resent, and what comes late is still told."""
        if self.state in (State.CALLING, State.PROCEEDING, State.ABANDONED):
            self.state = State.ABANDONED
            self.timers.stop()
            self.timers.set("late", now + TIMEOUT)

    def fail(self, now: float) -> list[Effect]:
        """The transport reported that the request did not arrive (§17.1.4)."""
        if self.state is not State.CALLING:
            return []
        self.abandon(now)
        return self._then(NO_TRANSPORT, now)


class NonInviteTransaction(ClientTransaction):
    """§17.1.2. Only its final response is told. `timer_f` seconds bound the wait for it."""

    __slots__ = ("_timer_f",)

    def __init__(self, request: Request, hop: Hop, then: Then, timer_f: float = TIMEOUT) -> None:
        super().__init__(request, hop, then)
        self._timer_f = timer_f

    def begin(self, now: float) -> list[Effect]:
        """Send the request."""
        self._resend_after("E", T1, now)
        self.timers.set("F", now + self._timer_f)
        return [self._transmit]

    def receive(self, response: Response, now: float) -> list[Effect]:
        """A response that `matches`."""
        if not self.waiting:
            return []
        if response.status < 200:
            self.state = State.PROCEEDING
            return []
        return self._complete("K", T4, now)(response, now)

    def poll(self, now: float) -> list[Effect]:
        """Resend, give up, or end, as the timers say."""
        effects: list[Effect] = []
        while name := self.timers.pop(now):
            if name == "E":
                grown = T2 if self.state is State.PROCEEDING else min(2 * self._interval, T2)
                self._resend_after("E", grown, now)
                effects.append(self._transmit)
                continue
            then = self._then
            self._terminate()
            if name == "F":
                effects += then(NO_ANSWER, now)
        return effects

    def abandon(self, now: float) -> None:
        """Nobody waits for the answer any more."""
        if self.waiting:
            self._terminate()

    def fail(self, now: float) -> list[Effect]:
        """The transport reported that the request did not arrive (§17.1.4).

        What ends a call is resent over UDP all the same: an unreachable port may come back within 32 s, and
        a call left open costs somebody money.
        """
        ends_a_call = self.request.method in ("BYE", "CANCEL") and self.hop.transport == "udp"
        if not self.waiting or ends_a_call:
            return []
        then = self._then
        self._terminate()
        return then(NO_TRANSPORT, now)


class ClientTransactions:
    """The client transactions of one call."""

    __slots__ = ("_open", "_relieving")

    def __init__(self) -> None:
        self._open: list[InviteTransaction | NonInviteTransaction] = []
        self._relieving: list[NonInviteTransaction] = []

    def begin(
        self, transaction: InviteTransaction | NonInviteTransaction, now: float, *, relieving: bool = False
    ) -> list[Effect]:
        """Send its request. `relieving`: it ends what nobody wants, and goes on when the call is over."""
        self._open.append(transaction)
        if relieving and isinstance(transaction, NonInviteTransaction):
            self._relieving.append(transaction)
        return transaction.begin(now)

    def keep(self, transaction: InviteTransaction, now: float) -> None:
        """One whose request a predecessor sent."""
        transaction.abandon(now)
        self._open.append(transaction)

    def match(self, response: Response) -> InviteTransaction | NonInviteTransaction | None:
        """The one that a response belongs to."""
        for one in self._open:
            if one.matches(response):
                return one
        return None

    def poll(self, now: float) -> list[Effect]:
        """Do what is due, and forget what is over."""
        effects: list[Effect] = []
        for one in tuple(self._open):
            due = one.timers.earliest
            if due is not None and due <= now:
                effects += one.poll(now)
        self._open = [one for one in self._open if one.state is not State.TERMINATED]
        return effects

    def fail(self, hop: Hop, now: float) -> list[Effect]:
        """The transport to this hop failed."""
        return [effect for one in list(self._open) if one.hop == hop for effect in one.fail(now)]

    def abandon(self, now: float) -> None:
        """The call is over."""
        for one in self._open:
            if one.waiting and one not in self._relieving:
                one.abandon(now)

    def relieved(self, tag: str | None, now: float) -> None:
        """The far end with this tag ended what was to be ended."""
        for one in self._relieving:
            if one.request.to_tag == tag:
                one.abandon(now)

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        return earliest([one.timers.earliest for one in self._open])

    @property
    def over(self) -> bool:
        """Nothing that comes now belongs to any of them."""
        return all(one.over for one in self._open)


class ServerTransactions:
    """The answers to the requests of one call's far end, given again when the request comes again.

    A final answer to INVITE is resent until its ACK: a 2xx over any transport (§13.3.1.4), others over UDP
    (§17.2.1).
    """

    __slots__ = ("_kept", "_unacked")

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, str], tuple[Transmit, float]] = {}
        self._unacked: dict[int, _Unacked] = {}

    def again(self, request: Request, now: float) -> list[Effect] | None:
        """The answer that this request had before, or None: it is new (§17.2.3)."""
        kept = self._kept.get((request.branch, request.method))
        return [kept[0]] if kept else None

    def answer(self, request: Request, response: Response, source: Hop, now: float) -> list[Effect]:
        """Send a final answer and keep it for 32 s (timer J)."""
        transmit = Transmit(response.to_bytes(), source)
        self._kept[request.branch, request.method] = (transmit, now + TIMEOUT)
        if request.method == "INVITE":
            self._unacked[request.cseq[0]] = _Unacked(transmit, response.status, source, now)
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        while len(self._unacked) > MAX_KEPT:
            del self._unacked[next(iter(self._unacked))]
        return [transmit]

    def acknowledged(self, cseq: int) -> int | None:
        """The ACK of the INVITE with this number came. The status it acknowledges, the first time."""
        unacked = self._unacked.pop(cseq, None)
        return unacked.status if unacked else None

    @property
    def negotiating(self) -> bool:
        """A 2xx of ours waits for its ACK."""
        return any(unacked.status < 300 for unacked in self._unacked.values())

    def knows_invite(self, request: Request) -> bool:
        """A CANCEL names an INVITE that was answered here (§9.2)."""
        return (request.branch, "INVITE") in self._kept

    def poll(self, now: float, unacknowledged: Callable[[float], list[Effect]]) -> list[Effect]:
        """Resend what waits for an ACK; forget what can come no more.

        `unacknowledged` is called when a 2xx got none for 32 s.
        """
        if not self._kept and not self._unacked:
            return []
        effects: list[Effect] = []
        for cseq, unacked in list(self._unacked.items()):
            if now >= unacked.until:
                self._unacked.pop(cseq, None)
                if unacked.status < 300:
                    effects += unacknowledged(now)
            elif now >= unacked.at:
                unacked.later(now)
                effects.append(unacked.transmit)
        for key in [key for key, (_, until) in self._kept.items() if now >= until]:
            del self._kept[key]
        return effects

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        if not self._kept and not self._unacked:
            return None
        ends = [until for _, until in self._kept.values()]
        return min([*ends, *(min(one.at, one.until) for one in self._unacked.values())], default=None)

    def quiet(self) -> None:
        """The call is over: resend nothing unasked."""
        self._unacked.clear()

    @property
    def empty(self) -> bool:
        """No answer is kept any more."""
        return not self._kept


class _Unacked:
    """A final answer to INVITE that waits for its ACK."""

    def __init__(self, transmit: Transmit, status: int, source: Hop, now: float) -> None:
        self.transmit = transmit
        self.status = status
        self.until = now + TIMEOUT
        self._interval = T1
        resends = status < 300 or source.transport == "udp"
        self.at = now + T1 if resends else self.until

    def later(self, now: float) -> None:
        self._interval = min(2 * self._interval, T2)
        self.at = now + self._interval


def ack_of(invite: Request, response: Response) -> Request:
    """The ACK of a refusal, which goes from hop to hop in the INVITE's own transaction (§17.1.1.3)."""
    return _sibling(invite, "ACK", (response.get("To") or "").replace("\0", " "))


def cancel_of(invite: Request, reason: str | None = None) -> Request:
    """The CANCEL of an INVITE (§9.1). `reason` is the value of a Reason header (RFC 3326)."""
    cancel = _sibling(invite, "CANCEL", invite.get("To") or "")
    if reason:
        cancel.headers.append(("Reason", reason))
    return cancel


def _sibling(invite: Request, method: str, to: str) -> Request:
    headers = [
        ("Via", invite.all("Via")[0]),
        *(("Route", route) for route in invite.all("Route")),
        ("Max-Forwards", "70"),
        ("From", invite.get("From") or ""),
        ("To", to),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq[0]} {method}"),
    ]
    return Request(method, invite.uri, headers)
