"""The objective of a study: a leased point becomes a training of `trainer`, and its result what is remembered."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from storage.lease import EpochFigures, Lease
from storage.queries import StudyRecord
from study.attempt import LeaseGone, Progress, Scored, Stopped
from study.home import Home
from study.images import load_planned_images
from study.plan import stored_spec
from trainer.config import Recipe, TrialConfig
from trainer.data.cache import Prepared
from trainer.data.splits import Split
from trainer.errors import CheckpointError
from trainer.process import set_up_process
from trainer.train import Abandoned, EpochResult, Interrupted, TrialResult, train


@dataclass(frozen=True, eq=False)
class TrainingObjective:
    """Trains points of one study.

    Attributes:
        recipe: the study's recipe.
        data: its decoded images.
        split: its split.
        device: where to train.
        weights_folder: where pretrained weights lie that were fetched before.
    """

    recipe: Recipe
    data: Prepared
    split: Split
    device: torch.device
    weights_folder: Path | None = None

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        """Train one point, going on from the latest checkpoint that can be read.

        Raises:
            Stopped: as `progress.control` asked.
            LeaseGone: as `progress.control` asked.
            TrainerError: the point itself fails.
        """
        config = TrialConfig(recipe=self.recipe, loss=lease.loss, alpha=lease.alpha, beta=lease.beta, seed=lease.seed)
        for resume_path in (*progress.checkpoints(), None):
            began = False

            def started(history: tuple[EpochResult, ...]) -> None:
                nonlocal began
                began = True
                progress.started([_figures(result) for result in history])

            try:
                result = train(
                    config,
                    self.data.images,
                    self.data.labels,
                    len(self.data.class_names),
                    self.split,
                    self.device,
                    checkpoint_path=progress.checkpoint_path,
                    resume_path=resume_path,
                    on_start=started,
                    on_epoch=lambda epoch: progress.epoch_done(_figures(epoch)),
                    on_checkpoint=progress.checkpoint_written,
                    control=progress.control,
                    class_names=self.data.class_names,
                    weights_folder=self.weights_folder,
                )
            except Interrupted:
                raise Stopped from None
            except Abandoned:
                raise LeaseGone from None
            except CheckpointError:
                # A checkpoint that cannot be read is passed over for an older one, or for none.
                if began or resume_path is None:
                    raise
            else:
                return self._scored(result, progress.scratch)
        raise AssertionError("the last try starts anew and returns or raises")

    def _scored(self, result: TrialResult, folder: Path) -> Scored:
        scores: dict[str, Any] = {
            "best_epoch": result.best_epoch,
            "val": result.val.to_dict(),
            "test": result.test.to_dict(),
            "weights_sha256": result.weights_sha256,
            "warnings": list(result.warnings),
        }
        predictions = folder / "predictions.csv"
        parts = (
            ("val", self.split.val, result.val_probabilities),
            ("test", self.split.test, result.test_probabilities),
        )
        _write_predictions(predictions, self.data, parts)
        document = folder / "scores.json"
        document.write_text(json.dumps({**scores, "class_names": list(self.data.class_names)}, indent=2))
        weights = folder / "weights.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in result.best_state.items()}, weights)
        return Scored(float(scores["val"][self.recipe.select]), scores, (predictions, document), weights)


def open_objective(record: StudyRecord, parts: str, home: Home, device: str) -> TrainingObjective:
    """The objective of a planned study in this process, whose threads it sets.

    Args:
        record: the study.
        parts: its split, as it is stored.
        home: where decoded images are.
        device: `cpu` or `cuda:N`.

    Raises:
        StudyError: the images here are not those of the study.
        DataError: images cannot be used.
    """
    spec = stored_spec(record.spec)
    where = torch.device(device)
    set_up_process(spec.recipe, where)
    images = load_planned_images(record, parts, spec, home)
    return TrainingObjective(spec.recipe, images.prepared, images.split, where, home.weights)


def _figures(result: EpochResult) -> EpochFigures:
    return EpochFigures(**asdict(result))


def _write_predictions(path: Path, data: Prepared, parts: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """One row an image: split, image, its class, the predicted class, and a probability per class."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "image", "class", "predicted", *(f"p({name})" for name in data.class_names)])
        for name, indices, probabilities in parts:
            for index, row in zip(indices, probabilities, strict=True):
                label, predicted = int(data.labels[index]), int(row.argmax())
                writer.writerow(
                    [
                        name,
                        data.image_names[index],
                        data.class_names[label],
                        data.class_names[predicted],
                        *(f"{value:.7g}" for value in row),
                    ]
                )
