"""Carrying a study out on this machine: images, plan, workers, report."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from storage.artifacts import Artifacts
from storage.database import Database, show_url
from storage.queries import StudyRecord, read_study
from storage.search_plan import GRID, NO_PRUNER
from storage.trials import TrialMirror
from storage.workers import Workers
from study.comparison import factors_text, loss_lines
from study.errors import StudyError
from study.home import Home
from study.images import load_images
from study.launch.base import WorkerRequest, worker_flags
from study.launch.local import LocalLauncher
from study.machine import Crew, choose_crew, fit_to_machine
from study.plan import PlannedStudy, compare_with_stored, plan_study
from study.progress import ProgressDisplay, count_text, duration_text, progress_bars
from study.reporting.cautions import cautions
from study.reporting.leakage import has_leaks, leakage_notice, leakage_sentence
from study.reporting.statistics import Pruning, StudySummary, summarize
from study.run_options import RunOptions
from study.spec import STUDIED_LOSS, StudySpec
from study.worker import library_versions, stop_on_signals

SETTING_TITLES = {"joint": "joint (alpha = beta)", "beta": "beta (alpha = 1)", "alpha": "alpha (beta = 1)"}


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        failed: points that failed.
        remaining: points that are still to be trained.
        interrupted: whether it was asked to stop.
        refusals: what workers said that would not work.
    """

    failed: int
    remaining: int
    interrupted: bool
    refusals: tuple[str, ...]


def run_study(spec: StudySpec, options: RunOptions, home: Home, console: Console) -> RunEnd:
    """Plan or continue a study, train what is left of it with workers of this machine, and write the report.

    Args:
        spec: what is asked for.
        options: how to carry it out.
        home: where everything is kept.
        console: where to say what happens.

    Returns:
        How it ended; the report is written if any point is complete.

    Raises:
        StudyError: the request cannot be carried out, or every worker refused to work.
        TrainerError: data or model cannot be used.
        StorageError: the database or a folder cannot be used.
    """
    stop = threading.Event()
    with stop_on_signals(stop):
        database = Database.open(home.storage_url)
        try:
            artifacts = Artifacts.open(home.artifacts)
            planned, crew = _plan(database, spec, options, home, console)
            refusals: tuple[str, ...] = ()
            if options.plan_only:
                left = count_text(read_study(database, planned.spec.name).remaining, "point")
                console.print(f"{left} to train; `lmf launch` and `lmf worker` start workers", highlight=False)
                return RunEnd(0, 0, stop.is_set(), ())
            if read_study(database, planned.spec.name).remaining and not stop.is_set():
                _free_dead_workers(database, planned.study_id, console)
                refusals = _train(database, planned, crew, options, home, console, stop)
            elif not stop.is_set():
                console.print(f"{planned.spec.name}: everything is trained already", highlight=False)
            record = read_study(database, planned.spec.name)
            _conclude(database, record, artifacts, home, console)
            if stop.is_set():
                console.print(
                    f"stopped: {count_text(record.remaining, 'point')} left; the same command goes on", highlight=False
                )
        finally:
            database.close()
    failed = sum(point.state == "failed" for point in record.points)
    return RunEnd(failed, record.remaining, stop.is_set(), refusals)


