"""Small `.npz` files in the form of MedMNIST v2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "val", "test")


def medmnist_arrays(
    counts: Mapping[str, int], size: int = 28, grey: bool = False, classes: int = 7, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Random images and labels.

    Args:
        counts: images of each of `PARTS`.
        size: side of an image in pixels.
        grey: one channel instead of three.
        classes: labels go 0, 1, ... and start anew; every part starts with 0.
        seed: of the pixels.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for part in PARTS:
        shape = (counts[part], size, size) if grey else (counts[part], size, size, 3)
        arrays[f"{part}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(counts[part], dtype=np.uint8) % classes)[:, None]
    return arrays


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], compressed: bool = True) -> Path:
    """Write arrays, with the folders that the file needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path
