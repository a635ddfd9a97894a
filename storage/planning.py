"""Planning: a study and its points, each point once, each with its WAITING trial in Optuna.

A planner that was cut short anywhere, or that never learnt that its last write arrived, is run again: points are
unique by key, and a trial carries its point's key, so what is there is found and only what is missing is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.database import Database, now_seconds
from storage.errors import StorageError
from storage.schema import CANCELLED, FAILED, OPEN, WAITING, AttemptRow, DatasetRow, EpochRow, PointRow, StudyRow
from storage.search_plan import SearchPlan
from storage.trials import TrialMirror

_POINTS_PER_TRANSACTION = 500


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset as it was split.

    Attributes:
        title: its short name.
        fingerprint: over names, bytes and labels of all images (hex).
        split_fingerprint: over the split (hex).
        class_names: in class-index order.
        counts: images per class for `train`, `val` and `test`.
        parts: one letter an image in the order of image names: `r` training, `v` validation, `t` test; empty where
            it is not told.
        leakage: one entry for each known kind of group, the most important first: `group` names the kind, `groups`
            counts its groups, `leaking_groups` those with images in training and in test, `leaking_val_groups` those
            in training and in validation, `test_images` the test images, `leaking_test_images` those of them whose
            group is in training too. Empty where nothing is known of groups.
    """

    title: str
    fingerprint: str
    split_fingerprint: str
    class_names: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    parts: str = ""
    leakage: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class NewPoint:
    """A point to plan.

    Attributes:
        key: what makes it this point within its study.
        alpha: weight of the LDAM half, or None for a loss without it.
        beta: weight of the focal half, or None for a loss without it.
        loss: name of the loss.
        seed: seed of the training.
        settings: the paper's settings that the point belongs to.
    """

    key: str
    alpha: float | None
    beta: float | None
    loss: str
    seed: int
    settings: tuple[str, ...]


def save_study(
    database: Database,
    mirror: TrialMirror,
    name: str,
    model: str,
    spec: Mapping[str, Any],
    facts: DatasetFacts,
) -> int:
    """Make a study, or give an existing one its extended description.

    The caller holds `database.lock("plan")` and has checked that the description may replace the stored one.

    Returns:
        The study's id in the ledger.

    Raises:
        StorageError: Optuna has a study of this name that lmf did not make, or has lost the one that lmf made.
    """
    with database.read() as connection:
        known = connection.execute(
            sa.select(StudyRow.id, StudyRow.optuna_study_id, StudyRow.dataset_id).where(StudyRow.name == name)
        ).first()
    if known is None:
        optuna_study_id = mirror.ensure_study(name)
        mirror.trials_by_point(optuna_study_id)
    else:
        optuna_study_id = known.optuna_study_id
    mirror.describe_study(
        optuna_study_id,
        {
            "lmf:dataset": facts.title,
            "lmf:model": model,
            "lmf:classes": list(facts.class_names),
            **({"lmf:leakage": leakage_text(facts.leakage)} if facts.leakage or known is None else {}),
            **_search_text(spec),
        },
    )
    with database.begin() as connection:
        if known is not None:
            connection.execute(sa.update(StudyRow).where(StudyRow.id == known.id).values(spec=dict(spec)))
            _complete_dataset(connection, known.dataset_id, facts)
            return int(known.id)
        row = sa.insert(StudyRow).values(
            name=name,
            model=model,
            dataset_id=_dataset_id(connection, facts),
            optuna_study_id=optuna_study_id,
            spec=dict(spec),
            created_at=now_seconds(),
        )
        return int(connection.execute(row.returning(StudyRow.id)).scalar_one())


