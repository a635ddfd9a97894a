"""Chromium for tests, and `lmf dashboard` as a process for it to look at."""

from __future__ import annotations

import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmf_testing.cli import start_lmf
from lmf_testing.light import LightObjective, open_bench, plan_light
from lmf_testing.web import Page, ask
from storage.database import Database
from storage.lease import EpochFigures, Lease
from study.attempt import Progress, Scored
from study.worker import WorkerOptions, serve

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_SECONDS = 120.0
PREDICTIONS = "image,predicted\n{key}-image,mel\n"


class ScoredObjective(LightObjective):
    """The light objective with all scores that a report needs, both halves of the loss, and a page among its files."""

    def __call__(self, lease: Lease, progress: Progress) -> Scored:
        scored = super().__call__(lease, progress)
        (predictions,) = scored.files
        predictions.write_text(PREDICTIONS.format(key=lease.key))
        page = progress.scratch / "page.html"
        page.write_text("<script>document.title = 'taken over'</script>")
        score = self.score(lease, self.epochs)
        val, test = (full_scores(value) for value in (score, score - 0.05))
        scores = {"best_epoch": self.epochs, "val": val, "test": test}
        return replace(scored, scores=scores, files=(predictions, page))

    def _epoch(self, lease: Lease, epoch: int) -> EpochFigures:
        return replace(super()._epoch(lease, epoch), halves={"ldam": 3.0 / epoch, "focal": 0.5 / epoch})


def full_scores(macro_f1: float) -> dict[str, Any]:
    """Scores on one split of the light study's two classes."""
    return {"macro_f1": macro_f1, "f1_per_class": [macro_f1, macro_f1], "confusion": [[2, 0], [1, 0]]}


def train_light(url: str, folder: Path, points: int = 3) -> None:
    """Plan the light study, or more of its points, and train them with full scores; their files go into the folder."""
    database = Database.open(url)
    try:
        study_id = plan_light(database, points)
        bench = open_bench(database, folder, threading.Event())
        serve(bench, study_id, ScoredObjective(folder), WorkerOptions("cpu"))
        bench.mirror.close()
    finally:
        database.close()


@dataclass
class Dashboard:
    """A running `lmf dashboard`.

    Attributes:
        process: the process.
        url: its address, without a slash at the end.
        log: what it has written to stderr so far, line by line.
    """

    process: subprocess.Popen[str]
    url: str
    log: list[str]

    def ask(self, path: str, **request: Any) -> Page:
        """Ask for a path, as `lmf_testing.web.ask` does."""
        return ask(self.url + path, **request)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def run_dashboard(home: Path, *arguments: str, changes: Mapping[str, str] | None = None) -> Iterator[Dashboard]:
    """Start `lmf dashboard` on a free port, wait until it listens, and end it afterwards."""
    process = start_lmf(home, "dashboard", "--port", "0", *arguments, changes=changes)
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=_collect, args=(process.stderr, log), daemon=True)
    reader.start()
    try:
        line = _first_line(process)
        assert re.fullmatch(r"http://\S+:\d+/", line), (line, log)
        yield Dashboard(process, line.rstrip("/"), log)
    finally:
        process.kill()
        process.wait(60)
        reader.join(60)
        process.stdout.close()
        process.stderr.close()


def _collect(lines: Iterable[str], log: list[str]) -> None:
    for line in lines:
        log.append(line)


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline().strip() if selector.select(START_SECONDS) else ""


@contextmanager
def chromium() -> Iterator[Any]:
    """A running Chromium, as Playwright's `Browser`."""
    from playwright.sync_api import sync_playwright

    assert BROWSER is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def eventually(check: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a check is true."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it did not become true"
        time.sleep(0.1)
