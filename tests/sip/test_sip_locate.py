"""Where to send, from answers already looked up (RFC 3263, RFC 2782)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar

import pytest

from outdial.sip.locate import MAX_RECORDS, Naptr, Question, Record, Srv, Target, order, questions
from outdial.sip.words import Hop

Zone = Mapping[tuple[str, str], Sequence[Record]]


def resolve(target: Target, zone: Zone, seed: int = 1) -> tuple[list[Hop], list[list[tuple[str, str]]]]:
    """Ask until no question is left, as the endpoint does: the hops, and what was asked in each step."""
    answers: dict[Question, Sequence[Record]] = {}
    steps: list[list[tuple[str, str]]] = []
    while pending := questions(target, answers):
        steps.append([(question.kind, question.name) for question in pending])
        answers |= {question: zone.get((question.kind, question.name), ()) for question in pending}
        assert len(steps) < 5
    return order(target, answers, Random(seed)), steps


def hops(target: Target, zone: Zone, seed: int = 1) -> list[tuple[str, str, int]]:
    return [(hop.transport, hop.host, hop.port) for hop in resolve(target, zone, seed)[0]]


class TestNoSrv:
    """RFC 3263 §4.2."""

    @pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
    def test_an_address_is_not_looked_up(self, host: str) -> None:
        assert resolve(Target(host), {}) == ([Hop("udp", host, 5060)], [])
        assert hops(Target(host, None, "tls"), {}) == [("tls", host, 5061)]
        assert hops(Target(host, 7, "tcp"), {}) == [("tcp", host, 7)]

    def test_a_port_means_addresses_alone(self) -> None:
        zone: Zone = {("A", "a.example"): ["192.0.2.1", "192.0.2.2"], ("AAAA", "a.example"): ["2001:db8::1"]}
        found, steps = resolve(Target("a.example", 5070, "tcp"), zone)
        assert steps == [[("A", "a.example"), ("AAAA", "a.example")]]
        assert found == [Hop("tcp", host, 5070) for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
        assert hops(Target("a.example", 5070, "tcp", ("AAAA",)), zone) == [("tcp", "2001:db8::1", 5070)]
        assert hops(Target("b.example", 5070), zone) == []

    @pytest.mark.parametrize(
        ("transport", "asked", "hop"),
        [
            ("udp", "_sip._udp.a.example", ("udp", "192.0.2.1", 5060)),
            ("tcp", "_sip._tcp.a.example", ("tcp", "192.0.2.1", 5060)),
            ("tls", "_sips._tcp.a.example", ("tls", "192.0.2.1", 5061)),
        ],
    )
    def test_no_srv_record(self, transport: str, asked: str, hop: tuple[str, str, int]) -> None:
        """Then the name's own addresses, at the default port."""
        target = Target("a.example", None, transport, ("A",))
        found, steps = resolve(target, {("A", "a.example"): ["192.0.2.1"]})
        assert steps == [[("SRV", asked)], [("A", "a.example")]]
        assert [(one.transport, one.host, one.port) for one in found] == [hop]


