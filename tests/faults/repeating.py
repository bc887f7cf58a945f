"""32 clients that send one add at once while the processes that judge it are killed, and what came of it.

The witnesses are the clients: when each sent, when it was answered, and with which bytes. The rows are read
by SQL after the last of them was answered.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg
from adding import OK
from serving import VDN, Server, wait_for

from outdial.client import Client, SignedRequest

CLIENTS = 32
WITHIN = 60.0
"""Seconds in which every client has its answer, whatever was killed."""

_PATH = f"/rest/isales/v1/openapi/campaigns/{VDN}/calldata"


@dataclass
class Repeat:
    """One client: the times of its tries, and its last answer."""

    sent: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answered: float = 0.0
    body: bytes = b""
    replayed: bool = False


@dataclass
class Round:
    """What one add came to. `under_way`: requests whose end came after the kill and whose begin before it.

    `fresh` answers had no `Idempotent-Replayed`; one at most, `firsts`, unless backends died: whoever did not
    hear the end of its COMMIT looks for the stored row, and cannot know whose COMMIT it was.
    """

    under_way: int = 0
    overlap: int = 0
    cut: int = 0
    rows: int = 0
    entries: int = 0
    bodies: int = 0
    fresh: int = 0
    firsts: int = 1
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def kept_unheard(self) -> bool:
        """It took effect, and nobody heard its first answer: the kill fell between effect and answer."""
        return self.fresh == 0

    @property
    def fault(self) -> str:
        """What is wrong; empty: one effect, one answer."""
        if self.rows != self.entries:
            return f"{self.entries} numbers were asked for and {self.rows} are there"
        if self.bodies != 1:
            return f"{self.bodies} different answers"
        return f"{self.fresh} first answers" if self.fresh > self.firsts else ""


def send(port: int, request: SignedRequest, told: Repeat) -> None:
    """Try until it is accepted: the same identity each time."""
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            line.connect()
            told.sent.append(time.monotonic())
            line.request(request.method, request.target, request.body, dict(request.headers))
            answer = line.getresponse()
            told.body = answer.read()
        except (OSError, http.client.HTTPException):
            told.cut.append(time.monotonic())
            time.sleep(0.02)
            continue
        finally:
            line.close()
        code = json.loads(told.body)["resultCode"]
        if code == OK:
            told.answered = time.monotonic()
            told.replayed = answer.getheader("Idempotent-Replayed") == "true"
            return
        told.refused.append(code)
        time.sleep(0.05)
    raise AssertionError(
        f"not accepted within {WITHIN:g} s: {Counter(told.refused)}, cut {len(told.cut)} times"
    )


@contextmanager
def held(dsn: str, campaign: int) -> Iterator[None]:
    """Another session has the campaign's row: whoever judges an add to it waits."""
    with asyncio.Runner() as runner:
        conn = runner.run(asyncpg.connect(dsn))
        try:
            query = "SELECT FROM campaign WHERE vdn_id = $1 AND campaign_id = $2 FOR UPDATE"
            runner.run(conn.execute("BEGIN"))
            runner.run(conn.execute(query, VDN, campaign))
            yield
        finally:
            conn.terminate()
            runner.run(asyncio.sleep(0))


def repeated(
    server: Server,
    client: Client,
    campaign: int,
    chance: random.Random,
    roles: Sequence[str],
    *,
    keyed: bool,
    early: bool,
) -> Round:
    """One add by all clients at once, and a kill -9 of these roles around its COMMIT.

    The campaign's row is held until all have sent; up to 20 ms after it is let go they are killed. `early`:
    while their statements wait for it, which then end with nobody there to hear. `keyed`: each client signs
    for itself, under one Idempotency-Key; else all send the same bytes.
    """
    entries = chance.randint(1, 20)
    body = {"callDataList": [{"called": f"7{campaign}{n:02d}"} for n in range(entries)]}
    key = f"order {campaign}" if keyed else None
    one = client.signed("POST", f"{_PATH}/{campaign}", body=body, idempotency_key=key)
    told = [Repeat() for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        with held(server.dsn, campaign):
            work = [
                clients.submit(
                    send,
                    server.port,
                    client.signed("POST", f"{_PATH}/{campaign}", body=body, idempotency_key=key)
                    if keyed
                    else one,
                    each,
                )
                for each in told
            ]
            wait_for(lambda: all(each.sent for each in told), WITHIN, "not all were sent")
            if early:
                wait_for(lambda: server.rows(_WAITING), WITHIN, "no statement waits for the row")
                killed = _kill(server, roles)
        if not early:
            time.sleep(chance.uniform(0, 0.02))
            killed = _kill(server, roles)
        for each in work:
            each.result()
    firsts = CLIENTS if "backend" in roles else 1
    return _judged(server, campaign, entries, told, killed, firsts)


_WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def _kill(server: Server, roles: Sequence[str]) -> float:
    """When."""
    killed = time.monotonic()
    for process in server.of(*roles):
        process.signal(signal.SIGKILL)
    return killed


def _judged(
    server: Server, campaign: int, entries: int, told: Sequence[Repeat], killed: float, firsts: int
) -> Round:
    query = "SELECT called FROM contact WHERE vdn_id = $1 AND campaign_id = $2"
    return Round(
        under_way=sum(each.sent[0] < killed < (each.cut or [each.answered])[0] for each in told),
        overlap=sum(each.sent[0] < min(each.answered for each in told) for each in told),
        cut=sum(bool(each.cut) for each in told),
        rows=len(server.rows(query, VDN, campaign)),
        entries=entries,
        bodies=len({each.body for each in told}),
        fresh=sum(not each.replayed for each in told),
        firsts=firsts,
        refused=Counter(code for each in told for code in each.refused),
    )
