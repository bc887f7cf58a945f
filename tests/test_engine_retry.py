"""Retries in the engine: a number waits, is called again, and ends; against PostgreSQL and a real carrier."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.model import (
    BlacklistEntry,
    CallerNumber,
    Campaign,
    Disposition,
    Duplicates,
    OnUnknown,
    Recycle,
    RetryPolicy,
    RetryRule,
    Settlement,
    SpecialDate,
    SpecialDateKind,
)
from outdial.retry import GAP, Try, next_try
from outdial.store.calls import PROMOTED
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.upkeep import Upkeep

QUICK = ("--ring", "0.02", "--talk", "0.05", "--drop", "0.1")
EVERY_DAY = SpecialDate(0, "d", SpecialDateKind.WEEKLY, weekdays=(1, 2, 3, 4, 5, 6, 7))


def on_busy(retries: int, interval: int) -> RetryPolicy:
    return RetryPolicy(rules=(RetryRule(("BUSY",), retries, interval),))


@pytest.fixture
def carrier(tmp_path: Path) -> Iterator[Carrier]:
    """A carrier that rings and talks briefly."""
    far = Carrier(tmp_path, *QUICK)
    far.start()
    yield far
    far.end(signal.SIGKILL)


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[House]:
    """VDN 1 and its store; the carrier is started by those tests that ask for it."""
    async with Store(database, None, name="test") as store:
        house = House(database, Carrier(tmp_path), store, sql)
        await house.open()
        yield house
        for running in house.engines:
            running.engine._stop_grace = 0.0
            running.stop.set()
        await asyncio.gather(*(running.task for running in house.engines), return_exceptions=True)


@pytest.fixture
async def upkeep(house: House) -> AsyncIterator[None]:
    """The rounds of the upkeep, ten a second."""
    stop = asyncio.Event()
    running = asyncio.create_task(Upkeep(house.store, every=0.1).run(stop))
    yield
    stop.set()
    await running


async def states(house: House) -> dict[str, str]:
    return {row["called"]: row["state"] for row in await house.sql.fetch("SELECT called, state FROM contact")}


async def due(house: House) -> None:
    """The time that every waiting number waits for has come."""
    await house.sql.execute("UPDATE contact SET due_at = now() WHERE state = 'waiting'")


# -- with a carrier --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("upkeep")
async def test_a_busy_number_is_called_again_until_its_tries_are_used(house: House, carrier: Carrier) -> None:
    """Two retries, each so long after the end before it; every attempt has its result, and it is pushed."""
    campaign_id = await house.campaign(retry=on_busy(2, 2))
    await house.add(campaign_id, ["86000003", "86000103", "86000001", "86000005"])
    house.engine()
    await house.all_done(campaign_id)
    called = Counter(carrier.called())
    assert called == {"86000003": 3, "86000103": 3, "86000001": 1, "86000005": 1}
    assert await house.dispositions() == {
        "86000003": ["BUSY"] * 3,
        "86000103": ["BUSY"] * 3,
        "86000001": ["ANSWERED"],
        "86000005": ["INVALID"],
    }
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == 8
    gaps = await house.sql.fetch(
        "SELECT intent_at - lag(ended_at) OVER (PARTITION BY contact_id ORDER BY attempt_no) AS gap"
        " FROM attempt"
    )
    waited = [row["gap"] for row in gaps if row["gap"] is not None]
    assert len(waited) == 4
    assert timedelta(seconds=2) <= min(waited)
    assert max(waited) < timedelta(seconds=9)


async def test_a_number_that_waits_is_incomplete(house: House, carrier: Carrier) -> None:
    """So many tries a day: the rest of its tries in `due_at`; the result of the attempt is out already."""
    campaign_id = await house.campaign(retry=RetryPolicy(days=5, tries_a_day=5))
    await house.add(campaign_id, ["86000003"])
    house.engine()
    await house.until(lambda: house.sql_is("SELECT state = 'waiting' FROM contact"))
    row = await house.sql.fetchrow(
        "SELECT n.due_at - a.ended_at AS wait, n.disposition FROM contact n JOIN attempt a USING (contact_id)"
    )
    assert (row["wait"], row["disposition"]) == (GAP, "BUSY")
    assert await house.incomplete(campaign_id) == 1
    assert await house.dispositions() == {"86000003": ["BUSY"]}
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == 1
    progress = await house.service.progress(1, campaign_id)
    assert (progress.ready, progress.waiting, progress.done) == (0, 1, 0)
    assert len(carrier.orders) == 1


@pytest.mark.usefixtures("upkeep")
async def test_blacklist_and_recycle_time_are_judged_again(house: House, carrier: Carrier) -> None:
    """What was entered or has passed while a number waited: it ends with its last result, and no call."""
    await house.store.vdns.change(1, recycle=Recycle.RETIRE)
    campaign_id = await house.campaign(retry=on_busy(5, 3600))
    await house.add(campaign_id, ["86000003", "86000103"])
    await house.add(campaign_id, ["86000203"], recycle_at=utc_now() + timedelta(hours=1))
    house.engine()
    await house.until(lambda: house.sql_is("SELECT count(*) = 3 FROM contact WHERE state = 'waiting'"))
    await house.store.blacklist.add([BlacklistEntry(1, "86000103")])
    await house.sql.execute("UPDATE contact SET recycle_at = now() WHERE recycle_at IS NOT NULL")
    await due(house)
    await house.until(lambda: len(carrier.orders) == 4)
    await house.until(lambda: house.sql_is("SELECT count(*) = 2 FROM contact WHERE state = 'done'"))
    assert Counter(carrier.called()) == {"86000003": 2, "86000103": 1, "86000203": 1}
    found = await house.dispositions()
    assert found["86000103"] == found["86000203"] == ["BUSY"], "an attempt's result is its only one"
    assert await house.incomplete(campaign_id) == 1


async def test_calling_numbers_take_turns(house: House, carrier: Carrier) -> None:
    """By priority, among equal ones in turn, over several claims; a number's own caller wins."""
    numbers = (CallerNumber("901", 2), CallerNumber("902", 1), CallerNumber("903", 1), CallerNumber("904", 3))
    campaign_id = await house.campaign(calls=3, every=1, caller_numbers=numbers)
    await house.add(campaign_id, [f"8600{n}03" for n in range(7)])
    await house.sql.execute("UPDATE contact SET caller = '555' WHERE called = '8600203'")
    house.engine()
    await house.all_done(campaign_id)
    rows = await house.sql.fetch("SELECT caller FROM attempt ORDER BY contact_id")
    assert [row["caller"] for row in rows] == ["902", "903", "555", "902", "903", "902", "903"]


