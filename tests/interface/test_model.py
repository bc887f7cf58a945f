"""The interface against a model of its rules: random lives of campaigns, each answer foretold (oracle.py)."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from face import ABSENT, Answer, Face, Request, Server, new_campaign
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from oracle import BEFORE, LIMIT, OK, PAST, WITHIN, Campaign, Number, Told, World

from outdial.model import Edition
from outdial.store.postgres import utc_now

MAX_ACTIVE = 2
VDNS = {Edition.Y2023: 71, Edition.Y2025: 72}
DAY = timedelta(days=1)
DATES = {BEFORE: (DAY, 2 * DAY), WITHIN: (-DAY, DAY), PAST: (-2 * DAY, -DAY)}
STATUS = {"draft": 1, "started": 2, "suspended": 3, "ended": 4}
INIT = {0: "started", 1: "draft", 2: "started", 3: "suspended"}
DONE = """
UPDATE contact SET state = 'done' WHERE contact_id = (
    SELECT min(contact_id) FROM contact WHERE campaign_id = $1 AND called = $2 AND state <> 'done')"""
RESTRICTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "free": {"restrictTimes": 2, "restrictPeriod": "1"},
    "used": {"restrictTimes": 2, "restrictPeriod": "1"},
    "expired": {"validityTime": 1},
}

EXPECTED = {
    *("0200000", "0200004", "0200005", "0200007", "0200009", "0200011", "0200018", "0200019", "0200020"),
    *("0200022", "0200024", "0200029", "0200030", "02000001", "02000002", "02000003", "02000006"),
    *("02000007", "02000009"),
}
"""Every code that the machine's rules can earn; the rest is below the interface or the store's."""

# Every strategy is the same in every state, so that a run can be repeated whatever the clock did.
CAMPAIGN = st.integers(0, 4)
NUMBERS = st.lists(st.sampled_from(["1", "2", "3", "4", "5", "6"]), min_size=1, max_size=4, unique=True)
FAULTS: list[Any] = [
    {"sessionId": "s" * 33},
    {"called": ""},
    {"called": "+1"},
    {"customField": "what?"},
    {"recycleTime": "soon"},
    {"priority": "9"},
    {"callData": "[]"},
    {"callData": '{"a":1}'},
    "no object",
    "twice",
    "too many",
    "nothing",
    "no list",
]
PASSED = st.sampled_from(["yes", "back", "no"])
FAULT = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(FAULTS))


def spoiled(numbers: list[str], fault: Any) -> Any:
    """The entries with a fault in the last of them."""
    entries: list[Any] = [{"called": number} for number in numbers]
    if isinstance(fault, dict):
        entries[-1] |= fault
    elif fault == "no object":
        entries[-1] = numbers[-1]
    elif fault == "twice":
        entries.append(dict(entries[0]))
    elif fault == "too many":
        entries = [{"called": str(n)} for n in range(21)]
    elif fault:
        return [] if fault == "nothing" else "1"
    return entries


class Interface(RuleBasedStateMachine):
    """One VDN, its campaigns and its blacklist; `face` is the running server."""

    face: Face
    seen: Counter[str]

    @initialize(edition=st.sampled_from(Edition), fault=st.sampled_from(FAULTS))
    def begin(self, edition: Edition, fault: Any) -> None:
        self.vdn = VDNS[edition]
        self.world = World(edition.value, MAX_ACTIVE)
        self.sent: list[tuple[Campaign, Any, Request, Answer]] = []
        self.touched: Campaign | None = None
        self.face.sql.do("DELETE FROM blacklist WHERE vdn_id = $1", self.vdn)
        self.face.sql.do("DELETE FROM campaign WHERE vdn_id = $1", self.vdn)
        for name, device_type, duplicates in (("a", 3, "allow"), ("b", 1, "refuse"), ("c", 3, "skip")):
            self.create(name, 1, device_type, duplicates)
        self.add(1, ["1", "2"], fault, "yes", None)

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        answer = self.face.call(method, f"{self.vdn}{path}", body, vdn=self.vdn)
        self.seen[answer.code] += 1
        return answer

    def some(self, pick: int) -> Campaign:
        """A campaign that is, or was, or never was there."""
        if not self.world.campaigns:
            return Campaign(ABSENT, "absent", 3, "draft", "allow", deleted=True)
        return self.world.campaigns[pick % len(self.world.campaigns)]

    # -- campaigns ---------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from("abcdefgh"),
        status=st.sampled_from([1, 0, 2, 3]),
        device_type=st.sampled_from([3, 3, 1]),
        duplicates=st.sampled_from(["allow", "allow", "refuse", "skip"]),
    )
    def create_one(self, name: str, status: int, device_type: int, duplicates: str) -> None:
        self.create(name, status, device_type, duplicates)

    def create(self, name: str, status: int, device_type: int, duplicates: str) -> None:
        foretold = self.world.create(name, status)
        fields = {"name": name, "initStatus": status, "deviceType": device_type, "duplicates": duplicates}
        answer = self.call("POST", "", new_campaign(**fields))
        assert answer.code == foretold, answer.desc
        if foretold == OK:
            made = Campaign(answer.json["returnObject"]["id"], name, device_type, INIT[status], duplicates)
            self.world.campaigns.append(made)
            self.touched = made

    @rule(picks=st.lists(CAMPAIGN, min_size=1, max_size=4), verb=st.sampled_from(["resume", "pause"]))
    def turn_some(self, picks: list[int], verb: str) -> None:
        for pick in picks:
            self.turn(pick, verb)
        self.turn(picks[0], "delete" if len(picks) == 4 else verb)

    def turn(self, pick: int, verb: str) -> None:
        campaign = self.some(pick)
        foretold = getattr(self.world, verb)(campaign)
        method, tail = ("DELETE", "") if verb == "delete" else ("PUT", f"/{verb}")
        assert self.call(method, f"/{campaign.id}{tail}").code == foretold
        if foretold == OK:
            campaign.deleted = verb == "delete"
            campaign.state = {"resume": "started", "pause": "suspended"}.get(verb, campaign.state)
        self.touched = campaign

    @rule()
    def query_all(self) -> None:
        answer = self.face.call(
            "GET", f"{self.vdn}", query="status=0&deviceType=0&rowsPerPage=100", vdn=self.vdn
        )
        living = [campaign for campaign in self.world.campaigns if not campaign.deleted]
        assert [(row["id"], row["status"]) for row in answer.json["data"]] == [
            (campaign.id, STATUS[campaign.shown]) for campaign in reversed(living)
        ]
        assert answer.json["curIvrCount"] == sum(campaign.active for campaign in living)

    # -- what time and the engine do, by SQL -------------------------------------------------------------

    @rule(pick=CAMPAIGN, dates=st.sampled_from([BEFORE, WITHIN, WITHIN, PAST]))
    def move_dates(self, pick: int, dates: str) -> None:
        campaign = self.some(pick)
        begin, end = (utc_now() + distance for distance in DATES[dates])
        self.face.change(campaign.id, begin_at=begin, end_at=end)
        campaign.dates = dates

    @rule(pick=CAMPAIGN, room=st.integers(0, 6), numbers=NUMBERS)
    def fill_and_add(self, pick: int, room: int, numbers: list[str]) -> None:
        """Twice: what fits into the brim, and after it what does not."""
        self.fill_or_finish(pick, room)
        for _ in range(2):
            self.add(pick, numbers, None, "yes", None)

    def fill_or_finish(self, pick: int, room: int) -> None:
        """The campaign is nearly full; or no longer so, and the oldest of its numbers is done."""
        campaign = self.some(pick)
        number = next((number for number in campaign.numbers if not number.done), None)
        if campaign.filling == 0:
            campaign.filling = LIMIT - room - campaign.incomplete
        else:
            campaign.filling = 0
            if number is not None:
                number.done = True
                self.face.sql.do(DONE, campaign.id, number.called)
        self.face.change(campaign.id, incomplete=campaign.incomplete)

    def a_second_passes(self, campaign: Campaign, passed: str) -> None:
        """Or the clock goes back: then the last add lies ahead and blocks nothing."""
        if passed != "no":
            distance = timedelta(minutes=5 if passed == "back" else -5)
            self.face.change(campaign.id, last_added_at=utc_now() + distance)
            campaign.accepted = None

    # -- the blacklist -----------------------------------------------------------------------------------

    @rule(number=st.sampled_from("1234567"), kind=st.sampled_from(sorted(RESTRICTIONS)))
    def list_number(self, number: str, kind: str) -> None:
        foretold = self.world.list_number(number)
        answer = self.call("POST", "/blocklist/add", {"blocklist": [number], **RESTRICTIONS[kind]})
        assert answer.code == foretold
        added = self.world.blacklist.get(number, "expired") == "expired"
        if foretold != OK or not added:
            return
        where = "WHERE vdn_id = $1 AND number = $2"
        if kind == "expired":
            self.face.sql.do(f"UPDATE blacklist SET expires_at = now() {where}", self.vdn, number)
        if kind == "used":
            self.face.sql.do(
                f"UPDATE blacklist SET window_begin = now(), window_calls = 2 {where}", self.vdn, number
            )
        self.world.blacklist[number] = kind

    @rule(number=st.sampled_from("1234567"))
    def unlist_number(self, number: str) -> None:
        assert self.call("POST", "/blocklist/delete", {"blocklistNo": number}).code == OK
        self.world.blacklist.pop(number, None)

    # -- numbers -----------------------------------------------------------------------------------------

    @rule(pick=CAMPAIGN, numbers=NUMBERS, fault=FAULT, passed=PASSED, key=st.sampled_from([None, "k"]))
    def add(self, pick: int, numbers: list[str], fault: Any, passed: str, key: str | None) -> None:
        campaign, entries = self.some(pick), spoiled(numbers, fault)
        self.a_second_passes(campaign, passed)
        headers = [("Idempotency-Key", key)] if key else []
        body = json.dumps({"callDataList": entries}).encode()
        request = self.face.adding(campaign.id, body, vdn=self.vdn, headers=headers)
        told = campaign.keys.get(key) if key else None
        if told is None:
            self.judged(campaign, entries, request, key)
        elif told.body != body:
            assert self.send(request).code == "02000009"
        else:
            self.replayed(request, told.answer)

    @rule(pick=CAMPAIGN, called=st.sampled_from("1234567"), archive=st.sampled_from([0, 1]))
    def delete_number(self, pick: int, called: str, archive: int) -> None:
        campaign = self.some(pick)
        foretold = self.world.delete_number(campaign)
        body = {"called": called, "archiveHistory": archive}
        answer = self.call("POST", f"/calldata/{campaign.id}/delete", body)
        assert answer.code == foretold, answer.desc
        self.touched = campaign
        if foretold != OK:
            return
        meant = [number for number in campaign.numbers if number.called == called and not number.done]
        campaign.numbers = [number for number in campaign.numbers if archive or number not in meant]
        for number in meant:
            number.done = True
        told = {"deleted": len(meant), "totalSize": campaign.incomplete}
        assert answer.json["returnObject"] == told

    @rule(picks=st.lists(CAMPAIGN, min_size=1, max_size=4), numbers=NUMBERS, passed=PASSED)
    def add_to_some(self, picks: list[int], numbers: list[str], passed: str) -> None:
        for pick in picks:
            self.add(pick, numbers, None, passed, None)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4), pick=CAMPAIGN)
    def add_badly(self, faults: list[Any], pick: int) -> None:
        for fault in faults:
            self.add(pick, ["1", "2"], fault, "yes", None)

    @rule(pick=CAMPAIGN)
    def send_again(self, pick: int) -> None:
        """The same bytes once more: accepted ones from store, refused ones judged anew."""
        if not self.sent:
            return
        campaign, entries, request, answer = self.sent[pick % len(self.sent)]
        if answer.code == OK:
            self.replayed(request, answer.body)
        elif not any(name == "Idempotency-Key" for name, _ in request.headers):
            self.judged(campaign, entries, request, None)

    def send(self, request: Request) -> Answer:
        answer = self.face.send(request)
        self.seen[answer.code] += 1
        return answer

    def judged(self, campaign: Campaign, entries: Any, request: Request, key: str | None) -> None:
        began = time.monotonic()
        answer = self.send(request)
        span = (began, time.monotonic())
        assert answer.code in self.world.add(campaign, entries, span), (answer.code, answer.desc, campaign)
        assert "idempotent-replayed" not in answer.headers
        if answer.code == OK:
            kept = self.world.kept(campaign, entries)
            campaign.numbers += [Number(entry["called"]) for entry in kept]
            campaign.accepted = span
            if key is not None:
                campaign.keys[key] = Told(request.body, answer.body)
            self.accepted(campaign, kept, answer)
        self.sent = [entry for entry in self.sent if entry[2] is not request]
        self.sent.append((campaign, entries, request, answer))
        self.touched = campaign

    def accepted(self, campaign: Campaign, kept: list[dict[str, Any]], answer: Answer) -> None:
        told = answer.json["returnObject"]
        assert told["totalSize"] == campaign.incomplete
        listed = [row["called"] for row in told.get("dataIdList", ())]
        assert listed == ([entry["called"] for entry in kept] if self.world.edition == "2025-11" else [])

    def replayed(self, request: Request, stored: bytes) -> None:
        answer = self.send(request)
        assert answer.headers.get("idempotent-replayed") == "true"
        assert answer.body == stored

    # -- what is true after every step -------------------------------------------------------------------

    @invariant()
    def the_touched_campaign_is_as_foretold(self) -> None:
        campaign, self.touched = getattr(self, "touched", None), None
        if campaign is None:
            return
        answer = self.call("GET", f"/{campaign.id}")
        if campaign.deleted:
            assert answer.code == "0200007"
            return
        found = answer.json["returnObject"]
        assert (found["status"], found["standing"]) == (STATUS[campaign.shown], campaign.standing)
        assert found["incomplete"] == campaign.incomplete
        stored = [(row["called"], row["state"] == "done") for row in self.face.contacts(campaign.id)]
        assert sorted(stored) == sorted((number.called, number.done) for number in campaign.numbers)


@pytest.fixture(scope="module")
def served(make_server: Server) -> Iterator[Face]:
    with make_server(processes=2) as face:
        for edition, vdn in VDNS.items():
            face.vdn(vdn, edition=edition, max_active=MAX_ACTIVE)
        yield face


@pytest.mark.parametrize(
    ("runs", "steps"),
    [
        pytest.param(40, 30, id="small"),
        pytest.param(500, 50, id="large", marks=[pytest.mark.long, pytest.mark.timeout(1500)]),
    ],
)
def test_the_interface_against_a_model_of_the_rules(served: Face, runs: int, steps: int) -> None:
    """Every answer is foretold, and every code that the rules can earn occurs."""
    Interface.face, Interface.seen = served, Counter()
    run_state_machine_as_test(
        Interface,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            derandomize=runs < 100,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert set(Interface.seen) == EXPECTED, Interface.seen
