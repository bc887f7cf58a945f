"""The engine against a real PostgreSQL and a real carrier process: numbers become calls become results."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial import metrics
from outdial.dialing import Settle, Withdraw
from outdial.engine import Fenced
from outdial.engine.host import lives
from outdial.engine.ledger import Ledger
from outdial.errors import CommitUnknown, StoreUnavailable
from outdial.metrics import Metric
from outdial.model import BlacklistEntry, CampaignState, Disposition, OnUnknown, Recycle, Settlement
from outdial.store.calls import NextTry
from outdial.store.postgres import Postgres, utc_now
from outdial.store.store import Store
from outdial.upkeep import Upkeep

QUICK = ("--ring", "0.02", "--talk", "0.05", "--drop", "0.1")
ENDINGS = {
    "01": "ANSWERED",
    "02": "MACHINE",
    "03": "BUSY",
    "04": "RING_TIMEOUT",
    "05": "INVALID",
    "06": "CONGESTION",
    "07": "RING_TIMEOUT",
    "08": "ANSWERED",
    "09": "REJECTED",
    "10": "NO_REPLY",
    "11": "ANSWERED",
}


@pytest.fixture
def carrier(tmp_path: Path) -> Iterator[Carrier]:
    """A carrier that rings and talks briefly."""
    far = Carrier(tmp_path, *QUICK)
    far.start()
    yield far
    far.end(signal.SIGKILL)


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
        await asyncio.gather(*(running.task for running in house.engines), return_exceptions=True)


def numbers(endings: dict[str, str], each: int) -> list[str]:
    return [f"86{n:04}{ending}" for ending in endings for n in range(each)]


# -- the way of a number ---------------------------------------------------------------------------------


async def test_every_ending_becomes_its_result(house: House, carrier: Carrier) -> None:
    """220 numbers of every ending: one call each, one result each, and each is on its way out (G5)."""
    campaign_id = await house.campaign(calls=110)
    added = numbers(ENDINGS, 20)
    await house.add(campaign_id, added)
    running = house.engine()
    await house.all_done(campaign_id)
    found = await house.dispositions()
    assert found == {number: [ENDINGS[number[-2:]]] for number in added}
    assert Counter(carrier.called()) == Counter(added)
    assert len({one["attempt"] for one in carrier.orders}) == len(added)
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == len(added)
    assert await house.sql.fetchval("SELECT count(*) FROM attempt WHERE ended_at IS NULL") == 0
    await running.end()
    assert await house.sql_is("SELECT bool_and(fenced_at IS NOT NULL) FROM engine")


def counted(metric: Metric) -> dict[tuple[str, ...], float]:
    """What this process has counted so far, by label values."""
    return {values: metrics._cells[at] for values, at in metric.at.items() if metrics._cells[at]}


async def test_what_the_engine_does_is_counted(house: House) -> None:
    before = [counted(one) for one in (metrics.ATTEMPTS, metrics.CALLS_CLAIMED, metrics.CLAIMS)]
    seconds = metrics.SETTLE_SECONDS
    settled = sum(metrics._cells[seconds.at[()] + n] for n in range(len(seconds.buckets) + 1))
    campaign_id = await house.campaign(calls=10)
    await house.add(campaign_id, [f"8600{n}01" for n in range(4)] + [f"8600{n}03" for n in range(3)])
    running = house.engine()
    seen: list[float] = []
    await house.until(lambda: bool(seen.append(metrics._cells[metrics.CALLS_IN_FLIGHT.at[()]]) or seen[-1]))
    await house.all_done(campaign_id)
    await house.until(lambda: not running.engine.in_flight and not len(running.engine._ledger))
    attempts, calls, claims = (
        {key: n - was.get(key, 0) for key, n in counted(one).items()}
        for one, was in zip((metrics.ATTEMPTS, metrics.CALLS_CLAIMED, metrics.CLAIMS), before, strict=True)
    )
    assert {key[0]: n for key, n in attempts.items() if n} == {"ANSWERED": 4, "BUSY": 3}
    assert calls == {(): 7}
    assert claims["calls",] >= 1
    assert sum(metrics._cells[seconds.at[()] + n] for n in range(len(seconds.buckets) + 1)) == settled + 7
    assert 1 <= max(seen) <= 7
    assert metrics._cells[metrics.CALLS_IN_FLIGHT.at[()]] == 0


async def test_a_resume_wakes_the_engine(house: House, carrier: Carrier) -> None:
    """Far below the second after which it would look anyway."""
    running = house.engine()
    await house.until(lambda: running.engine._listener is not None)
    waits = []
    for n in range(5):
        campaign_id = await house.campaign(state=CampaignState.DRAFT)
        await house.add(campaign_id, [f"8600{n}03"])
        await house.service.resume(1, campaign_id)
        began = time.monotonic()
        await house.until(lambda n=n: len(carrier.orders) > n)
        waits.append(time.monotonic() - began)
    assert sorted(waits)[2] < 0.5


async def test_the_pace_is_kept(house: House) -> None:
    campaign_id = await house.campaign(calls=3, every=1)
    await house.add(campaign_id, numbers({"03": "BUSY"}, 12))
    house.engine()
    await house.all_done(campaign_id)
    await launches_keep_the_pace(house, calls=3, every=1.0)


async def launches_keep_the_pace(house: House, *, calls: int, every: float) -> None:
    rows = await house.sql.fetch("SELECT intent_at, count(*) AS n FROM attempt GROUP BY 1 ORDER BY 1")
    assert max(row["n"] for row in rows) == calls
    gaps = [b["intent_at"] - a["intent_at"] for a, b in pairwise(rows)]
    assert min(gaps) >= timedelta(seconds=every)


async def test_two_engines_share_the_work_and_the_pace(house: House, carrier: Carrier) -> None:
    """G3 with two servers on one database: no number is called twice, and never faster than asked."""
    campaign_id = await house.campaign(calls=5, every=1)
    crowd = [await house.campaign(calls=50, every=1) for _ in range(6)]
    for one in crowd:
        await house.add(one, numbers({"03": "BUSY", "01": "ANSWERED"}, 10))
    for n in range(5):
        await house.add(campaign_id, [f"87{n}{m}03" for m in range(5)])
    house.engine()
    house.engine()
    await house.all_done(campaign_id, *crowd)
    assert len(carrier.orders) == len({one["attempt"] for one in carrier.orders}) == 6 * 20 + 25
    assert max(Counter(one for one in carrier.called() if one.startswith("87")).values()) == 1
    assert await house.sql.fetchval("SELECT count(DISTINCT epoch) FROM attempt") == 2
    await house.sql.execute("DELETE FROM attempt WHERE campaign_id <> $1", campaign_id)
    await launches_keep_the_pace(house, calls=5, every=1.0)


async def test_numbers_are_called_in_their_order(house: House, carrier: Carrier) -> None:
    campaign_id = await house.campaign(calls=50, every=1)
    added = numbers({"03": "BUSY"}, 50)
    await house.add(campaign_id, added)
    await house.sql.execute("UPDATE contact SET priority = 1 WHERE called >= '86002503'")
    house.engine()
    await house.all_done(campaign_id)
    assert carrier.called() == added[25:] + added[:25]


async def test_a_fault_in_one_campaign_does_not_stop_the_others(house: House, carrier: Carrier) -> None:
    broken, sound = await house.campaign(), await house.campaign()
    [contact_id] = await house.add(broken, ["86000103"])
    await house.sql.execute("UPDATE contact SET attempts = 32767 WHERE contact_id = $1", contact_id)
    house.engine()
    await house.add(sound, ["86000203"])
    await house.all_done(sound)
    assert carrier.called() == ["86000203"]


# -- judged at the moment of dialing ---------------------------------------------------------------------


async def test_a_blacklisted_number_is_not_called(house: House, carrier: Carrier) -> None:
    """Entered after the add; more of them in a row than one claim looks at."""
    campaign_id = await house.campaign(calls=2)
    listed = [f"86{n:04}01" for n in range(250)]
    await house.add(campaign_id, [*listed, "86999903"])
    for start in range(0, 250, 50):
        entries = [BlacklistEntry(1, number) for number in listed[start : start + 50]]
        await house.store.blacklist.add(entries)
    house.engine()
    await house.all_done(campaign_id)
    assert carrier.called() == ["86999903"]
    assert await house.dispositions() == {**{one: ["BLACKLISTED"] for one in listed}, "86999903": ["BUSY"]}
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == 251
    assert await house.sql.fetchval("SELECT count(*) FROM attempt") == 1


async def test_a_restriction_allows_its_calls_and_postpones_the_rest(house: House, carrier: Carrier) -> None:
    campaign_id = await house.campaign(calls=1)
    ids = await house.add(campaign_id, ["86000003"] * 4)
    entry = BlacklistEntry(1, "86000003", restrict_times=2, restrict_period="day")
    await house.store.blacklist.add([entry])
    house.engine()
    await house.until(lambda: house.sql_is("SELECT count(*) = 2 FROM contact WHERE due_at > now()"))
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    rows = await house.sql.fetch("SELECT contact_id, state, due_at FROM contact ORDER BY contact_id")
    assert [
        row["contact_id"] for row in rows if row["state"] == "waiting" and row["due_at"] == tomorrow
    ] == ids[2:]
    assert carrier.called() == ["86000003"] * 2
    assert await house.incomplete(campaign_id) == 2
    assert await house.sql.fetchval("SELECT window_calls FROM blacklist") == 2


async def test_a_number_past_its_recycle_time_is_retired(house: House, carrier: Carrier) -> None:
    await house.store.vdns.change(1, recycle=Recycle.RETIRE)
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["86000003"], recycle_at=utc_now() - timedelta(seconds=1))
    await house.add(campaign_id, ["86000103"], recycle_at=utc_now() + timedelta(hours=1))
    house.engine()
    await house.all_done(campaign_id)
    assert await house.dispositions() == {"86000003": ["RECYCLED"], "86000103": ["BUSY"]}
    assert carrier.called() == ["86000103"]


async def test_nothing_is_called_before_the_campaign_begins(house: House, carrier: Carrier) -> None:
    begin = utc_now() + timedelta(seconds=1.5)
    campaign_id = await house.campaign(begin_at=begin)
    await house.add(campaign_id, ["86000003"])
    house.engine()
    await house.all_done(campaign_id)
    [order] = carrier.orders
    assert begin <= datetime.fromisoformat(order["at"]) < begin + timedelta(seconds=1)


# -- pause, end, stop ------------------------------------------------------------------------------------


async def test_no_call_leaves_later_than_a_second_after_a_pause(house: House, carrier: Carrier) -> None:
    """G7, three times, at moments spread over the launch."""
    campaign_id = await house.campaign(calls=40, every=1)
    await house.add(campaign_id, numbers({"03": "BUSY"}, 600))
    house.engine()
    for n in range(3):
        before = len(carrier.orders)
        await house.until(lambda before=before: len(carrier.orders) > before)
        await asyncio.sleep(0.3 * n)
        await house.service.pause(1, campaign_id)
        answered = utc_now()
        await asyncio.sleep(1.2)
        assert carrier.ordered_after(answered + timedelta(seconds=1)) == []
        await house.service.resume(1, campaign_id)


async def test_a_claim_that_waited_too_long_begins_anew(
    house: House, carrier: Carrier, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls could not leave in time: none is intended, so none needs to be taken back."""
    campaign_id = await house.campaign(calls=5, every=1)
    added = numbers({"03": "BUSY"}, 5)
    await house.add(campaign_id, added)
    withdrawn: list[Any] = []
    holder = await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute("SELECT 1 FROM campaign FOR UPDATE")
        running = house.engine()
        monkeypatch.setattr(running.store.calls, "withdraw", lambda *ends: withdrawn.append(ends))
        waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await house.until(lambda: house.sql_is(waiting))
        await asyncio.sleep(1.0)
    await holder.close()
    await house.all_done(campaign_id)
    assert Counter(carrier.called()) == Counter(added)
    assert withdrawn == []


