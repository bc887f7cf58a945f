"""semantics.md §1, §3 (step 5 and 6), §4, §5: what an add meets under the campaign's row lock.

Both editions stand side by side wherever the page has two columns.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from face import NEW, OLD, Face

from outdial.store.postgres import utc_now

DAY = timedelta(days=1)
EDITIONS = pytest.mark.parametrize("vdn", [OLD, NEW], ids=["2023-09", "2025-11"])

OBJECT = '{"fullName":"Lin Zihang","date":"March 31, 2022","riskName":"Compulsory traffic insurance"}'
OVERESCAPED = OBJECT.replace('"', '\\"')
"""The contract's example of call data as a receiver sees it: escaped once too often, one brace less."""


# -- the contract's own examples -------------------------------------------------------------------------

REQUEST_EXAMPLE = b"""{
    "callDataList": [
        {
            "sessionId": "00750",
            "called": "80021"
        },
        {
            "sessionId": "00850",
            "called": "80022"
        },
        {
            "sessionId": "00950",
            "called": "80023"
        },
        {
            "sessionId": "01050",
            "called": "80024"
        }
    ]
}"""

RESPONSE_EXAMPLE = """{
    "resultCode": "0200000",
    "resultDesc": "",
    "returnCode": "0200000",
    "returnDesc": "",
    "returnObject": {
        "totalSize": 46
    }
}"""


def test_the_contracts_example(face: Face) -> None:
    """Its request to a campaign with 42 incomplete calls gets its response, member by member in order."""
    campaign = face.campaign(incomplete=42)
    answer = face.add(campaign, REQUEST_EXAMPLE)
    assert answer.body == json.dumps(json.loads(RESPONSE_EXAMPLE), separators=(",", ":")).encode()
    stored = [(row["session_id"], row["called"]) for row in face.contacts(campaign)]
    assert stored == [("00750", "80021"), ("00850", "80022"), ("00950", "80023"), ("01050", "80024")]


def example(tail: str) -> bytes:
    """The body with the contract's call data as printed, up to its end."""
    return (
        '{"callDataList":[{"called":"80021","callData":"{'
        r"\\\"fullName\\\":\\\"Lin Zihang\\\",\\\"date\\\":\\\"March 31, 2022\\\","
        r"\\\"riskName\\\":\\\"Compulsory traffic insurance\\\""
        f'{tail}"}}]}}'
    ).encode()


@EDITIONS
def test_the_contracts_call_data_as_printed_is_refused(face: Face, vdn: int) -> None:
    """It has one `}` too many."""
    campaign = face.campaign(vdn, device_type=1)
    with face.nothing_kept():
        answer = face.add(campaign, example("}}"), vdn=vdn)
    face.refuses(answer, "02000007", says="callDataList[0].callData: an intelligent IVR campaign needs")


@EDITIONS
def test_the_contracts_call_data_corrected_is_accepted_and_stored_as_it_came(face: Face, vdn: int) -> None:
    campaign = face.campaign(vdn, device_type=1)
    assert face.add(campaign, example("}"), vdn=vdn).code == "0200000"
    assert face.contacts(campaign)[0]["call_data"] == OVERESCAPED


# -- call data of an intelligent IVR campaign ------------------------------------------------------------

IS_OBJECT = [
    "{}",
    OBJECT,
    OVERESCAPED,
    ' {"a": 1}\n',
    '{"a":{"b":[1,"}",null]}}',
    r"{\"a\":\"back\\\\slash\"}",
    '{"a":"\\ud83d\\ude00"}',
]
IS_NOT = [
    "[]",
    "null",
    "1",
    '"text"',
    "text",
    "{",
    '{"a":1}}',
    '{"a":1,"a":2}',
    '{"a":NaN}',
    r"{\\\"a\\\":1}",
    '"{\\"a\\":1}"',
    "{'a':1}",
    '{"a":"\\ud83d"}',
]


@pytest.mark.parametrize("text", IS_OBJECT)
def test_call_data_that_is_an_object_is_accepted(face: Face, text: str) -> None:
    """Judged unescaped when it does not parse as it is; kept as it came."""
    campaign = face.campaign(device_type=1)
    assert face.add(campaign, ["1", {"called": "2", "callData": text}]).code == "0200000"
    assert [row["call_data"] for row in face.contacts(campaign)] == [None, text]


@pytest.mark.parametrize("text", IS_NOT)
def test_call_data_that_is_no_object_is_refused_for_device_type_1_alone(face: Face, text: str) -> None:
    entries = ["1", {"called": "2", "callData": text}]
    intelligent, automatic = face.campaign(device_type=1), face.campaign(device_type=3)
    with face.nothing_kept():
        face.refuses(face.add(intelligent, entries), "02000007", says="callDataList[1].callData")
    assert face.add(automatic, entries).code == "0200000"
    assert face.contacts(automatic)[1]["call_data"] == text


# -- states, by edition and by the clock -----------------------------------------------------------------

