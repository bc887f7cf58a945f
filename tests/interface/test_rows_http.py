"""semantics.md §2, row by row: status, `Allow`, envelope, and the order in which the rows are judged."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from face import ABSENT, JSON, NEW, OLD, OTHER, PREFIX, Answer, Face, Line, Request, Sql, new_campaign

from outdial.store.postgres import utc_now
from outdial.throttle import FAILURES, RETURNS

GOOD = {"callDataList": [{"called": "13800000000"}]}
MIB = 1 << 20


def without(request: Request, *names: str) -> Request:
    kept = tuple((name, value) for name, value in request.headers if name not in names)
    return dataclasses.replace(request, headers=kept)


def having(request: Request, *headers: tuple[str, str]) -> Request:
    return dataclasses.replace(request, headers=(*request.headers, *headers))


# -- 404 and 405 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/rest/isales/v1/openapi/campaigns",
        f"{PREFIX}/1/calldata/1/",
        f"{PREFIX}/1/calldata/1/2",
        f"{PREFIX}/1/CALLDATA/1/x",
        f"{PREFIX}//calldata/1/x",
        "/rest/isales/v2/openapi/campaigns/1/calldata/1",
        "/REST/isales/v1/openapi/campaigns/1/calldata/1",
        f"{PREFIX}/1/blocklist/add/1",
        f"{PREFIX}/1/calldata%2F1",
        f"{PREFIX}/1/5/start",
        f"{PREFIX}/../campaigns/1/calldata/1",
    ],
)
def test_unknown_path_is_404(face: Face, path: str) -> None:
    """Whoever asks, signed or not; `%2F` and `..` mean nothing."""
    for request in (face.request("POST", path, GOOD), without(face.request("POST", path), "Authorization")):
        if path.endswith("calldata%2F1"):
            face.refuses(face.send(request), "0200001", status=405, says="this path takes")
        else:
            face.refuses(face.send(request), "0200001", status=404, says="unknown path")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("1/calldata/1", {"POST"}),
        ("1", {"GET", "POST"}),
        ("1/1", {"GET", "PUT", "DELETE"}),
        ("1/retryPolicy/1", {"GET", "POST"}),
        ("1/holiday/1", {"GET", "POST", "PUT", "DELETE"}),
        ("1/holiday/1/1", {"DELETE"}),
        ("/rest/isales/v2/openapi/campaigns/1", {"POST"}),
        ("/rest/isales/v2/openapi/campaigns/1/1", {"PUT"}),
        ("1/1/pause", {"PUT"}),
        ("1/1/resume", {"PUT"}),
        ("1/blocklist", {"DELETE"}),
        ("1/blocklist/add", {"POST"}),
        ("1/blocklist/delete", {"POST"}),
        ("1/blocklist/query", {"POST"}),
        ("/healthz", {"GET"}),
        ("/readyz", {"GET"}),
    ],
)
def test_other_method_on_a_known_path_is_405_with_allow(face: Face, path: str, allowed: set[str]) -> None:
    whole = path if path.startswith("/") else f"{PREFIX}/{path}"
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
        request = Request(method, whole, (("Host", f"127.0.0.1:{face.port}"),), b"")
        answer = face.send(request)
        face.refuses(answer, "0200001", status=405, says="this path takes")
        assert set(answer.headers["allow"].split(", ")) == allowed


# -- 413 and 415 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB])
def test_a_body_over_1_mib_is_413_and_the_answer_can_be_read(face: Face, size: int) -> None:
    """The client writes all of it before it reads."""
    campaign = face.campaign()
    face.hang_up()
    with face.nothing_kept():
        answer = face.add(campaign, b" " * (size - 2) + b"{}")
    face.refuses(answer, "0200001", status=413, says="larger than 1048576 bytes")
    face.hang_up()
    assert face.add(campaign, ["1"]).code == "0200000"


def test_a_chunked_body_over_1_mib_is_413(face: Face) -> None:
    request = face.adding(face.campaign(), b" " * MIB + b"{}")
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(request.body), request.body)
    face.hang_up()
    answer = face.send(having(dataclasses.replace(request, body=chunk), ("Transfer-Encoding", "chunked")))
    face.refuses(answer, "0200001", status=413)
    face.hang_up()


def test_a_body_of_1_mib_is_read(face: Face) -> None:
    answer = face.add(face.campaign(), json.dumps(GOOD).encode().ljust(MIB))
    assert answer.code == "0200000"


def test_twenty_full_records_in_escapes_fit(face: Face) -> None:
    r"""semantics.md §2: 20 full records in `\u` escapes are 310 kB."""
    entry = {
        "sessionId": "😀" * 32,
        "caller": "😀" * 24,
        "customField": "😀" * 200,
        "recycleTime": "2030-01-01 00:00:00",
        "callData": "😀" * 1024,
    }
    body = {"callDataList": [entry | {"called": str(10**23 + n)} for n in range(20)]}
    raw = json.dumps(body).encode()
    assert len(raw) > 300_000
    campaign = face.campaign()
    assert face.add(campaign, raw).code == "0200000"
    assert len(face.contacts(campaign)) == 20


@pytest.mark.parametrize(
    "sent",
    [
        (),
        ("",),
        ("text/plain",),
        ("application/xml; charset=UTF-8",),
        ("application/jsonp; charset=UTF-8",),
        ("application/json; charset=ISO-8859-1",),
        ("application/json; charset=UTF-16",),
        ("application/json; charset=UTF-8; version=2",),
        ("multipart/form-data; boundary=x",),
        ("application/x-www-form-urlencoded",),
        (JSON, JSON),
        (JSON, "text/plain"),
    ],
    ids=repr,
)
def test_another_content_type_is_415(face: Face, sent: tuple[str, ...]) -> None:
    """Contract, Table 2: fixed to application/json; charset=UTF-8."""
    request = face.adding(face.campaign(), GOOD, content_type=None)
    with face.nothing_kept():
        answer = face.send(having(request, *(("Content-Type", value) for value in sent)))
    face.refuses(answer, "0200001", status=415, says="Content-Type: must be application/json")


def test_without_a_body_no_content_type_is_needed(face: Face) -> None:
    campaign = face.campaign()
    for content in (None, "text/plain"):
        headers = [("Content-Type", content)] if content else []
        assert face.call("PUT", f"{OLD}/{campaign}/resume", headers=headers).code == "0200000"
        assert face.call("PUT", f"{OLD}/{campaign}/pause", headers=headers).code == "0200000"


# -- 401 -------------------------------------------------------------------------------------------------


def tampered(face: Face, campaign: int) -> dict[str, Request]:
    """Cause -> a request that is not authenticated. Its body is not JSON: nobody parses it for a stranger."""
    now, body = utc_now(), b"{not json"
    good = face.adding(campaign, body)
    authorization = dict(good.headers)["Authorization"]
    scheme, ak, stamp, names, signature = authorization.split("/")
    revoked = face.another_key(OLD)
    face.sql.do("UPDATE access_key SET revoked_at = now() WHERE ak = $1", revoked.ak)
    unknown = dataclasses.replace(revoked, ak="f" * 20)
    wrong = dataclasses.replace(face.keys[OLD], secret="not the secret")

    def signed_as(*parts: str) -> Request:
        return having(without(good, "Authorization"), ("Authorization", "/".join(parts)))

    return {
        "no header": without(good, "Authorization"),
        "header twice": having(good, ("Authorization", authorization)),
        "empty": signed_as(""),
        "another scheme": signed_as("auth-v1", ak, stamp, names, signature),
        "basic": signed_as("Basic Zm9vOmJhcg=="),
        "four parts": signed_as(scheme, ak, stamp, signature),
        "signature in upper case": signed_as(scheme, ak, stamp, names, signature.upper()),
        "signature one digit off": signed_as(
            scheme, ak, stamp, names, signature[:-1] + ("0" if signature[-1] != "0" else "1")
        ),
        "another timestamp": signed_as(scheme, ak, "2020-01-01T00:00:00Z", names, signature),
        "no such date": signed_as(scheme, ak, "2026-02-30T00:00:00Z", names, signature),
        "host not signed": signed_as(scheme, ak, stamp, "content-type", signature),
        "unknown key": face.adding(campaign, body, key=unknown),
        "revoked key": face.adding(campaign, body, key=revoked),
        "wrong secret": face.adding(campaign, body, key=wrong),
        "key of another VDN": face.adding(campaign, body, key=face.keys[OTHER]),
        "too old": face.adding(campaign, body, at=now - timedelta(minutes=15, seconds=2)),
        "too far ahead": face.adding(campaign, body, at=now + timedelta(minutes=15, seconds=5)),
        "another body": dataclasses.replace(good, body=b"{not json!"),
        "another path": dataclasses.replace(good, target=f"{PREFIX}/{OLD}/calldata/{campaign + 1}"),
        "another spelling of the path": dataclasses.replace(
            good, target=good.target.replace(f"/{OLD}/", f"/0{OLD}/")
        ),
        "a query added": dataclasses.replace(good, target=good.target + "?a=1"),
        "another host": having(without(good, "Host"), ("Host", "127.0.0.1")),
    }


OFF = {"another timestamp", "too old", "too far ahead"}
CLOCKS = re.compile(
    r"authentication failed; this server has (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC"
    r"(?:, the request's timestamp is (\d+) s (behind|ahead of) it)?"
)


def test_every_cause_of_a_401_is_answered_alike(face: Face) -> None:
    """One text for all causes, with both clocks; nothing is kept; the cause is in the log, with the id."""
    campaign = face.campaign()
    requests = tampered(face, campaign)
    with face.nothing_kept():
        sent = enumerate(requests.items(), 2)  # each from an address of its own: ten of one are slowed down
        answers = {cause: face.send_from(f"127.0.1.{n}", request) for n, (cause, request) in sent}
    told = {}
    for cause, answer in answers.items():
        face.refuses(answer, "0200001", status=401)
        clocks = CLOCKS.fullmatch(answer.desc)
        assert clocks, (cause, answer.desc)
        assert abs(utc_now() - datetime.strptime(f"{clocks[1]}+0000", "%Y-%m-%d %H:%M:%S%z")).seconds < 60
        told[cause] = int(clocks[2]) * (1 if clocks[3] == "behind" else -1) if clocks[2] else None
        said = {**answer.headers, "x-request-id": "", "date": "", "content-length": ""}
        assert said == {**answers["no header"].headers, "x-request-id": "", "date": "", "content-length": ""}
    readable = {cause for cause, seconds in told.items() if seconds is not None}
    assert told.keys() - readable == {
        "no header", "header twice", "empty", "another scheme", "basic", "four parts",
        "signature in upper case", "no such date",
    }  # fmt: skip
    assert all(-5 <= (told[cause] or 0) <= 60 for cause in readable if cause not in OFF), told
    assert 902 <= (told["too old"] or 0) <= 960
    assert -905 <= (told["too far ahead"] or 0) <= -840
    log = face.processes.log()
    for cause, answer in answers.items():
        lines = [line for line in log.splitlines() if answer.headers["x-request-id"] in line]
        logged = next(json.loads(line) for line in lines if "not authenticated" in line)
        assert logged["cause"], cause
    assert face.keys[OLD].secret not in log


def test_wrong_signatures_are_slowed_down_and_no_key_is_locked(face: Face) -> None:
    """Ten of one key from one address are judged; the key's owner, elsewhere, notices nothing."""
    campaign = face.campaign()
    right = face.keys[OLD]
    wrong = dataclasses.replace(right, secret="not the secret")
    asked = [face.send_from("127.0.2.1", face.adding(campaign, ["1"], key=wrong)) for _ in range(50)]
    statuses = [answer.status for answer in asked]
    assert statuses[:FAILURES] == [401] * FAILURES
    assert 429 in statuses
    assert set(statuses) == {401, 429}
    slowed = face.send_from("127.0.2.1", face.adding(campaign, ["1"]))
    face.refuses(slowed, "0200001", status=429, says="too many wrong signatures from this address: wait ")
    assert 1 <= int(slowed.headers["retry-after"]) <= RETURNS
    assert face.send_from("127.0.2.2", face.adding(campaign, ["1"])).code == "0200000"
    face.rewind(campaign)
    assert face.add(campaign, ["1"]).code == "0200000"


