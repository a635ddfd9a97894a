"""One digest for all that a dataset holds, so that a study knows its images again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainer.data.dataset import ImageDataset
from trainer.data.digests import DigestIndex
from trainer.data.scan import scan_images, scan_some
from trainer.errors import DataError

_CHECK_SIZE = 32


def content_fingerprint(
    dataset: ImageDataset,
    *,
    cache_dir: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """SHA-256 over image names, image bytes, labels and class names.

    Where the files lie, what the dataset is called, and what its images have in common, plays no part.

    Args:
        dataset: whose images to read.
        cache_dir: where the digests of files are remembered, so that files that did not change are not read again;
            None to read all. A folder that cannot be written stops nothing.
        workers: threads, at least 1.
        progress: called now and then with images done and images in all.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: images cannot be read; then all are decoded as well, and everything broken is named.
    """
    index = DigestIndex(cache_dir, dataset.files) if cache_dir is not None and dataset.files else None
    digests = dict(index.known) if index else {}
    missing = [position for position in range(len(dataset)) if position not in digests]

    def work(position: int) -> bytes:
        return image_digest(dataset.read(position))

    try:
        for position, digest in scan_some(dataset, missing, work, workers=workers, progress=progress):
            digests[position] = digest
            if index:
                index.add(position, digest)
    except DataError:
        for _ in scan_images(dataset, partial(_decode_small, dataset), workers=workers, progress=progress):
            pass
        raise
    finally:
        if index:
            index.save()
    return combine_digests(dataset, [digests[position] for position in range(len(dataset))])


def image_digest(data: bytes) -> bytes:
    """SHA-256 of one image's bytes."""
    return hashlib.sha256(data).digest()


def combine_digests(dataset: ImageDataset, digests: Sequence[bytes]) -> str:
    """The content fingerprint of a dataset whose images have these digests, in the dataset's order."""
    described = {
        "classes": dataset.class_names,
        "images": [
            (name, label, digest.hex())
            for name, label, digest in zip(dataset.image_names, dataset.labels.tolist(), digests, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _decode_small(dataset: ImageDataset, data: bytes) -> None:
    dataset.decode(data, _CHECK_SIZE)
