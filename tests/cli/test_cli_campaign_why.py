"""`outdial campaign why`, in a store without a server."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest
from scripted import Run, error_of

CAMPAIGN = """
    INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
        max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown,
        created_at)
    VALUES (1, 'c', '', 3, 'draft', now(), timestamptz '2999-01-01', '1', 30,
            '{0,1440,NULL,NULL,NULL,NULL}', '', 1, 1, 'allow', 'count', now())"""


@pytest.fixture(autouse=True)
def _store(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def add() -> None:
        conn = await asyncpg.connect(database)
        await conn.execute(CAMPAIGN)
        await conn.close()

    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    assert run("vdn", "create", "1").code == 0
    asyncio.run(add())


def test_every_cause_is_a_line(run: Run) -> None:
    assert run("campaign", "why", "1", "--vdn", "1").out.splitlines() == [
        "draft\tit is a draft: start it\t",
        "nothing-left\tno number is left to call: add some\t",
        "no-engine\tno engine is running: outdial serve with the role engine\t",
    ]
    found = json.loads(run("campaign", "why", "1", "--vdn", "1", "--json").out)
    assert found[0] == {"cause": "draft", "sentence": "it is a draft: start it", "until": None}


def test_a_campaign_that_is_not_there(run: Run) -> None:
    ended = run("campaign", "why", "9", "--vdn", "1")
    assert (ended.code, error_of(ended)) == (1, "VDN 1 has no campaign 9")
