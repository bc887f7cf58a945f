"""The vectors for integrators (signature-vectors.json; trust.md B.3): current, and able to fail.

`tools/signature_vectors.py` has a signer of its own; each refused vector stands beside an accepted one.
"""

from __future__ import annotations

import hmac
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from outdial import signing

ROOT = Path(__file__).resolve().parent.parent


def loaded(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    yield loaded("signature_vectors", ROOT / "tools" / "signature_vectors.py")
    del sys.modules["signature_vectors"]


@pytest.fixture(scope="module")
def document(tool: ModuleType) -> Any:
    return json.loads(tool.FILE.read_text(encoding="utf-8"))


def test_the_file_is_current(tool: ModuleType) -> None:
    assert tool.FILE.read_text(encoding="utf-8") == tool.text(), "run tools/signature_vectors.py"


def test_the_server_comes_to_every_verdict(tool: ModuleType, document: Any) -> None:
    assert tool.faults(document["vectors"]) == []


def test_there_are_enough_and_each_is_there_once(document: Any) -> None:
    """trust.md B.3 rule 1: at least 60."""
    names = [one["name"] for one in document["vectors"]]
    requests = [{**one, "name": "", "beside": ""} for one in document["vectors"]]
    assert len(names) == len(set(names)) >= 100
    assert all(requests.count(one) == 1 for one in requests)


def test_every_refused_one_stands_beside_an_accepted_one(document: Any) -> None:
    verdicts = {one["name"]: one["verdict"] for one in document["vectors"]}
    refused = [one for one in document["vectors"] if one["verdict"] == "refused"]
    assert len(refused) >= 50
    assert {verdicts[one["beside"]] for one in refused} == {"accepted"}


def test_the_canonical_requests_lead_to_the_signatures(document: Any) -> None:
    """As the page says it, from the text of the file alone."""
    for one in document["vectors"]:
        if one["verdict"] == "accepted":
            prefix, _, signature = one["authorization"].rpartition("/")
            key = hmac.digest(document["secretKey"].encode(), prefix.encode(), "sha256").hex()
            whole = hmac.digest(key.encode(), one["canonicalRequest"].encode(), "sha256").hex()
            assert whole == signature, one["name"]


def test_our_signer_makes_those_that_it_can_make(tool: ModuleType, document: Any) -> None:
    """All but the empty query line, which other clients write."""
    for one in document["vectors"]:
        if one["verdict"] == "accepted" and "an empty line" not in one["name"]:
            sent = tool.read(one)
            claimed = signing.Authorization.parse(sent.authorization)
            headers = [
                (name.encode(), value.encode())
                for name, value in sent.headers
                if name in claimed.signed_headers
            ]
            ours = signing.sign(
                document["secretKey"],
                document["accessKey"],
                sent.method,
                sent.path.encode(),
                sent.query.encode(),
                headers,
                sent.body,
                claimed.timestamp,
                milliseconds="." in claimed.timestamp_text,
            )
            assert ours == sent.authorization, one["name"]


def test_the_vectors_of_the_contract_are_among_them(document: Any) -> None:
    signatures = [one["authorization"][-64:] for one in document["vectors"][:2]]
    assert signatures == [
        "534e0ae53aaab71b4b240a7a0029905dea2bbd99973c01e79606bad8f7caa4b4",
        "f33ce62c8af69d05c195e5f1c6ce3bae4e6a9ad2d15e14b88e7031147190d3e3",
    ]


# -- the vectors are able to fail --------------------------------------------------------------------------

WRONG_SIGNERS = {
    "the body is not signed": ("*lines, normalize(body)]", '*lines, b""]'),
    "the path is not signed": (
        '% (method.encode("ascii"), raw_path)',
        '% (method.encode("ascii"), b"/")',
    ),
    "the method is not signed": ('% (method.encode("ascii"), raw_path)', '% (b"POST", raw_path)'),
    "the query is not signed": (
        "    pairs = query_parameters(raw_query)\n    return",
        "    pairs = []\n    return",
    ),
    "header values are not signed": ("normalize(values[0].strip(", "normalize(b'x' and values[0][:0].strip("),
    "the path is decoded": ("raw_path), b", "unquote_to_bytes(raw_path)), b"),
    "a plus is a plus": ('parameter.replace(b"+", b" ")', "parameter"),
    "parameters are not sorted": (
        'b"&".join(sorted(normalize(name)',
        'b"&".join(list(normalize(name)',
    ),
    "headers are sorted by name": ("lines = sorted(_header_line", "lines = list(_header_line"),
    "inner spaces are folded": ('values[0].strip(b" \\t")', 'b" ".join(values[0].split())'),
    "hex in lower case": ('b"%%%02X"', 'b"%%%02x"'),
    "host need not be signed": ('if "host" not in names', "if False"),
    "the first of two headers counts": (
        'if len(values) != 1:\n        raise BadSignature("signed',
        'if not values:\n        raise BadSignature("signed',
    ),
    "the list is sorted for the client": ("if list(names) != sorted(set(names))", "if False"),
    "a window of an hour more": ("WINDOW = timedelta(minutes=15)", "WINDOW = timedelta(minutes=75)"),
    "a clock that is an hour off": ("late = now - timestamp", "late = now - timestamp - timedelta(hours=1)"),
    "no window": ("if abs(late) > window", "if False"),
    "only the past is judged": ("if abs(late) > window", "if late > window"),
    "the window's end is outside": ("if abs(late) > window", "if abs(late) >= window"),
    "the timestamp is not signed": ("_signing_key(secret, parsed.prefix)", "_signing_key(secret, 'auth-v2')"),
    "the end of a signature does not count": (
        "hmac.compare_digest(_hex_mac(key, head + line + tail), claimed)",
        "hmac.compare_digest(_hex_mac(key, head + line + tail)[:63], claimed[:63])",
    ),
    "everything is right": ("if not matches", "if False"),
    "no empty line for no query": ('else (b"", b"\\n")', 'else (b"",)'),
    "only an empty line for no query": ('else (b"", b"\\n")', 'else (b"\\n",)'),
    "any offset": ("(?:\\.[0-9]{3})?Z", "(?:\\.[0-9]{3})?(?:Z|\\+00:00)"),
}  # fmt: skip


@contextmanager
def mutated(tmp_path: Path, text: str, instead: str) -> Iterator[ModuleType]:
    source = Path(signing.__file__).read_text(encoding="utf-8")
    assert source.count(text) == 1, f"signing.py does not hold this once: {text}"
    copy = tmp_path / "wrong_signing.py"
    copy.write_text(source.replace(text, instead), encoding="utf-8")
    try:
        yield loaded("wrong_signing", copy)
    finally:
        del sys.modules["wrong_signing"]


@pytest.mark.guard
@pytest.mark.parametrize("bug", WRONG_SIGNERS)
def test_a_wrong_verifier_is_seen(tool: ModuleType, document: Any, tmp_path: Path, bug: str) -> None:
    with mutated(tmp_path, *WRONG_SIGNERS[bug]) as signer:
        found = tool.faults(document["vectors"], signer)
    print(f"{bug}: {len(found)} wrong verdicts, the first: {found[:1]}")
    assert found


@pytest.mark.guard
def test_the_copy_itself_has_no_fault(tool: ModuleType, document: Any, tmp_path: Path) -> None:
    """The control: it is the bug that is seen, not the copying."""
    with mutated(tmp_path, "WINDOW = timedelta(minutes=15)", "WINDOW = timedelta(minutes=15)") as signer:
        assert tool.faults(document["vectors"], signer) == []
