"""`outdial serve` and `outdial dev`: which settings they hand on."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripted import Run, error_of

from outdial import compose
from outdial.config import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    seen: list[Settings] = []

    def serve(settings: Settings) -> int:
        seen.append(settings)
        return 5

    monkeypatch.setattr(compose, "serve", serve, raising=False)
    return seen


def test_an_option_goes_before_its_variable_and_that_before_the_file(
    run: Run, served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "outdial.toml"
    file.write_text('data = "a"\nlisten = "127.0.0.1:1"\napi_processes = 2\nlog_level = "error"\n')
    monkeypatch.setenv("OUTDIAL_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("OUTDIAL_API_PROCESSES", "3")
    ended = run(
        *("serve", "--config", str(file), "--api-processes", "4", "--role", "api", "--role", "push"),
        *("--pg-bin", "/b", "--pg-user", "u"),
    )
    assert ended == (5, "", "")  # what the server ends with is what the command ends with
    assert served == [
        Settings(
            data=Path("a"),
            listen="127.0.0.1:2",
            api_processes=4,
            log_level="error",
            roles=("api", "push"),
            pg_bin=Path("/b"),
            pg_user="u",
        )
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--listen", "nowhere"), "listen: must be HOST:PORT"),
        (("--role", "cook"), "roles: 'cook' is not one of"),
        (("--api-processes", "65"), "api_processes: must be 1 to 64"),
        (("--config", "no-such-file"), "no-such-file: "),
        (("--tls-cert", "c"), "tls_cert, tls_key: give both or neither"),
        (("--behind-proxy", "nobody"), "behind_proxy: 'nobody' does not appear to be"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    run: Run, served: list[Settings], options: tuple[str, ...], named: str
) -> None:
    ended = run("serve", "--data", "d", *options)
    assert (ended.code, served) == (2, [])
    assert error_of(ended).startswith(named)


def test_dev_touches_no_data_that_only_a_variable_names(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten OUTDIAL_DATA must not put a trial into real data."""
    seen: list[tuple[Settings, bool]] = []

    def dev(settings: Settings, *, json_lines: bool) -> int:
        seen.append((settings, json_lines))
        return 0

    module: Any = ModuleType("outdial.dev")
    module.dev = dev
    monkeypatch.setitem(sys.modules, "outdial.dev", module)
    monkeypatch.setenv("OUTDIAL_DATA", "/real")
    monkeypatch.setenv("OUTDIAL_DATABASE", "postgresql://real")
    monkeypatch.setenv("OUTDIAL_ROLES", "api")
    monkeypatch.setenv("OUTDIAL_TLS_CERT", "c")
    monkeypatch.setenv("OUTDIAL_TLS_KEY", "k")
    monkeypatch.setenv("OUTDIAL_BEHIND_PROXY", "192.0.2.9")
    monkeypatch.setenv("OUTDIAL_PUBLIC_NAMES", "dial.test")
    monkeypatch.setenv("OUTDIAL_METRICS_LISTEN", "127.0.0.1:9")
    monkeypatch.setenv("OUTDIAL_CARRIER_RING", "0.5")
    monkeypatch.delenv("OUTDIAL_PG_USER", raising=False)
    assert run("dev").code == 0
    assert run("dev", "--data", "d", "--listen", "127.0.0.1:0", "--json").code == 0
    assert seen == [
        (Settings(carrier_ring=0.5), False),
        (Settings(carrier_ring=0.5, data=Path("d"), listen="127.0.0.1:0"), True),
    ]


def test_tls_and_proxies_are_options_of_serve(run: Run, served: list[Settings]) -> None:
    proxies = ("--behind-proxy", "192.0.2.9", "--behind-proxy", "198.51.100.0/28")
    assert run("serve", "--data", "d", "--tls-cert", "c", "--tls-key", "k", *proxies).code == 5
    assert served == [
        Settings(
            data=Path("d"),
            tls_cert=Path("c"),
            tls_key=Path("k"),
            behind_proxy=("192.0.2.9", "198.51.100.0/28"),
        )
    ]


def test_metrics_are_for_this_machine_only(
    run: Run, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTDIAL_METRICS_LISTEN", "0.0.0.0:9090")
    ended = run("serve", "--data", "d")
    assert (ended.code, served) == (2, [])
    assert error_of(ended).startswith("metrics_listen: must be a loopback address")


def test_dev_is_for_this_machine_only(run: Run) -> None:
    """It speaks plain HTTP, with keys that it prints."""
    ended = run("dev", "--listen", "0.0.0.0:0")
    assert ended.code == 2
    assert error_of(ended).startswith("listen: dev listens on loopback only")
