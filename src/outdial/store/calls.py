"""Attempts: claim, withdraw, settle; the leases of engines and what a recovery needs.

Lock order of every transaction: the engine's row, campaign rows in id order, contacts, blacklist entries
in number order, called numbers in number order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import msgspec

from outdial import calendar
from outdial.campaigns import callers
from outdial.dialing import Candidate, Listing, PacedCampaign, Remember
from outdial.dialing.caps import counts_since, given_back
from outdial.model import (
    Attempt,
    CallRecord,
    Campaign,
    Disposition,
    EngineStanding,
    HeldBy,
    Recycle,
    Settlement,
)
from outdial.reasons import Facts, Held
from outdial.retry import Try
from outdial.store.campaigns import Locked, campaign
from outdial.store.hiding import Hiding
from outdial.store.postgres import Connection, Postgres, Transaction
from outdial.store.vdns import caps_of

STOPPED = timedelta(seconds=5)
"""After which a session that does not finish its request is ended; as long as one idle in a transaction."""


_COUNTED: Final = timedelta(days=2)
"""After which a call counts for no cap: longer than any local day."""

_ENDLESS: Final = 10**9
"""Calls of a campaign without `max_channels`."""

_NO_RECORD: Final = CallRecord()
_STEP_END: Final = "\x1f"
"""Between the steps of a call on their way to the store: arrays of arrays must be of one length there."""

PROMOTED: Final = 5000
"""Contacts in one promotion."""

_PROMOTION: Final = 0x77616974  # "wait": the advisory lock of whoever promotes

NextTry = Callable[[Campaign, Sequence[Try], datetime, tzinfo], datetime | None]
"""The rule that says when a number is tried again: campaign, its attempts, the end of the last, its zone."""


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt in flight, as a recovery finds it."""

    attempt: Attempt
    epoch: int


class Fenced(Exception):
    """This engine run was declared dead: it may claim nothing more."""


