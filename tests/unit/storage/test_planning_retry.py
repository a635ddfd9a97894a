"""Retrying failed points and deleting studies, on both backends."""

from __future__ import annotations

from contextlib import suppress

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from storage.errors import StorageError
from storage.planning import delete_study, retry_failed, trial_key
from storage.queries import list_studies, read_attempts, read_epochs
from storage.schema import AttemptRow, DatasetRow, EpochRow, PointRow, StudyRow
from storage.trials import POINT_KEY

STUDY = "skin-small"


class TestRetry:
    def plan_and_fail(self, lab):
        study_id = lab.plan(3)
        failing = lab.claim(study_id)
        lab.mirror.start(failing.trial_id)
        lab.ledger.begin_training(failing, 0)
        lab.ledger.record_epochs(failing, [lab.epoch(1)])
        lab.mirror.tell(failing.trial_id, TrialState.FAIL)
        lab.fail_for_good(failing)
        return study_id, failing

    def test_a_failed_point_waits_again_with_a_superseding_trial(self, lab):
        study_id, _ = self.plan_and_fail(lab)
        lab.complete(study_id)
        assert retry_failed(lab.database, lab.mirror, study_id) == 1
        point = lab.point("p0")
        assert (point.state, point.message, point.last_epoch, point.finished_at) == ("waiting", None, 0, None)
        assert point.trial_number == 3
        trials = lab.trials(study_id)
        assert [trial.state.name for trial in trials] == ["FAIL", "WAITING", "WAITING", "WAITING"]
        assert trials[3].user_attrs[POINT_KEY] == trial_key("p0", 2) == "p0 retry=1"
        assert trials[3].params == trials[0].params
        again = lab.claim(study_id)
        assert (again.key, again.generation, again.outcome, again.last_epoch) == ("p0", 2, None, 0)
        assert again.earlier_tokens == (), "the superseded trial's checkpoints are not gone on from"
        assert lab.point("p1").state == "complete"

    def test_what_the_superseded_trial_trained_is_forgotten_and_its_attempt_remembered(self, lab):
        study_id, _ = self.plan_and_fail(lab)
        retry_failed(lab.database, lab.mirror, study_id)
        assert read_epochs(lab.database, STUDY) == ()
        assert [(attempt.trial_number, attempt.end) for attempt in read_attempts(lab.database, STUDY)] == [
            (0, "failed")
        ]
        again = lab.claim(study_id)
        lab.ledger.begin_training(again, 0)
        lab.ledger.record_epochs(again, [lab.epoch(1)])
        assert lab.point("p0").lost_epochs == 0
        assert [epoch.epoch for epoch in read_epochs(lab.database, STUDY)] == [1]

    def test_failures_are_counted_anew(self, lab):
        study_id, _ = self.plan_and_fail(lab)
        retry_failed(lab.database, lab.mirror, study_id)
        assert lab.ledger.fail(lab.claim(study_id), "NaN loss", 2) is False

    def test_it_may_be_retried_more_than_once(self, lab):
        study_id, _ = self.plan_and_fail(lab)
        retry_failed(lab.database, lab.mirror, study_id)
        again = lab.claim(study_id)
        lab.mirror.tell(again.trial_id, TrialState.FAIL)
        lab.fail_for_good(again)
        assert retry_failed(lab.database, lab.mirror, study_id) == 1
        assert lab.trials(study_id)[4].user_attrs[POINT_KEY] == "p0 retry=2"

    def test_nothing_failed_means_nothing_to_retry(self, lab):
        study_id = lab.plan(2)
        lab.complete(study_id)
        assert retry_failed(lab.database, lab.mirror, study_id) == 0
        assert len(lab.trials(study_id)) == 2

    def test_cut_short_at_each_write_makes_one_superseding_trial(self, lab, cut_at, power_cut):
        study_id, _ = self.plan_and_fail(lab)
        for number in (1, 1, 2, 3, 1):
            with suppress(power_cut), cut_at(lab, number):
                retry_failed(lab.database, lab.mirror, study_id)
        retry_failed(lab.database, lab.mirror, study_id)
        assert len(lab.trials(study_id)) == 4
        assert lab.point("p0").trial_number == 3


class TestDelete:
    def rows(self, lab):
        with lab.database.read() as connection:
            tables = (StudyRow, PointRow, AttemptRow, EpochRow, DatasetRow)
            return [connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]

    def test_a_study_goes_from_both_halves_and_leaves_the_others(self, lab):
        kept, study_id = lab.plan(1, "kept"), lab.plan(2)
        for each in (kept, study_id):
            lease = lab.claim(each)
            lab.ledger.record_epochs(lease, [lab.epoch(1)])
            lab.finish(lease)
        before = self.rows(lab)
        delete_study(lab.database, lab.mirror, STUDY)
        assert before == [2, 3, 2, 2, 1]
        assert self.rows(lab) == [1, 1, 1, 1, 1]
        assert list_studies(lab.database) == ("kept",)
        assert optuna.get_all_study_names(lab.mirror.storage) == ["kept"]

    def test_data_that_no_study_uses_go_too(self, lab):
        lab.plan(1)
        delete_study(lab.database, lab.mirror, STUDY)
        assert self.rows(lab) == [0, 0, 0, 0, 0]

    def test_an_unknown_study_is_refused(self, lab):
        with pytest.raises(StorageError, match="no study named skin-small"):
            delete_study(lab.database, lab.mirror, STUDY)

    def test_a_study_at_work_is_refused_until_its_leases_end(self, lab):
        study_id = lab.plan(2)
        lease = lab.claim(study_id)
        with pytest.raises(StorageError, match="workers hold 1 of its points; stop them first"):
            delete_study(lab.database, lab.mirror, STUDY)
        assert len(lab.trials(study_id)) == 2, "nothing of it is deleted"
        lab.expire(lease)
        delete_study(lab.database, lab.mirror, STUDY)
        assert list_studies(lab.database) == ()

    def test_cut_short_between_the_halves_it_is_deleted_by_the_next_go(self, lab, cut_at, power_cut):
        study_id = lab.plan(2)
        with pytest.raises(power_cut), cut_at(lab, 2):
            delete_study(lab.database, lab.mirror, STUDY)
        with pytest.raises(KeyError):
            lab.trials(study_id)
        delete_study(lab.database, lab.mirror, STUDY)
        assert self.rows(lab) == [0, 0, 0, 0, 0]

    def test_it_can_be_planned_again(self, lab):
        lab.plan(2)
        delete_study(lab.database, lab.mirror, STUDY)
        study_id = lab.plan(2)
        assert [point.state for point in lab.study().points] == ["waiting", "waiting"]
        assert [trial.number for trial in lab.trials(study_id)] == [0, 1]
