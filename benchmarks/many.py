"""64 processes and 2,000 points of near-zero work on one PostgreSQL at its default `max_connections`.

Ours: workers of the product on its ledger; a training tells of one epoch and ends. Optuna's: the same trials, enqueued,
and processes that ask and tell until the queue is empty, each with one connection. Every training is noted in a file,
so what was trained twice is counted from outside. No process loads torch.

Takes some minutes, so it is run by name only: `python -m benchmarks many`, or `python -m benchmarks.many --help`.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
import psycopg
from lmf_testing.chained import PRELOADED
from lmf_testing.light import STUDY, note, open_bench, plan_light
from lmf_testing.postgres import Server, postgres_server
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from storage.database import Database
from storage.lease import EpochFigures, Lease
from storage.queries import read_attempts, read_study
from study.attempt import Progress, Scored
from study.lease_keeper import PATIENCE_SECONDS
from study.worker import WorkerOptions, patiently, serve

PROCESSES, POINTS = 64, 2000
SAMPLE_SECONDS = 0.1
START_SECONDS = 600.0
POINT = "point"
Work = Callable[[str, str, Barrier], None]


@dataclass(frozen=True)
class Measured:
    """What so many processes made of so many points.

    Attributes:
        kind: `lmf` or `optuna`.
        processes: how many.
        points: how many were planned.
        seconds: from the start of all processes, which had imported what they need, to the end of the last.
        lives_per_second: points brought from claim to end, a second.
        processor_ms: processor time of all processes for a point, without the server's; other work hardly changes it.
        most_connections: of all processes together, as sampled in `pg_stat_activity`.
        doubles: points that were trained more than once.
        extras: trials that nobody planned.
        lost: planned points that are not complete, in the ledger or in Optuna.
        waits: warnings of our workers, each of which says that the database was away or full, and was waited for.
        died: processes that did not end well.
        torch: processes that had torch loaded.
    """

    kind: str
    processes: int
    points: int
    seconds: float
    lives_per_second: float
    processor_ms: float
    most_connections: int
    doubles: int
    extras: int
    lost: int
    waits: int
    died: int
    torch: int

    @property
    def is_exact(self) -> bool:
        """Whether each point was trained and told once, and nothing else."""
        return not (self.doubles or self.extras or self.lost or self.died or self.torch)


def run(processes: int = PROCESSES, points: int = POINTS) -> bool:
    """Print the figures; whether ours trained each point once."""
    with postgres_server() as server:
        ours = measure_ours(server, processes, points)
        _show(ours)
        _show(measure_optuna(server, processes, points))
    return ours.is_exact


def measure_ours(server: Server, processes: int, points: int) -> Measured:
    """Plan a study of the product and let its workers work on it."""
    name = server.create_database()
    url = server.url(name)
    with tempfile.TemporaryDirectory() as folder, closing(Database.open(url)) as database:
        plan_light(database, points, epochs=1)
        database.engine.dispose()
        seconds, connections, died = _run(server, name, _work_ours, processes, Path(folder))
        record = read_study(database, STUDY)
        attempts = read_attempts(database, STUDY)
        storage = RDBStorage(url)
        trials = optuna.load_study(study_name=STUDY, storage=storage).get_trials(deepcopy=False)
        storage.remove_session()
        storage.engine.dispose()
        told = {trial.user_attrs["lmf:point"] for trial in trials if trial.state == TrialState.COMPLETE}
        complete = {point.key for point in record.points if point.state == "complete"} & told
        trained = _lines(Path(folder) / "trained.txt")
        worked = max(point.finished_at or 0.0 for point in record.points) - min(one.started_at for one in attempts)
        measured = Measured(
            kind="lmf",
            processes=processes,
            points=points,
            seconds=seconds,
            lives_per_second=points / worked,
            processor_ms=_processor_ms(Path(folder)) / points,
            most_connections=connections,
            doubles=sum(count > 1 for count in trained.values()),
            extras=len(trials) - points,
            lost=points - len(complete),
            waits=_lines(Path(folder) / "waits.txt").total(),
            died=died,
            torch=_lines(Path(folder) / "torch.txt").total(),
        )
    server.drop_database(name)
    return measured


def measure_optuna(server: Server, processes: int, points: int) -> Measured:
    """Enqueue as many trials in plain Optuna and let its processes ask and tell until the queue is empty."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = server.create_database()
    url = server.url(name)
    storage = RDBStorage(url)
    study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize")
    space: dict[str, BaseDistribution] = {factor: FloatDistribution(0.5, 2.0) for factor in ("alpha", "beta")}
    for number in range(points):
        parameters = {"alpha": 1.0, "beta": 0.5 + number / points}
        waiting = create_trial(
            state=TrialState.WAITING, params=parameters, distributions=space, user_attrs={POINT: f"p{number}"}
        )
        study.add_trial(waiting)
    storage.remove_session()
    storage.engine.dispose()
    with tempfile.TemporaryDirectory() as folder:
        seconds, connections, died = _run(server, name, _work_optuna, processes, Path(folder))
        trained = _lines(Path(folder) / "trained.txt")
        torch = _lines(Path(folder) / "torch.txt").total()
        processor_ms = _processor_ms(Path(folder))
    trials = optuna.load_study(study_name=STUDY, storage=storage).get_trials(deepcopy=False)
    storage.remove_session()
    storage.engine.dispose()
    complete = {trial.user_attrs.get(POINT) for trial in trials if trial.state == TrialState.COMPLETE} - {None}
    server.drop_database(name)
    return Measured(
        kind="optuna",
        processes=processes,
        points=points,
        seconds=seconds,
        lives_per_second=points / seconds,
        processor_ms=processor_ms / points,
        most_connections=connections,
        doubles=sum(count > 1 for key, count in trained.items() if key != "None"),
        extras=len(trials) - points,
        lost=points - len(complete),
        waits=0,
        died=died,
        torch=torch,
    )


