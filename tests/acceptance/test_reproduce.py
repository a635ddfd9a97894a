"""The paper's experiments by command line: told first, interrupted and resumed, and carried on past bad data."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from lmf_testing.checks import check_complete
from lmf_testing.cli import Lmf, Ran, run_lmf, start_lmf
from lmf_testing.paper_data import write_covid, write_ham

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError
from storage.queries import list_studies, read_attempts, read_study

MODEL = "test_efficientnet"
TINY = ("--models", MODEL, "--weights", "none", "--image-size", "32", "--batch-size", "8", "--precision", "fp32")
WHOLE = (*TINY, "--threads", "1", "--workers", "1")
TINY = (*WHOLE, "--grid", "1.0", "--losses", "cce,lmf")
HAM, COVID = f"ham10000-{MODEL}", f"covid19-radiography-{MODEL}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with small sets in the form of two of the paper's datasets."""
    write_ham(tmp_path / "data" / "HAM10000")
    write_covid(tmp_path / "data" / "COVID-19_Radiography_Dataset")
    return tmp_path / "data"


def cells(ran: Ran, dataset: str, what: str) -> list[str]:
    """Points left, done and failed, and epochs of a study in the table."""
    (line,) = [line for line in ran.out.splitlines() if line.startswith(dataset) and what in line]
    return line.split(what)[1].split()[:4]


def test_a_dry_run_tells_what_is_left_and_writes_nothing(lmf: Lmf, data: Path, tmp_path: Path) -> None:
    ran = lmf("reproduce", "--data", str(data), *TINY, "--seeds", "1,2", "--dry-run")
    assert ran.code == 0, ran.err
    assert f"data: ham10000 in {data / 'HAM10000'} (28 images of 7 classes)" in ran.out
    assert "not at hand: isic2019: " in ran.out
    for dataset in ("ham10000", "covid19-radiography"):
        assert cells(ran, dataset, "alpha and beta") == ["2", "0", "0", "120"]
        assert cells(ran, dataset, "2 losses") == ["4", "0", "0", "400"]
    assert cells(ran, "all", "4 studies") == ["12", "0", "0", "1,040"]
    assert "processor hours" in ran.out
    assert "time:  about " in ran.out
    assert "disk:  " in ran.out
    assert not (tmp_path / "home").exists()


