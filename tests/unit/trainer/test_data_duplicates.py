"""Images that are in a dataset more than once."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.images import encode, picture
from PIL import Image, ImageEnhance

from trainer.data import duplicates
from trainer.data.dataset import ImageDataset
from trainer.data.duplicates import MAX_DISTANCE, duplicate_findings, similar_pairs
from trainer.data.findings import Finding
from trainer.data.images import decode_image
from trainer.data.inspection import HASH_BITS, HASH_WORDS, Hashes, Inspection, inspect_images, perceptual_hash
from trainer.data.source import LabelledImage, build_dataset
from trainer.data.splits import Split

REAL_SETS = ("HAM10000", "ISIC-2019", "ODIR-5K", "COVID-19_Radiography_Dataset")
Bits = np.ndarray[tuple[int, int], np.dtype[np.uint8]]


def photo(seed: int) -> Image.Image:
    """A smooth picture, other for every seed."""
    return picture(seed, 9, 7).resize((120, 90), Image.Resampling.BICUBIC)


def check(folder: Path, files: dict[str, tuple[bytes, str]], letters: str | None = None) -> tuple[Finding, ...]:
    """The findings of a dataset of these files and classes, with one letter an image, in the order of names."""
    images = []
    for name, (data, label) in files.items():
        (folder / name).write_bytes(data)
        images.append(LabelledImage(name, label, folder / name))
    dataset = build_dataset("set", folder, ("mel", "nv"), images)
    split = Split.from_letters(letters) if letters else None
    return duplicate_findings(inspect_images(dataset, workers=2), dataset, split)


def dataset_of(count: int) -> ImageDataset:
    """So many images of one class, of which only names and labels matter."""
    names = tuple(f"{index:03d}" for index in range(count))
    return ImageDataset("set", ("mel", "nv"), names, np.zeros(count, dtype=np.int64), lambda index: b"", decode_image)


def inspection_of(hashes: Hashes) -> Inspection:
    """What looking at different files gave that have these hashes."""
    digests = np.random.RandomState(0).randint(0, 256, (len(hashes), 32)).astype(np.uint8)
    every = np.ones(len(hashes), dtype=np.bool_)
    return Inspection((), digests, hashes, every, ~every)


def random_bits(random: np.random.RandomState, count: int) -> Bits:
    return random.randint(0, 2, (count, HASH_BITS), dtype=np.uint8)


def scattered(random: np.random.RandomState) -> Bits:
    return random_bits(random, 1000)


def skewed(random: np.random.RandomState) -> Bits:
    """Most bits nearly always the same, so that most bands are shared by many."""
    return (random.random_sample((1000, HASH_BITS)) < random.beta(0.12, 0.8, HASH_BITS)).astype(np.uint8)


def clustered(random: np.random.RandomState) -> Bits:
    """Noisy copies of a few, the first of them by far the most often, at distances around the limit."""
    of = np.minimum(random.geometric(0.3, 600) - 1, 9)
    flips = random.random_sample((600, HASH_BITS)) < random.uniform(0, 0.08, (600, 1))
    return random_bits(random, 10)[of] ^ flips.astype(np.uint8)


def planted(random: np.random.RandomState) -> Bits:
    """Pairs at exactly the limit and one beyond it, in bits anywhere or side by side."""
    bits = random_bits(random, 400)
    for index in range(0, 400, 2):
        number = MAX_DISTANCE + index // 2 % 2
        start = random.randint(HASH_BITS - number)
        places = random.permutation(HASH_BITS)[:number] if index % 4 else np.arange(start, start + number)
        bits[index + 1] = bits[index]
        bits[index + 1, places] ^= 1
    return bits


def pack(bits: Bits) -> Hashes:
    return np.packbits(bits, axis=1).view(np.uint64)


def all_near(bits: Bits, limit: int) -> set[tuple[int, int]]:
    """The pairs that differ in few bits, found by comparing all with all."""
    found = set()
    for index in range(len(bits) - 1):
        distances = (bits[index + 1 :] != bits[index]).sum(axis=1)
        found.update((index, index + 1 + other) for other in np.flatnonzero(distances <= limit).tolist())
    return found


def found_near(hashes: Hashes, limit: int) -> set[tuple[int, int]]:
    return {
        (min(pair), max(pair))
        for one, other in similar_pairs(hashes, limit)
        for pair in zip(one.tolist(), other.tolist(), strict=True)
    }


@pytest.mark.parametrize("limit", [0, 1, 7, MAX_DISTANCE])
@pytest.mark.parametrize("make", [scattered, skewed, clustered, planted])
def test_the_search_finds_what_comparing_all_with_all_finds(
    make: Callable[[np.random.RandomState], Bits], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = np.unique(make(np.random.RandomState(7)), axis=0)
    expected = all_near(bits, limit)
    assert found_near(pack(bits), limit) == expected
    if limit == MAX_DISTANCE and make in (skewed, clustered, planted):
        assert expected
    monkeypatch.setattr(duplicates, "_ALL_PAIRS_SHARE", 1e-9)  # by bands only, whatever it takes
    monkeypatch.setattr(duplicates, "_CHUNK_PAIRS", 500)
    assert found_near(pack(bits), limit) == expected
    monkeypatch.setattr(duplicates, "_ALL_PAIRS_SHARE", 10**12)  # all with all, from the first candidate on
    monkeypatch.setattr(duplicates, "_ROWS", 100)
    assert found_near(pack(bits), limit) == expected


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs are compared one by one, in each chunk."""
    numbers: list[int] = []
    count = np.bitwise_count

    def spy(pairs: Hashes) -> Bits:
        numbers.append(len(pairs))
        return count(pairs)

    monkeypatch.setattr(np, "bitwise_count", spy)
    return numbers


