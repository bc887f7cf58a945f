"""Counters of one process in a file that others may read: what `/metrics` adds up over the processes.

Every label set is declared here, so each sample has a fixed cell of 8 bytes. A cell is written in place: a
process that is killed leaves what it counted, and its successor under the same name counts on.
"""

from __future__ import annotations

import bisect
import errno
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Final

from outdial.errors import Code
from outdial.model import Disposition

METRICS_FILE: Final = "OUTDIAL_METRICS_FILE"
"""The variable that names a process's own file; the file's stem names the process."""

NONE: Final = "none"
"""The label of a request that reached no operation, and of an answer without a result code."""

OPERATIONS: Final = (
    "add_numbers",
    "create_campaign",
    "create_campaign_v2",
    "modify_campaign",
    "modify_campaign_v2",
    "list_campaigns",
    "show_campaign",
    "delete_campaign",
    "pause",
    "resume",
    "set_retry_policy",
    "show_retry_policy",
    "list_special_dates",
    "add_special_date",
    "modify_special_date",
    "delete_special_dates",
    "delete_numbers",
    "query_results",
    "show_call",
    "blacklist_add",
    "blacklist_delete",
    "blacklist_query",
    "blacklist_clear",
    NONE,
)
CODES: Final = (*(code.wire for code in Code), NONE)
STATUSES: Final = ("400", "405", "408", "413", "414", "415", "421", "429", "431", "500", "501", "503", "505")
REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SETTLE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the answer: the name with its suffix, the labels, the value."""

    name: str
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its samples, as the text format groups them. `labels`: the names of its labels."""

    name: str
    kind: str
    doc: str
    labels: tuple[str, ...] = ()
    samples: list[Sample] = field(default_factory=list)


_cells: memoryview[float] = memoryview(bytearray(8 * 4096)).cast("d")
_used = 0
_counted: list[Metric] = []


class Metric:
    """A metric whose samples have cells. `combine` makes one value of those of several processes."""

    kind = "counter"

    def __init__(self, name: str, doc: str, **labels: Sequence[str]) -> None:
        global _used  # noqa: PLW0603  # the one count of the cells that are given out
        self.name, self.doc = name, doc
        self.names = tuple(labels)
        self.sets = list(product(*labels.values()))
        width = self.width()
        self.at = {values: _used + width * n for n, values in enumerate(self.sets)}
        _used += width * len(self.sets)
        assert _used <= len(_cells), "more cells than a file has"
        _counted.append(self)

    def width(self) -> int:
        """Cells of one label set."""
        return 1

    def combine(self, values: Iterable[float]) -> float:
        """One value of those of all processes."""
        return sum(values)

    def samples(self, cells: Sequence[Sequence[float]]) -> Iterator[Sample]:
        """Its samples, from the cells of every process."""
        for values, at in self.at.items():
            value = self.combine(one[at] for one in cells)
            if value or len(self.names) < 2:  # hundreds of pairs of labels never occur
                yield Sample(self.name, self.named(values), value)

    def named(self, values: tuple[str, ...]) -> Labels:
        """The labels of a set by name."""
        return dict(zip(self.names, values, strict=True))


