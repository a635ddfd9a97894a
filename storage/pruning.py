"""Which trainings are not worth going on with: Optuna's pruners, asked once an epoch, and what the ledger is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, PercentilePruner

from storage.search_plan import NO_PRUNER, SearchPlan
from storage.trials import TrialMirror, optuna_errors

STARTUP_TRIALS = 5
"""So many trials are complete before `median` and `percentile` prune any."""

KEPT_PERCENT = 25.0
"""`percentile` goes on with a training whose best score so far is among so many percent."""

REDUCTION_FACTOR = 3
"""Of the trainings that reach one of its marks, Hyperband goes on with one in so many."""


@dataclass(frozen=True)
class TrialPruner:
    """Decides about the running trials of one study.

    Attributes:
        mirror: Optuna's side of the database.
        study: Optuna's study with its pruner; it keeps finished trials, so that each is read once.
        name: what the pruner is called, one of `storage.search_plan.PRUNERS`.
        epochs: epochs of a training that is not pruned.
    """

    mirror: TrialMirror
    study: optuna.Study = field(repr=False)
    name: str
    epochs: int

    @classmethod
    def open(cls, mirror: TrialMirror, study: str, spec: Mapping[str, Any]) -> TrialPruner | None:
        """The pruner of a study, None where every training goes to its end.

        Args:
            mirror: Optuna's side of the database.
            study: name of the study.
            spec: its stored description.

        Raises:
            StorageError: Optuna's half of the study is gone.
        """
        plan = SearchPlan.of(spec)
        if plan is None or plan.pruner == NO_PRUNER:
            return None
        pruner = make_pruner(plan.pruner, plan.epochs)
        with optuna_errors(mirror.database):
            loaded = optuna.load_study(study_name=study, storage=mirror.storage, pruner=pruner)
        return cls(mirror, loaded, plan.pruner, plan.epochs)

    def should_prune(self, trial_id: int) -> bool:
        """Whether to end a training now, going by the scores that Optuna has of it and of the others.

        Hyperband judges a training at each of its marks once. Where a worker dies between that and noting the end,
        the next one goes on to the next mark.

        Args:
            trial_id: the trial, whose latest epoch is reported.

        Raises:
            StorageError: the database refuses.
        """
        with optuna_errors(self.mirror.database):
            trial = self.mirror.storage.get_trial(trial_id)
            if not trial.state.is_finished():
                return self.study.pruner.prune(self.study, trial)
        return False

    def message(self, epoch: int) -> str:
        """What the ledger says of a training that ends so."""
        return f"pruned after epoch {epoch} of {self.epochs} ({self.name})"


def make_pruner(name: str, epochs: int) -> BasePruner:
    """Optuna's pruner of a name.

    Args:
        name: one of `storage.search_plan.PRUNERS`, but for `NO_PRUNER`.
        epochs: epochs of a training that is not pruned.
    """
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=REDUCTION_FACTOR)
    # Epochs count from 1, and a pruner may act at the step that it calls the end of the warm-up.
    first = warmup_epochs(epochs) + 1
    if name == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=first)
    return PercentilePruner(KEPT_PERCENT, n_startup_trials=STARTUP_TRIALS, n_warmup_steps=first)


def warmup_epochs(epochs: int) -> int:
    """After how many first epochs `median` and `percentile` end no training: a fifth of all, at least one."""
    return max(1, epochs // 5)