def test_a_right_key_is_judged_again_on_the_slowed_down_address(face: Face) -> None:
    """After the seconds that Retry-After names, and not before."""
    campaign = face.campaign()
    wrong = dataclasses.replace(face.keys[OLD], secret="not the secret")
    for _ in range(FAILURES):
        face.send_from("127.0.2.3", face.adding(campaign, ["1"], key=wrong))
    slowed = face.send_from("127.0.2.3", face.adding(campaign, ["1"]))
    assert slowed.status == 429
    time.sleep(int(slowed.headers["retry-after"]))
    assert face.send_from("127.0.2.3", face.adding(campaign, ["1"])).code == "0200000"


@pytest.mark.parametrize("minutes", [-15, 15])
def test_a_timestamp_within_15_minutes_is_good(face: Face, minutes: int) -> None:
    inside = timedelta(minutes=minutes) - timedelta(seconds=2 if minutes > 0 else -2)
    assert face.add(face.campaign(), ["1"], at=utc_now() + inside).code == "0200000"


def test_several_keys_of_a_vdn_are_all_good(face: Face) -> None:
    key = face.another_key(OLD)
    campaign = face.campaign()
    assert face.add(campaign, ["1"], key=key).code == "0200000"
    face.rewind(campaign)
    assert face.add(campaign, ["1"]).code == "0200000"


