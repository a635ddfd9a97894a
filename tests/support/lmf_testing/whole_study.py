"""Everything that a database holds of a study, without the numbers that differ between two databases."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from optuna.storages import BaseStorage

from storage.database import Database
from storage.queries import read_attempts, read_epochs, read_parts, read_study
from storage.trials import TrialMirror


def whole_study(database: Database, name: str) -> dict[str, Any]:
    """The study as readers see it, its trials as Optuna gives them, and the study's own attributes there."""
    record = asdict(read_study(database, name))
    keys = {point.pop("point_id"): point["key"] for point in record["points"]}
    del record["study_id"]
    epochs = [{**asdict(epoch), "point_id": keys[epoch.point_id]} for epoch in read_epochs(database, name)]
    attempts = [{**asdict(attempt), "point_id": keys[attempt.point_id]} for attempt in read_attempts(database, name)]
    mirror = TrialMirror.open(database)
    try:
        optuna_half = _optuna_half(mirror.storage, name)
    finally:
        mirror.close()
    return {
        "study": record,
        "parts": read_parts(database, name),
        "epochs": epochs,
        "attempts": attempts,
        **optuna_half,
    }


def _optuna_half(storage: BaseStorage, name: str) -> dict[str, Any]:
    study_id = storage.get_study_id_from_name(name)
    fields = ("number", "state", "values", "datetime_start", "datetime_complete", "params", "distributions")
    fields += ("user_attrs", "system_attrs", "intermediate_values")
    return {
        "trials": [{field: getattr(trial, field) for field in fields} for trial in storage.get_all_trials(study_id)],
        "directions": storage.get_study_directions(study_id),
        "user_attrs": storage.get_study_user_attrs(study_id),
        "system_attrs": storage.get_study_system_attrs(study_id),
    }