async def test_a_campaign_that_ends_ends_its_numbers(house: House, carrier: Carrier) -> None:
    """Those that were called keep their result, the others were not attempted (semantics.md §5)."""
    campaign_id = await house.campaign(calls=2, every=600)
    added = numbers({"03": "BUSY"}, 20)
    await house.add(campaign_id, added)
    house.engine()
    await house.until(lambda: len(carrier.orders) == 2)
    await house.sql.execute(
        "UPDATE campaign SET end_at = now() - interval '1 s', begin_at = now() - interval '1 h'"
    )
    upkeep = Upkeep(house.store)
    await upkeep.round()
    await upkeep.round()
    await house.all_done(campaign_id)
    ends = Counter(one for ends in (await house.dispositions()).values() for one in ends)
    assert ends == {"BUSY": 2, "NOT_ATTEMPTED": 18}
    assert (await house.one(campaign_id)).state is CampaignState.ENDED


async def test_a_stop_lets_calls_end_and_stores_them(house: House, carrier: Carrier) -> None:
    campaign_id = await house.campaign(calls=10, every=1)
    await house.add(campaign_id, numbers({"08": "ANSWERED"}, 50))
    carrier.end()
    carrier.start("--ring", "0.02", "--drop", "1")
    running = house.engine()
    await house.until(lambda: running.engine.in_flight >= 10)
    began = time.monotonic()
    stopped = utc_now()
    await running.end()
    assert 0.5 < time.monotonic() - began < 3
    assert carrier.ordered_after(stopped + timedelta(seconds=0.2)) == []
    called = len(carrier.orders)
    ends = Counter(one for ends in (await house.dispositions()).values() for one in ends)
    assert ends == {"ANSWERED": called}
    assert await house.sql_is("SELECT count(*) = $1 FROM contact WHERE state = 'ready'", 50 - called)