# -- 400 -------------------------------------------------------------------------------------------------

NOT_JSON = {
    "nothing but space": b"  ",
    "cut off": b'{"callDataList":[{"called":"1"}',
    "text after it": b'{"callDataList":[{"called":"1"}]} x',
    "two values": b'{"callDataList":[{"called":"1"}]}{}',
    "a comma at the end": b'{"callDataList":[{"called":"1"},]}',
    "single quotes": b"{'callDataList':[{'called':'1'}]}",
    "a comment": b'{"callDataList":[{"called":"1"}]/**/}',
    "NaN": b'{"callDataList":[{"called":"1","x":NaN}]}',
    "Infinity": b'{"callDataList":[{"called":"1","x":Infinity}]}',
    "-Infinity": b'{"callDataList":[{"called":"1","x":-Infinity}]}',
    "a key twice": b'{"callDataList":[{"called":"1"}],"callDataList":[{"called":"2"}]}',
    "a key twice in an entry": b'{"callDataList":[{"called":"1","called":"2"}]}',
    "a key twice, once escaped": b'{"callDataList":[{"called":"1","call\\u0065d":"1"}]}',
    "a key twice in an unknown field": b'{"callDataList":[{"called":"1"}],"x":{"a":1,"a":1}}',
    "Latin-1": '{"callDataList":[{"called":"1","caller":"é"}]}'.encode("latin-1"),
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "an overlong form": b'{"callDataList":[{"called":"1","caller":"\xc0\xaf"}]}',
    "a surrogate in UTF-8": b'{"callDataList":[{"called":"1","caller":"\xed\xa0\x80"}]}',
    "a lone high surrogate": b'{"callDataList":[{"called":"1","caller":"\\ud800"}]}',
    "a lone low surrogate": b'{"callDataList":[{"called":"1","caller":"\\uDC00x"}]}',
    "surrogates the wrong way round": b'{"callDataList":[{"called":"1","caller":"\\udc00\\ud800"}]}',
    "a lone surrogate in a key": b'{"callDataList":[{"called":"1"}],"\\ud800":1}',
    "a control character in a string": b'{"callDataList":[{"called":"1","caller":"a\nb"}]}',
    "a leading zero": b'{"callDataList":[{"called":"1","x":01}]}',
    "a number of 5000 digits": b'{"callDataList":[{"called":"1","x":' + b"1" * 5000 + b"}]}",
    "too deep": b'{"callDataList":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too deep and not closed": b"[" * 100_000,
    "too deep, with a surrogate pair": b'{"x":' * 50_000 + b'"\\ud83d\\ude00"' + b"}" * 50_000,
}


