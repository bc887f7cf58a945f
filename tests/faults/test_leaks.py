"""No secret in clear outside its place, no phone number in a log: every byte is read (issue 4, Shows 4).

A server lives through all that it does with secrets and numbers, mistakes and a death of PostgreSQL included.
Then everything that it left is searched, and planted ones have to be found by the same search.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import http.client
import json
import random
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from calling import CarrierLog, Receiver, incomplete, outbox, receiving
from disks import outdial
from serving import VDN, Server, serving, wait_for
from traces import by_spelling, by_window, bytes_under, spellings, traces
from trunks import far_end, over_sip, trunk

from outdial.client import Client
from outdial.model import AccessKey, Vdn
from outdial.store.sealing import key_file, load_master_key
from outdial.store.store import Store
from ports import free_port

SEED = 20261125
ENDINGS = ("01", "03", "09", "01")
"""Of what is dialed: answered, busy, declined."""

ROOT = f"/rest/isales/v1/openapi/campaigns/{VDN}"


@dataclass
class Life:
    """What a server was told, and what it said outside its data folder."""

    place: Path
    source: Path | None = None
    secrets: list[bytes] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """Of commands: their stderr, and their stdout where it may hold no secret."""
    refused: int = 0
    _left: Iterator[str] = field(default_factory=lambda: iter(()))

    def take(self, count: int) -> list[str]:
        """So many numbers that were not used yet."""
        return [next(self._left) for _ in range(count)]

    def deal(self, count: int) -> None:
        """So many numbers, told apart by any eight digits in a row."""
        chance = random.Random(SEED)
        for nth in range(count):
            middle = "".join(chance.choices("0123456789", k=9))
            self.numbers.append(f"86{middle}{ENDINGS[nth % len(ENDINGS)]}")
        self._left = iter(self.numbers)

    @property
    def thorough(self) -> bool:
        """Whether every command takes part."""
        return len(self.numbers) >= 200

    @property
    def logs(self) -> list[Path]:
        """Everything that was said: by the server, by PostgreSQL, by commands, by /metrics."""
        return [self.place / name for name in ("stderr.log", "data/postgres.log", "said.log", "metrics.txt")]

    @property
    def left(self) -> list[Path]:
        """Everything that stays: the above, the data folder with its log of changes, the backup unpacked."""
        return [self.place / "data", *self.logs, self.place / "backup.tar"]


# -- a life ------------------------------------------------------------------------------------------------


def keep_secrets(life: Life, server: Server, far: int, many: int) -> AccessKey:
    """So many secrets of every kind, stored; the access key that is used."""

    async def store() -> AccessKey:
        async with Store(server.dsn, load_master_key(server.data, {}), size=1) as store:
            await store.vdns.create(Vdn(VDN, max_active=1000))
            words = [secrets.token_urlsafe(18) for _ in range(many // 5)]
            for nth, word in enumerate(words):
                port, group = (far, "default") if nth == 0 else (9, f"g{nth}")
                facts = {"username": f"u{nth}", "password": word, "group": group}
                assert await store.trunks.add(trunk(f"t{nth}", port, **facts))
            await store.trunks.allow(VDN, ["any"])
            life.secrets += map(str.encode, words)
            for nth in range(many // 5):
                signing = secrets.token_bytes(24)
                await store.vdns.create(Vdn(100 + nth))
                spelled = f"whsec_{base64.b64encode(signing).decode()}"
                await store.vdns.set_webhook_secret(VDN if nth == 0 else 100 + nth, spelled)
                life.secrets.append(signing)
            while len(life.secrets) < many - 1:  # one more is made by a command
                key = await store.vdns.create_key(VDN)
                life.secrets.append(key.secret.encode())
            return key

    life.secrets += [unquote(urlsplit(server.dsn).password or "").encode(), _master_key(server)]
    key = asyncio.run(store())
    return key


def _master_key(server: Server) -> bytes:
    return base64.b64decode(key_file(server.data).read_text().strip())


@dataclass
class Hand:
    """Whoever works with the server: signed requests, raw ones, commands."""

    life: Life
    server: Server
    key: AccessKey

    def send(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """A signed request; what was answered."""
        client = Client(self.server.url, self.key.ak, self.key.secret, VDN)
        request = client.signed(method, path, query=query or None, body=body)
        line = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        line.request(method, request.target, request.body, dict(request.headers))
        said: dict[str, Any] = json.loads(line.getresponse().read())
        line.close()
        self.life.refused += said["resultCode"] != "0200000"
        return said

    def raw(self, text: str) -> None:
        """Bytes as they are, whatever becomes of them."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as line, suppress(OSError):
            line.sendall(text.encode())
            line.shutdown(socket.SHUT_WR)
            while line.recv(4096):
                pass
        self.life.refused += 1

    def command(self, *words: str, shows: bool = True) -> str:
        """A command; its stdout. `shows` false: it prints what it is asked for, numbers or a secret."""
        place = {"OUTDIAL_DATA": str(self.server.data), "OUTDIAL_URL": self.server.url}
        signer = {"OUTDIAL_AK": self.key.ak, "OUTDIAL_SK": self.key.secret, "OUTDIAL_VDN": str(VDN)}
        status, out, said = outdial(*words, source=self.life.source, **place, **signer)
        self.life.said += [said, out] if shows else [said]
        self.life.refused += status != 0
        return out


