"""The wall clock is set while an engine calls over SIP: +1 h and -1 day. The far end's log is the witness."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import asyncpg
import pytest
from calling import CarrierLog
from evidence import evidence
from trunks import connect, far_end, over_sip

from callhouse import House
from outdial.compose import media_of
from outdial.config import Settings
from outdial.dialing import Now
from outdial.engine import Engine, read_clock
from outdial.engine.trunking import StoreFacts
from outdial.model import CallWindow, TimerPacing, Vdn
from outdial.shelf import Shelf
from outdial.sip.endpoint import Endpoint
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.switch.sip import SipSwitch
from ports import free_port

NOON = datetime.combine(utc_now().date(), time(12), UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
STEPS = (HOUR, timedelta(), -DAY, timedelta(), HOUR, -DAY, timedelta())
"""What the clock is set to in turn, as distance from the right time: each for a while."""

WHILE = 1.5
CPS = 10
EVERY = 4
"""Of one campaign: seconds between two launches of so many calls as `CPS` says of the others a second."""

ON_ITS_WAY = timedelta(seconds=0.2)
"""From the moment of sending until the far end has noted a call."""


@dataclass
class Clock:
    """A wall clock that begins at noon and can be set; the monotonic one is the system's."""

    set_to: list[tuple[datetime, timedelta]] = field(default_factory=list)

    def step(self, distance: timedelta) -> None:
        """Set it to the right time and so much."""
        self.set_to.append((utc_now(), distance))

    def wall(self) -> datetime:
        return self.at(utc_now(), self.set_to[-1][1])

    def now(self) -> Now:
        return Now(self.wall(), read_clock().mono)

    def at(self, moment: datetime, distance: timedelta) -> datetime:
        """What it shows at a true moment with that distance."""
        return NOON + (moment - self.set_to[0][0]) + distance

    def step_of(self, moment: datetime) -> int:
        """Which of its settings holds at a true moment, from 0."""
        return sum(begin <= moment for begin, _ in self.set_to) - 1

    def shown(self, moment: datetime) -> list[datetime]:
        """What it may have shown when a call left that was noted at this true moment."""
        ends = [*(begin for begin, _ in self.set_to[1:]), moment + DAY]
        return [
            self.at(moment, distance)
            for (begin, distance), end in zip(self.set_to, ends, strict=True)
            if begin <= moment and end > moment - ON_ITS_WAY
        ]


@pytest.fixture
def clock() -> Clock:
    found = Clock()
    found.step(timedelta())
    return found


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def log(place: Path, port: int) -> Iterator[CarrierLog]:
    with far_end(place, port, ring=0.02, talk=0.1) as log:
        yield log


@asynccontextmanager
async def calling(dsn: str, folder: Path, clock: Clock) -> AsyncIterator[None]:
    """An engine over SIP that goes by this clock."""
    sip = over_sip()
    settings = Settings(database=dsn, sip_listen=(sip["sip_listen"],), rtp_ports=sip["rtp_ports"])
    stop = asyncio.Event()
    async with Store(dsn, None, size=6, name="engine", now=clock.wall) as store:
        shelf = Shelf(store, folder / "shelf", can_say=False)
        facts = StoreFacts(store, clock.wall).facts()
        switch = SipSwitch(Endpoint(settings.sip_addresses()), media_of(settings), shelf, facts)
        engine = asyncio.create_task(Engine(store, switch, stop_grace=5.0, clock=clock.now).run(stop))
        try:
            yield
        finally:
            stop.set()
            await engine


async def test_the_clock_is_set_while_it_calls(
    database: str, sql: asyncpg.Connection, place: Path, log: CarrierLog, port: int, clock: Clock
) -> None:
    """No call outside the hours, none of a finished number, never more a second than allowed."""
    await asyncio.to_thread(connect_vdn, database, port)
    async with Store(database, None, name="test", now=clock.wall) as store:
        house = House(database, None, store, sql)  # type: ignore[arg-type]
        narrow = (CallWindow(11 * 60 + 30, 12 * 60 + 30), None, None)
        of_noon = {"begin_at": NOON - HOUR, "end_at": NOON + 2 * HOUR, "windows": narrow}
        days = {"begin_at": NOON - 3 * DAY, "end_at": NOON + 3 * DAY}
        at_noon = await house.campaign(name="at noon", pacing=TimerPacing("", 500, 1), **of_noon)
        always = await house.campaign(name="always", pacing=TimerPacing("", 500, 1), **days)
        timed = await house.campaign(name="timed", pacing=TimerPacing("", CPS, EVERY), **days)
        for campaign, first in ((at_noon, "81"), (always, "82"), (timed, "83")):
            await house.add(campaign, [f"{first}{n:04}{'01' if n % 3 else '03'}" for n in range(400)])
        await sql.execute("UPDATE contact SET due_at = $1", NOON - 3 * DAY)
        await sql.execute("UPDATE campaign SET max_cps = $1 WHERE campaign_id <> $2", CPS, timed)
        async with calling(database, place, clock):
            await house.until(lambda: log.look().placed >= 2 * CPS)
            for distance in STEPS:
                clock.step(distance)
                await asyncio.sleep(WHILE)
    orders = log.look().orders
    assert max(Counter(order["called"] for order in orders).values()) == 1
    calls = Counter(order["called"][:2] for order in orders)
    evidence(
        {"steps_with_calls": len(STEPS), "fewest_calls": CPS + 1},
        steps=len(STEPS),
        steps_with_calls=len({clock.step_of(moment(order)) for order in orders} - {0}),
        fewest_calls=min(calls[first] for first in ("81", "82", "83")),
        calls=len(orders),
    )
    judge_hours(clock, [moment(order) for order in orders if order["called"].startswith("81")])
    for first in ("81", "82"):
        judge_rate([moment(order) for order in orders if order["called"].startswith(first)], SECOND)
    # A launch is placed as fast as may be, so its calls come somewhat later one time than another.
    judge_rate(
        [moment(order) for order in orders if order["called"].startswith("83")], (EVERY - 0.3) * SECOND
    )


def connect_vdn(dsn: str, port: int) -> None:
    async def work() -> None:
        async with Store(dsn, None, size=1) as store:
            await store.vdns.create(Vdn(1, max_active=1000))

    asyncio.run(work())
    connect(dsn, port)


def moment(order: dict[str, str]) -> datetime:
    return datetime.fromisoformat(order["at"])


def judge_hours(clock: Clock, sent: list[datetime]) -> None:
    """Each call left between 11:30 and 12:30 of the day."""
    half = timedelta(minutes=30)
    outside = [at for at in sent if not any(NOON - half <= shown < NOON + half for shown in clock.shown(at))]
    assert not outside, f"{len(outside)} of {len(sent)} calls outside the hours"


def judge_rate(sent: list[datetime], least: timedelta) -> None:
    """So many calls and one more take this time at least."""
    spans = [later - first for first, later in zip(sent, sent[CPS:], strict=False)]
    print(f"{len(sent)} calls, {CPS + 1} of them within {min(spans).total_seconds():.3f} s at least")
    assert min(spans) >= least
