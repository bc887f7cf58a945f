"""What a repeat does at every operation that changes something (semantics.md §3, "A repeated request").

An add gives its stored answer again; every other verb is judged anew, so the second one finds what the first
one did. The table below is that of docs/reference/rules.md, section 3. It is held against the server one
after the other, and with the same bytes from 32 connections at one moment over three processes.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from face import OLD, Answer, Face, Request, Server
from races import CLIENTS, Crowd
from test_tenant_matrix import MATRIX, Key, own, request_of

OK, REPLAYED = "0200000", "replayed"
PROCESSES = 3
ROUNDS = [pytest.param(1, id="one"), pytest.param(20, id="many", marks=pytest.mark.long)]

AGAIN: dict[Key, tuple[str, str]] = {
    ("v1", "*/calldata/*", "POST"): (REPLAYED, "its stored answer"),
    ("v1", "*/calldata/*/delete", "POST"): (OK, "deletes what came meanwhile; `deleted` 0 when nothing did"),
    ("v1", "*", "POST"): ("0200005", "the name is taken"),
    ("v2", "*", "POST"): ("0200005", "the name is taken"),
    ("v1", "*/*", "PUT"): (OK, "the same values again"),
    ("v2", "*/*", "PUT"): (OK, "the same values again"),
    ("v1", "*/*", "DELETE"): ("0200007", "it is gone"),
    ("v1", "*/*/pause", "PUT"): ("0200011", "it is suspended"),
    ("v1", "*/*/resume", "PUT"): ("0200011", "it is started"),
    ("v1", "*/retryPolicy/*", "POST"): (OK, "the same policy again"),
    ("v1", "*/holiday/*", "POST"): ("0200013", "the name is taken"),
    ("v1", "*/holiday/*", "PUT"): (OK, "the same values again"),
    ("v1", "*/holiday/*", "DELETE"): (OK, "none is left"),
    ("v1", "*/holiday/*/*", "DELETE"): ("0200007", "it is gone"),
    ("v1", "*/blocklist/add", "POST"): ("0200007", "it is listed"),
    ("v1", "*/blocklist/delete", "POST"): (OK, "it is not listed"),
    ("v1", "*/blocklist", "DELETE"): (OK, "none is listed"),
}
"""The code of the second one, and why. A first one is always accepted here."""

QUERIES = {("v1", "*/callresult/*", "POST"), ("v1", "*/blocklist/query", "POST")}
"""POSTs that change nothing."""

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "rules.md"


@pytest.fixture(scope="module")
def served(make_server: Server) -> Iterator[Face]:
    with make_server(processes=PROCESSES) as face:
        yield face


@pytest.fixture(scope="module")
def crowd(served: Face) -> Iterator[Crowd]:
    gathered = Crowd(served, PROCESSES)
    yield gathered
    gathered.close()


def one_of(face: Face, key: Key) -> Request:
    """One request of this operation that will be accepted, signed once."""
    campaign, date = own(face, key, OLD)
    if key == ("v1", "*/calldata/*/delete", "POST"):
        assert face.add(campaign, ["1", "2"]).code == OK
    if key in {("v1", "*/blocklist/delete", "POST"), ("v1", "*/blocklist", "DELETE")}:
        assert face.call("POST", f"{OLD}/blocklist/add", {"blocklist": ["1"]}).code == OK
    return request_of(face, key, OLD, campaign, date)


def kept(face: Face) -> Any:
    """All that the interface can change, without when the second began."""
    face.sql.do("UPDATE campaign SET last_added_at = NULL WHERE last_added_at IS NOT NULL")
    return face.kept()


def test_every_operation_that_changes_something_has_a_row() -> None:
    assert AGAIN.keys() == {key for key in MATRIX if key[2] != "GET"} - QUERIES


def test_the_page_has_the_table() -> None:
    rows = re.findall(
        r"^\| `(\w+) ([^`]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.M
    )
    said = {(method, path): (code.strip("` "), why) for method, path, code, why in rows}
    for (version, path, method), (code, why) in AGAIN.items():
        named = "/".join(_place(path, n) for n in range(path.count("/") + 1))
        assert said.pop((method, f"v2: {named}" if version == "v2" else named)) == (code, why)
    assert not said


def _place(path: str, n: int) -> str:
    """`{vdnId}`, `{campaignId}` and `{id}` for the stars of a route, in their order."""
    parts = path.split("/")
    names = iter(["{vdnId}", "{campaignId}", "{id}"])
    return [next(names) if part == "*" else part for part in parts][n]


@pytest.mark.parametrize("key", AGAIN, ids=" ".join)
def test_the_same_bytes_once_more(served: Face, key: Key) -> None:
    """The second has the code of the table, and changes nothing more; nor has the third."""
    request = one_of(served, key)
    first = served.send(request)
    assert (first.code, "idempotent-replayed" in first.headers) == (OK, False)
    before = kept(served)
    second, third = served.send(request), served.send(request)
    assert kept(served) == before
    for answer in (second, third):
        assert verdict(answer) == AGAIN[key][0]
    if AGAIN[key][0] == REPLAYED:
        assert second.body == third.body == first.body


def verdict(answer: Answer) -> str:
    return REPLAYED if answer.headers.get("idempotent-replayed") == "true" else answer.code


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_same_bytes_from_32_at_once_have_one_effect(crowd: Crowd, rounds: int) -> None:
    """One finds things as they were, 31 find what it did; whichever process they come to."""
    face, overlaps = crowd.face, []
    for seed in range(rounds):
        keys = list(AGAIN)
        random.Random(seed).shuffle(keys)
        for key in keys:
            request = one_of(face, key)
            verdicts = Counter(verdict(answer) for answer in crowd.at_once([request] * CLIENTS))
            overlaps.append(crowd.overlap)
            again = AGAIN[key][0]
            assert verdicts == Counter({OK: 1}) + Counter({again: CLIENTS - 1}), key
            before = kept(face)
            assert verdict(face.send(request)) == again, key
            assert kept(face) == before, key
    print(f"{len(overlaps)} times 32 at once; under way when the last was sent: {min(overlaps)} or more")
    assert min(overlaps) >= 2, "no two were under way at the same time: nothing is proved"
