"""Planning, on both backends: each point once, with its one trial, however often and wherever it is cut short."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import TrialState

from storage.database import Database
from storage.errors import StorageError
from storage.planning import DatasetFacts, NewPoint, delete_study, give_trials, plan_points, save_study
from storage.queries import find_spec, list_studies, read_parts
from storage.schema import DatasetRow, StudyRow
from storage.trials import POINT_KEY

STUDY = "skin-small"
FACTS = DatasetFacts("skin", "f" * 64, "s" * 64, ("nv", "mel"), {"train": (8, 4), "val": (2, 1), "test": (2, 1)})
LESIONS = {
    "group": "lesion",
    "groups": 12,
    "leaking_groups": 5,
    "leaking_val_groups": 4,
    "test_images": 30,
    "leaking_test_images": 6,
}
PATIENTS = {
    "group": "patient",
    "groups": 9,
    "leaking_groups": 3,
    "leaking_val_groups": 0,
    "test_images": 30,
    "leaking_test_images": 7,
}
LEAKING = replace(FACTS, parts="rrrrrrrrrrrrvvvttt", leakage=(LESIONS, PATIENTS))


def attributes(lab, study_id):
    """What Optuna shows with a study."""
    with lab.database.read() as connection:
        optuna_id = connection.scalar(sa.select(StudyRow.optuna_study_id).where(StudyRow.id == study_id))
    return lab.mirror.storage.get_study_user_attrs(optuna_id)


def check_planned(lab, study_id, keys, study=STUDY):
    """Each point is there once, waits, and has the one trial that carries its key."""
    points = lab.study(study).points
    assert [point.key for point in points] == keys
    trials = {trial.number: trial for trial in lab.trials(study_id)}
    assert sorted(trials) == list(range(len(keys))), "one trial a point, and no other"
    assert sorted(point.trial_number for point in points) == sorted(trials)
    for point in points:
        trial = trials[point.trial_number]
        assert trial.user_attrs[POINT_KEY] == point.key
        assert trial.state == TrialState.WAITING
        assert lab.column("trial_id", point.point_id) == trial._trial_id


class TestPlanning:
    def test_each_point_is_planned_once_with_its_waiting_trial(self, lab):
        study_id = lab.plan(3)
        check_planned(lab, study_id, ["p0", "p1", "p2"])
        trial = lab.trials(study_id)[1]
        assert trial.params == {"alpha": 1.0, "beta": 0.501}
        assert trial.user_attrs == {POINT_KEY: "p1", "loss": "lmf", "seed": 23, "settings": ["beta"]}

    def test_planning_again_adds_nothing(self, lab):
        study_id = lab.plan(3)
        before = lab.study()
        assert lab.plan(3) == study_id
        assert lab.study() == before
        assert plan_points(lab.database, lab.mirror, study_id, lab.new_points(3)) == 0
        check_planned(lab, study_id, ["p0", "p1", "p2"])

    def test_a_point_named_twice_in_one_request_is_refused_whole(self, lab):
        study_id = lab.plan(1)
        with pytest.raises(StorageError):
            plan_points(lab.database, lab.mirror, study_id, [*lab.new_points(2, 1), *lab.new_points(1, 1)])
        check_planned(lab, study_id, ["p0"])

    def test_more_points_come_after_the_planned_ones(self, lab):
        study_id = lab.plan(2)
        extended = [*lab.new_points(1, 5), *lab.new_points(3)]
        assert plan_points(lab.database, lab.mirror, study_id, extended) == 2
        check_planned(lab, study_id, ["p0", "p1", "p5", "p2"])

    def test_a_point_without_factors_has_no_parameters(self, lab):
        study_id = lab.plan([NewPoint("cce seed=23", None, None, "cce", 23, ())])
        assert lab.trials(study_id)[0].params == {}
        assert (lab.study().points[0].alpha, lab.study().points[0].settings) == (None, ())

    def test_more_points_than_one_transaction_holds(self, lab, monkeypatch):
        monkeypatch.setattr("storage.planning._POINTS_PER_TRANSACTION", 2)
        study_id = lab.plan(5)
        check_planned(lab, study_id, ["p0", "p1", "p2", "p3", "p4"])

    def test_an_extension_adds_settings_and_takes_none_away(self, lab):
        first, second = lab.new_points(2)
        study_id = lab.plan([first, second])
        lab.plan([replace(first, settings=("joint", "alpha")), replace(second, settings=())])
        assert [point.settings for point in lab.study().points] == [("beta", "joint", "alpha"), ("beta",)]
        assert len(lab.trials(study_id)) == 2

    def test_two_studies_have_points_of_the_same_key(self, lab):
        first, second = lab.plan(2), lab.plan(2, "skin-large")
        check_planned(lab, first, ["p0", "p1"])
        check_planned(lab, second, ["p0", "p1"], "skin-large")


class TestStudies:
    def test_a_study_is_stored_with_its_data_and_description(self, lab):
        lab.plan(1)
        study = lab.study()
        assert (study.name, study.dataset, study.model) == (STUDY, "skin", "small")
        assert study.spec == {"recipe": {"epochs": 2}}
        assert study.class_names == ("nv", "mel")
        assert study.counts == {"train": (8, 4), "val": (2, 1), "test": (2, 1)}
        assert (study.fingerprint, study.split_fingerprint) == ("f" * 64, "s" * 64)

    def test_optuna_shows_dataset_model_and_classes_and_maximises(self, lab):
        lab.plan(1)
        study = optuna.load_study(study_name=STUDY, storage=lab.mirror.storage)
        assert study.user_attrs == {
            "lmf:dataset": "skin",
            "lmf:model": "small",
            "lmf:classes": ["nv", "mel"],
            "lmf:leakage": "nothing is known of lesions or patients",
        }
        assert study.direction == StudyDirection.MAXIMIZE

    def test_an_extension_replaces_the_description(self, lab):
        study_id = lab.plan(1)
        created = lab.study().created_at
        extended = {"recipe": {"epochs": 2}, "seeds": [23, 24]}
        assert save_study(lab.database, lab.mirror, STUDY, "small", extended, lab.facts) == study_id
        assert find_spec(lab.database, STUDY) == extended
        assert lab.study().created_at == created

    def test_the_same_data_are_stored_once(self, lab):
        lab.plan(1)
        lab.plan(1, "skin-large")
        lab.plan(1, "skin-other", facts=replace(lab.facts, split_fingerprint="t" * 64))
        with lab.database.read() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(DatasetRow)) == 2

    def test_parts_and_leaks_are_stored_with_the_data(self, lab):
        lab.plan(1, facts=LEAKING)
        assert read_parts(lab.database, STUDY) == LEAKING.parts
        assert lab.study().leakage == (LESIONS, PATIENTS)

    def test_nothing_is_stored_of_what_is_not_known(self, lab):
        lab.plan(1)
        assert read_parts(lab.database, STUDY) == ""
        assert lab.study().leakage == ()

    @pytest.mark.parametrize("study", [STUDY, "skin-large"])
    def test_parts_and_leaks_complete_data_that_were_stored_without(self, lab, study):
        lab.plan(1)
        with lab.database.begin() as connection:
            connection.execute(sa.update(DatasetRow).values(parts=sa.null(), leakage=sa.null()))
        lab.plan(1, study, LEAKING)
        assert read_parts(lab.database, STUDY) == LEAKING.parts
        assert lab.study().leakage == (LESIONS, PATIENTS)
        with lab.database.read() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(DatasetRow)) == 1

    def test_of_leaks_the_newest_count_and_are_not_forgotten(self, lab):
        study_id = lab.plan(1, facts=LEAKING)
        lab.plan(1, facts=replace(LEAKING, leakage=[PATIENTS, LESIONS]))
        assert lab.study().leakage == (PATIENTS, LESIONS)
        lab.plan(1)
        assert lab.study().leakage == (PATIENTS, LESIONS)
        assert read_parts(lab.database, STUDY) == LEAKING.parts
        assert attributes(lab, study_id)["lmf:leakage"].startswith("patient: 3 of 9")

    def test_optuna_shows_leaks_in_words(self, lab):
        study_id = lab.plan(1, facts=LEAKING)
        assert attributes(lab, study_id)["lmf:leakage"] == (
            "lesion: 5 of 12 in training and in test (6 of 30 test images), 4 in training and in validation; "
            "patient: 3 of 9 in training and in test (7 of 30 test images), 0 in training and in validation"
        )

    def test_a_study_of_optuna_with_other_trials_is_refused(self, lab):
        foreign = optuna.create_study(study_name=STUDY, storage=lab.mirror.storage, direction="maximize")
        foreign.enqueue_trial({"x": 1.0})
        with pytest.raises(StorageError, match=r"trial 0, which is not lmf's; choose another name with --study"):
            lab.plan(2)
        assert list_studies(lab.database) == ()
        assert len(foreign.get_trials()) == 1

    @pytest.mark.parametrize("directions", [["minimize"], ["maximize", "maximize"]])
    def test_an_empty_study_of_optuna_with_other_directions_is_refused(self, lab, directions):
        optuna.create_study(study_name=STUDY, storage=lab.mirror.storage, directions=directions)
        with pytest.raises(StorageError, match="not lmf's; choose another name with --study"):
            lab.plan(2)
        assert list_studies(lab.database) == ()

    def test_a_study_deleted_in_optuna_is_not_extended(self, lab):
        study_id = lab.plan(2)
        lab.mirror.delete_study(STUDY)
        with pytest.raises(StorageError, match="somebody deleted the study in Optuna; `lmf study delete`"):
            lab.plan(3)
        with pytest.raises(StorageError, match="somebody deleted the study in Optuna; `lmf study delete`"):
            plan_points(lab.database, lab.mirror, study_id, lab.new_points(3))
        assert optuna.get_all_study_names(lab.mirror.storage) == [], "no empty study is left instead"
        delete_study(lab.database, lab.mirror, STUDY)
        assert list_studies(lab.database) == ()


class TestCutShort:
    """A planner that ends before a write, or whose write arrives without its learning so, is run again."""

    @pytest.mark.parametrize("hides_success", [False, True], ids=["cut short", "lost acknowledgement"])
    def test_at_each_write_in_turn(self, lab, cut_at, power_cut, hides_success):
        lost = lab.database.engine.dialect.loaded_dbapi.OperationalError("server closed the connection unexpectedly")
        for number in range(1, 30):
            study = f"{STUDY}-{number}"
            try:
                with cut_at(lab, number, lost if hides_success else None):
                    lab.plan(2, study)
            except (power_cut, StorageError):
                check_planned(lab, lab.plan(2, study), ["p0", "p1"], study)
            else:
                break
        # Optuna's study, its four attributes, our study, the points, a trial each, and the trials' numbers.
        assert number - 1 == 10, "each write was cut"

    def test_an_extension_cut_at_each_write_in_turn(self, lab, cut_at, power_cut):
        study_id = lab.plan(1)
        for number in range(1, 30):
            with suppress(power_cut), cut_at(lab, number):
                lab.plan([replace(point, settings=("beta", "joint")) for point in lab.new_points(3)])
                break
        assert number == 5, "settings, points, and two trials were cut, and then the rest was written"
        check_planned(lab, study_id, ["p0", "p1", "p2"])
        assert {point.settings for point in lab.study().points} == {("beta", "joint")}

    def test_a_point_is_not_claimed_before_it_has_its_trial(self, lab, monkeypatch, power_cut):
        study_id = lab.plan(1)
        lab.complete(study_id)

        def fail(*_):
            raise power_cut

        with monkeypatch.context() as patch:
            patch.setattr(type(lab.mirror), "add_waiting", fail)
            with pytest.raises(power_cut):
                lab.plan(2)
        assert [point.key for point in lab.study().points] == ["p0", "p1"]
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
        give_trials(lab.database, lab.mirror, study_id)
        assert lab.claim(study_id).key == "p1"


class TestTwoPlanners:
    def test_at_once_plan_each_point_once(self, lab):
        lab.plan(1, "other")
        barrier, ends = threading.Barrier(4), []

        def plan(lab):
            barrier.wait()
            ends.append(lab.plan(4))

        others = [type(lab)(lab.url) for _ in range(4)]
        threads = [threading.Thread(target=plan, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for other in others:
            other.close()
        assert len(ends) == 4
        assert len(set(ends)) == 1
        check_planned(lab, ends[0], ["p0", "p1", "p2", "p3"])

    def test_one_waits_for_the_other(self, lab):
        order = []
        entered = threading.Event()
        other = lab.another()

        def second():
            entered.wait()
            with other.lock("plan"):
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        with lab.database.lock("plan"):
            entered.set()
            thread.join(0.3)
            order.append("first")
        thread.join()
        assert order == ["first", "second"]

    def test_a_lock_that_stays_held_is_refused_by_name(self, lab):
        other = lab.another()
        with (
            lab.database.lock("plan"),
            pytest.raises(StorageError, match=r"another process has held.*wait for it to end"),
            other.lock("plan", timeout_seconds=0.1),
        ):
            raise AssertionError("the lock was held twice")
        with other.lock("plan", timeout_seconds=0.1):
            pass

    def test_locks_of_different_names_do_not_meet(self, lab):
        with lab.database.lock("plan"), lab.another().lock("schema", timeout_seconds=0.1):
            pass

    def test_a_lock_ends_with_an_error_inside(self, lab, power_cut):
        with pytest.raises(power_cut), lab.database.lock("plan"):
            raise power_cut
        with lab.another().lock("plan", timeout_seconds=0.1):
            pass


def test_a_database_of_its_own_has_no_studies(lab):
    assert list_studies(lab.database) == ()
    assert find_spec(lab.database, STUDY) is None
    assert isinstance(lab.another(), Database)
