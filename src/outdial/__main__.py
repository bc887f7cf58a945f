"""`python -m outdial` is the command `outdial`."""

from __future__ import annotations

import sys

from outdial.cli import main

if __name__ == "__main__":
    sys.exit(main())
