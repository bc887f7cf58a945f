"""Which result is final, what a delete leaves, deletes against claims; in a real database (rules.md §7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial import service
from outdial.errors import Code, Refusal
from outdial.model import (
    BlacklistEntry,
    Campaign,
    CampaignState,
    Disposition,
    Recycle,
    RetryPolicy,
    RetryRule,
    Settlement,
)
from outdial.retry import Try
from outdial.store.campaigns import ContactFilter
from outdial.store.history import ResultFilter
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.upkeep import Upkeep

EVERY = ContactFilter()


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[House]:
    """VDN 1, and no carrier."""
    async with Store(database, None) as store:
        house = House(database, Carrier(tmp_path), store, sql)
        await house.open()
        yield house


def in_an_hour(_: Campaign, __: Sequence[Try], now: datetime, ___: tzinfo) -> datetime:
    return now + timedelta(hours=1)


def never(_: Campaign, __: Sequence[Try], ___: datetime, ____: tzinfo) -> None:
    return None


async def settle(house: House, disposition: Disposition, rule: Any) -> None:
    """End every open attempt so."""
    rows = await house.sql.fetch("SELECT attempt_id FROM attempt WHERE ended_at IS NULL")
    ends = [Settlement(1, row["attempt_id"], disposition, utc_now()) for row in rows]
    await house.store.calls.settle(ends, rule)


async def dialed(house: House, campaign_id: int, contact_id: int, number: int) -> None:
    """The number's next attempt is under way."""
    await house.sql.execute(
        "UPDATE contact SET state = 'dialing', attempts = $2 WHERE contact_id = $1", contact_id, number
    )
    await house.sql.execute(
        "INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,"
        " intent_at) VALUES (1, $1, $2, $3, $4, 'x', '1', 1, now())",
        *(uuid4(), campaign_id, contact_id, number),
    )


async def waiting(house: House, campaign_id: int, called: str) -> int:
    """A number that was busy and waits for another try."""
    (contact_id,) = await house.add(campaign_id, [called])
    await dialed(house, campaign_id, contact_id, 1)
    await settle(house, Disposition.BUSY, in_an_hour)
    return contact_id


async def retrying(house: House, **facts: Any) -> int:
    return await house.campaign(retry=RetryPolicy(rules=(RetryRule(("BUSY",), 5, 3600),)), **facts)


async def final(house: House, campaign_id: int) -> list[tuple[str, str]]:
    found, total = await house.service.result_page(1, campaign_id, ResultFilter(), limit=100, offset=0)
    assert total == len(found)
    return [(one.called, one.disposition.value) for one in found]


async def calls(house: House, campaign_id: int) -> int:
    wanted = ResultFilter(every_call=True)
    return (await house.service.result_page(1, campaign_id, wanted, limit=100, offset=0))[1]


# -- final -----------------------------------------------------------------------------------------------


async def test_a_result_is_final_once_its_number_is_done(house: House) -> None:
    campaign_id = await retrying(house)
    contact_id = await waiting(house, campaign_id, "8601")
    assert (await final(house, campaign_id), await calls(house, campaign_id)) == ([], 1)
    await dialed(house, campaign_id, contact_id, 2)
    await settle(house, Disposition.ANSWERED, never)
    assert (await final(house, campaign_id), await calls(house, campaign_id)) == ([("8601", "ANSWERED")], 2)


@pytest.mark.parametrize("how", ["end", "recycle", "blacklist"])
async def test_a_number_that_ends_while_it_waits_keeps_its_last_result(house: House, how: str) -> None:
    """Whether its campaign ends, its recycle time comes, or it is blacklisted when it would be claimed."""
    await house.store.vdns.change(1, recycle=Recycle.RETIRE)
    campaign_id = await retrying(house)
    contact_id = await waiting(house, campaign_id, "8601")
    if how == "end":
        await house.service.end_campaign(1, campaign_id)
    elif how == "recycle":
        await house.sql.execute("UPDATE contact SET recycle_at = now()")
    else:
        await house.store.blacklist.add([BlacklistEntry(1, "8601")])
        epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
        async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
            assert claim is not None
            await claim.end([contact_id], Disposition.BLACKLISTED)
    await Upkeep(house.store).round()
    assert await final(house, campaign_id) == [("8601", "BUSY")]
    assert await house.sql_is("SELECT count(*) = 0 FROM contact WHERE closing")


