"""The Optuna side: one trial per point in Optuna's own tables, kept as a mirror of the ledger.

Every call here may be made again after a crash: it does what is still missing and nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.artifacts import ArtifactMeta
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.orm import scoped_session, sessionmaker

from storage.database import (
    BUSY_SECONDS,
    POSTGRESQL_ARGUMENTS,
    Database,
    show_url,
    translate_error,
)
from storage.errors import StorageError

POINT_KEY = "lmf:point"
PARAMETER_RANGE = (0.5, 2.0)
ARTIFACT_PREFIX = "artifacts:"


def open_optuna_storage(database: Database) -> RDBStorage:
    """Optuna's storage in an open database; it uses the connections of `database.engine`.

    Raises:
        StorageError: Optuna's tables belong to another version of Optuna.
    """
    # Optuna looks at its tables by an engine of its own, which is lent our connection, so that there is one.
    with optuna_errors(database), database.engine.connect() as connection:
        driver_connection = connection.connection.dbapi_connection
        try:
            storage = _make_storage(
                database, skip_table_creation=True, poolclass=sa.StaticPool, creator=lambda: driver_connection
            )
            found, expected = storage.get_current_version(), storage.get_head_version()
        except BaseException:
            # The pool cannot see that a connection broke which it had lent.
            connection.invalidate()
            raise
    if found != expected:
        raise StorageError(
            f"{show_url(database.url)}: Optuna's tables are of schema {found}, this Optuna {optuna.__version__} has "
            f"{expected}; install the matching Optuna, or run `lmf db upgrade`"
        )
    # What looks at the versions, as optuna-dashboard does again and again, must let go of the lent connection too.
    for part in (storage, storage._version_manager):
        part.engine = database.engine
        part.scoped_session = scoped_session(sessionmaker(bind=database.engine))
    _translate_at_once(database)
    return storage


def create_optuna_tables(database: Database) -> None:
    """Make Optuna's tables where they are missing; the caller holds the schema lock."""
    with optuna_errors(database):
        arguments = {"timeout": BUSY_SECONDS} if database.backend == "sqlite" else dict(POSTGRESQL_ARGUMENTS)
        _make_storage(database, skip_table_creation=False, poolclass=sa.NullPool, connect_args=arguments)


def _make_storage(database: Database, *, skip_table_creation: bool, **options: Any) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Rendered, a URL has no braces, which Optuna would take for its `{SCHEMA_VERSION}`.
    url = database.url.render_as_string(hide_password=False)
    return RDBStorage(
        url, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=skip_table_creation
    )