def plan_points(database: Database, mirror: TrialMirror, study_id: int, points: Sequence[NewPoint]) -> int:
    """Plan the points that the study does not have yet.

    The caller holds `database.lock("plan")`.

    Returns:
        How many points were added.
    """
    with database.read() as connection:
        mine = PointRow.study_id == study_id
        known = set(connection.scalars(sa.select(PointRow.key).where(mine)))
        position = int(
            connection.scalar(sa.select(sa.func.coalesce(sa.func.max(PointRow.position), 0)).where(mine)) or 0
        )
    rows = [
        {
            "study_id": study_id,
            "key": point.key,
            "position": position + number,
            "alpha": point.alpha,
            "beta": point.beta,
            "loss": point.loss,
            "seed": point.seed,
            "settings": list(point.settings),
        }
        for number, point in enumerate((point for point in points if point.key not in known), start=1)
    ]
    for start in range(0, len(rows), _POINTS_PER_TRANSACTION):
        with database.begin() as connection:
            connection.execute(sa.insert(PointRow), rows[start : start + _POINTS_PER_TRANSACTION])
    _update_settings(database, study_id, [point for point in points if point.key in known])
    give_trials(database, mirror, study_id)
    return len(rows)


def give_trials(database: Database, mirror: TrialMirror, study_id: int) -> None:
    """Give every point that has no trial yet the trial that carries its key, adding it where it is missing."""
    with database.read() as connection:
        optuna_study_id = connection.scalar(sa.select(StudyRow.optuna_study_id).where(StudyRow.id == study_id))
        without = connection.execute(
            sa.select(PointRow.__table__)
            .where(PointRow.study_id == study_id, PointRow.trial_id.is_(None))
            .order_by(PointRow.position)
        ).all()
    if not without or optuna_study_id is None:
        return
    keys = {point.id: trial_key(point.key, point.generation) for point in without}
    trials = mirror.trials_by_point(optuna_study_id)
    missing = [point for point in without if keys[point.id] not in trials]
    for point in missing:
        database.check_locks()
        mirror.add_waiting(
            optuna_study_id,
            keys[point.id],
            point.alpha,
            point.beta,
            {"loss": point.loss, "seed": point.seed, "settings": point.settings},
        )
    if missing:
        trials = mirror.trials_by_point(optuna_study_id)
    given = [{"point": point_id, "new_id": trials[key][0], "number": trials[key][1]} for point_id, key in keys.items()]
    give = (
        sa.update(PointRow)
        .where(PointRow.id == sa.bindparam("point"))
        .values(trial_id=sa.bindparam("new_id"), trial_number=sa.bindparam("number"))
    )
    for start in range(0, len(given), _POINTS_PER_TRANSACTION):
        with database.begin() as connection:
            connection.execute(give, given[start : start + _POINTS_PER_TRANSACTION])


def retry_failed(database: Database, mirror: TrialMirror, study_id: int) -> int:
    """Plan every failed point again with a trial that supersedes the failed one, which stays in Optuna.

    A cancelled study is open again.

    The caller holds `database.lock("plan")`.

    Returns:
        How many points wait again.
    """
    with database.begin() as connection:
        cancelled = sa.and_(StudyRow.id == study_id, StudyRow.state == CANCELLED)
        connection.execute(sa.update(StudyRow).where(cancelled).values(state=OPEN))
        failed = connection.scalars(
            sa.select(PointRow.id).where(PointRow.study_id == study_id, PointRow.state == FAILED).with_for_update()
        ).all()
        if failed:
            connection.execute(sa.delete(EpochRow).where(EpochRow.point_id.in_(failed)))
            connection.execute(
                sa.update(PointRow)
                .where(PointRow.id.in_(failed))
                .values(
                    state=WAITING,
                    outcome=None,
                    generation=PointRow.generation + 1,
                    trial_id=None,
                    trial_number=None,
                    last_epoch=0,
                    failures=0,
                    fruitless_losses=0,
                    message=None,
                    warnings=None,
                    finished_at=None,
                )
            )
    give_trials(database, mirror, study_id)
    return len(failed)


