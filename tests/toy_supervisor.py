"""A supervisor with toy children, and the children themselves.

argv: "supervise", a plan as JSON, and the path of a record to which each process appends what it does; or
"child", a kind, a name and the record. `supervise` prints the children's process ids as JSON when all are
ready, or the reason why not; SIGUSR1 does it again.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType
from typing import Any

import structlog

from outdial.errors import SettingError
from outdial.lifeline import say_ready, watch_lifeline
from outdial.supervisor import Child, Supervisor, as_init

RECORD = os.open(sys.argv[-1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def record(name: str, did: str) -> None:
    os.write(RECORD, json.dumps([name, did, os.getpid()]).encode() + b"\n")


def made(kind: str, name: str, fds: tuple[int, ...] = (), **more: Any) -> Child:
    argv = (sys.executable, __file__, "child", kind, name, sys.argv[-1])
    return Child(name, (kind,) if kind.startswith("/") else argv, fds=tuple(fds), **more)


async def supervise(plan: dict[str, Any]) -> None:
    children = [made(**child) for child in plan["children"]]

    async def watch() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            record("watch", "cancelled")

    def finish() -> None:
        record("finish", "began")
        time.sleep(float(plan.get("finish_takes", 0)))
        record("finish", "done")

    def reload() -> bool:
        record("supervisor", "reload")
        return bool(plan["reload"])

    supervisor = Supervisor(
        children,
        watch=watch,
        finish=finish,
        reload=reload if "reload" in plan else None,
        stop_within=float(plan["stop_within"]),
    )
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGUSR1, lambda: print(json.dumps(supervisor.pids), flush=True)
    )
    running = asyncio.create_task(supervisor.run())
    try:
        await supervisor.ready(float(plan.get("ready_within", 8)))
        print(json.dumps(supervisor.pids), flush=True)
    except SettingError as error:
        print(error, flush=True)
        supervisor.stop()
    await running
    record("supervisor", "ended")


def child(kind: str, name: str) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        record(name, "asked")
        time.sleep(0.4 if kind == "slow" else 0)
        record(name, "done")
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if kind == "stubborn" else end)
    if kind == "late":  # a SIGHUP before this is its end, as it is by default
        record(name, "begun")
        time.sleep(0.7)
    if kind in ("late", "hearing"):
        signal.signal(signal.SIGHUP, lambda *_: record(name, "hung up"))
    if kind == "failing":
        sys.exit(3)
    if kind == "lifeline":  # and nothing else: the kernel's tie is taken off
        ctypes.CDLL(None).prctl(1, 0)
    if kind != "kernel":
        watch_lifeline()
    if kind == "orphaning":  # the grandchild outlives its parent and becomes an orphan
        script = "import os, time\nif os.fork(): os._exit(0)\ntime.sleep(0.3)"
        subprocess.run([sys.executable, "-c", script], check=True)
    if kind.startswith("accept:"):
        with socket.socket(fileno=int(kind.partition(":")[2])) as listener:
            say_ready()
            while True:
                listener.accept()[0].sendall(f"{name} {os.environ['TOY']}".encode())
    record(name, "ready")
    if kind != "mute":
        say_ready()
    while True:
        signal.pause()


def main() -> None:
    if sys.argv[1] == "child":
        child(sys.argv[2], sys.argv[3])
        return
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    as_init()
    try:
        asyncio.run(supervise(json.loads(sys.argv[2])))
    except SettingError as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main()