class TestSrv:
    ZONE: ClassVar[Zone] = {
        ("SRV", "_sip._udp.a.example"): [
            Srv(20, 0, 5062, "Backup.example."),
            Srv(10, 0, 5060, "main.example."),
            Srv(30, 0, 5064, "192.0.2.9"),
        ],
        ("A", "main.example"): ["192.0.2.1"],
        ("AAAA", "main.example"): ["2001:db8::1"],
        ("A", "backup.example"): ["192.0.2.2"],
        ("A", "a.example"): ["192.0.2.99"],
    }

    def test_priorities_ascend(self) -> None:
        """Each target with its own port and all its addresses; the name's own address is not among them."""
        found, steps = resolve(Target("a.example", None, "udp"), self.ZONE)
        assert found == [
            Hop("udp", "192.0.2.1", 5060),
            Hop("udp", "2001:db8::1", 5060),
            Hop("udp", "192.0.2.2", 5062),
            Hop("udp", "192.0.2.9", 5064),
        ]
        assert steps[1] == [
            ("A", "main.example"),
            ("AAAA", "main.example"),
            ("A", "backup.example"),
            ("AAAA", "backup.example"),
        ]

    def test_a_dot_says_no(self) -> None:
        """RFC 2782: the service is decidedly not there, and the name's addresses are not tried."""
        zone = {**self.ZONE, ("SRV", "_sip._udp.a.example"): [Srv(0, 0, 0, ".")]}
        answers = {Question(*key): records for key, records in zone.items()}
        assert order(Target("a.example", None, "udp"), answers, Random(1)) == []

    def test_a_hop_is_tried_once(self) -> None:
        """Where two records name the same."""
        records = [Srv(1, 0, 5060, "192.0.2.1"), Srv(2, 0, 5060, "192.0.2.1"), Srv(3, 0, 5061, "192.0.2.1")]
        zone: Zone = {("SRV", "_sip._udp.a.example"): records}
        assert [port for _, _, port in hops(Target("a.example", None, "udp"), zone)] == [5060, 5061]

    def test_weights(self) -> None:
        """First place in proportion to the weight; seldom one of weight 0; the same seed, the same order."""
        records = [Srv(1, 60, 1, "192.0.2.1"), Srv(1, 30, 2, "192.0.2.2"), Srv(1, 10, 3, "192.0.2.3")]
        records += [Srv(1, 0, 4, "192.0.2.4"), Srv(0, 0, 9, "192.0.2.9")]
        zone: Zone = {("SRV", "_sip._udp.a.example"): records}
        target = Target("a.example", None, "udp")
        orders = [[port for _, _, port in hops(target, zone, seed)] for seed in range(5000)]
        assert all(ports[0] == 9 and sorted(ports) == [1, 2, 3, 4, 9] for ports in orders)
        first = Counter(ports[1] for ports in orders)
        assert 2800 < first[1] < 3150
        assert 1350 < first[2] < 1650
        assert 400 < first[3] < 600
        assert 20 < first[4] < 90  # 1 in 101
        assert hops(target, zone, 3) == hops(target, zone, 3)

    def test_as_many_as_count(self) -> None:
        records = [Srv(place, 0, 5060, f"h{place}.example") for place in range(MAX_RECORDS + 5)]
        _, steps = resolve(
            Target("a.example", None, "udp", ("A",)), {("SRV", "_sip._udp.a.example"): records}
        )
        assert len(steps[1]) == MAX_RECORDS


class TestNaptr:
    """RFC 3263 §4.1."""

    ZONE: ClassVar[Zone] = {
        ("NAPTR", "a.example"): [
            Naptr(50, 90, "SIP+D2U", "_sip._udp.other.example."),
            Naptr(50, 50, "SIPS+D2T", "_sips._tcp.a.example"),
            Naptr(40, 99, "sip+d2t", "_sip._tcp.a.example"),
            Naptr(10, 10, "E2U+sip", "x.example"),
        ],
        ("SRV", "_sips._tcp.a.example"): [Srv(1, 1, 5061, "192.0.2.1")],
        ("SRV", "_sip._tcp.a.example"): [Srv(1, 1, 5060, "192.0.2.2")],
        ("SRV", "_sip._udp.other.example"): [Srv(1, 1, 5060, "192.0.2.3")],
    }

    def test_order_then_preference(self) -> None:
        found, steps = resolve(Target("a.example"), self.ZONE)
        assert steps == [
            [("NAPTR", "a.example")],
            [
                ("SRV", "_sip._tcp.a.example"),
                ("SRV", "_sips._tcp.a.example"),
                ("SRV", "_sip._udp.other.example"),
            ],
        ]
        assert [(hop.transport, hop.host) for hop in found] == [
            ("tcp", "192.0.2.2"),
            ("tls", "192.0.2.1"),
            ("udp", "192.0.2.3"),
        ]

    def test_none(self) -> None:
        """Then SRV of every transport, UDP first."""
        zone = {key: value for key, value in self.ZONE.items() if key[0] != "NAPTR"}
        found, steps = resolve(Target("a.example"), zone)
        assert steps[1] == [
            ("SRV", "_sip._udp.a.example"),
            ("SRV", "_sip._tcp.a.example"),
            ("SRV", "_sips._tcp.a.example"),
        ]
        assert [hop.transport for hop in found] == ["tcp", "tls"]

    def test_nothing_but_an_address(self) -> None:
        zone: Zone = {("A", "a.example"): ["192.0.2.1"]}
        assert hops(Target("a.example"), zone) == [("udp", "192.0.2.1", 5060)]

    def test_a_named_transport_is_kept(self) -> None:
        """NAPTR is not asked for what the trunk has decided."""
        _, steps = resolve(Target("a.example", None, "tcp"), self.ZONE)
        assert steps == [[("SRV", "_sip._tcp.a.example")]]
