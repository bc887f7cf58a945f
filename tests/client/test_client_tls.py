"""Whom the client trusts: a small TLS server with a certificate of its own, and what is said before trust."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from peers import AK, SK, VDN, Recorder

from certificates import Certificate
from outdial.client import CertificateError, Client, SettingError

HERE = "127.0.0.1"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path, HERE)


class Peer(Recorder):
    """A Recorder over TLS; `requests` is what came through."""

    @asynccontextmanager
    async def with_tls(self, certificate: Certificate) -> AsyncIterator[Peer]:
        server = await asyncio.start_server(self.serve, HERE, 0, ssl=certificate.context())
        self.url = f"https://{HERE}:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
        await asyncio.gather(*filter(None, self.handlers), return_exceptions=True)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OUTDIAL_CA", "OUTDIAL_FINGERPRINT"):
        monkeypatch.delenv(name, raising=False)


async def pause(peer: Peer, **trust: object) -> None:
    async with Client(peer.url, AK, SK, VDN, **trust) as client:  # type: ignore[arg-type]
        await client.pause(1)


async def test_the_system_does_not_trust_it_and_the_error_says_how_to(certificate: Certificate) -> None:
    async with Peer("answer").with_tls(certificate) as peer:
        with pytest.raises(CertificateError, match="is not trusted: self-signed certificate") as failure:
            await pause(peer)
    said = str(failure.value)
    for way in ("ca_file", "--ca-file", "OUTDIAL_CA", "fingerprint", "OUTDIAL_FINGERPRINT", "openssl x509"):
        assert way in said
    assert peer.requests == []


async def test_a_ca_file_makes_it_trusted(certificate: Certificate) -> None:
    async with Peer("answer").with_tls(certificate) as peer:
        await pause(peer, ca_file=certificate.file)
    assert len(peer.requests) == 1


async def test_a_fingerprint_makes_it_trusted_in_any_spelling(certificate: Certificate) -> None:
    digits = certificate.fingerprint.removeprefix("sha256:")
    colons = ":".join(digits[at : at + 2] for at in range(0, 64, 2)).upper()
    for spelling in (certificate.fingerprint, f"sha256:{colons}", f" SHA256:{digits} "):
        async with Peer("answer").with_tls(certificate) as peer:
            await pause(peer, fingerprint=spelling)
        assert len(peer.requests) == 1


@pytest.mark.parametrize("variable", ["OUTDIAL_CA", "OUTDIAL_FINGERPRINT"])
async def test_the_environment_counts(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    value = str(certificate.file) if variable == "OUTDIAL_CA" else certificate.fingerprint
    monkeypatch.setenv(variable, value)
    async with Peer("answer").with_tls(certificate) as peer:
        await pause(peer)
    assert len(peer.requests) == 1


async def test_an_argument_goes_before_the_environment(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUTDIAL_CA", str(tmp_path / "is not there"))
    async with Peer("answer").with_tls(certificate) as peer:
        await pause(peer, fingerprint=certificate.fingerprint)
    assert len(peer.requests) == 1


async def test_another_certificate_than_the_pinned_one_sees_nothing(certificate: Certificate) -> None:
    """Checked before anything is sent; both fingerprints are named."""
    other = f"sha256:{'ab' * 32}"
    async with Peer("answer").with_tls(certificate) as peer:
        with pytest.raises(CertificateError, match="is not the pinned one") as failure:
            await pause(peer, fingerprint=other)
    assert other in str(failure.value)
    assert certificate.fingerprint in str(failure.value)
    assert "otherwise somebody stands between" in str(failure.value)
    assert peer.requests == []


async def test_a_trusted_certificate_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    elsewhere = Certificate(tmp_path, "127.0.0.2")
    async with Peer("answer").with_tls(elsewhere) as peer:
        with pytest.raises(CertificateError, match="IP address mismatch"):
            await pause(peer, ca_file=elsewhere.file)
        assert peer.requests == []
        await pause(peer, fingerprint=elsewhere.fingerprint)  # a pin asks for no name
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("url", "trust", "said"),
    [
        ("https://h", {"fingerprint": "sha256:ab"}, "fingerprint: must be sha256: and 64 hex digits"),
        ("https://h", {"fingerprint": "ab" * 32}, "fingerprint: must be sha256: and 64 hex digits"),
        ("https://h", {"fingerprint": f"sha1:{'ab' * 20}"}, "fingerprint: must be"),
        ("https://h", {"ca_file": "/nowhere.pem"}, "CA file /nowhere.pem: No such file"),
        ("https://h", {"ca_file": __file__}, "holds no certificate in PEM form"),
        ("https://h", {"ca_file": "/a", "fingerprint": "sha256:ab"}, "give one of them"),
        ("http://h", {"fingerprint": f"sha256:{'ab' * 32}"}, "the url must begin with https://"),
        ("http://h", {"ca_file": __file__}, "the url must begin with https://"),
    ],
)
def test_trust_that_cannot_be_is_refused_by_name(url: str, trust: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError) as failure:
        Client(url, AK, SK, VDN, **trust)  # type: ignore[arg-type]
    assert said in str(failure.value)
