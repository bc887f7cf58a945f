"""What a VDN keeps no longer goes at its exact moment; nothing that is still needed does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.intake import POLICIES
from outdial.model import CallData, CampaignState, Edition, Keep
from outdial.store.numbers import Add
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.upkeep import Upkeep

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[House]:
    """VDN 1, which keeps numbers 3 days, results 2 and records 1; and VDN 2, which keeps all."""
    async with Store(database, None) as store:
        house = House(database, Carrier(tmp_path), store, sql)
        await house.open()
        assert await store.vdns.change(1, keep=Keep(3, 2, 1))
        yield house


async def contact(
    house: House, campaign_id: int, done_at: datetime, state: str = "done", vdn: int = 1
) -> int:
    found = await house.sql.fetchval(
        "INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at)"
        " VALUES ($4, nextval('contact_id'), $1, '1', 3, $3, $2) RETURNING contact_id",
        *(campaign_id, done_at, state, vdn),
    )
    return int(found)


async def result(house: House, made_at: datetime, *, waits: bool = False, vdn: int = 1) -> Any:
    made = uuid4()
    await house.sql.execute(
        "INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, disposition, call_at,"
        " created_at) SELECT $3, $1, 1, 1 + count(*), '1', 'BUSY', $2, $2 FROM call_result",
        *(made, made_at, vdn),
    )
    if waits:
        await house.sql.execute(
            "INSERT INTO outbox (vdn_id, result_id, campaign_id, url, created_at)"
            " VALUES ($3, $1, 1, 'u', $2)",
            *(made, made_at, vdn),
        )
    return made


async def attempt(house: House, made_at: datetime, contact_id: int = 0, *, ended: bool = True) -> Any:
    made = uuid4()
    await house.sql.execute(
        "INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,"
        " intent_at, ended_at) SELECT 1, $1, 1, $3, 1 + count(*), '1', '1', 1, $2, $4 FROM attempt",
        *(made, made_at, contact_id, made_at if ended else None),
    )
    return made


async def left(house: House, table: str, key: str) -> set[Any]:
    return {row[0] for row in await house.sql.fetch(f"SELECT {key} FROM {table}")}


async def sweep(house: House) -> None:
    await Upkeep(house.store, now=lambda: NOW).round()


async def test_a_number_goes_when_its_days_are_over_and_not_a_microsecond_before(house: House) -> None:
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    gone = await contact(house, campaign_id, NOW - 3 * DAY)
    kept = await contact(house, campaign_id, NOW - 3 * DAY + TICK)
    await sweep(house)
    left_over = await left(house, "contact", "contact_id")
    assert (gone in left_over, kept in left_over) == (False, True)


async def test_a_number_that_is_incomplete_stays_however_old(house: House) -> None:
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    kept = {await contact(house, campaign_id, NOW - 99 * DAY, s) for s in ("waiting", "ready", "dialing")}
    await house.store.retention.numbers(1, None, NOW)
    assert await left(house, "contact", "contact_id") == kept


async def test_results_go_but_none_that_a_receiver_waits_for(house: House) -> None:
    await result(house, NOW - 2 * DAY)
    young = await result(house, NOW - 2 * DAY + TICK)
    waits = await result(house, NOW - 99 * DAY, waits=True)
    await sweep(house)
    assert await left(house, "call_result", "result_id") == {young, waits}
    await house.sql.execute("DELETE FROM outbox")
    await sweep(house)
    assert await left(house, "call_result", "result_id") == {young}


async def test_records_go_but_none_that_a_retry_still_counts(house: House) -> None:
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    waiting = await contact(house, campaign_id, NOW + DAY, "waiting")
    done = await contact(house, campaign_id, NOW)
    for of in (done, 0):
        await attempt(house, NOW - DAY, of)
    kept = {
        await attempt(house, NOW - DAY + TICK, done),
        await attempt(house, NOW - 9 * DAY, waiting),
        await attempt(house, NOW - 9 * DAY, done, ended=False),
    }
    await sweep(house)
    assert await left(house, "attempt", "attempt_id") == kept


async def test_another_vdn_keeps_what_it_keeps(house: House) -> None:
    await house.sql.execute(
        "INSERT INTO vdn (vdn_id, time_zone, edition, max_active, recycle, created_at)"
        " SELECT 2, time_zone, edition, max_active, recycle, created_at FROM vdn"
    )
    kept = await contact(house, 1, NOW - 99 * DAY, vdn=2)
    theirs = await result(house, NOW - 99 * DAY, vdn=2)
    await sweep(house)
    assert await left(house, "contact", "contact_id") == {kept}
    assert await left(house, "call_result", "result_id") == {theirs}


async def test_off_by_default_and_off_again_with_0(house: House) -> None:
    assert (await house.store.retention.keeping()) == {1: Keep(3, 2, 1)}
    await house.store.vdns.change(1, keep=Keep(0, 0, 0))
    assert (await house.store.retention.keeping()) == {}


async def test_a_number_that_ends_without_a_call_is_young(house: House) -> None:
    """Its days begin when it is done, not when it was added."""
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    (added,) = await house.add(campaign_id, ["1"])
    await house.sql.execute("UPDATE contact SET due_at = now() - interval '9 days'")
    await house.service.end_campaign(1, campaign_id)
    await Upkeep(house.store).round()
    assert await left(house, "contact", "contact_id") == {added}


async def test_counters_stay_right_and_a_page_is_bounded(house: House) -> None:
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, [str(n) for n in range(2500)])
    await house.sql.execute(
        "UPDATE contact SET state = 'done', due_at = $1 WHERE called::int % 2 = 0", NOW - 9 * DAY
    )
    await house.sql.execute("UPDATE campaign SET incomplete = 1250")
    before = await house.store.campaigns.progress(1, campaign_id)
    first = await house.store.retention.numbers(1, None, NOW - 3 * DAY)
    assert first.rows <= 1000
    assert await house.store.campaigns.progress(1, campaign_id) == before
    await sweep(house)
    assert await house.store.campaigns.progress(1, campaign_id) == before
    assert await house.sql_is("SELECT count(*) = 1250 FROM contact")
    assert await house.incomplete(campaign_id) == 1250


async def test_while_numbers_are_added_nothing_waits_and_nothing_is_lost(house: House) -> None:
    """Adds to the campaign whose old numbers go: each is taken within a second."""
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, [f"5{n:05}" for n in range(12_000)])
    await house.sql.execute("UPDATE contact SET state = 'done', due_at = $1", NOW - 9 * DAY)
    await house.sql.execute("UPDATE campaign SET incomplete = 0")
    upkeep = Upkeep(house.store, every=0.01, now=lambda: NOW)
    stop = asyncio.Event()
    running = asyncio.create_task(upkeep.run(stop))
    slowest = 0.0
    for n in range(60):
        began = asyncio.get_running_loop().time()
        add = Add(
            1, "UTC", POLICIES[Edition.Y2023], campaign_id, [CallData(f"6{n}")], uuid4(), uuid4(), utc_now()
        )
        while not (await house.store.numbers.admit(add)).kept:
            await house.sql.execute("UPDATE campaign SET last_added_at = NULL")
        slowest = max(slowest, asyncio.get_running_loop().time() - began)
    await house.until(lambda: house.sql_is("SELECT count(*) = 60 FROM contact"))
    stop.set()
    await running
    assert slowest < 1
    assert await house.incomplete(campaign_id) == 60
    assert await house.sql_is("SELECT removed = 12000 FROM campaign")
