"""What must hold of a study that is done, whatever happened to its workers."""

from __future__ import annotations

import os
import signal

import optuna
from optuna.artifacts import get_all_artifact_meta

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import StudyRecord, read_attempts, read_epochs, read_study, read_workers
from storage.trials import TrialMirror


def check_complete(database: Database, study: str, points: int, epochs: int, artifacts: Artifacts) -> StudyRecord:
    """Check that every point is complete exactly once, in the ledger and in Optuna, with its files.

    Returns:
        The study.
    """
    record = read_study(database, study)
    assert len(record.points) == points
    others = [(point.key, point.state, point.message) for point in record.points if point.state != "complete"]
    assert others == []
    mirror = TrialMirror.open(database)
    try:
        optuna_study = optuna.load_study(study_name=study, storage=mirror.storage)
        trials = optuna_study.get_trials(deepcopy=False)
        assert len(trials) == points
        assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
        by_number = {trial.number: trial for trial in trials}
        assert sorted(by_number) == list(range(points))
        for point in record.points:
            assert point.trial_number is not None
            assert point.scores is not None
            trial = by_number[point.trial_number]
            assert trial.user_attrs["lmf:point"] == point.key
            factors = {"alpha": point.alpha, "beta": point.beta}
            assert trial.params == {name: value for name, value in factors.items() if value is not None}
            assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
            assert trial.user_attrs["val_macro_f1"] == point.scores["val"]["macro_f1"] == trial.value
            for meta in get_all_artifact_meta(trial, storage=mirror.storage):
                path = artifacts.local_path(meta.artifact_id)
                assert path is not None
                assert path.stat().st_size > 0
            assert any(
                meta.filename == "predictions.csv" for meta in get_all_artifact_meta(trial, storage=mirror.storage)
            )
    finally:
        mirror.close()
    recorded = sorted((epoch.point_id, epoch.epoch) for epoch in read_epochs(database, study))
    assert recorded == [(point.point_id, n) for point in sorted_points(record) for n in range(1, epochs + 1)]
    attempts = read_attempts(database, study)
    assert all(attempt.end is not None for attempt in attempts)
    assert sum(attempt.end == "complete" for attempt in attempts) == points
    return record


def sorted_points(record: StudyRecord) -> list:  # type: ignore[type-arg]
    """The points by id."""
    return sorted(record.points, key=lambda point: point.point_id)


def check_disk(artifacts: Artifacts, files: int) -> None:
    """Check that the artifact folder holds so many files and nothing half-written."""
    folder = artifacts.local_path("x")
    assert folder is not None
    found = [path.name for path in folder.parent.iterdir()]
    assert not [name for name in found if name.startswith((".", "checkpoint"))], found
    assert len(found) == files


def kill_if_allowed(database: Database, study: str, pid: int) -> bool:
    """Kill a worker with SIGKILL if it holds a point, except one that has cost two workers already.

    A third loss in a row without a new epoch fails a point, as it should, and that is tested for itself. The worker
    is halted while it is looked at, so that it does not go on to such a point in the meantime.
    """
    os.kill(pid, signal.SIGSTOP)
    lost = {point.trial_number: point.lost_attempts for point in read_study(database, study).points}
    allowed = any(
        worker.pid == pid and worker.state == "training" and worker.study == study and lost[worker.trial] < 2
        for worker in read_workers(database)
    )
    os.kill(pid, signal.SIGKILL if allowed else signal.SIGCONT)
    return allowed
