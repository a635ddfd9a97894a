"""ISIC 2019 in every form that it is shipped in, and what is said of damaged ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from lmf_testing.images import write_picture
from lmf_testing.published import ALL, ISIC2019, change, check_sample, groups_of, labels_of, messages, refusal

from trainer.data.catalog import find_dataset, open_dataset

TRUTH, METADATA = ISIC2019.tables.values()
TRUTH_NAME, METADATA_NAME = ISIC2019.tables
NO_UNKNOWN = TRUTH.replace(",UNK\n", "\n").replace(",0.0\n", "\n")
INPUT = "ISIC_2019_Training_Input"
LAYOUTS = {
    "as on Kaggle": (ISIC2019.tables, {f"{INPUT}/{INPUT}": ALL}),
    "not nested": (ISIC2019.tables, {INPUT: ALL}),
    "nested": ({f"isic-2019/x/{name}": text for name, text in ISIC2019.tables.items()}, {f"isic-2019/x/{INPUT}": ALL}),
    "small letters": (
        {TRUTH_NAME.lower(): change(TRUTH, 1, "MEL,NV", "mel,nv"), METADATA_NAME: METADATA},
        {INPUT: ALL},
    ),
    "CRLF": ({name: text.replace("\n", "\r\n") for name, text in ISIC2019.tables.items()}, {INPUT: ALL}),
    "packed with BOM": ({f"{name}.gz": "\ufeff" + text for name, text in ISIC2019.tables.items()}, {INPUT: ALL}),
    "tabs": ({name: text.replace(",", "\t") for name, text in ISIC2019.tables.items()}, {INPUT: ALL}),
    "no class UNK": ({TRUTH_NAME: NO_UNKNOWN, METADATA_NAME: METADATA}, {INPUT: ALL}),
    "tables apart": ({f"tables/{name}": text for name, text in ISIC2019.tables.items()}, {"jpg": ALL}),
}


@pytest.mark.parametrize(("tables", "folders"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_the_same_dataset(
    tmp_path: Path, tables: Mapping[str, str], folders: Mapping[str, slice]
) -> None:
    root = ISIC2019.write(tmp_path, tables, folders)
    write_picture(root / "ISIC_2019_Test_Input" / "ISIC_0034321.jpg", 1)
    (root / "ISIC_2019_Test_Metadata.csv").write_text("image,age_approx\nISIC_0034321,5\n")
    check_sample(ISIC2019, root)
    check_sample(ISIC2019, root, group="lesion")


@pytest.mark.parametrize("table", ISIC2019.tables)
def test_data_may_be_a_table(tmp_path: Path, table: str) -> None:
    check_sample(ISIC2019, ISIC2019.write(tmp_path) / table)


def test_shrunk_images_may_lack_their_suffix_or_have_one_more(tmp_path: Path) -> None:
    root = ISIC2019.write(tmp_path)
    for file in list((root / "images").iterdir()):
        stem = file.stem.removesuffix("_downsampled")
        file.rename(file.with_name(f"{stem}.jpg" if stem != file.stem else f"{stem}_downsampled.jpg"))
    check_sample(ISIC2019, root)


def test_an_image_named_exactly_goes_before_its_shrunk_copy(tmp_path: Path) -> None:
    root = ISIC2019.write(tmp_path)
    write_picture(root / "images" / "ISIC_0000001_downsampled.jpg", 99)
    write_picture(root / "images" / "ISIC_0000003.jpg", 99)
    found = find_dataset("isic2019", root)
    assert found.dataset.files is not None
    assert [file.stem for file in found.dataset.files] == list(found.dataset.image_names)
    assert [finding.images[0] for finding in found.findings] == [
        "images/ISIC_0000001_downsampled.jpg",
        "images/ISIC_0000003.jpg",
    ]


def test_unknown_is_a_class_where_an_image_is_of_it(tmp_path: Path) -> None:
    root = ISIC2019.write(
        tmp_path, {TRUTH_NAME: change(TRUTH, 2, "1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0", "0,0,0,0,0,0,0,0,1")}
    )
    dataset = open_dataset("isic2019", root)
    assert dataset.class_names == ("AK", "BCC", "BKL", "DF", "MEL", "NV", "SCC", "UNK", "VASC")
    assert labels_of(dataset) == {**ISIC2019.labels, "ISIC_0000000_downsampled": "UNK"}


def test_without_metadata_there_are_no_groups(tmp_path: Path) -> None:
    root = ISIC2019.write(tmp_path, {TRUTH_NAME: TRUTH})
    dataset = open_dataset("isic2019", root)
    assert labels_of(dataset) == ISIC2019.labels
    assert dataset.groups == {}
    said = refusal("isic2019", root, group="lesion")
    assert said == f"--group lesion: ISIC_2019_Training_Metadata.csv, which names lesions, is not below {root}"


def test_groups_are_lesions_or_any_column_and_images_without_a_row_are_their_own(tmp_path: Path) -> None:
    metadata = "".join(METADATA.splitlines(keepends=True)[:-1])
    root = ISIC2019.write(tmp_path, {TRUTH_NAME: TRUTH, METADATA_NAME: metadata})
    dataset = open_dataset("isic2019", root, group="anatom_site_general")
    assert dataset.group == "anatom_site_general"
    groups = groups_of(dataset)
    last = "ISIC_0000031"
    assert set(groups["anatom_site_general"].values()) == {"anterior torso", f"image {last}"}
    assert groups["lesion"] == {**ISIC2019.groups["lesion"], last: f"image {last}"}
    assert f"{METADATA_NAME}: has no group column; expected one of eye, eye_id, found image, age_approx" in refusal(
        "isic2019", root, group="eye"
    )


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, "ISIC_2019_Training_GroundTruth.csv is not below it; --data names the folder"),
        ({METADATA_NAME: METADATA}, "ISIC_2019_Training_GroundTruth.csv is not below it"),
        ({TRUTH_NAME: change(TRUTH, 1, "SCC", "S")}, "GroundTruth.csv: has no class column; expected SCC, found image"),
        ({TRUTH_NAME: change(TRUTH, 1, "image", "x")}, "has no image column; expected one of image, image_id"),
        (
            {TRUTH_NAME: TRUTH, METADATA_NAME: change(METADATA, 1, "image", "x")},
            "ISIC_2019_Training_Metadata.csv: has no image column",
        ),
        (
            {TRUTH_NAME: change(TRUTH, 3, "1.0", "0.0")},
            "ISIC_2019_Training_GroundTruth.csv line 3: ISIC_0000001 has no class marked; expected exactly one",
        ),
        (
            {TRUTH_NAME: change(TRUTH, 3, "0.0\n", "1\n")},
            "line 3: ISIC_0000001 has 2 classes marked (NV, UNK); expected exactly one",
        ),
        ({TRUTH_NAME: change(TRUTH, 3, "0.0", "nan")}, "line 3: ISIC_0000001 has 'nan' under MEL; expected 0 or 1"),
        ({TRUTH_NAME: change(TRUTH, 3, "ISIC_0000001", "")}, "line 3: the image cell is empty"),
        (
            {TRUTH_NAME: TRUTH + "ISIC_0000001,0,1,0,0,0,0,0,0,0\n"},
            "line 34: ISIC_0000001 is named again after line 3, with the same label; remove one row",
        ),
        (
            {TRUTH_NAME: TRUTH + "ISIC_0000001,1,0,0,0,0,0,0,0,0\n"},
            "line 34: ISIC_0000001 is labelled 'MEL', but 'NV' on line 3; decide for one",
        ),
        ({TRUTH_NAME: TRUTH + "ISIC_9,1,0,0,0,0,0,0,0,0\n"}, "line 34: no image ISIC_9 below {root}; add the images"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, tables: Mapping[str, str], said: str) -> None:
    root = ISIC2019.write(tmp_path, tables)
    assert said.format(root=root) in refusal("isic2019", root)


def test_images_without_a_row_are_only_warned_of(tmp_path: Path) -> None:
    root = ISIC2019.write(tmp_path)
    write_picture(root / "images" / "extra.jpg", 1)
    assert len(open_dataset("isic2019", root)) == 32
    assert messages(find_dataset("isic2019", root), "warning") == [
        f"images/extra.jpg is in no row of {TRUTH_NAME}; it is not used"
    ]


def test_real_images(test_data: Path) -> None:
    found = find_dataset("isic2019", test_data / "data" / "images" / "ISIC-2019", group="lesion")
    assert found.findings == ()
    dataset = found.dataset
    assert dataset.class_names == ("AK", "BCC", "BKL", "DF", "MEL", "NV", "SCC", "VASC")
    assert dataset.totals == (24, 92, 73, 7, 125, 356, 17, 7)
    assert dataset.image_names[0] == "ISIC_0000000"
    lesions = dataset.groups["lesion"]
    assert lesions[0] == "image ISIC_0000000"
    assert any(lesion.startswith("HAM_") for lesion in lesions)
    pixels = dataset.decode(dataset.read(700), 32)
    assert dataset.image_names[700] == "ISIC_0073223"
    assert pixels[..., 0].mean() > pixels[..., 2].mean() + 10
