"""`lmf launch`: many workers of this machine from one command, and what it prints for other places."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import psutil
import pytest
import sqlalchemy as sa
import yaml
from lmf_testing.checks import check_complete
from lmf_testing.cli import Lmf, environment, run_lmf, start_lmf
from lmf_testing.postgres import AWKWARD
from lmf_testing.real import home_of, plan_real, short_spec
from lmf_testing.slurm import wait_for

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import read_attempts, read_study, read_workers
from storage.schema import StudyRow
from study.home import Home
from trainer.errors import TrainerError

PATIENCE = 240.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_of(tmp_path / "home", f"sqlite:///{tmp_path / 'home' / 'lmf.db'}")


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


def plan(home: Home, *studies: str, **flags: Any) -> None:
    for study in studies:
        plan_real(home, short_spec(study=study, settings="beta", **{"grid": "0.5,1.0", **flags}))


def training_pids(database: Database) -> list[int]:
    """Workers whose point has an epoch."""
    return [worker.pid for worker in read_workers(database) if worker.state == "training" and worker.epoch]


def run_in_terminal(home: Path, *arguments: str, meanwhile: Callable[[], bool]) -> tuple[int, str]:
    """Run `lmf` in a terminal, with `meanwhile` called until it returns True; its code, and what it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "study.cli.main", *arguments]
    terminal = {**environment(home), "TERM": "xterm", "LINES": "50"}
    process = subprocess.Popen(command, env=terminal, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown, done, until = b"", False, time.monotonic() + PATIENCE
    try:
        while True:
            assert time.monotonic() < until, shown.decode()[-3000:]
            done = done or meanwhile()
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:
                    break
        return process.wait(60), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_all_open_studies_are_trained_and_a_killed_worker_is_replaced(home: Home, database: Database) -> None:
    plan(home, "first", "second", epochs=8)
    killed: list[int] = []

    def kill_one() -> bool:
        for pid in training_pids(database):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return True
        return False

    code, shown = run_in_terminal(home.root, "launch", "local", "--workers=2", "--device=cpu", meanwhile=kill_one)
    assert code == 0, shown
    artifacts = Artifacts.open(home.artifacts)
    lost = 0
    for study in ("first", "second"):
        record = check_complete(database, study, 2, 8, artifacts)
        lost += sum(point.lost_attempts for point in record.points)
        assert study in shown
    assert (lost, len(killed)) == (1, 1)
    assert "2 workers on cpu for every open study" in shown
    assert "was killed by signal 9; starting another" in shown
    assert re.search(rf"{killed[0]} +cpu +lost", shown), "the table shows the workers"
    assert not re.search(r"ago *lmf:", shown), "what is logged stands above the table, not in it"
    assert len(list((home.root / "logs").iterdir())) == 2


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_all_workers_with_checkpoints(
    home: Home, database: Database, kind: signal.Signals
) -> None:
    plan(home, "skin", epochs=200)
    process = start_lmf(home.root, "launch", "local", "skin", "--workers=2", "--device=cpu", "--idle-exit=never")
    try:
        wait_for(lambda: len(training_pids(database)) == 2, "two workers that train", PATIENCE)
        pids = training_pids(database)
        process.send_signal(kind)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, err) == (3, "")
    assert "stopped: 2 points left" in out
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert [attempt.end for attempt in read_attempts(database, "skin")] == ["released", "released"]


def test_workers_that_refuse_are_one_line(home: Home, database: Database) -> None:
    plan(home, "skin")
    with database.begin() as connection:
        spec = dict(connection.execute(sa.select(StudyRow.spec)).scalar_one())
        connection.execute(sa.update(StudyRow).values(spec={**spec, "versions": {"torch": "1.0.0"}}))
    ran = run_lmf(home.root, "launch", "local", "skin", "--workers=2", "--device=cpu")
    assert "2 points left, since workers refused: skin: torch 1.0.0 planned" in ran.refusal()


def test_a_point_that_fails_shows_in_the_exit_code(
    lmf: Lmf, home: Home, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(home, "skin")

    def fail(*_: object, **__: object) -> None:
        raise TrainerError("the loss is not finite")

    monkeypatch.setattr("study.objective.train", fail)
    ran = lmf("launch", "debug", "skin", "--device=cpu", "--max-attempts=1")
    assert ran.code == 1, ran
    assert {point.state for point in read_study(database, "skin").points} == {"failed"}
    again = lmf("launch", "local")
    assert (again.code, again.out) == (0, "nothing is left to train\n")


def test_this_process_can_be_the_worker(lmf: Lmf, home: Home, database: Database) -> None:
    plan(home, "skin")
    ran = lmf("launch", "debug", "--device=cpu", "--max-points=1")
    assert ran.code == 3, ran
    assert f"the worker is this process, {os.getpid()}" in ran.out
    assert [attempt.worker.split(":")[1] for attempt in read_attempts(database, "skin")] == [str(os.getpid())]


KUBERNETES = ("launch", "kubernetes", "--image=lmf:1", "--storage-secret=db:link", "--home-claim=home")


def test_the_manifest_tells_pods_what_the_flags_say(lmf: Lmf) -> None:
    flags = ("--count=40", "--data-claim=images", "--lease-seconds=30", "--idle-exit=never", "--log-json")
    ran = lmf(*KUBERNETES, *flags, "skin")
    assert (ran.code, ran.err) == (0, "")
    (job,) = yaml.safe_load_all(ran.out)
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    assert job["spec"]["completions"] == 40
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:2] == ["worker", "--device=cuda"]
    assert {"--lease-seconds=30", "--idle-exit=never", "--log-json"} < set(arguments)
    assert arguments[-1] == "skin"


