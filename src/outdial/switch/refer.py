"""A call that is handed over by REFER: the transfer's own attempt, from its intent to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol

from outdial.model import (
    Answered,
    Attempt,
    CallRecord,
    Disposition,
    Ended,
    HungUpBy,
    Originate,
    Ringing,
    SwitchEvent,
    Transferring,
    Trunk,
)
from outdial.routing import allowed, dial_string
from outdial.sip.words import Referred

PERMIT_WITHIN: Final = 0.9
"""Seconds from just before a permission was asked in which what it permits may leave (guarantee G7)."""


class Leg(Protocol):
    """What a switch knows by an attempt's id."""

    @property
    def vdn_id(self) -> int: ...

    def confirm(self) -> None:
        """Its answer is stored."""
        ...

    def hang_up(self, cause: int | None = None) -> None:
        """Cancel or release it."""
        ...

    def close(self) -> None:
        """Let go of what it holds here."""
        ...


class Switchboard(Protocol):
    """What a transfer needs of its switch.

    `intend` has the attempt judged and written, and the leg known by its id; None: it may not be.
    """

    @property
    def intend(self) -> Callable[[Originate, Disposition | None, Leg], Awaitable[Attempt | None]]: ...
    @property
    def tell(self) -> Callable[[SwitchEvent], None]: ...
    @property
    def prefixes(self) -> Callable[[int], Collection[str]]: ...


class Refer:
    """One REFER. `send` sends it within the call, to a dial string, and says whether it left; `stop` waits
    no longer for what becomes of it; `done` hears once whether the target was reached.
    """

    def __init__(
        self,
        order: Originate,
        trunk: Trunk,
        switch: Switchboard,
        *,
        send: Callable[[str], bool],
        stop: Callable[[], None],
        done: Callable[[bool], None],
    ) -> None:
        self.vdn_id = order.vdn_id
        self._order = order
        self._trunk = trunk
        self._switch = switch
        self._send = send
        self._stop = stop
        self._done = done
        self._sent = self._over = False
        self._task = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        order, asked = self._order, time.monotonic()
        dialed = dial_string(order.called, self._trunk)
        may = allowed(dialed, self._switch.prefixes(order.vdn_id))
        attempt = await self._switch.intend(order, None if may else Disposition.NOT_ALLOWED, self)
        if attempt is not None:
            self._sent = time.monotonic() - asked < PERMIT_WITHIN and self._send(dialed)
            self._switch.tell(Transferring(attempt, self._sent))
        if not self._sent:
            self._over = True
            self._done(False)

    def hear(self, referred: Referred) -> None:
        """What the far end says of it."""
        status, order = referred.status, self._order
        if not referred.final:
            if status is not None and status >= 180:
                self._switch.tell(Ringing(order.attempt_id))
            return
        reached = status is not None and status < 300
        if reached:
            self._switch.tell(Answered(order.attempt_id))
        record = CallRecord(trunk=self._trunk.name)
        self._end(
            Ended(order.attempt_id, sip_status=status, answered=reached, record=record, lost=status is None)
        )

    def lost(self, by: HungUpBy | None) -> None:
        """The call is over, and nobody will say any more what became of it."""
        record = CallRecord(trunk=self._trunk.name)
        self._end(Ended(self._order.attempt_id, hung_up_by=by, record=record, lost=True))

    def _end(self, ended: Ended) -> None:
        if self._sent and not self._over:
            self._over = True
            self._switch.tell(ended)
            self._done(ended.answered)

    # -- what the engine asks --------------------------------------------------------------------------

    def confirm(self) -> None:
        """There is no answer of ours to acknowledge."""

    def hang_up(self, cause: int | None = None) -> None:
        """Wait no longer. What was asked cannot be taken back."""
        self._stop()

    def close(self) -> None:
        """Let go of what it holds here."""
        self._over = True
        self._task.cancel()
