"""Admission: adds that wait while a flush is in flight form the next group (natural group commit).

No timer: a lone add goes at once. A group holds one VDN and at most one add per campaign; the VDNs take
turns. One statement (`queries/numbers.sql`, admit) judges and keeps a group.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import replace

from outdial import calendar
from outdial.intake import MAX_INCOMPLETE, Admitted, Facts, IntakePolicy
from outdial.model import CallData, Duplicates
from outdial.store.hiding import Hiding
from outdial.store.postgres import (
    DEADLINE,
    LOST,
    REFUSED,
    Connection,
    Postgres,
    Transaction,
    commit_unknown,
    drop,
    unavailable,
)
from outdial.store.queries import QUERIES

MAX_GROUP = 64
"""Adds in one statement (design, stack.md §2.1: beyond this nothing is gained)."""

FLUSHES = 3
"""Statements in flight at once."""

LATE = 0.025
"""Seconds after which a flush is late: only then a second one begins. Groups stay large, which halves their
cost, and one campaign whose row is held does not hold up the others."""

QUEUE_WAIT = 1.5
"""Seconds an add may wait for its flush before it is answered 0200006, untouched."""


LINGER = timedelta(minutes=1)
"""How long an answer outlives its window: a request let in at the window's last moment still finds it. Longer
than a request lives, plus what the clocks of several hosts may differ."""


class Add(msgspec.Struct, frozen=True):
    """One add on its way in. `no_object`: the first entry whose call data is no JSON object."""

    vdn_id: int
    time_zone: str
    policy: IntakePolicy
    campaign_id: int
    entries: Sequence[CallData]
    request_key: UUID
    body_key: UUID
    expires_at: datetime
    idempotency_key: UUID | None = None
    no_object: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What the store found and did. Not kept without a refusing fact: stored before, or `duplicates` asks."""

    facts: Facts
    kept: bool
    contact_ids: Sequence[int] | None = None


@dataclass(slots=True, eq=False)
class _Waiting:
    add: Add
    since: float
    outcome: asyncio.Future[Outcome]


_Tenant = tuple[int, str, int]