@pytest.mark.parametrize("body", [pytest.param(body, id=kind) for kind, body in NOT_JSON.items()])
def test_a_body_that_is_not_json_is_400(face: Face, body: bytes) -> None:
    campaign = face.campaign()
    with face.nothing_kept():
        answer = face.add(campaign, body)
    face.refuses(answer, "0200001", status=400, says="the body is not JSON: ")
    assert face.add(campaign, ["1"]).code == "0200000", "the connection goes on"


NEEDS_A_BODY = [
    ("POST", "{vdn}/calldata/{campaign}"),
    ("POST", "{vdn}"),
    ("POST", "{vdn}/blocklist/add"),
    ("POST", "{vdn}/blocklist/delete"),
    ("POST", "{vdn}/blocklist/query"),
]


@pytest.mark.parametrize(("method", "path"), NEEDS_A_BODY)
def test_a_body_that_is_absent_or_not_json_is_400_wherever_one_is_needed(
    face: Face, method: str, path: str
) -> None:
    where = path.format(vdn=OLD, campaign=face.campaign())
    with face.nothing_kept():
        for body in (None, b"{", b'{"a":1,"a":1}'):
            face.refuses(face.call(method, where, body), "0200001", status=400)


# -- the order of the rows -------------------------------------------------------------------------------


