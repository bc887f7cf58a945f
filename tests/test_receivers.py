"""The way out: which addresses may be reached, and what counts as taken (semantics.md §7)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path

import aiohttp
import aiohttp.connector
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from certificates import Certificate
from outdial.receivers import NotTaken, Receivers, kind_of_forbidden, receiver_of
from toy_receiver import (
    Behaviour,
    Request,
    ToyReceiver,
    answers,
    endless_body,
    never_answers,
    resets,
    trickles,
)

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1"))
EVERYTHING_HERE = (*LOOPBACK, ip_network("0.0.0.0"), ip_network("::"))


def ipv6_is_here() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


IPV6 = ipv6_is_here()


class Names(AbstractResolver):
    """A name server that says what a test says; the spellings of an address are read as the system does."""

    def __init__(self, **names: Sequence[Sequence[str]]) -> None:
        self.left = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        if host in self.left:
            answers = self.left[host]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        else:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            addresses = [str(at[0]) for *_, at in found]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


async def posted(
    url: str,
    *,
    allow: Sequence[IPv4Network | IPv6Network] = LOOPBACK,
    timeout: float = 5.0,
    names: Names | None = None,
) -> str:
    """ "taken", or why it was not."""
    async with Receivers(allow, "outdial/test", timeout=timeout, resolver=names) as receivers:
        try:
            await receivers.post(url, b"[]", {"Content-Type": "application/json"})
        except NotTaken as refusal:
            return refusal.reason
        return "taken"


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("0.1.2.3", "reserved"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.100.100.200", "carrier-grade NAT"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%lo", "link-local"),
        ("192.0.0.192", "reserved"),
        ("192.88.99.1", "reserved"),
        ("198.18.0.1", "benchmarking"),
        ("203.0.113.9", "documentation"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("::ffff:127.0.0.1", "IPv4-mapped"),
        ("::ffff:8.8.8.8", "IPv4-mapped"),
        ("::127.0.0.1", "reserved"),
        ("::ffff:0:127.0.0.1", "reserved"),
        ("64:ff9b::7f00:1", "NAT64"),
        ("64:ff9b:1::1", "NAT64"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "reserved"),
        ("2001:db8::1", "documentation"),
        ("fec0::1", "reserved"),
        ("5f00::1", "reserved"),
        ("100::1", "reserved"),
    ],
)
def test_an_address_of_a_special_purpose_is_refused_by_its_kind(address: str, kind: str) -> None:
    assert kind_of_forbidden(address, ()) == kind


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "2606:4700::1",
        "2a00:1450::1",
    ],
)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert kind_of_forbidden(address, ()) is None


@given(
    st.one_of(
        st.integers(0, 2**32 - 1).map(IPv4Address),
        st.integers(0, 2**128 - 1).map(IPv6Address),
        st.integers(0, 2**112 - 1).map(lambda low: IPv6Address((0x2001 << 112) + low)),
    )
)
def test_what_python_calls_not_global_is_refused(address: IPv4Address | IPv6Address) -> None:
    assert address.is_global or kind_of_forbidden(str(address), ()) is not None


def test_an_allowed_network_is_allowed_and_its_neighbour_is_not() -> None:
    allow = (ip_network("10.1.0.0/16"), ip_network("fd00::/64"))
    assert kind_of_forbidden("10.1.2.3", allow) is None
    assert kind_of_forbidden("::ffff:10.1.2.3", allow) is None
    assert kind_of_forbidden("fd00::7", allow) is None
    assert kind_of_forbidden("10.2.0.1", allow) == "private"
    assert kind_of_forbidden("fd00:0:0:1::7", allow) == "private"


SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}",
    "HTTP://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@8.8.8.8/",
    "http://127.0.0.1:{port}/?x=http://8.8.8.8/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7F.1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0x0:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[0000::0001]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:7f00:0001]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://rebound.test:{port}/",
    "http://mapped.test:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/",
]
"""They all lead to this machine, and get there when that is allowed."""

DOUBTFUL = [
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0177.0.0.01:{port}/",
    "http://0177.1:{port}/",
    "http://127.0x0.00.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://0:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/",
    " http://127.0.0.1:{port}/",
]
"""They may be refused for their spelling or read as an address; either way the canary must see nothing."""

IMPOSSIBLE = [
    "http://user@127.0.0.1:{port}/",
    "http://user:pass@127.0.0.1:{port}/",
    "http://8.8.8.8:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@8.8.8.8/",
    "http:127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/",
    "file:///etc/hostname",
    "http://:{port}/",
    "http://",
    "",
]
"""A user, no host, another scheme: refused whatever is allowed."""

FORMS = [*SPELLINGS, *DOUBTFUL, *IMPOSSIBLE]


def names() -> Names:
    return Names(
        localhost=[["127.0.0.1"]],
        localhost_=[["127.0.0.1"]],  # with its dot at the end
        rebound_test=[["127.0.0.1"]],
        mapped_test=[["::ffff:127.0.0.1"]],
    )


@asynccontextmanager
async def canaries() -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """The same port on 127.0.0.1 and, where there is IPv6, on ::1; and how many connections came in."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(ToyReceiver())
        both = [first]
        if IPV6:
            both.append(await stack.enter_async_context(ToyReceiver(host="::1", port=first.port)))
        yield first.port, lambda: sum(canary.hits for canary in both)