BEFORE = {"begin_at": DAY, "end_at": 2 * DAY}
WITHIN = {"begin_at": -DAY, "end_at": DAY}
AFTER = {"begin_at": -2 * DAY, "end_at": -timedelta(seconds=1)}

STATES: list[tuple[str, str, dict[str, timedelta], int, tuple[str, str], tuple[str, str]]] = [
    # what                     stored       dates   incomplete  2023-09                 2025-11
    ("draft", "draft", WITHIN, 0, ("0200000", ""), ("0200000", "")),
    ("draft before its dates", "draft", BEFORE, 0, ("0200000", ""), ("0200000", "")),
    ("suspended", "suspended", WITHIN, 5, ("0200000", ""), ("0200000", "")),
    ("not started", "started", BEFORE, 0, ("0200000", ""), ("0200000", "")),
    ("executing", "started", WITHIN, 5, ("0200019", "executing: pause it"), ("0200000", "")),
    ("call completed", "started", WITHIN, 0, ("0200019", "call completed: pause it"), ("0200000", "")),
    ("ended by command", "ended", WITHIN, 0, ("0200019", "has ended"), ("0200019", "has ended")),
    ("ended before its dates", "ended", BEFORE, 0, ("0200019", "has ended"), ("0200019", "has ended")),
    ("draft, end time past", "draft", AFTER, 0, ("0200019", "has ended"), ("0200019", "has ended")),
    ("started, end time past", "started", AFTER, 5, ("0200019", "has ended"), ("0200019", "has ended")),
    ("suspended, end time past", "suspended", AFTER, 5, ("0200019", "has ended"), ("0200019", "has ended")),
]


@EDITIONS
@pytest.mark.parametrize("row", STATES, ids=[row[0] for row in STATES])
def test_states_that_take_numbers(face: Face, row: Any, vdn: int) -> None:
    """semantics.md §1, first row; judged by the clock of the add, no job has run (there is no engine)."""
    _, state, dates, incomplete, old, new = row
    code, says = old if vdn == OLD else new
    columns = {name: utc_now() + distance for name, distance in dates.items()}
    campaign = face.campaign(vdn, state=state, incomplete=incomplete, **columns)
    if code == "0200000":
        answer = face.add(campaign, ["1", "2"], vdn=vdn)
        assert answer.code == code
        assert answer.json["returnObject"]["totalSize"] == incomplete + 2
    else:
        with face.nothing_kept():
            answer = face.add(campaign, ["1", "2"], vdn=vdn)
        face.refuses(answer, code, says=says)


def test_the_end_time_passes_without_any_job(face: Face) -> None:
    """The same campaign takes numbers before its end time and none after it; nobody touched it between."""
    campaign = face.campaign(end_at=utc_now() + timedelta(milliseconds=700))
    assert face.add(campaign, ["1"]).code == "0200000"
    while utc_now() < face.sql.value("SELECT end_at FROM campaign WHERE campaign_id = $1", campaign):
        time.sleep(0.05)
    face.refuses(face.add(campaign, ["2"]), "0200019", says="has ended")
    shown = face.call("GET", f"{OLD}/{campaign}").json["returnObject"]
    assert (shown["status"], shown["standing"]) == (4, "ended")
    face.refuses(face.call("PUT", f"{OLD}/{campaign}/resume"), "0200011", says="ended")


@EDITIONS
def test_the_begin_time_passes_without_any_job(face: Face, vdn: int) -> None:
    campaign = face.campaign(vdn, state="started", begin_at=utc_now() + timedelta(milliseconds=500))
    assert face.add(campaign, ["1"], vdn=vdn).code == "0200000"
    face.rewind(campaign)
    while utc_now() < face.sql.value("SELECT begin_at FROM campaign WHERE campaign_id = $1", campaign):
        time.sleep(0.05)
    assert face.add(campaign, ["2"], vdn=vdn).code == ("0200019" if vdn == OLD else "0200000")


# -- success, side by side -------------------------------------------------------------------------------


def test_the_answer_of_edition_2023_09(face: Face) -> None:
    """Empty description, `totalSize` alone."""
    answer = face.add(face.campaign(incomplete=7), ["1"])
    assert answer.json == {
        "resultCode": "0200000",
        "resultDesc": "",
        "returnCode": "0200000",
        "returnDesc": "",
        "returnObject": {"totalSize": 8},
    }


def test_the_answer_of_edition_2025_11(face: Face) -> None:
    """`create data succeeded`, and a dataId (a String) for each called, in the order of the entries."""
    campaign = face.campaign(NEW, incomplete=7)
    answer = face.add(campaign, ["3", "1", "2"], vdn=NEW)
    assert answer.desc == "create data succeeded"
    ids = {row["called"]: str(row["contact_id"]) for row in face.contacts(campaign)}
    listed = [{"called": called, "dataId": ids[called]} for called in ("3", "1", "2")]
    assert answer.json["returnObject"] == {"totalSize": 10, "dataIdList": listed}


