"""A pretended training whose weights tell how it went on after each accident, and worker processes for it.

The state of each epoch is a hash over the state before it, which comes from the checkpoint. A training that goes on
from a wrong place, or with another point's checkpoint, ends with other weights and another score.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from lmf_testing.light import STUDY, note, open_bench
from storage.artifacts import Artifacts
from storage.database import Database
from storage.lease import EpochFigures, Lease
from storage.queries import read_study
from study.attempt import LeaseGone, Progress, Scored, Stopped
from study.lease_keeper import PATIENCE_SECONDS
from study.logs import set_up_logging
from study.worker import WorkerOptions, patiently, serve, stop_on_signals

EPOCHS = 4
PACE = "pace"
"""A file in the folder of the workers that says how many seconds an epoch takes; without it an epoch takes none."""
BATCH_SECONDS = 0.05
PRELOADED = (
    "study.worker",
    "optuna.storages._rdb.models",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "alembic.command",
    "psycopg",
)
"""What a worker imports, torch not among it. The server that forks workers finds no module of the tests."""


@dataclass(frozen=True)
class ChainedObjective:
    """Pretends to train.

    Attributes:
        folder: where the pace is read, and each epoch that was trained is noted as a line in epochs.txt.
        epochs: epochs of a training.
    """

    folder: Path
    epochs: int = EPOCHS

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        states = next(_readable(progress.checkpoints()), [])
        progress.started([_figures(lease, epoch, state) for epoch, state in enumerate(states, start=1)])
        while len(states) < self.epochs:
            self._train_batches(progress)
            epoch = len(states) + 1
            states.append(_next_state(lease.key, epoch, states[-1] if states else ""))
            note(self.folder / "epochs.txt", f"{lease.key} {epoch}")
            whole = progress.scratch / "checkpoint"
            whole.write_text(json.dumps(states))
            os.replace(whole, progress.checkpoint_path)
            progress.checkpoint_written()
            progress.epoch_done(_figures(lease, epoch, states[-1]))
        predictions, weights = progress.scratch / "predictions.csv", progress.scratch / "weights"
        predictions.write_text("\n".join((lease.key, *states)))
        weights.write_text(states[-1])
        value = _score(lease, states[-1])
        split = {"macro_f1": value, "f1_per_class": [value, value], "confusion": [[1, 0], [0, 1]]}
        scores: dict[str, Any] = {"best_epoch": self.epochs, "val": split, "test": split, "weights_sha256": states[-1]}
        return Scored(value, scores, (predictions,), weights)

    def _train_batches(self, progress: Progress) -> None:
        until = time.monotonic() + read_pace(self.folder)
        while True:
            order = progress.control()
            if order is not None:
                raise Stopped if order == "stop" else LeaseGone
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(BATCH_SECONDS, left))


def set_pace(folder: Path, seconds: float) -> None:
    """Say how long an epoch takes from now on; the file is replaced as a whole."""
    new = folder / f".{PACE}"
    new.write_text(str(seconds))
    os.replace(new, folder / PACE)


def read_pace(folder: Path) -> float:
    """How many seconds an epoch takes."""
    try:
        return float((folder / PACE).read_text())
    except FileNotFoundError:
        return 0.0


def start_chained_worker(url: str, folder: Path, lease_seconds: float) -> ForkServerProcess:
    """Start a worker process of the light study that pretends to train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=work_chained, args=(url, str(folder), lease_seconds))
    process.start()
    return process


def work_chained(url: str, folder: str, lease_seconds: float) -> None:
    """What a worker process does: work on the light study until no point is left."""
    # Whatever the workers say goes to a file, and not among the lines of the test runner.
    log = os.open(Path(folder) / "workers.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    set_up_logging(people="%(asctime)s %(process)d %(levelname)s %(message)s")
    stop = threading.Event()
    with stop_on_signals(stop):
        database = patiently(lambda: Database.open(url, create=False), PATIENCE_SECONDS, stop)
        bench = patiently(lambda: open_bench(database, Path(folder), stop), PATIENCE_SECONDS, stop)
        study_id = patiently(lambda: read_study(database, STUDY), PATIENCE_SECONDS, stop).study_id
        serve(bench, study_id, ChainedObjective(Path(folder)), WorkerOptions("cpu", lease_seconds))


def open_artifacts(folder: Path) -> Artifacts:
    """The files of the workers' trials."""
    return Artifacts.open(str(folder / "artifacts"))


def _readable(paths: Iterator[Path]) -> Iterator[list[str]]:
    """The states of each checkpoint that is still there."""
    for path in paths:
        try:
            yield list(json.loads(path.read_text()))
        except FileNotFoundError:
            continue


def _next_state(key: str, epoch: int, before: str) -> str:
    return hashlib.sha256(f"{before}\0{key}\0{epoch}".encode()).hexdigest()


def _score(lease: Lease, state: str) -> float:
    assert lease.beta is not None
    return round(lease.beta / 4 + int(state[:8], 16) / 2**34, 6)


def _figures(lease: Lease, epoch: int, state: str) -> EpochFigures:
    return EpochFigures(epoch, 1.0, 1.0, 0.1, 100.0, 0.01, {"macro_f1": _score(lease, state)})
