"""TLS of a server: which certificate its settings ask for, who says its fingerprint, who reloads it."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from functools import partial

import structlog

from outdial import metrics
from outdial.config import Settings
from outdial.errors import SettingError
from outdial.store.postgres import utc_now
from outdial.web.certificates import Keeper, Pair, Tls, facts, own_pair

log = structlog.get_logger()


def secured(settings: Settings) -> tuple[Settings, Keeper | None]:
    """The settings with the pair that the API serves with, made here if need be; None: plain HTTP.

    Raises `SettingError` for a pair that cannot be served.
    """
    if "api" not in settings.roles:
        return settings, None
    if settings.tls_cert is not None and settings.tls_key is not None:
        return settings, Keeper(Pair(settings.tls_cert, settings.tls_key), utc_now)
    if not settings.makes_certificate:
        return settings, None
    if settings.data is None:
        raise SettingError(
            f"tls_cert, tls_key: needed to listen on {settings.listen}, because without a data folder a "
            "certificate of our own has no place; or name the proxies in front in behind_proxy"
        )
    own = partial(own_pair, settings.data, settings.address()[0])
    pair = own(utc_now())
    return settings.with_options(tls_cert=pair.certificate, tls_key=pair.key), Keeper(pair, utc_now, own)


def announce(settings: Settings, sock: socket.socket, keeper: Keeper | None) -> None:
    """Say where we serve and, on stdout too, which certificate: clients pin its fingerprint."""
    host, port = sock.getsockname()[:2]
    scheme, said = ("https", facts(keeper.certificate)) if keeper is not None else ("http", {})
    log.info("serving", scheme=scheme, host=host, port=port, roles=settings.roles, **said)
    if keeper is not None and "api" in settings.roles:
        print(f"certificate {keeper.certificate.fingerprint}", flush=True)


def of_process(settings: Settings) -> ssl.SSLContext | None:
    """TLS of an api process, which takes a new pair at SIGHUP; None: plain HTTP. Raises `SettingError`."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    tls = Tls(Pair(settings.tls_cert, settings.tls_key), utc_now)

    def say() -> None:
        metrics.CERTIFICATE_ENDS.set(tls.certificate.not_after.timestamp())

    def reload() -> None:
        tls.reload()
        say()

    say()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    return tls.context
