"""What CI relies on: the machine gets the programs that tests need, and nothing is skipped unseen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lmf_testing import skips, slurm

ROOT = Path(__file__).parents[2]
NEEDED = {"chromium": "chromium", "g++": "g++", "docker-compose": "docker-compose"} | dict.fromkeys(
    slurm.PROGRAMS, "slurm-wlm munge"
)

SKIPPING = {
    "test_skips.py": """
import pytest

@pytest.fixture
def machine():
    pytest.skip("the fixture lacks something")

def test_by_fixture(machine): pass

@pytest.mark.skipif(True, reason="the marker says so")
def test_by_marker(): pass

def test_inside(): pytest.skip("the test gives up")

@pytest.mark.gpu
def test_on_gpu(): pytest.skip("no GPU")

@pytest.mark.xfail(reason="known")
def test_expected(): assert False

def test_fine(): pass
""",
    "test_file.py": 'import pytest\npytest.skip("the whole file", allow_module_level=True)\n',
}


def run_tests(folder: Path, *options: str, variable: str | None) -> tuple[int, str]:
    """Run tests that skip, with the conftest of these tests; the exit code and what pytest said."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    for name, text in SKIPPING.items():
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    environment = {name: value for name, value in os.environ.items() if name != skips.NO_SKIPS}
    environment |= {"PYTHONPATH": str(ROOT / "tests" / "support")} | ({skips.NO_SKIPS: variable} if variable else {})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", *options]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("options", [(), ("--numprocesses=1",)])
def test_where_nothing_may_be_skipped_each_skip_fails_and_is_named(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, said = run_tests(tmp_path, "--continue-on-collection-errors", *options, variable="1")
    assert code == 1, said
    for test, reason in (
        ("test_skips.py::test_by_fixture", "the fixture lacks something"),
        ("test_skips.py::test_by_marker", "the marker says so"),
        ("test_skips.py::test_inside", "the test gives up"),
        ("test_file.py", "the whole file"),
    ):
        assert f"{test}: skipped, but LMF_TEST_NO_SKIPS lets only" in said
        assert reason in said
    assert "1 passed, 1 skipped, 1 xfailed" in said
    assert "no GPU" in said


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, said = run_tests(tmp_path, variable=None)
    assert code == 0, said
    assert "1 passed, 5 skipped, 1 xfailed" in said


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[str | None], tuple[str, str]]:
    """Runs `.ci/run` on a machine that has all programs but one; what is installed, and what `make` was told."""
    programs, daemons = tmp_path / "bin", tmp_path / "sbin"
    for folder in (programs, daemons, tmp_path / "project" / ".ci"):
        folder.mkdir(parents=True)
    text = (ROOT / ".ci" / "run").read_text()
    assert "/usr/sbin" in text
    script = tmp_path / "project" / ".ci" / "run"
    script.write_text(text.replace("/usr/sbin", str(daemons)))

    def write(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def run(lacking: str | None) -> tuple[str, str]:
        for name in NEEDED:
            folder = daemons if name in ("munged", "slurmctld", "slurmd") else programs
            write(folder / name, "true")
            if name == lacking:
                (folder / name).unlink()
        write(programs / "apt-get", f'echo "$@" >> "{tmp_path}/installed"')
        write(programs / "make", f'echo "$@ skips=$LMF_TEST_NO_SKIPS data=$LMF_TEST_DATA" > "{tmp_path}/made"')
        (programs / "dirname").symlink_to("/usr/bin/dirname")
        environment = {"PATH": str(programs)}
        subprocess.run(["/bin/bash", script], env=environment, check=True, capture_output=True, timeout=60)
        installed = tmp_path / "installed"
        return installed.read_text() if installed.exists() else "", (tmp_path / "made").read_text()

    return run


@pytest.mark.parametrize("program", NEEDED)
def test_a_program_that_is_missing_is_installed(prepare: Callable[[str | None], tuple[str, str]], program: str) -> None:
    installed, made = prepare(program)
    assert installed.splitlines()[1].split("--no-install-recommends ")[1] == NEEDED[program]
    assert made.startswith("test skips=1 data=/")


def test_nothing_is_installed_where_all_is_there(prepare: Callable[[str | None], tuple[str, str]]) -> None:
    assert prepare(None)[0] == ""