@dataclass(frozen=True)
class TrialMirror:
    """Writes Optuna's trials after the ledger.

    Attributes:
        database: where both halves live.
        storage: Optuna's storage on the same URL.
    """

    database: Database
    storage: RDBStorage = field(repr=False)

    @classmethod
    def open(cls, database: Database) -> TrialMirror:
        """Open Optuna's side of a database.

        Raises:
            StorageError: Optuna's tables belong to another version of Optuna.
        """
        return cls(database, open_optuna_storage(database))

    def ensure_study(self, name: str) -> int:
        """Optuna's number of the study of this name, which is made where it is missing (maximised).

        Raises:
            StorageError: there is a study of this name that does not maximise one value.
        """
        wanted = [StudyDirection.MAXIMIZE]
        with optuna_errors(self.database):
            try:
                return self.storage.create_new_study(wanted, name)
            except DuplicatedStudyError:
                optuna_study_id = self.storage.get_study_id_from_name(name)
                if self.storage.get_study_directions(optuna_study_id) != wanted:
                    raise StorageError(
                        f"Optuna has a study {name} that is not lmf's; choose another name with --study"
                    ) from None
                return optuna_study_id

    def describe_study(self, optuna_study_id: int, attributes: Mapping[str, Any]) -> None:
        """Set the study's user attributes, which optuna-dashboard shows."""
        with optuna_errors(self.database):
            for key, value in attributes.items():
                self.storage.set_study_user_attr(optuna_study_id, key, value)

    def delete_study(self, name: str) -> None:
        """Delete Optuna's study of this name, where there is one."""
        with optuna_errors(self.database):
            try:
                self.storage.delete_study(self.storage.get_study_id_from_name(name))
            except KeyError:
                return

    def trials_by_point(self, optuna_study_id: int) -> dict[str, tuple[int, int]]:
        """Point key to (trial id, trial number) of every trial there is.

        Raises:
            StorageError: the study holds a trial that was not planned by lmf.
        """
        with optuna_errors(self.database):
            trials = self.storage.get_all_trials(optuna_study_id, deepcopy=False)
        found = {}
        for trial in trials:
            key = trial.user_attrs.get(POINT_KEY)
            if key is None:
                raise StorageError(
                    f"Optuna's study holds trial {trial.number}, which is not lmf's; choose another name with --study"
                )
            found[str(key)] = (trial._trial_id, trial.number)
        return found

    def add_waiting(
        self,
        optuna_study_id: int,
        key: str,
        alpha: float | None,
        beta: float | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Add the WAITING trial of a point, which carries the point's key."""
        given = {name: value for name, value in (("alpha", alpha), ("beta", beta)) if value is not None}
        distributions: dict[str, BaseDistribution] = {name: FloatDistribution(*PARAMETER_RANGE) for name in given}
        template = create_trial(
            state=TrialState.WAITING,
            params=given,
            distributions=distributions,
            user_attrs={POINT_KEY: key, **attributes},
        )
        with optuna_errors(self.database):
            self.storage.create_new_trial(optuna_study_id, template)

    def start(self, trial_id: int) -> None:
        """Move a WAITING trial to RUNNING; a trial that is further along stays as it is."""
        if self._trial(trial_id).state == TrialState.WAITING:
            with optuna_errors(self.database):
                self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)

    def report(self, trial_id: int, values: Mapping[int, float]) -> None:
        """Report intermediate values by epoch; epochs that Optuna has, and a finished trial, are left as they are."""
        trial = self._trial(trial_id)
        if trial.state.is_finished():
            return
        with optuna_errors(self.database):
            for epoch, value in values.items():
                if epoch not in trial.intermediate_values:
                    self.storage.set_trial_intermediate_value(trial_id, epoch, value)

    def describe(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Set user attributes of a trial that is not finished; a finished one keeps what it has."""
        if not self._trial(trial_id).state.is_finished():
            with optuna_errors(self.database):
                for key, value in attributes.items():
                    self.storage.set_trial_user_attr(trial_id, key, value)

    def attach(self, trial_id: int, files: list[dict[str, Any]]) -> None:
        """Attach stored files to a trial that is not finished, as Optuna's artifacts.

        Args:
            trial_id: the trial.
            files: each with `artifact_id`, `filename`, `mimetype` and `encoding`, already in the artifact store.
        """
        if self._trial(trial_id).state.is_finished():
            return
        with optuna_errors(self.database):
            for entry in files:
                meta = ArtifactMeta(**entry)
                self.storage.set_trial_system_attr(trial_id, ARTIFACT_PREFIX + meta.artifact_id, json.dumps(entry))

    def tell(self, trial_id: int, state: TrialState, value: float | None = None) -> None:
        """Finish a trial: COMPLETE with its value, or FAIL; a finished trial stays as it is."""
        found = self._trial(trial_id).state
        if found.is_finished():
            return
        with optuna_errors(self.database):
            if found == TrialState.WAITING:
                self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
            self.storage.set_trial_state_values(trial_id, state, None if value is None else [value])

    def _trial(self, trial_id: int) -> FrozenTrial:
        with optuna_errors(self.database):
            return self.storage.get_trial(trial_id)

    def close(self) -> None:
        """End Optuna's session; the connections are the database's."""
        self.storage.remove_session()


@contextmanager
def optuna_errors(database: Database) -> Iterator[None]:
    """Turn what Optuna raises into our errors; that a trial is finished already is none.

    Args:
        database: the database that messages name.
    """
    try:
        yield
    except UpdateFinishedTrialError:
        # Another worker finished the trial since it was read, and a finished trial stays as it is.
        return
    except KeyError:
        raise StorageError(
            f"{show_url(database.url)}: Optuna's half of this study is gone: somebody deleted the study in Optuna; "
            "`lmf study delete` removes the rest"
        ) from None
    except StorageError as error:
        raise error from None
    except StorageInternalError as error:
        raise translate_error(error.__cause__ or error, database.url) from None
    except sa.exc.SQLAlchemyError as error:
        raise translate_error(error, database.url) from None


def _translate_at_once(database: Database) -> None:
    """Keep Optuna from seeing that a statement failed: it would add a trial again, though the first may be there."""
    if sa.event.contains(database.engine, "handle_error", _raise_translated):
        return
    sa.event.listen(database.engine, "handle_error", _raise_translated)


def _raise_translated(context: sa.engine.ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) and not context.is_pre_ping:
        assert context.engine is not None
        raise translate_error(error, context.engine.url)
