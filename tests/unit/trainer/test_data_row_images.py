"""Rows of published tables and the image files that they name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from lmf_testing.images import write_picture
from lmf_testing.published import HAM10000, SAMPLES, Sample, check_sample, messages, refusal, write_tables

from trainer.data.catalog import find_dataset
from trainer.data.label_table import LabelTable, read_label_table
from trainer.data.row_images import LabelledRow, empty_classes, find_table, match_rows, open_tree
from trainer.data.source import LabelledImage, Query
from trainer.data.tree import Tree, walk
from trainer.errors import DataError

every_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def rows_of(table: LabelTable) -> list[LabelledRow]:
    return [LabelledRow(row, row.cells[0], row.cells[1]) for row in table.rows]


def tree_of(root: Path, text: str, *images: str) -> tuple[Tree, LabelTable]:
    write_tables(root, {"t.csv": text})
    for seed, name in enumerate(images):
        write_picture(root / name, seed)
    return walk(root), read_label_table(root / "t.csv")


@pytest.mark.parametrize(
    ("name", "passed_over"),
    [
        ("masks", True),
        ("Mask", True),
        ("HAM10000_segmentations_lesion_tschandl", True),
        ("superpixels", True),
        ("ISIC_2019_Test_Input", True),
        ("ODIR-5K_Testing_Images", True),
        ("Testing Images", True),
        ("test", True),
        ("ham1000-segmentation-and-classification", False),
        ("ham1000_segmentation_and_classification", False),
        ("unmasked", False),
        ("latest", False),
        ("contest2", False),
        ("ISIC_2019_Training_Input", False),
        ("images", False),
    ],
)
def test_folders_of_masks_and_test_images_are_passed_over(tmp_path: Path, name: str, passed_over: bool) -> None:
    write_picture(tmp_path / "a" / name / "1.png", 1)
    write_tables(tmp_path, {f"a/{name}/t.csv": "x"})
    tree = open_tree(Query(data=tmp_path), "x")
    assert (len(tree.images), len(tree.tables)) == ((0, 0) if passed_over else (1, 1))
    inside = open_tree(Query(data=tmp_path / "a" / name), "x")
    assert (len(inside.images), len(inside.tables)) == (1, 1)


def test_data_may_be_a_table_and_then_means_this_one(tmp_path: Path) -> None:
    write_tables(tmp_path, {"T.csv": "a", "t.csv.gz": "b", "x/t.csv": "c", "u.csv": "d", "x/v.csv": "e"})
    tree = open_tree(Query(data=tmp_path / "T.csv"), "x", ("t", "U"))
    assert [table.name for table in tree.tables] == ["T.csv", "u.csv", "x/v.csv"]
    assert tree.root == tmp_path
    assert len(open_tree(Query(data=tmp_path), "x", ("t", "u")).tables) == 5
    with pytest.raises(DataError) as caught:
        open_tree(Query(data=tmp_path / "x" / "v.csv"), "skin", ("t", "U"))
    said = "v.csv: is no table of skin, which are t.csv, U.csv; --data names one, or its folder"
    assert str(caught.value) == f"{tmp_path}/x/{said}"
    with pytest.raises(DataError, match="is a file; give the folder"):
        open_tree(Query(data=tmp_path / "T.csv"), "skin")
    with pytest.raises(DataError, match="skin: nothing says where the data is; add --data DIR"):
        open_tree(Query(), "skin")


def test_tables_are_found_by_name_in_order_of_preference(tmp_path: Path) -> None:
    write_tables(tmp_path, {"deep/er/Second.CSV": "a,b\n1,2\n", "other.csv": "x"})
    tree = walk(tmp_path)
    table = find_table(tree, ("first", "second"))
    assert table is not None
    assert table.path == tmp_path / "deep/er/Second.CSV"
    assert find_table(tree, ("third",)) is None
    write_tables(tmp_path, {"FIRST.tsv.gz": "a\tb\n3\t4\n"})
    table = find_table(walk(tmp_path), ("first", "second"))
    assert table is not None
    assert table.rows[0].cells == ("3", "4")


def test_copies_of_a_table_may_differ_in_form_alone(tmp_path: Path) -> None:
    text = "a,b\n1,2\n"
    write_tables(tmp_path, {"t.csv": text, "x/t.csv.gz": text, "y/T.tsv": "\ufeffa\tb\r\n\r\n1\t2\r\n"})
    assert find_table(walk(tmp_path), ("t",)) is not None
    write_tables(tmp_path, {"y/T.tsv": "a\tb\n1\t3\n"})
    with pytest.raises(DataError) as caught:
        find_table(walk(tmp_path), ("t",))
    assert str(caught.value) == (
        f"{tmp_path}: holds different tables t.csv, x/t.csv.gz, y/T.tsv; name one of them, or its folder, with --data"
    )


def test_a_table_may_not_be_a_link_out_of_the_folder(tmp_path: Path) -> None:
    write_tables(tmp_path, {"outside.csv": "a,b\n1,2\n"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(DataError, match=r"t.csv is a link to .*outside.csv, which leaves the data folder"):
        find_table(walk(tmp_path / "data"), ("t",))


def test_rows_meet_their_images_by_name_without_suffix(tmp_path: Path) -> None:
    tree, table = tree_of(tmp_path, "image,dx\nb.1,x\na,y\n", "deep/a.PNG", "b.1.jpg", "c.png")
    images, findings = match_rows(table, rows_of(table), tree)
    assert [(image.name, image.label, image.file) for image in images] == [
        ("b.1", "x", tmp_path / "b.1.jpg"),
        ("a", "y", tmp_path / "deep/a.PNG"),
    ]
    assert [(finding.kind, finding.severity, finding.images) for finding in findings] == [
        ("image without row", "warning", ("c.png",))
    ]
    without, findings = match_rows(table, rows_of(table), None)
    assert [(image.name, image.label, image.file) for image in without] == [("b.1", "x", None), ("a", "y", None)]
    assert findings == []


def test_an_empty_group_is_the_image_itself(tmp_path: Path) -> None:
    _, table = tree_of(tmp_path, "image,dx\na,y\n")
    row = LabelledRow(table.rows[0], "a", "y", {"lesion": "", "patient": "7"})
    images, _ = match_rows(table, [row], None)
    assert images[0].groups == {"lesion": "image a", "patient": "7"}


def test_of_copies_the_preferred_one_is_taken_or_the_first_of_equal_ones(tmp_path: Path) -> None:
    tree, table = tree_of(tmp_path, "image,dx\na,y\n", "1/a.jpg", "2/a.jpg", "3/a.jpg")
    _, findings = match_rows(table, rows_of(table), tree)
    assert [finding.message for finding in findings] == [
        f"t.csv line 2: different files have its name: 1/a.jpg, 2/a.jpg, 3/a.jpg; keep one of them below {tmp_path}"
    ]
    images, findings = match_rows(table, rows_of(table), tree, prefer=lambda name: name.startswith("2/"))
    assert [image.file for image in images] == [tmp_path / "2/a.jpg"]
    assert findings == []
    for folder in "23":
        (tmp_path / folder / "a.jpg").write_bytes((tmp_path / "1" / "a.jpg").read_bytes())
    images, findings = match_rows(table, rows_of(table), tree)
    assert [image.file for image in images] == [tmp_path / "1/a.jpg"]
    assert findings == []


def test_images_beside_the_table_go_before_those_of_another_dataset(tmp_path: Path) -> None:
    for name in ("ham/a.jpg", "isic/a.jpg", "isic/b.jpg"):
        write_picture(tmp_path / name, len(name))
    write_tables(tmp_path, {"ham/t.csv": "image,dx\na,y\nb,x\n"})
    tree, table = walk(tmp_path), read_label_table(tmp_path / "ham/t.csv")
    images, findings = match_rows(table, rows_of(table), tree)
    assert [image.file for image in images] == [tmp_path / "ham/a.jpg"]
    assert [finding.message for finding in findings] == [f"t.csv line 3: no image b below {tmp_path}/ham"]
    (tmp_path / "ham/a.jpg").unlink()
    images, findings = match_rows(table, rows_of(table), walk(tmp_path))
    assert [image.file for image in images] == [tmp_path / "isic/a.jpg", tmp_path / "isic/b.jpg"]
    assert findings == []


def test_problems_come_first_and_their_images_are_not_called_superfluous(tmp_path: Path) -> None:
    tree, table = tree_of(tmp_path, "image,dx\na,y\nb,?\n", "a.jpg", "b.jpg", "c.jpg")
    problem = table.error(table.rows[1], "bad label", "b has the label '?'", "b")
    _, findings = match_rows(table, rows_of(table)[:1], tree, [problem])
    assert findings[0] is problem
    assert [finding.images for finding in findings[1:]] == [("c.jpg",)]


def test_links_are_findings(tmp_path: Path) -> None:
    root = tmp_path / "data"
    tree, table = tree_of(root, "image,dx\na,y\nb,x\nc,x\nd,x\n", "a.jpg")
    outside = write_picture(tmp_path / "far" / "b.jpg", 1)
    (root / "b.jpg").symlink_to(outside)
    (root / "c.jpg").symlink_to(root / "nowhere.jpg")
    (root / "far").symlink_to(outside.parent)
    (root / "other").mkdir()
    write_picture(root / "other" / "c.jpg", 1)
    tree = walk(root)
    images, findings = match_rows(table, rows_of(table), tree)
    assert [image.name for image in images] == ["a"]
    assert [finding.message for finding in findings] == [
        f"t.csv line 3: b.jpg is a link to {outside}, which leaves the data folder {root}; copy the file in",
        "t.csv line 4: c.jpg is a broken link: No such file or directory",
        f"t.csv line 5: no image d below {root} (links to folders are not followed: far)",
    ]
    assert empty_classes(("x", "y", "z"), [LabelledImage("a", "y")], tree)[1].message == (
        f"{root} (links to folders are not followed: far): no image of the class z"
    )


def test_a_folder_without_any_image_is_refused(tmp_path: Path) -> None:
    tree, table = tree_of(tmp_path, "image,dx\na,y\n")
    with pytest.raises(DataError) as caught:
        match_rows(table, rows_of(table), tree)
    assert str(caught.value) == f"{tmp_path}: holds t.csv, but no image; --data names the folder of both"


@every_sample
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.encode("utf-16"), "is not UTF-8 text; save it as CSV in UTF-8"),
        (lambda text: b"PK\x03\x04\xff" + text.encode(), "is not UTF-8 text"),
        (lambda text: b"", "is empty; expected a header"),
        (lambda text: text.split("\n")[0].encode(), "has a header but no rows"),
        (lambda text: text.replace(",", " ").encode(), "column; expected"),
    ],
    ids=["UTF-16", "binary", "empty", "header alone", "no commas"],
)
def test_a_damaged_table_is_refused(tmp_path: Path, sample: Sample, damage: object, said: str) -> None:
    assert callable(damage)
    root = sample.write(tmp_path, {sample.table: damage(sample.tables[sample.table])}, {})
    message = refusal(sample.name, root, with_images=False)
    assert message.startswith(f"label table {root / sample.table}: ")
    assert said in message


@every_sample
def test_a_packed_table_cut_short_is_refused(tmp_path: Path, sample: Sample) -> None:
    packed = gzip.compress(sample.tables[sample.table].encode())
    root = sample.write(tmp_path, {f"{sample.table}.gz": packed[: len(packed) // 2]}, {})
    assert "is damaged; unpack or download it again" in refusal(sample.name, root, with_images=False)


@every_sample
def test_what_is_wrong_with_the_folder_is_said(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    assert f"data folder {root}: No such file or directory" in refusal(sample.name, root)
    sample.write(root)
    nested = root / "x" / sample.table
    nested.parent.mkdir()
    nested.write_text(sample.tables[sample.table] + "\n\n")
    check_sample(sample, root)
    nested.write_text(sample.tables[sample.table].replace("1", "2"))
    assert f"different tables {sample.table}, x/{sample.table}; name one" in refusal(sample.name, root)
    check_sample(sample, root / sample.table)
    nested.unlink()
    extra = write_picture(root / "x" / sample.files[0], 99)
    assert f"different files have its name: images/{sample.files[0]}, x/{sample.files[0]}" in refusal(sample.name, root)
    extra.unlink()
    (root / "images" / sample.files[0]).rename(tmp_path / "out.jpg")
    (root / "images" / sample.files[0]).symlink_to(tmp_path / "out.jpg")
    assert "out.jpg, which leaves the data folder" in refusal(sample.name, root)
    (root / "images").rename(tmp_path / "far")
    (root / "images").symlink_to(tmp_path / "far")
    assert "(links to folders are not followed: images): holds" in refusal(sample.name, root)

    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(sample.name, root) == f"cannot read the folder {root}: Permission denied"


def test_a_folder_of_several_datasets_serves_each(tmp_path: Path) -> None:
    for sample in SAMPLES.values():
        sample.write(tmp_path / f"{sample.name} here")
    for sample in SAMPLES.values():
        check_sample(sample, tmp_path)


def test_rows_twice_and_absent_images_are_all_found(tmp_path: Path) -> None:
    text = HAM10000.tables["HAM10000_metadata.csv"]
    lines = text.splitlines(keepends=True)
    root = HAM10000.write(tmp_path, {"HAM10000_metadata.csv": text + lines[1] + lines[2]}, {"images": slice(0, -1)})
    found = find_dataset("ham10000", root)
    assert [finding.kind for finding in found.findings] == ["row without image", "row twice", "row twice"]
    assert messages(found)[2].startswith("HAM10000_metadata.csv line 31: ISIC_0024332 is named again after line 3")
    assert len(found.dataset) == 27
