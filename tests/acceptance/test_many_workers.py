"""Many processes on one PostgreSQL: no point twice, none lost, and few connections."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROCESSES, POINTS = 24, 240


def test_24_processes_share_240_points(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.many", "--json"]
    command += ["--processes", str(PROCESSES), "--points", str(POINTS)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    found = json.loads(ran.stdout)
    assert (found["doubles"], found["extras"], found["lost"], found["died"]) == (0, 0, 0, 0)
    assert found["torch"] == 0, "a process that needs no torch loads none"
    assert found["waits"] == 0
    assert PROCESSES // 2 < found["most_connections"] <= PROCESSES, "a process has one connection"
