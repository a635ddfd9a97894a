"""One attempt at a point: from a claimed lease, over training, to a closed point.

The steps and their order are what makes a point survive a worker that dies between any two of them: what is written
is written again by the next worker where it is missing, and is not repeated where it is there.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil
from optuna.trial import TrialState

from storage.artifacts import Artifacts
from storage.errors import LeaseLostError, StorageError, StorageUnavailableError
from storage.faults import reach
from storage.file_names import checkpoint_id, describe_file, file_id
from storage.lease import EpochFigures, Lease
from storage.ledger import CANCELLED_MESSAGE, Ledger
from storage.outcomes import Outcomes
from storage.pruning import TrialPruner
from storage.schema import COMPLETE, PRUNED
from storage.trials import TrialMirror
from study.lease_keeper import PATIENCE_SECONDS, LeaseKeeper
from trainer.errors import DeviceFailedError, TrainerError

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
FILES = ("predictions.csv", "scores.json", WEIGHTS_FILE)
"""Names of all files that objectives give."""


class AttemptEnd(Enum):
    """How an attempt ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    FREED = "freed"
    RELEASED = "released"
    LOST = "lost"


class Stopped(Exception):
    """The objective stopped as asked, with its position in the checkpoint."""


class LeaseGone(Exception):
    """The objective stopped because the lease is gone."""


class Pruned(Exception):
    """The training is not worth going on with, with the reason in one line; raised where it tells of an epoch."""


@dataclass(frozen=True)
class Scored:
    """What an objective returns.

    Attributes:
        value: the score that decides, on validation.
        scores: all scores as one JSON document, `val` and `test` among its keys.
        files: files to keep with the trial.
        weights: file of the best epoch's weights, or None.
    """

    value: float
    scores: Mapping[str, Any]
    files: Sequence[Path] = ()
    weights: Path | None = None


class Progress(Protocol):
    """What an objective tells and asks while it works on a point."""

    scratch: Path
    checkpoint_path: Path

    def checkpoints(self) -> Iterator[Path]:
        """Checkpoints of earlier attempts, the latest first."""

    def started(self, restored: Sequence[EpochFigures]) -> None:
        """Tell from which epochs, none or those of a checkpoint, the training goes on; may raise `Pruned`."""

    def checkpoint_written(self) -> None:
        """Tell that a checkpoint is written, from whichever thread wrote it."""

    def epoch_done(self, epoch: EpochFigures) -> None:
        """Tell of an epoch whose checkpoint is written; may raise `Pruned`."""

    def control(self) -> Literal["stop", "abandon"] | None:
        """Ask whether to go on (None), to write a checkpoint and raise `Stopped`, or to raise `LeaseGone` at once."""


class Objective(Protocol):
    """Trains one point."""

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        """Train the point of a lease.

        Raises:
            Stopped: as `progress.control` asked.
            LeaseGone: as `progress.control` asked.
            Pruned: as `progress` raised it.
            TrainerError: the point itself fails.
        """


@dataclass(frozen=True)
class Bench:
    """Where a worker works.

    Attributes:
        study: name of the study.
        select: name of the validation score that decides.
        ledger: the ledger.
        mirror: Optuna's side.
        artifacts: the files of trials.
        scratch: a folder of this machine.
        keep_weights: of how many best trials the weights are kept; None keeps all.
        max_attempts: how often a point that fails by itself is tried.
        stop: set where the worker is asked to stop.
        pruner: says which trainings to end early; None lets all go to their end.
        patience_seconds: for how long work goes on while the database is away.
    """

    study: str
    select: str
    ledger: Ledger
    mirror: TrialMirror
    artifacts: Artifacts
    scratch: Path
    keep_weights: int | None
    max_attempts: int
    stop: threading.Event
    pruner: TrialPruner | None = None
    patience_seconds: float = PATIENCE_SECONDS

    @property
    def outcomes(self) -> Outcomes:
        """What came of the points."""
        return Outcomes(self.ledger.database)


