"""Every verb that a person or a program can ask for, each one transaction.

The wire, the console and the command line call these; they ask the store for facts, a rule for a
judgement, and hand the result to the store.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

import msgspec

from outdial import calendar, campaigns, intake, jsontext
from outdial.errors import Code, Refusal
from outdial.intake import Admitted, IntakePolicy
from outdial.model import (
    BlacklistEntry,
    CallData,
    CallResult,
    Campaign,
    CampaignState,
    Duplicates,
    Edition,
    RetryPolicy,
    SpecialDate,
    Vdn,
)
from outdial.store.campaigns import CampaignFilter, ContactFilter, Progress
from outdial.store.history import EndedCall, ResultFilter
from outdial.store.numbers import Add, Outcome
from outdial.store.postgres import utc_now
from outdial.store.store import Store

DELETING = 3.5
"""Seconds after which a delete of numbers is given up: it must be answered within 5, with its COMMIT."""

DELETED_AT_ONCE = 10_000
"""Numbers in one statement of a delete, far from the timeout of a statement."""

IDEMPOTENCY_KEPT = timedelta(hours=24)

Entries = Callable[[Any, IntakePolicy, tzinfo], list[CallData]]
"""The wire's reading of a decoded body."""


class AddRequest(msgspec.Struct, frozen=True):
    """An add as it came in: authenticated, path judged, body unread.

    `request_key` is of the access key and the signature; `valid_until` the end of the signature's window.
    """

    campaign_id: int
    body: bytes
    request_key: UUID
    valid_until: datetime
    idempotency_key: UUID | None = None


class Deleted(msgspec.Struct, frozen=True):
    """How many numbers were deleted, how many that were meant are being called, how many are incomplete."""

    gone: int
    being_called: int
    incomplete: int


class NotJsonBody(Exception):
    """The body is not JSON (HTTP 400)."""


