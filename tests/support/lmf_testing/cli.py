"""Running `lmf`: as a process, or in this process where nothing is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Lmf = Callable[..., "Ran"]
"""Runs `lmf` with arguments."""

VARIABLES = (
    *("LMF_HOME", "LMF_STORAGE", "LMF_STORAGE_FILE", "LMF_STORAGE_PASSWORD_FILE", "LMF_ARTIFACTS", "LMF_DATA"),
    *("LMF_FAULT", "LMF_LOG_JSON", "LMF_LOG_LEVEL"),
)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one JSON document."""
        return json.loads(self.out)

    def refusal(self) -> str:
        """The one line with which it refused, checked to be one line and nothing else."""
        assert self.code == 2, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("lmf: ")
        assert "Traceback" not in self.out
        return lines[0]


def environment(home: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with another home and none of a user's settings."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, "LMF_HOME": str(home), "COLUMNS": "160", **(changes or {})}


def start_lmf(home: Path, *arguments: str, changes: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `lmf` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "study.cli.main", *arguments],
        env=environment(home, changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_lmf(home: Path, *arguments: str, changes: Mapping[str, str] | None = None, timeout: float = 300) -> Ran:
    """Run `lmf` as a process to its end."""
    process = start_lmf(home, *arguments, changes=changes)
    out, err = process.communicate(timeout=timeout)
    return Ran(process.returncode, out, err)
