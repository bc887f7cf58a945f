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
from outdial.routing.breaker import FAILURES

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


async def test_a_trunk_that_refuses_the_login_is_left_alone(proxy: Proxy) -> None:
    """A 407 that stays is no word about the number: another trunk is tried, and five close this one."""
    kamailio, gateway = proxy(asks=True, calls=FAILURES + 1)
    wrong = trunk_to(kamailio.port, username=USER, password="wrong")
    async with Caller(wrong, trunk_to(gateway.port, name="two", position=2)) as caller:
        trunks = []
        for _ in range(FAILURES + 1):
            ended = await caller.call()
            trunks.append((ended.answered, ended.record.trunk))
        one, _ = caller.switch.trunks()
    assert trunks == [(True, "two")] * (FAILURES + 1)
    assert one.bar == "circuit breaker open: 5 calls in a row failed, the last with 407"
    assert gateway.result() == 0, gateway.said()


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


async def test_a_trunk_takes_calls_once_it_is_registered(proxy: Proxy) -> None:
    """RFC 3261 §10 and §11: REGISTER with digest, OPTIONS. A carrier would refuse every call of a stranger,
    so that each number would lose a try: where the registrar does not have us, they wait.
    """
    kamailio, gateway = proxy()
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
            await caller.until(lambda: "trunk registered" in [line["event"] for line in logged])
            (state,) = caller.switch.trunks()
            assert (state.bar, state.up) == (None, True)
            assert caller.switch.room(VDN).calls > 0
        wrong = Caller(replace(trunk, password="another"))
        await wrong.switch.start(lambda _: None, lambda: None, wrong.announce)
        try:
            assert wrong.switch.room(VDN).calls == 0
            await wrong.until(lambda: "trunk not registered" in [line["event"] for line in logged])
            (state,) = wrong.switch.trunks()
            assert (state.bar, state.up) == ("not registered there: 401 Unauthorized", False)
            assert wrong.switch.room(VDN).calls == 0
        finally:
            await wrong.switch.close()
    assert "INVITE" not in gateway.log()
    (said,) = (line for line in logged if line["event"] == "trunk not registered")
    assert (said["log_level"], said["trunk"], said["reason"]) == ("warning", "one", "401 Unauthorized")
