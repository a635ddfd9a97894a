"""`digits-lt`: scikit-learn's handwritten digits, made long-tailed; needs no file and no network."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.dataset import ImageDataset
from trainer.data.images import Pixels
from trainer.data.source import DatasetSource, Found, Query
from trainer.errors import DataError

HEAD_COUNT = 160
IMBALANCE_RATIO = 20
_SIDE = 8
_SEED = 23


def long_tailed_counts(num_classes: int = 10) -> tuple[int, ...]:
    """Images per class, falling exponentially from `HEAD_COUNT` by a factor of `IMBALANCE_RATIO` in all."""
    return tuple(round(HEAD_COUNT * IMBALANCE_RATIO ** (-index / (num_classes - 1))) for index in range(num_classes))


def find(query: Query) -> Found:
    """The digits 0 to 9, most of the zeros and few of the nines; always the same images.

    Each image is one of the 8 x 8 scans that scikit-learn carries (UCI, Optical Recognition of Handwritten Digits);
    decoding enlarges it by bilinear interpolation to three equal channels.
    """
    if query.group is not None:
        raise DataError(f"--group {query.group}: {SOURCE.name} has no groups; its scans name no writers")
    from sklearn.datasets import load_digits

    digits = load_digits()
    targets = np.asarray(digits.target)
    random = np.random.RandomState(_SEED)
    chosen: list[int] = []
    for label, count in enumerate(long_tailed_counts()):
        of_class = np.flatnonzero(targets == label)
        chosen.extend(sorted(random.permutation(of_class)[:count].tolist()))
    scans = np.rint(np.asarray(digits.images)[chosen] * (255 / 16)).astype(np.uint8)
    labels = targets[chosen].astype(np.int64)
    dataset = ImageDataset(
        name=SOURCE.name,
        class_names=tuple(str(label) for label in range(10)),
        image_names=tuple(f"{label}/{index:04d}" for label, index in zip(labels, chosen, strict=True)),
        labels=labels,
        read=partial(_read, scans),
        decode=_decode,
    )
    return Found(dataset)


def _read(scans: NDArray[np.uint8], index: int) -> bytes:
    return bytes(scans[index].tobytes())


def _decode(data: bytes, size: int, exact: bool = False) -> Pixels:
    scan = Image.frombytes("L", (_SIDE, _SIDE), data)
    return np.array(scan.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"), dtype=np.uint8)


SOURCE = DatasetSource(
    name="digits-lt",
    summary="handwritten digits, 10 classes, long-tailed",
    find=find,
    licence="CC BY 4.0",
    origin="Alpaydin and Kaynak 1998 (UCI), as scikit-learn carries it: 545 scans of 8 x 8 pixels",
    download="nothing: it is built in",
    needs_data=False,
    takes_data=False,
)
