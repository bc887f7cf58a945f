"""Plans keep in step with tables that grow fast (docs/why/decisions/0014)."""

from __future__ import annotations

import re

import asyncpg
import pytest

from outdial.store.postgres import Postgres
from outdial.store.queries import QUERIES
from outdial.store.statistics import Statistics
from outdial.store.store import Store
from outdial.upkeep import Upkeep

CAMPAIGNS, ATTEMPTS, BATCH = 20, 3000, 50
ROWS = f"""
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at)
SELECT 1, 'c' || n, '', 3, 'started', now(), now() + interval '1 day', '1', 30,
       '{{0,1440,NULL,NULL,NULL,NULL}}', '', 1, 1, 'allow', 'count', now()
FROM generate_series(1, {CAMPAIGNS}) n;
INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,
    intent_at, ended_at)
SELECT 1, gen_random_uuid(), n % {CAMPAIGNS} + 1, n, 1, '1', '1', 1, now(), CASE WHEN n > 100 THEN now() END
FROM generate_series(1, {ATTEMPTS}) n
"""
FILTERED = re.compile(r"Rows Removed by (?:Join )?Filter: (\d+)")


@pytest.fixture
async def planning(sql: asyncpg.Connection) -> asyncpg.Connection:
    """A connection as those of the pool; autovacuum does not come between."""
    await sql.execute("ALTER TABLE attempt SET (autovacuum_enabled = off)")
    await sql.execute(ROWS)
    await sql.execute("SET plan_cache_mode = force_generic_plan")
    await sql.execute("SET enable_seqscan = off")
    return sql


async def read_by_a_batch(sql: asyncpg.Connection) -> int:
    """Attempts that the look for a batch's campaigns reads, those that a filter throws away among them."""
    found = await sql.fetch("SELECT attempt_id FROM attempt WHERE ended_at IS NULL LIMIT $1", BATCH)
    ids = ",".join(f"'{row['attempt_id']}'" for row in found)
    await sql.execute(f"PREPARE looked AS {QUERIES['lock_campaigns_of']}")
    rows = await sql.fetch(f"EXPLAIN (ANALYZE, COSTS off) EXECUTE looked(1, ARRAY[{ids}]::uuid[], now())")
    await sql.execute("DEALLOCATE looked")
    return _rows_read("\n".join(row[0] for row in rows))


def _rows_read(plan: str) -> int:
    read = 0
    for scan in re.split(r"\n(?=\s*->|\s*CTE|\s*InitPlan)", plan):
        loops = re.search(r"loops=(\d+)", scan)
        if re.search(r"Scan .*on attempt\b", scan) and loops is not None:
            rows = re.search(r"rows=(\d+)", scan)
            removed = FILTERED.search(scan)
            each = int(rows[1] if rows else 0) + int(removed[1] if removed else 0)
            read += each * int(loops[1])
    return read


async def test_a_batch_reads_its_own_attempts_once_the_statistics_follow(
    planning: asyncpg.Connection, database: str
) -> None:
    """House rule: what a statement touches grows with its batch.

    The control: before, all rows are read. PostgreSQL 18 finds the narrow way without statistics too.
    """
    before = await read_by_a_batch(planning)
    assert before >= ATTEMPTS or planning.get_server_version().major >= 18
    async with Store(database, None) as store:
        await store.statistics.follow()
    assert await read_by_a_batch(planning) <= 2 * BATCH


async def test_the_campaigns_of_a_batch_read_its_attempts_once(planning: asyncpg.Connection) -> None:
    """Not once for each campaign of the VDN, even by a plan that was made without statistics."""
    assert await read_by_a_batch(planning) <= ATTEMPTS


async def test_statistics_are_taken_again_when_a_table_has_doubled(
    planning: asyncpg.Connection, database: str
) -> None:
    """So often, not at every look: a table of n pages is analyzed about log2(n) times."""
    db = Postgres(database)
    await db.open()
    try:
        statistics, taken = Statistics(db), []
        for _ in range(5):
            await statistics.follow()
            taken.append(
                await planning.fetchval("SELECT reltuples::int FROM pg_class WHERE relname = 'attempt'")
            )
            await planning.execute(
                "INSERT INTO attempt SELECT vdn_id, gen_random_uuid(), campaign_id, contact_id + 100000"
                " + (SELECT max(contact_id) FROM attempt), attempt_no, called, caller, epoch, intent_at,"
                " ringing_at, answered_at, now() FROM attempt LIMIT 1200"
            )
        assert taken == [3000, 3000, 3000, 6600, 6600]
    finally:
        await db.close()


async def test_a_round_of_the_upkeep_takes_statistics(planning: asyncpg.Connection, database: str) -> None:
    async with Store(database, None) as store:
        await Upkeep(store).round()
    assert await planning.fetchval("SELECT relpages FROM pg_class WHERE relname = 'attempt'") > 0
