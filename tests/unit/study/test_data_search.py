"""Which of the paper's datasets are found below a folder, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lmf_testing.paper_data import write_covid, write_ham

from study.data_search import DataAtHand, data_roots, search_data
from study.errors import StudyError
from study.paper.names import DATASETS

COVID, HAM = "covid19-radiography", "ham10000"


def test_datasets_are_found_in_folders_of_any_name(tmp_path: Path) -> None:
    write_covid(tmp_path / "b" / "unpacked")
    write_ham(tmp_path / "a skin set", 6)
    (tmp_path / ".hidden").mkdir()
    found, missing = search_data(DATASETS, (tmp_path,), 23)
    assert found == (
        DataAtHand(HAM, tmp_path / "a skin set", 7, {"train": 28, "val": 7, "test": 7}),
        DataAtHand(COVID, tmp_path / "b", 4, {"train": 8, "val": 4, "test": 4}),
    )
    assert found[0].images == 42
    assert [(one.dataset, one.is_there) for one in missing] == [("odir5k", False), ("isic2019", False)]
    assert "full_df.csv is not below it" in missing[0].reason
    assert missing[0].reason.count("it can be had from Kaggle andrewmvd/ocular-disease-recognition-odir5k") == 1


def test_the_folder_of_a_dataset_may_be_named_itself(tmp_path: Path) -> None:
    write_covid(tmp_path)
    (only,), _ = search_data([COVID], (tmp_path,), 23)
    assert only.folder == tmp_path


def test_a_folder_that_is_called_like_the_dataset_goes_first(tmp_path: Path) -> None:
    write_ham(tmp_path / "archive")
    write_ham(tmp_path / "my HAM10000")
    (only,), _ = search_data([HAM], (tmp_path,), 23)
    assert only.folder == tmp_path / "my HAM10000"


def test_the_first_folder_that_can_be_trained_on_is_taken(tmp_path: Path) -> None:
    write_covid(tmp_path / "covid-1", 1)
    write_covid(tmp_path / "covid-2")
    (only,), _ = search_data([COVID], (tmp_path,), 23)
    assert only.folder == tmp_path / "covid-2"


def test_what_is_there_but_of_no_use_is_named_with_the_reason(tmp_path: Path) -> None:
    small = write_covid(tmp_path / "small-covid", 3)
    half = write_covid(tmp_path / "half-covid", 8, ("COVID", "Normal"))
    found, (only,) = search_data([COVID], (tmp_path,), 23)
    assert found == ()
    assert only.is_there
    assert f"{small}: each class needs at least 4 images" in only.reason
    assert f"{half}: {COVID}: 2 errors" in only.reason
    assert f"; {tmp_path}: " not in only.reason, "two halves together are not tried as one dataset"
    (kept,), _ = search_data([COVID], (tmp_path,), 23, drop_empty=True)
    assert (kept.folder, kept.classes, kept.images) == (half, 2, 16)


def test_several_roots_are_searched_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_covid(first / "covid")
    write_covid(second / "covid")
    write_ham(second / "ham")
    monkeypatch.setenv("LMF_DATA", f"{first}{os.pathsep}{second}")
    roots = data_roots(None)
    assert roots == (first, second)
    found, _ = search_data([HAM, COVID], roots, 23)
    assert [data.folder for data in found] == [second / "ham", first / "covid"]
    assert data_roots(str(second)) == (second,), "--data wins"


def test_a_root_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMF_DATA", raising=False)
    with pytest.raises(StudyError, match=r"^--data: is missing; give the folder that holds the folders"):
        data_roots(None)
    with pytest.raises(StudyError, match=f"^--data: {tmp_path / 'gone'} is no folder"):
        data_roots(str(tmp_path / "gone"))
    monkeypatch.setenv("LMF_DATA", str(tmp_path / "gone"))
    with pytest.raises(StudyError, match=r"^LMF_DATA: "):
        data_roots(None)


def test_the_real_subsets_are_found(test_data: Path) -> None:
    found, (covid,) = search_data(DATASETS, (test_data / "data" / "images",), 23)
    assert [(data.dataset, data.images, data.classes) for data in found] == [
        ("odir5k", 720, 8),
        (HAM, 1200, 7),
        ("isic2019", 701, 8),
    ]
    assert (covid.dataset, covid.is_there) == (COVID, True)
    assert "no image of the class Lung_Opacity" in covid.reason
    assert "COVID has 1" in covid.reason
