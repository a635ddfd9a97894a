"""Carrying out the paper's experiments: study after study on this machine, each through the ledger, and one report."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console

from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import StudyRecord, list_studies, read_study
from study.errors import StudyError
from study.home import Home
from study.plan import compare_with_stored, stored_studies
from study.progress import count_text
from study.reporting.files import write_reports
from study.reproduction_plan import Experiment
from study.reproduction_stored import missing_factors_text, ready_comparison, refusal_text
from study.run_options import RunOptions
from study.running import refuse_if_idle, run_study
from study.spec import StudySpec
from study.worker import stop_on_signals
from trainer.errors import DataError, DeviceFailedError, ModelError, TrainerError

REPORT_FILE = "reproduction.html"


@dataclass(frozen=True)
class ReproductionEnd:
    """How it ended.

    Attributes:
        failed: points that failed.
        remaining: points that are still to be trained, of studies that could be carried out.
        refused: studies that could not be carried out, with the reason.
        interrupted: whether it was asked to stop.
    """

    failed: int
    remaining: int
    refused: dict[str, str]
    interrupted: bool


def reproduce(experiments: Sequence[Experiment], options: RunOptions, home: Home, console: Console) -> ReproductionEnd:
    """Plan all that can be planned, train what is left study by study, and write one report of them all.

    A comparison whose LMF takes the best of a study is planned when that study is trained. What cannot be carried out,
    as for an image that is broken, is told and passed over, and so is what depends on it.

    Args:
        experiments: what is to be carried out.
        options: how to carry it out; `plan_only` plans what can be planned now and trains nothing.
        home: where everything is kept.
        console: where to say what happens.

    Raises:
        StorageError: the database or a folder cannot be used.
        DeviceFailedError: a graphics card failed.
    """
    stop = threading.Event()
    with stop_on_signals(stop):
        work = _Work(options, home, console, stop)
        for experiment in experiments:
            work.plan(experiment)
        if not options.plan_only:
            for experiment in experiments:
                work.train(experiment)
        return work.conclude(experiments)


@dataclass
class _Work:
    """Studies carried out one after the other, and what came in the way of some.

    Attributes:
        options: how to carry them out.
        home: where everything is kept.
        console: where to say what happens.
        stop: set when it shall stop.
        refused: studies that cannot be carried out, with the reason.
    """

    options: RunOptions
    home: Home
    console: Console
    stop: threading.Event
    refused: dict[str, str] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _bad_data: dict[str, str] = field(default_factory=dict)
    _bad_models: dict[str, str] = field(default_factory=dict)

    def plan(self, experiment: Experiment) -> None:
        """Plan what is not planned yet."""
        options = replace(self.options, plan_only=True)
        self._carry_out(experiment.study, options)
        losses = self._ready(experiment)
        if losses is not None:
            self._carry_out(losses, options)
        elif self.options.plan_only and not {experiment.study.name, experiment.losses.name} & set(self.refused):
            self._say(
                f"study {experiment.losses.name}: takes lmf's alpha and beta from the best of study "
                f"{experiment.study.name}, so it can be planned when that is trained; the same command does it"
            )

    def train(self, experiment: Experiment) -> None:
        """Train the study of alpha and beta, then the comparison of losses."""
        self._carry_out(experiment.study, self.options)
        if self.stop.is_set():
            return
        losses = self._ready(experiment)
        if losses is not None:
            self._carry_out(losses, self.options)
        elif experiment.losses.name not in self.refused:
            self._refuse(experiment.losses, missing_factors_text(experiment))

    def conclude(self, experiments: Sequence[Experiment]) -> ReproductionEnd:
        """Say what is left and what failed, and write the report unless there is more to be trained."""
        names = [spec.name for experiment in experiments for spec in (experiment.study, experiment.losses)]
        database = Database.open(self.home.storage_url)
        try:
            stored = list_studies(database)
            records = [read_study(database, name) for name in names if name in stored]
            trained = [one.name for one in records if any(point.state == "complete" for point in one.points)]
            if trained and not self.options.plan_only and not self.stop.is_set():
                artifacts = Artifacts.open(self.home.artifacts)
                output = self.home.reports / REPORT_FILE
                written = write_reports(database, trained, self.home.reports, artifacts=artifacts, output=output)
                self._say(f"report of all studies: {written.paths[0]}")
        finally:
            database.close()
        for name, reason in self.refused.items():
            self._say(f"not carried out: {name}: {reason}")
        for record in records:
            if (count := _failed_points(record)) and record.name not in self.refused:
                points = count_text(count, "failed point")
                self._say(f"{points} of study {record.name}: `lmf study retry {record.name}` plans them again")
        remaining = sum(record.remaining for record in records if record.name not in self.refused)
        if self.stop.is_set():
            self._say(f"stopped: {count_text(remaining, 'planned point')} left in all; the same command goes on")
        failed = sum(map(_failed_points, records))
        return ReproductionEnd(failed, remaining, dict(self.refused), self.stop.is_set())

    def _ready(self, experiment: Experiment) -> StudySpec | None:
        """The comparison of an experiment, if LMF's factors are known and nothing is in its way."""
        try:
            ready = ready_comparison(experiment, self.home)
        except (StudyError, TrainerError) as error:
            self._refuse(experiment.losses, refusal_text(error))
            return None
        if ready is None:
            return None
        for line in ready.lines:
            self._say_once(f"{ready.spec.name}: {line}")
        return ready.spec

    def _carry_out(self, spec: StudySpec, options: RunOptions) -> None:
        """Plan or train one study; what is wrong with it, its data or its model is remembered and told."""
        if self.stop.is_set() or self._is_hopeless(spec):
            return
        try:
            stored = self._find_complete(spec)
            if stored is not None and (options.plan_only or not stored.remaining):
                if not options.plan_only:
                    failed = count_text(_failed_points(stored), "point")
                    what = f"{failed} failed, the others are" if _failed_points(stored) else "everything is"
                    self._say(f"{spec.name}: {what} trained already")
                return
            self.console.print()
            end = run_study(spec, options, self.home, self.console)
            refuse_if_idle(end)
        except DeviceFailedError:
            raise
        except DataError as error:
            self._bad_data[spec.dataset] = str(error)
            self._refuse(spec, str(error))
        except ModelError as error:
            self._bad_models[spec.model] = str(error)
            self._refuse(spec, str(error))
        except (StudyError, TrainerError) as error:
            self._refuse(spec, refusal_text(error))
        else:
            if end.interrupted:
                self.stop.set()

    def _find_complete(self, spec: StudySpec) -> StudyRecord | None:
        """A study that is stored with all that is asked of it."""
        with stored_studies(self.home) as database:
            comparison = None if database is None else compare_with_stored(database, spec)
            if database is None or comparison is None or comparison.additions:
                return None
            return read_study(database, spec.name)

    def _is_hopeless(self, spec: StudySpec) -> bool:
        """Whether a study is known to be impossible; what is wrong with its data or model is wrong with it too."""
        reason = self._bad_data.get(spec.dataset) or self._bad_models.get(spec.model)
        if reason is not None:
            self.refused.setdefault(spec.name, reason)
        return spec.name in self.refused

    def _refuse(self, spec: StudySpec, reason: str) -> None:
        self.refused[spec.name] = reason
        self._say_once(f"study {spec.name} cannot be carried out: {reason}; the others go on")

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._say(line)

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


def _failed_points(record: StudyRecord) -> int:
    return sum(point.state == "failed" for point in record.points)
