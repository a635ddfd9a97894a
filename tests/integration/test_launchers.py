"""What every launcher promises: on this machine, in this process, and through a real SLURM."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from lmf_testing.checks import check_complete
from lmf_testing.real import STUDY, home_of, plan_real, short_spec
from lmf_testing.slurm import missing_programs, slurm_cluster, wait_for

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import read_attempts, read_epochs, read_study
from storage.schema import StudyRow
from study.home import Home
from study.launch import slurm
from study.launch.base import Launcher, WorkerRequest, no_tick
from study.launch.debug import DebugLauncher
from study.launch.local import LocalLauncher
from study.launch.slurm import SlurmLauncher
from study.launch.slurm_options import SlurmOptions
from study.limits import Limits
from study.run_options import RunOptions

LAUNCHERS = ("local", "debug", "slurm")


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    if missing_programs():
        pytest.skip(f"SLURM is not installed here: {', '.join(missing_programs())} not found")
    with slurm_cluster() as running:
        yield running.variables


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_of(tmp_path, f"sqlite:///{tmp_path / 'lmf.db'}")


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


@pytest.fixture(params=LAUNCHERS)
def launcher(
    request: pytest.FixtureRequest, home: Home, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Launcher:
    if request.param == "local":
        return LocalLauncher(database, home)
    if request.param == "debug":
        return DebugLauncher(database, home, RunOptions(device="cpu"), Limits())
    for name, value in request.getfixturevalue("cluster").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 1.0)
    return SlurmLauncher(home, home.storage_url, SlurmOptions(time_minutes=10, log_dir=home.root / "logs"))


def request_for(launcher: Launcher, *studies: str) -> WorkerRequest:
    """As many workers as every launcher can start two of, or else one."""
    return WorkerRequest(studies, 1 if isinstance(launcher, DebugLauncher) else 2, ("cpu",))


def test_workers_train_every_point_once_and_end(launcher: Launcher, home: Home, database: Database) -> None:
    plan_real(home, short_spec(settings="beta", grid="0.5,1.0,2.0"))
    ticks = []
    launch = launcher.launch(request_for(launcher))
    try:
        assert launch.description
        launch.wait(threading.Event(), lambda: ticks.append(1))
    finally:
        launch.stop()
    assert launch.refusals == ()
    assert ticks
    record = check_complete(database, STUDY, 3, 2, Artifacts.open(home.artifacts))
    assert [point.attempts for point in record.points] == [1, 1, 1]


def test_who_stops_workers_loses_nothing(launcher: Launcher, home: Home, database: Database) -> None:
    plan_real(home, short_spec(settings="beta", grid="0.5,2.0", epochs=12))
    launch = launcher.launch(request_for(launcher, STUDY))
    stop = threading.Event()
    watching = threading.Thread(target=stop_when_training, args=(home, stop))
    watching.start()
    try:
        launch.wait(stop, no_tick)
    finally:
        stop.set()
        watching.join()
        launch.stop()
    attempts = read_attempts(database, STUDY)
    assert attempts
    assert {attempt.end for attempt in attempts} == {"released"}
    assert {point.state for point in read_study(database, STUDY).points} == {"waiting"}

    again = launcher.launch(request_for(launcher, STUDY))
    try:
        again.wait(threading.Event(), no_tick)
    finally:
        again.stop()
    record = check_complete(database, STUDY, 2, 12, Artifacts.open(home.artifacts))
    assert sum(point.lost_attempts + point.lost_epochs for point in record.points) == 0
    assert max(attempt.first_epoch for attempt in read_attempts(database, STUDY)) > 0, "it went on"


def stop_when_training(home: Home, stop: threading.Event) -> None:
    """Set an event once a point has an epoch."""
    database = Database.open(home.storage_url)
    try:
        wait_for(lambda: stop.is_set() or bool(read_epochs(database, STUDY)), "an epoch", 120)
    finally:
        stop.set()
        database.close()


def test_a_refusal_is_heard(launcher: Launcher, home: Home, database: Database) -> None:
    plan_real(home, short_spec(settings="beta", grid="0.5"))
    with database.begin() as connection:
        spec = dict(connection.execute(sa.select(StudyRow.spec)).scalar_one())
        connection.execute(sa.update(StudyRow).values(spec={**spec, "versions": {"torch": "1.0.0"}}))
    launch = launcher.launch(request_for(launcher, STUDY))
    try:
        launch.wait(threading.Event(), no_tick)
    finally:
        launch.stop()
    assert launch.refusals
    assert all("torch 1.0.0 planned" in refusal for refusal in launch.refusals)
    assert read_attempts(database, STUDY) == ()
