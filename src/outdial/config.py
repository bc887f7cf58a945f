"""Settings: defaults, then `outdial.toml`, then `OUTDIAL_*`, then options. A wrong one is refused by name."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from outdial.amd import AmdThresholds
from outdial.errors import SettingError

ROLES = ("api", "engine", "push")
SWITCHES = ("simulated", "sip")
LOG_LEVELS = ("debug", "info", "warning", "error")

_HOST = re.compile(r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def _setting(default: Any, doc: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a server. The name in upper case with `OUTDIAL_` before it is its variable."""

    data: Path | None = _setting(
        None, "The data folder. The embedded PostgreSQL and the carrier's log live in it."
    )
    database: str | None = _setting(
        None,
        "The DSN of a PostgreSQL of yours, instead of the embedded one. "
        "It may name several hosts (A:5432,B:5432): the one that takes writes is used.",
        secret=True,
    )
    pg_bin: Path | None = _setting(None, "The folder of PostgreSQL's binaries for the embedded one.")
    pg_user: str | None = _setting(None, "As root: the system user that runs the embedded PostgreSQL.")
    listen: str = _setting(
        "127.0.0.1:8080",
        "HOST:PORT of the API: HTTP on loopback, HTTPS elsewhere or with `tls_cert`. Port 0: a free one.",
    )
    tls_cert: Path | None = _setting(
        None,
        "The certificate of the API and its chain (PEM). Off loopback a self-signed one is made without it.",
    )
    tls_key: Path | None = _setting(None, "The key of `tls_cert` (PEM, without a passphrase).")
    behind_proxy: tuple[str, ...] = _setting(
        (),
        "Addresses or networks (CIDR) of proxies before the API: plain HTTP off loopback is allowed then, "
        "and X-Forwarded-For and X-Forwarded-Proto are believed from them alone.",
    )
    public_names: tuple[str, ...] = _setting(
        (),
        "Names or addresses of this server as clients write them in Host, with a port or without (then for "
        "every port): a request for another is refused with 421. None: any Host is answered.",
    )
    metrics_listen: str | None = _setting(
        None, "HOST:PORT of /metrics (Prometheus), loopback only; without it there is none."
    )
    roles: tuple[str, ...] = _setting(ROLES, f"What this server runs: {', '.join(ROLES)}.")
    api_processes: int = _setting(1, "Number of api processes, 1 to 64.")
    switch: str = _setting("simulated", f"What places the calls: {', '.join(SWITCHES)}.")
    carrier_ring: float = _setting(0.1, "Simulated carrier: seconds of ringing before an answer.")
    carrier_talk: float = _setting(0.3, "Simulated carrier: seconds from the answer to the callee's hang-up.")
    sip_listen: tuple[str, ...] = _setting(
        ("127.0.0.1:5060",),
        "HOST:PORT of our SIP over UDP, one for each address family. Another than loopback to reach a trunk.",
    )
    sip_external: str | None = _setting(
        None, "The address by which SIP peers and their audio reach us, where a NAT stands between."
    )
    sip_ca_file: Path | None = _setting(
        None, "Certificates that TLS trunks are verified against; else those of the system."
    )
    rtp_ports: str = _setting(
        "20000-29999", "FIRST-LAST of the UDP ports for audio; a call takes an even one."
    )
    amd_initial_silence: int = _setting(
        2500, "Answering machines: ms without a word after the answer: a machine."
    )
    amd_greeting: int = _setting(
        1500, "Answering machines: ms of speech in the greeting, pauses not counted: a machine."
    )
    amd_after_greeting_silence: int = _setting(
        800, "Answering machines: ms of silence after something was said: a person."
    )
    amd_total: int = _setting(5000, "Answering machines: ms of audio without a verdict: unsure.")
    amd_min_word: int = _setting(100, "Answering machines: ms of sound that make a word; less is a noise.")
    amd_between_words: int = _setting(50, "Answering machines: ms of silence that end a word.")
    amd_max_words: int = _setting(3, "Answering machines: more words than so many: a machine.")
    amd_max_word: int = _setting(5000, "Answering machines: ms of one word: a machine.")
    amd_level: int = _setting(
        256, "Answering machines: the mean of a frame's absolute 16-bit samples from which on it is sound."
    )
    push_allow: tuple[str, ...] = _setting(
        (), "Networks (CIDR) of private addresses that results may be pushed to."
    )
    stop_grace: float = _setting(20.0, "Seconds that calls in flight get at a stop, 0 to 25.")
    log_level: str = _setting("info", f"The least level that is logged: {', '.join(LOG_LEVELS)}.")

    def __post_init__(self) -> None:
        """Raises `SettingError` for a value outside its range."""
        _within("api_processes", self.api_processes, 1, 64)
        _within("stop_grace", self.stop_grace, 0, 25)
        _within("carrier_ring", self.carrier_ring, 0, 3600)
        _within("carrier_talk", self.carrier_talk, 0, 3600)
        for name in (item.name for item in fields(self) if item.name.startswith("amd_")):
            _within(name, getattr(self, name), 1, 32_767)
        _one_of("switch", (self.switch,), SWITCHES)
        _one_of("roles", self.roles, ROLES)
        _one_of("log_level", (self.log_level,), LOG_LEVELS)
        if not self.roles:
            raise SettingError(f"roles: name at least one of {', '.join(ROLES)}")
        networks("push_allow", self.push_allow)
        networks("behind_proxy", self.behind_proxy)
        self.allowed_hosts()
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingError("tls_cert, tls_key: give both or neither")
        self.address()
        self.metrics_address()
        self.sip_addresses()
        self.rtp_range()

    def address(self) -> tuple[str, int]:
        """Host and port of `listen`. Raises `SettingError`."""
        return _host_port("listen", self.listen, "127.0.0.1:8080 or [::1]:8080")

    def allowed_hosts(self) -> frozenset[str] | None:
        """`public_names` in lower case; None: any. Raises `SettingError`."""
        for name in self.public_names:
            if not _HOST.fullmatch(name):
                raise SettingError(
                    f"public_names: {name!r} must be a name or an address, with a port or without, "
                    "for example dial.example.com or 192.0.2.5:8443 or [2001:db8::5]"
                )
        return frozenset(name.lower() for name in self.public_names) or None

    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of `metrics_listen`. Raises `SettingError`."""
        if self.metrics_listen is None:
            return None
        host, port = _host_port("metrics_listen", self.metrics_listen, "127.0.0.1:9090 or [::1]:9090")
        if not is_loopback(host):
            raise SettingError("metrics_listen: must be a loopback address (127.0.0.0/8 or ::1)")
        return host, port

    @property
    def makes_certificate(self) -> bool:
        """Whether the API needs a certificate that nobody gave: off loopback, and no proxy has one."""
        return self.tls_cert is None and not self.behind_proxy and not is_loopback(self.address()[0])

    def sip_addresses(self) -> list[tuple[str, int]]:
        """Host and port of every `sip_listen`. Raises `SettingError`."""
        if not self.sip_listen:
            raise SettingError("sip_listen: name at least one HOST:PORT")
        return [_host_port("sip_listen", one, "192.0.2.5:5060 or [::1]:5060") for one in self.sip_listen]

    def amd_thresholds(self) -> AmdThresholds:
        """When the answering-machine detection decides."""
        names = [item.name for item in fields(AmdThresholds)]
        return AmdThresholds(**{name: getattr(self, f"amd_{name}") for name in names})

    def rtp_range(self) -> range:
        """The ports for audio. Raises `SettingError`."""
        first, dash, last = self.rtp_ports.partition("-")
        if not dash or not (first + last).isascii() or not first.isdigit() or not last.isdigit():
            raise SettingError("rtp_ports: must be FIRST-LAST, for example 20000-29999")
        if not 1024 <= int(first) < int(last) <= 65535:
            raise SettingError("rtp_ports: FIRST and LAST must be 1024 to 65535, and FIRST less than LAST")
        return range(int(first), int(last) + 1)

    def with_options(self, **options: Any) -> Self:
        """The settings with the options that are not None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})


