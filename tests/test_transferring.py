"""Transfers in a real database: judged like a dialed number, an attempt of their own, and nobody confused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.engine.transferring import intend_transfer
from outdial.model import (
    Attempt,
    BlacklistEntry,
    Campaign,
    Caps,
    Disposition,
    Originate,
    RetryPolicy,
    Settlement,
)
from outdial.retry import Try
from outdial.store.postgres import utc_now
from outdial.store.store import Store

TARGET = "+4930555"
NUMBER = "4930555"


@pytest.fixture
def carrier(tmp_path: Path) -> Iterator[Carrier]:
    """A carrier, started by the tests that need one."""
    far = Carrier(tmp_path, "--ring", "0.02", "--talk", "0.05")
    yield far
    far.end()


@pytest.fixture
async def house(database: str, sql: asyncpg.Connection, carrier: Carrier) -> AsyncIterator[House]:
    """VDN 1; every engine that the test starts is stopped."""
    async with Store(database, None, name="test") as store:
        house = House(database, carrier, store, sql)
        await house.open()
        yield house
        for running in house.engines:
            running.engine._stop_grace = 0.0
            running.stop.set()
            await running.task


class Talk:
    """A number of a campaign that is being talked to, by a run that lives."""

    def __init__(self, house: House, campaign_id: int, epoch: int, attempt_id: UUID) -> None:
        self.house = house
        self.campaign_id = campaign_id
        self.epoch = epoch
        self.attempt_id = attempt_id

    async def transfer(
        self, target: str = TARGET, refused: Disposition | None = None, **facts: Any
    ) -> Attempt | None:
        order = Originate(
            *(uuid4(), target, "100"),
            vdn_id=1,
            campaign_id=self.campaign_id,
            max_alerting_time=30,
            transfer_of=self.attempt_id,
        )
        return await intend_transfer(self.house.store, replace(order, **facts), refused)

    async def rows(self) -> list[asyncpg.Record]:
        """The attempts of transfers."""
        return await self.house.sql.fetch(
            "SELECT * FROM attempt WHERE transfer_of IS NOT NULL ORDER BY intent_at"
        )

    async def refusals(self) -> list[str]:
        """How transfers were refused; none may be open, or counted."""
        rows = await self.rows()
        assert all(row["ended_at"] == row["intent_at"] for row in rows)
        assert (
            await self.house.sql.fetchval("SELECT coalesce(sum(cardinality(calls)), 0) FROM called_count")
            == 0
        )
        return [row["disposition"] for row in rows]

    async def settle(self, *ends: tuple[UUID, Disposition], rule: Any = None) -> None:
        settlements = [Settlement(1, attempt_id, end, utc_now()) for attempt_id, end in ends]
        await self.house.store.calls.settle(settlements, rule or (lambda *_: None))

    async def number(self) -> dict[str, Any]:
        """What may not change while its call is handed over."""
        row = await self.house.sql.fetchrow(
            "SELECT n.state, n.attempts, n.disposition, c.incomplete,"
            " (SELECT count(*) FROM call_result) AS results, (SELECT count(*) FROM outbox) AS outbox"
            " FROM contact n JOIN campaign c USING (vdn_id, campaign_id)"
        )
        return dict(row)


async def talking(house: House, **facts: Any) -> Talk:
    campaign_id = await house.campaign(callback_url="http://127.0.0.1:9/", **facts)
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    [contact_id] = await house.add(campaign_id, ["8601"])
    await house.intend(campaign_id, contact_id, epoch=epoch)
    attempt_id = await house.sql.fetchval("SELECT attempt_id FROM attempt")
    return Talk(house, campaign_id, epoch, attempt_id)


BEFORE = {"state": "dialing", "attempts": 1, "disposition": None, "incomplete": 1, "results": 0, "outbox": 0}


# -- what permits a transfer -----------------------------------------------------------------------------


async def test_the_intent_is_written_before_anything_leaves(house: House) -> None:
    """G3: an open row beside the call's own, of the same run, number and try, with an id of its own."""
    talk = await talking(house)
    attempt = await talk.transfer()
    assert attempt is not None
    [row] = await talk.rows()
    assert (row["attempt_id"], row["transfer_of"]) == (attempt.attempt_id, talk.attempt_id)
    assert (row["called"], row["caller"], row["epoch"], row["attempt_no"]) == (TARGET, "100", talk.epoch, 1)
    assert (row["ended_at"], row["disposition"], row["intent_at"]) == (None, None, attempt.intent_at)
    assert (attempt.max_alerting_time, attempt.transfer_of) == (30, talk.attempt_id)
    assert await talk.number() == BEFORE


