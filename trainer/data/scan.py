"""Reads images of a dataset in parallel, and reports the broken ones together."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from trainer.data.dataset import ImageDataset, first_few
from trainer.data.images import BrokenImageError
from trainer.errors import DataError

Result = TypeVar("Result")

_AHEAD_PER_WORKER = 16
_TELL_EVERY = 32


def scan_images(
    dataset: ImageDataset,
    work: Callable[[bytes], Result],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Apply `work` to the bytes of every image, in threads, and give the results in the dataset's order.

    Broken images give no result; the rest is read all the same, so that the error at the end knows all of them.

    Args:
        dataset: whose images to read.
        work: called in several threads at once; raises `BrokenImageError` for an image that cannot be used.
        workers: threads, at least 1.
        progress: called now and then with images done and images in all.

    Raises:
        DataError: after the last result, where images were broken: how many, and the first by name.
    """

    def read_and_work(index: int) -> Result:
        return work(dataset.read(index))

    for _, result in scan_some(dataset, range(len(dataset)), read_and_work, workers=workers, progress=progress):
        yield result


def scan_some(
    dataset: ImageDataset,
    indices: Sequence[int],
    work: Callable[[int], Result],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Generator[tuple[int, Result], None, None]:
    """Call `work` for some images of a dataset, in threads, and give index and result in the order of `indices`.

    Broken images give no result; the rest is read all the same, so that the error at the end knows all of them.
    Decoding and hashing let go of the interpreter's lock, so threads use as many cores. They run a few images ahead of
    what is taken from here, no further.

    Args:
        dataset: whose images they are.
        indices: which images; the others count as done.
        work: from an image's index to a result; called in several threads at once; raises `BrokenImageError` for an
            image that cannot be used.
        workers: threads, at least 1.
        progress: called now and then with images done and images in all.

    Raises:
        DataError: after the last result, where images were broken: how many, and the first by name.
    """
    broken: list[str] = []
    total = len(dataset)
    done = total - len(indices)
    waiting: deque[tuple[int, Future[Result]]] = deque()
    upcoming = iter(indices)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lmf-images")
    with warnings.catch_warnings():  # an image library warns of oddities; what matters is raised
        warnings.simplefilter("ignore")
        try:
            while True:
                while len(waiting) < _AHEAD_PER_WORKER * workers and (index := next(upcoming, None)) is not None:
                    waiting.append((index, pool.submit(work, index)))
                if not waiting:
                    break
                index, future = waiting.popleft()
                try:
                    yield index, future.result()
                except BrokenImageError as error:
                    broken.append(f"{dataset.image_names[index]} {error}")
                done += 1
                if progress and (done % _TELL_EVERY == 0 or done == total):
                    progress(done, total)
        finally:
            pool.shutdown(cancel_futures=True)
    if broken:
        number = "1 image" if len(broken) == 1 else f"{len(broken):,} images"
        raise DataError(
            f"{dataset.name}: {number} of {total:,} cannot be used: {first_few(broken, separator='; ')}; "
            "replace or remove them"
        )
