"""One look at every image of a dataset."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.images import encode, picture, write_broken_files
from PIL import Image

from trainer.data.catalog import open_dataset
from trainer.data.dataset import ImageDataset
from trainer.data.images import decode_image, read_image_file
from trainer.data.inspection import Inspection, inspect_images, perceptual_hash
from trainer.data.source import LabelledImage, build_dataset

LARGE = {"width": 60, "height": 48}


def dataset_below(folder: Path) -> ImageDataset:
    """All files of a folder, and those that should be there."""
    images = [LabelledImage(path.name, "ab"[index % 2], path) for index, path in enumerate(sorted(folder.iterdir()))]
    return build_dataset("set", folder, ("a", "b"), images)


def kinds(inspection: Inspection) -> dict[str, str]:
    """From each image that has a finding to the finding's kind."""
    return {finding.images[0]: finding.kind for finding in inspection.findings}


@pytest.mark.parametrize("workers", [1, 3])
def test_each_broken_file_is_an_error_of_its_kind(tmp_path: Path, workers: int) -> None:
    said = write_broken_files(tmp_path)
    (tmp_path / "absent.png").symlink_to(tmp_path / "nowhere.png")
    picture(1, **LARGE).save(tmp_path / "good.png")
    inspection = inspect_images(dataset_below(tmp_path), workers=workers)
    assert kinds(inspection) == {
        "absent.png": "unreadable",
        "bit-flip.png": "damaged",
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "empty.jpg": "unreadable",
        "heavy.tif": "unreadable",
        "text.png": "unknown format",
        "wide.png": "unreadable",
        "wider.png": "unreadable",
    }
    assert {finding.severity for finding in inspection.findings} == {"error"}
    for finding in inspection.findings:
        start = f"{tmp_path / finding.images[0]} "
        assert finding.message.startswith(start + said.get(finding.images[0], "cannot be read: No such file"))
        assert "\n" not in finding.message
    names = sorted(path.name for path in tmp_path.iterdir())
    assert inspection.usable.tolist() == [name == "good.png" for name in names]
    assert not inspection.digests[~inspection.usable].any()
    assert not inspection.hashes[~inspection.usable].any()


def test_tiny_files_are_warned_of(tmp_path: Path) -> None:
    for width, height in ((31, 200), (200, 31), (32, 32), (90, 40)):
        picture(width, width, height).save(tmp_path / f"{width}x{height}.png")
    inspection = inspect_images(dataset_below(tmp_path))
    assert kinds(inspection) == {"200x31.png": "tiny", "31x200.png": "tiny"}
    wide, _ = inspection.findings
    assert wide.severity == "warning"
    assert wide.message == f"{tmp_path / '200x31.png'} is 200 x 31 pixels; the shorter side is below 32"
    assert inspection.usable.all()
    assert len(inspect_images(dataset_below(tmp_path), min_side=33).findings) == 3


def test_a_large_jpeg_is_not_tiny_because_it_is_decoded_small(tmp_path: Path) -> None:
    picture(1, 640, 480).save(tmp_path / "photo.jpg")
    assert inspect_images(dataset_below(tmp_path)).findings == ()


def test_blank_images_are_warned_of(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), (200, 10, 10)).save(tmp_path / "red.png")
    grain = np.random.RandomState(2).randint(126, 129, (48, 60, 3), dtype=np.uint8)
    Image.fromarray(grain).save(tmp_path / "grain.png")
    faint = np.full((48, 60, 3), 100, dtype=np.uint8)
    faint[:, 30:] = 104
    Image.fromarray(faint).save(tmp_path / "faint.png")
    inspection = inspect_images(dataset_below(tmp_path))
    assert kinds(inspection) == {"grain.png": "blank", "red.png": "blank"}
    assert {finding.severity for finding in inspection.findings} == {"warning"}
    assert inspection.findings[1].message == (
        f"{tmp_path / 'red.png'} shows nothing: the standard deviation of its grey levels is 0.0 of 255"
    )
    assert inspection.blank.tolist() == [False, True, True]
    assert inspection.usable.all()


def test_digests_are_those_of_the_files_in_the_datasets_order(tmp_path: Path) -> None:
    for seed in range(70):
        picture(seed, **LARGE).save(tmp_path / f"{seed:02d}.png")
    inspection = inspect_images(dataset_below(tmp_path), workers=4)
    paths = sorted(tmp_path.iterdir())
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    assert len(inspection) == 70
    assert [row.tobytes() for row in inspection.digests] == digests
    expected = [perceptual_hash(decode_image(read_image_file(path), 64)) for path in paths]
    assert np.array_equal(inspection.hashes, expected)
    assert len(np.unique(inspection.hashes, axis=0)) == 70


def test_progress_ends_at_the_number_of_images(tmp_path: Path) -> None:
    for seed in range(40):
        (tmp_path / f"{seed:02d}.png").write_bytes(encode(picture(seed, **LARGE), "PNG") if seed % 2 else b"")
    told: list[tuple[int, int]] = []
    inspect_images(dataset_below(tmp_path), workers=2, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40)
    assert told == sorted(told)


def test_images_that_are_no_files_are_not_called_tiny() -> None:
    inspection = inspect_images(open_dataset("digits-lt", None), workers=2)
    assert inspection.findings == ()
    assert inspection.usable.all()
    assert not inspection.blank.any()


def test_a_hash_hardly_changes_when_an_image_is_compressed_and_does_with_another_image() -> None:
    def hash_of(data: bytes) -> np.ndarray:
        return perceptual_hash(decode_image(data, 64))

    image = picture(1, 8, 6).resize((320, 240), Image.Resampling.BICUBIC)
    other = picture(2, 8, 6).resize((320, 240), Image.Resampling.BICUBIC)
    hashes = hash_of(encode(image, "PNG"))
    assert hashes.shape == (12,)
    assert hashes.dtype == np.uint64
    assert np.bitwise_count(hashes ^ hash_of(encode(image.resize((200, 150)), "JPEG", quality=75))).sum() < 60
    assert np.bitwise_count(hashes ^ hash_of(encode(other, "PNG"))).sum() > 150


def test_a_hash_tells_brighter_across_from_brighter_down() -> None:
    across = np.repeat(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))[:, :, None], 3, axis=2)
    down = across.transpose(1, 0, 2).copy()
    every, none = [2**64 - 1] * 4, [0] * 4
    assert perceptual_hash(across)[4:].tolist() == every + none
    assert perceptual_hash(down)[4:].tolist() == none + every


@pytest.mark.parametrize("name", ["HAM10000", "ISIC-2019", "ODIR-5K", "COVID-19_Radiography_Dataset"])
def test_real_images_have_nothing_wrong_with_them(test_data: Path, name: str) -> None:
    paths = [path for path in (test_data / "data/images" / name).rglob("*") if path.suffix in (".jpg", ".png")]
    images = [LabelledImage(path.name, "ab"[index % 2], path) for index, path in enumerate(sorted(paths)[:200])]
    inspection = inspect_images(build_dataset(name, test_data, ("a", "b"), images), workers=2)
    assert inspection.findings == ()
    assert inspection.usable.all()
