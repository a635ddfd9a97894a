"""All checks but that of the installation: those of the database where it answers, the others in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from storage.agenda import open_studies
from storage.database import Database, parse_url
from storage.errors import StorageError
from storage.preparation import SCHEMA_VERSION, read_version
from storage.queries import StudyRecord, WorkerRecord, read_study, read_workers
from study.doctor.database import (
    check_schema,
    check_sqlite_place,
    contact,
    is_missing,
    judge_contact,
    judge_refusal,
    judge_sessions,
    open_to_look,
    read_sessions,
)
from study.doctor.diagnosis import Check, Diagnosis, ok
from study.doctor.gpu import check_gpus
from study.doctor.mounts import read_mounts
from study.doctor.places import (
    check_artifacts,
    check_cache,
    check_disk,
    check_home,
    check_settings,
    judge_memory,
    read_memory,
)
from study.doctor.studies import check_data, check_study, check_weights
from study.errors import StudyError
from study.home import Home, find_home
from study.images import available_cores
from study.machine import MOST_CPU_WORKERS

GPU_SECONDS = 90.0


@dataclass(frozen=True)
class Seen:
    """What the database told.

    Attributes:
        database: the database, None where it cannot be asked.
        studies: those that are still open.
        workers: those on record.
    """

    database: Database | None = field(default=None, repr=False)
    studies: tuple[StudyRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()


def look_around(storage: str | None, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Look at everything but the installation, and tell one after another what was found.

    Args:
        storage: what `--storage` was given.
        environment: the environment variables.
    """
    refusal: StudyError | None = None
    try:
        home = find_home(storage)
    except StudyError as error:
        home, refusal = find_home("sqlite://"), error
    secrets = _secrets(home)
    yield from Check("settings", lambda: _settings(storage, environment, refusal)).run(secrets)
    seen = Seen()
    if refusal is None:
        notes: list[Seen] = []
        yield from Check("database", lambda: _look_at_database(home, notes)).run(secrets)
        seen = notes[0] if notes else seen
    try:
        for check in _checks(home, environment, seen):
            yield from check.run(secrets)
    finally:
        if seen.database is not None:
            seen.database.close()


def _checks(home: Home, environment: Mapping[str, str], seen: Seen) -> Iterator[Check]:
    database = seen.database
    if database is not None:
        path = database.path
        if path is not None:
            yield Check("sqlite", lambda: check_sqlite_place(path, read_mounts(), seen.workers))
        else:
            yield Check("connections", lambda: judge_sessions(read_sessions(database)))
        if not is_missing(database):
            yield Check("schema", lambda: check_schema(database))
    yield Check("home", lambda: check_home(home))
    yield Check("cache", lambda: check_cache(home))
    yield Check("artifacts", lambda: check_artifacts(home, read_mounts(), seen.workers), seconds=30.0)
    yield Check("data", lambda: check_data(environment))
    for record in seen.studies:
        yield Check(f"study {record.name}", lambda record=record: check_study(record, home))  # type: ignore[misc]
    yield Check("weights", lambda: check_weights(home, seen.studies, environment))
    yield Check("memory", lambda: judge_memory(read_memory()))
    yield Check("gpu", check_gpus, seconds=GPU_SECONDS)
    yield Check("disk", lambda: check_disk(home, min(available_cores(), MOST_CPU_WORKERS)))


def _look_at_database(home: Home, notes: list[Seen]) -> Iterator[Diagnosis]:
    """Ask the database, and leave what it told in `notes`."""
    database = open_to_look(home.storage_url)
    if is_missing(database):
        notes.append(Seen(database))
        yield ok("database", f"{database.path} is made by the first study")
        return
    try:
        yield from judge_contact(database, contact(database))
    except StorageError as error:
        database.close()
        yield judge_refusal(database, error)
        return
    studies: tuple[StudyRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()
    if read_version(database) == SCHEMA_VERSION:
        studies = tuple(read_study(database, study.name) for study in open_studies(database))
        workers = read_workers(database)
    notes.append(Seen(database, studies, workers))


def _settings(storage: str | None, environment: Mapping[str, str], refusal: StudyError | None) -> Iterator[Diagnosis]:
    yield from check_settings(storage, environment)
    if refusal is not None:
        raise refusal


def _secrets(home: Home) -> tuple[str, ...]:
    try:
        password = parse_url(home.storage_url).password
    except StorageError:
        return (home.storage_url,)
    return (str(password),) if password else ()
