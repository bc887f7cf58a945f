"""One outgoing call, from its INVITE to its end (RFC 3261 §9, §13, §15, §22; RFC 4028; RFC 6026).

What holds whatever the far end does: exactly one `Refused` or `Over`, at most one `Accepted`, and no 2xx
that stays without ACK and, where the call is not ours any more, without BYE.
"""

from __future__ import annotations

from functools import partial
from random import Random, SystemRandom
from typing import Final

from outdial.model import HungUpBy
from outdial.sip.authenticator import Authenticator, Challenged, credentials_of
from outdial.sip.dialog import (
    ALLOW,
    BRANCH,
    MAX_DIALOGS,
    RESTORED_STEP,
    Branches,
    Dialog,
    Early,
    invite,
    listed,
    reason_cause,
    retry_after,
    routed,
)
from outdial.sip.message import ParseError, Request, Response
from outdial.sip.referral import Referral
from outdial.sip.session import TIMER_EXPIRED, Due, SessionTimer
from outdial.sip.transaction import (
    GIVEN_UP,
    LOCAL,
    NO_ANSWER,
    TIMEOUT,
    ClientTransactions,
    InviteTransaction,
    NonInviteTransaction,
    State,
    Then,
    Timers,
    cancel_of,
    earliest,
)
from outdial.sip.uas import Serving
from outdial.sip.words import (
    T2,
    Accepted,
    CallSpec,
    DialogState,
    Effect,
    Hop,
    MediaMoved,
    Over,
    Phase,
    Progress,
    Refused,
    Transmit,
)

MAX_INVITES: Final = 4
"""INVITEs of one call: the first, two with credentials, one with a longer session interval."""

_RANDOM: Final = SystemRandom()


