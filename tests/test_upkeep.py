"""What time alone brings about, in a real database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.errors import StoreUnavailable
from outdial.model import CampaignState, Recycle
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.upkeep import Upkeep

PROMOTED_WITHIN = 0.7
"""Seconds after it is due in which a number is ready: 0.1 here, more on a machine that is busy."""


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[House]:
    """VDN 1, and no carrier."""
    async with Store(database, None) as store:
        house = House(database, Carrier(tmp_path), store, sql)
        await house.open()
        yield house


async def ends(house: House) -> Counter[str]:
    return Counter(one for ends in (await house.dispositions()).values() for one in ends)


@pytest.mark.parametrize("state", [CampaignState.DRAFT, CampaignState.STARTED, CampaignState.SUSPENDED])
async def test_past_its_end_time_every_campaign_is_ended_and_so_are_its_numbers(
    house: House, state: CampaignState
) -> None:
    over = await house.campaign(state=state, end_at=utc_now() - timedelta(seconds=1))
    other = await house.campaign(state=state)
    for campaign_id in (over, other):
        await house.add(campaign_id, [f"86{n:06}" for n in range(2500)])
    await Upkeep(house.store).round()
    assert (await house.one(over)).state is CampaignState.ENDED
    assert (await house.one(over)).incomplete == 0
    assert (await house.one(other)).state is state
    assert (await house.one(other)).incomplete == 2500
    assert await ends(house) == {"NOT_ATTEMPTED": 2500}
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == 2500


async def test_a_number_that_is_being_dialed_ends_with_its_call(house: House) -> None:
    over = await house.campaign(end_at=utc_now() - timedelta(seconds=1))
    await house.add(over, ["860001", "860002"])
    await house.sql.execute("UPDATE contact SET state = 'dialing' WHERE called = '860001'")
    await Upkeep(house.store).round()
    assert await house.dispositions() == {"860002": ["NOT_ATTEMPTED"]}
    assert (await house.one(over)).incomplete == 1


@pytest.mark.parametrize("recycle", [Recycle.RETIRE, Recycle.KEEP])
async def test_numbers_are_retired_at_their_time_where_the_vdn_says_so(
    house: House, recycle: Recycle
) -> None:
    await house.store.vdns.change(1, recycle=recycle)
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, ["860001", "860002"], recycle_at=utc_now() - timedelta(seconds=1))
    await house.add(campaign_id, ["860003"], recycle_at=utc_now() + timedelta(hours=1))
    await house.add(campaign_id, ["860004"])
    await Upkeep(house.store).round()
    assert await ends(house) == ({"RECYCLED": 2} if recycle is Recycle.RETIRE else {})
    assert await house.incomplete(campaign_id) == (2 if recycle is Recycle.RETIRE else 4)


async def test_a_deleted_campaign_goes_in_parts_and_an_archived_one_stays(house: House) -> None:
    gone = await house.campaign(state=CampaignState.DRAFT)
    kept = await house.campaign(state=CampaignState.DRAFT)
    for campaign_id in (gone, kept):
        await house.add(campaign_id, [f"86{n:06}" for n in range(6000)])
    await house.service.delete_campaign(1, gone, archive=False)
    await house.service.delete_campaign(1, kept, archive=True)
    for _ in range(4):
        await Upkeep(house.store).round()
    rows = await house.sql.fetch("SELECT campaign_id, count(*) AS n FROM contact GROUP BY 1")
    assert [(row["campaign_id"], row["n"]) for row in rows] == [(kept, 6000)]
    assert [row["campaign_id"] for row in await house.sql.fetch("SELECT campaign_id FROM campaign")] == [kept]


async def test_archived_campaigns_do_not_hold_up_those_that_end(house: House) -> None:
    """A hundred of them fill the statement's limit, if they count."""
    past = utc_now() - timedelta(seconds=1)
    for n in range(120):
        await house.campaign(state=CampaignState.DRAFT, end_at=past, name=f"old {n}")
    await house.sql.execute("UPDATE campaign SET deleted_at = now(), archived = true")
    over = await house.campaign(end_at=past)
    await Upkeep(house.store).round()
    assert (await house.one(over)).state is CampaignState.ENDED


async def test_several_at_once_are_harmless(house: House, database: str) -> None:
    campaigns = [await house.campaign(end_at=utc_now() - timedelta(seconds=1)) for _ in range(5)]
    for campaign_id in campaigns:
        await house.add(campaign_id, [f"86{campaign_id}{n:04}" for n in range(500)])
    async with Store(database, None) as second, Store(database, None) as third:
        await asyncio.gather(*(Upkeep(store).round() for store in (house.store, second, third)))
    await Upkeep(house.store).round()
    assert await ends(house) == {"NOT_ATTEMPTED": 2500}
    assert await house.sql_is("SELECT bool_and(incomplete = 0) FROM campaign")


async def test_a_step_that_fails_does_not_hold_up_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> list[tuple[int, int]]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(house.store.campaigns, "overdue", away)
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, ["860001"])
    await house.service.end_campaign(1, campaign_id)
    stop = asyncio.Event()
    running = asyncio.create_task(Upkeep(house.store, every=0.05).run(stop))
    await house.all_done(campaign_id)
    stop.set()
    await asyncio.wait_for(running, 2)


async def slow() -> list[tuple[int, int]]:
    """A step that takes its time."""
    await asyncio.sleep(60)
    return []


async def test_a_number_is_ready_when_it_is_due_whatever_else_takes_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step may take as long as a request to the store, 5 s; a round would begin 1 s later."""
    monkeypatch.setattr(house.store.campaigns, "overdue", slow)
    campaign_id = await house.campaign(state=CampaignState.SUSPENDED)
    await house.add(campaign_id, ["860001", "860002"])
    waits = "UPDATE contact SET state = 'waiting', due_at = now() + $2 WHERE called = $1"
    await house.sql.execute(waits, "860001", timedelta(seconds=1.3))
    await house.sql.execute(waits, "860002", timedelta(seconds=1.9))
    running = asyncio.create_task(Upkeep(house.store, every=60).run(asyncio.Event()))
    for called in ("860001", "860002"):
        due = await house.sql.fetchval("SELECT due_at FROM contact WHERE called = $1", called)
        ready = "SELECT state = 'ready' FROM contact WHERE called = $1"
        await house.until(lambda one=called, is_so=ready: house.sql_is(is_so, one), 5)
        assert -0.05 < (utc_now() - due).total_seconds() < PROMOTED_WITHIN
    running.cancel()


async def test_a_number_that_comes_to_wait_meanwhile_is_seen(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next due time is looked up every second."""
    monkeypatch.setattr(house.store.campaigns, "overdue", slow)
    campaign_id = await house.campaign(state=CampaignState.SUSPENDED)
    await house.add(campaign_id, ["860001", "860002"])
    waits = "UPDATE contact SET state = 'waiting', due_at = now() + $2 WHERE called = $1"
    await house.sql.execute(waits, "860002", timedelta(hours=1))
    running = asyncio.create_task(Upkeep(house.store).run(asyncio.Event()))
    await asyncio.sleep(0.2)
    await house.sql.execute(waits, "860001", timedelta(seconds=1.3))
    due = await house.sql.fetchval("SELECT min(due_at) FROM contact")
    await house.until(lambda: house.sql_is("SELECT state = 'ready' FROM contact WHERE called = '860001'"), 5)
    assert (utc_now() - due).total_seconds() < PROMOTED_WITHIN
    running.cancel()
