from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from storage.artifacts import Artifacts
from study.reporting.predictions import FILE_NAME, parse_predictions, read_predictions

NAMES = ("NV", "MEL")
COUNTS = {"val": (1, 1), "test": (2, 1)}
ROWS = [
    ("val", "a.png", "NV", "NV", "0.75", "0.25"),
    ("val", "b.png", "MEL", "NV", "0.6", "0.4"),
    ("test", "c.png", "MEL", "MEL", "0.1", "0.9"),
    ("test", "d.png", "NV", "NV", "1", "0"),
    ("test", "e.png", "NV", "MEL", "0.4999999", "0.5000001"),
]


def table(rows=ROWS, names=NAMES):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["split", "image", "class", "predicted", *(f"p({name})" for name in names)])
    writer.writerows(rows)
    return text.getvalue()


def changed(row, column, value):
    rows = [list(row) for row in ROWS]
    rows[row][column] = value
    return table(rows)


@pytest.fixture
def study(records):
    return records.study(counts={"train": (4, 2), **COUNTS})


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts.open(str(tmp_path / "artifacts"))


def store(artifacts, content, tmp_path):
    path = tmp_path / FILE_NAME
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    artifacts.put("file-1", path)


def test_each_split_has_its_images_their_classes_and_their_probabilities(study, artifacts, tmp_path):
    store(artifacts, table(), tmp_path)
    found = read_predictions(artifacts, "file-1", study)
    assert found.reason is None
    assert (found.val.split, found.test.split) == ("val", "test")
    assert found.val.truth.tolist() == [0, 1]
    assert found.test.truth.tolist() == [1, 0, 0]
    assert found.test.probabilities.tolist() == [[0.1, 0.9], [1.0, 0.0], [0.4999999, 0.5000001]]
    assert found.test.images == ("c.png", "d.png", "e.png")
    assert found.test.predicted.tolist() == [1, 0, 1]
    assert found.test.confidence.tolist() == [0.9, 1.0, 0.5000001]


def test_no_name_of_an_image_is_kept_where_none_is_wanted(study, artifacts, tmp_path):
    store(artifacts, table(), tmp_path)
    found = read_predictions(artifacts, "file-1", study, images=False)
    assert (found.val.images, found.test.images) == (None, None)
    assert found.test.truth.tolist() == [1, 0, 0]


def test_what_a_training_writes_can_be_read(tmp_path):
    from study.objective import _write_predictions

    generator = np.random.default_rng(1)
    names = ('with "quotes", comma', "line\nbreak", "<b>")
    data = SimpleNamespace(image_names=[f"{n},\n.png" for n in range(9)], labels=np.arange(9) % 3, class_names=names)
    splits = {"val": np.array([0, 4, 5]), "test": np.array([8, 2, 6, 1])}
    probabilities = {name: generator.dirichlet([0.2] * 3, len(rows)).astype("f4") for name, rows in splits.items()}
    path = tmp_path / FILE_NAME
    _write_predictions(path, data, [(name, splits[name], probabilities[name]) for name in splits])

    found = parse_predictions(path.read_bytes().decode(), names, {"val": (1, 1, 1), "test": (1, 1, 2)})

    assert found.reason is None
    assert found.test.truth.tolist() == [2, 2, 0, 1]
    assert found.test.images == ("8,\n.png", "2,\n.png", "6,\n.png", "1,\n.png")
    np.testing.assert_allclose(found.test.probabilities, probabilities["test"], rtol=1e-6)
    assert found.val.predicted.tolist() == probabilities["val"].argmax(axis=1).tolist()


DAMAGED = {
    "empty": ("", "the table is empty"),
    "columns of other classes": (table(names=("NV", "BCC")), "of other classes"),
    "classes in another order": (table(names=("MEL", "NV")), "of other classes"),
    "a class too few": (table([row[:-1] for row in ROWS], ("NV",)), "of other classes"),
    "cut within a row": (table()[:-12], "the last row is cut off"),
    "a row too short": (table([*ROWS[:-1], ROWS[-1][:5]]), "damaged in row 6"),
    "cut within a number": (table()[:-6], "the last row is cut off"),
    "cut between rows": (table(ROWS[:-1]), "another number of them"),
    "no test image": (table(ROWS[:2]), "no test image"),
    "unknown split": (changed(1, 0, "train"), "damaged in row 3"),
    "unknown class": (changed(1, 2, "BCC"), "damaged among the val images"),
    "no number": (changed(2, 5, "high"), "damaged among the test images"),
    "not a number": (changed(2, 5, "nan"), "no distribution"),
    "negative": (changed(2, 4, "-0.1"), "no distribution"),
    "above one": (changed(2, 5, "1.9"), "no distribution"),
    "another sum": (changed(2, 5, "0.8"), "no distribution"),
    "another class": (changed(3, 2, "MEL"), "another number of them"),
    "a zero byte": (changed(1, 1, "\0"), None),
    "a field without end": (table() + '"' + "x" * 200_000, "damaged"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_table_that_is_not_whole_gives_a_reason(study, artifacts, tmp_path, what):
    text, reason = DAMAGED[what]
    store(artifacts, text, tmp_path)
    found = read_predictions(artifacts, "file-1", study)
    if reason is None:
        assert found.reason is None
        return
    assert (found.val, found.test) == (None, None)
    assert reason in found.reason


def test_a_file_that_is_no_text_or_not_there_gives_a_reason(study, artifacts, tmp_path):
    store(artifacts, b"\x89PNG\xff\xfe", tmp_path)
    assert "not a text file" in read_predictions(artifacts, "file-1", study).reason
    assert "not in the artifact store" in read_predictions(artifacts, "file-2", study).reason
    assert "stored no predictions" in read_predictions(artifacts, None, study).reason


def test_a_store_that_fails_gives_a_reason_without_its_words(study, tmp_path):
    class Broken:
        def open_reader(self, artifact_id):
            raise TimeoutError("https://key:secret@bucket did not answer")

    found = read_predictions(Artifacts("s3://bucket", Broken()), "file-1", study)
    assert found.reason == "its predictions cannot be read (TimeoutError)"


def test_a_store_without_files_of_its_own_is_read_too(study):
    class Bucket:
        def open_reader(self, artifact_id):
            return io.BytesIO(table().encode())

    assert read_predictions(Artifacts("s3://bucket", Bucket()), "file-1", study).val.truth.tolist() == [0, 1]


def test_counts_that_an_older_study_lacks_are_not_asked_for():
    assert parse_predictions(table(), NAMES).reason is None
    assert parse_predictions(table(), NAMES, {"val": (1, 1)}).reason is None


def test_reading_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from study.reporting import predictions, calibration\n"
        "assert not {'torch', 'optuna', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
