"""Whole studies by command line: train, continue, extend, refuse, report, export, stop, retry, delete."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from lmf_testing.checks import check_complete, check_disk
from lmf_testing.cli import run_lmf, start_lmf
from safetensors.numpy import load_file

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import WorkerRecord, read_attempts, read_study, read_workers
from storage.trials import TrialMirror
from trainer.config import demo_recipe

STUDY = f"digits-lt-{demo_recipe().model}"
SHORT = ("--epochs", "2", "--image-size", "16", "--batch-size", "64", "--threads", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a small study that is done: 4 points of 2 epochs."""
    folder = tmp_path_factory.mktemp("studies") / "home"
    ran = run_lmf(folder, "run", "digits-lt", "--grid", "0.5,1.0", "--workers", "2", *SHORT)
    assert ran.code == 0, ran.err
    assert "best: alpha" in ran.out
    assert "joint (alpha = beta)" in ran.out
    assert str(folder / "reports") in ran.out
    assert str(folder / "lmf.db") in ran.out
    return folder


def read(home: Path, study: str = STUDY) -> Any:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    try:
        return read_study(database, study)
    finally:
        database.close()


def test_every_point_is_trained_once(home: Path) -> None:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    artifacts = Artifacts.open(str(home / "artifacts"))
    record = check_complete(database, STUDY, 4, 2, artifacts)
    check_disk(artifacts, 2 * 4 + 1)
    pairs = {(point.alpha, point.beta): point.settings for point in record.points}
    assert pairs == {
        (0.5, 0.5): ("joint",),
        (1.0, 1.0): ("joint", "beta", "alpha"),
        (1.0, 0.5): ("beta",),
        (0.5, 1.0): ("alpha",),
    }
    assert {attempt.device for attempt in read_attempts(database, STUDY)} == {"cpu"}
    database.close()


def test_scores_files_and_weights_are_kept(home: Path) -> None:
    record = read(home)
    best = max(record.points, key=lambda point: point.scores["val"]["macro_f1"])
    assert [point.key for point in record.points if point.weights] == [best.key]
    weights = load_file(home / "artifacts" / best.weights)
    assert any(name.endswith("weight") for name in weights)
    for point in record.points:
        for split in ("val", "test"):
            scores = point.scores[split]
            assert set(scores) >= {"accuracy", "precision", "recall", "macro_f1", "f1_per_class", "confusion"}
            assert sum(map(sum, scores["confusion"])) == sum(record.counts[split])
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    mirror = TrialMirror.open(database)
    trial = optuna.load_study(study_name=STUDY, storage=mirror.storage).get_trials()[best.trial_number]
    files = {meta.filename: meta for meta in optuna.artifacts.get_all_artifact_meta(trial, storage=mirror.storage)}
    mirror.close()
    database.close()
    with (home / "artifacts" / files["predictions.csv"].artifact_id).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["class"] == row["predicted"] for row in rows if row["split"] == "test")
    total = sum(row["split"] == "test" for row in rows)
    assert right / total == pytest.approx(best.scores["test"]["accuracy"])
    assert sum(float(rows[0][f"p({name})"]) for name in record.class_names) == pytest.approx(1.0, abs=1e-5)


def test_a_second_run_finds_everything_done(home: Path) -> None:
    ran = run_lmf(home, "run", "digits-lt", "--grid", "0.5,1.0", *SHORT)
    assert ran.code == 0, ran.err
    assert "everything is trained already" in ran.out
    assert {point.attempts for point in read(home).points} == {1}


def test_another_recipe_or_other_data_is_refused_and_named(home: Path) -> None:
    line = run_lmf(home, "run", "digits-lt", *SHORT, "--epochs", "3", "--lr", "0.5").refusal()
    assert "epochs: 2 stored, 3 asked" in line
    assert f"lr: {demo_recipe().lr:g} stored, 0.5 asked" in line
    line = run_lmf(home, "run", "digits-lt", *SHORT, "--split-seed", "5").refusal()
    assert "split_seed: 23 stored, 5 asked" in line


