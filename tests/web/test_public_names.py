"""`public_names`: which Host a server answers for; a request signed for another is not done here."""

from __future__ import annotations

import asyncio
import http.client
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_served import Served, served

from outdial.client import Client
from outdial.config import Settings, load
from outdial.errors import SettingError
from outdial.model import AccessKey, Vdn
from outdial.store.sealing import load_master_key
from outdial.store.store import Store

CAMPAIGNS = "/rest/isales/v1/openapi/campaigns/1"


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ((), None),
        (("dial.test",), {"dial.test"}),
        (("DIAL.test:8443", "192.0.2.5"), {"dial.test:8443", "192.0.2.5"}),
        (("[2001:DB8::5]:8443", "[::1]"), {"[2001:db8::5]:8443", "[::1]"}),
    ],
)
def test_names_are_taken_with_a_port_or_without(given: tuple[str, ...], allowed: set[str] | None) -> None:
    assert Settings(public_names=given).allowed_hosts() == allowed


@pytest.mark.parametrize(
    "name",
    ["https://dial.test", "dial.test/", "dial.test:", "dial.test:port", "", "*.test", "a b", "::1", ".test"],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"^public_names: '.*' must be a name or an address"):
        Settings(public_names=("dial.test", name))


def test_names_come_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "outdial.toml"
    file.write_text('public_names = ["a.test", "b.test:8443"]\n')
    assert load(file, {}).public_names == ("a.test", "b.test:8443")
    assert load(file, {"OUTDIAL_PUBLIC_NAMES": "c.test, d.test"}).public_names == ("c.test", "d.test")


def ask(running: Served, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def signed_for(host: str, key: AccessKey) -> dict[str, str]:
    request = Client(f"http://{host}", key.ak, key.secret, 1).signed("GET", CAMPAIGNS)
    return {"Host": host} | dict(request.headers)


async def make_key(database: str, master_key: str) -> AccessKey:
    async with Store(database, load_master_key(None, {"OUTDIAL_MASTER_KEY": master_key}), size=1) as store:
        await store.vdns.create(Vdn(1))
        return await store.vdns.create_key(1)


def test_a_request_signed_for_another_server_is_not_done_here(tmp_path: Path, database: str) -> None:
    """trust.md B.3: the key of staging may be that of production, and the signature covers the Host."""
    secret = os.urandom(32).hex()
    key = asyncio.run(make_key(database, secret))
    with served(tmp_path, database, master_key=secret, public_names="dial.test,[::1]:8443") as running:
        for host, status in {
            "dial.test": 200,
            "dial.test:8080": 200,
            "staging.test": 421,
            "staging.test:8080": 421,
            "[::1]:8443": 200,
            "[::1]": 421,
        }.items():
            assert ask(running, CAMPAIGNS, signed_for(host, key))[0] == status, host
        status, said = ask(running, CAMPAIGNS, signed_for("staging.test", key))
        assert b'"resultDesc":"Host: this server does not answer for it (its setting public_names)"' in said
        moved = signed_for("staging.test", key) | {"Host": "dial.test"}
        assert ask(running, CAMPAIGNS, moved)[0] == 401, "the signature covers the Host as it was sent"
        with_port = signed_for("dial.test", key) | {"Host": "dial.test:80"}
        assert ask(running, CAMPAIGNS, with_port)[0] == 401, "a port, or none, is a part of it"
        assert {ask(running, path, {"Host": "10.0.0.7"})[0] for path in ("/healthz", "/readyz")} == {200}
        assert running.metrics()['outdial_http_refusals_total{status="421"}'] == 4


def test_without_names_any_host_is_answered(tmp_path: Path, database: str) -> None:
    secret = os.urandom(32).hex()
    key = asyncio.run(make_key(database, secret))
    with served(tmp_path, database, master_key=secret) as running:
        assert ask(running, CAMPAIGNS, signed_for("staging.test", key))[0] == 200
