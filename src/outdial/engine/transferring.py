"""A transfer is judged like a dialed number, and intended in the same transaction (guarantee G3)."""

from __future__ import annotations

from outdial import calendar
from outdial.campaigns import in_hours
from outdial.dialing import Candidate, Selection, select
from outdial.model import Attempt, Disposition, Originate, Recycle
from outdial.store.calls import Claim
from outdial.store.store import Store


async def intend_transfer(store: Store, order: Originate, refused: Disposition | None) -> Attempt | None:
    """The attempt of a transfer, which has committed; None when it may not be, and its row says why.

    `refused`: what the switch says of the destination. There is no row where the call that would be handed
    over has ended meanwhile. Raises `StoreUnavailable`, `CommitUnknown`.
    """
    async with store.transfers.intending(order) as intent:
        if intent is None:
            return None
        verdict = await _judge(intent.claim, order, refused) if intent.claim else Disposition.NOT_ATTEMPTED
        attempt = await intent.write(verdict)
    return attempt


async def _judge(claim: Claim, order: Originate, refused: Disposition | None) -> Disposition | None:
    """How the transfer is refused at this moment; None: it may be, and it counts."""
    if not in_hours(claim.paced.campaign, claim.paced.time_zone, claim.now):
        return Disposition.NOT_ATTEMPTED
    number = order.called.removeprefix("+")  # as numbers are added, blacklisted and counted
    caps = claim.paced.caps
    chosen = select(
        [Candidate(0, number, order.caller, None, listed=True)],
        await claim.listings([number]),
        now=claim.now,
        tz=calendar.zone(claim.paced.time_zone),
        recycle=Recycle.KEEP,
        refuses=lambda _: refused,
        caps=caps,
        calls=await claim.calls_to([number]) if caps else {},
        room=1,
        new_id=lambda: order.attempt_id,
    )
    await claim.count_calls(chosen.counted)
    if chosen.called:
        await claim.count_numbers(chosen.called)
    return _verdict(chosen)


def _verdict(chosen: Selection) -> Disposition | None:
    """A dialed number over a cap would wait; a transfer has nobody who could."""
    if chosen.postponed:
        return Disposition.CAPPED
    return next(iter(chosen.ended), None)
