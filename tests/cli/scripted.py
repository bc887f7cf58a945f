"""A server that verifies signatures and answers by a script, for commands over the signed client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from outdial import signing

AK, SK, VDN = "TESTAK", "secret-of-the-test", "7"
ROOT = f"/rest/isales/v1/openapi/campaigns/{VDN}"


class Ended(NamedTuple):
    """A command that has ended: exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@dataclass
class Asked:
    """A request that came in, its signature good."""

    line: str
    body: Any
    at: float


@dataclass
class Script:
    """The answers to come, first to last; when they are used up, a success. And what was asked."""

    url: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None
    """While set and not yet set by the test: every answer but the first waits for it."""

    def success(self, **parts: Any) -> None:
        self.answers.append({"resultCode": "0200000", "resultDesc": "", **parts})

    def refusal(self, code: str, text: str, **more: Any) -> None:
        self.answers.append({"resultCode": code, "resultDesc": text, **more})

    def next(self) -> dict[str, Any]:
        if self.answers:
            return self.answers.pop(0)
        return {"resultCode": "0200000", "resultDesc": "", "returnObject": {"totalSize": 20}}

    @property
    def environment(self) -> dict[str, str]:
        return {"OUTDIAL_URL": self.url, "OUTDIAL_AK": AK, "OUTDIAL_SK": SK, "OUTDIAL_VDN": VDN}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.encode().partition(b"?")
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        try:
            parsed = signing.Authorization.of(headers)
            signing.verify(parsed, SK, self.command, path, query, headers, raw, datetime.now(UTC))
        except signing.BadSignature:
            self.answer(401, {"resultCode": "0200001", "resultDesc": "the request is not authenticated"})
            return
        script = self.script
        body = json.loads(raw) if raw else None
        script.asked.append(Asked(f"{self.command} {self.path}", body, time.monotonic()))
        script.came.set()
        if script.hold is not None and len(script.asked) > 1:
            script.hold.wait(20)
        answer = script.next()
        self.answer(answer.pop("status", 200), answer)

    do_POST = do_DELETE = do_PUT = do_GET

    def answer(self, status: int, document: dict[str, Any]) -> None:
        text = json.dumps(document).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("X-Request-Id", "r-1")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:
            pass  # a client that was interrupted


class Server(ThreadingHTTPServer):
    daemon_threads = False


def error_of(ended: Ended) -> str:
    """The one line that a command ends with when it fails; nothing else may be on stderr."""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err.removeprefix("error: ").rstrip("\n")
