"""optuna-dashboard on one of our databases, whose errors come out as ours."""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import Any
from wsgiref.types import WSGIEnvironment

import sqlalchemy as sa
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage

from storage.artifacts import Artifacts
from storage.database import Database, make_engine, parse_url, translate_error
from storage.errors import StorageError
from storage.trials import open_optuna_storage
from study.dashboard.answer import Answer, call
from study.dashboard.figures import figure_place

READER_CONNECTIONS = 4
READER_WAIT_SECONDS = 30

_READ_ONLY: dict[str, dict[str, bool]] = {
    "sqlite": {"lmf_read_only": True},
    "postgresql": {"postgresql_readonly": True},
}
_STUDY = re.compile("/api/studies/[0-9]+")


class NothingThereError(Exception):
    """The study, the trial or the file that was asked for does not exist."""


class TrialEndedError(Exception):
    """The trial that was to be changed has ended."""


class _Failures(threading.local):
    """What the database refused while this thread answered a request."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def take(self) -> Exception | None:
        """What was noted, which is forgotten then."""
        error, self.error = self.error, None
        return error


_failures = _Failures()


def open_reader(url: str) -> Database:
    """Open a prepared database for reading alone: whatever asks for a change is refused by the database itself.

    Args:
        url: a SQLAlchemy URL; the database's schema has been prepared.

    Raises:
        StorageError: the URL is malformed, or its driver is missing.
    """
    parsed = parse_url(url)
    engine = make_engine(parsed, pool_size=READER_CONNECTIONS, pool_timeout=READER_WAIT_SECONDS)
    database = Database(parsed, engine)
    engine.update_execution_options(**_READ_ONLY[database.backend])
    if database.backend == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def refuse_changes(connection: Any, _: object) -> None:
            connection.execute("PRAGMA query_only = ON")

    return database


class OptunaDashboard:
    """optuna-dashboard on a database and the files of its trials.

    By itself it answers 500 to whatever goes wrong. Here, a request that fails because of the database raises
    `StorageError` instead, one for a thing that does not exist `NothingThereError`, and one to change a trial that has
    ended `TrialEndedError`.
    """

    def __init__(self, database: Database, artifacts: Artifacts) -> None:
        """Set it up on an open database.

        Args:
            database: the database; with one from `open_reader` nothing can be changed.
            artifacts: the files of its trials.

        Raises:
            StorageError: the database cannot be read, or Optuna's tables belong to another version of Optuna.
        """
        from optuna_dashboard import wsgi  # type: ignore[import-untyped]

        self._database = database
        self._artifacts = artifacts
        # Before the listener of `open_optuna_storage`, which raises and so is the last to be called.
        sa.event.listen(database.engine, "handle_error", _note_failure, insert=True)
        storage = open_optuna_storage(database)
        _note_refused_attributes(storage)
        application: Any = wsgi(storage, artifact_store=artifacts.store)
        application.catchall = False
        self._application = application
        _quieten()

    def __call__(self, environ: WSGIEnvironment) -> Answer:
        """Answer a request.

        Raises:
            StorageError: the database or the artifact store cannot be read.
            NothingThereError: what was asked for does not exist.
            TrialEndedError: attributes of a trial were to be written that has ended.
        """
        _failures.take()
        # It looks this up without asking whether it is there.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        path = environ["PATH_INFO"]
        try:
            answer = call(self._application, environ)
        except StorageError as error:
            raise error from None
        except sa.exc.SQLAlchemyError as error:
            raise translate_error(error, self._database.url) from None
        except ArtifactNotFound:
            raise NothingThereError from None
        except KeyError:
            # So it says that the study or the trial of a file is unknown.
            if not path.startswith("/artifacts/"):
                raise
            raise NothingThereError from None
        except self._artifacts.errors as error:
            raise StorageError(f"{self._artifacts.location}: cannot be read: {type(error).__name__}") from None
        failure = _failures.take()
        if failure is not None:
            answer.close()
            raise failure
        if environ["REQUEST_METHOD"] == "GET" and answer.status.startswith("200") and _STUDY.fullmatch(path):
            return _in_order(answer)
        return answer


def _in_order(answer: Answer) -> Answer:
    """A study with its figures in the report's order; by itself, optuna-dashboard keeps none."""
    study = json.loads(b"".join(answer.body))
    study.get("plotly_graph_objects", []).sort(key=lambda figure: figure_place(figure["id"]))
    body = json.dumps(study).encode()
    headers = answer.without("content-length").with_headers(("Content-Length", str(len(body)))).headers
    return Answer(answer.status, headers, [body])


def _note_failure(context: sa.engine.ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) and not context.is_pre_ping:
        assert context.engine is not None
        _failures.error = translate_error(error, context.engine.url)


def _note_refused_attributes(storage: RDBStorage) -> None:
    """Note why a trial's attribute is refused; optuna-dashboard would answer 500 to it."""
    write = storage.set_trial_user_attr

    def write_or_note(trial_id: int, key: str, value: Any) -> None:
        try:
            write(trial_id, key, value)
        except UpdateFinishedTrialError:
            _failures.error = TrialEndedError()
            raise
        except KeyError:
            _failures.error = NothingThereError()
            raise

    storage.set_trial_user_attr = write_or_note  # type: ignore[method-assign]


def _quieten() -> None:
    """Keep out of the log what optuna-dashboard says of every request that failed so, with its trace."""
    logging.getLogger("optuna_dashboard").setLevel(logging.ERROR)
    logging.getLogger("optuna_dashboard._bottle_util").addFilter(_is_no_failure)


def _is_no_failure(_: logging.LogRecord) -> bool:
    return _failures.error is None
