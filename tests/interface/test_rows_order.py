"""semantics.md §3: of two faults at once the earlier in the order answers, for every pair of the order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from face import ABSENT, OLD, Face

from outdial.store.postgres import utc_now

LISTED = "4930555"


@dataclass
class Attempt:
    """An add in the making: a campaign as its columns, entries, and what happens before it is sent."""

    columns: dict[str, Any] = field(default_factory=dict)
    entries: list[Any] = field(default_factory=lambda: [{"called": "1"}, {"called": "2"}, {"called": "3"}])
    absent: bool = False
    stored: list[str] = field(default_factory=list)

    def send(self, face: Face) -> Any:
        campaign = face.campaign(**self.columns)
        for called in self.stored:
            store(face, campaign, called)
        return face.add(ABSENT if self.absent else campaign, self.entries)


def store(face: Face, campaign: int, called: str) -> None:
    """A number that is incomplete in a campaign which takes no second one."""
    face.sql.do(
        "INSERT INTO contact (vdn_id, contact_id, campaign_id, called, priority, state, due_at, exclusive)"
        " VALUES ($1, nextval('contact_id'), $2, $3, 3, 'ready', now(), true)",
        OLD,
        campaign,
        called,
    )


Fault = Callable[[Attempt], None]


def first_entry(**fields: Any) -> Fault:
    return lambda attempt: attempt.entries[0].update(fields)


def later_entry(attempt: Attempt) -> None:
    attempt.entries[1]["sessionId"] = 5


def twice(attempt: Attempt) -> None:
    attempt.entries.append({"called": "2"})


def absent(attempt: Attempt) -> None:
    attempt.absent = True


def no_object(attempt: Attempt) -> None:
    attempt.columns["device_type"] = 1
    attempt.entries[2]["callData"] = "[]"


def executing(attempt: Attempt) -> None:
    attempt.columns["state"] = "started"


def too_soon(attempt: Attempt) -> None:
    attempt.columns["last_added_at"] = utc_now()


def blacklisted(attempt: Attempt) -> None:
    attempt.entries.append({"called": LISTED})


def repeated(attempt: Attempt) -> None:
    attempt.columns["duplicates"] = "refuse"
    attempt.stored.append("3")


def full(attempt: Attempt) -> None:
    attempt.columns["incomplete"] = 199_998


ORDER: list[tuple[str, Fault, str, str]] = [
    ("sessionId", first_entry(sessionId=5), "02000006", "callDataList[0].sessionId"),
    ("called", first_entry(called=""), "02000001", "callDataList[0].called"),
    ("caller", first_entry(caller="9" * 25), "02000003", "callDataList[0].caller"),
    ("customField", first_entry(customField="a!"), "02000002", "callDataList[0].customField"),
    ("recycleTime", first_entry(recycleTime="soon"), "0200030", "callDataList[0].recycleTime"),
    ("callData", first_entry(callData="x" * 1025), "02000003", "callDataList[0].callData"),
    ("the next entry", later_entry, "02000006", "callDataList[1].sessionId"),
    ("twice in one request", twice, "0200018", "callDataList[3].called: the same"),
    ("no such campaign", absent, "0200007", "campaignId"),
    ("call data is no object", no_object, "02000007", "callDataList[2].callData"),
    ("state", executing, "0200019", "pause it, add, resume"),
    ("1 second", too_soon, "0200022", "less than 1 second"),
    ("blacklist", blacklisted, "0200024", "blacklist"),
    ("incomplete already", repeated, "0200018", "callDataList[2].called: still incomplete"),
    ("200,000", full, "0200020", "200000"),
]

PAIRS = [pytest.param(a, b, id=f"{a[0]} before {b[0]}") for a, b in combinations(ORDER, 2)]


@pytest.fixture(scope="module", autouse=True)
def _blacklist(face: Face) -> None:
    face.sql.do("INSERT INTO blacklist (vdn_id, number, created_at) VALUES ($1, $2, now())", OLD, LISTED)


@pytest.mark.parametrize("row", ORDER, ids=[row[0] for row in ORDER])
def test_each_fault_alone(face: Face, row: tuple[str, Fault, str, str]) -> None:
    """The cases of the pairs are what they say."""
    _, fault, code, says = row
    attempt = Attempt()
    fault(attempt)
    face.refuses(attempt.send(face), code, says=says)
    assert Attempt().send(face).code == "0200000"


@pytest.mark.parametrize(("earlier", "later"), PAIRS)
def test_the_earlier_answers(
    face: Face, earlier: tuple[str, Fault, str, str], later: tuple[str, Fault, str, str]
) -> None:
    attempt = Attempt()
    earlier[1](attempt)
    later[1](attempt)
    face.refuses(attempt.send(face), earlier[2], says=earlier[3])


def test_the_whole_ladder(face: Face) -> None:
    """All faults at once, then without the first, and so on; nothing is stored on the way down."""
    for step, (_, _, code, says) in enumerate(ORDER):
        attempt = Attempt()
        for _, fault, _, _ in ORDER[step:]:
            fault(attempt)
        face.refuses(attempt.send(face), code, says=says)
    kept = "SELECT count(*) FROM contact n JOIN campaign c USING (vdn_id, campaign_id) WHERE NOT n.exclusive"
    assert face.sql.value(f"{kept} AND c.duplicates = 'refuse'") == 0


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "02000001"),
        ("", "02000001"),
        (0, "02000006"),
        ([], "02000006"),
        ("x" * 25, "02000003"),
        ("x" * 24, "02000002"),
        ("\0", "02000002"),
    ],
    ids=repr,
)
def test_the_order_within_a_field(face: Face, value: Any, code: str) -> None:
    """Mandatory and absent, wrong type, too long, forbidden character."""
    face.refuses(face.add(face.campaign(), [{"called": value}]), code, says="callDataList[0].called")


def test_more_entries_than_the_limit_come_before_the_entries(face: Face) -> None:
    face.refuses(face.add(face.campaign(), [7] * 21), "0200029")


def test_a_stored_answer_comes_before_the_bodys_json(face: Face) -> None:
    """§3, step 2: the same Idempotency-Key with another body is 02000009, whatever that body is."""
    campaign = face.campaign()
    key = [("Idempotency-Key", "order")]
    assert face.add(campaign, ["1"], headers=key).code == "0200000"
    face.refuses(face.add(campaign, b"{", headers=key), "02000009", says="Idempotency-Key")
    face.refuses(face.add(campaign, b"{"), "0200001", status=400)


def test_a_stored_answer_comes_before_every_refusal(face: Face) -> None:
    """What was accepted is answered from store though all would refuse it now."""
    campaign = face.campaign()
    request = face.adding(campaign, ["1", "2"])
    first = face.send(request)
    assert first.code == "0200000"
    ended = {"end_at": utc_now() - timedelta(hours=1), "begin_at": utc_now() - timedelta(hours=2)}
    face.change(campaign, incomplete=200_000, state="started", device_type=1, **ended)
    face.refuses(face.add(campaign, ["1", "2"]), "0200019")
    again = face.send(request)
    assert again.body == first.body
