"""A model's way home: a study of a folder of images, its model exported, used elsewhere and scored elsewhere."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.cli import Ran, run_lmf
from lmf_testing.exported import write_skin

from storage.database import Database
from storage.outcomes import Outcomes
from storage.queries import PointRecord, read_study

STUDY = "skin-test_resnet"
RUN = ("--model", "test_resnet", "--weights", "none", "--image-size", "32", "--epochs", "2", "--batch-size", "8")
FIGURES = ("--lr", "0.003", "--threads", "1", "--precision", "fp32", "--workers", "1", "--normalize")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `skin`, `home` (a study of two points) and `model`, exported from it."""
    place = tmp_path_factory.mktemp("model-folder")
    skin = write_skin(place / "skin")
    points = ("--settings", "joint", "--grid", "0.5,1.0")
    ran = run_lmf(place / "home", "run", f"folder:{skin}", *points, *RUN, *FIGURES)
    assert ran.code == 0, ran.err
    ran = run_lmf(place / "home", "export", STUDY, "--model", str(place / "model"))
    assert ran.code == 0, ran.err
    return place


def elsewhere(place: Path, *arguments: str) -> Ran:
    """Run `lmf` where there is nothing but the model's folder and images."""
    return run_lmf(place / "nowhere", *arguments, changes={"HF_HUB_OFFLINE": "1"})


def trained_point(place: Path) -> tuple[PointRecord, list[dict[str, str]]]:
    """The point whose weights are kept, and what it predicted."""
    database = Database.open(f"sqlite:///{place / 'home' / 'lmf.db'}", create=False)
    try:
        (point,) = [point for point in read_study(database, STUDY).points if point.weights]
        files = Outcomes(database).read(point.point_id).files or []
    finally:
        database.close()
    (artifact,) = [file["artifact_id"] for file in files if file["filename"] == "predictions.csv"]
    with (place / "home" / "artifacts" / artifact).open(newline="") as file:
        return point, list(csv.DictReader(file))


def test_predictions_of_the_test_images_are_the_trials_own(place: Path) -> None:
    point, rows = trained_point(place)
    tested = [row for row in rows if row["split"] == "test"]
    images = [str(place / "skin" / row["image"]) for row in tested]
    ran = elsewhere(place, "predict", str(place / "model"), *images, "--raw")
    assert (ran.code, ran.err) == (0, "")
    for row, found in zip(tested, csv.DictReader(ran.out.splitlines()), strict=True):
        assert found["predicted"] == row["predicted"]
        shares = [name for name in row if name.startswith("p(")]
        assert [found[name] for name in shares] == [row[name] for name in shares]
    assert not (place / "nowhere").exists()
    everything = elsewhere(place, "predict", str(place / "model"), str(place / "skin"), "--raw", "--json").json
    by_image = {Path(one["image"]).name: one["probabilities"] for one in everything["predictions"]}
    assert len(by_image) == 26
    for row in tested:
        others = [by_image[Path(row["image"]).name][name] for name in ("df", "mel", "nv")]
        np.testing.assert_allclose(others, [float(row[f"p({name})"]) for name in ("df", "mel", "nv")], atol=1e-6)
    assert everything["weights_sha256"] == (point.scores or {})["weights_sha256"]


def test_scoring_the_test_part_gives_the_trials_own_scores(place: Path) -> None:
    point, _ = trained_point(place)
    ran = elsewhere(place, "evaluate", str(place / "model"), f"folder:{place / 'skin'}", "--part", "test", "--json")
    assert ran.code == 0, ran.err
    test = (point.scores or {})["test"]
    for name in ("macro_f1", "accuracy", "precision", "recall", "balanced_accuracy", "macro_auc", "mcc", "kappa"):
        assert ran.json["scores"][name] == pytest.approx(test[name], abs=1e-12), name
    assert ran.json["confusion"] == test["confusion"]
    described = json.loads((place / "model" / "model.json").read_text())
    for when in ("before", "after"):
        expected = described["origin"]["calibration"][when]["ece"]
        assert ran.json["calibration"][when]["ece"] == pytest.approx(expected, abs=1e-5)
    assert ran.err == "warning: 4 of the 4 images were in the model's own test: this is no external validation\n"


def test_another_hospitals_images_are_scored(place: Path) -> None:
    other = place / "other"
    write_skin(other)
    (other / "mel").rename(other / "melanoma")
    (other / "wart").mkdir()
    shutil.copy(next((other / "nv").iterdir()), other / "wart" / "1.png")
    shutil.rmtree(other / "df")
    dataset = f"folder:{other}"
    ran = elsewhere(place, "evaluate", str(place / "model"), dataset, "--map", "melanoma=mel")
    assert ran.code == 0, ran.err
    for said in ("20 images of 2 classes", "left out: 1 image of wart", "no image of: df", "melanoma"):
        assert said in ran.out
    assert "14 of the 20 images were in the model's training" in ran.err
    assert (
        elsewhere(place, "evaluate", str(place / "model"), dataset, "--map", "mole=mel")
        .refusal()
        .startswith("lmf: --map: 'mole' is no class of the dataset, whose classes are melanoma, nv, wart")
    )


def test_a_damaged_model_is_refused(place: Path) -> None:
    broken = place / "broken"
    shutil.copytree(place / "model", broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-7])
    said = elsewhere(place, "predict", str(broken), str(place / "skin")).refusal()
    assert "model.safetensors: cannot be read" in said


def test_real_images_keep_their_preprocessing(test_data: Path, tmp_path: Path) -> None:
    """JPEGs of a camera's size, shrunk while they are decoded: on the study's test images, the very predictions."""
    source = test_data / "data" / "images" / "HAM10000"
    ran = run_lmf(tmp_path / "home", "run", "ham10000", "--data", str(source), "--grid", "1.0", "--study", "ham",
                  *RUN, *FIGURES, "--epochs", "1")  # fmt: skip
    assert ran.code == 0, ran.err
    ran = run_lmf(tmp_path / "home", "export", "ham", "--model", str(tmp_path / "model"))
    assert ran.code == 0, ran.err
    ran = run_lmf(tmp_path / "home", "evaluate", str(tmp_path / "model"), "ham10000", "--data", str(source),
                  "--part", "test", "--json", "--output", str(tmp_path / "out.csv"))  # fmt: skip
    assert ran.code == 0, ran.err
    scores = json.loads((tmp_path / "model" / "model.json").read_text())["origin"]["scores"]["test"]
    assert ran.json["confusion"] == scores["confusion"]
    assert ran.json["scores"]["macro_auc"] == pytest.approx(scores["macro_auc"], abs=1e-12)
    assert ran.json["own_images"] == {"test": ran.json["images"]}
