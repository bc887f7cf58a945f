"""The Switch protocol: how the engine asks for calls and hears of them.

A switch connects itself, again and again, and keeps what it was asked: `originate` either raises
`SwitchError` before anything could reach a carrier, or the order may have left and only an event or
`inquire` can tell. The two implementations are `simulated.py` and (from the SIP issue on) `sip.py`.

A switch that must not acknowledge an answer before it is stored says so: its `Answered` has a `dialog`, and
`confirm` tells it that the text is stored, or that the store did not take it within a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from outdial.model import Disposition, Ended, Inquiry, OpenCall, Originate, Room, SwitchEvent, TrunkState

OnEvent = Callable[[SwitchEvent], None]
OnDown = Callable[[], None]
Announce = Callable[[Mapping[str, str]], Awaitable[None]]
"""Stores what our requests say of where they come from, by the address that they go to.

Raises `StoreUnavailable`.
"""


class Switch(Protocol):
    """What places calls."""

    @property
    def connected(self) -> bool:
        """True while orders can be given."""
        ...

    @property
    def stalls(self) -> int:
        """How often it was stopped for so long that another engine may have taken over its calls.

        It repeats nothing by itself until `go_on` has this number.
        """
        ...

    def go_on(self, stalls: int) -> None:
        """This run was alive after so many stalls."""
        ...

    async def start(self, on_event: OnEvent, on_down: OnDown, announce: Announce) -> None:
        """Connect in the background; `on_event` hears every event, `on_down` every loss of the switch.

        A switch whose calls can be ended only by one that knows their sender has it announced before a call
        leaves: `OpenCall.sent_by` brings it back.
        """
        ...

    def room(self, vdn_id: int) -> Room:
        """How many calls of this VDN could be placed right now, and over which trunks it shares that."""
        ...

    def holds(self, vdn_id: int, device_sign: str) -> str | None:
        """Why no call of a campaign with this flow is placed at all now; None: nothing is in the way."""
        ...

    def refuses(self, vdn_id: int, called: str, caller: str) -> Disposition | None:
        """How a number ends that this switch will never call so (NOT_ALLOWED, BAD_CALLER); None: it may."""
        ...

    def trunks(self) -> Sequence[TrunkState]:
        """The trunks, and what keeps each from taking calls; none where there are no trunks."""
        ...

    def originate(self, order: Originate) -> None:
        """Place one call, without waiting. Raises `SwitchError` when it certainly did not leave."""
        ...

    def confirm(self, attempt_id: UUID) -> None:
        """The answer is stored: acknowledge the call; a no-op for an id that waits for nothing."""
        ...

    def hang_up(self, attempt_id: UUID) -> None:
        """Cancel or release the call, an unconfirmed one too; a no-op for an id that is not alive."""
        ...

    async def inquire(self, calls: Sequence[OpenCall]) -> list[Inquiry | Ended]:
        """What became of these calls: alive, ended (with its cause), never seen, or cannot tell.

        A switch that does not outlive its engine ends what a dead run left, with what `OpenCall` tells of
        it, and says how. Raises `SwitchError` when the switch cannot be asked.
        """
        ...

    async def close(self) -> None:
        """Stop; calls that are alive stay alive."""
        ...