def _plan(
    database: Database, spec: StudySpec, options: RunOptions, home: Home, console: Console
) -> tuple[PlannedStudy, Crew | None]:
    """Plan or continue a study; for a new one, its workers are chosen too, since their threads belong to its recipe."""
    stored = compare_with_stored(database, spec)
    with progress_bars(console) as report:
        facts = load_images(spec, home, report)
    crew = None
    if stored is None:
        classes = len(facts.class_names)
        _check_model(spec, classes, home, console)
        crew = choose_crew(spec.recipe, classes, sum(map(sum, facts.counts.values())), options)
        spec, _ = fit_to_machine(spec, crew, classes, lambda line: console.print(line, highlight=False, soft_wrap=True))
    mirror = TrialMirror.open(database)
    try:
        planned = plan_study(database, mirror, spec, facts, library_versions())
    finally:
        mirror.close()
    what = "planned" if planned.is_new else "extended" if planned.added or planned.additions else "continued"
    record = read_study(database, planned.spec.name)
    done = sum(point.state in ("complete", "pruned") for point in record.points)
    recipe, images_in_all = planned.spec.recipe, sum(map(sum, facts.counts.values()))
    console.print(
        f"study {planned.spec.name} {what}: {count_text(record.total, 'point')}{_way_text(planned.spec)}, "
        f"{done} trained, {count_text(recipe.epochs, 'epoch')} each; {recipe.model} on "
        f"{images_in_all} images of {len(facts.class_names)} classes",
        highlight=False,
        soft_wrap=True,
    )
    if has_leaks(facts.leakage):
        console.print(leakage_sentence(facts.leakage), highlight=False, soft_wrap=True, markup=False)
    return planned, crew


def _check_model(spec: StudySpec, num_classes: int, home: Home, console: Console) -> None:
    """Build the model once before anything is planned, so that unusable weights are refused at once; tell of them."""
    from trainer.models import build_model_with_report

    _, report = build_model_with_report(spec.recipe, num_classes, home.weights)
    if report is not None:
        console.print(report.line(), highlight=False, soft_wrap=True, markup=False)


def _free_dead_workers(database: Database, study_id: int, console: Console) -> None:
    register = Workers(database)
    for name in register.release_dead():
        console.print(f"worker {name} is dead: its points are free again", highlight=False)
    for name, seconds in register.holders(study_id):
        console.print(
            f"worker {name} holds a point of this study; if it stays silent, the point is free in "
            f"{duration_text(seconds)}",
            highlight=False,
        )


def _train(
    database: Database,
    planned: PlannedStudy,
    crew: Crew | None,
    options: RunOptions,
    home: Home,
    console: Console,
    stop: threading.Event,
) -> tuple[str, ...]:
    if crew is None:
        record = read_study(database, planned.spec.name)
        images = sum(map(sum, record.counts.values()))
        crew = choose_crew(planned.spec.recipe, len(record.class_names), images, options)
    count = min(crew.workers, read_study(database, planned.spec.name).remaining)
    threads = count_text(planned.spec.recipe.threads, "thread")
    console.print(f"{count_text(count, 'worker')} on {', '.join(crew.devices)}, {threads} each", highlight=False)
    request = WorkerRequest((planned.spec.name,), count, crew.devices, _worker_flags(options))
    with ProgressDisplay(database, planned.spec.name, console) as display:
        workers = LocalLauncher(database, home).launch(request)
        try:
            workers.wait(stop, display.tick)
        finally:
            workers.stop(display.tick)
    return workers.refusals


def _worker_flags(options: RunOptions) -> tuple[str, ...]:
    return worker_flags(
        {
            "keep_weights": options.keep_weights,
            "max_attempts": options.max_attempts,
            "lease_seconds": f"{options.lease_seconds:g}",
            "database_patience": f"{options.database_patience:g}",
            "allow_versions": options.allow_versions,
        }
    )