# -- what fails ------------------------------------------------------------------------------------------


async def test_calls_outlive_their_engine(house: House, carrier: Carrier) -> None:
    """The next run adopts calls that are alive and takes back what never left (G3, G4)."""
    campaign_id = await house.campaign(calls=10, every=1)
    await house.add(campaign_id, numbers({"08": "ANSWERED"}, 10))
    carrier.end()
    carrier.start("--ring", "0.02", "--drop", "4")
    first = house.engine(stop_grace=0.0)
    await house.until(lambda: first.engine.in_flight == 10)
    await first.end()
    [lost] = await house.add(campaign_id, ["86777703"])
    await house.intend(campaign_id, lost, epoch=1)
    house.engine()
    await house.all_done(campaign_id)
    ends = Counter(one for ends in (await house.dispositions()).values() for one in ends)
    assert ends == {"ANSWERED": 10, "BUSY": 1}
    assert Counter(carrier.called()).most_common(1)[0][1] == 1
    assert await house.sql_is("SELECT count(*) = 11 AND max(attempt_no) = 1 FROM attempt")
    await house.until(lambda: house.sql_is("SELECT recovered_at IS NOT NULL FROM engine WHERE epoch = 1"))


@pytest.mark.parametrize(("on_unknown", "calls"), [(OnUnknown.COUNT, 5), (OnUnknown.REDIAL, 10)])
async def test_a_carrier_that_died_leaves_unknown(
    house: House, carrier: Carrier, on_unknown: OnUnknown, calls: int
) -> None:
    """G4: an attempt whose fate nobody can tell counts, or its number is dialed again, as a new attempt."""
    campaign_id = await house.campaign(calls=10, every=1, on_unknown=on_unknown)
    await house.add(campaign_id, numbers({"04": "RING_TIMEOUT"}, 5))
    await house.sql.execute("UPDATE campaign SET max_alerting_time = 5")
    running = house.engine()
    await house.until(lambda: len(carrier.orders) == 5)
    carrier.end(signal.SIGKILL)
    await house.until(lambda: not running.engine._dialer.up)
    await house.sql.execute("UPDATE campaign SET max_alerting_time = 1")
    carrier.start()
    await house.all_done(campaign_id)
    ends = Counter(one for ends in (await house.dispositions()).values() for one in ends)
    assert ends["UNKNOWN"] == 5
    assert ends["RING_TIMEOUT"] == calls - 5
    assert len({one["attempt"] for one in carrier.orders}) == len(carrier.orders) == calls


