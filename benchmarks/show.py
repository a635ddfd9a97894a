"""What `lmf data show` costs in time and memory against the number of images, each number in its own process.

A label table in the form of HAM10000's names so many images, of 1.3 to a lesion. Costs are compared by processor time,
which other work on the machine hardly changes.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.prepare import COUNTS, make_small_images

CLASSES = ("nv", "nv", "nv", "nv", "nv", "nv", "nv", "mel", "mel", "bkl", "bkl", "bcc", "akiec", "df", "vasc")
ROUNDS = 3
LIMIT_GROWTH = 1.5
LIMIT_MEMORY = 128 * 2**20


def run() -> bool:
    """Print the costs; whether time and memory stay in bounds."""
    costs: dict[int, list[tuple[float, int]]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_small_images(folder / "all", max(COUNTS))
        for count in COUNTS:
            _make_dataset(folder, count)
        for _ in range(ROUNDS):
            for count in COUNTS:
                command = [sys.executable, "-m", "benchmarks.show", str(folder / str(count))]
                root = Path(__file__).parents[1]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
                costs[count].append(json.loads(done.stdout))
    seconds = {count: statistics.median(found[0] for found in costs[count]) for count in COUNTS}
    memory = {count: max(found[1] for found in costs[count]) for count in COUNTS}
    for count in COUNTS:
        print(
            f"show: {count:,} images: {seconds[count]:.2f} s of processor time, {1e6 * seconds[count] / count:.0f} µs "
            f"an image (median of {ROUNDS}), at most {memory[count] / 2**20:.0f} MiB of memory"
        )
    few, many = min(COUNTS), max(COUNTS)
    growth = seconds[many] / many / (seconds[few] / few)
    more = memory[many] - memory[few]
    good = growth <= LIMIT_GROWTH and more <= LIMIT_MEMORY
    print(
        f"show: with {many:,} images {growth:.2f} times the time an image of {few:,}, and {more / 2**20:.0f} MiB "
        f"more; the limits are {LIMIT_GROWTH} and {LIMIT_MEMORY / 2**20:.0f} MiB: {'kept' if good else 'BROKEN'}"
    )
    return good


def _make_dataset(folder: Path, count: int) -> None:
    """The first images, as links to the one set of files, and a table of them."""
    images = folder / str(count) / "images"
    images.mkdir(parents=True)
    with (images.parent / "HAM10000_metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lesion_id", "image_id", "dx"])
        for number in range(count):
            name = f"{number:05d}.jpg"
            os.link(folder / "all" / name, images / name)
            writer.writerow([f"HAM_{10 * number // 13:07d}", f"{number:05d}", CLASSES[number % len(CLASSES)]])


def show(folder: Path) -> tuple[float, int]:
    """Do what `lmf data show ham10000` does before it prints, nothing remembered from before.

    Returns:
        Seconds of processor time, and the most bytes of memory.
    """
    from study.datasets import DataQuery, find_data, refuse_bad_labels, show_document, view_data
    from trainer.data.fingerprint import content_fingerprint

    query = DataQuery("ham10000", folder)
    started = time.process_time()
    found = find_data(query)
    refuse_bad_labels(found)
    view = view_data(query, found)
    document = show_document(view, content_fingerprint(found.dataset, workers=2))
    seconds = time.process_time() - started
    assert document["images"] == int(folder.name)
    assert document["leaking_groups"]
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    return seconds, peak


if __name__ == "__main__":
    print(json.dumps(show(Path(sys.argv[1]))))
