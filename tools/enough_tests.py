"""Whether enough tests were run: pytest's closing line against a committed minimum (trust.md A.4, rule 6).

    tools/enough_tests.py .ci/least_tests LOG

The file has two lines, `passed N` and `skipped N`; LOG is what pytest printed. Ends with 1, and says why,
when fewer tests passed or more were left out. Raise `passed` when you add many tests.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CLOSING = re.compile(r"^=+ (.*\b(?:passed|failed|errors?|no tests ran)\b.*) in .*=+$", re.MULTILINE)


def bounds(text: str) -> dict[str, int]:
    """The committed figures."""
    found = {name: int(count) for name, count in re.findall(r"^(passed|skipped) (\d+)$", text, re.MULTILINE)}
    if set(found) != {"passed", "skipped"}:
        raise ValueError("the file must have a line `passed N` and a line `skipped N`")
    return found


def faults(committed: str, log: str) -> list[str]:
    """What is wrong with the last run in a log; empty: enough was run."""
    closings = CLOSING.findall(log)
    if not closings:
        return ["pytest printed no closing line"]
    ran = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", closings[-1])}
    bound = bounds(committed)
    passed, skipped = ran.get("passed", 0), ran.get("skipped", 0)
    found = []
    if passed < bound["passed"]:
        found.append(f"{passed} tests passed, at least {bound['passed']} must")
    if skipped > bound["skipped"]:
        found.append(f"{skipped} tests were left out, at most {bound['skipped']} may be")
    return found


def main(committed: str, log: str) -> int:
    found = faults(Path(committed).read_text(encoding="utf-8"), Path(log).read_text(encoding="utf-8"))
    for sentence in found:
        print(f"not enough tests: {sentence} ({committed})", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
