"""The sets of MedMNIST v2."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from lmf_testing.npz import medmnist_arrays, write_npz
from numpy.typing import NDArray
from PIL import Image

from trainer.data import npz
from trainer.data.catalog import dataset_title, find_dataset, find_source, open_dataset
from trainer.data.images import BrokenImageError
from trainer.data.sets import medmnist
from trainer.errors import DataError

COUNTS = {"train": 9, "val": 7, "test": 8}
Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def arrays() -> Arrays:
    return medmnist_arrays(COUNTS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and no package that could download."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setitem(sys.modules, "medmnist", None)
    return home


# What a set holds


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("size", [28, 64])
def test_images_and_labels_are_those_of_the_file(size: int, grey: bool, compressed: bool, tmp_path: Path) -> None:
    arrays = medmnist_arrays(COUNTS, size, grey)
    write_npz(tmp_path / ("dermamnist.npz" if size == 28 else f"dermamnist_{size}.npz"), arrays, compressed)
    dataset = open_dataset("medmnist:dermamnist", tmp_path)
    assert dataset.name == "dermamnist"
    assert len(dataset) == 24
    assert dataset.files is None
    assert not dataset.groups
    for index, name in enumerate(dataset.image_names):
        part, row = name.split("/")
        image = arrays[f"{part}_images"][int(row)]
        assert dataset.read(index) == image.tobytes()
        pixels = dataset.decode(dataset.read(index), size)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, np.repeat(image[..., None], 3, axis=2) if grey else image)
        assert dataset.labels[index] == arrays[f"{part}_labels"][int(row), 0]


@pytest.mark.parametrize("grey", [True, False])
def test_images_are_resized_by_interpolation(grey: bool, tmp_path: Path) -> None:
    arrays = medmnist_arrays(COUNTS, 28, grey)
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays))
    for size in (14, 56):
        pixels = dataset.decode(dataset.read(0), size)
        scan = Image.fromarray(arrays["test_images"][0])
        expected = np.asarray(scan.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"))
        assert np.array_equal(pixels, expected)
        assert np.array_equal(dataset.decode(dataset.read(0), size, exact=True), pixels)


def test_images_come_in_the_order_of_their_names_with_the_published_split(arrays: Arrays, tmp_path: Path) -> None:
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays))
    assert list(dataset.image_names) == sorted(set(dataset.image_names))
    assert dataset.image_names[::8] == ("test/000000", "train/000000", "train/000008")
    assert dataset.image_names[-1] == "val/000006"
    assert dataset.published_split is not None
    assert dataset.published_split.dtype == np.int8
    assert dataset.published_split.tolist() == [2] * 8 + [0] * 9 + [1] * 7
    assert find_source("medmnist:dermamnist").publishes_split


@pytest.mark.parametrize("name", sorted(medmnist.CLASSES))
def test_labels_follow_the_published_order_of_classes(name: str, tmp_path: Path) -> None:
    classes = medmnist.CLASSES[name]
    arrays = medmnist_arrays({"train": 11, "val": 12, "test": 13}, grey=True, classes=len(classes))
    dataset = open_dataset(f"medmnist:{name}", write_npz(tmp_path / f"{name}.npz", arrays))
    assert dataset.class_names == tuple(sorted(set(classes)))
    assert all(code.isascii() and " " not in code for code in classes)
    assert len(dataset.class_names) == len(classes)
    assert dataset.labels.dtype == np.int64
    given = np.concatenate([arrays[f"{part}_labels"][:, 0] for part in ("test", "train", "val")])
    assert [dataset.class_names[label] for label in dataset.labels] == [classes[label] for label in given]


def test_classes_are_as_many_as_published_whatever_is_installed() -> None:
    numbers = {name: len(classes) for name, classes in medmnist.CLASSES.items()}
    assert numbers == {
        **{"pathmnist": 9, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "retinamnist": 5, "breastmnist": 2},
        **{"bloodmnist": 8, "tissuemnist": 8, "organamnist": 11, "organcmnist": 11, "organsmnist": 11},
    }
    assert medmnist.CLASSES["dermamnist"] == ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC")
    assert medmnist.CLASSES["breastmnist"][0] == "malignant"
    assert medmnist.CLASSES["pneumoniamnist"][1] == "pneumonia"


@pytest.mark.parametrize("kind", ["uint8", "int64", ">i4"])
def test_labels_may_be_any_integers(kind: str, arrays: Arrays, tmp_path: Path) -> None:
    labels = {key: value.astype(kind) for key, value in arrays.items() if key.endswith("labels")}
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays | labels))
    assert dataset.labels.tolist()[:8] == [0, 1, 2, 3, 4, 5, 6, 0]


def test_a_class_without_image_is_found(tmp_path: Path) -> None:
    write_npz(tmp_path / "dermamnist.npz", medmnist_arrays(COUNTS, classes=6))
    found = find_dataset("medmnist:dermamnist", tmp_path)
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("empty class", "error")]
    assert found.findings[0].message.endswith("dermamnist.npz: no image of the class VASC")
    assert "VASC" not in open_dataset("medmnist:dermamnist", tmp_path, drop_empty=True).class_names


def test_without_images_only_labels_are_read(arrays: Arrays, tmp_path: Path) -> None:
    labels = {key: value for key, value in arrays.items() if key.endswith("labels")}
    write_npz(tmp_path / "dermamnist.npz", labels)
    dataset = open_dataset("medmnist:dermamnist", tmp_path, with_images=False)
    assert dataset.totals == (5, 4, 3, 3, 3, 3, 3)
    assert dataset.published_split is not None
    with pytest.raises(BrokenImageError, match="was not looked for"):
        dataset.read(0)


def test_there_are_no_groups(arrays: Arrays, tmp_path: Path) -> None:
    write_npz(tmp_path / "dermamnist.npz", arrays)
    with pytest.raises(DataError, match=r"^--group lesion: medmnist has no groups; its files name no patients"):
        open_dataset("medmnist:dermamnist", tmp_path, group="lesion")


# Names and places


@pytest.mark.parametrize("place", ["dermamnist.npz", "a/b/dermamnist.npz"])
def test_the_file_may_lie_anywhere_below_the_data(place: str, arrays: Arrays, tmp_path: Path, home: Path) -> None:
    file = write_npz(tmp_path / "data" / place, arrays)
    assert open_dataset("medmnist:dermamnist", tmp_path / "data").read(0) == arrays["test_images"][0].tobytes()
    assert len(open_dataset("medmnist:dermamnist", file)) == 24
    file.rename(tmp_path / "own-name.npz")
    assert len(open_dataset("medmnist:dermamnist", tmp_path / "own-name.npz")) == 24


def test_without_data_the_packages_own_folder_is_looked_in(arrays: Arrays, home: Path) -> None:
    write_npz(home / ".medmnist" / "dermamnist.npz", arrays)
    assert len(open_dataset("medmnist:dermamnist", None)) == 24


def test_a_size_can_be_asked_for(tmp_path: Path) -> None:
    for size in (64, 128):
        write_npz(tmp_path / f"dermamnist_{size}.npz", medmnist_arrays(COUNTS, size))
    both = r"holds dermamnist_64, dermamnist_128; say which is meant, as in medmnist:dermamnist_64$"
    with pytest.raises(DataError, match=both):
        open_dataset("medmnist:dermamnist", tmp_path)
    dataset = open_dataset("medmnist:dermamnist_128", tmp_path)
    assert (dataset.name, len(dataset.read(0))) == ("dermamnist_128", 128 * 128 * 3)
    write_npz(tmp_path / "dermamnist.npz", medmnist_arrays(COUNTS))
    assert len(open_dataset("medmnist:dermamnist", tmp_path).read(0)) == 28 * 28 * 3
    with pytest.raises(DataError, match=r"dermamnist_224\.npz is not below it"):
        open_dataset("medmnist:dermamnist_224", tmp_path)


def test_several_files_of_the_name_are_unclear(arrays: Arrays, tmp_path: Path) -> None:
    for place in ("b", "a", ".hidden"):
        write_npz(tmp_path / place / "dermamnist.npz", arrays)
    with pytest.raises(DataError, match=r"holds both a/dermamnist\.npz and b/dermamnist\.npz; name one of them"):
        open_dataset("medmnist:dermamnist", tmp_path)


@pytest.mark.parametrize("asked", ["bloodmnist", "dermamnist_64"])
def test_a_file_of_another_set_or_size_is_refused(asked: str, arrays: Arrays, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", arrays)
    with pytest.raises(DataError, match=f"is the file of medmnist:dermamnist, not of {asked}$"):
        open_dataset(f"medmnist:{asked}", file)


@pytest.mark.parametrize("name", ["mnist", "dermamnist_28", "dermamnist_65", "dermamnist_", "../dermamnist", ""])
def test_an_unknown_set_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(f"medmnist:{name}", tmp_path)
    assert str(caught.value) == (
        f"medmnist:NAME: unknown set {name!r}; known are bloodmnist, breastmnist, dermamnist, octmnist, organamnist, "
        "organcmnist, organsmnist, pathmnist, pneumoniamnist, retinamnist, tissuemnist, each also as NAME_64, "
        "NAME_128 and NAME_224"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [("chestmnist", "several labels each"), ("organmnist3d", "volumes"), ("vesselmnist3d_64", "volumes")],
)
def test_what_is_not_one_class_an_image_is_refused(name: str, said: str) -> None:
    with pytest.raises(DataError, match=f"^medmnist:{name}: .*{said}"):
        open_dataset(f"medmnist:{name}", None)


def test_titles_are_the_names(tmp_path: Path) -> None:
    assert dataset_title("medmnist:dermamnist") == "dermamnist"
    assert dataset_title("medmnist:bloodmnist_224", tmp_path) == "bloodmnist_224"
    with pytest.raises(DataError, match="unknown set"):
        dataset_title("medmnist:x")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=rf"^cannot read the folder {tmp_path}: Permission denied$"):
        open_dataset("medmnist:dermamnist", tmp_path)


def test_data_that_is_neither_folder_nor_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt: is no complete \.npz file"):
        open_dataset("medmnist:dermamnist", tmp_path / "notes.txt")


# What is wrong with a file


def _without(key: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {name: value for name, value in arrays.items() if name != key}


def _changed(key: str, change: Callable[[NDArray[Any]], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {key: np.asarray(change(arrays[key]))}


MALFORMED: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "no images": (_without("val_images"), "holds no val_images, but test_images, test_labels, train_images"),
    "no labels": (_without("test_labels"), "holds no test_labels, but"),
    "nothing": (lambda arrays: {}, "holds no test_labels, but nothing"),
    "float images": (_changed("train_images", lambda a: a / 255), r"train_images is float64 of shape \(9, 28, 28, 3\)"),
    "flat images": (
        _changed("train_images", lambda a: a.reshape(9, -1)),
        r"train_images is uint8 of shape \(9, 2352\)",
    ),
    "two channels": (
        _changed("val_images", lambda a: a[..., :2]),
        r"val_images is uint8 of shape \(7, 28, 28, 2\); expected uint8 of shape",
    ),
    "other size": (
        _changed("test_images", lambda a: a[:, :20, :20]),
        r"test_images is .*; expected uint8 of shape \(n, 28, 28\) or ",
    ),
    "mixed": (_changed("val_images", lambda a: a[..., 0]), r"val_images is .*; expected .* shape \(n, 28, 28, 3\)$"),
    "by column": (
        _changed("val_images", np.asfortranarray),
        "val_images cannot be used: it is stored column by column",
    ),
    "fewer images": (_changed("val_images", lambda a: a[:5]), "val_images has 5 images for the 7 of val_labels"),
    "float labels": (
        _changed("val_labels", lambda a: a * 1.0),
        r"val_labels is float64 of shape \(7, 1\); expected int",
    ),
    "many labels": (_changed("val_labels", lambda a: a.repeat(14, 1)), r"val_labels is uint8 of shape \(7, 14\)"),
    "high label": (_changed("train_labels", lambda a: a + (a == 5) * 4), "train_labels has 9 in row 5; dermamnist has"),
    "negative": (_changed("train_labels", lambda a: a.astype(int) - 1), "train_labels has -1 in row 0; .* 0 to 6$"),
    "empty part": (
        lambda arrays: arrays | {"val_images": arrays["val_images"][:0], "val_labels": arrays["val_labels"][:0]},
        "val_labels is empty",
    ),
}


@pytest.mark.parametrize("case", sorted(MALFORMED))
def test_a_malformed_file_is_refused_with_file_and_key(case: str, arrays: Arrays, tmp_path: Path) -> None:
    change, said = MALFORMED[case]
    write_npz(tmp_path / "dermamnist.npz", change(arrays))
    with pytest.raises(DataError, match=f"^{tmp_path}/dermamnist.npz: {said}") as caught:
        open_dataset("medmnist:dermamnist", tmp_path)
    assert "\n" not in str(caught.value)


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (99,)


@pytest.mark.parametrize("key", ["test_images", "test_labels"])
def test_objects_are_never_unpickled(key: str, arrays: Arrays, tmp_path: Path) -> None:
    trap = np.empty((8, 1), dtype=object)
    trap[:] = _Trap()
    write_npz(tmp_path / "dermamnist.npz", arrays | {key: trap})
    with pytest.raises(DataError, match=f"npz: {key} cannot be used: it holds Python objects, which are never unpick"):
        open_dataset("medmnist:dermamnist", tmp_path)


def test_what_is_no_complete_archive_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", arrays)
    whole = file.read_bytes()
    for content in (b"", b"<html>Not found</html>", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"dermamnist.npz: is no complete .npz file: .*; download it again$"):
            open_dataset("medmnist:dermamnist", tmp_path)
    file.unlink()
    file.symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"dermamnist\.npz: cannot be read: No such file or directory"):
        open_dataset("medmnist:dermamnist", tmp_path)


@pytest.mark.parametrize(
    "content", [b"no array at all", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': 'x'  \n"]
)
def test_a_member_that_is_no_array_is_refused(content: bytes, arrays: Arrays, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", _without("val_labels")(arrays))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("val_labels.npy", content)
    with pytest.raises(DataError, match=r"dermamnist\.npz: val_labels cannot be used: .*; download the file again$"):
        open_dataset("medmnist:dermamnist", tmp_path)


def test_an_array_that_announces_more_than_it_holds_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", arrays, compressed=False)
    short = write_npz(tmp_path / "short.npz", arrays, compressed=False)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(short, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: -1 if name == "train_images.npy" else None])
    with pytest.raises(
        DataError, match=r"short.npz: train_images cannot be used: it does not hold the \(9, 28, 28, 3\)"
    ):
        open_dataset("medmnist:dermamnist", short)


@pytest.mark.parametrize("key", ["train_images", "train_labels"])
def test_an_archive_that_lies_about_a_size_gives_no_image(key: str, arrays: Arrays, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", _without(key)(arrays))
    one = arrays[key][:1].nbytes
    with zipfile.ZipFile(write_npz(tmp_path / "whole.npz", arrays)) as archive:
        cut = archive.read(f"{key}.npy")[:-one]
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{key}.npy", cut)
        archive.getinfo(f"{key}.npy").file_size += one
    if key == "train_labels":
        with pytest.raises(DataError, match="npz: train_labels cannot be used: "):
            open_dataset("medmnist:dermamnist", tmp_path)
        return
    dataset = open_dataset("medmnist:dermamnist", tmp_path)
    assert dataset.read(15) == _image(arrays, "train/000007")
    with pytest.raises(BrokenImageError, match="train_images is damaged: it is cut short"):
        dataset.read(16)


def _damage(file: Path, key: str) -> None:
    """Turn a byte in the middle of a member."""
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(f"{key}.npy")
    content[info.header_offset + 80 + info.compress_size // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_labels_are_refused(compressed: bool, arrays: Arrays, tmp_path: Path) -> None:
    long = {key: np.resize(value, (4000, *value.shape[1:])) for key, value in arrays.items()}
    file = write_npz(tmp_path / "dermamnist.npz", long, compressed)
    _damage(file, "train_labels")
    with pytest.raises(DataError, match=r"dermamnist\.npz: train_labels cannot be used: "):
        open_dataset("medmnist:dermamnist", tmp_path)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_images_are_broken_ones_and_the_other_parts_are_read(
    compressed: bool, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", arrays, compressed)
    _damage(file, "train_images")
    dataset = open_dataset("medmnist:dermamnist", tmp_path)
    opened = _count_opening(monkeypatch)
    broken: dict[str, str] = {}
    for index, name in enumerate(dataset.image_names):
        try:
            assert dataset.read(index) == _image(arrays, name)
        except BrokenImageError as error:
            broken[name] = str(error).partition(" is damaged: ")[0]
    assert "train/000008" in broken
    assert all(name.startswith("train/") for name in broken)
    assert set(broken.values()) == {f"cannot be unpacked from {file}: train_images"}
    assert opened == ["test_images.npy", "train_images.npy", "val_images.npy"]


def test_a_file_that_changed_since_is_noticed(arrays: Arrays, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "dermamnist.npz", arrays)
    dataset = open_dataset("medmnist:dermamnist", tmp_path)
    write_npz(file, medmnist_arrays({"train": 9, "val": 7, "test": 12}))
    with pytest.raises(BrokenImageError, match="test_images is damaged: the file has changed since it was opened"):
        dataset.read(0)
    file.unlink()
    copy = pickle.loads(pickle.dumps(dataset.read))
    with pytest.raises(BrokenImageError, match=r"cannot be unpacked from .*No such file"):
        copy(0)


# Reading in passing


def _image(arrays: Arrays, name: str) -> bytes:
    part, row = name.split("/")
    return bytes(arrays[f"{part}_images"][int(row)].tobytes())


def _count_opening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The members that are opened from now on, once for each time."""
    opened: list[str] = []
    plain = zipfile.ZipFile.open

    def counting(self: zipfile.ZipFile, info: zipfile.ZipInfo, *rest: Any) -> Any:
        opened.append(info.filename)
        return plain(self, info, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "open", counting)
    return opened


