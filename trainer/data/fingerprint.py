"""One digest for all that a dataset holds, so that a study knows its images again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial

from trainer.data.dataset import ImageDataset
from trainer.data.scan import scan_images
from trainer.errors import DataError

_CHECK_SIZE = 32


def content_fingerprint(
    dataset: ImageDataset, *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> str:
    """SHA-256 over image names, image bytes, labels, class names, and groups where the dataset was opened with them.

    Where the files lie, and what the dataset is called, plays no part.

    Args:
        dataset: whose images to read.
        workers: threads, at least 1.
        progress: called now and then with images done and images in all.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: images cannot be read; then all are decoded as well, and everything broken is named.
    """
    try:
        digests = list(scan_images(dataset, image_digest, workers=workers, progress=progress))
    except DataError:
        for _ in scan_images(dataset, partial(_decode_small, dataset), workers=workers, progress=progress):
            pass
        raise
    return combine_digests(dataset, digests)


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
        "groups": dataset.groups,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _decode_small(dataset: ImageDataset, data: bytes) -> None:
    dataset.decode(data, _CHECK_SIZE)
