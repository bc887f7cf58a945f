"""The one JSON decoder for everything that comes in: a signature and a rule must see the same value.

Refused besides bad syntax: bytes that are not UTF-8, a duplicate key, NaN and Infinity, a lone surrogate,
nesting that is too deep (semantics.md §2).
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_OVERESCAPED = re.compile(r'\\(["\\])')


class NotJson(ValueError):
    """The text is not JSON as this interface takes it; the message says why, without the text."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("a key occurs twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
_decode_plain = msgspec.json.Decoder().decode


def decode(data: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises `NotJson`.

    msgspec takes a third of the time, but takes duplicate keys too. Its value is taken where it holds as many
    members as the text has colons: so many the text has at most, and a duplicate would be missing. All else
    is for the strict decoder, a text with escapes at once: in call data it has colons of its own.
    """
    if b"\\" not in data:
        try:
            value = _decode_plain(data)
        except (ValueError, RecursionError):  # msgspec's errors and bad UTF-8; the strict decoder says why
            return _decode_strictly(data)
        if _members(value) == data.count(b":"):
            return value
    return _decode_strictly(data)


def _members(value: Any) -> int:
    """Members of an object and of the objects in its lists; those further down are not counted."""
    if type(value) is not dict:
        return 0
    lists = [inner for inner in value.values() if type(inner) is list]
    return len(value) + sum([len(item) for inner in lists for item in inner if type(item) is dict])


def _decode_strictly(data: bytes) -> Any:
    try:
        return decode_text(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from error


def decode_text(text: str) -> Any:
    """The value of a JSON text. Raises `NotJson`."""
    try:
        value = _decoder.decode(text)
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at line {error.lineno} column {error.colno}") from error
    except UnicodeEncodeError as error:
        raise NotJson("a surrogate stands alone") from error
    except RecursionError as error:
        raise NotJson("nested too deep") from error
    except ValueError as error:
        raise NotJson("a number is too long") from error
    return value


def object_of(text: str) -> dict[str, Any] | None:
    r"""The object that call data is JSON text of, or None.

    Text that was escaped once too often, as in the contract's example, is unescaped before it is judged:
    `\"` becomes `"` and `\\` becomes `\`, once, left to right (semantics.md §3).
    """
    for candidate in (text, _OVERESCAPED.sub(r"\1", text)):
        try:
            value = decode_text(candidate)
        except NotJson:
            continue
        return value if isinstance(value, dict) else None
    return None


def is_object(text: str) -> bool:
    """Whether call data is JSON text of an object, as `object_of` reads it."""
    return object_of(text) is not None
