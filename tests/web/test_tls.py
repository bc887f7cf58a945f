"""TLS of the API: which pair is served or refused, and the deadlines and refusals of a connection over it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from edges import WITHIN, Toy, toy
from structlog.testing import capture_logs
from tlspair import blind, encrypted, fingerprint, of_der, pair, trusting

from outdial import tls as server_tls
from outdial.config import Settings, networks
from outdial.errors import SettingError
from outdial.web import certificates
from outdial.web.certificates import Keeper, Pair, Tls, own_pair, read
from outdial.web.forwarded import BehindProxy, _address, client_of
from outdial.web.guard import Receive, Scope, Send

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


# -- which certificate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "more", "made"),
    [
        ("127.0.0.1:0", {}, False),
        ("[::1]:0", {}, False),
        ("localhost:0", {}, False),
        ("0.0.0.0:0", {}, True),
        ("192.0.2.5:0", {}, True),
        ("[2001:db8::5]:0", {}, True),
        ("192.0.2.5:0", {"behind_proxy": ("192.0.2.9",)}, False),
        ("192.0.2.5:0", {"tls_cert": Path("c"), "tls_key": Path("k")}, False),
    ],
)
def test_off_loopback_there_is_a_certificate_unless_a_proxy_has_one(
    listen: str, more: dict[str, Any], made: bool
) -> None:
    assert Settings(listen=listen, **more).makes_certificate is made


def test_our_own_certificate_is_made_once_and_kept(tmp_path: Path) -> None:
    """Beside the data folder like the master key, the key for its owner alone, and clients can verify it."""
    given = Settings(data=tmp_path / "data", listen="192.0.2.5:8443")
    settings, keeper = server_tls.secured(given)
    assert keeper is not None
    certificate, key = tmp_path / "data.tls.crt", tmp_path / "data.tls.key"
    assert (settings.tls_cert, settings.tls_key) == (certificate, key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {"192.0.2.5", "localhost", "127.0.0.1", socket.gethostname()} <= keeper.certificate.names
    assert keeper.certificate.fingerprint == fingerprint(certificate)
    assert keeper.certificate.not_after > NOW + 3000 * DAY
    again = server_tls.secured(given)[1]
    assert again is not None
    assert again.certificate == keeper.certificate
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.tls.crt", "data.tls.key"]


def test_our_own_certificate_is_made_anew_before_its_end_with_the_same_key(tmp_path: Path) -> None:
    made = own_pair(tmp_path / "data", "192.0.2.5", NOW)
    first, key = read(made, NOW), made.key.read_bytes()
    own_pair(tmp_path / "data", "192.0.2.5", first.not_after - 31 * DAY)
    assert read(made, NOW) == first
    own_pair(tmp_path / "data", "192.0.2.5", first.not_after - 29 * DAY)
    assert read(made, first.not_after).not_after > first.not_after + 3000 * DAY
    assert made.key.read_bytes() == key


def test_our_own_certificate_is_made_anew_for_another_address_and_another_key(tmp_path: Path) -> None:
    made = own_pair(tmp_path / "data", "192.0.2.5", NOW)
    first = read(made, NOW)
    own_pair(tmp_path / "data", "192.0.2.6", NOW)
    second = read(made, NOW)
    assert first.fingerprint != second.fingerprint
    assert "192.0.2.6" in second.names
    made.key.unlink()  # as after a copy that left it out
    own_pair(tmp_path / "data", "192.0.2.6", NOW)
    assert read(made, NOW).fingerprint != second.fingerprint


def test_without_a_data_folder_our_own_certificate_has_no_place() -> None:
    with pytest.raises(SettingError, match=r"^tls_cert, tls_key: needed to listen on 192\.0\.2\.5:1"):
        server_tls.secured(Settings(database="postgresql://x", listen="192.0.2.5:1"))


def _gone(made: Pair, folder: Path) -> Pair:
    return Pair(folder / "none.crt", made.key)


def _no_key(made: Pair, folder: Path) -> Pair:
    return Pair(made.certificate, folder / "none.key")


def _garbage(made: Pair, folder: Path) -> Pair:
    made.certificate.write_text("no certificate")
    return made


def _garbage_key(made: Pair, folder: Path) -> Pair:
    made.key.write_text("no key")
    return made


def _encrypted(made: Pair, folder: Path) -> Pair:
    made.key.write_bytes(encrypted(made.key))
    return made


def _strangers(made: Pair, folder: Path) -> Pair:
    return Pair(made.certificate, pair(folder, "other").key)


def _expired(made: Pair, folder: Path) -> Pair:
    return pair(folder, "old", ends=-DAY)


def _too_early(made: Pair, folder: Path) -> Pair:
    return pair(folder, "new", ends=certificates.OWN_LIFE + DAY)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_gone, r"tls_cert: .*none\.crt: cannot be read: No such file"),
        (_no_key, r"tls_key: .*none\.key: cannot be read: No such file"),
        (_garbage, r"tls_cert: .*: holds no certificate in PEM form"),
        (_garbage_key, r"tls_key: .*: holds no private key in PEM form"),
        (_encrypted, r"tls_key: .*: is encrypted; give it without a passphrase"),
        (_strangers, r"tls_key: .*other\.key: does not belong to the certificate .*good\.crt"),
        (_expired, r"tls_cert: .*old\.crt: expired on \d{4}-\d\d-\d\d"),
        (_too_early, r"tls_cert: .*new\.crt: not valid before \d{4}-\d\d-\d\d"),
    ],
)
def test_a_pair_that_cannot_be_served_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Pair, Path], Pair], said: str
) -> None:
    spoiled = spoil(pair(tmp_path, "good"), tmp_path)
    settings = Settings(tls_cert=spoiled.certificate, tls_key=spoiled.key)
    with pytest.raises(SettingError, match=f"^{said}"):
        server_tls.secured(settings)


def test_the_files_are_both_given_or_neither(tmp_path: Path) -> None:
    for half in ({"tls_cert": tmp_path}, {"tls_key": tmp_path}):
        with pytest.raises(SettingError, match=r"^tls_cert, tls_key: give both or neither"):
            Settings(**half)


def test_the_end_of_a_given_certificate_is_warned_about_for_30_days(tmp_path: Path) -> None:
    made = pair(tmp_path, "given", ends=100 * DAY)
    for ahead, lines in ((69 * DAY, 0), (71 * DAY, 1), (99 * DAY, 1)):
        keeper = Keeper(made, lambda ahead=ahead: NOW + ahead)
        with capture_logs() as logged:
            assert not keeper.look()
        assert [line["event"] for line in logged] == ["the certificate ends soon"] * lines


def test_our_own_is_made_anew_while_the_server_runs(tmp_path: Path) -> None:
    clock = [NOW]
    made = own_pair(tmp_path / "data", "192.0.2.5", NOW)
    keeper = Keeper(made, lambda: clock[0], lambda now: own_pair(tmp_path / "data", "192.0.2.5", now))
    first = keeper.certificate
    assert not keeper.look()
    clock[0] = first.not_after - 5 * DAY
    assert keeper.look()
    assert keeper.reload()
    assert keeper.certificate.not_after > first.not_after


def test_a_wrong_pair_is_not_taken_at_a_reload(tmp_path: Path) -> None:
    made = pair(tmp_path, "given")
    tls = Tls(made, lambda: NOW)
    before = tls.certificate
    made.key.write_bytes(pair(tmp_path, "other").key.read_bytes())
    with capture_logs() as logged:
        assert not tls.reload()
    assert "does not belong" in logged[0]["reason"]
    assert tls.certificate == before


# -- a connection over it ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("pair"), "served")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, made: Pair) -> Iterator[Toy]:
    with toy(tmp_path_factory.mktemp("tls"), tls=(made.certificate, made.key)) as running:
        yield running


def secure(running: Toy, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(running.connect(), server_hostname="127.0.0.1")


def to_the_end(connection: socket.socket) -> bytes:
    raw = b""
    connection.settimeout(WITHIN)
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while piece := connection.recv(1 << 16):
            raw += piece
    return raw


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_verifies_is_served(served: Toy, made: Pair, version: ssl.TLSVersion) -> None:
    context = trusting(made.certificate)
    context.minimum_version = context.maximum_version = version
    with secure(served, context) as connection:
        assert of_der(connection.getpeercert(binary_form=True)) == fingerprint(made.certificate)
        for _ in range(2):
            connection.sendall(b"GET /hi HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(4096).endswith(b"/hi ")
        connection.sendall(b"GET /hi HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = to_the_end(connection)
    assert b"strict-transport-security" not in answer.lower()


def only_1_1(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """The version that two contexts agree on, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(8):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[1].version()