def test_what_cannot_be_started_is_refused(lmf: Lmf, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = lmf("reproduce", "--data", str(tmp_path / "empty"), *TINY)
    assert line.code == 2
    assert "no data that can be trained on for odir5k, ham10000, isic2019, covid19-radiography" in line.err
    line = lmf("reproduce", "--data", str(data), "--datasets", "ham10000,isic2019", *TINY)
    assert line.code == 2
    assert line.err.startswith("lmf: --data: no data that can be trained on for isic2019")
    wrong = lmf("reproduce", "--data", str(data), *TINY, "--factors", "best", "--loss-epochs", "0").refusal()
    assert "--factors: 'best' is not study, paper or two numbers" in wrong
    assert "--grid: 9 is outside" in lmf("reproduce", "--data", "gone", "--grid", "9").refusal()
    assert not (tmp_path / "home").exists()


def test_bad_data_are_told_and_the_others_are_planned(lmf: Lmf, data: Path, tmp_path: Path) -> None:
    broken = data / "HAM10000" / "images" / "ISIC_0030002.jpg"
    broken.write_bytes(b"no image")
    short = ("--epochs", "1", "--loss-epochs", "1")
    ran = lmf("reproduce", "--data", str(data), *TINY, *short, "--plan-only")
    assert ran.code == 1, (ran.out, ran.err)
    assert f"study {HAM} cannot be carried out: " in ran.out
    assert broken.stem in ran.out
    assert f"not carried out: {HAM}-losses: " not in ran.out, "it waits for its study in any case"
    assert f"study {COVID} planned: 1 point" in ran.out
    assert f"study {COVID}-losses: takes lmf's alpha and beta from the best of study {COVID}" in ran.out
    database = Database.open(f"sqlite:///{tmp_path / 'home' / 'lmf.db'}", create=False)
    assert list_studies(database) == (COVID,)
    database.close()

    given = ("--datasets", "covid19-radiography", "--factors", "0.5,1")
    ran = lmf("reproduce", "--data", str(data), *TINY, *short, *given, "--plan-only")
    assert ran.code == 0, (ran.out, ran.err)
    assert f"study {COVID}-losses planned: 2 points of cce, lmf with alpha 0.5, beta 1, 0 trained" in ran.out
    ran = lmf("reproduce", "--data", str(data), *TINY, *short, "--datasets", "covid19-radiography", "--plan-only")
    assert ran.code == 1
    assert f"study {COVID}-losses exists, and its alpha and beta of lmf, 0.5,1, are not taken from study" in ran.out
    assert f"--factors 0.5,1 keeps them, `lmf study delete {COVID}-losses` makes way" in ran.out
    assert cells(ran, "covid19-radiography", "2 losses") == ["refused"]
    assert cells(ran, "covid19-radiography", "alpha and beta") == ["1", "0", "0", "1"]
    ran = lmf("reproduce", "--data", str(data), *TINY, *given, "--plan-only")
    assert ran.code == 1
    assert f"epochs: 1 stored, 60 asked; ask for the stored values, or `lmf study delete {COVID}` makes way" in ran.out


def test_a_paused_study_is_passed_over_and_a_smaller_one_extended(lmf: Lmf, data: Path, tmp_path: Path) -> None:
    given = ("--data", str(data), *WHOLE, "--epochs", "1", "--loss-epochs", "1", "--factors", "1,1")
    small = ("--grid", "1.0", "--losses", "cce")
    planned = lmf("reproduce", *given, *small, "--plan-only")
    assert planned.code == 0, (planned.out, planned.err)
    assert lmf("study", "pause", HAM).code == 0

    told = lmf("reproduce", *given, "--dry-run")
    assert told.code == 1, (told.out, told.err)
    assert cells(told, "ham10000", "alpha and beta") == ["refused"]
    assert f"refused: {HAM}: study {HAM} is paused; `lmf study resume {HAM}` lets it go on" in told.out
    assert cells(told, "ham10000", "5 losses") == ["5", "0", "0", "5"]
    assert cells(told, "covid19-radiography", "alpha and beta") == ["31", "0", "0", "31"]
    assert cells(told, "all", "4 studies") == ["41", "0", "0", "41"]

    ran = lmf("reproduce", *given, *small)
    assert ran.code == 1, (ran.out, ran.err)
    assert f"not carried out: {HAM}: study {HAM} is paused" in ran.out
    assert "report of all studies: " in ran.out
    database = Database.open(f"sqlite:///{tmp_path / 'home' / 'lmf.db'}", create=False)
    for name, left in ((HAM, 1), (f"{HAM}-losses", 0), (COVID, 0), (f"{COVID}-losses", 0)):
        assert read_study(database, name).remaining == left
    database.close()


def begun(home: Path) -> bool:
    """Whether a first point is trained."""
    if not (home / "lmf.db").exists():
        return False
    try:
        database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
        try:
            return any(point.last_epoch for point in read_study(database, HAM).points)
        finally:
            database.close()
    except StorageError:
        return False


def test_interrupted_and_resumed_nothing_is_trained_twice(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = ("reproduce", "--data", str(data), *TINY, "--epochs", "2", "--loss-epochs", "3")
    process = start_lmf(home, *command)
    until = time.monotonic() + 240
    while not begun(home) and process.poll() is None:
        assert time.monotonic() < until, "no epoch was trained"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 3, (out, err)
    assert "left in all; the same command goes on" in out
    assert not (home / "reports" / "reproduction.html").exists()

    ran = run_lmf(home, *command)
    assert ran.code == 0, (ran.out, ran.err)
    report = home / "reports" / "reproduction.html"
    assert f"report of all studies: {report}" in ran.out
    page = report.read_text(encoding="utf-8")
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    artifacts = Artifacts.open(str(home / "artifacts"))
    for name in (HAM, COVID):
        record = check_complete(database, name, 1, 2, artifacts)
        losses = check_complete(database, f"{name}-losses", 2, 3, artifacts)
        assert losses.spec["factors_from"] == name
        assert [point.key for point in losses.points] == ["cce seed=23", "lmf a=1 b=1 seed=23"]
        assert name in page
        for study in (record, losses):
            assert sum(point.lost_epochs for point in study.points) == 0
            epochs = sum(attempt.epochs for attempt in read_attempts(database, study.name))
            assert epochs == len(study.points) * study.spec["recipe"]["epochs"]
    database.close()

    again = run_lmf(home, *command)
    assert again.code == 0, (again.out, again.err)
    assert again.out.count("everything is trained already") == 4
    assert cells(again, "all", "4 studies") == ["0", "6", "0", "0"]


def test_the_real_subsets(lmf: Lmf, test_data: Path) -> None:
    ran = lmf("reproduce", "--data", str(test_data / "data" / "images"), *TINY, "--epochs", "1", "--dry-run")
    assert ran.code == 0, ran.err
    assert "cannot be used: covid19-radiography: " in ran.out
    for dataset in ("odir5k", "ham10000", "isic2019"):
        assert cells(ran, dataset, "alpha and beta") == ["1", "0", "0", "1"]
        assert cells(ran, dataset, "2 losses") == ["2", "0", "0", "200"]
