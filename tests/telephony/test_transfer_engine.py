"""Transfers of a whole engine: a real database judges them, and sipp hears what leaves."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from caller import trunk_to
from sipp import ANSWER, END, Sipp, bye, pause
from test_transfer import REFERRED, told

from callhouse import DEADLINE
from outdial import flow
from outdial.engine import Engine
from outdial.engine.trunking import StoreFacts
from outdial.model import BlacklistEntry, Caps, TimerPacing, Vdn
from outdial.shelf import Shelf
from outdial.sip.endpoint import Endpoint
from outdial.sip.rtp import MediaSession, PortRange, Ticker
from outdial.sip.words import Hop
from outdial.store.postgres import utc_now
from outdial.store.store import Store
from outdial.switch.sip import SipSwitch
from playbook import ALWAYS, campaign
from ports import free_port

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

NUMBER = "4930555"


def flow_of(mode: str) -> dict[str, Any]:
    """Hands the call over at once to the number in the call data."""
    return {
        "start": "over",
        "steps": {
            "over": {"transfer": {"target": "{to}", "mode": mode}, "otherwise": "sorry"},
            "sorry": {"hangup": {"cause": 31}},
        },
    }


@pytest.fixture
def far(tmp_path: Path) -> Iterator[list[Sipp]]:
    """Far ends; each is ended by its own id."""
    started: list[Sipp] = []
    yield started
    for one in started:
        one.end()


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store(database, None, size=6, name="test") as store:
        yield store


async def one_call(
    store: Store, sql: asyncpg.Connection, folder: Path, ports: list[int], *allowed: str, mode: str = "refer"
) -> list[dict[str, Any]]:
    """A campaign with one number whose flow hands it over; both attempts once they have ended."""
    for n, port in enumerate(ports, 1):
        await store.trunks.add(trunk_to(port, name=f"trunk{n}", position=n, max_channels=1))
    await store.trunks.allow(1, allowed or ["any"])
    await store.flows.add(1, "f", flow.document_text(flow_of(mode)), ())
    now = utc_now()
    new = campaign(
        begin_at=now - timedelta(days=1),
        end_at=now + timedelta(days=1),
        windows=ALWAYS,
        pacing=TimerPacing("f", 1, 1),
        max_alerting_time=30,
        caller_no="100",
    )
    async with store.campaigns.under_quota(1) as (_, held):
        campaign_id = await held.create(new)
    data = f'{{"to": "{NUMBER}"}}'
    await sql.execute(
        "INSERT INTO contact (vdn_id, contact_id, campaign_id, called, call_data, priority, state, due_at)"
        " VALUES (1, 1, $1, '8601', $2, 3, 'ready', now())",
        campaign_id,
        data,
    )
    await sql.execute("UPDATE campaign SET incomplete = 1")
    audio, ticker = PortRange("127.0.0.1", 30000, 40000), Ticker()

    def open_media(hop: Hop, on_key: Any) -> MediaSession:
        return MediaSession(ticker, audio.allocate(), on_key=on_key, comfort=True)

    endpoint = Endpoint([("127.0.0.1", free_port())])
    switch = SipSwitch(endpoint, open_media, Shelf(store, folder), StoreFacts(store).facts())
    stop = asyncio.Event()
    running = asyncio.create_task(Engine(store, switch, stop_grace=0.0).run(stop))
    try:
        async with asyncio.timeout(DEADLINE):
            while not await sql.fetchval(
                "SELECT count(*) = 2 AND bool_and(ended_at IS NOT NULL) FROM attempt"
            ):
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await running
    rows = await sql.fetch("SELECT * FROM attempt ORDER BY transfer_of NULLS FIRST")
    assert rows[1]["transfer_of"] == rows[0]["attempt_id"]
    assert await sql.fetchval("SELECT array_agg(disposition) FROM call_result") == ["ANSWERED"]
    return [dict(row) for row in rows]


@pytest.mark.parametrize(
    ("status", "disposition"), [("200 OK", "ANSWERED"), ("486 Busy Here", "BUSY"), ("603 No", "REJECTED")]
)
async def test_a_transfer_is_settled_with_what_became_of_it(
    store: Store, sql: asyncpg.Connection, tmp_path: Path, far: list[Sipp], status: str, disposition: str
) -> None:
    """Its own row has its own end; it counts under the caps; the number's result is that of its call."""
    await store.vdns.create(Vdn(1, caps=Caps(per_hour=5)))
    far.append(Sipp(tmp_path, steps=[*REFERRED, told(status), *END]).start())
    own, transfer = await one_call(store, sql, tmp_path / "shelf", [far[0].port])
    assert far[0].result() == 0, far[0].said()
    assert (own["disposition"], own["steps"][0]) == ("ANSWERED", "over")
    assert (transfer["disposition"], transfer["sip_status"]) == (disposition, int(status[:3]))
    assert (transfer["called"], transfer["caller"], transfer["trunk"]) == (NUMBER, "100", "trunk1")
    assert transfer["intent_at"] <= transfer["sent_at"] <= transfer["ended_at"] <= own["ended_at"]
    assert (transfer["answered_at"] is not None) == (status == "200 OK")
    calls = await sql.fetch("SELECT number, cardinality(calls) FROM called_count ORDER BY number")
    assert [tuple(row) for row in calls] == [(NUMBER, 1), ("8601", 1)]


