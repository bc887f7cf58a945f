"""The master key is replaced while servers run; a `kill -9` at any moment leaves every secret readable."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from adding import OK, adders
from serving import VDN, Serve, ask, clean_environment, make_vdn, wait_for

from outdial.errors import SettingError
from outdial.model import Trunk
from outdial.store.sealing import MasterKey, create_master_key, load_master_key
from outdial.store.store import Store

WEBHOOK = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRUNK = Trunk(name="carrier", host="127.0.0.1", username="4711", password="of the trunk")

Secrets = tuple[str, str | None, str | None]

PROGRAM = """
import os, signal, sys
from pathlib import Path
import outdial.cli.key, outdial.store.postgres, outdial.store.sealing
rename = Path.rename
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
def rename_and_die(path, target): rename(path, target); die()
{patch}
sys.exit(outdial.cli.main(sys.argv[1:]))
"""
MOMENTS = {
    "the new key is on the disk": "outdial.cli.key.administer = die",
    "all is sealed, nothing committed": "outdial.store.postgres.Postgres._commit = die",
    "committed": "outdial.store.sealing.finish_rotation = die",
    "the old key is put aside": "Path.rename = die",
    "the new key is in place": "Path.rename = rename_and_die",
}


def stored(dsn: str, key: MasterKey | None, ak: str) -> Secrets:
    """An access key's secret, the webhook secret and the trunk's password, opened."""

    async def read() -> Secrets:
        async with Store(dsn, key, size=1) as store:
            found, vdn = await store.vdns.key(ak), await store.vdns.one(VDN)
            (trunk,) = await store.trunks.all()
            assert found is not None
            assert vdn is not None
            return found.secret, vdn.webhook_secret, trunk.password

    return asyncio.run(read())


def filled(dsn: str, data: Path) -> tuple[str, Secrets]:
    """A store with a secret of each kind; the access key, and what must stay readable."""
    create_master_key(data)
    key = make_vdn(dsn, data, WEBHOOK)

    async def add() -> None:
        async with Store(dsn, load_master_key(data, {}), size=1) as store:
            assert await store.trunks.add(TRUNK)

    asyncio.run(add())
    return key.ak, (key.secret, WEBHOOK, TRUNK.password)


def rotate(dsn: str, data: Path, patch: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM.format(patch=patch), "keys", "rotate-master", "--json"]
    return subprocess.Popen(
        [*command, "--database", dsn, "--data", str(data)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rotated(dsn: str, data: Path) -> str:
    """A rotation to its end; the fingerprint of the key that all is sealed with now."""
    process = rotate(dsn, data)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    said = json.loads(out)
    assert said["secrets"] == 3
    assert fingerprint(data) == said["fingerprint"]
    return str(said["fingerprint"])


def fingerprint(data: Path) -> str:
    key = load_master_key(data, {})
    assert key is not None
    return key.fingerprint


def only(data: Path) -> MasterKey | None:
    """The key of DIR.key without those beside it."""
    return load_master_key(None, {"OUTDIAL_MASTER_KEY": data.with_name("data.key").read_text()})


def test_every_secret_is_sealed_anew_and_the_old_key_opens_none(database: str, place: Path) -> None:
    data = place / "data"
    ak, secrets = filled(database, data)
    old = only(data)
    assert old is not None
    new = rotated(database, data)
    assert new != old.fingerprint
    assert stored(database, only(data), ak) == secrets
    with pytest.raises(SettingError, match=f"sealed by master key {new}"):
        stored(database, old, ak)
    assert place.joinpath(f"data.key.{old.fingerprint}").stat().st_mode & 0o777 == 0o600
    assert not place.joinpath("data.key.next").exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_this_moment_all_stays_readable_and_the_next_goes_on(
    database: str, place: Path, moment: str
) -> None:
    data = place / "data"
    ak, secrets = filled(database, data)
    first = fingerprint(data)
    process = rotate(database, data, MOMENTS[moment])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()
    process.communicate()
    assert stored(database, load_master_key(data, {}), ak) == secrets
    assert rotated(database, data) != first
    assert stored(database, only(data), ak) == secrets


def test_killed_between_two_updates_nothing_is_changed(database: str, place: Path) -> None:
    """The last of them waits for a row that another session holds; the first are done, and undone."""
    data = place / "data"
    ak, secrets = filled(database, data)
    old = only(data)
    with asyncio.Runner() as runner:
        holder = runner.run(asyncpg.connect(database))
        runner.run(holder.execute("BEGIN; SELECT 1 FROM trunk FOR UPDATE"))
        process = rotate(database, data)
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE trunk%'"
        try:
            wait_for(
                lambda: ask(database, lambda conn: conn.fetch(query)), 30, "it does not wait", every=0.02
            )
        finally:
            process.kill()
            process.communicate()
        holder.terminate()
        runner.run(asyncio.sleep(0))
    assert stored(database, old, ak) == secrets
    rotated(database, data)
    assert stored(database, only(data), ak) == secrets


def test_running_servers_follow_without_a_restart(serve: Serve) -> None:
    """They have the old key in memory, and look for another when one is needed."""
    server = serve(api_processes=2)
    with adders(server, secret=WEBHOOK) as clients, clients.adding():
        for _ in range(2):
            before = clients.acknowledged()
            wait_for(lambda before=before: clients.acknowledged() > before + 20, 60, "nothing is accepted")
            command = [sys.executable, "-m", "outdial", "keys", "rotate-master", "--data", str(server.data)]
            subprocess.run(command, env=clean_environment(), check=True, capture_output=True, timeout=60)
        time.sleep(1.0)  # keys that were looked up are believed for half a second
        before = clients.acknowledged()
        wait_for(lambda: clients.acknowledged() > before + 50, 60, "nothing is accepted any more")
    assert {one.outcome for one in clients.sent} == {OK}
    assert server.data.with_name("data.key.next").exists() is False


def test_with_a_variable_the_new_key_stands_before_the_old(database: str, place: Path) -> None:
    data = place / "data"
    ak, secrets = filled(database, data)
    old, new = data.with_name("data.key").read_text().strip(), "ab" * 32
    command = [sys.executable, "-m", "outdial", "keys", "rotate-master", "--database", database]

    def run(keys: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment() | {"OUTDIAL_MASTER_KEY": keys}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    alone = run(new)
    assert alone.returncode == 2
    assert "must be NEW,OLD" in alone.stderr
    assert stored(database, load_master_key(None, {"OUTDIAL_MASTER_KEY": f"{old},{new}"}), ak) == secrets
    assert run(f"{new},{old}").returncode == 0
    assert stored(database, load_master_key(None, {"OUTDIAL_MASTER_KEY": f"{old},{new}"}), ak) == secrets
    assert stored(database, load_master_key(None, {"OUTDIAL_MASTER_KEY": new}), ak) == secrets
    assert data.with_name("data.key").read_text().strip() == old
