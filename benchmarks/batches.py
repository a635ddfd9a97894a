"""How fast images become batches, beside a DataLoader that decodes them each time; and what eight workers hold.

Both make float32 batches of 32 images of 224 x 224 from the same JPEG files, in one run and in turns: torchvision's
ImageFolder with Resize and ToTensor behind a DataLoader, and ours from the prepared cache. The DataLoader's workers
are started before the clock is, and its epochs are not charged for that. Ours computes with one thread.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]
from torchvision.transforms import Compose, Resize, ToTensor  # type: ignore[import-untyped]

from trainer.data.batches import Batches, Source, batch_slices, epoch_order
from trainer.data.cache import Prepared, prepare
from trainer.data.catalog import open_dataset
from trainer.data.fingerprint import content_fingerprint

IMAGES = 256
SIZE = 224
BATCH = 32
ROUNDS = 5
OUR_EPOCHS = 8
PROCESSES = 8
LIMIT_SPEED = 12.0
LIMIT_COPIES = 1.1
WORKER = f"""
import sys
import numpy as np, torch
from trainer.data.batches import Batches, batch_slices
torch.set_num_threads(1)
images = np.load(sys.argv[1], mmap_mode="r")
count = len(images)
batches = Batches(images, np.zeros(count), torch.device("cpu"))
for pixels, _ in batches.iterate(np.arange(count), batch_slices(count, {BATCH})):
    assert pixels.shape[1:] == (3, {SIZE}, {SIZE})
print("ready", flush=True)
sys.stdin.read()
"""


def run() -> bool:
    """Print images per second and the workers' memory; whether ours is fast enough, and the workers share one copy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "images"
            make_photos(files)
            started = time.perf_counter()
            dataset = open_dataset(f"folder:{files}", None)
            prepared = prepare(dataset, SIZE, Path(folder) / "cache", fingerprint=content_fingerprint(dataset))
            seconds = time.perf_counter() - started
            print(f"batches: {IMAGES} JPEGs of 600 x 450 prepared once in {seconds:.1f} s")
            # First the memory: a page that this process has touched too would count less in the workers.
            shares = is_shared(prepared)
            return is_fast(files, prepared) and shares
    finally:
        torch.set_num_threads(threads)


def make_photos(folder: Path) -> None:
    """Write JPEGs of soft blotches with fine texture, in three classes."""
    random = np.random.default_rng(0)
    texture = random.normal(0, 7, (900, 1200, 1)).astype(np.float32)
    for number in range(IMAGES):
        layers = np.zeros((450, 600, 3), np.float32)
        for cells, strength in ((3, 90), (12, 40), (48, 20)):
            noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            soft = noise.resize((600, 450), Image.Resampling.BICUBIC)
            layers += strength * (np.asarray(soft, dtype=np.float32) / 127.5 - 1)
        top, left = random.integers(0, 450), random.integers(0, 600)
        pixels = (128 + layers + texture[top : top + 450, left : left + 600]).clip(0, 255).astype(np.uint8)
        path = folder / "abc"[number % 3] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def is_fast(files: Path, prepared: Prepared) -> bool:
    """Print images per second of both, and compare them."""
    cpu = torch.device("cpu")
    names = {"DataLoader, 1 worker": loader_epoch(files, 1, cpu), "DataLoader, 2 workers": loader_epoch(files, 2, cpu)}
    ours = {"ours": our_epochs(prepared, cpu)}
    if torch.cuda.is_available():
        gpu = torch.device("cuda:0")
        names["DataLoader, 1 worker, to the GPU"] = loader_epoch(files, 1, gpu)
        ours["ours, on the GPU"] = our_epochs(prepared, gpu, "resident")
        ours["ours, prefetched to the GPU"] = our_epochs(prepared, gpu, "prefetched")
    epochs = names | ours
    rates: dict[str, list[float]] = {name: [] for name in epochs}
    for turn in range(1 + ROUNDS):
        for name, epoch in epochs.items():
            started = time.perf_counter()
            count = epoch()
            # The first turn starts the workers and reads what is cold.
            if turn:
                rates[name].append(count / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    base = medians["DataLoader, 1 worker"]
    print(f"batches: images per second, median of {ROUNDS}: {', '.join(f'{n} {r:,.0f}' for n, r in medians.items())}")
    ratios = {name: medians[name] / base for name in ours}
    told = ", ".join(f"{name} {ratio:.1f} times" for name, ratio in ratios.items())
    print(f"batches: {told} a DataLoader with 1 worker; at least {LIMIT_SPEED:g} times are asked")
    return min(ratios.values()) >= LIMIT_SPEED


def loader_epoch(files: Path, workers: int, device: torch.device) -> Callable[[], int]:
    """An epoch of the paper's pipeline; returns how many images it made."""
    images = ImageFolder(str(files), Compose([Resize((SIZE, SIZE)), ToTensor()]))
    pin = device.type == "cuda"
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=True, pin_memory=pin)

    def epoch() -> int:
        count = 0
        for pixels, _ in loader:
            count += len(pixels.to(device, non_blocking=True))
        finish(device)
        return count

    return epoch


def our_epochs(prepared: Prepared, device: torch.device, source: Source | None = None) -> Callable[[], int]:
    """Some epochs of ours, which are short; returns how many images they made."""
    batches = Batches(prepared.images, prepared.labels, device, source=source)
    everything = np.arange(len(prepared.labels))
    slices = batch_slices(len(everything), BATCH)

    def epochs() -> int:
        count = 0
        for epoch in range(OUR_EPOCHS):
            with closing(batches.iterate(epoch_order(everything, 23, epoch), slices)) as made:
                for pixels, _ in made:
                    count += len(pixels)
        finish(device)
        return count

    return epochs


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_shared(prepared: Prepared) -> bool:
    """Print how much of the cache processes hold that were started apart and each read all of it."""
    path = Path(str(prepared.images.filename))  # type: ignore[attr-defined]
    size = path.stat().st_size
    command = [sys.executable, "-c", WORKER, str(path)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError("a worker process failed; its error is above")
        resident = sum(mapped_bytes(worker.pid, path, "Rss") for worker in workers)
        proportional = sum(mapped_bytes(worker.pid, path, "Pss") for worker in workers)
    finally:
        for worker in workers:
            worker.communicate()
    print(
        f"batches: {PROCESSES} processes map {resident / 1e6:,.0f} MB of a cache of {size / 1e6:,.0f} MB, and hold "
        f"{proportional / 1e6:,.0f} MB together: {proportional / size:.2f} copies; at most {LIMIT_COPIES} are allowed"
    )
    read_all = resident > 0.99 * PROCESSES * size
    return read_all and proportional < LIMIT_COPIES * size


def mapped_bytes(pid: int, path: Path, field: str) -> int:
    """A figure of a process's mapping of a file, from Linux's ``/proc/PID/smaps``, which counts in KiB."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if not name.isidentifier():
            inside = line.endswith(f" {path}")
        elif inside and name == field:
            total += 1024 * int(rest.split()[0])
    return total