async def test_a_number_that_was_never_called_ends_with_a_final_result(house: House) -> None:
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["8601"])
    await house.service.end_campaign(1, campaign_id)
    await Upkeep(house.store).round()
    assert await final(house, campaign_id) == [("8601", "NOT_ATTEMPTED")]


# -- deleting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [True, False])
async def test_a_deleted_number_has_a_final_result_where_it_is_kept(house: House, archive: bool) -> None:
    campaign_id = await retrying(house)
    await waiting(house, campaign_id, "8601")
    await house.add(campaign_id, ["8602"])
    await house.service.pause(1, campaign_id)
    deleted = await house.service.delete_numbers(1, campaign_id, EVERY, archive=archive)
    assert (deleted.gone, deleted.incomplete) == (2, 0)
    await Upkeep(house.store).round()
    assert await final(house, campaign_id) == ([("8601", "BUSY")] if archive else [])
    assert await calls(house, campaign_id) == 1
    assert await house.sql_is("SELECT count(*) = $1 FROM contact WHERE state = 'done'", 2 if archive else 0)


async def test_an_archived_campaign_has_the_last_result_of_every_number(house: House) -> None:
    """Numbers that are being called when it is deleted end with their call."""
    campaign_id = await retrying(house)
    await waiting(house, campaign_id, "8601")
    running, _ = await house.add(campaign_id, ["8602", "8603"])
    await dialed(house, campaign_id, running, 1)
    await house.service.pause(1, campaign_id)
    await house.service.delete_campaign(1, campaign_id, archive=True)
    await Upkeep(house.store).round()
    assert await final(house, campaign_id) == [("8601", "BUSY")]
    await settle(house, Disposition.BUSY, in_an_hour)
    assert await final(house, campaign_id) == [("8601", "BUSY"), ("8602", "BUSY")]
    assert await house.sql_is("SELECT incomplete = 0 FROM campaign")


async def test_a_deleted_campaigns_results_go_but_for_those_on_their_way(house: House) -> None:
    """Guarantee G5: every result is delivered."""
    campaign_id = await retrying(house, callback_url="http://127.0.0.1:9/")
    await waiting(house, campaign_id, "8601")
    await waiting(house, campaign_id, "8602")
    await house.sql.execute(
        "DELETE FROM outbox WHERE result_id = (SELECT min(result_id::text)::uuid FROM outbox)"
    )
    await house.service.pause(1, campaign_id)
    await house.service.delete_campaign(1, campaign_id, archive=False)
    with pytest.raises(Refusal) as refused:
        await final(house, campaign_id)
    assert refused.value.code is Code.NOT_FOUND
    for _ in range(3):
        await Upkeep(house.store).round()
    assert await house.sql_is("SELECT count(*) = 0 FROM campaign")
    assert await house.sql_is("SELECT count(*) = 1 FROM call_result JOIN outbox USING (vdn_id, result_id)")
    assert await house.sql_is("SELECT count(*) = 1 FROM call_result")


async def test_more_numbers_than_can_be_deleted_in_time_are_refused_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DELETED_AT_ONCE", 10)
    monkeypatch.setattr(service, "DELETING", 0.0)
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, [str(n) for n in range(25)])
    with pytest.raises(Refusal) as refused:
        await house.service.delete_numbers(1, campaign_id, EVERY, archive=False)
    assert refused.value.code is Code.DATABASE
    assert "in parts" in refused.value.detail
    assert await house.sql_is("SELECT count(*) = 25 FROM contact")
    assert await house.incomplete(campaign_id) == 25


# -- against claims --------------------------------------------------------------------------------------


