"""HAM10000 in every form that it is shipped in, and what is said of damaged ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from lmf_testing.images import write_picture
from lmf_testing.published import ALL, HAM10000, as_csv, change, check_sample, groups_of, labels_of, messages, refusal

from trainer.data.catalog import find_dataset, open_dataset

DX, ONE_HOT = HAM10000.tables.values()
LESIONS = HAM10000.groups["lesion"]
GROUPINGS = as_csv([["image", "lesion_id", "diagnosis_confirm_type"], *([*pair, "x"] for pair in LESIONS.items())])
PARTS = {"HAM10000_images_part_1": slice(0, 14), "HAM10000_images_part_2": slice(14, None)}
KAGGLE = "ham1000-segmentation-and-classification"
ARCHIVE = "ISIC2018_Task3_Training"
LAYOUTS = {
    "both tables": (HAM10000.tables, {"images": ALL}),
    "dx alone, two folders": ({"HAM10000_metadata.csv": DX}, PARTS),
    "dx in capitals": ({"HAM10000_metadata.csv": DX.upper()}, PARTS),
    "one-hot in small letters": (
        {"HAM10000_metadata.csv": DX, "groundtruth.CSV": change(ONE_HOT, 1, "MEL,NV,BCC", "mel,nv,bcc")},
        {"images": ALL},
    ),
    "nested once": ({f"{KAGGLE}/{name}": text for name, text in HAM10000.tables.items()}, {f"{KAGGLE}/images": ALL}),
    "nested twice": (
        {"archive/HAM10000/HAM10000_metadata.csv": DX},
        {f"archive/HAM10000/{part}/{part}": chosen for part, chosen in PARTS.items()},
    ),
    "folders doubled": (
        {"HAM10000_metadata.csv": DX, "hmnist_8_8_L.csv": "pixel0000,label\n1,2\n"},
        {**PARTS, **{part.replace("HAM", "ham"): chosen for part, chosen in PARTS.items()}},
    ),
    "no suffix": ({"HAM10000_metadata": DX}, PARTS),
    "tabs": ({"HAM10000_metadata.tab": DX.replace(",", "\t")}, PARTS),
    "CRLF": ({name: text.replace("\n", "\r\n") for name, text in HAM10000.tables.items()}, {"images": ALL}),
    "BOM": ({name: "\ufeff" + text for name, text in HAM10000.tables.items()}, {"images": ALL}),
    "packed": ({f"{name}.gz": text for name, text in HAM10000.tables.items()}, {"images": ALL}),
    "archive": (
        {
            f"{ARCHIVE}_GroundTruth/{ARCHIVE}_GroundTruth.csv": ONE_HOT,
            f"{ARCHIVE}_GroundTruth/{ARCHIVE}_LesionGroupings.csv": GROUPINGS,
        },
        {f"{ARCHIVE}_Input": ALL},
    ),
    "tables apart": ({f"tables/{name}": text for name, text in HAM10000.tables.items()}, {"pictures/jpg": ALL}),
    "one folder": (HAM10000.tables, {".": ALL}),
}


@pytest.mark.parametrize(("tables", "folders"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_the_same_dataset(
    tmp_path: Path, tables: Mapping[str, str], folders: Mapping[str, slice]
) -> None:
    root = HAM10000.write(tmp_path, tables, folders)
    # Masks and test images, as they come with the dataset.
    write_picture(root / "masks" / "ISIC_0024306_segmentation.png", 1)
    write_picture(root / "HAM10000_segmentations_lesion_tschandl" / "ISIC_0024306.png", 1)
    write_picture(root / "ISIC2018_Task3_Test_Input" / "ISIC_0034524.jpg", 1)
    check_sample(HAM10000, root)
    check_sample(HAM10000, root, group="lesion")


def test_data_may_be_a_table(tmp_path: Path) -> None:
    root = HAM10000.write(tmp_path)
    check_sample(HAM10000, root / "HAM10000_metadata.csv")
    other = {"sub/HAM10000_metadata.csv": change(DX, 2, ",", "x,")}
    HAM10000.write(root, other, {})
    assert "different tables HAM10000_metadata.csv, sub/HAM10000_metadata.csv" in refusal("ham10000", root)
    check_sample(HAM10000, root / "HAM10000_metadata.csv")
    (root / "clean.csv").write_text(DX)
    said = refusal("ham10000", root / "clean.csv")
    assert said.startswith(f"{root}/clean.csv: is no table of ham10000, which are HAM10000_metadata.csv, ")


def test_without_a_table_of_lesions_there_are_no_groups(tmp_path: Path) -> None:
    root = HAM10000.write(tmp_path, {"GroundTruth.csv": ONE_HOT})
    dataset = open_dataset("ham10000", root)
    assert labels_of(dataset) == HAM10000.labels
    assert dataset.groups == {}
    said = refusal("ham10000", root, group="lesion")
    assert said == f"--group lesion: HAM10000_metadata.csv, which names lesions, is not below {root}"


def test_groups_are_lesions_or_any_column(tmp_path: Path) -> None:
    text = change(change(DX, 2, "scalp", ""), 3, "HAM_0000013", " ")
    root = HAM10000.write(tmp_path, {"HAM10000_metadata.csv": text})
    plain = open_dataset("ham10000", root)
    assert plain.group is None
    assert plain.groups["lesion"][-3:] == ("HAM_0000012", "image ISIC_0024332", "HAM_0000013")
    by_place = open_dataset("ham10000", root, group="Localization")
    assert by_place.group == "Localization"
    assert list(by_place.groups) == ["Localization", "lesion"]
    assert groups_of(by_place)["lesion"] == groups_of(plain)["lesion"]
    assert by_place.groups["Localization"][-2:] == ("scalp", "image ISIC_0024333")
    said = refusal("ham10000", root, group="eye")
    assert said.endswith(
        "HAM10000_metadata.csv: has no group column; expected one of eye, eye_id, "
        "found lesion_id, image_id, dx, dx_type, age, sex, localization"
    )


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, "neither HAM10000_metadata.csv nor GroundTruth.csv is below it"),
        (
            {"HAM10000_metadata.csv": change(DX, 1, "dx,", "diagnosis,")},
            "HAM10000_metadata.csv: has no label column; expected dx, found lesion_id",
        ),
        (
            {"HAM10000_metadata.csv": change(DX, 1, "image_id", "id")},
            "no image column; expected one of image_id, image",
        ),
        ({"GroundTruth.csv": change(ONE_HOT, 1, "VASC", "X")}, "GroundTruth.csv: has no class column; expected VASC"),
        (
            {"HAM10000_metadata.csv": change(DX, 3, "df", "scc")},
            "HAM10000_metadata.csv line 3: ISIC_0024332 has the label 'scc'; expected one of AKIEC, BCC, BKL",
        ),
        ({"HAM10000_metadata.csv": change(DX, 3, ",df,", ",,")}, "line 3: ISIC_0024332 has the label ''; expected one"),
        ({"HAM10000_metadata.csv": change(DX, 3, "ISIC_0024332", "")}, "line 3: the image cell is empty"),
        ({"GroundTruth.csv": change(ONE_HOT, 3, "ISIC_0024307", "")}, "line 3: the image cell is empty"),
        (
            {"GroundTruth.csv": change(ONE_HOT, 3, "1.0", "0.0")},
            "GroundTruth.csv line 3: ISIC_0024307 has no class marked; expected exactly one",
        ),
        (
            {"GroundTruth.csv": change(ONE_HOT, 3, "0.0", "1.0")},
            "line 3: ISIC_0024307 has 2 classes marked (MEL, NV); expected exactly one",
        ),
        ({"GroundTruth.csv": change(ONE_HOT, 3, "0.0", "0.5")}, "line 3: ISIC_0024307 has '0.5' under MEL; expected 0"),
        ({"GroundTruth.csv": change(ONE_HOT, 3, "0.0", "")}, "line 3: ISIC_0024307 has '' under MEL; expected 0 or 1"),
        (
            {"HAM10000_metadata.csv": DX, "GroundTruth.csv": change(ONE_HOT, 4, "0.0,0.0,1.0", "1.0,0.0,0.0")},
            "GroundTruth.csv line 4: ISIC_0024308 is MEL, but BCC on line 27 of HAM10000_metadata.csv; decide for one",
        ),
        (
            {"HAM10000_metadata.csv": DX, "GroundTruth.csv": change(ONE_HOT, 4, "1.0", "0.0")},
            "GroundTruth.csv line 4: ISIC_0024308 has no class marked",
        ),
        (
            {"HAM10000_metadata.csv": DX + "HAM_1,ISIC_0024306,mel,x,1,male,scalp\n"},
            "line 30: ISIC_0024306 is named again after line 29, with the same label; remove one row",
        ),
        (
            {"HAM10000_metadata.csv": DX + "HAM_1,ISIC_0024306,nv,x,1,male,scalp\n"},
            "line 30: ISIC_0024306 is labelled 'NV', but 'MEL' on line 29; decide for one",
        ),
        (
            {"HAM10000_metadata.csv": DX + "HAM_1,ISIC_9,nv,x,1,male,scalp\n"},
            "HAM10000_metadata.csv line 30: no image ISIC_9 below {root}; add the images, or remove the rows",
        ),
        ({"HAM10000_metadata.csv": change(DX, 3, "HAM", '"HAM')}, "HAM10000_metadata.csv: is no well-formed CSV"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, tables: Mapping[str, str], said: str) -> None:
    root = HAM10000.write(tmp_path, tables)
    assert said.format(root=root) in refusal("ham10000", root)


def test_all_that_is_wrong_is_found_and_the_rest_can_be_used(tmp_path: Path) -> None:
    text = change(change(DX, 3, "df", "scc"), 5, "akiec", "x")
    root = HAM10000.write(tmp_path, {"HAM10000_metadata.csv": text}, {"images": slice(1, None)})
    write_picture(root / "images" / "extra.jpg", 1)
    found = find_dataset("ham10000", root)
    assert len(messages(found)) == 3
    assert [finding.images for finding in found.findings] == [
        ("ISIC_0024332",),
        ("ISIC_0024330",),
        ("ISIC_0024306",),
        ("images/extra.jpg",),
    ]
    assert messages(found, "warning") == ["images/extra.jpg is in no row of HAM10000_metadata.csv; it is not used"]
    assert len(found.dataset) == 25


def test_empty_classes_are_named_and_may_be_dropped(tmp_path: Path) -> None:
    root = HAM10000.write(tmp_path, {"HAM10000_metadata.csv": "image_id,dx\nISIC_0024306,nv\nISIC_0024307,mel\n"})
    empty = "; ".join(f"{root}: no image of the class {name}" for name in ("AKIEC", "BCC", "BKL", "DF", "VASC"))
    said = refusal("ham10000", root)
    assert said == f"ham10000: 5 errors: {empty}; --drop-empty leaves such classes out"
    dataset = open_dataset("ham10000", root, drop_empty=True)
    assert dataset.class_names == ("MEL", "NV")
    assert dataset.labels.tolist() == [1, 0]


def test_real_images(test_data: Path) -> None:
    root = test_data / "data" / "images" / "HAM10000"
    found = find_dataset("ham10000", root, group="lesion")
    assert found.findings == ()
    dataset = found.dataset
    assert dataset.class_names == ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC")
    assert dataset.totals == (39, 62, 132, 14, 133, 803, 17)
    assert dataset.image_names[0] == "ISIC_0024306"
    assert len(set(dataset.groups["lesion"])) == len(dataset) == 1200
    assert all(lesion.startswith("HAM_") for lesion in dataset.groups["lesion"])
    pixels = dataset.decode(dataset.read(0), 48)
    assert pixels.shape == (48, 48, 3)
    assert pixels[..., 0].mean() > pixels[..., 2].mean() + 20
