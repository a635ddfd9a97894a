"""The embedded digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainer.data.dataset import ImageDataset
from trainer.data.sets.digits_lt import find, long_tailed_counts
from trainer.data.source import Query
from trainer.errors import DataError


def open_digits() -> ImageDataset:
    found = find(Query())
    assert found.findings == ()
    return found.dataset


def test_counts_fall_exponentially_by_a_factor_of_20() -> None:
    counts = long_tailed_counts()
    assert counts == (160, 115, 82, 59, 42, 30, 22, 16, 11, 8)
    assert counts[0] / counts[-1] == 20
    ratios = np.array(counts[:-1]) / counts[1:]
    assert np.abs(ratios - 20 ** (1 / 9)).max() < 0.1


def test_the_images_are_scikit_learns_and_fit_their_labels() -> None:
    dataset = open_digits()
    assert dataset.class_names == tuple("0123456789")
    assert tuple(np.bincount(dataset.labels).tolist()) == long_tailed_counts()
    assert list(dataset.image_names) == sorted(set(dataset.image_names))
    assert (dataset.groups, dataset.group, dataset.files) == ({}, None, None)
    digits = load_digits()
    for index in range(0, len(dataset), 40):
        label, position = dataset.image_names[index].split("/")
        assert digits.target[int(position)] == int(label) == dataset.labels[index]
        pixels = dataset.decode(dataset.read(index), 8)
        assert (pixels[..., 0] == pixels[..., 2]).all()
        assert np.array_equal(pixels[..., 0], np.rint(digits.images[int(position)] * 255 / 16))


def test_every_call_gives_the_same_images() -> None:
    first, second = open_digits(), open_digits()
    assert first.image_names == second.image_names
    assert all(first.read(index) == second.read(index) for index in range(len(first)))
    positions = [int(name.split("/")[1]) for name in first.image_names if name.startswith("0/")]
    assert positions != sorted(np.flatnonzero(load_digits().target == 0).tolist())[: len(positions)]


def test_images_are_enlarged_by_interpolation() -> None:
    dataset = open_digits()
    pixels = dataset.decode(dataset.read(0), 32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    coarse = dataset.decode(dataset.read(0), 8)
    assert len(np.unique(pixels)) > len(np.unique(coarse))
    assert np.abs(pixels.reshape(8, 4, 8, 4, 3).mean((1, 3)) - coarse).mean() < 25


def test_there_are_no_groups() -> None:
    with pytest.raises(DataError, match="--group patient: digits-lt has no groups; its scans name no writers"):
        find(Query(group="patient"))
