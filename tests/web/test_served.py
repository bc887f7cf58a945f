"""`outdial serve` over HTTPS and its /metrics, as real processes on one database."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tlspair import blind, fingerprint, of_der, pair, trusting

from outdial import metrics
from outdial.engine.host import this_host
from outdial.store.store import Store
from outdial.web.certificates import Pair
from outdial.web.exposition import Exposition
from outdial.web.server import listening_socket

WITHIN = 30.0


@dataclass
class Served:
    """A running `outdial serve`; `log` is what all of its processes wrote."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    log: Path
    context: ssl.SSLContext | None
    answered: int = field(default=0)

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if wanted.items() <= line.items()]

    def connection(self, source: str | None = None) -> http.client.HTTPConnection:
        address = (source, 0) if source else None
        if self.context is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=address)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.context)

    def ask(self, path: str = "/healthz", source: str | None = None, **headers: str) -> int:
        connection = self.connection(source)
        try:
            connection.request("GET", path, headers={key.replace("_", "-"): v for key, v in headers.items()})
            status = connection.getresponse().status
        finally:
            connection.close()
        self.answered += 1
        return status

    def pid_of(self, name: str) -> int:
        return int(self.lines(event="process started", process=name)[-1]["pid"])

    def metrics(self) -> dict[str, float]:
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            text = answer.read().decode()
        return {
            name: float(value)
            for name, value in re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
        }


def until(true: Callable[[], Any], what: Callable[[], str] = lambda: "it does not become so") -> Any:
    deadline = time.monotonic() + WITHIN
    while not (found := true()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
    return found


def free_port() -> int:
    with listening_socket("127.0.0.1", 0) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def served(
    folder: Path, database: str, tls: Pair | None = None, roles: str = "api", **settings: Any
) -> Iterator[Served]:
    port, metrics_port = free_port(), free_port()
    given = {"listen": f"127.0.0.1:{port}", "roles": roles, "database": database, **settings}
    if tls is not None:
        given |= {"tls_cert": tls.certificate, "tls_key": tls.key}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTDIAL_")}
    environment |= {f"OUTDIAL_{name.upper()}": str(value) for name, value in given.items()}
    environment |= {"OUTDIAL_METRICS_LISTEN": f"127.0.0.1:{metrics_port}"}
    log = folder / "log"
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "outdial", "serve"], env=environment, stdout=errors, stderr=errors
        ) as process,
    ):
        running = Served(process, port, metrics_port, log, blind() if tls is not None else None)
        try:
            until(lambda: process.poll() is not None or _ready(running), lambda: log.read_text()[-3000:])
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(running: Served) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return running.ask("/readyz") == 200
    return False


@pytest.fixture
def made(tmp_path: Path) -> Pair:
    return pair(tmp_path, "served")


def shown(running: Served) -> str:
    """The fingerprint that a new connection sees."""
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as raw,
        blind().wrap_socket(raw) as connection,
    ):
        return of_der(connection.getpeercert(binary_form=True))


def replace_pair(old: Pair, new: Pair) -> None:
    old.certificate.write_bytes(new.certificate.read_bytes())
    old.key.write_bytes(new.key.read_bytes())


def test_sighup_brings_another_certificate_to_every_api_process(
    tmp_path: Path, database: str, made: Pair
) -> None:
    """RSA for ECDSA, which one context would hold side by side; a connection from before lives on."""
    other, first = pair(tmp_path, "other", kind="rsa"), fingerprint(made.certificate)
    with served(tmp_path, database, made, api_processes=2) as running:
        assert f"certificate {first}" in running.log.read_text().splitlines()
        assert running.lines(event="serving", scheme="https", fingerprint=first)
        running.context = trusting(made.certificate)
        old = running.connection()
        old.request("GET", "/healthz")
        assert old.getresponse().read()
        # One that begins while the pair is replaced meets two halves, and begins again.
        until(lambda: len(running.lines(event="process ready")) == 3)
        replace_pair(made, other)
        running.process.send_signal(signal.SIGHUP)
        second = fingerprint(other.certificate)
        until(lambda: len(running.lines(event="certificate taken", fingerprint=second)) == 3)
        assert {shown(running) for _ in range(20)} == {second}
        old.request("GET", "/healthz")
        assert old.getresponse().status == 200
        assert isinstance(old.sock, ssl.SSLSocket)
        assert of_der(old.sock.getpeercert(binary_form=True)) == first
        old.close()
        assert not running.lines(event="process died")


def test_a_wrong_new_pair_is_logged_and_the_old_one_kept(tmp_path: Path, database: str, made: Pair) -> None:
    before = fingerprint(made.certificate)
    with served(tmp_path, database, made) as running:
        made.key.write_bytes(pair(tmp_path, "other").key.read_bytes())
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.lines(event="certificate not taken: the old one is kept"))
        assert shown(running) == before
        assert "does not belong" in running.lines(level="error")[0]["reason"]
        assert running.process.poll() is None


