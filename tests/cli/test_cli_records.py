"""`outdial records export`: every ended call once, and a spreadsheet that computes nothing."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import asyncpg
import pytest
from scripted import Run, error_of

from outdial.cli.records import FIELDS

ADD = """
    INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch,
        intent_at, sent_at, ringing_at, answered_at, ended_at, disposition, cause, sip_status, hung_up_by,
        trunk, keys, steps, detector, rtp_sent, rtp_received)
    SELECT $1, gen_random_uuid(), $2, n, 1, '8000' || n, '100', 1, t, t + interval '1 ms', t + interval '1 s',
        t + interval '2 s', CASE WHEN $5 THEN t + interval '9 s' END, 'ANSWERED', 16, 200, 'callee', $6,
        '12#', '{greet,ask}', 'human', 450, 448
    FROM generate_series($3::integer, $4) n,
         LATERAL (SELECT timestamptz '2030-01-01' + n * interval '1 s') AS x(t)
"""
FORMULAS = ["=1+1", "+49", "-1", "@x", "\tx", "\rx", "'=1", "'", "x", 'a"b,c', "two\nlines", " =1", ""]


@pytest.fixture(autouse=True)
def _store(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_DATABASE", database)
    for vdn in ("1", "2"):
        assert run("vdn", "create", vdn).code == 0


def calls(dsn: str, campaign_id: int, first: int, last: int, **more: Any) -> None:
    """Ended calls with these contact ids, a second apart; `ended=False`: in flight."""

    async def add() -> None:
        conn = await asyncpg.connect(dsn)
        ended, trunk = more.get("ended", True), more.get("trunk", "north")
        await conn.execute(ADD, more.get("vdn", 1), campaign_id, first, last, ended, trunk)
        await conn.close()

    asyncio.run(add())


def exported(run: Run, *more: str) -> list[dict[str, Any]]:
    ended = run("records", "export", "--vdn", "1", "--format", "ndjson", *more)
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def test_every_ended_call_of_the_vdn_once_in_order(run: Run, database: str) -> None:
    """Over several pages, past calls of other campaigns and VDNs, and calls in flight."""
    calls(database, 7, 1, 2500)
    calls(database, 8, 2501, 4400)
    calls(database, 7, 4401, 4405, ended=False)
    calls(database, 7, 1, 5, vdn=2)
    found = exported(run)
    assert [one["contactId"] for one in found] == list(range(1, 4401))
    assert [one["contactId"] for one in exported(run, "--campaign", "8")] == list(range(2501, 4401))
    window = ("--since", "2030-01-01T00:00:10", "--until", "2030-01-01T00:00:12")
    assert [one["contactId"] for one in exported(run, *window)] == [10, 11]


def test_what_a_record_says(run: Run, database: str) -> None:
    calls(database, 7, 1, 1)
    [found] = exported(run)
    assert tuple(found) == FIELDS
    del found["attemptId"]
    assert found == {
        **{"campaignId": 7, "contactId": 1, "attemptNo": 1, "called": "80001", "caller": "100"},
        **{"sessionId": None, "madeAt": "2030-01-01T00:00:01.000+00:00"},
        **{"sentAt": "2030-01-01T00:00:01.001+00:00", "ringingAt": "2030-01-01T00:00:02.000+00:00"},
        **{"answeredAt": "2030-01-01T00:00:03.000+00:00", "endedAt": "2030-01-01T00:00:10.000+00:00"},
        **{"trunk": "north", "sipStatus": 200, "q850": 16, "hungUpBy": "callee", "disposition": "ANSWERED"},
        **{"failCode": "00000", "keys": "12#", "steps": ["greet", "ask"], "detector": "human"},
        **{"rtpSent": 450, "rtpReceived": 448, "transferOf": None},
    }


def test_a_transfer_has_a_line_that_names_its_call(run: Run, database: str) -> None:
    calls(database, 7, 1, 2)

    async def hand_over() -> None:
        conn = await asyncpg.connect(database)
        first = "(SELECT attempt_id FROM attempt WHERE contact_id = 1)"
        await conn.execute(f"UPDATE attempt SET transfer_of = {first}, contact_id = 1 WHERE contact_id = 2")
        await conn.close()

    asyncio.run(hand_over())
    own, transfer = exported(run)
    assert (own["transferOf"], transfer["transferOf"]) == (None, own["attemptId"])
    assert (own["contactId"], own["attemptNo"]) == (transfer["contactId"], transfer["attemptNo"])


def test_both_kinds_of_csv_come_back_as_they_were(run: Run, database: str) -> None:
    """RFC 4180 for programs; for spreadsheets no cell is a formula, and one ' taken away gives the cell."""
    for n, text in enumerate(FORMULAS, 1):
        calls(database, 7, n, n, trunk=text)
    raw = run("records", "export", "--vdn", "1").out
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    assert [row["trunk"] for row in rows] == FORMULAS
    assert raw.startswith(",".join(FIELDS) + "\r\n")
    assert raw.endswith("\r\n")
    guarded = run("records", "export", "--vdn", "1", "--spreadsheet").out
    cells = [row["trunk"] for row in csv.DictReader(io.StringIO(guarded, newline=""))]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert [cell.removeprefix("'") for cell in cells] == FORMULAS


def test_without_calls_there_is_the_heading_alone(run: Run) -> None:
    assert run("records", "export", "--vdn", "1").out == ",".join(FIELDS) + "\r\n"


def test_wrong_options(run: Run) -> None:
    ended = run("records", "export", "--vdn", "1", "--since", "yesterday")
    said = "--since: must be a time like 2026-03-01 or 2026-03-01T12:00:00"
    assert (ended.code, error_of(ended)) == (2, said)
    ended = run("records", "export", "--vdn", "1", "--format", "ndjson", "--spreadsheet")
    assert (ended.code, error_of(ended)) == (2, "--spreadsheet: goes with --format csv")
