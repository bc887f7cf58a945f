"""sipp beside us: a far end that answers at once, and sipp's own client with the CPU that it took."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
LOOPBACK = ("-i", HOST, "-mi", HOST, "-bind_local", "-ci", HOST)
"""Without these sipp opens sockets on every address."""


def missing() -> bool:
    """Whether there is no sipp on this machine."""
    return shutil.which("sipp") is None


def free_port() -> int:
    """A UDP port of loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def far_end() -> Iterator[int]:
    """`sipp -sn uas`: INVITE, 180, 200, ACK, BYE, 200. Its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="outdial-bench-") as name:
        process = subprocess.Popen(
            ["sipp", "-sn", "uas", *LOOPBACK, "-p", str(port), *_apart()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
        )
        try:
            _wait_until_taken(port)
            yield port
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


def client(port: int, rate: int, calls: int) -> tuple[float, float]:
    """`sipp -sn uac`, each call hung up at once: CPU seconds of the process, and calls a second reached."""
    with tempfile.TemporaryDirectory(prefix="outdial-bench-") as name:
        began = time.monotonic()
        process = subprocess.Popen(
            [
                *("sipp", f"{HOST}:{port}", "-sn", "uac", *LOOPBACK, *_apart(), "-p", str(free_port())),
                *("-r", str(rate), "-m", str(calls), "-l", "100000", "-d", "0"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        # 1: some call failed, which under load a lost datagram may bring about.
        assert process.returncode in (0, 1), f"sipp's client failed: status {process.returncode}"
        return used.ru_utime + used.ru_stime, calls / seconds


def _apart() -> tuple[str, ...]:
    """Ports of its own for control and audio."""
    return "-cp", str(free_port()), "-mp", str(free_port() & ~1), "-nostdin"


def _wait_until_taken(port: int) -> None:
    """Until the UDP port listens on loopback."""
    until, wanted = time.monotonic() + 10, f"0100007F:{port:04X}"
    while not any(line.split()[1] == wanted for line in Path("/proc/net/udp").read_text().splitlines()[1:]):
        assert time.monotonic() < until, "sipp does not start"
        time.sleep(0.02)
