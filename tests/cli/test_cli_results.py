"""`outdial results` and `outdial campaign end`: what is done in the store of a server that may not run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from scripted import Run, error_of

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
RESULT = """
    INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, disposition, call_at,
                             created_at)
    VALUES ($1, $2, 9, $3, '80003', 'BUSY', $4, $4)"""
OUTBOX = """
    INSERT INTO outbox (vdn_id, result_id, campaign_id, url, pushes, due_at, last_error, created_at)
    VALUES ($1, $2, 9, 'http://127.0.0.1:9/r', $3, $4, $5, $6)"""


@pytest.fixture(autouse=True)
def _store(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    for vdn in ("1", "2"):
        assert run("vdn", "create", vdn).code == 0


@pytest.fixture
async def results(database: str) -> list[UUID]:
    """Two undelivered results of VDN 1, one that was not pushed yet, and an undelivered one of VDN 2."""
    ids = [uuid4() for _ in range(4)]
    rows = [(1, 7, None, "HTTP 500\n\x1b[31m"), (1, 1, AT, "timeout"), (1, 0, AT, None), (2, 3, None, "x")]
    conn = await asyncpg.connect(database)
    for n, (result_id, (vdn, pushes, due_at, error)) in enumerate(zip(ids, rows, strict=True)):
        at = AT.replace(second=n)
        await conn.execute(RESULT, vdn, result_id, n, at)
        await conn.execute(OUTBOX, vdn, result_id, pushes, due_at, error, at)
    await conn.close()
    return ids


def undelivered(run: Run, *more: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        run("results", "undelivered", "--vdn", "1", "--json", *more).out
    )
    return found


def test_undelivered_results_of_one_vdn_oldest_first(run: Run, results: list[UUID]) -> None:
    """semantics.md §7: an undelivered result stays in the outbox and is visible."""
    found = undelivered(run)
    assert found[0] == {
        "resultId": str(results[0]),
        "campaignId": 9,
        "disposition": "BUSY",
        "pushes": 7,
        "dueAt": None,
        "lastError": "HTTP 500\n\x1b[31m",
        "url": "http://127.0.0.1:9/r",
        "createdAt": "2030-01-02 03:04:00",
    }
    assert [row["resultId"] for row in found] == [str(results[0]), str(results[1])]
    assert [row["resultId"] for row in undelivered(run, "--limit", "1")] == [str(results[0])]
    first, second = run("results", "undelivered", "--vdn", "1").out.splitlines()
    assert first == f"{results[0]}\t9\tBUSY\t7\t\tHTTP 500\\n\\x1b[31m\thttp://127.0.0.1:9/r"
    assert second.split("\t")[4] == "2030-01-02 03:04:05"


def test_resend_all_of_a_vdn(run: Run, results: list[UUID]) -> None:
    """semantics.md §7: an undelivered result can be sent again."""
    assert results
    assert run("results", "resend", "--vdn", "1") == (0, "2 results will be pushed again\n", "")
    assert undelivered(run) == []
    assert json.loads(run("results", "resend", "--vdn", "2", "--json").out) == {"resent": 1}


def test_resend_some_and_say_which_could_not_be(run: Run, results: list[UUID]) -> None:
    ids = [str(results[0]).upper(), str(results[0]), str(results[3])]
    ended = run("results", "resend", "--vdn", "1", *ids)
    assert (ended.code, ended.out) == (1, "1 results will be pushed again\n")
    assert error_of(ended) == "1 of the 2 are unknown, delivered, or have not failed yet"
    assert [row["resultId"] for row in undelivered(run)] == [str(results[1])]


def test_a_wrong_result_id_is_named(run: Run) -> None:
    ended = run("results", "resend", "--vdn", "1", "x")
    assert ended.code == 2
    assert error_of(ended).startswith("RESULT_ID: ")


CAMPAIGN = """
    INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
                          max_alerting_time, windows, device_sign, call_count, call_interval, duplicates,
                          on_unknown, created_at)
    VALUES (1, 'n', '', 3, 'started', now(), now() + interval '1 day', '1', 30,
            '{0,1440,NULL,NULL,NULL,NULL}', '', 10, 1, 'allow', 'count', now())
    RETURNING campaign_id"""


@pytest.fixture
async def campaign_id(database: str) -> int:
    conn = await asyncpg.connect(database)
    made = int(await conn.fetchval(CAMPAIGN))
    await conn.close()
    return made


def test_end_is_final_and_of_one_vdn(run: Run, campaign_id: int) -> None:
    """semantics.md §5: ended by `outdial campaign end`; ended is final."""
    stranger = run("campaign", "end", str(campaign_id), "--vdn", "2")
    assert stranger.code == 1
    assert error_of(stranger) == "campaignId: no such campaign in this VDN [0200007]"
    assert run("campaign", "end", str(campaign_id), "--vdn", "1") == (
        0,
        f"campaign {campaign_id} ended\n",
        "",
    )
    again = run("campaign", "end", str(campaign_id), "--vdn", "1")
    assert again.code == 1
    assert error_of(again) == "the campaign is ended: it has ended already [0200011]"
