"""semantics.md §3, "A repeated request": stored answers, by signature and by Idempotency-Key."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from face import NEW, OLD, Answer, Face, Request

from outdial.store.postgres import utc_now

EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])


def is_replay(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def replays(face: Face, request: Request, first: Answer) -> None:
    """The request has its stored answer, byte for byte, and changes nothing."""
    with face.nothing_kept():
        again = face.send(request)
    assert is_replay(again)
    assert (again.status, again.body) == (first.status, first.body)


def keyed(key: str) -> dict[str, Any]:
    return {"headers": [("Idempotency-Key", key)]}


# -- the same signed bytes -------------------------------------------------------------------------------


@EDITIONS
def test_the_same_signed_bytes_have_one_effect_and_one_answer(face: Face, vdn: int) -> None:
    campaign = face.campaign(vdn)
    request = face.adding(campaign, ["1", "2"], vdn=vdn)
    first = face.send(request)
    assert first.code == "0200000"
    assert "idempotent-replayed" not in first.headers
    for _ in range(3):
        replays(face, request, first)
    face.rewind(campaign)
    replays(face, request, first)
    assert len(face.contacts(campaign)) == 2


@EDITIONS
def test_a_replay_does_not_care_what_became_of_the_campaign(face: Face, vdn: int) -> None:
    campaign = face.campaign(vdn)
    request = face.adding(campaign, ["1", "2"], vdn=vdn)
    first = face.send(request)
    face.sql.do("UPDATE contact SET state = 'done' WHERE campaign_id = $1", campaign)
    face.change(campaign, incomplete=0, state="ended", last_added_at=None)
    replays(face, request, first)
    face.change(campaign, deleted_at=utc_now())
    replays(face, request, first)


def test_a_replay_does_not_start_the_second(face: Face) -> None:
    campaign = face.campaign()
    request = face.adding(campaign, ["1"])
    first = face.send(request)
    face.rewind(campaign)
    replays(face, request, first)
    assert face.add(campaign, ["2"]).code == "0200000"


@pytest.mark.parametrize(
    ("columns", "entries", "code"),
    [
        ({"incomplete": 200_000}, ["1"], "0200020"),
        ({"state": "started"}, ["1"], "0200019"),
        ({}, ["1"], "0200022"),
    ],
    ids=["limit", "state", "1 second"],
)
def test_a_refusal_is_judged_anew_every_time(
    face: Face, columns: dict[str, Any], entries: list[str], code: str
) -> None:
    """The same bytes are accepted once nothing refuses them any more."""
    campaign = face.campaign(OLD, **columns)
    if code == "0200022":
        face.change(campaign, last_added_at=utc_now())
    request = face.adding(campaign, entries)
    for _ in range(2):
        answer = face.send(request)
        face.refuses(answer, code)
        assert not is_replay(answer)
    face.change(campaign, incomplete=0, state="draft", last_added_at=None)
    first = face.send(request)
    assert first.code == "0200000"
    assert not is_replay(first)
    replays(face, request, first)


def test_the_stored_answer_outlives_the_processes(face: Face) -> None:
    """kill, start, the same bytes: the same answer."""
    campaign = face.campaign()
    request = face.adding(campaign, ["1", "2", "3"])
    first = face.send(request)
    face.hang_up()
    face.processes.stop()
    face.processes.start()
    replays(face, request, first)
    assert len(face.contacts(campaign)) == 3


def test_after_the_window_the_same_bytes_are_a_stranger(face: Face) -> None:
    """A signature that is 15 minutes old does not hold, replay or not."""
    campaign = face.campaign()
    request = face.adding(campaign, ["1"], at=utc_now() - timedelta(minutes=15, seconds=-1.5))
    first = face.send(request)
    assert first.code == "0200000"
    replays(face, request, first)
    answer = face.send(request)
    deadline = time.monotonic() + 5
    while answer.status != 401 and time.monotonic() < deadline:
        assert is_replay(answer)
        time.sleep(0.1)
        answer = face.send(request)
    face.refuses(answer, "0200001", status=401)
    kept = face.sql.value("SELECT max(expires_at) FROM stored_answer WHERE expires_at <= now()")
    assert kept is not None, "it was kept until the end of the window"
    assert len(face.contacts(campaign)) == 1


def test_a_window_that_ends_while_a_repeat_is_judged(face: Face) -> None:
    """Let in at the last moment: its answer is there though its time is over, until no such request lives."""
    campaign = face.campaign()
    request = face.adding(campaign, ["1"])
    first = face.send(request)
    assert first.code == "0200000"
    over = "UPDATE stored_answer SET expires_at = now() - $1::interval WHERE expires_at > now()"
    face.sql.do(over, timedelta(milliseconds=1))
    replays(face, request, first)
    assert len(face.contacts(campaign)) == 1


def test_another_signature_is_another_request(face: Face) -> None:
    """The same body signed a millisecond later: judged like any other."""
    campaign = face.campaign()
    assert face.add(campaign, ["1"]).code == "0200000"
    face.refuses(face.add(campaign, ["1"]), "0200022")
    face.rewind(campaign)
    answer = face.add(campaign, ["1"])
    assert answer.json["returnObject"] == {"totalSize": 2}
    assert not is_replay(answer)


def test_another_key_of_the_same_vdn_is_another_request(face: Face) -> None:
    campaign, moment = face.campaign(), face.moment()
    assert face.add(campaign, ["1"], at=moment).code == "0200000"
    face.rewind(campaign)
    answer = face.add(campaign, ["1"], at=moment, key=face.another_key(OLD))
    assert (answer.code, is_replay(answer)) == ("0200000", False)


def test_other_verbs_are_judged_anew(face: Face) -> None:
    """Pause, resume, pause within one second carry one signature per verb: each takes effect."""
    campaign, moment = face.campaign(state="started"), face.moment()
    pause = face.request("PUT", f"{OLD}/{campaign}/pause", at=moment)
    resume = face.request("PUT", f"{OLD}/{campaign}/resume", at=moment)
    for request, state in ((pause, "suspended"), (resume, "started"), (pause, "suspended")):
        answer = face.send(request)
        assert (answer.code, is_replay(answer)) == ("0200000", False)
        assert face.sql.value("SELECT state FROM campaign WHERE campaign_id = $1", campaign) == state
    face.refuses(face.send(pause), "0200011")


# -- Idempotency-Key -------------------------------------------------------------------------------------


@EDITIONS
def test_an_idempotency_key_repeats_a_request_that_is_signed_anew(face: Face, vdn: int) -> None:
    campaign = face.campaign(vdn)
    first = face.add(campaign, ["1", "2"], vdn=vdn, **keyed("order 66"))
    assert (first.code, is_replay(first)) == ("0200000", False)
    face.rewind(campaign)
    replays(face, face.adding(campaign, ["1", "2"], vdn=vdn, **keyed("order 66")), first)
    assert len(face.contacts(campaign)) == 2


@pytest.mark.parametrize("body", [["1", "3"], ["2", "1"], b"{", b'{"callDataList": [{"called": "1"}]}'])
def test_the_same_key_with_another_body_is_02000009(face: Face, body: Any) -> None:
    """Even one that differs in white space alone: it is the bytes that are compared."""
    campaign = face.campaign()
    raw = b'{"callDataList":[{"called":"1"}]}'
    assert face.add(campaign, raw, **keyed("k")).code == "0200000"
    face.rewind(campaign)
    with face.nothing_kept():
        face.refuses(face.add(campaign, body, **keyed("k")), "02000009", says="Idempotency-Key")


def test_an_idempotency_key_is_per_access_key_and_path(face: Face) -> None:
    one, two = face.campaign(), face.campaign()
    assert face.add(one, ["1"], **keyed("mine")).code == "0200000"
    other_path = face.add(two, ["1"], **keyed("mine"))
    assert (other_path.code, is_replay(other_path)) == ("0200000", False)
    face.rewind(one)
    other_key = face.add(one, ["9"], key=face.another_key(OLD), **keyed("mine"))
    assert (other_key.code, is_replay(other_key)) == ("0200000", False)


def test_an_idempotency_key_of_a_refused_add_is_free(face: Face) -> None:
    campaign = face.campaign()
    face.refuses(face.add(campaign, ["x"], **keyed("free")), "02000002")
    assert face.add(campaign, ["1"], **keyed("free")).code == "0200000"


@EDITIONS
def test_an_idempotency_key_is_kept_for_24_hours(face: Face, vdn: int) -> None:
    """Longer than the signature's window; then it is as good as new, whoever has swept or not."""
    campaign = face.campaign(vdn)
    first = face.add(campaign, ["1"], vdn=vdn, **keyed("day"))
    expiry = face.sql.value("SELECT max(expires_at) FROM stored_answer WHERE idempotency_key IS NOT NULL")
    assert timedelta(hours=23, minutes=59) < expiry - utc_now() <= timedelta(hours=24)
    face.sql.do("UPDATE stored_answer SET expires_at = now() - interval '1 second'")
    face.rewind(campaign)
    second = face.add(campaign, ["2"], vdn=vdn, **keyed("day"))
    assert (second.code, is_replay(second)) == ("0200000", False)
    assert second.body != first.body
    replays(face, face.adding(campaign, ["2"], vdn=vdn, **keyed("day")), second)


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "a\tb", "caf\u00e9\u0085"])
def test_an_idempotency_key_has_1_to_255_printable_characters(face: Face, key: str) -> None:
    """White space around it is not part of a header's value."""
    campaign = face.campaign()
    with face.nothing_kept():
        answer = face.add(campaign, ["1"], **keyed(key))
    face.refuses(answer, "0200001", says="Idempotency-Key: must be 1 to 255 printable characters")


def test_two_idempotency_keys_are_refused(face: Face) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    face.refuses(face.add(face.campaign(), ["1"], headers=headers), "0200001", says="occurs twice")


def test_the_longest_key_is_accepted(face: Face) -> None:
    campaign = face.campaign()
    first = face.add(campaign, ["1"], **keyed("k" * 255))
    replays(face, face.adding(campaign, ["1"], **keyed("k" * 255)), first)
