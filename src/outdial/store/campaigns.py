"""Campaigns: create, read, change of state, delete, and what upkeep ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from outdial.audit import change
from outdial.model import (
    CallerNumber,
    CallWindow,
    Campaign,
    CampaignState,
    DeviceType,
    Disposition,
    Duplicates,
    OnUnknown,
    RetryPolicy,
    SpecialDate,
    TimerPacing,
    Vdn,
)
from outdial.store.postgres import Postgres, Transaction
from outdial.store.vdns import Vdns

_special_dates = msgspec.json.Decoder(tuple[SpecialDate, ...])
_retry = msgspec.json.Decoder(RetryPolicy)
_caller_numbers = msgspec.json.Decoder(tuple[CallerNumber, ...])


_TOLD: Final = (
    *("name", "device_type", "begin_at", "end_at", "caller_no", "caller_numbers", "max_alerting_time"),
    *("windows", "special_windows", "pacing", "duplicates", "on_unknown", "priority", "max_cps"),
    *("max_channels", "retry"),
)
"""What the audit log tells of a campaign; not its callback URL, which may hold a secret."""


@dataclass(frozen=True, slots=True)
class CampaignFilter:
    """What a list of campaigns is narrowed by; None means any."""

    name: str | None = None
    states: tuple[CampaignState, ...] | None = None
    device_types: tuple[DeviceType, ...] | None = None
    begins_after: datetime | None = None
    ends_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """Which numbers of a campaign are meant; None means any. All that is given must fit.

    The recycle time lies in `[recycle_from, recycle_until)`; where `has_recycle`, there must be one.
    """

    session_id: str | None = None
    called: str | None = None
    custom_field: str | None = None
    recycle_from: datetime | None = None
    recycle_until: datetime | None = None
    has_recycle: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """A campaign's contacts by state; those that retention removed are done."""

    ready: int
    dialing: int
    done: int
    waiting: int


class Campaigns:
    """Campaigns of all VDNs; every verb but the upkeep's names one VDN."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], vdns: Vdns) -> None:
        self._db = db
        self._now = now
        self._vdns = vdns

    @asynccontextmanager
    async def under_quota(self, vdn_id: int) -> AsyncIterator[tuple[Vdn | None, UnderQuota]]:
        """A transaction that holds the VDN's row: what a quota counts cannot change meanwhile."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow("lock_vdn", vdn_id)
            vdn = self._vdns.vdn(row) if row is not None else None
            yield vdn, UnderQuota(tx, vdn_id, self._now())

    async def one(self, vdn_id: int, campaign_id: int) -> Campaign | None:
        """The campaign, or None for one that is not of this VDN."""
        row = await self._db.fetchrow("campaign", vdn_id, campaign_id)
        return campaign(row) if row is not None else None

    async def page(
        self, vdn_id: int, wanted: CampaignFilter, *, limit: int, offset: int
    ) -> tuple[list[Campaign], int]:
        """A page of campaigns, newest first, and the number of all that match."""
        arguments = (
            wanted.name,
            list(wanted.states) if wanted.states is not None else None,
            [int(d) for d in wanted.device_types] if wanted.device_types is not None else None,
            wanted.begins_after,
            wanted.ends_before,
        )
        now = self._now()
        rows = await self._db.fetch("list_campaigns", vdn_id, *arguments, limit, offset, now)
        total = (
            rows[0]["total"] if rows else await self._db.fetchval("count_campaigns", vdn_id, *arguments, now)
        )
        return [campaign(row) for row in rows], total

    async def active(self, vdn_id: int, device_types: Sequence[DeviceType]) -> int:
        """Started and suspended campaigns of these types."""
        counted = await self._db.fetchval(
            "active_campaigns", vdn_id, [int(d) for d in device_types], self._now()
        )
        return int(counted)

    async def progress(self, vdn_id: int, campaign_id: int) -> Progress:
        """How far a campaign is."""
        row = await self._db.fetchrow("progress", vdn_id, campaign_id)
        return Progress(row["ready"], row["dialing"], row["done"], row["waiting"])

    @asynccontextmanager
    async def locked(self, vdn_id: int, campaign_id: int) -> AsyncIterator[tuple[Campaign | None, Locked]]:
        """A transaction that holds the campaign's row."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow("lock_campaign_row", vdn_id, campaign_id)
            held = campaign(row) if row is not None else None
            yield held, Locked(tx, vdn_id, campaign_id, self._now())

    async def move_callback(self, vdn_id: int, campaign_id: int, url: str) -> None:
        """Send the campaign's results to another URL, those that wait in the outbox too."""
        async with self._db.transaction() as tx:
            await tx.execute("move_callback", vdn_id, campaign_id, url)
            tx.tells(change(vdn_id, "move callback", f"campaign {campaign_id}"))

    # -- upkeep, across VDNs ---------------------------------------------------------------------------

    async def overdue(self) -> list[tuple[int, int]]:
        """Campaigns whose end time has passed and whose state does not say so yet."""
        rows = await self._db.fetch("overdue_campaigns", self._now())
        return [(row["vdn_id"], row["campaign_id"]) for row in rows]

    async def ended_with_idle(self) -> list[tuple[int, int]]:
        """Ended campaigns that still have contacts to end."""
        return [(row["vdn_id"], row["campaign_id"]) for row in await self._db.fetch("ended_with_idle")]

    async def recyclable(self) -> list[tuple[int, int, list[int]]]:
        """Ready and waiting contacts to retire at their recycle time, by VDN and campaign."""
        rows = await self._db.fetch("recyclable", self._now())
        return [(row["vdn_id"], row["campaign_id"], row["contact_ids"]) for row in rows]

    async def remove_deleted(self) -> int:
        """Remove a part of what deleted campaigns left: numbers, then results, then themselves; how many."""
        gone = 0
        for row in await self._db.fetch("deleted_campaigns"):
            async with self._db.transaction() as tx:
                status = await tx.execute("remove_contacts", row["vdn_id"], row["campaign_id"])
                count = int(status.split()[-1])
                if count == 0:
                    status = await tx.execute("remove_results_of", row["vdn_id"], row["campaign_id"])
                    count = int(status.split()[-1])
                if count == 0:
                    await tx.execute("remove_campaign", row["vdn_id"], row["campaign_id"])
            gone += count
        return gone

    async def close_numbers(self) -> int:
        """Mark the last results of numbers that ended while they waited for another try; how many numbers."""
        async with self._db.transaction() as tx:
            status = await tx.execute("close_contacts")
        return int(status.split()[-1])

    async def close_archived(self) -> int:
        """Take a part of the numbers that will never be called out of archived campaigns; how many."""
        closed = 0
        for row in await self._db.fetch("archived_with_idle"):
            key = (row["vdn_id"], row["campaign_id"])
            async with self._db.transaction() as tx:
                if await tx.fetchrow("lock_archived", *key) is not None:
                    held = Locked(tx, *key, self._now())
                    closed += await held.delete_contacts(await held.idle_contacts(), archive=True)
        return closed


