"""What time alone brings about: waiting numbers are ready, campaigns end, numbers are retired, deleted
campaigns, old answers and what a VDN keeps no longer go, the planner's statistics follow.

Each step is small and may be repeated; several processes may do it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from outdial import campaigns
from outdial.errors import CommitUnknown, StoreUnavailable
from outdial.model import CampaignState, Disposition
from outdial.store.calls import PROMOTED
from outdial.store.postgres import utc_now
from outdial.store.retention import Place, Removed
from outdial.store.store import Store

log = structlog.get_logger()

EVERY: Final = 1.0
"""Seconds between rounds."""

_CHUNKS: Final = 10
"""Chunks of contacts (1,000 each) of one campaign in one round: claims and adds get their turn between."""


_LEAST: Final = 0.1
"""Seconds between two looks for numbers that are due: each wakes the engines."""

_REST: Final = timedelta(minutes=10)
"""Between two walks through a table in search of what is kept no longer."""


Remove = Callable[[int, Place, datetime], Awaitable[Removed]]


class Upkeep:
    """One process's share of the upkeep."""

    def __init__(self, store: Store, *, every: float = EVERY, now: Callable[[], datetime] = utc_now) -> None:
        """`every` in seconds; `now` is the wall clock."""
        self._store = store
        self._every = every
        self._now = now
        self._places: dict[tuple[int, str], Place] = {}  # where walks through the tables go on
        self._rests: dict[tuple[int, str], datetime] = {}  # until when there is none

    async def run(self, stop: asyncio.Event) -> None:
        """Do a round every second until `stop` is set; what a round could not do, the next does.

        Numbers become ready when they are due, and wait for no round.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._promote_on(stop))
            while not stop.is_set():
                await self.round()
                await _pause(stop, self._every)

    async def _promote_on(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            wait = self._every
            try:
                await self._promote()
                wait = await self._until_due()
            except (StoreUnavailable, CommitUnknown) as error:
                log.warning("upkeep failed", step="promote", reason=str(error))
            await _pause(stop, wait)

    async def _until_due(self) -> float:
        """Seconds until the next number is due, and not beyond a round: one may be added meanwhile."""
        due = await self._store.calls.next_due()
        if due is None:
            return self._every
        return min(self._every, max(_LEAST, (due - self._now()).total_seconds()))

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
            self._store.statistics.follow,
            self._remove_old,
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

    async def _remove_old(self) -> None:
        """Numbers, results and records go when a VDN's days are over (rules.md, Retention)."""
        retention = self._store.retention
        for vdn_id, keep in (await retention.keeping()).items():
            await self._remove_kept(vdn_id, "numbers", keep.numbers, retention.numbers)
            await self._remove_kept(vdn_id, "results", keep.results, retention.results)
            await self._remove_kept(vdn_id, "records", keep.records, retention.records)

    async def _remove_kept(self, vdn_id: int, kind: str, days: int | None, remove: Remove) -> None:
        walk, now = (vdn_id, kind), self._now()
        if days is None or self._rests.get(walk, now) > now:
            return
        for _ in range(_CHUNKS):
            removed = await remove(vdn_id, self._places.pop(walk, None), now - timedelta(days=days))
            if removed.next is None:
                self._rests[walk] = now + _REST
                return
            self._places[walk] = removed.next

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


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