@pytest.mark.parametrize("target", [TARGET, NUMBER])
async def test_a_target_on_the_blacklist(house: House, target: str) -> None:
    """With a + in front too: the blacklist has numbers without."""
    talk = await talking(house)
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER)])
    assert await talk.transfer(target) is None
    assert await talk.refusals() == ["BLACKLISTED"]
    assert await talk.number() == BEFORE


async def test_a_restriction_counts_transfers_and_refuses_them_when_used_up(house: House) -> None:
    """Like a dialed number (semantics.md §8)."""
    talk = await talking(house)
    await house.store.blacklist.add([BlacklistEntry(1, NUMBER, restrict_times=2, restrict_period="day")])
    for _ in range(2):
        attempt = await talk.transfer()
        assert attempt is not None
    assert await house.sql.fetchval("SELECT window_calls FROM blacklist") == 2
    assert await talk.transfer() is None
    assert [row["disposition"] for row in await talk.rows()] == [None, None, "CAPPED"]
    assert await house.sql.fetchval("SELECT window_calls FROM blacklist") == 2


@pytest.mark.parametrize("cap", [{"per_minute": 1}, {"per_hour": 1}, {"per_day": 1}])
async def test_caps_count_transfers_and_refuse_them(house: House, cap: dict[str, int]) -> None:
    """The target counts like a dialed number: the second transfer is one too many, and a claim sees both."""
    await house.store.vdns.change(1, caps=Caps(**cap))
    talk = await talking(house)
    assert await talk.transfer() is not None
    assert await talk.transfer(NUMBER) is None
    assert [row["disposition"] for row in await talk.rows()] == [None, "CAPPED"]
    async with house.store.calls.claiming(1, talk.campaign_id, talk.epoch) as claim:
        assert claim is not None
        assert [len(calls) for calls in (await claim.calls_to([NUMBER])).values()] == [1]


async def test_what_the_switch_refuses(house: House) -> None:
    talk = await talking(house)
    assert await talk.transfer(refused=Disposition.NOT_ALLOWED) is None
    assert await talk.refusals() == ["NOT_ALLOWED"]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'suspended'",
        "state = 'ended'",
        "deleted_at = now()",
        "end_at = now() - interval '1 s', begin_at = now() - interval '1 d'",
        "windows = '{0,0,NULL,NULL,NULL,NULL}'",
    ],
)
async def test_no_transfer_where_no_call_may_leave(house: House, change: str) -> None:
    """G6, G7: a transfer is a new call, although the old one may finish."""
    talk = await talking(house)
    await house.sql.execute(f"UPDATE campaign SET {change}")
    assert await talk.transfer() is None
    assert await talk.refusals() == ["NOT_ATTEMPTED"]


async def test_no_transfer_of_a_call_that_has_ended(house: House) -> None:
    talk = await talking(house)
    await talk.settle((talk.attempt_id, Disposition.ANSWERED))
    assert await talk.transfer() is None
    assert await talk.rows() == []


async def test_no_transfer_by_a_run_that_was_fenced(house: House) -> None:
    talk = await talking(house)
    other = await house.store.calls.begin_epoch("h", 2, timedelta(minutes=1))
    await house.store.calls.fence_dead(other, [talk.epoch])
    assert await talk.transfer() is None
    assert await talk.rows() == []


async def test_a_transfer_is_not_handed_over_itself_and_stays_in_its_vdn(house: House) -> None:
    talk = await talking(house)
    attempt = await talk.transfer()
    assert attempt is not None
    assert await talk.transfer(transfer_of=attempt.attempt_id) is None
    assert await talk.transfer(vdn_id=2) is None
    assert len(await talk.rows()) == 1


