"""How the simulated carrier's calls end: the last two characters of the called number decide.

    01  rings, answers, the callee hangs up       06  congestion (503, cause 34)
    02  answers as a machine                      07  rings; answers when we cancel
    03  busy (486, cause 17)                      08  answers and drops
    04  rings until we cancel (487)               09  rings, then rejects (603, cause 21)
    05  invalid number (404, cause 1)             10  never says anything
    every other ending behaves like 01

A call that rings or keeps silent and that nobody hangs up is over after the ring limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from outdial.model import Ended, HungUpBy

End = Callable[[UUID], Ended]

SILENCE: Final = Ended
_RANG_OUT: Final = partial(Ended, cause=19, sip_status=480)
CANCELLED: Final = partial(Ended, sip_status=487, hung_up_by=HungUpBy.CALLER)
_RELEASED: Final = partial(Ended, cause=16, sip_status=200, answered=True)
_RELEASED_BY_CALLEE: Final = partial(_RELEASED, hung_up_by=HungUpBy.CALLEE)
RELEASED_BY_CALLER: Final = partial(_RELEASED, hung_up_by=HungUpBy.CALLER)


@dataclass(frozen=True, slots=True)
class Script:
    """How one kind of call goes.

    `waits`: until it is hung up or the ring limit passes. `refusal`: how it ends unanswered; None means
    that it is answered. `crosses`: the answer crosses our cancel. `release`: how it ends once answered.
    `drops`: it lasts the drop time, not the talk time.
    """

    rings: bool = True
    waits: bool = False
    refusal: End | None = None
    crosses: bool = False
    release: End = _RELEASED_BY_CALLEE
    drops: bool = False


_SCRIPTS: Final = {
    "01": Script(),
    "02": Script(release=partial(_RELEASED_BY_CALLEE, machine=True)),
    "03": Script(rings=False, refusal=partial(Ended, cause=17, sip_status=486)),
    "04": Script(waits=True, refusal=_RANG_OUT),
    "05": Script(rings=False, refusal=partial(Ended, cause=1, sip_status=404)),
    "06": Script(rings=False, refusal=partial(Ended, cause=34, sip_status=503)),
    "07": Script(waits=True, refusal=_RANG_OUT, crosses=True),
    "08": Script(release=partial(Ended, cause=41, sip_status=200, answered=True), drops=True),
    "09": Script(refusal=partial(Ended, cause=21, sip_status=603)),
    "10": Script(rings=False, waits=True, refusal=SILENCE),
}


def script_of(called: str) -> Script:
    """The script that the last two characters of `called` choose."""
    return _SCRIPTS.get(called[-2:], _SCRIPTS["01"])


@dataclass(frozen=True, slots=True)
class Times:
    """How long calls take, in seconds. `ring_limit` ends a call that nobody hangs up."""

    ring: float = 0.1
    talk: float = 0.3
    drop: float = 1.0
    ring_limit: float = 180.0
