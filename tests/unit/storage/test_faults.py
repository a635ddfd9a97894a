"""The switch with which tests end a process at a named step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from storage.faults import STEPS, reach

REACH = "import sys; from storage.faults import reach; reach('told'); print('went on')"


def run(**environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LMF_")}
    return subprocess.run(
        [sys.executable, "-c", REACH], env={**kept, **environment}, capture_output=True, text=True, timeout=60
    )


def test_without_the_switch_nothing_happens(monkeypatch):
    monkeypatch.delenv("LMF_FAULT", raising=False)
    for step in STEPS:
        reach(step)


def test_at_another_step_nothing_happens():
    assert run(LMF_FAULT="claimed").stdout == "went on\n"


def test_at_its_step_the_process_is_killed():
    killed = run(LMF_FAULT="told")
    assert (killed.returncode, killed.stdout, killed.stderr) == (-signal.SIGKILL, "", "")


def test_with_a_marker_it_is_killed_once(tmp_path):
    marker = str(tmp_path / "died")
    assert run(LMF_FAULT="claimed", LMF_FAULT_ONCE=marker).returncode == 0
    assert not os.path.exists(marker)
    assert run(LMF_FAULT="told", LMF_FAULT_ONCE=marker).returncode == -signal.SIGKILL
    assert os.path.exists(marker)
    assert run(LMF_FAULT="told", LMF_FAULT_ONCE=marker).stdout == "went on\n"
