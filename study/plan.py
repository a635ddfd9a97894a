"""From a study's description to its planned points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storage.database import Database
from storage.errors import NoDatabaseError
from storage.planning import DatasetFacts, NewPoint, plan_points, save_study
from storage.queries import StudyRecord, find_spec, list_studies, read_study
from storage.schema import CANCELLED, PAUSED
from storage.trials import TrialMirror
from study.errors import StudyError
from study.extension import Comparison, compare
from study.home import Home
from study.images import data_differences
from study.spec import StudySpec, points
from trainer.config import AUTO


class StoredStudyError(StudyError):
    """A stored study is in the way of what is asked under its name.

    Attributes:
        problem: what is in the way, without the advice to take another name, which not every command can.
        stored: the stored description.
        differences: what makes it another study, such as `epochs: 60 stored, 30 asked`; none where it is halted.
    """

    def __init__(self, problem: str, advice: str, stored: StudySpec, differences: Sequence[str] = ()) -> None:
        super().__init__(f"{problem}{advice}")
        self.problem = problem
        self.stored = stored
        self.differences = tuple(differences)


@dataclass(frozen=True)
class PlannedStudy:
    """A study that is planned.

    Attributes:
        spec: its description as it is stored now.
        study_id: its id in the ledger.
        is_new: whether this planning made it.
        added: points that this planning added.
        additions: what of the description this planning added.
    """

    spec: StudySpec
    study_id: int
    is_new: bool
    added: int
    additions: tuple[str, ...]


def compare_with_stored(database: Database, asked: StudySpec, facts: DatasetFacts | None = None) -> Comparison | None:
    """A stored study of the asked name beside what is asked, or None where there is none.

    Args:
        database: where studies are stored.
        asked: the description that is asked for.
        facts: the data that were found, if they are to be compared as well.

    Raises:
        StudyError: the stored study is another one, with every difference named, or is paused or cancelled.
    """
    document = find_spec(database, asked.name)
    if document is None:
        return None
    stored = stored_spec(document)
    _refuse_halted(read_study(database, asked.name), stored)
    comparison = compare(stored, asked)
    refusals = list(comparison.refusals)
    if facts is not None and not refusals:
        refusals += data_differences(read_study(database, asked.name), facts)
    if refusals:
        raise StoredStudyError(
            f"study {asked.name} exists and is another one: {'; '.join(refusals)}",
            "; ask for the stored values, or choose another name with --study",
            stored,
            refusals,
        )
    return comparison


def _refuse_halted(record: StudyRecord, stored: StudySpec) -> None:
    if record.state == PAUSED:
        raise StudyError(f"study {record.name} is paused; `lmf study resume {record.name}` lets it go on")
    if record.state == CANCELLED:
        raise StoredStudyError(
            f"study {record.name} is cancelled; `lmf study retry {record.name}` plans its points again",
            ", --study names another",
            stored,
        )


def plan_study(
    database: Database, mirror: TrialMirror, asked: StudySpec, facts: DatasetFacts, versions: Mapping[str, str]
) -> PlannedStudy:
    """Store a study and plan its points, or extend the stored study of that name.

    Args:
        database: where studies are stored.
        mirror: Optuna's side of it.
        asked: the description that is asked for, with no figure left to the machine.
        facts: the data that were found.
        versions: versions of the libraries on which results depend.

    Raises:
        StudyError: there is another study of that name; every difference is named.
    """
    with database.lock("plan"):
        comparison = compare_with_stored(database, asked, facts)
        if comparison is None and asked.recipe.precision == AUTO:
            raise StudyError(f"study {asked.name} was deleted while this run prepared to continue it; start it again")
        spec = asked if comparison is None else comparison.merged
        kept = find_spec(database, asked.name) or {"versions": dict(versions)}
        document = {**spec.to_dict(), "versions": kept["versions"]}
        study_id = save_study(database, mirror, spec.name, spec.model, document, facts)
        new = [
            NewPoint(point.key, point.alpha, point.beta, point.loss, point.seed, point.settings)
            for point in points(spec)
        ]
        added = plan_points(database, mirror, study_id, new)
    return PlannedStudy(spec, study_id, comparison is None, added, comparison.additions if comparison else ())


@contextmanager
def stored_studies(home: Home) -> Iterator[Database | None]:
    """The database of a home for the length of a block, or None where there is none yet; none is made.

    Raises:
        StorageError: it cannot be opened.
    """
    try:
        database = Database.open(home.storage_url, create=False)
    except NoDatabaseError:
        yield None
        return
    try:
        yield database
    finally:
        database.close()


def stored_spec(document: Mapping[str, Any]) -> StudySpec:
    """The description within what is stored with a study.

    Raises:
        StudyError: another version stored it.
    """
    return StudySpec.from_dict({name: value for name, value in document.items() if name != "versions"})


def is_planned(database: Database, name: str) -> bool:
    """Whether a study of this name is stored."""
    return name in list_studies(database)
