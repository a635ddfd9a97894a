"""A study that loses its workers, its connections and its database again and again ends as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.chained import EPOCHS, open_artifacts, start_chained_worker
from lmf_testing.chaos import Disorder, Plan
from lmf_testing.checks import check_complete, check_disk
from lmf_testing.cli import run_lmf
from lmf_testing.light import STUDY, plan_light, wait
from lmf_testing.postgres import Server, postgres_server

from storage.database import Database
from storage.queries import StudyRecord, read_attempts

POINTS, WORKERS = 100, 8
KILLS_ONLY = Plan(kills=60)
ALL = replace(KILLS_ONLY, suspensions=10, outages=10, cuts=30)
LIMIT_SECONDS = 540


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, since it is stopped and crashed."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of the study as two workers make them whom nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with closing(Database.open(f"sqlite:///{folder / 'lmf.db'}")) as database:
        plan_light(database, POINTS, epochs=EPOCHS)
        workers = [start_chained_worker(f"sqlite:///{folder / 'lmf.db'}", folder, 60.0) for _ in range(2)]
        assert [wait(worker, 120) for worker in workers] == [0, 0], (folder / "workers.log").read_text()[-3000:]
        record = check_complete(database, STUDY, POINTS, EPOCHS, open_artifacts(folder))
    assert {point.attempts for point in record.points} == {1}
    scores = scores_by_key(record)
    assert len({score["weights_sha256"] for score in scores.values()}) == POINTS, "every point trains other weights"
    return scores


def scores_by_key(record: StudyRecord) -> dict[str, Any]:
    return {point.key: point.scores for point in record.points}


def lost_epochs_by_attempts(database: Database) -> int:
    """Epochs that attempts had reached and the next one of their point did not start with."""
    lost = 0
    reached: dict[int, int] = {}
    for attempt in read_attempts(database, STUDY):
        lost += max(0, reached.get(attempt.point_id, 0) - attempt.first_epoch)
        reached[attempt.point_id] = attempt.first_epoch + attempt.epochs
    return lost


def check_undamaged(database: Database, url: str, folder: Path, disorder: Disorder, expected: dict[str, Any]) -> None:
    """Check that every point is complete once, with undisturbed scores, and that the accidents were counted."""
    artifacts = open_artifacts(folder)
    record = check_complete(database, STUDY, POINTS, EPOCHS, artifacts)
    check_disk(artifacts, POINTS + 1)
    assert scores_by_key(record) == expected
    attempts = read_attempts(database, STUDY)
    ends = Counter(attempt.end for attempt in attempts)
    assert ends["complete"] == POINTS
    assert set(ends) <= {"complete", "lost", "released"}
    (status,) = run_lmf(folder / "home", "status", STUDY, "--json", changes={"LMF_STORAGE": url}).json["studies"]
    assert status["complete"] == status["points"] == POINTS
    assert status["attempts"] == len(attempts)
    assert status["lost_attempts"] == ends["lost"] >= disorder.plan.kills + disorder.plan.suspensions
    assert status["lost_epochs"] == lost_epochs_by_attempts(database) > 0
    trained = (folder / "epochs.txt").read_text().splitlines()
    again = len(trained) - POINTS * EPOCHS
    assert set(trained) == {f"{point.key} {n}" for point in record.points for n in range(1, EPOCHS + 1)}
    assert again <= len(attempts) - POINTS + status["lost_epochs"], "an attempt costs at most the epoch it is cut in"


def check_log(text: str, server: Server | None) -> None:
    """Check that workers took everything as it came, and gave no password away."""
    assert "Traceback" not in text
    assert " ERROR " not in text
    assert server is None or server.password not in text


def run_disorder(
    url: str, folder: Path, plan: Plan, seed: int, expected: dict[str, Any], server: Server | None
) -> None:
    with closing(Database.open(url)) as database:
        study_id = plan_light(database, POINTS, epochs=EPOCHS)
        disorder = Disorder(plan, url, study_id, folder, WORKERS, seed, server)
        disorder.run(LIMIT_SECONDS)
        assert disorder.happened == plan.counts
        assert disorder.fenced == plan.suspensions
        check_undamaged(database, url, folder, disorder, expected)
        check_log((folder / "workers.log").read_text(), server)


@pytest.mark.parametrize("seed", [1, 2])
def test_postgresql_with_all_disorder(server: Server, tmp_path: Path, undisturbed: dict[str, Any], seed: int) -> None:
    name = server.create_database()
    run_disorder(server.url(name), tmp_path, ALL, seed, undisturbed, server)
    server.drop_database(name)


@pytest.mark.parametrize("seed", [1, 2])
def test_sqlite_with_kills(sqlite_url: str, tmp_path: Path, undisturbed: dict[str, Any], seed: int) -> None:
    run_disorder(sqlite_url, tmp_path, KILLS_ONLY, seed, undisturbed, None)
