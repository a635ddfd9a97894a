"""How long `lmf --help` takes, beside an empty Python process, in one run; and that it loads nothing heavy."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
LIMIT_SECONDS = 0.5
HEAVY = ("torch", "optuna")
LOADED = f"""
import contextlib, os, sys
from study.cli.main import main
with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.suppress(SystemExit):
    main(["--help"])
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


def run() -> bool:
    """Print the medians; whether the help stays under its limit and loads none of the heavy packages."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "lmf --help": [str(Path(sys.executable).with_name("lmf")), "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    empty, help_seconds = medians.values()
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout.split()
    print(f"help_time: median of {ROUNDS}: " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in medians.items()))
    print(f"help_time: {help_seconds / empty:.1f} times an empty process; the limit is {LIMIT_SECONDS} s")
    print(f"help_time: of {', '.join(HEAVY)} it loads {', '.join(loaded) or 'none'}")
    return help_seconds < LIMIT_SECONDS and not loaded