def test_scattered_hashes_are_hardly_compared(compared: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(duplicates, "_all_pairs")
    assert found_near(pack(random_bits(np.random.RandomState(1), 4000)), MAX_DISTANCE) == set()
    assert sum(compared) < 4000 * 4000 / 2 / 500


def test_hashes_that_share_most_bands_are_not_compared_again_in_each(compared: list[int]) -> None:
    random = np.random.RandomState(1)
    flips = random.random_sample((300, HASH_BITS)) < 0.01
    bits = random_bits(random, 1) ^ flips.astype(np.uint8)
    assert found_near(pack(bits), MAX_DISTANCE) == all_near(bits, MAX_DISTANCE)
    assert sum(compared) < 300 * 300 / 2 / 4


def test_equal_hashes_are_paired_with_the_first_only() -> None:
    bits = random_bits(np.random.RandomState(3), 3)[[0, 1, 0, 2, 0, 1]]
    assert found_near(pack(bits), MAX_DISTANCE) == {(0, 2), (0, 4), (1, 5)}


@pytest.mark.parametrize("count", [0, 1])
def test_few_hashes_have_no_pairs(count: int) -> None:
    assert found_near(np.zeros((count, HASH_WORDS), dtype=np.uint64), MAX_DISTANCE) == set()


def test_the_same_file_under_several_names(tmp_path: Path) -> None:
    data = encode(photo(1), "PNG")
    files = {name: (data, "nv") for name in ("a.png", "c.png", "d.png")}
    files["b.png"] = (encode(photo(2), "PNG"), "nv")
    (finding,) = check(tmp_path, files)
    assert finding == Finding(
        "duplicate", "warning", "3 images are the same file: a.png, c.png, d.png", ("a.png", "c.png", "d.png")
    )


def test_a_copy_that_was_saved_again(tmp_path: Path) -> None:
    files = {
        "a.png": (encode(photo(1), "PNG"), "nv"),
        "b.jpg": (encode(photo(1).resize((90, 60)), "JPEG", quality=75), "nv"),
        "c.png": (encode(photo(2), "PNG"), "nv"),
    }
    (finding,) = check(tmp_path, files)
    assert finding == Finding("near duplicate", "warning", "2 images look the same: a.png, b.jpg", ("a.png", "b.jpg"))


def test_exact_and_near_copies_are_one_group(tmp_path: Path) -> None:
    files = {
        "a.png": (encode(photo(1), "PNG"), "nv"),
        "b.jpg": (encode(photo(1), "JPEG", quality=75), "nv"),
        "c.jpg": (encode(photo(1), "JPEG", quality=75), "nv"),
    }
    (finding,) = check(tmp_path, files)
    assert (finding.kind, finding.images) == ("near duplicate", ("a.png", "b.jpg", "c.jpg"))


def test_a_group_holds_all_that_are_the_same_through_others() -> None:
    random = np.random.RandomState(5)
    chains = []
    for length in (2, 40, 120):
        chain = [random_bits(random, 1)[0]]
        while len(chain) < length:
            chain.append(chain[-1].copy())
            chain[-1][random.permutation(HASH_BITS)[:50]] ^= 1
        chains.append(chain)
    chain_of = np.repeat([0, 1, 2], [2, 40, 120])
    order = random.permutation(len(chain_of))
    hashes = pack(np.concatenate(chains)[order])
    findings = duplicate_findings(inspection_of(hashes), dataset_of(len(hashes)), None)
    groups = {tuple(f"{index:03d}" for index in np.flatnonzero(chain_of[order] == chain)) for chain in range(3)}
    assert {finding.images for finding in findings} == groups


@pytest.mark.parametrize("seed", range(60))
def test_pairs_in_any_order_and_any_portions_make_the_same_groups(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.RandomState(seed)
    links = random.randint(0, 300, (200, 2))
    links = links[links[:, 0] != links[:, 1]]
    portions = np.split(links, np.sort(random.randint(0, len(links), 2)))
    monkeypatch.setattr(duplicates, "similar_pairs", lambda hashes: ((part[:, 0], part[:, 1]) for part in portions))
    group_of = list(range(300))
    for one, other in links.tolist():
        group_of = [group_of[one] if group == group_of[other] else group for group in group_of]
    names = [f"{index:03d}" for index in range(300)]
    members = [tuple(name for name, of in zip(names, group_of, strict=True) if of == group) for group in set(group_of)]
    findings = duplicate_findings(inspection_of(pack(random_bits(random, 300))), dataset_of(300), None)
    assert {finding.images for finding in findings} == {images for images in members if len(images) > 1}


@pytest.mark.parametrize(
    ("again", "said"),
    [(encode(photo(1), "PNG"), "are the same file"), (encode(photo(1), "JPEG"), "look the same")],
    ids=["exact", "near"],
)
def test_copies_of_different_classes_conflict(tmp_path: Path, again: bytes, said: str) -> None:
    files = {"a.png": (encode(photo(1), "PNG"), "nv"), "b": (again, "mel")}
    (finding,) = check(tmp_path, files, "rt")
    assert (finding.kind, finding.severity) == ("label conflict", "warning")
    assert finding.message == (
        f"2 images {said} but are labelled mel and nv, across training and test: a.png (nv), b (mel)"
    )


def test_what_lies_across_the_split_comes_first_and_says_so(tmp_path: Path) -> None:
    files = {}
    for seed, names in enumerate(("ab", "cd", "ef", "gh", "ijk", "lm"), start=1):
        files |= {name: (encode(photo(seed), "PNG"), "nv") for name in names}
    files["d"] = (files["d"][0], "mel")
    #                                  abcdefghijklm
    findings = check(tmp_path, files, "vvrrrvvtrvtrt")
    messages = [finding.message.removeprefix("2 images are the same file") for finding in findings]
    assert messages == [
        "3 images are the same file, across training, validation and test: i, j, k",
        ", across training and test: l, m",
        ", across training and validation: e, f",
        ", across validation and test: g, h",
        " but are labelled mel and nv, all in training: c (nv), d (mel)",
        ", all in validation: a, b",
    ]


def test_a_large_group_names_its_first_images(tmp_path: Path) -> None:
    data = encode(photo(1), "PNG")
    (finding,) = check(tmp_path, {f"{index}.png": (data, "nv") for index in range(9)})
    assert finding.message.endswith(": 0.png, 1.png, 2.png, 3.png, 4.png, and 4 more")
    assert len(finding.images) == 9


def test_broken_images_are_no_duplicates_and_blank_ones_only_of_the_same_file(tmp_path: Path) -> None:
    def blank(grey: int) -> bytes:
        return encode(Image.new("L", (40, 40), grey), "PNG")

    files = {"a": (b"", "nv"), "b": (b"", "nv"), "c": (b"no image", "nv"), "d": (b"no image", "nv")}
    files |= {"e": (blank(10), "nv"), "f": (blank(10), "nv"), "g": (blank(90), "nv")}
    (finding,) = check(tmp_path, files)
    assert (finding.kind, finding.images) == ("duplicate", ("e", "f"))


@pytest.fixture(scope="module")
def real_hashes(test_data: Path) -> dict[str, tuple[list[Path], Hashes]]:
    """Images of each real set, and their hashes."""
    found = {}
    for name in REAL_SETS:
        folder = test_data / "data/images" / name
        paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))[:350]
        found[name] = paths, np.array([perceptual_hash(decode_image(path.read_bytes(), 64)) for path in paths])
    return found


