"""The statements on the hot paths walk an index, with the generic plan that the server really uses."""

from __future__ import annotations

import json
import re
from typing import Any

import asyncpg
import pytest

from outdial.reasons import COUNTED
from outdial.store.postgres import Postgres
from outdial.store.queries import QUERIES

ROWS = """
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at)
SELECT 1, 'c' || n, '', 3, 'started', now(), now() + interval '1 day', '1', 30,
       '{0,1440,NULL,NULL,NULL,NULL}', '', 1, 1, 'allow', 'count', now() FROM generate_series(1, 300) n;
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at)
SELECT 1, nextval('contact_id'), n % 300 + 1, n::text, 3, 'ready', now() FROM generate_series(1, 30000) n;
INSERT INTO blacklist (vdn_id, number, created_at)
SELECT 1, n::text, now() FROM generate_series(1, 20000) n;
INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,
    intent_at, ended_at)
SELECT 1, gen_random_uuid(), 1, n, 1, '1', '1', 1, now(), CASE WHEN n > 50 THEN now() END
FROM generate_series(1, 20000) n;
INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, disposition, call_at, created_at)
SELECT 1, gen_random_uuid(), 1, n, '1', 'ANSWERED', now(), now() FROM generate_series(1, 20000) n;
INSERT INTO outbox (vdn_id, result_id, campaign_id, url, due_at, created_at)
SELECT 1, result_id, 1, 'http://127.0.0.1/', now(), now() FROM call_result LIMIT 2000;
ANALYZE
"""

HOT = ["admit", "stored_answer", "due_contacts", "lock_entries", "intend", "withdraw", "settle", "key"]
HOT += ["lock_campaigns_of", "histories", "promote", "idle_contacts", "recyclable"]
HOT += ["remember", "in_flight", "records_page", "next_due", "facts"]
HOT += ["results_page", "results_of_session", "results_of_field"]
HOT += ["ended_call", "close_contacts", "delete_contacts", "archive_contacts", "deletable_contacts"]
HOT += ["being_called", "remove_results_of"]


async def plan_of(sql: asyncpg.Connection, name: str) -> str:
    query = QUERIES[name].replace("{limit}", "10")
    count = max((int(n) for n in re.findall(r"\$(\d+)", query)), default=0)
    await sql.execute("SET plan_cache_mode = force_generic_plan")
    await sql.execute("SET enable_seqscan = off")  # as every connection of ours has it
    await sql.execute(f"PREPARE looked AS {query}")
    nothing = f"({', '.join(['NULL'] * count)})" if count else ""
    rows = await sql.fetch(f"EXPLAIN EXECUTE looked{nothing}")
    await sql.execute("DEALLOCATE looked")
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_statement_reads_no_table_from_end_to_end(sql: asyncpg.Connection, name: str) -> None:
    """House rule: what a statement touches grows with its batch, never with the table."""
    await sql.execute(ROWS)
    plan = await plan_of(sql, name)
    scanned = set(re.findall(r"Seq Scan on (\w+)", plan)) & {
        "contact",
        "blacklist",
        "attempt",
        "call_result",
        "outbox",
        "stored_answer",
        "campaign",
    }
    assert not scanned, plan


async def test_the_check_sees_a_table_read_from_end_to_end(sql: asyncpg.Connection) -> None:
    """The control: a statement without an index is found."""
    await sql.execute(ROWS)
    rows = await sql.fetch("EXPLAIN SELECT count(*) FROM contact WHERE session_id = 'x'")
    assert "Seq Scan on contact" in rows[0][0] + rows[1][0]


@pytest.mark.parametrize("name", HOT)
async def test_a_plan_made_on_empty_tables_is_the_same(sql: asyncpg.Connection, name: str) -> None:
    """A server that has just been installed plans before there are rows, and keeps the plan."""
    plan = await plan_of(sql, name)
    assert not re.search(r"Seq Scan on (contact|blacklist|attempt|call_result|outbox|stored_answer)", plan)


@pytest.mark.parametrize("rows", ["SELECT", ROWS])
async def test_admission_looks_up_the_blacklist_by_hash(sql: asyncpg.Connection, rows: str) -> None:
    """Number by number, whether the plan was made on an empty blacklist or on a full one."""
    await sql.execute(rows)
    plan = await plan_of(sql, "admit")
    assert "Bitmap Index Scan on blacklist_lookup" in plan
    assert "blacklist_pkey" not in plan


async def test_connections_plan_as_these_tests_do(database: str) -> None:
    """The settings above are those of the pool."""
    db = Postgres(database)
    await db.open()
    try:
        async with db.connection() as conn:
            assert await conn.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
            assert await conn.fetchval("SHOW enable_seqscan") == "off"
    finally:
        await db.close()


