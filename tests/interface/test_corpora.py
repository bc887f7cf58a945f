"""The shared corpora, when they lie beside the checkout: raw JSON bodies and naughty strings.

Judged as their README says: `n_` is 400 with our envelope, `y_` no syntax error but for the two with a key
twice, `i_` either, but always the same; never a 5xx. A naughty string is refused by a rule or stored and
read back as it came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from face import OLD, PREFIX, Answer, Face, Line, Request, Server, new_campaign

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CORPORA = SHARED / "corpora"
COUNTS = {"n": 188, "y": 95, "i": 35}
DUPLICATED = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}
PROCESSES = 2

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="there is no ../shared beside this checkout")


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    """Every file of json-parsing. Counted first: an incomplete corpus is a failure."""
    found = {path.name: path.read_bytes() for path in (CORPORA / "json-parsing").glob("*.json")}
    counts = {kind: sum(name.startswith(f"{kind}_") for name in found) for kind in COUNTS}
    assert counts == COUNTS
    assert len(found) == sum(COUNTS.values())
    assert set(found) >= DUPLICATED
    return found


@pytest.fixture(scope="module")
def naughty() -> list[str]:
    """The naughty strings, counted."""
    found: list[str] = json.loads((CORPORA / "naughty-strings.json").read_bytes())
    assert len(found) == 515
    assert all(isinstance(text, str) for text in found)
    return found


@pytest.fixture(scope="module")
def served(make_server: Server) -> Iterator[Face]:
    with make_server(processes=PROCESSES) as face:
        yield face


@pytest.fixture
def lines(served: Face) -> Iterator[list[Line]]:
    """A connection to each process; which one it is, its request ids tell."""
    hello = Request("GET", "/healthz", (("Host", f"127.0.0.1:{served.port}"),), b"")
    found: dict[str, Line] = {}
    for _ in range(100):
        fresh = [Line(served.port) for _ in range(8)]
        for line in fresh:
            line.send(hello)
        for line in fresh:
            process = line.read().headers["x-request-id"].split("-")[0]
            if found.setdefault(process, line) is not line:
                line.close()
        if len(found) == PROCESSES:
            break
    assert len(found) == PROCESSES
    yield list(found.values())
    for line in found.values():
        line.close()


PATHS = ["{vdn}/calldata/{campaign}", "{vdn}", "{vdn}/blocklist/add"]


def ask(face: Face, line: Line, path: str, body: bytes, campaign: int) -> Answer:
    """A correctly signed request on this connection, and a second one to see that it is still good."""
    where = path.format(vdn=OLD, campaign=campaign)
    answer = face.checked(line.ask(face.request("POST", where, body)))
    assert answer.status < 500
    after = line.ask(face.request("GET", f"{PREFIX}/{OLD}/{campaign}"))
    assert (after.status, after.code) == (200, "0200000")
    return answer


@pytest.mark.parametrize("path", PATHS)
def test_what_is_not_json_is_400(
    served: Face, lines: list[Line], bodies: dict[str, bytes], path: str
) -> None:
    campaign = served.campaign()
    with served.nothing_kept():
        for name, body in bodies.items():
            if name.startswith("n_") or name in DUPLICATED:
                answer = ask(served, lines[len(name) % PROCESSES], path, body, campaign)
                assert (answer.status, answer.code) == (400, "0200001"), name


@pytest.mark.parametrize("path", PATHS)
def test_what_is_json_is_no_syntax_error(
    served: Face, lines: list[Line], bodies: dict[str, bytes], path: str
) -> None:
    """It is refused for what it says: no object, or one without what is needed."""
    campaign = served.campaign()
    with served.nothing_kept():
        for name, body in bodies.items():
            if name.startswith("y_") and name not in DUPLICATED:
                answer = ask(served, lines[len(name) % PROCESSES], path, body, campaign)
                kind = "02000001" if body.lstrip().startswith(b"{") else "02000006"
                assert (answer.status, answer.code) == (200, kind), name


def test_what_may_be_either_is_always_the_same(
    served: Face, lines: list[Line], bodies: dict[str, bytes]
) -> None:
    """Twice on each process."""
    campaign = served.campaign()
    verdicts = {}
    with served.nothing_kept():
        for name, body in bodies.items():
            if name.startswith("i_"):
                answers = [ask(served, line, PATHS[0], body, campaign) for line in lines * 2]
                assert len({(answer.status, answer.body) for answer in answers}) == 1, name
                verdicts[name] = answers[0].status
    assert set(verdicts.values()) == {200, 400}


# -- naughty strings -------------------------------------------------------------------------------------

CUSTOM_FIELD_FORBIDS = set("`~!@#$%^&*()+=|{}'\":;<>/?.\\[]¥–,\0")
CONTROLS = {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]}
EVERYTHING = {chr(code) for code in range(0x110000)}

COLUMNS: dict[str, tuple[str, int, set[str]]] = {
    "sessionId": ("session_id", 32, {"\0"}),
    "caller": ("caller", 24, CONTROLS),
    "customField": ("custom_field", 200, CUSTOM_FIELD_FORBIDS),
    "callData": ("call_data", 1024, {"\0"}),
    "called": ("called", 24, EVERYTHING - set("0123456789*#")),
}


def verdict(text: str, longest: int, forbidden: set[str]) -> str:
    if len(text) > longest:
        return "02000003"
    return "02000002" if set(text) & forbidden else "0200000"


def encoded(body: Any, ascii_only: bool) -> bytes:
    return json.dumps(body, ensure_ascii=ascii_only).encode()


@pytest.mark.parametrize("ascii_only", [False, True], ids=["UTF-8", "escapes"])
@pytest.mark.parametrize("name", ["sessionId", "caller", "customField", "callData"])
def test_a_naughty_string_in_a_number(served: Face, naughty: list[str], name: str, ascii_only: bool) -> None:
    """Refused, or stored and read back byte for byte; "" is absent."""
    column, longest, forbidden = COLUMNS[name]
    verdicts = {text: verdict(text, longest, forbidden) for text in naughty}
    good = [text for text in verdicts if verdicts[text] == "0200000"]
    for start in range(0, len(good), 20):
        campaign, batch = served.campaign(), good[start : start + 20]
        entries = [{"called": str(n), name: text} for n, text in enumerate(batch)]
        answer = served.add(campaign, encoded({"callDataList": entries}, ascii_only))
        assert answer.code == "0200000", answer.desc
        stored = {row["called"]: row[column] for row in served.contacts(campaign)}
        assert stored == {str(n): text or None for n, text in enumerate(batch)}
    campaign = served.campaign()
    with served.nothing_kept():
        for text, code in verdicts.items():
            if code != "0200000":
                body = {"callDataList": [{"called": "1", name: text}]}
                served.refuses(served.add(campaign, encoded(body, ascii_only)), code, says=name)


def test_a_naughty_string_as_a_number(served: Face, naughty: list[str]) -> None:
    """In `called` and in `recycleTime`."""
    _, longest, forbidden = COLUMNS["called"]
    stored = set()
    for text in dict.fromkeys(naughty):
        campaign, code = served.campaign(), verdict(text, longest, forbidden) if text else "02000001"
        answer = served.add(campaign, [{"called": text}])
        assert answer.code == code, answer.desc
        assert [row["called"] for row in served.contacts(campaign)] == [text] * (code == "0200000")
        stored |= {text} if code == "0200000" else set()
        if text:
            timed = served.add(campaign, [{"called": "1", "recycleTime": text}])
            served.refuses(timed, "0200030")
    assert len(stored) > 3


def test_a_naughty_string_in_a_campaign(served: Face, naughty: list[str]) -> None:
    """As name and as description; read back by query one, and the name by query all."""
    description_forbids = set('"[]=;<>\0')
    made = 0
    for text in dict.fromkeys(naughty):
        code = verdict(text, 100, {"\0"}) if text else "02000001"
        answer = served.call("POST", f"{OLD}", encoded(new_campaign(name=text), made % 2 == 0))
        assert answer.code == code, answer.desc
        if code == "0200000":
            made += 1
            shown = served.call("GET", f"{OLD}/{answer.json['returnObject']['id']}").json["returnObject"]
            assert shown["name"] == text
        code = verdict(text, 200, description_forbids)
        answer = served.call("POST", f"{OLD}", encoded(new_campaign(description=text), made % 2 == 0))
        assert answer.code == code, answer.desc
        if code == "0200000":
            shown = served.call("GET", f"{OLD}/{answer.json['returnObject']['id']}").json["returnObject"]
            assert shown["description"] == text
    assert made > 400
    listed: set[str] = set()
    for page in range(1, 12):
        query = f"status=0&deviceType=0&rowsPerPage=100&curPage={page}"
        listed |= {row["name"] for row in served.call("GET", f"{OLD}", query=query).json["data"]}
    assert {text for text in naughty if text and len(text) <= 100} <= listed
