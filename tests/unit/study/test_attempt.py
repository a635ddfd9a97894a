"""One attempt: what is written, what is kept, and what a worker that lost its lease leaves alone."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import optuna
import pytest
from lmf_testing.light import EPOCHS, STUDY, LightObjective, light_score, open_bench, plan_light
from optuna.artifacts.exceptions import ArtifactNotFound

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.lease import Lease
from storage.ledger import Ledger
from storage.queries import read_attempts, read_epochs, read_study
from storage.workers import ProcessIdentity, Workers
from study.attempt import AttemptEnd, Bench, Progress, Scored, Stopped, trial_attributes, work_on
from trainer.errors import DeviceFailedError, DivergedError


@dataclass
class Bed:
    """A planned light study on SQLite and a worker for it."""

    database: Database
    study_id: int
    worker_id: int
    bench: Bench
    folder: Path

    def claim(self, seconds: float = 60.0) -> Lease:
        lease = self.bench.ledger.claim(self.study_id, self.worker_id, seconds)
        assert lease is not None
        return lease

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        study = optuna.load_study(study_name=STUDY, storage=self.bench.mirror.storage)
        return study.get_trials()[number]


@pytest.fixture
def bed(sqlite_url: str, tmp_path: Path) -> Iterator[Bed]:
    database = Database.open(sqlite_url)
    study_id = plan_light(database, 3)
    worker_id = Workers(database).register(ProcessIdentity.of(), "cpu", {})
    bench = open_bench(database, tmp_path, threading.Event())
    yield Bed(database, study_id, worker_id, bench, tmp_path)
    bench.mirror.close()
    database.close()


def test_a_point_is_trained_told_and_closed(bed: Bed) -> None:
    lease = bed.claim()
    assert work_on(bed.bench, lease, LightObjective(bed.folder)) == AttemptEnd.COMPLETE
    point = read_study(bed.database, STUDY).points[0]
    assert point.state == "complete"
    assert point.scores is not None
    assert point.scores["val"]["macro_f1"] == light_score(0.5, EPOCHS)
    assert bed.trial(0).state == optuna.trial.TrialState.COMPLETE
    assert [attempt.end for attempt in read_attempts(bed.database, STUDY)] == ["complete"]
    assert not list((bed.folder / "scratch").iterdir())


class Failing:
    """Fails as often as it is asked to train."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        progress.started(())
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [(DivergedError("the loss became nan in epoch 1"), "the loss became nan"), (KeyError("x"), "KeyError: 'x'")],
)
def test_a_failing_point_is_tried_again_then_failed(bed: Bed, error: Exception, said: str) -> None:
    first = bed.claim()
    assert work_on(bed.bench, first, Failing(error)) == AttemptEnd.FREED
    assert read_study(bed.database, STUDY).points[0].state == "waiting"
    assert bed.trial(0).state == optuna.trial.TrialState.RUNNING
    second = bed.claim()
    assert second.point_id == first.point_id
    assert work_on(bed.bench, second, Failing(error)) == AttemptEnd.FAILED
    point = read_study(bed.database, STUDY).points[0]
    assert (point.state, point.attempts) == ("failed", 2)
    assert point.message is not None
    assert said in point.message
    assert bed.trial(0).state == optuna.trial.TrialState.FAIL
    assert said in bed.trial(0).user_attrs["fail_reason"]
    assert bed.claim().point_id != first.point_id


def test_a_full_artifact_store_fails_the_point_with_one_line(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bed.bench.artifacts.store, "write", full)
    for end in (AttemptEnd.FREED, AttemptEnd.FAILED):
        assert work_on(bed.bench, bed.claim(), LightObjective(bed.folder)) == end
    message = read_study(bed.database, STUDY).points[0].message
    assert message is not None
    assert "No space left on device" in message
    assert "LMF_ARTIFACTS" in message


