"""`outdial erase`: what it says, and what it refuses."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest
from scripted import Run, error_of

NUMBER = "8613800138000"


def execute(dsn: str, query: str) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.execute(query)
        finally:
            await conn.close()

    asyncio.run(run())


def test_it_erases_and_the_log_tells_of_it(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", "00" * 32)
    run("vdn", "create", "1")
    execute(database, f"INSERT INTO blacklist (vdn_id, number, created_at) VALUES (1, '{NUMBER}', now())")
    said = "erased: 0 numbers, 0 results, 0 call records\nthe blacklist holds it as a hash\n"
    assert run("erase", NUMBER, "--vdn", "1") == (0, said, "")
    found = json.loads(run("erase", NUMBER, "--vdn", "1", "--json").out)
    assert found == {"numbers": 0, "results": 0, "records": 0, "blacklisted": True}
    (_, first, _) = json.loads(run("audit", "list", "--json").out)
    assert (first["action"], first["object"], first["details"]) == (
        "erase",
        "number …8000",
        {"blacklisted": True},
    )
    assert first["who"].startswith("command ")


@pytest.mark.parametrize("number", ["", "+4930", "1" * 25, "1 2"])
def test_what_is_no_number_is_refused(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    ended = run("erase", "--vdn", "1", "--", number)
    assert (ended.code, error_of(ended).split(":")[0]) == (2, "NUMBER")


def test_a_vdn_that_is_not_there_is_refused(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    assert run("erase", NUMBER, "--vdn", "5").code == 1