def delete_study(database: Database, mirror: TrialMirror, name: str) -> None:
    """Delete a study from Optuna and from the ledger; files are the caller's business.

    Raises:
        StorageError: workers hold points of it, or there is no such study.
    """
    with database.read() as connection:
        study_id = connection.scalar(sa.select(StudyRow.id).where(StudyRow.name == name))
        held = connection.scalar(
            sa.select(sa.func.count())
            .select_from(PointRow)
            .where(PointRow.study_id == study_id, PointRow.lease_expires > now_seconds())
        )
    if study_id is None:
        raise StorageError(f"no study named {name}")
    if held:
        raise StorageError(
            f"{name}: workers hold {held} of its points; stop them first, or wait until their leases end"
        )
    mirror.delete_study(name)
    points = sa.select(PointRow.id).where(PointRow.study_id == study_id).scalar_subquery()
    with database.begin() as connection:
        # Points are locked first, as by every write of the ledger, so that the two never wait for each other.
        connection.execute(sa.select(PointRow.id).where(PointRow.study_id == study_id).with_for_update())
        connection.execute(sa.delete(EpochRow).where(EpochRow.point_id.in_(points)))
        connection.execute(sa.delete(AttemptRow).where(AttemptRow.point_id.in_(points)))
        connection.execute(sa.delete(PointRow).where(PointRow.study_id == study_id))
        connection.execute(sa.delete(StudyRow).where(StudyRow.id == study_id))
        connection.execute(sa.delete(DatasetRow).where(DatasetRow.id.not_in(sa.select(StudyRow.dataset_id))))


def leakage_text(leakage: Sequence[Mapping[str, Any]]) -> str:
    """What the parts of a split share, in the few words that optuna-dashboard shows with a study."""
    if not leakage:
        return "nothing is known of lesions or patients"
    return "; ".join(
        f"{entry['group']}: {entry['leaking_groups']} of {entry['groups']} in training and in test "
        f"({entry['leaking_test_images']} of {entry['test_images']} test images), "
        f"{entry['leaking_val_groups']} in training and in validation"
        for entry in leakage
    )


def _search_text(spec: Mapping[str, Any]) -> dict[str, str]:
    """How the study searches, for optuna-dashboard; empty where its points are a grid."""
    plan = SearchPlan.of(spec)
    return {} if plan is None else {"lmf:search": f"{plan.kind}, {plan.trials} trials", "lmf:pruner": plan.pruner}


def trial_key(key: str, generation: int) -> str:
    """What a trial carries to name its point: the point's key, and which retry it is."""
    return key if generation == 1 else f"{key} retry={generation - 1}"


def _update_settings(database: Database, study_id: int, points: Sequence[NewPoint]) -> None:
    if not points:
        return
    with database.begin() as connection:
        rows = connection.execute(sa.select(PointRow.key, PointRow.settings).where(PointRow.study_id == study_id))
        stored = {row.key: row.settings for row in rows}
        for point in points:
            union = [*stored[point.key], *(name for name in point.settings if name not in stored[point.key])]
            if union != stored[point.key]:
                connection.execute(
                    sa.update(PointRow)
                    .where(PointRow.study_id == study_id, PointRow.key == point.key)
                    .values(settings=union)
                )


def _dataset_id(connection: Connection, facts: DatasetFacts) -> int:
    known = connection.scalar(
        sa.select(DatasetRow.id).where(
            DatasetRow.fingerprint == facts.fingerprint,
            DatasetRow.split_fingerprint == facts.split_fingerprint,
        )
    )
    if known is not None:
        _complete_dataset(connection, int(known), facts)
        return int(known)
    row = sa.insert(DatasetRow).values(
        title=facts.title,
        fingerprint=facts.fingerprint,
        split_fingerprint=facts.split_fingerprint,
        class_names=list(facts.class_names),
        counts={split: [int(count) for count in counts] for split, counts in facts.counts.items()},
        parts=facts.parts or None,
        leakage=[dict(entry) for entry in facts.leakage],
    )
    return int(connection.execute(row.returning(DatasetRow.id)).scalar_one())


def _complete_dataset(connection: Connection, dataset_id: int, facts: DatasetFacts) -> None:
    """Write what a stored dataset lacks; of what its parts share, the newest counts."""
    stored = connection.execute(
        sa.select(DatasetRow.parts, DatasetRow.leakage).where(DatasetRow.id == dataset_id)
    ).one()
    values: dict[str, Any] = {}
    if facts.parts and not stored.parts:
        values["parts"] = facts.parts
    leakage = [dict(entry) for entry in facts.leakage]
    if leakage and leakage != stored.leakage:
        values["leakage"] = leakage
    if values:
        connection.execute(sa.update(DatasetRow).where(DatasetRow.id == dataset_id).values(values))