def work_on(bench: Bench, lease: Lease, objective: Objective) -> AttemptEnd:
    """Bring one claimed point as far as it goes.

    Returns:
        How the attempt ended; the lease is over in every case.

    Raises:
        StorageError: the database or the artifact store refuses for good.
        DeviceFailedError: the device is broken; the point is free again, and this process can train nothing more.
    """
    reach("claimed")
    keeping = LeaseKeeper(bench.ledger, lease, bench.stop, bench.patience_seconds)
    with keeping as keeper, _scratch_folder(bench.scratch) as scratch:
        try:
            outcome = lease.outcome or _train(bench, lease, keeper, objective, scratch)
            if outcome is None:
                return AttemptEnd.FREED
            keeper.patiently(lambda: _tell_optuna(bench, lease, outcome))
            keeper.patiently(lambda: _tidy_up(bench, lease))
            reach("tidied")
            keeper.patiently(lambda: bench.ledger.close(lease))
            reach("closed")
        except Stopped:
            return _release(bench, lease, keeper, "stopped as asked" if bench.stop.is_set() else "the study is paused")
        except LeaseGone:
            return _release(bench, lease, keeper, "the lease ran out")
        except LeaseLostError as error:
            logger.warning("%s", error)
            return _leave(bench, lease)
    return AttemptEnd(outcome)


