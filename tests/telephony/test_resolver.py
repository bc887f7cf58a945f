"""Names to hops over a real name server: NAPTR, SRV, addresses, and the cache (RFC 3263, RFC 2782)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from outdial.sip.locate import Target
from outdial.sip.resolver import Resolver
from outdial.sip.words import Hop


class NameServer(asyncio.DatagramProtocol):
    """Answers from `zone`: (name, type) -> (ttl, records). Silent while `away`."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.away = False
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked[name, kind] += 1
        if self.away:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if (name, kind) in self.zone:
            ttl, records = self.zone[name, kind]
            answer.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", kind, *records))
        elif not any(name == known for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    yield protocol
    transport.close()


@pytest.fixture
def resolver(server: NameServer) -> Resolver:
    return Resolver(nameservers=[("127.0.0.1", server.port)])


async def test_srv_by_priority(server: NameServer, resolver: Resolver) -> None:
    """The smaller priority first; each target by its address and its own port."""
    server.zone = {
        ("_sip._udp.carrier.test", "SRV"): (60, ["20 1 5070 b.carrier.test.", "10 1 5080 a.carrier.test."]),
        ("a.carrier.test", "A"): (60, ["127.0.0.5"]),
        ("b.carrier.test", "A"): (60, ["127.0.0.6"]),
    }
    found = await resolver.locate(Target("carrier.test", None, "udp"))
    assert found == [Hop("udp", "127.0.0.5", 5080), Hop("udp", "127.0.0.6", 5070)]


async def test_naptr_chooses_the_transport(server: NameServer, resolver: Resolver) -> None:
    """RFC 3263 §4.1: by order, then preference."""
    server.zone = {
        ("carrier.test", "NAPTR"): (
            60,
            [
                '20 10 "s" "SIP+D2U" "" _sip._udp.carrier.test.',
                '10 10 "s" "SIPS+D2T" "" _sips._tcp.carrier.test.',
            ],
        ),
        ("_sips._tcp.carrier.test", "SRV"): (60, ["1 1 5061 t.carrier.test."]),
        ("_sip._udp.carrier.test", "SRV"): (60, ["1 1 5060 t.carrier.test."]),
        ("t.carrier.test", "A"): (60, ["127.0.0.7"]),
    }
    found = await resolver.locate(Target("carrier.test"))
    assert found[0] == Hop("tls", "127.0.0.7", 5061)
    assert found[-1] == Hop("udp", "127.0.0.7", 5060)


async def test_without_srv_the_name_itself(server: NameServer, resolver: Resolver) -> None:
    """RFC 3263 §4.2: A and AAAA at the port of the transport."""
    server.zone = {("plain.test", "A"): (60, ["127.0.0.8"]), ("plain.test", "AAAA"): (60, ["::1"])}
    assert await resolver.locate(Target("plain.test", None, "tls")) == [
        Hop("tls", "127.0.0.8", 5061),
        Hop("tls", "::1", 5061),
    ]


async def test_an_answer_is_kept_for_its_ttl_and_no_longer(server: NameServer, resolver: Resolver) -> None:
    """The second look-up asks nobody; after the TTL it does."""
    server.zone = {("plain.test", "A"): (1, ["127.0.0.8"])}
    target = Target("plain.test", 5060, "udp", families=("A",))
    await resolver.locate(target)
    await resolver.locate(target)
    assert server.asked["plain.test", "A"] == 1
    server.zone = {("plain.test", "A"): (1, ["127.0.0.9"])}
    async with asyncio.timeout(10):
        while await resolver.locate(target) != [Hop("udp", "127.0.0.9", 5060)]:
            await asyncio.sleep(0.1)
    assert server.asked["plain.test", "A"] == 2


async def test_a_name_server_that_is_away_takes_nothing_with_it(
    server: NameServer, resolver: Resolver
) -> None:
    """An answer that has run out is used on while nobody answers."""
    server.zone = {("plain.test", "A"): (1, ["127.0.0.8"])}
    target = Target("plain.test", 5060, "udp", families=("A",))
    before = await resolver.locate(target)
    server.away = True
    async with asyncio.timeout(20):
        while server.asked["plain.test", "A"] < 2:
            assert await resolver.locate(target) == before
            await asyncio.sleep(0.2)


async def test_a_name_that_nobody_knows(server: NameServer, resolver: Resolver) -> None:
    """An error that names it."""
    with pytest.raises(LookupError, match=r"nowhere\.test"):
        await resolver.locate(Target("nowhere.test", None, "udp"))


async def test_a_literal_is_not_asked_for(server: NameServer, resolver: Resolver) -> None:
    """IPv4 and IPv6."""
    assert await resolver.locate(Target("127.0.0.3", None, "udp")) == [Hop("udp", "127.0.0.3", 5060)]
    assert await resolver.locate(Target("::1", 5080, "tcp")) == [Hop("tcp", "::1", 5080)]
    assert not server.asked
