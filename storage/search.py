"""Adaptive search: which alpha and beta a study tries next, within a budget that holds however many workers ask.

Optuna's samplers choose, but from a copy of the study in memory: asking the stored study would make its trials, one
for everybody who asks, whatever the budget. A point is chosen under a lock of its study and written to the ledger;
its trial follows on the way that all points take, so a planner that dies in between leaves a point that the next one
completes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from storage.database import Database
from storage.errors import StorageError
from storage.planning import NewPoint, give_trials, plan_points
from storage.schema import OPEN, PointRow, StudyRow
from storage.search_plan import SearchPlan, kept_value, point_key
from storage.trials import PARAMETER_RANGE, TrialMirror, optuna_errors

SEARCHED_LOSS = "lmf"
"""The loss whose alpha and beta are searched."""

MOST_REPEATS = 10
"""So often a sampler may choose a pair that the study has already; then chance chooses."""


@dataclass(frozen=True)
class Search:
    """Plans the points of one study, one at a time.

    Attributes:
        database: the ledger's database.
        mirror: Optuna's side of it.
        study_id: the study's id in the ledger.
        study: Optuna's study; it keeps finished trials, so that each is read once.
    """

    database: Database
    mirror: TrialMirror
    study_id: int
    study: optuna.Study = field(repr=False)

    @classmethod
    def open(cls, database: Database, mirror: TrialMirror, study_id: int) -> Search | None:
        """The search of a study, None where its points are a grid.

        Raises:
            StorageError: there is no such study.
        """
        name, plan, _ = _read_plan(database, study_id)
        if plan is None:
            return None
        with optuna_errors(database):
            study = optuna.load_study(study_name=name, storage=mirror.storage)
        return cls(database, mirror, study_id, study)

    def plan_next(self) -> bool:
        """See to it that there is a point more to claim, as long as the budget lasts.

        A point that lacks its trial, because a planner died, is completed first.

        Returns:
            Whether there may be a point to claim now; False where the budget is used up, or the study is not open.

        Raises:
            StorageError: the database refuses, or the study is gone.
        """
        if not self._has_more():
            return False
        with self.database.lock(f"search-{self.study_id}"):
            # The lock `plan` is also held by whoever plans or retries, who gives trials to points as well.
            with self.database.lock("plan"):
                if self._counts()[1]:
                    give_trials(self.database, self.mirror, self.study_id)
                    return True
            _, plan, state = _read_plan(self.database, self.study_id)
            keys = self._keys()
            if plan is None or state != OPEN or len(keys) >= plan.trials:
                return False
            point = self._choose(plan, keys)
            with self.database.lock("plan"):
                _read_plan(self.database, self.study_id)
                plan_points(self.database, self.mirror, self.study_id, [point])
            return True

    def _has_more(self) -> bool:
        """Whether the budget is not used up, or a point lacks its trial; asked without a lock."""
        _, plan, state = _read_plan(self.database, self.study_id)
        points, without_trial = self._counts()
        return state == OPEN and plan is not None and (points < plan.trials or without_trial > 0)

    def _counts(self) -> tuple[int, int]:
        """How many points there are, and how many of them lack their trial."""
        with self.database.read() as connection:
            points, with_trial = connection.execute(
                sa.select(sa.func.count(), sa.func.count(PointRow.trial_id)).where(PointRow.study_id == self.study_id)
            ).one()
        return points, points - with_trial

    def _keys(self) -> frozenset[str]:
        with self.database.read() as connection:
            return frozenset(connection.scalars(sa.select(PointRow.key).where(PointRow.study_id == self.study_id)))

    def _choose(self, plan: SearchPlan, keys: frozenset[str]) -> NewPoint:
        """A pair that the study does not have; the same one again for the same history."""
        with optuna_errors(self.database):
            trials = self.study.get_trials(deepcopy=False)
        history = [_as_history(trial) for trial in trials]
        for repeat in count():
            kind = plan.kind if repeat < MOST_REPEATS else "random"
            sampler = make_sampler(kind, plan.seed, len(keys), repeat)
            alpha, beta = suggest(sampler, history)
            key = point_key(SEARCHED_LOSS, alpha, beta, plan.seed)
            if key not in keys:
                return NewPoint(key, alpha, beta, SEARCHED_LOSS, plan.seed, ())
        raise AssertionError("chance finds another pair")


def make_sampler(kind: str, seed: int, points: int, repeat: int = 0) -> BaseSampler:
    """A sampler for one choice, seeded so that a search chooses the same again where it stands at the same place.

    Args:
        kind: `tpe`, `gp` or `random`.
        seed: the study's seed.
        points: how many points the study has so far.
        repeat: how often the choice fell on a point that the study has.
    """
    state = int(np.random.SeedSequence([seed, points, repeat]).generate_state(1)[0])
    if kind == "tpe":
        return TPESampler(multivariate=True, constant_liar=True, seed=state)
    if kind == "gp":
        return GPSampler(seed=state)
    return RandomSampler(seed=state)


def suggest(sampler: BaseSampler, history: Sequence[FrozenTrial]) -> tuple[float, float]:
    """Let a sampler choose alpha and beta, each within `PARAMETER_RANGE`, as precise as a key shows them.

    Args:
        sampler: chooses.
        history: all trials of the study by number, those that wait as RUNNING, so that what is under way counts.
    """
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(history)
    distributions = {name: FloatDistribution(*PARAMETER_RANGE) for name in ("alpha", "beta")}
    chosen = study.ask(dict(distributions)).params
    return kept_value(chosen["alpha"]), kept_value(chosen["beta"])


def _as_history(trial: FrozenTrial) -> FrozenTrial:
    """A trial as samplers shall see it: one that waits is as good as under way, and is not handed out."""
    if trial.state != TrialState.WAITING:
        return trial
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
    )


def _read_plan(database: Database, study_id: int) -> tuple[str, SearchPlan | None, str]:
    """Name, search and state of a study as they are stored now: its budget may be raised, or it may be paused."""
    with database.read() as connection:
        row = connection.execute(
            sa.select(StudyRow.name, StudyRow.spec, StudyRow.state).where(StudyRow.id == study_id)
        ).first()
    if row is None:
        raise StorageError("the study is gone: somebody deleted it")
    return row.name, SearchPlan.of(row.spec), row.state
