"""Calls over SIP while something is killed or frozen: the far end's process and log, the trunks to it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calling import CarrierLog, Receiver, Verdict, all_ended, rows
from serving import VDN, ask, wait_for

from outdial.model import Trunk
from outdial.store.sealing import MasterKey
from outdial.store.store import Store
from ports import free_port

FAR_END = Path(__file__).parent.parent / "telephony" / "far_end.py"

ENDINGS = ("01", "01", "01", "03", "01", "04", "01", "09", "01", "01")
"""The last two digits of the numbers: answered, busy, rings until we give up, declined."""

LATE_REFUSAL, LATE_ANSWER, UNHEARD, LATE_CHALLENGE = ("12",), ("13",), ("14",), ("15",)
"""Of `far_end.py`: 503 after a silence; an answer whatever was cancelled; nothing that reaches the caller;
401 after a silence."""

OPEN = "SELECT attempt_id::text AS id FROM attempt WHERE ended_at IS NULL"


def over_sip(host: str = "127.0.0.1") -> dict[str, Any]:
    """The settings of a server that calls over SIP, at a port of its own."""
    return {
        "push_allow": "127.0.0.0/8",
        "switch": "sip",
        "sip_listen": f"{host}:{free_port()}",
        "rtp_ports": "21000-29999",
    }


@contextmanager
def far_end(folder: Path, port: int, *, transport: str = "udp", **times: float) -> Iterator[CarrierLog]:
    """A far end as a process, with its `times` ring, talk, late, give_up in seconds; its log."""
    log = folder / f"far_end_{port}.jsonl"
    command = [sys.executable, str(FAR_END), "--port", str(port), "--log", str(log)]
    command += ["--transport", transport]
    for name, seconds in times.items():
        command += [f"--{name.replace('_', '-')}", str(seconds)]
    process = subprocess.Popen(command)
    try:
        wait_for(lambda: log.exists() and "listening" in log.read_text(), 20, "the far end does not start")
        yield CarrierLog(log)
    finally:
        process.kill()
        process.wait(10)


def connect(dsn: str, *ports: int, key: MasterKey | None = None, **facts: Any) -> None:
    """A trunk to each of these far ends, tried in their order, and every destination allowed.

    `key`: the master key, where a trunk has a password.
    """

    async def work() -> None:
        async with Store(dsn, key, size=1) as store:
            for nth, port in enumerate(ports, 1):
                await store.trunks.add(trunk(f"far{nth}", port, position=nth, **facts))
            await store.trunks.allow(VDN, ["any"])

    asyncio.run(work())


def trunk(name: str, port: int, **facts: Any) -> Trunk:
    """A trunk on loopback that limits nothing."""
    return Trunk(name, "127.0.0.1", port, max_cps=5000, max_channels=5000, ping_every=0, **facts)


def attempts_open(dsn: str) -> set[str]:
    """Attempts that were intended and have no end in the store: the calls in flight."""
    return {row["id"] for row in rows(dsn, OPEN)}


def call_no_more(dsn: str) -> None:
    """What has not been called by now is never called."""

    async def work(conn: Any) -> None:
        async with conn.transaction():
            await conn.execute("SELECT 1 FROM campaign FOR UPDATE")  # no call ends between the next two
            await conn.execute("DELETE FROM contact WHERE state = 'ready'")
            left = "(SELECT count(*) FROM contact WHERE state <> 'done')"
            await conn.execute(f"UPDATE campaign SET incomplete = {left}")

    ask(dsn, work)


def all_over(
    dsn: str, log: CarrierLog, receiver: Receiver, in_flight: set[str], within: float = 5
) -> Verdict:
    """Wait until every number has ended; UNKNOWN are none but calls in flight, and no line is open."""
    found = all_ended(dsn, log, receiver)
    unknown = rows(dsn, "SELECT attempt_id::text AS id FROM attempt WHERE disposition = 'UNKNOWN'")
    assert {row["id"] for row in unknown} <= in_flight
    wait_for(lambda: not log.look().alive, within, lambda: f"lines stay open: {sorted(log.alive)[:3]}")
    return found