def test_a_stopped_point_is_free_at_once_and_resumed(bed: Bed) -> None:
    class StopsAfterOne(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            progress.started(())
            progress.checkpoint_path.write_text("1")
            progress.checkpoint_written()
            progress.epoch_done(self._epoch(lease, 1))
            raise Stopped

    assert work_on(bed.bench, bed.claim(), StopsAfterOne(bed.folder)) == AttemptEnd.RELEASED
    assert work_on(bed.bench, bed.claim(), LightObjective(bed.folder)) == AttemptEnd.COMPLETE
    assert (bed.folder / "epochs.txt").read_text() == "p0 2\n", "the first epoch is not trained again"
    point = read_study(bed.database, STUDY).points[0]
    assert (point.attempts, point.lost_attempts, point.lost_epochs) == (2, 0, 0)
    assert sorted(bed.trial(0).intermediate_values) == [1, 2]


def test_a_worker_that_lost_its_lease_writes_nothing_more(bed: Bed) -> None:
    class Overtaken(LightObjective):
        """Another worker takes the point over, and trains it, while this one is at its first epoch."""

        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            progress.started(())
            bed.bench.ledger.expire_leases(bed.worker_id)
            other = bed.claim()
            assert other.point_id == lease.point_id
            assert work_on(bed.bench, other, LightObjective(bed.folder)) == AttemptEnd.COMPLETE
            before.append((read_study(bed.database, STUDY), read_epochs(bed.database, STUDY), bed.trial(0)))
            progress.checkpoint_path.write_text("late")
            progress.epoch_done(replace(self._epoch(lease, 1), val={"macro_f1": 0.999}))
            raise AssertionError("it must have been told")

    before: list[Any] = []
    assert work_on(bed.bench, bed.claim(), Overtaken(bed.folder)) == AttemptEnd.LOST
    assert before == [(read_study(bed.database, STUDY), read_epochs(bed.database, STUDY), bed.trial(0))]
    assert [attempt.end for attempt in read_attempts(bed.database, STUDY)] == ["lost", "complete"]


@pytest.mark.parametrize(("kept", "expected"), [(None, 3), (0, 0), (1, 1), (2, 2)])
def test_weights_of_the_best_trials_are_kept(bed: Bed, kept: int | None, expected: int) -> None:
    bench = replace(bed.bench, keep_weights=kept)
    for _ in range(3):
        assert work_on(bench, bed.claim(), LightObjective(bed.folder)) == AttemptEnd.COMPLETE
    points = read_study(bed.database, STUDY).points
    with_weights = [point.key for point in points if point.weights]
    assert with_weights == ["p0", "p1", "p2"][3 - expected :], "the scores rise from p0 to p2"
    stored = {path.read_text() for path in (bed.folder / "artifacts").iterdir()}
    assert {key for key in ("p0", "p1", "p2") if key in stored} == set(with_weights)


@dataclass
class RemoteStore:
    """An artifact store that is no folder, like a bucket."""

    content: dict[str, bytes] = field(default_factory=dict)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self.content[artifact_id] = content_body.read()

    def open_reader(self, artifact_id: str) -> BinaryIO:
        if artifact_id not in self.content:
            raise ArtifactNotFound(artifact_id)
        return io.BytesIO(self.content[artifact_id])

    def remove(self, artifact_id: str) -> None:
        if artifact_id not in self.content:
            raise ArtifactNotFound(artifact_id)
        del self.content[artifact_id]


def test_checkpoints_travel_through_a_store_that_is_no_folder(bed: Bed) -> None:
    class DiesAfterOne(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            progress.started(())
            progress.checkpoint_path.write_text("1")
            progress.checkpoint_written()
            progress.epoch_done(self._epoch(lease, 1))
            raise StorageError("as if the worker had died here")

    store = RemoteStore()
    bench = replace(bed.bench, artifacts=Artifacts("s3://bucket", store))
    assert work_on(bench, bed.claim(), DiesAfterOne(bed.folder)) == AttemptEnd.FREED
    assert any(name.startswith("checkpoint-") for name in store.content)
    assert work_on(bench, bed.claim(), LightObjective(bed.folder)) == AttemptEnd.COMPLETE
    assert (bed.folder / "epochs.txt").read_text() == "p0 2\n"
    assert not any(name.startswith("checkpoint-") for name in store.content)
    assert len(store.content) == 2


def test_what_a_training_warns_of_is_kept_with_its_point_and_shown_while_it_runs(bed: Bed) -> None:
    class Warns(LightObjective):
        """Warns in each epoch, and looks at what is known after the first; the second comes twice, as after a loss."""

        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            progress.started(())
            progress.epoch_done(replace(self._epoch(lease, 1), warnings=("DF is never predicted",)))
            known.append((read_study(bed.database, STUDY).points[0].warnings, bed.trial(0).user_attrs["warnings"]))
            second = replace(self._epoch(lease, 2), warnings=("beta hardly matters",))
            progress.epoch_done(second)
            progress.epoch_done(second)
            return Scored(0.5, {"best_epoch": 1, "val": {"macro_f1": 0.5}, "test": {"macro_f1": 0.5}})

    known: list[Any] = []
    assert work_on(bed.bench, bed.claim(), Warns(bed.folder)) == AttemptEnd.COMPLETE
    assert known == [(("DF is never predicted",), ["DF is never predicted"])]
    assert read_study(bed.database, STUDY).points[0].warnings == ("DF is never predicted", "beta hardly matters")


def test_scratch_folders_of_dead_processes_are_removed(bed: Bed) -> None:
    import socket

    scratch = bed.folder / "scratch"
    dead = scratch / f"{socket.gethostname()}=999999999=abc"
    elsewhere = scratch / f"{socket.gethostname()}-2=999999999=abc"
    dead.mkdir(parents=True)
    elsewhere.mkdir()
    work_on(bed.bench, bed.claim(), LightObjective(bed.folder))
    assert not dead.exists()
    assert elsewhere.exists(), "processes of another machine cannot be judged from here"


def test_attributes_of_a_trial_are_named_by_split() -> None:
    scores = {"best_epoch": 3, "val": {"macro_f1": 0.5}, "test": {"macro_f1": 0.4, "confusion": [[1]]}}
    assert trial_attributes(scores) == {
        "best_epoch": 3,
        "val_macro_f1": 0.5,
        "test_macro_f1": 0.4,
        "test_confusion": [[1]],
    }


def test_a_broken_device_ends_the_worker_and_costs_the_point_no_failure(bed: Bed) -> None:
    class Broken(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            raise DeviceFailedError("cuda:0 failed: CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceFailedError):
        work_on(bed.bench, bed.claim(), Broken(bed.folder))
    lease = bed.claim()
    assert work_on(bed.bench, lease, LightObjective(bed.folder)) == AttemptEnd.COMPLETE
    assert [(attempt.point_id, attempt.end) for attempt in read_attempts(bed.database, STUDY)] == [
        (lease.point_id, "lost"),
        (lease.point_id, "complete"),
    ]


def test_epochs_that_ended_while_the_database_was_away_are_written_though_the_point_fails(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Ledger.record_epochs
    away = threading.Event()

    def record_unless_away(self: Ledger, lease: Lease, epochs: Any) -> None:
        if away.is_set():
            raise StorageUnavailableError("the server is away")
        record(self, lease, epochs)

    class FailsWhileAway(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            progress.started([])
            away.set()
            progress.epoch_done(self._epoch(lease, 1))
            progress.epoch_done(self._epoch(lease, 2))
            away.clear()
            raise DivergedError("the loss became nan in epoch 3")

    monkeypatch.setattr(Ledger, "record_epochs", record_unless_away)
    bench = replace(bed.bench, max_attempts=1)
    assert work_on(bench, bed.claim(), FailsWhileAway(bed.folder)) == AttemptEnd.FAILED
    assert [epoch.epoch for epoch in read_epochs(bed.database, STUDY)] == [1, 2]
    assert sorted(bed.trial(0).intermediate_values) == [1, 2]


def test_training_goes_on_while_the_database_is_away(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Ledger.record_epochs
    answers = iter([True])

    def record_at_second_go(self: Ledger, lease: Lease, epochs: Any) -> None:
        if epochs and next(answers, False):
            raise StorageUnavailableError("the server is away")
        record(self, lease, epochs)

    monkeypatch.setattr(Ledger, "record_epochs", record_at_second_go)
    assert work_on(bed.bench, bed.claim(), LightObjective(bed.folder)) == AttemptEnd.COMPLETE
    assert [epoch.epoch for epoch in read_epochs(bed.database, STUDY)] == list(range(1, EPOCHS + 1))
    assert (bed.folder / "epochs.txt").read_text().count("\n") == EPOCHS, "no epoch was trained twice"
