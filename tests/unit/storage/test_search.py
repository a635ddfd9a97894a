"""A search: its budget kept exactly, whoever asks and dies, and points chosen by what came before, on both backends."""

from __future__ import annotations

import threading

import optuna
import pytest
from lmf_testing.searching import ask_at_once
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from storage import search as searching
from storage.errors import StorageError
from storage.planning import delete_study, retry_failed
from storage.search import Search, make_sampler, suggest

STUDY = "skin-small"
KINDS = ("tpe", "gp", "random")
RANGE = FloatDistribution(0.5, 2.0)
BEST = (1.6, 0.8)


def score(alpha, beta):
    """Cheap, with one peak of 1 at `BEST`."""
    return 1.0 - (alpha - BEST[0]) ** 2 - (beta - BEST[1]) ** 2


def trial_of(pair, value=None):
    """A trial of a pair: complete with a value, else running."""
    return create_trial(
        state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
        params={"alpha": pair[0], "beta": pair[1]},
        distributions={"alpha": RANGE, "beta": RANGE},
        value=value,
    )


def run(kind, trials, seed=23):
    """The pairs of a whole search, without a database."""
    history, pairs = [], []
    for number in range(trials):
        pairs.append(suggest(make_sampler(kind, seed, number), history))
        history.append(trial_of(pairs[-1], score(*pairs[-1])))
    return pairs


def pairs_of(lab, study=STUDY):
    return [(point.alpha, point.beta) for point in lab.study(study).points]


class TestBudget:
    def test_points_are_planned_one_by_one_until_the_budget_is_used_up(self, lab):
        study_id = lab.plan_search(trials=3)
        search = lab.search(study_id)
        for number in range(1, 4):
            assert search.plan_next() is True
            assert len(lab.study().points) == number
        assert search.plan_next() is False
        points = lab.study().points
        assert [point.trial_number for point in points] == [0, 1, 2]
        assert {point.state for point in points} == {"waiting"}
        for point, trial in zip(points, lab.trials(study_id), strict=True):
            assert point.key == f"lmf a={point.alpha:.10g} b={point.beta:.10g} seed=23"
            assert (point.loss, point.seed, point.settings) == ("lmf", 23, ())
            assert trial.state == TrialState.WAITING
            assert trial.params == {"alpha": point.alpha, "beta": point.beta}
            assert trial.user_attrs["lmf:point"] == point.key

    def test_eight_processes_that_ask_at_once_keep_it(self, prepared_url, make_lab):
        lab = make_lab(prepared_url)
        study_id = lab.plan_search(trials=20, kind="tpe")
        assert ask_at_once(prepared_url, study_id, 8) == [0] * 8
        points = lab.study().points
        assert len({point.key for point in points}) == len(points) == 20
        assert sorted(point.trial_number for point in points) == list(range(20))
        assert len(lab.trials(study_id)) == 20

    def test_only_one_chooses_at_a_time_and_the_other_counts_again(self, lab, monkeypatch):
        study_id = lab.plan_search(trials=1)
        choosing, both = [], threading.Event()

        def slowly(*_):
            """Choose another pair than anybody else, after giving others the time to come here too."""
            choosing.append(None)
            if len(choosing) > 1:
                both.set()
            both.wait(2)
            return 1.0, 0.5 + len(choosing) / 10

        monkeypatch.setattr(searching, "suggest", slowly)
        answers = []

        def ask(database, mirror):
            answers.append(Search.open(database, mirror, study_id).plan_next())

        askers = [(lab.another(), lab.another_mirror()) for _ in range(2)]
        threads = [threading.Thread(target=ask, args=asker) for asker in askers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False, True]
        assert len(choosing) == len(lab.study().points) == 1

    def test_a_planner_that_dies_anywhere_costs_no_point_and_no_trial(self, lab, cut_at, power_cut):
        number = 0
        while True:
            number += 1
            study_id = lab.plan_search(trials=2)
            try:
                with cut_at(lab, number):
                    assert lab.search(study_id).plan_next()
                break
            except power_cut:
                pass
            heir = lab.search(study_id)
            while heir.plan_next():
                pass
            assert len(lab.study().points) == 2, number
            assert len(lab.trials(study_id)) == 2, number
            assert [point.trial_number for point in lab.study().points] == [0, 1], number
            lab.clear()
        assert number >= 3, "the point, its trial, and which trial is the point's were written one after another"

    def test_a_point_that_lacks_its_trial_is_completed_though_the_budget_is_used_up(self, lab, cut_at, power_cut):
        study_id = lab.plan_search(trials=1)
        with pytest.raises(power_cut), cut_at(lab, 2):
            lab.search(study_id).plan_next()
        assert [point.trial_number for point in lab.study().points] == [None]
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
        assert lab.search(study_id).plan_next() is True
        assert lab.claim(study_id).trial_number == 0
        assert lab.search(study_id).plan_next() is False

    def test_failed_points_count_and_a_retry_adds_none(self, lab):
        study_id = lab.plan_search(trials=2)
        search = lab.search(study_id)
        search.plan_next()
        lab.fail_for_good(lab.claim(study_id))
        search.plan_next()
        lab.complete(study_id)
        assert search.plan_next() is False
        with lab.database.lock("plan"):
            assert retry_failed(lab.database, lab.mirror, study_id) == 1
        assert search.plan_next() is False
        assert [point.state for point in lab.study().points] == ["waiting", "complete"]
        assert len(lab.trials(study_id)) == 3

    def test_a_raised_budget_counts_at_once(self, lab):
        study_id = lab.plan_search(trials=1)
        search = lab.search(study_id)
        assert [search.plan_next(), search.plan_next()] == [True, False]
        assert lab.plan_search(trials=2) == study_id
        assert [search.plan_next(), search.plan_next()] == [True, False]

    def test_a_grid_has_no_search(self, lab):
        assert Search.open(lab.database, lab.mirror, lab.plan(2)) is None

    def test_a_deleted_study_gets_no_more_points(self, lab):
        study_id = lab.plan_search(trials=2)
        search = lab.search(study_id)
        with lab.database.lock("plan"):
            delete_study(lab.database, lab.mirror, STUDY)
        with pytest.raises(StorageError, match="the study is gone"):
            search.plan_next()

    def test_optuna_shows_how_a_study_searches(self, lab):
        lab.plan_search(trials=7, kind="gp", pruner="median")
        attributes = optuna.load_study(study_name=STUDY, storage=lab.mirror.storage).user_attrs
        assert attributes["lmf:search"] == "gp, 7 trials"
        assert attributes["lmf:pruner"] == "median"