@pytest.mark.parametrize("why", ["NOT_ALLOWED", "BLACKLISTED", "CAPPED"])
async def test_a_transfer_that_may_not_be(
    store: Store, sql: asyncpg.Connection, tmp_path: Path, far: list[Sipp], why: str
) -> None:
    """No REFER leaves; the row says why, and the flow goes its `otherwise`."""
    await store.vdns.create(Vdn(1, caps=Caps(per_hour=1)))
    far.append(Sipp(tmp_path, steps=[*ANSWER, *END]).start())
    if why == "BLACKLISTED":
        await store.blacklist.add([BlacklistEntry(1, NUMBER)])
    elif why == "CAPPED":
        await sql.execute("INSERT INTO called_count VALUES (1, $1, ARRAY[now()], now())", NUMBER)
    allowed = ("8",) if why == "NOT_ALLOWED" else ("8", "49")
    own, transfer = await one_call(store, sql, tmp_path / "shelf", [far[0].port], *allowed)
    assert far[0].result() == 0, far[0].said()
    assert "REFER" not in far[0].log()
    assert (transfer["disposition"], transfer["ended_at"]) == (why, transfer["intent_at"])
    assert transfer["sent_at"] is None
    assert (own["disposition"], own["steps"], own["cause"]) == ("ANSWERED", ["over", "sorry"], 31)


async def test_a_second_leg_is_stored_before_it_is_acknowledged(
    store: Store, sql: asyncpg.Connection, tmp_path: Path, far: list[Sipp]
) -> None:
    """A bridge by a whole engine: dialed over another trunk, answered, and both rows have their own end."""
    await store.vdns.create(Vdn(1, caps=Caps(per_hour=1)))
    for steps in ([*ANSWER, *END], [*ANSWER, pause(300), bye()]):
        far.append(Sipp(tmp_path, steps=steps).start())
    ports = [one.port for one in far]
    own, second = await one_call(store, sql, tmp_path / "shelf", ports, mode="bridge")
    assert [one.result() for one in far] == [0, 0], [one.said() for one in far]
    assert (second["disposition"], second["trunk"], second["hung_up_by"]) == ("ANSWERED", "trunk2", "callee")
    assert (own["disposition"], own["trunk"], own["hung_up_by"]) == ("ANSWERED", "trunk1", "caller")
    assert second["sent_at"] <= second["ringing_at"] <= second["answered_at"] <= second["ended_at"]