class Calls:
    """What engines do to the store."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], hiding: Hiding) -> None:
        self._db = db
        self._now = now
        self._hiding = hiding

    async def started(self) -> list[PacedCampaign]:
        """Across VDNs: started campaigns with something incomplete."""
        rows = await self._db.fetch("started_campaigns", self._now())
        return [PacedCampaign(campaign(row), row["time_zone"]) for row in rows]

    @asynccontextmanager
    async def claiming(self, vdn_id: int, campaign_id: int, epoch: int) -> AsyncIterator[Claim | None]:
        """A transaction that holds the campaign's row and keeps a fence from falling meanwhile.

        Yields None when the campaign is not to be dialed now. Raises `Fenced`.
        """
        async with self._db.transaction() as tx:
            if await tx.fetchrow("hold_engine", epoch) is None:
                raise Fenced(f"engine run {epoch} has been fenced")
            yield await self.lock(tx, vdn_id, campaign_id, epoch)

    async def lock(self, tx: Transaction, vdn_id: int, campaign_id: int, epoch: int) -> Claim | None:
        """A claim in this transaction, under the campaign's row lock; None: it is not to be dialed now."""
        row = await tx.fetchrow("lock_for_claim", vdn_id, campaign_id, self._now())
        if row is None:
            return None
        # The clock is read under the lock: the last launch may have been made while we waited.
        paced = PacedCampaign(campaign(row), row["time_zone"], Recycle(row["recycle"]), caps_of(row))
        return Claim(tx, paced, epoch, self._now(), self._hiding)

    async def permitted(self, vdn_id: int, attempt_id: UUID) -> PacedCampaign | None:
        """The campaign of an open attempt whose run is not fenced, while it is started; else None."""
        row = await self._db.fetchrow("permitted", vdn_id, attempt_id)
        return PacedCampaign(campaign(row), row["time_zone"]) if row is not None else None

    async def active(self) -> tuple[frozenset[int], int]:
        """Across VDNs: those with a started campaign, and how many engine runs live (one at least)."""
        row = await self._db.fetchrow("active")
        return frozenset(row["vdn_ids"]), max(1, row["engines"])

    async def withdraw(self, vdn_id: int, attempt_ids: Sequence[UUID]) -> None:
        """Take back attempts that provably never left: their numbers are ready again.

        Where the VDN has caps per number, such an attempt counts no more.
        """
        async with self._db.transaction() as tx:
            gone: dict[str, list[datetime]] = defaultdict(list)
            for row in await tx.fetch("withdraw", vdn_id, list(attempt_ids), self._now()):
                if row["counted"]:
                    gone[row["called"]].append(row["intent_at"])
            for row in await tx.fetch("lock_counts", vdn_id, list(gone)) if gone else []:
                calls = given_back(row["calls"], gone[row["number"]])
                await tx.execute("set_calls", vdn_id, row["number"], calls)

    async def forget_counts(self) -> None:
        """Across VDNs: forget calls to numbers that count under no cap any more."""
        await self._db.fetch("forget_counts", self._now() - _COUNTED)

    async def remember(self, answers: Sequence[Remember]) -> None:
        """Store that these open attempts were answered, one statement a VDN; an ended one is left alone."""
        for vdn_id, group in groupby(sorted(answers, key=_vdn_of), key=_vdn_of):
            of_vdn = list(group)
            await self._db.fetch(
                "remember",
                vdn_id,
                [one.attempt_id for one in of_vdn],
                [one.dialog for one in of_vdn],
                [one.answered_at for one in of_vdn],
                [one.ringing_at for one in of_vdn],
                [one.sent_at for one in of_vdn],
            )

    async def settle(self, settlements: Sequence[Settlement], next_try: NextTry) -> None:
        """Store the ends of attempts: attempt, contact, counter, result and outbox in one transaction a VDN.

        `next_try` judges, under the locks, which numbers are tried again. An attempt that has ended already
        is left alone, so a repetition is harmless.
        """
        for vdn_id, group in groupby(sorted(settlements, key=_vdn_of), key=_vdn_of):
            await self._settle_vdn(vdn_id, list(group), next_try)

    async def _settle_vdn(self, vdn_id: int, settlements: list[Settlement], next_try: NextTry) -> None:
        ids = [s.attempt_id for s in settlements]
        async with self._db.transaction() as tx:
            now = self._now()
            held = await tx.fetch("lock_campaigns_of", vdn_id, ids, now)
            again = [row for row in held if row["tries_again"]]
            retries = await _retries(tx, again, settlements, next_try) if again else {}
            await tx.execute(
                "settle",
                vdn_id,
                ids,
                [s.disposition for s in settlements],
                [s.ended_at for s in settlements],
                [s.ringing_at for s in settlements],
                [s.answered_at for s in settlements],
                [s.cause for s in settlements],
                [s.sip_status for s in settlements],
                [s.hung_up_by for s in settlements],
                self._now(),
                [retries.get(s.attempt_id) for s in settlements],
                [s.sent_at for s in settlements],
                *_records(settlements),
            )
            if any(row["callback_url"] is not None for row in held):
                await tx.execute("wake_pushers")

    async def facts(self, vdn_id: int, campaign_id: int) -> Facts | None:
        """What holds a campaign back can be judged by this; None for one that is not of this VDN."""
        async with self._db.transaction() as tx:
            await tx.execute("by_index")
            row = await tx.fetchrow("facts", vdn_id, campaign_id)
        if row is None:
            return None
        return Facts(
            campaign(row),
            row["time_zone"],
            due=row["due"],
            retry=Held(row["retries"], row["retry_at"]),
            restricted=Held(row["restricted"], row["restricted_at"]),
            capped=Held(row["capped"], row["capped_at"]),
            refused=row["refused"],
            in_flight=row["in_flight"],
            engines=tuple(msgspec.json.decode(one, type=EngineStanding) for one in row["standings"]),
            trunk_group=row["trunk_group"],
        )

    async def promote(self) -> int:
        """Across VDNs: make contacts ready whose waiting is over; how many, `PROMOTED` at most.

        Nothing is done while another process does it.
        """
        async with self._db.transaction() as tx:
            if not await tx.fetchval("lead_promotion", _PROMOTION):
                return 0
            status = await tx.execute("promote", self._now())
            count = int(status.split()[-1])
            if count:
                await tx.execute("wake_engines")
        return count

    async def next_due(self) -> datetime | None:
        """Across VDNs: when the first waiting contact is due; None: none waits."""
        due: datetime | None = await self._db.fetchval("next_due")
        return due

    # -- engine runs, across VDNs ----------------------------------------------------------------------

    async def begin_epoch(self, host: str, pid: int, lease: timedelta) -> int:
        """Enter a new engine run; its number is larger than any before."""
        return int(await self._db.fetchval("begin_epoch", host, pid, lease))

    async def renew_lease(self, epoch: int, lease: timedelta) -> bool:
        """Say that this run lives; False when it has been fenced."""
        return await self._db.fetchrow("renew_lease", epoch, lease) is not None

    async def say_standing(self, epoch: int, standing: EngineStanding) -> None:
        """Keep what this run says of itself."""
        await self._db.fetch("say_standing", epoch, msgspec.json.encode(standing).decode())

    async def announce(self, epoch: int, sent_by: Mapping[str, str]) -> None:
        """Keep what stands in the Via of this run's requests, by the address that they go to."""
        await self._db.fetch("announce", epoch, msgspec.json.encode(sent_by).decode())

    async def standings(self, host: str | None = None) -> list[EngineStanding]:
        """What the living runs say of themselves: those of a host, or all."""
        rows = await self._db.fetch("standings", host)
        return [msgspec.json.decode(row["standing"], type=EngineStanding) for row in rows]

    async def resign(self, epoch: int) -> None:
        """End this run: it claims nothing more."""
        await self._db.fetch("resign", epoch)

    async def fence_dead(self, epoch: int, dead: Iterable[int]) -> None:
        """Fence the other runs whose lease ran out, and the `dead` ones, whose process is gone.

        What a frozen one holds in the database ends before: the server's own timeouts miss one case.
        """
        await self._db.fetch("end_stopped_sessions", STOPPED)
        await self._db.fetch("fence", epoch, list(dead))

    async def fenced(self, epoch: int, *, since: timedelta) -> list[int]:
        """Other runs, not yet recovered, that were fenced at least `since` ago."""
        return [row["epoch"] for row in await self._db.fetch("fenced_engines", since, epoch)]

    async def runs_of(self, host: str) -> list[tuple[int, int]]:
        """Epoch and process id of this host's runs that are neither fenced nor recovered."""
        return [(row["epoch"], row["pid"]) for row in await self._db.fetch("runs_of_host", host)]

    async def open_attempts(self, epochs: Sequence[int]) -> list[OpenAttempt]:
        """Attempts in flight of these runs, 5,000 at most."""
        return [
            OpenAttempt(
                Attempt(
                    vdn_id=row["vdn_id"],
                    campaign_id=row["campaign_id"],
                    contact_id=row["contact_id"],
                    attempt_id=row["attempt_id"],
                    attempt_no=row["attempt_no"],
                    called=row["called"],
                    caller=row["caller"],
                    max_alerting_time=row["max_alerting_time"],
                    intent_at=row["intent_at"],
                    sent_at=row["sent_at"],
                    ringing_at=row["ringing_at"],
                    answered_at=row["answered_at"],
                    dialog=row["dialog"] or "",
                    transfer_of=row["transfer_of"],
                    sent_by=msgspec.json.decode(row["sent_by"] or "{}", type=dict[str, str]),
                ),
                row["epoch"],
            )
            for row in await self._db.fetch("open_attempts", list(epochs))
        ]

    async def adopt(self, found: Sequence[OpenAttempt], epoch: int) -> list[Attempt]:
        """Make open attempts of fenced runs this run's own; those that are.

        Each goes to one run alone, and to none that has been fenced itself.
        """
        adopted: set[UUID] = set()
        for vdn_id in sorted({one.attempt.vdn_id for one in found}):
            of_vdn = [one for one in found if one.attempt.vdn_id == vdn_id]
            ids = [one.attempt.attempt_id for one in of_vdn]
            rows = await self._db.fetch("adopt", vdn_id, ids, epoch, list({one.epoch for one in of_vdn}))
            adopted |= {row["attempt_id"] for row in rows}
        return [one.attempt for one in found if one.attempt.attempt_id in adopted]

    async def recovered(self, epochs: Sequence[int]) -> None:
        """These runs have nothing open any more, if that is so."""
        await self._db.fetch("recovered", list(epochs))

    async def listen(self, heard: Callable[[], None]) -> Connection:
        """Call `heard` at every wake-up of the engines, and once when the connection is lost."""
        return await self._db.listen("outdial_engine", heard)


