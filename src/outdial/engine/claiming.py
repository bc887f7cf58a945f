"""One claim: under the campaign's row lock, as many calls are intended as its rules and the switch allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from outdial import calendar, pacing
from outdial.campaigns import callers
from outdial.dialing import SEND_WITHIN, Candidate, Claim, Claimed, Key, Now, PacedCampaign, Selection, select
from outdial.model import Attempt, Campaign, Disposition
from outdial.store import calls
from outdial.store.store import Store
from outdial.switch import Switch

MAX_HELD: Final = 200
"""Held campaigns that an engine names in its standing."""

_CLAIM_ROUNDS: Final = 10
_CLAIM_TIME: Final = 0.3
_CLAIM_MORE: Final = 100
"""A claim whose candidates are blacklisted looks further: so often, so long (s), so many at a time."""


class Claiming:
    """The claims of one run.

    `held`: campaigns of which the switch places no call at all, and why. `pending`: attempts intended by
    claims that have not been reported yet; who hears of a claim takes them out.
    """

    def __init__(self, store: Store, switch: Switch, clock: Callable[[], Now]) -> None:
        self._store = store
        self._switch = switch
        self._clock = clock
        self.held: dict[Key, str] = {}
        self.pending: set[UUID] = set()

    def review(self, started: Iterable[PacedCampaign]) -> None:
        """Note which of the started campaigns the switch holds, for who asks why."""
        self.held = {}
        for campaign in (paced.campaign for paced in started):
            why = self._switch.holds(campaign.vdn_id, campaign.pacing.device_sign)
            if why is not None and len(self.held) < MAX_HELD:
                self.held[campaign.vdn_id, campaign.campaign_id] = why

    async def claim(self, wanted: Claim, epoch: int, ids: set[UUID]) -> Claimed:
        """The transaction of a claim; `ids` learns the attempts it intends. What it returns has committed.

        Raises `Fenced`, `StoreUnavailable`, `CommitUnknown`.
        """
        key, began = (wanted.vdn_id, wanted.campaign_id), self._clock().mono
        async with self._store.calls.claiming(*key, epoch) as claim:
            if claim is None or self._holds(claim.paced.campaign):
                event = Claimed(key, None, (), began)
            else:
                event = await self._take(claim, wanted, began, ids)
        return event

    def _holds(self, campaign: Campaign) -> bool:
        """Whether the switch places no call of this campaign at all."""
        return self._switch.holds(campaign.vdn_id, campaign.pacing.device_sign) is not None

    async def _take(self, claim: calls.Claim, wanted: Claim, began: float, ids: set[UUID]) -> Claimed:
        """Judge the allowance again, by the campaign under its lock, and intend as many calls.

        A claim that waited too long for the lock intends nothing: its calls could not leave in time.
        """
        locked, campaign = self._clock().mono, claim.paced.campaign
        room = min(wanted.limit, pacing.allowance(campaign, claim.paced.time_zone, claim.now))
        if locked > began + SEND_WITHIN or (wanted.rest and pacing.is_new_launch(campaign, claim.now)):
            room = 0
        free = await claim.free_channels() if room else 0
        full = bool(room) and not free
        sends: list[datetime] = []
        room = min(room, free)
        if campaign.max_cps is not None:
            sends = pacing.send_times(campaign, claim.now, room)
            room = len(sends)
        attempts, dry = await self._fill(claim, room, began, ids)
        if attempts:
            campaign = pacing.launched(campaign, claim.now, len(attempts), dry=dry, sends=sends)
            await claim.launch(campaign)
        key, paced = (wanted.vdn_id, wanted.campaign_id), replace(claim.paced, campaign=campaign)
        send_at = tuple(locked + (at - claim.now).total_seconds() for at in sends[: len(attempts)])
        return Claimed(key, paced, tuple(attempts), began, send_at, empty=dry and not attempts, full=full)

    async def _fill(
        self, claim: calls.Claim, room: int, began: float, ids: set[UUID]
    ) -> tuple[list[Attempt], bool]:
        """Intend up to `room` calls; whether no more contacts were due."""
        attempts: list[Attempt] = []
        limit, rounds = room, 0
        while room and rounds < _CLAIM_ROUNDS:
            candidates = await claim.candidates(limit)
            taken = await self._intend(claim, candidates, room, ids)
            attempts += taken
            room -= len(taken)
            if len(candidates) < limit:
                return attempts, bool(room)
            if self._clock().mono > began + _CLAIM_TIME:
                break
            limit, rounds = max(room, _CLAIM_MORE), rounds + 1
        return attempts, False

    async def _intend(
        self, claim: calls.Claim, candidates: Sequence[Candidate], room: int, ids: set[UUID]
    ) -> list[Attempt]:
        listed = [candidate.called for candidate in candidates if candidate.listed]
        caps, numbers = claim.paced.caps, {candidate.called for candidate in candidates}
        chosen = select(
            candidates,
            await claim.listings(listed) if listed else {},
            now=claim.now,
            tz=calendar.zone(claim.paced.time_zone),
            recycle=claim.paced.recycle,
            refuses=partial(self._refuses, claim.paced.campaign),
            caps=caps,
            calls=await claim.calls_to(numbers) if caps and numbers else {},
            room=room,
            new_id=uuid4,
        )
        await self._put_aside(claim, chosen)
        if not chosen.dial:
            return []
        wanted = {attempt_id for attempt_id, _ in chosen.dial}
        ids |= wanted
        self.pending |= wanted
        return await claim.intend(chosen.dial)

    def _refuses(self, campaign: Campaign, one: Candidate) -> Disposition | None:
        return self._switch.refuses(campaign.vdn_id, one.called, one.caller or callers(campaign)[0])

    async def _put_aside(self, claim: calls.Claim, chosen: Selection) -> None:
        for disposition, contact_ids in chosen.ended.items():
            await claim.end(contact_ids, disposition)
        for contact_id, due_at, held_by in chosen.postponed:
            await claim.postpone(contact_id, due_at, held_by)
        await claim.count_calls(chosen.counted)
        if chosen.called:
            await claim.count_numbers(chosen.called)
