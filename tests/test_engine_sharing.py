"""The engine with campaigns that have limits, numbers that have caps, and a switch that wants more."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from callhouse import Carrier, House
from outdial.dialing import Candidate, Now, Remember
from outdial.dialing.call import found
from outdial.errors import StoreUnavailable
from outdial.model import (
    Answered,
    CallRecord,
    CampaignState,
    Caps,
    Disposition,
    Ended,
    Fate,
    HeldBy,
    Inquiry,
    OpenCall,
    Room,
    SwitchEvent,
)
from outdial.reasons import reasons
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.switch import Announce
from outdial.switch.simulated import SimulatedSwitch

QUICK = ("--ring", "0.02", "--talk", "0.05", "--drop", "0.1")
RECORD = CallRecord("north", "12#", ("greet", "ask"), "human", 450, 448)


class Careful(SimulatedSwitch):
    """A switch like that of SIP: few channels, it refuses numbers, and waits for answers to be stored."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.channels = 10**6
        self.alive: set[object] = set()
        self.most = 0
        self.said: list[tuple[str, object]] = []
        self.asked: list[OpenCall] = []

    async def start(
        self, on_event: Callable[[SwitchEvent], None], on_down: Callable[[], None], announce: Announce
    ) -> None:
        def heard(event: SwitchEvent) -> None:
            if isinstance(event, Ended):
                self.alive.discard(event.attempt_id)
                event = replace(event, record=RECORD)
            elif isinstance(event, Answered):
                self.said.append(("answered", event.attempt_id))
                event = Answered(event.attempt_id, dialog=f"dialog {event.attempt_id}")
            on_event(event)

        await super().start(heard, on_down, announce)

    def room(self, vdn_id: int) -> Room:
        return Room("north", self.channels - len(self.alive))

    def refuses(self, vdn_id: int, called: str, caller: str) -> Disposition | None:  # type: ignore[override]
        return Disposition.NOT_ALLOWED if called.startswith("99") else None

    def originate(self, order: Any) -> None:
        super().originate(order)
        self.alive.add(order.attempt_id)
        self.most = max(self.most, len(self.alive))

    def confirm(self, attempt_id: object) -> None:
        self.said.append(("confirmed", attempt_id))

    async def inquire(self, calls: Sequence[OpenCall]) -> list[Inquiry | Ended]:
        self.asked += calls
        return [Inquiry(one.attempt_id, Fate.CANNOT_TELL) for one in calls]


@pytest.fixture
def carrier(tmp_path: Path) -> Iterator[Carrier]:
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


def numbers(ending: str, count: int) -> list[str]:
    return [f"86{n:04}{ending}" for n in range(count)]


async def limit(house: House, campaign_id: int, **columns: float) -> None:
    for name, value in columns.items():
        await house.sql.execute(f"UPDATE campaign SET {name} = $1 WHERE campaign_id = $2", value, campaign_id)


# -- limits of a campaign --------------------------------------------------------------------------------


async def test_max_cps_holds_in_every_second_over_engines_and_restarts(
    house: House, carrier: Carrier
) -> None:
    """Two engines, one of them begun anew in between; by the carrier's own clock."""
    campaign_id = await house.campaign(calls=100, every=60)
    await limit(house, campaign_id, max_cps=8)
    await house.add(campaign_id, numbers("03", 40))
    first = house.engine()
    house.engine()
    await house.until(lambda: len(carrier.orders) > 12)
    await first.end()
    house.engine()
    await house.all_done(campaign_id)
    sent = sorted(datetime.fromisoformat(one["at"]) for one in carrier.orders)
    assert len(sent) == 40
    assert all(later - first >= timedelta(seconds=1) for first, later in zip(sent, sent[8:], strict=False))
    apart = timedelta(seconds=0.1)
    assert all(later - first >= apart for first, later in zip(sent, sent[2:], strict=False)), "no bursts"
    assert await house.sql.fetchval("SELECT count(DISTINCT epoch) FROM attempt") >= 2


