"""A table of image and label."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.images import write_picture
from lmf_testing.published import labels_of, messages, write_tables

from trainer.data.catalog import find_dataset, open_dataset
from trainer.data.dataset import ImageDataset
from trainer.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with four pictures, a.png to d.png, in `images`."""
    for seed, letter in enumerate("abcd"):
        write_picture(tmp_path / "images" / f"{letter}.png", seed)
    return tmp_path


def open_text(root: Path, text: str | bytes, group: str | None = None) -> ImageDataset:
    table = root / "labels.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_dataset("csv", table, group=group)


def files_of(dataset: ImageDataset, root: Path) -> dict[str, str]:
    """Each file's class, by its path below the folder."""
    assert dataset.files is not None
    names = [file.relative_to(root).as_posix() for file in dataset.files]
    return {name: dataset.class_names[label] for name, label in zip(names, dataset.labels, strict=True)}


EXPECTED = {"images/a.png": "NV", "images/b.png": "DF", "images/c.png": "NV"}


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.png,NV\nb.png,DF\nc.png,NV\n",
        "image_id,dx\nc,NV\nb,DF\na,NV\n",
        "age,Filename,Class\n3,images/a.png,NV\n4,images/b.png,DF\n5,images/c.png,NV",
        "path,target\nimages/a,NV\n./images/b,DF\nimages\\c.PNG,NV\n",
        'file,diagnosis\r\n"a.png"," NV"\r\n b.png ,DF \r\n\r\nc.png,NV\r\n',
        b"\xef\xbb\xbfimage,label\r\na.png,NV\r\nb.png,DF\r\nc.png,NV\r\n",
        "image;label\na.png;NV\nb.png;DF\nc.png;NV\n",
        "image\tlabel\na.png\tNV\nb.png\tDF\nc.png\tNV\n",
        "image,label\ra.png,NV\rb.png,DF\rc.png,NV\r",
    ],
    ids=["names", "stems", "other columns", "paths", "CRLF", "BOM", "semicolons", "tabs", "CR"],
)
def test_tables_of_many_kinds_say_the_same(root: Path, text: str | bytes) -> None:
    dataset = open_text(root, text)
    assert files_of(dataset, root) == EXPECTED
    assert list(dataset.image_names) == sorted(dataset.image_names)
    assert dataset.read(1) == (root / "images" / "b.png").read_bytes()
    assert dataset.groups == {}


@pytest.mark.parametrize("ending", [".csv.gz", ".TSV", ".tsv.gz"])
def test_tables_by_other_endings(root: Path, ending: str) -> None:
    text = "image\tlabel\na.png\tNV\nb.png\tDF\nc.png\tNV\n"
    write_tables(root, {f"skin.v1{ending}": text})
    dataset = open_dataset(f"csv:skin.v1{ending}", root)
    assert dataset.name == "skin.v1"
    assert files_of(dataset, root) == files_of(open_dataset("csv", root), root) == EXPECTED


def test_images_are_named_by_their_cells_with_and_without_files(root: Path) -> None:
    table = "image,label,patient\n./images//a.png,x,1\nimages\\b,y,1\nc,x,\n"
    with_files = open_text(root, table)
    without = open_dataset("csv", root / "labels.csv", with_images=False)
    assert without.image_names == with_files.image_names == ("c", "images/a.png", "images/b")
    assert without.labels.tolist() == with_files.labels.tolist() == [0, 0, 1]
    assert without.groups == with_files.groups == {"patient": ("image c", "1", "1")}
    assert without.files is None
    assert with_files.files == (root / "images/c.png", root / "images/a.png", root / "images/b.png")


def test_the_first_known_column_counts(root: Path) -> None:
    dataset = open_text(root, "path,target,label,image\nx,1,NV,a\nx,2,DF,b\n")
    assert labels_of(dataset) == {"a": "NV", "b": "DF"}


def test_labels_that_look_like_numbers_stay_text(root: Path) -> None:
    dataset = open_text(root, "image,label\na,1\nb,01\nc,1.0\nd,10\n")
    assert dataset.class_names == ("01", "1", "1.0", "10")
    assert labels_of(dataset)["b"] == "01"


