"""Cost of a claim in a VDN of 100,000 and of 10,000,000 ready numbers, over 100 campaigns.

By the store's own path: the campaign under its lock, the due contacts, the intents, the pace; 20 calls a
claim. Counted is the CPU of PostgreSQL and of the client together.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from processes import Meter

from outdial import compose
from outdial.config import Settings
from outdial.model import Vdn
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster
from outdial.store.store import Store

VDN = 1
CAMPAIGNS = 100
PER_CLAIM = 20

CAMPAIGN = """
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at)
SELECT $1, 'c' || n, '', 3, 'started', now() - interval '1 day', now() + interval '1 day', '100', 30,
       '{0,1440,NULL,NULL,NULL,NULL}', '', $2, 1, 'allow', 'count', now()
FROM generate_series(1, $3::int) n RETURNING campaign_id
"""
CONTACTS = """
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, session_id, priority, state, due_at)
SELECT $1, nextval('contact_id'), c, '1' || lpad((n::bigint * 104729 % 10000000000)::text, 10, '0'),
       'order ' || n, 3, 'ready', now()
FROM generate_series($3::int, $4::int) n, unnest($2::bigint[]) c
"""
STEP = 10_000
"""Numbers of each campaign in one statement."""


@dataclass(frozen=True)
class Found:
    """CPU seconds of a claim, and claims a second of wall time, one after another."""

    cost: float
    rate: float


async def measure(sizes: tuple[int, ...], claims: int, rounds: int) -> None:
    """Print a row for each size, and how the cost of the largest stands to that of the smallest."""
    costs = []
    with tempfile.TemporaryDirectory(prefix="outdial-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgres = EmbeddedPostgres(EmbeddedOptions(data=folder / "data", notice=lambda _: None))
        postgres.start()
        try:
            settings = Settings(data=folder / "data", database=postgres.dsn, log_level="error")
            await compose.prepare(settings)
            async with compose.opened(settings, "bench", size=1) as store:
                await store.vdns.create(Vdn(VDN, max_active=100_000))
                ids = await _fill(postgres.dsn, 0, sizes[0], [])
                for before, size in zip((0, *sizes), sizes, strict=False):
                    if before:
                        await _fill(postgres.dsn, before, size, ids)
                    await _claim(store, ids, CAMPAIGNS)  # warm
                    found = [await _measured(store, ids, claims, postgres.pid) for _ in range(rounds)]
                    best = min(found, key=lambda one: one.cost)
                    costs.append(best.cost)
                    print(
                        f"claims: {size:,} ready numbers: {1e6 * best.cost:.0f} us of CPU a claim of"
                        f" {PER_CLAIM} calls, {best.rate:.0f} claims a second one after another,"
                        f" best of {rounds} rounds",
                        flush=True,
                    )
        finally:
            postgres.stop()
            remove_cluster(folder / "data")
    print(f"claims: cost at {sizes[-1]:,} / at {sizes[0]:,}: {costs[-1] / costs[0]:.2f} (aim at most 2)")


async def _fill(dsn: str, before: int, size: int, ids: list[int]) -> list[int]:
    """Numbers until there are `size`; the campaigns, made where there are none."""
    conn: Any = await asyncpg.connect(dsn)
    try:
        if not ids:
            made = await conn.fetch(CAMPAIGN, VDN, PER_CLAIM, CAMPAIGNS)
            ids = [row["campaign_id"] for row in made]
        for first in range(before // CAMPAIGNS + 1, size // CAMPAIGNS + 1, STEP):
            last = min(first + STEP - 1, size // CAMPAIGNS)
            await conn.execute(CONTACTS, VDN, ids, first, last)
        await conn.execute("UPDATE campaign SET incomplete = $1", size // CAMPAIGNS)
        for table in ("campaign", "contact", "attempt"):
            await conn.execute(f"VACUUM (ANALYZE) {table}")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()
    return ids


async def _measured(store: Store, ids: list[int], claims: int, database: int) -> Found:
    meter, client, began = Meter([database]), _own_cpu(), time.monotonic()
    meter.start()
    await _claim(store, ids, claims)
    seconds = time.monotonic() - began
    return Found((meter.stop() + _own_cpu() - client) / claims, claims / seconds)


async def _claim(store: Store, ids: list[int], claims: int) -> None:
    """So many claims, of the campaigns in turn."""
    epoch = await store.calls.begin_epoch("bench", os.getpid(), timedelta(hours=1))
    for number in range(claims):
        async with store.calls.claiming(VDN, ids[number % len(ids)], epoch) as claim:
            assert claim is not None
            candidates = await claim.candidates(PER_CLAIM)
            attempts = await claim.intend([(uuid4(), one) for one in candidates])
            assert len(attempts) == PER_CLAIM, "the numbers are used up"
            await claim.launch(claim.paced.campaign)


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    asyncio.run(measure((100_000, 10_000_000), 1000, 3))
