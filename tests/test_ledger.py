"""Answers and ends on their way to the store: they gather; who pushes is woken where there is work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.dialing import Remember, Remembered, Settle
from outdial.engine.ledger import Ledger
from outdial.model import Disposition, Settlement
from outdial.retry import next_try
from outdial.store.calls import NextTry
from outdial.store.postgres import utc_now
from outdial.store.store import Store


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[House]:
    """VDN 1; nothing is dialed."""
    async with Store(database, None, name="test") as store:
        house = House(database, Carrier(tmp_path), store, sql)
        await house.open()
        yield house


class Calls:
    """A store that notes what one transaction holds."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.ends: list[int] = []

    async def remember(self, answers: Sequence[Remember]) -> None:
        self.answers.append(len(answers))

    async def settle(self, settlements: Sequence[Settlement], _: NextTry) -> None:
        self.ends.append(len(settlements))


async def test_answers_and_ends_gather_for_one_transaction() -> None:
    """What comes one after the other within a few milliseconds is stored together."""
    calls, told = Calls(), list[Remembered]()
    store: Any = SimpleNamespace(calls=calls)
    ledger = Ledger(store, told.append)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        loops = [group.create_task(ledger.remember_on()), group.create_task(ledger.write_on())]
        for _ in range(5):
            ledger.remember(Remember(1, uuid4(), "dialog", utc_now(), None, None))
            ledger.add(Settle(Settlement(1, uuid4(), Disposition.BUSY, utc_now())))
            for _ in range(3):
                await asyncio.sleep(0)
        while not told or len(ledger):
            await asyncio.sleep(0.005)
        for loop in loops:
            loop.cancel()
    assert (calls.answers, calls.ends) == ([5], [5])
    assert len(told[0].attempt_ids) == 5


async def test_who_pushes_is_woken_where_a_result_is_to_be_pushed(house: House) -> None:
    epoch = await house.store.calls.begin_epoch("here", 1, timedelta(seconds=60))
    heard: list[Any] = []
    await house.sql.add_listener("outdial_outbox", lambda *words: heard.append(words))

    async def settled(url: str | None) -> None:
        campaign_id = await house.campaign(callback_url=url)
        (contact_id,) = await house.add(campaign_id, ["8601"])
        await house.intend(campaign_id, contact_id, epoch=epoch)
        (one,) = await house.store.calls.open_attempts([epoch])
        end = Settlement(1, one.attempt.attempt_id, Disposition.BUSY, utc_now())
        await house.store.calls.settle([end], next_try)
        await house.sql.fetchval("SELECT 1")  # what was signalled before is here then

    await settled(None)
    assert heard == []
    await settled("http://127.0.0.1:9/results")
    assert len(heard) == 1
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == 1
