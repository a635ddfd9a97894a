"""What is stored of the paper's experiments already, and what of it is in the way."""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.queries import find_spec, read_study
from study.comparison import chosen_pair, settle_factors
from study.errors import StudyError
from study.extension import compare
from study.home import Home
from study.plan import StoredStudyError, compare_with_stored, stored_spec, stored_studies
from study.reproduction_plan import Experiment
from study.spec import StudySpec
from study.spec_file import RECIPE_KEYS

_FACTORS = ("alpha", "beta")
_ASKABLE = frozenset({*RECIPE_KEYS, "split_seed", "drop_empty"})
"""Differences that the flags of a reproduction can do away with."""


@dataclass(frozen=True)
class StoredPart:
    """How far one study is.

    Attributes:
        spec: the study, with all that a stored study of its name adds to it.
        done: points that are trained.
        failed: points that failed.
    """

    spec: StudySpec
    done: int = 0
    failed: int = 0


@dataclass(frozen=True)
class ReadyComparison:
    """A comparison that can be planned.

    Attributes:
        spec: the comparison, with LMF's factors.
        lines: where they come from, or that they are out of date, for the user.
    """

    spec: StudySpec
    lines: tuple[str, ...] = ()


def find_stored(spec: StudySpec, home: Home) -> StoredPart:
    """What is stored of a study.

    Raises:
        StudyError: the stored study is another one, or is paused or cancelled.
        TrainerError: another version stored its recipe.
        StorageError: the database cannot be read.
    """
    with stored_studies(home) as database:
        comparison = None if database is None else compare_with_stored(database, spec)
        if database is None or comparison is None:
            return StoredPart(spec)
        states = [point.state for point in read_study(database, spec.name).points]
    done = sum(state in ("complete", "pruned") for state in states)
    return StoredPart(comparison.merged, done, states.count("failed"))


def ready_comparison(experiment: Experiment, home: Home) -> ReadyComparison | None:
    """The comparison of an experiment with LMF's factors; None while the study that they come from has none to give.

    A study that is stored as another one, or with less than is asked, has none to give.

    Raises:
        StudyError: the comparison is stored with factors from elsewhere.
        TrainerError: another version stored a recipe.
        StorageError: the database cannot be read.
    """
    losses = experiment.losses
    if not losses.compares_lmf or losses.alpha is not None:
        return ReadyComparison(losses)
    with stored_studies(home) as database:
        if database is None:
            return None
        document = find_spec(database, losses.name)
        stored = None if document is None else stored_spec(document)
        if stored is None or not stored.compares_lmf:
            if not _has_best(database, experiment.study):
                return None
        elif stored.factors_from != losses.factors_from:
            kept = factors_value(stored)
            raise StudyError(
                f"study {losses.name} exists, and its alpha and beta of lmf, {kept}, are not taken from study "
                f"{losses.factors_from}; --factors {kept} keeps them, `lmf study delete {losses.name}` makes way for "
                "others"
            )
    return ReadyComparison(*settle_factors(losses, home, can_rename=False))


def missing_factors_text(experiment: Experiment) -> str:
    """Why a comparison cannot be carried out whose study has no factors to give."""
    return f"study {experiment.study.name} gives no alpha and beta for its lmf"


def refusal_text(error: Exception) -> str:
    """Why a study cannot be carried out, with what helps in a reproduction, whose studies have fixed names."""
    if not isinstance(error, StoredStudyError):
        return str(error)
    if not error.differences:
        return error.problem
    names = {difference.partition(":")[0] for difference in error.differences}
    others = names - set(_FACTORS)
    ways = []
    if others <= _ASKABLE:
        factors = f"--factors {factors_value(error.stored)}" if others != names else ""
        ways.append(f"ask for the stored values ({factors})" if factors else "ask for the stored values")
    ways.append(f"`lmf study delete {error.stored.name}` makes way")
    return f"{error.problem}; {', or '.join(ways)}"


def factors_value(spec: StudySpec) -> str:
    """LMF's factors of a comparison as `--factors` takes them, such as `1,0.6`."""
    return f"{spec.alpha:g},{spec.beta:g}"


def _has_best(database: Database, asked: StudySpec) -> bool:
    """Whether a study is trained with all that is asked of it and has a best pair."""
    document = find_spec(database, asked.name)
    if document is None:
        return False
    comparison = compare(stored_spec(document), asked)
    if comparison.refusals or comparison.additions:
        return False
    record = read_study(database, asked.name)
    return not record.remaining and chosen_pair(record) is not None
