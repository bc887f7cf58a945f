"""A call that is handed over by a second leg: dialed like a number, and its audio joined with the first's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from outdial.errors import SwitchError
from outdial.model import Disposition, Ended, HungUpBy, Originate, SwitchEvent, Transferring
from outdial.switch.refer import PERMIT_WITHIN, Leg, Switchboard


class SecondLeg(Leg, Protocol):
    """The leg to the target."""

    def place(self) -> None:
        """Send its INVITE. Raises `SwitchError` when nothing has left."""
        ...


class Bridge:
    """One second leg. `begin` is called once; `done` hears once whether the target answered, at the end."""

    def __init__(
        self, order: Originate, refused: Disposition | None, switch: Switchboard, done: Callable[[bool], None]
    ) -> None:
        self._order = order
        self._refused = refused
        self._switch = switch
        self._done = done
        self._leg: SecondLeg
        self._gone = False
        self._task: asyncio.Task[None]

    def begin(self, leg: SecondLeg) -> None:
        """Ask for the permission, then place the leg; `hear` is told of it."""
        self._leg = leg
        self._task = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        asked = time.monotonic()
        attempt = await self._switch.intend(self._order, self._refused, self._leg)
        sent = False
        if attempt is not None:
            sent = time.monotonic() - asked < PERMIT_WITHIN and self._place()
            self._switch.tell(Transferring(attempt, sent))
        if not sent:
            self._leg.close()
            self._done(False)

    def _place(self) -> bool:
        try:
            if not self._gone:
                self._leg.place()
        except SwitchError:
            return False
        return not self._gone

    def hear(self, event: SwitchEvent) -> None:
        """What becomes of the leg."""
        self._switch.tell(event)
        if isinstance(event, Ended):
            self._done(event.answered)

    def lost(self, by: HungUpBy | None) -> None:
        """The first call is over."""
        self._gone = True
        self._leg.hang_up()

    def close(self) -> None:
        """Let go of what it holds here; the leg is the switch's."""
        self._gone = True
        self._task.cancel()
