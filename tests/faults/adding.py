"""Clients that add numbers while the server is killed, and the verdict on what became of their requests.

A client writes what it is about to send into the journal, synced, sends it, and writes down the answer. The
verdict is found from the journal's file and the rows of the database alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
from journal import Journal, lines_of
from serving import VDN, Server
from yarl import URL

from outdial.client import Client, SignedRequest
from outdial.model import AccessKey

CLIENTS = 16
CAMPAIGNS = 200
INTERVAL = 1.05
"""Seconds between two adds to one campaign: the contract's one second and a little."""

ANSWER_WITHIN = 5.0
"""Seconds in which a request is answered or cut off, whatever the store does (semantics.md §2)."""

OK, NO_STORE, TOO_SOON = "0200000", "0200006", "0200022"
CUT, NOT_SENT = "cut", "not sent"
"""No answer came: the connection was lost with the request under way, or there was none to send it over."""

_PATH = f"/rest/isales/v1/openapi/campaigns/{VDN}/calldata"


@dataclass
class Added:
    """One request: `entries` numbers for `campaign`. `outcome`: a result code, CUT or NOT_SENT."""

    number: int
    campaign: int
    entries: int
    request: SignedRequest
    began: float = 0.0
    ended: float = 0.0
    outcome: str = ""
    replayed: bool = False

    @property
    def settled(self) -> bool:
        """Accepted for certain."""
        return self.outcome == OK

    @property
    def took(self) -> float:
        return self.ended - self.began


