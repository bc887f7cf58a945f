"""Tenants do not see one another; and every code that can be earned is earned here once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from face import ABSENT, NEW, OLD, OTHER, Answer, Face, new_campaign

from outdial.errors import Code
from outdial.store.postgres import utc_now

Operation = tuple[str, str, Any]

_names = count(1)
V2 = "/rest/isales/v2/openapi/campaigns"
ON_A_CAMPAIGN: dict[str, Operation] = {
    "add numbers": ("POST", "{vdn}/calldata/{campaign}", {"callDataList": [{"called": "1"}]}),
    "delete numbers": ("POST", "{vdn}/calldata/{campaign}/delete", {"called": "1"}),
    "query results": ("POST", "{vdn}/callresult/{campaign}", None),
    "query one": ("GET", "{vdn}/{campaign}", None),
    "pause": ("PUT", "{vdn}/{campaign}/pause", None),
    "resume": ("PUT", "{vdn}/{campaign}/resume", None),
    "modify": ("PUT", "{vdn}/{campaign}", new_campaign(deviceType=1)),
    "modify V2": (
        "PUT",
        f"{V2}/{{vdn}}/{{campaign}}",
        new_campaign(deviceType=1, callerNo=[{"accessCode": "1"}]),
    ),
    "query retry policy": ("GET", "{vdn}/retryPolicy/{campaign}", None),
    "special dates": ("GET", "{vdn}/holiday/{campaign}", None),
    "add special date": ("POST", "{vdn}/holiday/{campaign}", {"name": "w", "type": 1, "week": "7"}),
    "delete special dates": ("DELETE", "{vdn}/holiday/{campaign}", None),
    "delete": ("DELETE", "{vdn}/{campaign}", None),
    "delete, archived": ("DELETE", "{vdn}/{campaign}", {"archiveHistory": 1}),
}
ON_A_VDN: dict[str, Operation] = {
    "create": ("POST", "{vdn}", new_campaign()),
    "create V2": ("POST", f"{V2}/{{vdn}}", new_campaign(callerNo=[{"accessCode": "1"}])),
    "query all": ("GET", "{vdn}", None),
    "blacklist add": ("POST", "{vdn}/blocklist/add", {"blocklist": ["1"]}),
    "blacklist delete": ("POST", "{vdn}/blocklist/delete", {"blocklistNo": "1"}),
    "blacklist query": ("POST", "{vdn}/blocklist/query", {"blocklist": ["1"]}),
    "blacklist clear": ("DELETE", "{vdn}/blocklist", None),
}
EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])


def ask(face: Face, name: str, vdn: int, campaign: int, key: int | None = None) -> Answer:
    method, path, body = (ON_A_CAMPAIGN | ON_A_VDN)[name]
    query = "status=0&deviceType=0" if name == "query all" else ""
    if isinstance(body, dict) and "name" in body:
        body = body | {"name": f"i{next(_names)}"}
    where = path.format(vdn=vdn, campaign=campaign)
    return face.call(method, where, body, vdn=vdn, query=query, key=face.keys[key or vdn])


STATES = ["draft", "started", "suspended", "ended"]


@EDITIONS
@pytest.mark.parametrize("name", ON_A_CAMPAIGN)
def test_another_vdns_campaign_is_a_campaign_that_is_not_there(face: Face, name: str, vdn: int) -> None:
    """Byte for byte, whatever its state; it stays as it is; to its own VDN each operation does something."""
    absent = ask(face, name, vdn, ABSENT)
    face.refuses(absent, "0200007", says="campaignId: no such campaign in this VDN")
    owned = [face.campaign(OTHER, state=state, device_type=1) for state in STATES]
    with face.nothing_kept():
        for campaign in owned:
            assert ask(face, name, vdn, campaign).same == absent.same
    assert "0200000" in {ask(face, name, OTHER, campaign).code for campaign in owned}


@pytest.mark.parametrize("name", [*ON_A_CAMPAIGN, *ON_A_VDN])
def test_another_vdn_in_the_path_is_401(face: Face, name: str) -> None:
    """The same answer as for a VDN that does not exist."""
    campaign = face.campaign(OTHER)
    with face.nothing_kept():
        theirs = ask(face, name, OTHER, campaign, key=OLD)
        nobodys = ask(face, name, 7777, campaign, key=OLD)
    face.refuses(theirs, "0200001", status=401, says="authentication failed")
    assert theirs.same == nobodys.same


@EDITIONS
def test_another_vdns_call_is_a_call_that_is_not_there(face: Face, vdn: int) -> None:
    """Byte for byte; its own VDN sees it."""
    theirs = ended_call(face, OTHER, face.campaign(OTHER))
    answer = face.call("GET", f"{vdn}/callresultdetail/{theirs}", vdn=vdn)
    face.refuses(answer, "0200007", says="callId: no such call that has ended in this VDN")
    assert answer.same == face.call("GET", f"{vdn}/callresultdetail/{uuid4()}", vdn=vdn).same
    assert answer.same == face.call("GET", f"{vdn}/callresultdetail/no-call", vdn=vdn).same
    assert face.call("GET", f"{OTHER}/callresultdetail/{theirs}", vdn=OTHER).code == "0200000"


def test_a_call_of_another_vdn_in_the_path_is_401(face: Face) -> None:
    theirs = ended_call(face, OTHER, face.campaign(OTHER))
    known = face.call("GET", f"{OTHER}/callresultdetail/{theirs}", key=face.keys[OLD])
    nobodys = face.call("GET", f"7777/callresultdetail/{theirs}", key=face.keys[OLD])
    face.refuses(known, "0200001", status=401, says="authentication failed")
    assert known.same == nobodys.same


def ended_call(face: Face, vdn: int, campaign: int) -> UUID:
    made: UUID = face.sql.value(
        "INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller,"
        " epoch, intent_at, ended_at, disposition) VALUES ($1, gen_random_uuid(), $2,"
        " nextval('contact_id'), 1, '1', '1', 1, now(), now(), 'BUSY') RETURNING attempt_id",
        vdn,
        campaign,
    )
    return made


def test_lists_and_blacklists_are_a_vdns_own(face: Face) -> None:
    face.campaign(OTHER, name="theirs alone")
    found = ask(face, "query all", NEW, 0).json
    assert "theirs alone" not in [row["name"] for row in found["data"]]
    face.sql.do("DELETE FROM blacklist")
    assert ask(face, "blacklist add", OTHER, 0).code == "0200000"
    assert ask(face, "blacklist query", OLD, 0).json["totalCount"] == 0
    assert ask(face, "blacklist delete", OLD, 0).code == "0200000"
    assert ask(face, "blacklist clear", OLD, 0).code == "0200000"
    assert ask(face, "blacklist query", OTHER, 0).json["totalCount"] == 1
    face.sql.do("DELETE FROM blacklist")


def test_a_stored_answer_is_its_own_vdns(face: Face) -> None:
    """The same Idempotency-Key of another VDN finds nothing."""
    key = [("Idempotency-Key", "shared")]
    assert face.add(face.campaign(OLD), ["1"], headers=key).code == "0200000"
    answer = face.add(face.campaign(OTHER), ["2"], vdn=OTHER, headers=key)
    assert (answer.code, answer.headers.get("idempotent-replayed")) == ("0200000", None)


# -- every code ------------------------------------------------------------------------------------------

TABLE_7 = {
    *("0200001", "0200006", "0200007", "0200018", "0200019", "0200020", "0200022", "0200024", "0200029"),
    *("0200030", "02000001", "02000002", "02000003", "02000004", "02000005", "02000006", "02000007"),
    *("02000008", "02000009", "02000010", "02000011"),
}
"""The contract's error codes."""

