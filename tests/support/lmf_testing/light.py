"""A study of near-zero work, and worker processes for it.

Every training is noted as a line in trained.txt, every epoch in epochs.txt.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from storage.artifacts import Artifacts
from storage.database import Database
from storage.lease import EpochFigures, Lease
from storage.ledger import Ledger
from storage.planning import DatasetFacts, NewPoint, plan_points, save_study
from storage.pruning import TrialPruner
from storage.queries import find_spec, read_study
from storage.trials import TrialMirror
from study.attempt import Bench, LeaseGone, Progress, Scored, Stopped
from study.worker import WorkerOptions, serve, stop_on_signals

STUDY = "light"
EPOCHS = 2
SLOW, SLOW_SECONDS = "slow", 0.5
"""While there is a file of this name in its folder, each epoch takes so long."""
FACTS = DatasetFacts("light", "f" * 64, "s" * 64, ("a", "b"), {"train": (8, 4), "val": (2, 1), "test": (2, 1)})


def plan_light(database: Database, points: int, study: str = STUDY, epochs: int = EPOCHS) -> int:
    """Plan a study of so many points and return its id."""
    mirror = TrialMirror.open(database)
    try:
        with database.lock("plan"):
            study_id = save_study(database, mirror, study, "none", {"recipe": {"epochs": epochs}}, FACTS)
            new = [NewPoint(f"p{n}", 1.0, 0.5 + n / points, "lmf", 23, ("beta",)) for n in range(points)]
            plan_points(database, mirror, study_id, new)
            return study_id
    finally:
        mirror.close()


def plan_light_search(
    database: Database, trials: int, search: str = "tpe", pruner: str = "none", epochs: int = EPOCHS
) -> int:
    """Plan a search of so many trials, or give the one that is there this budget; returns its id."""
    spec = {"recipe": {"epochs": epochs}, "search": search, "trials": trials, "pruner": pruner, "seeds": [23]}
    mirror = TrialMirror.open(database)
    try:
        with database.lock("plan"):
            return save_study(database, mirror, STUDY, "none", spec, FACTS)
    finally:
        mirror.close()


def light_score(beta: float, epoch: int) -> float:
    """What an epoch of a point scores."""
    return round(beta / 2 + epoch / 100, 6)


@dataclass(frozen=True)
class LightObjective:
    """Pretends to train: some epochs, each with a checkpoint that a later attempt goes on from.

    Attributes:
        folder: where trainings and epochs are noted.
        epochs: epochs of a training.
        falling: each trial scores less than the one before, whatever its factors are.
    """

    folder: Path
    epochs: int = EPOCHS
    falling: bool = False

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        assert lease.beta is not None
        done = 0
        for path in progress.checkpoints():
            done = int(path.read_text())
            break
        progress.started([self._epoch(lease, epoch) for epoch in range(1, done + 1)])
        for epoch in range(done + 1, self.epochs + 1):
            order = progress.control()
            if order is not None:
                raise Stopped if order == "stop" else LeaseGone
            if (self.folder / SLOW).exists():
                time.sleep(SLOW_SECONDS)
            note(self.folder / "epochs.txt", f"{lease.key} {epoch}")
            progress.checkpoint_path.write_text(str(epoch))
            progress.checkpoint_written()
            progress.epoch_done(self._epoch(lease, epoch))
        note(self.folder / "trained.txt", lease.key)
        figures = {"macro_f1": self.score(lease, self.epochs)}
        predictions = progress.scratch / "predictions.csv"
        predictions.write_text(f"{lease.key}\n")
        weights = progress.scratch / "weights"
        weights.write_text(lease.key)
        scores = {"best_epoch": self.epochs, "val": figures, "test": figures}
        return Scored(figures["macro_f1"], scores, (predictions,), weights)

    def score(self, lease: Lease, epoch: int) -> float:
        """What an epoch of a leased point scores."""
        assert lease.beta is not None
        return light_score(2 / (2 + lease.trial_number) if self.falling else lease.beta, epoch)

    def _epoch(self, lease: Lease, epoch: int) -> EpochFigures:
        return EpochFigures(epoch, 1.0, 1.0, 0.1, 100.0, 0.01, {"macro_f1": self.score(lease, epoch)})


def note(path: Path, line: str) -> None:
    """Append a line, whole, whoever else appends."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def open_bench(database: Database, folder: Path, stop: threading.Event, **changes: int) -> Bench:
    """A bench of the light study."""
    mirror = TrialMirror.open(database)
    return Bench(
        study=STUDY,
        select="macro_f1",
        ledger=Ledger(database),
        mirror=mirror,
        artifacts=Artifacts.open(str(folder / "artifacts")),
        scratch=folder / "scratch",
        keep_weights=changes.get("keep_weights", 1),
        max_attempts=changes.get("max_attempts", 2),
        stop=stop,
        pruner=TrialPruner.open(mirror, STUDY, find_spec(database, STUDY) or {}),
    )


def start_light_worker(
    url: str, folder: Path, environment: Mapping[str, str] | None = None, lease_seconds: float = 60.0
) -> ForkServerProcess:
    """Start a worker process of the light study, forked from one that has imported what it needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmf_testing.light", "study.objective"])
    arguments = (url, str(folder), dict(environment or {}), lease_seconds)
    process = context.Process(target=work_light, args=arguments)
    process.start()
    return process


def work_light(url: str, folder: str, environment: Mapping[str, str], lease_seconds: float) -> None:
    """What a worker process does: work on the light study until no point is left."""
    # Whatever the workers say goes to a file, and not among the lines of the test runner.
    log = os.open(Path(folder) / "workers.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO)
    os.environ.update(environment)
    stop = threading.Event()
    database = Database.open(url, create=False)
    with stop_on_signals(stop):
        bench = open_bench(database, Path(folder), stop)
        record = read_study(database, STUDY)
        # Trainings that may be pruned fall behind one another, so that it is known which are.
        objective = LightObjective(Path(folder), record.spec["recipe"]["epochs"], bench.pruner is not None)
        serve(bench, record.study_id, objective, WorkerOptions("cpu", lease_seconds))


def wait(process: ForkServerProcess, seconds: float) -> int | None:
    """Wait for a worker's end; its exit code, or None while it runs."""
    process.join(seconds)
    return process.exitcode