def _conclude(database: Database, record: StudyRecord, artifacts: Artifacts, home: Home, console: Console) -> None:
    """Say what came out, and where to read more."""
    from study.dashboard.figures import show_in_dashboard
    from study.reporting.files import write_reports

    summary = summarize(record)
    if summary.best is not None or any(one.rows for one in summary.losses):
        console.print()
        for line in _loss_summary(summary) if summary.losses else _pair_summary(summary):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        if summary.pruning is not None:
            console.print(_pruning_text(record, summary.pruning), highlight=False, soft_wrap=True)
        notice = leakage_notice(record.leakage)
        if notice is not None:
            console.print(f"  {notice}", highlight=False, soft_wrap=True, markup=False)
        report = write_reports(database, (record.name,), home.reports, artifacts=artifacts).paths[0]
        show_in_dashboard(database, record.name)
        console.print(f"report:   {report}", highlight=False, soft_wrap=True)
        for trial, kept, what in _kept_weights(summary):
            where = artifacts.local_path(kept) or f"{artifacts.location}/{kept}"
            console.print(f"weights:  {where} (safetensors, of trial {trial}{what})", highlight=False, soft_wrap=True)
    console.print(f"database: {show_url(database.url)}", highlight=False, soft_wrap=True)
    warned = cautions(record)
    for caution in warned[:5]:
        console.print(f"warning: {caution.line}", highlight=False, markup=False, soft_wrap=True)
    if len(warned) > 5:
        console.print(f"warning: and {len(warned) - 5} more; `lmf status` shows all", highlight=False)
    failed = [point for point in record.points if point.state == "failed"]
    for point in failed[:5]:
        console.print(
            f"failed: trial {point.trial_number} ({point.key}): {point.message}", highlight=False, markup=False
        )
    if len(failed) > 5:
        console.print(f"failed: and {len(failed) - 5} more; `lmf status` shows all", highlight=False)


def _pair_summary(summary: StudySummary) -> Iterator[str]:
    """The best pair, and a line for each setting."""
    best = summary.best
    if best is None:
        return
    trial = summary.best_row.trial if summary.best_row else None
    yield (
        f"best: alpha {best.alpha:g}, beta {best.beta:g} (trial {trial}), "
        f"macro F1 {_percent(best.score('val', 'macro_f1'))} on validation, "
        f"{_percent(best.score('test', 'macro_f1'))} on test"
    )
    for setting in summary.settings:
        trained = f"{len(setting.pairs)} of {setting.planned} points"
        yield (
            f"  {SETTING_TITLES[setting.name]:<20} {trained:>15}   "
            f"validation {_percent(setting.val.mean)} ± {_percent(setting.val.average_deviation)}   "
            f"test {_percent(setting.test.mean)} ± {_percent(setting.test.average_deviation)}"
        )
    if summary.settings:
        yield "  (mean macro F1 in percent ± average deviation)"


def _loss_summary(summary: StudySummary) -> Iterator[str]:
    yield "losses:"
    yield from loss_lines(summary)


def _kept_weights(summary: StudySummary) -> Iterator[tuple[int | None, str, str]]:
    """Trial number and id of the best trial's weights, of each loss that is compared, where they are kept."""
    weights = {point.trial_number: point.weights for point in summary.study.points if point.weights}
    if not summary.losses:
        best = [(summary.best_row, "")]
    else:
        best = [(one.best_row(summary.select), f", {one.loss}") for one in summary.losses if one.rows]
    for row, what in best:
        if row is not None and row.trial in weights:
            yield row.trial, weights[row.trial], what


def _way_text(spec: StudySpec) -> str:
    """How a search finds its points, or which losses are compared; empty for a grid."""
    if spec.losses:
        named = (factors_text(spec) if loss == STUDIED_LOSS else loss for loss in spec.losses)
        return f" of {', '.join(named)}"
    if spec.search == GRID:
        return ""
    pruner = "" if spec.pruner == NO_PRUNER else f" and pruned by {spec.pruner}"
    return f" chosen by {spec.search}{pruner}"


def _pruning_text(record: StudyRecord, pruning: Pruning) -> str:
    return (
        f"  {pruning.points} of {count_text(record.total, 'trial')} pruned, {count_text(pruning.epochs, 'epoch')} "
        f"trained instead of {pruning.unpruned_epochs}"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def refuse_if_idle(end: RunEnd) -> None:
    """Turn workers that refused to work, where points remain, into one error.

    Raises:
        StudyError: points remain because workers refused.
    """
    if end.refusals and end.remaining and not end.interrupted:
        said = "; ".join(dict.fromkeys(end.refusals))
        raise StudyError(f"{count_text(end.remaining, 'point')} left, since workers refused: {said}")
