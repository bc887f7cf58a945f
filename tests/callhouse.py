"""What the tests of the engine and the upkeep share: a VDN in a real database, and a real carrier process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from outdial.engine import Engine
from outdial.model import Campaign, CampaignState, Recycle, TimerPacing, Vdn
from outdial.service import Service
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.switch.simulated import SimulatedSwitch
from playbook import ALWAYS, campaign

DEADLINE = 20.0


class Carrier:
    """The simulated carrier as a process, and its own log of what it was asked."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.address = str(folder / "carrier.sock")
        self.log = folder / "carrier.log"
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        before = len(self.lines(event="listening"))
        command = [sys.executable, "-m", "outdial.switch.carrier", "--socket", self.address]
        self.process = subprocess.Popen([*command, "--log", str(self.log), *(options or self._options)])
        until = time.monotonic() + DEADLINE
        while len(self.lines(event="listening")) == before:
            assert time.monotonic() < until, "the carrier does not start"
            assert self.process.poll() is None, "the carrier ended"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(DEADLINE)
            self.process = None

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        text = self.log.read_text(encoding="utf-8")
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [one for one in found if all(one.get(key) == value for key, value in wanted.items())]

    @property
    def orders(self) -> list[dict[str, Any]]:
        """What it was asked to call, in order."""
        return self.lines(order="originate")

    def called(self) -> list[str]:
        return [one["called"] for one in self.orders]

    def ordered_after(self, moment: datetime) -> list[dict[str, Any]]:
        return [one for one in self.orders if datetime.fromisoformat(one["at"]) > moment]


class Running:
    """An engine that runs in this process."""

    def __init__(
        self, house: House, make: Callable[[str], SimulatedSwitch] = SimulatedSwitch, **options: Any
    ) -> None:
        self.store = Store(house.dsn, None, size=6, name="engine")
        self.switch = make(house.carrier.address)
        self.engine = Engine(self.store, self.switch, **{"stop_grace": 10.0, **options})
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.store:
            await self.engine.run(self.stop)

    async def end(self) -> None:
        """Stop as SIGTERM does."""
        self.stop.set()
        await asyncio.wait_for(self.task, DEADLINE)


class House:
    """A database with VDN 1, a carrier, and what tests ask of them."""

    def __init__(self, dsn: str, carrier: Carrier, store: Store, sql: asyncpg.Connection) -> None:
        self.dsn = dsn
        self.carrier = carrier
        self.store = store
        self.service = Service(store)
        self.sql = sql
        self.engines: list[Running] = []

    async def open(self, *, recycle: Recycle = Recycle.KEEP) -> None:
        await self.store.vdns.create(Vdn(1, recycle=recycle, max_active=1000))

    def engine(self, make: Callable[[str], SimulatedSwitch] = SimulatedSwitch, **options: Any) -> Running:
        running = Running(self, make, **options)
        self.engines.append(running)
        return running

    async def campaign(
        self, calls: int = 100, every: int = 1, *, state: CampaignState = CampaignState.STARTED, **facts: Any
    ) -> int:
        """A campaign of `calls` calls every `every` seconds, open all day from yesterday on."""
        now = utc_now()
        new = replace(
            campaign(state=state),
            begin_at=now - timedelta(days=1),
            end_at=now + timedelta(days=1),
            windows=ALWAYS,
            pacing=TimerPacing("main", calls, every),
            max_alerting_time=1,
            name=f"c{now.timestamp()}",
        )
        new = replace(new, **facts)
        async with self.store.campaigns.under_quota(1) as (_, held):
            created = await held.create(new)
        assert created is not None
        return created

    async def add(self, campaign_id: int, numbers: Iterable[str], **columns: Any) -> list[int]:
        """Numbers straight into the store: the interface takes 20 a second."""
        rows = await self.sql.fetch(
            """WITH added AS (
                   INSERT INTO contact
                       (vdn_id, contact_id, campaign_id, called, priority, state, due_at, recycle_at)
                   SELECT 1, nextval('contact_id'), $1, n, 3, 'ready', now(), $3
                   FROM unnest($2::text[]) WITH ORDINALITY u(n, i) ORDER BY i RETURNING contact_id
               ), counted AS (
                   UPDATE campaign SET incomplete = incomplete + (SELECT count(*) FROM added)
                   WHERE vdn_id = 1 AND campaign_id = $1
               ), woken AS (SELECT pg_notify('outdial_engine', ''))
               SELECT contact_id FROM added, woken ORDER BY contact_id""",
            campaign_id,
            list(numbers),
            columns.get("recycle_at"),
        )
        return [row["contact_id"] for row in rows]

    async def intend(self, campaign_id: int, contact_id: int, *, epoch: int) -> None:
        """An intent of that run, as a claim leaves it."""
        await self.sql.execute(
            """WITH dialing AS (
                   UPDATE contact SET state = 'dialing', attempts = 1 WHERE contact_id = $3 RETURNING called
               ) INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller,
                                      epoch, intent_at)
               SELECT 1, $1, $2, $3, 1, called, '1', $4, now() FROM dialing""",
            uuid4(),
            campaign_id,
            contact_id,
            epoch,
        )

    async def one(self, campaign_id: int) -> Campaign:
        found = await self.store.campaigns.one(1, campaign_id)
        assert found is not None
        return found

    async def incomplete(self, campaign_id: int) -> int:
        return (await self.one(campaign_id)).incomplete

    async def all_done(self, *campaign_ids: int) -> None:
        for campaign_id in campaign_ids:
            await self.until(
                lambda one=campaign_id: self.sql_is(
                    "SELECT incomplete = 0 FROM campaign WHERE campaign_id = $1", one
                )
            )

    async def sql_is(self, query: str, *args: Any) -> bool:
        return bool(await self.sql.fetchval(query, *args))

    async def dispositions(self) -> dict[str, list[str]]:
        """Disposition by called number, of every final result."""
        found: dict[str, list[str]] = {}
        for row in await self.sql.fetch("SELECT called, disposition FROM call_result ORDER BY created_at"):
            found.setdefault(row["called"], []).append(row["disposition"])
        return found

    async def until(self, true: Callable[[], Any], seconds: float = DEADLINE) -> None:
        """Wait until `true` is."""
        until = time.monotonic() + seconds
        while True:
            value = true()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            assert time.monotonic() < until, "it does not come about"
            await asyncio.sleep(0.02)
