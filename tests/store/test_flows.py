"""Flows and prompts in the store: replaced, listed, and not removed while something uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from outdial.errors import SettingError
from outdial.flow import FlowError
from outdial.model import Vdn
from outdial.store.flows import Flows, StillUsed
from outdial.store.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def flows(database: str, clock: Clock) -> AsyncIterator[Flows]:
    async with Store(database, None, size=3, now=clock) as store:
        await store.vdns.create(Vdn(1))
        await store.vdns.create(Vdn(2))
        yield store.flows


async def campaign(
    sql: asyncpg.Connection, sign: str, *, state: str = "started", device: int = 3, days: int = 1
) -> None:
    await sql.execute(
        """INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
               max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown,
               created_at)
           VALUES (1, gen_random_uuid()::text, '', $3, $2, $4, $5, '1', 30, '{0,1440}', $1, 1, 1, 'allow',
                   'count', $4)""",
        sign,
        state,
        device,
        NOW - timedelta(days=9),
        NOW + timedelta(days=days),
    )


async def test_a_flow_is_added_replaced_and_removed(flows: Flows, clock: Clock) -> None:
    await flows.add_prompt(1, "hello", b"\xff" * 8000)
    await flows.add_prompt(1, "bye", b"\xff" * 800)
    assert await flows.add(1, "a", '{"v": 1}', {"hello", "bye"}) is True
    clock.now = NOW + timedelta(hours=1)
    assert await flows.add(1, "a", '{"v": 2}', {"hello"}) is False
    kept = await flows.one(1, "a")
    assert kept is not None
    assert (kept.document, kept.prompts) == ('{"v": 2}', ("hello",))
    assert (kept.created_at, kept.updated_at) == (NOW, clock.now)
    assert await flows.all(1) == [kept]
    assert await flows.remove(1, "a") is True
    assert await flows.remove(1, "a") is False
    assert (await flows.one(1, "a"), await flows.all(1)) == (None, [])


async def test_a_vdn_sees_nothing_of_another(flows: Flows) -> None:
    await flows.add_prompt(1, "hello", b"\xff" * 8000)
    await flows.add(1, "a", "{}", {"hello"})
    assert (await flows.all(2), await flows.prompts(2), await flows.one(2, "a")) == ([], [], None)
    assert await flows.remove(2, "a") is False
    assert await flows.remove_prompt(2, "hello") is False
    with pytest.raises(FlowError):
        await flows.add(2, "b", "{}", {"hello"})


async def test_a_prompt_is_added_replaced_and_removed(flows: Flows, clock: Clock) -> None:
    assert await flows.add_prompt(1, "hello", b"\x01" * 8000) is True
    (first,) = await flows.prompts(1)
    assert (first.name, first.duration_ms, first.created_at) == ("hello", 1000, NOW)
    assert await flows.audio(1, first) == b"\x01" * 8000
    clock.now = NOW + timedelta(hours=1)
    assert await flows.add_prompt(1, "hello", b"\x02" * 1600) is False
    (second,) = await flows.prompts(1)
    assert (second.duration_ms, second.created_at) == (200, clock.now)
    assert await flows.audio(1, first) is None, "another recording must not pass for the old one"
    assert await flows.audio(1, second) == b"\x02" * 1600
    assert await flows.remove_prompt(1, "hello") is True
    assert await flows.remove_prompt(1, "hello") is False


async def test_a_prompt_that_a_flow_plays_stays(flows: Flows) -> None:
    await flows.add_prompt(1, "hello", b"\xff")
    await flows.add(1, "a", "{}", {"hello"})
    await flows.add(1, "b", "{}", {"hello"})
    with pytest.raises(StillUsed) as caught:
        await flows.remove_prompt(1, "hello")
    assert caught.value.by == ("flow a", "flow b")
    assert await flows.add_prompt(1, "hello", b"\x01") is False, "replacing it is allowed"
    await flows.add(1, "a", "{}", set())
    await flows.remove(1, "b")
    assert await flows.remove_prompt(1, "hello") is True


async def test_the_database_itself_keeps_a_prompt_that_a_flow_plays(
    flows: Flows, sql: asyncpg.Connection
) -> None:
    """House rule: what concurrency can break is a constraint."""
    await flows.add_prompt(1, "hello", b"\xff")
    await flows.add(1, "a", "{}", {"hello"})
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await sql.execute("DELETE FROM prompt")


async def test_a_flow_whose_prompt_is_not_there_is_not_stored(flows: Flows) -> None:
    with pytest.raises(FlowError):
        await flows.add(1, "a", "{}", {"hello"})
    assert await flows.all(1) == []


@pytest.mark.parametrize(
    ("flow", "sign", "facts", "used"),
    [
        ("a", "a", {}, True),
        ("a", "b", {}, False),
        ("a", "", {}, False),
        ("default", "", {}, True),
        ("default", "default", {}, True),
        ("a", "a", {"device": 1}, True),
        ("a", "a", {"device": 2}, False),
        ("a", "a", {"state": "suspended"}, False),
        ("a", "a", {"state": "draft"}, False),
        ("a", "a", {"days": -1}, False),
    ],
)
async def test_a_flow_of_a_started_campaign_stays(
    flows: Flows, sql: asyncpg.Connection, flow: str, sign: str, facts: dict[str, object], used: bool
) -> None:
    await flows.add(1, flow, "{}", set())
    await flows.add(2, flow, "{}", set())
    await campaign(sql, sign, **facts)  # type: ignore[arg-type]
    assert await flows.remove(2, flow) is True, "a campaign of another VDN has no say"
    if not used:
        assert await flows.remove(1, flow) is True
        return
    version = await flows.versions([1])
    with pytest.raises(StillUsed) as caught:
        await flows.remove(1, flow)
    assert caught.value.by == (f"campaign {await sql.fetchval('SELECT campaign_id FROM campaign')}",)
    assert len(await flows.all(1)) == 1
    assert await flows.versions([1]) == version
    assert await flows.add(1, flow, '{"new": 1}', set()) is False, "replacing it is allowed"


async def test_without_a_vdn_nothing_is_stored(flows: Flows) -> None:
    for change in (
        flows.add(9, "a", "{}", set()),
        flows.add_prompt(9, "a", b"\xff"),
        flows.remove(9, "a"),
        flows.remove_prompt(9, "a"),
    ):
        with pytest.raises(SettingError, match="there is no VDN 9"):
            await change


async def test_every_change_raises_the_version_of_its_vdn_alone(flows: Flows) -> None:
    assert await flows.versions([1, 2, 9]) == {1: 0, 2: 0, 9: 0}
    seen = [0]
    for change in (
        flows.add_prompt(1, "hello", b"\xff"),
        flows.add(1, "a", "{}", {"hello"}),
        flows.add(1, "a", '{"x": 1}', set()),
        flows.add_prompt(1, "hello", b"\x01"),
        flows.remove_prompt(1, "hello"),
        flows.remove(1, "a"),
    ):
        await change
        seen.append((await flows.versions([1]))[1])
    assert seen == sorted(set(seen))
    assert await flows.versions([2]) == {2: 0}


async def test_changes_at_once_are_counted_one_by_one(flows: Flows) -> None:
    await asyncio.gather(*(flows.add(1, f"f{n}", "{}", set()) for n in range(12)))
    assert await flows.versions([1]) == {1: 12}
