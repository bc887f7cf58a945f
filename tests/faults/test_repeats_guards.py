"""The proof of test_repeats.py is seen red with its guard taken out."""

from __future__ import annotations

import pytest
from serving import Mutate, Serve
from test_repeats import client_of, rounds_of, told

pytestmark = [pytest.mark.long, pytest.mark.guard, pytest.mark.timeout(300)]

NUMBERS = "store/numbers.py"
STORED = """\
    INSERT INTO stored_answer (vdn_id, request_key, idempotency_key, body_key, total_size, contact_ids, \
expires_at)
    SELECT $1, request_key, idempotency_key, body_key, incomplete + n,
           CASE WHEN $11 THEN ARRAY(SELECT e.contact_id FROM entry e WHERE e.req = a.req ORDER BY e.nth) END,
           expires_at
    FROM admitted a
    ON CONFLICT DO NOTHING
    RETURNING request_key, contact_ids
"""
NOT_STORED = """\
    SELECT request_key, CASE WHEN $11 THEN ARRAY(SELECT 1::bigint) END AS contact_ids
    FROM admitted a
"""
RESOLVED = "                _resolve(waiting, _outcome(row, waiting.add))\n"
STORED_LATER = """\
                if row["kept"]:
                    add = waiting.add
                    await self._db.fetch(
                        "store_later", add.vdn_id, add.request_key, add.idempotency_key, add.body_key,
                        row["incomplete"] + len(add.entries), add.expires_at,
                    )
"""
LATER = """\

-- name: store_later
INSERT INTO stored_answer (vdn_id, request_key, idempotency_key, body_key, total_size, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
FORGET = "-- name: forget_answers"

IN_ANOTHER_TRANSACTION = (
    ("store/queries/numbers.sql", STORED, NOT_STORED),
    ("store/queries/numbers.sql", FORGET, f"{LATER}\n{FORGET}"),
    (NUMBERS, RESOLVED, STORED_LATER + RESOLVED),
)


def test_an_answer_stored_in_another_transaction_is_seen(serve: Serve, mutate: Mutate) -> None:
    server = serve(source=mutate(*IN_ANOTHER_TRANSACTION), api_processes=3)
    found = rounds_of(server, client_of(server), 8, until_a_fault=True)
    print(told(found))
    assert found[-1].fault