class Counter(Metric):
    """What only grows."""

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count `by` for these label values, which must be declared ones."""
        _cells[self.at[labels]] += by


class Gauge(Metric):
    """What each process knows of itself; the sum of all, or with `least` the least that is not 0."""

    kind = "gauge"
    least = False

    def set(self, value: float) -> None:
        """The value of this process from now on."""
        _cells[self.at[()]] = value

    def combine(self, values: Iterable[float]) -> float:
        """The sum, or the least that was set."""
        if not self.least:
            return sum(values)
        return min((value for value in values if value), default=0.0)


class LeastGauge(Gauge):
    """Of several processes the least value that was set."""

    least = True


class Histogram(Metric):
    """How long something took, in seconds: a cell for each bucket, for what is longer, and for the sum."""

    kind = "histogram"

    def __init__(self, name: str, doc: str, buckets: Sequence[float], **labels: Sequence[str]) -> None:
        self.buckets = buckets
        super().__init__(name, doc, **labels)

    def width(self) -> int:
        """Cells of one label set."""
        return len(self.buckets) + 2

    def observe(self, seconds: float, *labels: str) -> None:
        """It took so long."""
        at = self.at[labels]
        _cells[at + bisect.bisect_left(self.buckets, seconds)] += 1
        _cells[at + len(self.buckets) + 1] += seconds

    def samples(self, cells: Sequence[Sequence[float]]) -> Iterator[Sample]:
        """Cumulative buckets, sum and count; nothing for a label set that never was seen."""
        for values, at in self.at.items():
            totals = [sum(one[at + n] for one in cells) for n in range(self.width())]
            labels, seen = self.named(values), 0.0
            if not any(totals[:-1]):
                continue
            for n, bound in enumerate((*self.buckets, float("inf"))):
                seen += totals[n]
                yield Sample(f"{self.name}_bucket", {**labels, "le": _number(bound)}, seen)
            yield Sample(f"{self.name}_sum", labels, totals[-1])
            yield Sample(f"{self.name}_count", labels, seen)


REQUESTS = Counter(
    "outdial_requests_total",
    "Requests that were answered, by operation and result code; `none`: no operation, no code.",
    operation=OPERATIONS,
    code=CODES,
)
REQUEST_SECONDS = Histogram(
    "outdial_request_duration_seconds",
    "From the head of a request to its answer.",
    REQUEST_BUCKETS,
    operation=OPERATIONS,
)
HTTP_REFUSALS = Counter(
    "outdial_http_refusals_total",
    "Requests that were refused below the interface: framing, limits, deadlines.",
    status=STATUSES,
)
NUMBERS_ADMITTED = Counter("outdial_numbers_admitted_total", "Numbers that adds have stored.")
CLAIMS = Counter(
    "outdial_claims_total",
    "Claims of the engine: with calls, empty, or failed because of the store.",
    outcome=("calls", "empty", "failed"),
)
CALLS_CLAIMED = Counter("outdial_calls_claimed_total", "Calls that claims intended.")
CALLS_IN_FLIGHT = Gauge("outdial_calls_in_flight", "Calls that were placed and have not ended.")
ATTEMPTS = Counter(
    "outdial_attempts_total",
    "Attempts whose end was stored, by disposition.",
    disposition=[str(one.value) for one in Disposition],
)
SETTLE_SECONDS = Histogram(
    "outdial_settle_duration_seconds", "From the end of an attempt to its being stored.", SETTLE_BUCKETS
)
PUSHED = Counter(
    "outdial_pushes_total",
    "Pushes of results, an immediate repeat included, by what became of them.",
    outcome=("delivered", "failed"),
)
DATABASE_ERRORS = Counter(
    "outdial_database_errors_total",
    "Work that the database did not do, and commits of unknown fate.",
    kind=("unavailable", "commit_unknown"),
)
CERTIFICATE_ENDS = LeastGauge(
    "outdial_certificate_expiry_timestamp_seconds",
    "When the certificate of the API ends, the soonest of all api processes; 0 without TLS.",
)


# -- files -------------------------------------------------------------------------------------------------


def share(file: Path) -> None:
    """From now on count in `file`, on top of what an earlier process of this name counted there.

    Raises `OSError`, and goes on counting for itself, when the disk has no room: a page that it could not
    give later would end the process (SIGBUS).
    """
    global _cells  # noqa: PLW0603  # a process has one set of cells
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        there = os.fstat(descriptor).st_size
        if (missing := _cells.nbytes - there) > 0 and os.pwrite(descriptor, bytes(missing), there) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        _cells = memoryview(mmap.mmap(descriptor, _cells.nbytes)).cast("d")
    finally:
        os.close(descriptor)
    for metric in _counted:
        if isinstance(metric, Gauge):
            metric.set(0.0)  # of the earlier process


def gathered(folder: Path) -> list[Family]:
    """What the processes counted whose files are in `folder`."""
    files = sorted(folder.glob("*.metrics"))
    cells = [memoryview(content).cast("d") for file in files if (content := file.read_bytes())]
    return [Family(one.name, one.kind, one.doc, one.names, list(one.samples(cells))) for one in _counted]


# -- text --------------------------------------------------------------------------------------------------


def text(families: Iterable[Family]) -> str:
    """The text format of Prometheus, version 0.0.4."""
    lines = []
    for one in families:
        lines += [f"# HELP {one.name} {one.doc}", f"# TYPE {one.name} {one.kind}"]
        lines += [f"{sample.name}{_braces(sample.labels)} {_number(sample.value)}" for sample in one.samples]
    return "\n".join(lines) + "\n"


def _braces(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)
