"""Searches: the budget kept by many workers and through kills, and the command line from run to export."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import optuna
import pytest
from lmf_testing.checks import check_complete, check_disk
from lmf_testing.cli import run_lmf
from lmf_testing.light import EPOCHS, STUDY, plan_light_search, start_light_worker, wait

from storage.artifacts import Artifacts
from storage.database import Database
from storage.faults import PRUNING_STEPS, STEPS
from storage.queries import read_attempts, read_epochs, read_study
from storage.trials import TrialMirror
from storage.workers import Workers
from trainer.config import demo_recipe

BUDGET, WORKERS = 24, 8
TRAINED, ALL, PRUNED_AT, WHOLE = 5, 7, 2, 3
NOT_REACHED = ("trained", "files-stored", "scored")
DIGITS = ("run", "digits-lt", "--study", "s", "--epochs", "3", "--image-size", "16", "--threads", "1")


def lines(path: Path) -> Counter[str]:
    return Counter(path.read_text().splitlines())


def said(folder: Path) -> str:
    return (folder / "workers.log").read_text()[-3000:]


def test_eight_workers_choose_and_train_a_budget_exactly(storage_url: str, tmp_path: Path) -> None:
    database = Database.open(storage_url)
    plan_light_search(database, BUDGET)
    workers = [start_light_worker(storage_url, tmp_path) for _ in range(WORKERS)]
    assert [wait(worker, 240) for worker in workers] == [0] * WORKERS, said(tmp_path)
    artifacts = Artifacts.open(str(tmp_path / "artifacts"))
    record = check_complete(database, STUDY, BUDGET, EPOCHS, artifacts)
    check_disk(artifacts, BUDGET + 1)
    assert record.remaining == 0
    assert len({(point.alpha, point.beta) for point in record.points}) == BUDGET
    assert set(lines(tmp_path / "trained.txt").values()) == {1}

    plan_light_search(database, BUDGET + 3)
    assert wait(start_light_worker(storage_url, tmp_path), 60) == 0, said(tmp_path)
    check_complete(database, STUDY, BUDGET + 3, EPOCHS, artifacts)
    database.close()


@pytest.mark.parametrize("step", [*(step for step in STEPS if step not in NOT_REACHED), *PRUNING_STEPS])
def test_a_kill_at_each_step_of_pruning_heals(storage_url: str, tmp_path: Path, step: str) -> None:
    database = Database.open(storage_url)
    plan_light_search(database, TRAINED, "random", "median", WHOLE)
    assert wait(start_light_worker(storage_url, tmp_path), 60) == 0, said(tmp_path)
    plan_light_search(database, ALL, "random", "median", WHOLE)
    fault = {"LMF_FAULT": step, "LMF_FAULT_ONCE": str(tmp_path / "died")}
    assert wait(start_light_worker(storage_url, tmp_path, fault), 60) == -signal.SIGKILL, "the worker dies at the step"
    assert len(Workers(database).release_dead()) == 1
    assert wait(start_light_worker(storage_url, tmp_path, fault), 60) == 0, said(tmp_path)

    record = read_study(database, STUDY)
    assert [point.state for point in record.points] == ["complete"] * TRAINED + ["pruned"] * (ALL - TRAINED)
    assert sum(point.lost_attempts for point in record.points) == (0 if step == "closed" else 1)
    assert record.remaining == 0
    assert sum(lines(tmp_path / "trained.txt").values()) == TRAINED
    epochs = lines(tmp_path / "epochs.txt")
    assert set(epochs.values()) == {1}, "a checkpointed epoch is not trained again"
    recorded = Counter(epoch.point_id for epoch in read_epochs(database, STUDY))
    attempts = read_attempts(database, STUDY)
    mirror = TrialMirror.open(database)
    trials = optuna.load_study(study_name=STUDY, storage=mirror.storage).get_trials()
    mirror.close()
    assert len(trials) == ALL
    for point in record.points[TRAINED:]:
        assert point.message == f"pruned after epoch {PRUNED_AT} of {WHOLE} (median)"
        assert (point.last_epoch, recorded[point.point_id], point.scores) == (PRUNED_AT, PRUNED_AT, None)
        assert [attempt.end for attempt in attempts if attempt.point_id == point.point_id][-1] == "pruned"
        trial = trials[point.trial_number or 0]
        assert trial.state == optuna.trial.TrialState.PRUNED
        assert sorted(trial.intermediate_values) == list(range(1, PRUNED_AT + 1))
        assert trial.value == trial.intermediate_values[PRUNED_AT]
        assert trial.user_attrs["prune_reason"] == point.message
    check_disk(Artifacts.open(str(tmp_path / "artifacts")), TRAINED + 1)
    database.close()


def test_a_search_from_run_to_export(tmp_path: Path) -> None:
    home = tmp_path / "home"
    search = ("--search", "tpe", "--pruner", "hyperband", "--workers", "2")
    planned = run_lmf(home, *DIGITS, *search, "--trials", "6", "--dry-run")
    assert planned.code == 0, planned.err
    assert "points:  6" in planned.out
    assert "epochs:  18 (3 a point, fewer where it is pruned)" in planned.out
    assert not home.exists()

    ran = run_lmf(home, *DIGITS, *search, "--trials", "6")
    assert ran.code == 0, ran.err
    assert "study s planned: 6 points chosen by tpe and pruned by hyperband, 0 trained" in ran.out
    assert "joint" not in ran.out
    (study,) = run_lmf(home, "status", "s", "--json").json["studies"]
    assert study["points"] == 6
    assert study["complete"] + study["pruned"] == 6
    assert study["complete"] >= 1
    assert study["pruned"] >= 1, "of those whose mark is the first epoch, the worse ones end there"

    again = run_lmf(home, *DIGITS)
    assert again.code == 0, again.err
    assert "everything is trained already" in again.out
    more = run_lmf(home, *DIGITS, *search[:2], "--trials", "8")
    assert more.code == 0, more.err
    assert "study s extended: 8 points chosen by tpe and pruned by hyperband, 6 trained" in more.out
    fewer = run_lmf(home, *DIGITS, *search[:2], "--trials", "3")
    assert "everything is trained already" in fewer.out

    (study,) = run_lmf(home, "status", "s", "--json").json["studies"]
    states = ("waiting", "running", "complete", "failed", "pruned")
    assert study["points"] == 8 == sum(study[state] for state in states)
    trained = f"{study['pruned']} of 8 trials pruned"
    assert trained in more.out
    assert "8/8" in run_lmf(home, "status", "s").out
    assert "8/8 points" in run_lmf(home, "study", "list").out

    shown = run_lmf(home, "study", "show", "s", "--json").json
    assert (shown["spec"]["search"], shown["spec"]["trials"], shown["spec"]["pruner"]) == ("tpe", 8, "hyperband")
    for point in shown["points"]:
        assert 0.5 <= point["alpha"] <= 2.0
        assert 0.5 <= point["beta"] <= 2.0
    exported = run_lmf(home, "export", "s", "--json").json["studies"][0]
    assert exported["settings"] == {}
    best = max((p for p in shown["points"] if p["scores"]), key=lambda p: p["scores"]["val"]["macro_f1"])
    assert (exported["best"]["alpha"], exported["best"]["beta"]) == (best["alpha"], best["beta"])
    report = run_lmf(home, "report", "s", "--csv", "--output", str(tmp_path / "report.html"))
    assert report.code == 0, report.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Fig 4" not in page
    assert f"{study['pruned']} of 8 points pruned" in page
    assert len((tmp_path / "report-settings.csv").read_text().splitlines()) == 1


def test_another_search_is_refused_and_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tiny = ("run", "digits-lt", "--epochs", "1", "--image-size", "16", "--threads", "1", "--workers", "1")
    ran = run_lmf(home, *tiny, "--search", "random", "--trials", "1")
    assert ran.code == 0, ran.err
    line = run_lmf(home, *tiny, "--search", "gp").refusal()
    assert f"study digits-lt-{demo_recipe().model} exists and is another one: search: random stored, gp asked" in line
    line = run_lmf(home, *tiny, "--settings", "joint", "--seeds", "24").refusal()
    assert "settings: a search (random) is stored, which chooses alpha and beta itself" in line
    assert "seeds: 23 stored, 24 asked" in line