class TestChoice:
    def choose_thirteen(self, lab, study, value=score, seed=23):
        study_id = lab.plan_search(trials=14, kind="tpe", seed=seed, study=study)
        search = lab.search(study_id)
        for _ in range(12):
            assert search.plan_next()
            lease = lab.claim(study_id)
            lab.mirror.tell(lease.trial_id, TrialState.COMPLETE, value(lease.alpha, lease.beta))
            lab.finish(lease)
        assert search.plan_next()
        return pairs_of(lab, study)

    def test_the_same_history_gives_the_same_point_and_another_one_another(self, lab):
        first = self.choose_thirteen(lab, "one")
        assert self.choose_thirteen(lab, "two") == first
        other = self.choose_thirteen(lab, "three", value=lambda alpha, beta: -score(alpha, beta))
        assert (other[:10], other[12] == first[12]) == (first[:10], False), "the first ten are chance, then they differ"
        assert self.choose_thirteen(lab, "four", seed=24)[0] != first[0]

    def test_a_pair_that_the_study_has_is_not_tried_again(self, lab, monkeypatch):
        study_id = lab.plan_search(trials=3)
        search = lab.search(study_id)
        search.plan_next()
        known = pairs_of(lab)[0]
        kinds = []

        def stubborn(sampler, *others):
            kinds.append(type(sampler).__name__)
            return known if len(kinds) <= 12 else suggest(sampler, *others)

        monkeypatch.setattr(searching, "suggest", stubborn)
        lab.plan_search(trials=3, kind="tpe")
        assert search.plan_next()
        assert len(set(pairs_of(lab))) == 2
        assert kinds == ["TPESampler"] * 10 + ["RandomSampler"] * 3

    def test_what_waits_and_what_runs_is_known_to_the_sampler(self, lab, monkeypatch):
        study_id = lab.plan_search(trials=4)
        search = lab.search(study_id)
        search.plan_next()
        lab.mirror.start(lab.claim(study_id).trial_id)
        search.plan_next()
        seen = []

        def look(sampler, history):
            seen.extend((trial.state, trial.params) for trial in history)
            return suggest(sampler, history)

        monkeypatch.setattr(searching, "suggest", look)
        search.plan_next()
        assert [state for state, _ in seen] == [TrialState.RUNNING] * 2
        assert [(params["alpha"], params["beta"]) for _, params in seen] == pairs_of(lab)[:2]
        assert [trial.state for trial in lab.trials(study_id)] == [TrialState.RUNNING] + [TrialState.WAITING] * 2

    @pytest.mark.parametrize("kind", ["tpe", "gp"])
    def test_a_running_trial_keeps_the_next_one_from_its_place(self, kind):
        history = [trial_of(pair, score(*pair)) for pair in run("random", 15)]
        alone = suggest(make_sampler(kind, 23, 15), history)
        beside = suggest(make_sampler(kind, 23, 15), [*history, trial_of(alone)])
        assert max(abs(alone[0] - beside[0]), abs(alone[1] - beside[1])) > 0.01

    @pytest.mark.parametrize("kind", KINDS)
    def test_choices_stay_in_range_and_as_precise_as_their_key(self, kind):
        for alpha, beta in run(kind, 15):
            assert 0.5 <= alpha <= 2.0
            assert 0.5 <= beta <= 2.0
            assert (alpha, beta) == (float(f"{alpha:.10g}"), float(f"{beta:.10g}"))

    @pytest.mark.parametrize(("kind", "trials"), [("tpe", 60), ("gp", 18)])
    def test_a_search_comes_closer_to_the_optimum_than_chance(self, kind, trials):
        def distance(pairs):
            return sum((1.0 - score(*pair)) ** 0.5 for pair in pairs) / len(pairs)

        late = distance(run(kind, trials)[-8:])
        by_chance = distance(run("random", 200))
        assert late < 0.6 * by_chance, (late, by_chance)
