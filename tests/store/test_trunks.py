"""Trunks in the store: whole rows, sealed passwords, a version that misses nothing, prefixes per VDN."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields, replace
from datetime import date

import asyncpg
import pytest

from outdial.errors import SettingError
from outdial.model import PrefixRule, Trunk, Vdn
from outdial.store.sealing import MasterKey, SealBroken
from outdial.store.store import Store
from outdial.store.trunks import KEPT

PLAIN = Trunk("plain", "sip.example.com")
FULL = Trunk(
    name="full",
    host="2001:db8::1",
    port=5080,
    transport="tls",
    group="reserve",
    position=2,
    weight=7,
    outbound_proxy="[2001:db8::2]:5061",
    username="user",
    password="s3cret-of-the-trunk",
    registers=True,
    caller_id="+4930",
    from_domain="example.com",
    prefix_rules=(PrefixRule("00", "+"), PrefixRule("0", "")),
    max_cps=2.5,
    max_channels=12,
    max_minutes=600,
    timer_b=3.5,
    ping_every=0,
    enabled=False,
)
MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
ONE, OTHER = MasterKey(bytes(32)), MasterKey(bytes(31) + b"1")


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store(database, ONE) as opened:
        await opened.vdns.create(Vdn(1))
        await opened.vdns.create(Vdn(2))
        yield opened


async def test_every_field_comes_back_as_it_was(store: Store) -> None:
    assert all(getattr(FULL, f.name) != getattr(PLAIN, f.name) for f in fields(Trunk))
    assert await store.trunks.add(PLAIN)
    assert await store.trunks.add(FULL)
    assert await store.trunks.all() == [PLAIN, FULL]
    assert await store.trunks.listed() == [PLAIN, replace(FULL, password=KEPT)]


async def test_every_field_can_be_changed(store: Store) -> None:
    await store.trunks.add(PLAIN)
    other = replace(FULL, name="plain")
    assert await store.trunks.change("plain", lambda _: other) == other
    assert await store.trunks.all() == [other]


async def test_a_name_is_taken_once(store: Store) -> None:
    await store.trunks.add(PLAIN)
    assert not await store.trunks.add(replace(PLAIN, host="other"))
    assert await store.trunks.all() == [PLAIN]


async def test_a_removed_trunk_is_gone_and_one_that_is_not_there_is_said_so(store: Store) -> None:
    await store.trunks.add(PLAIN)
    assert await store.trunks.remove("plain")
    assert not await store.trunks.remove("plain")
    assert await store.trunks.change("plain", lambda trunk: trunk) is None
    assert await store.trunks.all() == []


# -- passwords -------------------------------------------------------------------------------------------


async def test_a_password_is_sealed_and_bound_to_its_trunk(store: Store, sql: asyncpg.Connection) -> None:
    await store.trunks.add(FULL)
    assert FULL.password is not None
    row = await sql.fetchrow("SELECT * FROM trunk")
    assert FULL.password.encode() not in row["password"]
    assert not any(FULL.password in str(value) for value in row.values())
    await sql.execute("UPDATE trunk SET name = 'moved'")
    with pytest.raises(SealBroken, match="trunk moved"):
        await store.trunks.all()


async def test_a_password_that_is_not_changed_needs_no_master_key(database: str) -> None:
    async with Store(database, ONE) as store:
        await store.trunks.add(FULL)
    async with Store(database, None) as keyless:
        await keyless.trunks.change("full", lambda trunk: replace(trunk, weight=9))
        assert await keyless.trunks.listed() == [replace(FULL, weight=9, password=KEPT)]
        with pytest.raises(SettingError, match="master key"):
            await keyless.trunks.change("full", lambda trunk: replace(trunk, weight=8, password="new"))
        with pytest.raises(SettingError, match="master key"):
            await keyless.trunks.all()
    async with Store(database, ONE) as store:
        assert await store.trunks.all() == [replace(FULL, weight=9)]


async def test_a_password_is_replaced_and_taken_away(store: Store) -> None:
    await store.trunks.add(FULL)
    await store.trunks.change("full", lambda trunk: replace(trunk, password="other"))
    assert (await store.trunks.all())[0].password == "other"
    bare = replace(FULL, username=None, password=None, registers=False)
    await store.trunks.change("full", lambda _: bare)
    assert await store.trunks.all() == [bare]


async def test_a_master_key_that_does_not_open_the_passwords_is_found_at_the_start(database: str) -> None:
    """As for access keys: a server with another key would register at no trunk."""
    async with Store(database, ONE) as store:
        await store.trunks.add(FULL)
        await store.vdns.check_master_key()
    async with Store(database, OTHER) as store:
        with pytest.raises(SealBroken, match="trunk full"):
            await store.vdns.check_master_key()


async def test_each_kind_of_secret_is_checked_in_its_context(database: str) -> None:
    """The one query names the context of whatever it finds."""
    async with Store(database, ONE) as store:
        await store.vdns.create(Vdn(1))
        await store.vdns.set_webhook_secret(1, "whsec_x")
        await store.vdns.check_master_key()
        await store.vdns.set_webhook_secret(1, None)
        await store.vdns.create_key(1)
        await store.vdns.check_master_key()


# -- changes ---------------------------------------------------------------------------------------------


async def test_a_change_is_judged_under_the_lock(store: Store) -> None:
    """Two that change different things at once lose neither."""
    await store.trunks.add(PLAIN)

    async def heavier() -> None:
        await store.trunks.change("plain", lambda trunk: replace(trunk, weight=trunk.weight + 1))

    await asyncio.gather(*(heavier() for _ in range(12)))
    assert (await store.trunks.all())[0].weight == 13


async def test_a_change_that_is_refused_keeps_everything(store: Store) -> None:
    await store.trunks.add(PLAIN)
    before = await store.trunks.version()

    def refuse(_: Trunk) -> Trunk:
        raise SettingError("no")

    with pytest.raises(SettingError, match="no"):
        await store.trunks.change("plain", refuse)
    assert await store.trunks.all() == [PLAIN]
    assert await store.trunks.version() == before


async def test_the_version_moves_with_every_change_that_an_engine_must_see(store: Store) -> None:
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: store.trunks.add(FULL),
        lambda: store.trunks.change("full", lambda trunk: replace(trunk, enabled=True)),
        lambda: store.trunks.allow(1, ["49"]),
        lambda: store.trunks.deny(1, ["49"]),
        lambda: store.vdns.change(1, trunk_group="reserve"),
        lambda: store.trunks.remove("full"),
    ]
    seen = [await store.trunks.version()]
    assert seen == [0]
    for step in steps:
        await step()
        seen.append(await store.trunks.version())
    assert seen == sorted(set(seen))
    await store.vdns.change(1, max_active=3)
    await store.trunks.all()
    assert await store.trunks.version() == seen[-1]


async def test_a_change_is_not_seen_before_it_is_kept(store: Store, sql: asyncpg.Connection) -> None:
    """A version that ran ahead of its change would have the old one remembered as the new."""
    await store.trunks.add(PLAIN)
    before = await store.trunks.version()
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("SELECT * FROM trunk FOR UPDATE")
    waiting = asyncio.create_task(store.trunks.change("plain", lambda trunk: replace(trunk, weight=2)))
    for _ in range(500):
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        if await sql.fetchval(blocked):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the change never came to the lock")
    assert await store.trunks.version() == before
    await transaction.rollback()
    await waiting
    assert await store.trunks.version() > before


# -- answered time ---------------------------------------------------------------------------------------


async def test_answered_time_adds_up_by_day_over_all_engines(store: Store) -> None:
    await store.trunks.add(FULL)
    assert await store.trunks.count_answered(MONDAY, {}) == {}
    engines = [store.trunks.count_answered(MONDAY, {"full": 1.5, "gone": 1.0}) for _ in range(8)]
    await asyncio.gather(*engines)
    assert await store.trunks.count_answered(MONDAY, {"full": 0.5}) == {"full": 12.5}
    assert await store.trunks.count_answered(TUESDAY, {"full": 2.0}) == {"full": 2.0}
    assert await store.trunks.count_answered(MONDAY, {}) == {"full": 12.5}


async def test_what_a_removed_trunk_used_counts_when_it_is_there_again(store: Store) -> None:
    await store.trunks.add(FULL)
    await store.trunks.count_answered(MONDAY, {"full": 60.0})
    await store.trunks.remove("full")
    assert await store.trunks.count_answered(MONDAY, {}) == {}
    await store.trunks.add(FULL)
    assert await store.trunks.count_answered(MONDAY, {}) == {"full": 60.0}


# -- destinations ----------------------------------------------------------------------------------------


async def test_prefixes_belong_to_one_vdn(store: Store) -> None:
    assert await store.trunks.prefixes() == {}
    await store.trunks.allow(1, ["+49", "*1"])
    await store.trunks.allow(2, ["any"])
    await store.trunks.allow(1, ["+49", "+41"])
    assert await store.trunks.prefixes() == {1: frozenset({"+49", "*1", "+41"}), 2: frozenset({"any"})}
    assert await store.trunks.prefixes_of(2) == ["any"]
    assert await store.trunks.deny(1, ["+49"]) == []
    assert sorted(await store.trunks.prefixes_of(1)) == ["*1", "+41"]
    assert await store.trunks.prefixes_of(2) == ["any"]


async def test_denying_what_is_not_allowed_changes_nothing(store: Store) -> None:
    await store.trunks.allow(1, ["+49", "+41"])
    before = await store.trunks.version()
    assert await store.trunks.deny(1, ["+49", "+43", "+1"]) == ["+1", "+43"]
    assert sorted(await store.trunks.prefixes_of(1)) == ["+41", "+49"]
    assert await store.trunks.version() == before


async def test_an_unknown_vdn_allows_nothing(store: Store) -> None:
    with pytest.raises(SettingError, match="there is no VDN 9"):
        await store.trunks.allow(9, ["+49"])


async def test_the_trunk_group_of_a_vdn_is_kept(store: Store) -> None:
    await store.vdns.create(Vdn(3, trunk_group="reserve"))
    assert (await store.vdns.one(3)) == Vdn(3, trunk_group="reserve")
    assert (await store.vdns.one(1)) == Vdn(1, trunk_group="default")
    await store.vdns.change(1, trunk_group="reserve")
    await store.vdns.change(1, max_active=3)
    assert (await store.vdns.one(1)) == Vdn(1, max_active=3, trunk_group="reserve")
