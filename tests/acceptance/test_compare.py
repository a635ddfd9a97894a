"""Losses compared by command line: train, continue, extend, refuse, show, and leave to workers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.checks import check_complete, check_disk
from lmf_testing.cli import Lmf, Ran, run_lmf

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import StudyRecord, read_study
from trainer.config import demo_recipe

STUDY = f"digits-lt-{demo_recipe().model}"
NAME = f"{STUDY}-losses"
SHORT = ("--epochs", "1", "--image-size", "16", "--batch-size", "64", "--threads", "1", "--workers", "1")


def compare(home: Path, *arguments: str) -> Ran:
    return run_lmf(home, "compare", "digits-lt", *SHORT, *arguments)


def read(home: Path, study: str = NAME) -> StudyRecord:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    try:
        return read_study(database, study)
    finally:
        database.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a comparison of three losses with two seeds each, and what was said of it."""
    folder = tmp_path_factory.mktemp("losses") / "home"
    ran = compare(folder, "--losses", "cce,lmf,wcce", "--seeds", "1,2", "--beta", "0.5")
    assert ran.code == 0, ran.err
    (folder / "said.txt").write_text(ran.out)
    return folder


def test_every_loss_is_trained_once_with_every_seed(home: Path) -> None:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    artifacts = Artifacts.open(str(home / "artifacts"))
    record = check_complete(database, NAME, 6, 1, artifacts)
    database.close()
    assert [point.key for point in record.points] == [
        *("cce seed=1", "lmf a=1 b=0.5 seed=1", "wcce seed=1"),
        *("cce seed=2", "lmf a=1 b=0.5 seed=2", "wcce seed=2"),
    ]
    assert {point.settings for point in record.points} == {()}
    check_disk(artifacts, 2 * 6 + 3)
    assert run_lmf(home, "db", "check").code == 0


def test_the_best_weights_of_each_loss_are_kept(home: Path) -> None:
    points = read(home).points
    for loss in ("cce", "lmf", "wcce"):
        mine = [point for point in points if point.loss == loss and point.scores]
        best = max(mine, key=lambda point: (point.scores or {})["val"]["macro_f1"])
        assert [point.key for point in mine if point.weights] == [best.key]
        assert f"of trial {best.trial_number}, {loss})" in (home / "said.txt").read_text()


def test_there_is_a_line_a_loss_and_no_best_pair(home: Path) -> None:
    said = (home / "said.txt").read_text()
    assert f"study {NAME} planned: 6 points of cce, lmf with alpha 1, beta 0.5, wcce, 0 trained" in said
    assert "best: alpha" not in said
    scores = [
        100 * point.scores["test"]["macro_f1"] for point in read(home).points if point.loss == "cce" and point.scores
    ]
    (line,) = [line for line in said.splitlines() if line.startswith("  cce ")]
    assert line.split()[1:5] == ["2", "of", "2", "seeds"]
    assert f"test {sum(scores) / 2:.2f} ± {abs(scores[0] - scores[1]) / 2**0.5:.2f}" in line
    assert str(home / "reports" / f"{NAME}.html") in said


