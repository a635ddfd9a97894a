"""How long `lmf --help` takes, beside an empty Python process, in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
LIMIT_SECONDS = 0.5


def run() -> bool:
    """Print the medians; whether the help stays under its limit."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "lmf --help": [sys.executable, "-m", "study.cli.main", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    empty, help_seconds = medians.values()
    print(f"help_time: median of {ROUNDS}: " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in medians.items()))
    print(f"help_time: {help_seconds / empty:.1f} times an empty process; limit {LIMIT_SECONDS} s")
    return help_seconds < LIMIT_SECONDS
