"""Ids in the artifact store."""

from __future__ import annotations

from storage.file_names import checkpoint_id, describe_file, file_id


def test_a_file_keeps_its_id_from_one_version_to_the_next():
    assert file_id("skin", "p0", 1, "predictions.csv", "t") == "86ffbbbb-45ee-5c72-9e66-124ecfc00020"


def test_whatever_differs_gives_another_id():
    ids = {
        file_id(*named)
        for named in (
            ("skin", "p0", 1, "predictions.csv", "t"),
            ("skin2", "p0", 1, "predictions.csv", "t"),
            ("skin", "p1", 1, "predictions.csv", "t"),
            ("skin", "p0", 2, "predictions.csv", "t"),
            ("skin", "p0", 1, "weights.safetensors", "t"),
            ("skinp", "0", 1, "predictions.csv", "t"),
            ("skin", "p0", 1, "predictions.csv", "u"),
        )
    }
    assert len(ids) == 7


def test_a_checkpoint_is_named_by_its_attempt():
    assert checkpoint_id("token-1") == "checkpoint-token-1"


def test_a_file_is_described_as_optuna_wants_it():
    assert describe_file("id-1", "predictions.csv") == {
        "artifact_id": "id-1",
        "filename": "predictions.csv",
        "mimetype": "text/csv",
        "encoding": None,
    }
    assert describe_file("id-2", "weights.safetensors")["mimetype"] == "application/octet-stream"
    assert describe_file("id-3", "log.txt.gz")["encoding"] == "gzip"