@pytest.mark.parametrize("ahead", [1, 60])
def test_threads_that_read_nearly_in_order_unpack_each_array_once(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = medmnist_arrays({"train": 300, "val": 90, "test": 100}, grey=True)
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays))
    opened = _count_opening(monkeypatch)
    shuffled = random.Random(3)
    order = sorted(range(len(dataset)), key=lambda index: index + shuffled.random() * ahead)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as pool:
            read = dict(zip(order, pool.map(dataset.read, order), strict=True))
    finally:
        sys.setswitchinterval(interval)
    assert all(read[index] == _image(arrays, name) for index, name in enumerate(dataset.image_names))
    assert opened == ["test_images.npy", "train_images.npy", "val_images.npy"]


def test_an_image_that_was_passed_over_waits_until_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "_WINDOW_ROWS", 4)
    arrays = medmnist_arrays({"train": 40, "val": 20, "test": 30}, grey=True)
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays))
    opened = _count_opening(monkeypatch)
    for index in (0, *range(2, 30), 1, 30):
        assert dataset.read(index) == _image(arrays, dataset.image_names[index])
    assert opened == ["test_images.npy", "train_images.npy"]


def test_any_order_gives_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "_WINDOW_ROWS", 4)
    arrays = medmnist_arrays({"train": 40, "val": 20, "test": 30}, grey=True)
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays))
    order = [*range(90), *range(89, -1, -1), *random.Random(5).choices(range(90), k=300), 7, 7, 8, 7]
    for index in order:
        assert dataset.read(index) == _image(arrays, dataset.image_names[index])


