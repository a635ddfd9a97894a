"""What a claim and finish costs with 31 and with 10,000 waiting points, in one run, on both databases.

A claim and finish is the whole life of a point but its training: claimed, its trial started, an epoch recorded and
reported, scored, told to Optuna, closed. Both queues are planned by the real planner, each in a database of its own, so
that everything that grows with the number of points is in the large one only. They take turns, so that both meet the
same machine, and neither gets shorter than its name: the small one is topped up, the large one has points to spare.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, field

from optuna.trial import TrialState

from storage.database import Database
from storage.lease import EpochFigures
from storage.ledger import Ledger
from storage.outcomes import Outcomes
from storage.planning import DatasetFacts, NewPoint, plan_points, save_study
from storage.trials import TrialMirror
from storage.workers import ProcessIdentity, Workers

SMALL, LARGE = 31, 10_000
ROUNDS = 200
WARM_UP = 5
LIMIT_RATIO = 1.5
FACTS = DatasetFacts("bench", "f" * 64, "s" * 64, ("a", "b"), {"train": (8, 4), "val": (2, 1), "test": (2, 1)})


@dataclass
class Queue:
    """A study with waiting points in a database of its own, and what its claims and lives took, in seconds."""

    database: Database
    mirror: TrialMirror
    worker_id: int
    study_id: int
    planned: int = 0
    claims: list[float] = field(default_factory=list)
    lives: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, url: str) -> Queue:
        """Make a database with an empty study."""
        database = Database.open(url)
        mirror = TrialMirror.open(database)
        worker_id = Workers(database).register(ProcessIdentity.of(), "cpu", {})
        with database.lock("plan"):
            study_id = save_study(database, mirror, "bench", "none", {"recipe": {"epochs": 1}}, FACTS)
        return cls(database, mirror, worker_id, study_id)

    def plan(self, points: int) -> None:
        """Plan so many points more."""
        numbers = range(self.planned, self.planned + points)
        new = [NewPoint(f"p{n}", 1.0, 0.5 + n % 1000 / 1000, "lmf", 23, ("beta",)) for n in numbers]
        with self.database.lock("plan"):
            self.planned += plan_points(self.database, self.mirror, self.study_id, new)

    def live_one_life(self) -> None:
        """Bring the next point from its claim to its end."""
        ledger, mirror = Ledger(self.database), self.mirror
        started = time.perf_counter()
        lease = ledger.claim(self.study_id, self.worker_id, 60.0)
        claimed = time.perf_counter()
        assert lease is not None
        mirror.start(lease.trial_id)
        ledger.begin_training(lease, 0)
        ledger.record_epochs(lease, [EpochFigures(1, 1.0, 1.0, 0.1, 100.0, 0.01, {"macro_f1": 0.5})])
        mirror.report(lease.trial_id, {1: 0.5})
        ledger.finish(lease, 0.5, {"val": {"macro_f1": 0.5}}, [], None)
        outcome = Outcomes(self.database).read(lease.point_id)
        mirror.describe(lease.trial_id, {"val_macro_f1": 0.5})
        mirror.tell(lease.trial_id, TrialState.COMPLETE, outcome.value)
        ledger.close(lease)
        self.claims.append(claimed - started)
        self.lives.append(time.perf_counter() - started)

    def close(self) -> None:
        """Close the connections."""
        self.mirror.close()
        self.database.close()


def run() -> bool:
    """Print the costs; whether the long queue's stay within the limit on both databases."""
    from lmf_testing.postgres import postgres_server

    with tempfile.TemporaryDirectory() as folder:
        good = _measure("sqlite", f"sqlite:///{folder}/small.db", f"sqlite:///{folder}/large.db")
    with postgres_server() as server:
        urls = [server.url(server.create_database()) for _ in range(2)]
        return _measure("postgresql", *urls) and good


def _measure(backend: str, small_url: str, large_url: str) -> bool:
    small, large = Queue.open(small_url), Queue.open(large_url)
    spare = ROUNDS + WARM_UP
    small.plan(SMALL)
    started = time.perf_counter()
    large.plan(LARGE + spare)
    seconds = time.perf_counter() - started
    print(
        f"claim: {backend}: {LARGE + spare} points planned in {seconds:.0f} s, "
        f"{1000 * seconds / (LARGE + spare):.1f} ms a point",
        flush=True,
    )
    for number in range(spare):
        for queue in (small, large) if number % 2 else (large, small):
            queue.live_one_life()
        small.plan(1)
    small.close()
    large.close()
    ratio = _show(backend, "claim", small.claims, large.claims)
    ratio = _show(backend, "claim and finish", small.lives, large.lives)
    print(f"claim: {backend}: the limit is {LIMIT_RATIO}: {'kept' if ratio <= LIMIT_RATIO else 'BROKEN'}", flush=True)
    return ratio <= LIMIT_RATIO


def _show(backend: str, what: str, small: list[float], large: list[float]) -> float:
    few, many = (statistics.median(times[WARM_UP:]) for times in (small, large))
    print(
        f"claim: {backend}: {what}, median of {ROUNDS}: {1000 * few:.1f} ms at {SMALL} waiting points, "
        f"{1000 * many:.1f} ms at {LARGE}: ratio {many / few:.2f}",
        flush=True,
    )
    return many / few
