"""One way to any loss: by its name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence

from trainer.config import LOSS_NAMES
from trainer.errors import LossError
from trainer.losses.balanced_softmax import BalancedSoftmaxLoss
from trainer.losses.base import ClassificationLoss
from trainer.losses.bwcce import BalancedWeightedLoss
from trainer.losses.cb_cce import ClassBalancedLoss
from trainer.losses.cce import CrossEntropyLoss
from trainer.losses.focal import FocalLoss
from trainer.losses.ldam import LDAMLoss
from trainer.losses.lmf import LMFLoss
from trainer.losses.logit_adjustment import LogitAdjustmentLoss
from trainer.losses.wcce import InverseFrequencyLoss

_MAKERS: dict[str, Callable[..., ClassificationLoss]] = {
    "cce": CrossEntropyLoss,
    "wcce": InverseFrequencyLoss,
    "bwcce": BalancedWeightedLoss,
    "ldam": LDAMLoss,
    "focal": FocalLoss,
    "lmf": LMFLoss,
    "cb_cce": ClassBalancedLoss,
    "balanced_softmax": BalancedSoftmaxLoss,
    "logit_adjustment": LogitAdjustmentLoss,
}


def build_loss(name: str, class_counts: Sequence[int], **hyperparameters: float | str) -> ClassificationLoss:
    """Make a loss by name.

    Args:
        name: one of `LOSS_NAMES`.
        class_counts: training images per class, in class-index order, each at least 1.
        **hyperparameters: what the loss takes besides: `alpha` and `beta` (both needed), `max_margin`, `scale`,
            `gamma` and `variant` for lmf; `max_margin`, `scale` and `variant` for ldam; `max_margin` and `gamma` for
            focal; `effective_beta` for cb_cce; `tau` for logit_adjustment.

    Returns:
        A module that takes logits ``(N, K)`` and int64 targets ``(N,)`` and gives a scalar.

    Raises:
        LossError: the name or a hyperparameter is unknown, one is missing or out of its range, or a class is empty.
    """
    if name not in _MAKERS:
        close = difflib.get_close_matches(str(name), LOSS_NAMES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise LossError(f"loss: value is {name!r}, expected one of {', '.join(LOSS_NAMES)}{hint}")
    maker = _MAKERS[name]
    takes = dict(inspect.signature(maker).parameters)
    takes.pop("class_counts")
    unknown = [given for given in hyperparameters if given not in takes]
    if unknown:
        raise LossError(f"{name}: has no {', '.join(unknown)}; it takes {', '.join(takes) or 'no hyperparameters'}")
    missing = [wanted for wanted, one in takes.items() if one.default is one.empty and wanted not in hyperparameters]
    if missing:
        raise LossError(f"{name}: {' and '.join(missing)} expected, but not given")
    return maker(class_counts, **hyperparameters)
