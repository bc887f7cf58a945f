"""Brings results from the outbox to their receivers, at least once each (guarantee G5).

One `Pusher` leases due deliveries, POSTs each on its own, and writes down what became of it. A receiver
that does not answer 200 is asked again at once, once; then the push has failed and the next one is due ten
minutes later, six at most (wire/data-api.md §6.3). Whatever dies in between, the lease runs out and another
process pushes the same result under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook

from outdial import __version__
from outdial.errors import StoreUnavailable
from outdial.metrics import PUSHED
from outdial.model import CallResult, Delivery
from outdial.receivers import BODY_TIMEOUT, TIMEOUT, Network, NotTaken, Receivers, receiver_of
from outdial.store.postgres import utc_now
from outdial.store.results import NotDelivered, Results
from outdial.store.store import Store
from outdial.wire.push import CONTENT_TYPE, push_body

log = structlog.get_logger()

PUSHES: Final = 6
"""Pushes of one result before it waits for someone to send it again (wire/data-api.md §6.3)."""

PAUSE: Final = timedelta(minutes=10)
"""From a failed push to the next (wire/data-api.md §6.3)."""

LEASE: Final = 60.0
"""Seconds: a push takes at most two timeouts, and one that waits longer than PATIENCE is given back."""

PATIENCE: Final = 25.0
"""Seconds that a leased delivery waits for its turn."""

PER_RECEIVER: Final = 8
"""POSTs that one receiver (scheme, host and port) is sent at the same time."""

SHARE: Final = 64
"""POSTs in flight to all prompt receivers, as many to all others, and as many to those that are not known
yet, one each: nobody waits for those that are slow."""

PROMPT: Final = 1.0
"""Seconds in which a receiver's last push was over, whatever came of it: then the receiver is prompt."""

AHEAD: Final = 32
"""Deliveries of one URL that are leased in one go."""

POLL: Final = 1.0
"""Seconds between two looks at the outbox when nothing wakes us; also between two tries at a store."""

SPACING: Final = 0.01
"""Seconds between two looks at a busy outbox, or as long as the last one took: one look brings what many
wake-ups announced."""

GROUP: Final = 500
"""Outcomes that are written down in one statement."""

SLACK: Final = 0.5
"""Seconds on top of what a POST can take, when we end."""

KNOWN: Final = 10_000
"""Receivers that are remembered while nothing is on its way to them."""


