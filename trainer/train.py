"""Trains one model on one split with one loss, resumably.

`train` does what the recipe says and nothing else: epochs of Adam, validation after each, the best epoch kept and
tested once. A checkpoint after every epoch, or in the middle of one when asked to stop, holds all that the rest depends
on, so that a resumed trial ends bit for bit like an undisturbed one on a CPU at the same number of threads.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trainer.checkpoint import random_state, read_checkpoint, restore_random_state, write_checkpoint
from trainer.config import Recipe, TrialConfig
from trainer.data.batches import augmentation_table, batch_slices, epoch_order
from trainer.data.splits import Split, class_counts
from trainer.errors import CheckpointError, DeviceMemoryError, DivergedError
from trainer.learner import Learner
from trainer.metrics import score
from trainer.results import EPOCH_SCORES, EpochResult, TrialResult, weights_digest

__all__ = ["Abandoned", "Control", "EpochResult", "Interrupted", "TrialResult", "set_up_process", "train"]

Control = Callable[[], Literal["stop", "abandon"] | None]
"""Asked after every batch whether to go on (None), to stop with a checkpoint, or to stop at once and write nothing."""

_CHECK_STEPS = 50
_KEYS = {"config", "data", "learner", "random", "step", "losses", "train_seconds", "history", "best"}
_MEMORY_ERRORS = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")


class Interrupted(Exception):
    """The trial was stopped as asked; its checkpoint holds the position."""


class Abandoned(Exception):
    """The trial was dropped as asked; nothing was written after that."""


def set_up_process(recipe: Recipe) -> None:
    """Prepare this process for training: its threads, and cuDNN's choice of the fastest kernels.

    Args:
        recipe: its `threads` are used by everything that torch computes on the CPU from now on.
    """
    torch.set_num_threads(recipe.threads)
    torch.backends.cudnn.benchmark = True


def train(
    config: TrialConfig,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    split: Split,
    device: torch.device,
    *,
    checkpoint_path: Path,
    resume_path: Path | None = None,
    on_start: Callable[[tuple[EpochResult, ...]], None] | None = None,
    on_epoch: Callable[[EpochResult], None],
    control: Control,
) -> TrialResult:
    """Train, validate and finally test one model.

    Seeds and uses the global random generators of this process. Each epoch is trained, validated and written to the
    checkpoint before `on_epoch` hears of it, so an epoch that was reported is never trained again.

    Args:
        config: recipe, loss, α, β and seed.
        images: uint8, shape ``(N, size, size, 3)``, all splits; may be a read-only memory map.
        labels: int64 class indices, shape ``(N,)``.
        num_classes: classes K.
        split: image indices of training, validation and test.
        device: where to train.
        checkpoint_path: the file to write; nobody else may write it.
        resume_path: a checkpoint of the same trial to go on from, or None to start anew.
        on_start: called once before the first batch, with the epochs that the checkpoint holds.
        on_epoch: called after each epoch.
        control: asked after every batch, of training and of evaluation.

    Returns:
        The trial's result; the same one again where the checkpoint is of a trial that had trained all its epochs.

    Raises:
        Interrupted: `control` said "stop"; the checkpoint is written.
        Abandoned: `control` said "abandon".
        CheckpointError: a checkpoint cannot be read or written, or is of another trial or other data.
        DivergedError: the loss or a prediction is infinite or not a number.
        DeviceMemoryError: the device has too little memory.
        DataError: `select` is `macro_auc`, and the validation images lack a class.
        TrainerError: whatever building the model or the loss raises.
    """
    try:
        trial = _Trial(config, images, labels, num_classes, split, device, checkpoint_path, control)
        trial.start(resume_path)
        restored = tuple(trial.history)
        if on_start is not None:
            on_start(restored)
        while len(trial.history) < config.recipe.epochs:
            on_epoch(trial.run_epoch())
        return trial.finish(resumed_from=len(restored))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise DeviceMemoryError(_out_of_memory_message(config.recipe, device)) from error


class _Trial:
    """A trial in progress: its position, and everything that its checkpoint holds."""

    def __init__(
        self,
        config: TrialConfig,
        images: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        split: Split,
        device: torch.device,
        checkpoint_path: Path,
        control: Control,
    ) -> None:
        self.history: list[EpochResult] = []
        self._config = config
        self._images = images
        self._labels = labels
        self._num_classes = num_classes
        self._split = split
        self._device = device
        self._checkpoint_path = checkpoint_path
        self._control = control
        self._slices = batch_slices(len(split.train), config.recipe.batch_size)
        self._step = 0
        self._losses = torch.zeros(0)
        self._train_seconds = 0.0
        self._best: dict[str, Any] | None = None

    def start(self, resume_path: Path | None) -> None:
        """Build the model, and go to the position of a checkpoint where there is one."""
        saved = None if resume_path is None else self._read_own(resume_path)
        counts = class_counts(self._labels, self._split.train, self._num_classes)
        _seed_everything(self._config.seed)
        self._learner = Learner(
            self._config, counts, self._images, self._labels, self._device, pretrained=saved is None
        )
        shape = (len(self._slices), len(self._learner.loss_names))
        self._losses = torch.zeros(shape, device=self._device)
        if saved is not None:
            self._learner.load_state_dict(saved["learner"])
            self._step = saved["step"]
            self._losses = saved["losses"].to(self._device)
            self._train_seconds = saved["train_seconds"]
            self.history = [EpochResult.from_dict(values) for values in saved["history"]]
            self._best = saved["best"]
            restore_random_state(saved["random"], self._device)

    def run_epoch(self) -> EpochResult:
        """Train one epoch, or what is left of it, validate it, and write the checkpoint."""
        learner = self._learner
        epoch = len(self.history) + 1
        rate = learner.start_epoch(epoch)
        self._train_epoch(epoch)
        started = time.monotonic()
        losses = self._checked_losses()
        self._train_seconds += time.monotonic() - started
        probabilities, val_loss = self._evaluate(self._split.val)
        scores = score(probabilities, self._labels[self._split.val])
        values = scores.to_dict()
        means = np.average(losses, axis=0, weights=[part.stop - part.start for part in self._slices])
        named = dict(zip(learner.loss_names, means.tolist(), strict=True))
        result = EpochResult(
            epoch=epoch,
            train_loss=named.pop("loss"),
            val_loss=val_loss,
            lr=rate,
            images_per_second=len(self._split.train) / max(self._train_seconds, 1e-9),
            seconds=self._train_seconds + time.monotonic() - started,
            val={name: values[name] for name in EPOCH_SCORES},
            halves=named or None,
        )
        selected = scores.selected(self._config.recipe.select)
        if self._best is None or selected > self._best["score"]:
            self._best = {
                "epoch": epoch,
                "score": selected,
                "state": learner.model_state(),
                "probabilities": torch.from_numpy(probabilities),
            }
        self.history.append(result)
        self._step = 0
        self._train_seconds = 0.0
        self._write()
        return result

    def finish(self, resumed_from: int) -> TrialResult:
        """Test the best epoch."""
        assert self._best is not None
        state = self._best["state"]
        self._learner.load_model_state(state)
        val_probabilities = self._best["probabilities"].numpy()
        test_probabilities, _ = self._evaluate(self._split.test)
        return TrialResult(
            best_epoch=self._best["epoch"],
            val=score(val_probabilities, self._labels[self._split.val]),
            test=score(test_probabilities, self._labels[self._split.test]),
            val_probabilities=val_probabilities,
            test_probabilities=test_probabilities,
            weights_sha256=weights_digest(state),
            history=tuple(self.history),
            resumed_from=resumed_from,
            best_state=dict(state),
        )

    def _train_epoch(self, epoch: int) -> None:
        recipe, seed = self._config.recipe, self._config.seed
        mark = time.monotonic()
        order = epoch_order(self._split.train, seed, epoch)
        table = None
        if recipe.augment == "standard":
            table = augmentation_table(len(self._images), seed, epoch).to(self._device)
        with closing(self._learner.batches(order, self._slices[self._step :], table)) as batches:
            for step, (pixels, targets) in enumerate(batches, self._step):
                self._losses[step] = self._learner.train_batch(pixels, targets)
                self._step = step + 1
                if self._step % _CHECK_STEPS == 0:
                    self._checked_losses()
                now = time.monotonic()
                self._train_seconds += now - mark
                mark = now
                self._obey()

    def _checked_losses(self) -> np.ndarray:
        """Bring the epoch's losses so far to the host, and refuse what is not finite."""
        losses = self._losses[: self._step].cpu().double().numpy()
        wrong = np.flatnonzero(~np.isfinite(losses).all(axis=1))
        if len(wrong):
            step = wrong[0]
            where = f", step {step + 1} of {len(self._slices)}"
            raise self._diverged(f"the training loss became {losses[step, 0]}", where)
        return losses

    def _evaluate(self, indices: np.ndarray) -> tuple[np.ndarray, float]:
        probabilities, loss = self._learner.evaluate(indices, self._obey)
        if not np.isfinite(loss) or not np.isfinite(probabilities).all():
            raise self._diverged("the predictions became infinite or not a number")
        return probabilities, loss

    def _diverged(self, what: str, where: str = "") -> DivergedError:
        recipe = self._config.recipe
        remedy = f"try a smaller learning rate than {recipe.lr:g}"
        if recipe.precision != "fp32":
            remedy += f", or fp32 instead of {recipe.precision}"
        return DivergedError(f"{what} in epoch {len(self.history) + 1}{where}; {remedy}")

    def _obey(self) -> None:
        order = self._control()
        if order == "abandon":
            raise Abandoned
        if order == "stop":
            self._write()
            raise Interrupted

    def _write(self) -> None:
        state = {
            "config": asdict(self._config),
            "data": self._data_digest(),
            "learner": self._learner.state_dict(),
            "random": random_state(self._device),
            "step": self._step,
            "losses": self._losses,
            "train_seconds": self._train_seconds,
            "history": [result.to_dict() for result in self.history],
            "best": self._best,
        }
        write_checkpoint(state, self._checkpoint_path)

    def _read_own(self, path: Path) -> dict[str, Any]:
        """Read a checkpoint, and refuse one of another trial or of other data."""
        saved = read_checkpoint(path)
        if not _KEYS <= saved.keys():
            raise CheckpointError(f"{path}: this is no checkpoint of a trial; remove it to start the trial over")
        stored = dict(saved["config"])
        differences = Recipe.from_dict(stored.pop("recipe")).differences(self._config.recipe)
        for name, value in stored.items():
            asked = getattr(self._config, name)
            if value != asked:
                differences.append(f"{name}: {value} stored, {asked} asked")
        if saved["data"] != self._data_digest():
            differences.append("other labels or another split")
        if differences:
            raise CheckpointError(f"{path}: the checkpoint belongs to another trial ({'; '.join(differences)})")
        return saved

    def _data_digest(self) -> str:
        """Hash what decides which image is used for what; the images themselves are the caller's to check."""
        sha256 = hashlib.sha256(f"{self._num_classes}".encode())
        for values in (self._labels, self._split.train, self._split.val, self._split.test):
            sha256.update(f"/{len(values)}/".encode())
            sha256.update(np.ascontiguousarray(values, dtype=np.int64).tobytes())
        return sha256.hexdigest()


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(mark in str(error) for mark in _MEMORY_ERRORS)


def _out_of_memory_message(recipe: Recipe, device: torch.device) -> str:
    remedy = "use a smaller batch, smaller images or another model"
    if recipe.precision == "fp32" and device.type == "cuda":
        remedy += ", or bf16"
    return (
        f"{device} has too little memory for {recipe.model} with batches of {recipe.batch_size} images of "
        f"{recipe.image_size} x {recipe.image_size}: {remedy}"
    )
