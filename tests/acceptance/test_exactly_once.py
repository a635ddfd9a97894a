"""Each point exactly once, with many workers, and with workers that die between any two steps."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from lmf_testing.checks import check_complete, check_disk, kill_if_allowed
from lmf_testing.light import EPOCHS, SLOW, STUDY, light_score, plan_light, start_light_worker, wait

from storage.artifacts import Artifacts
from storage.database import Database
from storage.faults import STEPS
from storage.ledger import Ledger
from storage.queries import StudyRecord, read_attempts
from storage.workers import Workers

POINTS, WORKERS, KILLS = 120, 8, 30


def check_light(database: Database, folder: Path, points: int) -> StudyRecord:
    artifacts = Artifacts.open(str(folder / "artifacts"))
    record = check_complete(database, STUDY, points, EPOCHS, artifacts)
    check_disk(artifacts, points + 1)  # one file of predictions a point, and the weights of the best
    for point in record.points:
        assert point.beta is not None
        assert point.scores is not None
        assert point.scores["val"]["macro_f1"] == light_score(point.beta, EPOCHS)
    return record


def lines(path: Path) -> Counter[str]:
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def test_eight_workers_train_each_point_once(storage_url: str, tmp_path: Path) -> None:
    database = Database.open(storage_url)
    plan_light(database, POINTS)
    workers = [start_light_worker(storage_url, tmp_path) for _ in range(WORKERS)]
    assert [wait(worker, 240) for worker in workers] == [0] * WORKERS, (tmp_path / "workers.log").read_text()[-3000:]
    record = check_light(database, tmp_path, POINTS)
    assert {point.attempts for point in record.points} == {1}
    trained = lines(tmp_path / "trained.txt")
    assert set(trained) == {point.key for point in record.points}
    assert set(trained.values()) == {1}
    assert len({attempt.worker for attempt in read_attempts(database, STUDY)}) == WORKERS, "every worker had a share"
    database.close()


def test_thirty_random_kills_lose_and_repeat_nothing(storage_url: str, tmp_path: Path) -> None:
    database = Database.open(storage_url)
    study_id = plan_light(database, POINTS)
    chance = random.Random(7)
    # Points are to be left until all kills are done.
    slow = tmp_path / SLOW
    slow.touch()
    workers = [start_light_worker(storage_url, tmp_path) for _ in range(WORKERS)]
    kills = 0
    until = time.monotonic() + 400
    while Ledger(database).open_points(study_id):
        assert time.monotonic() < until, (tmp_path / "workers.log").read_text()[-3000:]
        time.sleep(chance.uniform(0.0, 0.25))
        victim = chance.randrange(WORKERS)
        # A worker is killed only once it works.
        pid = workers[victim].pid
        if kills < KILLS and workers[victim].is_alive() and pid and kill_if_allowed(database, STUDY, pid):
            workers[victim].join()
            kills += 1
            if kills == KILLS:
                slow.unlink()
        for number, worker in enumerate(workers):
            if not worker.is_alive() and worker.exitcode != 0:
                Workers(database).release_dead()
                workers[number] = start_light_worker(storage_url, tmp_path)
    assert [wait(worker, 60) for worker in workers] == [0] * WORKERS
    assert kills == KILLS
    record = check_light(database, tmp_path, POINTS)
    assert sum(point.lost_attempts for point in record.points) == kills
    epochs = lines(tmp_path / "epochs.txt")
    assert set(epochs) == {f"{point.key} {n}" for point in record.points for n in range(1, EPOCHS + 1)}
    assert sum(epochs.values()) <= POINTS * EPOCHS + kills, "a kill costs at most the epoch that it cut short"
    database.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_after_each_step_heals(storage_url: str, tmp_path: Path, step: str) -> None:
    database = Database.open(storage_url)
    plan_light(database, 3)
    fault = {"LMF_FAULT": step, "LMF_FAULT_ONCE": str(tmp_path / "died")}
    first = start_light_worker(storage_url, tmp_path, fault)
    assert wait(first, 60) == -signal.SIGKILL, "the worker dies at the step"
    assert (tmp_path / "died").exists()
    assert len(Workers(database).release_dead()) == 1
    second = start_light_worker(storage_url, tmp_path, fault)
    assert wait(second, 60) == 0, (tmp_path / "workers.log").read_text()[-3000:]
    record = check_light(database, tmp_path, 3)
    assert sum(point.lost_attempts for point in record.points) == (0 if step == "closed" else 1)
    trained = lines(tmp_path / "trained.txt")
    again = step in ("trained", "files-stored")
    assert sorted(trained.values()) == ([1, 1, 2] if again else [1, 1, 1]), "what is scored is not trained again"
    assert set(lines(tmp_path / "epochs.txt").values()) == {1}, "a checkpointed epoch is not trained again"
    database.close()