@dataclass(slots=True, eq=False)
class _Receiver:
    """What is known of one receiver. `held` counts the deliveries leased for it and not yet written down."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    urls: set[str] = field(default_factory=set)
    held: int = 0
    prompt: bool | None = None  # as long as no push is over, nobody knows
    more: bool = False  # the outbox may hold more for it
    failing: bool = False

    @property
    def full(self) -> bool:
        """It has enough to go on with."""
        return self.held > AHEAD // 2

    def learn(self, seconds: float) -> None:
        """Its last push took so long. The first one went alone; now it may have more."""
        if self.prompt is None:
            for _ in range(PER_RECEIVER - 1):
                self.slots.release()
        self.prompt = seconds < PROMPT


class _Book:
    """Writes down what became of the pushes, in groups: while one is written the next one gathers.

    What cannot be written is tried again until it can be. `written` hears of what has been.
    """

    def __init__(self, results: Results, written: Callable[[Sequence[CallResult]], None]) -> None:
        self._results = results
        self._written = written
        self._delivered: list[CallResult] = []
        self._failed: list[NotDelivered] = []
        self._back: list[CallResult] = []
        self._news = asyncio.Event()
        self._closing = False

    def deliver(self, result: CallResult) -> None:
        """The receiver has taken it."""
        self._delivered.append(result)
        self._news.set()

    def fail(self, failure: NotDelivered) -> None:
        """The push failed."""
        self._failed.append(failure)
        self._news.set()

    def give_back(self, result: CallResult) -> None:
        """It was leased and not pushed."""
        self._back.append(result)
        self._news.set()

    async def keep(self) -> None:
        """Write until closed and empty."""
        while not self._closing or self._left:
            await self._news.wait()
            self._news.clear()
            try:
                await self._write()
            except StoreUnavailable:
                await asyncio.sleep(POLL)
            if self._left:
                self._news.set()

    async def close(self, keeping: asyncio.Task[None]) -> None:
        """Let `keep` write the rest, if the store takes it within a few seconds."""
        self._closing = True
        self._news.set()
        await asyncio.wait([keeping], timeout=3 * POLL)
        if self._left:
            log.warning("outcomes not written down: their leases run out", outcomes=self._left)
        keeping.cancel()

    @property
    def _left(self) -> int:
        return len(self._delivered) + len(self._failed) + len(self._back)

    async def _write(self) -> None:
        if delivered := self._delivered[:GROUP]:
            await self._results.delivered(delivered)
            del self._delivered[: len(delivered)]
            self._written(delivered)
        if failed := self._failed[:GROUP]:
            await self._results.not_delivered(failed)
            del self._failed[: len(failed)]
            self._written([failure.delivery.result for failure in failed])
        if back := self._back[:GROUP]:
            await self._results.release(back)
            del self._back[: len(back)]
            self._written(back)


class Pusher:
    """The push shell of one process.

    `allow` names networks that may be reached although they are not public; `timeout` is in seconds and
    bounds one POST; `resolver` looks up the receivers' names instead of the system; `now` gives the time.
    """

    def __init__(
        self,
        store: Store,
        *,
        allow: Sequence[Network],
        user_agent: str = f"outdial/{__version__}",
        timeout: float = TIMEOUT,
        resolver: AbstractResolver | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._results = store.results
        self._out = Receivers(allow, user_agent, timeout=timeout, resolver=resolver)
        self._now = now
        self._grace = timeout + BODY_TIMEOUT + SLACK
        self._receivers: dict[str, _Receiver] = {}
        self._shares = {prompt: asyncio.Semaphore(SHARE) for prompt in (True, False, None)}
        self._held: dict[UUID, _Receiver] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._flying: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._book = _Book(store.results, self._let_go)

    async def run(self, stop: asyncio.Event) -> None:
        """Push until `stop` is set, then end within about one timeout.

        What is in flight by then is finished, though not repeated; what was only leased is given back.
        """
        async with self._out, asyncio.TaskGroup() as tasks:
            waking = tasks.create_task(self._wake_at(stop))
            hearing = tasks.create_task(self._hear())
            keeping = tasks.create_task(self._book.keep())
            await self._lease_until(stop, tasks)
            self._stopping = True
            hearing.cancel()
            await self._land()
            await self._book.close(keeping)
            waking.cancel()

    # -- the outbox ------------------------------------------------------------------------------------

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _hear(self) -> None:
        """Keep an ear on the outbox's channel. While there is none, polling does."""
        ear: Any = None
        try:
            while True:
                if ear is None or ear.is_closed():
                    with suppress(StoreUnavailable):
                        ear = await self._results.listen(self._wake.set)
                        self._wake.set()  # for what came before
                await asyncio.sleep(POLL)
        finally:
            if ear is not None:
                ear.terminate()

    async def _lease_until(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        reached = True
        while not stop.is_set():
            begun = loop.time()
            self._wake.clear()
            try:
                await self._lease(tasks)
            except StoreUnavailable as error:
                if reached:
                    log.warning("outbox not reached", error=str(error))
                reached = False
                self._wake.clear()  # a lost connection wakes, too
            else:
                reached = True
            ended = loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._wake.wait()
            await asyncio.sleep(ended + max(SPACING, ended - begun) - loop.time())

    async def _lease(self, tasks: asyncio.TaskGroup) -> None:
        full = [receiver for receiver in self._receivers.values() if receiver.full]
        for receiver in full:
            receiver.more = True
        urls = [url for receiver in full for url in receiver.urls]
        leased = await self._results.lease(per_receiver=AHEAD, lease=LEASE, full=urls)
        for delivery in leased:
            self._take(delivery, tasks)
        if len(leased) >= AHEAD:
            self._wake.set()  # they may have stood before others

    def _take(self, delivery: Delivery, tasks: asyncio.TaskGroup) -> None:
        """Give a leased delivery a task; one that this process holds already has one."""
        result = delivery.result
        if result.result_id in self._held:
            return
        try:
            receiver = self._receiver(receiver_of(delivery.url))
        except NotTaken as refusal:
            receiver = self._receiver(delivery.url)
            self._hold(result, receiver)
            self._fail(delivery, refusal.reason)
            return
        receiver.urls.add(delivery.url)
        self._hold(result, receiver)
        if receiver.held > 2 * AHEAD:  # it has many URLs
            receiver.more = True
            self._book.give_back(result)
            return
        task = tasks.create_task(self._deliver(delivery, receiver))
        self._waiting.add(task)

    def _receiver(self, name: str) -> _Receiver:
        found = self._receivers.get(name)
        if found is None:
            if len(self._receivers) >= KNOWN:
                self._receivers = {name: one for name, one in self._receivers.items() if one.held}
            found = self._receivers[name] = _Receiver()
        return found

    def _hold(self, result: CallResult, receiver: _Receiver) -> None:
        self._held[result.result_id] = receiver
        receiver.held += 1

    def _let_go(self, results: Sequence[CallResult]) -> None:
        """These are written down: there may be room for more."""
        for result in results:
            receiver = self._held.pop(result.result_id)
            receiver.held -= 1
            if receiver.more and not receiver.full:
                receiver.more = False
                self._wake.set()
            if not receiver.held:
                receiver.urls.clear()

    async def _land(self) -> None:
        """Give back what waits for its turn, and wait for what is in flight."""
        await asyncio.sleep(0)  # a task that never began could not give back anything
        for task in self._waiting:
            task.cancel()
        under_way = self._waiting | self._flying
        if not under_way:
            return
        _, late = await asyncio.wait(under_way, timeout=self._grace)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # -- one delivery ----------------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery, receiver: _Receiver) -> None:
        try:
            async with self._turn(receiver):
                await self._push(delivery, receiver)
        except (TimeoutError, asyncio.CancelledError):
            receiver.more = True
            self._book.give_back(delivery.result)

    @asynccontextmanager
    async def _turn(self, receiver: _Receiver) -> AsyncIterator[None]:
        """Wait for a slot of the receiver and one of its share. Raises TimeoutError after PATIENCE."""
        task: Any = asyncio.current_task()
        try:
            async with asyncio.timeout(PATIENCE) as patience, receiver.slots, self._shares[receiver.prompt]:
                patience.reschedule(None)
                self._waiting.discard(task)
                self._flying.add(task)
                yield
        finally:
            self._waiting.discard(task)
            self._flying.discard(task)

    async def _push(self, delivery: Delivery, receiver: _Receiver) -> None:
        """One push: a POST and, unless the receiver answers 200, one more at once."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await self._post(delivery)
        except NotTaken as refusal:
            reason: str | None = refusal.reason
            if refusal.again and self._stopping:
                self._book.give_back(delivery.result)
                return
            if refusal.again:
                reason = await self._repeat(delivery)
        else:
            reason = None
        receiver.learn(loop.time() - begun)
        self._note(receiver, delivery.url, reason)
        if reason is None:
            PUSHED.add("delivered")
            self._book.deliver(delivery.result)
        else:
            self._fail(delivery, reason)

    async def _repeat(self, delivery: Delivery) -> str | None:
        try:
            await self._post(delivery)
        except NotTaken as refusal:
            return refusal.reason
        return None

    async def _post(self, delivery: Delivery) -> None:
        try:
            body = push_body(delivery.result, delivery.time_zone)
            headers = {"Content-Type": CONTENT_TYPE} | _signature(delivery, body, self._now())
        except Exception as error:
            raise NotTaken(f"cannot be written: {type(error).__name__}", again=False) from error
        await self._out.post(delivery.url, body, headers)

    def _fail(self, delivery: Delivery, reason: str) -> None:
        PUSHED.add("failed")
        last = delivery.pushes + 1 >= PUSHES
        if last:
            result = delivery.result
            log.warning(
                "result not delivered",
                vdn=result.vdn_id,
                campaign=result.campaign_id,
                result=str(result.result_id),
                error=reason,
            )
        self._book.fail(NotDelivered(delivery, None if last else self._now() + PAUSE, reason))

    def _note(self, receiver: _Receiver, url: str, reason: str | None) -> None:
        """Log when a receiver begins to fail and when it takes results again."""
        if receiver.failing and reason is None:
            log.info("receiver takes results again", receiver=receiver_of(url))
        elif not receiver.failing and reason is not None:
            log.warning("receiver fails", receiver=receiver_of(url), error=reason)
        receiver.failing = reason is not None


def _signature(delivery: Delivery, body: bytes, now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks; none for a VDN without a secret (semantics.md §7)."""
    if delivery.webhook_secret is None:
        return {}
    webhook_id = str(delivery.result.result_id)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(delivery.webhook_secret).sign(webhook_id, now, body.decode()),
    }
