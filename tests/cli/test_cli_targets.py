"""The options of every command that talks to a server: whom it trusts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from scripted import Handler, Run, Script, Server, error_of

from certificates import Certificate
from outdial.cli import app
from outdial.config import load


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path, "127.0.0.1")


@pytest.fixture
def secure(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """The scripted server over TLS; the environment names it."""
    script = Script()
    with Server(("127.0.0.1", 0), type("Handler", (Handler,), {"script": script})) as server:
        server.socket = certificate.context().wrap_socket(server.socket, server_side=True)
        script.url = f"https://127.0.0.1:{server.server_port}"
        for name, value in script.environment.items():
            monkeypatch.setenv(name, value)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield script
        server.shutdown()
        thread.join()


def test_a_certificate_that_is_not_trusted_is_exit_code_3_with_the_way_out(run: Run, secure: Script) -> None:
    ended = run("campaign", "pause", "46")
    assert ended.code == 3
    assert "is not trusted: self-signed certificate" in error_of(ended)
    assert "--ca-file, OUTDIAL_CA" in error_of(ended)
    assert "--fingerprint, OUTDIAL_FINGERPRINT" in error_of(ended)
    assert secure.asked == []


def test_an_option_or_a_variable_makes_it_trusted(
    run: Run, secure: Script, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = ("campaign", "pause", "46")
    assert run(*pause, "--ca-file", str(certificate.file)).code == 0
    assert run(*pause, "--fingerprint", certificate.fingerprint).code == 0
    monkeypatch.setenv("OUTDIAL_CA", str(certificate.file))
    assert run(*pause).code == 0
    assert run(*pause, "--fingerprint", f"sha256:{'00' * 32}").code == 3, "the option goes before it"
    monkeypatch.delenv("OUTDIAL_CA")
    monkeypatch.setenv("OUTDIAL_FINGERPRINT", certificate.fingerprint)
    assert run(*pause).code == 0
    assert len(secure.asked) == 4


def test_a_file_that_is_not_there_is_wrong_usage(run: Run, secure: Script) -> None:
    ended = run("campaign", "pause", "46", "--ca-file", "/nowhere.pem")
    assert (ended.code, secure.asked) == (2, [])
    assert error_of(ended) == "CA file /nowhere.pem: No such file or directory"


def test_every_command_over_the_interface_has_the_options() -> None:
    """Whatever signs has the others; the doctor only looks at the url."""
    found: list[set[str]] = []

    def walk(command: object) -> None:
        for inner in getattr(command, "commands", {}).values():
            walk(inner)
        options = {name for one in getattr(command, "params", ()) for name in one.opts}
        if "--url" in options and "--sk" in options:
            found.append(options)

    walk(typer.main.get_command(app))
    assert len(found) >= 12
    assert all({"--ak", "--sk", "--vdn", "--ca-file", "--fingerprint"} <= options for options in found)


def test_the_variables_of_clients_are_no_settings_of_a_server() -> None:
    """Else `outdial dev` would refuse them as mistyped, in the shell in which they are needed."""
    load(None, {"OUTDIAL_CA": "a.pem", "OUTDIAL_FINGERPRINT": "sha256:ab"})
