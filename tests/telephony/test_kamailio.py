"""Calls through kamailio: digest 407 with both algorithms, Record-Route, TCP, TLS, registration, OPTIONS."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from caller import VDN, Caller, trunk_to
from kamailio import PASSWORD, PROGRAM, USER, Kamailio
from sipp import ANSWER, END, Sipp, bye, pause
from structlog.testing import capture_logs

from outdial.model import HungUpBy

pytestmark = pytest.mark.skipif(
    PROGRAM is None or shutil.which("sipp") is None, reason="kamailio or sipp is not installed"
)

Proxy = Callable[..., tuple[Kamailio, Sipp]]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """Starts a kamailio before a sipp."""
    started: list[Any] = []

    def start(*, steps: list[str] | None = None, calls: int = 1, **facts: Any) -> tuple[Kamailio, Sipp]:
        gateway = Sipp(tmp_path, steps=steps, calls=calls).start()
        started.append(gateway)
        kamailio = Kamailio(tmp_path, gateway.port, **facts)
        started.append(kamailio)
        return kamailio.start(), gateway

    yield start
    for one in reversed(started):
        one.end()


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_407_is_answered(proxy: Proxy, algorithm: str) -> None:
    """RFC 7616 §3.4, RFC 8760: qop=auth."""
    kamailio, gateway = proxy(asks=True, algorithm=algorithm, steps=[*ANSWER, *END])
    trunk = trunk_to(kamailio.port, username=USER, password=PASSWORD)
    async with Caller(trunk) as caller:
        ended = await caller.call()
    assert ended.answered
    assert gateway.result() == 0, gateway.said()


async def test_a_wrong_password_ends_the_call(proxy: Proxy) -> None:
    """The same challenge again: no third try."""
    kamailio, gateway = proxy(asks=True)
    async with Caller(trunk_to(kamailio.port, username=USER, password="wrong")) as caller:
        ended = await caller.call()
    assert (ended.answered, ended.sip_status) == (False, 407)
    assert "INVITE" not in gateway.log()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("by", [HungUpBy.CALLER, HungUpBy.CALLEE])
async def test_a_call_over_a_proxy_that_records_its_route(proxy: Proxy, transport: str, by: HungUpBy) -> None:
    """RFC 3261 §12.2, §16.12: in-dialog requests pass through the proxy both ways."""
    last = [pause(200), bye()] if by is HungUpBy.CALLEE else END
    kamailio, gateway = proxy(steps=[*ANSWER, *last])
    async with Caller(trunk_to(kamailio.port, transport=transport)) as caller:
        ended = await caller.call()
    assert (ended.answered, ended.hung_up_by) == (True, by)
    assert gateway.result() == 0, gateway.said()
    assert "Record-Route" in gateway.log()


@pytest.mark.parametrize("by", [HungUpBy.CALLER, HungUpBy.CALLEE])
async def test_a_call_over_tls(proxy: Proxy, by: HungUpBy) -> None:
    """The certificate is verified; the callee's BYE comes back over our connection."""
    last = [pause(200), bye()] if by is HungUpBy.CALLEE else END
    kamailio, gateway = proxy(tls=True, steps=[*ANSWER, *last])
    context = ssl.create_default_context(cafile=kamailio.ca)
    async with Caller(trunk_to(kamailio.tls_port, transport="tls"), tls=context) as caller:
        ended = await caller.call()
    assert (ended.answered, ended.hung_up_by) == (True, by)
    assert gateway.result() == 0, gateway.said()


async def test_a_certificate_of_nobody_is_refused(proxy: Proxy) -> None:
    """No call goes over a connection whose other end is not proven."""
    kamailio, gateway = proxy(tls=True)
    caller = Caller(trunk_to(kamailio.tls_port, transport="tls"))
    await caller.switch.start(lambda _: None, lambda: None, caller.announce)
    try:
        await caller.until(lambda: any(not one.up for one in caller.switch.trunks()))
        assert caller.switch.room(VDN).calls == 0
    finally:
        await caller.switch.close()
    assert "INVITE" not in gateway.log()


async def test_a_trunk_registers_and_answers_pings(proxy: Proxy) -> None:
    """RFC 3261 §10 and §11: REGISTER with digest, OPTIONS; the board knows that it is alive."""
    kamailio, _ = proxy()
    trunk = trunk_to(
        kamailio.port,
        username=USER,
        password=PASSWORD,
        registers=True,
        ping_every=1,
        from_domain="carrier.test",
    )
    with capture_logs() as logged:
        async with Caller(trunk) as caller:
            await caller.until(lambda: all(one.up for one in caller.switch.trunks()))
            await caller.until(lambda: "trunk registered" in [line["event"] for line in logged])
        wrong = replace(trunk, password="another")
        async with Caller(wrong) as caller:
            await caller.until(lambda: "trunk not registered" in [line["event"] for line in logged])
    (said,) = (line for line in logged if line["event"] == "trunk not registered")
    assert (said["log_level"], said["trunk"], said["reason"]) == ("warning", "one", "401 Unauthorized")
