"""nginx and haproxy in front of a server, with the configuration that docs/howto/tls.md gives.

Only its addresses and files are replaced; what the tests need beside it (logs, folders) is added around it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edges import WITHIN
from tlspair import blind

from outdial.web.certificates import Pair

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "tls.md"
_PATHS = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
PROGRAMS = {name: shutil.which(name, path=_PATHS) for name in ("nginx", "haproxy")}

NGINX = """
pid {folder}/nginx.pid;
error_log stderr;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    log_format target escape=none '$request';
    access_log {folder}/requests target;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{snippet}
}}
"""
HAPROXY = """
global
    log stdout format raw local0 info
{snippet}
"""


def documented(program: str) -> str:
    """The configuration on the page."""
    (found,) = re.findall(rf"```{program}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def _with(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"the page does not say this once: {old}"
        text = text.replace(old, new)
    return text


@dataclass
class Proxy:
    """One that runs."""

    program: str
    address: str
    port: int
    log: Path

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        raw = socket.create_connection((self.address, self.port), WITHIN, source_address=(source, 0))
        return blind().wrap_socket(raw)

    def targets(self) -> Counter[str]:
        """Of the requests that it took for such, as it says itself."""
        lines = self.log.read_text(encoding="latin-1").splitlines()
        found = [re.match(r"[A-Za-z]+ (?:https?://[^/ ]*)?(/\S*)", line) for line in lines]
        return Counter(one[1] for one in found if one)


@contextmanager
def proxied(program: str, folder: Path, server: int, made: Pair) -> Iterator[Proxy]:
    """The proxy on a free port of 127.0.0.1, in front of the server's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    chain = folder / "dial.pem"
    chain.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    chain.chmod(0o600)
    here, there = f"127.0.0.1:{port}", ("server 192.0.2.5:8080", f"server 127.0.0.1:{server}")
    log = folder / "requests"
    command, config = [str(PROGRAMS[program])], folder / f"{program}.conf"
    if program == "nginx":
        snippet = _with(
            documented("nginx"),
            there,
            ("listen 443 ssl", f"listen {here} ssl"),
            ("/etc/ssl/dial.pem", str(chain)),
            ("/etc/ssl/dial.key", str(made.key)),
        )
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(folder=folder, snippet=snippet, user=user))
        command += ["-p", str(folder), "-c", str(config), "-e", "stderr", "-g", "daemon off;"]
    else:
        snippet = _with(
            documented("haproxy"),
            ("server outdial 192.0.2.5:8080", f"server outdial 127.0.0.1:{server}"),
            ("bind :443 ssl crt /etc/ssl/dial.pem", f"bind {here} ssl crt {chain}"),
            ("    mode http\n", '    mode http\n    log global\n    log-format "%HM %HU"\n'),
        )
        config.write_text(HAPROXY.format(snippet=snippet))
        command += ["-db", "-f", str(config)]
    with (
        log.open("wb") as out,
        (folder / "errors").open("wb") as errors,
        subprocess.Popen(command, stdout=out, stderr=errors, cwd=folder) as process,
    ):
        try:
            _wait(port, process, folder / "errors")
            yield Proxy(program, "127.0.0.1", port, log)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes], errors: Path) -> None:
    deadline = time.monotonic() + WITHIN
    while True:
        assert process.poll() is None, errors.read_text()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert time.monotonic() < deadline, errors.read_text()
        time.sleep(0.02)