def test_a_far_jump_passes_over_a_part_without_unpacking_it(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "_WINDOW_ROWS", 4)
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays))
    opened = _count_opening(monkeypatch)
    for index in (0, 20, 1):
        assert dataset.read(index) == _image(arrays, dataset.image_names[index])
    assert opened == ["test_images.npy", "val_images.npy", "test_images.npy"]


def test_a_far_jump_into_the_next_part_does_not_unpack_the_rest_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = medmnist_arrays({"train": 100, "val": 7, "test": 100}, 128)
    dataset = open_dataset("medmnist:dermamnist_128", write_npz(tmp_path / "dermamnist_128.npz", arrays, False))
    unpacked = {"test_images.npy": 0, "train_images.npy": 0}
    plain = zipfile.ZipExtFile.read

    def counting(self: zipfile.ZipExtFile, size: int = -1) -> bytes:
        data = plain(self, size)
        unpacked[str(self.name)] += len(data)
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
    monkeypatch.setattr(npz, "_WINDOW_ROWS", 4)
    for index in (0, 180):
        assert dataset.read(index) == _image(arrays, dataset.image_names[index])
    assert unpacked["train_images.npy"] > 80 * 128 * 128 * 3
    assert unpacked["test_images.npy"] < 2 * 2**20 < 100 * 128 * 128 * 3


