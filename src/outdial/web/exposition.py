"""`/metrics`: what the processes of this server counted, what the database knows, what the system says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from outdial import __version__
from outdial.errors import StoreUnavailable
from outdial.metrics import METRICS_FILE, Family, Sample, gathered, text
from outdial.model import EngineStanding
from outdial.store.results import Backlog
from outdial.store.store import Store
from outdial.web.guard import Receive, Scope, Send

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Exposition:
    """The application of the metrics process. `folder` holds the files of the others, `host` is ours."""

    def __init__(self, store: Store, folder: Path, host: str) -> None:
        self._store = store
        self._folder = folder
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        found, wanted = scope["path"] == "/metrics", scope["method"] in ("GET", "HEAD")
        body = (await self._text()).encode() if found and wanted else b""
        status = 404 if not found else 200 if wanted else 405
        headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _text(self) -> str:
        build = _gauge(BUILD, {"version": __version__}, 1)
        return text([build, *gathered(self._folder), *await self._of_database(), *of_processes()])

    async def _of_database(self) -> list[Family]:
        """A database that is away says nothing, and that it is away."""
        try:
            backlog = await self._store.results.backlog()
            standings = await self._store.calls.standings(self._host)
        except StoreUnavailable:
            return [_gauge(DATABASE_UP, {}, 0)]
        now = self._store.results.now()
        return [_gauge(DATABASE_UP, {}, 1), *_of_backlog(backlog, now), *_of_trunks(standings)]


# -- what is said besides the counters ---------------------------------------------------------------------

BUILD: Final = Family("outdial_build_info", "gauge", "1, with the version of outdial.", ("version",))
DATABASE_UP: Final = Family("outdial_database_up", "gauge", "Whether the database answered just now.")
OUTBOX_WAITING: Final = Family(
    "outdial_outbox_waiting", "gauge", "Results that wait for their push or for its repeat."
)
OUTBOX_GIVEN_UP: Final = Family(
    "outdial_outbox_given_up", "gauge", "Results whose pushes are used up: `outdial results resend`."
)
OUTBOX_OLDEST: Final = Family(
    "outdial_outbox_oldest_age_seconds", "gauge", "Age of the oldest result that no receiver took; 0: none."
)
TRUNK_UP: Final = Family(
    "outdial_trunk_up",
    "gauge",
    "1: the trunk takes calls, or is only busy with them; 0: it is barred.",
    ("trunk",),
)
TRUNK_CHANNELS: Final = Family(
    "outdial_trunk_channels", "gauge", "Channels of a trunk that this server's engine may use.", ("trunk",)
)
TRUNK_IN_USE: Final = Family(
    "outdial_trunk_channels_in_use",
    "gauge",
    "Channels of a trunk in use by this server's engine.",
    ("trunk",),
)
MEMORY: Final = Family(
    "outdial_process_resident_memory_bytes",
    "gauge",
    "Memory of a process of this server (Linux).",
    ("process",),
)
OPEN_FILES: Final = Family(
    "outdial_process_open_fds", "gauge", "Open file descriptors of a process (Linux).", ("process",)
)
CPU: Final = Family(
    "outdial_process_cpu_seconds_total",
    "counter",
    "CPU time of a process since its start (Linux).",
    ("process",),
)

SAID: Final = (
    BUILD,
    DATABASE_UP,
    OUTBOX_WAITING,
    OUTBOX_GIVEN_UP,
    OUTBOX_OLDEST,
    TRUNK_UP,
    TRUNK_CHANNELS,
    TRUNK_IN_USE,
    MEMORY,
    OPEN_FILES,
    CPU,
)
"""The families that are no counters of ours; their samples are made at each request."""


def _of(family: Family, samples: list[Sample]) -> Family:
    return Family(family.name, family.kind, family.doc, family.labels, samples)


def _gauge(family: Family, labels: dict[str, str], value: float) -> Family:
    return _of(family, [Sample(family.name, labels, value)])


def _of_backlog(backlog: Backlog, now: datetime) -> Iterator[Family]:
    age = (now - backlog.oldest).total_seconds() if backlog.oldest is not None else 0.0
    yield _gauge(OUTBOX_WAITING, {}, backlog.waiting)
    yield _gauge(OUTBOX_GIVEN_UP, {}, backlog.given_up)
    yield _gauge(OUTBOX_OLDEST, {}, max(0.0, age))


def _of_trunks(standings: list[EngineStanding]) -> Iterator[Family]:
    trunks = {trunk.name: trunk for standing in standings for trunk in standing.trunks}
    values = {
        TRUNK_UP.name: [(name, float(one.up)) for name, one in trunks.items()],
        TRUNK_CHANNELS.name: [(name, float(one.channels)) for name, one in trunks.items()],
        TRUNK_IN_USE.name: [(name, float(one.in_use)) for name, one in trunks.items()],
    }
    for family in (TRUNK_UP, TRUNK_CHANNELS, TRUNK_IN_USE):
        yield _of(family, [Sample(family.name, {"trunk": name}, n) for name, n in values[family.name]])


def of_processes() -> list[Family]:
    """Memory, files and CPU of the supervisor and its processes; nothing where there is no /proc."""
    memory, files, cpu = [], [], []
    for name, folder in _processes(os.getppid()):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            opened = len(os.listdir(folder / "fd"))
        except OSError:  # it has ended meanwhile
            continue
        labels = {"process": name}
        cpu.append(Sample(CPU.name, labels, (int(stat[11]) + int(stat[12])) / _TICKS))
        memory.append(Sample(MEMORY.name, labels, int(stat[21]) * _PAGE))
        files.append(Sample(OPEN_FILES.name, labels, opened))
    return [_of(MEMORY, memory), _of(OPEN_FILES, files), _of(CPU, cpu)]


def _processes(supervisor: int) -> Iterator[tuple[str, Path]]:
    """The supervisor, and its children by the names of their files."""
    yield "supervisor", Path(f"/proc/{supervisor}")
    try:
        folders = [Path("/proc", name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    for folder in folders:
        try:
            parent = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
            variables = (folder / "environ").read_bytes().split(b"\0") if int(parent) == supervisor else []
        except OSError:
            continue
        for variable in variables:
            name, _, value = variable.partition(b"=")
            if name == METRICS_FILE.encode():
                yield Path(os.fsdecode(value)).stem, folder
