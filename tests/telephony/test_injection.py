"""What a caller's texts may do to SIP: nothing. The far end sees one INVITE, to the allowed destination."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from caller import VDN, Caller, trunk_to
from sipp import Sipp

from outdial.errors import SwitchError
from outdial.model import Disposition

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")

HOSTILE = [
    "1\r\nX-Evil: 1",
    "1\nBYE sip:x SIP/2.0",
    "1\r\n\r\nINVITE sip:999@127.0.0.1 SIP/2.0",
    "1,<sip:999@127.0.0.1>",
    "1;tag=evil",
    "1%0d%0aX-Evil: 1",
    '1"<sip:999@127.0.0.1>',
    "1@127.0.0.1",
    "1>\r\n",
    "1\0",
    "½",
    "",
]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_calling_number_never_leaves(tmp_path: Path, hostile: str) -> None:
    """`caller` is free text by contract: what is outside 0-9*#+ is refused, twice."""
    peer = Sipp(tmp_path).start()
    try:
        async with Caller(trunk_to(peer.port)) as caller:
            assert caller.switch.refuses(VDN, "80001", hostile) is Disposition.BAD_CALLER
            with pytest.raises(SwitchError):
                caller.place(caller=hostile)
            assert caller.switch.refuses(VDN, "80001", "100") is None
            assert (await caller.call()).answered
        invites = re.findall(r"^(?:INVITE .*|From: .*)\r?$", peer.log(), re.MULTILINE)
        assert {line for line in invites if line.startswith("INVITE")} == {
            f"INVITE sip:80001@127.0.0.1:{peer.port} SIP/2.0"
        }
        assert "Evil" not in peer.log()
        assert "999" not in "".join(invites)
    finally:
        peer.end()


@pytest.mark.parametrize("called", ["1\r\nX: 1", "1;x", "1%", "1,2", "1@evil", "1 2", "٣"])
async def test_a_hostile_called_number_is_no_destination(tmp_path: Path, called: str) -> None:
    """Even where every destination is allowed: what is dialed holds 0-9*#+ and nothing else."""
    peer = Sipp(tmp_path).start()
    try:
        async with Caller(trunk_to(peer.port)) as caller:
            assert caller.switch.refuses(VDN, called, "100") is Disposition.NOT_ALLOWED
            with pytest.raises(SwitchError):
                caller.place(called)
        assert "INVITE" not in peer.log()
    finally:
        peer.end()


async def test_the_texts_of_a_number_stay_out_of_sip(tmp_path: Path) -> None:
    """Session id and call data are the flow's: no header holds them."""
    peer = Sipp(tmp_path).start()
    try:
        async with Caller(trunk_to(peer.port)) as caller:
            texts = {"session_id": "S\r\nX-Evil: s", "call_data": '{"x": "\\r\\nX-Evil: d"}'}
            assert (await caller.call(**texts)).answered
        assert "Evil" not in peer.log()
    finally:
        peer.end()


async def test_star_and_hash_are_dialed_as_they_are(tmp_path: Path) -> None:
    """RFC 3261 §25.1: '#' is escaped in a user part, '*' is not."""
    peer = Sipp(tmp_path).start()
    try:
        async with Caller(trunk_to(peer.port)) as caller:
            assert (await caller.call("*31#8")).answered
        assert f"INVITE sip:*31%238@127.0.0.1:{peer.port} SIP/2.0" in peer.log()
    finally:
        peer.end()
