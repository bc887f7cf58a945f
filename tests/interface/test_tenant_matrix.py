"""Every operation of the route list, on what is one's own, on what is another's, and on what is not there.

Another VDN's object answers byte for byte as one that does not exist, and stays as it is. A route without a
row here fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from face import ABSENT, NEW, OLD, OTHER, Answer, Face, Request, new_campaign
from test_rows_isolation import ended_call

from outdial.web.app import PREFIXES

Key = tuple[str, str, str]
"""Version of the interface, path with `*` for values, method."""

Body = Callable[[int], Any]
"""The body of a request; given the id of a special date, for those that name one."""

MINE, THEIRS = OLD, OTHER
NOWHERE = 7777
"""A VDN that does not exist."""

_names = count(1)


def _always(body: Any = None) -> Body:
    return lambda _: body


NO_BODY: Body = _always()


def _named(**fields: Any) -> Body:
    return lambda _: new_campaign(name=f"m{next(_names)}", **fields)


CODES = [{"accessCode": "1"}]
NO_CAMPAIGN = "0200007"


@dataclass(frozen=True)
class Row:
    """What is sent, and the code for a campaign of which the VDN has none."""

    body: Body = NO_BODY
    query: str = ""
    state: str = "draft"
    absent: str = NO_CAMPAIGN


MATRIX: dict[Key, Row] = {
    ("v1", "*/calldata/*", "POST"): Row(_always({"callDataList": [{"called": "1"}]})),
    ("v1", "*/calldata/*/delete", "POST"): Row(_always({"all": 1})),
    ("v1", "*/callresult/*", "POST"): Row(_always({"showDetail": 0, "pageNum": 1, "pageSize": 10})),
    ("v1", "*/callresultdetail/*", "GET"): Row(),
    ("v1", "*", "POST"): Row(_named()),
    ("v1", "*", "GET"): Row(query="status=0&deviceType=0"),
    ("v1", "*/blocklist", "DELETE"): Row(),
    ("v1", "*/blocklist/add", "POST"): Row(lambda _: {"blocklist": [f"55{next(_names)}"]}),
    ("v1", "*/blocklist/delete", "POST"): Row(_always({"blocklistNo": "1"})),
    ("v1", "*/blocklist/query", "POST"): Row(_always({"blocklist": ["1"]})),
    ("v1", "*/retryPolicy/*", "POST"): Row(_always({"policyType": 0, "policyJson": "[]"}), absent="0200-01"),
    ("v1", "*/retryPolicy/*", "GET"): Row(),
    ("v1", "*/holiday/*", "GET"): Row(),
    ("v1", "*/holiday/*", "POST"): Row(lambda _: {"name": f"d{next(_names)}", "type": 1, "week": "7"}),
    ("v1", "*/holiday/*", "PUT"): Row(
        lambda date: {"id": date, "name": f"d{next(_names)}", "type": 1, "week": "6"}
    ),
    ("v1", "*/holiday/*", "DELETE"): Row(),
    ("v1", "*/holiday/*/*", "DELETE"): Row(),
    ("v1", "*/*/pause", "PUT"): Row(state="started"),
    ("v1", "*/*/resume", "PUT"): Row(state="suspended"),
    ("v1", "*/*", "GET"): Row(),
    ("v1", "*/*", "PUT"): Row(_named()),
    ("v1", "*/*", "DELETE"): Row(),
    ("v2", "*", "POST"): Row(_named(callerNo=CODES)),
    ("v2", "*/*", "PUT"): Row(_named(callerNo=CODES)),
}
ON_A_CAMPAIGN = [key for key in MATRIX if key[1].count("*") > 1]
ON_A_CALL = ("v1", "*/callresultdetail/*", "GET")
ON_A_DATE = [("v1", "*/holiday/*", "PUT"), ("v1", "*/holiday/*/*", "DELETE")]


def routes() -> Iterator[Key]:
    for prefix, of_prefix in PREFIXES.items():
        version = prefix.decode().split("/")[3]
        for route in of_prefix:
            for method in route.handlers:
                yield version, b"/".join(route.path).decode(), method.decode()


def test_every_route_has_a_row() -> None:
    found = list(routes())
    assert len(found) == len(set(found))
    assert set(found) == set(MATRIX)


def ask(face: Face, key: Key, vdn: int, campaign: Any = 0, date: int = 0, **said: Any) -> Answer:
    """Send one operation."""
    return face.send(request_of(face, key, vdn, campaign, date, **said))


def request_of(
    face: Face, key: Key, vdn: int, campaign: Any = 0, date: int = 0, *, by: int = 0, **said: Any
) -> Request:
    """One operation. `by`: whose key signs; the VDN's own unless said."""
    version, path, method = key
    values = iter([vdn, campaign, date])
    where = "/".join(str(next(values)) if part == "*" else part for part in path.split("/"))
    body = said.get("body", MATRIX[key].body(date))
    whole = f"/rest/isales/{version}/openapi/campaigns/{where}"
    return face.request(method, whole, body, vdn=vdn, query=MATRIX[key].query, key=face.keys[by or vdn])