def test_there_are_at_least_forty_forms() -> None:
    assert len(set(FORMS)) >= 40


@pytest.mark.parametrize("form", FORMS)
async def test_no_spelling_of_a_forbidden_address_reaches_the_canary(form: str) -> None:
    async with canaries() as (port, hits):
        reason = await posted(form.format(port=port), allow=(), names=names())
        assert hits() == 0
        assert reason.startswith(("address not allowed: ", "host name not found")), reason


@pytest.mark.parametrize("form", SPELLINGS)
async def test_the_same_spelling_reaches_the_canary_once_when_that_is_allowed(form: str) -> None:
    """Without this the test above could pass because nothing ever gets out."""
    if not IPV6 and ("[" in form or "mapped" in form):
        pytest.skip("this machine has no IPv6")
    async with canaries() as (port, hits):
        assert await posted(form.format(port=port), allow=EVERYTHING_HERE, names=names()) == "taken"
        assert hits() == 1


@pytest.mark.parametrize("form", IMPOSSIBLE)
async def test_a_user_no_host_or_another_scheme_is_refused_whatever_is_allowed(form: str) -> None:
    async with canaries() as (port, hits):
        reason = await posted(form.format(port=port), allow=EVERYTHING_HERE, names=names())
        assert reason.startswith("address not allowed: ")
        assert hits() == 0


async def test_every_address_of_a_name_is_judged() -> None:
    """The first address is allowed and refuses, the second is not allowed: it is not tried instead."""
    async with ToyReceiver(host="127.0.0.1") as canary:
        both = Names(two_test=[["127.0.0.2", "127.0.0.1"]])
        url = f"http://two.test:{canary.port}/"
        assert (
            await posted(url, allow=(ip_network("127.0.0.2"),), names=both) == "address not allowed: loopback"
        )
        assert canary.hits == 0


