#!/usr/bin/env python3
"""Write docs/reference/openapi.json from the routes and the table of operations, or check that it is current.

usage: tools/openapi.py            write the file
       tools/openapi.py --check    check it; changes nothing
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from outdial.web.app import ROUTES, V2_ROUTES
from outdial.web.openapi import document

FILE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "openapi.json"


def main() -> int:
    """Write or check the file; 1 when it is not current."""
    text = json.dumps(document(ROUTES, V2_ROUTES), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if FILE.exists() and FILE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{FILE.name} is not current: run tools/openapi.py", file=sys.stderr)
        return 1
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
