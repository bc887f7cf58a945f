"""The answer of every interface: both pairs of code and description (contract, Table 5)."""

from __future__ import annotations

from typing import Any

import msgspec

from outdial.errors import Code, Refusal

_encode = msgspec.json.Encoder().encode


def success(description: str = "", **parts: Any) -> bytes:
    """A success with its parts (`returnObject`, `data`, ...)."""
    answer: bytes = _encode(_pairs(Code.OK.wire, description) | parts)
    return answer


def refusal(refused: Refusal) -> bytes:
    """A refusal: code and detail, no `returnObject`."""
    answer: bytes = _encode(_pairs(refused.code.wire, refused.detail))
    return answer


def _pairs(code: str, description: str) -> dict[str, Any]:
    return {
        "resultCode": code,
        "resultDesc": description,
        "returnCode": code,
        "returnDesc": description,
    }
