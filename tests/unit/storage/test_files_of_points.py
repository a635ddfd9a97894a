"""Which files points have, on both backends."""

from __future__ import annotations

from sqlalchemy import event

from storage.file_names import describe_file
from storage.files_of_points import read_files

STUDY = "skin-small"


def finish_with(lab, lease, *files):
    stored = [describe_file(artifact_id, filename) for filename, artifact_id in files]
    lab.ledger.finish(lease, 0.5, {"val": {}}, stored, "weights-1")
    lab.ledger.close(lease)


def test_files_come_by_point_and_name(lab):
    study_id = lab.plant(4)
    first, second, third = (lab.claim(study_id) for _ in range(3))
    finish_with(lab, first, ("predictions.csv", "file-1"), ("scores.json", "file-2"))
    finish_with(lab, second)
    finish_with(lab, third, ("predictions.csv", "file-3"))
    assert read_files(lab.database, STUDY) == {
        first.point_id: {"predictions.csv": "file-1", "scores.json": "file-2"},
        third.point_id: {"predictions.csv": "file-3"},
    }


def test_files_of_other_studies_are_left_out(lab):
    finish_with(lab, lab.claim(lab.plant(1, "skin-large")), ("predictions.csv", "file-1"))
    lab.plant(1)
    assert read_files(lab.database, STUDY) == {}
    assert list(read_files(lab.database, "skin-large").values()) == [{"predictions.csv": "file-1"}]
    assert read_files(lab.database, "nobody's") == {}


def test_one_query_reads_them_all(lab):
    study_id = lab.plant(3)
    for number in range(3):
        finish_with(lab, lab.claim(study_id), ("predictions.csv", f"file-{number}"))
    asked = []

    def listen(*arguments):
        asked.append(arguments[2])

    event.listen(lab.database.engine, "before_cursor_execute", listen)
    try:
        assert len(read_files(lab.database, STUDY)) == 3
    finally:
        event.remove(lab.database.engine, "before_cursor_execute", listen)
    assert len([statement for statement in asked if "lmf_points" in statement]) == 1
