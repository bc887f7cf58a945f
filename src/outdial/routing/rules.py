"""The dial plan: what is dialed, whether it may be, and which refusals lead to another trunk."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from outdial.model import Disposition, Trunk

EVERYTHING: Final = "any"
"""The word that allows every destination. It is never there unless somebody put it there."""

_DIALABLE: Final = re.compile(r"[0-9*#+]+")
"""What may reach a SIP header as a number: nothing in it can end a header or begin a parameter."""


def dial_string(called: str, trunk: Trunk) -> str:
    """What is dialed on this trunk: its longest matching prefix rule, applied once."""
    matching = [rule for rule in trunk.prefix_rules if called.startswith(rule.prefix)]
    if not matching:
        return called
    longest = max(matching, key=lambda rule: len(rule.prefix))
    return longest.replacement + called[len(longest.prefix) :]


def allowed(dialed: str, prefixes: Collection[str]) -> bool:
    """Whether a dial string begins with an allowed prefix; without prefixes nothing is allowed.

    It is compared as it stands: `+49`, `0049` and `49` are three prefixes.
    """
    if not _DIALABLE.fullmatch(dialed):
        return False
    return EVERYTHING in prefixes or any(dialed.startswith(prefix) for prefix in prefixes)


def check_caller(caller: str) -> bool:
    """Whether a calling number may be sent. An add takes any text (contract, Table 4); a header does not."""
    return _DIALABLE.fullmatch(caller) is not None


def refusal(
    called: str, caller: str, trunks: Iterable[Trunk], prefixes: Collection[str]
) -> Disposition | None:
    """How a number ends that may never be called: NOT_ALLOWED, BAD_CALLER, or None.

    `trunks` are all of the VDN's group, disabled ones too: what may come back ends no number. A group
    without a trunk refuses nothing either; its numbers wait. A trunk that replaces the calling number sends
    no bad one.
    """
    group = list(trunks)
    if group and not any(allowed(dial_string(called, trunk), prefixes) for trunk in group):
        return Disposition.NOT_ALLOWED
    if check_caller(caller) or (group and all(trunk.caller_id for trunk in group)):
        return None
    return Disposition.BAD_CALLER


def fails_over(status: int, rang: bool, local: bool) -> bool:
    """Whether a refused call may be tried on another trunk, never after an 18x.

    After 408, 5xx and silence; and after 401 and 407, which say that the trunk does not take our login. Once
    the callee's telephone rang, a second call could ring it twice. `local`: nobody answered, or the transport
    failed. Any other 4xx or a 6xx is a word about the number: another trunk would hear the same.
    """
    return not rang and (local or status in (401, 407, 408) or 500 <= status <= 599)