class Claim:
    """The verbs of a claim, under the campaign's row lock."""

    def __init__(
        self, tx: Transaction, paced: PacedCampaign, epoch: int, now: datetime, hiding: Hiding
    ) -> None:
        self._tx = tx
        self._hiding = hiding
        self._names: dict[str, str] = {}  # under which restricted numbers stand on the blacklist
        self._epoch = epoch
        self._key = (paced.campaign.vdn_id, paced.campaign.campaign_id)
        self._turn = paced.campaign.caller_turn
        self.paced = paced
        self.now = now

    async def candidates(self, limit: int) -> list[Candidate]:
        """Ready and due contacts in dialing order, locked: `limit`, or somewhat more.

        Each size is a statement of its own, so a limit other than a whole launch goes up to a power of two.
        """
        size = limit if limit == self.paced.campaign.pacing.call_count else 1 << (limit - 1).bit_length()
        rows = await self._tx.fetch("due_contacts", *self._key, self.now, limit=size)
        return [
            Candidate(
                row["contact_id"],
                row["called"],
                row["caller"],
                row["recycle_at"],
                row["listed"],
                row["session_id"],
                row["call_data"],
            )
            for row in rows
        ]

    async def listings(self, numbers: Sequence[str]) -> dict[str, Listing]:
        """The blacklist entries of these numbers as they stand now, locked."""
        self._names = await self._hiding.stored_names(self._tx, self._key[0], numbers)
        rows = await self._tx.fetch("lock_entries", self._key[0], list(self._names.values()), self.now)
        number_of = {name: number for number, name in self._names.items()}
        return {
            number_of[row["number"]]: Listing(
                row["restrict_times"], row["restrict_period"], row["window_begin"], row["window_calls"]
            )
            for row in rows
        }

    async def count_calls(self, counted: dict[str, Listing]) -> None:
        """Write back the restricted entries that this claim uses."""
        for number, listing in sorted(counted.items()):
            await self._tx.execute(
                "count_call", self._key[0], self._names[number], listing.window_begin, listing.window_calls
            )

    async def calls_to(self, numbers: Iterable[str]) -> dict[str, Sequence[datetime]]:
        """When these numbers were called by the VDN, as far as it counts; locked until the claim commits."""
        rows = await self._tx.fetch("enter_numbers", self._key[0], sorted(numbers), self.now)
        return {row["number"]: row["calls"] for row in rows}

    async def count_numbers(self, called: Mapping[str, int]) -> None:
        """Count the calls of this claim."""
        since = counts_since(self.now, calendar.zone(self.paced.time_zone))
        await self._tx.execute(
            "count_numbers", self._key[0], list(called), list(called.values()), self.now, since
        )

    async def free_channels(self) -> int:
        """How many more calls of the campaign may be in flight, over all engines."""
        most = self.paced.campaign.max_channels
        if most is None:
            return _ENDLESS
        return max(0, most - int(await self._tx.fetchval("in_flight", *self._key)))

    async def launch(self, campaign: Campaign) -> None:
        """Store how far the campaign's pace has come."""
        await self._tx.execute(
            "launch",
            *self._key,
            campaign.last_launch_at,
            campaign.launch_rest,
            campaign.next_send_at,
            self._turn,
        )

    async def intend(self, wanted: Sequence[tuple[UUID, Candidate]]) -> list[Attempt]:
        """Commit the intents (with the transaction): attempt rows, contacts dialing.

        The attempts come back in the order of `wanted`.
        """
        campaign = self.paced.campaign
        rows = await self._tx.fetch(
            "intend",
            *self._key,
            self._epoch,
            self.now,
            [attempt_id for attempt_id, _ in wanted],
            [candidate.contact_id for _, candidate in wanted],
            [candidate.caller or self._next_caller() for _, candidate in wanted],
        )
        order = {attempt_id: place for place, (attempt_id, _) in enumerate(wanted)}
        chosen = dict(wanted)
        return [
            Attempt(
                *self._key,
                row["contact_id"],
                row["attempt_id"],
                row["attempt_no"],
                row["called"],
                row["caller"],
                campaign.max_alerting_time,
                self.now,
                session_id=chosen[row["attempt_id"]].session_id,
                call_data=chosen[row["attempt_id"]].call_data,
            )
            for row in sorted(rows, key=lambda row: order[row["attempt_id"]])
        ]

    def _next_caller(self) -> str:
        numbers = callers(self.paced.campaign)
        self._turn += 1
        return numbers[(self._turn - 1) % len(numbers)]

    async def postpone(self, contact_id: int, due_at: datetime, held_by: HeldBy) -> None:
        """Dial this contact not before `due_at`."""
        await self._tx.execute("postpone_contact", self._key[0], contact_id, due_at, held_by)

    async def end(self, contact_ids: Sequence[int], disposition: Disposition) -> None:
        """End contacts without a call."""
        if contact_ids:
            await Locked(self._tx, *self._key, self.now).end_contacts(contact_ids, disposition)


