"""Reads all images of a dataset in parallel, and reports the broken ones together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from trainer.data.dataset import ImageDataset, first_few
from trainer.data.images import BrokenImageError
from trainer.errors import DataError

Result = TypeVar("Result")

_CHUNK_PER_WORKER = 16


def scan_images(
    dataset: ImageDataset,
    work: Callable[[bytes], Result],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Apply `work` to the bytes of every image, in threads, and give the results in the dataset's order.

    Broken images give no result; the rest is read all the same, so that the error at the end knows all of them.
    Decoding and hashing let go of the interpreter's lock, so threads use as many cores.

    Args:
        dataset: whose images to read.
        work: called in several threads at once; raises `BrokenImageError` for an image that cannot be used.
        workers: threads, at least 1.
        progress: called now and then with images done and images in all.

    Raises:
        DataError: after the last result, where images were broken: how many, and the first by name.
    """
    total = len(dataset)
    step = _CHUNK_PER_WORKER * workers
    broken: list[str] = []

    def attempt(index: int) -> Result | BrokenImageError:
        try:
            return work(dataset.read(index))
        except BrokenImageError as error:
            return error

    with ThreadPoolExecutor(workers, thread_name_prefix="lmf-images") as pool:
        for start in range(0, total, step):
            indices = range(start, min(start + step, total))
            with warnings.catch_warnings():  # an image library warns of oddities; what matters is raised
                warnings.simplefilter("ignore")
                results = list(pool.map(attempt, indices))
            for index, result in zip(indices, results, strict=True):
                if isinstance(result, BrokenImageError):
                    broken.append(f"{dataset.image_names[index]} {result}")
                else:
                    yield result
            if progress:
                progress(indices.stop, total)
    if broken:
        number = "1 image" if len(broken) == 1 else f"{len(broken):,} images"
        raise DataError(
            f"{dataset.name}: {number} of {total:,} cannot be used: {first_few(broken, separator='; ')}; "
            "replace or remove them"
        )
