"""Trains one model on one split with one loss, resumably.

`train` does what the recipe says and nothing else: epochs of Adam, validation after each, the best epoch kept and
tested once. A checkpoint after every epoch, or in the middle of one when asked to stop, holds all that the rest depends
on, so that a resumed trial ends bit for bit like an undisturbed one: on a CPU at the same number of threads, on a GPU
with a deterministic recipe.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trainer.checkpoint import random_state, read_checkpoint, restore_random_state
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import Recipe, TrialConfig
from trainer.data.batches import augmentation_table, batch_slices, epoch_order, send
from trainer.data.splits import Split, class_counts
from trainer.errors import CheckpointError, DivergedError, TrainerError
from trainer.learner import Learner
from trainer.metrics import score
from trainer.process import translated_failures
from trainer.results import EPOCH_SCORES, EpochResult, TrialResult, weights_digest
from trainer.watch import LossLog, Watch

__all__ = ["Abandoned", "Control", "EpochResult", "Interrupted", "TrialResult", "train"]

Control = Callable[[], Literal["stop", "abandon"] | None]
"""Asked after every batch whether to go on (None), to stop with a checkpoint, or to stop at once and write nothing."""

_CHECK_STEPS = 50
_LEARNER_KEYS = {"model", "optimizer", "scaler"}
_KEYS = {"config", "data", "random", "step", "losses", "train_seconds", "history", "best", "watch", *_LEARNER_KEYS}


class Interrupted(Exception):
    """The trial was stopped as asked; its checkpoint holds the position."""


class Abandoned(Exception):
    """The trial was dropped as asked; nothing was written after that."""


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
    on_checkpoint: Callable[[], None] | None = None,
    control: Control,
    class_names: Sequence[str] | None = None,
    weights_folder: Path | None = None,
) -> TrialResult:
    """Train, validate and finally test one model.

    Seeds and uses the global random generators of this process. Each epoch is trained, validated and written to the
    checkpoint before `on_epoch` hears of it, so an epoch that was reported is never trained again. The checkpoint is
    written beside the training of the next epoch, so that `on_epoch` may be called some batches into it.

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
        on_epoch: called after each epoch whose checkpoint is written; what it raises ends the training.
        on_checkpoint: called after each checkpoint, in the thread that wrote it; what it raises ends the training.
        control: asked after every batch, of training and of evaluation.
        class_names: what warnings call the classes, in class-index order; their numbers by default.
        weights_folder: where pretrained weights lie that were fetched before, see `trainer.models`.

    Returns:
        The trial's result; the same one again where the checkpoint is of a trial that had trained all its epochs.

    Raises:
        Interrupted: `control` said "stop"; the checkpoint is written.
        Abandoned: `control` said "abandon".
        CheckpointError: a checkpoint cannot be read or written, or is of another trial or other data.
        DivergedError: the loss or a prediction is infinite or not a number, or the loss runs away.
        DeviceMemoryError: the device has too little memory.
        DataError: the score of `select` needs every class, and the validation images lack one.
        TrainerError: whatever building the model or the loss raises.
    """
    names = class_names if class_names is not None else [str(number) for number in range(num_classes)]
    trial = _Trial(
        config, images, labels, tuple(names), split, device, checkpoint_path, on_epoch, on_checkpoint, control
    )
    with translated_failures(config.recipe, device), closing(trial):
        trial.start(resume_path, weights_folder)
        restored = tuple(trial.history)
        if on_start is not None:
            on_start(restored)
        try:
            while len(trial.history) < config.recipe.epochs:
                trial.run_epoch()
            return trial.finish(resumed_from=len(restored))
        except (RuntimeError, MemoryError, TrainerError):
            # What failed is a later epoch; the one before it is trained and is to be told of.
            trial.report(wait=True)
            raise


class _Trial:
    """A trial in progress: its position, and everything that its checkpoint holds."""

    def __init__(
        self,
        config: TrialConfig,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: tuple[str, ...],
        split: Split,
        device: torch.device,
        checkpoint_path: Path,
        on_epoch: Callable[[EpochResult], None],
        on_checkpoint: Callable[[], None] | None,
        control: Control,
    ) -> None:
        self.history: list[EpochResult] = []
        self._config = config
        self._images = images
        self._labels = labels
        self._class_names = class_names
        self._split = split
        self._device = device
        self._writer = CheckpointWriter(checkpoint_path, on_checkpoint)
        self._on_epoch = on_epoch
        self._control = control
        self._slices = batch_slices(len(split.train), config.recipe.batch_size)
        self._step = 0
        self._train_seconds = 0.0
        self._best: dict[str, Any] | None = None
        self._watch = Watch()
        self._unreported: EpochResult | None = None

    def start(self, resume_path: Path | None, weights_folder: Path | None) -> None:
        """Build the model, and go to the position of a checkpoint where there is one."""
        saved = None if resume_path is None else self._read_own(resume_path)
        counts = class_counts(self._labels, self._split.train, len(self._class_names))
        _seed_everything(self._config.seed)
        self._learner = Learner(
            self._config,
            counts,
            self._images,
            self._labels,
            self._device,
            pretrained=saved is None,
            weights_folder=weights_folder,
        )
        self._log = LossLog(len(self._slices), self._learner.loss_names, self._device)
        if saved is not None:
            self._learner.load_state_dict({key: saved[key] for key in _LEARNER_KEYS})
            self._step = saved["step"]
            self._log.restore(saved["losses"])
            self._train_seconds = saved["train_seconds"]
            self.history = [EpochResult.from_dict(values) for values in saved["history"]]
            self._best = saved["best"]
            self._watch = Watch(**saved["watch"])
            restore_random_state(saved["random"], self._device)

    def close(self) -> None:
        """End the thread that writes; a write under way is given up."""
        self._writer.close()

    def run_epoch(self) -> None:
        """Train one epoch, or what is left of it, validate it, and have the checkpoint written."""
        learner = self._learner
        epoch = len(self.history) + 1
        rate = learner.start_epoch(epoch)
        self._train_epoch(epoch)
        started = time.monotonic()
        losses = self._checked_losses()
        self._train_seconds += time.monotonic() - started
        started = time.monotonic()
        runaway = self._watch.runaway(losses[:, 0])
        if runaway is not None:
            raise self._diverged(runaway)
        probabilities, val_loss = self._evaluate(self._split.val)
        scores = score(probabilities, self._labels[self._split.val], self._config.recipe.specificity)
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
            warnings=self._watch.warnings(
                epoch, self._config.recipe.epochs, probabilities, self._class_names, named or None, self._weights()
            ),
        )
        selected = scores.selected(self._config.recipe.select)
        if self._best is None or selected > self._best["score"]:
            self._best = {
                "epoch": epoch,
                "score": selected,
                "state": learner.model_state(),
                "probabilities": torch.from_numpy(probabilities),
            }
        self.report(wait=True)
        self.history.append(result)
        self._step = 0
        self._train_seconds = 0.0
        changing, fixed = self._learner.state_dict(), self._fixed_state()
        if self._best["epoch"] == epoch:
            # The weights are the best ones, which are copied already; shared like this, they are written once.
            del changing["model"]
            fixed["model"] = self._best["state"]
        self._writer.start(changing, fixed)
        self._unreported = result

    def finish(self, resumed_from: int) -> TrialResult:
        """Test the best epoch."""
        assert self._best is not None
        state = self._best["state"]
        self._learner.load_model_state(state)
        val_probabilities = self._best["probabilities"].numpy()
        test_probabilities, _ = self._evaluate(self._split.test)
        self.report(wait=True)
        specificity = self._config.recipe.specificity
        return TrialResult(
            best_epoch=self._best["epoch"],
            val=score(val_probabilities, self._labels[self._split.val], specificity),
            test=score(test_probabilities, self._labels[self._split.test], specificity),
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
            table = send(augmentation_table(len(self._images), seed, epoch), self._device)
        with closing(self._learner.batches(order, self._slices[self._step :], table)) as batches:
            for step, (pixels, targets) in enumerate(batches, self._step):
                self._log.add(step, self._learner.train_batch(pixels, targets))
                self._step = step + 1
                if self._step % _CHECK_STEPS == 0 and self._log.looks_wrong(self._step):
                    self._checked_losses()
                self._train_seconds += time.monotonic() - mark
                self._obey()
                mark = time.monotonic()

    def _checked_losses(self) -> np.ndarray:
        """Bring the epoch's losses so far to the host, and refuse what is not finite."""
        losses = self._log.read(self._step)
        wrong = self._log.first_wrong(losses)
        if wrong is not None:
            step, what = wrong
            raise self._diverged(what, f", step {step + 1} of {len(self._slices)}")
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
        epochs = len(self.history)
        when = "in the test" if epochs == recipe.epochs else f"in epoch {epochs + 1}"
        return DivergedError(f"{what} {when}{where}; {remedy}")

    def _obey(self) -> None:
        order = self._control()
        if order == "abandon":
            raise Abandoned
        self.report(wait=order == "stop")
        if order == "stop":
            self._writer.write({**self._learner.state_dict(), **self._fixed_state()})
            raise Interrupted

    def report(self, *, wait: bool) -> None:
        """Tell of the last epoch when its checkpoint is written."""
        if self._unreported is not None and (wait or self._writer.is_done()):
            result, self._unreported = self._unreported, None
            self._writer.wait()
            self._on_epoch(result)

    def _fixed_state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the learner's state: plain values, and tensors that stay as they are."""
        return {
            "config": asdict(self._config),
            "data": self._data_digest(),
            "random": random_state(self._device),
            "step": self._step,
            "losses": self._log.values.to("cpu", copy=True),
            "train_seconds": self._train_seconds,
            "history": [result.to_dict() for result in self.history],
            "best": self._best,
            "watch": self._watch.to_dict(),
        }

    def _weights(self) -> dict[str, float]:
        """α and β by the half that they weigh; of no use for other losses than LMF."""
        return {"ldam": self._config.alpha or 0.0, "focal": self._config.beta or 0.0}

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
        sha256 = hashlib.sha256(f"{len(self._class_names)}".encode())
        for values in (self._labels, self._split.train, self._split.val, self._split.test):
            sha256.update(f"/{len(values)}/".encode())
            sha256.update(np.ascontiguousarray(values, dtype=np.int64).tobytes())
        return sha256.hexdigest()


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