def test_memory_stays_far_below_the_arrays(tmp_path: Path) -> None:
    big = np.zeros((700, 224, 224, 3), dtype=np.uint8)
    big[:, 0, 0, 0] = np.arange(700) % 251
    arrays = medmnist_arrays({"train": 700, "val": 7, "test": 7}, 28)
    small = {f"{part}_images": np.zeros((7, 224, 224, 3), dtype=np.uint8) for part in ("val", "test")}
    write_npz(tmp_path / "dermamnist_224.npz", arrays | small | {"train_images": big})
    del big
    tracemalloc.start()
    try:
        dataset = open_dataset("medmnist:dermamnist_224", tmp_path)
        firsts = [dataset.read(index)[0] for index in range(len(dataset))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert firsts[7:707] == [row % 251 for row in range(700)]
    assert peak < 25 * 2**20 < 700 * 224 * 224 * 3 / 4


def test_reading_goes_on_in_a_pickled_copy_and_in_a_forked_process(arrays: Arrays, tmp_path: Path) -> None:
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays, compressed=False))
    assert dataset.read(3) == _image(arrays, dataset.image_names[3])
    copy = pickle.loads(pickle.dumps(dataset.read))
    assert copy(20) == _image(arrays, dataset.image_names[20])
    pixels = pickle.loads(pickle.dumps(dataset.decode))(copy(20), 28)
    assert pixels.tobytes() == copy(20)