def test_status_report_export_and_show(home: Path, tmp_path: Path) -> None:
    document = run_lmf(home, "status", "--json").json
    assert set(document) == {"studies", "workers"}
    (study,) = document["studies"]
    assert list(study) == [
        *("study", "dataset", "model", "points", "waiting", "running", "complete", "failed", "pruned"),
        *("attempts", "lost_attempts", "lost_epochs", "best", "leakage", "warnings"),
        *("state", "seconds_left", "hours", "failures"),
    ]
    assert (study["points"], study["complete"], study["attempts"], study["lost_epochs"]) == (4, 4, 4, 0)
    assert set(study["best"]) == {"alpha", "beta", "val_macro_f1"}
    assert {worker["state"] for worker in document["workers"]} == {"stopped"}
    assert set(document["workers"][0]) == {
        *("worker", "host", "pid", "device", "study", "trial", "epoch", "last_seen_seconds", "state"),
        *("epochs", "images_per_second", "seconds_left", "versions"),
    }

    exported = run_lmf(home, "export", STUDY, "--json").json
    best = exported["studies"][0]["best"]
    assert (best["alpha"], best["beta"]) == (study["best"]["alpha"], study["best"]["beta"])
    assert yaml.safe_load(run_lmf(home, "export", STUDY, "--yaml").out) == exported

    ran = run_lmf(home, "report", STUDY, "--csv", "--output", str(tmp_path / "report.html"))
    assert ran.code == 0, ran.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{100 * best['val_macro_f1']:.2f}" in page
    assert len(list(tmp_path.glob("report-*.csv"))) == 4

    assert STUDY in run_lmf(home, "study", "list").out
    shown = run_lmf(home, "study", "show", STUDY, "--json").json
    assert shown["spec"]["recipe"]["epochs"] == 2
    assert len(shown["attempts"]) == 4


def test_dry_run_tells_and_writes_nothing(tmp_path: Path) -> None:
    ran = run_lmf(tmp_path / "home", "run", "digits-lt", "--dry-run", *SHORT)
    assert ran.code == 0, ran.err
    for said in ("31", "62", "time:", "disk:", "memory:"):
        assert said in ran.out
    assert not (tmp_path / "home").exists()