async def test_max_channels_are_counted_over_engines(house: House, carrier: Carrier) -> None:
    """Another engine has two calls: this one has a single channel of three."""
    campaign_id = await house.campaign(calls=100, every=60)
    await limit(house, campaign_id, max_channels=3)
    other = await house.store.calls.begin_epoch("elsewhere", 1, timedelta(hours=1))
    for contact_id in await house.add(campaign_id, numbers("01", 2)):
        await house.intend(campaign_id, contact_id, epoch=other)
    await house.add(campaign_id, numbers("08", 10))
    house.engine()
    await house.until(lambda: house.sql_is("SELECT count(*) = 10 FROM call_result"))
    alive = most = 0
    for line in carrier.lines():
        alive += (line.get("order") == "originate") - (line.get("event") == "ended")
        most = max(most, alive)
    assert most == 1


async def test_a_launch_cut_short_goes_on_and_never_exceeds_its_count(house: House) -> None:
    """Six calls every two seconds, one channel: the seventh waits for the next launch."""
    campaign_id = await house.campaign(calls=6, every=2)
    await limit(house, campaign_id, max_channels=1)
    await house.add(campaign_id, numbers("03", 9))
    house.engine()
    await house.all_done(campaign_id)
    rows = await house.sql.fetch("SELECT intent_at FROM attempt ORDER BY 1")
    times = [row["intent_at"] for row in rows]
    assert times[6] - times[0] >= timedelta(seconds=2)
    assert all(later > earlier for earlier, later in pairwise(times))


async def test_trunks_without_room_get_no_more_calls(house: House, carrier: Carrier) -> None:
    """Three campaigns share four channels; nothing is claimed that has to be taken back."""
    crowd = [await house.campaign(calls=50, every=1) for _ in range(3)]
    for one in crowd:
        await house.add(one, numbers("08", 10))
    running = house.engine(Careful)
    assert isinstance(running.switch, Careful)
    running.switch.channels = 4
    await house.all_done(*crowd)
    assert running.switch.most <= 4
    assert len(carrier.orders) == 30
    assert await house.sql.fetchval("SELECT max(attempt_no) FROM attempt") == 1


# -- what a switch refuses, and says ---------------------------------------------------------------------


async def test_a_number_that_the_switch_refuses_ends_without_a_call(house: House, carrier: Carrier) -> None:
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["990001", "860003", "990002"])
    house.engine(Careful)
    await house.all_done(campaign_id)
    assert carrier.called() == ["860003"]
    assert await house.dispositions() == {
        "990001": ["NOT_ALLOWED"],
        "990002": ["NOT_ALLOWED"],
        "860003": ["BUSY"],
    }
    assert await house.sql.fetchval("SELECT count(*) FROM call_result WHERE attempt_id IS NULL") == 2
    assert await house.sql.fetchval("SELECT count(*) FROM outbox") == 3


async def test_the_record_of_a_call_is_stored_with_its_end(house: House) -> None:
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["860001"])
    house.engine(Careful)
    await house.all_done(campaign_id)
    row = await house.sql.fetchrow("SELECT * FROM attempt")
    found = CallRecord(
        row["trunk"],
        row["keys"],
        tuple(row["steps"]),
        row["detector"],
        row["rtp_sent"],
        row["rtp_received"],
    )
    assert found == RECORD
    assert row["intent_at"] <= row["sent_at"] <= row["ringing_at"] <= row["answered_at"] <= row["ended_at"]
    assert row["dialog"] is None


