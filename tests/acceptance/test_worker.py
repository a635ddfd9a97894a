"""`lmf worker` as people start it: limits, data that lie elsewhere, studies that it cannot serve, structured logs."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmf_testing.cli import run_lmf, start_lmf
from lmf_testing.real import home_of, plan_real, short_spec
from PIL import Image

from storage.database import Database
from storage.queries import read_attempts, read_study
from study.home import Home
from study.spec_input import build_study


def plan_digits(folder: Path, url: str, **flags: object) -> Home:
    home = home_of(folder, url)
    plan_real(home, short_spec(**flags))
    return home


def worker(home: Home, *arguments: str, **changes: str) -> Any:
    return run_lmf(
        home.root, "worker", "--device=cpu", *arguments, changes={"LMF_STORAGE": home.storage_url, **changes}
    )


def states(url: str, name: str) -> list[str]:
    database = Database.open(url)
    try:
        return [point.state for point in read_study(database, name).points]
    finally:
        database.close()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 30 images of two classes."""
    generator = np.random.default_rng(1)
    for number in range(30):
        path = tmp_path / "here" / "photos" / ("a" if number < 20 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
    return tmp_path / "here" / "photos"


def plan_photos(home: Home, photos: Path, study: str = "photos") -> None:
    given = {"study": study, "epochs": 1, "image_size": 16, "threads": 1, "grid": "1.0", "model": "test_resnet"}
    given |= {"weights": "none", "precision": "fp32"}
    spec, _ = build_study(f"folder:{photos}", given, resolve_model=lambda name: "test_resnet.r160_in1k")
    plan_real(home, spec)


def test_a_study_is_planned_here_and_trained_elsewhere(tmp_path: Path) -> None:
    flags = ("--epochs=1", "--image-size=16", "--grid=1.0", "--study=later", "--threads=1")
    ran = run_lmf(tmp_path, "run", "digits-lt", *flags, "--plan-only")
    assert ran.code == 0, ran.err
    assert "1 point to train" in ran.out
    assert states(f"sqlite:///{tmp_path / 'lmf.db'}", "later") == ["waiting"]
    refused = run_lmf(tmp_path, "run", "digits-lt", *flags, "--plan-only", "--dry-run").refusal()
    assert "--plan-only: cannot go with --dry-run" in refused
    assert run_lmf(tmp_path, "study", "pause", "later").out == "later: paused\n"
    refused = run_lmf(tmp_path, "run", "digits-lt", *flags).refusal()
    assert refused == "lmf: study later is paused; `lmf study resume later` lets it go on"
    assert "later: paused" in run_lmf(tmp_path, "status").out
    assert run_lmf(tmp_path, "study", "resume", "later").out == "later: resumed\n"
    assert run_lmf(tmp_path, "worker", "--device=cpu").code == 0
    assert states(f"sqlite:///{tmp_path / 'lmf.db'}", "later") == ["complete"]


def test_limits_and_exit_codes(tmp_path: Path, storage_url: str) -> None:
    home = plan_digits(tmp_path, storage_url, grid="0.5,1.0", settings="joint")
    assert worker(home, "--max-points", "1").code == 3
    assert states(storage_url, "digits") == ["complete", "waiting"]
    ran = worker(home)
    assert ran.code == 0, ran.err
    assert states(storage_url, "digits") == ["complete", "complete"]
    assert worker(home).code == 0
    status = run_lmf(tmp_path, "status", "--json", changes={"LMF_STORAGE": storage_url}).json
    (first, second) = status["workers"]
    assert (first["state"], second["state"]) == ("stopped", "stopped")
    assert set(first["versions"]) == {"torch", "timm", "device_name", "lmf", "python", "system"}
    (study,) = status["studies"]
    assert study["hours"]["cpu"]["used"] > 0
    assert study["hours"]["gpu"] == {"used": 0.0, "lost": 0.0}


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--max-points", "0"), "--max-points: 0 is less than 1"),
        (("--max-hours", "soon"), "--max-hours: 'soon' is not a finite number"),
        (("--idle-exit", "ever"), "--idle-exit: 'ever' is not a number of seconds or never"),
        (("--database-patience", "-1"), "--database-patience: -1 is outside [0, 604800]"),
        (("nothing",), "no study named nothing; studies here: digits"),
    ],
)
def test_what_it_refuses(tmp_path: Path, sqlite_url: str, flags: tuple[str, ...], problem: str) -> None:
    home = plan_digits(tmp_path, sqlite_url, grid="1.0")
    assert problem in worker(home, *flags).refusal()


def test_images_are_found_where_this_machine_has_them(tmp_path: Path, photos: Path, sqlite_url: str) -> None:
    home = home_of(tmp_path, sqlite_url)
    plan_photos(home, photos)
    shutil.move(photos, tmp_path / "mounted" / "photos")
    elsewhere = Home(tmp_path / "elsewhere", sqlite_url, home.artifacts)
    refused = worker(elsewhere, "photos").refusal()
    assert str(photos) in refused
    assert "LMF_DATA" in refused
    (tmp_path / "empty").mkdir()
    ran = worker(elsewhere, LMF_DATA=f"{tmp_path / 'empty'}:{tmp_path / 'mounted'}", LMF_ARTIFACTS=home.artifacts)
    assert ran.code == 0, ran.err
    assert states(sqlite_url, "photos") == ["complete"]


def test_a_study_whose_images_are_others_here_is_skipped(tmp_path: Path, photos: Path, sqlite_url: str) -> None:
    home = home_of(tmp_path, sqlite_url)
    plan_photos(home, photos)
    plan_digits(tmp_path, sqlite_url, grid="1.0")
    Image.new("RGB", (24, 24)).save(photos / "a" / "0.png")
    shutil.rmtree(home.cache)
    ran = worker(home)
    assert ran.code == 0, ran.err
    (skipped,) = [line for line in ran.err.splitlines() if "is skipped" in line]
    assert skipped.endswith("or as a copy of the cache in LMF_HOME")
    assert "study photos was planned with other data: images, names or labels have changed" in ran.err
    assert states(sqlite_url, "photos") == ["waiting"]
    assert states(sqlite_url, "digits") == ["complete"]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGUSR2])
def test_a_warning_makes_it_give_its_point_back_and_log_it(
    tmp_path: Path, sqlite_url: str, kind: signal.Signals
) -> None:
    home = plan_digits(tmp_path, sqlite_url, grid="1.0", epochs=500)
    process = start_lmf(tmp_path, "worker", "--device=cpu", "--log-json", changes={"LMF_STORAGE": sqlite_url})
    wait_for(lambda: _epochs(sqlite_url) > 1)
    process.send_signal(kind)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3
    lines = [json.loads(line) for line in err.splitlines()]
    (told,) = [line for line in lines if line["message"].endswith(": released")]
    assert (told["study"], told["trial"]) == ("digits", 0)
    database = Database.open(sqlite_url)
    (attempt,) = read_attempts(database, "digits")
    database.close()
    assert told["worker"] == attempt.worker
    assert attempt.end == "released"
    assert home.root.is_dir()


def _epochs(url: str) -> int:
    database = Database.open(url)
    try:
        return sum(point.last_epoch for point in read_study(database, "digits").points)
    finally:
        database.close()
