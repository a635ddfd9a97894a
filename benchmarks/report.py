"""What a report costs in time, memory and size with 1,000 and with 10,000 points of 60 epochs.

The studies are written straight into a SQLite database: no training takes place. Their points are the paper's three
settings with as many values as it takes, three seeds each, so that there are many different pairs as well as several
seeds; each has all its scores, 60 epochs and an attempt. Each report is written in a process of its own, whose peak of
memory is the report's. By name only: `python -m benchmarks report`.
"""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from storage.database import Database
from storage.schema import AttemptRow, DatasetRow, EpochRow, PointRow, StudyRow, WorkerRow
from trainer.config import Recipe

LIMIT_SECONDS = {1_000: 10.0, 10_000: 60.0}
LIMIT_BYTES = 6 * 1024**2
LIMIT_MEMORY_GROWTH = 10.0
EPOCHS = 60
SEEDS = (23, 24, 25)
CLASSES = ("NV", "MEL", "BKL", "BCC", "AKIEC", "VASC", "DF")
TRAIN_IMAGES = (4693, 779, 769, 360, 229, 100, 81)
TEST_IMAGES = (1006, 167, 165, 77, 49, 21, 17)
BATCH_POINTS = 500
STARTED = 1_750_000_000.0


@dataclass(frozen=True)
class Cost:
    """What one report cost.

    Attributes:
        seconds: from the open database to the written file.
        processor_seconds: of all threads, which other work on the machine hardly changes.
        file_bytes: size of the page.
        memory_bytes: the process's peak of resident memory.
        import_bytes: the peak before the report, when everything was imported.
    """

    seconds: float
    processor_seconds: float
    file_bytes: int
    memory_bytes: int
    import_bytes: int


def run() -> bool:
    """Print the costs; whether time, size and memory stay within their limits."""
    costs = {}
    for count in LIMIT_SECONDS:
        with tempfile.TemporaryDirectory() as name:
            url = f"sqlite:///{name}/lmf.db"
            started = time.perf_counter()
            make_study(url, count)
            print(f"report: {count:,} points of {EPOCHS} epochs stored in {time.perf_counter() - started:.0f} s")
            command = [sys.executable, "-m", "benchmarks.report", url, f"{name}/report.html"]
            root = Path(__file__).parents[1]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
            costs[count] = Cost(**json.loads(done.stdout))
        cost, limit = costs[count], LIMIT_SECONDS[count]
        print(
            f"report: {count:,} points: {cost.seconds:.1f} s (limit {limit:.0f} s), "
            f"{cost.processor_seconds:.1f} s of processor time, page of "
            f"{cost.file_bytes / 1024**2:.2f} MiB (limit {LIMIT_BYTES / 1024**2:.0f} MiB), at most "
            f"{cost.memory_bytes / 1024**2:.0f} MiB of memory, {cost.import_bytes / 1024**2:.0f} MiB before it began",
            flush=True,
        )
    few, many = (costs[count].memory_bytes - costs[count].import_bytes for count in LIMIT_SECONDS)
    growth = many / max(few, 1)
    print(f"report: ten times the points take {growth:.1f} times the memory (limit {LIMIT_MEMORY_GROWTH:.0f})")
    good = growth <= LIMIT_MEMORY_GROWTH and all(
        cost.seconds < LIMIT_SECONDS[count] and cost.file_bytes < LIMIT_BYTES for count, cost in costs.items()
    )
    print(f"report: limits {'kept' if good else 'BROKEN'}")
    return good


def make_study(url: str, count: int) -> None:
    """Store one finished study of so many points in a new database."""
    database = Database.open(url)
    try:
        with database.begin() as connection:
            dataset_id = _insert(connection, DatasetRow, _dataset())
            study_id = _insert(connection, StudyRow, _study(dataset_id))
            worker_id = _insert(connection, WorkerRow, _worker())
            points = islice(_points(count), count)
            number = 0
            while batch := list(islice(points, BATCH_POINTS)):
                chance = random.Random(number)
                rows = [_point(study_id, number + index, *point, chance) for index, point in enumerate(batch)]
                connection.execute(sa.insert(PointRow), rows)
                connection.execute(sa.insert(AttemptRow), [_attempt(row, worker_id) for row in rows])
                connection.execute(sa.insert(EpochRow), [epoch for row in rows for epoch in _epochs(row, chance)])
                number += len(batch)
    finally:
        database.close()


def _insert(connection: sa.Connection, table: Any, values: dict[str, Any]) -> int:
    return int(connection.execute(sa.insert(table).values(**values)).inserted_primary_key[0])


def _points(count: int) -> Iterator[tuple[float, float, tuple[str, ...], int]]:
    """α, β, settings and seed of each point, every pair with all its seeds."""
    values = count // (3 * len(SEEDS)) + 2
    grid = [round(0.5 + 1.5 * index / values, 6) for index in range(values + 1)]
    pairs: dict[tuple[float, float], tuple[str, ...]] = {}
    for value in grid:
        for name, pair in (("joint", (value, value)), ("beta", (1.0, value)), ("alpha", (value, 1.0))):
            pairs[pair] = (*pairs.get(pair, ()), name)
    for (alpha, beta), settings in pairs.items():
        for seed in SEEDS:
            yield alpha, beta, settings, seed