def test_more_settings_values_and_seeds_extend_a_study(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = run_lmf(home, "run", "digits-lt", "--settings", "joint", "--grid", "0.5", "--workers", "1", *SHORT)
    assert first.code == 0, first.err
    before = {point.key: point.scores for point in read(home).points}
    assert len(before) == 1
    second = run_lmf(home, "run", "digits-lt", "--settings", "joint,beta", "--seeds", "23,24", "--workers", "1", *SHORT)
    assert second.code == 0, second.err
    record = read(home)
    assert len(record.points) == 4
    assert {point.key: point.scores for point in record.points if point.key in before} == before
    assert record.spec["seeds"] == [23, 24]
    assert record.spec["settings"] == ["joint", "beta"]
    assert {point.attempts for point in record.points} == {1}


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"never came: {what}"
        time.sleep(0.05)


def workers_of(home: Path) -> tuple[WorkerRecord, ...]:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    try:
        return read_workers(database)
    finally:
        database.close()


def status(home: Path) -> Any:
    return run_lmf(home, "status", "--json").json if (home / "lmf.db").exists() else {"studies": [], "workers": []}


def training_begun(home: Path) -> bool:
    if not (home / "lmf.db").exists():
        return False
    try:
        record = read(home)
    except Exception:
        return False
    return any(point.state == "running" and point.last_epoch >= 1 for point in record.points)


@pytest.fixture(scope="module")
def long_scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of four points of 20 epochs that nobody disturbed."""
    folder = tmp_path_factory.mktemp("long") / "home"
    ran = run_lmf(folder, "run", "digits-lt", *LONG)
    assert ran.code == 0, ran.err
    return {point.key: point.scores for point in read(folder).points}


LONG = ("--settings", "beta", "--grid", "0.5,1.0,1.5,2.0", "--workers", "2", "--epochs", "20", "--threads", "1")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_releases_its_points_and_goes_on(
    tmp_path: Path, long_scores: dict[str, Any], kind: signal.Signals
) -> None:
    home = tmp_path / "home"
    process = start_lmf(home, "run", "digits-lt", *LONG)
    wait_for(lambda: training_begun(home), "a first epoch")
    process.send_signal(kind)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, (out, err)
    document = status(home)
    assert document["studies"][0]["running"] == 0
    assert document["studies"][0]["waiting"] >= 1
    assert {worker["state"] for worker in document["workers"]} == {"stopped"}
    again = run_lmf(home, "run", "digits-lt", *LONG)
    assert again.code == 0, again.err
    record = read(home)
    assert {point.key: point.scores for point in record.points} == long_scores
    assert sum(point.lost_epochs for point in record.points) == 0
    assert sum(point.lost_attempts for point in record.points) == 0
    assert sum(point.attempts for point in record.points) > len(record.points)


def test_a_killed_worker_is_replaced_and_a_killed_run_leaves_nothing_behind(
    tmp_path: Path, long_scores: dict[str, Any]
) -> None:
    home = tmp_path / "home"
    process = start_lmf(home, "run", "digits-lt", *LONG)
    wait_for(lambda: training_begun(home), "a first epoch")
    victim = next(worker.pid for worker in workers_of(home) if worker.state == "training")
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        states = {worker.pid: worker.state for worker in workers_of(home)}
        return states[victim] == "lost" and len(states) == 3

    wait_for(replaced, "another worker")
    process.kill()
    process.communicate()
    wait_for(
        lambda: all(worker.state in ("stopped", "lost") for worker in workers_of(home)),
        "the end of workers whose run was killed",
    )
    again = run_lmf(home, "run", "digits-lt", *LONG)
    assert again.code == 0, again.err
    record = read(home)
    assert {point.key: point.scores for point in record.points} == long_scores
    assert sum(point.lost_attempts for point in record.points) == 1
    artifacts = Artifacts.open(str(home / "artifacts"))
    check_disk(artifacts, 2 * len(record.points) + 1)


def test_a_point_that_diverges_fails_with_its_reason_and_can_be_retried(tmp_path: Path) -> None:
    home = tmp_path / "home"
    one = ("--settings", "joint", "--grid", "1.0", "--workers", "1", "--study", "hot", *SHORT)
    hot = ("--model", "test_nfnet", "--precision", "fp16", "--lr", "10", "--epochs", "3")
    ran = run_lmf(home, "run", "digits-lt", *one, *hot)
    assert ran.code == 1, (ran.out, ran.err)
    assert "learning rate" in ran.out
    document = status(home)["studies"][0]
    assert (document["failed"], document["attempts"]) == (1, 2)
    retried = run_lmf(home, "study", "retry", "hot")
    assert "1 failed point to be trained again" in retried.out
    assert status(home)["studies"][0]["waiting"] == 1
    worked = run_lmf(home, "worker", "hot")
    assert worked.code == 1, worked.err
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    mirror = TrialMirror.open(database)
    trials = optuna.load_study(study_name="hot", storage=mirror.storage).get_trials()
    mirror.close()
    database.close()
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL"]
    assert "learning rate" in trials[0].user_attrs["fail_reason"]


def test_a_study_is_deleted_with_its_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = run_lmf(home, "run", "digits-lt", "--settings", "joint", "--grid", "0.5", "--workers", "1", *SHORT)
    assert ran.code == 0, ran.err
    assert "--yes" in run_lmf(home, "study", "delete", STUDY).refusal()
    assert "no study named other" in run_lmf(home, "study", "delete", "other", "--yes").refusal()
    deleted = run_lmf(home, "study", "delete", STUDY, "--yes")
    assert deleted.code == 0, deleted.err
    assert list((home / "artifacts").iterdir()) == []
    assert run_lmf(home, "study", "list", "--json").json == {"studies": []}
    engine_names = optuna.get_all_study_names(f"sqlite:///{home / 'lmf.db'}")
    assert engine_names == []


def test_folder_table_and_study_file_train_the_same(tmp_path: Path, skin: Path) -> None:
    home = tmp_path / "home"
    flags = ("--model", "test_efficientnet", "--weights", "none", "--image-size", "32", "--epochs", "1")
    flags = (*flags, "--settings", "joint", "--grid", "1.0", "--threads", "1", "--workers", "1")
    assert run_lmf(home, "run", f"folder:{skin}", "--study", "by-folder", *flags).code == 0
    rows = [(path.relative_to(skin).as_posix(), path.parent.name) for path in sorted(skin.rglob("*.png"))]
    (skin / "labels.csv").write_text("image,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    assert run_lmf(home, "run", "csv:labels.csv", "--data", str(skin), "--study", "by-table", *flags).code == 0
    (tmp_path / "study.toml").write_text(
        '[study]\ndataset = "folder"\ndata = "skin"\nstudy = "by-file"\nsettings = ["joint"]\ngrid = [1.0]\n'
        '[recipe]\nmodel = "test_efficientnet"\nweights = "none"\nimage_size = 32\nepochs = 3\nthreads = 1\n'
        "[run]\nworkers = 1\n"
    )
    ran = run_lmf(home, "run", str(tmp_path / "study.toml"), "--epochs", "1")
    assert ran.code == 0, ran.err
    by_folder, by_table, by_file = (read(home, name) for name in ("by-folder", "by-table", "by-file"))
    assert by_folder.class_names == ("df", "mel", "nv")
    assert by_folder.counts["train"] == by_table.counts["train"] == (4, 6, 8)
    assert by_folder.points[0].scores == by_table.points[0].scores == by_file.points[0].scores
    assert by_file.spec["recipe"]["epochs"] == 1

    (skin / "nv" / "nv-00.png").write_bytes((skin / "nv" / "nv-01.png").read_bytes())
    changed = run_lmf(home, "run", f"folder:{skin}", "--study", "by-folder", *flags).refusal()
    assert "other" in changed or "changed" in changed
    (skin / "nv" / "nv-00.png").unlink()
    fewer = run_lmf(home, "run", f"folder:{skin}", "--study", "by-folder", *flags).refusal()
    assert "nv: 12 images stored, 11 found" in fewer


def test_no_secret_reaches_a_process_list_a_log_or_a_report(tmp_path: Path, postgres_url: str, postgres: Any) -> None:
    import psutil

    home = tmp_path / "home"
    secrets = {postgres.password, postgres_url.split("@")[0].rsplit(":", 1)[1]}
    process = start_lmf(
        home,
        *("run", "digits-lt", "--settings", "joint", "--grid", "0.5,1.0", "--workers", "2", *SHORT),
        changes={"LMF_STORAGE": postgres_url},
    )
    seen = set()
    while process.poll() is None:
        try:
            family = psutil.Process(process.pid).children(recursive=True)
            seen |= {" ".join(child.cmdline()) for child in family}
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert any("worker" in line for line in seen)
    logs = "".join(path.read_text() for path in (home / "logs").iterdir())
    reports = "".join(path.read_text() for path in (home / "reports").iterdir())
    for secret in secrets:
        for text in (out, err, logs, reports, *seen):
            assert secret not in text


def test_help_loads_neither_torch_nor_optuna() -> None:
    import subprocess
    import sys

    code = (
        "import sys, runpy\nsys.argv = ['lmf', '--help']\n"
        "try:\n    runpy.run_module('study.cli.main', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'optuna', 'timm', 'sqlalchemy', 'numpy', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "demo" in ran.stdout
