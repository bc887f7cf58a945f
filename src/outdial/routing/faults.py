"""What the fields of a trunk, the name of a group and an allowed prefix may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

from outdial.model import Trunk
from outdial.routing.rules import EVERYTHING

TRANSPORTS: Final = ("udp", "tcp", "tls")

LONGEST_NUMBER: Final = 32
"""Characters of a prefix, of its replacement and of a calling number."""

MAX_PREFIX_RULES: Final = 100

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_USERNAME: Final = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/%@-]{1,64}")
_NUMBER: Final = re.compile(rf"[0-9*#+]{{1,{LONGEST_NUMBER}}}")
_PREFIX: Final = re.compile(rf"[0-9*#]{{0,{LONGEST_NUMBER}}}")
_REPLACEMENT: Final = re.compile(rf"[0-9*#+]{{0,{LONGEST_NUMBER}}}")


class Fault(NamedTuple):
    """A field of `Trunk` and what it must be."""

    field: str
    rule: str


def faults(trunk: Trunk) -> list[Fault]:
    """Everything that is wrong with a trunk; empty when it can be stored.

    A password that is "" stands for the one that is stored already.
    """
    return [*_field_faults(trunk), *_login_faults(trunk), *_prefix_faults(trunk)]


def name_fault(name: str) -> str | None:
    """What a name of a trunk or of a trunk group must be, or None when it is that."""
    return None if _NAME.fullmatch(name) else "must be 1 to 32 of a-z, 0-9 and '-', and not begin with '-'"


def prefix_fault(prefix: str) -> str | None:
    """What a prefix of allowed destinations must be, or None when it is that."""
    if prefix == EVERYTHING or _NUMBER.fullmatch(prefix):
        return None
    return f"must be 1 to {LONGEST_NUMBER} of 0-9, '*', '#' and '+', or the word {EVERYTHING}"


def is_host(text: str) -> bool:
    """A DNS name (RFC 1123 §2.1), an IPv4 literal, or an IPv6 literal without brackets and zone."""
    if ":" in text:
        return "%" not in text and _parses(IPv6Address, text)
    if text.rpartition(".")[2].isdigit():  # as every reader of URIs takes it: an address, or nothing
        return _parses(IPv4Address, text)
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def is_proxy(text: str) -> bool:
    """`host` or `host:port`; an IPv6 literal stands in brackets (RFC 3261 §25.1, hostport)."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", text)
    if bracketed:
        return ":" in bracketed[1] and is_host(bracketed[1]) and _is_port(bracketed[2])
    host, colon, port = text.partition(":")
    return ":" not in port and is_host(host) and _is_port(port if colon else None)


def _is_port(text: str | None) -> bool:
    return text is None or (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535)


def _parses(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True


def _within(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= high, f"must be {low:g} to {high:g}"


_HOST = "must be a name, an IPv4 literal, or an IPv6 literal without brackets"
_DIGITS = f"must be 1 to {LONGEST_NUMBER} of 0-9, '*', '#' and '+'"

_FIELDS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "host": (is_host, _HOST),
    "port": _within(1, 65_535),
    "transport": (TRANSPORTS.__contains__, f"must be one of {', '.join(TRANSPORTS)}"),
    "position": _within(1, 100),
    "weight": _within(1, 100),
    "outbound_proxy": (is_proxy, "must be HOST or HOST:PORT; an IPv6 literal in brackets"),
    "username": (
        lambda value: _USERNAME.fullmatch(value) is not None,
        "must be 1 to 64 characters that a SIP URI may hold (RFC 3261 §25.1, user)",
    ),
    "password": (
        lambda value: len(value) <= 128 and value.isprintable(),
        "must be at most 128 printable characters",
    ),
    "caller_id": (lambda value: _NUMBER.fullmatch(value) is not None, _DIGITS),
    "from_domain": (is_host, _HOST),
    "max_cps": _within(0.1, 1000),
    "max_channels": _within(1, 10_000),
    "max_minutes": _within(1, 10_000_000),
    "timer_b": _within(0.5, 32),
    "ping_every": (lambda value: value == 0 or 5 <= value <= 3600, "must be 5 to 3600 seconds, or 0: never"),
}
"""Field of `Trunk` -> what its value must pass, and that in words. A value of None passes."""


def _field_faults(trunk: Trunk) -> Iterator[Fault]:
    for field in ("name", "group"):
        if (rule := name_fault(getattr(trunk, field))) is not None:
            yield Fault(field, rule)
    for field, (passes, rule) in _FIELDS.items():
        value = getattr(trunk, field)
        if value is not None and not passes(value):
            yield Fault(field, rule)


def _login_faults(trunk: Trunk) -> Iterator[Fault]:
    if trunk.username is not None and trunk.password is None:
        yield Fault("password", "is needed with a username")
    if trunk.username is None and trunk.password is not None:
        yield Fault("username", "is needed with a password")
    if trunk.registers and trunk.username is None:
        yield Fault("registers", "needs a username and a password")


def _prefix_faults(trunk: Trunk) -> Iterator[Fault]:
    prefixes = [rule.prefix for rule in trunk.prefix_rules]
    if len(prefixes) > MAX_PREFIX_RULES:
        yield Fault("prefix_rules", f"must be at most {MAX_PREFIX_RULES}")
    if len(set(prefixes)) < len(prefixes):
        yield Fault("prefix_rules", "must not have the same prefix twice")
    if not all(_PREFIX.fullmatch(prefix) for prefix in prefixes):
        yield Fault("prefix_rules", f"a prefix must be at most {LONGEST_NUMBER} of 0-9, '*' and '#'")
    if not all(_REPLACEMENT.fullmatch(rule.replacement) for rule in trunk.prefix_rules):
        yield Fault(
            "prefix_rules", f"a replacement must be at most {LONGEST_NUMBER} of 0-9, '*', '#' and '+'"
        )