async def waits_for_a_lock(house: House) -> bool:
    return await house.sql_is(
        "SELECT count(*) > 0 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def test_a_delete_waits_for_a_claim_and_is_then_refused(house: House) -> None:
    """The campaign looked paused when the delete came; it executes when the delete gets its row."""
    campaign_id = await house.campaign(state=CampaignState.SUSPENDED)
    await house.add(campaign_id, ["8601", "8602"])
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    async with house.store.campaigns.locked(1, campaign_id) as (_, held):
        await held.set_state(CampaignState.STARTED, was=CampaignState.SUSPENDED)
        late = asyncio.create_task(house.service.delete_numbers(1, campaign_id, EVERY, archive=False))
        await house.until(lambda: waits_for_a_lock(house), 1.5)
    with pytest.raises(Refusal) as refused:
        await late
    assert refused.value.code is Code.STATE_FORBIDS
    async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
        assert claim is not None
        found = await claim.candidates(10)
        assert [one.called for one in found] == ["8601", "8602"]


async def test_a_claim_waits_for_a_delete_and_takes_what_is_left(house: House) -> None:
    campaign_id = await house.campaign()
    first, _ = await house.add(campaign_id, ["8601", "8602"])
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))

    async def claim() -> list[str]:
        async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
            assert claim is not None
            found = await claim.candidates(10)
            await claim.intend([(uuid4(), one) for one in found])
            return [one.called for one in found]

    async with house.store.campaigns.locked(1, campaign_id) as (_, held):
        assert await held.delete_contacts([first], archive=False) == 1
        later = asyncio.create_task(claim())
        await house.until(lambda: waits_for_a_lock(house), 1.5)
    assert await later == ["8602"]
    assert await house.incomplete(campaign_id) == 1
    assert await house.sql_is("SELECT count(*) = 1 FROM attempt JOIN contact USING (vdn_id, contact_id)")


@pytest.mark.parametrize("archive", [True, False])
async def test_a_number_that_is_being_called_is_never_taken_out(house: House, archive: bool) -> None:
    """Not even by its id: the statement looks itself."""
    campaign_id = await house.campaign()
    ids = await house.add(campaign_id, ["8601", "8602"])
    await dialed(house, campaign_id, ids[0], 1)
    async with house.store.campaigns.locked(1, campaign_id) as (_, held):
        assert await held.delete_contacts(ids, archive=archive) == 1
    assert await house.incomplete(campaign_id) == 1
    assert await house.sql_is("SELECT count(*) = 1 FROM contact WHERE state = 'dialing'")


async def test_pauses_claims_adds_and_deletes_at_once_keep_the_count(house: House, database: str) -> None:
    """After any of it the campaign counts what is there, and every attempt has its number."""
    campaign_id = await house.campaign()
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    deleted = 0

    async def one(n: int, store: Store) -> None:
        nonlocal deleted
        verbs = service.Service(store)
        try:
            if n % 4 == 0:
                await verbs.pause(1, campaign_id)
            elif n % 4 == 1:
                await verbs.resume(1, campaign_id)
            elif n % 4 == 2:
                wanted = replace(EVERY, called=f"86{n % 40:03}")
                deleted += (await verbs.delete_numbers(1, campaign_id, wanted, archive=n % 8 == 2)).gone
            else:
                async with store.calls.claiming(1, campaign_id, epoch) as claim:
                    if claim is not None:
                        found = await claim.candidates(1)
                        await claim.intend([(uuid4(), one) for one in found])
        except Refusal as refused:
            if refused.code is not Code.STATE_FORBIDS:
                raise

    await house.add(campaign_id, [f"86{n:03}" for n in range(40)])
    async with Store(database, None) as second:
        for first in range(0, 160, 16):
            await asyncio.gather(
                *(one(n, second if n % 3 else house.store) for n in range(first, first + 16))
            )
    assert deleted > 0
    assert await house.sql_is("SELECT count(*) > 0 FROM attempt")
    assert await house.sql_is(
        "SELECT incomplete = (SELECT count(*) FROM contact WHERE state <> 'done') FROM campaign"
    )
    assert await house.sql_is(
        "SELECT count(*) = 0 FROM attempt a LEFT JOIN contact n USING (vdn_id, contact_id)"
        " WHERE n.state IS DISTINCT FROM 'dialing'"
    )
