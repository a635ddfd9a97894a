"""The mirror in Optuna, on both backends: every call may be made again, and finished trials are left alone."""

from __future__ import annotations

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import TrialState

from storage.errors import StorageError
from storage.file_names import describe_file
from storage.trials import POINT_KEY, TrialMirror

STUDY = "skin-small"


@pytest.fixture
def lease(lab):
    """A claimed point of a planned study, its trial not yet started."""
    return lab.claim(lab.plan(2))


@pytest.fixture
def running(lab, lease):
    """A claimed point whose trial runs."""
    lab.mirror.start(lease.trial_id)
    return lease


def finish(lab, lease, state=TrialState.COMPLETE, value=0.5):
    lab.mirror.start(lease.trial_id)
    lab.mirror.tell(lease.trial_id, state, value if state == TrialState.COMPLETE else None)


class TestStudy:
    def test_making_a_study_again_gives_the_same(self, lab):
        assert lab.mirror.ensure_study(STUDY) == lab.mirror.ensure_study(STUDY)
        assert lab.another_mirror().ensure_study(STUDY) == lab.mirror.ensure_study(STUDY)
        assert lab.mirror.ensure_study("other") != lab.mirror.ensure_study(STUDY)

    def test_describing_again_replaces(self, lab):
        study = lab.mirror.ensure_study(STUDY)
        lab.mirror.describe_study(study, {"lmf:model": "small", "lmf:classes": ["nv"]})
        lab.mirror.describe_study(study, {"lmf:model": "large"})
        assert lab.mirror.storage.get_study_user_attrs(study) == {"lmf:model": "large", "lmf:classes": ["nv"]}

    def test_deleting_again_does_nothing(self, lab):
        lab.mirror.ensure_study(STUDY)
        lab.mirror.delete_study(STUDY)
        lab.mirror.delete_study(STUDY)
        assert lab.mirror.storage.get_all_studies() == []

    def test_trials_are_found_by_their_points(self, lab):
        study_id = lab.plan(3)
        trials = lab.trials(study_id)
        study = lab.mirror.ensure_study(STUDY)
        expected = {f"p{n}": (trial._trial_id, n) for n, trial in enumerate(trials)}
        assert lab.mirror.trials_by_point(study) == expected

    def test_a_foreign_trial_is_named(self, lab):
        lab.plan(2)
        optuna.load_study(study_name=STUDY, storage=lab.mirror.storage).enqueue_trial({"alpha": 1.0})
        with pytest.raises(StorageError, match="holds trial 2, which is not lmf's"):
            lab.mirror.trials_by_point(lab.mirror.ensure_study(STUDY))


class TestStart:
    def test_a_waiting_trial_runs(self, lab, lease):
        lab.mirror.start(lease.trial_id)
        assert lab.trial(lease).state == TrialState.RUNNING
        assert lab.trial(lease).datetime_start is not None

    def test_starting_again_does_nothing(self, lab, running):
        before = lab.trial(running)
        lab.mirror.start(running.trial_id)
        assert lab.trial(running) == before

    def test_the_other_trials_wait(self, lab, running):
        states = [trial.state for trial in lab.trials(running.study_id)]
        assert states == [TrialState.RUNNING, TrialState.WAITING]


class TestReport:
    def test_epochs_are_reported_once(self, lab, running):
        lab.mirror.report(running.trial_id, {1: 0.1, 2: 0.2})
        lab.mirror.report(running.trial_id, {2: 0.9, 3: 0.3})
        assert lab.trial(running).intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}

    def test_another_process_goes_on_with_the_trial(self, lab, running):
        lab.mirror.report(running.trial_id, {1: 0.1})
        other = lab.another_mirror()
        other.start(running.trial_id)
        other.report(running.trial_id, {1: 0.1, 2: 0.2})
        other.tell(running.trial_id, TrialState.COMPLETE, 0.2)
        assert lab.trial(running).intermediate_values == {1: 0.1, 2: 0.2}
        assert lab.trial(running).value == 0.2


class TestDescribe:
    def test_attributes_are_set_and_replaced(self, lab, running):
        lab.mirror.describe(running.trial_id, {"val_macro_f1": 0.5, "test_f1_per_class": [0.5, None]})
        lab.mirror.describe(running.trial_id, {"val_macro_f1": 0.6})
        attributes = lab.trial(running).user_attrs
        assert (attributes["val_macro_f1"], attributes["test_f1_per_class"]) == (0.6, [0.5, None])
        assert attributes[POINT_KEY] == "p0"

    def test_a_waiting_trial_takes_the_reason_of_its_failure(self, lab, lease):
        lab.mirror.describe(lease.trial_id, {"fail_reason": "cost 3 workers"})
        lab.mirror.tell(lease.trial_id, TrialState.FAIL)
        assert lab.trial(lease).state == TrialState.FAIL
        assert lab.trial(lease).user_attrs["fail_reason"] == "cost 3 workers"