def _send_all(read: Callable[[int], bytes], count: int, pipe: Any) -> None:
    pipe.send([read(index) for index in range(count)])
    pipe.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_reads_for_itself(tmp_path: Path) -> None:
    arrays = medmnist_arrays({"train": 900, "val": 300, "test": 900})
    dataset = open_dataset("medmnist:dermamnist", write_npz(tmp_path / "dermamnist.npz", arrays, compressed=False))
    assert dataset.read(450) == _image(arrays, "test/000450")
    here, there = multiprocessing.Pipe(duplex=False)
    read = dataset.read
    assert isinstance(read, npz.StreamedRows)
    with next(iter(read._passes.values())).lock:  # held by some thread at the moment of the fork
        child = multiprocessing.get_context("fork").Process(
            target=_send_all, args=(read, len(dataset), there), daemon=True
        )
        child.start()
    there.close()
    mine = [read(index) for index in range(451, len(dataset))]
    assert here.poll(60), "the forked process waits for a lock that nobody holds"
    theirs = here.recv()
    child.join()
    assert theirs[451:] == mine
    assert theirs == [_image(arrays, name) for name in dataset.image_names]


def test_a_file_is_closed_after_its_last_image_and_when_its_dataset_is_gone(arrays: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "dermamnist.npz", arrays)
    dataset = open_dataset("medmnist:dermamnist", path)
    dataset.read(0)
    assert _is_open(path)
    dataset.read(len(dataset) - 1)
    assert not _is_open(path)
    dataset = open_dataset("medmnist:dermamnist", path)
    dataset.read(0)
    assert _is_open(path)
    del dataset
    assert not _is_open(path)


