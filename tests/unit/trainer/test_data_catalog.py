"""From a dataset's name to the dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lmf_testing.images import write_classes

from trainer.data.catalog import DATASET_FORMS, dataset_title, open_dataset
from trainer.errors import DataError


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    """A folder `skin` with two classes and a table of them."""
    root = write_classes(tmp_path / "skin", {"NV": 2, "DF": 1})
    (root / "ham.csv").write_text("image,label,lesion_id\nNV/000,1,a\nNV/001,2,b\nDF/000,2,c\n")
    return root


def test_digits_need_no_data_and_mind_none(tmp_path: Path) -> None:
    assert open_dataset("digits-lt", None).name == "digits-lt"
    assert len(open_dataset("digits-lt", tmp_path)) == 545


@pytest.mark.parametrize("name", ["folder", "folder:", "folder:{skin}", "folder:."])
def test_a_folder_by_any_spelling(skin: Path, name: str) -> None:
    dataset = open_dataset(name.format(skin=skin), skin)
    assert dataset.class_names == ("DF", "NV")
    assert dataset.name == "skin"


def test_a_relative_path_lies_below_data(skin: Path) -> None:
    assert open_dataset("folder:skin", skin.parent).name == "skin"
    assert open_dataset("csv:skin/ham.csv", skin.parent).image_names == (
        "skin/DF/000.png",
        "skin/NV/000.png",
        "skin/NV/001.png",
    )


def test_without_data_a_relative_path_lies_below_the_current_folder(
    skin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(skin.parent)
    assert open_dataset("folder:skin", None).class_names == ("DF", "NV")
    assert open_dataset("csv:skin/ham.csv", None).class_names == ("1", "2")


def test_a_path_may_start_at_home(skin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(skin.parent))
    assert open_dataset("folder:~/skin", None).name == "skin"


@pytest.mark.parametrize("name", ["csv", "csv:", "csv:{skin}/ham.csv", "csv:ham.csv"])
def test_a_table_by_any_spelling(skin: Path, name: str) -> None:
    dataset = open_dataset(name.format(skin=skin), skin)
    assert dataset.class_names == ("1", "2")
    assert dataset.image_names == ("DF/000.png", "NV/000.png", "NV/001.png")


def test_data_may_be_the_table_itself(skin: Path) -> None:
    dataset = open_dataset("csv", skin / "ham.csv")
    assert dataset.name == "ham"
    assert dataset.image_names[0] == "DF/000.png"


def test_images_of_a_table_lie_below_data(skin: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "ham.csv"
    table.parent.mkdir()
    (skin / "ham.csv").rename(table)
    assert open_dataset(f"csv:{table}", skin).image_names[0] == "DF/000.png"
    with pytest.raises(DataError, match=r"no image NV/000 below .*elsewhere"):
        open_dataset(f"csv:{table}", None)


def test_which_table_is_meant_must_be_clear(skin: Path) -> None:
    (skin / "other.TSV").write_text("x")
    (skin / ".hidden.csv").write_text("x")
    with pytest.raises(DataError, match=r"expected one table \(.csv or .tsv\), found ham.csv, other.TSV; name it"):
        open_dataset("csv", skin)
    with pytest.raises(DataError, match="found none; name it as csv:PATH"):
        open_dataset("csv", skin / "NV")


def test_groups_are_for_tables(skin: Path) -> None:
    assert open_dataset("csv:ham.csv", skin, group="lesion").groups == ("c", "a", "b")
    for name in ("folder", "digits-lt"):
        with pytest.raises(DataError, match=f"--group lesion: {name} has no groups"):
            open_dataset(name, skin, group="lesion")


@pytest.mark.parametrize("name", ["ham", "", "Folder:x", "digits-lt:x", "/data/skin"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(name, None)
    assert str(caught.value) == f"unknown dataset {name!r}; known are digits-lt, folder:PATH, csv:PATH"
    assert tuple(DATASET_FORMS) == ("digits-lt", "folder:PATH", "csv:PATH")


@pytest.mark.parametrize("form", ["folder", "csv"])
def test_without_any_path_the_place_is_missing(form: str) -> None:
    with pytest.raises(DataError, match=f"{form}: nothing says where the data is; write {form}:PATH or add --data DIR"):
        open_dataset(form, None)


@pytest.mark.parametrize(
    ("name", "data", "title"),
    [
        ("digits-lt", None, "digits-lt"),
        ("folder:/a/b/skin", None, "skin"),
        ("folder:/a/b/skin/", "/c", "skin"),
        ("folder:b/v1.2", "/c", "v1.2"),
        ("folder", "/c/skin", "skin"),
        ("folder:..", "/c/skin", "c"),
        ("folder:/", None, "folder"),
        ("csv:/x/ham.csv", None, "ham"),
        ("csv:ham.TSV", "/c", "ham"),
        ("csv", "/c/derma", "derma"),
        ("csv", "/c/derma.csv", "derma"),
    ],
)
def test_titles_are_short(name: str, data: str | None, title: str) -> None:
    assert dataset_title(name, None if data is None else Path(data)) == title


def test_a_title_needs_a_known_name() -> None:
    with pytest.raises(DataError, match="unknown dataset 'x'"):
        dataset_title("x")


def test_finding_and_preparing_data_loads_no_torch_and_no_scikit_learn() -> None:
    modules = "trainer.data.catalog, trainer.data.cache, trainer.data.fingerprint, trainer.data.splits"
    code = f"import sys, {modules}; print(sorted({{'torch', 'timm', 'sklearn', 'optuna'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
