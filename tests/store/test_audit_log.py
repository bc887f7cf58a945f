"""The audit log in the database: with its change or not at all, in one chain, changed by nobody unseen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from outdial import audit
from outdial.audit import Head
from outdial.cli import main
from outdial.errors import Refusal, SettingError
from outdial.intake import POLICIES
from outdial.model import (
    BlacklistEntry,
    CallData,
    Campaign,
    CampaignState,
    Caps,
    Edition,
    Recycle,
    RetryPolicy,
    SpecialDate,
    SpecialDateKind,
    Trunk,
    Vdn,
)
from outdial.service import Service
from outdial.store import migrate
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster
from outdial.store.numbers import Add
from outdial.store.postgres import _AUDIT as AUDIT_LOCK
from outdial.store.postgres import utc_now
from outdial.store.sealing import MasterKey
from outdial.store.store import Store
from playbook import campaign

NUMBER = "8613800138000"
KEY = MasterKey(bytes(32))


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store(database, KEY) as opened:
        yield opened


def draft() -> Campaign:
    now = utc_now()
    return campaign(
        state=CampaignState.DRAFT,
        begin_at=now,
        end_at=now + timedelta(days=1),
        caller_no=NUMBER,
        callback_url="http://u:pw@192.0.2.1/",
    )


async def told(store: Store) -> list[tuple[str, str]]:
    return [(row.action, row.object) for row in await store.audit.newest(None, 1000)]


async def every_change(store: Store) -> list[tuple[str, str]]:
    """Make each kind of change once; what the log must tell of them."""
    service = Service(store)
    vdn = Vdn(1)
    assert await store.vdns.create(vdn)
    await store.vdns.change(1, recycle=Recycle.RETIRE, caps=Caps(per_day=3))
    await store.vdns.set_webhook_secret(1, "whsec_c2VjcmV0")
    await store.vdns.set_webhook_secret(1, None)
    key = await store.vdns.create_key(1)
    await store.vdns.revoke_key(key.ak)
    trunk = Trunk("carrier", "192.0.2.1", username="user", password="s3cr3t", caller_id=NUMBER)
    await store.trunks.add(trunk)
    await store.trunks.change("carrier", lambda old: replace(old, max_cps=5.0, caller_id="8613800138001"))
    await store.trunks.remove("carrier")
    await store.trunks.allow(1, ["+4930", NUMBER])
    await store.trunks.deny(1, ["+4930"])
    await store.flows.add_prompt(1, "hello", b"\xff" * 800)
    await store.flows.add(1, "main", '{"to": "' + NUMBER + '"}', ["hello"])
    await store.flows.remove(1, "main")
    await store.flows.remove_prompt(1, "hello")
    made = await service.create_campaign(draft())
    await service.modify_campaign(1, made, {"name": f"call {NUMBER}", "priority": 1})
    await service.set_retry_policy(1, made, RetryPolicy(days=2, tries_a_day=1))
    date = SpecialDate(0, "rest", SpecialDateKind.WEEKLY, (7,))
    rest = await service.add_special_date(1, made, date)
    await service.modify_special_date(1, made, replace(date, special_date_id=rest, weekdays=(6,)))
    await service.delete_special_dates(1, made)
    await service.resume(1, made)
    await service.pause(1, made)
    await service.end_campaign(1, made)
    await service.delete_campaign(1, made, archive=False)
    await service.add_to_blacklist(vdn, [BlacklistEntry(1, NUMBER)], overwrite=None)
    await store.blacklist.add_missing([BlacklistEntry(1, NUMBER)], overwrite=True)
    await service.delete_from_blacklist(1, NUMBER)
    await service.clear_blacklist(1)
    ours, dates = f"campaign {made}", f"special date {rest}"
    return [
        *[("create", "vdn 1"), ("change", "vdn 1")],
        *[("set", "webhook secret of vdn 1"), ("remove", "webhook secret of vdn 1")],
        *[("create", f"key {key.ak}"), ("revoke", f"key {key.ak}")],
        *[("add", "trunk carrier"), ("change", "trunk carrier"), ("remove", "trunk carrier")],
        *[("allow", "destinations"), ("deny", "destinations")],
        *[("add", "prompt hello"), ("add", "flow main"), ("remove", "flow main"), ("remove", "prompt hello")],
        *[("create", ours), ("modify", ours), ("set retry policy", ours)],
        *[("create", dates), ("set special dates", ours), ("change", dates), ("set special dates", ours)],
        *[("set state", ours)] * 3,
        *[("delete", ours)],
        *[(verb, "blacklist") for verb in ("add", "overwrite", "delete", "clear")],
    ]


async def test_every_change_is_told_once_and_in_order_and_the_chain_holds(store: Store) -> None:
    wanted = await every_change(store)
    assert await told(store) == wanted
    head, wrong = await store.audit.verify()
    assert (head.seq, wrong) == (len(wanted), None)


async def test_the_log_holds_no_secret_and_no_number(store: Store, sql: asyncpg.Connection) -> None:
    await every_change(store)
    text = await sql.fetchval("SELECT string_agg(a::text, ' ') FROM audit a")
    assert "…8000" in text
    assert [one for one in (NUMBER, "s3cr3t", "whsec", "pw@", "8613800138001") if one in text] == []


async def test_what_was_refused_or_rolled_back_is_not_told(store: Store) -> None:
    await store.vdns.create(Vdn(1))
    await store.blacklist.add([BlacklistEntry(1, "1")])
    before = await told(store)
    assert await store.vdns.create(Vdn(1)) is False
    assert await store.vdns.change(2, max_active=1) is False
    assert await store.blacklist.add([BlacklistEntry(1, "1"), BlacklistEntry(1, "2")]) == ["1"]
    assert await store.trunks.deny(1, ["+1"]) == ["+1"]
    assert await store.vdns.revoke_key("nobody") is None
    with pytest.raises(SettingError):
        await store.vdns.create_key(2)
    with pytest.raises(Refusal):
        await Service(store).pause(1, 5)
    async with store.db.transaction() as tx:
        tx.tells(audit.change(1, "x", "y"))
        await tx.roll_back()
    assert await told(store) == before


async def test_who_did_it_is_told(store: Store) -> None:
    """Each task has its own: a request's key, a command's user, else time."""

    async def by(name: str, vdn_id: int) -> None:
        audit.who.set(name)
        await store.vdns.create(Vdn(vdn_id))

    await asyncio.gather(*(by(f"key {n}", n) for n in range(1, 6)))
    await store.vdns.create(Vdn(9))
    rows = await store.audit.newest(None, 10)
    assert {(row.who, row.vdn_id) for row in rows} == {*((f"key {n}", n) for n in range(1, 6)), ("system", 9)}


async def test_many_at_once_make_one_chain(store: Store, database: str) -> None:
    await store.vdns.create(Vdn(1))
    async with Store(database, None) as second, Store(database, None) as third:
        adds = [
            one.blacklist.add([BlacklistEntry(1, f"{n}{place}")])
            for n in range(10)
            for place, one in enumerate((store, second, third))
        ]
        await asyncio.gather(*adds)
    head, wrong = await store.audit.verify()
    assert (head.seq, wrong) == (31, None)


async def test_adding_and_dialing_wait_for_no_audit(database: str, sql: asyncpg.Connection) -> None:
    """Somebody holds the log: blacklist changes wait, adds of numbers do not."""
    async with Store(database, KEY) as store:
        await store.vdns.create(Vdn(1))
        made = await Service(store).create_campaign(draft())
        async with sql.transaction():
            await sql.execute("SELECT pg_advisory_xact_lock($1)", AUDIT_LOCK)
            held = asyncio.create_task(store.blacklist.add([BlacklistEntry(1, "1")]))
            now = utc_now()
            add = Add(1, "UTC", POLICIES[Edition.Y2023], made, [CallData("2")], uuid4(), uuid4(), now)
            assert (await store.numbers.admit(add)).kept
            assert not held.done()
        await held


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'nobody'",
        "UPDATE audit SET who = 'nobody' WHERE false",
        "DELETE FROM audit",
        "TRUNCATE audit",
    ],
)
async def test_the_log_is_only_ever_appended_to(
    store: Store, sql: asyncpg.Connection, statement: str
) -> None:
    await store.vdns.create(Vdn(1))
    with pytest.raises(asyncpg.RaiseError, match="only ever appended to"):
        await sql.execute(statement)
    assert await told(store) == [("create", "vdn 1")]


TAMPERED: dict[str, tuple[str, str]] = {
    "a word": ("UPDATE audit SET who = 'nobody' WHERE seq = 5", "row 5 was changed"),
    "a row gone": ("DELETE FROM audit WHERE seq = 5", "row 5 is missing"),
    "the first gone": ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
    "two exchanged": (
        "UPDATE audit SET seq = CASE seq WHEN 5 THEN -6 ELSE -5 END WHERE seq IN (5, 6);"
        "UPDATE audit SET seq = -seq WHERE seq < 0",
        "row 5 was changed",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
async def test_who_owns_the_database_changes_nothing_unseen(
    store: Store, sql: asyncpg.Connection, kind: str
) -> None:
    """The owner can take the trigger away, and not the hashes."""
    await every_change(store)
    statement, says = TAMPERED[kind]
    await sql.execute("ALTER TABLE audit DISABLE TRIGGER USER")
    await sql.execute(statement)
    head, wrong = await store.audit.verify()
    assert (wrong or "").startswith(says)
    assert head.seq == int(says.split()[1]) - 1


async def test_a_cut_tail_is_seen_by_its_head_alone(store: Store, sql: asyncpg.Connection) -> None:
    await every_change(store)
    known, _ = await store.audit.verify()
    await sql.execute("ALTER TABLE audit DISABLE TRIGGER USER")
    await sql.execute("DELETE FROM audit WHERE seq > 7")
    assert (await store.audit.verify())[1] is None
    wrong = (await store.audit.verify(known))[1]
    assert wrong == f"rows 8 to {known.seq} are missing: the log ends before the head that was given"
    for n in range(8, known.seq + 2):
        await store.blacklist.add_missing([BlacklistEntry(1, str(n))], overwrite=True)
    assert (await store.audit.verify())[1] is None
    assert "written anew" in ((await store.audit.verify(known))[1] or "")
    assert "written anew" in ((await store.audit.verify(Head(known.seq, "0" * 64)))[1] or "")


def test_one_byte_of_the_page_on_disk_is_found(open_folder: Path, run_verify: Callable[..., Any]) -> None:
    """A thief changes the table's file while the server is down, and PostgreSQL's checksums do not look."""
    data = open_folder / "audit-page"
    server = EmbeddedPostgres(EmbeddedOptions(data=data, notice=lambda _: None))
    server.start()
    try:
        path = asyncio.run(_written(server.dsn))
        server.stop()
        _change_a_byte(next(data.rglob(path)))
        server.start()
        said = run_verify(server.dsn)
        assert "row 2 was changed: its hash does not hold" in said
    finally:
        server.stop()
        remove_cluster(data)


async def _written(dsn: str) -> str:
    """Three rows, of which the second holds a mark; the table's file, from its folder on."""
    await migrate.prepare(dsn)
    async with Store(dsn, KEY) as store:
        await store.vdns.create(Vdn(1))
        await store.vdns.change(1, trunk_group="markedgroup")
        await store.vdns.change(1, trunk_group="default")
        assert (await store.audit.verify())[1] is None
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute("ALTER ROLE CURRENT_USER SET ignore_checksum_failure = on")
        return str(await conn.fetchval("SELECT pg_relation_filepath('audit')"))
    finally:
        await conn.close()