def entries(numbers: Sequence[str], **more: str) -> dict[str, Any]:
    return {"callDataList": [{"called": number, **more} for number in numbers]}


def call(hand: Hand, receiver: Receiver, far: CarrierLog) -> list[str]:
    """Numbers that are blacklisted and refused, added, called, pushed, erased; those that were called."""
    life, part = hand.life, len(hand.life.numbers) // 10
    words = ("--calls", "1000", "--callback", receiver.url, "--caller-no", "100")
    campaign = hand.command("campaign", "create", "calls 1", *words).split()[0]
    blocked, dialed = life.take(2 * part), life.take(5 * part)
    hand.command("blacklist", "add", *blocked)
    for number in blocked:
        hand.send("POST", f"{ROOT}/calldata/{campaign}", entries([number]))
    hand.command("numbers", "add", campaign, *dialed)
    hand.command("campaign", "resume", campaign)
    wait_for(lambda: far.look().placed >= len(dialed), 60, hand.server.said)
    wait_for(lambda: not incomplete(hand.server.dsn), 60, "numbers do not end", every=0.1)
    wait_for(lambda: not outbox(hand.server.dsn), 60, "results are not delivered", every=0.1)
    hand.command("erase", dialed[0], "--vdn", str(VDN))
    if life.thorough:
        hand.command("numbers", "add", campaign, blocked[0])
        hand.command("blacklist", "add", blocked[0])
        hand.command("results", "list", campaign, shows=False)
        hand.command("records", "export", shows=False)
        hand.command("campaign", "why", campaign)
        hand.command("campaign", "show", campaign)
        hand.command("results", "undelivered")
    return dialed


