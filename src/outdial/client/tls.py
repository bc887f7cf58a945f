"""Whom the client trusts: the system's CAs, a CA file, or one certificate by its fingerprint."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from pathlib import Path

import aiohttp
from yarl import URL

from outdial.client.errors import CertificateError
from outdial.errors import SettingError

CA_VARIABLE = "OUTDIAL_CA"
FINGERPRINT_VARIABLE = "OUTDIAL_FINGERPRINT"

_FINGERPRINT = re.compile(r"sha256:([0-9a-f]{64})")
_WAYS = (
    "give the CA that signed it (ca_file, --ca-file, OUTDIAL_CA), or pin it (fingerprint, --fingerprint,"
    " OUTDIAL_FINGERPRINT) with what `openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE` prints on"
    " the server, as sha256:HEX"
)

Trust = ssl.SSLContext | aiohttp.Fingerprint | bool


def trust_for(origin: URL, ca_file: str | os.PathLike[str] | None, fingerprint: str | None) -> Trust:
    """What the connection's certificate must satisfy; the environment counts where nothing is given.

    A fingerprint is that of the server's own certificate (DER), and no name or date is judged then.
    Raises SettingError for a file or fingerprint that cannot be right, for both, or for one of them with a
    url that is not https.
    """
    if ca_file is None and fingerprint is None and origin.scheme == "https":
        ca_file = os.environ.get(CA_VARIABLE) or None
        fingerprint = os.environ.get(FINGERPRINT_VARIABLE) or None
    if ca_file is not None and fingerprint is not None:
        raise SettingError("CA file and fingerprint: give one of them")
    if ca_file is None and fingerprint is None:
        return ssl.create_default_context() if origin.scheme == "https" else True
    if origin.scheme != "https":
        raise SettingError("CA file, fingerprint: the url must begin with https://")
    return _pinned(fingerprint) if fingerprint is not None else _signed_by(Path(ca_file or ""))


def _pinned(text: str) -> aiohttp.Fingerprint:
    match = _FINGERPRINT.fullmatch(text.strip().lower().replace(":", "").replace("sha256", "sha256:", 1))
    if match is None:
        raise SettingError("fingerprint: must be sha256: and 64 hex digits")
    return _Pin(bytes.fromhex(match[1]))


class _Pin(aiohttp.Fingerprint):
    """Hangs up on another certificate without the farewell of TLS, which a loop that ends would cut off."""

    def check(self, transport: asyncio.Transport) -> None:
        """Raises ServerFingerprintMismatch."""
        try:
            super().check(transport)
        except aiohttp.ServerFingerprintMismatch:
            asyncio.get_running_loop().call_soon(transport.abort)  # after aiohttp has closed it
            raise


def _signed_by(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise SettingError(f"CA file {ca_file}: holds no certificate in PEM form") from None
    except OSError as error:
        raise SettingError(f"CA file {ca_file}: {error.strerror}") from None


def certificate_error(origin: URL, error: aiohttp.ClientError) -> CertificateError | None:
    """The error in our words, when it is about the certificate; else None."""
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        text = (
            f"the certificate of {origin} is not the pinned one: expected sha256:{error.expected.hex()},"
            f" it has sha256:{error.got.hex()}"
        )
        hint = "if the server's certificate was renewed, compare with it there and pin the new one;"
        return CertificateError(None, text, hint=f"{hint} otherwise somebody stands between")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", None) or str(cause)
        return CertificateError(None, f"the certificate of {origin} is not trusted: {reason}", hint=_WAYS)
    return None
