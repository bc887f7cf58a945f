"""Calls that talk go on while the api and the database are killed: the far end hears them out."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from calling import SECRET, CarrierLog, Receiver, all_ended, receiving, rows, start_campaign
from evidence import evidence
from serving import VDN, Process, Serve, Server, ready, wait_for
from trunks import connect, far_end, over_sip

from outdial import flow
from outdial.store.store import Store
from ports import free_port

CALLS = 10
PROMPT = 16.0
"""Seconds."""

LONGEST_GAP = 0.5
"""Seconds without a packet: what a busy machine takes. A request to a store that is away takes up to 5."""

RATE, PACKETS = 8000, 50
"""Samples, and packets, of a second."""

PLAYS = json.dumps(
    {"start": "say", "steps": {"say": {"play": {"prompts": "long"}, "next": "end"}, "end": {"hangup": {}}}}
)

Blow = Callable[[Server], None]


def with_a_long_prompt(dsn: str) -> None:
    """Every call of the VDN plays one prompt, and then we hang up."""

    async def work() -> None:
        async with Store(dsn, None, size=1) as store:
            await store.flows.add_prompt(VDN, "long", b"\x20\xa0" * int(PROMPT * RATE / 2))
            await store.flows.add(VDN, flow.DEFAULT_FLOW, PLAYS, {"long"})

    asyncio.run(work())


def survives(
    serve: Serve, blow: Blow, mend: Callable[[], None] = lambda: None, *, source: Path | None = None
) -> None:
    """All calls talk; then the blow falls; then the far end and the database are asked how they went.

    `mend` is done when all have ended.
    """
    far_port = free_port()
    server = serve(source=source, api_processes=2, **over_sip())
    server.make_vdn(secret=SECRET)
    folder = server.data.parent
    with receiving(folder) as receiver, far_end(folder, far_port, ring=0.2, talk=60.0) as log:
        with_a_long_prompt(server.dsn)
        connect(server.dsn, far_port)
        start_campaign(server.dsn, CALLS, receiver.url, per_second=CALLS, endings=("01",), rings=30)
        wait_for(lambda: len(answered(log)) == CALLS, 30, server.said, every=0.05)
        time.sleep(1.0)
        blow(server)
        assert not log.look().ended, "calls ended before the blow had fallen"
        wait_for(lambda: len(log.look().ended) == CALLS, PROMPT + 10, "calls go on", every=0.05)
        mend()
        judge(server, log, receiver)


def judge(server: Server, log: CarrierLog, receiver: Receiver) -> None:
    """Each call was heard whole and ended by us, and is a result with its times, once."""
    all_ended(server.dsn, log, receiver)
    begun, ends = answered(log), [line for line in lines(log) if line.get("event") == "ended"]
    talked = [moment(end) - begun[end["attempt"]] for end in ends]
    gaps, sounds = [end["gap"] for end in ends], [end["sounds"] for end in ends]
    evidence(
        {"calls": CALLS},
        calls=len(ends),
        talked=[round(min(talked), 2), round(max(talked), 2)],
        longest_gap=round(max(gaps), 3),
        fewest_packets=min(sounds),
    )
    assert {end["by"] for end in ends} == {"caller"}
    assert max(gaps) <= LONGEST_GAP, "the audio was interrupted"
    assert min(talked) >= PROMPT, "a BYE before the end of the prompt"
    assert max(talked) <= PROMPT + 2
    assert min(sounds) >= PROMPT * PACKETS * 0.98
    query = """SELECT disposition, extract(epoch FROM answered_at)::float8 AS answered,
                      extract(epoch FROM ended_at)::float8 AS ended, attempt_id::text AS id FROM attempt"""
    stored = {row["id"]: row for row in rows(server.dsn, query)}
    for end in ends:
        row = stored[end["attempt"]]
        assert row["disposition"] == "ANSWERED"
        assert abs(row["answered"] - begun[end["attempt"]]) < 0.5
        assert abs(row["ended"] - moment(end)) < 0.5
    assert len(receiver.pushes()) == CALLS, "not one push for each call"


def lines(log: CarrierLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def answered(log: CarrierLog) -> dict[str, float]:
    """When each call was answered, by the far end's clock."""
    return {one["attempt"]: moment(one) for one in lines(log) if one.get("event") == "answered"}


def moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


# -- the api -----------------------------------------------------------------------------------------------


def api_dies(server: Server) -> None:
    """All api processes, twice: killed, and ended as a restart does."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        victims = server.of("api")
        assert len(victims) == 2
        for victim in victims:
            victim.signal(number)
        wait_for(lambda gone=victims: not any(one.alive() for one in gone), 10, "the api does not end")
        wait_for(lambda: len(server.of("api")) == 2 and ready(server.port), 10, "no new api", every=0.05)


def test_calls_outlive_the_api(serve: Serve) -> None:
    survives(serve, api_dies)


# -- the database ------------------------------------------------------------------------------------------


def database_restarts(server: Server) -> None:
    """A fast shutdown; the supervisor starts it again."""
    server.one("postmaster").signal(signal.SIGINT)
    back(server)


def database_dies(server: Server) -> None:
    for victim in server.of("postmaster", "backend"):
        victim.signal(signal.SIGKILL)
    back(server)


def database_stands_still_and_dies(server: Server) -> None:
    """For longer than a request and than a lease: then what waits for it is not known to be lost."""
    victims = server.of("postmaster", "backend")
    for victim in victims:
        victim.signal(signal.SIGSTOP)
    time.sleep(7.0)
    for victim in victims:
        victim.signal(signal.SIGKILL)
    back(server)


def back(server: Server) -> None:
    """Wait until it is there again."""
    server.rows("SELECT 1")


@pytest.mark.parametrize("blow", [database_restarts, database_dies, database_stands_still_and_dies])
def test_calls_outlive_the_database(serve: Serve, blow: Blow) -> None:
    survives(serve, blow)


class Standstill:
    """The database stands still from before the calls end, and goes on when all have."""

    def __init__(self) -> None:
        self._victims: list[Process] = []

    def begin(self, server: Server) -> None:
        time.sleep(PROMPT - 6)
        self._victims = server.of("postmaster", "backend")
        for victim in self._victims:
            victim.signal(signal.SIGSTOP)

    def end(self) -> None:
        for victim in self._victims:
            victim.signal(signal.SIGCONT)


def test_ends_without_the_database_are_kept(serve: Serve) -> None:
    """They are stored once it is back, with the times at which they were."""
    standstill = Standstill()
    survives(serve, standstill.begin, standstill.end)
