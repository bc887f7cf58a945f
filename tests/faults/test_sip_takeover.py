"""G4 over SIP: an engine at another address takes over from a dead one, and ends its calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import SECRET, CarrierLog, receiving, rows, start_campaign
from engines import engines
from evidence import evidence
from serving import make_vdn, wait_for
from trunks import all_over, attempts_open, connect, far_end, over_sip

from outdial.store.sealing import create_master_key
from ports import free_port

RELEASED_WITHIN = 5.0
"""Seconds after a server at another address has taken over in which no call of the dead one is left."""

CALLS = 20
RINGS, TALKS = "04", "01"


def under_way(dsn: str, log: CarrierLog) -> bool:
    """Whether half of the calls ring and the others talk."""
    talking = "SELECT count(*) AS n FROM attempt WHERE answered_at IS NOT NULL AND ended_at IS NULL"
    return log.look().placed == CALLS and rows(dsn, talking)[0]["n"] == CALLS // 2


def takes_over(dsn: str, place: Path, transport: str, source: Path | None = None) -> None:
    """An engine dies on 127.0.0.2 with calls under way; the next ones have addresses of their own."""
    create_master_key(place / "data")
    make_vdn(dsn, place / "data", SECRET)
    far_port = free_port()
    connect(dsn, far_port, transport=transport)
    with (
        receiving(place) as receiver,
        far_end(place, far_port, transport=transport, ring=0.3, talk=300.0) as log,
        engines(dsn, place, source=source, sip=True) as around,
    ):
        around.pusher()
        around.address = over_sip("127.0.0.2")
        dead = around.engine()
        start_campaign(dsn, CALLS, receiver.url, per_second=CALLS, endings=(RINGS, TALKS), rings=60)
        wait_for(
            lambda: under_way(dsn, log), 30, lambda: dead.said() + log.path.read_text()[:3000], every=0.1
        )
        in_flight = attempts_open(dsn)
        dead.close()
        around.address = over_sip("127.0.0.3")
        heir = around.engine()
        wait_for(lambda: "attempts adopted" in heir.said(), 20, heir.said)
        took = wait_for(
            lambda: not log.look().alive, RELEASED_WITHIN, lambda: f"{len(log.alive)} calls stay open"
        )
        counts = {"calls_in_flight": len(in_flight), "all_over_after": round(took, 2)}
        evidence({"calls_in_flight": CALLS}, transport=transport, **counts)
        all_over(dsn, log, receiver, in_flight)
    assert ended_by(log) == {"caller": CALLS}


def ended_by(log: CarrierLog) -> dict[str, int]:
    """Which side ended the calls, by the far end's log."""
    ends: dict[str, int] = {}
    for line in map(json.loads, log.path.read_text().splitlines()):
        if line.get("event") == "ended":
            ends[line["by"]] = ends.get(line["by"], 0) + 1
    return ends


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_server_at_another_address_ends_the_calls_of_a_dead_one(
    database: str, place: Path, transport: str
) -> None:
    """What rings is cancelled in the dead one's name: by branch and sent-by (RFC 3261 §17.2.3)."""
    takes_over(database, place, transport)
