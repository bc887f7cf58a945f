"""How many calls one process plays prompts to: CPU per second of audio, and how late packets leave.

Sessions as in a call, 20 ms of G.711 a packet, in a process of their own with the event loop of the engine.
The sinks are sockets that nobody reads. Beside it the raw limit: the same packets, made and sent by a bare
loop in turns with it. "both ways" adds what a far end sends to each session, from another process, all of
which the socket filter drops.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import resource
import socket
import struct
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import uvloop

from outdial.amd import AmdThresholds, BeepDetector, Detector
from outdial.g711 import FRAME, RATE, encoder
from outdial.sip.rtp import MediaSession, PortRange, Ticker

HOST = "127.0.0.1"
AUDIO = bytes(range(128, 256)) * 125 * 30  # 60 s
SINKS = 64


@dataclass(frozen=True)
class Media:
    """What a far end agreed to."""

    address: str
    port: int
    codec: str = "PCMU"
    codec_pt: int = 0
    event_pt: int = 101
    direction: str = "sendrecv"


def measure(calls: tuple[int, ...], seconds: float) -> None:
    """Print a row for each number of calls, and one for the detector."""
    _allow_sockets()
    for count in calls:
        print(_row("media", count, _apart(count, seconds, False)))
    print(_row("media, both ways", calls[0], _apart(calls[0], seconds, True)))
    tone = bytes(encoder()(round(8000 * math.sin(2 * math.pi * 1000 * n / RATE))) for n in range(FRAME))
    endless = AmdThresholds(greeting=10**9, max_word=10**9, total=10**9)
    print(
        f"detection: {_frame_cost(Detector(endless), tone):.1f} us of CPU a frame of 20 ms for the detector,"
        f" {_frame_cost(BeepDetector(), tone):.1f} us for the beep"
    )


def _row(name: str, count: int, found: dict[str, float]) -> str:
    cpu = found["cpu"] / found["sent"] * 1e6
    return (
        f"{name}: {count} calls, {found['sent'] / found['due']:.1%} of the packets sent, at most"
        f" {found['late'] * 1e3:.1f} ms late (aim 20); {cpu:.1f} us of CPU a packet, {cpu * 0.05:.2f} ms a"
        f" second of audio, {20_000 / cpu:.0f} calls a core; raw limit {found['raw'] * 1e6:.1f} us"
    )


def _frame_cost(detector: Any, frame: bytes) -> float:
    count = 2000
    began = time.process_time()
    for _ in range(count):
        detector.hear(frame)
    return (time.process_time() - began) / count * 1e6


def _allow_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))


def _apart(count: int, seconds: float, both: bool) -> dict[str, float]:
    """Measured in a process of its own, so that nothing else takes part."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_child, args=(theirs, count, seconds, both))
    child.start()
    found: dict[str, float] = json.loads(ours.recv_bytes())
    child.join()
    return found


def _child(pipe: Any, count: int, seconds: float, both: bool) -> None:
    _allow_sockets()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_play(count, seconds, both))
    pipe.send_bytes(json.dumps(found).encode())


def _sinks() -> list[socket.socket]:
    made = []
    for _ in range(SINKS):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sink.bind((HOST, 0))
        made.append(sink)
    return made


async def _play(count: int, seconds: float, both: bool) -> dict[str, float]:
    sinks, ticker, ports = _sinks(), Ticker(), PortRange(HOST, 20_000, 30_000)
    targets = [sink.getsockname()[1] for sink in sinks]
    sockets = [ports.allocate() for _ in range(count)]
    sessions = [MediaSession(ticker, one, on_key=lambda key, ms: None) for one in sockets]
    stop = multiprocessing.get_context("spawn").Event()
    sender = _far_end(sessions, stop) if both else None
    for number, session in enumerate(sessions):
        session.connect(Media(HOST, targets[number % SINKS]))
        session.play(AUDIO, lambda: None)
    await asyncio.sleep(1.5 if both else 0.5)
    ticker.max_late = 0.0
    before, began, cpu = sum(one.sent for one in sessions), time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    found = {
        "cpu": time.process_time() - cpu,
        "due": (time.monotonic() - began) * 50 * count,
        "sent": sum(one.sent for one in sessions) - before,
        "late": ticker.max_late,
        "raw": _raw(sockets, targets),
    }
    stop.set()
    if sender is not None:
        sender.join()
    for closing in (*sessions, *sinks):
        closing.close()
    return found


def _raw(sockets: list[socket.socket], targets: list[int]) -> float:
    """CPU seconds of one packet of a loop that does nothing else."""
    pack, count = struct.Struct("!BBHII").pack, 20_000
    addresses = [(HOST, port) for port in targets]
    began = time.process_time()
    for number in range(count):
        at = number % 500 * FRAME
        packet = pack(0x80, 0, number, number * FRAME, 7) + AUDIO[at : at + FRAME]
        sockets[number % len(sockets)].sendto(packet, addresses[number % SINKS])
    return (time.process_time() - began) / count


def _far_end(sessions: list[MediaSession], stop: Event) -> Any:
    ports = [session.local_port for session in sessions]
    sender = multiprocessing.get_context("spawn").Process(target=_send_to, args=(ports, stop), daemon=True)
    sender.start()
    return sender


def _send_to(ports: list[int], stop: Event) -> None:
    """50 packets a second to each port, in four phases."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.bind((HOST, 0))
    turn, due = 0, time.monotonic()
    while not stop.is_set():
        packet = struct.pack("!BBHII", 0x80, 0, turn // 4 & 0xFFFF, turn // 4 * FRAME, 7) + AUDIO[:FRAME]
        for port in ports[turn % 4 :: 4]:
            out.sendto(packet, (HOST, port))
        turn, due = turn + 1, due + 0.005
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    measure((500, 1000, 1500), 3.0)
