"""A real server for the tests of your program: the pytest fixture `outdial_server`.

Opt in with `pytest_plugins = ["outdial.testing"]` in your conftest.py. It is no entry point of pytest: that
would load the client in every test run of whoever has outdial installed.

PYTEST_DONT_REWRITE: no test stands here, and so a module may import from here before pytest does.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import pytest

from outdial.client import BlockingClient

__all__ = ["OutdialServer", "outdial_server", "running_server"]

READY_WITHIN = 90.0
"""Seconds until the server must be ready; a busy machine takes long."""
STOP_WITHIN = 40.0

_ENDED = None


class OutdialServer:
    """`outdial dev` as a process of its own: the whole server on loopback, with a simulated carrier.

    `url`, `ak`, `sk`, `vdn` are what a client needs, `client` is one that is open. `campaign` is a draft
    whose results come back through `results`. The last two digits of a number choose how its call ends:
    01 answered, 02 machine, 03 busy, 04 no answer, 05 invalid, 06 congestion, 09 rejected.
    """

    client: BlockingClient

    def __init__(self, place: dict[str, Any], said: queue.Queue[str | None]) -> None:
        self.url: str = place["url"]
        self.ak: str = place["ak"]
        self.sk: str = place["sk"]
        self.vdn: int = place["vdn"]
        self.campaign: int = place["campaign"]
        self._said = said
        self._kept: list[dict[str, Any]] = []
        self._made = 0

    def new_campaign(self, **fields: Any) -> int:
        """A draft of a test's own, whose results come back too; its id.

        `fields` are those of "create campaign" (V1), as `maxAlertingTime=5`.
        """
        self._made += 1
        now = datetime.now(UTC)
        body = {
            "name": f"test {self._made}",
            "strBeginTime": f"{now:%Y-%m-%d} 00:00:00",
            "strEndTime": f"{now + timedelta(days=1):%Y-%m-%d %H:%M:%S}",
            "deviceType": 3,
            "callerNo": "100",
            "maxAlertingTime": 5,
            "scheduleParam": {"workdayBeginTime1": "00:00", "workdayEndTime1": "24:00"},
            "ivrParam": {"callCount": 10, "callInterval": 1},
            "initStatus": 1,
            "callBackUrl": self.client.show_campaign(self.campaign).callback_url,
        }
        return self.client.create_campaign(body | fields)

    def results(self, n: int, *, timeout: float = 30, campaign: int | None = None) -> list[dict[str, Any]]:
        """Wait for the next `n` pushed results, in the order in which they came; each is given once.

        With `campaign`, only those of that campaign; the others are kept for a later call. Raises
        TimeoutError after `timeout` seconds; what has come is kept then too.
        """
        deadline = time.monotonic() + timeout
        while len(found := [one for one in self._kept if _is_of(one, campaign)]) < n:
            self._kept.append(self._next(deadline, f"{len(found)} of {n} results came within {timeout:g} s"))
        taken = found[:n]
        self._kept = [one for one in self._kept if not any(one is other for other in taken)]
        return taken

    def _next(self, deadline: float, otherwise: str) -> dict[str, Any]:
        try:
            line = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(otherwise) from None
        if line is _ENDED:
            self._said.put(_ENDED)
            raise RuntimeError(f"the server has ended; {otherwise}")
        found: dict[str, Any] = json.loads(line)
        return found


def _is_of(result: dict[str, Any], campaign: int | None) -> bool:
    return campaign is None or result["campaignId"] == str(campaign)


@contextmanager
def running_server() -> Iterator[OutdialServer]:
    """The server without pytest. Raises RuntimeError with its own words when it does not start."""
    with tempfile.TemporaryFile("w+") as errors, _process(errors) as process:
        said: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, said), name="outdial-server", daemon=True)
        reader.start()
        try:
            server = OutdialServer(_place(said, errors), said)
            with BlockingClient(server.url, server.ak, server.sk, server.vdn) as server.client:
                yield server
        finally:
            _stop(process)
            reader.join(STOP_WITHIN)


def _process(errors: IO[str]) -> subprocess.Popen[str]:
    # Settings of a server that the developer runs are not for this one, but for where PostgreSQL is.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OUTDIAL_") or name.startswith("OUTDIAL_PG_")
    }
    return subprocess.Popen(
        [sys.executable, "-m", "outdial", "dev", "--json", "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
    )


def _read(process: subprocess.Popen[str], said: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            said.put(line)
    said.put(_ENDED)


def _place(said: queue.Queue[str | None], errors: IO[str]) -> dict[str, Any]:
    try:
        line = said.get(timeout=READY_WITHIN)
    except queue.Empty:
        line = _ENDED
    if line is _ENDED:
        errors.seek(0)
        raise RuntimeError(f"outdial dev did not start: {errors.read().strip() or 'it said nothing'}")
    place: dict[str, Any] = json.loads(line)
    return place


def _stop(process: subprocess.Popen[str]) -> None:
    """End this one process by its id; it ends what it has started."""
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@pytest.fixture(scope="session")
def outdial_server() -> Iterator[OutdialServer]:
    """A server for all tests of the session; a test that starts a campaign takes `new_campaign()`."""
    with running_server() as server:
        yield server
