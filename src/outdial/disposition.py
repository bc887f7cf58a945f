"""How an attempt ended, and what that is called on the wire: two tables and three pure functions.

Q.850 cause, SIP status, answer and detector's verdict become one `Disposition` (semantics.md §7); a
`Disposition` becomes one `failCode` (wire/data-api.md §6.4, wire/campaign-api.md §7.1) and a `callStatus`.
"""

from __future__ import annotations

from typing import Final

from outdial.model import Disposition, Ended

_BY_CAUSE: Final = {
    1: Disposition.INVALID,  # unallocated number
    17: Disposition.BUSY,  # user busy
    18: Disposition.NO_ANSWER,  # no user responding
    19: Disposition.NO_ANSWER,  # no answer, user alerted
    20: Disposition.NO_ANSWER,  # subscriber absent
    21: Disposition.REJECTED,  # call rejected
    22: Disposition.INVALID,  # number changed
    27: Disposition.CONGESTION,  # destination out of order
    28: Disposition.INVALID,  # invalid number format
    34: Disposition.CONGESTION,  # no circuit available
    38: Disposition.CONGESTION,  # network out of order
    41: Disposition.CONGESTION,  # temporary failure
    42: Disposition.CONGESTION,  # switching equipment congestion
    44: Disposition.CONGESTION,  # requested circuit not available
    47: Disposition.CONGESTION,  # resource unavailable
}
"""ITU-T Q.850 causes with a meaning of their own; the SIP status decides for every other cause."""

_BY_STATUS: Final = {
    403: Disposition.REJECTED,
    404: Disposition.INVALID,
    408: Disposition.NO_ANSWER,
    410: Disposition.INVALID,
    480: Disposition.NO_ANSWER,
    484: Disposition.INVALID,
    486: Disposition.BUSY,
    487: Disposition.NO_ANSWER,  # cancelled while it rang, before our time was up
    500: Disposition.CONGESTION,
    502: Disposition.CONGESTION,
    503: Disposition.CONGESTION,
    504: Disposition.CONGESTION,
    600: Disposition.BUSY,
    603: Disposition.REJECTED,
    604: Disposition.INVALID,
    607: Disposition.REJECTED,  # RFC 8197: unwanted
    608: Disposition.REJECTED,  # RFC 8688: rejected on the way
}
"""SIP final responses (RFC 3261 §21; paired with the causes above as in RFC 3398 §7.2.4.1, §8.2.6.1)."""

_FAIL_CODES: Final = {
    Disposition.ANSWERED: "00000",
    Disposition.MACHINE: "00263",
    Disposition.BUSY: "00537",
    Disposition.INVALID: "00538",
    Disposition.FAILED: "00551",  # the longer list's sense: not put through
    Disposition.NO_ANSWER: "00603",
    Disposition.REJECTED: "00604",
    Disposition.CONGESTION: "00605",
    Disposition.RING_TIMEOUT: "01040",
    Disposition.NO_REPLY: "34606",
    Disposition.UNKNOWN: "34608",
    Disposition.BLACKLISTED: "90001",  # from here on codes of our own (semantics.md §7)
    Disposition.RECYCLED: "90002",
    Disposition.NOT_ATTEMPTED: "90003",
    Disposition.NOT_ALLOWED: "90004",
    Disposition.BAD_CALLER: "90005",
    Disposition.CAPPED: "90006",
}


def disposition(ended: Ended, *, gave_up: bool, rang: bool) -> Disposition:
    """Judge how an attempt ended.

    `gave_up`: we cancelled it at `max_alerting_time`. `rang`: the callee was alerted. A call that was
    answered while our cancel was on its way was given up all the same: nobody spoke. An end without a
    word from the carrier (no ringing, answer, cause or status) is NO_REPLY.
    """
    if ended.lost:
        return Disposition.UNKNOWN
    silent = ended.cause is None and ended.sip_status is None and not ended.answered
    if silent and not rang:
        return Disposition.NO_REPLY
    if gave_up:
        return Disposition.RING_TIMEOUT
    if ended.answered:
        return Disposition.MACHINE if ended.machine else Disposition.ANSWERED
    by_cause = _BY_CAUSE.get(ended.cause) if ended.cause is not None else None
    by_status = _BY_STATUS.get(ended.sip_status) if ended.sip_status is not None else None
    return by_cause or by_status or Disposition.FAILED


def fail_code(ending: Disposition) -> str:
    """The five characters of `failCode` (wire/data-api.md §6.4)."""
    return _FAIL_CODES[ending]


def call_status(ending: Disposition) -> int:
    """`callStatus` of the result push: 6 when a person answered, else 5 (wire/data-api.md §6.3)."""
    return 6 if ending is Disposition.ANSWERED else 5
