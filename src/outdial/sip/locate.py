"""Where to send, in the order to try: NAPTR, SRV and addresses (RFC 3263 §4, RFC 2782).

Pure: `questions` says what is still to be looked up, `order` what follows from the answers. The endpoint
asks, keeps the answers as long as their TTL allows, and goes on until no question is left:

    while pending := questions(target, answers):
        for question in pending:
            answers[question] = ...  # () where there is no such record
    hops = order(target, answers, random.Random())
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from outdial.sip.words import Hop

MAX_RECORDS: Final = 16
"""Records of one answer that count, those to be tried first."""

_SERVICES: Final = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
_PREFIXES: Final = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}
"""The transports in the order of our liking, with the name before the domain in an SRV question."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a trunk names. Without `transport`, NAPTR and SRV choose; without `port`, SRV does.

    `families` are the kinds of address that we can send to, in the order to try them.
    """

    host: str
    port: int | None = None
    transport: str | None = None
    families: tuple[str, ...] = ("A", "AAAA")


@dataclass(frozen=True, slots=True)
class Question:
    """One look-up. `kind` is NAPTR, SRV, A or AAAA; `name` has no dot at its end."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Naptr:
    """A NAPTR record (RFC 3403 §4.1) with flag "s": `replacement` is the name of an SRV question."""

    order: int
    preference: int
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""An address is a string."""

Answers = Mapping[Question, Sequence[Record]]


@dataclass(frozen=True, slots=True)
class _Service:
    """An SRV name, and the transport that it stands for."""

    transport: str
    name: str


def questions(target: Target, answers: Answers) -> list[Question]:
    """What is to be looked up next, given the answers so far. Nothing left: `order` knows enough."""
    if _is_address(target.host):
        return []
    asked: list[Question] = []
    if target.port is None:
        if target.transport is None:
            asked.append(Question("NAPTR", target.host))
        if not _pending(asked, answers):
            asked += [Question("SRV", service.name) for service in _services(target, answers)]
        if not _pending(asked, answers):
            for name in _hosts(target, answers):
                asked += [Question(family, name) for family in target.families]
    else:
        asked += [Question(family, target.host) for family in target.families]
    return _pending(asked, answers)


def order(target: Target, answers: Answers, draw: Random) -> list[Hop]:
    """The hops to try, one after the other, each with an IP literal; empty where the name has none.

    Call it anew for every call: `draw` spreads the load over records of one priority by their weight.
    """
    if target.port is not None or _is_address(target.host):
        transport = target.transport or "udp"
        return _hops(transport, target.host, target.port or _default_port(transport), target, answers)
    found: list[Hop] = []
    for service in _services(target, answers):
        for record in _drawn(_srv(service.name, answers), draw):
            found += _hops(service.transport, _bare(record.target), record.port, target, answers)
    if not found and not _has_srv(target, answers):
        transport = target.transport or "udp"
        found = _hops(transport, target.host, _default_port(transport), target, answers)
    return list(dict.fromkeys(found))


def _services(target: Target, answers: Answers) -> list[_Service]:
    """The SRV names in the order to try: those of NAPTR, else the ones of RFC 3263 §4.1."""
    if target.transport is not None:
        return [_Service(target.transport, _PREFIXES[target.transport] + target.host)]
    records = [
        record
        for record in answers.get(Question("NAPTR", target.host), ())
        if isinstance(record, Naptr) and record.service.upper() in _SERVICES
    ]
    if not records:
        return [_Service(transport, prefix + target.host) for transport, prefix in _PREFIXES.items()]
    records.sort(key=lambda record: (record.order, record.preference))
    return [
        _Service(_SERVICES[record.service.upper()], _bare(record.replacement))
        for record in records[:MAX_RECORDS]
    ]


def _srv(name: str, answers: Answers) -> list[Srv]:
    """The usable SRV records of a name by priority. A target "." says: no such service (RFC 2782)."""
    records = [record for record in answers.get(Question("SRV", name), ()) if isinstance(record, Srv)]
    usable = [record for record in records if _bare(record.target) and 0 < record.port < 65536]
    return sorted(usable, key=lambda record: record.priority)[:MAX_RECORDS]


def _has_srv(target: Target, answers: Answers) -> bool:
    return any(answers.get(Question("SRV", service.name)) for service in _services(target, answers))


def _hosts(target: Target, answers: Answers) -> list[str]:
    """The names whose addresses are needed."""
    if not _has_srv(target, answers):
        return [target.host]
    records = [record for service in _services(target, answers) for record in _srv(service.name, answers)]
    names = dict.fromkeys(_bare(record.target) for record in records)
    return [name for name in names if not _is_address(name)]


def _drawn(records: list[Srv], draw: Random) -> list[Srv]:
    """Records by priority, within one by the drawing of RFC 2782 (§ "Usage rules", Weight)."""
    drawn: list[Srv] = []
    waiting = sorted(records, key=lambda record: (record.priority, record.weight > 0))
    while waiting:
        group = [record for record in waiting if record.priority == waiting[0].priority]
        mark = draw.randint(0, sum(record.weight for record in group))
        for record in group:
            mark -= record.weight
            if mark <= 0:
                break
        drawn.append(record)
        waiting.remove(record)
    return drawn


def _hops(transport: str, host: str, port: int, target: Target, answers: Answers) -> list[Hop]:
    if _is_address(host):
        return [Hop(transport, host, port)]
    return [
        Hop(transport, address, port)
        for family in target.families
        for address in answers.get(Question(family, host), ())[:MAX_RECORDS]
        if isinstance(address, str)
    ]


def _pending(asked: list[Question], answers: Answers) -> list[Question]:
    return [question for question in dict.fromkeys(asked) if question not in answers]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bare(name: str) -> str:
    return name.rstrip(".").lower()


def _default_port(transport: str) -> int:
    return 5061 if transport == "tls" else 5060
