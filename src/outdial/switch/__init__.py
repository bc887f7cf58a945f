"""The Switch protocol: how the engine asks for calls and hears of them.

A switch connects itself, again and again, and keeps what it was asked: `originate` either raises
`SwitchError` before anything could reach a carrier, or the order may have left and only an event or
`inquire` can tell. The two implementations are `simulated.py` and (from the SIP issue on) `sip.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from outdial.model import Ended, Inquiry, Originate, SwitchEvent

OnEvent = Callable[[SwitchEvent], None]
OnDown = Callable[[], None]


class Switch(Protocol):
    """What places calls."""

    @property
    def connected(self) -> bool:
        """True while orders can be given."""
        ...

    async def start(self, on_event: OnEvent, on_down: OnDown) -> None:
        """Connect in the background; `on_event` hears every event, `on_down` every loss of the switch."""
        ...

    def originate(self, order: Originate) -> None:
        """Place one call, without waiting. Raises `SwitchError` when it certainly did not leave."""
        ...

    def hang_up(self, attempt_id: UUID) -> None:
        """Cancel or release the call; a no-op for an id that is not alive."""
        ...

    async def inquire(self, attempt_ids: Sequence[UUID]) -> list[Inquiry | Ended]:
        """What became of these ids: alive, ended (with its cause), never seen, or cannot tell.

        Raises `SwitchError` when the switch cannot be asked.
        """
        ...

    async def close(self) -> None:
        """Stop; calls that are alive stay alive."""
        ...
