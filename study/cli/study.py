"""`lmf study list|show|retry|delete`: what is stored of studies."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from study.cli.common import choose_studies, open_existing, print_json, storage_option
from study.errors import StudyError


@click.group("study")
def study_command() -> None:
    """List, show, retry or delete studies."""


@study_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@storage_option
def list_command(as_json: bool, storage: str | None) -> None:
    """List all studies, oldest first."""
    from study.cli.status import status_document
    from study.reporting.leakage import has_leaks, leakage_short

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
        click.echo(f"{study['study']}: {study['dataset']}, {study['model']}, {points}{leaks}")


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


@study_command.command("retry")
@click.argument("name", metavar="STUDY")
@storage_option
def retry_command(name: str, storage: str | None) -> None:
    """Plan the failed points of a study again, each with a new trial; the failed trials stay in Optuna."""
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
