"""`lmf status`: what runs where, what failed and why, when it will end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from study.cli.common import choose_studies, open_existing, print_json, storage_option

if TYPE_CHECKING:
    from storage.database import Database
    from storage.queries import StudyRecord

WATCH_SECONDS = 2.0


@click.command("status")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds until Ctrl-C.")
@storage_option
def status_command(studies: tuple[str, ...], as_json: bool, watch: bool, storage: str | None) -> None:
    """Show how far the named studies are, or all, what their workers do, and what failed and why."""
    if as_json and watch:
        raise click.UsageError("--watch: cannot go with --json, which prints one document; give one of them")
    _, database = open_existing(storage)
    try:
        if as_json:
            print_json(status_document(database, studies))
            return
        from rich.live import Live

        from study.progress import make_console

        console = make_console()
        if not watch:
            console.print(_view(database, studies))
            return
        with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(_view(database, studies), refresh=True)
                time.sleep(WATCH_SECONDS)
    finally:
        database.close()


def status_document(database: Database, studies: tuple[str, ...] = ()) -> dict[str, Any]:
    """The document of `lmf status --json`; its keys are stable.

    Args:
        database: the database.
        studies: names, or none for all.

    Raises:
        StudyError: a study is unknown.
    """
    from storage.queries import read_study, read_workers
    from study.progress import StudyProgress
    from study.reporting.cautions import cautions

    names = choose_studies(database, studies)
    documents = []
    for name in names:
        record = read_study(database, name)
        progress = StudyProgress.of(record)
        best = None
        if progress.best is not None:
            best = {"alpha": progress.best.alpha, "beta": progress.best.beta, "val_macro_f1": progress.best_score}
        documents.append(
            {
                "study": name,
                "dataset": record.dataset,
                "model": record.model,
                "points": progress.points,
                **{
                    state: progress.states.get(state, 0)
                    for state in ("waiting", "running", "complete", "failed", "pruned")
                },
                "attempts": sum(point.attempts for point in record.points),
                "lost_attempts": sum(point.lost_attempts for point in record.points),
                "lost_epochs": sum(point.lost_epochs for point in record.points),
                "best": best,
                "leakage": [dict(entry) for entry in record.leakage],
                "warnings": [
                    {"warning": caution.warning, "trials": list(caution.trials)} for caution in cautions(record)
                ],
            }
        )
    workers = [
        {
            "worker": worker.worker,
            "host": worker.host,
            "pid": worker.pid,
            "device": worker.device,
            "study": worker.study,
            "trial": worker.trial,
            "epoch": worker.epoch,
            "last_seen_seconds": round(worker.last_seen_seconds, 1),
            "state": worker.state,
        }
        for worker in read_workers(database)
        if not studies or worker.study in names
    ]
    return {"studies": documents, "workers": workers}


def _view(database: Database, studies: tuple[str, ...]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from storage.queries import read_study, read_workers
    from study.progress import StudyProgress, study_table, worker_table, workers_to_show
    from study.reporting.cautions import cautions

    names = choose_studies(database, studies)
    if not names:
        return Text("no studies yet; `lmf run` or `lmf demo` makes one")
    records = [read_study(database, name) for name in names]
    parts: list[Any] = [study_table([StudyProgress.of(record) for record in records])]
    parts += [Text(line) for line in _leakage_lines(records)]
    workers = workers_to_show(read_workers(database))
    if studies:
        workers = [worker for worker in workers if worker.study in names]
    if workers:
        parts += [Text(), worker_table(workers)]
    warned = [f"{record.name} {caution.line}" for record in records for caution in cautions(record)]
    if warned:
        parts += [Text(), Text("warnings:")]
        parts += [Text(line) for line in warned]
    failed = [
        f"{record.name} trial {point.trial_number} ({point.key}): {point.message}"
        for record in records
        for point in record.points
        if point.state == "failed"
    ]
    if failed:
        parts += [Text(), Text("failed points (`lmf study retry STUDY` tries them again):")]
        parts += [Text(line) for line in failed]
    return Group(*parts)


def _leakage_lines(records: Sequence[StudyRecord]) -> list[str]:
    """What training shares with test, a line for all studies of which the same is to be said."""
    from study.reporting.leakage import leakage_notice

    studies: dict[str, list[str]] = {}
    for record in records:
        notice = leakage_notice(record.leakage)
        if notice is not None:
            studies.setdefault(notice, []).append(record.name)
    return [f"{', '.join(names)}: {notice}" for notice, names in studies.items()]
