"""Fixtures of the command line: the command in this process, and a scripted server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from scripted import Ended, Handler, Run, Script, Server

from outdial.cli import main


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OUTDIAL_") and name != "OUTDIAL_PG_USER":
            monkeypatch.delenv(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: `run("vdn", "list")`."""

    def run_(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main(arguments)
        return Ended(code, *capsys.readouterr())

    return run_


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A server that verifies signatures and answers by a script; the environment names it."""
    script = Script()
    with Server(("127.0.0.1", 0), type("Handler", (Handler,), {"script": script})) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        for name, value in script.environment.items():
            monkeypatch.setenv(name, value)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield script
        server.shutdown()
        thread.join()
