"""Copies of the package with a seeded bug, and the tests that run against one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import outdial

Change = tuple[str, str, str]
"""A file of the package, a text that it holds once, and what stands there instead."""

ROOT = Path(__file__).resolve().parent.parent


def copy_of_src(folder: Path, *changes: Change) -> Path:
    """A copy of the package with these changes; the folder that goes on PYTHONPATH."""
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(outdial.__file__).parent, folder / "outdial", ignore=skipped)
    for file, text, instead in changes:
        path = folder / "outdial" / file
        before = path.read_text(encoding="utf-8")
        assert before.count(text) == 1, f"{file} does not hold this once: {text}"
        path.write_text(before.replace(text, instead), encoding="utf-8")
    return folder


def run_tests(source: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of this checkout against a copy of the package."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "OUTDIAL_", "COV"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=ROOT, env=kept | {"PYTHONPATH": str(source)}, capture_output=True, text=True, timeout=240
    )
