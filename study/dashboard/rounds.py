"""Keeping the figures inside the dashboard up to date while studies run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from storage.errors import StorageError, StorageUnavailableError
from storage.queries import StudyRecord, list_studies, read_epochs, read_study
from study.dashboard.figures import publish_record

if TYPE_CHECKING:
    from storage.database import Database

ROUND_SECONDS = 60.0
LARGEST_SHARE = 0.05
"""Of the time at most this much is spent on one study's figures, so that a large one is drawn less often."""

_LOCK_SECONDS = 5.0

_logger = logging.getLogger(__name__)


class FigureRounds:
    """Draws the figures of studies whose points have changed, round after round."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        """Set it up.

        Args:
            database: holds the studies.
            clock: seconds that only rise.
        """
        self._database = database
        self._clock = clock
        self._seen: dict[int, tuple[object, ...]] = {}
        self._not_before: dict[int, float] = {}
        self._told = ""

    def keep_up(self, stop: threading.Event, seconds: float = ROUND_SECONDS) -> None:
        """Go round at once and then every so many seconds, until told to stop; waits for a database that is away."""
        while not stop.is_set():
            self.go(stop)
            stop.wait(seconds)

    def go(self, stop: threading.Event | None = None) -> int:
        """Go round once.

        Returns:
            How many figures were written.
        """
        written = 0
        try:
            for name in list_studies(self._database):
                if stop is not None and stop.is_set():
                    return written
                written += self._go_to(read_study(self._database, name))
        except StorageError as error:
            # The same thing is said once, however long it lasts.
            if str(error) != self._told:
                _logger.warning("figures are not brought up to date: %s", error)
            self._told = str(error)
        else:
            self._told = ""
        return written

    def _go_to(self, study: StudyRecord) -> int:
        state = _state(study)
        started = self._clock()
        if self._seen.get(study.study_id) == state or started < self._not_before.get(study.study_id, started):
            return 0
        try:
            written = publish_record(self._database, study, read_epochs(self._database, study.name), _LOCK_SECONDS)
        except StorageUnavailableError:
            raise
        except StorageError as error:
            _logger.warning("%s: its figures are not brought up to date: %s", study.name, error)
            written = 0
        except Exception:
            # One study that cannot be drawn must not keep the others from it; it is tried again when it changes.
            _logger.exception("%s: its figures cannot be drawn", study.name)
            written = 0
        now = self._clock()
        self._seen[study.study_id] = state
        self._not_before[study.study_id] = now + (now - started) / LARGEST_SHARE
        return written


def _state(study: StudyRecord) -> tuple[object, ...]:
    """What a study's figures depend on, as far as it changes."""
    return (study.name, study.total, *((point.point_id, point.state, point.last_epoch) for point in study.points))
