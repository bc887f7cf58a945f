"""sipp as a far end: scenarios written in Python, a process per far end, its exit code as the judgement."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from ports import free_port

DEADLINE = 20.0

SDP = """Content-Type: application/sdp
Content-Length: [len]

v=0
o=far 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP {codec} 101
a=rtpmap:{codec} {name}/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
"""


def recv(method: str, *saved: str, more: str = "") -> str:
    """Wait for a request; `saved` headers become variables of their own name."""
    actions = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{name}:" assign_to="{name.lower().replace("-", "")}"/>'
        for name in saved
    )
    inner = f"<action>{actions}{more}</action>" if actions or more else ""
    return f'<recv request="{method}" crlf="true" rrs="true">{inner}</recv>'


def send(
    status: str,
    *,
    audio: str | None = None,
    headers: str = "",
    retrans: bool = False,
    via: str = "[last_Via:]",
    cseq: str = "[last_CSeq:]",
    tagged: bool = True,
) -> str:
    """Answer with a status line. `audio` "PCMU" or "PCMA" adds SDP."""
    to = "[last_To:];tag=far[call_number]" if tagged else "[last_To:]"
    lines = [
        f"SIP/2.0 {status}",
        via,
        "[last_From:]",
        to,
        "[last_Call-ID:]",
        cseq,
        "[last_Record-Route:]",
        "Contact: <sip:far@[local_ip]:[local_port];transport=[transport]>",
    ]
    lines += [headers] if headers else []
    sdp = SDP.format(codec=0 if audio == "PCMU" else 8, name=audio)
    body = sdp if audio else "Content-Length: 0\n\n"
    attribute = ' retrans="500"' if retrans else ""
    text = "\n".join(lines) + "\n" + body
    return f"<send{attribute}><![CDATA[\n\n{text}\n]]></send>"


def bye(reason: str = "") -> str:
    """The far end's own BYE; needs `From` of the INVITE and `To` of the ACK saved."""
    extra = f"Reason: {reason}\n" if reason else ""
    return (
        '<send retrans="500"><![CDATA[\n\nBYE [next_url] SIP/2.0\n'
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        "[routes]\nFrom: [$to]\nTo: [$from]\n[last_Call-ID:]\nCSeq: 2 BYE\nMax-Forwards: 70\n"
        f'{extra}Content-Length: 0\n\n]]></send><recv response="200"/>'
    )


def pause(milliseconds: int) -> str:
    """Wait."""
    return f'<pause milliseconds="{milliseconds}"/>'


def command(action: str) -> str:
    """Do an `exec`."""
    return f"<nop><action><exec {action}/></action></nop>"


def refuse(status: str, headers: str = "") -> list[str]:
    """INVITE -> a final response -> ACK."""
    return [recv("INVITE"), send(status, headers=headers, retrans=True), recv("ACK")]


ANSWER = [
    recv("INVITE", "From"),
    send("180 Ringing"),
    send("200 OK", audio="PCMU", retrans=True),
    recv("ACK", "To"),
]
END = [recv("BYE"), send("200 OK", tagged=False)]


class Sipp:
    """A sipp that waits for calls on loopback."""

    def __init__(self, folder: Path, *arguments: str, steps: list[str] | None = None, calls: int = 1) -> None:
        """`steps` of a scenario, or `-sn uas` with `arguments`. It ends after `calls` calls."""
        self.port = free_port()
        self.folder = folder
        self.errors = folder / f"sipp-{self.port}.err"
        self.messages = folder / f"sipp-{self.port}.log"
        chosen = ["-sn", "uas"]
        if steps is not None:
            file = folder / f"scenario-{self.port}.xml"
            text = "\n".join(steps)
            saved = ",".join(sorted(set(re.findall(r'assign_to="(\w+)"', text))))
            text += f'\n<Reference variables="{saved}"/>' if saved else ""
            file.write_text(
                f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="far">\n{text}\n</scenario>\n'
            )
            chosen = ["-sf", str(file)]
        media = free_port(2)  # audio, and video, which it binds too
        self.arguments = [
            *("sipp", *chosen, "-i", "127.0.0.1", "-mi", "127.0.0.1", "-bind_local", "-ci", "127.0.0.1"),
            *("-cp", str(free_port()), "-p", str(self.port), "-mp", str(media), "-nostdin", "-m", str(calls)),
            *(
                "-trace_err",
                "-error_file",
                str(self.errors),
                "-trace_msg",
                "-message_file",
                str(self.messages),
            ),
            *arguments,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sipp:
        """Start it and wait until it listens."""
        with (self.folder / f"sipp-{self.port}.out").open("wb") as out:
            self.process = subprocess.Popen(
                self.arguments, stdout=out, stderr=subprocess.STDOUT, cwd=self.folder
            )
        until = time.monotonic() + DEADLINE
        while not _listens(self.port):
            assert self.process.poll() is None, f"sipp ended: {self.said()}"
            assert time.monotonic() < until, "sipp does not start"
            time.sleep(0.02)
        return self

    def result(self) -> int:
        """Its exit code once its calls are over: 0 when every call went as the scenario says."""
        assert self.process is not None
        return self.process.wait(DEADLINE)

    def end(self) -> None:
        """End it, by its own id."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(DEADLINE)

    def said(self) -> str:
        """What it complained about."""
        return self.errors.read_text(errors="replace")[-2000:] if self.errors.exists() else ""

    def log(self) -> str:
        """All messages it sent and received."""
        return self.messages.read_text(errors="replace") if self.messages.exists() else ""


def _listens(port: int) -> bool:
    """Whether the UDP port, or the TCP one, is taken on loopback."""
    for table in ("udp", "tcp"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            if line.split()[1] == f"0100007F:{port:04X}":
                return True
    return False