def test_tls_1_1_is_refused(served: Toy, made: Pair) -> None:
    """The client itself would speak it: with a server that does, it does."""
    willing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    willing.load_cert_chain(made.certificate, made.key)
    assert shake_hands(only_1_1(blind()), only_1_1(willing)) == "TLSv1.1"
    ours = Tls(made, lambda: NOW).context
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(only_1_1(blind()), ours)
    with served.connect() as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        only_1_1(blind()).wrap_socket(raw)


def test_plain_http_gets_no_answer_and_does_no_harm(served: Toy, made: Pair) -> None:
    with served.connect() as raw:
        raw.sendall(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP/" not in to_the_end(raw)
    with secure(served, trusting(made.certificate)) as connection:
        connection.sendall(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096).endswith(b"/after ")
    assert "/plain" not in {line.get("path") for line in served.seen()}


def test_a_handshake_has_its_deadline(tmp_path: Path, made: Pair) -> None:
    with toy(tmp_path, tls=(made.certificate, made.key), handshake=0.6) as running:
        with running.connect() as silent:
            began = time.monotonic()
            to_the_end(silent)
            assert 0.4 < time.monotonic() - began < WITHIN - 1
        with running.connect() as trickling:  # a record of 512 bytes that never is whole
            began = time.monotonic()
            trickling.sendall(b"\x16\x03\x01\x02\x00")
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - began < WITHIN:
                    trickling.sendall(b"\x01")
                    time.sleep(0.1)
            assert time.monotonic() - began < WITHIN - 1


def test_the_time_of_the_head_begins_after_the_handshake(tmp_path: Path, made: Pair) -> None:
    with toy(tmp_path, tls=(made.certificate, made.key), handshake=5, head=0.8) as running:
        with running.connect() as slow:
            time.sleep(1.2)
            with blind().wrap_socket(slow) as connection:
                connection.sendall(b"GET /hi HTTP/1.1\r\nHost: a\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        with secure(running, blind()) as connection:
            connection.sendall(b"GET /never")
            began = time.monotonic()
            assert to_the_end(connection).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - began < WITHIN - 1


def test_who_is_refused_while_still_sending_reads_why(served: Toy) -> None:
    """TLS knows no half-closed connection: the answer goes out, and the end comes after the linger time."""
    with secure(served, blind()) as connection:
        connection.sendall(
            b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n1"
        )
        began = time.monotonic()
        assert to_the_end(connection).startswith(b"HTTP/1.1 415 ")
        assert 1.5 < time.monotonic() - began < 5  # who still sends is not reset before it could read


def test_the_end_closes_connections_in_good_order(tmp_path: Path, made: Pair) -> None:
    with toy(tmp_path, tls=(made.certificate, made.key)) as running, secure(running, blind()) as connection:
        connection.sendall(b"GET /slow?0.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        running.process.terminate()
        assert to_the_end(connection).endswith(b"/slow ")
        assert running.process.wait(WITHIN) == 0


# -- whom a proxy speaks for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.9", ["203.0.113.7"], "203.0.113.7"),
        ("192.0.2.9", ["10.0.0.1, 203.0.113.7"], "203.0.113.7"),  # the left one the client wrote itself
        ("192.0.2.9", ["10.0.0.1", "203.0.113.7, 198.51.100.5"], "203.0.113.7"),  # through a second proxy
        ("192.0.2.9", ["2001:db8::7"], "2001:db8::7"),
        ("192.0.2.9", [], "192.0.2.9"),
        ("192.0.2.9", ["203.0.113.7, unknown"], "192.0.2.9"),
        ("192.0.2.9", ["198.51.100.5"], "198.51.100.5"),
        ("192.0.2.8", ["203.0.113.7"], "192.0.2.8"),  # no proxy of ours
    ],
)
def test_the_client_is_the_last_address_before_the_named_proxies(
    peer: str, forwarded: list[str], client: str
) -> None:
    proxies = networks("behind_proxy", ("192.0.2.9", "198.51.100.0/28"))
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    address = _address(peer)
    assert address is not None
    assert str(client_of(address, headers, proxies)) == client


def test_a_proxy_is_named_by_its_address() -> None:
    with pytest.raises(SettingError, match=r"^behind_proxy: 'proxy\.test' does not appear to be"):
        Settings(behind_proxy=("proxy.test",))


@pytest.mark.parametrize(
    ("peer", "scheme", "seen"),
    [
        ("192.0.2.9", "https", "https"),
        ("192.0.2.9", "ftp", "http"),
        ("192.0.2.8", "https", "http"),  # no proxy of ours
    ],
)
async def test_the_scheme_is_believed_from_the_named_proxies_alone(peer: str, scheme: str, seen: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["scheme"] == seen

    async def nothing(*_: Any) -> Any:
        return None

    headers = [(b"x-forwarded-proto", scheme.encode())]
    scope = {"client": (peer, 1), "scheme": "http", "headers": headers}
    await BehindProxy(app, networks("behind_proxy", ("192.0.2.9",)))(scope, nothing, nothing)
