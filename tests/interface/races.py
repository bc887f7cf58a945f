"""Races at one campaign: 32 clients, one moment, several processes; each round checks one rule.

A round raises AssertionError when the rule was broken. `test_races.py` runs the rounds against the server,
`test_guards.py` against copies of it with the rule's guard taken out, where they must fail.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from face import NEW, OLD, Answer, Face, Line, Request

CLIENTS = 32
LIMIT = 200_000

NO_SECOND = """
CREATE OR REPLACE FUNCTION no_second() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.last_added_at := NULL; RETURN NEW; END';
CREATE OR REPLACE TRIGGER no_second BEFORE UPDATE ON campaign FOR EACH ROW
    WHEN (NEW.description = 'no second') EXECUTE FUNCTION no_second();
"""
"""Takes the 1-second rule out of the way for the campaigns that are described so: it would hide the rest."""


class Crowd:
    """32 connections, spread over all api processes, that send at one moment."""

    def __init__(self, face: Face, processes: int) -> None:
        self.face = face
        self.processes = processes
        self.lines = _spread(face, processes)
        self.overlap = 0
        """Of the last requests sent at once: how many had no answer when the last of them was sent."""
        face.sql.do(NO_SECOND)

    def close(self) -> None:
        for line in self.lines:
            line.close()

    def campaign(self, vdn: int = OLD, *, second: bool = False, **columns: object) -> int:
        """A campaign; without `second` the 1-second rule does not bother it."""
        return self.face.campaign(vdn, description="" if second else "no second", **columns)

    def at_once(self, requests: Sequence[Request], gate: Sequence[int] = ()) -> list[Answer]:
        """Send all, each on its own connection, and read the answers.

        The campaigns of `gate` are locked until every process waits for them, so that their statements have
        begun before any of them goes on.
        """
        lines = self.lines[: len(requests)]
        with self.held(gate):
            fire(lines, requests)
            self.overlap = sum(line.waits() for line in lines)
            if gate:
                self.wait_for_waiters()
        return [self.face.checked(line.read()) for line in lines]

    @contextmanager
    def held(self, campaigns: Sequence[int]) -> Iterator[None]:
        """The rows of these campaigns are locked."""
        if not campaigns:
            yield
            return
        sql = self.face.sql
        sql.do("BEGIN")
        try:
            sql.do("SELECT 1 FROM campaign WHERE campaign_id = ANY($1) FOR UPDATE", list(campaigns))
            yield
        finally:
            sql.do("COMMIT")

    def wait_for_waiters(self) -> None:
        """Until a statement of every process waits for a row, or 0.8 s: less than its timeout."""
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        deadline = time.monotonic() + 0.8
        while time.monotonic() < deadline:
            if self.face.sql.value(waiting) >= self.processes:
                return
            time.sleep(0.005)


def fire(lines: Sequence[Line], requests: Sequence[Request]) -> None:
    """Prepare all, then send all."""
    for line, request in zip(lines, requests, strict=True):
        line.prepare(request)
    for line in lines:
        line.fire()


def _spread(face: Face, processes: int) -> list[Line]:
    """Open connections until every process has its share of 32; the process is told by the request id."""
    share = -(-CLIENTS // processes)
    held: Counter[str] = Counter()
    lines: list[Line] = []
    hello = Request("GET", "/healthz", (("Host", f"127.0.0.1:{face.port}"),), b"")
    for _ in range(100):
        fresh = [Line(face.port) for _ in range(CLIENTS)]
        fire(fresh, [hello] * CLIENTS)
        for line in fresh:
            process = line.read().headers["x-request-id"].split("-")[0]
            if held[process] < share and len(lines) < CLIENTS:
                held[process] += 1
                lines.append(line)
            else:
                line.close()
        if len(lines) == CLIENTS:
            break
    assert len(held) == processes, f"connections went to {dict(held)}"
    random.Random(0).shuffle(lines)
    return lines


def codes(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(answer.code for answer in answers)


def stored(face: Face, campaign: int) -> int:
    return len(face.contacts(campaign))


# -- the rounds ------------------------------------------------------------------------------------------


def limit_round(crowd: Crowd, rng: random.Random, gated: bool = True) -> None:
    """The 200,000 limit is not passed by one, and whatever fits is let in."""
    face, room = crowd.face, rng.randint(20, 60)
    campaign = crowd.campaign(incomplete=LIMIT - room)
    sizes = [rng.randint(1, 20) for _ in range(CLIENTS)]
    batches = [[f"{n}*{k}" for k in range(size)] for n, size in enumerate(sizes)]
    requests = [face.adding(campaign, batch) for batch in batches]
    answers = crowd.at_once(requests, [campaign] if gated else ())
    assert set(codes(answers)) == {"0200000", "0200020"}
    by_code: dict[str, list[int]] = {"0200000": [], "0200020": []}
    for size, answer in zip(sizes, answers, strict=True):
        by_code[answer.code].append(size)
    left = room - sum(by_code["0200000"])
    assert left >= 0, f"{-left} too many"
    assert min(by_code["0200020"]) > left, "an add that fitted was refused"
    incomplete = face.sql.value("SELECT incomplete FROM campaign WHERE campaign_id = $1", campaign)
    assert (incomplete, stored(face, campaign)) == (LIMIT - left, room - left)
    totals = [a.json["returnObject"]["totalSize"] for a in answers if a.code == "0200000"]
    assert len(set(totals)) == len(totals)
    assert max(totals) == LIMIT - left


def second_round(crowd: Crowd, rng: random.Random, gated: bool = True) -> bool:
    """The 1-second rule lets exactly one through. False: it took longer than that, and more were right."""
    campaign = crowd.campaign(second=True)
    requests = [crowd.face.adding(campaign, [str(n)]) for n in range(CLIENTS)]
    answers = crowd.at_once(requests, [campaign] if gated else ())
    found = codes(answers)
    assert set(found) <= {"0200000", "0200022"}
    moments = sorted(row["due_at"] for row in crowd.face.contacts(campaign))
    assert len(moments) == found["0200000"]
    span = (moments[-1] - moments[0]).total_seconds()
    assert all((b - a).total_seconds() >= 1 for a, b in pairwise(moments)), found
    return bool(span == 0)


def blacklist_round(crowd: Crowd, rng: random.Random) -> int:
    """An entry that was committed before a request began is seen by it; adds of before are in flight.

    Returns how many of the adds that began before were accepted.
    """
    face, number = crowd.face, str(rng.randrange(10**12, 10**13))
    half = CLIENTS // 2
    campaigns = [crowd.campaign() for _ in range(half)]
    before = [face.adding(campaign, [number, "1"]) for campaign in campaigns]
    after = [face.adding(campaign, ["2", number]) for campaign in campaigns]
    with crowd.held(campaigns):
        fire(crowd.lines[:half], before)
        crowd.wait_for_waiters()
        listed = face.call("POST", f"{OLD}/blocklist/add", {"blocklist": [number]})
        assert listed.code == "0200000"
        fire(crowd.lines[half:], after)
    began_before = [face.checked(line.read()) for line in crowd.lines[:half]]
    began_after = [face.checked(line.read()) for line in crowd.lines[half:]]
    assert codes(began_after) == {"0200024": half}
    assert set(codes(began_before)) <= {"0200000", "0200024"}
    for campaign, answer in zip(campaigns, began_before, strict=True):
        assert stored(face, campaign) == (2 if answer.code == "0200000" else 0)
    return codes(began_before)["0200000"]


def deletion_round(crowd: Crowd, rng: random.Random, gated: bool = True) -> None:
    """Adds and deletes of one campaign at once: the answers' totals are those of one after the other.

    Each answer leads from one total to the next, so as many lead to a total as from it, but for the ends.
    """
    face, vdn, half = crowd.face, rng.choice([OLD, NEW]), CLIENTS // 2
    campaign = crowd.campaign(vdn)
    first = [{"called": str(n), "customField": str(n % 4)} for n in range(20)]
    assert face.add(campaign, first, vdn=vdn).code == "0200000"
    adds = [
        face.adding(campaign, [{"called": f"{n}*{k}", "customField": str(n % 4)} for k in range(5)], vdn=vdn)
        for n in range(half)
    ]
    path = f"{vdn}/calldata/{campaign}/delete"
    deletes = [
        face.request("POST", path, {"customField": str(n % 4), "archiveHistory": n % 2}, vdn=vdn)
        for n in range(half)
    ]
    requests = adds + deletes
    rng.shuffle(requests)
    answers = crowd.at_once(requests, [campaign] if gated else ())
    assert codes(answers) == {"0200000": CLIENTS}
    told = [answer.json["returnObject"] for answer in answers]
    gone = sum(one.get("deleted", 0) for one in told)
    incomplete = face.sql.value("SELECT incomplete FROM campaign WHERE campaign_id = $1", campaign)
    kept = [row["state"] for row in face.contacts(campaign)]
    assert incomplete == kept.count("ready") == 20 + 5 * half - gone
    after = Counter(one["totalSize"] for one in told)
    before = Counter(one["totalSize"] + one.get("deleted", -5) for one in told)
    assert before + Counter([incomplete]) == after + Counter([20])


def replay_round(
    crowd: Crowd, rng: random.Random, gated: bool = True, second: bool = False, keyed: bool = False
) -> None:
    """The same bytes, or one Idempotency-Key, 32 times: one effect and 32 equal answers."""
    vdn = rng.choice([OLD, NEW])
    campaign = crowd.campaign(vdn, second=second)
    numbers = [str(n) for n in range(rng.randint(1, 20))]
    headers = [("Idempotency-Key", f"k{campaign}")] if keyed else []
    first = crowd.face.adding(campaign, numbers, vdn=vdn, headers=headers)
    same = [
        crowd.face.adding(campaign, numbers, vdn=vdn, headers=headers) if keyed else first
        for _ in range(CLIENTS)
    ]
    answers = crowd.at_once(same, [campaign] if gated else ())
    assert crowd.overlap >= 2, "no two were under way at the same time: nothing is proved"
    assert codes(answers) == {"0200000": CLIENTS}
    assert len({answer.body for answer in answers}) == 1
    assert stored(crowd.face, campaign) == len(numbers)
    fresh = [answer for answer in answers if "idempotent-replayed" not in answer.headers]
    assert len(fresh) == 1
