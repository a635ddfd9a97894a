"""`lmf export --model`: which trial is meant, what is written, and that nothing half-done or foreign is touched."""

from __future__ import annotations

import csv
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lmf_testing.cli import VARIABLES, Lmf, environment
from lmf_testing.exported import run_here
from lmf_testing.real import STUDY, home_of, plan_real, short_spec

from storage.database import Database
from storage.outcomes import Outcomes
from storage.queries import PointRecord, read_parts, read_study
from study import model_export
from study.errors import StudyError
from study.home import Home
from study.images import load_planned_images
from study.model_export import choose_point, export_model
from study.plan import stored_spec
from study.run_options import RunOptions
from study.serving import work_on_studies
from trainer.data.catalog import open_dataset
from trainer.data.image_marks import read_marks
from trainer.exported import read_description
from trainer.inference import Predicted, open_model, predict_images

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def train(home: Home, grid: str) -> None:
    """Train the joint points of a grid, two epochs each, in this process; the best one's weights are kept."""
    plan_real(home, short_spec(settings="joint", grid=grid))
    database = Database.open(home.storage_url, create=False)
    try:
        work_on_studies(home, database, [STUDY], RunOptions(device="cpu"), threading.Event())
    finally:
        database.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("trained")
    home = home_of(folder, f"sqlite:///{folder / 'lmf.db'}")
    train(home, "0.5,1.0")
    return home


@pytest.fixture
def home(trained: Home, tmp_path: Path) -> Home:
    """A copy of the home that a test may spoil."""
    folder = tmp_path / "home"
    shutil.copytree(trained.root, folder)
    return home_of(folder, f"sqlite:///{folder / 'lmf.db'}")


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url, create=False)
    yield database
    database.close()


@pytest.fixture
def lmf(home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Lmf:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMF_HOME", str(home.root))
    return partial(run_here, capfd)


def kept(database: Database) -> PointRecord:
    (point,) = [point for point in read_study(database, STUDY).points if point.weights]
    return point


def stored_predictions(database: Database, home: Home, point: PointRecord) -> list[dict[str, str]]:
    files = {file["filename"]: file["artifact_id"] for file in Outcomes(database).read(point.point_id).files or []}
    with (Path(home.artifacts) / files["predictions.csv"]).open(newline="") as file:
        return list(csv.DictReader(file))


def check_whole(database: Database, home: Home, folder: Path) -> None:
    """The folder predicts, of the study's own images, what the trial predicted, digit by digit."""
    point = kept(database)
    done = export_model(database, home, STUDY, folder)
    assert (done.point.point_id, done.notes) == (point.point_id, ())
    assert sorted(file.name for file in folder.iterdir()) == sorted(model_export.FILES)
    assert point.scores is not None
    description = read_description(folder)
    assert description.weights_sha256 == point.scores["weights_sha256"]
    assert description.origin["scores"] == {part: point.scores[part] for part in ("val", "test")}
    rows = stored_predictions(database, home, point)
    dataset = open_dataset("digits-lt", None)
    index = {name: number for number, name in enumerate(dataset.image_names)}
    model = open_model(folder, CPU)
    for part in ("val", "test"):
        mine = [row for row in rows if row["split"] == part]
        results = list(predict_images(model, dataset, [index[row["image"]] for row in mine]))
        for row, result in zip(mine, results, strict=True):
            assert isinstance(result, Predicted)
            assert [row[f"p({name})"] for name in dataset.class_names] == [f"{value:.7g}" for value in result.raw]
            assert row["predicted"] == dataset.class_names[result.best]


def test_the_folder_predicts_what_the_trial_predicted(database: Database, home: Home, tmp_path: Path) -> None:
    check_whole(database, home, tmp_path / "model")


def test_it_does_so_from_postgresql(postgres_url: str, tmp_path: Path) -> None:
    home = home_of(tmp_path / "home", postgres_url)
    train(home, "0.5")
    database = Database.open(postgres_url, create=False)
    try:
        check_whole(database, home, tmp_path / "model")
    finally:
        database.close()


def test_the_temperature_fits_validation_best(database: Database, home: Home, tmp_path: Path) -> None:
    temperature = read_description(export_model(database, home, STUDY, tmp_path / "model").folder).temperature
    assert temperature is not None
    rows = [row for row in stored_predictions(database, home, kept(database)) if row["split"] == "val"]
    names = [name for name in rows[0] if name.startswith("p(")]

    def loss(divisor: float) -> float:
        total = 0.0
        for row in rows:
            powers = [float(row[name]) ** (1 / divisor) for name in names]
            total -= math.log(float(row[f"p({row['class']})"]) ** (1 / divisor) / math.fsum(powers))
        return total

    assert loss(temperature) < min(loss(temperature * 1.02), loss(temperature / 1.02), loss(1.0))


def test_the_marks_know_the_images_and_their_parts(database: Database, home: Home, tmp_path: Path) -> None:
    folder = export_model(database, home, STUDY, tmp_path / "model").folder
    description = read_description(folder)
    assert description.marks_sha256 is not None
    known = read_marks(folder / "image-marks.txt", description.marks_sha256)
    record = read_study(database, STUDY)
    images = load_planned_images(record, read_parts(database, STUDY), stored_spec(record.spec), home)
    dataset = open_dataset("digits-lt", None)
    results = predict_images(open_model(folder, CPU), dataset, images.split.test.tolist())
    marks = [result.mark for result in results if isinstance(result, Predicted)]
    assert known.count(marks) == {"test": len(images.split.test)}


def test_what_is_missing_here_is_told(database: Database, home: Home, tmp_path: Path) -> None:
    files = Outcomes(database).read(kept(database).point_id).files or []
    for file in files:
        (Path(home.artifacts) / file["artifact_id"]).unlink()
    shutil.rmtree(home.cache)
    done = export_model(database, home, STUDY, tmp_path / "model")
    assert len(done.notes) == 2
    assert "its predictions are not in the artifact store" in done.notes[0]
    assert "not in the cache of this machine" in done.notes[1]
    description = read_description(done.folder)
    assert (description.temperature, description.marks_sha256) == (None, None)
    assert not (done.folder / "image-marks.txt").exists()
    assert "No temperature could be fitted" in (done.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "are not in"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "are damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + b"abcd"), "are not those that were tested"),
    ],
)
def test_weights_that_are_not_the_tested_ones_are_not_exported(
    database: Database, home: Home, tmp_path: Path, spoil, said: str
) -> None:
    point = kept(database)
    spoil(Path(home.artifacts) / str(point.weights))
    with pytest.raises(StudyError, match=f"study {STUDY}, trial {point.trial_number}: .*{said}"):
        export_model(database, home, STUDY, tmp_path / "model")
    assert not [path for path in tmp_path.iterdir() if "model" in path.name]


