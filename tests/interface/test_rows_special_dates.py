"""Special dates: list, add, modify, delete (wire/campaign-api.md §4.2)."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from face import ABSENT, NEW, OLD, OTHER, Answer, Face

_names = count(1)


def ask(
    face: Face, method: str, campaign: int, body: Any = None, *, tail: str = "", vdn: int = OLD
) -> Answer:
    return face.call(method, f"{vdn}/holiday/{campaign}{tail}", body, vdn=vdn)


def weekend(**changes: Any) -> dict[str, Any]:
    return {"name": f"d{next(_names)}", "type": 1, "week": "6,7"} | changes


def dates(**changes: Any) -> dict[str, Any]:
    body = {"name": f"d{next(_names)}", "type": 2, "beginTime": "2026-12-24", "endTime": "2026-12-26"}
    return body | changes


def yearly(**changes: Any) -> dict[str, Any]:
    return dates(type=3, beginTime="12-24", endTime="01-02") | changes


def add(face: Face, campaign: int, body: Any, vdn: int = OLD) -> int:
    answer = ask(face, "POST", campaign, body, vdn=vdn)
    assert answer.code == "0200000", answer.desc
    return int(answer.json["returnObject"]["id"])


def listed(face: Face, campaign: int, vdn: int = OLD) -> Any:
    answer = ask(face, "GET", campaign, vdn=vdn)
    assert answer.code == "0200000", answer.desc
    return answer.json["data"]


def objects(face: Face, vdn: int = OLD) -> list[int]:
    rows = face.sql.rows("SELECT special_date_id AS id FROM special_date WHERE vdn_id = $1 ORDER BY 1", vdn)
    return [row["id"] for row in rows]


def test_what_was_added_is_listed(face: Face) -> None:
    campaign = face.campaign()
    assert listed(face, campaign) == []
    bodies = [weekend(week="7,6"), dates(), yearly(), yearly(beginTime="02-29", endTime="02-29")]
    ids = [add(face, campaign, body) for body in bodies]
    empty = {"week": None, "beginTime": None, "endTime": None}
    expected = [empty | body | {"id": one} for one, body in zip(ids, bodies, strict=True)]
    expected[0]["week"] = "6,7"
    assert listed(face, campaign) == expected


def test_one_special_date_serves_several_campaigns(face: Face) -> None:
    """A tenant's object: `id` gives it to another campaign, modifying one changes it in every campaign."""
    first, second, third = (face.campaign() for _ in range(3))
    other, shared = add(face, second, weekend()), add(face, first, dates())
    assert ask(face, "POST", second, {"id": shared}).json["returnObject"] == {"id": shared}
    assert ask(face, "POST", second, {"id": shared}).code == "0200000"
    assert [row["id"] for row in listed(face, second)] == [other, shared]
    changed = yearly(id=shared)
    assert ask(face, "PUT", first, changed).code == "0200000"
    assert listed(face, first) == [changed | {"week": None}]
    assert listed(face, second)[1] == changed | {"week": None}
    with face.nothing_kept():
        face.refuses(ask(face, "PUT", third, weekend(id=shared)), "0200007", says="in this campaign")
        face.refuses(ask(face, "POST", third, {"id": ABSENT}), "0200007", says="in this VDN")


def test_a_special_date_lives_as_long_as_a_campaign_uses_it(face: Face) -> None:
    """Deleting it in one leaves it to the others; the last one takes it away, also by being deleted."""
    vdn = face.vdn(83)
    first, second = face.campaign(vdn), face.campaign(vdn)
    shared, name = add(face, first, weekend(), vdn), f"d{next(_names)}"
    own = add(face, first, weekend(name=name), vdn)
    assert ask(face, "POST", second, {"id": shared}, vdn=vdn).code == "0200000"
    assert ask(face, "DELETE", first, tail=f"/{shared}", vdn=vdn).code == "0200000"
    assert [row["id"] for row in listed(face, first, vdn)] == [own]
    assert [row["id"] for row in listed(face, second, vdn)] == [shared]
    assert objects(face, vdn) == [shared, own]
    face.refuses(ask(face, "DELETE", first, tail=f"/{shared}", vdn=vdn), "0200007", says="id")
    assert ask(face, "DELETE", second, vdn=vdn).code == "0200000"
    assert (listed(face, second, vdn), objects(face, vdn)) == ([], [own])
    assert face.call("DELETE", f"{vdn}/{first}", vdn=vdn).code == "0200000"
    add(face, second, weekend(name=name), vdn)
    assert len(objects(face, vdn)) == 1, "the name is free again, the old one is gone"