def test_it_is_shown_like_any_study(home: Path, tmp_path: Path) -> None:
    (study,) = run_lmf(home, "status", "--json").json["studies"]
    assert (study["study"], study["points"], study["complete"], study["best"]) == (NAME, 6, 6, None)
    means: dict[str, float] = defaultdict(float)
    for point in read(home).points:
        means[point.loss] += (point.scores or {})["val"]["macro_f1"] / 2
    leading = max(means, key=lambda loss: means[loss])
    assert f"{leading}: {100 * means[leading]:.2f} %" in run_lmf(home, "status").out
    assert f"{NAME}: digits-lt, {demo_recipe().model}, 6/6 points" in run_lmf(home, "study", "list").out
    shown = run_lmf(home, "study", "show", NAME, "--json").json
    assert (shown["spec"]["losses"], shown["spec"]["beta"]) == (["cce", "lmf", "wcce"], 0.5)
    assert "(cce seed=1): complete" in run_lmf(home, "study", "show", NAME).out
    exported = run_lmf(home, "export", "--json")
    assert exported.code == 0, exported.err
    assert exported.json["studies"][0]["study"] == NAME
    report = run_lmf(home, "report", NAME, "--output", str(tmp_path / "report.html"))
    assert report.code == 0, report.err
    assert NAME in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_would_make_another_comparison_is_refused(home: Path) -> None:
    line = compare(home, "--alpha", "0.7").refusal()
    assert "another one: alpha: 1 stored, 0.7 asked; ask for the stored values" in line, "nobody asked for a beta"
    assert "beta: 0.5 stored, 1 asked" in compare(home, "--alpha", "1", "--beta", "1").refusal()
    assert "--losses: ',' has an empty place" in compare(home, "--losses", ",").refusal()
    line = run_lmf(home, "run", "digits-lt", *SHORT, "--study", NAME).refusal()
    assert "losses: a comparison of cce, lmf, wcce stored, a study of alpha and beta asked" in line
    line = compare(home, "--settings", "joint", "--grid", "1", "--search", "tpe", "--trials", "3").refusal()
    for flag in ("--settings", "--grid", "--search", "--trials"):
        assert f"{flag}: is for a study of alpha and beta" in line
    assert "no study named nothing; studies here: " + NAME in compare(home, "--from", "nothing").refusal()


def test_more_losses_and_seeds_extend_it_and_a_study_gives_the_factors(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tried = run_lmf(home, "run", "digits-lt", *SHORT, "--settings", "beta", "--grid", "0.5")
    assert tried.code == 0, tried.err
    planned = compare(home, "--losses", "lmf", "--plan-only")
    assert planned.code == 0, planned.err
    assert f"lmf with alpha 1, beta 0.5 (best of study {STUDY})" in planned.out
    assert "1 point to train; `lmf launch` and `lmf worker` start workers" in planned.out
    worked = run_lmf(home, "worker", "--device", "cpu")
    assert worked.code == 0, worked.err
    first = read(home).points
    more = compare(home, "--losses", "cce", "--seeds", "23,24")
    assert more.code == 0, more.err
    assert "extended: 4 points" in more.out
    record = read(home)
    spec: dict[str, Any] = record.spec
    assert (spec["losses"], spec["seeds"], spec["factors_from"]) == (["lmf", "cce"], [23, 24], STUDY)
    assert record.points[0] == first[0]
    assert {(point.loss, point.seed, point.attempts) for point in record.points} == {
        *(("lmf", seed, 1) for seed in (23, 24)),
        *(("cce", seed, 1) for seed in (23, 24)),
    }


def test_one_without_lmf_goes_on_without_a_word_of_its_factors(tmp_path: Path) -> None:
    home = tmp_path / "home"
    planned = compare(home, "--losses", "cce,wcce", "--plan-only")
    assert planned.code == 0, planned.err
    again = compare(home, "--plan-only")
    assert again.code == 0, again.err
    assert f"study {NAME} continued: 2 points of cce, wcce, 0 trained" in again.out
    assert "lmf with" not in again.out
    assert "alpha: no lmf among the losses stored" in compare(home, "--alpha", "1", "--plan-only").refusal()


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path, lmf: Lmf) -> None:
    file = tmp_path / "study.toml"
    file.write_text('[study]\ndataset = "digits-lt"\nlosses = ["cce", "focal", "lmf"]\nseeds = [1, 2]\n')
    ran = lmf("run", str(file), *SHORT, "--dry-run")
    assert ran.code == 0, ran.err
    assert "lmf with alpha 1, beta 1, since there is no study" in ran.out
    assert "points:  6" in ran.out
    assert not (tmp_path / "home").exists()
