"""After an erasure no table holds the number; counts stay; on the blacklist it goes on being refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.dialing import Listing
from outdial.errors import SettingError
from outdial.intake import POLICIES
from outdial.model import BlacklistEntry, CallData, CampaignState, Edition, Vdn
from outdial.store.erasure import CannotErase, Erased
from outdial.store.numbers import Add, Outcome
from outdial.store.postgres import utc_now
from outdial.store.sealing import MasterKey
from outdial.store.store import Store

NUMBER, LONGER, OTHER = "8613800138000", "18613800138000", "8613800139999"
KEY = MasterKey(bytes(32))


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[House]:
    """VDN 1 with a master key, and no carrier."""
    async with Store(database, KEY) as store:
        house = House(database, Carrier(tmp_path), store, sql)
        await house.open()
        yield house


async def holding(house: House, number: str = NUMBER) -> set[str]:
    """The tables of which a row holds the number, in any column."""
    tables = await house.sql.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    query = 'SELECT count(*) FROM "{}" t WHERE t::text ~ $1'
    word = f"(?<![0-9]){number}(?![0-9])"
    return {row["name"] for row in tables if await house.sql.fetchval(query.format(row["name"]), word)}


async def everywhere(house: House) -> int:
    """A campaign whose rows hold the number wherever one can stand."""
    campaign_id = await house.campaign(callback_url="http://127.0.0.1:9/")
    done, _, _, other, _ = await house.add(campaign_id, [NUMBER, NUMBER, NUMBER, OTHER, LONGER])
    await house.sql.execute(
        "UPDATE contact SET session_id = called, custom_field = 'tel ' || called,"
        " call_data = '{\"phone\":\"' || called || '\"}' WHERE called = $1",
        NUMBER,
    )
    await house.sql.execute("UPDATE contact SET state = 'waiting' WHERE contact_id = $1 + 1", done)
    await house.sql.execute(
        "UPDATE contact SET caller = $1::text, call_data = '{\"n\":' || $1 || ',\"m\":1' || $1 || '}'"
        " WHERE contact_id = $2",
        *(NUMBER, other),
    )
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(seconds=60))
    await house.intend(campaign_id, done, epoch=epoch)
    await house.sql.execute("UPDATE attempt SET ended_at = now(), keys = called, disposition = 'ANSWERED'")
    await house.sql.execute(
        "UPDATE contact SET state = 'done', disposition = 'ANSWERED' WHERE contact_id = $1", done
    )
    await house.sql.execute("UPDATE campaign SET incomplete = incomplete - 1")
    await house.sql.execute(
        "INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, attempt_id, called, session_id,"
        " custom_field, disposition, call_at, created_at)"
        " SELECT 1, gen_random_uuid(), campaign_id, contact_id, attempt_id,"
        " called, called, called, disposition, now(), now() FROM attempt"
    )
    await house.sql.execute(
        "INSERT INTO outbox (vdn_id, result_id, campaign_id, url, created_at, due_at)"
        " SELECT 1, result_id, campaign_id, 'u', now(), now() FROM call_result"
    )
    await house.sql.execute("INSERT INTO called_count VALUES (1, $1, '{}', now())", NUMBER)
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER)])
    return campaign_id


async def admit(store: Store, campaign_id: int, *numbers: str) -> Outcome:
    entries = [CallData(number) for number in numbers]
    policy = POLICIES[Edition.Y2025]
    return await store.numbers.admit(Add(1, "UTC", policy, campaign_id, entries, uuid4(), uuid4(), utc_now()))


async def test_no_table_holds_the_number_and_counts_stay(house: House) -> None:
    campaign_id = await everywhere(house)
    assert await holding(house) == {"contact", "attempt", "call_result", "called_count", "blacklist"}
    before = await house.store.campaigns.progress(1, campaign_id)
    tables = ("contact", "attempt", "call_result")
    rows = f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in tables)}"
    counts = await house.sql.fetchrow(rows)
    assert await house.store.erasure.erase(1, NUMBER) == Erased(3, 1, 1, blacklisted=True)
    assert await holding(house) == set()
    assert await house.sql.fetchrow(rows) == counts
    after = await house.store.campaigns.progress(1, campaign_id)
    assert (after.done, after.ready, after.waiting) == (before.done + 2, before.ready - 1, before.waiting - 1)
    assert await house.incomplete(campaign_id) == 2
    assert await house.sql_is("SELECT array_agg(disposition) = '{ANSWERED}' FROM call_result")


async def test_other_numbers_stay_as_they_are(house: House) -> None:
    """A longer number that ends the same is another one; what names the erased one loses it alone."""
    await everywhere(house)
    await house.store.erasure.erase(1, NUMBER)
    assert await holding(house, LONGER) == {"contact"}
    row = await house.sql.fetchrow("SELECT caller, call_data, state FROM contact WHERE called = $1", OTHER)
    assert tuple(row) == (None, '{"n":0,"m":1' + NUMBER + "}", "ready")


async def test_nothing_of_it_is_pushed_any_more(house: House) -> None:
    await everywhere(house)
    await house.store.erasure.erase(1, NUMBER)
    assert await house.store.results.lease(per_receiver=10, lease=5) == []


async def test_another_vdn_keeps_it(house: House) -> None:
    await house.store.vdns.create(Vdn(2))
    await house.store.blacklist.add([BlacklistEntry(2, NUMBER)])
    await everywhere(house)
    await house.store.erasure.erase(1, NUMBER)
    assert await holding(house) == {"blacklist"}
    assert [entry.number for entry in await house.store.blacklist.some(2, [NUMBER])] == [NUMBER]


async def test_an_add_of_it_is_refused_in_every_process_at_once(house: House) -> None:
    """One that was open before does not know the key: it learns it before it keeps anything."""
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER)])
    async with Store(house.dsn, KEY) as before:
        assert (await admit(before, campaign_id, OTHER)).kept
        await house.store.erasure.erase(1, NUMBER)
        await house.sql.execute("UPDATE campaign SET last_added_at = NULL")
        refused = await admit(before, campaign_id, OTHER, NUMBER)
        assert (refused.kept, refused.facts.blacklisted) == (False, 1)
        assert (await admit(before, campaign_id, OTHER, LONGER)).kept
    assert await house.sql_is("SELECT count(*) = 3 FROM contact")


async def test_an_add_to_a_campaign_without_duplicates_is_refused_too(house: House) -> None:
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.sql.execute("UPDATE campaign SET duplicates = 'skip'")
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER)])
    await house.store.erasure.erase(1, NUMBER)
    async with Store(house.dsn, KEY) as fresh:
        policy = POLICIES[Edition.Y2025]
        add = Add(1, "UTC", policy, campaign_id, [CallData(NUMBER)], uuid4(), uuid4(), utc_now())
        outcome, _ = await fresh.numbers.admit_exclusive(add)
    assert (outcome.kept, outcome.facts.blacklisted) == (False, 0)


async def test_the_dialer_stops_it_and_counts_what_is_restricted(house: House) -> None:
    """A contact that came in before its entry; another process claims it."""
    campaign_id = await house.campaign()
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER), BlacklistEntry(1, OTHER)])
    await house.sql.execute(
        "UPDATE blacklist SET restrict_times = 2, restrict_period = 'day' WHERE number = $1", OTHER
    )
    for number in (NUMBER, OTHER):
        await house.store.erasure.erase(1, number)
    await house.add(campaign_id, [NUMBER, OTHER, LONGER])
    async with Store(house.dsn, KEY) as engine:
        epoch = await engine.calls.begin_epoch("h", 1, timedelta(seconds=60))
        for calls in (0, 1):
            async with engine.calls.claiming(1, campaign_id, epoch) as claim:
                assert claim is not None
                assert all(one.listed for one in await claim.candidates(10))
                listings = await claim.listings([NUMBER, OTHER, LONGER])
                assert set(listings) == {NUMBER, OTHER}
                assert listings[NUMBER].plain
                assert listings[OTHER].window_calls == calls
                await claim.count_calls({OTHER: Listing(2, "day", utc_now(), calls + 1)})


@pytest.mark.parametrize("open_attempt", [True, False])
async def test_while_it_is_called_it_is_refused_and_afterwards_not(house: House, open_attempt: bool) -> None:
    campaign_id = await house.campaign()
    (contact_id,) = await house.add(campaign_id, [NUMBER])
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(seconds=60))
    await house.intend(campaign_id, contact_id, epoch=epoch)
    if not open_attempt:  # claimed after the first look
        await house.sql.execute("UPDATE attempt SET ended_at = now()")
    with pytest.raises(CannotErase, match="under way"):
        await house.store.erasure.erase(1, NUMBER)
    assert await house.sql_is("SELECT called = $1 FROM contact", NUMBER)
    await house.sql.execute("UPDATE attempt SET ended_at = now()")
    await house.sql.execute("UPDATE contact SET state = 'done'")
    assert (await house.store.erasure.erase(1, NUMBER)).numbers == 1
    assert await holding(house) == set()


async def test_while_a_call_is_handed_over_to_it_it_is_refused(house: House) -> None:
    """No contact of the number is dialed: the open attempt alone tells. Nothing has moved by then."""
    campaign_id = await house.campaign()
    (contact_id,) = await house.add(campaign_id, [OTHER])
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(seconds=60))
    await house.intend(campaign_id, contact_id, epoch=epoch)
    await house.sql.execute("UPDATE attempt SET called = $1, transfer_of = gen_random_uuid()", NUMBER)
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER)])
    with pytest.raises(CannotErase, match="under way"):
        await house.store.erasure.erase(1, NUMBER)
    assert await holding(house) == {"attempt", "blacklist"}


async def test_what_the_vdn_wrote_down_itself_is_named(house: House) -> None:
    named = await house.campaign(description=f"for {NUMBER}", state=CampaignState.DRAFT)
    await house.store.flows.add(1, "main", f'{{"to":"{NUMBER}"}}', [])
    with pytest.raises(CannotErase, match=f"campaign {named}, flow main: take it out there"):
        await house.store.erasure.erase(1, NUMBER)
    await house.store.flows.remove(1, "main")
    await house.service.delete_campaign(1, named, archive=True)
    await house.store.erasure.erase(1, NUMBER)
    assert await holding(house) == set()


async def test_the_blacklist_answers_for_it_as_before_and_does_not_list_it(house: House) -> None:
    entry = BlacklistEntry(1, NUMBER)
    await house.store.blacklist.add([entry, BlacklistEntry(1, OTHER)])
    await house.store.erasure.erase(1, NUMBER)
    assert (await house.store.erasure.erase(1, NUMBER)).blacklisted
    assert await house.store.blacklist.some(1, [NUMBER]) == [entry]
    assert await house.store.blacklist.add([entry]) == [NUMBER]
    await house.store.blacklist.add_missing([entry], overwrite=True)
    assert await holding(house) == set()
    page, total = await house.store.blacklist.page(1, limit=10, offset=0)
    assert ([one.number for one in page], total) == ([OTHER], 1)
    assert await house.store.blacklist.delete(1, NUMBER)
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    assert (await admit(house.store, campaign_id, NUMBER)).kept


async def test_the_hash_needs_the_master_key(house: House, database: str) -> None:
    """Without it nothing is erased; a number that is not blacklisted needs none."""
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER)])
    async with Store(database, None) as poor:
        with pytest.raises(SettingError, match="master key"):
            await poor.erasure.erase(1, NUMBER)
        assert await holding(house) == {"blacklist"}
        assert await poor.erasure.erase(1, OTHER) == Erased(0, 0, 0, blacklisted=False)
    await house.store.erasure.erase(1, NUMBER)
    async with Store(database, MasterKey(b"2" * 32)) as wrong:
        with pytest.raises(SettingError, match="sealed by master key"):
            await wrong.vdns.check_master_key()


async def test_a_short_number_is_looked_for_as_a_whole(house: House) -> None:
    """`1` in a text means anything."""
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, ["1", "2"])
    await house.sql.execute("UPDATE contact SET call_data = '{\"n\":1}', session_id = '1'")
    await house.store.erasure.erase(1, "1")
    rows = await house.sql.fetch("SELECT called, session_id, call_data FROM contact ORDER BY called")
    assert [tuple(row) for row in rows] == [("", None, None), ("2", "1", '{"n":1}')]


async def test_a_large_vdn_is_walked_in_pages(house: House) -> None:
    campaign_id = await house.campaign(state=CampaignState.DRAFT)
    await house.add(campaign_id, [NUMBER if n % 1000 == 999 else f"7{n:06}" for n in range(5000)])
    assert (await house.store.erasure.erase(1, NUMBER)).numbers == 5
    assert await house.incomplete(campaign_id) == 4995
