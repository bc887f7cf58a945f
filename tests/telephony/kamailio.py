"""kamailio as a carrier's proxy: UDP, TCP and TLS in front of one gateway, with digest where asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sipp import DEADLINE

from ports import free_port

PROGRAM = shutil.which("kamailio", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
USER, PASSWORD, REALM = "alice", "secret", "carrier.test"

CONFIG = """#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
{tls_listen}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
{tls_module}
modparam("auth", "nonce_expire", {nonce_expire})
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "qop", "auth")
modparam("tm", "fr_timer", 2000)
modparam("rr", "enable_full_lr", 1)

request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("404", "Not Here"); exit;
  }}
  t_check_trans();
  if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
  if (is_method("REGISTER")) {{
    if (!pv_www_authenticate("{realm}", "{password}", "0")) {{ www_challenge("{realm}", "1"); exit; }}
    save("location"); exit;
  }}
  if (is_method("INVITE")) {{
    if ({asks}) {{
      if (!pv_proxy_authenticate("{realm}", "{password}", "0")) {{ proxy_challenge("{realm}", "1"); exit; }}
      consume_credentials();
    }}
    record_route();
    $du = "sip:127.0.0.1:{gateway}";
    t_relay(); exit;
  }}
}}
"""


class Kamailio:
    """A kamailio that relays calls to the gateway's port."""

    def __init__(
        self,
        folder: Path,
        gateway: int,
        *,
        algorithm: str = "MD5",
        asks: bool = False,
        tls: bool = False,
        nonce_expire: int = 300,
    ) -> None:
        """`asks`: INVITE needs a digest (407). The certificate names 127.0.0.1."""
        self.folder = folder / "kamailio"
        self.folder.mkdir()
        self.port, self.tls_port = free_port(), free_port()
        self.ca = self.folder / "cert.pem"
        self.tls = tls
        if tls:
            make_certificate(self.folder)
        self.config = self.folder / "kamailio.cfg"
        certificate = (
            'loadmodule "tls.so"\nmodparam("tls", "tls_method", "TLSv1.2+")\n'
            f'modparam("tls", "certificate", "{self.ca}")\n'
            f'modparam("tls", "private_key", "{self.folder / "key.pem"}")'
        )
        self.config.write_text(
            CONFIG.format(
                port=self.port,
                gateway=gateway,
                algorithm=algorithm,
                asks="1 == 1" if asks else "1 == 0",
                realm=REALM,
                password=PASSWORD,
                nonce_expire=nonce_expire,
                tls_listen=f"listen=tls:127.0.0.1:{self.tls_port}\nenable_tls=yes" if tls else "",
                tls_module=certificate if tls else "",
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Kamailio:
        """Start it and wait until it answers."""
        assert PROGRAM is not None
        command = [PROGRAM, "-f", str(self.config), "-DD", "-Y", str(self.folder), "-m", "64", "-M", "8"]
        command += ["-P", str(self.folder / "pid")]
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        until = time.monotonic() + DEADLINE
        while not _accepts(self.tls_port if self.tls else self.port):
            assert self.process.poll() is None, f"kamailio ended: {(self.folder / 'out').read_text()[-2000:]}"
            assert time.monotonic() < until, "kamailio does not start"
            time.sleep(0.05)
        return self

    def end(self) -> None:
        """End it and its children: its own process group, by its id."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(DEADLINE)


def _accepts(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(f":{port:04X}" in line.split()[1] and line.split()[3] == "0A" for line in lines)


def make_certificate(folder: Path) -> None:
    """A key and a self-signed certificate for 127.0.0.1: cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
