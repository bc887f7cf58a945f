"""The interface as a test meets it: real api processes, signed requests over HTTP, and SQL beside them."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from outdial import compose
from outdial.config import Settings
from outdial.lifeline import READY_FD
from outdial.model import AccessKey, Edition, Vdn
from outdial.signing import sign
from outdial.store.postgres import utc_now
from outdial.store.sealing import create_master_key, load_master_key
from outdial.store.store import Store
from outdial.web.app import ROUTES, V2_ROUTES
from outdial.web.openapi import OF_STATUS, STATUSES, codes_of
from outdial.web.server import listening_socket

PREFIX = "/rest/isales/v1/openapi/campaigns"
JSON = "application/json; charset=UTF-8"
ABSENT = 2**62
"""A campaign id that is never given."""

OLD, NEW, OTHER = 1, 2, 3
"""The VDNs of every server here: edition 2023-09, edition 2025-11, and a stranger of 2023-09."""

T = TypeVar("T")
Rows = list[dict[str, Any]]


CLOCKS = re.compile(rb"this server has [-0-9: ]+ UTC, the request's timestamp is \d+ s (behind|ahead of) it")
"""What a 401 says of the server's clock and the request's."""


@dataclass(frozen=True)
class Request:
    """A request, ready to be sent once or again."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def documented(request: Request) -> frozenset[str]:
    """The codes that the OpenAPI document allows for a request."""
    version, _, below = request.target.partition("?")[0].partition("/openapi/campaigns/")
    routes = V2_ROUTES if version.endswith("v2") else ROUTES
    parts = tuple(below.encode().split(b"/"))
    route = next(route for route in routes if route.fits(parts))
    return frozenset(code.wire for code in codes_of(route, request.method, v2=routes is V2_ROUTES))


@dataclass(frozen=True)
class Answer:
    """What came back. `same` is all of it but the request's own id and the date."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["resultCode"])

    @property
    def desc(self) -> str:
        return str(self.json["resultDesc"])

    @property
    def same(self) -> tuple[int, dict[str, str], bytes]:
        """What may be the same in two answers: all but the request's id and what the clock says."""
        kept = {name: value for name, value in self.headers.items() if name not in ("x-request-id", "date")}
        return self.status, kept, CLOCKS.sub(b"", self.body)


class Line:
    """One kept connection."""

    def __init__(self, port: int, timeout: float = 15, source: str = "127.0.0.1") -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout, source_address=(source, 0))
        self._body: bytes | None = None

    def ask(self, request: Request) -> Answer:
        self.send(request)
        return self.read()

    def send(self, request: Request) -> None:
        self.prepare(request)
        self.fire()

    def prepare(self, request: Request) -> None:
        """Everything but the sending."""
        self._http.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            self._http.putheader(name, value)
        if request.body and not any(name == "Transfer-Encoding" for name, _ in request.headers):
            self._http.putheader("Content-Length", str(len(request.body)))
        self._body = request.body or None

    def fire(self) -> None:
        """Send what was prepared, in one go."""
        self._http.endheaders(self._body)

    def waits(self) -> bool:
        """Whether nothing has come back yet."""
        return not select.select([self._http.sock], [], [], 0)[0]

    def read(self) -> Answer:
        response = self._http.getresponse()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body)

    def close(self) -> None:
        self._http.close()


