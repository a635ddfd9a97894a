from __future__ import annotations

import csv
import subprocess
import sys

import pytest
from lmf_testing.stored import store_study

from storage.artifacts import Artifacts
from storage.database import Database
from study.reporting import reading
from study.reporting.reading import predicted_points, read_studies
from study.reporting.statistics import summarize

CLASSES = ("nv", "mel")


@pytest.fixture
def lab(tmp_path):
    """A database and an artifact store."""
    database = Database.open(f"sqlite:///{tmp_path / 'lmf.db'}")
    yield database, Artifacts.open(str(tmp_path / "artifacts"))
    database.close()


def stored(lab, study, with_predictions=()):
    """Write a study as it would be after its training, with a table of predictions for some of its points."""
    database, artifacts = lab
    files = {}
    for point_id in with_predictions:
        files[point_id] = [{"artifact_id": f"p-{point_id}", "filename": "predictions.csv"}]
        write_predictions(artifacts, f"p-{point_id}", study)
    with database.begin() as connection:
        store_study(connection, study, files=files)


def write_predictions(artifacts, artifact_id, study):
    path = artifacts.local_path(artifact_id)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "image", "class", "predicted", *(f"p({name})" for name in study.class_names)])
        for split in ("val", "test"):
            for label, count in enumerate(study.counts[split]):
                for number in range(count):
                    name = study.class_names[label]
                    writer.writerow([split, f"{name}-{number}.png", name, name, 0.9 - 0.8 * label, 0.1 + 0.8 * label])


def test_the_predictions_of_the_best_are_read_without_the_images_names(lab, records):
    points = [records.point(1.0, 0.5, 0.8, seed=seed) for seed in (1, 2)] + [records.point(1.0, 0.6, 0.5)]
    study = records.study(points)
    stored(lab, study, {point.point_id for point in points})
    (data,) = read_studies(lab[0], [study.name], lab[1])
    assert list(data.predictions) == [point.point_id for point in points[:2]]
    test = data.predictions[points[0].point_id].test
    assert test.truth.tolist() == [0] * 8 + [1] * 4
    assert test.predicted.tolist() == test.truth.tolist()
    assert test.images is None


def test_what_is_missing_is_a_reason(lab, records):
    point = records.point(1.0, 0.5, 0.8)
    study = records.study([point])
    stored(lab, study)
    (data,) = read_studies(lab[0], [study.name], lab[1])
    assert data.predictions[point.point_id].reason == "the trial stored no predictions"
    assert data.cams is None


def test_without_an_artifact_store_there_are_no_predictions(lab, records):
    study = records.study([records.point(1.0, 0.5, 0.8)])
    stored(lab, study)
    (data,) = read_studies(lab[0], [study.name, study.name])
    assert (data.predictions, data.cams) == ({}, None)


def test_of_compared_losses_all_predictions_are_read_up_to_a_limit(records, monkeypatch):
    points = [
        records.point(None, None, 0.5, loss=loss, seed=seed, settings=())
        for seed in range(3)
        for loss in ("cce", "focal")
    ]
    summary = summarize(records.study(points, spec={"losses": ["cce", "focal"]}))
    assert set(predicted_points(summary)) == {point.point_id for point in points}
    monkeypatch.setattr(reading, "MOST_PREDICTIONS", 4)
    assert len(predicted_points(summary)) == 4
    assert predicted_points(summarize(records.study())) == ()


def test_the_closest_rivals_predictions_are_read_as_well(records):
    scores = {0.5: (0.80, 0.84), 0.6: (0.79, 0.81), 0.7: (0.50, 0.53)}
    points = [
        records.point(1.0, beta, score, seed=seed) for beta, both in scores.items() for seed, score in enumerate(both)
    ]
    assert predicted_points(summarize(records.study(points))) == tuple(point.point_id for point in points[:4])


def test_reading_and_writing_a_report_loads_no_torch():
    code = (
        "import sys, study.reporting.reading, study.reporting.page, study.reporting.files, "
        "study.reporting.static_files, study.reporting.cams_html, study.dashboard.figures, study.export; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
