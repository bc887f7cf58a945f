"""CPU of the whole engine with its database per call, beside sipp's own client at the same rate.

An engine process dials ten campaigns over a trunk to `sipp -sn uas`; their flow hangs up at once. Counted is
the engine's process and all of PostgreSQL, from the start of the campaigns until every number has ended.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import sipp
from processes import Meter

from outdial import compose
from outdial.config import Settings
from outdial.model import Trunk, Vdn
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster
from outdial.store.sealing import create_master_key

VDN = 1
CAMPAIGNS = 10
FLOW = '{"start": "end", "steps": {"end": {"hangup": {}}}}'
LONGEST = 60.0
"""Seconds after which a run is cut off and says how far it came."""

CAMPAIGN = """
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, incomplete,
    created_at)
SELECT $1, gen_random_uuid()::text, '', 3, 'draft', now() - interval '1 day', now() + interval '1 day',
       '100', 30, '{0,1440,NULL,NULL,NULL,NULL}', 'end', $2::int, 1, 'allow', 'count', $3, now()
FROM generate_series(1, $4::int) RETURNING campaign_id
"""
CONTACTS = """
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, session_id, priority, state, due_at)
SELECT $1, nextval('contact_id'), c, '8' || lpad(n::text, 7, '0'), 'order ' || n, 3, 'ready', now()
FROM unnest($2::bigint[]) c, generate_series(1, $3) n
"""
FOUND = """
SELECT count(*) FILTER (WHERE disposition = 'ANSWERED') AS answered, count(*) AS placed,
       extract(epoch FROM max(sent_at) - min(sent_at))::float AS seconds
FROM attempt WHERE campaign_id = ANY($1::bigint[]) AND ended_at IS NOT NULL
"""


@dataclass(frozen=True)
class Run:
    """What was measured: CPU seconds, calls that ended, those answered, and calls a second reached."""

    engine: float
    database: float
    calls: int
    answered: int
    rate: float


class Server:
    """A database and an engine process of the bench's own, with a trunk to `port`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._postgres = EmbeddedPostgres(EmbeddedOptions(data=folder / "data", notice=lambda _: None))
        self._engine: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """PostgreSQL, trunk and flow, the engine."""
        self._postgres.start()
        data = self._folder / "data"
        settings = Settings(
            data=data,
            database=self._postgres.dsn,
            switch="sip",
            sip_listen=(f"{sipp.HOST}:{sipp.free_port()}",),
            log_level="error",
        )
        create_master_key(data)
        await compose.prepare(settings)
        trunk = Trunk(
            "far", sipp.HOST, self._port, max_cps=5000, max_channels=20_000, ping_every=0, timer_b=8.0
        )
        async with compose.opened(settings, "bench") as store:
            await store.vdns.create(Vdn(VDN, max_active=100_000))
            await store.trunks.add(trunk)
            await store.trunks.allow(VDN, ["any"])
            await store.flows.add(VDN, "end", FLOW, [])
        self.conn: Any = await asyncpg.connect(self._postgres.dsn)
        self._engine = subprocess.Popen(
            [sys.executable, "-m", "outdial.compose", "engine"], env=compose.environment(settings)
        )
        await self.run(50, 1)  # warm

    async def stop(self) -> None:
        """End what was started."""
        await self.conn.close()
        if self._engine is not None:
            self._engine.terminate()
            self._engine.wait(30)
        self._postgres.stop()
        remove_cluster(self._folder / "data")

    async def run(self, rate: int, seconds: int) -> Run:
        """Call at this rate until every number has ended."""
        assert self._engine is not None
        each = rate // CAMPAIGNS
        made = await self.conn.fetch(CAMPAIGN, VDN, each, each * seconds, CAMPAIGNS)
        ids = [row["campaign_id"] for row in made]
        await self.conn.execute(CONTACTS, VDN, ids, each * seconds)
        await self.conn.execute("ANALYZE contact")
        own = frozenset({self.conn.get_server_pid()})
        engine, database = Meter([self._engine.pid]), Meter([self._postgres.pid], own)
        engine.start()
        database.start()
        await self.conn.execute("UPDATE campaign SET state = 'started' WHERE campaign_id = ANY($1)", ids)
        await self.conn.execute("SELECT pg_notify('outdial_engine', '')")
        until = time.monotonic() + LONGEST
        while await self._incomplete(ids) and time.monotonic() < until:
            await asyncio.sleep(0.2)
        used = engine.stop(), database.stop()
        found = await self.conn.fetchrow(FOUND, ids)
        await self.conn.execute("UPDATE campaign SET state = 'suspended' WHERE campaign_id = ANY($1)", ids)
        return Run(*used, found["placed"], found["answered"], found["placed"] / (found["seconds"] or 1.0))

    async def _incomplete(self, ids: list[int]) -> int:
        query = "SELECT sum(incomplete)::int FROM campaign WHERE campaign_id = ANY($1)"
        return int(await self.conn.fetchval(query, ids))


async def measure(rates: tuple[int, ...], seconds: int, rounds: int) -> None:
    """Print a row for each rate: the whole engine and sipp's client, in turns."""
    if sipp.missing():
        print("whole engine: no sipp on this machine, nobody to call")
        return
    with sipp.far_end() as port, tempfile.TemporaryDirectory(prefix="outdial-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = Server(folder, port)
        try:
            await server.start()
            for rate in rates:
                ours, theirs = [], []
                for _ in range(rounds):
                    ours.append(await server.run(rate, seconds))
                    theirs.append(sipp.client(port, rate, rate * seconds))
                _print_row(rate, rate * seconds, ours, theirs)
        finally:
            await server.stop()


def _print_row(rate: int, calls: int, ours: list[Run], theirs: list[tuple[float, float]]) -> None:
    engine = statistics.median(1000 * one.engine / max(1, one.calls) for one in ours)
    database = statistics.median(1000 * one.database / max(1, one.calls) for one in ours)
    beside = statistics.median(1000 * cpu / calls for cpu, _ in theirs)
    reached = f"reached {min(one.rate for one in ours):.0f}, sipp {min(rate for _, rate in theirs):.0f}"
    answered = f"{min(one.answered for one in ours)} of {calls} answered"
    cost = f"{engine + database:.2f} CPU-s per 1,000 calls (engine {engine:.2f}, PostgreSQL {database:.2f})"
    print(
        f"whole engine: {rate} calls/s ({reached}; {answered}): {cost}, sipp's client {beside:.3f}; ratio"
        f" {(engine + database) / beside:.1f}, medians of {len(ours)} rounds (aim 10)",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(measure((300, 1000), 8, 3))
