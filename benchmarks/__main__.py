"""Runs all benchmarks but the longest, or the named ones: `python -m benchmarks [claim] [batches] ...`."""

from __future__ import annotations

import importlib
import sys

NAMES = ("help_time", "batches", "show", "prepare", "check", "claim", "loss", "checkpoint", "trial")
BY_NAME_ONLY = ("search", "chaos", "many", "report")
"""Those that take longer than five minutes, or gigabytes of memory."""


def main() -> int:
    chosen = sys.argv[1:] or list(NAMES)
    there = (*NAMES, *BY_NAME_ONLY)
    unknown = [name for name in chosen if name not in there]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are {', '.join(there)}", file=sys.stderr)
        return 2
    good = [importlib.import_module(f"benchmarks.{name}").run() for name in chosen]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
