"""The contract's Tables 1 to 4 and 7 and semantics.md §3, steps 2 to 4: one case per row and rule.

Each case asserts code, HTTP status, the place that the description names, that the description repeats no
more than 4 characters of the value, that `returnObject` is absent (`Face.checked`), and by SQL that nothing
was stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from face import NEW, OLD, PREFIX, Face, hides

BIG = 2**63
CUSTOM_FIELD_FORBIDS = "`~!@#$%^&*()+=|{}'\":;<>/?.\\[]¥–,"


@dataclass(frozen=True)
class Bad:
    """A value that is refused."""

    rule: str
    value: Any
    code: str
    says: str


def case(bad: Bad) -> Any:
    return pytest.param(bad, id=bad.rule)


# -- Table 1, path values --------------------------------------------------------------------------------

VDN_IDS = [
    Bad("letters", "abc", "02000006", "vdnId"),
    Bad("empty", "", "02000006", "vdnId"),
    Bad("plus sign", "+1", "02000006", "vdnId"),
    Bad("two minus signs", "--1", "02000006", "vdnId"),
    Bad("minus alone", "-", "02000006", "vdnId"),
    Bad("decimal point", "1.0", "02000006", "vdnId"),
    Bad("digits outside ASCII", "%D9%A1", "02000006", "vdnId"),
    Bad("percent-encoded digit", "%31", "02000006", "vdnId"),
    Bad("space", "1%20", "02000006", "vdnId"),
    Bad("zero", "0", "02000007", "vdnId: must be 1 to 9999"),
    Bad("negative", "-1", "02000007", "vdnId: must be 1 to 9999"),
    Bad("above 9999", "10000", "02000007", "vdnId: must be 1 to 9999"),
    Bad("thousands of digits", "9" * 5000, "02000007", "vdnId: must be 1 to 9999"),
]

CAMPAIGN_IDS = [
    Bad("letters", "abcdefg", "02000006", "campaignId"),
    Bad("empty", "", "02000006", "campaignId"),
    Bad("exponent", "1e3", "02000006", "campaignId"),
    Bad("plus sign", "+1", "02000006", "campaignId"),
    Bad("percent-encoded digit", "%31", "02000006", "campaignId"),
    Bad("zero", "0", "02000007", "campaignId: must be 1 to"),
    Bad("negative", "-5", "02000007", "campaignId: must be 1 to"),
    Bad("2 to the power of 63", str(BIG), "02000007", "campaignId: must be 1 to"),
    Bad("thousands of digits", "9" * 5000, "02000007", "campaignId: must be 1 to"),
]


@pytest.mark.parametrize("bad", [case(bad) for bad in VDN_IDS])
def test_table_1_vdn_id(face: Face, bad: Bad) -> None:
    with face.nothing_kept():
        answer = face.call("POST", f"{PREFIX}/{bad.value}/calldata/1", {"callDataList": []})
    face.refuses(answer, bad.code, says=bad.says)


@pytest.mark.parametrize("bad", [case(bad) for bad in CAMPAIGN_IDS])
def test_table_1_campaign_id(face: Face, bad: Bad) -> None:
    with face.nothing_kept():
        answer = face.add(bad.value, ["100"])
    face.refuses(answer, bad.code, says=bad.says)
    assert hides(answer.desc, bad.value)


@pytest.mark.parametrize("spelling", ["{}", "0{}", "000000000000000000000000{}"])
def test_table_1_leading_zeros_are_digits(face: Face, spelling: str) -> None:
    """`-?[0-9]+` allows them, in both values."""
    campaign = face.campaign()
    path = f"{spelling.format(OLD)}/calldata/{spelling.format(campaign)}"
    assert face.call("POST", path, {"callDataList": [{"called": "1"}]}).code == "0200000"
    assert len(face.contacts(campaign)) == 1


def test_table_1_the_largest_ids_are_in_range(face: Face) -> None:
    """2^63-1 is a campaign that is not there; VDN 9999 is one, when it exists."""
    face.refuses(face.add(BIG - 1, ["100"]), "0200007")
    vdn = face.vdn(9999)
    assert face.add(face.campaign(vdn), ["100"], vdn=vdn).code == "0200000"


# -- Table 2, headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        "application/json; charset=UTF-8",
        "application/json;charset=utf-8",
        "Application/JSON; Charset=Utf-8",
        'application/json; charset="utf-8"',
        "application/json",
    ],
)
def test_table_2_content_type_is_accepted(face: Face, sent: str) -> None:
    """Media type and charset are compared without case; the charset may be left out."""
    assert face.add(face.campaign(), ["1"], content_type=sent).code == "0200000"


# Refused content types and the causes of a 401 are in test_rows_http.py.


# -- Table 3, the body -----------------------------------------------------------------------------------

BODIES = [
    Bad("the body is a list", [{"called": "1"}], "02000006", "the body: must be an object"),
    Bad("the body is a string", "callDataList", "02000006", "the body"),
    Bad("the body is a number", 5, "02000006", "the body"),
    Bad("the body is null", b"null", "02000006", "the body"),
    Bad("the body is true", True, "02000006", "the body"),
    Bad("callDataList missing", {}, "02000001", "callDataList"),
    Bad("callDataList in another case", {"calldatalist": [{"called": "1"}]}, "02000001", "callDataList"),
    Bad("callDataList null", {"callDataList": None}, "02000001", "callDataList"),
    Bad("callDataList empty", {"callDataList": []}, "02000001", "callDataList"),
    Bad("callDataList is an empty string", {"callDataList": ""}, "02000006", "callDataList: must be a list"),
    Bad("callDataList is an object", {"callDataList": {"called": "1"}}, "02000006", "callDataList"),
    Bad("callDataList is a number", {"callDataList": 1}, "02000006", "callDataList"),
    Bad("callDataList is false", {"callDataList": False}, "02000006", "callDataList"),
    Bad("21 entries", {"callDataList": [{"called": str(n)} for n in range(21)]}, "0200029", "20 are allowed"),
    Bad("21 entries that are nothing", {"callDataList": [None] * 21}, "0200029", "20 are allowed"),
    Bad("an entry is null", {"callDataList": [{"called": "1"}, None]}, "02000006", "callDataList[1]"),
    Bad("an entry is a string", {"callDataList": ["13800000000"]}, "02000006", "callDataList[0]"),
    Bad("an entry is a list", {"callDataList": [[]]}, "02000006", "callDataList[0]: must be an object"),
    Bad("an entry is a number", {"callDataList": [13800000000]}, "02000006", "callDataList[0]"),
]


@pytest.mark.parametrize("bad", [case(bad) for bad in BODIES])
def test_table_3_call_data_list(face: Face, bad: Bad) -> None:
    campaign = face.campaign()
    body = bad.value if isinstance(bad.value, bytes) else json.dumps(bad.value).encode()
    with face.nothing_kept():
        answer = face.call("POST", f"{OLD}/calldata/{campaign}", body)
    face.refuses(answer, bad.code, says=bad.says)
    assert hides(answer.desc, "13800000000")


def test_table_3_twenty_entries_are_accepted(face: Face) -> None:
    campaign = face.campaign()
    answer = face.add(campaign, [str(n) for n in range(20)])
    assert answer.json["returnObject"] == {"totalSize": 20}
    assert [row["called"] for row in face.contacts(campaign)] == [str(n) for n in range(20)]


# -- Table 4, the fields of an entry ---------------------------------------------------------------------


def field(name: str, *bads: tuple[str, Any, str, str]) -> list[Any]:
    return [
        pytest.param(name, Bad(rule, value, code, says), id=f"{name}: {rule}")
        for rule, value, code, says in bads
    ]


WRONG_TYPES = (
    ("a number", 12345678, "02000006", "must be a string"),
    ("zero", 0, "02000006", "must be a string"),
    ("false", False, "02000006", "must be a string"),
    ("a list", ["x"], "02000006", "must be a string"),
    ("an object", {"a": "b"}, "02000006", "must be a string"),
)
NUL = ("U+0000", "ab\0cdefg", "02000002", "forbidden character")

FIELDS = [
    *field("sessionId", *WRONG_TYPES, NUL),
    *field("sessionId", ("33 characters", "s7K" * 11, "02000003", "longer than 32 characters")),
    *field("sessionId", ("33 astral characters", "😀" * 33, "02000003", "longer than 32")),
    *field("sessionId", ("too long before forbidden", "\0" * 33, "02000003", "longer than 32")),
    *field("called", *WRONG_TYPES, NUL),
    *field(
        "called",
        ("missing", ..., "02000001", "missing or empty"),
        ("null", None, "02000001", "missing or empty"),
        ("empty", "", "02000001", "missing or empty"),
        ("25 characters", "0123456789012345678901234", "02000003", "longer than 24 characters"),
        ("a plus sign", "+8613800000000", "02000002", "ASCII digits, * and #"),
        ("a space", "138 0000 0000", "02000002", "forbidden character at character 4"),
        ("a letter", "13800000000a", "02000002", "forbidden character at character 12"),
        ("a hyphen", "138-0000-0000", "02000002", "forbidden character"),
        ("a line feed at the end", "13800000000\n", "02000002", "forbidden character"),
        ("arabic digits", "١٢٣٤٥٦٧", "02000002", "forbidden character at character 1"),
        ("full-width digits", "１２３４５６", "02000002", "forbidden character"),
        ("a full-width asterisk", "＊", "02000002", "forbidden character"),
    ),
    *field("caller", *WRONG_TYPES, NUL),
    *field(
        "caller",
        ("25 characters", "9876543210987654321098765", "02000003", "longer than 24 characters"),
        ("a line feed", "4000\r\nVia: x", "02000002", "control characters"),
        ("a tabulator", "4000\t1234", "02000002", "control characters"),
        ("DEL", "4000\x7f1234", "02000002", "control characters"),
        ("a C1 control", "4000\x851234", "02000002", "control characters"),
    ),
    *field("customField", *WRONG_TYPES, NUL),
    *field("customField", ("201 characters", "qZ5" * 67, "02000003", "longer than 200 characters")),
    *[
        pytest.param(
            "customField",
            Bad("", f"abc{character}def", "02000002", "forbidden character at character 4"),
            id=f"customField: U+{ord(character):04X}",
        )
        for character in CUSTOM_FIELD_FORBIDS
    ],
    *field("recycleTime", *WRONG_TYPES),
    *field(
        "recycleTime",
        *(
            (rule, value, "0200030", "not a real time in the form yyyy-mm-dd hh:mm:ss")
            for rule, value in (
                ("no time", "2026-12-31"),
                ("a T between", "2026-12-31T10:00:00"),
                ("no seconds", "2026-12-31 10:00"),
                ("fractions", "2026-12-31 10:00:00.0"),
                ("a zone", "2026-12-31 10:00:00Z"),
                ("one digit", "2026-1-31 10:00:00"),
                ("slashes", "2026/12/31 10:00:00"),
                ("another order", "31-12-2026 10:00:00"),
                ("month 13", "2026-13-01 10:00:00"),
                ("month 0", "2026-00-01 10:00:00"),
                ("30 February", "2026-02-30 10:00:00"),
                ("29 February of a common year", "2027-02-29 10:00:00"),
                ("hour 24", "2026-12-31 24:00:00"),
                ("minute 60", "2026-12-31 10:60:00"),
                ("second 60", "2026-12-31 10:00:60"),
                ("year 0", "0000-12-31 10:00:00"),
                ("a space before", " 2026-12-31 10:00:00"),
                ("a line feed after", "2026-12-31 10:00:00\n"),
                ("arabic digits", "٢٠٢٦-12-31 10:00:00"),
                ("U+0000", "2026-12-31\x0010:00:00"),
                ("words", "tomorrow"),
            )
        ),
    ),
    *field("callData", *WRONG_TYPES, NUL),
    *field("callData", ("1025 characters", '{"a":"%s"}' % ("k9" * 509), "02000003", "longer than 1024")),
]


@pytest.mark.parametrize(("name", "bad"), FIELDS)
def test_table_4_field(face: Face, name: str, bad: Bad) -> None:
    """The third entry of three is bad: none of the three is stored."""
    campaign = face.campaign()
    entry: dict[str, Any] = {"called": "13"} | ({} if bad.value is ... else {name: bad.value})
    if bad.value is ...:
        del entry[name]
    with face.nothing_kept():
        answer = face.add(campaign, ["11", "12", entry])
    face.refuses(answer, bad.code, says=bad.says)
    assert answer.desc.startswith(f"callDataList[2].{name}: ")
    assert hides(answer.desc, str(bad.value))


GOOD = [
    ("sessionId", "s" * 32, "session_id"),
    ("sessionId", "😀" * 32, "session_id"),
    ("sessionId", "tab\tand\nline", "session_id"),
    ("called", "0123456789*#" * 2, "called"),
    ("called", "#", "called"),
    ("caller", "+49 (0)30 / 123-45 a~é☎", "caller"),
    ("customField", "Ünï-cödé_ 漢字 " + "x" * 186, "custom_field"),
    ("customField", "line\nbreak", "custom_field"),
    ("callData", "k" * 1024, "call_data"),
    ("callData", "😀" * 1024, "call_data"),
    ("callData", '{"a": 1, "a": [NaN}', "call_data"),
]


@pytest.mark.parametrize(("name", "value", "column"), GOOD, ids=[f"{n}: {v[:12]!r}" for n, v, _ in GOOD])
def test_table_4_longest_and_strangest_values_are_stored_as_they_came(
    face: Face, name: str, value: str, column: str
) -> None:
    """Lengths count code points; what no rule forbids is kept byte for byte."""
    campaign = face.campaign()
    assert face.add(campaign, [{"called": "5"} | {name: value}]).code == "0200000"
    assert face.contacts(campaign)[0][column] == value


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("name", ["sessionId", "caller", "customField", "recycleTime", "callData"])
def test_table_4_an_optional_field_that_is_null_or_empty_is_absent(
    face: Face, name: str, empty: str | None
) -> None:
    campaign = face.campaign(device_type=1)
    assert face.add(campaign, [{"called": "5", name: empty}]).code == "0200000"
    row = face.contacts(campaign)[0]
    fields = ("session_id", "caller", "custom_field", "recycle_at", "call_data")
    assert [row[column] for column in fields] == [None] * 5


def test_unknown_fields_are_ignored(face: Face) -> None:
    """In the body and in an entry, whatever their type; `priority` is one in edition 2023-09."""
    campaign = face.campaign()
    body = {
        "callDataList": [{"called": "5", "priority": 77, "x": {"y": [1]}}],
        "batchId": "9",
        "": None,
    }
    assert face.call("POST", f"{OLD}/calldata/{campaign}", body).code == "0200000"
    assert face.contacts(campaign)[0]["priority"] == 3


# -- step 4, and edition 2025-11 -------------------------------------------------------------------------


def test_the_same_called_twice_in_one_request(face: Face) -> None:
    """0200018, naming both places."""
    campaign = face.campaign()
    with face.nothing_kept():
        answer = face.add(campaign, ["13800000001", "13800000002", "13800000001"])
    face.refuses(answer, "0200018", says="callDataList[2].called: the same number as callDataList[0].called")
    assert hides(answer.desc, "13800000001")


def test_numbers_that_differ_in_one_character_are_not_the_same(face: Face) -> None:
    assert face.add(face.campaign(), ["1", "01", "1*", "1#"]).code == "0200000"


PRIORITIES = [
    Bad("a number", 1, "02000006", "callDataList[1].priority: must be a string"),
    Bad("true", True, "02000006", "callDataList[1].priority"),
    Bad("zero", "0", "02000007", "callDataList[1].priority: must be one of"),
    Bad("six", "6", "02000007", "callDataList[1].priority"),
    Bad("a leading zero", "01", "02000007", "callDataList[1].priority"),
    Bad("a space", " 1", "02000007", "callDataList[1].priority"),
    Bad("a word", "highest", "02000007", "callDataList[1].priority"),
]


@pytest.mark.parametrize("bad", [case(bad) for bad in PRIORITIES])
def test_priority_is_judged_in_edition_2025_11(face: Face, bad: Bad) -> None:
    campaign = face.campaign(NEW)
    with face.nothing_kept():
        answer = face.add(campaign, ["1", {"called": "2", "priority": bad.value}], vdn=NEW)
    face.refuses(answer, bad.code, says=bad.says)
    assert hides(answer.desc, str(bad.value))


def test_priority_is_stored_in_edition_2025_11(face: Face) -> None:
    """ "1" to "5"; absent, null and "" are "3"."""
    campaign = face.campaign(NEW)
    values = ["1", "2", "3", "4", "5", None, ""]
    entries: list[Any] = [{"called": str(n), "priority": value} for n, value in enumerate(values)]
    assert face.add(campaign, [*entries, "99"], vdn=NEW).code == "0200000"
    assert [row["priority"] for row in face.contacts(campaign)] == [1, 2, 3, 4, 5, 3, 3, 3]


def test_priority_is_judged_last(face: Face) -> None:
    """After callData, but before the next entry."""
    campaign = face.campaign(NEW)
    both = {"called": "1", "callData": 5, "priority": 5}
    face.refuses(face.add(campaign, [both], vdn=NEW), "02000006", says="callDataList[0].callData")
    later = [{"called": "1", "priority": "9"}, {"called": "x"}]
    face.refuses(face.add(campaign, later, vdn=NEW), "02000007", says="callDataList[0].priority")
