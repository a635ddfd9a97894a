"""Whether a database is whole: the file itself, our tables among each other, the ledger with Optuna, and the files.

Everything is read in one transaction, so that what workers do meanwhile is no finding: between any two of their steps
the two halves differ in known ways, and only what no step can leave behind is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.database import Database, allow_idling, show_url
from storage.errors import StorageError
from storage.file_checks import check_files
from storage.findings import ERROR, INFO, Finding
from storage.optuna_tables import OPTUNA_ROOT, reflect_optuna_tables
from storage.point_checks import check_points
from storage.schema import Base, StudyRow

_RESTORE = "restore a backup (`lmf db backup` makes them)"


@dataclass(frozen=True)
class Checked:
    """What was checked and found.

    Attributes:
        studies: names of all studies.
        findings: what was found, errors first.
    """

    studies: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity == ERROR for finding in self.findings)


def check_database(database: Database, artifacts: str) -> Checked:
    """Check everything; nothing is changed.

    Args:
        database: the database.
        artifacts: where the files of trials are, a folder or `s3://BUCKET`.

    Raises:
        StorageError: the database or the artifact store cannot be read.
    """
    where = show_url(database.url)
    findings: list[Finding] = []
    with database.read() as connection:
        allow_idling(connection)
        damage = _find_damage(connection, where) if database.backend == "sqlite" else None
        if damage is not None:
            # What else such a file tells means nothing.
            return Checked((), (damage,))
        findings += _check_references(connection, where)
        studies = connection.execute(sa.select(StudyRow.id, StudyRow.name, StudyRow.optuna_study_id)).all()
        try:
            optuna_tables = reflect_optuna_tables(connection)
        except StorageError as error:
            findings.append(Finding(ERROR, where, str(error), _RESTORE))
        else:
            root = optuna_tables[OPTUNA_ROOT]
            optuna_names = {row.study_id: row.study_name for row in connection.execute(sa.select(root))}
            for study in studies:
                if optuna_names.get(study.optuna_study_id) != study.name:
                    what = "Optuna has no such study any more, or one of another name"
                    findings.append(Finding(ERROR, study.name, what, f"{_RESTORE}, or `lmf study delete {study.name}`"))
                else:
                    findings += check_points(connection, optuna_tables, study.id, study.optuna_study_id, study.name)
            findings += _check_strangers(where, optuna_names, {study.optuna_study_id for study in studies})
    names = tuple(study.name for study in studies)
    findings += check_files(database, artifacts)
    return Checked(names, tuple(sorted(findings, key=lambda finding: finding.severity != ERROR)))


def _find_damage(connection: Connection, where: str) -> Finding | None:
    first = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    return None if first == "ok" else Finding(ERROR, where, f"the file is damaged: {' '.join(first.split())}", _RESTORE)


def _check_references(connection: Connection, where: str) -> list[Finding]:
    """Rows that refer to a row that is not there."""
    findings = []
    for table in Base.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: str(key.parent.name)):
            parent = key.column.table.alias()
            orphans = connection.scalar(
                sa.select(sa.func.count())
                .select_from(table.outerjoin(parent, parent.c[key.column.name] == key.parent))
                .where(key.parent.is_not(None), parent.c[key.column.name].is_(None))
            )
            if orphans:
                what = f"{orphans} rows of {table.name} name a {key.column.table.name} row that is not there"
                findings.append(Finding(ERROR, where, what, _RESTORE))
    return findings


def _check_strangers(where: str, optuna_names: dict[int, str], known: set[int]) -> list[Finding]:
    return [
        Finding(
            INFO,
            where,
            f"Optuna has a study {name} that the ledger does not have",
            "planning it was cut short, and `lmf run` completes it, or it is not lmf's",
        )
        for number, name in optuna_names.items()
        if number not in known
    ]
