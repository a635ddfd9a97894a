"""The paper's experiments as studies: which datasets and models, by which recipe, and where LMF's factors come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from study import values
from study.data_search import DataAtHand
from study.errors import StudyError
from study.paper.names import DATASETS, MODELS
from study.paper.published import factors as published_factors
from study.run_options import RunOptions
from study.settings import canonical_value, factor_problems, repeats
from study.spec import DEFAULT_SEED, StudySpec
from study.spec_file import RUN_KEYS
from study.spec_input import DEMO_DATASET, build_study, read_run_options
from trainer.config import WEIGHT_SOURCES
from trainer.errors import TrainerError

TABLE_6 = "Table 6 of the paper"
"""Where a comparison has LMF's factors from that takes the published ones."""

TRIED_FLAGS = ("settings", "grid")
"""Flags that only a study of alpha and beta takes."""

COMPARED_FLAGS = ("losses",)
"""Flags that only a comparison of losses takes."""

Factors = Literal["study", "paper"] | tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """Which of the paper's experiments are to be carried out.

    Attributes:
        datasets: names of its datasets.
        models: models, by any name that timm or the paper has for them.
        factors: where LMF's factors in a comparison come from: `study` is the best of the study of alpha and beta on
            the same dataset with the same model, `paper` the published best; or the two factors themselves.
        are_named: whether the user named the datasets, so that each of them has to be there.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    factors: Factors
    are_named: bool


@dataclass(frozen=True)
class Experiment:
    """One dataset with one model: a study of alpha and beta, and then a comparison of losses.

    Attributes:
        data: the dataset.
        study: the study of alpha and beta.
        losses: the comparison; LMF's factors are still open where they come from the study.
    """

    data: DataAtHand
    study: StudySpec
    losses: StudySpec


def read_choice(given: Mapping[str, object], flags: Mapping[str, object], resolve: Callable[[str], str]) -> Choice:
    """Read which experiments are asked for.

    Args:
        given: `datasets`, `models` and `factors` as text, or None where they were not given.
        flags: the flags that hold for all studies.
        resolve: gives the full name of a model.

    Raises:
        StudyError: anything is wrong; one line with every problem found.
    """
    problems: list[str] = []
    datasets = _read_names(given.get("datasets"), DATASETS, "datasets", problems)
    problems += [
        f"--datasets: {name!r} is none of the paper's datasets; expected some of {', '.join(DATASETS)}"
        for name in datasets
        if name not in DATASETS
    ]
    models = _read_names(given.get("models"), MODELS, "models", problems)
    for model in models:
        try:
            resolve(model)
        except TrainerError as error:
            problems.append(f"--models: {str(error).removeprefix('model: ')}")
    weights = flags.get("weights", "hub")
    if weights not in WEIGHT_SOURCES and len(models) > 1:
        problems.append(f"--weights: {weights} can be of one model only; name that with --models")
    factors = _read_factors(given.get("factors"), problems)
    if factors == "paper":
        problems += [
            f"--factors: the paper has no alpha and beta of {model} on {dataset}; --factors study takes yours"
            for dataset in datasets
            for model in models
            if dataset in DATASETS and published_factors(dataset, model) is None
        ]
    if problems:
        raise StudyError("; ".join(problems))
    return Choice(datasets, models, factors, given.get("datasets") is not None)


def check_flags(flags: Mapping[str, object], loss_epochs: object = None) -> tuple[int, bool]:
    """Check the flags that hold for all studies before any data are looked for.

    Args:
        flags: as `make_experiments` takes them.
        loss_epochs: as `make_experiments` takes it.

    Returns:
        The seed of the splits, and whether classes without an image are left out.

    Raises:
        StudyError: a flag is wrong; one line with every problem found.
    """
    shared, tried, compared = _sorted_flags(flags, loss_epochs)
    problems: list[str] = []
    seed, drop_empty = DEFAULT_SEED, False
    # The embedded dataset is always there.
    about = {name: value for name, value in shared.items() if name != "data"}
    try:
        spec, _ = build_study(DEMO_DATASET, about | tried, resolve_model=str)
        drop_empty = spec.drop_empty
        if spec.split_seed is not None:
            seed = spec.split_seed
    except StudyError as error:
        problems.append(str(error))
    try:
        build_study(DEMO_DATASET, compared, resolve_model=str, comparing=True)
    except StudyError as error:
        problems.append(str(error).replace("--epochs", "--loss-epochs"))
    if problems:
        raise StudyError("; ".join(problems))
    return seed, drop_empty


def make_experiments(
    choice: Choice,
    found: Iterable[DataAtHand],
    flags: Mapping[str, object],
    resolve: Callable[[str], str],
    loss_epochs: object = None,
) -> tuple[tuple[Experiment, ...], RunOptions]:
    """Describe the studies of all experiments whose data are at hand, dataset by dataset.

    Args:
        choice: what is asked for.
        found: the datasets at hand.
        flags: the flags that hold for all studies; `epochs` is that of the studies of alpha and beta.
        resolve: gives the full name of a model.
        loss_epochs: epochs of the comparisons; None leaves them to the paper.

    Raises:
        StudyError: a flag is wrong; one line with every problem found.
    """
    shared, tried, compared = _sorted_flags(flags, loss_epochs)
    experiments = []
    for data in found:
        for model in choice.models:
            about = shared | {"data": str(data.folder), "model": model}
            study, _ = build_study(data.dataset, about | tried, resolve_model=resolve)
            losses, _ = build_study(data.dataset, about | compared, resolve_model=resolve, comparing=True)
            # What the paper has is asked for, so that a smaller study of the name is extended to it.
            study = replace(study, unasked=study.unasked - {*TRIED_FLAGS, "search"})
            losses = replace(losses, unasked=losses.unasked - set(COMPARED_FLAGS))
            experiments.append(Experiment(data, study, _with_factors(losses, study, choice.factors)))
    return tuple(experiments), read_run_options({name: flags[name] for name in RUN_KEYS if name in flags})


def _sorted_flags(
    flags: Mapping[str, object], loss_epochs: object
) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
    """Flags for all studies, for those of alpha and beta, and for comparisons."""
    tried = {name: flags[name] for name in (*TRIED_FLAGS, "epochs") if name in flags}
    compared = {name: flags[name] for name in COMPARED_FLAGS if name in flags}
    if loss_epochs is not None:
        compared["epochs"] = loss_epochs
    shared = {name: value for name, value in flags.items() if name not in (*TRIED_FLAGS, *COMPARED_FLAGS, "epochs")}
    return shared, tried, compared


def _with_factors(losses: StudySpec, study: StudySpec, factors: Factors) -> StudySpec:
    """A comparison that says where LMF's factors come from."""
    if not losses.compares_lmf:
        return losses
    asked = losses.unasked - {"alpha", "beta", "factors_from"}
    if factors == "study":
        return replace(losses, factors_from=study.name, unasked=asked)
    if factors != "paper":
        return replace(losses, alpha=factors[0], beta=factors[1], unasked=asked)
    published = published_factors(losses.title, losses.model)
    if published is None:
        raise StudyError(f"the paper has no alpha and beta of {losses.model} on {losses.title}")
    return replace(losses, alpha=published.alpha, beta=published.beta, factors_from=TABLE_6, unasked=asked)


def _read_names(given: object, default: Iterable[str], flag: str, problems: list[str]) -> tuple[str, ...]:
    if given is None:
        return tuple(default)
    names = [str(item).strip() for item in values.items(given)]
    problems += [f"--{flag}: {repeat}" for repeat in repeats(name for name in names if name)]
    problem = values.empty_place(given) if names else "is empty; expected names with commas between them"
    if problem:
        problems.append(f"--{flag}: {problem}")
    return tuple(name for name in names if name)


def _read_factors(given: object, problems: list[str]) -> Factors:
    if given is None or given == "study":
        return "study"
    if given == "paper":
        return "paper"
    try:
        alpha, beta = (values.number(item) for item in values.items(given))
    except ValueError:
        problems.append(f"--factors: {given!r} is not study, paper or two numbers such as 1,0.6")
        return "study"
    for value in (alpha, beta):
        problems += (f"--{problem}" for problem in factor_problems("factors", value))
    return canonical_value(alpha), canonical_value(beta)
