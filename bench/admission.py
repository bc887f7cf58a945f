"""Numbers admitted per CPU-second by the interface, beside COPY of the same rows into the same table.

One VDN with 4,000 draft campaigns, 1,000,000 blacklist entries and 2,000,000 numbers; 20 numbers a request,
all checks on. CPU is user and system time of the api processes and of all of PostgreSQL. The rounds of the
two are interleaved; the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from load import add_request, entries, send_all
from processes import Meter

from outdial import compose
from outdial.config import Settings
from outdial.model import Vdn
from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster
from outdial.store.sealing import create_master_key
from outdial.web.server import listening_socket

VDN = 1
PER_REQUEST = 20
CONNECTIONS = 32

FULL = 10
"""Campaigns that hold 199,000 numbers each; as many hold none."""


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    campaigns: int = 4000
    blacklist: int = 1_000_000
    per_full: int = 199_000
    requests: int = 3000
    rounds: int = 3
    waves: int = 40


SEED = """
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at)
SELECT {vdn}, 'c' || n, '', 3, 'draft', now(), now() + interval '30 days', '100', 30,
       '{{0,1440,NULL,NULL,NULL,NULL}}', '', 10, 1, 'allow', 'count', now()
FROM generate_series(1, {campaigns}) n;
INSERT INTO blacklist (vdn_id, number, created_at)
SELECT {vdn}, '1' || lpad((n::bigint * 7919 * 104729 % 1000000000)::text, 9, '0') || '7', now()
FROM generate_series(1, {blacklist}) n;
INSERT INTO contact (vdn_id, contact_id, campaign_id, called, session_id, custom_field, priority, state,
                     due_at)
SELECT {vdn}, nextval('contact_id'), c.campaign_id,
       '1' || lpad((random() * 9999999999)::bigint::text, 10, '0'),
       lpad(n::text, 20, '0'), 'november reminder', 3, 'ready', now()
FROM (SELECT campaign_id FROM campaign ORDER BY campaign_id LIMIT {full}) c, generate_series(1, {per_full}) n;
UPDATE campaign SET incomplete = {per_full}
WHERE campaign_id IN (SELECT campaign_id FROM campaign ORDER BY campaign_id LIMIT {full});
ANALYZE;
"""


class Bench:
    """A server of the bench's own, and the measurements on it."""

    def __init__(self, size: Size, folder: Path) -> None:
        self.size = size
        self._postgres = EmbeddedPostgres(EmbeddedOptions(data=folder / "data", notice=lambda _: None))
        self._folder = folder
        self._api: subprocess.Popen[bytes] | None = None
        self._sock = listening_socket("127.0.0.1", 0)
        self.host, self.port = "127.0.0.1", self._sock.getsockname()[1]
        self.ak = self.sk = ""
        self.campaigns: list[int] = []
        self._own = 0

    async def start(self) -> None:
        """PostgreSQL, the seed, one api process."""
        self._postgres.start()
        data = self._folder / "data"
        settings = Settings(data=data, database=self._postgres.dsn, log_level="warning")
        create_master_key(data)
        await compose.prepare(settings)
        async with compose.opened(settings, "bench") as store:
            await store.vdns.create(Vdn(VDN, max_active=100_000))
            key = await store.vdns.create_key(VDN)
            self.ak, self.sk = key.ak, key.secret
        self.conn: Any = await asyncpg.connect(self._postgres.dsn)
        self._own = self.conn.get_server_pid()
        await self.conn.execute(
            SEED.format(
                vdn=VDN,
                campaigns=self.size.campaigns,
                blacklist=self.size.blacklist,
                full=FULL,
                per_full=self.size.per_full,
            )
        )
        await self.conn.execute("CHECKPOINT")
        self.campaigns = [
            row["campaign_id"]
            for row in await self.conn.fetch("SELECT campaign_id FROM campaign ORDER BY campaign_id")
        ]
        environment = compose.environment(settings) | {"OUTDIAL_LISTEN_FD": str(self._sock.fileno())}
        self._api = subprocess.Popen(
            [sys.executable, "-m", "outdial.compose", "api"],
            env=environment,
            pass_fds=[self._sock.fileno()],
        )
        await self._send([self._request(c) for c in self.campaigns[2 * FULL : 2 * FULL + 50]])  # warm

    async def stop(self) -> None:
        """End what was started."""
        await self.conn.close()
        if self._api is not None:
            self._api.terminate()
            self._api.wait(20)
        self._postgres.stop()
        remove_cluster(self._folder / "data")

    def _request(self, campaign: int) -> bytes:
        listed = entries(PER_REQUEST)
        return add_request(f"{self.host}:{self.port}", self.ak, self.sk, VDN, campaign, listed)

    async def _send(self, requests: list[bytes]) -> None:
        codes = await send_all(self.host, self.port, requests, CONNECTIONS)
        assert set(codes) == {"0200000"}, {code: codes.count(code) for code in set(codes)}

    async def _forget_interval(self) -> None:
        await self.conn.execute("UPDATE campaign SET last_added_at = NULL WHERE last_added_at IS NOT NULL")

    def _meter(self, *, with_own: bool) -> Meter:
        assert self._api is not None
        own = frozenset() if with_own else frozenset({self._own})
        return Meter([self._api.pid, self._postgres.pid], own)

    async def interface(self) -> tuple[float, float]:
        """CPU seconds of one round of adds: the api's, PostgreSQL's."""
        await self._forget_interval()
        chosen = self.campaigns[2 * FULL :][: self.size.requests]
        requests = [self._request(campaign) for campaign in chosen]
        assert self._api is not None
        api = Meter([self._api.pid])
        database = Meter([self._postgres.pid], frozenset({self._own}))
        api.start()
        database.start()
        await self._send(requests)
        return api.stop(), database.stop()

    async def copy(self) -> float:
        """CPU seconds of COPY of as many rows of the same make: PostgreSQL's and the client's."""
        chosen = self.campaigns[2 * FULL :][: self.size.requests]
        ids = iter(await self._new_ids(len(chosen) * PER_REQUEST))
        lines = []
        for campaign in chosen:
            for entry in entries(PER_REQUEST):
                fields = (str(VDN), str(next(ids)), str(campaign), entry["called"], entry["sessionId"])
                lines.append("\t".join((*fields, entry["customField"], "3", "ready", "2026-01-01")) + "\n")
        columns = "vdn_id, contact_id, campaign_id, called, session_id, custom_field, priority, state, due_at"
        with tempfile.NamedTemporaryFile() as file:
            file.write("".join(lines).encode())
            file.flush()
            database = self._meter(with_own=True)
            before = _own_cpu()
            database.start()
            await self.conn.copy_to_table("contact", source=file.name, columns=columns.split(", "))
            return database.stop() + _own_cpu() - before

    async def _new_ids(self, count: int) -> list[int]:
        """Ids from the sequence: higher ones would move the interface's from the end of the index inwards."""
        rows = await self.conn.fetch("SELECT nextval('contact_id') FROM generate_series(1, $1)", count)
        return [row[0] for row in rows]

    async def waves(self, campaigns: list[int]) -> float:
        """CPU seconds of adds to these campaigns, `size.waves` to each."""
        used = 0.0
        for _ in range(self.size.waves):
            requests = [self._request(campaign) for campaign in campaigns]
            await self._forget_interval()
            meter = self._meter(with_own=False)
            meter.start()
            await self._send(requests)
            used += meter.stop()
        return used


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system