def test_names_are_unique_in_the_vdn(face: Face) -> None:
    """0200013; another VDN's name does not count; its own name does not stand in a date's way."""
    first, second = face.campaign(), face.campaign()
    body = weekend()
    made = add(face, first, body)
    another = add(face, second, dates())
    with face.nothing_kept():
        face.refuses(ask(face, "POST", second, body), "0200013", says="name")
        face.refuses(ask(face, "PUT", second, body | {"id": another}), "0200013", says="name")
    assert ask(face, "PUT", first, body | {"id": made, "week": "1"}).code == "0200000"
    add(face, face.campaign(NEW), body, NEW)


def test_a_campaign_has_twenty_at_most(face: Face) -> None:
    """Fewer than 20 when one is added, new or known; one that it has already is no other."""
    campaign, other = face.campaign(), face.campaign()
    shared = add(face, other, weekend())
    ids = [add(face, campaign, weekend()) for _ in range(20)]
    with face.nothing_kept():
        face.refuses(ask(face, "POST", campaign, weekend()), "0200015", says="20 special dates")
        face.refuses(ask(face, "POST", campaign, {"id": shared}), "0200015", says="20 special dates")
        assert ask(face, "POST", campaign, {"id": ids[3]}).code == "0200000"
    assert ask(face, "DELETE", campaign, tail=f"/{ids[3]}").code == "0200000"
    assert ask(face, "POST", campaign, {"id": shared}).code == "0200000"


SHAPE: list[tuple[Any, str, str]] = [
    *((weekend(name=value), code, "name") for value, code in ((None, "02000001"), ("", "02000001"))),
    (weekend(name=5), "02000006", "name"),
    (weekend(name="n" * 31), "02000003", "name"),
    (weekend(name="a\0b"), "02000002", "name"),
    (weekend(type=None), "02000001", "type"),
    (weekend(type="1"), "02000006", "type"),
    (weekend(type=0), "02000007", "type"),
    (weekend(type=4), "02000007", "type"),
    *((weekend(week=value), "02000001", "week") for value in (None, "")),
    (weekend(week=6), "02000006", "week"),
    (weekend(week="6, 7"), "02000002", "week"),
    (weekend(week="1,2,3,4,5,6,7,"), "02000003", "week"),
    *((weekend(week=value), "02000007", "week") for value in ("0", "8", "66", "6,6", ",6", "6,", "6,,7")),
    *((kind(beginTime=None), "02000001", "beginTime") for kind in (dates, yearly)),
    *((kind(endTime=""), "02000001", "endTime") for kind in (dates, yearly)),
    *((kind(endTime=1224), "02000006", "endTime") for kind in (dates, yearly)),
    *(
        (dates(beginTime=value), "0200030", "beginTime")
        for value in ("12-24", "2026-02-29", "20261224", "2026-12-24 00:00:00", "2026-W52-4", "26-12-24")
    ),
    *(
        (yearly(endTime=value), "0200030", "endTime")
        for value in ("2026-12-24", "02-30", "1-2", "0102", "13-01", "00-10", " 01-02")
    ),
    (dates(beginTime="2026-12-27"), "02000009", "endTime"),
    ([], "02000006", "the body"),
]


@pytest.mark.parametrize(("body", "code", "place"), SHAPE, ids=[f"{b}"[:60] for b, *_ in SHAPE])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_add_and_modify_refuse(face: Face, method: str, body: Any, code: str, place: str) -> None:
    campaign = face.campaign()
    made = add(face, campaign, weekend())
    if method == "PUT" and isinstance(body, dict):
        body = body | {"id": made}
    with face.nothing_kept():
        face.refuses(ask(face, method, campaign, body), code, says=place)


@pytest.mark.parametrize(
    ("value", "code"),
    [(None, "02000001"), ("", "02000001"), ("7", "02000006"), (0, "02000007"), (2**63, "02000007")],
)
def test_modify_needs_the_id(face: Face, value: Any, code: str) -> None:
    campaign = face.campaign()
    with face.nothing_kept():
        face.refuses(ask(face, "PUT", campaign, weekend(id=value)), code, says="id")


@pytest.mark.parametrize(("text", "code"), [("x", "02000006"), ("", "02000006"), ("0", "02000007")])
def test_the_id_in_the_path_is_judged_as_every_value_there(face: Face, text: str, code: str) -> None:
    face.refuses(ask(face, "DELETE", face.campaign(), tail=f"/{text}"), code, says="id: must be")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_without_its_campaign(face: Face, method: str) -> None:
    body = weekend(id=1) if method == "PUT" else weekend() if method == "POST" else None
    with face.nothing_kept():
        face.refuses(ask(face, method, ABSENT, body), "0200007", says="campaignId")


def test_another_vdns_special_date_cannot_be_used(face: Face) -> None:
    theirs, campaign = add(face, face.campaign(OTHER), weekend(), OTHER), face.campaign()
    with face.nothing_kept():
        face.refuses(ask(face, "POST", campaign, {"id": theirs}), "0200007", says="in this VDN")
