"""Reads images of a dataset in parallel, and reports the broken ones together."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from trainer.data.dataset import ImageDataset, first_few
from trainer.data.images import BrokenImageError
from trainer.errors import DataError

Result = TypeVar("Result")

_BATCH = 4  # images that a thread takes at once, so that threads need not wake each other for every one
_BATCHES_PER_WORKER = 4
_TELL_EVERY = 32


@dataclass(frozen=True)
class _Broken:
    """In the place of a result: why there is none. What `work` returns may be anything, an error too."""

    reason: str


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

    def work_on(batch: Sequence[int]) -> list[tuple[int, Result | _Broken]]:
        results: list[tuple[int, Result | _Broken]] = []
        for index in batch:
            try:
                results.append((index, work(index)))
            except BrokenImageError as error:
                results.append((index, _Broken(str(error))))
        return results

    batches = (indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH))
    running: deque[Future[list[tuple[int, Result | _Broken]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lmf-images")
    with warnings.catch_warnings():  # an image library warns of oddities; what matters is raised
        warnings.simplefilter("ignore")
        try:
            while True:
                for batch in islice(batches, _BATCHES_PER_WORKER * workers - len(running)):
                    running.append(pool.submit(work_on, batch))
                if not running:
                    break
                for index, result in running.popleft().result():
                    if isinstance(result, _Broken):
                        broken.append(f"{dataset.image_names[index]} {result.reason}")
                    else:
                        yield index, result
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