def test_image_names_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    for name in ("1.png", "01.png", "scan.001.png"):
        write_picture(tmp_path / name, 1)
    dataset = open_text(tmp_path, "image,label\n01,a\n1,b\nscan.001,b\n")
    assert files_of(dataset, tmp_path) == {"01.png": "a", "1.png": "b", "scan.001.png": "b"}


def test_text_beyond_ascii(tmp_path: Path) -> None:
    write_picture(tmp_path / "Bäuche" / "é.png", 1)
    write_picture(tmp_path / "ok.png", 2)
    dataset = open_text(tmp_path, "image,label\ne\u0301,ナevus\nok,b\n")
    assert files_of(dataset, tmp_path) == {"Bäuche/é.png": "ナevus", "ok.png": "b"}
    assert dataset.image_names == ("ok", "é")


def test_suffixes_match_in_any_case(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.JPG", 1)
    write_picture(tmp_path / "b.jpg", 2)
    dataset = open_text(tmp_path, "image,label\na.jpg,x\nb.JPG,y\n")
    assert files_of(dataset, tmp_path) == {"a.JPG": "x", "b.jpg": "y"}


def test_a_path_is_preferred_to_a_name_that_occurs_twice(tmp_path: Path) -> None:
    for name in ("a.png", "left/a.png", "right/a.png", "b.png"):
        write_picture(tmp_path / name, 1)
    dataset = open_text(tmp_path, "image,label\na.png,x\nleft/a.png,y\nb,x\n")
    assert files_of(dataset, tmp_path) == {"a.png": "x", "b.png": "x", "left/a.png": "y"}
    with pytest.raises(DataError, match=r"line 2: a may mean a.png, left/a.png, right/a.png; write the path"):
        open_text(tmp_path, "image,label\na,x\nb,y\n")


def test_images_without_a_row_are_passed_over(root: Path) -> None:
    (root / "images" / "broken.png").write_bytes(b"")
    assert labels_of(open_text(root, "image,label\na,x\nb,y\n")) == {"a": "x", "b": "y"}
    found = find_dataset("csv", root / "labels.csv")
    assert messages(found) == []
    assert messages(found, "warning") == [
        f"images/{name}.png is in no row of labels.csv; it is not used" for name in ("broken", "c", "d")
    ]


def test_groups_come_from_columns(root: Path) -> None:
    text = "image,label,Lesion_ID,patient,eye\na,x,L1,7,l\nb,y,,7,l\nc,x,L1,8,l\nd,y,,8,r\n"
    lesions, patients = ("L1", "image b", "L1", "image d"), ("7", "7", "8", "8")
    plain = open_text(root, text)
    assert plain.group is None
    assert plain.groups == {"lesion": lesions, "patient": patients}
    by_patient = open_text(root, text, "patient")
    assert by_patient.group == "patient"
    assert list(by_patient.groups.items()) == [("patient", patients), ("lesion", lesions)]
    by_eye = open_text(root, text, "Eye")
    assert by_eye.groups == {"Eye": ("l", "l", "l", "r"), "lesion": lesions, "patient": patients}
    assert next(iter(by_eye.groups)) == by_eye.group == "Eye"
    with pytest.raises(DataError, match="no group column; expected one of arm, arm_id, found image, label, Lesion_ID"):
        open_text(root, text, "arm")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("image,label\n", "has a header but no rows"),
        (
            "image,NV,DF\na,1,0\n",
            "has no label column; expected one of label, dx, class, target, diagnosis, found image",
        ),
        ("lesion,dx\na,NV\n", "has no image column; expected one of image, image_id"),
        ("image,label\na,NV\nb,NV\n", "only the class 'NV'; a classifier needs at least 2"),
        ('image,label\na,"NV\nb,DF\n', "no well-formed CSV"),
        ("image,label\na,NV\n".encode("utf-16"), "is not UTF-8 text"),
        ("image,label\na,NV\n".encode("utf-16-le"), "is not UTF-8 text"),
        ("image,label\na,Nävus\n".encode("latin-1"), "is not UTF-8 text"),
        ("image,label\na,NV\nb,\n", "too few rows can be used: labels.csv line 3: the label of b is empty"),
        ("image,label\na,NV\nb\n", "line 3: the label of b is empty"),
        ("image,label\na,NV\n,DF\n", "line 3: the image cell is empty"),
        ("image,label\na,NV\nabsent.png,DF\n", "line 3: no image absent.png below"),
        ("image,label\na,NV\n.,DF\n", "line 3: no image . below"),
        (
            "image,label\na,NV\nb,DF\na.png,NV\n",
            "line 4: images/a.png is named again after line 2, with the same label",
        ),
        (
            "image,label\na,NV\nb,DF\nimages/a,DF\n",
            "line 4: images/a.png is labelled 'DF', but 'NV' on line 2; decide for one",
        ),
        ("image,label\na,NV\n../x/b.png,DF\n", "line 3: ../x/b.png leaves the data folder"),
        ("image,label\na,NV\nimages/../images/b.png,DF\n", "line 3: images/../images/b.png leaves the data folder"),
        ("image,label\na,NV\n/etc/b.png,DF\n", "line 3: /etc/b.png is an absolute path; write it as seen from"),
        ("image,label\na,NV\nC:\\scans\\b.png,DF\n", "line 3: C:\\scans\\b.png is an absolute path"),
        ("image,label\na,NV\nC:b.png,DF\n", "line 3: C:b.png is an absolute path"),
        ("image,label\na,NV\n\\\\server\\b.png,DF\n", "is an absolute path"),
        ("image,label\na,NV\n..\\b.png,DF\n", "leaves the data folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        open_text(root, text)
    assert said in str(caught.value)
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_bad_rows_are_counted_and_the_first_are_named(root: Path) -> None:
    rows = ["a,NV", "b,", "c,DF"] + [f"absent{number},DF" for number in range(8)]
    with pytest.raises(DataError) as caught:
        open_text(root, "image,label\n" + "\n".join(rows))
    said = "labels: 9 errors: labels.csv line 3: the label of b is empty; labels.csv line 5: no image absent0 below"
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("; and 4 more; add the images, or remove the rows")
    assert "absent3" in str(caught.value)
    assert "absent4" not in str(caught.value)
    found = find_dataset("csv", root / "labels.csv")
    assert len(messages(found)) == 9
    assert labels_of(found.dataset) == {"a": "NV", "c": "DF"}
    assert messages(found, "warning") == ["images/d.png is in no row of labels.csv; it is not used"]


def test_an_absolute_path_is_refused_even_where_it_leads_to_the_image(root: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: /.*/images/b.png is an absolute path"):
        open_text(root, f"image,label\na,x\n{root / 'images' / 'b.png'},y\n")


def test_a_link_may_not_leave_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("a.png", "b.png"):
        write_picture(root / name, 1)
    secret = write_picture(tmp_path / "outside" / "secret.png", 2)
    (root / "file.png").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "again.png").symlink_to(root / "b.png")
    assert labels_of(open_text(root, "image,label\na,x\nagain,y\n")) == {"a": "x", "again": "y"}
    with pytest.raises(DataError, match=r"line 3: file.png is a link to .*, which leaves the data folder"):
        open_text(root, "image,label\na,x\nfile,y\n")
    with pytest.raises(DataError, match=r"line 3: folder/secret.png leaves the data folder"):
        open_text(root, "image,label\na,x\nfolder/secret.png,y\n")
    with pytest.raises(
        DataError, match=r"line 3: no image secret below .*data \(links to folders are not followed: folder\)"
    ):
        open_text(root, "image,label\na,x\nsecret,y\n")


def test_a_table_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"label table .*absent.csv: No such file"):
        open_dataset("csv:absent.csv", root)
    (root / "labels.csv").write_text("image,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"label table .*absent/labels.csv: No such file"):
        open_dataset("csv:labels.csv", root / "absent")

    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read the folder .*: Permission denied"):
        open_dataset("csv:labels.csv", root)


def test_real_lesions(test_data: Path) -> None:
    folder = test_data / "data" / "images" / "HAM10000"
    dataset = open_dataset("csv:HAM10000_metadata.csv", folder, group="lesion")
    assert dataset.class_names == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert np.bincount(dataset.labels).tolist() == [39, 62, 132, 14, 133, 803, 17]
    assert dataset.image_names[0] == "ISIC_0024306"
    assert len(set(dataset.groups["lesion"])) == 1200
    assert all(lesion.startswith("HAM_") for lesion in dataset.groups["lesion"])
    pixels = dataset.decode(dataset.read(0), 48)
    assert pixels[..., 0].mean() > pixels[..., 2].mean()