def test_different_real_images_are_not_taken_for_copies(real_hashes: dict[str, tuple[list[Path], Hashes]]) -> None:
    hashes = np.concatenate([found for _, found in real_hashes.values()])
    assert len(hashes) > 1200
    assert found_near(hashes, MAX_DISTANCE) == set()
    for name, (_, found) in real_hashes.items():
        distance = np.bitwise_count(found[:, None] ^ found[None]).sum(axis=2) + 1000 * np.eye(len(found))
        assert distance.min() > (80 if name == "ODIR-5K" else 110), name


def change_nothing(image: Image.Image) -> Image.Image:
    return image


def shrink(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2)).resize((image.width * 4 // 5, image.height * 4 // 5))


def stretch(image: Image.Image) -> Image.Image:
    return image.resize((image.width, image.height * 5 // 4))


def darken(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.85)


@pytest.mark.parametrize("name", REAL_SETS)
@pytest.mark.parametrize("change", [change_nothing, shrink, stretch, darken])
def test_changed_copies_of_real_images_are_found(
    real_hashes: dict[str, tuple[list[Path], Hashes]], name: str, change: Callable[[Image.Image], Image.Image]
) -> None:
    paths, hashes = real_hashes[name]
    distances = []
    for index in range(0, len(paths), 14):
        with Image.open(BytesIO(paths[index].read_bytes())) as image:
            copy = perceptual_hash(decode_image(encode(change(image.convert("RGB")), "JPEG", quality=75), 64))
        distances.append(int(np.bitwise_count(copy ^ hashes[index]).sum()))
    assert sum(distance <= MAX_DISTANCE for distance in distances) >= 0.95 * len(distances)
    assert max(distances) > 0
