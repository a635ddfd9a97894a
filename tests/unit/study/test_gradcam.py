"""`lmf gradcam` within this process, on a real comparison of two losses that is trained once."""

from __future__ import annotations

import shutil
import sys
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from lmf_testing.real import home_of, plan_real
from optuna_dashboard.artifact._backend import get_study_artifact_meta, list_study_artifacts
from PIL import Image
from safetensors.torch import load_file, save_file

from storage.artifacts import Artifacts
from storage.database import Database
from storage.file_checks import check_files
from storage.files_of_points import read_files
from storage.queries import read_artifact_ids, read_study
from storage.schema import PointRow
from storage.trials import TrialMirror
from study.errors import StudyError
from study.explaining.boxes import BoxedImages, read_boxes
from study.explaining.document import DOCUMENT_FILE, SHEET_FILE, Box
from study.explaining.drawing import MOST_BYTES
from study.gradcam import GradcamOptions, explain_study
from study.images import load_planned_images
from study.plan import stored_spec
from study.reporting.cams import read_cams
from study.run_options import RunOptions
from study.serving import work_on_studies
from study.spec_input import build_study
from trainer.errors import ModelError, TrainerError
from trainer.gradcam import explain
from trainer.models import build_model

STUDY = "digits-losses"
FLAGS = {"study": STUDY, "losses": "cce,lmf", "alpha": "0.8", "beta": "1.2", "epochs": "2", "image_size": "32"}
FLAGS |= {"batch_size": "64", "threads": "1", "precision": "fp32"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A home with the comparison, trained."""
    folder = tmp_path_factory.mktemp("trained")
    home = home_of(folder, f"sqlite:///{folder / 'lmf.db'}")
    threads = torch.get_num_threads()
    spec, _ = build_study("digits-lt", FLAGS, resolve_model=lambda name: name, comparing=True)
    plan_real(home, spec)
    database = Database.open(home.storage_url, create=False)
    work_on_studies(home, database, [STUDY], RunOptions(device="cpu"), threading.Event())
    database.close()
    torch.set_num_threads(threads)
    return folder


class Lab:
    """A copy of the trained home."""

    def __init__(self, folder: Path) -> None:
        self.home = home_of(folder, f"sqlite:///{folder / 'lmf.db'}")
        self.database = Database.open(self.home.storage_url, create=False)
        self.artifacts = Artifacts.open(self.home.artifacts)

    @property
    def record(self):
        return read_study(self.database, STUDY)

    def explain(self, **options):
        return explain_study(self.database, self.home, STUDY, GradcamOptions(**options))

    def sheet(self, **options):
        return read_cams(self.database, self.artifacts, STUDY, **options)

    def point(self, loss):
        return next(point for point in self.record.points if point.loss == loss)

    def stored(self):
        return {path.name for path in Path(self.home.artifacts).iterdir()}

    def forget(self, **values):
        with self.database.begin() as connection:
            connection.execute(sa.update(PointRow).values(**values))


@pytest.fixture
def lab(trained, tmp_path):
    folder = tmp_path / "home"
    shutil.copytree(trained, folder)
    threads = torch.get_num_threads()
    lab = Lab(folder)
    yield lab
    lab.database.close()
    torch.set_num_threads(threads)


def test_what_is_kept_is_read_back_as_it_was_computed(lab):
    before = lab.stored()
    explained = lab.explain(images=4)
    sheet = lab.sheet()
    assert [column.name for column in sheet.columns] == ["LMF (α = 0.8, β = 1.2)", "CCE"]
    assert [column.trial for column in sheet.columns] == [lab.point(loss).trial_number for loss in ("lmf", "cce")]
    assert len(sheet.rows) == 4
    assert (sheet.left_out, sheet.remarks, sheet.explains) == (0, (), "predicted")
    assert sheet.rule == explained.documents[0].rule
    assert set(sheet.versions) == {"lmf", "torch", "timm", "captum"}
    for document, column in zip(explained.documents, range(2), strict=True):
        for image, row in zip(document.images, sheet.rows, strict=True):
            cell = row.cells[column]
            assert (row.image, row.truth) == (image.image, image.truth)
            assert (cell.predicted, cell.probability, cell.explained) == (
                image.predicted,
                image.probability,
                image.predicted,
            )
            assert cell.is_right == (image.predicted == image.truth)
    # Eleven pictures, a document for each of two trials: the image itself is kept once.
    assert len(lab.stored() - before) == explained.files == 4 + 2 * 4 + 1 + 2
    assert lab.stored() == set(read_artifact_ids(lab.database, STUDY))
    assert check_files(lab.database, lab.home.artifacts) == []
    assert list(lab.home.scratch.iterdir()) == []


def test_the_pictures_show_the_maps_of_the_stored_weights(lab):
    lab.explain(images=2)
    sheet = lab.sheet()
    spec = stored_spec(lab.record.spec)
    with lab.database.read() as connection:
        parts = connection.scalar(sa.text("SELECT parts FROM lmf_datasets"))
    prepared = load_planned_images(lab.record, parts, spec, lab.home).prepared
    at = [prepared.image_names.index(row.image) for row in sheet.rows]
    model = build_model(spec.recipe, 10)
    model.load_state_dict(load_file(lab.artifacts.local_path(lab.point("cce").weights)))
    targets = [int(row.cells[1].explained) for row in sheet.rows]
    expected = explain(model, np.array(prepared.images[at]), targets, torch.device("cpu"))
    for number, row in enumerate(sheet.rows):
        cell = row.cells[1]
        assert cell.probability == pytest.approx(expected.probabilities[number, targets[number]], abs=1e-5)
        assert cell.is_empty == (not expected.maps[number].any())
        image, overlay = (
            np.asarray(Image.open(BytesIO(content))).astype(int) for content in (row.picture, cell.picture)
        )
        assert image.shape == overlay.shape == (160, 160, 3)
        changed = np.abs(overlay - image).sum(axis=2)
        enlarged = np.asarray(Image.fromarray(expected.maps[number]).resize((160, 160)))
        if not cell.is_empty:
            assert changed[enlarged > 0.8].mean() > changed[enlarged < 0.2].mean() + 40


def test_every_picture_is_small(lab):
    lab.explain(images=6)
    for row in lab.sheet().rows:
        assert all(len(picture) <= MOST_BYTES for picture in (row.picture, *(cell.picture for cell in row.cells)))


def test_run_again_it_gives_the_same_files_and_replaces_others(lab):
    lab.explain(images=3)
    first = lab.stored()
    lab.explain(images=3)
    assert lab.stored() == first
    lab.explain(images=1, explains="true")
    sheet = lab.sheet()
    assert (len(sheet.rows), sheet.explains) == (1, "true")
    assert all(cell.explained == row.truth for row in sheet.rows for cell in row.cells)
    assert lab.stored() == set(read_artifact_ids(lab.database, STUDY))


def test_boxes_are_drawn_and_kept_and_unknown_images_are_told(lab, tmp_path):
    lab.explain(images=1)
    plain = lab.sheet().rows[0]
    path = tmp_path / "boxes.csv"
    path.write_text(f"image,x,y,width,height,label\n{plain.image},0.25,0.25,0.5,0.5,loop\nnobody,0,0,1,1,\n")
    explained = lab.explain(images=1, boxes=read_boxes(path))
    row = lab.sheet().rows[0]
    assert (row.image, row.boxes) == (plain.image, (Box(0.25, 0.25, 0.5, 0.5, "loop"),))
    assert explained.boxed == BoxedImages(unknown=("nobody",), untested=0, shown=1, waiting=0, disputed=0)
    assert "all that have boxes come first" in lab.sheet().rule
    for picture in (row.picture, row.cells[0].picture):
        red, green, _ = np.asarray(Image.open(BytesIO(picture))).astype(int)[40, 60:100].T
        assert (green > red + 60).all()


def test_all_images_with_boxes_are_shown_or_counted(lab, tmp_path):
    assert lab.explain(images=1).boxed is None
    files = read_files(lab.database, STUDY)[lab.point("lmf").point_id]
    rows = [line.split(",")[:3] for line in lab.artifacts.local_path(files["predictions.csv"]).read_text().splitlines()]
    image, split = rows[0].index("image"), rows[0].index("split")
    tested, others = ([row[image] for row in rows[1:] if (row[split] == "test") is wanted] for wanted in (True, False))
    # The digit 0 is the most frequent class: without the boxes its images would come last.
    boxed = [name for name in tested if name.startswith("0/")][:3]
    path = tmp_path / "boxes.csv"
    named = [*boxed, others[0], others[1], "nobody"]
    path.write_text("\n".join(["image,x,y,width,height", *(f"{name},0,0,1,1" for name in named)]))
    explained = lab.explain(images=2, boxes=read_boxes(path))
    assert {row.image for row in lab.sheet().rows} < set(boxed)
    assert explained.boxed == BoxedImages(unknown=("nobody",), untested=2, shown=2, waiting=1, disputed=0)
    explained = lab.explain(images=4, boxes=read_boxes(path))
    assert {row.image for row in lab.sheet().rows[:3]} == set(boxed)
    assert (explained.boxed.shown, explained.boxed.waiting) == (3, 0)


def test_another_layer_is_taken_when_it_is_named(lab):
    lab.explain(images=1, layer="blocks.1")
    assert lab.sheet().layer == "blocks.1"
    with pytest.raises(ModelError, match="--layer: the model has no layer 'none'"):
        lab.explain(layer="none")
    assert lab.sheet().layer == "blocks.1", "what was there stays"


def test_optuna_dashboard_finds_the_sheet_with_the_study(lab):
    lab.explain(images=2)
    lab.explain(images=3)
    mirror = TrialMirror.open(lab.database)
    try:
        study_id = mirror.storage.get_study_id_from_name(STUDY)
        (meta,) = list_study_artifacts(mirror.storage.get_study_system_attrs(study_id))
        assert get_study_artifact_meta(mirror.storage, study_id, meta["artifact_id"]) == meta
    finally:
        mirror.close()
    assert (meta["filename"], meta["mimetype"]) == (SHEET_FILE, "image/jpeg")
    with Image.open(lab.artifacts.local_path(meta["artifact_id"])) as picture:
        assert picture.width > 3 * 160
        assert picture.height > 3 * 160


def test_a_page_leaves_out_images_that_do_not_fit(lab):
    lab.explain(images=4)
    whole = lab.sheet()
    part = lab.sheet(most_characters=30_000)
    assert 0 < len(part.rows) < 4
    assert part.rows == whole.rows[: len(part.rows)]
    assert part.left_out == 4 - len(part.rows)


def test_nothing_is_shown_of_what_is_not_there_in_full(lab):
    assert lab.sheet() is None
    lab.explain(images=2)
    files = read_files(lab.database, STUDY)[lab.point("cce").point_id]
    path = lab.artifacts.local_path(files["gradcam-01.jpg"])
    content = path.read_bytes()
    path.unlink()
    assert lab.sheet() is None
    path.write_bytes(content)
    assert lab.sheet() is not None
    document = lab.artifacts.local_path(files[DOCUMENT_FILE])
    text = document.read_text()
    for damaged in (
        text[:-5],
        text.replace('"format": 1', '"format": 2'),
        text.replace('"mark": "', '"mark": "0'),
        "[]",
    ):
        document.write_text(damaged)
        assert lab.sheet() is None
    document.write_text(text)
    assert lab.sheet() is not None


def test_a_sheet_of_other_trials_than_the_best_by_now_says_so(lab):
    lab.explain(images=1)
    assert lab.sheet().remarks == ()
    with lab.database.begin() as connection:
        connection.execute(sa.update(PointRow).where(PointRow.loss == "cce").values(trial_number=77))
    assert lab.sheet().remarks == ("other trials are the best by now; `lmf gradcam` computes it anew",)
    lab.forget(weights=None)
    assert lab.sheet().remarks == (), "what was computed stays, though nobody could compute it anew"


def test_without_kept_weights_the_way_out_is_told(lab):
    lab.forget(weights=None)
    with pytest.raises(StudyError, match=r"^digits-losses: the weights of no trial of LMF are kept; .*--keep-weights"):
        lab.explain()


def test_weights_that_are_gone_damaged_or_others_are_refused(lab):
    path = lab.artifacts.local_path(lab.point("lmf").weights)
    state = load_file(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(StudyError, match="the weights of trial 1 are damaged: "):
        lab.explain()
    save_file({name: value + 1 if value.is_floating_point() else value for name, value in state.items()}, path)
    with pytest.raises(StudyError, match=r"the weights of trial 1 are not those that were tested \(SHA-256 differs\)"):
        lab.explain()
    path.unlink()
    with pytest.raises(StudyError, match=r"the weights of trial 1 are not in .*; LMF_ARTIFACTS names the place"):
        lab.explain()
    assert lab.sheet() is None


def test_without_predictions_no_image_is_chosen(lab):
    files = read_files(lab.database, STUDY)[lab.point("lmf").point_id]
    lab.artifacts.remove(files["predictions.csv"])
    with pytest.raises(StudyError, match="what trial 1 predicted, but its predictions are not in the artifact store"):
        lab.explain()


def test_without_captum_nothing_is_begun(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(TrainerError, match="install it with"):
        lab.explain()
    assert lab.sheet() is None


def test_probabilities_that_differ_from_the_tested_ones_are_remarked(lab):
    files = read_files(lab.database, STUDY)[lab.point("cce").point_id]
    path = lab.artifacts.local_path(files["predictions.csv"])
    lines = path.read_text().splitlines()
    even = ",".join(["0.1"] * 10)
    path.write_text("\n".join([lines[0], *(",".join(line.split(",")[:4]) + f",{even}" for line in lines[1:])]) + "\n")
    explained = lab.explain(images=2)
    (remark,) = explained.documents[1].remarks
    assert remark.startswith("trial 0 was tested in fp32; computed in fp32 here, its probabilities differ by up to")
    assert lab.sheet().remarks == (remark,)
