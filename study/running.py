"""Carrying a study out on this machine: images, plan, workers, report."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from rich.console import Console

from storage.artifacts import Artifacts
from storage.database import Database, show_url
from storage.ledger import Ledger
from storage.queries import StudyRecord, read_study
from storage.schema import OPEN_STATES
from storage.trials import TrialMirror
from storage.workers import Workers
from study.devices import default_threads, default_workers, list_devices
from study.errors import StudyError
from study.home import Home
from study.images import load_images
from study.launch.local import LocalWorkers, worker_command
from study.plan import PlannedStudy, compare_with_stored, plan_study
from study.progress import ProgressDisplay, count_text, duration_text, progress_bars
from study.reporting.leakage import has_leaks, leakage_notice, leakage_sentence
from study.reporting.statistics import summarize
from study.run_options import RunOptions
from study.spec import StudySpec
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
            planned = _plan(database, spec, options, home, console)
            refusals: tuple[str, ...] = ()
            if Ledger(database).open_points(planned.study_id) and not stop.is_set():
                _free_dead_workers(database, planned.study_id, console)
                refusals = _train(database, planned, options, home, console, stop)
            else:
                console.print(f"{planned.spec.name}: everything is trained already", highlight=False)
            record = read_study(database, planned.spec.name)
            _conclude(database, record, artifacts, home, console)
            if stop.is_set():
                left = sum(point.state in OPEN_STATES for point in record.points)
                console.print(f"stopped: {count_text(left, 'point')} left; the same command goes on", highlight=False)
        finally:
            database.close()
    states = [point.state for point in record.points]
    remaining = sum(state in OPEN_STATES for state in states)
    return RunEnd(states.count("failed"), remaining, stop.is_set(), refusals)


def _plan(database: Database, spec: StudySpec, options: RunOptions, home: Home, console: Console) -> PlannedStudy:
    stored = compare_with_stored(database, spec)
    if stored is None:
        spec = spec.with_machine_figures(threads=default_threads(_count_workers(options)))
    with progress_bars(console) as report:
        facts = load_images(spec, home, report)
    if stored is None:
        _check_model(spec, len(facts.class_names))
    mirror = TrialMirror.open(database)
    try:
        planned = plan_study(database, mirror, spec, facts, library_versions())
    finally:
        mirror.close()
    what = "planned" if planned.is_new else "extended" if planned.added else "continued"
    record = read_study(database, planned.spec.name)
    done = sum(point.state == "complete" for point in record.points)
    recipe, images_in_all = planned.spec.recipe, sum(map(sum, facts.counts.values()))
    console.print(
        f"study {planned.spec.name} {what}: {count_text(len(record.points), 'point')}, {done} trained, "
        f"{count_text(recipe.epochs, 'epoch')} each; {recipe.model} on "
        f"{images_in_all} images of {len(facts.class_names)} classes",
        highlight=False,
        soft_wrap=True,
    )
    if has_leaks(facts.leakage):
        console.print(leakage_sentence(facts.leakage), highlight=False, soft_wrap=True, markup=False)
    return planned


def _count_workers(options: RunOptions) -> int:
    return options.workers or default_workers(list_devices(options.device))


def _check_model(spec: StudySpec, num_classes: int) -> None:
    """Build the model once before anything is planned, so that unusable weights are refused at once."""
    from trainer.models import build_model

    build_model(spec.recipe, num_classes)


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
    options: RunOptions,
    home: Home,
    console: Console,
    stop: threading.Event,
) -> tuple[str, ...]:
    devices = list_devices(options.device)
    count = min(_count_workers(options), Ledger(database).open_points(planned.study_id))
    commands = [
        worker_command(planned.spec.name, _worker_flags(options, devices[number % len(devices)]))
        for number in range(count)
    ]
    threads = count_text(planned.spec.recipe.threads, "thread")
    console.print(f"{count_text(count, 'worker')} on {', '.join(devices)}, {threads} each", highlight=False)
    supervisor = LocalWorkers(database, planned.study_id, commands, home.environment(), home.root / "logs")
    with ProgressDisplay(database, planned.spec.name, console) as display:
        supervisor.run(stop, display.tick)
    return tuple(supervisor.refusals)


def _worker_flags(options: RunOptions, device: str) -> list[str]:
    flags = [f"--device={device}", f"--keep-weights={options.keep_weights}", f"--max-attempts={options.max_attempts}"]
    flags += [f"--lease-seconds={options.lease_seconds:g}"]
    return flags + (["--allow-versions"] if options.allow_versions else [])


def _conclude(database: Database, record: StudyRecord, artifacts: Artifacts, home: Home, console: Console) -> None:
    """Say what came out, and where to read more."""
    from study.reporting.files import write_reports

    summary = summarize(record)
    best = summary.best
    if best is not None:
        tested = best.score("test", "macro_f1")
        trial = summary.best_row.trial if summary.best_row else None
        console.print()
        console.print(
            f"best: alpha {best.alpha:g}, beta {best.beta:g} (trial {trial}), "
            f"macro F1 {_percent(best.score('val', 'macro_f1'))} on validation, {_percent(tested)} on test",
            highlight=False,
            soft_wrap=True,
        )
        for setting in summary.settings:
            trained = f"{len(setting.pairs)} of {setting.planned} points"
            console.print(
                f"  {SETTING_TITLES[setting.name]:<20} {trained:>15}   "
                f"validation {_percent(setting.val.mean)} ± {_percent(setting.val.average_deviation)}   "
                f"test {_percent(setting.test.mean)} ± {_percent(setting.test.average_deviation)}",
                highlight=False,
                soft_wrap=True,
            )
        console.print("  (mean macro F1 in percent ± average deviation)", highlight=False)
        notice = leakage_notice(record.leakage)
        if notice is not None:
            console.print(f"  {notice}", highlight=False, soft_wrap=True, markup=False)
        report = write_reports(database, (record.name,), home.reports)[0]
        console.print(f"report:   {report}", highlight=False, soft_wrap=True)
        kept = next((point.weights for point in record.points if point.weights and point.trial_number == trial), None)
        if kept is not None:
            where = artifacts.local_path(kept) or f"{artifacts.location}/{kept}"
            console.print(f"weights:  {where} (safetensors, of trial {trial})", highlight=False, soft_wrap=True)
    console.print(f"database: {show_url(database.url)}", highlight=False, soft_wrap=True)
    failed = [point for point in record.points if point.state == "failed"]
    for point in failed[:5]:
        console.print(
            f"failed: trial {point.trial_number} ({point.key}): {point.message}", highlight=False, markup=False
        )
    if len(failed) > 5:
        console.print(f"failed: and {len(failed) - 5} more; `lmf status` shows all", highlight=False)


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