async def test_the_claim_walks_the_due_index_in_order(sql: asyncpg.Connection) -> None:
    """Design, stack.md §4: with a literal LIMIT the claim reads as many index entries as it takes."""
    await sql.execute(ROWS)
    plan = await plan_of(sql, "due_contacts")
    assert "Index Scan using contact_due on contact" in plan
    assert "Limit" in plan


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("results_page", "call_result_page"),
        ("results_of_session", "call_result_session"),
        ("results_of_field", "call_result_field"),
    ],
)
@pytest.mark.parametrize("rows", ["SELECT", ROWS])
async def test_a_page_of_results_is_counted_and_found_in_an_index_in_order(
    sql: asyncpg.Connection, name: str, index: str, rows: str
) -> None:
    """Nothing is sorted but the page; whatever is skipped is no row of the table."""
    await sql.execute(rows)
    plan = await plan_of(sql, name)
    assert len(re.findall(rf"Index (?:Only )?Scan using {index} on call_result", plan)) == 2, plan
    assert plan.count("Sort  ") == 1, plan
    assert plan.startswith("Sort"), plan


async def test_the_promotion_walks_the_waiting_index_in_order(sql: asyncpg.Connection) -> None:
    """It reads those that are due, not all that wait."""
    await sql.execute(ROWS)
    plan = await plan_of(sql, "promote")
    assert "Index Scan using contact_waiting on contact" in plan
    assert "Limit" in plan


# -- why a campaign does not call --------------------------------------------------------------------------

ONE_CAMPAIGN = """
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now());
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at)
SELECT 1, 'c' || n, '', 3, 'started', now(), now() + interval '1 day', '1', 30,
       '{0,1440,NULL,NULL,NULL,NULL}', '', 1, 1, 'allow', 'count', now() FROM generate_series(1, 2) n;
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at)
SELECT 1, -n, 2, n::text, 3, 'waiting', now() - interval '1 h' FROM generate_series(1, 30000) n;
INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,
    intent_at, ended_at)
SELECT 1, gen_random_uuid(), 1, n, 1, '1', '1', 1, now(), now() FROM generate_series(1, 30000) n;
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at, held_by, disposition)
SELECT 1, n, 1, n::text, 3,
       CASE WHEN n % 10 < 6 THEN 'done' WHEN n % 10 = 9 THEN 'ready' ELSE 'waiting' END,
       now() + n * interval '1 ms', CASE n % 10 WHEN 7 THEN 'blacklist' WHEN 8 THEN 'cap' END,
       CASE WHEN n % 10 < 3 THEN 'NOT_ALLOWED' END
FROM generate_series(1, {numbers}) n;
ANALYZE
"""
"""A campaign of so many numbers: of ten, six have ended and one is due; the others wait, one for each cause.

Another one's wait before them.
"""

OF_EACH_KIND = COUNTED
"""Numbers counted of each of four kinds: retry, blacklist, cap, refused."""


async def why(sql: asyncpg.Connection, numbers: int) -> dict[str, Any]:
    """What the query does in a campaign of so many numbers, as EXPLAIN tells it."""
    await sql.execute(ONE_CAMPAIGN.replace("{numbers}", str(numbers)))
    await sql.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
    await sql.execute(f"PREPARE why AS {QUERIES['facts']}")
    explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE why(1, 1)"
    async with sql.transaction():
        await sql.execute(QUERIES["by_index"])
        (found,) = json.loads(await sql.fetchval(explain))
    return dict(found)


def read(plan: dict[str, Any]) -> int:
    """Rows of contacts and attempts that were read, those thrown away included."""
    own = 0
    if plan.get("Relation Name") in ("contact", "attempt"):
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return int(own) + sum(read(one) for one in plan.get("Plans", ()))


async def is_answered_by_a_part(sql: asyncpg.Connection, numbers: int) -> None:
    found = await why(sql, numbers)
    pages = found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]
    print(f"{numbers} numbers: {read(found['Plan'])} read, {pages} pages, {found['Execution Time']:.0f} ms")
    assert read(found["Plan"]) <= 4 * OF_EACH_KIND + 1
    assert pages <= 5 * OF_EACH_KIND
    row = await sql.fetchrow(QUERIES["facts"], 1, 1)
    counts = [row[name] for name in ("retries", "restricted", "capped", "refused")]
    assert counts == [COUNTED] * 4
    first = await sql.fetch("""SELECT min(due_at) FROM contact WHERE state = 'waiting' AND campaign_id = 1
                               GROUP BY held_by ORDER BY min(due_at)""")
    assert [row["retry_at"], row["restricted_at"], row["capped_at"]] == [one[0] for one in first]
    assert row["due"] is True


async def test_why_is_answered_by_a_part_of_a_large_campaign(sql: asyncpg.Connection) -> None:
    """House rule: its work does not grow with the campaign's numbers; the first of each kind is exact."""
    await is_answered_by_a_part(sql, 400_000)


@pytest.mark.long
async def test_why_is_answered_by_a_part_of_2_000_000_numbers(sql: asyncpg.Connection) -> None:
    await is_answered_by_a_part(sql, 2_000_000)
