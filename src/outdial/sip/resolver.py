"""Names to hops: the questions of `locate.py`, asked of the DNS and kept as long as their TTL allows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.resolver
import structlog

from outdial.sip import locate
from outdial.sip.locate import Naptr, Question, Record, Srv, Target
from outdial.sip.words import Hop

log = structlog.get_logger()

ABSENT_KEPT: Final = 30.0
SHORTEST_KEPT: Final = 1.0
LONGEST_KEPT: Final = 3600.0
"""Seconds: how long "no such record" is believed, and the bounds of a TTL."""

_ASK_WITHIN: Final = 3.0
_ROUNDS: Final = 4  # NAPTR, SRV, addresses: no name needs more


class Resolver:
    """Look-ups with a cache. An answer that has run out is used on while no name server answers."""

    def __init__(self, *, nameservers: Sequence[tuple[str, int]] = ()) -> None:
        """`nameservers` instead of the system's."""
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            self._resolver.nameservers = [host for host, _ in nameservers]
            self._resolver.nameserver_ports = dict(nameservers)
        self._resolver.lifetime = _ASK_WITHIN
        self._own = bool(nameservers)
        self._kept: dict[Question, tuple[float, tuple[Record, ...]]] = {}
        self._draw = Random()  # noqa: S311  # it spreads load

    async def locate(self, target: Target) -> list[Hop]:
        """The hops of a target in the order to try. Raises `LookupError` where nothing can be found out."""
        answers: dict[Question, Sequence[Record]] = {}
        for _ in range(_ROUNDS):
            pending = locate.questions(target, answers)
            if not pending:
                break
            found = await asyncio.gather(*(self._answer(question) for question in pending))
            answers.update(zip(pending, found, strict=True))
        hops = locate.order(target, answers, self._draw)
        if not hops:
            raise LookupError(f"{target.host}: no address found")
        return hops

    async def _answer(self, question: Question) -> tuple[Record, ...]:
        now = asyncio.get_running_loop().time()
        until, records = self._kept.get(question, (0.0, ()))
        if now < until:
            return records
        try:
            records, ttl = await self._ask(question)
        except dns.exception.DNSException as error:
            log.warning("name server", asked=question.kind, name=question.name, reason=type(error).__name__)
            return records
        self._kept[question] = (now + min(max(ttl, SHORTEST_KEPT), LONGEST_KEPT), records)
        return records

    async def _ask(self, question: Question) -> tuple[tuple[Record, ...], float]:
        try:
            answer = await self._resolver.resolve(question.name, question.kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return await self._from_system(question), ABSENT_KEPT
        assert answer.rrset is not None
        found = [_record(question.kind, item) for item in answer.rrset]
        return tuple(one for one in found if one is not None), float(answer.rrset.ttl)

    async def _from_system(self, question: Question) -> tuple[str, ...]:
        """An address that the DNS does not know, but the system does: its file of hosts."""
        if self._own or question.kind not in ("A", "AAAA"):
            return ()
        family = socket.AF_INET if question.kind == "A" else socket.AF_INET6
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                question.name, None, family=family, type=socket.SOCK_DGRAM
            )
        except OSError:
            return ()
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def _record(kind: str, item: Any) -> Record | None:
    if kind == "SRV":
        return Srv(item.priority, item.weight, item.port, item.target.to_text(omit_final_dot=True))
    if kind == "NAPTR":
        if item.flags.lower() != b"s":
            return None
        service = item.service.decode("ascii", "replace")
        return Naptr(item.order, item.preference, service, item.replacement.to_text(omit_final_dot=True))
    return str(item.address)
