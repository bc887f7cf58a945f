"""Certificates for the tests: made with the code's own maker, or with one thing wrong."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from outdial.web import certificates
from outdial.web.certificates import OWN_LIFE, Pair

NAMES = ("127.0.0.1", "localhost")


def pair(folder: Path, name: str, *, ends: timedelta = OWN_LIFE, kind: str = "ecdsa") -> Pair:
    """A self-signed pair whose end is so far from now."""
    made = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    made.key.write_bytes(rsa_key() if kind == "rsa" else certificates._new_key())
    key = load_pem_private_key(made.key.read_bytes(), None)
    began = datetime.now(UTC) - OWN_LIFE + ends
    made.certificate.write_bytes(certificates._self_signed(key, NAMES, began))
    return made


def rsa_key() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted(key: Path) -> bytes:
    loaded = load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def fingerprint(certificate: Path) -> str:
    """As a client computes it: of the DER form, by other code than ours."""
    return of_der(ssl.PEM_cert_to_DER_cert(certificate.read_text()))


def of_der(der: bytes | None) -> str:
    return "sha256:" + hashlib.sha256(der or b"").hexdigest()


def trusting(certificate: Path) -> ssl.SSLContext:
    """A client that verifies against this certificate, names included."""
    return ssl.create_default_context(cafile=certificate)


def blind() -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
