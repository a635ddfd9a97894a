"""How far studies are: figures for people who watch, live in a terminal or line by line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from storage.database import Database
from storage.errors import StorageUnavailableError
from storage.queries import StudyRecord, WorkerRecord, read_study, read_workers
from study.reporting.statistics import Pair, summarize

LINE_SECONDS = 30.0
WIDE_COLUMNS = 240
LOST_SECONDS = 3600.0


@dataclass(frozen=True)
class StudyProgress:
    """Figures of one study at one moment.

    Attributes:
        study: its name.
        states: points by state; those that a search is still to choose are waiting.
        points: points in all, those included.
        epochs_done: epochs on record.
        epochs_planned: epochs of all points that are not failed; of a pruned one, those that it had.
        best: the pair of factors that leads on validation, or None; a comparison of losses has none.
        best_score: the validation macro F1 of that pair, or of the loss that leads a comparison.
        best_loss: the loss that leads a comparison on validation, or None.
    """

    study: str
    states: dict[str, int]
    points: int
    epochs_done: int
    epochs_planned: int
    best: Pair | None
    best_score: float | None
    best_loss: str | None = None

    @classmethod
    def of(cls, record: StudyRecord) -> StudyProgress:
        """Figures of a study as it was read."""
        summary = summarize(record)
        epochs = int(record.spec["recipe"]["epochs"])
        alive = [point for point in record.points if point.state != "failed"]
        done = sum(epochs if point.state == "complete" else min(point.last_epoch, epochs) for point in alive)
        planned = sum(min(point.last_epoch, epochs) if point.state == "pruned" else epochs for point in alive)
        planned += epochs * record.unchosen
        counts = (record.name, summary.states, record.total, done, planned)
        if summary.losses:
            scores = [(one.score("val", "macro_f1"), one.loss) for one in summary.losses]
            known = [(score, loss) for score, loss in scores if score is not None]
            score, loss = max(known, key=lambda leading: leading[0], default=(None, None))
            return cls(*counts, None, score, loss)
        return cls(*counts, summary.best, summary.best.score("val", "macro_f1") if summary.best else None)

    @property
    def closed(self) -> int:
        """Points that are complete, failed or pruned."""
        return sum(self.states.get(state, 0) for state in ("complete", "failed", "pruned"))


def make_console() -> Console:
    """A console for stdout: as wide as the terminal, and where there is none so wide that no line is broken."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE_COLUMNS)


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each kind of slow work, in a terminal only; the block is given what to tell: what, done, of how much.

    Args:
        console: where to show them.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report


def count_text(count: int, noun: str) -> str:
    """A number of things: `1 point`, `31 points`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def workers_to_show(workers: Sequence[WorkerRecord]) -> list[WorkerRecord]:
    """Workers that people want to see: those at work, and those that were lost within the last hour."""
    return [
        worker
        for worker in workers
        if worker.state in ("training", "idle") or (worker.state == "lost" and worker.last_seen_seconds < LOST_SECONDS)
    ]


def duration_text(seconds: float) -> str:
    """A time span as people say it: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def best_text(progress: StudyProgress) -> str:
    """The leading pair of factors, or the leading loss, in a few words."""
    if progress.best_score is None:
        return "none yet"
    if progress.best is None:
        return f"{progress.best_loss}: {100 * progress.best_score:.2f} %"
    return f"α {progress.best.alpha:g} β {progress.best.beta:g}: {100 * progress.best_score:.2f} %"