class Service:
    """The verbs. One per process; `now` is the wall clock."""

    def __init__(self, store: Store, now: Callable[[], datetime] = utc_now) -> None:
        self.store = store
        self._now = now

    # -- numbers ---------------------------------------------------------------------------------------

    def policy(self, vdn: Vdn) -> IntakePolicy:
        """The edition's rules for adding numbers."""
        return intake.POLICIES[vdn.edition]

    async def add_numbers(self, vdn: Vdn, request: AddRequest, read: Entries) -> Admitted:
        """Admit all numbers of a request, or none (semantics.md §3).

        A request accepted before gives its answer again. Raises `Refusal`, `NotJsonBody`,
        `StoreUnavailable`, `CommitUnknown`.
        """
        body_key = key_of(request.body)
        if request.idempotency_key is not None:
            stored = await self._stored(vdn, request, body_key, read)
            if stored is not None:
                return stored
        try:
            entries = self._entries(vdn, request.body, read)
            return await self._admit(vdn, request, entries, body_key)
        except (Refusal, NotJsonBody):
            # Accepted meanwhile or before, by another process or an earlier run: then that is the answer.
            stored = await self._stored(vdn, request, body_key, read)
            if stored is not None:
                return stored
            raise

    def _entries(self, vdn: Vdn, body: bytes, read: Entries) -> list[CallData]:
        try:
            decoded = jsontext.decode(body)
        except jsontext.NotJson as error:
            raise NotJsonBody(str(error)) from error
        return read(decoded, self.policy(vdn), calendar.zone(vdn.time_zone))

    async def _admit(
        self, vdn: Vdn, request: AddRequest, entries: list[CallData], body_key: UUID
    ) -> Admitted:
        add = self._as_add(vdn, request, entries, body_key)
        outcome = await self.store.numbers.admit(add)
        if not outcome.kept and outcome.facts.duplicates != Duplicates.ALLOW:
            outcome, add = await self.store.numbers.admit_exclusive(add)
        refused = intake.verdict(outcome.facts, len(add.entries))
        if refused is not None:
            raise refused
        if not outcome.kept:
            raise Refusal(Code.TOO_SOON, "the same request is being judged: repeat it")
        return _admitted(outcome, add)

    def _as_add(self, vdn: Vdn, request: AddRequest, entries: list[CallData], body_key: UUID) -> Add:
        expires_at = request.valid_until
        if request.idempotency_key is not None:
            expires_at = max(expires_at, self._now() + IDEMPOTENCY_KEPT)
        return Add(
            vdn_id=vdn.vdn_id,
            time_zone=vdn.time_zone,
            policy=self.policy(vdn),
            campaign_id=request.campaign_id,
            entries=entries,
            request_key=request.request_key,
            body_key=body_key,
            expires_at=expires_at,
            idempotency_key=request.idempotency_key,
            no_object=_first_non_object(entries),
        )

    async def _stored(self, vdn: Vdn, request: AddRequest, body_key: UUID, read: Entries) -> Admitted | None:
        """The stored answer of this request. Raises `Refusal` 02000009 for its key with another body."""
        stored = await self.store.numbers.stored_answer(
            vdn.vdn_id, request.request_key, request.idempotency_key
        )
        if stored is None:
            return None
        if stored.body_key != body_key:
            raise Refusal(Code.COMBINATION, "Idempotency-Key: used before with another body; take a new key")
        admitted = stored.admitted
        if admitted.contact_ids is None:
            return admitted
        entries = self._entries(vdn, request.body, read)
        stored_entries = [
            (entry.called, contact_id)
            for entry, contact_id in zip(entries, admitted.contact_ids, strict=True)
            if contact_id is not None
        ]
        called = [number for number, _ in stored_entries]
        return Admitted(
            admitted.total_size, called, [contact_id for _, contact_id in stored_entries], replayed=True
        )

    async def delete_numbers(
        self, vdn_id: int, campaign_id: int, wanted: ContactFilter, *, archive: bool
    ) -> Deleted:
        """Delete the numbers that are meant, but for those being called or done: all of them, or none.

        Raises `Refusal` 0200007; 0200011 while the campaign executes, or where all that are meant are being
        called; 0200006 for more numbers than can be deleted in time.
        """
        until = time.monotonic() + DELETING
        async with self.store.campaigns.locked(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise _no_campaign()
            campaigns.check_delete_numbers(found, self._now())
            gone = 0
            for batch in _batches(await held.deletable(wanted)):
                if time.monotonic() > until:
                    raise _too_many_to_delete()
                gone += await held.delete_contacts(batch, archive=archive)
            called = await held.being_called(wanted)
            if called and not gone:
                raise Refusal(
                    Code.STATE_FORBIDS, "a number that is being called cannot be deleted: wait for its end"
                )
        return Deleted(gone, called, found.incomplete - gone)

    # -- campaigns -------------------------------------------------------------------------------------

    async def create_campaign(self, new: Campaign) -> int:
        """Store a campaign and return its id. Raises `Refusal` 0200002, 0200003, 0200004, 0200005."""
        async with self.store.campaigns.under_quota(new.vdn_id) as (vdn, held):
            if vdn is None:
                raise Refusal(Code.PARAMETER, "vdnId: no such VDN")
            campaigns.check_begin(new.begin_at, self._now(), calendar.zone(vdn.time_zone))
            if new.state in (CampaignState.STARTED, CampaignState.SUSPENDED):
                active = await held.active(campaigns.kind_of(new.device_type))
                campaigns.check_quota(new.device_type, active, vdn.max_active)
            campaign_id = await held.create(new)
            if campaign_id is None:
                raise _name_exists()
        return campaign_id

    async def campaign(self, vdn_id: int, campaign_id: int) -> Campaign:
        """One campaign. Raises `Refusal` 0200007."""
        found = await self.store.campaigns.one(vdn_id, campaign_id)
        if found is None:
            raise _no_campaign()
        return found

    async def campaign_page(
        self, vdn_id: int, wanted: CampaignFilter, *, limit: int, offset: int
    ) -> tuple[list[Campaign], int]:
        """A page of campaigns and the number of all that match."""
        return await self.store.campaigns.page(vdn_id, wanted, limit=limit, offset=offset)

    async def active_counts(self, vdn_id: int) -> tuple[int, int]:
        """Active skill-queue and IVR campaigns: how much of the quotas is used."""
        skill = await self.store.campaigns.active(vdn_id, campaigns.SKILL_TYPES)
        return skill, await self.store.campaigns.active(vdn_id, campaigns.IVR_TYPES)

    async def progress(self, vdn_id: int, campaign_id: int) -> Progress:
        """A campaign's contacts by state."""
        return await self.store.campaigns.progress(vdn_id, campaign_id)

    async def pause(self, vdn_id: int, campaign_id: int) -> None:
        """No new call leaves later than 1 s after this returns (G7). Raises `Refusal` 0200007, 0200011."""
        async with self.store.campaigns.locked(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise _no_campaign()
            await held.set_state(campaigns.apply("pause", found, self._now()), was=found.state)

    async def resume(self, vdn_id: int, campaign_id: int) -> None:
        """Start or go on. Raises `Refusal` 0200007, 0200011, 0200003, 0200004."""
        async with self.store.campaigns.under_quota(vdn_id) as (vdn, quota):
            found, held = await quota.lock(campaign_id)
            if found is None or vdn is None:
                raise _no_campaign()
            state = campaigns.apply("resume", found, self._now())
            if found.state is CampaignState.DRAFT:
                active = await quota.active(campaigns.kind_of(found.device_type))
                campaigns.check_quota(found.device_type, active, vdn.max_active)
            await held.set_state(state, was=found.state)

    async def delete_campaign(self, vdn_id: int, campaign_id: int, *, archive: bool) -> None:
        """Delete a campaign that is not started. Raises `Refusal` 0200007, 0200009."""
        async with self.store.campaigns.locked(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise _no_campaign()
            campaigns.check_delete(found, self._now())
            await held.hide(archived=archive)

    async def end_campaign(self, vdn_id: int, campaign_id: int) -> None:
        """End for good: incomplete numbers end too, by upkeep. Raises `Refusal` 0200007, 0200011."""
        async with self.store.campaigns.locked(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise _no_campaign()
            await held.set_state(campaigns.apply("end", found, self._now()), was=found.state)

    async def modify_campaign(self, vdn_id: int, campaign_id: int, changes: Mapping[str, Any]) -> None:
        """Change what a campaign says; `changes` by the names of `Campaign`. It holds at the next claim.

        Raises `Refusal` 0200007, 0200016, 02000007, 02000009, 0200002, 0200005.
        """
        async with self.store.campaigns.under_quota(vdn_id) as (vdn, quota):
            found, held = await quota.lock(campaign_id)
            if found is None or vdn is None:
                raise _no_campaign()
            changed = replace(found, **changes)
            campaigns.check_modify(found, changed, self._now(), calendar.zone(vdn.time_zone))
            if not await held.modify(found, changed):
                raise _name_exists()

    async def set_retry_policy(self, vdn_id: int, campaign_id: int, policy: RetryPolicy) -> None:
        """Set which numbers are tried again; it holds for attempts that end from now on.

        Raises `Refusal` 0200-01.
        """
        async with self.store.campaigns.locked(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise Refusal(Code.NO_CAMPAIGN, "campaignId: no such campaign in this VDN")
            await held.set_retry(policy)

    # -- results ---------------------------------------------------------------------------------------

    async def result_page(
        self, vdn_id: int, campaign_id: int, wanted: ResultFilter, *, limit: int, offset: int
    ) -> tuple[list[CallResult], int]:
        """A page of a campaign's results, oldest call first, and how many are meant.

        A campaign that was deleted and kept as history has its results still. Raises `Refusal` 0200007.
        """
        if not await self.store.history.keeps(vdn_id, campaign_id):
            raise _no_campaign()
        return await self.store.history.page(vdn_id, campaign_id, wanted, limit=limit, offset=offset)

    async def ended_call(self, vdn_id: int, attempt_id: UUID | None) -> EndedCall:
        """One call that has ended (None: an id that is none). Raises `Refusal` 0200007."""
        found = await self.store.history.call(vdn_id, attempt_id) if attempt_id is not None else None
        if found is None:
            raise Refusal(Code.NOT_FOUND, "callId: no such call that has ended in this VDN")
        return found

    # -- special dates ---------------------------------------------------------------------------------

    async def add_special_date(self, vdn_id: int, campaign_id: int, new: SpecialDate) -> int:
        """Make a special date of the VDN and give it to a campaign; its id.

        Raises `Refusal` 0200007, 0200015, 0200013.
        """
        async with self.store.special_dates.held(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise _no_campaign()
            campaigns.check_special_dates(found)
            made = await held.create(new)
            if made is None:
                raise _date_name_exists()
            await held.put([*found.special_dates, replace(new, special_date_id=made)])
        return made

    async def use_special_date(self, vdn_id: int, campaign_id: int, special_date_id: int) -> None:
        """Give a campaign a special date that the VDN has; harmless when it has it already.

        Raises `Refusal` 0200007, 0200015.
        """
        async with self.store.special_dates.held(vdn_id, campaign_id) as (found, held):
            known = await held.one(special_date_id)
            if found is None:
                raise _no_campaign()
            if known is None:
                raise Refusal(Code.NOT_FOUND, "id: no such special date in this VDN")
            if known not in found.special_dates:
                campaigns.check_special_dates(found)
                await held.put([*found.special_dates, known])

    async def modify_special_date(self, vdn_id: int, campaign_id: int, changed: SpecialDate) -> None:
        """Change a special date of a campaign, in every campaign that uses it.

        Raises `Refusal` 0200007, 0200013.
        """
        wanted = changed.special_date_id
        async with self.store.special_dates.held(vdn_id, campaign_id, changing=wanted) as (found, held):
            _date_of(found, wanted)
            if not await held.change(changed):
                raise _date_name_exists()

    async def delete_special_dates(
        self, vdn_id: int, campaign_id: int, special_date_id: int | None = None
    ) -> None:
        """Take one special date, or all, from a campaign; others keep theirs. Raises `Refusal` 0200007."""
        async with self.store.special_dates.held(vdn_id, campaign_id) as (found, held):
            if found is None:
                raise _no_campaign()
            gone = found.special_dates
            if special_date_id is not None:
                gone = (_date_of(found, special_date_id),)
            await held.put([one for one in found.special_dates if one not in gone])

    # -- blacklist -------------------------------------------------------------------------------------

    async def add_to_blacklist(
        self, vdn: Vdn, entries: Sequence[BlacklistEntry], *, overwrite: bool | None
    ) -> None:
        """Add entries, all or none. Raises `Refusal` 0200007 in edition 2023-09 for a number that is there.

        In edition 2025-11 `overwrite` says what becomes of such a number: overwritten, or left as it is.
        """
        if vdn.edition is Edition.Y2023:
            present = set(await self.store.blacklist.add(entries))
            place = next((n for n, entry in enumerate(entries) if entry.number in present), None)
            if place is not None:
                raise Refusal(
                    Code.NOT_FOUND, f"blocklist[{place}]: already in the blacklist; nothing was added"
                )
        else:
            await self.store.blacklist.add_missing(entries, overwrite=bool(overwrite))

    async def delete_from_blacklist(self, vdn_id: int, number: str) -> bool:
        """Remove one number; False when it was not there."""
        return await self.store.blacklist.delete(vdn_id, number)

    async def clear_blacklist(self, vdn_id: int) -> None:
        """Remove every number of the VDN."""
        await self.store.blacklist.delete_all(vdn_id)


def key_of(*parts: bytes) -> UUID:
    """128 bits of SHA-256 over the parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return UUID(bytes=digest.digest()[:16])


def _first_non_object(entries: Sequence[CallData]) -> int | None:
    for n, entry in enumerate(entries):
        if entry.call_data is not None and not jsontext.is_object(entry.call_data):
            return n
    return None


def _admitted(outcome: Outcome, add: Add) -> Admitted:
    return Admitted(
        total_size=outcome.facts.incomplete + len(add.entries),
        called=[entry.called for entry in add.entries],
        contact_ids=outcome.contact_ids,
    )


def _batches(contact_ids: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(contact_ids), DELETED_AT_ONCE):
        yield contact_ids[first : first + DELETED_AT_ONCE]


def _too_many_to_delete() -> Refusal:
    return Refusal(
        Code.DATABASE,
        "more numbers than can be deleted in time; nothing was deleted: delete them in parts, by customField,"
        " recycleTime or called",
    )


def _no_campaign() -> Refusal:
    return Refusal(Code.NOT_FOUND, "campaignId: no such campaign in this VDN")


def _name_exists() -> Refusal:
    return Refusal(Code.NAME_EXISTS, "name: another campaign of this VDN has it")


def _date_name_exists() -> Refusal:
    return Refusal(Code.DATE_NAME_EXISTS, "name: another special date of this VDN has it")


def _date_of(found: Campaign | None, special_date_id: int) -> SpecialDate:
    if found is None:
        raise _no_campaign()
    for one in found.special_dates:
        if one.special_date_id == special_date_id:
            return one
    raise Refusal(Code.NOT_FOUND, "id: no such special date in this campaign")