def test_the_rows_are_judged_in_order(face: Face) -> None:
    """Each request has all the faults from its row on; the earliest answers."""
    large = b"x" * (MIB + 1)

    def ask(method: str, path: str, body: bytes, content_type: str, vdn: int, bad: bool) -> Answer:
        face.hang_up()
        key = dataclasses.replace(face.keys[vdn], secret="wrong") if bad else face.keys[vdn]
        return face.call(method, path, body, content_type=content_type, key=key)

    path = f"{OTHER}/calldata/{ABSENT}"
    nowhere = f"{OTHER}/calldata/abc/x"
    found = [
        ask("PUT", nowhere, large, "text/plain", OLD, True),
        ask("PUT", f"{OTHER}/calldata/abc", large, "text/plain", OLD, True),
        ask("POST", f"{OTHER}/calldata/abc", large, "text/plain", OLD, True),
        ask("POST", f"{OTHER}/calldata/abc", b"{", "text/plain", OLD, True),
        ask("POST", f"{OTHER}/calldata/abc", b"{", JSON, OLD, True),
        ask("POST", f"{OTHER}/calldata/abc", b"{", JSON, OLD, False),
        ask("POST", path, b"{", JSON, OLD, False),
        ask("POST", path, b"{", JSON, OTHER, False),
        ask("POST", path, b"[]", JSON, OTHER, False),
    ]
    statuses = [answer.status for answer in found]
    assert statuses == [404, 405, 413, 415, 401, 200, 401, 400, 200]
    assert [answer.code for answer in found if answer.status == 200] == ["02000006", "02000006"]
    assert found[5].desc.startswith("campaignId")
    assert found[8].desc.startswith("the body")


def test_the_form_of_both_path_values_comes_before_their_range(face: Face) -> None:
    """semantics.md §3, step 2."""
    face.refuses(face.call("POST", "0/calldata/abc", GOOD), "02000006", says="campaignId")
    face.refuses(face.call("POST", "0/calldata/0", GOOD), "02000007", says="vdnId")
    face.refuses(face.call("POST", f"{OLD}/calldata/0", b"{"), "02000007", says="campaignId")


# -- every answer ----------------------------------------------------------------------------------------


