"""What the doctor says of Python, packages and extras."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from study.doctor.diagnosis import Level
from study.doctor.installation import (
    EXTRAS,
    PACKAGES,
    check_installation,
    judge_command,
    judge_extras,
    judge_origins,
    judge_packages,
)

REQUIREMENTS = [Requirement(text) for text in ("torch>=2.6", "optuna<6,>=5.0", 'boto3>=1.35; extra == "s3"')]
ALL = {"torch": "2.9.1+cpu", "optuna": "5.0.0", "boto3": "1.40"}
HERE = dict.fromkeys(PACKAGES, frozenset({"lmf"}))


def test_this_installation_is_whole() -> None:
    found = {diagnosis.check: diagnosis for diagnosis in check_installation()}
    assert list(found) == ["python", "packages", "extras", "imports", "command"]
    assert {found[check].level for check in ("python", "packages", "extras", "imports")} == {Level.OK}
    assert f"torch {metadata.version('torch')}" in found["packages"].found
    assert "slurm" in found["extras"].found


def test_every_extra_has_its_use() -> None:
    declared = set(metadata.metadata("lmf").get_all("Provides-Extra") or ())
    assert set(EXTRAS) == declared - {"dev"}


def test_packages_are_there_in_versions_that_fit() -> None:
    assert judge_packages("0.1.0", REQUIREMENTS, ALL).found == "lmf 0.1.0, torch 2.9.1+cpu, optuna 5.0.0"


@pytest.mark.parametrize(
    ("change", "said"),
    [({"optuna": "4.4.0"}, "optuna 4.4.0 is installed, <6,>=5.0 is needed"), ({"torch": None}, "torch is not inst")],
)
def test_a_package_that_is_missing_or_old_is_a_problem(change: dict[str, str | None], said: str) -> None:
    found = judge_packages("0.1.0", REQUIREMENTS, ALL | change)
    assert found.level == Level.PROBLEM
    assert said in found.found
    assert "pip install" in found.advice


def test_an_extra_is_a_problem_only_where_it_is_needed() -> None:
    without = ALL | {"boto3": None}
    assert judge_extras(REQUIREMENTS, ALL, frozenset({"s3"})).level == Level.OK
    told = judge_extras(REQUIREMENTS, without, frozenset())
    assert told.level == Level.OK
    assert "not installed: s3 (artifacts in S3)" in told.found
    needed = judge_extras(REQUIREMENTS, without, frozenset({"s3"}))
    assert (needed.level, needed.found) == (Level.PROBLEM, "s3 is needed here: boto3 is not installed")
    assert needed.advice == "pip install 'lmf[s3]'"


def test_other_packages_of_these_names_are_a_problem() -> None:
    origins = {name: Path("/x") / name for name in PACKAGES}
    assert judge_origins(origins, HERE).level == Level.OK
    shared = judge_origins(origins, HERE | {"storage": frozenset({"lmf", "cloud-things"})})
    assert (shared.level, shared.found) == (Level.PROBLEM, "storage is also a package of cloud-things")
    shadowed = judge_origins(origins | {"study": Path("/home/me/study")}, HERE)
    assert shadowed.level == Level.PROBLEM
    assert "/home/me/study" in shadowed.found
    assert judge_origins(origins | {"study": None}, HERE).level == Level.PROBLEM


def test_another_lmf_first_on_path_is_told(tmp_path: Path) -> None:
    assert judge_command(None, tmp_path).level == Level.OK
    assert judge_command(str(tmp_path / "bin" / "lmf"), tmp_path).level == Level.OK
    other = judge_command("/usr/bin/lmf", tmp_path)
    assert other.level == Level.WARNING
    assert "/usr/bin/lmf" in other.found