def test_a_wrong_pair_is_refused_at_the_start(tmp_path: Path, made: Pair) -> None:
    made.key.write_bytes(pair(tmp_path, "other").key.read_bytes())
    command = [sys.executable, "-m", "outdial", "serve", "--database", "postgresql://127.0.0.1:1/none"]
    options = ["--tls-cert", str(made.certificate), "--tls-key", str(made.key), "--listen", "127.0.0.1:0"]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=WITHIN)
    assert ended.returncode == 2
    assert f"tls_key: {made.key}: does not belong to the certificate" in ended.stderr


def test_forwarded_addresses_are_believed_from_the_named_proxy_alone(tmp_path: Path, database: str) -> None:
    with served(tmp_path, database, behind_proxy="127.0.0.7") as running:
        for source in ("127.0.0.7", "127.0.0.8"):
            running.ask("/healthz", source, X_Forwarded_For="10.9.9.9, 203.0.113.7")
        clients = until(lambda: len(running.lines(event="answered")) >= 3) and [
            line["client"] for line in running.lines(event="answered")
        ]
        assert clients[-2:] == ["203.0.113.7", "127.0.0.8"]
        assert "10.9.9.9" not in running.log.read_text()


def test_without_a_named_proxy_forwarded_addresses_are_ignored(tmp_path: Path, database: str) -> None:
    with served(tmp_path, database) as running:
        running.ask("/healthz", X_Forwarded_For="203.0.113.7")
        until(lambda: len(running.lines(event="answered")) >= 2)
        assert {line["client"] for line in running.lines(event="answered")} == {"127.0.0.1"}


HEALTH = 'outdial_requests_total{operation="none",code="none"}'


def counted_by(running: Served, name: str, folder: Path) -> float:
    """The requests that one process counted, read from its file; a process that begins has none yet."""
    file = next(folder.glob(f"outdial-*/{name}.metrics"), None)
    if file is None:
        return 0.0
    cells = memoryview(file.read_bytes()).cast("d")
    return sum(cells[at] for at in metrics.REQUESTS.at.values())


def test_metrics_are_the_sum_of_the_api_processes_and_survive_a_kill(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, made: Pair
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with served(tmp_path, database, made, api_processes=2) as running:
        until(lambda: len(running.lines(event="process started", process="metrics")))

        def shared() -> bool:
            running.ask()
            return all(counted_by(running, f"api-{n}", tmp_path) >= 10 for n in (1, 2))

        until(shared)
        assert running.metrics()[HEALTH] == running.answered
        victim = running.pid_of("api 1")
        os.kill(victim, signal.SIGKILL)
        until(lambda: running.pid_of("api 1") != victim)
        assert running.metrics()[HEALTH] == running.answered
        by_the_dead = counted_by(running, "api-1", tmp_path)
        assert by_the_dead >= 10

        def goes_on() -> bool:
            with suppress(OSError, http.client.HTTPException):
                running.ask()
            return counted_by(running, "api-1", tmp_path) > by_the_dead

        until(goes_on)
        found = running.metrics()
        assert found[HEALTH] == running.answered
        assert found["outdial_certificate_expiry_timestamp_seconds"] > time.time()
        assert found["outdial_database_up"] == 1
        assert found['outdial_process_resident_memory_bytes{process="api-2"}'] > 1e6
        assert found['outdial_process_open_fds{process="supervisor"}'] > 3


def test_metrics_are_not_on_the_api_and_the_api_not_on_metrics(tmp_path: Path, database: str) -> None:
    with served(tmp_path, database) as running:
        assert running.ask("/metrics") == 404
        until(running.metrics)
        line = http.client.HTTPConnection("127.0.0.1", running.metrics_port, timeout=10)
        for method, path, status in (
            ("GET", "/readyz", 404),
            ("POST", "/metrics", 405),
            ("HEAD", "/metrics", 200),
        ):
            line.request(method, path)
            answer = line.getresponse()
            answer.read()
            assert answer.status == status
        line.close()


def test_a_database_that_is_away_is_said(tmp_path: Path, database: str) -> None:
    """The counters are there all the same."""

    async def ask() -> bytes:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        async with Store("postgresql://127.0.0.1:1/none", None, size=1) as store:
            scope = {"path": "/metrics", "method": "GET"}
            await Exposition(store, tmp_path, this_host())(scope, None, send)  # type: ignore[arg-type]
        return bytes(said[1]["body"])

    text = asyncio.run(ask()).decode()
    assert "\noutdial_database_up 0\n" in text
    assert "\noutdial_numbers_admitted_total 0\n" in text
    assert "\noutdial_outbox_waiting " not in text
