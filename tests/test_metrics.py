"""Counters in files: summed over processes, kept over deaths, and every one of them documented."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outdial import metrics
from outdial.errors import StoreUnavailable
from outdial.model import EngineStanding, TrunkState
from outdial.routing import Bar
from outdial.routing.board import TrunkStanding
from outdial.store.store import Store
from outdial.switch import sip as sip_switch
from outdial.web import app, edge, guard
from outdial.web.exposition import SAID, Exposition

COUNTING = """
import os, sys
from pathlib import Path
from outdial import metrics
metrics.share(Path(sys.argv[1]))
metrics.NUMBERS_ADMITTED.add(by=float(sys.argv[2]))
metrics.ATTEMPTS.add("ANSWERED")
metrics.REQUEST_SECONDS.observe(float(sys.argv[3]), "pause")
if len(sys.argv) > 4:
    metrics.CALLS_IN_FLIGHT.set(7)
    metrics.CERTIFICATE_ENDS.set(float(sys.argv[4]))
print("counted", flush=True)
os.kill(os.getpid(), 9)
"""


def count(folder: Path, name: str, *values: object) -> None:
    """A process that counts and is killed the moment after."""
    argv = [sys.executable, "-c", COUNTING, str(folder / f"{name}.metrics"), *map(str, values)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ("counted\n", -9), ended.stderr


def samples(folder: Path) -> dict[str, float]:
    text = metrics.text(metrics.gathered(folder))
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}


def test_counters_are_summed_over_processes_and_kept_over_their_deaths(tmp_path: Path) -> None:
    count(tmp_path, "api-1", 3, 0.2)
    count(tmp_path, "api-2", 4, 0.3)
    count(tmp_path, "api-1", 5, 9)  # the successor of the first
    found = samples(tmp_path)
    assert found["outdial_numbers_admitted_total"] == 12
    assert found['outdial_attempts_total{disposition="ANSWERED"}'] == 3
    assert found['outdial_attempts_total{disposition="BUSY"}'] == 0
    bucket = 'outdial_request_duration_seconds_bucket{operation="pause",le="%s"}'
    assert [found[bucket % le] for le in ("0.1", "0.25", "0.5", "5", "+Inf")] == [0, 1, 2, 2, 3]
    assert found['outdial_request_duration_seconds_count{operation="pause"}'] == 3
    assert found['outdial_request_duration_seconds_sum{operation="pause"}'] == pytest.approx(9.5)
    assert not [name for name in found if 'operation="resume"' in name]


def test_a_gauge_dies_with_its_process_and_the_soonest_end_counts(tmp_path: Path) -> None:
    count(tmp_path, "engine", 0, 0, 900)
    count(tmp_path, "api-1", 0, 0, 500)
    assert samples(tmp_path)["outdial_calls_in_flight"] == 14
    assert samples(tmp_path)["outdial_certificate_expiry_timestamp_seconds"] == 500
    count(tmp_path, "api-1", 0, 0)  # begins anew, and has not said anything
    assert samples(tmp_path)["outdial_calls_in_flight"] == 7
    assert samples(tmp_path)["outdial_certificate_expiry_timestamp_seconds"] == 900


def test_a_label_is_escaped() -> None:
    sample = metrics.Sample("x", {"trunk": 'a"b\\c\nd'}, 0.5)
    assert metrics.text([metrics.Family("x", "gauge", "X.", ("trunk",), [sample])]) == (
        '# HELP x X.\n# TYPE x gauge\nx{trunk="a\\"b\\\\c\\nd"} 0.5\n'
    )


def test_every_operation_of_the_interface_has_its_label() -> None:
    routes = [route for routes in app.PREFIXES.values() for route in routes]
    named = {handler.__name__.lstrip("_") for route in routes for handler in route.handlers.values()}
    assert named | {metrics.NONE} == set(metrics.OPERATIONS)


def test_every_status_of_the_edge_has_its_label() -> None:
    """A status without one would fail in the middle of a refusal."""
    source = Path(edge.__file__).read_text() + Path(guard.__file__).read_text()
    used = set(re.findall(r"(?:_refuse_in_parser|Fault)\((\d{3}),", source))
    assert len(used) > 6
    assert used <= set(metrics.STATUSES)


def families() -> Iterator[Any]:
    yield from metrics._counted
    yield from SAID


def test_every_metric_stands_in_the_reference() -> None:
    page = Path(__file__).parent.parent / "docs/reference/metrics.md"
    rows = re.findall(r"^\| `(outdial_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", page.read_text(), re.MULTILINE)
    said = [
        (one.name, one.kind, ", ".join(f"`{name}`" for name in labels_of(one)), one.doc) for one in families()
    ]
    assert rows == said


def labels_of(one: Any) -> tuple[str, ...]:
    return tuple(one.labels if isinstance(one, metrics.Family) else one.names)


def test_no_label_can_name_a_person() -> None:
    """No number, key or VDN: the labels are these, and all but two have their values declared."""
    named = {name for one in families() for name in labels_of(one)}
    assert named == {
        *("operation", "code", "status", "outcome", "disposition", "kind", "version", "trunk", "process")
    }


async def test_what_the_database_does_not_do_is_counted() -> None:
    def counted() -> float:
        return metrics._cells[metrics.DATABASE_ERRORS.at["unavailable",]]

    before = counted()
    async with Store("postgresql://127.0.0.1:1/none", None, size=1) as store:
        with pytest.raises(StoreUnavailable):
            await store.results.backlog()
    assert counted() == before + 1


async def test_the_outbox_and_the_trunks_come_from_the_database(
    tmp_path: Path, database: str, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO outbox (vdn_id, result_id, campaign_id, url, due_at, created_at)"
        " SELECT 1, gen_random_uuid(), 1, 'http://a', CASE WHEN n < 3 THEN now() END,"
        " now() - n * interval '100 s' FROM generate_series(0, 4) n"
    )
    trunks = (
        TrunkState("north", "main", in_use=3, channels=30),
        TrunkState("south", "main", "off", up=False),
    )
    async with Store(database, None, size=1) as store:
        for host in ("here", "elsewhere"):
            epoch = await store.calls.begin_epoch(host, 1, timedelta(seconds=60))
            standing = EngineStanding(True, trunks if host == "here" else (TrunkState("far", "main"),))
            await store.calls.say_standing(epoch, standing)
        text = await Exposition(store, tmp_path, "here")._text()
    found = {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}
    assert (found["outdial_outbox_waiting"], found["outdial_outbox_given_up"]) == (3, 2)
    assert 400 <= found["outdial_outbox_oldest_age_seconds"] < 460
    assert found['outdial_trunk_up{trunk="north"}'] == 1
    assert found['outdial_trunk_up{trunk="south"}'] == 0
    assert found['outdial_trunk_channels_in_use{trunk="north"}'] == 3
    assert found['outdial_trunk_channels{trunk="north"}'] == 30
    assert 'outdial_trunk_up{trunk="far"}' not in found


@pytest.mark.parametrize(
    ("bar", "up", "said"),
    [
        (None, True, None),
        (Bar.CPS, True, None),
        (Bar.CHANNELS, True, "all channels in use"),
        (Bar.BREAKER, False, "circuit breaker open"),
        (Bar.UNREACHABLE, False, "no address known, or no connection"),
        (Bar.UNREGISTERED, False, "not registered there"),
    ],
)
def test_a_trunk_that_is_only_busy_is_up(bar: Bar | None, up: bool, said: str | None) -> None:
    standing = TrunkStanding("north", "main", bar, None, "", 3, 30, None)
    state = sip_switch._state(standing, 0.0, datetime.now(UTC))
    assert state == TrunkState("north", "main", said, up=up, in_use=3, channels=30)