def _dataset() -> dict[str, Any]:
    return {
        "title": "ham10000",
        "fingerprint": "f" * 64,
        "split_fingerprint": "5" * 64,
        "class_names": list(CLASSES),
        "counts": {"train": TRAIN_IMAGES, "val": TEST_IMAGES, "test": TEST_IMAGES},
        "leakage": [],
    }


def _study(dataset_id: int) -> dict[str, Any]:
    recipe = asdict(Recipe(epochs=EPOCHS))
    return {
        "name": "many-points",
        "model": "efficientnetv2",
        "dataset_id": dataset_id,
        "optuna_study_id": 1,
        "spec": {"dataset": "ham10000", "recipe": recipe, "seeds": list(SEEDS)},
        "created_at": STARTED,
    }


def _worker() -> dict[str, Any]:
    return {
        "name": "node1-4711",
        "host": "node1",
        "pid": 4711,
        "process_started": STARTED,
        "device": "cuda:0",
        "versions": {},
        "state": "stopped",
        "started_at": STARTED,
        "last_seen": STARTED,
    }


def _point(
    study_id: int, number: int, alpha: float, beta: float, settings: tuple[str, ...], seed: int, chance: random.Random
) -> dict[str, Any]:
    score = 0.7 - 0.05 * abs(beta / alpha - 1) + chance.gauss(0, 0.01)
    return {
        "id": number + 1,
        "study_id": study_id,
        "key": f"lmf a={alpha} b={beta} seed={seed}",
        "position": number,
        "alpha": alpha,
        "beta": beta,
        "loss": "lmf",
        "seed": seed,
        "settings": list(settings),
        "trial_id": number + 1,
        "trial_number": number,
        "state": "complete",
        "outcome": "complete",
        "last_epoch": EPOCHS,
        "value": score,
        "scores": {
            "best_epoch": 40,
            "val": _scores(score, chance),
            "test": _scores(score - 0.02, chance),
            "weights_sha256": "0" * 64,
        },
        "started_at": STARTED,
        "finished_at": STARTED + 1800,
    }


def _scores(macro_f1: float, chance: random.Random) -> dict[str, Any]:
    per_class = [macro_f1 + chance.gauss(0, 0.02) for _ in CLASSES]
    confusion = []
    for row, images in enumerate(TEST_IMAGES):
        right = int(images * macro_f1)
        confusion.append([right if row == column else (images - right) // 6 for column in range(len(CLASSES))])
    others = ("accuracy", "precision", "recall", "balanced_accuracy", "macro_auc", "macro_average_precision")
    return {
        **{name: macro_f1 + chance.gauss(0, 0.01) for name in (*others, "sensitivity_at_specificity", "mcc", "kappa")},
        "macro_f1": macro_f1,
        "specificity": 0.95,
        "f1_per_class": per_class,
        "auc_per_class": per_class,
        "average_precision_per_class": per_class,
        "sensitivity_at_specificity_per_class": per_class,
        "confusion": confusion,
    }


def _attempt(point: dict[str, Any], worker_id: int) -> dict[str, Any]:
    return {
        "id": point["id"],
        "point_id": point["id"],
        "token": f"token-{point['id']}",
        "trial_number": point["trial_number"],
        "worker_id": worker_id,
        "host": "node1",
        "device": "cuda:0",
        "started_at": STARTED,
        "ended_at": STARTED + 1800,
        "known_epoch": 0,
        "first_epoch": 0,
        "epochs": EPOCHS,
        "end": "complete",
    }


def _epochs(point: dict[str, Any], chance: random.Random) -> Iterator[dict[str, Any]]:
    for epoch in range(1, EPOCHS + 1):
        score = point["value"] * (1 - 0.8 / (epoch + 1)) + chance.gauss(0, 0.01)
        others = ("macro_f1", "accuracy", "precision", "recall", "balanced_accuracy", "macro_auc")
        yield {
            "point_id": point["id"],
            "epoch": epoch,
            "attempt_id": point["id"],
            "train_loss": 4.0 / epoch,
            "val_loss": 5.0 / epoch,
            "lr": 1e-4,
            "images_per_second": 400.0,
            "seconds": 30.0,
            "val": dict.fromkeys(others, score),
            "halves": {
                "ldam": 3.5 / epoch,
                "focal": 0.05 / epoch,
                "ldam_gradient": 0.7 / epoch,
                "focal_gradient": 0.01 / epoch,
            },
        }


def measure(url: str, path: Path) -> Cost:
    """Write the report of the only study and tell what it cost."""
    importlib.import_module("study.reporting.page")
    from study.reporting.files import write_reports

    before = _peak_bytes()
    database = Database.open(url, create=False)
    try:
        started, processor = time.perf_counter(), time.process_time()
        write_reports(database, ["many-points"], path.parent, output=path)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    finally:
        database.close()
    return Cost(seconds, processor, path.stat().st_size, _peak_bytes(), before)


def _peak_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(json.dumps(vars(measure(sys.argv[1], Path(sys.argv[2])))))
