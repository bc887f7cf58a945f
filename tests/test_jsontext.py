"""The one JSON decoder: what it takes, what it refuses, and call data that was escaped once too often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outdial import jsontext
from outdial.jsontext import NotJson, decode, decode_text, is_object

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_every_value_comes_back(value: Any, ascii_only: bool) -> None:
    """Written as UTF-8 or in escapes."""
    assert decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_not_json(data: bytes) -> None:
    """No other error ever leaves, and a value is what the standard decoder sees."""
    try:
        value = decode(data)
    except NotJson:
        return
    assert json.dumps(value) == json.dumps(json.loads(data.decode()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1 column 1"),
        ("{", "line 1 column 2"),
        ('{"a":1,}', "line 1 column"),
        ("[1]]", "Extra data"),
        ("NaN", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ('[{"a":1,"a":2}]', "a key occurs twice"),
        ('{"a":1,"\\u0061":2}', "a key occurs twice"),
        ('"\\ud800"', "a surrogate stands alone"),
        ('"\\udc00\\ud800"', "a surrogate stands alone"),
        ('{"\\uDFFF":1}', "a surrogate stands alone"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "a number is too long"),
        ('"\t"', "Invalid control character"),
        ("\ufeff{}", "BOM|line 1 column 1"),
    ],
)
def test_what_is_not_json(text: str, reason: str) -> None:
    """The reason names the place or the rule."""
    with pytest.raises(NotJson, match=reason):
        decode_text(text)


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"', b'"\xc0\x80"', '"é"'.encode("latin-1")])
def test_what_is_not_utf_8(data: bytes) -> None:
    with pytest.raises(NotJson, match="not UTF-8 at byte"):
        decode(data)


# -- the quick decoder -----------------------------------------------------------------------------------


CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "json-parsing"
"""The shared corpus, when it lies beside the checkout."""


def strictly(data: bytes) -> str:
    """What the strict decoder says, in a form that tells 1 from 1.0 and 0.0 from -0.0."""
    try:
        return repr(jsontext._decode_strictly(data))
    except NotJson as error:
        return f"NotJson: {error}"


def quickly(data: bytes) -> str:
    try:
        return repr(decode(data))
    except NotJson as error:
        return f"NotJson: {error}"


TEXTS = st.recursive(
    st.sampled_from(
        ["null", "true", "-0", "0", "-0.0", "1e999", "-1E-999", "0.1", "1e5", "18446744073709551616"]
    )
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(2**70), 2**70).map(str)
    | st.sampled_from(['""', '"a"', '"a:b"', '":"', '"é"', '"\\u003a"', '"\\ud800"', "NaN", "1.", "01"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(
            st.tuples(st.sampled_from(['"a"', '"b" ', '"a:"', '"\\u0061"', '""']), inner), max_size=4
        ).map(lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}")
    ),
    max_leaves=10,
)


@settings(max_examples=1000)
@given(TEXTS)
def test_the_quick_decoder_says_what_the_strict_one_says(text: str) -> None:
    """Values, duplicates at any depth, numbers at their limits, faults and their reasons."""
    for data in (text.encode(), f'{{"list":[{text}]}}'.encode(), f'{{"list":{text}}} '.encode()):
        assert quickly(data) == strictly(data)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"list":[{"a":1,"a":1}]}',
        '{"list":[{"a":1},{"b":{"c":1,"c":1}}]}',
        '{"list":[[{"c":1,"c":1}]],"x":":"}',
        '{"list":[{"a":1,"a":{"b":2}}],"c:d":":"}',
        '{"a" :1,"b"\t:2,"a":3}',
        '{"a":":::","a":1}',
        '{"a":"' + ":" * 20 + '","a":1}',
        '[{"a":1,"a":2}]',
    ],
)
def test_a_key_that_occurs_twice_is_never_taken_quickly(text: str) -> None:
    """Wherever it stands, and however many colons stand in texts."""
    with pytest.raises(NotJson, match="a key occurs twice"):
        decode(text.encode())


def test_a_plain_add_is_taken_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the quick decoder would be there in vain."""
    monkeypatch.setattr(jsontext, "_decode_strictly", lambda _: pytest.fail("decoded strictly"))
    body = {"callDataList": [{"sessionId": str(n), "called": "1380", "customField": "é"} for n in range(20)]}
    assert decode(json.dumps(body, ensure_ascii=False).encode()) == body
    assert decode(json.dumps(body, ensure_ascii=False, indent=1).encode()) == body


@pytest.mark.skipif(not CORPUS.exists(), reason="there is no ../shared beside this checkout")
def test_both_decoders_agree_on_the_corpus() -> None:
    files = sorted(CORPUS.glob("*.json"))
    assert len(files) == 318
    for path in files:
        data = path.read_bytes()
        assert quickly(data) == strictly(data), path.name


def test_no_reason_repeats_the_text() -> None:
    """Bodies stay out of the log (house rules)."""
    for text in ('{"called":"13800000000"', '{"13800000000":1,"13800000000":2}', '["13800000000",NaN]'):
        with pytest.raises(NotJson) as caught:
            decode_text(text)
        assert "1380" not in str(caught.value)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert decode_text('"\\ud83d\\ude00"') == "😀"
    assert decode_text('"\\\\ud800"') == "\\ud800", "an escaped backslash, no escape"


def test_numbers_and_duplicates_in_different_objects_are_no_matter() -> None:
    assert decode_text('[{"a":1},{"a":1},{"b":{"a":2}}]') == [{"a": 1}, {"a": 1}, {"b": {"a": 2}}]
    assert decode_text("[1e999,-0,1.0,10]")[1:] == [0, 1.0, 10]


# -- call data -------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4))
def test_an_object_is_one_as_it_is_and_escaped_once_too_often(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert is_object(text)
    assert is_object(text.replace("\\", "\\\\").replace('"', '\\"'))


@given(VALUES.filter(lambda value: not isinstance(value, dict)))
def test_another_value_is_none(value: Any) -> None:
    text = json.dumps(value)
    assert not is_object(text)
    assert not is_object(text.replace("\\", "\\\\").replace('"', '\\"'))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "}",
        "text",
        '{"a":1}}',
        r"{\"a\":1}}",
        r"{\\\"a\\\":1}",
        '{"a":1,"a":1}',
        r"{\"a\":1,\"a\":1}",
        '{"a":NaN}',
        '{"a":"\\ud800"}',
    ],
)
def test_text_that_is_no_object(text: str) -> None:
    """One `}` too many, escaped twice too often, or refused by the decoder."""
    assert not is_object(text)