class Call:
    """One outgoing call. Messages and the time go in, effects come out.

    `random` makes branches, cnonces and the pause after a 491.
    """

    def __init__(self, spec: CallSpec, *, random: Random | None = None) -> None:
        self.spec = spec
        self.call_id = spec.call_id
        self._random = random or _RANDOM
        self._authenticator = Authenticator(spec.credentials, self._random)
        self._challenged = Challenged(self._authenticator)
        self._session = SessionTimer(spec.session_expires)
        self.referral = Referral(spec)
        self._serving = Serving(spec, self._session, self.referral)
        self._transactions = ClientTransactions()
        self._invites: dict[int, InviteTransaction] = {}
        self._timers = Timers()
        self._phase = Phase.NEW
        self._dialogs: dict[str, Dialog] = {}
        self._early = Early(spec, MAX_DIALOGS)
        self._main: Dialog | None = None
        self._cseq = 0
        self._cancelled = False  # a CANCEL is out
        self._cause: int | None = None
        self._rang = False
        self._refreshing = False
        self._updates = False  # the far end takes UPDATE
        self._branches = Branches(self._random)
        self._ghosts: set[int] | None = None  # INVITEs of a predecessor that may still be pending

    @classmethod
    def restored(cls, spec: CallSpec, dialog: DialogState, *, random: Random | None = None) -> Call:
        """A call that was answered before a restart: it can be hung up, and answers the far end.

        Its numbers go on far above those that the predecessor may have used. Nothing is to be started.
        """
        call = cls(spec, random=random)
        call._phase = Phase.ANSWERED
        call._cseq = dialog.local_cseq
        call._serving.offering = False
        restored = Dialog(spec, dialog)
        restored.acknowledge(dialog.local_cseq, call._branches.next(), ())
        restored.skip(dialog.local_cseq + RESTORED_STEP)
        call._main = call._dialogs[dialog.remote_tag] = restored
        return call

    @classmethod
    def abandoned(cls, spec: CallSpec, *, random: Random | None = None) -> Call:
        """A call that a predecessor may have left unanswered: `start` cancels every INVITE it may have sent.

        It ends `Refused` when the far end says so, or locally: with 481 when nothing was there, 408 when
        nobody said. A 2xx that comes instead is hung up: `Over`.
        """
        call = cls(spec, random=random)
        last = 1 + (2 if spec.credentials else 0) + (1 if spec.session_expires else 0)
        call._ghosts = set(range(1, last + 1))
        call._cseq = last
        return call

    # -- what is ordered ---------------------------------------------------------------------------------

    @property
    def dialog(self) -> DialogState | None:
        """The confirmed dialog, to be stored."""
        return self._main.state if self._main else None

    @property
    def finished(self) -> bool:
        """Nothing more can come, nothing more is sent."""
        return self._phase is Phase.OVER and self._transactions.over and self._serving.answers.empty

    def start(self, now: float) -> list[Effect]:
        """Send the INVITE; for an abandoned call the CANCELs."""
        if self._phase is not Phase.NEW:
            return []
        if self._ghosts is not None:
            return self._haunt(now)
        self._phase = Phase.CALLING
        return self._invite(now)

    def acknowledge(self, now: float) -> list[Effect]:
        """The dialog is stored: send the ACK. From now on each repetition of the 2xx gets it again."""
        dialog = self._main
        if dialog is None or self._phase is not Phase.ANSWERED or dialog.acks:
            return []
        return [self._ack(dialog, dialog.state.local_cseq)]

    def cancel(self, now: float) -> list[Effect]:
        """Give up: CANCEL as soon as a provisional response came, never before (RFC 3261 §9.1).

        An answered call is hung up.
        """
        if self._phase is Phase.NEW:
            return self._end_locally(GIVEN_UP, now)
        if self._phase is Phase.CALLING:
            self._phase = Phase.CANCELLING
            pending = self._invites[self._cseq].state is State.PROCEEDING
            return self._cancel(now) if pending else []
        return self.hang_up(now) if self._phase is Phase.ANSWERED else []

    def hang_up(self, now: float, cause: int | None = None) -> list[Effect]:
        """End the call: BYE with this Q.850 cause, or what `cancel` does where nobody answered yet."""
        if self._phase in (Phase.NEW, Phase.CALLING):
            self._cause = cause
            return self.cancel(now)
        if self._phase is not Phase.ANSWERED or self._main is None:
            return []
        self._cause = cause
        return [*self.acknowledge(now), *self._leave(self._main, now)]

    def refer(self, now: float, refer_to: str) -> list[Effect]:
        """Ask the far end to call this URI (RFC 3515), one at a time; `Referred` tells how that goes."""
        if self._phase is not Phase.ANSWERED or self._main is None or self.referral.waiting:
            return []
        self.referral.begin(refer_to, self._main.state.local_cseq)
        return self._ask(self._main, "REFER", self.referral.answered, now)

    def receive(self, message: Request | Response, now: float, source: Hop | None = None) -> list[Effect]:
        """Everything whose Call-ID is ours. `source`: where a request came from, and its answer goes."""
        try:
            if isinstance(message, Response):
                return self._response(message, now)
            dialog = self._dialog_of(message)
            return self._serving.receive(message, source or self.spec.hop, dialog, now, self._hung_up)
        except ParseError:
            return []

    def unreachable(self, hop: Hop, now: float) -> list[Effect]:
        """The transport to this hop failed. A call that rings goes on: its answer may come another way."""
        return self._transactions.fail(hop, now)

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        ends = (self._transactions.wake_at(), self._serving.answers.wake_at(), self._timers.earliest)
        return earliest((*ends, self._session.wake_at(), self.referral.wake_at()))

    def poll(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects = [*self._transactions.poll(now), *self._serving.answers.poll(now, self._lost)]
        effects += self.referral.poll(now)
        while self._timers.pop(now):
            effects += self._unheard(now)
        while due := self._session.pop(now):
            effects += self._refresh(now) if due is Due.REFRESH else self.hang_up(now, TIMER_EXPIRED)
        return effects

    # -- before an answer --------------------------------------------------------------------------------

    def _invite(self, now: float) -> list[Effect]:
        self._cseq += 1
        uri, _ = routed(self.spec.request_uri, self.spec.route)
        extra = [*self._session.offer(), *self._challenged.headers("INVITE", uri)]
        request = invite(self.spec, self._cseq, extra)
        transaction = InviteTransaction(request, self.spec.hop, self._inviting, self.spec.timer_b)
        self._invites[self._cseq] = transaction
        return self._transactions.begin(transaction, now)

    def _inviting(self, answer: Response | int, now: float) -> list[Effect]:
        if isinstance(answer, int):
            return self._end_locally(answer, now)
        if answer.status < 200:
            return self._provisional(answer, now)
        return self._success(answer, now) if answer.status < 300 else self._refusal(answer, now)

    def _provisional(self, response: Response, now: float) -> list[Effect]:
        self._rang = self._rang or 180 <= response.status < 190
        if self._phase is Phase.CALLING:
            self._early.meet(response)
            return [Progress(response.status, response.body)]
        return self._cancel(now) if self._phase in (Phase.CANCELLING, Phase.OVER) else []

    def _cancel(self, now: float) -> list[Effect]:
        """Once, for the pending INVITE. If it gets no final answer either, that is the end (§9.1)."""
        if self._cancelled:
            return []
        self._cancelled = True
        pending = self._invites[self._cseq]
        if self._phase is Phase.OVER:
            pending.abandon(now)  # as long again
        else:
            self._timers.set("cancelled", now + TIMEOUT)
        reason = f"Q.850;cause={self._cause}" if self._cause is not None else None
        cancel = cancel_of(pending.request, reason)
        return self._transactions.begin(NonInviteTransaction(cancel, self.spec.hop, _ignore), now)

    def _refusal(self, response: Response, now: float) -> list[Effect]:
        if self._phase not in (Phase.CALLING, Phase.CANCELLING):
            return []
        wanted = self._wants_another(response)
        if self._ghosts is not None and response.status in (401, 407, 422):
            return self._laid(response.cseq[0], response, now)
        if wanted and self._phase is Phase.CANCELLING:
            return self._end_locally(GIVEN_UP, now)
        if wanted:
            return self._invite(now)
        refused = Refused(
            response.status,
            response.reason,
            cause=reason_cause(response),
            retry_after=retry_after(response),
            rang=self._rang,
        )
        return self._end(refused, now)

    def _wants_another(self, response: Response) -> bool:
        """The refusal asks for another INVITE, which can be had."""
        if self._cseq >= MAX_INVITES:
            return False
        if response.status == 422:
            return self._session.raised(response)
        return self._challenged.meet(response)

    def _end_locally(self, status: int, now: float) -> list[Effect]:
        if self._phase not in (Phase.NEW, Phase.CALLING, Phase.CANCELLING):
            return []
        return self._end(Refused(status, LOCAL[status], rang=self._rang, local=True), now)

    def _unheard(self, now: float) -> list[Effect]:
        """A cancelled INVITE had no final answer."""
        nothing = self._ghosts is not None and not self._ghosts
        return self._end_locally(481 if nothing else NO_ANSWER, now)

    # -- what a predecessor left -------------------------------------------------------------------------

    def _haunt(self, now: float) -> list[Effect]:
        self._phase, self._cancelled = Phase.CANCELLING, True
        self._timers.set("cancelled", now + TIMEOUT)
        effects: list[Effect] = []
        for cseq in sorted(self._ghosts or ()):
            request = invite(self.spec, cseq)
            ghost = InviteTransaction(request, self.spec.hop, self._inviting)
            self._transactions.keep(ghost, now)
            self._invites[cseq] = ghost
            cancel = NonInviteTransaction(cancel_of(request), self.spec.hop, partial(self._laid, cseq))
            effects += self._transactions.begin(cancel, now)
        return effects

    def _laid(self, cseq: int, answer: Response | int, now: float) -> list[Effect]:
        """The CANCEL of one INVITE was answered. When none is left, a 2xx may be on its way for 8 s more."""
        if self._ghosts is None or self._phase is not Phase.CANCELLING or answer == NO_ANSWER:
            return []
        if isinstance(answer, int) or answer.status >= 300:
            self._ghosts.discard(cseq)
        if not self._ghosts:
            self._timers.set("cancelled", now + 2 * T2)
        return []

    # -- answered ----------------------------------------------------------------------------------------

    def _success(self, response: Response, now: float) -> list[Effect]:
        tag, cseq = response.to_tag or "", response.cseq[0]
        dialog = self._dialogs.get(tag)
        if dialog is not None:
            ack = dialog.acks.get(cseq)
            return [ack] if ack else []
        if len(self._dialogs) >= MAX_DIALOGS:
            return []
        dialog = self._dialogs[tag] = self._early.confirmed(tag, response)
        if self._phase is Phase.CALLING:
            return self._answered(dialog, response, now)
        ack = self._ack(dialog, cseq)
        if self._phase is Phase.CANCELLING:
            self._main = dialog
            return [ack, *self._leave(dialog, now)]
        return [ack, *self._ask(dialog, "BYE", _ignore, now)]

    def _answered(self, dialog: Dialog, response: Response, now: float) -> list[Effect]:
        self._phase, self._main = Phase.ANSWERED, dialog
        self._early.clear()
        self._serving.offering = False
        self._updates = "UPDATE" in listed(response, "Allow")
        self._session.agreed(response, now)
        return [Accepted(dialog.state, response.body)]

    def _ack(self, dialog: Dialog, cseq: int) -> Transmit:
        invited = self._invites.get(cseq) if self.spec.credentials else None
        credentials = credentials_of(invited.request) if invited else ()
        return dialog.acknowledge(cseq, self._branches.next(), credentials)

    # -- within the dialog -------------------------------------------------------------------------------

    def _dialog_of(self, request: Request) -> Dialog | None:
        tag = request.from_tag or ""
        dialog = self._dialogs.get(tag)
        if request.to_tag != self.spec.from_tag:
            return None
        ending = self._phase in (Phase.ENDING, Phase.OVER) or (dialog and dialog is not self._main)
        return None if ending and request.method != "BYE" else dialog or self._early.get(tag)

    def _refresh(self, now: float) -> list[Effect]:
        """Refresh the session: by UPDATE, which is cheaper, where the far end takes it (RFC 4028 §7.4)."""
        dialog = self._main
        if dialog is None or self._phase is not Phase.ANSWERED:
            return []
        if self._refreshing or self._serving.answers.negotiating or not dialog.acks:
            self._session.failed(now)
            return []
        self._refreshing = True
        method = "UPDATE" if self._updates else "INVITE"
        self._serving.offering = method == "INVITE"
        return self._ask(dialog, method, self._refreshed, now)

    def _refreshed(self, answer: Response | int, now: float) -> list[Effect]:
        self._refreshing = self._serving.offering = False
        if self._phase is not Phase.ANSWERED or self._main is None:
            return []
        status = answer if isinstance(answer, int) else answer.status
        if isinstance(answer, Response) and status < 300:
            self._main.retarget(answer)
            self._session.agreed(answer, now)
        elif status in (408, 481):
            return self.hang_up(now, TIMER_EXPIRED)
        elif status in (405, 501) and self._updates:
            self._updates = False
            return self._refresh(now)
        elif isinstance(answer, Response) and status == 422 and self._session.raised(answer):
            self._session.postpone(now + 1)
        elif status == 491:
            self._session.postpone(now + self._random.uniform(2.1, 4.0))
        else:
            self._session.failed(now)
        return []

    def _hung_up(self, request: Request, now: float) -> list[Effect]:
        """A BYE of the far end."""
        dialog = self._dialogs.get(request.from_tag or "")
        if dialog is None or dialog is not self._main:
            self._transactions.relieved(request.from_tag, now)
            return []
        if self._phase is Phase.ANSWERED:
            return self._end(Over(HungUpBy.CALLEE, reason_cause(request)), now)
        return self._end(Over(HungUpBy.CALLER, self._cause), now) if self._phase is Phase.ENDING else []

    def _lost(self, now: float) -> list[Effect]:
        """Our answer to a re-INVITE was never acknowledged (RFC 3261 §14.2)."""
        return self.hang_up(now, TIMER_EXPIRED)

    # -- ending ------------------------------------------------------------------------------------------

    def _leave(self, dialog: Dialog, now: float) -> list[Effect]:
        self._rest(Phase.ENDING)
        return self._ask(dialog, "BYE", self._left, now)

    def _left(self, answer: Response | int, now: float) -> list[Effect]:
        if self._phase is not Phase.ENDING:
            return []
        confirmed = isinstance(answer, Response) and (answer.status < 300 or answer.status == 481)
        return self._end(Over(HungUpBy.CALLER, self._cause, confirmed), now)

    def _end(self, effect: Refused | Over, now: float) -> list[Effect]:
        self._rest(Phase.OVER)
        self._transactions.abandon(now)
        return [effect]

    def _rest(self, phase: Phase) -> None:
        self._phase = phase
        self._timers.stop()
        self._session.stop()
        self.referral.stop()
        self._serving.answers.quiet()

    # -- sending and receiving ---------------------------------------------------------------------------

    def _response(self, response: Response, now: float) -> list[Effect]:
        transaction = self._transactions.match(response)
        if transaction is not None:
            return transaction.receive(response, now)
        cseq, method = response.cseq
        if method != "INVITE" or not 200 <= response.status < 300:
            return []
        branch = f"{BRANCH}{self.spec.branch}{cseq}" if self.spec.branch else response.branch
        return self._success(response, now) if cseq <= self._cseq and response.branch == branch else []

    def _ask(
        self, dialog: Dialog, method: str, then: Then, now: float, challenged: Challenged | None = None
    ) -> list[Effect]:
        """A request within a dialog, repeated with credentials where it is challenged."""
        extra = self._about(dialog, method)
        answered = then
        if self.spec.credentials is not None:
            challenged = challenged or Challenged(self._authenticator)
            extra += challenged.headers(method, dialog.uri)
            answered = self._repeating(dialog, method, then, challenged)
        body = self._serving.media.sent if method == "INVITE" else b""
        request, hop = dialog.request(method, self._branches.next(), extra, body)
        transaction: InviteTransaction | NonInviteTransaction
        if method == "INVITE":
            transaction = InviteTransaction(
                request, hop, partial(self._reinviting, dialog, request, answered)
            )
        else:
            transaction = NonInviteTransaction(request, hop, answered)
        return self._transactions.begin(transaction, now, relieving=dialog is not self._main)

    def _repeating(self, dialog: Dialog, method: str, then: Then, challenged: Challenged) -> Then:
        def answered(answer: Response | int, now: float) -> list[Effect]:
            if self._may_repeat(method) and isinstance(answer, Response) and challenged.meet(answer):
                return self._ask(dialog, method, then, now, challenged)
            return then(answer, now)

        return answered

    def _reinviting(
        self, dialog: Dialog, request: Request, answered: Then, answer: Response | int, now: float
    ) -> list[Effect]:
        if isinstance(answer, int) or answer.status >= 300:
            return answered(answer, now)
        cseq = request.cseq[0]
        if answer.status < 200 or cseq in dialog.acks:
            return [dialog.acks[cseq]] if answer.status >= 200 else []
        effects = answered(answer, now)
        ack = dialog.acknowledge(cseq, self._branches.next(), credentials_of(request))
        moved = answer.body and self._phase is Phase.ANSWERED
        return [ack, *effects, *([MediaMoved(answer.body)] if moved else [])]

    def _about(self, dialog: Dialog, method: str) -> list[tuple[str, str]]:
        """The headers that a request of this method has besides those of the dialog."""
        if method == "REFER":
            return self.referral.headers()
        if method != "BYE":
            return [("Allow", ALLOW), ("Supported", "timer"), *self._session.offer(refresh=True)]
        if dialog is not self._main or self._cause is None:
            return []
        return [("Reason", f"Q.850;cause={self._cause}")]

    def _may_repeat(self, method: str) -> bool:
        return method == "BYE" or self._phase is Phase.ANSWERED


def _ignore(answer: Response | int, now: float) -> list[Effect]:
    return []
