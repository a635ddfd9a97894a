"""What one training costs on this machine, measured on a few batches of noise."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from trainer.config import Recipe, TrialConfig
from trainer.learner import Learner

_MOST_BATCHES = 4
_ENOUGH_SECONDS = 5.0


@dataclass(frozen=True)
class TrainingCost:
    """Costs of one training.

    Attributes:
        train_seconds: per training image.
        evaluation_seconds: per image that is only predicted.
        state_bytes: the model's weights.
        memory_bytes: most memory used, on a GPU of the GPU, else of the process.
    """

    train_seconds: float
    evaluation_seconds: float
    state_bytes: int
    memory_bytes: int


def measure_cost(recipe: Recipe, num_classes: int, device: torch.device) -> TrainingCost:
    """Train and predict a few batches of noise with the recipe's model, untrained.

    Args:
        recipe: how to train; its threads are used.
        num_classes: classes K, at least 2.
        device: where to train.

    Raises:
        TrainerError: the model cannot be built.
        DeviceMemoryError: the device has too little memory.
    """
    torch.set_num_threads(recipe.threads)
    count = max(recipe.batch_size, num_classes)
    images = np.random.default_rng(0).integers(0, 256, (count, recipe.image_size, recipe.image_size, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % num_classes
    config = TrialConfig(recipe=recipe, loss="lmf", alpha=1.0, beta=1.0, seed=0)
    learner = Learner(config, np.bincount(labels).tolist(), images, labels, device, pretrained=False)
    indices = np.arange(recipe.batch_size)
    slices = [slice(0, recipe.batch_size)] * (1 + _MOST_BATCHES)
    trained_batches = 0
    with closing(learner.batches(indices, slices, None)) as batches:
        learner.train_batch(*next(batches))
        started = _now(device)
        for pixels, targets in batches:
            learner.train_batch(pixels, targets)
            trained_batches += 1
            if _now(device) - started >= _ENOUGH_SECONDS:
                break
    trained = _now(device)
    learner.evaluate(indices, lambda: None)
    evaluated = _now(device)
    return TrainingCost(
        train_seconds=(trained - started) / (trained_batches * recipe.batch_size),
        evaluation_seconds=(evaluated - trained) / recipe.batch_size,
        state_bytes=sum(value.nbytes for value in learner.model_state().values()),
        memory_bytes=_peak_memory(device),
    )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
