"""The dial plan and the fields of trunks: what is dialed, what is allowed, what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outdial.model import Disposition, PrefixRule, Trunk
from outdial.routing import (
    Fault,
    allowed,
    check_caller,
    dial_string,
    fails_over,
    faults,
    name_fault,
    prefix_fault,
    refusal,
)

PLAIN = Trunk("plain", "192.0.2.1")


def ruled(*rules: tuple[str, str], **fields: Any) -> Trunk:
    return replace(PLAIN, prefix_rules=tuple(PrefixRule(*rule) for rule in rules), **fields)


# -- dial string -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "rules", "dialed"),
    [
        ("030123", (), "030123"),
        ("030123", (("0", "+49"),), "+4930123"),
        ("0041123", (("0", "+49"), ("00", "+")), "+41123"),  # the longest, whatever the order
        ("0041123", (("00", "+"), ("0", "+49")), "+41123"),
        ("123", (("", "9"),), "9123"),
        ("0123", (("", "9"), ("0", "")), "123"),
        ("*31#123", (("*31#", ""),), "123"),
        ("0000", (("0", ""),), "000"),  # once
        ("0", (("0", ""),), ""),
    ],
)
def test_the_longest_prefix_rule_makes_the_dial_string(
    called: str, rules: tuple[tuple[str, str], ...], dialed: str
) -> None:
    assert dial_string(called, ruled(*rules)) == dialed


# -- allowed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialed", "prefixes", "is_allowed"),
    [
        ("+4930123", (), False),  # nothing, until something is allowed
        ("+4930123", ("+49",), True),
        ("4930123", ("+49",), False),  # as it stands
        ("+4930123", ("49", "0049"), False),
        ("+49", ("+493",), False),
        ("#21#1", ("#21",), True),
        ("123", ("*",), False),  # a star is a key of the telephone, not a pattern
        ("*123", ("*",), True),
        ("123", ("any",), True),
        ("", ("any",), False),
    ],
)
def test_a_destination_is_allowed_by_its_first_characters(
    dialed: str, prefixes: tuple[str, ...], is_allowed: bool
) -> None:
    assert allowed(dialed, prefixes) is is_allowed


@pytest.mark.parametrize("hostile", ["1\r\nX: y", "1@x", "1;x=y", "1 2", "١٢", "1\n", "1&2", "1<2"])
def test_what_could_end_a_header_is_never_allowed_nor_sent_as_caller(hostile: str) -> None:
    assert not allowed(hostile, ("any", "1"))
    assert not check_caller(hostile)


@given(st.text(max_size=24))
def test_a_caller_is_sent_only_if_it_is_digits_star_hash_plus(caller: str) -> None:
    assert check_caller(caller) == (bool(caller) and set(caller) <= set("0123456789*#+"))


# -- refusal ---------------------------------------------------------------------------------------------


def test_a_number_that_no_trunk_may_dial_is_not_allowed() -> None:
    """Judged on the final dial string: a rule can make a number allowed, and another forbidden."""
    abroad = ruled(("00", "+"))
    assert refusal("00491", "1", [abroad], ["+49"]) is None
    assert refusal("00491", "1", [PLAIN], ["+49"]) is Disposition.NOT_ALLOWED
    assert refusal("491", "1", [ruled(("4", "+881"))], ["49"]) is Disposition.NOT_ALLOWED
    assert refusal("00491", "1", [PLAIN, abroad], ["+49"]) is None
    assert refusal("00491", "1", [PLAIN], []) is Disposition.NOT_ALLOWED


def test_a_trunk_that_may_come_back_ends_no_number() -> None:
    assert refusal("491", "1", [replace(PLAIN, enabled=False)], ["49"]) is None
    assert refusal("491", "1", [], []) is None


def test_a_caller_that_cannot_be_sent_ends_the_number_unless_every_trunk_replaces_it() -> None:
    fixed = replace(PLAIN, caller_id="+4930")
    assert refusal("491", "Sales", [PLAIN], ["49"]) is Disposition.BAD_CALLER
    assert refusal("491", "Sales", [fixed, PLAIN], ["49"]) is Disposition.BAD_CALLER
    assert refusal("491", "Sales", [fixed], ["49"]) is None
    assert refusal("491", "", [], ["49"]) is Disposition.BAD_CALLER


@given(
    called=st.text("0123456789*#", min_size=1, max_size=24),
    rules=st.dictionaries(st.text("0123*#", max_size=3), st.text("0129+*", max_size=4), max_size=4),
    prefixes=st.lists(st.text("0129+*#", min_size=1, max_size=3), max_size=3),
)
def test_no_rule_turns_an_allowed_number_into_a_forbidden_one(
    called: str, rules: dict[str, str], prefixes: list[str]
) -> None:
    trunk = ruled(*rules.items())
    refused = refusal(called, "1", [trunk], prefixes) is Disposition.NOT_ALLOWED
    assert refused == (not dial_string(called, trunk).startswith(tuple(prefixes)))


# -- fails over ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "rang", "local", "over"),
    [
        (408, False, False, True),
        (500, False, False, True),
        (503, False, False, True),
        (599, False, False, True),
        (408, False, True, True),
        (503, False, True, True),
        (486, False, False, False),
        (404, False, False, False),
        (401, False, False, True),
        (407, False, False, True),
        (403, False, False, False),
        (603, False, False, False),
        (503, True, False, False),
        (407, True, False, False),
        (408, True, True, False),
    ],
)
def test_only_a_word_about_the_trunk_before_a_ring_leads_to_another_one(
    status: int, rang: bool, local: bool, over: bool
) -> None:
    assert fails_over(status, rang, local) is over


# -- fields ----------------------------------------------------------------------------------------------

GOOD: list[tuple[str, list[Any]]] = [
    ("name", ["a", "0", "carrier-1", "a" * 32]),
    ("host", ["a", "sip.example.com", "a-b.example", "192.0.2.1", "2001:db8::1", "::1", "x" * 63 + ".de"]),
    ("port", [None, 1, 5060, 65_535]),
    ("transport", ["udp", "tcp", "tls"]),
    ("group", ["default", "b2"]),
    ("position", [1, 100]),
    ("weight", [1, 100]),
    ("outbound_proxy", [None, "sbc.example", "192.0.2.1:5060", "[2001:db8::1]", "[2001:db8::1]:5062"]),
    ("caller_id", [None, "+4930123", "1", "*#"]),
    ("from_domain", [None, "example.com"]),
    ("max_cps", [0.1, 2.5, 1000]),
    ("max_channels", [1, 10_000]),
    ("max_minutes", [None, 1, 10_000_000]),
    ("timer_b", [0.5, 32]),
    ("ping_every", [0, 5, 3600]),
]
BAD: list[tuple[str, list[Any]]] = [
    ("name", ["", "-a", "A", "a_b", "a.b", "a" * 33, "ä", "a\n"]),
    ("host", ["", ".", "a.", "-a", "a-", "a_b", "a b", "a\r\nb", "1.2.3", "256.1.1.1", "1.2.3.4.5"]),
    ("host", ["[::1]", "::1%eth0", ":::1", "a:5060", "x" * 64, "a.b" * 100, "sip:a", "a;b", "ä.de"]),
    ("port", [0, -1, 65_536]),
    ("transport", ["", "UDP", "sctp", "ws"]),
    ("group", ["", "A"]),
    ("position", [0, 101]),
    ("weight", [0, 101]),
    (
        "outbound_proxy",
        ["", "a:", "a:0", "a:65536", "a:x", "::1", "[::1", "[::1]:", "[a]", "a:1:2", "[::1]x"],
    ),
    ("caller_id", ["", "Sales", "1 2", "1" * 33, "1\n"]),
    ("from_domain", ["", "a@b", "[::1]"]),
    ("max_cps", [0, 0.09, 1001, -1, nan, inf]),
    ("max_channels", [0, 10_001]),
    ("max_minutes", [0, 10_000_001]),
    ("timer_b", [0.4, 33, nan]),
    ("ping_every", [-1, 4, 3601]),
]


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in GOOD for v in values])
def test_a_good_value_is_taken(field: str, value: Any) -> None:
    assert faults(replace(PLAIN, **{field: value})) == []


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BAD for v in values])
def test_a_bad_value_is_refused_by_its_field(field: str, value: Any) -> None:
    found = faults(replace(PLAIN, **{field: value}))
    assert [fault.field for fault in found] == [field]


def test_a_login_is_whole_or_absent() -> None:
    login = replace(PLAIN, username="u@example.com", password="p", registers=True)
    assert faults(login) == []
    assert faults(replace(login, password="")) == []  # the one that is stored
    assert faults(replace(login, password=None)) == [Fault("password", "is needed with a username")]
    assert {f.field for f in faults(replace(login, username=None))} == {"username", "registers"}
    assert {f.field for f in faults(replace(login, password="a\r\nb"))} == {"password"}
    for name in ("", "a b", "a>b", 'a"b', "a\r\n", "ä", "x" * 65):
        assert {f.field for f in faults(replace(login, username=name))} == {"username"}


@pytest.mark.parametrize(
    "rules",
    [
        (("0", "+49"), ("0", "+41")),
        (("+49", "0"),),
        (("x", "1"),),
        (("0", "x"),),
        (("0", "1;2"),),
        (("1" * 33, ""),),
        (("", "1" * 33),),
        tuple((str(n), "") for n in range(101)),
    ],
)
def test_bad_prefix_rules_are_refused(rules: tuple[tuple[str, str], ...]) -> None:
    assert {fault.field for fault in faults(ruled(*rules))} == {"prefix_rules"}


def test_good_prefix_rules_are_taken() -> None:
    assert faults(ruled(("", "9"), ("0", "+49"), ("00", "+"), ("*31#", ""))) == []


@pytest.mark.parametrize("prefix", ["1", "+49", "*#", "0" * 32, "any"])
def test_a_good_allowed_prefix(prefix: str) -> None:
    assert prefix_fault(prefix) is None


@pytest.mark.parametrize("prefix", ["", "Any", "all", "49x", "49 ", "49*?", "0" * 33, "any1"])
def test_a_bad_allowed_prefix(prefix: str) -> None:
    assert prefix_fault(prefix) is not None


def test_the_name_of_a_group_is_judged_like_that_of_a_trunk() -> None:
    assert name_fault("default") is None
    assert name_fault("Default") is not None
