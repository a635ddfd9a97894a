"""From a dataset's name to the dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lmf_testing.images import write_classes
from lmf_testing.published import HAM10000, SAMPLES, Sample, refusal

from trainer.data.catalog import (
    dataset_sources,
    dataset_title,
    drop_empty_classes,
    find_dataset,
    find_source,
    open_dataset,
    refuse_errors,
)
from trainer.data.findings import Finding
from trainer.data.source import Found
from trainer.errors import DataError

FORMS = (
    "covid19-radiography",
    "digits-lt",
    "ham10000",
    "isic2019",
    "medmnist:NAME",
    "odir5k",
    "csv:PATH",
    "folder:PATH",
)


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
    dataset = open_dataset("csv:skin/ham.csv", skin.parent)
    assert dataset.image_names == ("DF/000", "NV/000", "NV/001")
    assert dataset.files == tuple(skin / f"{name}.png" for name in dataset.image_names)


def test_without_data_a_relative_path_lies_below_the_current_folder(
    skin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(skin.parent)
    assert open_dataset("folder:skin", None).class_names == ("DF", "NV")
    assert open_dataset("csv:skin/ham.csv", None).class_names == ("1", "2")


def test_a_path_may_start_at_home(skin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(skin.parent))
    assert open_dataset("folder:~/skin", None).name == "skin"
    assert "~nobody-of-that-name/skin: No such file" in refusal("folder:~nobody-of-that-name/skin", None)
    assert dataset_title("folder:~nobody-of-that-name/skin") == "skin"


@pytest.mark.parametrize("name", ["csv", "csv:", "csv:{skin}/ham.csv", "csv:ham.csv"])
def test_a_table_by_any_spelling(skin: Path, name: str) -> None:
    dataset = open_dataset(name.format(skin=skin), skin)
    assert dataset.class_names == ("1", "2")
    assert dataset.image_names == ("DF/000", "NV/000", "NV/001")


def test_data_may_be_the_table_itself(skin: Path) -> None:
    dataset = open_dataset("csv", skin / "ham.csv")
    assert dataset.name == "ham"
    assert dataset.image_names[0] == "DF/000"


def test_images_of_a_table_lie_below_data(skin: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "ham.csv"
    table.parent.mkdir()
    (skin / "ham.csv").rename(table)
    assert open_dataset(f"csv:{table}", skin).image_names[0] == "DF/000"
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
    assert open_dataset("csv:ham.csv", skin, group="lesion").groups == {"lesion": ("c", "a", "b")}
    for name in ("folder", "digits-lt"):
        with pytest.raises(DataError, match=f"--group lesion: {name} has no groups"):
            open_dataset(name, skin, group="lesion")


@pytest.mark.parametrize("name", ["ham", "", "Folder:x", "digits-lt:x", "ham10000:", "/data/skin"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    assert refusal(name, None) == f"unknown dataset {name!r}; known are {', '.join(FORMS)}"


def test_every_source_describes_itself() -> None:
    sources = dataset_sources()
    assert tuple(source.form for source in sources.values()) == FORMS
    for name, source in sources.items():
        assert source is find_source(name) is find_source(source.form)
        assert name == source.name
        assert all((source.summary, source.licence, source.origin, source.download))
    assert sources["isic2019"].groups == ("lesion",)
    assert not sources["digits-lt"].takes_data


@pytest.mark.parametrize("name", [name for name, source in dataset_sources().items() if source.needs_data])
def test_published_datasets_have_to_be_told_where_they_lie(name: str) -> None:
    name = f"{name}:x" if dataset_sources()[name].argument else name
    assert refusal(name, None) == f"{name}: nothing says where the data is; add --data DIR"


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_labels_alone_need_no_image(tmp_path: Path, sample: Sample) -> None:
    root = sample.write(tmp_path, folders={})
    dataset = open_dataset(sample.name, root, with_images=False)
    assert dataset.image_names == tuple(sorted(sample.labels))
    with pytest.raises(DataError, match="was not looked for"):
        dataset.read(0)
    assert f"holds {sample.table}, but no image; --data names the folder of both" in refusal(sample.name, root)


def test_errors_are_counted_and_the_first_are_named(skin: Path) -> None:
    def refused(*findings: Finding) -> str:
        with pytest.raises(DataError) as caught:
            refuse_errors(Found(dataset, findings))
        return str(caught.value)

    dataset = open_dataset("folder", skin)
    empty = Finding("empty class", "error", "no image of X")
    absent = Finding("row without image", "error", "no image a")
    label = Finding("bad label", "error", "no label")
    refuse_errors(Found(dataset, (Finding("image without row", "warning", "no row"),)))
    assert refused(label) == "skin: no label"
    assert refused(empty) == "skin: no image of X; --drop-empty leaves such classes out"
    assert refused(empty, absent) == "skin: 2 errors: no image of X; no image a; add the images, or remove the rows"
    many = refused(*[label] * 1234)
    assert many == f"skin: 1,234 errors: {'; '.join(['no label'] * 5)}; and 1,229 more"


def test_empty_classes_are_dropped_where_asked(skin: Path) -> None:
    (skin / "AK").mkdir()
    found = find_dataset("folder", skin)
    assert found.dataset.class_names == ("AK", "DF", "NV")
    assert [finding.kind for finding in found.findings] == ["empty class"]
    for smaller in (find_dataset("folder", skin, drop_empty=True), drop_empty_classes(found)):
        assert smaller.findings == ()
        assert smaller.dataset.class_names == ("DF", "NV")
        assert smaller.dataset.labels.tolist() == [0, 1, 1]
        assert smaller.dataset.image_names == found.dataset.image_names
    assert drop_empty_classes(smaller).dataset.labels.tolist() == [0, 1, 1]


def test_dropping_classes_does_not_hide_why_they_are_empty(tmp_path: Path) -> None:
    text = HAM10000.tables["HAM10000_metadata.csv"].replace("ISIC_", "ISIC-")
    root = HAM10000.write(tmp_path, {"HAM10000_metadata.csv": text})
    said = refusal("ham10000", root, drop_empty=True)
    assert said.startswith("ham10000: 28 errors: HAM10000_metadata.csv line 2: no image ISIC-0024333 below")
    assert len(find_dataset("ham10000", root).dataset) == 0


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "skin", {"NV": 1})
    (root / "DF").mkdir()
    said = "only the class NV has images; a classifier needs at least 2 classes"
    assert refusal("folder", root, drop_empty=True) == f"skin: {said}"
    (root / "NV" / "000.png").unlink()
    assert "skin: no class has images" in refusal("folder", root, drop_empty=True)


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
        ("csv:x/derma.v1.csv.GZ", "/c", "derma.v1"),
        ("ham10000", "/c/skin", "ham10000"),
    ],
)
def test_titles_are_short(name: str, data: str | None, title: str) -> None:
    assert dataset_title(name, None if data is None else Path(data)) == title


def test_a_title_needs_a_known_name() -> None:
    with pytest.raises(DataError, match="unknown dataset 'x'"):
        dataset_title("x")


def test_finding_and_preparing_data_loads_no_torch_and_no_scikit_learn() -> None:
    modules = "trainer.data.catalog, trainer.data.cache, trainer.data.fingerprint, trainer.data.splits"
    loaded = "sorted({'torch', 'timm', 'sklearn', 'optuna'} & set(sys.modules))"
    code = f"import sys, {modules}; trainer.data.catalog.dataset_sources(); print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
