"""What time alone brings about: waiting numbers are ready, campaigns end, numbers are retired, deleted
campaigns and old answers go.

Each step is small and may be repeated; several processes may do it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from outdial import campaigns
from outdial.errors import CommitUnknown, StoreUnavailable
from outdial.model import CampaignState, Disposition
from outdial.store.calls import PROMOTED
from outdial.store.postgres import utc_now
from outdial.store.store import Store

log = structlog.get_logger()

EVERY: Final = 1.0
"""Seconds between rounds."""

_CHUNKS: Final = 10
"""Chunks of contacts (1,000 each) of one campaign in one round: claims and adds get their turn between."""


class Upkeep:
    """One process's share of the upkeep."""

    def __init__(self, store: Store, *, every: float = EVERY, now: Callable[[], datetime] = utc_now) -> None:
        """`every` in seconds; `now` is the wall clock."""
        self._store = store
        self._every = every
        self._now = now

    async def run(self, stop: asyncio.Event) -> None:
        """Do a round every second until `stop` is set; what a round could not do, the next does."""
        while not stop.is_set():
            await self.round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await stop.wait()

    async def round(self) -> None:
        """Every step once. One that fails is logged and does not hold up the others."""
        for step in (
            self._promote,
            self._end_overdue,
            self._end_numbers,
            self._retire_numbers,
            self._close_archived,
            self._close_numbers,
            self._remove_deleted,
            self._store.numbers.forget_answers,
            self._store.calls.forget_counts,
        ):
            try:
                await step()
            except (StoreUnavailable, CommitUnknown) as error:
                log.warning("upkeep failed", step=step.__name__.strip("_"), reason=str(error))

    async def _promote(self) -> None:
        """Numbers whose retry is due, or whose restriction begins anew, are ready."""
        for _ in range(_CHUNKS):
            if await self._store.calls.promote() < PROMOTED:
                break

    async def _end_overdue(self) -> None:
        """A campaign whose end time has passed is ended (semantics.md §5)."""
        for key in await self._store.campaigns.overdue():
            async with self._store.campaigns.locked(*key) as (campaign, held):
                if campaign is None or campaign.state is CampaignState.ENDED:
                    continue
                if campaigns.state_at(campaign, self._now()) is CampaignState.ENDED:
                    await held.set_state(CampaignState.ENDED, was=campaign.state)
                    log.info("campaign over", vdn=key[0], campaign=key[1])

    async def _end_numbers(self) -> None:
        """Every number of an ended campaign ends, NOT_ATTEMPTED if it had no attempt (semantics.md §5)."""
        for key in await self._store.campaigns.ended_with_idle():
            for _ in range(_CHUNKS):
                async with self._store.campaigns.locked(*key) as (_campaign, held):
                    contact_ids = await held.idle_contacts()
                    if not contact_ids:
                        break
                    await held.end_contacts(contact_ids, Disposition.NOT_ATTEMPTED)

    async def _retire_numbers(self) -> None:
        """Where a VDN retires numbers, they end at their recycle time (semantics.md §4)."""
        for vdn_id, campaign_id, contact_ids in await self._store.campaigns.recyclable():
            async with self._store.campaigns.locked(vdn_id, campaign_id) as (_, held):
                await held.end_contacts(contact_ids, Disposition.RECYCLED)

    async def _close_archived(self) -> None:
        """Numbers of a campaign that was kept as history are never called: what they have is final."""
        for _ in range(_CHUNKS):
            if await self._store.campaigns.close_archived() == 0:
                break

    async def _close_numbers(self) -> None:
        """A number that ended while it waited for another try: its last result is the final one."""
        for _ in range(_CHUNKS):
            if await self._store.campaigns.close_numbers() == 0:
                break

    async def _remove_deleted(self) -> None:
        await self._store.campaigns.remove_deleted()
