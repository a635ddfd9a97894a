"""Whether the points of a study agree with Optuna's trials, and with their own attempts and epochs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.database import now_seconds
from storage.findings import ERROR, INFO, Finding
from storage.planning import trial_key
from storage.schema import COMPLETE, FAILED, OPEN_STATES, PRUNED, RUNNING, AttemptRow, EpochRow, PointRow, WorkerRow
from storage.trials import POINT_KEY

_LEDGER_COUNTS = "reports go by the ledger, only Optuna and its dashboard show it wrongly; a backup has what was before"
_LEDGER_BROKEN = "the ledger was changed by hand; restore a backup, or plan the study again under another name"
_FINAL = {COMPLETE: "COMPLETE", FAILED: "FAIL", PRUNED: "PRUNED"}
_UNDER_WAY = {"WAITING", "RUNNING"}


@dataclass(frozen=True)
class _Trial:
    trial_id: int
    number: int
    state: str
    key: str | None
    value: float | None


def check_points(
    connection: Connection, optuna_tables: Mapping[str, sa.Table], study_id: int, optuna_study_id: int, name: str
) -> list[Finding]:
    """Check one study.

    Args:
        connection: a transaction that shows both halves at one moment.
        optuna_tables: Optuna's tables by name.
        study_id: the study in the ledger.
        optuna_study_id: the study in Optuna.
        name: the study.
    """
    points = connection.execute(
        sa.select(
            PointRow.__table__,
            (now_seconds() - PointRow.lease_expires).label("overdue"),
            WorkerRow.name.label("worker"),
        )
        .outerjoin(WorkerRow, WorkerRow.id == PointRow.worker_id)
        .where(PointRow.study_id == study_id)
        .order_by(PointRow.position)
    ).all()
    trials = _read_trials(connection, optuna_tables, optuna_study_id)
    by_id = {trial.trial_id: trial for trial in trials}
    open_attempts, last_epochs = _read_attempts(connection, study_id), _read_last_epochs(connection, study_id)
    findings = list(_check_trials(name, points, trials))
    for point in points:
        where = f"{name} {point.key}"
        findings += _check_trial(where, point, by_id)
        findings += _check_lease(where, point, open_attempts[point.id])
        if point.last_epoch != last_epochs.get(point.id, 0):
            what = f"says that epoch {point.last_epoch} was the last, but epoch {last_epochs.get(point.id, 0)} is"
            findings.append(Finding(ERROR, where, what, _LEDGER_BROKEN))
        if point.outcome == COMPLETE and (point.value is None or point.scores is None):
            findings.append(Finding(ERROR, where, "is complete without scores", _LEDGER_BROKEN))
    return findings


def _check_trials(name: str, points: Sequence[sa.Row[Any]], trials: Sequence[_Trial]) -> Iterator[Finding]:
    """Trials that belong to no point, and points with several."""
    expected = {trial_key(point.key, n) for point in points for n in range(1, point.generation + 1)}
    numbers: dict[str, list[int]] = defaultdict(list)
    for trial in trials:
        if trial.key in expected:
            numbers[str(trial.key)].append(trial.number)
        else:
            what = f"Optuna's trial {trial.number} belongs to no point"
            advice = "somebody added it with Optuna; restore a backup, or plan the study again under another name"
            yield Finding(ERROR, name, what, advice)
    for key, several in numbers.items():
        if len(several) > 1:
            what = f"Optuna has {len(several)} trials of it: {', '.join(map(str, several))}"
            yield Finding(ERROR, f"{name} {key}", what, _LEDGER_COUNTS)


def _check_trial(where: str, point: sa.Row[Any], trials: Mapping[int, _Trial]) -> Iterator[Finding]:
    """A point's own trial."""
    if point.trial_id is None:
        if point.state in OPEN_STATES:
            advice = "`lmf run` of the study, or a worker of a search, adds it"
            yield Finding(INFO, where, "has no trial yet: planning was cut short", advice)
        else:
            yield Finding(ERROR, where, f"is {point.state} without a trial", _LEDGER_BROKEN)
        return
    trial = trials.get(point.trial_id)
    if trial is None or trial.key != trial_key(point.key, point.generation) or trial.number != point.trial_number:
        what = f"its trial {point.trial_number} is not among Optuna's, or is another point's"
        yield Finding(ERROR, where, what, "restore a backup, or delete the study with `lmf study delete`")
        return
    allowed = {_FINAL.get(point.outcome or point.state)} | (_UNDER_WAY if point.state in OPEN_STATES else set())
    if trial.state not in allowed:
        what = f"is {point.state}, but Optuna's trial {trial.number} is {trial.state}"
        yield Finding(ERROR, where, what, _LEDGER_COUNTS)
    elif trial.state == "COMPLETE" and trial.value != point.value:
        what = f"scored {point.value}, but Optuna's trial {trial.number} has {trial.value}"
        yield Finding(ERROR, where, what, _LEDGER_COUNTS)


