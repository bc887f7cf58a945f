"""The asyncio shell of the dialer: it claims, gives the switch its orders, feeds back what happens, settles.

One run of an engine has a number, its epoch, and a lease in the store. A run that stops renewing is fenced
by another, which waits until no order of the dead run can leave any more, makes its open attempts its own
and asks the switch about them (docs/why/decisions/0005). Every decision about a call is the dialer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from outdial.dialing import (
    SEND_WITHIN,
    Action,
    Adopted,
    Claim,
    Claimed,
    ClaimFailed,
    Confirm,
    Dialer,
    Event,
    HangUp,
    Inquire,
    NotSent,
    Now,
    Place,
    Remember,
    Settle,
    Stop,
    SwitchDown,
    SwitchUp,
    Told,
    Withdraw,
)
from outdial.engine.claiming import Claiming
from outdial.engine.host import lives, this_host
from outdial.engine.ledger import Ledger
from outdial.errors import CommitUnknown, StoreUnavailable, SwitchError
from outdial.metrics import CALLS_CLAIMED, CALLS_IN_FLIGHT, CLAIMS
from outdial.model import Attempt, EngineStanding, HeldCampaign, Originate, SwitchEvent
from outdial.store.calls import Fenced
from outdial.store.postgres import Connection, utc_now
from outdial.store.store import Store
from outdial.switch import Switch

log = structlog.get_logger()

LEASE: Final = 5.0
"""Seconds without a renewal after which a run counts as dead."""

RECOVER_AFTER: Final = timedelta(seconds=SEND_WITHIN + 0.6)
"""How long after its fence a dead run's orders are waited for."""

MAX_WAITING: Final = 1000
"""Settlements that may wait to be stored before nothing more is claimed."""

_LOOK_EVERY: Final = 1.0
_AUDIT_EVERY: Final = 10.0
_ORPHANS_KEPT: Final = 600.0
_SWITCH_LOOK: Final = 0.1
"""Seconds: between looks at the store without a signal; between audits of our own open attempts; during
which a COMMIT of unknown fate may still turn up; between looks whether a lost switch is back."""

_FLUSH_TIME: Final = 3.0
"""Seconds for storing what waits when the engine stops; what is not stored then, the next run recovers."""


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts a suspended machine's sleep where the system can."""


def read_clock() -> Now:
    """Both clocks."""
    return Now(utc_now(), time.clock_gettime(_CLOCK))


def _count(event: Event) -> None:
    if isinstance(event, Claimed):
        CLAIMS.add("calls" if event.attempts else "empty")
        CALLS_CLAIMED.add(by=len(event.attempts))
    else:
        CLAIMS.add("failed")


