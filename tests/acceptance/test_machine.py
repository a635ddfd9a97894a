"""What a study leaves to the machine, how many trials share a device, and what trainings warn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from lmf_testing.checks import check_complete
from lmf_testing.cli import Lmf, Ran, run_lmf

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import read_study
from study.images import available_cores
from study.progress import count_text

SMALL = ("--model", "test_efficientnet", "--weights", "none", "--image-size", "32", "--batch-size", "8")


def run(home: Path, skin: Path, *arguments: str) -> Ran:
    ran = run_lmf(home, "run", f"folder:{skin}", *SMALL, "--epochs", "1", "--settings", "beta", *arguments)
    assert ran.code == 0, ran.err
    return ran


def recipe(home: Path) -> dict[str, Any]:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    try:
        found: dict[str, Any] = read_study(database, "skin-test_efficientnet").spec["recipe"]
        return found
    finally:
        database.close()


def test_the_precision_is_measured_once_when_the_study_is_planned(skin: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = run(home, skin, "--grid", "1.0", "--workers", "1")
    (line,) = [line for line in first.out.splitlines() if line.startswith("precision: ")]
    chosen = recipe(home)["precision"]
    assert line.startswith(f"precision: {chosen}; a batch takes on ")
    assert " fp32 " in line
    assert chosen in ("fp32", "bf16", "fp16")
    again = run(home, skin, "--grid", "1.0,2.0", "--workers", "1", "--precision", "auto")
    assert "precision: " not in again.out
    assert "extended: 2 points" in again.out
    assert recipe(home)["precision"] == chosen
    other = next(name for name in ("fp32", "bf16") if name != chosen)
    refused = run_lmf(home, "run", f"folder:{skin}", *SMALL, "--epochs", "1", "--precision", other)
    assert f"precision: {chosen} stored, {other} asked" in refused.refusal()


def test_a_precision_that_is_asked_for_is_taken(skin: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "home", skin, "--grid", "1.0", "--workers", "1", "--precision", "fp16", "--deterministic")
    assert "precision: " not in ran.out
    found = recipe(tmp_path / "home")
    assert (found["precision"], found["deterministic"], found["compile"]) == ("fp16", True, False)


def test_as_many_workers_as_there_are_cores_and_memory(skin: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "home", skin, "--grid", "1.0,2.0", "--device", "cpu", "--precision", "fp32")
    workers = min(2, available_cores())
    assert f"{count_text(workers, 'worker')} on cpu, " in ran.out
    dry = run_lmf(tmp_path / "other", "run", f"folder:{skin}", *SMALL, "--device", "cpu", "--dry-run")
    assert dry.code == 0, dry.err
    assert "memory:  about" in dry.out
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--per-gpu", "2", "--device", "cpu"), "--per-gpu: there is no GPU here"),
        (("--per-gpu", "auto", "--device", "cpu"), "--per-gpu: there is no GPU here"),
        (("--per-gpu", "2", "--workers", "2"), "--per-gpu: cannot go with --workers; give one of them"),
        (("--per-gpu", "0"), "--per-gpu: 0 is less than 1"),
        (("--per-gpu", "many"), "--per-gpu: 'many' is not a whole number or auto"),
        (("--precision", "fp8"), "--precision: value is 'fp8', expected one of fp32, bf16, fp16, auto"),
        (("--specificity", "1.5"), "--specificity: value is 1.5, expected a number above 0, at most 1"),
        (("--select", "auc"), "--select: value is 'auc', expected one of macro_f1, "),
    ],
)
def test_what_a_machine_cannot_do_is_refused(lmf: Lmf, skin: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in lmf("run", f"folder:{skin}", *SMALL, *arguments).refusal()


def test_what_trainings_warn_of_is_shown_while_and_after_they_run(skin: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    text = "the focal half gives less than 1% of the gradient"
    ran = run(home, skin, "--grid", "1.0,2.0", "--workers", "1", "--scale", "1000", "--precision", "fp32")
    assert f"warning: 2 trials (0, 1): {text}" in ran.out
    (study,) = run_lmf(home, "status", "--json").json["studies"]
    (drowned,) = [entry for entry in study["warnings"] if entry["warning"].startswith(text)]
    assert drowned["trials"] == [0, 1]
    assert text in run_lmf(home, "status").out
    storage = optuna.storages.RDBStorage(f"sqlite:///{home / 'lmf.db'}")
    trials = optuna.load_study(study_name="skin-test_efficientnet", storage=storage).trials
    for trial in trials:
        assert [line for line in trial.user_attrs["warnings"] if line.startswith(text)] == [drowned["warning"]]
    assert all(len(trial.user_attrs["weights_sha256"]) == 64 for trial in trials)
    assert text in next((home / "reports").glob("*.html")).read_text()


@pytest.mark.gpu
@pytest.mark.parametrize("per_gpu", ["2", "auto"])
def test_trials_share_a_gpu(skin: Path, tmp_path: Path, per_gpu: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    home = tmp_path / "home"
    ran = run(home, skin, "--grid", "0.5,1.0,1.5,2.0", "--device", "cuda:0", "--per-gpu", per_gpu)
    workers = int(next(line for line in ran.out.splitlines() if " on cuda:0, " in line).split()[0])
    assert workers == 2 if per_gpu == "2" else 2 <= workers <= 4
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    try:
        check_complete(database, "skin-test_efficientnet", 4, 1, Artifacts.open(str(home / "artifacts")))
    finally:
        database.close()