def _is_open(path: Path) -> bool:
    return str(path) in [file.path for file in psutil.Process().open_files()]


# Downloading


class FakePackage(SimpleNamespace):
    """The package `medmnist`, that downloads what it is given."""

    def __init__(self, arrays: Arrays, error: BaseException | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.INFO = {"dermamnist": {"python_class": "DermaMNIST"}}
        self.arrays, self.error = arrays, error

    def DermaMNIST(self, *, split: str, download: bool, root: str, size: int) -> None:
        print("Downloading https://...")
        self.calls.append({"split": split, "download": download, "size": size})
        file = Path(root) / ("dermamnist.npz" if size == 28 else f"dermamnist_{size}.npz")
        assert file.parent.is_dir()
        try:
            if self.error:
                file.write_bytes(b"the first half")
                raise self.error
            write_npz(file, self.arrays)
        except BaseException:
            raise RuntimeError("\n    Automatic download failed! Please download manually.\n") from None


@pytest.mark.parametrize(("name", "size"), [("dermamnist", 28), ("dermamnist_64", 64)])
def test_a_missing_file_is_downloaded_once(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = medmnist_arrays(COUNTS, size)
    package = FakePackage(arrays)
    monkeypatch.setitem(sys.modules, "medmnist", package)
    folder = tmp_path / "new"
    for _ in range(2):
        dataset = open_dataset(f"medmnist:{name}", folder)
        assert dataset.read(0) == arrays["test_images"][0].tobytes()
    assert [path.name for path in folder.iterdir()] == [f"{name}.npz"]
    assert [(call["download"], call["size"]) for call in package.calls] == [(True, size)]
    assert capsys.readouterr().out == ""


def test_without_data_it_is_downloaded_to_the_packages_folder(
    arrays: Arrays, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", FakePackage(arrays))
    assert len(open_dataset("medmnist:dermamnist", None)) == 24
    assert (home / ".medmnist" / "dermamnist.npz").is_file()


def test_without_the_package_the_message_says_what_to_do(tmp_path: Path, home: Path) -> None:
    for data, folder in ((tmp_path / "new", tmp_path / "new"), (None, home / ".medmnist")):
        with pytest.raises(DataError) as caught:
            open_dataset("medmnist:dermamnist_64", data)
        assert str(caught.value) == (
            f"{folder}: dermamnist_64.npz is not below it; pip install 'lmf[medmnist]' to have it downloaded, or put "
            "dermamnist_64.npz there from https://zenodo.org/records/10519652"
        )
        assert not folder.exists()


def test_a_file_that_is_named_is_not_downloaded(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = FakePackage(arrays)
    monkeypatch.setitem(sys.modules, "medmnist", package)
    with pytest.raises(DataError, match=r"dermamnist\.npz: cannot be read: No such file or directory"):
        open_dataset("medmnist:dermamnist", tmp_path / "dermamnist.npz")
    assert not package.calls


def test_a_failed_download_leaves_nothing_and_says_why(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", FakePackage(arrays, OSError("Name or service not known")))
    with pytest.raises(DataError) as caught:
        open_dataset("medmnist:dermamnist", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: dermamnist.npz is not below it, and downloading failed: Name or service not known; put "
        "dermamnist.npz there from https://zenodo.org/records/10519652"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    with pytest.raises(DataError, match=r"and downloading failed: .*No such file or directory"):
        open_dataset("medmnist:dermamnist", tmp_path / "mistyped" / "folder")


def test_ctrl_c_ends_a_download(arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", FakePackage(arrays, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        open_dataset("medmnist:dermamnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import not_there_at_all", "and medmnist lacks the package not_there_at_all; put"),
        ("raise RuntimeError('operator does not\\nexist')", "medmnist cannot be loaded: operator does not exist; put"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "medmnist.py").write_text(f"{source}\n")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "medmnist")
    with pytest.raises(DataError, match=said):
        open_dataset("medmnist:dermamnist", tmp_path / "data")


def test_torch_is_not_loaded_for_a_file_that_is_there(arrays: Arrays, tmp_path: Path) -> None:
    write_npz(tmp_path / "dermamnist.npz", arrays)
    code = (
        "import sys; from pathlib import Path; from trainer.data.catalog import open_dataset\n"
        f"open_dataset('medmnist:dermamnist', Path({str(tmp_path)!r})).read(0)\n"
        "print(sorted({'torch', 'medmnist', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
