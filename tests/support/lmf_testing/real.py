"""A real, shortened study of the embedded digits, and worker processes for it that share one import of torch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from storage.database import Database
from storage.trials import TrialMirror
from study.home import Home
from study.images import load_images
from study.plan import PlannedStudy, plan_study
from study.run_options import RunOptions
from study.serving import work_on_studies
from study.spec import StudySpec
from study.spec_input import build_study
from study.worker import library_versions, stop_on_signals

STUDY = "digits"
EPOCHS = 2


def short_spec(**flags: object) -> StudySpec:
    """The embedded digits, shortened: 2 epochs of 16 x 16 pixels."""
    given = {"study": STUDY, "epochs": EPOCHS, "image_size": 16, "batch_size": 64, "threads": 1, **flags}
    spec, _ = build_study("digits-lt", given, resolve_model=lambda name: name)
    return spec


def home_of(folder: Path, url: str) -> Home:
    """A home in a folder."""
    return Home(folder, url, str(folder / "artifacts"))


def plan_real(home: Home, spec: StudySpec) -> PlannedStudy:
    """Decode the images and plan the points."""
    facts = load_images(spec, home)
    database = Database.open(home.storage_url)
    mirror = TrialMirror.open(database)
    try:
        return plan_study(database, mirror, spec, facts, library_versions())
    finally:
        mirror.close()
        database.close()


def work_real(folder: str, url: str, lease_seconds: float) -> None:
    """What a worker process does."""
    # Whatever the workers say goes to a file, and not among the lines of the test runner.
    log = os.open(Path(folder) / "workers.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO)
    home = home_of(Path(folder), url)
    stop = threading.Event()
    database = Database.open(url, create=False)
    with stop_on_signals(stop):
        work_on_studies(home, database, [STUDY], RunOptions(device="cpu", lease_seconds=lease_seconds), stop)


def worker_context() -> ForkServerContext:
    """Processes that are forked from one that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmf_testing.light", "study.objective"])
    return context


def start_real_worker(context: ForkServerContext, home: Home, lease_seconds: float = 60.0) -> ForkServerProcess:
    """Start a worker process of the study."""
    process = context.Process(target=work_real, args=(str(home.root), home.storage_url, lease_seconds))
    process.start()
    return process
