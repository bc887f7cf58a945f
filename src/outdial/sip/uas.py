"""The server side of a call: what its far end asks within the dialog (RFC 3261 §8.2, §12.2.2, §14.2).

A new offer is answered at once: the far end may move its media and hold the call. Nothing else of it is
refused or granted by anybody but the rules here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from outdial.sip import sdp
from outdial.sip.dialog import ALLOW, Dialog, bracketed, listed
from outdial.sip.message import ParseError, Request, response_to
from outdial.sip.referral import PACKAGE, Referral
from outdial.sip.session import MIN_SE, SessionTimer
from outdial.sip.transaction import ServerTransactions
from outdial.sip.words import CallSpec, Effect, Hop, KeyPressed, MediaMoved

REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    481: "Call/Transaction Does Not Exist",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
}

_ORIGIN = re.compile(rb"^(o=\S+ [0-9]{1,20} )([0-9]{1,20}) ", re.MULTILINE)
_SIGNAL = re.compile(r"^[ \t]*+signal[ \t]*+=[ \t]*+(\S{1,2})[ \t\r]*+$", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^[ \t]*+duration[ \t]*+=[ \t]*+([0-9]{1,5})[ \t\r]*+$", re.IGNORECASE | re.MULTILINE)
_NUMBERED = {"10": "*", "11": "#"}


class LocalMedia:
    """Our side of the session, and the version of its description (RFC 3264 §5, §8)."""

    def __init__(self, offer: bytes) -> None:
        self.sent = offer
        self._offer = offer
        origin = _ORIGIN.search(offer)
        self._session_id = int(origin[1].split()[1]) if origin else 0
        self._version = int(origin[2]) if origin else 0

    def answer(self, offer: bytes) -> bytes:
        """Answer their offer; the version grows when something changes. Raises `ParseError`."""
        theirs, ours = sdp.read(offer), sdp.read(self._offer)
        for version in (self._version, self._version + 1):
            answer = sdp.answer(
                theirs,
                address=ours.address,
                port=ours.port,
                session_id=self._session_id,
                version=version,
            )
            if answer == self.sent:
                break
        self._version, self.sent = version, answer
        return answer

    def offer(self) -> bytes:
        """All that we can, for a far end that asks for an offer (RFC 3261 §14.2)."""
        for version in (self._version, self._version + 1):
            offer = _ORIGIN.sub(rb"\g<1>%d " % version, self._offer, count=1)
            if offer == self.sent:
                break
        self._version, self.sent = version, offer
        return offer


Ended = Callable[[Request, float], list[Effect]]


class Serving:
    """Answers the far end's requests. It knows nothing of its call, so that nothing of both outlives them."""

    __slots__ = ("_awaits_answer", "_described", "_referral", "_session", "_spec", "answers", "offering")

    def __init__(self, spec: CallSpec, session: SessionTimer, referral: Referral) -> None:
        self.answers = ServerTransactions()
        self.offering = True  # an offer of ours waits for its answer
        self._spec = spec
        self._session = session
        self._referral = referral
        self._described: LocalMedia | None = None
        self._awaits_answer: int | None = None  # the CSeq of an INVITE whose ACK brings the answer

    @property
    def media(self) -> LocalMedia:
        """Our side of the session; most calls never describe it again."""
        if self._described is None:
            self._described = LocalMedia(self._spec.offer)
        return self._described

    def receive(
        self, request: Request, source: Hop, dialog: Dialog | None, now: float, ended: Ended
    ) -> list[Effect]:
        """A request of this call; `dialog` is the one it belongs to, if any. `ended` is told of a BYE."""
        if request.method == "ACK":
            return self._acknowledged(request)
        again = self.answers.again(request, now)
        if again is not None:
            return again
        if request.method == "CANCEL":
            return self._answer(request, 200 if self.answers.knows_invite(request) else 481, source, now)
        if dialog is None:
            return self._answer(request, 481, source, now)
        return self._in_dialog(request, source, dialog, now, ended)

    def _in_dialog(
        self, request: Request, source: Hop, dialog: Dialog, now: float, ended: Ended
    ) -> list[Effect]:
        cseq = request.cseq[0]
        if dialog.remote_cseq is not None and cseq <= dialog.remote_cseq:
            return self._answer(request, 500, source, now)
        dialog.remote_cseq = cseq
        unknown = [tag for tag in listed(request, "Require") if tag.lower() != "timer"]
        if unknown:
            return self._answer(request, 420, source, now, ("Unsupported", ", ".join(unknown)))
        return self._serve(request, source, dialog, now, ended)

    def _serve(self, request: Request, source: Hop, dialog: Dialog, now: float, ended: Ended) -> list[Effect]:
        match request.method:
            case "BYE":
                return [*self._answer(request, 200, source, now), *ended(request, now)]
            case "OPTIONS":
                return self._options(request, source, now)
            case "INFO":
                return self._info(request, source, now)
            case "INVITE" | "UPDATE":
                return self._offered(request, source, dialog, now)
            case "NOTIFY":
                return self._notify(request, source, now)
        return self._answer(request, 405, source, now, ("Allow", ALLOW))

    def _answer(
        self,
        request: Request,
        status: int,
        source: Hop,
        now: float,
        *headers: tuple[str, str],
        body: bytes = b"",
    ) -> list[Effect]:
        response = response_to(
            request, status, REASONS[status], to_tag=self._spec.from_tag, headers=headers, body=body
        )
        return self.answers.answer(request, response, source, now)

    def _options(self, request: Request, source: Hop, now: float) -> list[Effect]:
        headers = [("Allow", ALLOW), ("Accept", "application/sdp"), ("Supported", "timer")]
        return self._answer(request, 200, source, now, *headers)

    def _info(self, request: Request, source: Hop, now: float) -> list[Effect]:
        kind = _media_type(request)
        if request.body and kind not in ("application/dtmf-relay", "application/dtmf"):
            accept = ("Accept", "application/dtmf-relay, application/dtmf")
            return self._answer(request, 415, source, now, accept)
        key = key_of(kind, request.body)
        return [*self._answer(request, 200, source, now), *([key] if key else [])]

    def _notify(self, request: Request, source: Hop, now: float) -> list[Effect]:
        status = self._referral.knows(request)
        headers = [("Allow-Events", PACKAGE)] if status == 489 else []
        effects = self._answer(request, status, source, now, *headers)
        return [*effects, *self._referral.notified(request, now)] if status == 200 else effects

    def _offered(self, request: Request, source: Hop, dialog: Dialog, now: float) -> list[Effect]:
        if self.offering:
            return self._answer(request, 491, source, now)
        if self.answers.negotiating:
            return self._answer(request, 500, source, now, ("Retry-After", "1"))
        if request.body and _media_type(request) != "application/sdp":
            return self._answer(request, 415, source, now, ("Accept", "application/sdp"))
        if self._session.too_short(request):
            return self._answer(request, 422, source, now, ("Min-SE", str(MIN_SE)))
        try:
            body = self._describe(request)
        except ParseError:
            return self._answer(request, 488, source, now)
        dialog.retarget(request)
        return self._agree(request, source, now, self._session.asked(request, now), body)

    def _describe(self, request: Request) -> bytes:
        if request.body:
            return self.media.answer(request.body)
        return self.media.offer() if request.method == "INVITE" else b""

    def _agree(
        self, request: Request, source: Hop, now: float, session: list[tuple[str, str]], body: bytes
    ) -> list[Effect]:
        if request.method == "INVITE" and not request.body:
            self._awaits_answer = request.cseq[0]
        headers = [
            ("Contact", bracketed(self._spec.contact)),
            ("Allow", ALLOW),
            ("Supported", "timer"),
            *session,
            *([("Content-Type", "application/sdp")] if body else []),
        ]
        effects = self._answer(request, 200, source, now, *headers, body=body)
        return [*effects, MediaMoved(request.body)] if request.body else effects

    def _acknowledged(self, request: Request) -> list[Effect]:
        cseq = request.cseq[0]
        status = self.answers.acknowledged(cseq)
        if status != 200 or cseq != self._awaits_answer or not request.body:
            return []
        self._awaits_answer = None
        return [MediaMoved(request.body)]


def key_of(kind: str, body: bytes) -> KeyPressed | None:
    """The key in the body of an INFO: `Signal=5` and `Duration=160` as "dtmf-relay", or the key alone."""
    text = body[:256].decode("ascii", "replace")
    milliseconds = 0
    if kind == "application/dtmf-relay":
        signal, duration = _SIGNAL.search(text), _DURATION.search(text)
        text = signal[1] if signal else ""
        milliseconds = int(duration[1]) if duration else 0
    key = text.strip().upper()
    key = _NUMBERED.get(key, key)
    if len(key) != 1 or key not in "0123456789*#ABCD":
        return None
    return KeyPressed(key, milliseconds)


def _media_type(request: Request) -> str:
    return (request.get("Content-Type") or "").partition(";")[0].strip().lower()