class Numbers:
    """Numbers of campaigns: admitting them, and the answers of accepted adds."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], hiding: Hiding) -> None:
        self._db = db
        self._now = now
        self._hiding = hiding
        self._begun: set[float] = set()  # when the flushes in flight began
        self._waiting: dict[_Tenant, deque[_Waiting]] = {}
        self._busy: set[int] = set()  # campaigns of the flushes in flight
        self._tasks: set[asyncio.Task[None]] = set()

    async def admit(self, add: Add) -> Outcome:
        """Judge and keep one add. Raises `StoreUnavailable` or `CommitUnknown`."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(add, loop.time(), loop.create_future())
        tenant = (add.vdn_id, add.time_zone, id(add.policy))
        self._waiting.setdefault(tenant, deque()).append(waiting)
        self._flush_waiting(loop)
        return await waiting.outcome

    def _flush_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waiting or len(self._begun) >= FLUSHES:
            return
        now = loop.time()
        if self._begun and now - max(self._begun) < LATE:
            return
        group = self._next_group()
        if not group:
            return
        while now in self._begun:
            now += 1e-6
        self._begun.add(now)
        task = loop.create_task(self._flush(group, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        loop.call_later(LATE, self._flush_waiting, loop)

    def _next_group(self) -> list[_Waiting]:
        """The next tenant's group; the tenant goes to the end of the line."""
        for tenant in list(self._waiting):
            queue = self._waiting.pop(tenant)
            group: list[_Waiting] = []
            later: deque[_Waiting] = deque()
            oldest = asyncio.get_running_loop().time() - QUEUE_WAIT
            while queue and len(group) < MAX_GROUP:
                waiting = queue.popleft()
                if waiting.since < oldest:
                    _fail(waiting, unavailable("the store is too slow"))
                elif waiting.add.campaign_id in self._busy:
                    later.append(waiting)
                else:
                    self._busy.add(waiting.add.campaign_id)
                    group.append(waiting)
            later.extend(queue)
            if later:
                self._waiting[tenant] = later
            if group:
                return group
        return []

    async def _flush(self, group: list[_Waiting], begun: float) -> None:
        try:
            await self._admit_group(group)
        except asyncpg.PostgresError as error:
            if len(group) == 1:
                _fail(group[0], error)
            for waiting in group if len(group) > 1 else ():
                await self._admit_alone(waiting)
        except BaseException as error:
            for waiting in group:
                _fail(waiting, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._busy.difference_update(waiting.add.campaign_id for waiting in group)
            self._begun.remove(begun)
            self._flush_waiting(asyncio.get_running_loop())

    async def _admit_alone(self, waiting: _Waiting) -> None:
        """Nobody answers for a neighbour's data: the group failed, this one is tried by itself."""
        try:
            await self._admit_group([waiting])
        except Exception as error:
            _fail(waiting, error)

    async def _admit_group(self, group: list[_Waiting]) -> None:
        adds = [waiting.add for waiting in group]
        async with self._db.connection() as conn:
            pid = conn.get_server_pid()
            try:
                rows = await conn.fetch(QUERIES["admit"], *self._arguments(adds))
            except REFUSED as error:
                raise unavailable(type(error).__name__) from error
            except LOST as error:
                drop(conn)
                lost: BaseException | None = error
            else:
                lost = None
        if lost is not None:
            await self._learn_fate(group, pid, lost)
        elif rows[0]["hides"] and await self._hiding.look(adds[0].vdn_id):
            await self._admit_group(group)  # nothing was kept: the hidden names have to be looked at as well
        else:
            for waiting, row in zip(group, rows, strict=True):
                _resolve(waiting, _outcome(row, waiting.add))

    def _arguments(self, adds: Sequence[Add], *, looked: bool = False) -> tuple[Any, ...]:
        return *_arguments(adds, self._now(), looked=looked), *self._hidden(adds)

    def _hidden(self, adds: Sequence[Add]) -> tuple[Any, ...]:
        """The hidden names of the numbers, where the VDN has hidden some as far as this process knows."""
        vdn_id = adds[0].vdn_id
        if not self._hiding.knows(vdn_id):
            return _NOTHING_HIDDEN
        names = [self._hiding.name(vdn_id, entry.called) for add in adds for entry in add.entries]
        return *_numbering(tuple([len(add.entries) for add in adds])), array_literal(names), True

    async def _learn_fate(self, group: list[_Waiting], pid: int, lost: BaseException) -> None:
        """The statement's end was not heard: its own row tells, once its backend is gone for certain."""

        async def ask(conn: Connection) -> str:
            await self._db.end_backend(conn, pid)
            for waiting in group:
                row = await conn.fetchrow(
                    QUERIES["stored_answer"], waiting.add.vdn_id, waiting.add.request_key, None, self._now()
                )
                if row is None:
                    _fail(waiting, unavailable(type(lost).__name__))
                else:
                    incomplete = row["total_size"] - len(waiting.add.entries)
                    facts = Facts(found=True, takes_numbers=True, incomplete=incomplete)
                    _resolve(waiting, Outcome(facts, kept=True, contact_ids=row["contact_ids"]))
            return "known"

        until = min(waiting.since for waiting in group) + DEADLINE
        if await self._db.settle_fate(ask, until=until) is None:
            for waiting in group:
                _fail(waiting, commit_unknown(type(lost).__name__))

    async def admit_exclusive(self, add: Add) -> tuple[Outcome, Add]:
        """The add to a campaign that refuses or skips numbers still incomplete in it.

        They are looked up under the campaign's row lock, which every such add takes first. Returns the add
        as it was judged: without the skipped entries.
        """
        await self._hiding.look(add.vdn_id)
        async with self._db.transaction() as tx:
            duplicates = await tx.fetchval("lock_campaign", add.vdn_id, add.campaign_id)
            found = await tx.fetch(
                "still_incomplete", add.vdn_id, add.campaign_id, [entry.called for entry in add.entries]
            )
            present = {row["called"] for row in found}
            if duplicates == Duplicates.SKIP:
                return await self._judge_rest(tx, add, present)
            repeated = next((i for i, entry in enumerate(add.entries) if entry.called in present), None)
            outcome = await self._judge_alone(tx, add, keep=repeated is None)
        return replace(outcome, facts=replace(outcome.facts, repeated=repeated)), add

    async def _judge_rest(self, tx: Transaction, add: Add, present: set[str]) -> tuple[Outcome, Add]:
        """The add without the entries that are present; places stay those of the request."""
        places = [place for place, entry in enumerate(add.entries) if entry.called not in present]
        rest = replace(add, entries=[add.entries[place] for place in places])
        outcome = await self._judge_alone(tx, rest, keep=True)
        if outcome.facts.blacklisted is not None:
            facts = replace(outcome.facts, blacklisted=places[outcome.facts.blacklisted])
            return replace(outcome, facts=facts), rest
        if outcome.contact_ids is not None and len(places) < len(add.entries):
            ids = dict(zip(places, outcome.contact_ids, strict=True))
            padded = [ids.get(place) for place in range(len(add.entries))]
            await tx.execute("pad_answer", add.vdn_id, add.request_key, padded)
        return outcome, rest

    async def _judge_alone(self, tx: Transaction, add: Add, *, keep: bool) -> Outcome:
        rows = await tx.fetch("admit", *self._arguments([add], looked=keep))
        return _outcome(rows[0], add)

    async def stored_answer(
        self, vdn_id: int, request_key: UUID, idempotency_key: UUID | None
    ) -> StoredAnswer | None:
        """The answer of an accepted add with this signature or this Idempotency-Key."""
        row = await self._db.fetchrow("stored_answer", vdn_id, request_key, idempotency_key, self._now())
        if row is None:
            return None
        admitted = Admitted(row["total_size"], (), row["contact_ids"], replayed=True)
        return StoredAnswer(admitted, row["body_key"])

    async def forget_answers(self) -> None:
        """Remove the answers whose time has been over for `LINGER`: no request that needs one is alive."""
        await self._db.fetch("forget_answers", self._now() - LINGER)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An accepted add's answer, and the key of the body that it answered."""

    admitted: Admitted
    body_key: UUID


def _arguments(adds: Sequence[Add], now: datetime, *, looked: bool = False) -> tuple[Any, ...]:
    """The parameters of `admit`, column by column."""
    first = adds[0]
    tz = calendar.zone(first.time_zone)
    entries = [entry for add in adds for entry in add.entries]
    return (
        first.vdn_id,
        [add.campaign_id for add in adds],
        [len(add.entries) for add in adds],
        [add.request_key for add in adds],
        [add.idempotency_key for add in adds],
        [add.body_key for add in adds],
        [add.expires_at for add in adds],
        list(first.policy.accepting),
        [add.no_object is not None for add in adds],
        looked,
        first.policy.answers_ids,
        first.policy.restricted_passes,
        calendar.period_start("hour", now, tz),
        calendar.period_start("day", now, tz),
        *_numbering(tuple([len(add.entries) for add in adds])),
        array_literal([entry.called for entry in entries]),
        array_literal([entry.session_id for entry in entries]),
        array_literal([entry.caller for entry in entries]),
        array_literal([entry.custom_field for entry in entries]),
        array_literal([entry.recycle_at.isoformat() if entry.recycle_at else None for entry in entries]),
        array_literal([entry.call_data for entry in entries]),
        array_literal([str(entry.priority) for entry in entries]),
        MAX_INCOMPLETE,
    )


_NOTHING_HIDDEN: Final = ("{}", "{}", "{}", False)


@lru_cache(maxsize=256)  # most adds carry as many numbers as they may
def _numbering(sizes: tuple[int, ...]) -> tuple[str, str]:
    """Per entry the number of its add, from 1, and its place in it, from 0."""
    return (
        array_literal([str(n) for n, size in enumerate(sizes, 1) for _ in range(size)]),
        array_literal([str(nth) for size in sizes for nth in range(size)]),
    )


def array_literal(values: Sequence[str | None]) -> str:
    """PostgreSQL's text form of a one-dimensional array (manual, "Array Input and Output Syntax").

    Every value is quoted, so only the quote and the backslash need an escape.
    """
    if not any(values):
        return "{}"  # unnest fills up a shorter array with NULLs
    if None not in values:
        joined = '","'.join(values)  # type: ignore[arg-type]  # there is no None
        if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):
            return f'{{"{joined}"}}'
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _outcome(row: Any, add: Add) -> Outcome:
    facts = Facts(
        found=row["found"],
        device_type=row["device_type"] or 0,
        state=row["state"] or "",
        begin_at=row["begin_at"],
        end_at=row["end_at"],
        now=row["now"],
        takes_numbers=bool(row["takes_numbers"]),
        too_soon=row["too_soon"],
        incomplete=row["incomplete"] or 0,
        duplicates=row["duplicates"] or Duplicates.ALLOW,
        blacklisted=row["blacklisted"],
        no_object=add.no_object,
    )
    return Outcome(facts, row["kept"], row["contact_ids"])


def _resolve(waiting: _Waiting, outcome: Outcome) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_result(outcome)


def _fail(waiting: _Waiting, error: BaseException) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_exception(error)
