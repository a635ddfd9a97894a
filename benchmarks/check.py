"""What a check of a dataset's images costs in time and memory against their number, each number in its own process.

Costs are compared by processor time, which other work on the machine hardly changes; the clock's is shown beside it.
Small different images are written once, one in a hundred of them as a copy that was saved again. The search for copies
is measured alone too, on hashes in clusters that share most of their bits, as those of photographs of eyes do.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (1_000, 10_000, 25_331)
COPY_EVERY = 100
LIMIT_RATIO = 1.5
LIMIT_GROWTH_MB = 200
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SEARCH_LIMIT_SECONDS = 20


def run() -> bool:
    """Print the costs; whether time and memory stay within their limits, and all copies are found."""
    checked = _run_check()
    return _run_search() and checked


def _run_check() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with ProcessPoolExecutor(WORKERS) as pool:
            written = sum(pool.map(_write, [folder] * SIZES[-1], range(SIZES[-1]), chunksize=500))
        seconds = time.perf_counter() - started
        print(f"check: {SIZES[-1]:,} images, {written / 1e6:.0f} MB, written in {seconds:.0f} s", flush=True)
        measured = {size: _measure(f"check_images({folder!r}, {size})") for size in SIZES}
    for size, found in measured.items():
        print(
            f"check: {size:,} images: {found['seconds']:.1f} s with {WORKERS} threads, of which the search "
            f"{found['search_seconds']:.1f} s; processor {1000 * found['cpu_seconds'] / size:.2f} ms an image; "
            f"peak memory {found['peak_mb']:.0f} MB; {_copies(size, found)}"
        )
    few, many = measured[SIZES[0]], measured[SIZES[-1]]
    ratio = many["cpu_seconds"] / SIZES[-1] / (few["cpu_seconds"] / SIZES[0])
    growth = many["peak_mb"] - few["peak_mb"]
    print(
        f"check: an image at {SIZES[-1]:,} costs {ratio:.2f} times the processor time of one at {SIZES[0]:,}, the "
        f"limit is {LIMIT_RATIO}; memory grows by {growth:.0f} MB, the limit is {LIMIT_GROWTH_MB}",
        flush=True,
    )
    return ratio <= LIMIT_RATIO and growth <= LIMIT_GROWTH_MB and _all_found(measured)


def _run_search() -> bool:
    measured = {size: _measure(f"search_clusters({size})") for size in SIZES}
    for size, found in measured.items():
        print(f"check: search in {size:,} clustered hashes: {found['cpu_seconds']:.2f} s; {_copies(size, found)}")
    print(f"check: the search's limit is {SEARCH_LIMIT_SECONDS} s of processor time", flush=True)
    return measured[SIZES[-1]]["cpu_seconds"] <= SEARCH_LIMIT_SECONDS and _all_found(measured)


def _copies(size: int, found: dict[str, float]) -> str:
    return f"{found['copies']} of {size // COPY_EVERY} copies found, {found['others']} others"


def _all_found(measured: dict[int, dict[str, float]]) -> bool:
    return all(found["copies"] == size // COPY_EVERY and not found["others"] for size, found in measured.items())


def check_images(folder: str, count: int) -> dict[str, float]:
    """Check so many images with their groups; the median of three runs where there are few."""
    from trainer.data.duplicates import duplicate_findings
    from trainer.data.inspection import inspect_images
    from trainer.data.leakage import group_leakage, leakage_findings
    from trainer.data.source import LabelledImage, build_dataset
    from trainer.data.splits import stratified_split

    random = np.random.RandomState(23)
    lesions = random.randint(0, max(1, count * 3 // 4), count).tolist()
    paths = [_path(Path(folder), number) for number in range(count)]
    images = [
        LabelledImage(path.name, "ab"[number % 10 == 0], path, {"lesion": f"l{lesion}"})
        for number, (path, lesion) in enumerate(zip(paths, lesions, strict=True))
    ]
    dataset = build_dataset("bench", Path(folder), ("a", "b"), images)
    warm_up = build_dataset("warm-up", Path(folder), ("a", "b"), images[:50])
    inspect_images(warm_up, workers=WORKERS)
    seconds, cpu_seconds, search_seconds = [], [], []
    for _ in range(3 if count == SIZES[0] else 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        split = stratified_split(dataset.labels, 2, 23)
        inspection = inspect_images(dataset, workers=WORKERS)
        inspected = time.perf_counter()
        found = duplicate_findings(inspection, dataset, split)
        searched = time.perf_counter()
        leaks = leakage_findings(group_leakage(dataset, split))
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        search_seconds.append(searched - inspected)
    assert not inspection.findings
    assert len(leaks) == 1
    pairs = {tuple(sorted(finding.images)) for finding in found}
    planted = {(paths[number - 1].name, paths[number].name) for number in range(count) if _is_copy(number)}
    return {
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "search_seconds": statistics.median(search_seconds),
        "peak_mb": _peak_mb(),
        "copies": len(pairs & planted),
        "others": len(pairs - planted),
    }


def search_clusters(count: int) -> dict[str, float]:
    """Search hashes of 40 clusters of very unequal size, in which a quarter of the bits differ from hash to hash."""
    from trainer.data.duplicates import similar_pairs
    from trainer.data.inspection import HASH_BITS

    random = np.random.default_rng(23)
    centres = random.random((40, HASH_BITS)) < random.beta(0.5, 0.5, HASH_BITS)
    of = np.minimum(random.geometric(0.1, count) - 1, 39)
    bits = centres[of] ^ (random.random((count, HASH_BITS), dtype=np.float32) < 0.15)
    planted = [number for number in range(count) if _is_copy(number)]
    for number in planted:
        bits[number] = bits[number - 1]
        bits[number, random.choice(HASH_BITS, random.integers(1, 60), replace=False)] ^= True
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    started = time.process_time()
    pairs: set[tuple[int, int]] = set()
    for one, other in similar_pairs(hashes):
        pairs.update(zip(np.minimum(one, other).tolist(), np.maximum(one, other).tolist(), strict=True))
    seconds = time.process_time() - started
    expected = {(number - 1, number) for number in planted}
    return {
        "cpu_seconds": seconds,
        "copies": len(pairs & expected),
        "others": len(pairs - expected),
    }


def _measure(call: str) -> dict[str, float]:
    code = f"import json; from benchmarks.check import *; print(json.dumps({call}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _peak_mb() -> float:
    """Most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike the other figure, this one knows nothing of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _is_copy(number: int) -> bool:
    return number % COPY_EVERY == COPY_EVERY - 1


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jpg"


def _write(folder: str, number: int) -> int:
    """Write one image; a copy is that of the number before, resized and saved at another quality."""
    copy = _is_copy(number)
    random = np.random.RandomState(number - 1 if copy else number)
    coarse = Image.fromarray(random.randint(0, 256, (9, 9, 3), dtype=np.uint8))
    side = int(random.randint(64, 97))
    image = coarse.resize((side, side), Image.Resampling.BICUBIC)
    if copy:
        image = image.resize((80, 80), Image.Resampling.BICUBIC)
    path = _path(Path(folder), number)
    image.save(path, quality=80 if copy else 92)
    return path.stat().st_size