class UnderQuota:
    """The verbs inside `Campaigns.under_quota`."""

    def __init__(self, tx: Transaction, vdn_id: int, now: datetime) -> None:
        self._tx = tx
        self._vdn_id = vdn_id
        self._now = now

    async def active(self, device_types: Sequence[DeviceType]) -> int:
        """Started and suspended campaigns of these types."""
        counted = await self._tx.fetchval(
            "active_campaigns", self._vdn_id, [int(d) for d in device_types], self._now
        )
        return int(counted)

    async def create(self, new: Campaign) -> int | None:
        """Store a campaign; its id, or None when the name is taken."""
        created = await self._tx.fetchval(
            "create_campaign", new.vdn_id, int(new.device_type), new.state, self._now, *_facts(new)
        )
        if created is not None:
            said = {name: getattr(new, name) for name in _TOLD}
            self._tx.tells(change(new.vdn_id, "create", f"campaign {created}", state=new.state, **said))
        if created is not None and new.state is CampaignState.STARTED:
            await self._tx.fetch("wake_engines")
        return int(created) if created is not None else None

    async def lock(self, campaign_id: int) -> tuple[Campaign | None, Locked]:
        """Take a campaign's row as well."""
        row = await self._tx.fetchrow("lock_campaign_row", self._vdn_id, campaign_id)
        held = campaign(row) if row is not None else None
        return held, Locked(self._tx, self._vdn_id, campaign_id, self._now)