def _run(server: Server, name: str, work: Work, processes: int, folder: Path) -> tuple[float, int, int]:
    """Run processes to their end: seconds, the most connections to that database at once, processes that died."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "optuna.samplers"])
    start = context.Barrier(processes + 1)
    running = [context.Process(target=work, args=(server.url(name), str(folder), start)) for _ in range(processes)]
    for process in running:
        process.start()
    start.wait(START_SECONDS)
    started = time.perf_counter()
    most, alive = 0, running
    with server.connect() as connection:
        while alive:
            most = max(most, _connections(connection, name))
            alive[0].join(SAMPLE_SECONDS)
            alive = [process for process in alive if process.is_alive()]
    seconds = time.perf_counter() - started
    return seconds, most, sum(process.exitcode != 0 for process in running)


def _connections(connection: psycopg.Connection[tuple[object, ...]], name: str) -> int:
    """Client connections to a database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    row = connection.execute(query, (name,)).fetchone()
    return int(str(row[0])) if row else 0


class _Noting(logging.Handler):
    """Notes each warning of a worker as a line."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        note(self.path, " ".join(record.getMessage().split()))


@dataclass(frozen=True)
class InstantObjective:
    """Tells of one epoch and ends."""

    folder: Path

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        assert lease.beta is not None
        progress.started([])
        progress.epoch_done(EpochFigures(1, 1.0, 1.0, 0.1, 100.0, 0.01, {"macro_f1": lease.beta}))
        note(self.folder / "trained.txt", lease.key)
        return Scored(lease.beta, {"best_epoch": 1, "val": {"macro_f1": lease.beta}, "test": {"macro_f1": lease.beta}})


def _work_ours(url: str, folder: str, start: Barrier) -> None:
    """What a worker of ours does, from its start."""
    _prepare_process(Path(folder))
    start.wait(START_SECONDS)
    stop = threading.Event()
    database = patiently(lambda: Database.open(url, create=False), PATIENCE_SECONDS, stop)
    bench = patiently(lambda: open_bench(database, Path(folder), stop), PATIENCE_SECONDS, stop)
    study_id = patiently(lambda: read_study(database, STUDY), PATIENCE_SECONDS, stop).study_id
    serve(bench, study_id, InstantObjective(Path(folder)), WorkerOptions("cpu"))
    _note_end(Path(folder))


def _work_optuna(url: str, folder: str, start: Barrier) -> None:
    """What a process of plain Optuna does, from its start: ask and tell until no trial waits."""
    _prepare_process(Path(folder))
    start.wait(START_SECONDS)
    # One connection, kept, is the most favourable; Optuna's look at the schema would need a second one.
    options = {"pool_size": 1, "max_overflow": 0}
    storage = RDBStorage(url, options, skip_compatibility_check=True, skip_table_creation=True)
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=RandomSampler())
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        trial = study.ask()
        trial.suggest_float("alpha", 0.5, 2.0)
        beta = trial.suggest_float("beta", 0.5, 2.0)
        trial.report(beta, 1)
        note(Path(folder) / "trained.txt", str(trial.user_attrs.get(POINT)))
        study.tell(trial, beta)
    _note_end(Path(folder))


def _prepare_process(folder: Path) -> None:
    """Send what the process says to files."""
    log = os.open(folder / "processes.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger().addHandler(_Noting(folder / "waits.txt"))


def _note_end(folder: Path) -> None:
    note(folder / "processor.txt", str(1000 * time.process_time()))
    if "torch" in sys.modules:
        note(folder / "torch.txt", str(os.getpid()))


def _processor_ms(folder: Path) -> float:
    """Processor time of all processes that ended well."""
    return sum(float(line) for line in _lines(folder / "processor.txt").elements())


def _lines(path: Path) -> Counter[str]:
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def _show(found: Measured) -> None:
    print(
        f"many: {found.kind:<6} {found.processes} processes, {found.points} points: {found.seconds:.1f} s, "
        f"{found.lives_per_second:.0f} points a second from claim to end, {found.processor_ms:.0f} ms of processor "
        f"time a point, at most {found.most_connections} connections; trained twice {found.doubles}, "
        f"not planned {found.extras}, lost {found.lost}, died {found.died}, waits {found.waits}",
        flush=True,
    )


def main() -> int:
    """Measure as asked; the figures of ours as one JSON document with `--json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--json", action="store_true", help="measure ours alone, and print one JSON document")
    chosen = parser.parse_args()
    if not chosen.json:
        return 0 if run(chosen.processes, chosen.points) else 1
    with postgres_server() as server:
        found = measure_ours(server, chosen.processes, chosen.points)
    print(json.dumps(asdict(found)))
    return 0 if found.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
