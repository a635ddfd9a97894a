"""Pruning within one attempt: when it is asked, what is written, and that it outlives workers and databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pytest
from lmf_testing.light import STUDY, LightObjective, open_bench, plan_light_search

from storage.database import Database
from storage.errors import StorageUnavailableError
from storage.lease import EpochFigures, Lease
from storage.pruning import TrialPruner
from storage.queries import PointRecord, read_attempts, read_epochs, read_study
from storage.search import Search
from storage.workers import ProcessIdentity, Workers
from study import lease_keeper
from study.attempt import AttemptEnd, Bench, Progress, Pruned, Scored, work_on

EPOCHS = 4
PRUNED_AT = 2


@dataclass
class Bed:
    """A search of the light study on SQLite whose first five trials are complete; the next ones are worse."""

    database: Database
    study_id: int
    worker_id: int
    bench: Bench
    objective: LightObjective

    def claim(self) -> Lease:
        search = Search.open(self.database, self.bench.mirror, self.study_id)
        assert search is not None
        lease = self.bench.ledger.claim(self.study_id, self.worker_id, 60.0)
        if lease is None:
            assert search.plan_next()
            lease = self.bench.ledger.claim(self.study_id, self.worker_id, 60.0)
        assert lease is not None
        return lease

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        return optuna.load_study(study_name=STUDY, storage=self.bench.mirror.storage).get_trials()[number]

    def point(self) -> PointRecord:
        return read_study(self.database, STUDY).points[-1]

    def check_pruned(self, epochs: int = PRUNED_AT) -> None:
        """The last point is pruned, in the ledger and in Optuna, with its epochs and without files."""
        point, trial = self.point(), self.trial(5)
        assert point.state == "pruned"
        assert point.message == f"pruned after epoch {epochs} of 4 (median)"
        assert (point.scores, point.weights, point.last_epoch) == (None, None, epochs)
        assert sum(epoch.point_id == point.point_id for epoch in read_epochs(self.database, STUDY)) == epochs
        assert trial.state == optuna.trial.TrialState.PRUNED
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        assert trial.value == trial.intermediate_values[epochs]
        assert trial.user_attrs["prune_reason"] == point.message
        assert not list(self.objective.folder.glob("artifacts/checkpoint*"))


@pytest.fixture
def bed(sqlite_url: str, tmp_path: Path) -> Iterator[Bed]:
    database = Database.open(sqlite_url)
    study_id = plan_light_search(database, 9, "random", "median", EPOCHS)
    worker_id = Workers(database).register(ProcessIdentity.of(), "cpu", {})
    bench = open_bench(database, tmp_path, threading.Event())
    bed = Bed(database, study_id, worker_id, bench, LightObjective(tmp_path, EPOCHS, falling=True))
    for _ in range(5):
        assert work_on(bench, bed.claim(), bed.objective) == AttemptEnd.COMPLETE
    yield bed
    bench.mirror.close()
    database.close()


def test_a_training_that_falls_behind_is_ended_told_and_closed(bed: Bed) -> None:
    assert work_on(bed.bench, bed.claim(), bed.objective) == AttemptEnd.PRUNED
    bed.check_pruned()
    assert read_attempts(bed.database, STUDY)[-1].end == "pruned"
    assert (bed.objective.folder / "trained.txt").read_text().count("\n") == 5
    assert (bed.objective.folder / "epochs.txt").read_text().count("\n") == 5 * EPOCHS + PRUNED_AT


def test_without_pruner_it_goes_to_its_end(bed: Bed) -> None:
    assert work_on(replace(bed.bench, pruner=None), bed.claim(), bed.objective) == AttemptEnd.COMPLETE


def test_the_last_epoch_is_never_judged(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(self: TrialPruner, trial_id: int) -> bool:
        asked.append(max(bed.trial(5).intermediate_values))
        return False

    monkeypatch.setattr(TrialPruner, "should_prune", ask)
    assert work_on(bed.bench, bed.claim(), bed.objective) == AttemptEnd.COMPLETE
    assert asked == [1, 2, 3]


def test_an_epoch_without_the_score_is_not_judged(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialPruner, "should_prune", lambda *_: True)
    assert work_on(replace(bed.bench, select="macro_auc"), bed.claim(), bed.objective) == AttemptEnd.COMPLETE


def test_what_a_checkpoint_holds_is_judged_before_anything_is_trained(bed: Bed) -> None:
    class DiesBeforeItIsAsked(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            bench = replace(bed.bench, pruner=None)
            object.__setattr__(progress, "_bench", bench)
            progress.started(())
            for epoch in (1, 2):
                progress.checkpoint_path.write_text(str(epoch))
                progress.checkpoint_written()
                progress.epoch_done(self._epoch(lease, epoch))
            raise RuntimeError("as if the worker had died here")

    died = DiesBeforeItIsAsked(bed.objective.folder, EPOCHS, falling=True)
    assert work_on(bed.bench, bed.claim(), died) == AttemptEnd.FREED
    assert work_on(bed.bench, bed.claim(), bed.objective) == AttemptEnd.PRUNED
    bed.check_pruned()
    assert (bed.objective.folder / "epochs.txt").read_text().count("\n") == 5 * EPOCHS, "it trained nothing more"


def test_an_epoch_that_is_trained_again_is_not_judged_again(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialPruner, "should_prune", lambda *_: False)

    class LosesItsCheckpoint(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            progress.started(())
            for epoch in (1, 2, 3):
                progress.checkpoint_path.write_text(str(epoch))
                progress.checkpoint_written()
                progress.epoch_done(self._epoch(lease, epoch))
            progress.checkpoint_path.unlink()
            raise RuntimeError("as if the disk had gone")

    lost = LosesItsCheckpoint(bed.objective.folder, EPOCHS, falling=True)
    assert work_on(bed.bench, bed.claim(), lost) == AttemptEnd.FREED
    monkeypatch.setattr(TrialPruner, "should_prune", lambda *_: True)
    assert work_on(bed.bench, bed.claim(), bed.objective) == AttemptEnd.PRUNED
    bed.check_pruned(epochs=3)


def test_a_database_that_is_away_when_the_pruner_asks_is_waited_for(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.01)
    failures = iter([True, True])
    should_prune = TrialPruner.should_prune

    def sometimes_away(self: TrialPruner, trial_id: int) -> bool:
        if next(failures, False):
            raise StorageUnavailableError("the server is away")
        return should_prune(self, trial_id)

    monkeypatch.setattr(TrialPruner, "should_prune", sometimes_away)
    assert work_on(bed.bench, bed.claim(), bed.objective) == AttemptEnd.PRUNED
    bed.check_pruned()


def test_a_worker_that_lost_its_lease_prunes_nothing(bed: Bed) -> None:
    class Overtaken(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            bed.bench.ledger.expire_leases(bed.worker_id)
            other = bed.claim()
            assert other.point_id == lease.point_id
            assert work_on(replace(bed.bench, pruner=None), other, bed.objective) == AttemptEnd.COMPLETE
            raise Pruned("late")

    assert work_on(bed.bench, bed.claim(), Overtaken(bed.objective.folder)) == AttemptEnd.LOST
    assert bed.point().state == "complete"
    assert bed.trial(5).state == optuna.trial.TrialState.COMPLETE


def test_a_real_training_is_ended_where_its_epoch_is_told(tmp_path: Path) -> None:
    """The exception passes through the objective and the training as it is."""
    from lmf_testing.training import CLASSES, CPU, config_of, make_data

    from study.objective import TrainingObjective
    from trainer.data.cache import Prepared

    data, config = make_data(), config_of()
    names = tuple(f"image-{number}" for number in range(len(data.labels)))
    prepared = Prepared(data.images, data.labels, ("a", "b", "c")[:CLASSES], names, "f" * 64, 32, False)
    told: list[int] = []

    class Ends:
        scratch = tmp_path
        checkpoint_path = tmp_path / "checkpoint"

        def checkpoints(self) -> Iterator[Path]:
            return iter(())

        def started(self, restored: object) -> None:
            assert not restored

        def checkpoint_written(self) -> None:
            pass

        def epoch_done(self, epoch: EpochFigures) -> None:
            told.append(epoch.epoch)
            raise Pruned("pruned after epoch 1 of 3 (median)")

        def control(self) -> None:
            return None

    lease = Lease(1, 1, 1, 1, "t", 60.0, "k", 1, config.alpha, config.beta, "lmf", 23, 1, 0, 0, None, ())
    objective = TrainingObjective(config.recipe, prepared, data.split, CPU)
    with pytest.raises(Pruned, match="after epoch 1 of 3"):
        objective(lease, Ends())
    assert told == [1]