class Locked:
    """The verbs on a campaign whose row is held."""

    def __init__(self, tx: Transaction, vdn_id: int, campaign_id: int, now: datetime) -> None:
        self._tx = tx
        self._key = (vdn_id, campaign_id)
        self._now = now

    async def set_state(self, state: CampaignState, *, was: CampaignState) -> bool:
        """Change the stored state; False when it was another one. Engines are woken."""
        changed = await self._tx.fetchrow("set_state", *self._key, state, was)
        if changed is not None and state is not was:
            self._tells("set state", state=[was, state])
        await self._tx.fetch("wake_engines")
        return changed is not None

    async def modify(self, found: Campaign, changed: Campaign) -> bool:
        """Change what a campaign says; False when another one has the name. The VDN's row must be held."""
        modified = await self._tx.fetchrow("modify_campaign", *self._key, *_facts(changed))
        if modified is not None:
            pairs = {name: (getattr(found, name), getattr(changed, name)) for name in _TOLD}
            self._tells("modify", **{name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
        await self._tx.fetch("wake_engines")
        return modified is not None

    async def set_retry(self, policy: RetryPolicy) -> None:
        """Set the retry policy; it holds for attempts that end from now on."""
        await self._tx.execute("set_retry", *self._key, _policy(policy))
        self._tells("set retry policy", policy=policy)

    async def hide(self, *, archived: bool) -> None:
        """Delete: from now on nobody sees it. Upkeep removes it, unless it is archived."""
        await self._tx.execute("hide_campaign", *self._key, self._now, archived)
        self._tells("delete", archived=archived)

    def _tells(self, action: str, **details: Any) -> None:
        self._tx.tells(change(self._key[0], action, f"campaign {self._key[1]}", **details))

    async def idle_contacts(self) -> list[int]:
        """Some of its contacts that are ready or waiting."""
        return [row["contact_id"] for row in await self._tx.fetch("idle_contacts", *self._key)]

    async def deletable(self, wanted: ContactFilter) -> list[int]:
        """The contacts that are meant and ready or waiting."""
        rows = await self._tx.fetch("deletable_contacts", *self._key, *_meant(wanted))
        return [row["contact_id"] for row in rows]

    async def being_called(self, wanted: ContactFilter) -> int:
        """How many of the contacts that are meant are being called."""
        return int(await self._tx.fetchval("being_called", *self._key, *_meant(wanted)))

    async def delete_contacts(self, contact_ids: Sequence[int], *, archive: bool) -> int:
        """Take ready and waiting contacts out, or with `archive` keep their rows, done; how many.

        Results of calls that were made stay.
        """
        name = "archive_contacts" if archive else "delete_contacts"
        return int(await self._tx.fetchval(name, *self._key, contact_ids) or 0)

    async def end_contacts(self, contact_ids: Sequence[int], disposition: Disposition) -> int:
        """End ready and waiting contacts without another call; returns how many ended."""
        ended = await self._tx.fetchval("end_contacts", *self._key, contact_ids, disposition, self._now)
        await self._tx.execute("wake_pushers")
        return int(ended or 0)


def _meant(wanted: ContactFilter) -> tuple[Any, ...]:
    return (
        wanted.session_id,
        wanted.called,
        wanted.custom_field,
        wanted.recycle_from,
        wanted.recycle_until,
        wanted.has_recycle,
    )


def campaign(row: Any) -> Campaign:
    """A row of `campaign` as a word."""
    return Campaign(
        vdn_id=row["vdn_id"],
        campaign_id=row["campaign_id"],
        name=row["name"],
        description=row["description"],
        device_type=DeviceType(row["device_type"]),
        state=CampaignState(row["state"]),
        begin_at=row["begin_at"],
        end_at=row["end_at"],
        caller_no=row["caller_no"],
        max_alerting_time=row["max_alerting_time"],
        windows=_windows(row["windows"]),
        pacing=TimerPacing(row["device_sign"], row["call_count"], row["call_interval"]),
        callback_url=row["callback_url"],
        duplicates=Duplicates(row["duplicates"]),
        on_unknown=OnUnknown(row["on_unknown"]),
        incomplete=row["incomplete"],
        last_launch_at=row["last_launch_at"],
        priority=row["priority"],
        max_cps=row["max_cps"],
        max_channels=row["max_channels"],
        launch_rest=row["launch_rest"],
        next_send_at=row["next_send_at"],
        special_windows=_windows(row["special_windows"]),
        special_dates=_special_dates.decode(row["special_dates"]),
        retry=_retry.decode(row["retry"]) if row["retry"] is not None else RetryPolicy(),
        caller_numbers=_caller_numbers.decode(row["caller_numbers"]),
        caller_turn=row["caller_turn"],
    )


def _facts(said: Campaign) -> tuple[Any, ...]:
    """What a campaign says, in the order of `create_campaign` and `modify_campaign`."""
    return (
        said.name,
        said.description,
        said.begin_at,
        said.end_at,
        said.caller_no,
        said.max_alerting_time,
        _window_minutes(said.windows),
        said.pacing.device_sign,
        said.pacing.call_count,
        said.pacing.call_interval,
        said.callback_url,
        said.duplicates,
        said.on_unknown,
        said.priority,
        said.max_cps,
        said.max_channels,
        _window_minutes(said.special_windows),
        _policy(said.retry),
        json_text(said.caller_numbers),
    )


def json_text(value: Any) -> str:
    """Words as JSON, as `campaign` reads them."""
    return msgspec.json.encode(value).decode()


def _policy(policy: RetryPolicy) -> str | None:
    return json_text(policy) if policy != RetryPolicy() else None


def _windows(minutes: Sequence[int | None]) -> tuple[CallWindow | None, ...]:
    return tuple(
        CallWindow(begin, end) if begin is not None and end is not None else None
        for begin, end in zip(minutes[::2], minutes[1::2], strict=True)
    )


def _window_minutes(windows: Sequence[CallWindow | None]) -> list[int | None]:
    return [m for window in windows for m in ((window.begin, window.end) if window else (None, None))]
