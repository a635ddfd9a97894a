"""A long study in disorder: workers killed and suspended, connections cut, the server stopped and crashed.

As in the acceptance test of the same name, but longer. Trainings are pretended, so that what is told here is the cost
of the accidents alone: what was lost, what was done again, and how long it took beside an undisturbed study.

Takes some minutes, so it is run by name only: `python -m benchmarks chaos`, or `python -m benchmarks.chaos --help`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from lmf_testing.chained import EPOCHS, start_chained_worker
from lmf_testing.chaos import Disorder, Plan
from lmf_testing.light import STUDY, plan_light
from lmf_testing.postgres import postgres_server

from storage.database import Database
from storage.queries import StudyRecord, read_study
from storage.trials import TrialMirror

POINTS, WORKERS, SEED = 400, 8, 1
PLAN = Plan(kills=240, suspensions=40, outages=40, cuts=120)
SECONDS_AN_EVENT = 30.0
"""More than what happens ever takes."""


def run() -> bool:
    """Print what the accidents cost; whether the study ended as if there had been none, on both databases."""
    return compare(POINTS, WORKERS, SEED, PLAN)


def compare(points: int, workers: int, seed: int, plan: Plan) -> bool:
    """Run the study undisturbed, in all disorder on PostgreSQL, and with the kills alone on SQLite."""
    kills = replace(plan, suspensions=0, outages=0, cuts=0)
    good = True
    with tempfile.TemporaryDirectory() as name, postgres_server() as server:
        folder = Path(name)
        expected, seconds = _run_undisturbed(folder / "undisturbed", points, workers)
        print(
            f"chaos: {points} points of {EPOCHS} epochs, {workers} workers, lease {plan.lease_seconds} s, seed {seed}"
        )
        print(f"chaos: undisturbed on SQLite: {seconds:.0f} s", flush=True)
        url = server.url(server.create_database())
        everything = Disorder(plan, url, _plan(url, points), folder / "PostgreSQL", workers, seed, server)
        url = f"sqlite:///{folder / 'lmf.db'}"
        for disorder in (everything, Disorder(kills, url, _plan(url, points), folder / "SQLite", workers, seed)):
            disorder.folder.mkdir()
            good &= _endure(disorder, points, expected)
    return good


def _plan(url: str, points: int) -> int:
    with closing(Database.open(url)) as database:
        return plan_light(database, points, epochs=EPOCHS)


def _run_undisturbed(folder: Path, points: int, workers: int) -> tuple[dict[str, Any], float]:
    """Scores by point, and the seconds that it took."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'lmf.db'}"
    _plan(url, points)
    started = time.monotonic()
    processes = [start_chained_worker(url, folder, 60.0) for _ in range(workers)]
    for process in processes:
        process.join()
        assert process.exitcode == 0, (folder / "workers.log").read_text()[-3000:]
    seconds = time.monotonic() - started
    with closing(Database.open(url)) as database:
        return _scores(read_study(database, STUDY)), seconds


def _endure(disorder: Disorder, points: int, expected: dict[str, Any]) -> bool:
    """Run a study in disorder and print what that cost; whether nothing else came of it."""
    folder, plan, name = disorder.folder, disorder.plan, disorder.folder.name
    seconds = disorder.run(SECONDS_AN_EVENT * plan.counts.total())
    with closing(Database.open(disorder.url)) as database:
        record, trials = read_study(database, STUDY), _trials(database)
    states = Counter(point.state for point in record.points)
    attempts = sum(point.attempts for point in record.points)
    trained = Counter((folder / "epochs.txt").read_text().splitlines())
    doubles = sum(count > 1 for count in Counter(trial.user_attrs["lmf:point"] for trial in trials).values())
    unfinished = sum(trial.state != optuna.trial.TrialState.COMPLETE for trial in trials)
    equal = _scores(record) == expected
    rows = {
        **{kind: disorder.happened[kind] for kind, count in plan.counts.items() if count},
        "suspended workers that wrote nothing more": disorder.fenced,
        "points complete": f"{states['complete']} of {points}",
        "attempts": attempts,
        "lost attempts": sum(point.lost_attempts for point in record.points),
        "lost epochs": sum(point.lost_epochs for point in record.points),
        "epochs trained again, whole or in part": trained.total() - points * EPOCHS,
        "points with two trials": doubles,
        "trials that nobody planned": len(trials) - points,
        "trials that are not complete": unfinished,
        "scores and weights as undisturbed": "yes" if equal else "NO",
        "seconds": round(seconds),
    }
    for what, value in rows.items():
        print(f"chaos: {name}: {what}: {value}", flush=True)
    all_complete = states == Counter(complete=points) and not unfinished
    return equal and all_complete and not doubles and len(trials) == points and disorder.fenced == plan.suspensions


def _scores(record: StudyRecord) -> dict[str, Any]:
    return {point.key: point.scores for point in record.points}


def _trials(database: Database) -> list[optuna.trial.FrozenTrial]:
    mirror = TrialMirror.open(database)
    try:
        return optuna.load_study(study_name=STUDY, storage=mirror.storage).get_trials(deepcopy=False)
    finally:
        mirror.close()


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__.splitlines()[0])
    given = {"points": POINTS, "workers": WORKERS, "seed": SEED}
    given |= {name: getattr(PLAN, name) for name in ("kills", "suspensions", "outages", "cuts")}
    for name, default in given.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--lease-seconds", type=float, default=PLAN.lease_seconds)
    chosen = vars(parser.parse_args())
    points, workers, seed = (chosen.pop(name) for name in ("points", "workers", "seed"))
    return 0 if compare(points, workers, seed, Plan(**chosen)) else 1


if __name__ == "__main__":
    sys.exit(main())
