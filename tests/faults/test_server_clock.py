"""The clock of the machine is set while a whole server adds, calls and pushes: +1 h, -1 day, and right again.

The server runs under faketime (Debian: `faketime`): supervisor, PostgreSQL, carrier and all. The monotonic
clock goes on. The carrier's log shows the clock that the machine showed; the receiver's does not.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from adding import make_campaigns
from calling import SECRET, SETTINGS, CarrierLog, Receiver, all_ended, receiving, start_campaign
from receiver_farm import seconds_of
from serving import VDN, Serve, Server, wait_for

from outdial.client import BlockingClient, ClientError
from outdial.client import transport as client_transport
from outdial.model import AccessKey

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
STEPS = (("+1h", 3600), ("-1d", -86400), ("+0", 0), ("-1d", -86400), ("+1h", 3600), ("+0", 0))
"""What the clock is set to in turn, as distance from the right time in seconds."""

NUMBERS, PER_SECOND = 2000, 20
EACH = 20
"""Calls and pushes while the clock stands so, at least."""

HALF_AN_HOUR = 30
NO_SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
"""faketime answers clock_nanosleep on a monotonic clock that is not faked with EINVAL."""


class Machine:
    """The machine's clock, as the server sees it."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = server.data.parent
        self._file = folder / "clock"
        self.distance = 0
        self.set("+0", 0)
        (folder / "start").mkdir()
        (folder / "start" / "sitecustomize.py").write_text(NO_SLEEP)
        server.environment |= {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(folder / "start"), server.environment.get("PYTHONPATH")])
            ),
        }
        machine = self

        class Shown(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + timedelta(seconds=machine.distance)

        monkeypatch.setattr(client_transport, "datetime", Shown)

    def set(self, words: str, distance: int) -> None:
        """The server sees it at its next look; so does the client of this process."""
        new = self._file.with_suffix(".new")
        new.write_text(words + "\n")
        new.chmod(0o644)
        os.replace(new, self._file)
        self.distance = distance


def start_in_hours(server: Server, url: str) -> int:
    """A campaign whose hours are half an hour before and after now, in a zone where now is about noon."""
    now = datetime.now(UTC)
    ahead = (12 - now.hour) % 24
    ahead = ahead - 24 if ahead > 12 else ahead
    zone = f"Etc/GMT{-ahead:+d}"  # the sign of these names is turned round
    minute = 12 * 60 + now.minute
    server.rows("UPDATE vdn SET time_zone = $1", zone)
    made = start_campaign(server.dsn, NUMBERS, url, per_second=PER_SECOND, endings=("01",), first="81")
    hours = [minute - HALF_AN_HOUR, minute + HALF_AN_HOUR, None, None, None, None]
    server.rows("UPDATE campaign SET windows = $1 WHERE campaign_id = $2", hours, made)
    return made


def adds(server: Server, key: AccessKey, campaign: int, first: int) -> None:
    """One request, as soon as the server takes it: its processes may be on their way back."""
    with BlockingClient(server.url, key.ak, key.secret, VDN) as client:
        client.add_numbers(campaign, [{"called": f"95{first + nth:04}"} for nth in range(5)])


def on_while_it_stands_so(
    server: Server, log: CarrierLog, receiver: Receiver, machine: Machine, *, in_hours: bool
) -> None:
    """Calls leave and results arrive; the carrier's log shows the new clock."""
    calls, pushes = len(shown(log, machine)), len(receiver.pushes())
    wait_for(
        lambda: len(shown(log, machine)) >= calls + EACH and len(receiver.pushes()) >= pushes + EACH,
        60,
        lambda: f"it does not go on at {machine.distance} s: {server.said()}",
        every=0.1,
    )
    if in_hours:
        narrow = sum(order["called"][:2] == "81" for order in log.orders)
        wait_for(
            lambda: sum(order["called"][:2] == "81" for order in log.look().orders) >= narrow + 5,
            60,
            "none of those with hours",
            every=0.1,
        )


def shown(log: CarrierLog, machine: Machine) -> list[dict[str, Any]]:
    """Orders that the carrier took while the machine's clock showed about this distance."""
    expected = time.time() + machine.distance
    return [order for order in log.look().orders if abs(seconds_of(order) - expected) < 1200]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(not LIBRARY.exists(), reason="faketime is not installed (tools/test_programs.sh)")
def test_the_clock_of_the_machine_is_set(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call outside the hours, no number twice, nothing lost; signatures go by the clock as it is."""
    server = serve(**SETTINGS)
    assert server.stop() == 0
    machine = Machine(server, monkeypatch)
    server.start()
    key = server.make_vdn(secret=SECRET)
    # What was made at -1 day is 25 hours old at +1 h: two days are not over at any moment.
    server.rows("UPDATE vdn SET keep_numbers = 2, keep_results = 2, keep_records = 2")
    log = CarrierLog(server.carrier_log)
    (draft,) = make_campaigns(server, 1)
    with receiving(server.data.parent) as receiver:
        start_campaign(server.dsn, NUMBERS, receiver.url, per_second=PER_SECOND, endings=("01",), first="82")
        began = datetime.now(UTC)
        start_in_hours(server, receiver.url)
        server.rows("UPDATE contact SET due_at = now() - interval '3 days'")
        server.rows("UPDATE campaign SET begin_at = now() - interval '3 days'")
        server.rows("SELECT pg_notify('outdial_engine', '')")
        adds(server, key, draft, 0)
        for nth, (words, distance) in enumerate(STEPS, 1):
            machine.set(words, distance)
            on_while_it_stands_so(server, log, receiver, machine, in_hours=distance <= 0)
            adds(server, key, draft, 10 * nth)
            if distance:
                machine.distance = 0
                with pytest.raises(ClientError, match=r"401|signature|clock"):
                    adds(server, key, draft, 10 * nth + 5)
                machine.distance = distance
            if words == "-1d":
                for victim in server.of("engine", "push"):
                    victim.signal(9)
                on_while_it_stands_so(server, log, receiver, machine, in_hours=True)
        server.rows("DELETE FROM contact WHERE state = 'ready' AND called LIKE '8%'")
        left = "(SELECT count(*) FROM contact n WHERE n.campaign_id = c.campaign_id AND state <> 'done')"
        server.rows(f"UPDATE campaign c SET incomplete = {left}")
        found = all_ended(server.dsn, log, receiver)
    judge_hours(log, began)
    dates = sorted({order["at"][:13] for order in log.orders})
    print(f"{found.placed} calls at {dates} by the machine's clock; {found}")
    assert len(dates) >= 3
    assert found.unknown == 0
    kept = server.rows("SELECT count(*) AS n FROM contact WHERE campaign_id = $1", draft)[0]["n"]
    assert kept == 5 * (len(STEPS) + 1), "an acknowledged add is lost, or one of a wrong clock is there"


def judge_hours(log: CarrierLog, began: datetime) -> None:
    """By the clock that the carrier was shown: half an hour before and after, of any day."""
    minute = began.hour * 60 + began.minute
    narrow = [order for order in log.orders if order["called"][:2] == "81"]
    off = []
    for order in narrow:
        at = datetime.fromisoformat(order["at"])
        distance = (at.hour * 60 + at.minute + at.second / 60 - minute + 720) % 1440 - 720
        if not -HALF_AN_HOUR <= distance < HALF_AN_HOUR:
            off.append(order)
    print(f"{len(narrow)} calls of a campaign with hours, {len(off)} outside")
    assert len(narrow) >= EACH
    assert not off, "calls outside the hours"