async def test_a_change_holds_at_the_next_claim(house: House, carrier: Carrier) -> None:
    """A running campaign on a special date without windows calls nobody; with windows it does."""
    campaign_id = await house.campaign(calls=1, every=1)
    await house.add(campaign_id, [f"8600{n}03" for n in range(9)])
    house.engine()
    await house.until(lambda: len(carrier.orders) > 0)
    special = await house.service.add_special_date(1, campaign_id, EVERY_DAY)
    changed = utc_now()
    await asyncio.sleep(2.5)
    assert carrier.ordered_after(changed + timedelta(seconds=1)) == []
    before = len(carrier.orders)
    found = await house.one(campaign_id)
    await house.service.modify_campaign(1, campaign_id, {"special_windows": found.windows})
    await house.until(lambda: len(carrier.orders) > before, 3)
    await house.service.modify_campaign(1, campaign_id, {"special_windows": ()})
    before = len(carrier.orders) + 1
    await house.service.modify_special_date(
        1,
        campaign_id,
        SpecialDate(special, "d", SpecialDateKind.DATES, first="2000-01-01", last="2000-01-01"),
    )
    await house.until(lambda: len(carrier.orders) > before, 3)


async def test_an_unknown_end_follows_on_unknown(house: House, carrier: Carrier) -> None:
    """The policy has no say: counted, it ends the number; dialed again, it is due at once."""
    policy = RetryPolicy(days=5, tries_a_day=5)
    counted = await house.campaign(retry=policy)
    redialed = await house.campaign(retry=policy, on_unknown=OnUnknown.REDIAL)
    for campaign_id, called in ((counted, "8601"), (redialed, "8602")):
        [contact_id] = await house.add(campaign_id, [called])
        await house.intend(campaign_id, contact_id, epoch=1)
    await settle(house, Disposition.UNKNOWN)
    assert await states(house) == {"8601": "done", "8602": "ready"}


# -- the transaction of a settlement ---------------------------------------------------------------------


async def settle(house: House, disposition: Disposition, rule: Any = next_try) -> list[Settlement]:
    """End every open attempt so."""
    rows = await house.sql.fetch("SELECT attempt_id FROM attempt WHERE ended_at IS NULL ORDER BY contact_id")
    ends = [Settlement(1, row["attempt_id"], disposition, utc_now()) for row in rows]
    await house.store.calls.settle(ends, rule)
    return ends


async def dialing(house: House, campaign_id: int, *numbers: str) -> list[int]:
    """Numbers in their first attempt."""
    ids = await house.add(campaign_id, numbers)
    for contact_id in ids:
        await house.intend(campaign_id, contact_id, epoch=1)
    return ids


