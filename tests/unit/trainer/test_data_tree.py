"""What lies below a folder."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from lmf_testing.images import write_picture

from trainer.data.tree import FoundImage, check_inside, resolve_folder, table_stem, walk
from trainer.errors import DataError


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("t.csv", "t"),
        ("T.v1.TSV", "T.v1"),
        ("t.tab", "t"),
        ("t.txt", "t"),
        ("t", "t"),
        ("t.csv.gz", "t"),
        ("t.CSV.GZ", "t"),
        ("t.gz", "t"),
        ("t.xlsx", None),
        ("t.zip", None),
        ("t.tar.gz", None),
    ],
)
def test_tables_are_told_by_their_suffix(name: str, stem: str | None) -> None:
    assert table_stem(name) == stem


def test_images_and_tables_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("b/x/2.JPG", "b/1.png", "a.png", ".hidden/3.png", "skip/4.png", "b/skip/5.png", "b/._6.png"):
        write_picture(tmp_path / name, 1)
    for name in ("b/t.csv", "t", "notes.docx", "skip/t.csv", ".t.csv"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    asked: list[str] = []

    def skip(name: str) -> bool:
        asked.append(name)
        return name.endswith("skip")

    tree = walk(tmp_path, skip)
    assert tree.root == tmp_path
    assert tree.folders == ("b", "skip")
    assert [image.name for image in tree.images] == ["a.png", "b/1.png", "b/x/2.JPG"]
    assert [image.path for image in tree.images] == [tmp_path / image.name for image in tree.images]
    assert [table.name for table in tree.tables] == ["b/t.csv", "t"]
    assert tree.linked_folders == ("b/up",)
    assert tree.not_followed == " (links to folders are not followed: b/up)"
    assert sorted(asked) == ["b", "b/skip", "b/x", "skip"]
    assert walk(tmp_path / "b" / "x").not_followed == ""


def test_names_are_composed_and_text(tmp_path: Path) -> None:
    write_picture(tmp_path / unicodedata.normalize("NFD", "é.png"), 1)
    (image,) = walk(tmp_path).images
    assert image.name == unicodedata.normalize("NFC", "é.png")
    assert image.path.is_file()
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    with pytest.raises(DataError, match=r"the file name '\\udcff' is not UTF-8; rename it"):
        walk(tmp_path)


def test_links_may_not_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    inside, outside = write_picture(root / "a.png", 1), write_picture(tmp_path / "b.png", 1)
    for name, target in {"in": inside, "out": outside, "gone": tmp_path / "x.png", "loop": root / "loop.png"}.items():
        (root / f"{name}.png").symlink_to(target)
    found = {image.name: image for image in walk(root).images}
    assert len(found) == 5
    check_inside(found["a.png"], root)
    check_inside(found["in.png"], root)
    check_inside(FoundImage("b.png", outside, False), root)
    for name, said in {
        "out": f"out.png is a link to {outside}, which leaves the data folder {root}; copy the file in",
        "gone": "gone.png is a broken link: No such file or directory",
        "loop": "loop.png is a broken link: ",
    }.items():
        with pytest.raises(DataError) as caught:
            check_inside(found[f"{name}.png"], root)
        assert str(caught.value).startswith(said)


def test_a_folder_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert resolve_folder(tmp_path / "link") == tmp_path / "real"
    with pytest.raises(DataError, match=r"data folder .*absent: No such file or directory"):
        resolve_folder(tmp_path / "absent")
    with pytest.raises(DataError, match=r"a.png: is a file; give the folder that holds the images"):
        resolve_folder(write_picture(tmp_path / "a.png", 1))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as caught:
        walk(tmp_path)
    assert str(caught.value) == f"cannot read the folder {tmp_path}: Permission denied"