async def test_a_name_that_moves_to_a_forbidden_address_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: a harmless address the first time, 127.0.0.1 the second."""
    moves = Names(moves_test=[["127.0.0.2"], ["127.0.0.1"]])
    hangs_up = answers(200, headers="Connection: close\r\n")
    async with (
        ToyReceiver(hangs_up, host="127.0.0.2") as good,
        ToyReceiver(host="127.0.0.1", port=good.port) as canary,
        Receivers((ip_network("127.0.0.2"),), "outdial/test", resolver=moves) as receivers,
    ):
        url = f"http://moves.test:{good.port}/"
        await receivers.post(url, b"[]", {})
        clock = aiohttp.connector.monotonic
        monkeypatch.setattr(aiohttp.connector, "monotonic", lambda: clock() + 3600)  # past the DNS cache
        with pytest.raises(NotTaken, match="address not allowed: loopback") as refused:
            await receivers.post(url, b"[]", {})
        assert not refused.value.again
        assert moves.asked == 2
        assert (len(good.requests), canary.hits) == (1, 0)


async def test_the_systems_resolver_is_judged_too() -> None:
    async with ToyReceiver() as canary:
        url = f"http://localhost:{canary.port}/"
        assert await posted(url, allow=()) == "address not allowed: loopback"
        assert canary.hits == 0
        assert await posted(url) == "taken"


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ToyReceiver() as proxy, ToyReceiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert await posted(receiver.url) == "taken"
        assert (proxy.hits, receiver.hits) == (0, 1)


def test_a_receiver_is_scheme_host_and_port() -> None:
    assert receiver_of("http://Host.test/a?b#c") == receiver_of("http://host.test:80/other")
    assert receiver_of("https://host.test/") != receiver_of("http://host.test/")
    assert receiver_of("http://host.test:81/") != receiver_of("http://host.test/")


# -- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 202, 204, 299, 301, 302, 307, 308, 400, 404, 410, 500, 503])
async def test_only_200_is_taken_and_no_redirect_is_followed(status: int) -> None:
    async with ToyReceiver() as canary:
        elsewhere = answers(status, headers=f"Location: {canary.url}\r\n")
        async with ToyReceiver(elsewhere) as receiver:
            assert await posted(receiver.url) == f"HTTP {status}"
            assert (len(receiver.requests), canary.hits) == (1, 0)


async def test_connections_are_kept_and_used_again() -> None:
    async with ToyReceiver() as receiver, Receivers(LOOPBACK, "outdial/test") as receivers:
        for _ in range(5):
            await receivers.post(receiver.url, b"[]", {})
        assert (len(receiver.requests), receiver.hits) == (5, 1)


@pytest.mark.parametrize("behaviour", [never_answers, trickles(b"HTTP/1.1 200 O", every=0.1)])
async def test_a_post_without_a_status_ends_with_the_timeout(behaviour: Behaviour) -> None:
    """The timeout is for the whole POST: a byte now and then does not start it again."""
    loop = asyncio.get_running_loop()
    async with ToyReceiver(behaviour) as receiver:
        begun = loop.time()
        assert await posted(receiver.url, timeout=0.5) == "timeout after 0.5 s"
        assert 0.4 < loop.time() - begun < 3


async def test_a_200_whose_body_trickles_in_is_taken_and_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    loop = asyncio.get_running_loop()
    async with ToyReceiver(trickles(head, every=0.05)) as receiver:
        begun = loop.time()
        assert await posted(receiver.url, timeout=10) == "taken"
        assert 0.9 < loop.time() - begun < 4


async def test_a_200_with_an_endless_body_is_taken_and_cut_off() -> None:
    async with ToyReceiver(endless_body) as receiver, Receivers(LOOPBACK, "outdial/test") as receivers:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await receivers.post(receiver.url, b"[]", {})
        assert loop.time() - begun < 0.9  # by its length, before the second for bodies is over
        async with asyncio.timeout(5):
            while not receiver.cut_off:
                await asyncio.sleep(0.01)


async def test_interim_answers_without_end_are_given_up() -> None:
    """A status may be announced again and again (RFC 9110 §15.2); 64 kB of that are enough."""

    async def announces(_: object, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 40)
            await writer.drain()

    async with ToyReceiver(announces) as receiver:
        assert await posted(receiver.url, timeout=10) == "endless answer"
        assert receiver.hits == 1
    async with ToyReceiver(after_some(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40)) as receiver:
        assert await posted(receiver.url) == "taken"


def after_some(interim: bytes) -> Behaviour:
    """Answer 200 after that."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(interim)
        await answers(200)(request, writer)

    return behave


async def test_a_reset_and_a_refused_connection_are_told_apart() -> None:
    async with ToyReceiver(resets) as receiver:
        assert await posted(receiver.url) == "connection reset by peer"
    assert await posted(receiver.url) == "connection refused"


async def test_what_is_not_http_is_told() -> None:
    async def greets(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n\r\n")

    async with ToyReceiver(greets) as receiver:
        assert await posted(receiver.url) == "not an HTTP answer"


async def test_a_name_that_is_not_there_is_told() -> None:
    assert await posted("http://nowhere.test/", names=Names()) == "host name not found"
    assert await posted(f"http://{'x' * 64}.test/") == "host name not found"


# -- TLS -------------------------------------------------------------------------------------------------


def certificate(folder: Path, *, days: int) -> ssl.SSLContext:
    """A server's context with a self-signed certificate; its file is folder/cert.pem."""
    return Certificate(folder, name="cert", days=days).context()


async def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ToyReceiver(tls=certificate(tmp_path, days=1)) as receiver:
        assert (await posted(receiver.url)).startswith("TLS certificate: self")
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert await posted(receiver.url) == "taken"


async def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ToyReceiver(tls=certificate(tmp_path, days=-1)) as receiver:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert await posted(receiver.url) == "TLS certificate: certificate has expired"
        assert receiver.requests == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "taken"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)]
)
async def test_tls_below_1_2_is_refused(
    version: ssl.TLSVersion, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path, days=1)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with ToyReceiver(tls=context) as receiver:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert (await posted(receiver.url) == "taken") is taken
        assert bool(receiver.requests) is taken