def test_total_size_counts_what_is_incomplete_after_the_add(face: Face) -> None:
    """Ready and dialing count, done does not; the counter is the campaign's own."""
    campaign, neighbour = face.campaign(), face.campaign()
    assert face.add(neighbour, ["1"]).json["returnObject"] == {"totalSize": 1}
    assert face.add(campaign, ["1", "2", "3"]).json["returnObject"] == {"totalSize": 3}
    face.sql.do(
        "UPDATE contact SET state = 'done' WHERE campaign_id = $1 AND called = '1'",
        campaign,
    )
    face.sql.do("UPDATE contact SET state = 'dialing' WHERE campaign_id = $1 AND called = '2'", campaign)
    face.change(campaign, incomplete=2, last_added_at=None)
    assert face.add(campaign, ["4"]).json["returnObject"] == {"totalSize": 3}


def test_a_stored_number_is_whole(face: Face) -> None:
    """Every field of Table 4 reaches the row, ready and due at once."""
    campaign = face.campaign()
    entry = {
        "sessionId": "s-1",
        "called": "*31#4930",
        "caller": "+49 30",
        "customField": "batch 7",
        "recycleTime": "2031-02-03 04:05:06",
        "callData": "free text",
    }
    assert face.add(campaign, [entry]).code == "0200000"
    (row,) = face.contacts(campaign)
    fields = ("session_id", "called", "caller", "custom_field", "call_data")
    assert tuple(row[name] for name in fields) == ("s-1", "*31#4930", "+49 30", "batch 7", "free text")
    assert row["recycle_at"] == datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert (row["state"], row["attempts"], row["disposition"]) == ("ready", 0, None)
    assert row["due_at"] <= utc_now()


# -- the 1-second rule -----------------------------------------------------------------------------------


@EDITIONS
def test_less_than_a_second_since_the_last_accepted_add(face: Face, vdn: int) -> None:
    """It is per campaign, and names the rule."""
    campaign, neighbour = face.campaign(vdn), face.campaign(vdn)
    assert face.add(campaign, ["1"], vdn=vdn).code == "0200000"
    with face.nothing_kept():
        face.refuses(face.add(campaign, ["2"], vdn=vdn), "0200022", says="less than 1 second")
    assert face.add(neighbour, ["2"], vdn=vdn).code == "0200000"


def test_after_a_second_the_next_add_is_accepted(face: Face) -> None:
    """The second runs from the accepted add; the refused ones between do not start it anew."""
    campaign = face.campaign()
    assert face.add(campaign, ["1"]).code == "0200000"
    began = face.sql.value("SELECT last_added_at FROM campaign WHERE campaign_id = $1", campaign)
    refused = 0
    while (answer := face.add(campaign, ["2"])).code != "0200000":
        face.refuses(answer, "0200022")
        refused += 1
        time.sleep(0.02)
    accepted = face.sql.value("SELECT last_added_at FROM campaign WHERE campaign_id = $1", campaign)
    assert refused >= 5
    assert timedelta(seconds=1) <= accepted - began < timedelta(seconds=2)


@pytest.mark.parametrize(
    "refused",
    [["x"], ["1", "1"], [{"called": "1", "recycleTime": "x"}], []],
    ids=["character", "twice", "time", "empty"],
)
def test_a_refused_add_never_starts_the_clock(face: Face, refused: list[Any]) -> None:
    campaign = face.campaign()
    assert face.add(campaign, refused).code != "0200000"
    assert face.add(campaign, ["1"]).code == "0200000"


def test_an_add_refused_under_the_lock_does_not_start_the_clock_either(face: Face) -> None:
    campaign = face.campaign(incomplete=199_990)
    face.refuses(face.add(campaign, [str(n) for n in range(11)]), "0200020")
    assert face.add(campaign, [str(n) for n in range(10)]).code == "0200000"


@pytest.mark.parametrize("ahead", [0.5, 1.0, 60.0, 86_400.0])
def test_a_clock_that_went_back_never_blocks(face: Face, ahead: float) -> None:
    """The last accepted add seems to be in the future."""
    campaign = face.campaign(last_added_at=utc_now() + timedelta(seconds=ahead))
    assert face.add(campaign, ["1"]).code == "0200000"
    last = face.sql.value("SELECT last_added_at FROM campaign WHERE campaign_id = $1", campaign)
    assert last <= utc_now()


# -- 200,000 ---------------------------------------------------------------------------------------------


@EDITIONS
@pytest.mark.parametrize(
    ("incomplete", "added", "code"),
    [
        (199_980, 20, "0200000"),
        (199_981, 20, "0200020"),
        (199_999, 1, "0200000"),
        (200_000, 1, "0200020"),
        (200_005, 1, "0200020"),
    ],
)
def test_the_limit_of_200_000(face: Face, vdn: int, incomplete: int, added: int, code: str) -> None:
    campaign = face.campaign(vdn, incomplete=incomplete)
    numbers = [str(n) for n in range(added)]
    if code == "0200000":
        assert face.add(campaign, numbers, vdn=vdn).json["returnObject"]["totalSize"] == incomplete + added
    else:
        with face.nothing_kept():
            face.refuses(face.add(campaign, numbers, vdn=vdn), code, says=f"{incomplete} numbers are")