class Engine:
    """One run. `run` may be called once."""

    def __init__(
        self,
        store: Store,
        switch: Switch,
        *,
        lease: float = LEASE,
        stop_grace: float = 20.0,
        claims: int = 2,
        clock: Callable[[], Now] = read_clock,
    ) -> None:
        """`lease` and `stop_grace` (how long calls in flight may end after the stop) in seconds."""
        self._store = store
        self._switch = switch
        self._lease = timedelta(seconds=lease)
        self._stalled_after = lease / 2
        self._stop_grace = stop_grace
        self._clock = clock
        self._epoch = 0
        self._dialer = Dialer(claims=claims)
        self._ledger = Ledger(store, self._tell)
        self._stirred = asyncio.Event()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming = Claiming(store, switch, clock)
        self._orphans: dict[UUID, float] = {}  # intended by a claim whose fate is unknown
        self._renewed_at = 0.0
        self._fence_after = 0.0
        self._said: EngineStanding | None = None
        self._audit_at = 0.0
        self._listener: Connection = None

    @property
    def in_flight(self) -> int:
        """Calls that were placed and have not ended."""
        return self._dialer.in_flight

    async def run(self, stop: asyncio.Event) -> None:
        """Dial until `stop` is set, then let calls end and store what waits. Calls that are alive stay alive.

        Raises `Fenced` when another run declared this one dead: the process must begin a new run.
        """
        try:
            if await self._enter(stop):
                await self._switch.start(self._tell, lambda: self._tell(SwitchDown()), self._announce)
                await self._run_loops(stop)
                await self._leave()
        finally:
            if self._listener is not None:
                self._listener.terminate()
            await self._switch.close()

    async def _run_loops(self, stop: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                loops = [
                    self._group.create_task(loop)
                    for loop in (
                        self._drive_on(),
                        self._ledger.write_on(),
                        self._ledger.remember_on(),
                        self._repeat("look for work", self._look, wake=self._woken),
                        self._repeat("keep the lease", self._keep_lease),
                        self._repeat("recover", self._recover),
                    )
                ]
                await stop.wait()
                await self._finish()
                for task in (*loops, *self._tasks):
                    task.cancel()
        except BaseExceptionGroup as failures:
            fenced = failures.subgroup(Fenced)
            if fenced is not None:
                raise Fenced(f"engine run {self._epoch} has been fenced") from failures
            raise

    async def _repeat(
        self, doing: str, work: Callable[[], Awaitable[None]], *, wake: asyncio.Event | None = None
    ) -> None:
        """Do the work every second, or when woken; a store that is away is no reason to end."""
        wake = wake or asyncio.Event()
        while True:
            wake.clear()
            try:
                await work()
            except (StoreUnavailable, CommitUnknown) as error:
                log.warning("store unavailable", doing=doing, reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await wake.wait()

    # -- the dialer's loop -----------------------------------------------------------------------------

    def _tell(self, event: Event | SwitchEvent) -> None:
        """Hand an event to the dialer and do what it asks; what is due next is looked at anew."""
        self._act(self._dialer.receive(event, self._clock()))
        self._stirred.set()

    async def _drive_on(self) -> None:
        while True:
            before = self._clock().mono
            self._drive()
            await self._pause()
            if self._clock().mono - before > self._stalled_after:
                await self._after_a_stall()

    async def _pause(self) -> None:
        now = self._clock()
        wake_at = self._dialer.wake_at(now)
        longest = _LOOK_EVERY if self._dialer.up else _SWITCH_LOOK
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest if wake_at is None else min(longest, wake_at - now.mono)):
                await self._stirred.wait()
        self._stirred.clear()
        for _ in range(2):  # events that have reached us are heard before a deadline acts
            await asyncio.sleep(0)

    async def _after_a_stall(self) -> None:
        """We were stopped for long: learn whether we were fenced before a deadline acts. Raises `Fenced`."""
        log.warning("engine was stalled", epoch=self._epoch)
        with contextlib.suppress(StoreUnavailable):
            await self._renew()

    def _drive(self) -> None:
        if self._switch.connected != self._dialer.up:
            self._tell(SwitchUp() if self._switch.connected else SwitchDown())
        until = self._clock().mono + self._stalled_after
        while (now := self._clock()).mono < until and (actions := self._poll(now)):
            self._act(actions)

    def _poll(self, now: Now) -> list[Action]:
        return self._dialer.poll(now, self._switch.room)

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Place(order):
                    self._place(order)
                case HangUp(attempt_id):
                    self._switch.hang_up(attempt_id)
                case Settle() | Withdraw():
                    self._ledger.add(action)
                case Remember():
                    self._ledger.remember(action)
                case Confirm(attempt_id):
                    self._switch.confirm(attempt_id)
                case Claim():
                    self._spawn(self._claim(action))
                case Inquire():
                    self._spawn(self._inquire(action))
        CALLS_IN_FLIGHT.set(self._dialer.in_flight)

    def _place(self, order: Originate) -> None:
        try:
            self._switch.originate(order)
        except SwitchError as error:
            log.warning("call not placed", attempt=str(order.attempt_id), reason=str(error))
            self._tell(NotSent(order.attempt_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _inquire(self, inquire: Inquire) -> None:
        try:
            words = await self._switch.inquire(inquire.calls)
        except SwitchError as error:
            log.warning("switch not asked", attempts=len(inquire.calls), reason=str(error))
            words = []
        self._tell(Told(tuple(words), inquire.outages))

    # -- claiming --------------------------------------------------------------------------------------

    async def _claim(self, wanted: Claim) -> None:
        key = (wanted.vdn_id, wanted.campaign_id)
        if len(self._ledger) > MAX_WAITING:
            self._tell(ClaimFailed(key))
            return
        ids: set[UUID] = set()
        event: Event = ClaimFailed(key)
        try:
            event = await self._claiming.claim(wanted, self._epoch, ids)
        except Fenced:
            raise
        except CommitUnknown as error:
            log.warning("fate of a claim unknown", vdn=key[0], campaign=key[1], reason=str(error))
            self._orphans |= dict.fromkeys(ids, self._clock().mono)
            self._audit_at = 0.0
        except StoreUnavailable as error:
            log.warning("store unavailable", doing="claim", vdn=key[0], campaign=key[1], reason=str(error))
        except Exception as error:
            # One campaign's fault must not stop the others; the transaction was rolled back. The error's own
            # words may hold numbers.
            log.error("claim failed", vdn=key[0], campaign=key[1], error=type(error).__name__)
        self._tell(event)
        self._claiming.pending -= ids
        _count(event)

    # -- looking for work ------------------------------------------------------------------------------

    async def _look(self) -> None:
        if self._listener is None or self._listener.is_closed():
            self._listener = await self._store.calls.listen(self._woken.set)
        started = await self._store.calls.started()
        self._claiming.review(started)
        self._dialer.load(started, self._clock())
        self._stirred.set()

    # -- the lease -------------------------------------------------------------------------------------

    async def _enter(self, stop: asyncio.Event) -> bool:
        """Begin a run as soon as the store is there; False when stopped before that."""
        host = this_host()
        while not stop.is_set():
            try:
                self._epoch = await self._store.calls.begin_epoch(host, os.getpid(), self._lease)
                self._renewed_at = self._clock().mono
                log.info("engine run begun", epoch=self._epoch)
                return True
            except StoreUnavailable as error:
                log.warning("store unavailable", doing="begin a run", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY / 2):
                    await stop.wait()
        return False

    async def _keep_lease(self) -> None:
        await self._renew()
        await self._say_standing()
        if self._clock().mono < self._fence_after:
            return
        runs = await self._store.calls.runs_of(this_host())
        await self._store.calls.fence_dead(self._epoch, [epoch for epoch, pid in runs if not lives(pid)])

    async def _say_standing(self) -> None:
        """What only we know goes into our row, at most once a second, when it has changed."""
        held = tuple(HeldCampaign(*key, why) for key, why in sorted(self._claiming.held.items()))
        standing = EngineStanding(self._switch.connected, tuple(self._switch.trunks()), held)
        if standing != self._said:
            await self._store.calls.say_standing(self._epoch, standing)
            self._said = standing

    async def _announce(self, sent_by: Mapping[str, str]) -> None:
        await self._store.calls.announce(self._epoch, sent_by)

    async def _renew(self) -> None:
        """Raises `Fenced`. After an outage the others get the time of a lease to renew theirs as well."""
        stalls = self._switch.stalls
        if not await self._store.calls.renew_lease(self._epoch, self._lease):
            raise Fenced(f"engine run {self._epoch} has been fenced")
        self._switch.go_on(stalls)
        now = self._clock().mono
        if now - self._renewed_at > self._lease.total_seconds():
            self._fence_after = now + self._lease.total_seconds()
        self._renewed_at = now

    # -- recovery --------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Take over what dead runs left open, once our own switch can be asked about it."""
        now = self._clock().mono
        if now >= self._audit_at:
            self._audit_at = now + _AUDIT_EVERY
            await self._audit()
        if not self._dialer.up:
            return
        dead = await self._store.calls.fenced(self._epoch, since=RECOVER_AFTER)
        if not dead:
            return
        self._audit_at = 0.0  # an adoption whose fate we do not learn is found there
        found = await self._store.calls.open_attempts(dead)
        adopted = await self._store.calls.adopt(found, self._epoch)
        if adopted:
            log.info("attempts adopted", attempts=len(adopted), dead_runs=dead)
            self._tell(Adopted(tuple(adopted)))
        await self._store.calls.recovered(dead)

    async def _audit(self) -> None:
        """Find attempts of this run that nobody here knows: commits and adoptions of unknown fate."""
        now = self._clock().mono
        self._orphans = {key: since for key, since in self._orphans.items() if now - since < _ORPHANS_KEPT}
        strays: list[Attempt] = []
        for found in await self._store.calls.open_attempts([self._epoch]):
            attempt = found.attempt
            if self._knows(attempt.attempt_id):
                continue
            if self._orphans.pop(attempt.attempt_id, None) is not None:
                # Only this process sends for its epoch, and only after a commit it knows of.
                self._ledger.add(Withdraw(attempt.vdn_id, attempt.attempt_id))
            else:
                strays.append(attempt)
        if strays:
            log.warning("attempts found open", attempts=len(strays))
            self._tell(Adopted(tuple(strays)))

    def _knows(self, attempt_id: UUID) -> bool:
        return (
            attempt_id in self._claiming.pending
            or self._dialer.knows(attempt_id)
            or attempt_id in self._ledger
        )

    # -- the end ---------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Claim and place nothing more; wait for calls in flight, and store what waits."""
        log.info("engine stopping", epoch=self._epoch, in_flight=self._dialer.in_flight)
        self._tell(Stop())
        await self._until(lambda: not self._tasks and not self._dialer.in_flight, self._stop_grace)
        await self._until(lambda: not len(self._ledger), _FLUSH_TIME)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        until = self._clock().mono + seconds
        self._drive()
        while not done() and self._clock().mono < until:
            await asyncio.sleep(0.02)
            self._drive()

    async def _leave(self) -> None:
        try:
            await self._store.calls.resign(self._epoch)
        except StoreUnavailable as error:
            log.warning("store unavailable", doing="resign", reason=str(error))
        log.info("engine run over", epoch=self._epoch, in_flight=self._dialer.in_flight)