class Sql:
    """Plain SQL on the server's database, on a loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._conn = self.run(asyncpg.connect(dsn))
        except BaseException:
            self._loop.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def rows(self, query: str, *args: Any) -> Rows:
        return [dict(row) for row in self.run(self._conn.fetch(query, *args))]

    def value(self, query: str, *args: Any) -> Any:
        return self.run(self._conn.fetchval(query, *args))

    def do(self, query: str, *args: Any) -> None:
        self.run(self._conn.execute(query, *args))

    def close(self) -> None:
        self.run(self._conn.close())
        self._loop.close()


class Processes:
    """The api processes of one server, on one listening socket that outlives them."""

    def __init__(self, dsn: str, folder: Path, number: int, source: Path | None = None) -> None:
        self._settings = Settings(data=folder / "data", database=dsn, stop_grace=0)
        self._folder = folder
        self._number = number
        self._source = source
        self._socket = listening_socket("127.0.0.1", 0)
        self._running: list[subprocess.Popen[bytes]] = []
        self.port = int(self._socket.getsockname()[1])

    def start(self) -> None:
        for _ in range(self._number):
            self._one()

    def _one(self) -> None:
        ready, tell = os.pipe()
        fd = self._socket.fileno()
        env = {name: value for name, value in os.environ.items() if not name.startswith("OUTDIAL_")}
        env |= compose.environment(self._settings) | {compose.LISTEN_FD: str(fd), READY_FD: str(tell)}
        if self._source is not None:
            env["PYTHONPATH"] = str(self._source)
        command = [sys.executable, "-m", "outdial.compose", "api"]
        with (self._folder / "api.log").open("ab") as log, os.fdopen(ready, "rb") as told:
            try:
                running = subprocess.Popen(
                    command, env=env, stdout=log, stderr=log, pass_fds=(fd, tell), cwd=self._folder
                )
            finally:
                os.close(tell)
            self._running.append(running)
            assert told.read() == b"ready\n", self.log()

    def stop(self) -> None:
        for running in self._running:
            running.send_signal(signal.SIGTERM)
        for running in self._running:
            try:
                running.wait(30)
            finally:
                with suppress(ProcessLookupError):
                    running.kill()
        self._running.clear()

    def close(self) -> None:
        self.stop()
        self._socket.close()

    def log(self) -> str:
        """What the processes logged so far."""
        return (self._folder / "api.log").read_text(encoding="utf-8")


class Face:
    """A running interface with its keys; `seen` counts the codes that were answered."""

    def __init__(self, dsn: str, folder: Path, number: int, source: Path | None = None) -> None:
        create_master_key(folder / "data")
        self.sql = Sql(dsn)
        self.processes = Processes(dsn, folder, number, source)
        self.port = self.processes.port
        self.seen: Counter[str] = Counter()
        self.keys: dict[int, AccessKey] = {}
        self.dsn = dsn
        self._master_key = load_master_key(folder / "data", {})
        self._last = datetime.min.replace(tzinfo=UTC)
        self._names = count(1)
        self._line: Line | None = None
        self._used = 0.0

    # -- tenants and campaigns, made beside the interface ----------------------------------------------

    def vdn(
        self, vdn_id: int, zone: str = "UTC", edition: Edition = Edition.Y2023, max_active: int = 10_000
    ) -> int:
        """A new VDN with an access key."""
        self.keys[vdn_id] = self.sql.run(self._new(Vdn(vdn_id, zone, edition, max_active)))
        return vdn_id

    async def _new(self, vdn: Vdn) -> AccessKey:
        async with Store(self.dsn, self._master_key, size=1) as store:
            assert await store.vdns.create(vdn)
            return await store.vdns.create_key(vdn.vdn_id)

    def another_key(self, vdn_id: int) -> AccessKey:
        """One more access key of a VDN."""
        return self.sql.run(self._key(vdn_id))

    async def _key(self, vdn_id: int) -> AccessKey:
        async with Store(self.dsn, self._master_key, size=1) as store:
            return await store.vdns.create_key(vdn_id)

    def campaign(self, vdn: int = OLD, **columns: Any) -> int:
        """A campaign put there by SQL: a draft of device type 3 within its dates, unless said otherwise."""
        now = utc_now()
        row = {
            "vdn_id": vdn,
            "name": f"c{next(self._names)}",
            "description": "",
            "device_type": 3,
            "state": "draft",
            "begin_at": now - timedelta(days=1),
            "end_at": now + timedelta(days=30),
            "caller_no": "100",
            "max_alerting_time": 30,
            "windows": [0, 1440, None, None, None, None],
            "device_sign": "",
            "call_count": 10,
            "call_interval": 1,
            "duplicates": "allow",
            "on_unknown": "count",
            "created_at": now,
        } | columns
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        query = f"INSERT INTO campaign ({', '.join(row)}) VALUES ({places}) RETURNING campaign_id"
        return int(self.sql.value(query, *row.values()))

    def change(self, campaign: int, **columns: Any) -> None:
        """Change columns of a campaign by SQL."""
        sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
        self.sql.do(f"UPDATE campaign SET {sets} WHERE campaign_id = $1", campaign, *columns.values())

    def rewind(self, *campaigns: int) -> None:
        """The 1-second rule has run out for these campaigns."""
        self.sql.do("UPDATE campaign SET last_added_at = NULL WHERE campaign_id = ANY($1)", list(campaigns))

    def contacts(self, campaign: int) -> Rows:
        """The stored numbers of a campaign, in the order in which they came."""
        query = "SELECT * FROM contact WHERE campaign_id = $1 ORDER BY due_at, contact_id"
        return self.sql.rows(query, campaign)

    # -- requests ----------------------------------------------------------------------------------------

    def moment(self) -> datetime:
        """Now, but never the same millisecond twice: equal requests must have different signatures."""
        now = utc_now()
        self._last = max(now, self._last + timedelta(milliseconds=1))
        return self._last

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        vdn: int = OLD,
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        content_type: str | None = JSON,
        at: datetime | None = None,
        key: AccessKey | None = None,
    ) -> Request:
        """A signed request; `path` below the prefix, or whole; a body of bytes goes as it is."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        whole = path if path.startswith("/") else f"{PREFIX}/{path}"
        host = f"127.0.0.1:{self.port}"
        key = key or self.keys[vdn]
        authorization = sign(
            key.secret,
            key.ak,
            method,
            whole.encode(),
            query.encode(),
            [(b"host", host.encode())],
            raw,
            at or self.moment(),
            milliseconds=True,
        )
        sent = [("Host", host), ("Authorization", authorization), *headers]
        if raw and content_type is not None:
            sent.append(("Content-Type", content_type))
        return Request(method, f"{whole}?{query}" if query else whole, tuple(sent), raw)

    def call(self, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        """Sign, send, and check what holds for every answer."""
        return self.send(self.request(method, path, body, **how))

    def send(self, request: Request) -> Answer:
        """Send a request over the kept connection and check what holds for every answer."""
        if self._line is None or time.monotonic() - self._used > 5:
            self.hang_up()
            self._line = Line(self.port)
        answer = self._line.ask(request)
        self._used = time.monotonic()
        self.checked(answer)
        if answer.status == 200 and request.target.startswith("/rest/"):
            assert answer.code in documented(request), (
                f"{request.method} {request.target}: not in the document"
            )
        return answer

    def send_from(self, source: str, request: Request) -> Answer:
        """Send a request from another address, over a connection of its own."""
        line = Line(self.port, source=source)
        try:
            return self.checked(line.ask(request))
        finally:
            line.close()

    def checked(self, answer: Answer) -> Answer:
        """Both pairs are equal, a refusal has no returnObject, the answer is JSON with a request id."""
        said = answer.json
        assert answer.status in {200, *STATUSES}, "not in the document"
        assert OF_STATUS.get(answer.status, {}).keys() <= {name.title() for name in answer.headers}
        assert answer.headers["content-type"] == JSON
        assert answer.headers["x-request-id"]
        assert (said["returnCode"], said["returnDesc"]) == (said["resultCode"], said["resultDesc"])
        if said["resultCode"] != "0200000":
            assert set(said) == {"resultCode", "resultDesc", "returnCode", "returnDesc"}
            assert said["resultDesc"]
        self.seen[said["resultCode"]] += 1
        return answer

    def hang_up(self) -> None:
        """Close the kept connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def add(self, campaign: int | str, entries: Any, *, vdn: int = OLD, **how: Any) -> Answer:
        """Add outbound numbers: entries as given, numbers as entries, or a whole body in bytes."""
        return self.send(self.adding(campaign, entries, vdn=vdn, **how))

    def adding(self, campaign: int | str, entries: Any, *, vdn: int = OLD, **how: Any) -> Request:
        """The request of `add`."""
        if isinstance(entries, list):
            entries = {"callDataList": [{"called": e} if isinstance(e, str) else e for e in entries]}
        return self.request("POST", f"{vdn}/calldata/{campaign}", entries, vdn=vdn, **how)

    # -- what is kept --------------------------------------------------------------------------------------

    def kept(self) -> Any:
        """A fingerprint of all that the interface can change."""
        return self.sql.rows(
            "SELECT (SELECT count(*) FROM contact) AS contacts,"
            " (SELECT count(*) FROM stored_answer) AS answers,"
            " (SELECT md5(string_agg(b::text, '|' ORDER BY vdn_id, number)) FROM blacklist b) AS listed,"
            " (SELECT md5(string_agg(d::text, '|' ORDER BY special_date_id)) FROM special_date d) AS dates,"
            " (SELECT md5(string_agg(c::text, '|' ORDER BY campaign_id)) FROM campaign c) AS campaigns"
        )

    @contextmanager
    def nothing_kept(self) -> Iterator[None]:
        """What happens inside changes nothing in the database."""
        before = self.kept()
        yield
        assert self.kept() == before

    def refuses(self, answer: Answer, code: str, *, says: str = "", status: int = 200) -> None:
        """The answer is this refusal; `says` stands in its description."""
        assert (answer.status, answer.code) == (status, code), answer.desc
        assert says in answer.desc

    def close(self) -> None:
        """End all."""
        self.hang_up()
        self.processes.close()
        self.sql.close()


Server = Callable[..., AbstractContextManager[Face]]
"""The fixture `make_server`."""


def hides(description: str, value: str) -> bool:
    """Whether a description repeats no more than 4 characters of a value (semantics.md §2)."""
    return not any(value[at : at + 5] in description for at in range(len(value) - 4))


def new_campaign(**fields: Any) -> dict[str, Any]:
    """The body of a create that is accepted: a draft from today on, open all day."""
    now = utc_now()
    body = {
        "name": f"n{secrets.token_hex(6)}",
        "strBeginTime": now.strftime("%Y-%m-%d 00:00:00"),
        "strEndTime": (now + timedelta(days=30)).strftime("%Y-%m-%d %H:%M:%S"),
        "deviceType": 3,
        "callerNo": "100",
        "maxAlertingTime": 30,
        "scheduleParam": {"workdayBeginTime1": "00:00", "workdayEndTime1": "24:00"},
        "ivrParam": {"deviceSign": "70941", "callCount": 10, "callInterval": 5},
        "initStatus": 1,
    }
    return body | fields


@contextmanager
def running_api(dsn: str, folder: Path, processes: int = 1, source: Path | None = None) -> Iterator[Face]:
    """A server of so many api processes with the VDNs OLD, NEW and OTHER; `source`: another copy of src."""
    face = Face(dsn, folder, processes, source)
    try:
        face.vdn(OLD)
        face.vdn(NEW, edition=Edition.Y2025)
        face.vdn(OTHER)
        face.processes.start()
        line = Line(face.port)
        try:
            ready = line.ask(Request("GET", "/readyz", (("Host", f"127.0.0.1:{face.port}"),), b""))
            assert ready.status == 200, face.processes.log()
        finally:
            line.close()
        yield face
    finally:
        face.close()