# -- nobody is confused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
async def test_the_number_has_one_result_that_of_its_own_call(house: House, together: bool) -> None:
    """G5: whichever ends first, alone or in one batch with the other."""
    talk = await talking(house)
    attempt = await talk.transfer()
    assert attempt is not None
    ends = [(attempt.attempt_id, Disposition.BUSY), (talk.attempt_id, Disposition.ANSWERED)]
    if together:
        await talk.settle(*ends)
    else:
        await talk.settle(ends[0])
        assert await talk.number() == BEFORE
        await talk.settle(ends[1])
    done = {"state": "done", "attempts": 1, "disposition": "ANSWERED", "incomplete": 0}
    assert await talk.number() == {**done, "results": 1, "outbox": 1}
    assert await house.sql.fetchval("SELECT attempt_id FROM call_result") == talk.attempt_id
    [row] = await talk.rows()
    assert row["disposition"] == "BUSY"


async def test_a_transfer_that_ends_after_its_call_changes_nothing(house: House) -> None:
    talk = await talking(house)
    attempt = await talk.transfer()
    assert attempt is not None
    await talk.settle((talk.attempt_id, Disposition.ANSWERED))
    after = await talk.number()
    await talk.settle((attempt.attempt_id, Disposition.UNKNOWN))
    assert await talk.number() == after
    assert (await talk.rows())[0]["disposition"] == "UNKNOWN"


async def test_a_transfer_is_no_try_of_the_number(house: House) -> None:
    talk = await talking(house, retry=RetryPolicy(days=5, tries_a_day=5))
    attempt = await talk.transfer()
    assert attempt is not None
    seen: list[Sequence[Try]] = []

    def rule(_: Campaign, history: Sequence[Try], __: datetime, ___: tzinfo) -> None:
        seen.append(history)

    await talk.settle((attempt.attempt_id, Disposition.BUSY), rule=rule)
    assert seen == []
    await talk.settle((talk.attempt_id, Disposition.BUSY), rule=rule)
    assert [[one for one, _ in history] for history in seen] == [[Disposition.BUSY]]


async def test_a_transfer_takes_no_channel_of_the_campaign(house: House) -> None:
    talk = await talking(house)
    assert await talk.transfer() is not None
    facts = await house.store.calls.facts(1, talk.campaign_id)
    assert facts is not None
    assert facts.in_flight == 1
    await house.sql.execute("UPDATE campaign SET max_channels = 2")
    async with house.store.calls.claiming(1, talk.campaign_id, talk.epoch) as claim:
        assert claim is not None
        assert await claim.free_channels() == 1


async def test_a_transfer_is_never_taken_back(house: House) -> None:
    """Its number is being talked to: it may not become ready."""
    talk = await talking(house)
    attempt = await talk.transfer()
    assert attempt is not None
    await house.store.calls.withdraw(1, [attempt.attempt_id])
    assert len(await talk.rows()) == 1
    assert await talk.number() == BEFORE


# -- recovery --------------------------------------------------------------------------------------------


async def test_a_dead_run_leaves_its_transfer_unknown(house: House, carrier: Carrier) -> None:
    """G4: another run adopts both; nobody can say what became of the transfer; the number has one result."""
    talk = await talking(house)
    attempt = await talk.transfer()
    assert attempt is not None
    await house.sql.execute("UPDATE attempt SET answered_at = now() WHERE transfer_of IS NULL")
    found = await house.store.calls.open_attempts([talk.epoch])
    assert {one.attempt.attempt_id: one.attempt.transfer_of for one in found} == {
        talk.attempt_id: None,
        attempt.attempt_id: talk.attempt_id,
    }
    await house.sql.execute("UPDATE engine SET lease_until = now() - interval '1 s'")
    carrier.start()
    house.engine()
    await house.all_done(talk.campaign_id)
    await house.until(
        lambda: house.sql_is("SELECT recovered_at IS NOT NULL FROM engine WHERE epoch = $1", talk.epoch)
    )
    await house.until(lambda: house.sql_is("SELECT bool_and(ended_at IS NOT NULL) FROM attempt"))
    assert [row["disposition"] for row in await talk.rows()] == ["UNKNOWN"]
    assert await house.dispositions() == {"8601": ["ANSWERED"]}
    assert carrier.called() == []