async def measure(size: Size) -> None:
    """Print the rows of the bench."""
    with tempfile.TemporaryDirectory(prefix="outdial-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        bench = Bench(size, folder)
        try:
            await bench.start()
            await _admission(bench, size)
            await _fullness(bench, size)
        finally:
            await bench.stop()


async def _admission(bench: Bench, size: Size) -> None:
    rows = min(size.requests, size.campaigns - 2 * FULL) * PER_REQUEST
    ratios = []
    for n in range(1, size.rounds + 1):
        api, database = await bench.interface()
        copied = await bench.copy()
        ratios.append(copied / (api + database))
        each = 1e6 * PER_REQUEST / rows
        print(
            f"round {n}: interface {rows / (api + database):9,.0f} numbers/CPU-s"
            f" (per request: api {api * each:5.0f} us, PostgreSQL {database * each:5.0f} us)"
            f"   COPY {rows / copied:9,.0f} numbers/CPU-s ({copied * each:4.0f} us per 20)"
            f"   ratio {ratios[-1]:.2f}",
            flush=True,
        )
    median = statistics.median(ratios)
    print(f"admission: interface / COPY, median of {size.rounds} rounds: {median:.2f} (aim 0.35)")


async def _fullness(bench: Bench, size: Size) -> None:
    full, empty = bench.campaigns[:FULL], bench.campaigns[FULL : 2 * FULL]
    ratios = []
    for _ in range(size.rounds):
        at_none, at_full = await bench.waves(empty), await bench.waves(full)
        ratios.append(at_full / at_none)
        await bench.conn.execute(
            "UPDATE campaign SET incomplete = CASE WHEN campaign_id = ANY($1) THEN $3::int ELSE 0 END"
            " WHERE campaign_id = ANY($1) OR campaign_id = ANY($2)",
            full,
            empty,
            size.per_full,
        )
    shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    print(
        f"fullness: cost at {size.per_full:,} incomplete / at none, median of {size.rounds} rounds:"
        f" {statistics.median(ratios):.3f} ({shown}; aim 0.90 to 1.10)"
    )
