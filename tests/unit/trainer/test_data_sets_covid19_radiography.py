"""The COVID-19 Radiography Database in every form, and what is said of damaged ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from lmf_testing.images import write_classes, write_picture
from lmf_testing.published import labels_of, messages, refusal, split_of

from trainer.data.catalog import find_dataset, open_dataset

NAME = "covid19-radiography"
CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
IMAGES = {f"{name}/{number:03d}.png": name for name in CLASSES for number in range(4)}
LAYOUTS = {
    "as on Kaggle": {name: f"{name}/images" for name in CLASSES},
    "no images level": {name: name for name in CLASSES},
    "nested": {name: f"COVID-19_Radiography_Dataset/{name}/images" for name in CLASSES},
    "nested twice": {name: f"archive/COVID-19_Radiography_Dataset/{name}/images" for name in CLASSES},
    "capitals": {name: f"{name.upper()}/images" for name in CLASSES},
    "underscores": {name: name.replace(" ", "_") for name in CLASSES},
    "blanks and hyphens": {name: name.lower().replace("_", " ").replace("l p", "l-p") for name in CLASSES},
}


def write(root: Path, folders: Mapping[str, str]) -> Path:
    return write_classes(root, {folder: 4 for folder in folders.values()})


@pytest.mark.parametrize("folders", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_the_same_dataset(tmp_path: Path, folders: Mapping[str, str]) -> None:
    root = write(tmp_path, folders)
    for name, folder in folders.items():
        write_picture(root / Path(folder).parent / "masks" / "000.png", 1)
        (root / Path(folder).parent / f"{name}.metadata.xlsx").write_bytes(b"PK")
    found = find_dataset(NAME, root)
    assert found.findings == ()
    by_name = open_dataset(NAME, root, with_images=False)
    for dataset in (found.dataset, by_name):
        assert dataset.name == NAME
        assert dataset.class_names == CLASSES
        assert labels_of(dataset) == IMAGES
        assert list(dataset.image_names) == sorted(IMAGES)
        assert dataset.groups == {}
        assert split_of(dataset) == split_of(found.dataset)
    assert found.dataset.read(5) == (root / folders["Lung_Opacity"] / "001.png").read_bytes()


def test_the_folder_nearest_to_an_image_is_its_class(tmp_path: Path) -> None:
    root = write(tmp_path, {name: f"normal/{name}" for name in CLASSES})
    assert labels_of(open_dataset(NAME, root)) == IMAGES


def test_images_of_no_class_are_only_warned_of(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["as on Kaggle"])
    write_picture(root / "overview.png", 1)
    write_picture(root / "Tuberculosis" / "images" / "1.png", 1)
    assert len(open_dataset(NAME, root)) == 16
    assert messages(find_dataset(NAME, root), "warning") == [
        "Tuberculosis/images/1.png lies in no folder of a class; it is not used",
        "overview.png lies in no folder of a class; it is not used",
    ]


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    assert f"data folder {root}: No such file or directory" in refusal(NAME, root)
    root.mkdir()
    assert refusal(NAME, root) == (
        f"{root}: no image in a folder called COVID, Lung_Opacity, Normal, Viral Pneumonia; "
        "--data names the folder of the unpacked dataset"
    )
    write(root, LAYOUTS["as on Kaggle"])
    assert refusal(NAME, root, group="patient") == (
        "--group patient: covid19-radiography has no groups; its publishers name no patients"
    )
    assert "is a file; give the folder" in refusal(NAME, root / "COVID" / "images" / "000.png")
    assert "nothing says where the data is; add --data DIR" in refusal(NAME, None)
    write_picture(root / "COVID" / "000.png", 1)
    assert refusal(NAME, root) == (
        "covid19-radiography: COVID/000.png and COVID/images/000.png are both COVID/000.png; keep one of them"
    )
    (root / "COVID" / "000.png").unlink()
    (root / "Normal" / "out.png").symlink_to(write_picture(tmp_path / "secret.png", 1))
    assert "Normal/out.png is a link to" in refusal(NAME, root)
    monkeypatch.setattr(os, "scandir", lambda folder: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert refusal(NAME, root) == f"cannot read the folder {root}: Permission denied"


def test_links_to_folders_are_named_where_a_class_is_missing(tmp_path: Path) -> None:
    root = write(tmp_path / "data", LAYOUTS["as on Kaggle"])
    (root / "COVID").rename(tmp_path / "COVID")
    (root / "COVID").symlink_to(tmp_path / "COVID")
    assert f"{root} (links to folders are not followed: COVID): no image of the class COVID" in refusal(NAME, root)


def test_too_few_classes_are_not_enough(tmp_path: Path) -> None:
    root = write(tmp_path, {"COVID": "COVID"})
    said = refusal(NAME, root, drop_empty=True)
    assert said == f"{NAME}: only the class COVID has images; a classifier needs at least 2 classes"


def test_real_images(test_data: Path) -> None:
    root = test_data / "data" / "images" / "COVID-19_Radiography_Dataset"
    found = find_dataset(NAME, root)
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("empty class", "error")] * 2
    assert found.dataset.totals == (84, 0, 236, 0)
    assert refusal(NAME, root) == (
        f"{NAME}: 2 errors: {root.resolve()}: no image of the class Lung_Opacity; "
        f"{root.resolve()}: no image of the class Viral Pneumonia; --drop-empty leaves such classes out"
    )
    dataset = open_dataset(NAME, root, drop_empty=True)
    assert dataset.class_names == ("COVID", "Normal")
    assert dataset.totals == (84, 236)
    assert dataset.image_names[0] == "COVID/COVID-1036.png"
    pixels = dataset.decode(dataset.read(0), 64)
    assert 20 < pixels.mean() < 235
    assert pixels.std() > 10


def test_real_layout_with_masks(test_data: Path) -> None:
    root = test_data / "data" / "images" / "COVID-19_Radiography_Dataset_one_per_class"
    found = find_dataset(NAME, root)
    assert found.findings == ()
    assert found.dataset.image_names == tuple(f"{name}/{name}-1.png" for name in CLASSES)
    assert found.dataset.files == tuple(root.resolve() / name / "images" / f"{name}-1.png" for name in CLASSES)