NO_SETTINGS = frozenset(
    f"OUTDIAL_{name}"
    for name in (
        *("URL", "AK", "SK", "VDN", "CA", "FINGERPRINT"),  # of the commands that talk to a server
        *("CONFIG", "MASTER_KEY", "TRUNK_PASSWORD", "APT"),
        *(
            "LIFELINE_FD",
            "READY_FD",
            "LISTEN_FD",
            "CARRIER_SOCKET",
            "METRICS_FD",
            "METRICS_FILE",
        ),  # the supervisor's own
    )
)
"""Variables that begin like a setting and are none."""


def load(file: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from an optional TOML file and the environment. Raises `SettingError`."""
    found: dict[str, Any] = {}
    known = {variable_of(item.name) for item in fields(Settings)} | NO_SETTINGS
    for name in environment:
        if name.startswith("OUTDIAL_") and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingError(f"{name}: no such setting{hint}")
    if file is not None:
        found.update(_from_file(file))
    for item in fields(Settings):
        variable = variable_of(item.name)
        if variable in environment:
            found[item.name] = _from_text(item.name, environment[variable], variable)
    return Settings(**found)


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"OUTDIAL_{name.upper()}"


def documented() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every setting, for the reference page."""
    return [
        (item.name, _shown(item.default if item.default is not MISSING else None), item.metadata["doc"])
        for item in fields(Settings)
    ]


def _from_file(file: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{file}: {error}") from error
    known = {item.name for item in fields(Settings)}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise SettingError(f"{file}: unknown setting {unknown[0]}; known are {', '.join(sorted(known))}")
    return {name: _typed(name, value, f"{file}: {name}") for name, value in raw.items()}


def _typed(name: str, value: Any, where: str) -> Any:
    kind = _KINDS[name]
    if kind == "path" and isinstance(value, str):
        return Path(value)
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "texts" and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if kind == "integer" and type(value) is int:
        return value
    if kind == "number" and type(value) in (int, float):
        return float(value)
    raise SettingError(f"{where}: must be {_IN_WORDS[kind]}")


def _from_text(name: str, text: str, where: str) -> Any:
    kind = _KINDS[name]
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        raise SettingError(f"{where}: must be {_IN_WORDS[kind]}") from None
    if kind == "texts":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if not text:
        raise SettingError(f"{where}: is empty")
    return Path(text) if kind == "path" else text


_KINDS = {
    "data": "path",
    "database": "text",
    "pg_bin": "path",
    "pg_user": "text",
    "listen": "text",
    "tls_cert": "path",
    "tls_key": "path",
    "behind_proxy": "texts",
    "public_names": "texts",
    "metrics_listen": "text",
    "roles": "texts",
    "api_processes": "integer",
    "switch": "text",
    "carrier_ring": "number",
    "carrier_talk": "number",
    "sip_listen": "texts",
    "sip_external": "text",
    "sip_ca_file": "path",
    "rtp_ports": "text",
    "amd_initial_silence": "integer",
    "amd_greeting": "integer",
    "amd_after_greeting_silence": "integer",
    "amd_total": "integer",
    "amd_min_word": "integer",
    "amd_between_words": "integer",
    "amd_max_words": "integer",
    "amd_max_word": "integer",
    "amd_level": "integer",
    "push_allow": "texts",
    "stop_grace": "number",
    "log_level": "text",
}

_IN_WORDS = {
    "path": "a path in quotes",
    "text": "text in quotes",
    "texts": "a list of texts (comma-separated in the environment)",
    "integer": "an integer",
    "number": "a number",
}


def networks(name: str, texts: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The networks of a setting. Raises `SettingError`."""
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on this address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_port(name: str, text: str, examples: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingError(f"{name}: must be HOST:PORT, for example {examples}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingError(f"{name}: must be {low} to {high}")


def _one_of(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise SettingError(f"{name}: {value!r} is not one of {', '.join(allowed)}")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
