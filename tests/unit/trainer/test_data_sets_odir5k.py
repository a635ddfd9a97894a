"""ODIR-5K in every form that it is shipped in, and what is said of damaged ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from lmf_testing.images import write_picture
from lmf_testing.published import ALL, ODIR5K, change, check_sample, groups_of, labels_of, messages, refusal

from trainer.data.catalog import find_dataset, open_dataset

TABLE = ODIR5K.tables["full_df.csv"]
PREPROCESSED = {"preprocessed_images": ALL}
BARE = TABLE.replace("['", "").replace("']", "")
LAYOUTS = {
    "as on Kaggle": ({"full_df.csv": TABLE}, PREPROCESSED),
    "nested": ({"ocular/x/full_df.csv": TABLE}, {"ocular/x/preprocessed_images": ALL}),
    "training images alone": ({"full_df.csv": TABLE}, {"ODIR-5K/ODIR-5K/Training Images": ALL}),
    "only labels": ({"full_df.csv": re.sub(r'("\[.*?\]"|target),', "", TABLE)}, PREPROCESSED),
    "only target": ({"full_df.csv": re.sub(r"(\['.'\]|labels),", "", TABLE)}, PREPROCESSED),
    "bare codes in small letters": (
        {"full_df.csv": re.sub(r",([NDGCAHMO]),\"", lambda m: m[0].lower(), BARE)},
        PREPROCESSED,
    ),
    "CRLF": ({"full_df.csv": TABLE.replace("\n", "\r\n")}, PREPROCESSED),
    "BOM, capitals": ({"FULL_DF.CSV": "\ufeff" + change(TABLE, 1, "filename", "Filename")}, PREPROCESSED),
    "packed": ({"full_df.csv.gz": TABLE}, PREPROCESSED),
    "tables apart": ({"tables/full_df.csv": TABLE}, {"images": ALL}),
    "png": ({"full_df.csv": TABLE.replace(".jpg", ".png")}, PREPROCESSED),
}


@pytest.mark.parametrize(("tables", "folders"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_the_same_dataset(
    tmp_path: Path, tables: Mapping[str, str], folders: Mapping[str, slice]
) -> None:
    root = ODIR5K.write(tmp_path, tables, folders)
    write_picture(root / "ODIR-5K" / "ODIR-5K" / "Testing Images" / "937_left.jpg", 1)
    (root / "ODIR-5K" / "ODIR-5K" / "data.xlsx").write_bytes(b"PK")
    check_sample(ODIR5K, root)
    check_sample(ODIR5K, root, group="patient")


def test_data_may_be_the_table(tmp_path: Path) -> None:
    root = ODIR5K.write(tmp_path)
    check_sample(ODIR5K, root / "full_df.csv")
    (root / "data.xlsx").write_bytes(b"PK")
    assert "data.xlsx: is no table of odir5k, which are full_df.csv" in refusal("odir5k", root / "data.xlsx")


def test_the_preprocessed_copy_of_a_photograph_is_taken(tmp_path: Path) -> None:
    root = ODIR5K.write(tmp_path, folders={"preprocessed_images": ALL})
    for file in ODIR5K.files:
        write_picture(root / "ODIR-5K" / "ODIR-5K" / "Training Images" / file, 99)
    write_picture(root / "ODIR-5K" / "ODIR-5K" / "Training Images" / "4690_left.jpg", 99)
    found = find_dataset("odir5k", root)
    assert found.dataset.files is not None
    assert {file.parent.name for file in found.dataset.files} == {"preprocessed_images"}
    assert messages(found) == []
    assert messages(found, "warning") == [
        "ODIR-5K/ODIR-5K/Training Images/4690_left.jpg is in no row of full_df.csv; it is not used"
    ]


def test_groups_are_patients_or_any_column(tmp_path: Path) -> None:
    root = ODIR5K.write(tmp_path, {"full_df.csv": change(change(TABLE, 2, "0,60", "0,"), 3, "0,60", ",60")})
    dataset = open_dataset("odir5k", root, group="Patient Age")
    assert list(dataset.groups) == ["Patient Age", "patient"]
    groups = groups_of(dataset)
    assert groups["Patient Age"] == {**dict.fromkeys(ODIR5K.labels, "60"), "0_left": "image 0_left"}
    assert groups["patient"] == {**ODIR5K.groups["patient"], "0_right": "image 0_right"}
    assert open_dataset("odir5k", root).group is None
    assert "full_df.csv: has no group column; expected one of lesion, lesion_id, found ID" in refusal(
        "odir5k", root, group="lesion"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            None,
            "full_df.csv is not below it; --data names the folder of the unpacked dataset (data.xlsx labels patients",
        ),
        (
            change(TABLE, 1, "filename", "x"),
            "full_df.csv: has no image column; expected filename, found ID, Patient Age",
        ),
        (
            change(TABLE, 1, "labels,target", "x,y"),
            "full_df.csv: has no label column; expected one of labels, target, found ID",
        ),
        (change(TABLE, 3, "0_right.jpg", ""), "full_df.csv line 3: the cell of filename is empty"),
        (change(TABLE, 3, "['D']", ""), "full_df.csv line 3: 0_right.jpg has the labels ''; expected one of N, D, G"),
        (change(TABLE, 3, "['D']", "['X']"), "line 3: 0_right.jpg has the labels \"['X']\"; expected one of"),
        (change(TABLE, 3, "['D']", "\"['D', 'G']\""), "has the labels \"['D', 'G']\"; expected one of"),
        (change(TABLE, 3, "['D']", "[]"), "has the labels '[]'; expected one of"),
        (change(TABLE, 3, "['D']", "{[]: 1}"), "has the labels '{[]: 1}'; expected one of"),
        (change(TABLE, 3, "0, 1", "0, 0"), "line 3: 0_right.jpg has the target '[0, 0, 0, 0, 0, 0, 0, 0]'; expected a"),
        (change(TABLE, 3, "0, 1, 0", "0, 1"), "has the target '[0, 1, 0, 0, 0, 0, 0]'; expected a list of seven 0 and"),
        (change(TABLE, 3, "0, 1", "1, 1"), "expected a list of seven 0 and one 1"),
        (change(TABLE, 3, "0, 1", "0, True"), "expected a list of seven 0 and one 1"),
        (
            change(TABLE, 3, "['D']", "['G']"),
            "full_df.csv line 3: 0_right.jpg is G by labels, but D by target; decide for one",
        ),
        (
            TABLE + "0,60,0,0,0,0,0,0,0,1,['N'],\"[1, 0, 0, 0, 0, 0, 0, 0]\",0_left.jpg\n",
            "line 34: 0_left is named again after line 2, with the same label; remove one row",
        ),
        (
            TABLE + "0,60,0,0,0,0,0,0,0,1,['D'],\"[0, 1, 0, 0, 0, 0, 0, 0]\",0_left.jpg\n",
            "line 34: 0_left is labelled 'D', but 'N' on line 2; decide for one",
        ),
        (change(TABLE, 3, "0_right", "77_right"), "full_df.csv line 3: no image 77_right below {root}"),
    ],
    ids=lambda value: "" if value is None or "\n" in value else value[:40],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    root = ODIR5K.write(tmp_path, {} if text is None else {"full_df.csv": text}, PREPROCESSED)
    assert said.replace("{root}", str(root)) in refusal("odir5k", root)


def test_findings_name_the_image(tmp_path: Path) -> None:
    root = ODIR5K.write(tmp_path, {"full_df.csv": change(TABLE, 3, "['D']", "['G']")})
    found = find_dataset("odir5k", root)
    assert [finding.images for finding in found.findings] == [("0_right",)]
    assert labels_of(found.dataset) == {name: code for name, code in ODIR5K.labels.items() if name != "0_right"}


def test_real_images(test_data: Path) -> None:
    found = find_dataset("odir5k", test_data / "data" / "images" / "ODIR-5K", group="patient")
    assert found.findings == ()
    dataset = found.dataset
    assert dict(zip(dataset.class_names, dataset.totals, strict=True)) == {
        **{"N": 324, "D": 181, "O": 80, "C": 33},
        **{"G": 32, "A": 30, "M": 26, "H": 14},
    }
    assert dataset.image_names[0] == "1015_left"
    assert len(set(dataset.groups["patient"])) == 379
    pixels = dataset.decode(dataset.read(0), 64)
    assert pixels[28:36, 28:36, 0].mean() > pixels[28:36, 28:36, 2].mean()
    assert pixels[:4, :4].mean() < 30