def _change_a_byte(file: Path) -> None:
    page = file.read_bytes()
    at = page.rindex(b"markedgroup")  # rows grow downwards in a page: the last is the first written
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(b"n")


@pytest.fixture
def run_verify(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What `outdial audit verify` says on stderr; it must fail."""

    def run(dsn: str) -> str:
        assert main(["audit", "verify", "--database", dsn]) == 1
        return capsys.readouterr().err

    return run


async def test_the_command_prints_the_head_and_takes_it_back(
    store: Store, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await every_change(store)

    def command(*arguments: str) -> tuple[int, str]:
        code = main(["audit", *arguments, "--database", database])
        return code, capsys.readouterr().out

    code, head = await asyncio.to_thread(command, "verify")
    assert code == 0
    assert (await asyncio.to_thread(command, "verify", "--head", head.strip())) == (0, head)
    assert (await asyncio.to_thread(command, "verify", "--head", "1:x"))[0] == 2
    assert (await asyncio.to_thread(command, "verify", "--head", f"99:{'0' * 64}"))[0] == 1
    code, listed = await asyncio.to_thread(command, "list", "--vdn", "1", "--limit", "3", "--json")
    rows = json.loads(listed)
    assert [row["action"] for row in rows] == ["overwrite", "delete", "clear"]
    assert rows[0]["details"] == {"numbers": ["…8000"]}
    assert set(rows[0]) >= {"seq", "at", "who", "vdn", "object", "previousHash", "hash"}