class Adders:
    """The clients, in a thread of their own. `server` may die and come back as it likes."""

    def __init__(self, server: Server, key: AccessKey, campaigns: Sequence[int], journal: Journal) -> None:
        self._server = server
        self._key = key
        self._campaigns = campaigns
        self._journal = journal
        self._numbers = count(1)
        self._chance = random.Random(len(campaigns))
        self._going = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._session: aiohttp.ClientSession
        self._client: Client
        self.sent: list[Added] = []
        self._ended: Counter[str] = Counter()
        self.open: set[int] = set()
        """Numbers of the requests that are under way: their first byte has been given to the system."""

    # -- from outside --------------------------------------------------------------------------------------

    @contextmanager
    def adding(self) -> Iterator[None]:
        """The clients add as long as this lasts, and wait for the answers of what they have sent."""
        self._going.set()
        thread = threading.Thread(target=self._run, args=(self._add,), name="adders")
        thread.start()
        try:
            yield
        finally:
            self._going.clear()
            thread.join()

    def send_again(self, within: float = 60.0) -> list[Added]:
        """Send the very same bytes of all that is not settled until each is accepted; those requests."""
        left = [one for one in self.sent if not one.settled]
        self._run(lambda: self._settle(left, within))
        return left

    def acknowledged(self) -> int:
        """Requests that were accepted so far."""
        return sum(one.settled for one in self.sent)

    def send_once_more(self) -> None:
        """The very same bytes of a request that was accepted: the stored answer comes, nothing changes."""
        (one,) = [one for one in self.sent if one.settled][:1]
        self._run(lambda: self._send(one))
        assert one.settled

    def outcomes(self) -> Counter[str]:
        """How often each outcome was so far; a request that was sent again counts each time."""
        return Counter(self._ended)

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def connected() -> None:
            connector = aiohttp.TCPConnector(keepalive_timeout=3.0, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            self._client = Client(self._server.url, self._key.ak, self._key.secret, VDN)
            async with self._session:
                await work()

        self._loop.run_until_complete(connected())

    # -- the clients ---------------------------------------------------------------------------------------

    async def _add(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for nth in range(CLIENTS):
                clients.create_task(self._client_of(list(self._campaigns[nth::CLIENTS])))

    async def _client_of(self, campaigns: list[int]) -> None:
        """One client with campaigns of its own: no campaign has two requests under way.

        Half of what gets no answer it sends again at once; the rest waits for `send_again`.
        """
        free = dict.fromkeys(campaigns, 0.0)
        while self._going.is_set():
            campaign = min(free, key=free.__getitem__)
            wait = free[campaign] - time.monotonic()
            if wait > 0:
                await asyncio.sleep(min(wait, 0.05))
                continue
            one = self._new(campaign)
            await self._send(one)
            patient = self._chance.random() < 0.5
            while self._going.is_set() and not one.settled and (patient or one.outcome == NOT_SENT):
                await asyncio.sleep(0.1)
                await self._send(one)
            free[campaign] = time.monotonic() + INTERVAL

    def _new(self, campaign: int) -> Added:
        number = next(self._numbers)
        entries = self._chance.choice((1, 20, 20, 20))
        body = {"callDataList": [entry_of(number, nth) for nth in range(entries)]}
        request = self._client.signed("POST", f"{_PATH}/{campaign}", body=body)
        one = Added(number, campaign, entries, request)
        self.sent.append(one)
        return one

    async def _send(self, one: Added) -> None:
        """Once, between two synced lines of the journal."""
        facts = {"request": one.number, "campaign": one.campaign, "entries": one.entries}
        await asyncio.to_thread(self._journal.write, event="send", **facts)
        one.began = time.monotonic()
        self.open.add(one.number)
        total = await self._post(one)
        self.open.discard(one.number)
        one.ended = time.monotonic()
        self._ended[one.outcome] += 1
        said = {"outcome": one.outcome, "replayed": one.replayed, "total": total, "took": one.took}
        await asyncio.to_thread(self._journal.write, event="end", **facts, **said)

    async def _post(self, one: Added) -> int | None:
        """The answer's totalSize, if it was accepted."""
        url = URL(f"{self._server.url}{one.request.target}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=30)
        try:
            async with self._session.post(
                url, data=one.request.body, headers=one.request.headers, timeout=timeout
            ) as answer:
                said = json.loads(await answer.read())
                one.outcome = said["resultCode"]
                one.replayed = answer.headers.get("Idempotent-Replayed") == "true"
        except aiohttp.ClientConnectorError:
            one.outcome = NOT_SENT
        except (aiohttp.ClientError, OSError):
            one.outcome = CUT
        else:
            return said["returnObject"]["totalSize"] if one.settled else None
        return None

    async def _settle(self, left: Sequence[Added], within: float) -> None:
        async def settle(one: Added) -> None:
            async with asyncio.timeout(within):
                while not one.settled:
                    await self._send(one)
                    if not one.settled:
                        await asyncio.sleep(0.25)

        campaigns: dict[int, list[Added]] = {}
        for one in left:
            campaigns.setdefault(one.campaign, []).append(one)

        async def settle_all(of_campaign: Sequence[Added]) -> None:
            for one in of_campaign:
                await settle(one)

        async with asyncio.TaskGroup() as tasks:
            for of_campaign in campaigns.values():
                tasks.create_task(settle_all(of_campaign))


def entry_of(request: int, nth: int) -> dict[str, str]:
    """The entry: its session id names the request, so that torn batches are seen."""
    return {"sessionId": f"{request:07d}-{nth:02d}", "called": f"9{request:07d}{nth:02d}"}


# -- the verdict -------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What became of the journal's requests; `sound` says whether all is as it must be."""

    lost: list[int] = field(default_factory=list)  # accepted, and not there
    twice: list[int] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)  # there in part
    uninvited: list[str] = field(default_factory=list)  # there, though not asked for, or refused
    miscounted: list[int] = field(default_factory=list)  # campaigns whose counter is not their rows
    accepted: int = 0
    numbers: int = 0
    kept: int = 0  # no answer, and there
    absent: int = 0  # no answer, and not there
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    @property
    def sound(self) -> bool:
        return not (self.lost or self.twice or self.torn or self.uninvited or self.miscounted)

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted} requests with {self.numbers} numbers; lost {len(self.lost)}, twice"
            f" {len(self.twice)}, torn {len(self.torn)}, uninvited {len(self.uninvited)}, miscounted"
            f" {len(self.miscounted)}; unanswered: kept {self.kept}, absent {self.absent};"
            f" outcomes {dict(self.outcomes)}; slowest {self.slowest:.2f} s"
        )


