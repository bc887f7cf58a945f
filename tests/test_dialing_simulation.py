"""The dialer against a seeded world: a store, a carrier and clocks that fail in every way we know.

Each seed is one life of an engine of a minute or so, with its crashes. What must hold is checked at every
step, by the world's own books and never by the dialer's. A failing seed repeats
exactly: `live(SEED)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from uuid import UUID

import pytest

from outdial import pacing
from outdial.dialing import (
    SEND_WITHIN,
    Action,
    Adopted,
    Claim,
    Claimed,
    ClaimFailed,
    Dialer,
    Event,
    HangUp,
    Inquire,
    Key,
    NotSent,
    Now,
    PacedCampaign,
    Place,
    Settle,
    Stop,
    SwitchDown,
    SwitchUp,
    Told,
    Withdraw,
)
from outdial.model import (
    Answered,
    Attempt,
    CallWindow,
    CampaignState,
    Disposition,
    Ended,
    Fate,
    Inquiry,
    Originate,
    Ringing,
    TimerPacing,
)
from playbook import ALWAYS, NOON, campaign

LIFE = 60.0
DRAIN = 200.0
PERIOD = timedelta(seconds=1)


@dataclass(slots=True)
class Book:
    """What the world knows of one attempt."""

    attempt: Attempt
    began: float
    run: int
    places: int = 0
    ordered: bool = False  # the carrier has had the order
    ended: bool = False  # in the store
    withdrawn: bool = False


@dataclass(slots=True)
class FarCall:
    """A call at the carrier."""

    line: int
    state: str = "ringing"
    end: Ended | None = None
    forgotten: bool = False


class World:
    """Store, carrier and clocks; `seed` decides everything."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.trace: list[str] = []
        self.seen: Counter[str] = Counter()
        self.denied: set[UUID] = set()  # the carrier said "unseen"
        self.mono = 1000.0
        self.ahead = timedelta()
        self.turns = count()
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.campaigns = {(1, n): self.some_campaign(n) for n in (1, 2, 3)}
        self.ready = {key: list(range(key[1] * 1000, key[1] * 1000 + 40)) for key in self.campaigns}
        self.paused: dict[Key, float] = {}
        self.books: dict[UUID, Book] = {}
        self.far: dict[UUID, FarCall] = {}
        self.line = 0  # the connection to the carrier; 0: none
        self.lines = count(1)
        self.run = 0
        self.stopped = False
        self.calm = False
        self.began_run()

    # -- the world's beginnings and faults ---------------------------------------------------------

    def some_campaign(self, n: int) -> PacedCampaign:
        windows = self.random.choice([ALWAYS, (CallWindow(540, 721), None, CallWindow(723, 1440))])
        timer = TimerPacing("main", self.random.choice([1, 2, 5, 30]), self.random.choice([1, 2, 3]))
        return PacedCampaign(
            campaign(campaign_id=n, windows=windows, pacing=timer, max_alerting_time=5), "UTC"
        )

    @property
    def now(self) -> Now:
        return Now(NOON + timedelta(seconds=self.mono - 1000.0) + self.ahead, self.mono)

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        heappush(self.queue, (self.mono + seconds, next(self.turns), then))

    def chance(self, likely: float) -> bool:
        return self.random.random() < likely

    def some_id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128))

    def began_run(self) -> None:
        self.run += 1
        self.dialer = Dialer()
        self.out: Counter[UUID] = Counter()
        self.heard: set[UUID] = set()
        self.hung_up: set[UUID] = set()
        self.launched: dict[Key, float] = {}
        self.line = 0
        self.later(0.01, self.connect)
        self.of_this_run(0.0, self.load)

    def of_this_run(self, seconds: float, then: Callable[[], None]) -> None:
        run = self.run
        self.later(seconds, lambda: then() if self.run == run else None)

    def faults(self) -> None:
        """Once a second something may go wrong."""
        if self.calm:
            return
        self.later(self.random.uniform(0.2, 2.0), self.faults)
        fault = self.random.choice(
            [self.disconnect, self.pause, self.jump, self.carrier_restarts, self.crash, *[lambda: None] * 6]
        )
        fault()

    def disconnect(self) -> None:
        if self.line:
            self.seen["switch lost"] += 1
            self.line = 0
            self.of_this_run(self.random.choice([0, 0.001]), lambda: self.tell(SwitchDown()))
            self.of_this_run(self.random.uniform(0.01, 8), self.connect)

    def connect(self) -> None:
        if not self.line:
            self.line = next(self.lines)
            self.of_this_run(0.002, lambda: self.tell(SwitchUp()) if self.line else None)

    def pause(self) -> None:
        key = self.random.choice(list(self.campaigns))
        if key not in self.paused:
            self.seen["pause"] += 1
            self.paused[key] = self.mono
            self.later(self.random.uniform(0.1, 5), lambda: self.paused.pop(key, None))

    def jump(self) -> None:
        self.seen["clock"] += 1
        by = self.random.choice([3600, -3600, 86400, -86400, 90, -90, 0.5])
        self.ahead += timedelta(seconds=by)

    def carrier_restarts(self) -> None:
        if self.chance(0.3):
            self.disconnect()
            for call in self.far.values():
                call.forgotten = call.forgotten or call.end is None

    def crash(self) -> None:
        if self.chance(0.4) and not self.stopped:
            self.seen["crash"] += 1
            self.began_run()
            self.of_this_run(1.6, self.adopt)

    def adopt(self) -> None:
        """What dead runs left open; what this run has on its way to the store is not open to it."""
        found = [
            book.attempt
            for key, book in self.books.items()
            if book.run < self.run and not book.ended and key not in self.out
        ]
        self.tell(Adopted(tuple(found)))

    # -- the store ---------------------------------------------------------------------------------

    def fresh(self, key: Key) -> PacedCampaign:
        of = self.campaigns[key]
        state = CampaignState.SUSPENDED if key in self.paused else CampaignState.STARTED
        return replace(of, campaign=replace(of.campaign, state=state, incomplete=len(self.ready[key])))

    def load(self) -> None:
        started = [of for of in map(self.fresh, self.campaigns) if of.campaign.state is CampaignState.STARTED]
        self.of_this_run(self.random.uniform(0, 0.2), lambda: self.take_load(started))
        self.of_this_run(1.0, self.load)

    def take_load(self, started: list[PacedCampaign]) -> None:
        self.dialer.load(started, self.now)

    def claim(self, key: Key) -> None:
        began, run = self.mono, self.run
        slow = self.random.uniform(0.5, 2.0) if self.chance(0.1) else self.random.uniform(0.001, 0.05)
        if self.chance(0.08):
            self.of_this_run(slow, lambda: self.tell(ClaimFailed(key)))
        else:
            self.later(slow, lambda: self.commit(key, began, run))

    def commit(self, key: Key, began: float, run: int) -> None:
        """The campaign under its lock; a crash of the engine does not stop it any more."""
        of = self.fresh(key)
        if of.campaign.state is not CampaignState.STARTED:
            self.of_this_run(0, lambda: self.report(run, Claimed(key, None, (), began)))
            return
        room = pacing.allowance(of.campaign, of.time_zone, self.now.wall)
        contacts, self.ready[key] = self.ready[key][:room], self.ready[key][room:]
        attempts = tuple(self.intend(key, one, began, run) for one in contacts)
        if attempts:
            of = replace(of, campaign=replace(of.campaign, last_launch_at=self.now.wall))
            self.campaigns[key] = replace(
                self.campaigns[key],
                campaign=replace(self.campaigns[key].campaign, last_launch_at=self.now.wall),
            )
        if self.chance(0.05) and not self.calm:
            self.seen["commit unknown"] += 1
            self.of_this_run(0, lambda: self.report(run, ClaimFailed(key)))
            self.of_this_run(1.0, lambda: self.withdraw_orphans(attempts))
        else:
            event = Claimed(key, of, attempts, began, empty=bool(room) and not attempts)
            self.of_this_run(0, lambda: self.report(run, event))

    def intend(self, key: Key, contact_id: int, began: float, run: int) -> Attempt:
        one = Attempt(*key, contact_id, self.some_id(), 1, f"80{contact_id}", "10086", 5, self.now.wall)
        self.books[one.attempt_id] = Book(one, began, run)
        return one

    def report(self, run: int, event: Event) -> None:
        if run == self.run:
            if isinstance(event, Claimed) and event.attempts:
                timer = self.campaigns[event.key].campaign.pacing
                assert len(event.attempts) <= timer.call_count
                assert self.mono >= self.launched.get(event.key, 0.0) + timer.call_interval - 1e-6, "too fast"
                self.launched[event.key] = self.mono
            self.tell(event)

    def withdraw_orphans(self, attempts: tuple[Attempt, ...]) -> None:
        for one in attempts:
            self.store_withdrawal(one.attempt_id)

    def store_withdrawal(self, attempt_id: UUID) -> None:
        book = self.books[attempt_id]
        if not book.ended:
            assert not book.ordered, "withdrawn, and the carrier had the order"
            book.ended = book.withdrawn = True
            self.ready[(1, book.attempt.campaign_id)].append(book.attempt.contact_id)

    def store_end(self, attempt_id: UUID) -> None:
        self.books[attempt_id].ended = True

    # -- what the dialer asks for ------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        self.trace.append(f"{self.mono:.4f} > {event}")
        self.act(self.dialer.receive(event, self.now))
        if self.chance(0.03) and isinstance(event, Ringing | Answered | Ended | Told):
            self.act(self.dialer.receive(event, self.now))

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            self.trace.append(f"{self.mono:.4f} < {action}")
            self.seen[type(action).__name__] += 1
            match action:
                case Claim(vdn_id, campaign_id):
                    assert not self.stopped, "claimed after the stop"
                    self.claim((vdn_id, campaign_id))
                case Place(order):
                    self.place(order)
                case HangUp(attempt_id):
                    self.hang_up(attempt_id)
                case Inquire():
                    self.inquire(action)
                case Settle(settlement):
                    self.left(settlement.attempt_id)
                    self.check_end(settlement.attempt_id, settlement.disposition)
                    of_run = settlement.attempt_id
                    self.of_this_run(self.random.uniform(0, 0.5), lambda key=of_run: self.store_end(key))
                case Withdraw(_, attempt_id):
                    self.left(attempt_id)
                    book = self.books[attempt_id]
                    self.seen[
                        "late" if not book.places and self.mono > book.began + SEND_WITHIN else "taken back"
                    ] += 1
                    assert not book.ordered, "withdrawn, and the carrier had the order"
                    self.of_this_run(
                        self.random.uniform(0, 0.5), lambda key=attempt_id: self.store_withdrawal(key)
                    )

    def left(self, attempt_id: UUID) -> None:
        self.out[attempt_id] += 1
        assert self.out[attempt_id] == 1, "an attempt left the dialer twice"
        assert not self.dialer.knows(attempt_id)

    def check_end(self, attempt_id: UUID, disposition: Disposition) -> None:
        self.seen[disposition] += 1
        call = self.far.get(attempt_id)
        if disposition is Disposition.UNKNOWN:
            assert call is not None, "unknown, though it was never ordered"
            assert call.forgotten, "unknown, though the carrier could tell"
        if disposition is Disposition.ANSWERED:
            assert call is not None
            assert call.state in ("talking", "over, answered")

    def place(self, order: Originate) -> None:
        book = self.books[order.attempt_id]
        of = self.campaigns[(1, book.attempt.campaign_id)].campaign
        book.places += 1
        assert book.places == 1, "placed twice"
        assert not book.ended, "placed after its end"
        assert not self.stopped, "placed after the stop"
        assert self.mono <= book.began + SEND_WITHIN, "placed late"
        assert self.mono <= self.paused.get((1, of.campaign_id), self.mono) + 1.0, "placed after a pause"
        assert open_at(of.windows, self.now.wall), "placed outside the hours"
        assert of.begin_at <= self.now.wall < of.end_at, "placed outside the dates"
        if not self.line or self.chance(0.03):
            self.seen["not sent"] += 1
            self.act(self.dialer.receive(NotSent(order.attempt_id), self.now))
            return
        line = self.line
        self.later(self.random.uniform(0.001, 0.03), lambda: self.arrive(order, line))
        if self.chance(0.02) and not self.calm:
            self.later(0.005, self.disconnect)

    # -- the carrier -------------------------------------------------------------------------------

    def arrive(self, order: Originate, line: int) -> None:
        """An order on a line that was cut meanwhile may have got through or not."""
        if self.line != line and (self.chance(0.5) or self.books[order.attempt_id].ended):
            self.seen["order lost"] += 1
            return
        if order.attempt_id in self.denied:
            return  # who was told "unseen" is never called afterwards: the line was read to its end first
        self.books[order.attempt_id].ordered = True
        call = self.far[order.attempt_id] = FarCall(line)
        key = order.attempt_id
        script = self.random.choice(["busy", "ring", "ring", "answer", "answer", "silence", "cross"])
        call.state = "crossing" if script == "cross" else "ringing"
        if script == "busy":
            self.later(self.random.uniform(0, 1), lambda: self.end(key, Ended(key, cause=17, sip_status=486)))
        if script in ("ring", "answer", "cross"):
            self.later(0.01, lambda: self.say(key, Ringing(key)))
        if script == "answer":
            self.later(self.random.uniform(0.1, 7), lambda: self.answer(key))

    def answer(self, key: UUID) -> None:
        call = self.far[key]
        if call.end is None and not call.forgotten and call.state != "talking":
            call.state = "talking"
            self.say(key, Answered(key))
            talk = self.random.uniform(0.1, 20)
            self.later(talk, lambda: self.end(key, Ended(key, cause=16, sip_status=200, answered=True)))

    def end(self, key: UUID, ended: Ended) -> None:
        call = self.far[key]
        if call.end is None and not call.forgotten:
            call.end = ended
            call.state = "over, answered" if ended.answered else "over"
            if ended.answered or not self.chance(0.05):
                self.say(key, ended)  # a switch may forget to say how ringing ended, never that a talk did

    def say(self, key: UUID, event: Ringing | Answered | Ended) -> None:
        call = self.far[key]
        if not call.forgotten and call.line == self.line and self.line:
            line = self.line
            self.later(self.random.uniform(0, 0.02), lambda: self.hear(event, line))

    def hear(self, event: Ringing | Answered | Ended, line: int) -> None:
        if line == self.line:
            if isinstance(event, Answered) and event.attempt_id not in self.hung_up:
                self.heard.add(event.attempt_id)
            self.tell(event)

    def hang_up(self, key: UUID) -> None:
        assert self.books[key].places or self.run > 1, "hung up what was never placed"
        assert key not in self.heard, "hung up on somebody who had answered"
        self.hung_up.add(key)
        call = self.far.get(key)
        if self.line and call is not None:
            self.later(0.01, lambda: self.hung_up_at_carrier(key))

    def hung_up_at_carrier(self, key: UUID) -> None:
        call = self.far[key]
        if call.state == "crossing":
            self.seen["crossed"] += 1
            self.answer(key)
        elif call.state == "talking":
            self.end(key, Ended(key, cause=16, sip_status=200, answered=True))
        elif self.chance(0.8):
            self.end(key, Ended(key, sip_status=487))

    def inquire(self, inquire: Inquire) -> None:
        line = self.line
        words = tuple(self.word(one.attempt_id) for one in inquire.calls) if line else ()
        if self.chance(0.1) and not self.calm:
            words = ()

        def reply() -> None:
            told = Told(words if self.line == line or self.chance(0.5) else (), inquire.outages)
            self.tell(told)

        self.of_this_run(self.random.uniform(0.001, 0.3), reply)

    def word(self, key: UUID) -> Inquiry | Ended:
        call = self.far.get(key)
        if call is None:
            self.denied.add(key)
            self.seen["unseen"] += 1
            return Inquiry(key, Fate.UNSEEN)
        if call.forgotten:
            self.seen["cannot tell"] += 1
            return Inquiry(key, Fate.CANNOT_TELL)
        if call.end is not None:
            return call.end
        call.line = self.line
        self.seen["alive"] += 1
        return Inquiry(key, Fate.ALIVE, call.state == "talking")

    # -- a life ------------------------------------------------------------------------------------

    def live(self) -> None:
        self.later(0.5, self.faults)
        self.later(LIFE, self.calm_down)
        until = self.mono + LIFE + DRAIN
        while self.mono < until:
            self.step(until)
        open_books = [book for book in self.books.values() if not book.ended]
        assert open_books == [], "attempts without an end"
        assert self.dialer.in_flight == 0

    def calm_down(self) -> None:
        """No more faults: everything must come to its end."""
        self.calm = self.stopped = True
        self.tell(Stop())
        self.later(5, self.connect)
        self.later(30, self.adopt)

    def step(self, until: float) -> None:
        wake_at = self.dialer.wake_at(self.now)
        moments = [at for at in (self.queue[0][0] if self.queue else None, wake_at) if at is not None]
        self.mono = max(self.mono, min([*moments, until]))
        while self.queue and self.queue[0][0] <= self.mono:
            heappop(self.queue)[2]()
        for _ in range(1000):
            actions = self.dialer.poll(self.now)
            if not actions:
                return
            self.act(actions)
        raise AssertionError("poll never comes to an end")