async def test_a_settlement_that_comes_twice_changes_nothing(house: House) -> None:
    """Its retry is neither set anew nor undone, and there is one result."""
    campaign_id = await house.campaign(retry=on_busy(1, 3600))
    await dialing(house, campaign_id, "8601")
    ends = await settle(house, Disposition.BUSY)
    query = "SELECT * FROM contact JOIN attempt USING (vdn_id, contact_id)"
    before = await house.sql.fetchrow(query)
    assert before["state"] == "waiting"
    later = [replace(end, ended_at=utc_now() + timedelta(hours=1)) for end in ends]
    await house.store.calls.settle(later, next_try)
    assert await house.sql.fetchrow(query) == before
    assert await house.sql.fetchval("SELECT count(*) FROM call_result") == 1
    assert await house.incomplete(campaign_id) == 1


def always(_: Campaign, __: Sequence[Try], now: datetime, ___: tzinfo) -> datetime:
    """A rule that tries again whatever happened."""
    return now + timedelta(hours=1)


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "'ended'"), ("deleted_at", "now()"), ("end_at", "now() - interval '1 s'")],
)
async def test_no_retry_after_the_campaign(house: House, column: str, value: str) -> None:
    """Ended, deleted, past its end time: whatever the rule says."""
    campaign_id = await house.campaign(retry=on_busy(5, 60))
    await dialing(house, campaign_id, "8601")
    await house.sql.execute(f"UPDATE campaign SET {column} = {value}, begin_at = now() - interval '1 d'")
    await settle(house, Disposition.BUSY, always)
    assert await states(house) == {"8601": "done"}
    assert await house.sql.fetchval("SELECT incomplete FROM campaign") == 0


async def test_one_batch_holds_campaigns_with_and_without_a_policy(house: House) -> None:
    """The rule is asked where there is one, with that campaign, that number's attempts and the VDN's zone."""
    await house.store.vdns.change(1, time_zone="Asia/Kathmandu")
    plain = await house.campaign()
    first, second = await house.campaign(retry=on_busy(1, 60)), await house.campaign(retry=on_busy(2, 60))
    await dialing(house, plain, "8601")
    await dialing(house, first, "8602", "8603")
    await dialing(house, second, "8604")
    asked = []

    def rule(of: Campaign, history: Sequence[Try], now: datetime, tz: tzinfo) -> datetime | None:
        asked.append((of.campaign_id, of.retry, [one for one, _ in history], str(tz)))
        return always(of, history, now, tz) if of.campaign_id == second else None

    await settle(house, Disposition.BUSY, rule)
    assert await states(house) == {"8601": "done", "8602": "done", "8603": "done", "8604": "waiting"}
    busy = [Disposition.BUSY]
    assert sorted(asked, key=lambda one: one[0]) == [
        *[(first, on_busy(1, 60), busy, "Asia/Kathmandu")] * 2,
        (second, on_busy(2, 60), busy, "Asia/Kathmandu"),
    ]


async def test_a_withdrawn_attempt_is_no_try(house: House) -> None:
    """The call never left: the rule does not see it."""
    campaign_id = await house.campaign(retry=on_busy(1, 60))
    [contact_id] = await dialing(house, campaign_id, "8601")
    gone = await house.sql.fetchval("SELECT attempt_id FROM attempt")
    await house.store.calls.withdraw(1, [gone])
    assert await states(house) == {"8601": "ready"}
    await house.intend(campaign_id, contact_id, epoch=1)
    seen: list[Sequence[Try]] = []
    await settle(house, Disposition.BUSY, lambda _, history, *__: seen.append(history))
    assert [len(history) for history in seen] == [1]


async def test_the_rule_sees_every_attempt_in_order(house: House) -> None:
    campaign_id = await house.campaign(retry=on_busy(9, 60))
    [contact_id] = await dialing(house, campaign_id, "8601")
    await settle(house, Disposition.BUSY)
    for n, disposition in enumerate((Disposition.NO_ANSWER, Disposition.REJECTED), 2):
        await house.sql.execute(
            "INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller,"
            " epoch, intent_at) VALUES (1, gen_random_uuid(), $1, $2, $3, '8601', '1', 1, now())",
            campaign_id,
            contact_id,
            n,
        )
        await house.sql.execute("UPDATE contact SET state = 'dialing', attempts = $1", n)
        seen: list[Sequence[Try]] = []

        def rule(
            _: Campaign, history: Sequence[Try], now: datetime, __: tzinfo, seen: Any = seen
        ) -> datetime:
            seen.append(history)
            return now + timedelta(hours=1)

        await settle(house, disposition, rule)
    [history] = seen
    assert [one for one, _ in history] == [Disposition.BUSY, Disposition.NO_ANSWER, Disposition.REJECTED]
    intents = [intent_at for _, intent_at in history]
    assert intents == sorted(intents)