async def test_an_answer_is_stored_before_it_is_confirmed(
    house: House, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier.end()
    carrier.start("--ring", "0.02", "--drop", "1.5")
    campaign_id = await house.campaign()
    await house.add(campaign_id, numbers("08", 10))
    running = house.engine(Careful)
    switch, real = running.switch, running.store.calls.remember
    assert isinstance(switch, Careful)

    own = await asyncpg.connect(house.dsn)  # the test's other one is busy looking

    async def remember(answers: Sequence[Remember]) -> None:
        await real(answers)
        switch.said += [("stored", one.attempt_id) for one in answers]
        for one in answers:
            found = await own.fetchrow(
                "SELECT dialog, answered_at, ended_at FROM attempt WHERE attempt_id = $1", one.attempt_id
            )
            stored = (found["dialog"], found["answered_at"])
            assert found["ended_at"] or stored == (one.dialog, one.answered_at)

    monkeypatch.setattr(running.store.calls, "remember", remember)
    await house.all_done(campaign_id)
    await running.end()
    await own.close()
    for one in {attempt for _, attempt in switch.said}:
        steps = [what for what, attempt in switch.said if attempt == one]
        assert steps == ["answered", "stored", "confirmed"]
    assert len(switch.said) == 30


async def test_an_answer_is_confirmed_though_the_store_is_away(
    house: House, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call must not hang: after a second it is acknowledged, stored or not."""
    carrier.end()
    carrier.start("--ring", "0.02", "--talk", "3")
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["860001"])
    running = house.engine(Careful)
    switch = running.switch
    assert isinstance(switch, Careful)

    async def remember(answers: Sequence[Remember]) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(running.store.calls, "remember", remember)
    await house.until(lambda: [what for what, _ in switch.said] == ["answered"])
    before = asyncio.get_running_loop().time()
    await house.until(lambda: [what for what, _ in switch.said] == ["answered", "confirmed"])
    assert 0.8 <= asyncio.get_running_loop().time() - before <= 1.5
    await house.all_done(campaign_id)
    assert await house.dispositions() == {"860001": ["ANSWERED"]}


async def test_a_call_of_a_dead_run_is_asked_about_with_what_was_stored(
    house: House, carrier: Carrier
) -> None:
    """Known as answered, it stays so although nobody can tell how it ended (G4)."""
    carrier.end()
    carrier.start("--ring", "0.02", "--talk", "60")
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["860001"])
    first = house.engine(Careful, stop_grace=0.0)
    await house.until(lambda: house.sql_is("SELECT dialog IS NOT NULL FROM attempt"))
    await first.end()
    second = house.engine(Careful)
    await house.all_done(campaign_id)
    assert isinstance(second.switch, Careful)
    row = await house.sql.fetchrow("SELECT attempt_id, answered_at, sent_at FROM attempt")
    [asked] = second.switch.asked
    assert asked == OpenCall(
        row["attempt_id"],
        1,
        "860001",
        "10086",
        f"dialog {row['attempt_id']}",
        row["answered_at"],
    )
    assert await house.dispositions() == {"860001": ["ANSWERED"]}
    assert row["sent_at"] is not None


async def test_an_order_carries_what_a_call_flow_needs(house: House, carrier: Carrier) -> None:
    """And the simulated carrier's log holds none of it."""
    campaign_id = await house.campaign()
    await house.add(campaign_id, ["860003"])
    await house.sql.execute("UPDATE contact SET call_data = '{\"name\":\"Ann\"}', session_id = 's-1'")
    running = house.engine(Careful)
    orders: list[Any] = []
    real = running.switch.originate
    running.switch.originate = lambda order: (orders.append(order), real(order))  # type: ignore[assignment]
    await house.all_done(campaign_id)
    [order] = orders
    assert (order.vdn_id, order.campaign_id, order.device_sign) == (1, campaign_id, "main")
    assert (order.call_data, order.session_id, order.max_alerting_time) == ('{"name":"Ann"}', "s-1", 1)
    assert "Ann" not in carrier.log.read_text()
    assert "Ann" not in repr(order)


# -- how often one number may be called ------------------------------------------------------------------


async def test_a_cap_holds_over_campaigns_and_engines(house: House, carrier: Carrier) -> None:
    """Six campaigns with the same numbers, two engines: each number is called twice, the rest waits."""
    await house.store.vdns.change(1, caps=Caps(per_day=2))
    crowd = [await house.campaign(calls=50, every=1) for _ in range(6)]
    for one in crowd:
        await house.add(one, numbers("03", 20))
    house.engine()
    house.engine()
    await house.until(lambda: house.sql_is("SELECT count(*) = 80 FROM contact WHERE due_at > now()"))
    assert set(Counter(carrier.called()).values()) == {2}
    assert len(carrier.orders) == 40


async def test_two_claims_of_one_number_count_one_after_the_other(house: House) -> None:
    """The second waits for the first, and sees its call."""
    await house.store.vdns.change(1, caps=Caps(per_hour=1))
    one, two = [await house.campaign() for _ in range(2)]
    [contact] = await house.add(one, ["860003"])
    await house.add(two, ["860003"])
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    seen: list[dict[str, Sequence[datetime]]] = []

    async def second() -> None:
        async with house.store.calls.claiming(1, two, epoch) as claim:
            assert claim is not None
            seen.append(await claim.calls_to(["860003"]))

    async with house.store.calls.claiming(1, one, epoch) as claim:
        assert claim is not None
        assert await claim.calls_to(["860003"]) == {"860003": []}
        waiting = asyncio.create_task(second())
        await house.until(
            lambda: house.sql_is("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )
        await claim.count_numbers({"860003": 1})
        made = claim.now
    await waiting
    assert seen == [{"860003": [made]}]
    assert contact


async def test_an_attempt_that_was_withdrawn_counts_no_more(house: House) -> None:
    await house.store.vdns.change(1, caps=Caps(per_day=5))
    campaign_id = await house.campaign()
    ids = await house.add(campaign_id, ["860003"] * 3)
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    wanted = [(uuid4(), Candidate(one, "860003", None, None, listed=False)) for one in ids]
    async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
        assert claim is not None
        await claim.calls_to(["860003"])
        await claim.intend(wanted)
        await claim.count_numbers({"860003": 3})
    counted = "SELECT cardinality(calls) FROM called_count"
    assert await house.sql.fetchval(counted) == 3
    await house.store.calls.withdraw(1, [wanted[0][0], wanted[1][0]])
    assert await house.sql.fetchval(counted) == 1
    await house.store.calls.withdraw(1, [wanted[0][0]])
    assert await house.sql.fetchval(counted) == 1
    await house.sql.execute("UPDATE called_count SET touched_at = now() - interval '3 days'")
    await house.store.calls.forget_counts()
    assert await house.sql.fetchval("SELECT count(*) FROM called_count") == 0


async def test_calls_that_count_no_more_are_forgotten_at_the_next(house: House) -> None:
    campaign_id = await house.campaign()
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    old, new = utc_now() - timedelta(days=2), utc_now() - timedelta(minutes=1)
    await house.sql.execute("INSERT INTO called_count VALUES (1, '860003', $1, now())", [old, new])
    async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
        assert claim is not None
        await claim.count_numbers({"860003": 1})
    assert await house.sql.fetchval("SELECT calls FROM called_count") == [new, claim.now]


# -- why a campaign does not call ------------------------------------------------------------------------


async def causes(house: House, campaign_id: int) -> list[str]:
    facts = await house.store.calls.facts(1, campaign_id)
    assert facts is not None
    return [one.cause.value for one in reasons(facts, utc_now())]


async def test_the_store_knows_what_holds_a_campaign_back(house: House, carrier: Carrier) -> None:
    """Restricted, capped and retried numbers are told apart; so are an engine without its switch and none."""
    campaign_id = await house.campaign(calls=1, every=600, state=CampaignState.SUSPENDED)
    assert await house.store.calls.facts(2, campaign_id) is None
    ids = await house.add(campaign_id, ["860001", "860002", "860003", "860004"])
    assert await causes(house, campaign_id) == ["suspended", "no-engine"]
    later = "UPDATE contact SET state = 'waiting', due_at = now() + $2, held_by = $3 WHERE contact_id = $1"
    for hours, (contact_id, held_by) in enumerate(zip(ids, ("blacklist", "cap", None), strict=False), 1):
        await house.sql.execute(later, contact_id, timedelta(hours=hours), held_by)
    known = await house.store.calls.facts(1, campaign_id)
    assert known is not None
    assert [one.numbers for one in (known.restricted, known.capped, known.retry)] == [1, 1, 1]
    due = await house.sql.fetch("SELECT due_at FROM contact WHERE state = 'waiting' ORDER BY due_at")
    assert [one.first_at for one in (known.restricted, known.capped, known.retry)] == [*(d[0] for d in due)]
    found = await causes(house, campaign_id)
    assert found == ["suspended", "retry", "restricted", "number-cap", "no-engine"]
    carrier.end()
    house.engine()
    await house.until(lambda: house.sql_is("SELECT standing IS NOT NULL FROM engine"))
    assert (await causes(house, campaign_id))[-1] == "switch-down"
    carrier.start()
    await house.service.resume(1, campaign_id)
    await house.until(lambda: house.sql_is("SELECT last_launch_at IS NOT NULL FROM campaign"))
    await house.until(lambda: house.sql_is("SELECT count(*) = 1 FROM call_result"))
    assert await causes(house, campaign_id) == ["retry", "restricted", "number-cap", "pace"]


async def test_what_a_number_waits_for_stands_with_it_until_it_is_ready(house: House) -> None:
    """After that it may come to wait for something else."""
    campaign_id = await house.campaign()
    ids = await house.add(campaign_id, ["860001", "860002"])
    epoch = await house.store.calls.begin_epoch("h", 1, timedelta(minutes=1))
    async with house.store.calls.claiming(1, campaign_id, epoch) as claim:
        assert claim is not None
        for contact_id, held_by in zip(ids, HeldBy, strict=True):
            await claim.postpone(contact_id, utc_now() + timedelta(hours=1), held_by)
    held = "SELECT held_by FROM contact ORDER BY contact_id"
    assert [row["held_by"] for row in await house.sql.fetch(held)] == ["blacklist", "cap"]
    assert await causes(house, campaign_id) == ["restricted", "number-cap", "switch-down"]
    await house.sql.execute("UPDATE contact SET due_at = now()")
    assert await house.store.calls.promote() == 2
    assert [row["held_by"] for row in await house.sql.fetch(held)] == [None, None]


# -- what a run says of where its calls come from --------------------------------------------------------


async def test_who_placed_a_call_is_known_after_any_number_of_heirs(house: House) -> None:
    """A second engine that dies before it cancelled anything leaves what the first one placed."""
    campaign_id = await house.campaign()
    (contact_id,) = await house.add(campaign_id, ["860001"])
    calls, minute = house.store.calls, timedelta(minutes=1)
    runs = [await calls.begin_epoch("h", n, minute) for n in (1, 2, 3, 4)]
    await calls.announce(runs[0], {"127.0.0.1": "127.0.0.2:5060"})
    await calls.announce(runs[0], {"::1": "[::1]:5060"})
    await calls.announce(runs[1], {"127.0.0.1": "127.0.0.3:5060"})
    await house.intend(campaign_id, contact_id, epoch=runs[0])
    for dead, heir in pairwise(runs):
        await calls.fence_dead(heir, [dead])
        (adopted,) = await calls.adopt(await calls.open_attempts([dead]), heir)
        assert adopted.sent_by == {"127.0.0.1": "127.0.0.2:5060", "::1": "[::1]:5060"}
    assert found(adopted, Now(utc_now(), 0.0)).open().sent_by == adopted.sent_by


async def test_a_call_of_a_run_that_announced_nothing(house: House) -> None:
    """As runs before this version did, and the simulated carrier does."""
    campaign_id = await house.campaign()
    (contact_id,) = await house.add(campaign_id, ["860001"])
    await house.intend(campaign_id, contact_id, epoch=77)
    ((one),) = await house.store.calls.open_attempts([77])
    assert one.attempt.sent_by == {}
