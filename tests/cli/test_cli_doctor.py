"""`outdial doctor`: what is wrong is found and named, with what to do; what is well is ok."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from scripted import Run

from outdial.cli import checks
from outdial.store.embedded import remove_cluster


class Found(NamedTuple):
    """What a doctor found, by check, and the command's exit code."""

    code: int
    state: dict[str, str]
    said: dict[str, str]
    todo: dict[str, str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """With a DSN it only says where the master key is."""
    return tmp_path / "data"


@pytest.fixture
def look(run: Run, database: str, data: Path) -> Callable[..., Found]:
    def look_(*arguments: str) -> Found:
        where = () if "--data" in arguments else ("--database", database, "--data", str(data))
        ended = run("doctor", "--json", *where, *arguments)
        rows = json.loads(ended.out)
        return Found(
            ended.code, *({row["check"]: row[part] for row in rows} for part in ("state", "said", "todo"))
        )

    return look_


def execute(dsn: str, sql: str) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    asyncio.run(run())


CAMPAIGN = """
INSERT INTO vdn VALUES (1, 'UTC', '2023-09', 20, 'keep', NULL, now()) ON CONFLICT DO NOTHING;
INSERT INTO campaign (vdn_id, name, description, device_type, state, begin_at, end_at, caller_no,
    max_alerting_time, windows, device_sign, call_count, call_interval, duplicates, on_unknown, created_at,
    callback_url)
VALUES (1, '{url}', '', 3, 'started', now(), now() + interval '1 day', '1', 30, '{{}}', '', 1, 1, 'allow',
    'count', now(), '{url}')"""


def test_a_healthy_store_is_all_ok(run: Run, database: str, data: Path, look: Callable[..., Found]) -> None:
    run("vdn", "create", "1", "--database", database)
    assert run("key", "create", "--vdn", "1", "--database", database, "--data", str(data)).code == 0
    found = look()
    assert found.code == 0
    assert set(found.state.values()) == {"ok"}, found
    wanted = {"master key", "database", "clock of the database", "schema", "secrets", "switch"}
    assert found.state.keys() == wanted
    plain = run("doctor", "--database", database, "--data", str(data))
    assert (plain.code, len(plain.out.splitlines())) == (0, len(wanted))


def test_every_check_that_is_not_ok_says_what_to_do(look: Callable[..., Found], database: str) -> None:
    execute(database, CAMPAIGN.format(url="http://10.1.2.3/x"))
    found = look()
    assert [name for name, state in found.state.items() if state != "ok" and not found.todo[name]] == []
    assert "failed" in found.state.values()


def test_a_master_key_that_others_can_read_fails(
    run: Run, look: Callable[..., Found], database: str, data: Path
) -> None:
    run("vdn", "create", "1", "--database", database)
    run("key", "create", "--vdn", "1", "--database", database, "--data", str(data))
    file = data.with_name("data.key")
    file.chmod(0o644)
    found = look()
    assert (found.code, found.state["master key"]) == (1, "failed")
    assert "mode 0644 lets others in, must be 0600" in found.said["master key"]
    file.unlink()
    found = look()
    assert (found.code, found.state["master key"], found.state["secrets"]) == (1, "warning", "failed")


def test_another_master_key_and_one_that_went_are_told_apart(
    run: Run, look: Callable[..., Found], database: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("vdn", "create", "1", "--database", database)
    run("key", "create", "--vdn", "1", "--database", database, "--data", str(data))
    old = data.with_name("data.key").read_text().strip()
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", "ab" * 32 + "," + old)
    found = look()
    assert (found.code, found.state["secrets"]) == (0, "warning")
    assert found.said["secrets"] == "1 are sealed with an older master key"
    monkeypatch.setenv("OUTDIAL_MASTER_KEY", "ab" * 32)
    found = look()
    assert (found.code, found.state["secrets"]) == (1, "failed")


def test_pending_migrations_are_a_warning_and_a_newer_database_fails(
    look: Callable[..., Found], database: str
) -> None:
    execute(database, "DELETE FROM schema_version WHERE version = (SELECT max(version) FROM schema_version)")
    found = look()
    assert (found.code, found.state["schema"]) == (0, "warning")
    assert "outdial db migrate" in found.todo["schema"]
    execute(database, "INSERT INTO schema_version VALUES (9999, '9999_future.sql', 'x')")
    found = look()
    assert (found.code, found.state["database"]) == (1, "failed")
    assert "newer" in found.said["database"]


def test_a_database_that_is_away_fails_and_shows_no_password(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = run("doctor", "--database", f"postgresql://u:hidden@127.0.0.1:{port}/d")
    assert ended.code == 1
    assert "database\tfailed\tthe database cannot be reached" in ended.out
    assert "hidden" not in ended.out + ended.err


def test_a_folder_is_looked_at_and_never_made(
    look: Callable[..., Found], run: Run, tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look("--data", str(tmp_path / "typo"))
    assert (found.code, found.state["data folder"]) == (1, "failed")
    found = look("--data", str(tmp_path))
    assert (found.code, found.state["data folder"], found.state["database"]) == (1, "ok", "failed")
    assert list(tmp_path.iterdir()) == []
    folder = open_folder / "doctor"
    try:
        run("vdn", "create", "1", "--data", str(folder))
        assert look("--data", str(folder)).state["data folder"] == "ok"
        for free, state in ((checks.LEAST_SPACE - 1, "failed"), (checks.LITTLE_SPACE - 1, "warning")):
            monkeypatch.setattr(
                shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1, 1, free)
            )
            found = look("--data", str(folder))
            assert (found.code, found.state["data folder"]) == (int(state == "failed"), state)
    finally:
        remove_cluster(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_clock_that_is_off_is_seen() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for off, state in (
        (0, "ok"),
        (1.9, "ok"),
        (3, "warning"),
        (-59, "warning"),
        (-61, "failed"),
        (61, "failed"),
    ):
        theirs = now + timedelta(seconds=off)
        found = checks._clock("clock", theirs, now, now + timedelta(seconds=0.01))
        assert (off, found.state) == (off, state)
    assert checks._clock("clock", now + timedelta(seconds=9), now, now).said == "9.0 s ahead of ours"
    assert checks._clock("clock", now - timedelta(seconds=9), now, now).said == "9.0 s behind ours"


# -- receivers and trunks ----------------------------------------------------------------------------------


def test_receivers_are_judged_by_the_rules_of_the_pusher(
    look: Callable[..., Found], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private address fails unless push_allow names it; then it must take connections."""
    with socket.create_server(("127.0.0.1", 0)) as open_, socket.create_server(("127.0.0.1", 0)) as closed:
        ports = open_.getsockname()[1], closed.getsockname()[1]
        closed.close()
        urls = [f"http://127.0.0.1:{port}/results" for port in ports]
        urls += ["http://10.1.2.3/x", "http://no.such.name.invalid/x", "ftp://127.0.0.1/x"]
        for url in urls:
            execute(database, CAMPAIGN.format(url=url))
        found = look()
        assert found.said[f"receiver http://127.0.0.1:{ports[0]}"] == "address not allowed: loopback"
        monkeypatch.setenv("OUTDIAL_PUSH_ALLOW", "127.0.0.0/8")
        found = look()
    assert found.code == 1
    assert found.said[f"receiver http://127.0.0.1:{ports[0]}"] == "connected"
    assert found.said[f"receiver http://127.0.0.1:{ports[1]}"] == "connection refused"
    assert found.said["receiver http://10.1.2.3"] == "address not allowed: private"
    assert found.said["receiver http://no.such.name.invalid"] == "host name not found"
    assert found.said["receiver ftp://127.0.0.1/x"] == "address not allowed: not an http or https URL"
    states = [state for name, state in found.state.items() if name.startswith("receiver")]
    assert sorted(states) == ["failed"] * 4 + ["ok"]


def test_trunks_are_asked_where_the_switch_is_sip(
    run: Run, look: Callable[..., Found], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTDIAL_SWITCH", "sip")
    found = look()
    assert (found.code, found.state["trunks"]) == (0, "warning")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    added = ("trunk", "add", "carrier", "--host", "127.0.0.1", "--port", str(port), "--transport", "tcp")
    assert run(*added, "--database", database).code == 0
    found = look()
    assert (found.code, found.state["trunk carrier"]) == (1, "failed")


# -- a server ----------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Says it is ready, at the time that its server believes it is."""

    status, ahead = 200, 0.0

    def do_GET(self) -> None:
        self.send_response_only(self.status if self.path == "/readyz" else 404)
        now = datetime.now(UTC) + timedelta(seconds=self.ahead)
        self.send_header("Date", format_datetime(now, usegmt=True))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(tls: ssl.SSLContext | None = None, **how: Any) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), type("How", (Answers,), how)) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("how", "check", "state"),
    [
        ({}, "server", "ok"),
        ({"status": 503}, "server", "failed"),
        ({"ahead": 20}, "clock of the server", "warning"),
        ({"ahead": -3600}, "clock of the server", "failed"),
    ],
)
def test_a_server_and_its_clock(
    look: Callable[..., Found], how: dict[str, Any], check: str, state: str
) -> None:
    with answering(**how) as port:
        found = look("--url", f"http://127.0.0.1:{port}")
    assert (found.state[check], found.code) == (state, int(state == "failed"))


def test_a_server_that_is_not_there_fails(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = run("doctor", "--url", f"http://127.0.0.1:{port}")
    assert ended.code == 1
    assert ended.out.startswith("server\tfailed\t")


def certificate(folder: Path, *, days: float) -> tuple[Path, Path]:
    """Of localhost, its own issuer; certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.mark.parametrize(
    ("days", "trusted", "state", "said"),
    [
        (90.5, True, "ok", "holds 90 days more"),
        (20.5, True, "warning", "holds 20 days more"),
        (-1, True, "failed", "certificate has expired"),
        (90.5, False, "failed", "self-signed certificate"),
    ],
)
def test_the_certificate_of_a_server(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: float,
    trusted: bool,
    state: str,
    said: str,
) -> None:
    public, private = certificate(tmp_path, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with answering(context) as port:
        ended = run("doctor", "--json", "--url", f"https://localhost:{port}")
    first = json.loads(ended.out)[0]
    assert (first["check"], first["state"], first["said"]) == ("certificate", state, said)
    assert ended.code == int(state == "failed")


def test_without_anything_to_look_at_it_says_what_it_needs(run: Run) -> None:
    ended = run("doctor")
    assert ended.code == 2
    assert "--url URL" in ended.err
