"""`lmf study list|show|pause|resume|cancel|retry|delete`: what is stored of studies, and whether they go on."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from study.cli.common import choose_studies, open_existing, print_json, storage_option
from study.errors import StudyError


@click.group("study")
def study_command() -> None:
    """List, show, pause, resume, cancel, retry or delete studies."""


@study_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@storage_option
def list_command(as_json: bool, storage: str | None) -> None:
    """List all studies, oldest first."""
    from study.reporting.leakage import has_leaks, leakage_short
    from study.status import status_document

    _, database = open_existing(storage)
    try:
        document = {"studies": status_document(database)["studies"]}
    finally:
        database.close()
    if as_json:
        print_json(document)
        return
    for study in document["studies"]:
        leaks = f", {leakage_short(study['leakage'])}" if has_leaks(study["leakage"]) else ""
        points = f"{study['complete'] + study['pruned']}/{study['points']} points"
        state = "" if study["state"] == "open" else f", {study['state']}"
        click.echo(f"{study['study']}: {study['dataset']}, {study['model']}, {points}{state}{leaks}")


@study_command.command("show")
@click.argument("name", metavar="STUDY")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@storage_option
def show_command(name: str, as_json: bool, storage: str | None) -> None:
    """Show one study: its full description, classes, points and attempts."""
    from storage.queries import read_attempts, read_study

    _, database = open_existing(storage)
    try:
        choose_studies(database, (name,))
        record = read_study(database, name)
        attempts = read_attempts(database, name)
    finally:
        database.close()
    if as_json:
        print_json({**asdict(record), "attempts": [asdict(attempt) for attempt in attempts]})
        return
    import yaml

    from study.progress import count_text
    from study.reporting.leakage import leakage_sentence

    counts = {
        class_name: {part: record.counts[part][index] for part in ("train", "val", "test")}
        for index, class_name in enumerate(record.class_names)
    }
    head = {
        "study": record.name,
        "dataset": record.dataset,
        "model": record.model,
        "state": record.state,
        "fingerprint": record.fingerprint,
        "split fingerprint": record.split_fingerprint,
        "images": counts,
        "leaks": leakage_sentence(record.leakage),
        "description": record.spec,
    }
    click.echo(yaml.safe_dump(head, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True), nl=False)
    still = f" {record.unchosen} still to be chosen" if record.unchosen else ""
    click.echo(f"points:{still}")
    for point in record.points:
        score = "" if point.scores is None else f", validation macro F1 {100 * point.scores['val']['macro_f1']:.2f} %"
        why = "" if point.message is None else f", {point.message}"
        click.echo(
            f"  trial {point.trial_number} ({point.key}): {point.state}, {count_text(point.attempts, 'attempt')} "
            f"({point.lost_attempts} lost), epoch {point.last_epoch}{score}{why}"
        )


@study_command.command("pause")
@click.argument("names", metavar="STUDY...", nargs=-1, required=True)
@storage_option
def pause_command(names: tuple[str, ...], storage: str | None) -> None:
    """Let no point of studies be taken until they are resumed; workers write checkpoints and give their points back."""
    from study.halting import pause
    from study.progress import count_text, duration_text

    _, database = open_existing(storage)
    try:
        for name in choose_studies(database, names):
            holders = pause(database, name)
            within = duration_text(max((seconds for _, seconds in holders), default=0.0))
            at_work = f"; {count_text(len(holders), 'worker')} at it will stop within {within}" if holders else ""
            click.echo(f"{name}: paused{at_work}")
    finally:
        database.close()


@study_command.command("resume")
@click.argument("names", metavar="STUDY...", nargs=-1, required=True)
@storage_option
def resume_command(names: tuple[str, ...], storage: str | None) -> None:
    """Let paused studies go on: workers that wait take their points, and trainings go on from their checkpoints."""
    from study.halting import resume

    _, database = open_existing(storage)
    try:
        for name in choose_studies(database, names):
            click.echo(f"{name}: resumed" if resume(database, name) else f"{name}: it was not paused")
    finally:
        database.close()


@study_command.command("cancel")
@click.argument("names", metavar="STUDY...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
def cancel_command(names: tuple[str, ...], yes: bool, storage: str | None) -> int:
    """End studies: stop their trainings and close what is not trained as failed; what is trained is kept."""
    from study.halting import cancel
    from study.progress import count_text, duration_text

    def say_who(holders: list[tuple[str, float]]) -> None:
        workers = ", ".join(worker for worker, _ in holders)
        within = duration_text(max(seconds for _, seconds in holders))
        click.echo(f"waiting for {workers}, which will stop within {within}", err=True)

    home, database = open_existing(storage)
    left = 0
    try:
        names = choose_studies(database, names)
        if not yes:
            if not sys.stdin.isatty():
                raise StudyError(f"{', '.join(names)}: give --yes to confirm that the rest shall not be trained")
            click.confirm(f"Train nothing more of {', '.join(names)}?", abort=True)
        for name in names:
            closed, held = cancel(database, home, name, say_who)
            left += held
            still = f"; workers still hold {held}, and close them when they can reach the database" if held else ""
            click.echo(f"{name}: cancelled, {count_text(closed, 'point')} closed without being trained{still}")
    finally:
        database.close()
    return 1 if left else 0


@study_command.command("retry")
@click.argument("name", metavar="STUDY")
@storage_option
def retry_command(name: str, storage: str | None) -> None:
    """Plan the failed points of a study again, each with a new trial; the failed trials stay in Optuna.

    A cancelled study is open again afterwards.
    """
    from storage.planning import retry_failed
    from storage.queries import read_study
    from storage.trials import TrialMirror
    from study.progress import count_text

    _, database = open_existing(storage)
    try:
        choose_studies(database, (name,))
        mirror = TrialMirror.open(database)
        try:
            with database.lock("plan"):
                count = retry_failed(database, mirror, read_study(database, name).study_id)
        finally:
            mirror.close()
    finally:
        database.close()
    click.echo(
        f"{name}: {count_text(count, 'failed point')} to be trained again" if count else f"{name}: no point failed"
    )


@study_command.command("delete")
@click.argument("name", metavar="STUDY")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
def delete_command(name: str, yes: bool, storage: str | None) -> None:
    """Delete a study: its points, its trials in Optuna, and the files of its trials."""
    from storage.artifacts import Artifacts
    from storage.planning import delete_study
    from storage.queries import read_artifact_ids, read_study
    from storage.trials import TrialMirror
    from storage.workers import Workers

    home, database = open_existing(storage)
    try:
        choose_studies(database, (name,))
        if not yes:
            if not sys.stdin.isatty():
                raise StudyError(f"{name}: deleting cannot be undone; give --yes to confirm")
            click.confirm(f"Delete study {name} with all its trials and files?", abort=True)
        artifacts = Artifacts.open(home.artifacts)
        mirror = TrialMirror.open(database)
        try:
            with database.lock("plan"):
                holders = Workers(database).holders(read_study(database, name).study_id)
                if holders:
                    names = ", ".join(worker for worker, _ in holders)
                    raise StudyError(f"{name}: workers hold points of it: {names}; stop them first")
                files = read_artifact_ids(database, name)
                for artifact_id in files:
                    artifacts.remove(artifact_id)
                delete_study(database, mirror, name)
        finally:
            mirror.close()
    finally:
        database.close()
    click.echo(f"{name}: deleted, with {len(files)} files of its trials")
