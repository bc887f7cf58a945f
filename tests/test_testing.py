"""The server for the tests of others: what it gives, and that nothing of it is left."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from outdial.testing import OutdialServer, running_server

pytest_plugins = ["outdial.testing"]


def called(server: OutdialServer, numbers: list[str]) -> int:
    campaign = server.new_campaign()
    server.client.add_numbers(campaign, numbers)
    server.client.resume(campaign)
    return campaign


def test_results_are_given_once_and_each_campaign_has_its_own(outdial_server: OutdialServer) -> None:
    first = called(outdial_server, ["80001", "80101"])
    second = called(outdial_server, ["80003"])
    (busy,) = outdial_server.results(1, campaign=second)
    assert (busy["called"], busy["failCode"]) == ("80003", "00537")
    one, other = outdial_server.results(1, campaign=first)[0], outdial_server.results(1)[0]
    assert {one["called"], other["called"]} == {"80001", "80101"}
    with pytest.raises(TimeoutError, match=r"0 of 1 results came within 0\.1 s"):
        outdial_server.results(1, timeout=0.1)


def test_results_that_came_are_kept_when_others_do_not(outdial_server: OutdialServer) -> None:
    campaign = called(outdial_server, ["80001"])
    with pytest.raises(TimeoutError, match="1 of 2 results"):
        outdial_server.results(2, timeout=8, campaign=campaign)
    assert len(outdial_server.results(1, campaign=campaign)) == 1


def test_the_fields_of_a_campaign_can_be_given(outdial_server: OutdialServer) -> None:
    campaign = outdial_server.new_campaign(maxAlertingTime=9, name="mine")
    shown = outdial_server.client.show_campaign(campaign)
    assert (shown.name, shown.raw["maxAlertingTime"], shown.standing) == ("mine", 9, "draft")


def test_it_ends_with_its_block_and_takes_no_setting_of_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("OUTDIAL_DATA", str(data))
    monkeypatch.setenv("OUTDIAL_MISTYPED", "x")
    with running_server() as server:
        place = urlsplit(server.url)
        assert server.client.show_campaign(server.campaign).name == "dev"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(place.hostname), place.port or 0), 1)
    assert not data.exists()


def test_one_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTDIAL_PG_BIN", "/nowhere")
    with pytest.raises(RuntimeError, match=r"(?s)outdial dev did not start: .*/nowhere"), running_server():
        pass