@pytest.mark.parametrize(
    ("flags", "device", "gpus"),
    [
        ((), "cuda", 1),
        (("--device=auto",), "auto", 1),
        (("--device=cuda:0",), "cuda:0", 1),
        (("--device=cpu",), "cpu", 0),
        (("--gpu=0",), "cpu", 0),
        (("--device=cpu", "--gpu=0"), "cpu", 0),
    ],
)
def test_pods_have_a_gpu_where_they_train_on_one(lmf: Lmf, flags: tuple[str, ...], device: str, gpus: int) -> None:
    container = yaml.safe_load(lmf(*KUBERNETES, *flags).out)["spec"]["template"]["spec"]["containers"][0]
    assert f"--device={device}" in container["args"]
    for asked in ("requests", "limits"):
        assert container["resources"][asked].get("nvidia.com/gpu", 0) == gpus


def test_the_script_is_printed_without_a_database(lmf: Lmf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql+psycopg://lmf:{AWKWARD.replace('@', '%40').replace('/', '%2F')}@nowhere.invalid/lmf"
    monkeypatch.setenv("LMF_STORAGE", url)
    ran = lmf("launch", "slurm", "--print", "--count=4", "--max-attempts=3", "skin")
    assert (ran.code, ran.err) == (0, "")
    (tmp_path / "script").write_text(ran.out)
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)
    assert "#SBATCH --gres=gpu:1\n" in ran.out
    assert "--device=cuda --max-attempts=3 --log-level=info skin &" in ran.out
    assert url not in ran.out
    without = lmf("launch", "slurm", "--print", "--device=cpu").out
    assert "--gres" not in without
    assert "--device=cpu" in without


def test_many_jobs_on_a_sqlite_file_are_warned_of(lmf: Lmf) -> None:
    assert "SQLite" in lmf("launch", "slurm", "--print", "--count=2").err
    assert lmf("launch", "slurm", "--print").err == ""


def test_many_jobs_on_a_database_that_only_this_machine_reaches_are_warned_of(lmf: Lmf) -> None:
    for host, warned in (("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("db.example.org", False)):
        many = ("launch", "slurm", "--print", f"--storage=postgresql://lmf@{host}/lmf", "--count=2")
        said = lmf(*many).err
        assert said.count("\n") == warned
        assert ("lmf: warning: only this machine reaches the database" in said) == warned
        assert ("lmf db start --host" in said) == warned
        assert lmf(*many[:-1]).err == ""


def test_who_waits_for_jobs_logs_as_the_flags_say(lmf: Lmf, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    Database.open(home.storage_url).close()

    def watch(*_: object, **__: object) -> int:
        logging.getLogger("study.launch.slurm").warning("watched")
        return 0

    monkeypatch.setattr("study.cli.launch._watch", watch)
    ran = lmf("launch", "slurm", "--wait", "--log-json")
    assert ran.code == 0
    assert json.loads(ran.err)["message"] == "watched"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("launch", "local"), "there is no database here yet"),
        (("launch", "local", "--workers=none"), "--workers: "),
        (("launch", "slurm", "--time=soon"), "--time: 'soon' is no time limit"),
        (("launch", "slurm", "--max-hours=0"), "--max-hours: "),
        (("launch", "slurm", "--wait", "--print"), "--wait: cannot go with --print"),
        (("launch", "slurm", "--print", "no name"), "'no name' is no name for a study"),
        (("launch", "slurm"), "there is no database here yet"),
        (("launch", "slurm", "--print", "--device=cuda:1"), "--device: each job has one GPU, which is cuda:0 there"),
        ((*KUBERNETES, "--device=cuda:3"), "--device: each job has one GPU, which is cuda:0 there, not cuda:3"),
        ((*KUBERNETES, "--device=cpu", "--gpu=1"), "--gpu 1 cannot go with --device cpu"),
        ((*KUBERNETES, "--device=cuda", "--gpu=0"), "--gpu 0 cannot go with --device cuda"),
        ((*KUBERNETES, "--storage=sqlite:///x"), "--storage: pods take the database's URL from the Secret"),
        ((*KUBERNETES, "--memory=lots"), "--memory: 'lots' cannot be used"),
        (("launch", "kubernetes", "--image=x"), "--storage-secret"),
        ((*KUBERNETES, "no name"), "'no name' is no name for a study"),
    ],
)
def test_a_wrong_request_is_one_line(lmf: Lmf, arguments: tuple[str, ...], said: str) -> None:
    assert said in lmf(*arguments).refusal()


def test_an_unknown_study_is_one_line_before_anything_is_started(lmf: Lmf, home: Home) -> None:
    plan(home, "skin")
    for where in ("local", "debug", "slurm"):
        assert "no study named eyes; studies here: skin" in lmf("launch", where, "eyes").refusal()
    assert not (home.root / "logs").exists()


def test_what_prints_loads_neither_torch_nor_a_database() -> None:
    code = (
        "import sys\nfrom study.cli.main import main\n"
        f"try:\n    main({list(KUBERNETES)!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'optuna', 'sqlalchemy', 'submitit'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