def test_a_models_folder_is_replaced_whole_or_not_at_all(
    database: Database, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "best"
    folder.mkdir(parents=True)
    export_model(database, home, STUDY, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(model_export, "card_text", full)
        with pytest.raises(StudyError, match="cannot be written: No space left on device; name another folder"):
            export_model(database, home, STUDY, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    inode = folder.stat().st_ino
    export_model(database, home, STUDY, folder)
    assert folder.stat().st_ino != inode
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_a_swap_that_fails_leaves_the_old_model(
    database: Database, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_model(database, home, STUDY, tmp_path / "model").folder
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if str(source).endswith(".new"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(model_export.os, "replace", fail)
    with pytest.raises(StudyError, match="Input/output error"):
        export_model(database, home, STUDY, folder)
    assert open_model(folder, CPU).description.origin["study"] == STUDY
    assert [path.name for path in tmp_path.iterdir() if "model" in path.name] == ["model"]


def test_what_is_no_models_folder_is_left_alone(database: Database, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    extended = export_model(database, home, STUDY, tmp_path / "extended").folder
    (extended / "notes.txt").write_text("mine")
    half = tmp_path / "half"
    half.mkdir()
    (half / "README.md").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for folder, said in (
        (file, "is no folder"),
        (link, "is no folder"),
        (full, "holds notes.txt"),
        (extended, "holds notes.txt"),
        (half, "holds no whole model"),
    ):
        with pytest.raises(StudyError, match=f"--model: .*{folder.name} {said}; name"):
            export_model(database, home, STUDY, folder)
    assert file.read_text() == (full / "notes.txt").read_text() == (half / "README.md").read_text() == "mine"
    assert (extended / "model.json").is_file()


def test_the_command_names_what_it_wrote(lmf: Lmf, database: Database, tmp_path: Path) -> None:
    point = kept(database)
    ran = lmf("export", "--model", str(tmp_path / "model"))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{tmp_path / 'model'}: model of study {STUDY}, trial {point.trial_number} ({point.key})\n"
    by_number = lmf("export", STUDY, "--model", str(tmp_path / "other"), "--trial", str(point.trial_number))
    assert by_number.code == 0
    assert "and this trial were chosen" in (tmp_path / "model" / "README.md").read_text()
    assert "and this trial were chosen" not in (tmp_path / "other" / "README.md").read_text()
    other = 1 - (point.trial_number or 0)
    said = lmf("export", "--model", str(tmp_path / "third"), "--trial", str(other)).refusal()
    assert f"the weights of trial {other} were not kept; those of {point.trial_number} were, and --trial" in said
    assert "--keep-weights" in said
    assert "goes with neither --output" in lmf("export", "--model", str(tmp_path / "third"), "--json").refusal()
    assert "goes with neither" in lmf("export", "--model", str(tmp_path / "third"), "--output", "x").refusal()
    assert "--trial: goes with --model only" in lmf("export", "--trial", "1").refusal()
    assert "no study named nothing" in lmf("export", "nothing", "--model", str(tmp_path / "third")).refusal()


def test_exactly_one_study_must_be_meant(lmf: Lmf, home: Home, tmp_path: Path) -> None:
    plan_real(home, short_spec(study="another", settings="joint", grid="0.5"))
    said = lmf("export", "--model", str(tmp_path / "model")).refusal()
    assert said == f"lmf: --model: takes exactly one study; name one of: {STUDY}, another"
    said = lmf("export", "another", "--model", str(tmp_path / "model")).refusal()
    assert "study another has no complete trial yet" in said


def test_the_other_forms_load_no_torch(home: Home) -> None:
    code = (
        "import sys; from study.cli.main import main\ntry: main(['export'])\nfinally: assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environment(home.root), capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


class TestChoice:
    """Which trial is the best."""

    def test_the_best_pairs_best_seed(self, records) -> None:
        # Trial 0 has the best score of all, but its pair's other seed is bad: by the mean the second pair leads.
        points = [
            records.point(1.0, 0.5, 0.9, seed=23),
            records.point(1.0, 0.5, 0.1, seed=24),
            records.point(1.0, 0.6, 0.6, seed=23),
            records.point(1.0, 0.6, 0.7, seed=24),
        ]
        assert choose_point(records.study(points), None).trial_number == 3
        assert choose_point(records.study(points), 0).trial_number == 0

    def test_what_was_kept_stands_for_the_best_whose_weights_were_not(self, records) -> None:
        points = [
            records.point(1.0, 0.5, 0.9, seed=23),
            records.point(1.0, 0.5, 0.1, seed=24, weights=None),
            records.point(1.0, 0.6, 0.6, seed=23),
            records.point(1.0, 0.6, 0.7, seed=24, weights=None),
        ]
        assert choose_point(records.study(points), None).trial_number == 2, "the other seed of the best pair"
        points[2] = replace(points[2], weights=None)
        assert choose_point(records.study(points), None).trial_number == 0, "the best one that was kept"
        with pytest.raises(StudyError, match="the weights of trial 3 were not kept; those of 0 were"):
            choose_point(records.study(points), 3)

    def test_the_best_loss_where_losses_are_compared(self, records) -> None:
        points = [
            records.point(1.0, 1.0, 0.5),
            records.point(None, None, 0.8, loss="focal"),
            records.point(None, None, 0.8, loss="ldam"),
            records.point(None, None, loss="cce"),
        ]
        spec = {**records.study().spec, "losses": ["lmf", "cce", "focal", "ldam"]}
        chosen = choose_point(records.study(points, spec=spec), None)
        assert (chosen.loss, chosen.trial_number) == ("focal", 1)

    def test_what_cannot_be_chosen_is_told(self, records) -> None:
        study = records.study([records.point(1.0, 0.5, 0.9, weights=None), records.point(1.0, 0.6)])
        for trial, said in (
            (None, "the weights of trial 0, the best on validation, were not kept; to have others, train"),
            (1, "--trial: trial 1 of study skin-small is waiting; expected a complete one"),
            (7, "--trial: study skin-small has no trial 7; `lmf study show skin-small` lists all"),
        ):
            with pytest.raises(StudyError) as error:
                choose_point(study, trial)
            assert said in str(error.value)
        with pytest.raises(StudyError, match="has no complete trial yet"):
            choose_point(records.study([records.point()]), None)