def _vdn_of(one: Settlement | Remember) -> int:
    return one.vdn_id


def _records(settlements: Sequence[Settlement]) -> list[list[Any]]:
    """The call records column by column, as `settle` takes them."""
    records = [s.record or _NO_RECORD for s in settlements]
    return [
        [one.trunk for one in records],
        [one.keys or None for one in records],
        [_STEP_END.join(one.steps) if one.steps else None for one in records],
        [one.detector for one in records],
        [one.rtp_sent for one in records],
        [one.rtp_received for one in records],
    ]


async def _retries(
    tx: Transaction, rows: Sequence[Any], settlements: Sequence[Settlement], next_try: NextTry
) -> dict[UUID, datetime | None]:
    """When the number of each attempt is tried again, where its campaign (one of `rows`) may do so."""
    by_id = {row["campaign_id"]: (campaign(row), calendar.zone(row["time_zone"])) for row in rows}
    ends = {one.attempt_id: one for one in settlements}
    vdn_id = settlements[0].vdn_id
    found: dict[UUID, datetime | None] = {}
    histories = await tx.fetch("histories", vdn_id, list(ends), list(by_id))
    for attempt_id, group in groupby(histories, key=lambda row: row["attempt_id"]):
        history = list(group)
        end = ends[attempt_id]
        past: list[Try] = [(Disposition(row["disposition"]), row["intent_at"]) for row in history[:-1]]
        tries = [*past, (end.disposition, history[-1]["intent_at"])]
        of, tz = by_id[history[0]["campaign_id"]]
        found[attempt_id] = next_try(of, tries, end.ended_at, tz)
    return found
