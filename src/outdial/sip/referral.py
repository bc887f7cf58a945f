"""Handing a call over: our REFER, and what the far end tells of it by NOTIFY (RFC 3515; RFC 6665 §4.1)."""

from __future__ import annotations

import re
from typing import Final

from outdial.sip.dialog import bracketed
from outdial.sip.message import Request, Response
from outdial.sip.transaction import TIMEOUT
from outdial.sip.words import CallSpec, Effect, Referred

PACKAGE: Final = "refer"
"""The event package of RFC 3515, the only one that is understood."""

_EVENT = re.compile(r"[ \t]*+([^; \t]++)[ \t]*+(?:;(.*))?", re.DOTALL)
_ID = re.compile(r"(?:^|;)[ \t]*+id[ \t]*+=[ \t]*+([0-9]{1,10})(?![0-9])", re.IGNORECASE)
_STATE = re.compile(r"[ \t]*+([a-z]++)[ \t]*+(?:;(.*))?", re.IGNORECASE | re.DOTALL)
_EXPIRES = re.compile(r"(?:^|;)[ \t]*+expires[ \t]*+=[ \t]*+([0-9]{1,9})(?![0-9])", re.IGNORECASE)
_STATUS = re.compile(rb"\s*+SIP/2\.0[ \t]++([1-6][0-9]{2})(?![0-9])")


class Referral:
    """The REFER of a call that is under way, one at a time. Each ends with one final `Referred`.

    The first NOTIFY is waited for like the answer to a request (RFC 6665 §4.1.2.4, timer N); from then on
    the far end says how long its subscription lasts. The one who asked bounds the whole.
    """

    __slots__ = ("_after", "_given_up", "_notified", "_refer_to", "_spec", "_until", "_waiting")

    def __init__(self, spec: CallSpec) -> None:
        self._spec = spec
        self._refer_to = ""
        self._after: int | None = None  # the CSeq before the REFER; None: there never was one
        self._waiting = False
        self._notified = False
        self._given_up = False  # an earlier one, whose NOTIFY may still come
        self._until: float | None = None

    @property
    def waiting(self) -> bool:
        """Whether a REFER is under way."""
        return self._waiting

    def begin(self, refer_to: str, cseq: int) -> None:
        """A REFER to this URI is about to be sent; `cseq` is the last number that was used before."""
        self._refer_to, self._after = refer_to, cseq
        self._waiting, self._notified = True, False

    def headers(self) -> list[tuple[str, str]]:
        """What a REFER has besides the dialog's headers; Referred-By is RFC 3892."""
        return [
            ("Refer-To", bracketed(self._refer_to)),
            ("Referred-By", bracketed(self._spec.from_uri)),
            ("Contact", bracketed(self._spec.contact)),
        ]

    def answered(self, answer: Response | int, now: float) -> list[Effect]:
        """The answer to the REFER: a 2xx only says that it was understood."""
        if not self._waiting:
            return []
        if isinstance(answer, int):
            return self._end(None)
        if answer.status >= 300:
            return self._end(answer.status)
        if not self._notified:
            self._until = now + TIMEOUT
        return []

    def knows(self, request: Request) -> int:
        """Whether a NOTIFY is for a REFER of ours: the status that answers it (RFC 6665 §4.1.3)."""
        match = _EVENT.match(request.get("Event") or "")
        if match is None or match[1].lower() != PACKAGE:
            return 489
        return 481 if self._after is None else 200

    def notified(self, request: Request, now: float) -> list[Effect]:
        """A NOTIFY that `knows` let through."""
        if not self._waiting or not self._mine(request):
            return []
        self._notified = True
        body = _STATUS.match(request.body)
        status = int(body[1]) if body else None
        state = _STATE.match(request.get("Subscription-State") or "")
        if status is not None and status >= 200:
            return self._end(status)
        if state is not None and state[1].lower() == "terminated":
            return self._end(None)
        expires = _EXPIRES.search(state[2] or "") if state is not None else None
        self._until = now + int(expires[1]) if expires else None
        return [Referred(status)] if status is not None else []

    def _mine(self, request: Request) -> bool:
        """By its id, the CSeq of the REFER; without one it is the first REFER's, where that may matter."""
        match = _EVENT.match(request.get("Event") or "")
        found = _ID.search(match[2] or "") if match is not None else None
        if found is None:
            return not self._given_up
        return self._after is not None and int(found[1]) > self._after

    def give_up(self) -> list[Effect]:
        """Wait no longer. What was asked cannot be taken back."""
        if not self._waiting:
            return []
        self._given_up = True
        return self._end(None)

    def stop(self) -> None:
        """The call is over, and with it the wait."""
        self._waiting, self._until = False, None

    def wake_at(self) -> float | None:
        """When `poll` has something to do."""
        return self._until

    def poll(self, now: float) -> list[Effect]:
        """Do what is due."""
        return self.give_up() if self._until is not None and self._until <= now else []

    def _end(self, status: int | None) -> list[Effect]:
        self.stop()
        return [Referred(status, final=True)]
