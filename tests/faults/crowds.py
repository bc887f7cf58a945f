"""Crowds of connections around a server, counted by the kernel, and healthy clients that go on meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
from adding import NO_STORE, OK, TOO_SOON, entry_of
from serving import VDN, Server
from yarl import URL

from outdial.client import Client
from outdial.model import AccessKey

CROWD = Path(__file__).with_name("crowd.py")
DEADLINE = 5.0
"""Seconds in which a request is answered (semantics.md §2)."""

AT_ONCE = 64
"""Healthy requests under way at most: a machine that cannot keep up has no queue that only grows."""

_PATH = f"/rest/isales/v1/openapi/campaigns/{VDN}"


def allowed(wanted: int) -> int:
    """So many connections as one of our processes may have, at most `wanted`; says so when it is fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = min(wanted, hard - 512)
    if found < wanted:
        print(f"RLIMIT_NOFILE is {hard}: {found} connections instead of {wanted}")
    return found


@dataclass
class Crowd:
    """A process of `crowd.py`. `opened` and `seen` are what it wrote."""

    kind: str
    source: str
    process: subprocess.Popen[str]
    opened: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def wait_open(self) -> None:
        self.opened = self._line()
        assert not self.opened["failed"], self.opened

    def wait_end(self, *, now: bool = False) -> None:
        """Read what became of them, once they ended or, `now`, at once."""
        if now:
            assert self.process.stdin is not None
            self.process.stdin.write("end\n")
            self.process.stdin.flush()
        self.seen = self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the crowd of kind {self.kind} ended early"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def crowds(
    server: Server, wanted: Sequence[tuple[str, int, str]], seconds: float, *, pace: float = 0
) -> Iterator[list[Crowd]]:
    """Processes of (kind, how many, from where), all begun at once; `pace`: connections a second of each."""
    made = [
        Crowd(
            kind,
            source,
            subprocess.Popen(
                [sys.executable, str(CROWD), *map(str, (server.port, kind, number, source, seconds, pace))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ),
        )
        for kind, number, source in wanted
    ]
    try:
        yield made
    finally:
        for one in made:
            one.process.kill()
            one.process.communicate()


def established(port: int) -> Counter[str]:
    """Connections to our port by the address of their other end, as the kernel has them."""
    found: Counter[str] = Counter()
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for line in table:
            _, local, remote, state, *_ = line.split()
            if state == "01" and int(local.partition(":")[2], 16) == port:
                found[socket.inet_ntoa(bytes.fromhex(remote[:8])[::-1])] += 1
    return found


def memory(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# -- healthy clients ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One request: when it was due, how long its answer took from then on, and its code or its failure."""

    due: float
    took: float
    outcome: str


def of_worth(times: Sequence[float], share: float) -> float:
    """The quantile, in ms."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


class Healthy:
    """Signed requests at a steady rate, as far as they are answered: adds and queries in turn.

    Every fourth is over a new connection.
    """

    def __init__(self, server: Server, key: AccessKey, campaigns: Sequence[int], per_second: float) -> None:
        self._server = server
        self._client = Client(server.url, key.ak, key.secret, VDN)
        self._campaigns = campaigns
        self._every = 1 / per_second
        self._numbers = count(1)
        self._going = True
        self._free = asyncio.Semaphore(AT_ONCE)
        self.asked: list[Asked] = []

    def since(self, began: float) -> list[Asked]:
        """What was due since then."""
        return [one for one in self.asked if one.due >= began]

    @contextmanager
    def asking(self) -> Iterator[Healthy]:
        """They ask as long as this lasts, and wait for their answers."""
        thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="healthy")
        thread.start()
        try:
            yield self
        finally:
            self._going = False
            thread.join()

    async def _run(self) -> None:
        def session(*, keep: bool) -> aiohttp.ClientSession:
            how: dict[str, Any] = {"keepalive_timeout": 3.0} if keep else {"force_close": True}
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, **how))

        async with session(keep=True) as kept, session(keep=False) as new, asyncio.TaskGroup() as requests:
            due = time.monotonic()
            while self._going:
                await self._free.acquire()
                number, due = next(self._numbers), max(due, time.monotonic())
                task = requests.create_task(self._ask(number, due, new if number % 4 == 0 else kept))
                task.add_done_callback(lambda _: self._free.release())
                due += self._every
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _ask(self, number: int, due: float, session: aiohttp.ClientSession) -> None:
        campaign = self._campaigns[number % len(self._campaigns)]
        if number % 2:
            body = {"callDataList": [entry_of(number, 0)]}
            request = self._client.signed("POST", f"{_PATH}/calldata/{campaign}", body=body)
        else:
            request = self._client.signed("GET", f"{_PATH}/{campaign}")
        url = URL(f"{self._server.url}{request.target}", encoded=True)
        try:
            async with session.request(
                "POST" if number % 2 else "GET",
                url,
                data=request.body or None,
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=30),
            ) as answer:
                outcome = json.loads(await answer.read())["resultCode"]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            outcome = repr(error)
        self.asked.append(Asked(due, time.monotonic() - due, outcome))


def check_healthy(asked: Sequence[Asked], least: int) -> None:
    """Every one answered by the interface and in time, none refused or cut off; not too few."""
    assert len(asked) >= least, f"only {len(asked)} healthy requests"
    outcomes = Counter(one.outcome for one in asked)
    assert outcomes.keys() <= {OK, NO_STORE, TOO_SOON}, outcomes
    assert outcomes[OK] >= 0.5 * len(asked), f"the store, on a disk of others, may be late: {outcomes}"
    late = [one.took for one in asked if one.took > DEADLINE]
    assert not late, (
        f"{len(late)} of {len(asked)} healthy requests were answered late, after {max(late):.1f} s"
    )
