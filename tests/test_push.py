"""From the outbox to the receiver: at least once, in bounds, and nobody waits for another (G5)."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from outdial import metrics, push
from outdial.metrics import PUSHED
from outdial.push import Pusher
from outdial.receivers import Network, Receivers
from outdial.store.postgres import Postgres
from outdial.store.queries import QUERIES
from outdial.store.results import NotDelivered
from outdial.store.sealing import MasterKey
from outdial.store.store import Store
from toy_receiver import (
    Request,
    ToyReceiver,
    answers,
    never_answers,
    resets,
)

VDN = 11
CALLED = "8613800138000"
ALLOW = (ip_network("127.0.0.0/8"),)
KEY = MasterKey(bytes(range(32)))
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

_contacts = count(1)

PROCESS = """
import asyncio, sys
from ipaddress import ip_network
from outdial.push import Pusher
from outdial.store.sealing import MasterKey
from outdial.store.store import Store
async def main():
    async with Store(sys.argv[1], MasterKey(bytes(range(32)))) as store:
        await Pusher(store, allow=[ip_network("127.0.0.0/8")]).run(asyncio.Event())
asyncio.run(main())
"""


@pytest.fixture
async def vdn(sql: asyncpg.Connection) -> int:
    await add_vdn(sql, VDN)
    return VDN


async def add_vdn(sql: asyncpg.Connection, vdn_id: int, zone: str = "UTC") -> None:
    await sql.execute(
        "INSERT INTO vdn (vdn_id, time_zone, edition, max_active, recycle, created_at)"
        " VALUES ($1, $2, '2023-09', 20, 'keep', now())",
        vdn_id,
        zone,
    )


async def settle(
    sql: asyncpg.Connection, url: str, n: int = 1, *, vdn_id: int = VDN, notify: bool = True
) -> list[UUID]:
    """Commit `n` results for a receiver, as the end of an attempt does."""
    ids = [uuid4() for _ in range(n)]
    async with sql.transaction():
        await sql.executemany(
            "INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, disposition,"
            " call_at, created_at) VALUES ($1, $2, 3, $3, $4, 'BLACKLISTED', now(), now())",
            [(vdn_id, result_id, next(_contacts), CALLED) for result_id in ids],
        )
        await sql.executemany(
            "INSERT INTO outbox (vdn_id, result_id, campaign_id, url, due_at, created_at)"
            " VALUES ($1, $2, 3, $3, now() - interval '1 second', now())",
            [(vdn_id, result_id, url) for result_id in ids],
        )
        if notify:
            await sql.execute(QUERIES["wake_pushers"])
    return ids


@asynccontextmanager
async def pushing(
    database: str, *, key: MasterKey = KEY, allow: Sequence[Network] = ALLOW, **options: Any
) -> AsyncIterator[Store]:
    """A pusher at work; the store is its own."""
    stop = asyncio.Event()
    async with Store(database, key, name="push test") as store:
        work = asyncio.create_task(Pusher(store, allow=allow, **options).run(stop))
        try:
            yield store
        finally:
            stop.set()
            await work


async def until(true: Callable[[], Awaitable[Any]], within: float = 10.0) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.01)


async def outbox_empty(sql: asyncpg.Connection) -> bool:
    return not await sql.fetchval("SELECT EXISTS (SELECT FROM outbox)")


async def row(sql: asyncpg.Connection, result_id: UUID) -> asyncpg.Record:
    return await sql.fetchrow("SELECT * FROM outbox WHERE result_id = $1", result_id)


async def failed(sql: asyncpg.Connection, result_id: UUID, pushes: int) -> asyncpg.Record:
    """The outbox row once so many pushes have failed."""

    async def so_many() -> bool:
        return bool((await row(sql, result_id))["pushes"] == pushes)

    await until(so_many)
    return await row(sql, result_id)


def ids(requests: list[Request]) -> list[str]:
    return [request.headers["webhook-id"] for request in requests]


async def sign_pushes(database: str, vdn_id: int = VDN) -> None:
    async with Store(database, KEY) as store:
        assert await store.vdns.set_webhook_secret(vdn_id, SECRET)


# -- the documented push ---------------------------------------------------------------------------------


async def test_a_result_is_pushed_as_documented_and_leaves_the_outbox(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver() as receiver, pushing(database, user_agent="outdial/9"):
        (result_id,) = await settle(sql, receiver.url)
        await until(lambda: outbox_empty(sql))
    (request,) = receiver.requests
    assert request.headers["content-type"] == "application/json; charset=UTF-8"
    assert request.headers["user-agent"] == "outdial/9"
    assert [name for name in request.headers if name.startswith("webhook-")] == []
    (element,) = json.loads(request.body)
    assert (element["campaignId"], element["called"], element["vdnId"]) == ("3", CALLED, VDN)
    assert await sql.fetchval("SELECT delivered_at FROM call_result WHERE result_id = $1", result_id)


async def test_a_500_is_repeated_at_once_and_then_taken(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver(answers(500, 200)) as receiver, pushing(database):
        await settle(sql, receiver.url)
        await until(lambda: outbox_empty(sql))
    first, second = receiver.requests
    assert first.body == second.body
    assert second.at - first.at < 0.5


async def test_pushes_are_counted_by_what_became_of_them(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    def counted() -> list[float]:
        return [metrics._cells[PUSHED.at[what,]] for what in ("delivered", "failed")]

    before = counted()
    async with ToyReceiver() as takes, ToyReceiver(answers(500)) as fails, pushing(database):
        await settle(sql, takes.url, 3)
        ids_of_failed = await settle(sql, fails.url, 2)
        for result_id in ids_of_failed:
            await failed(sql, result_id, 1)
        await until(lambda: is_true(sql, "SELECT count(*) = 2 FROM outbox"))
    assert [now - was for now, was in zip(counted(), before, strict=True)] == [3, 2]


async def is_true(sql: asyncpg.Connection, query: str) -> bool:
    return bool(await sql.fetchval(query))


async def test_a_push_is_one_post_and_one_repeat_and_there_are_six_ten_minutes_apart(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver(answers(500)) as receiver, pushing(database) as store:
        (result_id,) = await settle(sql, receiver.url)
        for pushes in range(1, push.PUSHES):
            found = await failed(sql, result_id, pushes)
            assert len(receiver.requests) == 2 * pushes
            left = found["due_at"] - datetime.now(UTC)
            assert timedelta(minutes=9, seconds=50) < left <= timedelta(minutes=10)
            assert (found["last_error"], found["leased_until"]) == ("HTTP 500", None)
            await sql.execute("UPDATE outbox SET due_at = due_at - interval '10 minutes'")
            await sql.execute(QUERIES["wake_pushers"])
        found = await failed(sql, result_id, 6)
        assert (found["due_at"], found["leased_until"]) == (None, None)

        # It stays, it is visible, and it can be sent again.
        (kept,) = await store.results.undelivered(VDN)
        assert (kept.result_id, kept.due_at, kept.last_error) == (result_id, None, "HTTP 500")
        receiver.behaviour = answers(200)
        assert await store.results.send_again(VDN, [result_id]) == 1
        await until(lambda: outbox_empty(sql))
        assert len(receiver.requests) == 13


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (never_answers, "timeout after 0.3 s"),
        (resets, "connection reset by peer"),
        (answers(302), "HTTP 302"),
    ],
)
async def test_no_answer_is_a_failed_push_too(
    behaviour: Any, error: str, database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver(behaviour) as receiver, pushing(database, timeout=0.3):
        (result_id,) = await settle(sql, receiver.url)
        assert (await failed(sql, result_id, 1))["last_error"] == error
        assert len(receiver.requests) == 2


async def test_a_refused_address_is_a_failed_push_and_not_repeated(
    database: str, sql: asyncpg.Connection, vdn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[str] = []
    post = Receivers.post

    async def counted(self: Receivers, url: str, *rest: Any) -> None:
        posted.append(url)
        await post(self, url, *rest)

    monkeypatch.setattr(Receivers, "post", counted)
    async with ToyReceiver() as canary:
        async with pushing(database, allow=()):
            (result_id,) = await settle(sql, canary.url)
            (no_url,) = await settle(sql, "http://user:pw@127.0.0.1/")
            found = await failed(sql, result_id, 1)
            assert found["last_error"] == "address not allowed: loopback"
            assert found["due_at"] > datetime.now(UTC) + timedelta(minutes=9)
            assert (await failed(sql, no_url, 1))["last_error"] == "address not allowed: a user in the URL"
        assert canary.hits == 0
        assert posted == [canary.url]


async def test_one_that_cannot_be_written_fails_and_the_others_go_on(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    await add_vdn(sql, 12, zone="Mars/Olympus")
    async with ToyReceiver() as receiver, pushing(database):
        (broken,) = await settle(sql, receiver.url, vdn_id=12)
        await settle(sql, receiver.url)
        found = await failed(sql, broken, 1)
        assert found["last_error"] == "cannot be written: ZoneInfoNotFoundError"
        await until(lambda: _delivered(sql, VDN))
        assert len(receiver.requests) == 1


async def _delivered(sql: asyncpg.Connection, vdn_id: int) -> bool:
    return bool(
        await sql.fetchval(
            "SELECT bool_and(delivered_at IS NOT NULL) FROM call_result WHERE vdn_id = $1", vdn_id
        )
    )


async def test_neither_logs_nor_last_error_hold_the_number_or_the_path(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    with capture_logs() as logs:
        async with ToyReceiver(answers(500)) as receiver:
            (result_id,) = await settle(sql, receiver.url + "?token=hidden")
            await sql.execute("UPDATE outbox SET pushes = 5")
            async with pushing(database):
                found = await failed(sql, result_id, 6)
    assert {entry["event"] for entry in logs} == {"receiver fails", "result not delivered"}
    said = f"{logs} {found['last_error']}"
    assert CALLED[:-4] not in said
    assert "token" not in said


# -- signatures ------------------------------------------------------------------------------------------


async def test_pushes_of_a_vdn_with_a_secret_are_signed_and_keep_their_id(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    await sign_pushes(database)
    async with ToyReceiver(answers(500, 200)) as receiver, pushing(database):
        (result_id,) = await settle(sql, receiver.url)
        await until(lambda: outbox_empty(sql))
    assert ids(receiver.requests) == [str(result_id)] * 2
    for request in receiver.requests:
        assert Webhook(SECRET).verify(request.body, request.headers) == json.loads(request.body)


async def test_a_secret_that_cannot_be_opened_holds_back_its_vdn_alone(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    """It must not leave unsigned, and must not take the others with it."""
    await sign_pushes(database)
    await add_vdn(sql, 12)
    async with ToyReceiver() as receiver, pushing(database, key=MasterKey(bytes(32))):
        await settle(sql, receiver.url, 3)
        await settle(sql, receiver.url, 3, vdn_id=12)
        await until(lambda: _delivered(sql, 12))
        assert [json.loads(request.body)[0]["vdnId"] for request in receiver.requests] == [12, 12, 12]
        assert await sql.fetchval("SELECT count(*) FROM outbox WHERE pushes = 0") == 3


# -- nobody waits for another ----------------------------------------------------------------------------


async def test_a_silent_receiver_gets_eight_at_a_time_and_delays_no_other(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver(never_answers) as silent, ToyReceiver() as healthy, pushing(database, timeout=2):
        for path in range(4):  # the receiver counts, not the URL
            await settle(sql, f"{silent.url}/{path}", 20)
        await until(lambda: _saw(silent, 8))
        begun = asyncio.get_running_loop().time()
        await settle(sql, healthy.url, 100)
        await until(lambda: _saw(healthy, 100), within=1.9)
        assert asyncio.get_running_loop().time() - begun < 1.5
        assert silent.most == 8
        assert healthy.most <= 8


async def _saw(receiver: ToyReceiver, n: int) -> bool:
    return len(receiver.requests) >= n


async def test_many_silent_receivers_do_not_hold_up_one_that_is_prompt(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    """Ten silent ones have work for 80 slots, more than their share of 64."""
    async with AsyncExitStack() as stack:
        healthy = await stack.enter_async_context(ToyReceiver())
        silent = [await stack.enter_async_context(ToyReceiver(never_answers)) for _ in range(10)]
        await stack.enter_async_context(pushing(database, timeout=3))
        await settle(sql, healthy.url)
        await until(lambda: outbox_empty(sql))  # it has proven to be prompt
        for receiver in silent:
            await settle(sql, receiver.url, 10)
        await until(lambda: _in_flight(silent, push.SHARE), within=20)
        await settle(sql, healthy.url, 50)
        await until(lambda: _saw(healthy, 51), within=2)
        assert await _in_flight(silent, push.SHARE)


async def test_many_silent_receivers_do_not_hold_up_one_that_is_new(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    """The first push to a receiver goes alone, beside the first ones to others."""
    async with AsyncExitStack() as stack:
        new = await stack.enter_async_context(ToyReceiver())
        silent = [await stack.enter_async_context(ToyReceiver(never_answers)) for _ in range(10)]
        await stack.enter_async_context(pushing(database, timeout=3))
        for receiver in silent:
            await settle(sql, receiver.url, 10)
        await until(lambda: _in_flight(silent, 10))
        assert [receiver.most for receiver in silent] == [1] * 10
        await until(lambda: _in_flight(silent, push.SHARE), within=20)
        await settle(sql, new.url, 20)
        await until(lambda: _saw(new, 20), within=2)
        assert await _in_flight(silent, push.SHARE)


async def _in_flight(receivers: list[ToyReceiver], n: int) -> bool:
    return sum(receiver.open for receiver in receivers) == n


async def test_a_backlog_larger_than_one_lease_is_pushed_once_each(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    await sign_pushes(database)
    async with ToyReceiver() as receiver:
        first = await settle(sql, receiver.url, 450, notify=False)
        second = await settle(sql, receiver.url + "/2", 450, notify=False)
        async with pushing(database):
            await until(lambda: outbox_empty(sql), within=7)  # one lease a second would take twice that
        assert Counter(ids(receiver.requests)) == Counter(map(str, first + second))
        assert receiver.most == 8


async def test_a_result_leaves_when_it_is_committed_and_not_at_the_next_look(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    loop = asyncio.get_running_loop()
    async with ToyReceiver() as receiver, pushing(database):
        waits = []
        for n in range(1, 8):
            await until(lambda: outbox_empty(sql))
            await settle(sql, receiver.url)
            committed = loop.time()
            await until(lambda n=n: _saw(receiver, n))
            waits.append(receiver.requests[-1].at - committed)
        assert sorted(waits)[3] < 0.1


async def test_without_a_wake_up_the_outbox_is_looked_at_every_second(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver() as receiver, pushing(database):
        await settle(sql, receiver.url)
        await until(lambda: outbox_empty(sql))
        await settle(sql, receiver.url, notify=False)
        await until(lambda: _saw(receiver, 2), within=3)


async def test_an_idle_pusher_looks_about_once_a_second(
    database: str, sql: asyncpg.Connection, vdn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pushing(database) as store:
        looks = 0
        lease = store.results.lease

        async def counted(**options: Any) -> Any:
            nonlocal looks
            looks += 1
            return await lease(**options)

        monkeypatch.setattr(store.results, "lease", counted)
        await asyncio.sleep(2.5)
        assert 1 <= looks <= 5


# -- what dies in between --------------------------------------------------------------------------------


async def test_a_process_killed_in_a_push_is_followed_by_one_with_the_same_webhook_id(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    await sign_pushes(database)
    async with ToyReceiver(never_answers) as receiver:
        result_ids = await settle(sql, receiver.url, 3)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, database)
        try:
            await until(lambda: _saw(receiver, 1), within=20)  # the first one goes alone
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        receiver.behaviour = answers(200)
        async with pushing(database):
            await asyncio.sleep(1.2)
            assert len(receiver.requests) == 1  # the dead process's leases still run
            await sql.execute("UPDATE outbox SET leased_until = now()")
            await until(lambda: outbox_empty(sql))
        (pushed, *_) = said = ids(receiver.requests)
        assert Counter(said) == {str(one): 2 if str(one) == pushed else 1 for one in result_ids}


async def test_a_taken_result_that_cannot_be_written_down_is_not_pushed_again(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    """The store does not take the outcome for longer than a statement may last; the lease runs out, too."""
    lock = await asyncpg.connect(database)
    async with ToyReceiver() as receiver, pushing(database):
        async with lock.transaction():
            (result_id,) = await settle(sql, receiver.url, notify=False)
            await lock.execute("SELECT FROM call_result WHERE result_id = $1 FOR UPDATE", result_id)
            await until(lambda: _saw(receiver, 1))
            await asyncio.sleep(0.1)  # from here to the statement's end its row is not to be had
            await sql.execute("UPDATE outbox SET leased_until = now() - interval '1 second'")
            await until(lambda: _leased(sql))
            await asyncio.sleep(0.2)
            assert len(receiver.requests) == 1
        await until(lambda: outbox_empty(sql))
        assert len(receiver.requests) == 1
    await lock.close()


async def _leased(sql: asyncpg.Connection) -> bool:
    return bool(await sql.fetchval("SELECT bool_and(leased_until > now()) FROM outbox"))


async def test_lost_connections_are_made_again(database: str, sql: asyncpg.Connection, vdn: int) -> None:
    async with ToyReceiver() as receiver, pushing(database):
        await settle(sql, receiver.url)
        await until(lambda: outbox_empty(sql))
        for n in range(2, 5):
            ended = await sql.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name LIKE 'push test%'"
            )
            assert ended >= 1
            await settle(sql, receiver.url)
            await until(lambda n=n: _saw(receiver, n))
        await until(lambda: outbox_empty(sql))

        async def hears_again() -> bool:
            return bool(
                await sql.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'push test%' AND query LIKE 'LISTEN%'"
                )
            )

        await until(hears_again)


async def test_stop_finishes_what_flies_and_gives_back_what_waits(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    async with ToyReceiver(answers(200, after=1.0)) as receiver:
        async with pushing(database):
            await settle(sql, receiver.url, 20)
            await until(lambda: _saw(receiver, 1 + 8))  # the first one goes alone
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 3
        assert len(receiver.requests) == 9
        assert await sql.fetchval("SELECT count(*) FROM outbox") == 11
        assert await sql.fetchval("SELECT count(*) FROM outbox WHERE leased_until IS NOT NULL") == 0


async def test_stop_does_not_wait_for_a_silent_receiver_longer_than_one_timeout(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    """Its push is not repeated: it goes back, untried."""
    async with ToyReceiver(never_answers) as receiver:
        async with pushing(database, timeout=1.0):
            (result_id,) = await settle(sql, receiver.url)
            await until(lambda: _saw(receiver, 1))
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 2
        found = await row(sql, result_id)
        assert (found["pushes"], found["leased_until"]) == (0, None)
        assert len(receiver.requests) == 1


# -- the outbox ------------------------------------------------------------------------------------------


async def test_a_failed_push_counts_once_however_often_it_is_written_down(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    await settle(sql, "http://receiver.test/")
    async with Store(database, None) as store:
        (delivery,) = await store.results.lease(per_receiver=8, lease=60)
        failure = NotDelivered(delivery, None, "HTTP 500")
        await store.results.not_delivered([failure])
        await store.results.not_delivered([failure])
        assert await sql.fetchval("SELECT pushes FROM outbox") == 1


async def test_a_receiver_that_has_gone_is_left_for_another(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    """410 gives up nothing: once the campaign is pointed elsewhere, what is sent again goes there."""
    campaign = """
        INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
            max_alerting_time, windows, device_sign, call_count, call_interval, callback_url, duplicates,
            on_unknown, created_at)
        VALUES ($1, 'moved', '', 3, 'started', now(), now() + interval '1 day', '100', 30,
            '{0,1440,NULL,NULL,NULL,NULL}', '', 1, 1, $2, 'allow', 'count', now())
        RETURNING campaign_id
    """
    async with ToyReceiver(answers(410)) as gone, ToyReceiver() as other, pushing(database) as store:
        campaign_id = await sql.fetchval(campaign, VDN, gone.url)
        (result_id,) = await settle(sql, gone.url, notify=False)
        await sql.execute("UPDATE outbox SET campaign_id = $1", campaign_id)
        assert (await failed(sql, result_id, 1))["last_error"] == "HTTP 410"
        await sql.execute("UPDATE campaign SET callback_url = $1", other.url)
        assert await store.results.send_again(VDN) == 1
        await until(lambda: outbox_empty(sql))
        assert (len(gone.requests), len(other.requests)) == (2, 1)


async def test_a_result_sent_again_during_its_last_push_is_pushed_afresh(
    database: str, sql: asyncpg.Connection, vdn: int
) -> None:
    await settle(sql, "http://receiver.test/")
    await sql.execute("UPDATE outbox SET pushes = 5")
    async with Store(database, None) as store:
        (delivery,) = await store.results.lease(per_receiver=8, lease=60)
        assert await store.results.send_again(VDN) == 1
        assert await store.results.lease(per_receiver=8, lease=60) == []  # the push under way is not joined
        await store.results.not_delivered([NotDelivered(delivery, None, "HTTP 500")])
        found = await sql.fetchrow("SELECT pushes, due_at FROM outbox")
        assert found["pushes"] == 0
        assert found["due_at"] is not None


async def test_a_lease_reads_no_results_but_its_own(database: str, sql: asyncpg.Connection, vdn: int) -> None:
    """`call_result` only grows: a plan that scans it grows slower with every call."""
    await sql.execute(
        "INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, disposition, call_at,"
        " created_at) SELECT 11, gen_random_uuid(), 3, n, '1', 'BLACKLISTED', now(), now()"
        " FROM generate_series(1, 40000) n"
    )
    await sql.execute(
        "INSERT INTO outbox (vdn_id, result_id, campaign_id, url, due_at, created_at)"
        " SELECT vdn_id, result_id, campaign_id, 'http://receiver.test/', now(), now() FROM call_result"
    )
    db = Postgres(database)
    await db.open()
    try:
        async with db.connection() as conn:
            await conn.execute("PREPARE leased AS " + QUERIES["lease_deliveries"])
            plan = await conn.fetch(
                "EXPLAIN EXECUTE leased (now(), now() + interval '1 minute', 32, '{}'::text[])"
            )
    finally:
        await db.close()
    lines = [line[0] for line in plan]
    assert any("call_result_pkey" in line for line in lines)
    assert [line for line in lines if "Seq Scan on call_result" in line] == []