# -- numbers that wait -----------------------------------------------------------------------------------


async def waiting(house: House, campaign_id: int, *numbers: str) -> None:
    """Numbers that wait for an hour more, having been called once."""
    await dialing(house, campaign_id, *numbers)
    await settle(house, Disposition.BUSY, always)


async def test_waiting_numbers_end_with_their_campaign(house: House) -> None:
    """Each with the result of its last attempt (semantics.md §5)."""
    mixed, only = await house.campaign(retry=on_busy(9, 60)), await house.campaign(retry=on_busy(9, 60))
    await waiting(house, mixed, "8601")
    await house.add(mixed, ["8602"])
    await waiting(house, only, "8603")
    for campaign_id in (mixed, only):
        await house.service.end_campaign(1, campaign_id)
    await Upkeep(house.store).round()
    assert [await house.incomplete(campaign_id) for campaign_id in (mixed, only)] == [0, 0]
    assert await house.dispositions() == {"8601": ["BUSY"], "8602": ["NOT_ATTEMPTED"], "8603": ["BUSY"]}


async def test_waiting_numbers_go_with_their_campaign(house: House) -> None:
    campaign_id = await house.campaign(retry=on_busy(9, 60))
    await waiting(house, campaign_id, "8601")
    await house.service.pause(1, campaign_id)
    await house.service.delete_campaign(1, campaign_id, archive=False)
    for _ in range(2):
        await Upkeep(house.store).round()
    assert await house.sql_is("SELECT count(*) = 0 FROM contact")
    assert await house.sql_is("SELECT count(*) = 0 FROM campaign")


async def test_a_waiting_number_is_retired_at_its_recycle_time(house: House) -> None:
    await house.store.vdns.change(1, recycle=Recycle.RETIRE)
    campaign_id = await house.campaign(retry=on_busy(9, 60))
    await waiting(house, campaign_id, "8601", "8602")
    await house.sql.execute("UPDATE contact SET recycle_at = now() WHERE called = '8601'")
    await Upkeep(house.store).round()
    assert await states(house) == {"8601": "done", "8602": "waiting"}
    assert await house.incomplete(campaign_id) == 1


async def test_a_waiting_number_has_no_second_copy(house: House) -> None:
    """It is incomplete: where a campaign refuses duplicates, the database holds it too."""
    campaign_id = await house.campaign(retry=on_busy(9, 60), duplicates=Duplicates.REFUSE)
    await dialing(house, campaign_id, "8601")
    await house.sql.execute("UPDATE contact SET exclusive = true")
    await settle(house, Disposition.BUSY, always)
    assert await states(house) == {"8601": "waiting"}
    with pytest.raises(asyncpg.UniqueViolationError):
        await house.sql.execute(
            "INSERT INTO contact"
            " (vdn_id, contact_id, campaign_id, called, priority, state, due_at, exclusive)"
            " VALUES (1, nextval('contact_id'), $1, '8601', 3, 'ready', now(), true)",
            campaign_id,
        )


async def test_numbers_become_ready_when_they_are_due(house: House) -> None:
    """In parts; one that is due later goes on waiting; one whose wait is over keeps its due time."""
    campaign_id = await house.campaign()
    await house.add(campaign_id, [f"86{n:05}" for n in range(PROMOTED + 200)])
    await house.sql.execute(
        "UPDATE contact SET state = 'waiting',"
        " due_at = now() + (CASE WHEN called < '8600100' THEN 1 ELSE -1 END) * interval '1 h'"
    )
    found = [await house.store.calls.promote() for _ in range(3)]
    assert found == [PROMOTED, 100, 0]
    rows = await house.sql.fetch("SELECT state, min(called), max(called) FROM contact GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("ready", "8600100", f"86{PROMOTED + 199:05}"),
        ("waiting", "8600000", "8600099"),
    ]


async def test_one_process_promotes_at_a_time(house: House, database: str) -> None:
    """Whoever comes meanwhile leaves it alone and does not wait."""
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["8601"])
    await house.sql.execute("UPDATE contact SET state = 'waiting'")
    async with house.store.db.transaction() as tx:
        assert await tx.fetchval("lead_promotion", 0x77616974)
        async with Store(database, None) as second:
            assert await asyncio.wait_for(second.calls.promote(), 1) == 0
    assert await house.store.calls.promote() == 1