def worker_table(workers: Sequence[WorkerRecord]) -> Table:
    """Workers as a table."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    left = ("host", "device", "state", "study")
    for heading in ("host", "pid", "device", "state", "study", "trial", "epoch", "images/s", "time left", "last seen"):
        table.add_column(heading, justify="left" if heading in left else "right")
    for worker in workers:
        table.add_row(
            worker.host,
            str(worker.pid),
            worker.device,
            worker.state,
            worker.study or "-",
            "-" if worker.trial is None else str(worker.trial),
            "-" if worker.epoch is None else f"{worker.epoch}/{worker.epochs}",
            "-" if worker.images_per_second is None else f"{worker.images_per_second:.0f}",
            "-" if worker.seconds_left is None else duration_text(worker.seconds_left),
            f"{duration_text(worker.last_seen_seconds)} ago",
        )
    return table


def study_table(rows: Sequence[StudyProgress], times_left: Sequence[float | None] = ()) -> Table:
    """Studies as a table, with the seconds left of each where any is known."""
    times = list(times_left) if any(left is not None for left in times_left) else []
    table = Table(box=None, pad_edge=False)
    headings = ["study", "done", "running", "waiting", "failed", "pruned", "best (validation macro F1)"]
    for heading in headings:
        table.add_column(heading, justify="right" if heading in headings[1:6] else "left")
    if times:
        table.add_column("time left", justify="right")
    for number, row in enumerate(rows):
        cells = [
            row.study,
            f"{row.states.get('complete', 0) + row.states.get('pruned', 0)}/{row.points}",
            str(row.states.get("running", 0)),
            str(row.states.get("waiting", 0)),
            str(row.states.get("failed", 0)),
            str(row.states.get("pruned", 0)),
            best_text(row),
        ]
        if times:
            left = times[number]
            cells.append("-" if left is None else duration_text(left))
        table.add_row(*cells)
    return table


class ProgressDisplay:
    """Shows a running study: a live table in a terminal, plain lines elsewhere."""

    def __init__(self, database: Database, study: str, console: Console) -> None:
        """Prepare to show a study.

        Args:
            database: where it is.
            study: its name.
            console: where to show it.
        """
        self._database = database
        self._study = study
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._began: tuple[float, int] | None = None
        self._next_read = 0.0
        self._last_line: tuple[float, int] | None = None

    def __enter__(self) -> ProgressDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._next_read = 0.0
        self.tick()
        if self._live is not None:
            self._live.stop()

    def tick(self) -> None:
        """Show what there is to show now; cheap to call often."""
        now = time.monotonic()
        if now < self._next_read:
            return
        try:
            record = read_study(self._database, self._study)
            workers = read_workers(self._database)
        except StorageUnavailableError as error:
            self._console.print(f"waiting for the database: {error}", highlight=False)
            self._next_read = now + 5.0
            return
        spent = time.monotonic() - now
        self._next_read = now + max(1.0, 10 * spent)
        progress = StudyProgress.of(record)
        if self._began is None:
            self._began = (now, progress.epochs_done)
        left = self._time_left(progress, now)
        if self._live is not None:
            shown = [worker for worker in workers if worker.state in ("training", "idle")]
            self._live.update(_live_view(progress, shown, left), refresh=True)
        else:
            self._print_line(progress, left, now)

    def _time_left(self, progress: StudyProgress, now: float) -> float | None:
        assert self._began is not None
        seconds, epochs = now - self._began[0], progress.epochs_done - self._began[1]
        if epochs <= 0:
            return None
        return seconds / epochs * (progress.epochs_planned - progress.epochs_done)

    def _print_line(self, progress: StudyProgress, left: float | None, now: float) -> None:
        if self._last_line is not None:
            at, closed = self._last_line
            if progress.closed == closed and now - at < LINE_SECONDS:
                return
            if progress.closed - closed < max(1, progress.points // 10) and now - at < LINE_SECONDS / 3:
                if progress.closed < progress.points:
                    return
        self._last_line = (now, progress.closed)
        self._console.print(
            f"{progress.study}: {progress.closed} of {count_text(progress.points, 'point')}, "
            f"{progress.states.get('running', 0)} running, best so far {best_text(progress)}"
            + ("" if left is None or progress.closed == progress.points else f", {duration_text(left)} left"),
            highlight=False,
            soft_wrap=True,
        )


def _live_view(progress: StudyProgress, workers: Sequence[WorkerRecord], left: float | None) -> RenderableType:
    share = progress.epochs_done / progress.epochs_planned if progress.epochs_planned else 1.0
    width = 40
    bar = Text("━" * round(width * share), style="green") + Text("━" * (width - round(width * share)), style="dim")
    bar.append(f" {share:.0%}  ")
    bar.append("" if left is None else f"{duration_text(left)} left")
    return Group(study_table([progress]), bar, worker_table(workers))
