"""Field rules: the order within a field, exact codes, and details that do not repeat the value."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outdial.calendar import zone
from outdial.errors import Refusal
from outdial.wire.fields import ClockTime, Integer, LocalTime, OneOf, Text, an_object, instant, parse_time
from outdial.wire.numbers import (
    CALL_DATA,
    CALLED,
    CALLER,
    CUSTOM_FIELD,
    FORBIDDEN_IN_CUSTOM_FIELD,
    SESSION_ID,
)

Rule = Text | Integer | OneOf | LocalTime | ClockTime


def code(rule: Rule, value: Any) -> str:
    with pytest.raises(Refusal) as refused:
        rule.read({rule.name: value}, "place.")
    assert refused.value.detail.startswith(f"place.{rule.name}: ")
    return refused.value.code.wire


RULES: list[Rule] = [
    Text("f", 5),
    Integer("f", 1, 9),
    OneOf("f", (0, 1)),
    OneOf("f", ("0", "1")),
    LocalTime("f"),
    ClockTime("f"),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("raw", [{}, {"f": None}, {"f": ""}, {"F": "x"}])
def test_absent_null_and_empty_are_absent(rule: Rule, raw: dict[str, Any]) -> None:
    assert rule.read(raw) is None


@pytest.mark.parametrize(
    "rule",
    [
        Text("f", 5, mandatory=True),
        Integer("f", 1, 9, mandatory=True),
        OneOf("f", (0, 1), mandatory=True),
        LocalTime("f", mandatory=True),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_mandatory_field_must_be_there(rule: Rule, value: Any) -> None:
    assert code(rule, value) == "02000001"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [True, False, 1.0, [], {}, ["x"], {"a": 1}])
def test_another_type(rule: Rule, value: Any) -> None:
    """A boolean is no integer, and 1.0 is none either."""
    assert code(rule, value) == "02000006"


def test_text_is_judged_by_length_before_characters() -> None:
    rule = Text("f", 5, forbidden="!?", of="no ! and ?")
    assert rule.read({"f": "\u0001😀é\n "}) == "\u0001😀é\n "
    assert code(rule, "!!!!!!") == "02000003"
    assert code(rule, "ab!") == "02000002"
    with pytest.raises(Refusal, match=r"f: forbidden character at character 3; allowed: no ! and \?"):
        rule.read({"f": "ab!cd"})


VALUES = st.one_of(
    st.sampled_from(
        [
            None,
            "",
            0,
            1,
            False,
            [],
            {},
            "ok",
            "a\nb",
            "1\n2",
            "1" * 20 + "\n" + "1" * 20,
            "\n",
            "a" * 24,
            "a" * 25,
            "1" * 24,
            "1" * 33,
            "\x00",
            "~",
        ]
    ),
    st.text(max_size=6),
)


@given(
    st.sampled_from([CALLED, SESSION_ID, CALLER, CUSTOM_FIELD, CALL_DATA]),
    st.lists(st.one_of(VALUES.map(lambda value: {"f": value}), st.just({})), min_size=1, max_size=5),
)
def test_a_column_is_what_each_row_reads(rule: Text, rows: list[dict[str, Any]]) -> None:
    """Or it is left to `read`: no fault passes, and no text is changed."""
    named = [{rule.name: row["f"]} if row else {} for row in rows]
    column = rule.column(named)
    if column is not None:
        assert column == [rule.read(row) for row in named]


@pytest.mark.parametrize("rule", [CALLED, SESSION_ID, CALLER, CUSTOM_FIELD, CALL_DATA])
def test_a_line_feed_in_a_value_does_not_make_two_of_it(rule: Text) -> None:
    half = "1" * rule.max_length
    assert rule.column([{rule.name: f"{half}\n{half}"}, {rule.name: "1"}]) is None


@pytest.mark.parametrize("rule", [CALLED, SESSION_ID, CALLER, CUSTOM_FIELD, CALL_DATA])
def test_a_faultless_column_is_read_at_once(rule: Text) -> None:
    longest = ["1" * rule.max_length, "2"]
    assert rule.column([{rule.name: value} for value in longest]) == longest
    assert rule.column([{}, {rule.name: None}]) == (None if rule.mandatory else [None, None])


@given(st.text(max_size=30))
def test_called_is_digits_asterisks_and_number_signs(value: str) -> None:
    good = 1 <= len(value) <= 24 and all(character in "0123456789*#" for character in value)
    if good:
        assert CALLED.read({"called": value}) == value
    else:
        with pytest.raises(Refusal):
            CALLED.read({"called": value})


@given(st.text(st.sampled_from("ab" + FORBIDDEN_IN_CUSTOM_FIELD + "\0é漢 _-€\n"), min_size=1, max_size=210))
def test_custom_field_forbids_the_contracts_characters_and_no_other(value: str) -> None:
    wanted = "02000003" if len(value) > 200 else "02000002"
    if len(value) <= 200 and not set(value) & {*FORBIDDEN_IN_CUSTOM_FIELD, "\0"}:
        assert CUSTOM_FIELD.read({"customField": value}) == value
    else:
        assert code(CUSTOM_FIELD, value) == wanted


def test_the_contract_forbids_32_characters_in_custom_field() -> None:
    assert len(set(FORBIDDEN_IN_CUSTOM_FIELD)) == len(FORBIDDEN_IN_CUSTOM_FIELD) == 32


@given(st.text(min_size=6, max_size=40, alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)))
def test_no_detail_repeats_the_value(value: str) -> None:
    rules: list[Rule] = [
        Text("f", 5),
        Text("f", 50, forbidden="^a"),
        LocalTime("f"),
        ClockTime("f"),
        OneOf("f", ("a",)),
    ]
    for rule in rules:
        with pytest.raises(Refusal) as refused:
            rule.read({"f": value})
        assert not set(value) & set(refused.value.detail)


def test_an_integer_has_a_range() -> None:
    rule = Integer("f", 5, 120)
    assert [rule.read({"f": value}) for value in (5, 120)] == [5, 120]
    for value in (4, 121, -5, 10**400):
        assert code(rule, value) == "02000007"
    assert code(rule, "5") == "02000006"


def test_a_choice_is_of_its_members_type() -> None:
    assert OneOf("f", (0, 1)).read({"f": 0}) == 0
    assert code(OneOf("f", (0, 1)), "0") == "02000006"
    assert code(OneOf("f", ("0", "1")), 0) == "02000006"
    assert code(OneOf("f", ("0", "1")), "2") == "02000007"


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59)))
def test_every_real_time_is_read(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert parse_time(moment.isoformat(" "), "f") == moment


@given(st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", fullmatch=True))
def test_no_other_time_is_read(text: str) -> None:
    """The standard library is the judge of what is real."""
    try:
        real = datetime.fromisoformat(text) if text.isascii() else None
    except ValueError:
        real = None
    if real is not None:
        assert parse_time(text, "f") == real
    else:
        with pytest.raises(Refusal, match=r"^0200030: f: not a real time"):
            parse_time(text, "f")


@pytest.mark.parametrize(
    ("name", "text"), [("America/New_York", "9999-12-31 23:59:59"), ("Asia/Tokyo", "0001-01-01 00:00:00")]
)
def test_a_local_time_whose_instant_is_outside_the_calendar_is_refused(name: str, text: str) -> None:
    with pytest.raises(Refusal, match=r"^0200030: f: "):
        instant(datetime.fromisoformat(text), zone(name), "f")


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("00:00", 0, 0),
        ("08:30", 510, 510),
        ("23:59", 1439, 1439),
        ("24:00", None, 1440),
        ("24:01", None, None),
        ("8:30", None, None),
        ("08:60", None, None),
        ("08:30:00", None, None),
        ("-1:30", None, None),
        ("٠٨:٣٠", None, None),
    ],
)
def test_clock_times(text: str, begin: int | None, end: int | None) -> None:
    """`HH:mm`; 24:00 is an end and no begin."""
    for rule, minutes in ((ClockTime("f"), begin), (ClockTime("f", ends=True), end)):
        if minutes is None:
            assert code(rule, text) == "0200030"
        else:
            assert rule.read({"f": text}) == minutes


def test_an_object_is_no_list_and_no_text() -> None:
    assert an_object({"a": 1}, "x") == {"a": 1}
    others: list[Any] = [None, [], "{}", 1, True]
    for value in others:
        with pytest.raises(Refusal, match=r"^02000006: x: must be an object"):
            an_object(value, "x")
