"""What a claim and finish costs with 31 and with 10,000 waiting points, in one run, on both databases.

A claim and finish is the whole life of a point but its training: claimed, its trial started, scored, told to Optuna,
closed. Points of a small and of a large study in the same database take turns, so that both meet the same machine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from optuna.trial import TrialState

from storage.database import Database
from storage.ledger import EpochFigures, Ledger
from storage.planning import DatasetFacts, NewPoint, plan_points, save_study
from storage.trials import TrialMirror
from storage.workers import ProcessIdentity, Workers

SMALL, LARGE = 31, 10_000
ROUNDS = 300
LIMIT_RATIO = 1.5
FACTS = DatasetFacts("bench", "f" * 64, "s" * 64, ("a", "b"), {"train": (8, 4), "val": (2, 1), "test": (2, 1)})


def run() -> bool:
    """Print the costs; whether the large study's stays within the limit on both databases."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from lmf_testing.postgres import postgres_server

    with tempfile.TemporaryDirectory() as folder:
        good = _measure("sqlite", f"sqlite:///{folder}/lmf.db")
    with postgres_server() as server:
        return _measure("postgresql", server.url(server.create_database())) and good


def _measure(name: str, url: str) -> bool:
    database = Database.open(url)
    mirror = TrialMirror.open(database)
    worker = Workers(database).register(ProcessIdentity.of(), "cpu", {})
    started = time.perf_counter()
    large = _plan(database, mirror, "large", LARGE)
    planned = time.perf_counter() - started
    print(f"claim: {name}: {LARGE} points planned in {planned:.0f} s, {1000 * planned / LARGE:.1f} ms each", flush=True)
    costs: dict[int, list[float]] = {SMALL: [], LARGE: []}
    small = -1
    for number in range(ROUNDS):
        if number % SMALL == 0:
            small = _plan(database, mirror, f"small-{number}", SMALL)
        for points, study in ((SMALL, small), (LARGE, large)):
            costs[points].append(_one_point(database, mirror, study, worker))
    mirror.close()
    database.close()
    medians = {points: statistics.median(seconds) for points, seconds in costs.items()}
    ratio = medians[LARGE] / medians[SMALL]
    print(
        f"claim: {name}: median of {ROUNDS}: {1000 * medians[SMALL]:.1f} ms at {SMALL} waiting points, "
        f"{1000 * medians[LARGE]:.1f} ms at {LARGE}: ratio {ratio:.2f}, limit {LIMIT_RATIO}",
        flush=True,
    )
    return ratio <= LIMIT_RATIO


def _plan(database: Database, mirror: TrialMirror, study: str, points: int) -> int:
    with database.lock("plan"):
        study_id = save_study(database, mirror, study, "none", {"recipe": {"epochs": 1}}, FACTS)
        new = [NewPoint(f"p{number}", 1.0, 0.5 + number / points, "lmf", 23, ("beta",)) for number in range(points)]
        plan_points(database, mirror, study_id, new)
    return study_id


def _one_point(database: Database, mirror: TrialMirror, study_id: int, worker: int) -> float:
    ledger = Ledger(database)
    started = time.perf_counter()
    lease = ledger.claim(study_id, worker, 60.0)
    assert lease is not None
    mirror.start(lease.trial_id)
    ledger.begin_training(lease, 0)
    ledger.record_epochs(lease, [EpochFigures(1, 1.0, 1.0, 0.1, 100.0, 0.01, {"macro_f1": 0.5})])
    mirror.report(lease.trial_id, {1: 0.5})
    ledger.finish(lease, 0.5, {"val": {"macro_f1": 0.5}}, [], None)
    mirror.describe(lease.trial_id, {"val_macro_f1": 0.5})
    mirror.tell(lease.trial_id, TrialState.COMPLETE, 0.5)
    ledger.close(lease)
    return time.perf_counter() - started
