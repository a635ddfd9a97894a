"""A tiny training for tests: data, a trial's configuration, and a recorder of what a trial reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.config import Recipe, TrialConfig
from trainer.data.splits import Split, stratified_split
from trainer.results import EpochResult, TrialResult
from trainer.train import train

CPU = torch.device("cpu")
CLASSES = 3
BATCH_SIZES = [5, 5, 5, 6]
CALLS_PER_EPOCH = len(BATCH_SIZES) + 1


@dataclass(frozen=True)
class Data:
    images: np.ndarray
    labels: np.ndarray
    split: Split


def make_data() -> Data:
    """Images of three classes that differ in their colour: 21 to train on, 4 to validate and 4 to test."""
    labels = np.repeat(np.arange(CLASSES), (13, 9, 7)).astype(np.int64)
    random = np.random.default_rng(5)
    images = random.integers(0, 160, (len(labels), 32, 32, 3))
    images[np.arange(len(labels)), :, :, labels] += 60
    split = stratified_split(labels, CLASSES, seed=23)
    assert len(split.train) == sum(BATCH_SIZES)
    return Data(images.astype(np.uint8), labels, split)


def config_of(*, loss: str = "lmf", alpha=0.8, beta=1.5, seed: int = 23, **recipe: Any) -> TrialConfig:
    figures = {"model": "test_efficientnet", "weights": "none", "image_size": 32, "epochs": 3, "batch_size": 5}
    figures |= {"lr": 1e-3, "lr_step_epochs": 2}
    return TrialConfig(Recipe(**(figures | recipe)), loss, alpha, beta, seed)


class Trial:
    """Trains in a folder and records what is reported; each go ends a trial or is interrupted."""

    def __init__(self, config: TrialConfig, data: Data, folder: Path, device: torch.device = CPU) -> None:
        self.config = config
        self.data = data
        self.path = folder / "trial.pt"
        self.device = device
        self.calls = 0
        self.started: list[tuple[EpochResult, ...]] = []
        self.epochs: list[EpochResult] = []
        self.on_epoch: Callable[[EpochResult], None] = self.epochs.append

    def go(
        self, *, stop_at: int | None = None, after: int | None = None, order: str = "stop", resume: bool = False
    ) -> TrialResult:
        """Train; the order comes at a call, or at the first one after so many epochs were reported."""

        def control() -> Any:
            self.calls += 1
            return order if self.calls == stop_at or len(self.epochs) == after else None

        return train(
            self.config,
            self.data.images,
            self.data.labels,
            CLASSES,
            self.data.split,
            self.device,
            checkpoint_path=self.path,
            resume_path=self.path if resume else None,
            on_start=self.started.append,
            on_epoch=self.on_epoch,
            control=control,
        )


def without_times(history: tuple[EpochResult, ...] | list[EpochResult]) -> list[EpochResult]:
    return [replace(result, seconds=0.0, images_per_second=0.0) for result in history]


def assert_same(result: TrialResult, expected: TrialResult) -> None:
    assert result.weights_sha256 == expected.weights_sha256
    assert result.best_epoch == expected.best_epoch
    assert without_times(result.history) == without_times(expected.history)
    assert result.val == expected.val
    assert result.test == expected.test
    np.testing.assert_array_equal(result.val_probabilities, expected.val_probabilities)
    np.testing.assert_array_equal(result.test_probabilities, expected.test_probabilities)
