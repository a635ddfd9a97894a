"""What losses are made from, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.errors import LossError
from trainer.losses import (
    LOSS_NAMES,
    BalancedWeightedLoss,
    ClassificationLoss,
    InverseFrequencyLoss,
    LMFLoss,
    build_loss,
    class_margins,
)

COUNTS = (120, 35, 7, 2, 60)


@pytest.fixture(params=LOSS_NAMES)
def loss(request: pytest.FixtureRequest) -> ClassificationLoss:
    """Every loss with what it cannot do without."""
    return build_loss(request.param, COUNTS, **({"alpha": 1.0, "beta": 1.0} if request.param == "lmf" else {}))


def test_margins_follow_the_fourth_root() -> None:
    margins = class_margins((16, 81, 1), 0.5)
    assert margins.dtype == torch.float32
    assert margins.tolist() == pytest.approx([0.25, 0.5 / 3, 0.5])
    assert class_margins(np.array([16, 256]), 1.0, dtype=torch.float64).tolist() == pytest.approx([1.0, 0.5], rel=1e-15)


def test_weights_are_what_their_papers_say_of_them() -> None:
    """BWCCE's sum to 1; inverse frequency's are 1 on average over the images."""
    balanced, inverse = build_loss("bwcce", COUNTS), build_loss("wcce", COUNTS)
    assert isinstance(balanced, BalancedWeightedLoss)
    assert isinstance(inverse, InverseFrequencyLoss)
    assert balanced.weights.sum().item() == pytest.approx(1)
    assert (inverse.weights * torch.tensor(COUNTS)).sum().item() == pytest.approx(sum(COUNTS))


@pytest.mark.parametrize(
    ("name", "counts", "figures", "says"),
    [
        ("lfm", COUNTS, {}, "expected one of cce.*did you mean"),
        ("lmf", COUNTS, {"alpha": 1.0}, "lmf: beta expected"),
        ("lmf", COUNTS, {}, "lmf: alpha and beta expected"),
        ("lmf", COUNTS, {"alpha": 1.0, "beta": 1.0, "gama": 1.0}, "lmf: has no gama; it takes alpha, beta, max_margin"),
        ("cce", COUNTS, {"alpha": 1.0}, "cce: has no alpha; it takes no hyperparameters"),
        ("lmf", COUNTS, {"alpha": -0.1, "beta": 1.0}, "alpha: value is -0.1, expected a finite number from 0"),
        ("lmf", COUNTS, {"alpha": 1.0, "beta": math.nan}, "beta: value is nan"),
        ("lmf", COUNTS, {"alpha": True, "beta": 1.0}, "alpha: value is True"),
        ("lmf", COUNTS, {"alpha": 0, "beta": 0}, "alpha, beta: both are 0"),
        ("ldam", COUNTS, {"max_margin": 0}, "max_margin: value is 0, expected a finite number above 0"),
        ("ldam", COUNTS, {"scale": "30"}, "scale: value is '30'"),
        ("ldam", COUNTS, {"scale": math.inf}, "scale: value is inf"),
        ("ldam", COUNTS, {"variant": "paper"}, "variant: value is 'paper', expected one of reference, equations"),
        ("ldam", COUNTS, {"variant": "equations", "scale": 30.0}, "scale: value is 30.0, expected none"),
        ("focal", COUNTS, {"gamma": -1}, "gamma: value is -1"),
        ("cb_cce", COUNTS, {"effective_beta": 1.0}, "effective_beta: value is 1.0, .* below 1"),
        ("logit_adjustment", COUNTS, {"tau": -1.0}, "tau: value is -1.0"),
    ],
)
def test_wrong_names_and_figures_are_refused(
    name: str, counts: tuple[int, ...], figures: dict[str, float | str], says: str
) -> None:
    with pytest.raises(LossError, match=says) as caught:
        build_loss(name, counts, **figures)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ((3, 0, 5, 0), "no training image in class 1, 3"),
        ((3, -1), "no training image in class 1"),
        ((3,), "expected at least 2"),
        ((), "expected at least 2"),
        ((3, 2.5), "expected a whole number per class"),
        ("ab", "expected a whole number per class"),
    ],
)
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_every_loss_refuses_counts_it_cannot_use(name: str, counts: Any, says: str) -> None:
    figures = {"alpha": 1.0, "beta": 1.0} if name == "lmf" else {}
    with pytest.raises(LossError, match=says):
        build_loss(name, counts, **figures)
    with pytest.raises(LossError, match=says):
        class_margins(counts)


@pytest.mark.parametrize(
    ("logits", "targets", "says"),
    [
        (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), r"logits: shape is \(4, 3\), expected \(N, 5\)"),
        (torch.zeros(5), torch.zeros(5, dtype=torch.int64), r"logits: shape is \(5,\)"),
        (torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), "N at least 1"),
        (torch.zeros(4, 5, 1), torch.zeros(4, dtype=torch.int64), "logits: shape"),
        (torch.zeros(4, 5), torch.zeros(3, dtype=torch.int64), r"targets: shape is \(3,\), expected \(4,\)"),
        (torch.zeros(4, 5), torch.zeros(4, 5, dtype=torch.int64), r"targets: shape is \(4, 5\)"),
        (torch.zeros(4, 5, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), "logits: type is torch.int64"),
        (torch.zeros(4, 5), torch.zeros(4), "targets: type is torch.float32"),
        (torch.zeros(4, 5), torch.zeros(4, dtype=torch.int32), "targets: type is torch.int32"),
        (torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64, device="meta"), "targets: device is meta, expected cpu"),
    ],
)
def test_wrong_batches_are_refused(loss: ClassificationLoss, logits: Tensor, targets: Tensor, says: str) -> None:
    with pytest.raises(LossError, match=says):
        loss(logits, targets)
    if isinstance(loss, LMFLoss):
        with pytest.raises(LossError, match=says):
            loss.halves(logits, targets)


@pytest.mark.parametrize("target", [-1, 5, -100])
def test_a_class_that_does_not_exist_is_never_trained_on(loss: ClassificationLoss, target: int) -> None:
    with pytest.raises((RuntimeError, IndexError)):
        loss(torch.zeros(2, 5), torch.tensor([0, target]))