def _check_lease(where: str, point: sa.Row[Any], open_tokens: Sequence[str]) -> Iterator[Finding]:
    """Who holds a point, and that just this attempt is open."""
    if (point.lease_token is not None) != (point.state == RUNNING):
        held = "is held by nobody" if point.lease_token is None else "is held"
        yield Finding(ERROR, where, f"is {point.state}, but {held}", _LEDGER_BROKEN)
    elif sorted(open_tokens) != ([] if point.lease_token is None else [point.lease_token]):
        what = f"has {len(open_tokens)} open attempts, which are not that of its holder"
        yield Finding(ERROR, where, what, _LEDGER_BROKEN)
    elif point.lease_token is not None and point.overdue > 0:
        what = f"the lease of {point.worker} has run out"
        yield Finding(INFO, where, what, "the next worker takes the point over; start one with `lmf worker`")


def _read_trials(connection: Connection, tables: Mapping[str, sa.Table], optuna_study_id: int) -> tuple[_Trial, ...]:
    trials, attributes, values = tables["trials"], tables["trial_user_attributes"], tables["trial_values"]
    rows = connection.execute(
        sa.select(trials.c.trial_id, trials.c.number, trials.c.state, attributes.c.value_json, values.c.value)
        .outerjoin(attributes, sa.and_(attributes.c.trial_id == trials.c.trial_id, attributes.c.key == POINT_KEY))
        .outerjoin(values, sa.and_(values.c.trial_id == trials.c.trial_id, values.c.objective == 0))
        .where(trials.c.study_id == optuna_study_id)
        .order_by(trials.c.trial_id)
    )
    return tuple(
        _Trial(
            row.trial_id,
            row.number,
            row.state,
            None if row.value_json is None else json.loads(row.value_json),
            row.value,
        )
        for row in rows
    )


def _read_attempts(connection: Connection, study_id: int) -> defaultdict[int, list[str]]:
    """Tokens of the attempts that have not ended, by point."""
    rows = connection.execute(
        sa.select(AttemptRow.point_id, AttemptRow.token)
        .join(PointRow, PointRow.id == AttemptRow.point_id)
        .where(PointRow.study_id == study_id, AttemptRow.end.is_(None))
    )
    tokens: defaultdict[int, list[str]] = defaultdict(list)
    for row in rows:
        tokens[row.point_id].append(row.token)
    return tokens


def _read_last_epochs(connection: Connection, study_id: int) -> dict[int, int]:
    rows = connection.execute(
        sa.select(EpochRow.point_id, sa.func.max(EpochRow.epoch))
        .join(PointRow, PointRow.id == EpochRow.point_id)
        .where(PointRow.study_id == study_id)
        .group_by(EpochRow.point_id)
    )
    return {point_id: int(epoch) for point_id, epoch in rows}