def verdict(journal: Path, server: Server) -> Verdict:
    """Judge by the journal's file and by SQL, both read now."""
    found = Verdict()
    requests: dict[int, dict[str, Any]] = {}
    accepted: set[int] = set()
    replayed: set[int] = set()
    cut: set[int] = set()
    for line in lines_of(journal):
        number = line["request"]
        requests[number] = line
        if line["event"] == "end":
            found.outcomes[line["outcome"]] += 1
            found.slowest = max(found.slowest, line["took"])
            if line["outcome"] == OK:
                accepted.add(number)
                if line["replayed"]:
                    replayed.add(number)
            elif line["outcome"] == CUT:
                cut.add(number)
    rows: dict[int, Counter[str]] = {}
    campaigns: Counter[int] = Counter()
    query = "SELECT n.* FROM contact n JOIN campaign USING (vdn_id, campaign_id) WHERE name LIKE 'adds %'"
    for row in server.rows(query):
        number, nth = map(int, row["session_id"].split("-"))
        known = requests.get(number)
        if (
            known is None
            or known["campaign"] != row["campaign_id"]
            or row["called"] != entry_of(number, nth)["called"]
            or nth >= known["entries"]
        ):
            found.uninvited.append(row["session_id"])
        rows.setdefault(number, Counter())[row["session_id"]] += 1
        campaigns[row["campaign_id"]] += 1
    for number, known in requests.items():
        there = rows.get(number, Counter())
        if there and len(there) != known["entries"]:
            found.torn.append(number)
        if any(n > 1 for n in there.values()):
            found.twice.append(number)
        if number in accepted and not there:
            found.lost.append(number)
        if there and number not in accepted and number not in cut:
            found.uninvited.append(f"{number}")
        if number in accepted:
            found.numbers += known["entries"]
        if number in replayed or (number in cut and number not in accepted and there):
            found.kept += 1
        elif number in cut:
            found.absent += 1
    found.accepted = len(accepted)
    counters = server.rows("SELECT campaign_id, incomplete FROM campaign WHERE name LIKE 'adds %'")
    found.miscounted = [c["campaign_id"] for c in counters if c["incomplete"] != campaigns[c["campaign_id"]]]
    return found


def totals_grow(journal: Path) -> bool:
    """Whether each campaign's totalSize grew with every new add, in the order of its answers."""
    last: dict[int, int] = {}
    for line in lines_of(journal):
        if line["event"] == "end" and line["outcome"] == OK and not line["replayed"]:
            if line["total"] < last.get(line["campaign"], 0) + line["entries"]:
                return False
            last[line["campaign"]] = line["total"]
    return True


def make_campaigns(server: Server, number: int = CAMPAIGNS) -> list[int]:
    """Drafts put there by SQL; their ids."""
    query = """
        INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
            max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown,
            created_at)
        SELECT $1, 'adds ' || n, '', 3, 'draft', now() - interval '1 day', now() + interval '1 day', '100',
            30, '{0,1440,NULL,NULL,NULL,NULL}', '', 10, 1, 'allow', 'count', now()
        FROM generate_series(1, $2::int) n RETURNING campaign_id
    """
    return [row["campaign_id"] for row in server.rows(query, VDN, number)]


@contextmanager
def adders(server: Server, campaigns: int = CAMPAIGNS, *, secret: str | None = None) -> Iterator[Adders]:
    """Clients with campaigns and a journal of their own, on a server that has no VDN yet."""
    journal = Journal(server.data.with_name("journal.jsonl"))
    key = server.make_vdn(secret=secret)
    clients = Adders(server, key, make_campaigns(server, campaigns), journal)
    try:
        yield clients
    finally:
        clients.close()
        with suppress(OSError):
            journal.close()
