"""How a server starts: refusals, `outdial dev`, revoked keys, what logs hold."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from calling import SECRET, SETTINGS, CarrierLog, receiving, start_campaign
from evidence import evidence
from serving import VDN, Process, Serve, Server, clean_environment, wait_for

from outdial.client import BlockingClient, Client, ClientError
from outdial.model import AccessKey
from outdial.store.embedded.layout import ELSEWHERE

READY_WITHIN = 30.0
"""Seconds in which `outdial dev` is ready anywhere; how fast it is on an idle machine is the benchmark's."""

EXAMPLES = Path(__file__).parents[2] / "examples"


# -- refusals at the start ---------------------------------------------------------------------------------


def refused(server: Server) -> str:
    """Start it and see it refuse; what it said."""
    before = server.errors.stat().st_size if server.errors.exists() else 0
    server.start(wait=False)
    assert server.wait_end(within=30) != 0
    with server.errors.open("rb") as file:
        file.seek(before)
        return file.read().decode()


def test_no_start_without_the_master_key_of_existing_secrets(serve: Serve) -> None:
    server = serve()
    server.make_vdn()
    tree = server.tree()
    assert server.stop() == 0
    key = server.data.with_name("data.key")
    kept = key.read_bytes()
    key.unlink()
    said = refused(server)
    assert "sealed with a master key that is not here: put the file DIR.key back" in said, said
    wait_for(lambda: not any(one.alive() for one in tree), 5, "something was left running")
    assert not key.exists(), "a new key would lock the old secrets away"
    key.write_bytes(kept)
    key.chmod(0o600)
    server.start()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_processes", "many"),
        ("carrier_ring", "-1"),
        ("push_allow", "10.0.0.0/99"),
        ("listen", "192.0.2.1:0"),
        ("log_level", "loud"),
        ("metrics_listen", "192.0.2.1:0"),
        ("behind_proxy", "nobody"),
        ("public_names", "https://dial.test"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(place: Path, name: str, value: str) -> None:
    settings: dict[str, Any] = {name: value}
    server = Server(place / "data", **settings)
    try:
        said = refused(server)
    finally:
        server.close()
    named = "listen on 192.0.2.1" if name == "listen" else name
    assert named in said.lower(), said
    assert not (place / "data").exists(), "it touched the data before it looked at its settings"


# -- outdial dev -------------------------------------------------------------------------------------------


class Dev:
    """`outdial dev --json`, its lines and its time to the first one."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.errors = folder / "dev.stderr"
        self.lines = folder / "dev.stdout"
        self._began = time.monotonic()
        with self.errors.open("ab") as errors, self.lines.open("wb") as lines:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outdial", "dev", "--json", "--listen", "127.0.0.1:0", *options],
                env=clean_environment() | {"TMPDIR": str(folder)},
                stdout=lines,
                stderr=errors,
                cwd=folder,
            )

    def said(self) -> list[Any]:
        """What stdout carries so far: every whole line must be JSON."""
        return [json.loads(line) for line in self.lines.read_text(encoding="utf-8").splitlines()]

    def place(self) -> dict[str, Any]:
        """The first line; `outdial dev` is ready."""
        wait_for(lambda: b"\n" in self.lines.read_bytes() or self.ended(), READY_WITHIN, "not ready")
        print(f"ready after {time.monotonic() - self._began:.1f} s")
        assert not self.ended(), self.errors.read_text()
        first = self.said()[0]
        assert isinstance(first, dict)
        return first

    def ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(35)


@contextmanager
def developing(folder: Path, *options: str) -> Iterator[Dev]:
    dev = Dev(folder, *options)
    try:
        yield dev
    finally:
        if not dev.ended():
            dev.process.kill()  # all of its own go with it
            dev.process.wait(10)


@pytest.fixture(params=["open", "closed"])
def temporary(request: pytest.FixtureRequest, place: Path) -> Path:
    """A folder for temporary files: one that PostgreSQL's user may enter, and one that it may not."""
    folder = place / "temporary"
    folder.mkdir()
    folder.chmod(0o711 if request.param == "open" else 0o700)
    return folder


def test_dev_prints_only_json_and_leaves_nothing(temporary: Path) -> None:
    with developing(temporary) as dev:
        place = dev.place()
        assert list(place) == ["url", "ak", "sk", "vdn", "campaign"]
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", place["url"])
        numbers = [f"8002{nth:02d}" for nth in (1, 3, 5)]
        with BlockingClient(place["url"], place["ak"], place["sk"], place["vdn"]) as client:
            client.add_numbers(place["campaign"], [{"called": number} for number in numbers])
            client.resume(place["campaign"])
        wait_for(lambda: len(dev.said()) == 4, 30, "the results do not come")
        _, *results = dev.said()
        assert sorted(result["called"] for result in results) == numbers
        assert dev.stop() == 0
        assert len(dev.said()) == 4
    errors = dev.errors.read_text()
    assert sorted(path.name for path in temporary.iterdir()) == ["dev.stderr", "dev.stdout"]
    moved = re.findall(re.escape(str(ELSEWHERE)) + "/[0-9a-f]{16}", errors)
    closed = temporary.stat().st_mode & 0o777 == 0o700
    assert bool(moved) == (closed and os.geteuid() == 0), errors
    assert not any(Path(one).exists() for one in moved)


def test_dev_on_the_same_folder_is_the_same(place: Path) -> None:
    with developing(place, "--data", str(place / "data")) as dev:
        first = dev.place()
        assert dev.stop() == 0
    with developing(place, "--data", str(place / "data")) as dev:
        second = dev.place()
        with BlockingClient(second["url"], second["ak"], second["sk"], second["vdn"]) as client:
            client.add_numbers(second["campaign"], [{"called": "800201"}])
        assert dev.stop() == 0
    same = ("ak", "sk", "vdn", "campaign")
    assert [first[name] for name in same] == [second[name] for name in same]


def test_the_demo_shows_every_result(place: Path) -> None:
    demo = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        env=clean_environment() | {"TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "10 of 10 numbers have their result" in demo.stdout


# -- keys --------------------------------------------------------------------------------------------------


class Line:
    """A kept connection to one api process, which is its as long as it lasts."""

    def __init__(self, server: Server, key: AccessKey) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        self._client = Client(server.url, key.ak, key.secret, VDN)

    def status(self, path: str = f"/rest/isales/v1/openapi/campaigns/{VDN}") -> int:
        signed = self._client.signed("GET", path, query={"status": 0, "deviceType": 0})
        self._http.request("GET", signed.target, headers=dict(signed.headers))
        answer = self._http.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        self._http.close()


def lines_to_each(server: Server, key: AccessKey) -> list[Line]:
    """One connection to each api process: the others are frozen while it is made."""
    processes = server.of("api")
    lines = []
    for one in processes:
        with frozen([other for other in processes if other != one]):
            line = Line(server, key)
            assert line.status() == 200
            lines.append(line)
    return lines


@contextmanager
def frozen(processes: Sequence[Process]) -> Iterator[None]:
    for process in processes:
        process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.signal(signal.SIGCONT)


def test_a_revoked_key_opens_nothing_after_a_second(serve: Serve) -> None:
    server = serve(api_processes=3)
    key = server.make_vdn()
    lines = lines_to_each(server, key)
    assert len(lines) == 3
    assert [line.status() for line in lines] == [200] * 3
    command = [sys.executable, "-m", "outdial", "key", "revoke", key.ak, "--data", str(server.data)]
    subprocess.run(command, env=server.environment, check=True, capture_output=True, timeout=60)
    began = time.monotonic()
    took = [wait_for(lambda: line.status() == 401, 10, "still valid") for line in lines]  # noqa: B023
    evidence({"processes": 3}, processes=len(took), refused_after=round(time.monotonic() - began, 2))
    assert time.monotonic() - began <= 1.0
    for line in lines:
        line.close()


# -- what logs hold ----------------------------------------------------------------------------------------

_CHANCE = random.Random(20260303)
NUMBERS = [f"{''.join(_CHANCE.choices('123456789', k=12))}{'01' if nth % 2 else '03'}" for nth in range(50)]
MARKS = ("WORDSOFTHEBODY", "WORDSINTHEURL", "WORDSTHATAREWRONG")


def told_in(text: str, numbers: Sequence[str]) -> list[str]:
    """The numbers of which more than the last 4 digits stand in a text: any 7 of their digits in a row."""
    return [n for n in numbers if any(n[at : at + 7] in text for at in range(len(n) - 6))]


def misuse(server: Server, key: AccessKey, campaign: int) -> None:
    """Requests of every kind that is refused, each with numbers and words that must not be told."""
    path = f"/rest/isales/v1/openapi/campaigns/{VDN}/calldata/{campaign}"
    bodies = [
        {"callDataList": [{"called": NUMBERS[0]}] * 2},
        {"callDataList": [{"called": NUMBERS[1], "customField": "<WORDSOFTHEBODY>"}]},
        {"callDataList": [{"called": NUMBERS[2] + "x"}]},
        {"callDataList": [{"called": NUMBERS[3], "recycleTime": "WORDSOFTHEBODY"}]},
        {"callDataList": [{"called": NUMBERS[4], "sessionId": "WORDSOFTHEBODY" * 3}]},
        {"callDataList": [{"called": NUMBERS[5] * 2}]},
    ]
    with BlockingClient(server.url, key.ak, key.secret, VDN) as client:
        inner = client._client
        for body in bodies:
            with suppress(ClientError):
                client._run(inner.send(inner.signed("POST", path, body=body)))
        client.add_to_blacklist([NUMBERS[6]])
        with suppress(ClientError):
            client.add_numbers(campaign, [{"called": NUMBERS[6]}])
        client.clear_blacklist()
    with BlockingClient(server.url, key.ak, "WORDSTHATAREWRONG", VDN) as client, suppress(ClientError):
        client.add_numbers(campaign, [{"called": NUMBERS[7]}])
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    line.request(
        "POST", path, b'{"callDataList":[{"called":"' + NUMBERS[8].encode(), {"Authorization": key.secret}
    )
    line.getresponse().read()
    line.close()


def test_logs_hold_no_number_no_secret_and_no_body(serve: Serve) -> None:
    server = serve(**SETTINGS, log_level="debug", api_processes=2)
    key = server.make_vdn(secret=SECRET)
    log = CarrierLog(server.carrier_log)
    log_of_postgres = server.data / "postgres.log"
    with receiving(server.data.parent) as receiver:
        dead = receiver.url.replace("/results", "/WORDSINTHEURL?token=WORDSINTHEURL")
        campaign = start_campaign(server.dsn, 1, f"{dead}", per_second=60)
        server.rows(
            "UPDATE campaign SET state = 'suspended', callback_url = $1", dead.replace("//", "//x:y@")
        )
        misuse(server, key, campaign)
        with BlockingClient(server.url, key.ak, key.secret, VDN) as client:
            for at in range(0, 50, 20):
                entries = [
                    {
                        "called": n,
                        "sessionId": "s",
                        "customField": "WORDSOFTHEBODY",
                        "callData": '{"a":"WORDSOFTHEBODY"}',
                    }
                    for n in NUMBERS[at : at + 20]
                ]
                client.add_numbers(campaign, entries)
                time.sleep(1.05)
            client.resume(campaign)
        wait_for(lambda: log.look().placed >= 51, 60, "they are not called")
        server.one("engine").signal(signal.SIGKILL)
        server.of("backend")[-1].signal(signal.SIGKILL)
        wait_for(lambda: "terminated by signal 9" in log_of_postgres.read_text(), 60, "it lives on")
        wait_for(
            lambda: not server.rows("SELECT 1 FROM contact WHERE state <> 'done'"), 60, "no end", every=0.2
        )
    status = server.stop()
    assert status == 0
    told = server.errors.read_text() + log_of_postgres.read_text()
    for event in ("answered", "not authenticated", "process died", "was terminated by signal 9"):
        assert event in told, "too little happened: nothing is proved"
    assert told_in(told, NUMBERS) == []
    secrets = [key.secret, SECRET, *MARKS, (server.data / "postgres.password").read_text().strip()]
    assert [secret for secret in secrets if secret in told] == []
    assert len(told_in(server.carrier_log.read_text(), NUMBERS)) == 50, "the search itself finds nothing"