def own(face: Face, key: Key, vdn: int) -> tuple[Any, int]:
    """A campaign in the state that the operation wants, or a call of it, and a special date of it."""
    campaign = face.campaign(vdn, state=MATRIX[key].state)
    body = {"name": f"o{next(_names)}", "type": 1, "week": "7"}
    made = face.call("POST", f"{vdn}/holiday/{campaign}", body, vdn=vdn)
    assert made.code == "0200000", made.desc
    date = face.sql.value("SELECT max(special_date_id) FROM special_date WHERE vdn_id = $1", vdn)
    return ended_call(face, vdn, campaign) if key == ON_A_CALL else campaign, int(date)


@pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])
@pytest.mark.parametrize("key", MATRIX, ids=" ".join)
def test_on_what_is_ones_own_it_succeeds(face: Face, key: Key, vdn: int) -> None:
    answer = ask(face, key, vdn, *own(face, key, vdn))
    assert (answer.status, answer.code) == (200, "0200000"), answer.desc


@pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])
@pytest.mark.parametrize("key", ON_A_CAMPAIGN, ids=" ".join)
def test_anothers_campaign_is_one_that_is_not_there(face: Face, key: Key, vdn: int) -> None:
    """In every state, byte for byte; nothing of it changes."""
    date = own(face, key, vdn)[1]
    body = MATRIX[key].body(date)
    absent = ask(face, key, vdn, ABSENT, date, body=body)
    face.refuses(absent, MATRIX[key].absent)
    with_date, theirs = own(face, key, THEIRS)
    owned = [(with_date, theirs)]
    owned += [(face.campaign(THEIRS, state=state), date) for state in ("started", "suspended", "ended")]
    with face.nothing_kept():
        for campaign, named in owned:
            assert ask(face, key, vdn, campaign, named, body=body).same == absent.same


@pytest.mark.parametrize("key", ON_A_DATE, ids=" ".join)
def test_anothers_special_date_is_one_that_is_not_there(face: Face, key: Key) -> None:
    """Named in one's own campaign."""
    campaign, _ = own(face, key, MINE)
    _, theirs = own(face, key, THEIRS)
    name = f"x{next(_names)}"
    with face.nothing_kept():
        answers = [
            ask(face, key, MINE, campaign, date, body=_changing(key, date, name)) for date in (ABSENT, theirs)
        ]
    face.refuses(answers[0], NO_CAMPAIGN)
    assert answers[1].same == answers[0].same


def _changing(key: Key, date: int, name: str) -> Any:
    return {"id": date, "name": name, "type": 1, "week": "6"} if key[2] == "PUT" else None


def test_anothers_special_date_cannot_be_used(face: Face) -> None:
    key = ("v1", "*/holiday/*", "POST")
    campaign, _ = own(face, key, MINE)
    _, theirs = own(face, key, THEIRS)
    with face.nothing_kept():
        answers = [ask(face, key, MINE, campaign, body={"id": date}) for date in (ABSENT, theirs)]
    face.refuses(answers[0], NO_CAMPAIGN)
    assert answers[1].same == answers[0].same


@pytest.mark.parametrize("key", MATRIX, ids=" ".join)
def test_another_vdn_in_the_path_is_one_that_is_not_there(face: Face, key: Key) -> None:
    campaign, date = own(face, key, THEIRS)
    body = MATRIX[key].body(date)
    with face.nothing_kept():
        theirs = ask(face, key, THEIRS, campaign, date, by=MINE, body=body)
        nobodys = ask(face, key, NOWHERE, campaign, date, by=MINE, body=body)
    face.refuses(nobodys, "0200001", status=401, says="authentication failed")
    assert theirs.same == nobodys.same


@pytest.mark.parametrize("word", ["query", "delete"])
def test_anothers_blacklisted_number_is_one_that_is_not_there(face: Face, word: str) -> None:
    """The same answer for a number that another VDN has on its list and for one that nobody has."""
    number, nobodys = "770001", "770002"
    key = ("v1", f"*/blocklist/{word}", "POST")
    assert (
        ask(face, ("v1", "*/blocklist/add", "POST"), THEIRS, body={"blocklist": [number]}).code == "0200000"
    )
    bodies = [{"blocklist": [one]} if word == "query" else {"blocklistNo": one} for one in (nobodys, number)]
    with face.nothing_kept():
        answers = [ask(face, key, MINE, body=body) for body in bodies]
    assert answers[0].code == "0200000"
    assert answers[1].same == answers[0].same
    face.sql.do("DELETE FROM blacklist")


def deleted_is_gone(face: Face, key: Key) -> None:
    """A campaign that was deleted answers byte for byte as one that never was."""
    campaign, date = own(face, key, MINE)
    assert ask(face, ("v1", "*/*", "DELETE"), MINE, deletable(face, campaign)).code == "0200000"
    body = MATRIX[key].body(date)
    gone = ask(face, key, MINE, campaign, date, body=body)
    never = ask(face, key, MINE, ABSENT, date, body=body)
    assert gone.code == MATRIX[key].absent, gone.desc
    assert (gone.status, gone.body) == (never.status, never.body)


def deletable(face: Face, campaign: int) -> int:
    """The campaign in a state in which it can be deleted."""
    face.change(campaign, state="draft")
    return campaign


@pytest.mark.parametrize("key", [key for key in ON_A_CAMPAIGN if key != ON_A_CALL], ids=" ".join)
def test_a_deleted_campaign_answers_as_if_it_had_never_been(face: Face, key: Key) -> None:
    deleted_is_gone(face, key)
