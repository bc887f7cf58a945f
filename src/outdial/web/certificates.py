"""The certificate of the API: a given pair or one of our own, and how another takes its place.

A certificate of our own is self-signed: ECDSA P-256, `DIR.tls.crt` and `DIR.tls.key` beside the data folder
DIR. Its key stays when it is made anew. What pins it pins the SHA-256 of its DER form, the fingerprint.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outdial.errors import SettingError

WARN_BEFORE: Final = timedelta(days=30)
"""Before the end: a given certificate is warned about, one of our own is made anew."""

OWN_LIFE: Final = timedelta(days=3650)
"""Long, because whoever pinned a certificate of ours has to learn of its successor by hand."""

_LOOK_EVERY: Final = 86_400.0  # seconds

log = structlog.get_logger()

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate, with its chain after it, and of its key; both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. `fingerprint` is `sha256:` and 64 hex digits; `names` those it is for."""

    fingerprint: str
    not_after: datetime
    names: frozenset[str]


# -- a pair from files -------------------------------------------------------------------------------------


def read(pair: Pair, now: datetime) -> Certificate:
    """Judge a pair. Raises `SettingError` that names the file and what is wrong with it."""
    certificate = _certificate(pair.certificate)
    if certificate.not_valid_after_utc <= now:
        raise SettingError(
            f"tls_cert: {pair.certificate}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    if certificate.not_valid_before_utc > now:
        raise SettingError(
            f"tls_cert: {pair.certificate}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        )
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != _key(pair.key).public_key().public_bytes(*form):
        raise SettingError(f"tls_key: {pair.key}: does not belong to the certificate {pair.certificate}")
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    return Certificate(f"sha256:{digest}", certificate.not_valid_after_utc, _names(certificate))


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise SettingError(f"tls_cert: {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingError(f"tls_cert: {path}: holds no certificate in PEM form") from error


def _key(path: Path) -> Any:
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SettingError(f"tls_key: {path}: cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise SettingError(f"tls_key: {path}: is encrypted; give it without a passphrase") from error
    except ValueError as error:
        raise SettingError(f"tls_key: {path}: holds no private key in PEM form") from error


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = found.get_values_for_type(x509.IPAddress)
    return frozenset([*found.get_values_for_type(x509.DNSName), *map(str, addresses)])


def _context(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=lambda: b"")  # never ask the terminal
    except (OSError, ValueError) as error:
        raise SettingError(f"tls_cert: {pair.certificate}: cannot be served: {error}") from error
    return context


class Tls:
    """TLS of one process: 1.2 and 1.3, with the pair as it was when it was last (re)loaded."""

    def __init__(self, pair: Pair, clock: Clock) -> None:
        """Raises `SettingError` for a pair that cannot be served."""
        self._pair = pair
        self._clock = clock
        self.certificate = read(pair, clock())
        self.context = self._current = _context(pair)
        # A new pair gets a context of its own: loaded into the old one, an RSA pair would stay beside an
        # ECDSA one. OpenSSL calls this for every handshake, with a server name or without.
        self.context.sni_callback = self._choose

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def reload(self) -> bool:
        """Take the pair as it is now; connections there are live on. A wrong one is logged, not taken."""
        try:
            certificate, context = read(self._pair, self._clock()), _context(self._pair)
        except SettingError as error:
            log.error("certificate not taken: the old one is kept", reason=str(error))
            return False
        self.certificate, self._current = certificate, context
        log.info("certificate taken", **facts(certificate))
        return True


def facts(certificate: Certificate) -> dict[str, str]:
    """The words of a certificate for the log."""
    return {
        "fingerprint": certificate.fingerprint,
        "certificate_ends": certificate.not_after.isoformat(timespec="seconds"),
    }


# -- one of our own ----------------------------------------------------------------------------------------


def own_pair(data: Path, host: str, now: datetime) -> Pair:
    """Our own pair beside the data folder, for the address `host`; made where it is not there yet.

    It is made anew when it ends within 30 days, does not name `host`, or is not the key's. Raises
    `SettingError` when the files cannot be written or read.
    """
    folder = Path(os.path.abspath(data))
    pair = Pair(folder.with_name(folder.name + ".tls.crt"), folder.with_name(folder.name + ".tls.key"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not pair.key.exists():
            _publish(pair.key, _new_key(), 0o600, replace=False)
        if not _serves(pair, host, now):
            new = _self_signed(_key(pair.key), names_of(host), now)
            _publish(pair.certificate, new, 0o644, replace=pair.certificate.exists())
            log.warning("certificate made: clients have to trust it", **facts(read(pair, now)))
    except OSError as error:
        raise SettingError(f"certificate {pair.certificate}: cannot be made: {error.strerror}") from error
    return pair


def _serves(pair: Pair, host: str, now: datetime) -> bool:
    if not pair.certificate.exists():
        return False
    try:
        found = read(pair, now + WARN_BEFORE)
    except SettingError as error:
        log.warning("our own certificate is made anew", reason=str(error))
        return False
    return _any_address(host) or host in found.names


def names_of(host: str) -> list[str]:
    """Names and addresses of this machine under which a listener on `host` is reached. Asks no DNS."""
    named = ["localhost", socket.gethostname()]
    addresses = _addresses() if _any_address(host) else [host]
    return list(dict.fromkeys([*named, *addresses, "127.0.0.1", "::1"]))


def _any_address(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def _addresses() -> list[str]:
    """The addresses that our packets would leave from; to connect a UDP socket sends nothing."""
    found = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found.append(str(probe.getsockname()[0]))
    return found


def _new_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _self_signed(key: Any, names: Sequence[str], now: datetime) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outdial")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,  # clients that verify against it as an authority ask for this
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # for clients whose clock is a little behind
        .not_valid_after(now + OWN_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _publish(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """The file appears whole and is on disk; without `replace` the first of two makers is believed."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.replace(draft, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


# -- over the life of a server -----------------------------------------------------------------------------


class Keeper:
    """The certificate of a server as its supervisor sees it. `own` makes our own pair; None: it was given."""

    def __init__(self, pair: Pair, clock: Clock, own: Callable[[datetime], Pair] | None = None) -> None:
        """Raises `SettingError` for a pair that cannot be served."""
        self.pair = pair
        self._clock = clock
        self._own = own
        self._tls = Tls(pair, clock)

    @property
    def certificate(self) -> Certificate:
        """What is served."""
        return self._tls.certificate

    def reload(self) -> bool:
        """Judge the files anew; whether the api processes may take them. A fault is logged."""
        return self._tls.reload()

    def look(self) -> bool:
        """What is due once a day: warn of the end, make our own anew. True: there is a new certificate."""
        now = self._clock()
        if self.certificate.not_after - now > WARN_BEFORE:
            return False
        if self._own is None:
            log.warning("the certificate ends soon", **facts(self.certificate))
            return False
        try:
            self._own(now)
        except SettingError as error:
            log.error("certificate not made anew", reason=str(error))
            return False
        return True

    async def watch(self, changed: Callable[[], None]) -> None:
        """Look at once and then every day; `changed` has the new certificate taken everywhere."""
        while True:
            if self.look():
                changed()
            await asyncio.sleep(_LOOK_EVERY)
