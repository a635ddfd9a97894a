"""Real training with workers killed at random ends with the scores and weights of an undisturbed study."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.checks import check_complete, check_disk, kill_if_allowed
from lmf_testing.real import EPOCHS, STUDY, home_of, plan_real, short_spec, start_real_worker, worker_context

from storage.artifacts import Artifacts
from storage.database import Database
from storage.ledger import Ledger
from storage.queries import StudyRecord, read_study
from storage.workers import Workers

POINTS, WORKERS, KILLS = 120, 8, 30
GRID = "0.5,0.6,0.7,0.8,0.9,1.0,1.2,1.3,1.5,2.0"
SEEDS = ",".join(str(seed) for seed in range(1, 13))


def scores_by_key(record: StudyRecord) -> dict[str, Any]:
    return {point.key: point.scores for point in record.points}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of the study as two workers make them whom nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    home = home_of(folder, f"sqlite:///{folder / 'lmf.db'}")
    plan_real(home, short_spec(settings="beta", grid=GRID, seeds=SEEDS))
    context = worker_context()
    workers = [start_real_worker(context, home) for _ in range(2)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, (folder / "workers.log").read_text()[-3000:]
    database = Database.open(home.storage_url)
    record = check_complete(database, STUDY, POINTS, EPOCHS, Artifacts.open(home.artifacts))
    assert {point.attempts for point in record.points} == {1}
    database.close()
    scores = scores_by_key(record)
    assert len({score["weights_sha256"] for score in scores.values()}) == POINTS, "every point trains other weights"
    return scores


def test_thirty_kills_change_no_score(storage_url: str, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    home = home_of(tmp_path, storage_url)
    planned = plan_real(home, short_spec(settings="beta", grid=GRID, seeds=SEEDS))
    database = Database.open(storage_url)
    context = worker_context()
    workers = [start_real_worker(context, home) for _ in range(WORKERS)]
    chance = random.Random(23)
    kills = 0
    until = time.monotonic() + 500
    while Ledger(database).open_points(planned.study_id):
        assert time.monotonic() < until, (tmp_path / "workers.log").read_text()[-3000:]
        time.sleep(chance.uniform(0.0, 1.0))
        victim = chance.choice(workers)
        if kills < KILLS and victim.is_alive() and kill_if_allowed(database, STUDY, victim.pid):
            victim.join()
            kills += 1
        for number, worker in enumerate(workers):
            if not worker.is_alive() and worker.exitcode != 0:
                assert worker.exitcode == -signal.SIGKILL, (tmp_path / "workers.log").read_text()[-3000:]
                Workers(database).release_dead()
                workers[number] = start_real_worker(context, home)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert kills == KILLS
    artifacts = Artifacts.open(home.artifacts)
    record = check_complete(database, STUDY, POINTS, EPOCHS, artifacts)
    check_disk(artifacts, 2 * POINTS + 1)
    assert sum(point.lost_attempts for point in record.points) == KILLS
    assert scores_by_key(read_study(database, STUDY)) == undisturbed
    database.close()
