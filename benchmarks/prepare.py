"""What preparing images costs: beside plain Pillow, with scaled and with exact decoding, and with ever more images.

All in one run and on the same files, in rounds that take turns. Figures of a core are reckoned from the processor time
of all threads, hashing and writing included, so that they hold on a busy machine too. Where LMF_TEST_DATA is set the
photos are real lesions, enlarged to the size of the originals; else they are smooth noise with some texture.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.cache import open_prepared, prepare
from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.data.images import decode_image, read_image_file

PHOTOS = 200
PHOTO_SIZE = (600, 450)
SIDE = 224
ROUNDS = 11
LIMIT_SPEED = 1.5

COUNTS = (1_000, 10_000, 25_331)
SMALL_SIDE = 32
SIZE_ROUNDS = 3
LIMIT_GROWTH = 1.5
LIMIT_MEMORY = 64 * 2**20


def run() -> bool:
    """Print the costs; whether preparing is fast enough, and its time and memory stay in bounds."""
    with tempfile.TemporaryDirectory() as folder:
        good = _measure_speed(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        return _measure_growth(Path(folder)) and good


def _measure_speed(folder: Path) -> bool:
    files, kind = _make_photos(folder / "photos")
    dataset, home = _dataset(files), folder / "cache"
    fingerprint = content_fingerprint(dataset)

    def plain() -> None:
        for file in files:
            with Image.open(file) as image:
                np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    def prepared(workers: int, exact: bool) -> Callable[[], None]:
        def work() -> None:
            prepare(dataset, SIDE, home, fingerprint=fingerprint, exact=exact, workers=workers)

        return work

    ways = {
        "plain Pillow": plain,
        "prepare": prepared(1, False),
        "prepare, exact": prepared(1, True),
        "prepare, 2 threads": prepared(2, False),
    }
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    clock: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            shutil.rmtree(home, ignore_errors=True)
            started, started_cpu = time.perf_counter(), time.process_time()
            work()
            cpu[name].append(time.process_time() - started_cpu)
            clock[name].append(time.perf_counter() - started)
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(
        f"prepare: {PHOTOS} {kind} of {PHOTO_SIZE[0]} x {PHOTO_SIZE[1]}, {megabytes:.1f} MB, to {SIDE} x {SIDE}; "
        f"medians of {ROUNDS}"
    )
    for name in ways:
        print(
            f"prepare: {name}: {PHOTOS / statistics.median(cpu[name]):.0f} images/s a core, "
            f"{PHOTOS / statistics.median(clock[name]):.0f} images/s by the clock"
        )
    scaled, exact = (_ratio(cpu["plain Pillow"], cpu[name]) for name in ("prepare", "prepare, exact"))
    good = scaled >= LIMIT_SPEED
    print(
        f"prepare: a core prepares {scaled:.2f} times as fast as plain Pillow, {exact:.2f} times with exact decoding; "
        f"the limit is {LIMIT_SPEED}: {'kept' if good else 'BROKEN'}"
    )
    _show_difference(dataset, fingerprint, home)
    return good


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def _show_difference(dataset: ImageDataset, fingerprint: str, home: Path) -> None:
    images = []
    for exact in (False, True):
        prepare(dataset, SIDE, home, fingerprint=fingerprint, exact=exact, workers=2)
        prepared = open_prepared(home, fingerprint, SIDE, exact)
        assert prepared is not None
        images.append(prepared.images.astype(np.int16))
    difference = np.abs(images[0] - images[1])
    print(
        f"prepare: scaled against exact decoding, in grey levels of 255: mean {difference.mean():.2f}, "
        f"99th percentile {np.percentile(difference, 99):.0f}, most {difference.max()}"
    )


def _measure_growth(folder: Path) -> bool:
    started = time.perf_counter()
    make_small_images(folder / "images", max(COUNTS))
    print(f"prepare: {max(COUNTS):,} small images written in {time.perf_counter() - started:.0f} s", flush=True)
    costs: dict[int, list[tuple[float, int]]] = {count: [] for count in COUNTS}
    for _ in range(SIZE_ROUNDS):
        for count in COUNTS:
            command = [sys.executable, "-m", "benchmarks.prepare", str(folder), str(count)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
            seconds, memory = json.loads(done.stdout)
            costs[count].append((seconds / count, memory))
    medians = {count: statistics.median(seconds for seconds, _ in costs[count]) for count in COUNTS}
    memory = {count: max(peak for _, peak in costs[count]) for count in COUNTS}
    for count in COUNTS:
        print(
            f"prepare: {count:,} images: {1e6 * medians[count]:.0f} µs an image (processor, median of {SIZE_ROUNDS}), "
            f"at most {memory[count] / 2**20:.0f} MiB of memory"
        )
    few, many = min(COUNTS), max(COUNTS)
    growth, more = medians[many] / medians[few], memory[many] - memory[few]
    good = growth <= LIMIT_GROWTH and more <= LIMIT_MEMORY
    print(
        f"prepare: with {many:,} images {growth:.2f} times the time an image of {few:,}, and {more / 2**20:.0f} MiB "
        f"more; the limits are {LIMIT_GROWTH} and {LIMIT_MEMORY / 2**20:.0f} MiB: {'kept' if good else 'BROKEN'}"
    )
    return good


def _prepare_part(folder: Path, count: int) -> tuple[float, int]:
    """Fingerprint and prepare the first images, in a process of its own.

    Returns:
        Seconds of processor time, and the most bytes of memory.
    """
    dataset = _dataset(sorted((folder / "images").iterdir())[:count])
    home = folder / "cache"
    shutil.rmtree(home, ignore_errors=True)
    started = time.process_time()
    fingerprint = content_fingerprint(dataset, cache_dir=home, workers=2)
    prepare(dataset, SMALL_SIDE, home, fingerprint=fingerprint, workers=2)
    seconds = time.process_time() - started
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    return seconds, peak


def _dataset(files: Sequence[Path]) -> ImageDataset:
    return ImageDataset(
        name="bench",
        class_names=("a", "b"),
        image_names=tuple(file.name for file in files),
        labels=np.arange(len(files), dtype=np.int64) % 2,
        read=lambda index: read_image_file(files[index]),
        decode=decode_image,
        files=tuple(files),
    )


def _make_photos(folder: Path) -> tuple[list[Path], str]:
    folder.mkdir()
    test_data = os.environ.get("LMF_TEST_DATA")
    real = sorted(Path(test_data, "data", "images", "HAM10000").rglob("*.jpg"))[:PHOTOS] if test_data else []
    random = np.random.default_rng(7)
    files = []
    for number in range(PHOTOS):
        if real:
            with Image.open(real[number]) as lesion:
                smooth = lesion.convert("RGB").resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        else:
            blobs = Image.fromarray(random.integers(60, 220, (9, 12, 3), dtype=np.uint8))
            smooth = blobs.resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        texture = random.normal(0, 4, (PHOTO_SIZE[1], PHOTO_SIZE[0], 1))
        pixels = (np.asarray(smooth) + texture).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number:05d}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files, "photos" if real else "synthetic photos"


def make_small_images(folder: Path, count: int) -> None:
    """Small JPEGs of different bytes: what follows the end of an image is not decoded."""
    folder.mkdir()
    random = np.random.default_rng(7)
    kinds = []
    for _ in range(20):
        blobs = Image.fromarray(random.integers(60, 220, (6, 8, 3), dtype=np.uint8))
        file = folder / "kind.jpg"
        blobs.resize((64, 48), Image.Resampling.BICUBIC).save(file, quality=90)
        kinds.append(file.read_bytes())
        file.unlink()
    for number in range(count):
        (folder / f"{number:05d}.jpg").write_bytes(kinds[number % len(kinds)] + b"%d" % number)


if __name__ == "__main__":
    print(json.dumps(_prepare_part(Path(sys.argv[1]), int(sys.argv[2]))))
