"""Calls under way while something is killed: the carrier's log, a receiver with a journal, the verdict."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from journal import Journal, lines_of
from serving import VDN, ask, wait_for

SETTINGS = {"push_allow": "127.0.0.0/8", "carrier_ring": 0.3, "carrier_talk": 1.5}
"""Of a server: a call that is answered lasts 1.8 s."""

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBjcmFzaCBwcm9vZnMuLi4u"

ENDINGS = ("01", "01", "01", "01", "02", "03", "06", "08", "04", "01")
"""The last two digits of the numbers, in turn (`outdial.switch.script`); 04 rings until we give up."""

# -- the carrier's log -------------------------------------------------------------------------------------


@dataclass
class CarrierLog:
    """What the carrier was asked, by its own log. `look` reads what has been added."""

    path: Path
    orders: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    hung_up: list[dict[str, Any]] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    """Attempts whose call is over: by an end, or with the carrier that held it."""
    cut_off: int = 0
    """Calls that were under way when their carrier died."""
    _read: int = 0

    def look(self) -> CarrierLog:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                self._take(json.loads(line))
        return self

    def _take(self, line: dict[str, Any]) -> None:
        if line.get("order") == "originate":
            (self.refused if "refused" in line else self.orders).append(line)
        elif line.get("order") == "hang_up":
            self.hung_up.append(line)
        elif line.get("event") == "ended":
            self.ended.add(line["attempt"])
        elif line.get("event") == "listening":
            self.cut_off += len(self.alive)
            self.ended |= self.alive

    @property
    def placed(self) -> int:
        return len(self.orders)

    @property
    def alive(self) -> set[str]:
        """Attempts that were ordered and have no end yet."""
        return {order["attempt"] for order in self.orders} - self.ended

    def repeated(self) -> list[str]:
        """Attempts that were ordered more than once."""
        return _more_than_one(order["attempt"] for order in self.orders)

    def numbers_repeated(self) -> list[str]:
        """Numbers that were called more than once."""
        return _more_than_one(order["called"] for order in self.orders)


def _more_than_one(words: Iterator[str]) -> list[str]:
    return [word for word, n in Counter(words).items() if n > 1]


# -- the receiver ------------------------------------------------------------------------------------------


class Receiver:
    """Takes pushes, each after `delay` seconds, and answers once its journal has it on the disk."""

    def __init__(self, path: Path, delay: float = 0.0) -> None:
        self.journal = Journal(path)
        self.delay = delay
        self.under_way = 0
        self._turn = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver._turn:
                    receiver.under_way += 1
                try:
                    time.sleep(receiver.delay)
                    for result in json.loads(body):
                        receiver.journal.write(id=self.headers.get("webhook-id"), **result)
                finally:
                    with receiver._turn:
                        receiver.under_way -= 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A pusher that was killed leaves broken connections behind."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/results"
        self._thread = threading.Thread(target=self._http.serve_forever, name="receiver")
        self._thread.start()

    def pushes(self) -> list[dict[str, Any]]:
        """Every push so far, read from the journal's file."""
        return list(lines_of(self.journal.path))

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self.journal.close()


@contextmanager
def receiving(folder: Path, delay: float = 0.0) -> Iterator[Receiver]:
    receiver = Receiver(folder / "pushes.jsonl", delay)
    try:
        yield receiver
    finally:
        receiver.close()


# -- the numbers -------------------------------------------------------------------------------------------


def start_campaign(
    dsn: str,
    numbers: int,
    url: str,
    *,
    per_second: int,
    endings: Sequence[str] = ENDINGS,
    rings: int = 2,
    first: str = "7",
) -> int:
    """A started campaign with so many numbers, put there by SQL; its id.

    A call rings `rings` seconds; the numbers begin with `first`. `to` in the call data is the number with
    a 9 before it.
    """
    campaign = """
        INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
            max_alerting_time, windows, device_sign, call_count, call_interval, callback_url, duplicates,
            on_unknown, incomplete, created_at)
        VALUES ($1, 'calls ' || now(), '', 3, 'started', now() - interval '1 day', now() + interval '1 day',
            '100', $2, '{0,1440,NULL,NULL,NULL,NULL}', '', $3, 1, $4, 'allow', 'count', $5, now())
        RETURNING campaign_id
    """
    contacts = """
        INSERT INTO contact (vdn_id, contact_id, campaign_id, called, session_id, call_data, priority, state,
            due_at)
        SELECT $1, nextval('contact_id'), $2, called, 'order ' || n, '{"to": "9' || called || '"}', 3,
            'ready', now()
        FROM unnest($3::text[]) WITH ORDINALITY u(called, n)
    """
    called = [f"{first}{nth:06d}{endings[nth % len(endings)]}" for nth in range(numbers)]

    async def work(conn: Any) -> int:
        async with conn.transaction():
            made = await conn.fetchval(campaign, VDN, rings, per_second, url, numbers)
            await conn.execute(contacts, VDN, made, called)
            await conn.execute("SELECT pg_notify('outdial_engine', '')")
        return int(made)

    return ask(dsn, work)