NEVER = {"02000004", "02000005", "02000008", "02000010", "02000011"}
"""Those that no request can earn (docs/reference/rules.md, section 3)."""

NOT_YET = {"0200003"}
"""The quota of skill-queue campaigns: none can be created yet."""


def locked(face: Face) -> Answer:
    campaign = face.campaign()
    face.sql.do("BEGIN")
    try:
        face.sql.do("SELECT 1 FROM campaign WHERE campaign_id = $1 FOR UPDATE", campaign)
        return face.add(campaign, ["1"])
    finally:
        face.sql.do("ROLLBACK")


def twice_with_a_key(face: Face) -> Answer:
    campaign, key = face.campaign(), [("Idempotency-Key", "code")]
    face.add(campaign, ["1"], headers=key)
    return face.add(campaign, ["2"], headers=key)


def blacklisted(face: Face) -> Answer:
    face.call("POST", f"{OLD}/blocklist/add", {"blocklist": ["4444"]})
    return face.add(face.campaign(), ["4444"])


def create(face: Face, vdn: int = OLD, **fields: Any) -> Answer:
    return face.call("POST", f"{vdn}", new_campaign(**fields), vdn=vdn)


ADDS: dict[str, Callable[[Face], Answer]] = {
    "0200000": lambda face: face.add(face.campaign(), ["1"]),
    "0200001": lambda face: face.add(face.campaign(), b"{"),
    "0200006": locked,
    "0200007": lambda face: face.add(ABSENT, ["1"]),
    "0200018": lambda face: face.add(face.campaign(), ["1", "1"]),
    "0200019": lambda face: face.add(face.campaign(state="started"), ["1"]),
    "0200020": lambda face: face.add(face.campaign(incomplete=200_000), ["1"]),
    "0200022": lambda face: face.add(face.campaign(last_added_at=utc_now()), ["1"]),
    "0200024": blacklisted,
    "0200029": lambda face: face.add(face.campaign(), [str(n) for n in range(21)]),
    "0200030": lambda face: face.add(face.campaign(), [{"called": "1", "recycleTime": "x"}]),
    "02000001": lambda face: face.add(face.campaign(), []),
    "02000002": lambda face: face.add(face.campaign(), ["x"]),
    "02000003": lambda face: face.add(face.campaign(), ["1" * 25]),
    "02000006": lambda face: face.add(face.campaign(), [1]),
    "02000007": lambda face: face.add(0, ["1"]),
    "02000009": twice_with_a_key,
}
"""Code of the contract -> an add that earns it."""

