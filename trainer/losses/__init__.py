"""The losses that are tuned and compared; `build_loss` makes any of them."""

from trainer.config import LOSS_NAMES
from trainer.losses.balanced_softmax import BalancedSoftmaxLoss
from trainer.losses.base import ClassificationLoss
from trainer.losses.build import build_loss
from trainer.losses.bwcce import BalancedWeightedLoss
from trainer.losses.cb_cce import ClassBalancedLoss
from trainer.losses.cce import CrossEntropyLoss
from trainer.losses.focal import FocalLoss
from trainer.losses.ldam import LDAMLoss
from trainer.losses.lmf import LMFLoss
from trainer.losses.logit_adjustment import LogitAdjustmentLoss
from trainer.losses.margins import class_margins
from trainer.losses.wcce import InverseFrequencyLoss

__all__ = [
    "LOSS_NAMES",
    "BalancedSoftmaxLoss",
    "BalancedWeightedLoss",
    "ClassBalancedLoss",
    "ClassificationLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "InverseFrequencyLoss",
    "LDAMLoss",
    "LMFLoss",
    "LogitAdjustmentLoss",
    "build_loss",
    "class_margins",
]
