#!/usr/bin/env python3
"""Write requirements.lock, or check that it still belongs to pyproject.toml.

usage: tools/lock.py            write the lock anew; needs the program `uv` and a package registry
       tools/lock.py --check    check it; offline, changes nothing

The lock holds exact versions with their sha256 and no addresses, so that it works with any registry. Its
first line holds the sha256 of the requirements that it was made from: a requirement that was added,
changed or taken away without a new lock is found without asking a registry.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
EXTRA = "embedded"
GROUP = "dev"
OLDEST_PYTHON = "3.11"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?P<rest>(?:.*\\\n)*.*)", re.MULTILINE)


def requirements(pyproject: str) -> list[str]:
    """Every requirement that the lock must answer: of the build, the project, its extra, its dev group."""
    tables = tomllib.loads(pyproject)
    project = tables["project"]
    return sorted(
        tables["build-system"]["requires"]
        + project["dependencies"]
        + project["optional-dependencies"][EXTRA]
        + tables["dependency-groups"][GROUP]
    )


def fingerprint(wanted: list[str]) -> str:
    """The first line of a lock made from these requirements."""
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    return f"# made by tools/lock.py from requirements with sha256 {digest}"


def faults(lock: str, wanted: list[str]) -> list[str]:
    """What is wrong with this lock, a sentence each; empty when it is current."""
    found = []
    if lock.partition("\n")[0] != fingerprint(wanted):
        found.append("the lock was made from other requirements than those of pyproject.toml")
    if "://" in lock:
        found.append("the lock holds an address")
    pins = {canonicalize_name(pin["name"]): pin for pin in PIN.finditer(lock)}
    for pin in pins.values():
        if "--hash=sha256:" not in pin["rest"]:
            found.append(f"{pin['name']} has no sha256")
    for text in wanted:
        requirement = Requirement(text)
        pinned = pins.get(canonicalize_name(requirement.name))
        if pinned is None:
            found.append(f"{requirement.name} is not in the lock")
        elif not requirement.specifier.contains(pinned["version"]):
            found.append(f"{requirement} is not met by {pinned['version']}")
    return found


def write(wanted: list[str]) -> int:
    """Ask `uv` for the newest versions that fit together, and write them down."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        print("tools/lock.py: the program uv is missing; .venv/bin/pip install uv", file=sys.stderr)
        return 1
    options = ["--upgrade", "--universal", "--generate-hashes", "--no-header", "--quiet"]
    made = subprocess.run(
        [uv, "pip", "compile", "-", *options, "--python-version", OLDEST_PYTHON, "--no-annotate"],
        input="\n".join(wanted),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    LOCK.write_text(f"{fingerprint(wanted)}\n{made}", encoding="utf-8")
    return 0


def main() -> int:
    wanted = requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if sys.argv[1:] != ["--check"]:
        return write(wanted)
    found = faults(LOCK.read_text(encoding="utf-8"), wanted)
    for fault in found:
        print(f"requirements.lock: {fault}", file=sys.stderr)
    if found:
        print("requirements.lock: write it anew with .venv/bin/python tools/lock.py", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