class TestAttach:
    def test_files_are_attached_as_optunas_artifacts(self, lab, running):
        files = [describe_file("id-1", "predictions.csv"), describe_file("id-2", "weights.safetensors")]
        lab.mirror.attach(running.trial_id, files)
        lab.mirror.attach(running.trial_id, files)
        metas = get_all_artifact_meta(lab.trial(running), storage=lab.mirror.storage)
        assert [(meta.artifact_id, meta.filename, meta.mimetype) for meta in metas] == [
            ("id-1", "predictions.csv", "text/csv"),
            ("id-2", "weights.safetensors", "application/octet-stream"),
        ]


class TestTell:
    def test_a_trial_is_complete_with_its_value(self, lab, running):
        lab.mirror.tell(running.trial_id, TrialState.COMPLETE, 0.75)
        trial = lab.trial(running)
        assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.75)
        assert trial.datetime_complete is not None

    def test_a_trial_that_never_ran_passes_through_running(self, lab, lease):
        lab.mirror.tell(lease.trial_id, TrialState.COMPLETE, 0.75)
        assert lab.trial(lease).state == TrialState.COMPLETE
        assert lab.trial(lease).datetime_start is not None

    def test_a_failed_trial_has_no_value(self, lab, running):
        lab.mirror.tell(running.trial_id, TrialState.FAIL)
        assert (lab.trial(running).state, lab.trial(running).values) == (TrialState.FAIL, None)


CALLS = {
    "start": lambda mirror, trial: mirror.start(trial),
    "report": lambda mirror, trial: mirror.report(trial, {9: 0.9}),
    "describe": lambda mirror, trial: mirror.describe(trial, {"val_macro_f1": 0.9}),
    "attach": lambda mirror, trial: mirror.attach(trial, [describe_file("late", "late.csv")]),
    "complete": lambda mirror, trial: mirror.tell(trial, TrialState.COMPLETE, 0.9),
    "fail": lambda mirror, trial: mirror.tell(trial, TrialState.FAIL),
}


class TestFinished:
    @pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL])
    def test_a_finished_trial_is_left_as_it_is(self, lab, lease, state):
        finish(lab, lease, state)
        before = lab.trial(lease)
        for name, call in CALLS.items():
            call(lab.mirror, lease.trial_id)
            assert lab.trial(lease) == before, name

    def test_so_is_one_that_another_worker_finishes_meanwhile(self, lab, running, monkeypatch):
        as_read = lab.trial(running)
        finish(lab, running)
        before = lab.trial(running)
        for name, call in CALLS.items():
            with monkeypatch.context() as patch:
                patch.setattr(TrialMirror, "_trial", lambda *_: as_read)
                call(lab.mirror, running.trial_id)
            assert lab.trial(running) == before, name


class TestGone:
    def test_a_trial_whose_study_somebody_deleted_in_optuna(self, lab, lease):
        optuna.delete_study(study_name=STUDY, storage=lab.mirror.storage)
        for call in CALLS.values():
            with pytest.raises(StorageError, match="somebody deleted the study in Optuna; `lmf study delete` removes"):
                call(lab.mirror, lease.trial_id)

    def test_a_study_that_somebody_deleted_in_optuna(self, lab):
        study = lab.mirror.ensure_study(STUDY)
        optuna.delete_study(study_name=STUDY, storage=lab.mirror.storage)
        for call, arguments in (
            (lab.mirror.trials_by_point, ()),
            (lab.mirror.describe_study, ({"lmf:model": "small"},)),
            (lab.mirror.add_waiting, ("p0", 1.0, 1.0, {})),
        ):
            with pytest.raises(StorageError, match="somebody deleted the study in Optuna"):
                call(study, *arguments)


class TestConnection:
    def test_the_password_is_not_shown(self, lab):
        password = lab.database.url.password or "no password"
        assert password not in repr(lab.mirror)
        assert password not in str(lab.mirror)

    def test_closing_twice_does_nothing(self, lab):
        mirror = lab.another_mirror()
        mirror.close()
        mirror.close()


def test_optuna_looks_at_its_versions_by_a_connection_of_the_pool(lab):
    """What it was lent while it was opened may be gone since."""
    storage = lab.mirror.storage
    lab.database.engine.dispose()
    assert storage.get_current_version() == storage.get_head_version()
    assert lab.database.engine.pool.checkedin() == 1
