#!/usr/bin/env python3
"""Write docs/reference/openapi.json from the routes and the table of operations, or check that it is current.

usage: tools/openapi.py            write the file, and in codes.md the column that says who answers a code
       tools/openapi.py --check    check both; changes nothing
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from outdial.web.app import ROUTES, V2_ROUTES
from outdial.web.openapi import answering, document

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
FILE = REFERENCE / "openapi.json"
CODES = REFERENCE / "codes.md"
ROW = re.compile(r"^(\| `(0[\d-]+)` \| [^|]*\| [^|]*\| [^|]*\|)[^|]*\|", re.MULTILINE)


def codes_page(text: str) -> str:
    """The page of codes with the operations that answer each."""
    found = answering(ROUTES, V2_ROUTES)
    return ROW.sub(lambda row: f"{row[1]} {_in_words(found[row[2]], found['0200000'])} |", text)


def _in_words(names: list[str], every: list[str]) -> str:
    return "all" if names == every else ", ".join(f"`{name}`" for name in names)


def main() -> int:
    """Write or check; 1 when a file is not current."""
    wanted = {
        FILE: json.dumps(document(ROUTES, V2_ROUTES), indent=2) + "\n",
        CODES: codes_page(CODES.read_text(encoding="utf-8")),
    }
    if sys.argv[1:] == ["--check"]:
        old = [
            file
            for file, text in wanted.items()
            if not file.exists() or file.read_text(encoding="utf-8") != text
        ]
        for file in old:
            print(f"{file.name} is not current: run tools/openapi.py", file=sys.stderr)
        return 1 if old else 0
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