def trial_attributes(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna shows of the scores: `val_macro_f1`, `test_accuracy` and so on, and the rest by name."""
    attributes: dict[str, Any] = {}
    for name, value in scores.items():
        if name in ("val", "test"):
            attributes |= {f"{name}_{score}": figure for score, figure in value.items()}
        else:
            attributes[name] = value
    return attributes


def _train(bench: Bench, lease: Lease, keeper: LeaseKeeper, objective: Objective, scratch: Path) -> str | None:
    """Train the point and write its scores down; returns the outcome, or None where the point is free again."""
    keeper.patiently(lambda: bench.mirror.start(lease.trial_id))
    reach("trial-running")
    progress = _Progress(bench, lease, keeper, scratch)
    try:
        scored = objective(lease, progress)
        progress.finish()
        reach("trained")
        files, weights = _store_files(bench, lease, keeper, scored)
        reach("files-stored")
    except Stopped:
        if keeper.is_cancelled:
            progress.finish()
            return _fail(bench, lease, keeper, CANCELLED_MESSAGE, max_attempts=0)
        progress.write_if_possible()
        raise
    except (LeaseGone, LeaseLostError):
        raise
    except Pruned as decision:
        return _prune(bench, lease, keeper, str(decision))
    except DeviceFailedError as error:
        keeper.patiently(lambda: bench.ledger.give_up(lease))
        raise error from None
    except (TrainerError, StorageError) as error:
        progress.finish()
        return _fail(bench, lease, keeper, str(error))
    except Exception as error:
        logger.exception("point %s failed", lease.key)
        progress.finish()
        return _fail(bench, lease, keeper, f"{type(error).__name__}: {error}")
    keeper.patiently(lambda: bench.ledger.finish(lease, scored.value, scored.scores, files, weights))
    reach("scored")
    return COMPLETE


def _prune(bench: Bench, lease: Lease, keeper: LeaseKeeper, message: str) -> str:
    reach("prune-decided")
    keeper.patiently(lambda: bench.ledger.prune(lease, message))
    reach("pruned")
    return PRUNED


def _fail(bench: Bench, lease: Lease, keeper: LeaseKeeper, message: str, max_attempts: int | None = None) -> str | None:
    most = bench.max_attempts if max_attempts is None else max_attempts
    message = " ".join(message.split())[:2000]
    logger.error("point %s failed: %s", lease.key, message)
    final = keeper.patiently(lambda: bench.ledger.fail(lease, message, most))
    return "failed" if final else None


def _store_files(
    bench: Bench, lease: Lease, keeper: LeaseKeeper, scored: Scored
) -> tuple[list[dict[str, Any]], str | None]:
    keeper.patiently(lambda: bench.ledger.renew(lease))
    entries = []
    for path in scored.files:
        artifact_id = file_id(bench.study, lease.key, lease.generation, path.name, lease.token)
        bench.artifacts.put(artifact_id, path)
        entries.append(describe_file(artifact_id, path.name))
    weights_id = file_id(bench.study, lease.key, lease.generation, WEIGHTS_FILE, lease.token)
    kept = bench.keep_weights
    if scored.weights is None or (
        kept is not None
        and keeper.patiently(lambda: bench.outcomes.better_points_exist(lease.study_id, lease.loss, scored.value, kept))
    ):
        return entries, None
    bench.artifacts.put(weights_id, scored.weights)
    return entries, weights_id


def _tell_optuna(bench: Bench, lease: Lease, outcome: str) -> None:
    """Tell Optuna what the ledger has; what it knows already is not told again."""
    found = bench.outcomes.read(lease.point_id)
    if outcome in (COMPLETE, PRUNED):
        epoch_scores = bench.outcomes.epoch_scores(lease.point_id, bench.select)
        bench.mirror.report(lease.trial_id, epoch_scores)
    if outcome == COMPLETE:
        bench.mirror.describe(lease.trial_id, trial_attributes(found.scores or {}))
        bench.mirror.attach(lease.trial_id, found.files or [])
        reach("attributes-set")
        bench.mirror.tell(lease.trial_id, TrialState.COMPLETE, found.value)
    elif outcome == PRUNED:
        bench.mirror.describe(lease.trial_id, {"prune_reason": found.message})
        reach("attributes-set")
        # As Optuna itself does, a pruned trial has the score of its last epoch.
        bench.mirror.tell(lease.trial_id, TrialState.PRUNED, epoch_scores.get(max(epoch_scores, default=0)))
    else:
        bench.mirror.describe(lease.trial_id, {"fail_reason": found.message})
        reach("attributes-set")
        bench.mirror.tell(lease.trial_id, TrialState.FAIL)
    reach("told")


def _release(bench: Bench, lease: Lease, keeper: LeaseKeeper, message: str) -> AttemptEnd:
    try:
        bench.ledger.release(lease, message)
    except StorageError as error:
        logger.warning("could not release point %s: %s; its lease will run out", lease.key, error)
        return _leave(bench, lease)
    return AttemptEnd.LOST if keeper.is_lost else AttemptEnd.RELEASED


def _remove_left_files(bench: Bench, lease: Lease, tokens: Sequence[str]) -> None:
    """Remove what attempts wrote for a point that has an outcome by now, and what it does not keep."""
    kept = bench.outcomes.kept_files(lease.point_id)
    if kept is None:
        return
    for token in tokens:
        ids = (file_id(bench.study, lease.key, lease.generation, name, token) for name in FILES)
        for left in (checkpoint_id(token), *ids):
            if left not in kept:
                bench.artifacts.remove(left)


def _leave(bench: Bench, lease: Lease) -> AttemptEnd:
    """Remove what a lost attempt wrote after the new owner had tidied up."""
    with suppress(StorageError):
        _remove_left_files(bench, lease, (lease.token,))
    return AttemptEnd.LOST


def _tidy_up(bench: Bench, lease: Lease) -> None:
    """Remove what a point that is scored and told no longer needs: checkpoints, and weights that are not the best."""
    _remove_left_files(bench, lease, (lease.token, *lease.earlier_tokens))
    if bench.keep_weights is not None:
        for point_id, weights_id in bench.outcomes.surplus_weights(lease.study_id, bench.keep_weights):
            bench.artifacts.remove(weights_id)
            bench.outcomes.forget_weights(point_id)


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for one attempt; those that dead processes of this machine left are removed."""
    # Machines may share the parent; no host's name holds a `=`, so none is taken for another.
    mine = f"{socket.gethostname()}="
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{mine}*=*"):
            pid = left.name.removeprefix(mine).partition("=")[0]
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(dir=parent, prefix=f"{mine}{os.getpid()}=", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(f"{parent}: cannot make a scratch folder: {error.strerror}") from None
    with folder as name:
        yield Path(name)


class _Progress:
    """Writes what an objective tells into the ledger, then into Optuna.

    Epochs that end while the database is away are kept and written with the first one after it is back.
    """

    def __init__(self, bench: Bench, lease: Lease, keeper: LeaseKeeper, scratch: Path) -> None:
        self.scratch = scratch
        self._bench = bench
        self._lease = lease
        self._keeper = keeper
        self._stored_in_place = bench.artifacts.local_path(checkpoint_id(lease.token))
        self.checkpoint_path = self._stored_in_place or scratch / "checkpoint"
        self._superseded = list(lease.earlier_tokens)
        self._warnings: list[str] = []
        self._unwritten: list[EpochFigures] = []

    def checkpoints(self) -> Iterator[Path]:
        for number, token in enumerate(self._lease.earlier_tokens):
            path = self._bench.artifacts.local_path(checkpoint_id(token))
            if path is not None:
                if path.exists():
                    yield path
            else:
                copy = self.scratch / f"earlier-{number}"
                if self._bench.artifacts.get(checkpoint_id(token), copy):
                    yield copy

    def started(self, restored: Sequence[EpochFigures]) -> None:
        ledger, lease = self._bench.ledger, self._lease
        self._keeper.patiently(lambda: ledger.begin_training(lease, len(restored)))
        self._keeper.patiently(lambda: ledger.record_epochs(lease, restored))
        self._keeper.patiently(lambda: self._report(restored))
        self._prune_if_hopeless(restored)

    def checkpoint_written(self) -> None:
        if self._stored_in_place is None and not self._keeper.is_lost:
            self._bench.artifacts.put(checkpoint_id(self._lease.token), self.checkpoint_path)

    def epoch_done(self, epoch: EpochFigures) -> None:
        if self._keeper.is_lost:
            raise LeaseGone
        reach("epoch-checkpointed")
        self._unwritten.append(epoch)
        try:
            self._write_epochs()
        except StorageUnavailableError as error:
            self._keeper.note_away(error)
            return
        logger.debug("epoch %d: loss %.4g, %.1f s", epoch.epoch, epoch.train_loss, epoch.seconds)
        while self._superseded:
            self._bench.artifacts.remove(checkpoint_id(self._superseded.pop()))
        self._prune_if_hopeless([epoch])

    def finish(self) -> None:
        """Write the epochs that could not be written yet."""
        self._keeper.patiently(self._write_epochs)

    def write_if_possible(self) -> None:
        """Write them unless that fails; who goes on from the checkpoint writes them as well."""
        with suppress(StorageError):
            self._write_epochs()

    def _write_epochs(self) -> None:
        if self._unwritten:
            self._bench.ledger.record_epochs(self._lease, self._unwritten)
            reach("epoch-recorded")
            self._report(self._unwritten)
            reach("epoch-reported")
            self._unwritten.clear()

    def control(self) -> Literal["stop", "abandon"] | None:
        return self._keeper.control()

    def _prune_if_hopeless(self, epochs: Sequence[EpochFigures]) -> None:
        """Ask the pruner about the last of some epochs; one that is trained again was judged before."""
        pruner, lease = self._bench.pruner, self._lease
        if pruner is None or not epochs:
            return
        last = epochs[-1]
        is_known = last.val.get(self._bench.select) is not None
        if is_known and lease.last_epoch <= last.epoch < pruner.epochs:
            if self._keeper.patiently(lambda: pruner.should_prune(lease.trial_id)):
                raise Pruned(pruner.message(last.epoch))

    def _report(self, epochs: Sequence[EpochFigures]) -> None:
        """Tell Optuna of epochs; what it knows of them already is not told again."""
        values = {epoch.epoch: epoch.val.get(self._bench.select) for epoch in epochs}
        known = {epoch: value for epoch, value in values.items() if value is not None}
        if known:
            self._bench.mirror.report(self._lease.trial_id, known)
        warnings = [line for epoch in epochs for line in epoch.warnings]
        if warnings:
            told = [*self._warnings, *warnings]
            self._bench.mirror.describe(self._lease.trial_id, {"warnings": told})
            self._warnings = told