def rows(dsn: str, query: str, *args: object, writes: bool = True) -> list[dict[str, Any]]:
    """The rows of a query, read by SQL directly; `writes`: from a primary."""
    return [dict(row) for row in ask(dsn, lambda conn: conn.fetch(query, *args), writes=writes)]


def incomplete(dsn: str) -> int:
    """Numbers that have not ended, by the counters of the campaigns that call."""
    query = "SELECT coalesce(sum(incomplete), 0) AS n FROM campaign WHERE name LIKE 'calls %'"
    return int(rows(dsn, query)[0]["n"])


def outbox(dsn: str) -> int:
    """Results that wait to be delivered."""
    return int(rows(dsn, "SELECT count(*) AS n FROM outbox")[0]["n"])


# -- the verdict -------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What became of the calls; `faults` names whatever must not be."""

    numbers: int
    placed: int
    dispositions: Mapping[str, int]
    pushed: int
    faults: dict[str, list[Any]]

    @property
    def sound(self) -> bool:
        return not any(self.faults.values())

    @property
    def unknown(self) -> int:
        return self.dispositions.get("UNKNOWN", 0)

    def __str__(self) -> str:
        wrong = {name: len(found) for name, found in self.faults.items() if found}
        return (
            f"{self.numbers} numbers, {self.placed} calls at the carrier, {self.pushed} pushes,"
            f" {dict(self.dispositions)}, faults {wrong or 'none'}"
        )


def verdict(dsn: str, log: CarrierLog, receiver: Receiver) -> Verdict:
    """Judge by the carrier's log, the receiver's journal and SQL, all read now."""
    log.look()
    query = "SELECT n.* FROM contact n JOIN campaign USING (vdn_id, campaign_id) WHERE name LIKE 'calls %'"
    contacts = rows(dsn, query)
    attempts = rows(dsn, "SELECT *, attempt_id::text FROM attempt")
    pushes = receiver.pushes()
    placed = {order["attempt"]: order["called"] for order in log.orders}
    stored = {attempt["attempt_id"]: attempt["called"] for attempt in attempts}
    own = {attempt["attempt_id"] for attempt in attempts if attempt["transfer_of"] is None}
    ids: dict[str, set[str]] = {}
    for push in pushes:
        ids.setdefault(push["callId"], set()).add(json.dumps(push, sort_keys=True))
    webhook_ids = Counter(key for key in {(push["callId"], push["id"]) for push in pushes})
    faults: dict[str, list[Any]] = {
        "an attempt called twice": log.repeated(),
        "a number called twice": log.numbers_repeated(),
        "a call without an attempt": [one for one in placed if one not in stored],
        "an attempt without a call": [
            one["attempt_id"]
            for one in attempts
            if one["attempt_id"] not in placed and one["disposition"] != "UNKNOWN"
        ],
        "another number called": [one for one in placed if stored.get(one, placed[one]) != placed[one]],
        "a number that has not ended": [c["contact_id"] for c in contacts if c["state"] != "done"],
        "not one attempt": [c["contact_id"] for c in contacts if c["attempts"] != 1],
        "an attempt that has not ended": [a["attempt_id"] for a in attempts if a["ended_at"] is None],
        "results missing": [one for one in own if one not in ids],
        "results of nothing": [one for one in ids if one not in own],
        "two results of one call": [one for one, said in ids.items() if len(said) > 1],
        "a push without an id": [call for call, webhook_id in webhook_ids if not webhook_id],
        "miscounted": [{"incomplete": n}] if (n := incomplete(dsn)) else [],
    }
    dispositions = Counter(attempt["disposition"] for attempt in attempts)
    return Verdict(len(contacts), len(log.orders), dispositions, len(pushes), faults)


def launched(log: CarrierLog, within: float = 60) -> None:
    """Wait until the carrier is asked for new calls."""
    before = log.look().placed
    wait_for(lambda: log.look().placed > before, within, "nothing is called", every=0.001)


def all_ended(dsn: str, log: CarrierLog, receiver: Receiver, within: float = 120) -> Verdict:
    """Wait until every number has ended and every result is delivered; the verdict."""
    wait_for(lambda: not incomplete(dsn), within, "numbers do not end", every=0.1)
    wait_for(lambda: not outbox(dsn), within, "results are not delivered", every=0.1)
    found = verdict(dsn, log, receiver)
    print(found)
    assert found.sound, {name: some[:5] for name, some in found.faults.items() if some}
    return found
