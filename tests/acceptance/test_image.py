"""The Dockerfile: pinned, without root and without build tools at the end, and complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from lmf_testing.compose import ROOT, copied_sources, is_ignored, read_stages

PACKAGES = ("storage", "trainer", "study")


def test_both_stages_start_from_one_pinned_image() -> None:
    images = [stage[0].words[0] for stage in read_stages()]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", images[0])


def test_it_ends_as_a_user_of_its_own_that_runs_lmf() -> None:
    last = read_stages()[-1]
    users = [item.rest for item in last if item.word == "USER"]
    assert len(users) == 1
    uid, gid = map(int, users[0].split(":"))
    assert uid >= 10000
    assert gid >= 10000
    assert f"--uid {uid} " in next(item.rest for item in last if item.word == "RUN")
    assert [item.words for item in last if item.word == "ENTRYPOINT"] == [["lmf"]]
    assert [item.word for item in last].index("USER") > max(
        number for number, item in enumerate(last) if item.word in ("RUN", "COPY")
    )


def test_no_build_tools_are_left() -> None:
    first, last = read_stages()
    for item in last:
        if item.word == "RUN":
            assert not re.search(r"\b(apt|apt-get|pip|gcc|g\+\+|make|git|curl|wget)\b", item.rest), item.rest
    copies = [item.words for item in last if item.word == "COPY"]
    assert copies == [["--from=build", "/opt/lmf", "/opt/lmf"]]
    # The environment that is copied has no pip, and what pip fetched is not kept.
    made = " ".join(item.rest for item in first if item.word == "RUN")
    assert "venv --without-pip /opt/lmf" in made
    assert made.count("pip --python /opt/lmf/bin/python install --no-cache-dir") == made.count("pip --python") == 2


def test_which_build_of_torch_is_an_argument() -> None:
    first = read_stages()[0]
    arguments = dict(item.rest.split("=", 1) for item in first if item.word == "ARG")
    assert arguments["TORCH"] == "cpu"
    runs = [item.rest for item in first if item.word == "RUN"]
    assert any("${TORCH_INDEX}/${TORCH}" in run and "torchvision" in run for run in runs)
    installs = [number for number, run in enumerate(runs) if " install " in run]
    assert "torch" in runs[installs[0]], "torch comes first, or lmf would bring the build that PyPI has"


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", ".venv/bin/python", "tests/conftest.py", "lmf-home/lmf.db", ".env", "docs/fig4.png"),
        *("secrets/database_password", "data/skin/a.png", "study/__pycache__/home.pyc", "storage/a/b.pyc"),
    ],
)
def test_nothing_else_of_a_working_copy_gets_in(path: str) -> None:
    assert is_ignored(path)


def test_what_is_copied_is_there_and_makes_a_whole_lmf(tmp_path: Path) -> None:
    """A wheel built from exactly what the image is built from has every file that the packages have."""
    sources = copied_sources(read_stages()[0])
    build = tmp_path / "build"
    build.mkdir()
    for source in sources:
        assert not is_ignored(source)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, build / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, build / source)
    wheels = tmp_path / "wheels"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            wheels,
            build,
        ],
        check=True,
        timeout=300,
    )
    (wheel,) = wheels.glob("lmf-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - inside == set()
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in inside)
