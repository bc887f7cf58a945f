#!/usr/bin/env python3
"""Write docs/reference/flow.schema.json from the table of steps, or check that it is current.

usage: tools/flow_schema.py            write the file
       tools/flow_schema.py --check    check it; changes nothing
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from outdial.flow import json_schema

FILE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "flow.schema.json"


def main() -> int:
    """Write or check the file; 1 when it is not current."""
    text = json.dumps(json_schema(), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if FILE.exists() and FILE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{FILE.name} is not current: run tools/flow_schema.py", file=sys.stderr)
        return 1
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
