"""The same job over SIP: outdial calls a telephone that sipp plays, on loopback, and speaks a tone to it.

It needs the program sipp and says so where it is missing. Data is removed again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outdial.client import BlockingClient

NUMBERS = ["80025501", "80025502", "80025503"]
FLOW = {
    "start": "hello",
    "steps": {"hello": {"play": {"prompts": "tone"}, "next": "end"}, "end": {"hangup": {}}},
}


def main() -> int:
    """Run it; 0 when every number was answered."""
    if shutil.which("sipp") is None:
        print("calls over SIP: left out, because sipp is not installed (Debian: apt-get install sip-tester)")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="outdial-sip-"))
    folder.chmod(0o711)
    far, ours = free_port(), free_port()
    sipp = start_sipp(folder, far)
    dev = subprocess.Popen(
        [*outdial("dev", "--json", "--listen", "127.0.0.1:0"), "--data", str(folder / "data")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OUTDIAL_SWITCH": "sip", "OUTDIAL_SIP_LISTEN": f"127.0.0.1:{ours}"},
    )
    try:
        assert dev.stdout is not None
        place = json.loads(next(iter(dev.stdout)))
        prepare(folder, far)
        start_campaign(place)
        print(f"calls over SIP: {len(NUMBERS)} numbers, to sipp at 127.0.0.1 port {far}")
        results = [json.loads(next(iter(dev.stdout))) for _ in NUMBERS]
    finally:
        dev.send_signal(signal.SIGTERM)
        dev.wait(timeout=40)
        sipp.kill()
        sipp.wait()
        shutil.rmtree(folder, ignore_errors=True)
    for result in results:
        print(f"  {result['called']}  callStatus {result['callStatus']}  failCode {result['failCode']}")
    answered = sum(result["failCode"] == "00000" for result in results)
    print(f"{answered} of {len(NUMBERS)} calls were answered and heard the prompt; the server has stopped")
    return 0 if answered == len(NUMBERS) and dev.returncode == 0 else 1


def outdial(*arguments: str) -> list[str]:
    """A command line of this package."""
    return [sys.executable, "-m", "outdial", *arguments]


def start_sipp(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A telephone that answers and sends back what it hears."""
    command = ["sipp", "-sn", "uas", "-rtp_echo", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-bind_local"]
    command += ["-ci", "127.0.0.1", "-cp", str(free_port()), "-p", str(port), "-mp", str(free_port())]
    return subprocess.Popen(
        [*command, "-nostdin"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def prepare(folder: Path, far: int) -> None:
    """What an administrator does once: a prompt, a flow, a trunk, an allowed destination."""
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        samples = (int(8000 * math.sin(2 * math.pi * 440 * n / 8000)) for n in range(8000))
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
    (folder / "hello.json").write_text(json.dumps(FLOW))
    for command in (
        ("prompt", "add", "tone", str(folder / "tone.wav"), "--vdn", "1"),
        ("flow", "add", "hello", str(folder / "hello.json"), "--vdn", "1"),
        ("trunk", "add", "sipp", "--host", "127.0.0.1", "--port", str(far)),
        ("destination", "allow", "8", "--vdn", "1"),
    ):
        print(f"  outdial {' '.join(command[:3])} ...")
        subprocess.run(
            outdial(*command, "--data", str(folder / "data")), check=True, stdout=subprocess.DEVNULL
        )


def start_campaign(place: dict[str, Any]) -> None:
    """A campaign that plays the flow to every number."""
    with BlockingClient(place["url"], place["ak"], place["sk"], place["vdn"]) as client:
        catcher = client.show_campaign(place["campaign"]).callback_url
        now = datetime.now(UTC)
        campaign = client.create_campaign(
            {
                "name": "demo over SIP",
                "strBeginTime": f"{now:%Y-%m-%d} 00:00:00",
                "strEndTime": f"{now + timedelta(days=1):%Y-%m-%d %H:%M:%S}",
                "deviceType": 3,
                "callerNo": "100",
                "maxAlertingTime": 10,
                "scheduleParam": {"workdayBeginTime1": "00:00", "workdayEndTime1": "24:00"},
                "ivrParam": {"deviceSign": "hello", "callCount": 5, "callInterval": 1},
                "initStatus": 1,
                "callBackUrl": catcher,
            }
        )
        client.add_numbers(campaign, [{"called": number} for number in NUMBERS])
        client.resume(campaign)


def free_port() -> int:
    """A UDP port of loopback that was free a moment ago, even: the next one is free for RTCP as well."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
        if port % 2 == 0 and port < 60000:
            return port


if __name__ == "__main__":
    sys.exit(main())