OTHERS: dict[str, Callable[[Face], Answer]] = {
    "0200002": lambda face: create(face, strBeginTime="2020-01-01 00:00:00"),
    "0200004": lambda face: create(face, face.vdn(61, max_active=0), initStatus=0),
    "0200005": lambda face: create(face, name=create_name(face)),
    "0200009": lambda face: face.call("DELETE", f"{OLD}/{face.campaign(state='started')}"),
    "0200011": lambda face: face.call("PUT", f"{OLD}/{face.campaign()}/pause"),
    "0200-01": lambda face: face.call("POST", f"{OLD}/retryPolicy/{ABSENT}", NO_RETRY),
    "0200013": lambda face: [special_date(face, face.campaign(), "twice") for _ in range(2)][-1],
    "0200015": lambda face: twenty_one_special_dates(face, face.campaign()),
    "0200016": lambda face: face.call("PUT", f"{OLD}/{face.campaign(state='ended')}", new_campaign()),
}
"""The codes of the sister interfaces that the contract does not know."""


NO_RETRY = {"policyType": 0, "policyJson": "[]"}


def special_date(face: Face, campaign: int, name: str) -> Answer:
    body = {"name": name, "type": 1, "week": "7"}
    return face.call("POST", f"{OLD}/holiday/{campaign}", body)


def twenty_one_special_dates(face: Face, campaign: int) -> Answer:
    return [special_date(face, campaign, f"day {n}") for n in range(21)][-1]


def create_name(face: Face) -> str:
    """A name that is taken."""
    create(face, name="taken")
    return "taken"


def test_every_code_that_can_be_earned_occurs(face: Face) -> None:
    """And no other: the code book, the contract's table and what was answered are one set."""
    answered = {code: earn(face).code for code, earn in (ADDS | OTHERS).items()}
    assert answered == {code: code for code in ADDS | OTHERS}
    assert {code.wire for code in Code} == set(answered) | NOT_YET
    assert set(ADDS) - {"0200000"} | NEVER == TABLE_7
    assert set(face.seen) <= set(answered)
