"""docs/reference/cli.md is made from the commands and is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "cli_reference.py"


def test_the_reference_page_is_current() -> None:
    checked = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