def go_wrong(hand: Hand) -> None:
    """Numbers in requests and commands that are refused, in every place where one can stand."""
    life = hand.life
    of_command, *others = life.take(3 * len(life.numbers) // 10)
    add = f"{ROOT}/calldata/1"
    for number in others:
        hand.send("POST", add, entries([f"{number}x"]))
        hand.send("POST", add, entries([number], callData=f'{{"tel": {number}'))
        hand.send("POST", add, entries([number], sessionId=number * 40))
        hand.send("POST", f"{ROOT}/calldata/99", entries([number], **{number: number}))
        hand.send("POST", f"{ROOT}/calldata/{number}", {number: number})
        hand.send("GET", f"{ROOT}/{number}", called=number)
        hand.raw(f"POST {add}?called={number} HTTP/1.1\r\nHost: {number}\r\nX-To: {number}\r\n\r\n{number}")
        hand.raw(f"{number} /{number} HTTP/1.1\r\nHost: h\r\n{number}\r\n\r\n")
        hand.raw(f"POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {number}\r\n\r\n")
        hand.raw(f"GET {add} HTTP/1.1\r\nHost: h\r\nAuthorization: auth-v2/{number}/{number}\r\n\r\n")
    hand.command("numbers", "add", "1", f"{of_command}x")
    hand.command("erase", f"{of_command}x", "--vdn", str(VDN))
    if life.thorough:
        hand.command("numbers", "delete", "1", "--called", of_command)
        hand.command("blacklist", "remove", of_command)
        hand.command("numbers", "add", of_command, of_command)
        hand.command("numbers", "add", "1", "1", "--caller", f"{of_command}x")
        hand.command("campaign", "create", "c", "--caller-no", f"{of_command}x")
        hand.command("doctor", "--url", hand.server.url)
        hand.command("trunk", "list")
        hand.command("audit", "list", shows=False)


def lived(place: Path, many_secrets: int, many_numbers: int, source: Path | None = None) -> Life:
    """A whole life of a server, ended."""
    life = Life(place, source)
    life.deal(many_numbers)
    port, metrics = free_port(), free_port()
    settings = over_sip() | {"metrics_listen": f"127.0.0.1:{metrics}", "log_level": "debug"}
    with (
        receiving(place) as receiver,
        far_end(place, port, ring=0.05, talk=0.2) as far,
        serving(place, source=source, **settings) as server,
    ):
        hand = Hand(life, server, keep_secrets(life, server, port, many_secrets))
        dialed = call(hand, receiver, far)
        server.of("backend")[-1].signal(signal.SIGKILL)
        go_wrong(hand)
        server.wait_ready()
        life.secrets.append(json.loads(hand.command("key", "create", "--json", shows=False))["sk"].encode())
        hand.command("db", "backup", str(place / "backup"))
        server.rows("CHECKPOINT")
        line = http.client.HTTPConnection("127.0.0.1", metrics, timeout=10)
        line.request("GET", "/metrics")
        (place / "metrics.txt").write_bytes(line.getresponse().read())
        line.close()
        assert server.stop() == 0
        pushed = {push["called"] for push in receiver.pushes()}
    (place / "said.log").write_text("\n".join(life.said))
    with gzip.open(place / "backup") as packed:
        (place / "backup.tar").write_bytes(packed.read())
    assert {order["called"] for order in far.orders} >= set(dialed), "not dialed: nothing is proved"
    assert pushed >= set(dialed), "not pushed: nothing is proved"
    return life


# -- the search --------------------------------------------------------------------------------------------


def secrets_found(life: Life) -> set[tuple[str, bytes]]:
    """Where a secret stands, but for the place of PostgreSQL's own password."""
    own = str(life.place / "data" / "postgres.password")
    return {one for one in traces(by_spelling(life.secrets), life.left) if one[0] != own}


def numbers_found(life: Life) -> set[tuple[str, bytes]]:
    return traces(by_window(life.numbers), life.logs)


def judge(life: Life, refusals: int) -> None:
    print(
        f"seed {SEED}: {len(life.secrets)} secrets in {bytes_under(life.left) >> 20} MiB,"
        f" {len(life.numbers)} numbers in {bytes_under(life.logs)} bytes of logs; {life.refused} refusals"
    )
    assert life.refused >= refusals, "too little went wrong: nothing is proved"
    assert not secrets_found(life)
    assert not numbers_found(life)
    planted(life)


def planted(life: Life) -> None:
    """The same search finds what is put there: every spelling of a secret, a number in a log."""
    secret, number = life.secrets[0], life.numbers[-1]
    for nth, text in enumerate(spellings(secret)):
        file = life.place / "data" / "postgres" / f"planted{nth}"
        file.write_bytes(b"\0before" + text + b"after\n")
        assert secrets_found(life) == {(str(file), secret)}, text
        file.unlink()
    with (life.place / "stderr.log").open("a") as log:
        log.write(f'{{"event":"dialed","called":"{number}"}}\n')
    assert numbers_found(life) == {(str(life.place / "stderr.log"), number.encode())}


def test_few_secrets_and_numbers_leave_no_trace(place: Path) -> None:
    judge(lived(place, 15, 40), refusals=50)


@pytest.mark.long
def test_fifty_secrets_and_two_hundred_numbers_leave_no_trace(place: Path) -> None:
    judge(lived(place, 50, 200), refusals=250)