def test_every_answer_carries_a_request_id_of_its_own(face: Face) -> None:
    """Also those below the interface; `Face.checked` asks for one everywhere."""
    campaign = face.campaign()
    answers = [face.add(campaign, ["1"]) for _ in range(20)]
    answers += [face.call("GET", "/nowhere/x"), face.call("GET", f"{PREFIX}/1/1/1/1")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_nothing_of_a_request_stands_in_the_log(face: Face) -> None:
    """No phone number beyond its last 4 digits, no body, no secret, whatever the answer."""
    campaign = face.campaign()
    entry = {"called": "4915112345678", "sessionId": "sess-secret-one", "callData": "data-secret-one"}
    assert face.add(campaign, [entry]).code == "0200000"
    assert face.add(campaign, [entry]).code == "0200022"
    assert face.add(campaign, b'{"callDataList": [{"called": "4915112345678"').status == 400
    log = face.processes.log()
    assert len(log.splitlines()) > 3
    for secret in ("4915112345678", "secret-one", *(key.secret for key in face.keys.values())):
        assert secret not in log


# -- the store is down -----------------------------------------------------------------------------------


@contextmanager
def no_store(face: Face) -> Iterator[None]:
    """Nobody can connect to the database, and nobody but us is connected."""
    name = face.sql.value("SELECT current_database()")
    elsewhere = Sql(urlunsplit(urlsplit(face.dsn)._replace(path="/template1")))
    try:
        elsewhere.do(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while rows := face.sql.rows(f"SELECT pid, pg_terminate_backend(pid) {others}"):
            while any(is_alive(row["pid"]) for row in rows):
                time.sleep(0.01)
        yield
    finally:
        elsewhere.do(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        elsewhere.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


OPERATIONS: dict[str, Callable[[Face, int], Answer]] = {
    "add numbers": lambda face, c: face.add(c, ["13800000000"]),
    "create": lambda face, c: face.call("POST", f"{OLD}", new_campaign()),
    "query all": lambda face, c: face.call("GET", f"{OLD}", query="status=0&deviceType=0"),
    "query one": lambda face, c: face.call("GET", f"{OLD}/{c}"),
    "pause": lambda face, c: face.call("PUT", f"{OLD}/{c}/pause"),
    "resume": lambda face, c: face.call("PUT", f"{OLD}/{c}/resume"),
    "delete": lambda face, c: face.call("DELETE", f"{OLD}/{c}"),
    "blacklist add": lambda face, c: face.call("POST", f"{OLD}/blocklist/add", {"blocklist": ["1"]}),
    "blacklist delete": lambda face, c: face.call("POST", f"{OLD}/blocklist/delete", {"blocklistNo": "1"}),
    "blacklist query": lambda face, c: face.call("POST", f"{OLD}/blocklist/query", {"blocklist": ["1"]}),
    "blacklist clear": lambda face, c: face.call("DELETE", f"{OLD}/blocklist"),
}


def test_an_unreachable_store_is_0200006(face: Face) -> None:
    """Every operation; afterwards it works again by itself. `/readyz` says so, `/healthz` does not."""
    campaign = face.campaign()
    with face.nothing_kept(), no_store(face):
        assert plain(face, "/readyz").status == 503  # and the api has seen its connections go
        for name, ask in OPERATIONS.items():
            answer = ask(face, campaign)
            assert (answer.status, answer.code) == (200, "0200006"), name
            assert "nothing was kept" in answer.desc
        assert plain(face, "/healthz").status == 200
    assert plain(face, "/readyz").status == 200
    assert face.add(campaign, ["1"]).code == "0200000"


def plain(face: Face, path: str) -> Answer:
    """A request without a signature, its answer unchecked."""
    line = Line(face.port)
    try:
        return line.ask(Request("GET", path, (("Host", f"127.0.0.1:{face.port}"),), b""))
    finally:
        line.close()


def test_a_store_that_is_too_slow_is_0200006_within_5_seconds(face: Face) -> None:
    """Somebody holds the campaign's row for ever; nothing is kept, and the add works afterwards."""
    campaign = face.campaign()
    with face.nothing_kept():
        face.sql.do("BEGIN")
        try:
            face.sql.do("SELECT 1 FROM campaign WHERE campaign_id = $1 FOR UPDATE", campaign)
            began = utc_now()
            face.refuses(face.add(campaign, ["1"]), "0200006")
            assert utc_now() - began < timedelta(seconds=5)
        finally:
            face.sql.do("ROLLBACK")
    assert face.add(campaign, ["1"]).code == "0200000"


# -- our own fault ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["contact", "stored_answer", "campaign", "blacklist"])
def test_our_own_fault_is_500_without_detail(face: Face, table: str) -> None:
    """A table is gone: the answer tells nothing but its id, under which the log tells all."""
    campaign = face.campaign()
    face.sql.do(f"ALTER TABLE {table} RENAME TO {table}_gone")
    try:
        answer = face.add(campaign, ["13800000000"])
    finally:
        face.sql.do(f"ALTER TABLE {table}_gone RENAME TO {table}")
    face.refuses(answer, "0200001", status=500, says="internal error")
    assert not re.search(r"table|relation|Undefined|Error\b", answer.desc)
    lines = [line for line in face.processes.log().splitlines() if answer.headers["x-request-id"] in line]
    assert any("our own fault" in line and f"{table}" in line for line in lines)
    assert not any("13800000000" in line for line in lines)
    assert face.contacts(campaign) == []
    assert face.add(campaign, ["1"]).code == "0200000"


def test_an_edition_does_not_change_what_stands_below_the_interface(face: Face) -> None:
    """The rows of §2 have no column for it."""
    campaign = face.campaign(NEW)
    answers: dict[Any, Any] = {
        400: face.call("POST", f"{NEW}/calldata/{campaign}", b"{", vdn=NEW),
        401: face.call("POST", f"{NEW}/calldata/{campaign}", b"{", vdn=OLD),
        415: face.call("POST", f"{NEW}/calldata/{campaign}", b"{", vdn=NEW, content_type="text/json"),
    }
    for status, answer in answers.items():
        face.refuses(answer, "0200001", status=status)