async def test_no_call_without_the_database(
    house: House, carrier: Carrier, postgres: str, database: str
) -> None:
    """G6: nothing leaves while the store is away; calls that end meanwhile are settled; then it goes on."""
    campaign_id = await house.campaign(calls=10, every=1)
    await house.add(campaign_id, numbers({"08": "ANSWERED"}, 20))
    carrier.end()
    carrier.start("--ring", "0.02", "--drop", "1")
    house.engine()
    await house.until(lambda: len(carrier.orders) >= 10)
    admin = await asyncpg.connect(postgres)
    name = await house.sql.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    away = utc_now()
    await asyncio.sleep(2)
    assert carrier.ordered_after(away + timedelta(seconds=1)) == []
    during = len(carrier.orders)
    await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await admin.close()
    house.sql = await asyncpg.connect(database)
    await house.until(lambda: len(carrier.orders) > during, 5)
    await house.all_done(campaign_id)
    ends = Counter(one for ends in (await house.dispositions()).values() for one in ends)
    assert ends == {"ANSWERED": 20}
    assert len(carrier.orders) == 20
    await house.sql.close()


async def test_a_claim_of_unknown_fate_calls_nobody_and_is_taken_back(
    house: House, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its COMMIT happened, the answer was lost: its attempts are withdrawn and the numbers dialed anew."""
    campaign_id = await house.campaign(calls=5, every=1)
    await house.add(campaign_id, numbers({"03": "BUSY"}, 5))
    commit = Postgres._commit
    lost: list[int] = []

    async def losing(self: Postgres, conn: Any, xid: str | None, started: Any) -> None:
        await commit(self, conn, xid, started)
        intended = await conn.fetchval("SELECT count(*) FROM attempt")
        if self.name.startswith("engine") and intended and not lost:
            lost.append(intended)
            raise CommitUnknown("the test lost it")

    monkeypatch.setattr(Postgres, "_commit", losing)
    house.engine()
    await house.all_done(campaign_id)
    assert lost == [5]
    assert len(carrier.orders) == 5
    assert await house.sql_is("SELECT count(*) = 5 AND max(attempt_no) = 1 FROM attempt")


@pytest.mark.parametrize("dialing", [True, False])
async def test_a_fenced_engine_ends(house: House, carrier: Carrier, dialing: bool) -> None:
    campaign_id = await house.campaign(calls=1, every=1)
    await house.add(campaign_id, numbers({"03": "BUSY"}, 20 if dialing else 1))
    running = house.engine()
    await house.until(lambda: len(carrier.orders) > 0)
    await house.sql.execute("UPDATE engine SET fenced_at = clock_timestamp()")
    fenced = utc_now()
    with pytest.raises(Fenced):
        await asyncio.wait_for(running.task, 3)
    assert carrier.ordered_after(fenced + timedelta(seconds=1)) == []


async def test_ends_are_kept_until_they_are_stored(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is away twice, and once nobody knows whether it was (G5)."""
    epoch = await house.store.calls.begin_epoch("here", 1, timedelta(seconds=60))
    campaign_id = await house.campaign()
    first, second = await house.add(campaign_id, ["8601", "8602"])
    for contact_id in (first, second):
        await house.intend(campaign_id, contact_id, epoch=epoch)
    opened = [one.attempt for one in await house.store.calls.open_attempts([epoch])]
    ledger = Ledger(house.store, lambda _: None)
    settle, errors = (
        house.store.calls.settle,
        [StoreUnavailable("away"), CommitUnknown("?"), StoreUnavailable("")],
    )

    async def settling(settlements: Sequence[Settlement], next_try: NextTry) -> None:
        if errors:
            raise errors.pop()
        await settle(settlements, next_try)

    monkeypatch.setattr(house.store.calls, "settle", settling)
    writing = asyncio.create_task(ledger.write_on())
    ends = [
        Settlement(1, opened[0].attempt_id, Disposition.BUSY, utc_now()),
        Settlement(1, opened[0].attempt_id, Disposition.FAILED, utc_now()),  # the first word holds
    ]
    for end in ends:
        ledger.add(Settle(end))
    ledger.add(Withdraw(1, opened[1].attempt_id))
    await house.until(lambda: len(errors) == 2)
    assert opened[0].attempt_id in ledger
    assert opened[1].attempt_id in ledger
    await house.until(lambda: len(ledger) == 0)
    writing.cancel()
    rows = await house.sql.fetch("SELECT contact_id, state, attempts, disposition FROM contact")
    found = {row["contact_id"]: (row["state"], row["attempts"], row["disposition"]) for row in rows}
    assert found[opened[0].contact_id] == ("done", 1, "BUSY")
    assert found[opened[1].contact_id] == ("ready", 0, None)


async def test_a_lease_that_ran_out_is_fenced_by_another(house: House) -> None:
    """A run that does not renew, on a host that nobody can ask."""
    epoch = await house.store.calls.begin_epoch("elsewhere", 1, timedelta(seconds=0.5))
    house.engine()
    await house.until(
        lambda: house.sql_is("SELECT recovered_at IS NOT NULL FROM engine WHERE epoch = $1", epoch)
    )
    assert await house.sql_is("SELECT fenced_at >= lease_until FROM engine WHERE epoch = $1", epoch)


async def test_claims_do_not_hold_up_the_lease(house: House) -> None:
    """A claim keeps a fence from falling and lets its own run renew."""
    epoch = await house.store.calls.begin_epoch("here", 1, timedelta(seconds=60))
    campaign_id = await house.campaign()
    async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
        assert claim is not None
        assert await asyncio.wait_for(house.store.calls.renew_lease(epoch, timedelta(seconds=60)), 1)
        fence = asyncio.create_task(house.store.calls.fence_dead(0, [epoch]))
        await asyncio.sleep(0.3)
        assert not fence.done()
    await asyncio.wait_for(fence, 2)
    assert not await house.store.calls.renew_lease(epoch, timedelta(seconds=60))
    with pytest.raises(Fenced):
        async with house.store.calls.claiming(1, campaign_id, epoch):
            pass


async def test_open_attempts_are_adopted_by_one_run_alone(house: House) -> None:
    """Two runs that recover a third at once; and a fenced one adopts nothing."""
    lease = timedelta(seconds=60)
    dead, one, two, gone = [await house.store.calls.begin_epoch("h", n, lease) for n in range(4)]
    campaign_id = await house.campaign()
    for contact_id in await house.add(campaign_id, numbers({"01": "ANSWERED"}, 50)):
        await house.intend(campaign_id, contact_id, epoch=dead)
    await house.store.calls.fence_dead(one, [dead, gone])
    found = await house.store.calls.open_attempts([dead])
    assert len(found) == 50
    assert await house.store.calls.adopt(found, gone) == []
    half = found[:30]
    adopted = await asyncio.gather(
        house.store.calls.adopt(half, one),
        house.store.calls.adopt(half, two),
        house.store.calls.adopt(found, two),
    )
    ids = [attempt.attempt_id for attempts in adopted for attempt in attempts]
    assert sorted(ids) == sorted(one.attempt.attempt_id for one in found)


# -- who is gone -----------------------------------------------------------------------------------------


def test_a_process_that_nobody_has_reaped_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    assert lives(os.getpid())
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").exists()
    assert not lives(child.pid)
    child.wait()
    assert not lives(child.pid)
