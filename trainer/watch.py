"""What goes wrong in a training, noticed early.

Losses that are no numbers or run away, classes that are never predicted, a half of LMF that the other drowns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

RUNAWAY_FACTOR = 20.0
"""An epoch's last losses above so many times the loss before the first update count as divergence."""

PREDICTED_BY_EPOCH = 5
"""The epoch by which each class should have been predicted at least once; the last epoch of a shorter training."""

DROWNED_SHARE = 0.01
"""A half of LMF whose weighted gradient is below this share of both in the first epoch is drowned by the other."""


class LossLog:
    """The losses of an epoch's steps, kept on the device and looked at without waiting for it.

    Args:
        steps: steps of an epoch.
        names: what a step reports, the loss first.
        device: where losses are computed.
    """

    def __init__(self, steps: int, names: Sequence[str], device: torch.device) -> None:
        self._names = tuple(names)
        self._values = torch.zeros((steps, len(self._names)), device=device)
        self._asked: tuple[Tensor, torch.cuda.Event] | None = None

    def add(self, step: int, losses: Tensor) -> None:
        """Note the losses of a step.

        Args:
            step: number of the step, from 0.
            losses: float32 on the device, one value for each name.
        """
        self._values[step] = losses

    def restore(self, values: Tensor) -> None:
        """Take over what `values` gave for an interrupted epoch."""
        self._values.copy_(values)

    @property
    def values(self) -> Tensor:
        """All losses on the device, shape ``(steps, names)``; of no meaning from the present step on."""
        return self._values

    def read(self, steps: int) -> np.ndarray:
        """Bring the losses of the first steps to the host: float64, shape ``(steps, names)``."""
        losses: np.ndarray = self._values[:steps].cpu().double().numpy()
        return losses

    def looks_wrong(self, steps: int) -> bool:
        """Whether a loss is known to be no finite number; on a GPU, of those that were there when last asked.

        Args:
            steps: how many steps have been noted.
        """
        device = self._values.device
        if device.type != "cuda":
            return not bool(self._values[:steps].isfinite().all())
        wrong = False
        if self._asked is not None:
            answer, computed = self._asked
            if not computed.query():  # type: ignore[no-untyped-call]
                return False
            wrong = bool(answer)
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(self._values[:steps].isfinite().all().logical_not(), non_blocking=True)
        self._asked = (answer, torch.cuda.current_stream(device).record_event())
        return wrong

    def first_wrong(self, losses: np.ndarray) -> tuple[int, str] | None:
        """The first step, from 0, with a loss that is no finite number, and what it became in words."""
        steps, columns = np.nonzero(~np.isfinite(losses))
        if not len(steps):
            return None
        name = "training loss" if columns[0] == 0 else f"training loss's {self._names[columns[0]].replace('_', ' ')}"
        return int(steps[0]), f"the {name} became {losses[steps[0], columns[0]]}"


@dataclass
class Watch:
    """What is remembered of a trial to notice that something goes wrong; part of its checkpoint.

    Attributes:
        first_loss: the loss of the first batch, before the first update; None before it is known.
        predicted: indices of the classes that have been predicted on validation in any epoch, rising.
    """

    first_loss: float | None = None
    predicted: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, in plain values."""
        return asdict(self)

    def runaway(self, losses: np.ndarray) -> str | None:
        """What is to be said of an epoch whose loss ends far above where the training began; None where it does not.

        Args:
            losses: the epoch's losses by step, shape ``(steps,)``.
        """
        if self.first_loss is None:
            self.first_loss = float(losses[0])
        late = float(losses[-max(1, len(losses) // 4) :].mean())
        if late <= RUNAWAY_FACTOR * abs(self.first_loss):
            return None
        return f"the training loss rose from {self.first_loss:.3g} before the first update to {late:.3g}"

    def warnings(
        self,
        epoch: int,
        last_epoch: int,
        probabilities: np.ndarray,
        class_names: Sequence[str],
        halves: Mapping[str, float] | None,
        weights: Mapping[str, float],
    ) -> tuple[str, ...]:
        """What an epoch gives reason to warn of, each once in a trial.

        Args:
            epoch: 1-based.
            last_epoch: the last epoch of the training.
            probabilities: of the validation images, shape ``(n, num_classes)``.
            class_names: in class-index order.
            halves: the epoch's figures of LMF's halves, see `trainer.results.EpochResult`; None for other losses.
            weights: α and β by the half that they weigh, `ldam` and `focal`.
        """
        self.predicted = sorted({*self.predicted, *np.unique(probabilities.argmax(axis=1)).tolist()})
        found = []
        if epoch == min(PREDICTED_BY_EPOCH, last_epoch):
            missing = [name for index, name in enumerate(class_names) if index not in self.predicted]
            if missing:
                found.append(f"never predicted on validation by epoch {epoch}: {', '.join(missing)}")
        if epoch == 1 and halves is not None:
            found += _drowned(halves, weights)
        return tuple(found)


def gradient_shares(halves: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each half in the sum of both halves' weighted gradient norms; empty where both are 0.

    Args:
        halves: with `ldam_gradient` and `focal_gradient`.
        weights: α and β by the half that they weigh.
    """
    norms = {half: weights[half] * halves[f"{half}_gradient"] for half in ("ldam", "focal")}
    total = sum(norms.values())
    return {half: norm / total for half, norm in norms.items()} if total > 0 else {}


def _drowned(halves: Mapping[str, float], weights: Mapping[str, float]) -> list[str]:
    factors = {"ldam": "alpha", "focal": "beta"}
    return [
        f"the {half} half gives less than {DROWNED_SHARE:.0%} of the gradient at the logits in epoch 1: at this scale "
        f"{factors[half]} hardly matters"
        for half, share in gradient_shares(halves, weights).items()
        if share < DROWNED_SHARE
    ]
