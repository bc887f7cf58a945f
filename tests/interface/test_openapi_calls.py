"""The document against a running server: schemathesis calls every operation as it is described (R17)."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from face import JSON, NEW, Face, Line, Request, Server
from test_rows_isolation import ended_call

from outdial.wire.operations import OPERATIONS

HOOKS = Path(__file__).with_name("schema_hooks.py")
FILE = HOOKS.parents[2] / "docs" / "reference" / "openapi.json"
POOL = 200
"""Campaigns of each kind; a call takes the next one."""

CONFIG = """\
[warnings]
display = ["missing_auth", "missing_test_data", "base_url_mismatch", "validation_mismatch", \
"missing_deserializer", "unused_openapi_auth", "unsupported_regex", "method_not_allowed", \
"unresolvable_reference", "low_valid_rate"]
fail-on = true
low_valid_rate = { threshold = 0.3 }

[checks.negative_data_rejection]
expected-statuses = [400, 401, 404, 405, 409, 415, 422]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 409]
"""


def seeds(face: Face, seed: int) -> dict[str, Any]:
    """Campaigns by the state that an operation needs, and some with a special date."""
    key = face.keys[NEW]
    states = {"draft": "draft", "steady": "suspended", "started": "started", "suspended": "suspended"}
    pools: dict[str, list[Any]] = {
        name: [face.campaign(NEW, state=state) for _ in range(POOL)] for name, state in states.items()
    }
    pools |= {name: [dated(face) for _ in range(POOL // 4)] for name in ("dated", "doomed")}
    pools["calls"] = [str(ended_call(face, NEW, one)) for one in pools["steady"][: POOL // 4]]
    return {"vdn": NEW, "ak": key.ak, "sk": key.secret, "seed": seed, "pools": pools}


def dated(face: Face) -> tuple[int, int]:
    """A campaign and its special date."""
    campaign = face.campaign(NEW)
    body = {"name": f"d{campaign}", "type": 1, "week": "7"}
    answer = face.call("POST", f"{NEW}/holiday/{campaign}", body, vdn=NEW)
    return campaign, answer.json["returnObject"]["id"]


def run(face: Face, folder: Path, examples: int, seed: int) -> subprocess.CompletedProcess[str]:
    """The program over all of the document; what it says is kept in `folder`."""
    (folder / "seeds.json").write_text(json.dumps(seeds(face, seed)), encoding="utf-8")
    (folder / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml")]
    command += ["run", f"http://127.0.0.1:{face.port}/openapi.json", "--seed", str(seed)]
    command += ["--max-examples", str(examples), "--generation-database", "none", "--continue-on-failure"]
    env = os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS), "SEEDS": str(folder / "seeds.json")}
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=1700)


def test_the_document_is_served_to_everyone(face: Face) -> None:
    """Without a signature, as it stands in the repository; with another method it is 405."""
    line = Line(face.port)
    try:
        host = ("Host", f"127.0.0.1:{face.port}")
        answer = line.ask(Request("GET", "/openapi.json", (host,), b""))
        assert answer.status == 200
        assert answer.headers["content-type"] == JSON
        assert answer.json == json.loads(FILE.read_text(encoding="utf-8"))
        refused = line.ask(Request("PUT", "/openapi.json", (host,), b""))
        assert (refused.status, refused.headers["allow"]) == (405, "GET")
    finally:
        line.close()


def test_a_get_changes_nothing(face: Face) -> None:
    """Each one that is served, with a success."""
    campaign, _ = dated(face)
    call = ended_call(face, NEW, campaign)
    paths = [key.removeprefix("GET ") for key in OPERATIONS if key.startswith("GET ")]
    assert len(paths) > 3
    with face.nothing_kept():
        for path in paths:
            query = "status=0&deviceType=0" if path == "{vdnId}" else ""
            answer = face.call(
                "GET", path.format(vdnId=NEW, campaignId=campaign, callId=call), vdn=NEW, query=query
            )
            assert answer.code == "0200000", path


@pytest.mark.parametrize(
    ("examples", "seed"),
    [(2, 1), pytest.param(30, None, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_every_operation_is_as_the_document_says(
    make_server: Server, tmp_path: Path, examples: int, seed: int | None
) -> None:
    """No failure, no warning; at least 30 % of the calls with data that the document allows succeed."""
    with make_server() as face:
        done = run(face, tmp_path, examples, seed or secrets.randbelow(2**31))
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4000:]
        log = face.processes.log()
        assert "our own fault" not in log
        assert '"status":429' not in log  # what the throttle answers says nothing about the operation
    assert int(re.findall(r"(\d+) generated", done.stdout)[0]) > 1000