def open_at(windows: tuple[CallWindow | None, ...], wall: datetime) -> bool:
    minute = wall.hour * 60 + wall.minute
    return any(window is not None and window.begin <= minute < window.end for window in windows)


def live(seed: int) -> World:
    world = World(seed)
    try:
        world.live()
    except AssertionError as error:
        said = "\n".join(line[:160] for line in world.trace[-25:])
        raise AssertionError(f"seed {seed}: {error}\n{said}") from error
    return world


EVERY_SORT = {
    "Claim", "Place", "HangUp", "Settle", "Withdraw", "Inquire",
    "switch lost", "pause", "clock", "crash", "commit unknown", "late", "taken back", "not sent",
    "order lost", "unseen", "cannot tell", "alive", "crossed",
    "ANSWERED", "BUSY", "RING_TIMEOUT", "NO_REPLY", "UNKNOWN",
}  # fmt: skip


def lives(seeds: Iterator[int] | range) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen += live(seed).seen
    assert EVERY_SORT - {str(sort) for sort in seen} == set(), "the world did not do all it can do"


@pytest.mark.parametrize("part", range(6))
def test_guarantees_hold_in_every_world(part: int) -> None:
    """G3 to G7 for the dialer, over 300 seeds."""
    lives(range(part * 50, part * 50 + 50))


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_guarantees_hold_in_every_world_long(part: int) -> None:
    lives(range(1000 + part * 100, 1100 + part * 100))


def test_a_seed_repeats_exactly() -> None:
    assert live(4711).trace == live(4711).trace
