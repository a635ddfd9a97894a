"""What pruning saves and what it costs: searches by TPE on the demo's images, with each pruner and without.

Each search is one of the product: its plan, worker, ledger and pruner, on a SQLite file of its own, and each training
is a real one. The same alpha, beta and seed train to the same result, so a pair that an earlier search of the same seed
has trained to its end is not trained again: its epochs are told once more, up to where the pruner ends it, and count as
if they had been trained. The first ten pairs of a search are chance, hence the same for all pruners.

Takes about a quarter of an hour on two cores, so it is run by name only.
"""

from __future__ import annotations

import logging
import multiprocessing
import statistics
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from storage.artifacts import Artifacts
from storage.database import Database
from storage.lease import EpochFigures, Lease
from storage.ledger import Ledger
from storage.pruning import TrialPruner
from storage.queries import find_spec, read_parts, read_study
from storage.search_plan import NO_PRUNER, PRUNERS
from storage.trials import TrialMirror
from study.attempt import Bench, Objective, Progress, Scored
from study.home import Home
from study.images import load_images
from study.objective import open_objective
from study.plan import plan_study
from study.reporting.statistics import pruning_of, summarize
from study.spec_input import DEMO_DATASET, build_study
from study.worker import WorkerOptions, library_versions, serve

TRIALS = 20
SEEDS = (23, 24, 25, 26, 27, 28)
PROCESSES = 2


@dataclass(frozen=True)
class Found:
    """What one search came to: epochs that it spent, points that it pruned, and its best validation macro F1."""

    epochs: int
    pruned: int
    best: float


def run() -> bool:
    """Print what each pruner saves and costs; whether each of them saves."""
    return compare(SEEDS, TRIALS)


def compare(seeds: Sequence[int], trials: int) -> bool:
    """Print the figures of searches with these seeds, of so many trials each; whether each pruner saves epochs."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        by_seed = list(pool.map(_search_with_each_pruner, seeds, [trials] * len(seeds)))
    print(
        f"search: {DEMO_DATASET}, {trials} trials by tpe, seeds {', '.join(map(str, seeds))}, one thread a training",
        flush=True,
    )
    whole = sum(found[NO_PRUNER].epochs for found in by_seed)
    good = True
    for pruner in PRUNERS:
        epochs = sum(found[pruner].epochs for found in by_seed)
        best = statistics.fmean(found[pruner].best for found in by_seed)
        line = (
            f"search: {pruner:<10} {epochs / len(seeds):6.1f} epochs a search ({epochs / whole:4.0%}), "
            f"{sum(found[pruner].pruned for found in by_seed)} of {trials * len(seeds)} trials pruned, "
            f"best validation macro F1 {100 * best:.2f} %"
        )
        if pruner != NO_PRUNER:
            costs = [100 * (found[pruner].best - found[NO_PRUNER].best) for found in by_seed]
            line += (
                f"; against none by seed {', '.join(f'{cost:+.2f}' for cost in costs)}: "
                f"mean {statistics.fmean(costs):+.2f}, from {min(costs):+.2f} to {max(costs):+.2f} points"
            )
            good &= epochs < whole
        print(line, flush=True)
    return good


def _search_with_each_pruner(seed: int, trials: int) -> dict[str, Found]:
    logging.disable(logging.WARNING)
    objective = RememberingObjective()
    with tempfile.TemporaryDirectory() as folder:
        return {pruner: _search(Path(folder), pruner, seed, trials, objective) for pruner in PRUNERS}


def _search(folder: Path, pruner: str, seed: int, trials: int, objective: RememberingObjective) -> Found:
    home = Home(folder, f"sqlite:///{folder / f'{pruner}.db'}", str(folder / "artifacts"))
    flags = {"search": "tpe", "trials": trials, "pruner": pruner, "seeds": seed, "threads": 1, "precision": "fp32"}
    spec, _ = build_study(DEMO_DATASET, flags, resolve_model=lambda name: name)
    facts = load_images(spec, home)
    database = Database.open(home.storage_url)
    mirror = TrialMirror.open(database)
    try:
        study_id = plan_study(database, mirror, spec, facts, library_versions()).study_id
        record = read_study(database, spec.name)
        objective.train = open_objective(record, read_parts(database, spec.name), home, "cpu")
        bench = Bench(
            study=spec.name,
            select=spec.recipe.select,
            ledger=Ledger(database),
            mirror=mirror,
            artifacts=Artifacts.open(home.artifacts),
            scratch=home.scratch,
            keep_weights=0,
            max_attempts=1,
            stop=threading.Event(),
            pruner=TrialPruner.open(mirror, spec.name, find_spec(database, spec.name) or {}),
        )
        serve(bench, study_id, objective, WorkerOptions("cpu"))
        record = read_study(database, spec.name)
        summary = summarize(record)
        assert summary.best is not None
        assert len(record.points) == trials
        pruning = pruning_of(record)
        return Found(
            epochs=sum(point.last_epoch for point in record.points),
            pruned=pruning.points if pruning else 0,
            best=summary.best.score("val", spec.recipe.select) or 0.0,
        )
    finally:
        mirror.close()
        database.close()


@dataclass
class RememberingObjective:
    """Trains a point, or tells again what it has trained to its end before."""

    train: Objective | None = None
    known: dict[tuple[float | None, float | None, int], tuple[list[EpochFigures], Scored]] = field(default_factory=dict)

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        """Train the point of a lease, or tell its epochs again."""
        pair = (lease.alpha, lease.beta, lease.seed)
        if pair in self.known:
            epochs, scored = self.known[pair]
            progress.started(())
            for epoch in epochs:
                progress.epoch_done(epoch)
            return scored
        noting = Noting(progress)
        assert self.train is not None
        scored = self.train(lease, noting)
        # Predictions lie in a folder that ends with the attempt.
        self.known[pair] = (noting.epochs, Scored(scored.value, scored.scores))
        return Scored(scored.value, scored.scores)


class Noting:
    """Passes on what an objective tells, and notes its epochs."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.scratch = progress.scratch
        self.checkpoint_path = progress.checkpoint_path
        self.epochs: list[EpochFigures] = []

    def checkpoints(self) -> Iterator[Path]:
        return self.progress.checkpoints()

    def started(self, restored: Sequence[EpochFigures]) -> None:
        self.epochs.extend(restored)
        self.progress.started(restored)

    def checkpoint_written(self) -> None:
        self.progress.checkpoint_written()

    def epoch_done(self, epoch: EpochFigures) -> None:
        self.epochs.append(epoch)
        self.progress.epoch_done(epoch)

    def control(self) -> Literal["stop", "abandon"] | None:
        return self.progress.control()
