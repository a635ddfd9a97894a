"""Optuna's pruners by name, and what they say of running trials."""

from __future__ import annotations

import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, PercentilePruner
from optuna.trial import TrialState

from storage.pruning import TrialPruner, make_pruner, warmup_epochs
from storage.search_plan import NO_PRUNER, PRUNERS

STUDY = "skin-small"


@pytest.fixture
def open_pruner(lab):
    """Plans a search with a pruner and runs its trials by scores of epochs: `ask(scores)` reports and asks."""

    def make(name, epochs=10):
        study_id = lab.plan_search(trials=20, pruner=name, epochs=epochs)
        pruner = TrialPruner.open(lab.mirror, STUDY, lab.study().spec)
        search = lab.search(study_id)

        def ask(scores, end=None):
            search.plan_next()
            lease = lab.claim(study_id)
            lab.mirror.start(lease.trial_id)
            answers = []
            for epoch, value in enumerate(scores, start=1):
                lab.mirror.report(lease.trial_id, {epoch: value})
                answers.append(pruner.should_prune(lease.trial_id))
            if end is not None:
                lab.mirror.tell(lease.trial_id, end, scores[-1])
            return answers, lease

        return pruner, ask

    return make


def test_each_name_is_a_pruner_of_optuna():
    kinds = {name: type(make_pruner(name, 14)) for name in PRUNERS if name != NO_PRUNER}
    assert kinds == {
        "median": MedianPruner,
        "percentile": PercentilePruner,
        "hyperband": HyperbandPruner,
    }


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 1), (2, 1), (9, 1), (14, 2), (60, 12)])
def test_the_warm_up_is_a_fifth_of_the_epochs(epochs, warmup):
    assert warmup_epochs(epochs) == warmup


@pytest.mark.parametrize(("search", "pruner"), [("tpe", "none"), ("grid", "none")])
def test_without_pruner_there_is_nothing_to_ask(lab, search, pruner):
    lab.plan_search(kind=search, pruner=pruner)
    assert TrialPruner.open(lab.mirror, STUDY, lab.study().spec) is None


def test_the_median_prunes_after_warm_up_once_five_are_complete(open_pruner):
    pruner, ask = open_pruner("median")
    for number in range(5):
        answers, _ = ask([0.1] * 3 if number == 4 else [0.5] * 3, TrialState.COMPLETE)
        assert answers == [False] * 3
    assert ask([0.49] * 4)[0] == [False, False, True, False], "nobody has a fourth epoch to compare with"
    assert ask([0.51] * 3)[0] == [False] * 3
    assert pruner.message(3) == "pruned after epoch 3 of 10 (median)"


def test_the_percentile_keeps_the_best_quarter(open_pruner):
    _, ask = open_pruner("percentile")
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        ask([value] * 3, TrialState.COMPLETE)
    assert ask([0.39] * 3)[0] == [False, False, True]
    assert ask([0.41] * 3)[0] == [False] * 3


def test_hyperband_ends_what_is_not_among_the_best_third_at_a_mark(open_pruner):
    _, ask = open_pruner("hyperband", epochs=2)
    assert ask([0.5])[0] == [False]
    assert ask([0.4])[0] == [True]
    assert ask([0.6])[0] == [False]


def test_a_finished_trial_is_not_pruned(open_pruner):
    pruner, ask = open_pruner("hyperband", epochs=2)
    ask([0.5])
    answers, lease = ask([0.4], TrialState.COMPLETE)
    assert answers == [True]
    assert pruner.should_prune(lease.trial_id) is False


def test_the_pruner_sees_what_other_workers_told_meanwhile(lab, open_pruner):
    _, ask = open_pruner("median")
    for _ in range(4):
        ask([0.5] * 3, TrialState.COMPLETE)
    assert ask([0.1] * 3)[0] == [False] * 3
    other = lab.another_mirror()
    running = [trial for trial in lab.trials(lab.study().study_id) if trial.state == TrialState.RUNNING]
    other.tell(running[0]._trial_id, TrialState.COMPLETE, 0.1)
    other.close()
    assert ask([0.1] * 3)[0] == [False, False, True]
