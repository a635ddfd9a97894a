"""What tests tell is read at the end of the run, also where they pass in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[2] / "support"
TELLING = """
import pytest

def test_first(tell): tell("false winners", "3 of 500")

def test_second(tell):
    tell("winners found", "469 of 500")
    assert FAILS == 0

def test_silent(): pass
"""


@pytest.mark.parametrize(("options", "fails"), [((), 0), (("--numprocesses=2",), 0), ((), 1)])
def test_figures_are_told_whatever_the_outcome_and_the_process(options, fails, tmp_path):
    (tmp_path / "test_telling.py").write_text(TELLING.replace("FAILS", str(fails)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "lmf_testing.told", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment["PYTHONPATH"] = str(SUPPORT)
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == fails
    told = ran.stdout.partition("measured by tests")[2].splitlines()[1:3]
    assert told == ["false winners: 3 of 500", "winners found: 469 of 500"]
