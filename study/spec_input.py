"""From flags and a study file to a checked description, with all problems reported together."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from storage.search_plan import GRID, NO_PRUNER, PRUNERS, SEARCHES
from study import values
from study.errors import StudyError
from study.home import data_root
from study.run_options import RunOptions
from study.settings import (
    DEFAULT_GRID,
    SETTINGS,
    canonical_value,
    factor_problems,
    grid_problems,
    repeats,
    settings_problems,
)
from study.spec import (
    COMPARISON_EPOCHS,
    DEFAULT_SEED,
    DEFAULT_SEEDS,
    DEFAULT_TRIALS,
    LOSS_FIGURES,
    MACHINE_FIGURES,
    MOST_TRIALS,
    PAPER_LOSSES,
    PLAIN_FACTORS,
    SEARCH_FIGURES,
    STUDIED_LOSS,
    StudySpec,
    comparison_name,
    default_name,
    name_problems,
    seed_problems,
)
from study.spec_file import LOSS_KEYS, RECIPE_KEYS, Given, read_study_file
from trainer.config import AUTO, LOSS_NAMES, WEIGHT_SOURCES, Recipe, demo_recipe
from trainer.data.catalog import dataset_sources, dataset_title, find_source
from trainer.data.source import DatasetSource
from trainer.errors import TrainerError

DEMO_DATASET = "digits-lt"
"""The embedded dataset; it needs no data folder and has a recipe of its own."""

Value = TypeVar("Value")

_READERS: dict[type, Callable[[object], Any]] = {
    bool: values.switch,
    int: values.whole_number,
    float: values.number,
    str: values.text,
}
_RUN_READERS: dict[str, Callable[[object], Any]] = {
    "workers": values.whole_number,
    "per_gpu": values.trials_per_gpu,
    "device": values.text,
    "keep_weights": values.kept_weights,
    "max_attempts": values.whole_number,
    "lease_seconds": values.number,
    "database_patience": values.number,
    "storage": values.text,
    "dry_run": values.switch,
    "plan_only": values.switch,
    "allow_versions": values.switch,
}


def build_study(
    dataset: str,
    flags: Mapping[str, object],
    *,
    resolve_model: Callable[[str], str],
    comparing: bool = False,
) -> tuple[StudySpec, RunOptions]:
    """Put together what `lmf run DATASET [flags]` or `lmf compare DATASET [flags]` asks for.

    A flag wins over the study file, the file over the default. `digits-lt` starts from `demo_recipe()`, everything
    else from the paper's recipe. A relative path in a file starts from the file's folder, one in a flag from the
    current one. A study file that names losses describes a comparison of them in any case. Where LMF's factors come
    from is settled later, by `study.comparison.settle_factors`.

    Args:
        dataset: a dataset's name, or the path of a study file that ends in `.toml`.
        flags: the flags that were given, by name with `_` for `-`: text, or true and false for switches.
        resolve_model: gives the full name of a model, as `trainer.models.resolve_model_name` does.
        comparing: losses are to be compared.

    Raises:
        StudyError: anything is wrong; one line with every problem found.
    """
    given: dict[str, Given] = {}
    problems: list[str] = []
    if dataset.endswith(".toml") and ":" not in dataset:
        given, problems = read_study_file(Path(os.path.expanduser(dataset)))
    else:
        given["dataset"] = Given(dataset, "DATASET", Path.cwd())
    reading = _Reading(given | _given_by_flags(flags), problems)
    spec = reading.spec(resolve_model, comparing or "losses" in reading.given)
    options = reading.options()
    reading.finish()
    return spec, options


def read_run_options(flags: Mapping[str, object]) -> RunOptions:
    """Read what a command is told of how to run, where the studies are planned already.

    Args:
        flags: the flags that were given, as `build_study` takes them.

    Raises:
        StudyError: a value is wrong; one line with every problem found.
    """
    reading = _Reading(_given_by_flags(flags), [])
    options = reading.options()
    reading.finish()
    return options


def _given_by_flags(flags: Mapping[str, object]) -> dict[str, Given]:
    folder = Path.cwd()
    return {name: Given(value, "--" + name.replace("_", "-"), folder) for name, value in flags.items()}


class _Reading:
    """Reads given values one by one and collects what is wrong with them."""

    def __init__(self, given: Mapping[str, Given], problems: Iterable[str]) -> None:
        self.given = given
        self.problems = list(problems)

    def spec(self, resolve_model: Callable[[str], str], comparing: bool) -> StudySpec:
        dataset, data, title = self._dataset()
        epochs = COMPARISON_EPOCHS if comparing else Recipe.epochs
        base = demo_recipe() if dataset == DEMO_DATASET else Recipe(precision=AUTO, epochs=epochs)
        model, recipe = self._recipe(base, resolve_model)
        figures = self._comparison() if comparing else self._tried()
        seeds = self._take_list("seeds", values.whole_number, DEFAULT_SEEDS)
        group, split_seed, split_file = self._split(dataset)
        name = self._take("study", values.text, (comparison_name if comparing else default_name)(title, model))
        self._add(seed_problems("seeds", seeds))
        if figures.get("search", GRID) != GRID and len(seeds) > 1:
            self._refuse("seeds", f"{len(seeds)} are given, but a search takes one, since it trains each pair once")
        self._add(name_problems(name))
        return StudySpec(
            name=name,
            dataset=dataset,
            title=title,
            data=data,
            model=model,
            recipe=recipe,
            seeds=tuple(sorted(seeds)),
            split_seed=split_seed,
            group=group,
            split_file=split_file,
            drop_empty=self._take("drop_empty", values.switch, False),
            unasked=self._unasked(),
            **figures,
        )

    def options(self) -> RunOptions:
        chosen = {name: self._take(name, read, getattr(RunOptions, name)) for name, read in _RUN_READERS.items()}
        options = RunOptions(**chosen)
        self._add(options.problems())
        return options

    def finish(self) -> None:
        if self.problems:
            raise StudyError("; ".join(self.problems))

    def _take(self, name: str, read: Callable[[object], Value], default: Value) -> Value:
        """The value given for a name, or the default where none is given or it cannot be read."""
        if name not in self.given:
            return default
        try:
            return read(self.given[name].value)
        except ValueError as error:
            self._refuse(name, str(error))
            return default

    def _take_list(self, name: str, read: Callable[[object], Value], default: tuple[Value, ...]) -> tuple[Value, ...]:
        """The items given for a name that can be read, or the default where none is given or none can."""
        if name not in self.given:
            return default
        problem = values.empty_place(self.given[name].value)
        if problem:
            self._refuse(name, problem)
        given = values.items(self.given[name].value)
        good: list[Value] = []
        for item in given:
            if problem and not str(item).strip():
                continue
            try:
                good.append(read(item))
            except ValueError as error:
                self._refuse(name, str(error))
        return default if given and not good else tuple(good)

    def _refuse(self, name: str, problem: str) -> None:
        self.problems.append(f"{self.given[name].where}: {problem}" if name in self.given else f"{name}: {problem}")

    def _add(self, problems: Iterable[str]) -> None:
        """Take over problems of the form `name: problem`, with the place where the user gave the value."""
        for problem in problems:
            name, _, rest = problem.partition(": ")
            self._refuse(name, rest)

    def _path(self, name: str, written: str) -> Path:
        return (self.given[name].folder / os.path.expanduser(written)).absolute()

    def _dataset(self) -> tuple[str, Path | None, str]:
        """The dataset's name, where its data are, and its title."""
        dataset = self._take("dataset", values.text, "")
        source = self._source(dataset)
        if source and not source.takes_data:
            if "data" in self.given:
                self._refuse("data", f"{dataset} is built in and takes no data")
            return dataset, None, source.name
        written = self._take("data", values.text, "")
        data = self._path("data", written) if written else data_root(None)
        if data is not None and not os.path.exists(data):
            self._refuse(
                "data" if written else "LMF_DATA",
                f"there is nothing at {data}; expected the dataset's folder or file",
            )
        if source is None:
            return dataset, data, ""
        path = dataset.partition(":")[2]
        if data is None and source.needs_data:
            self._refuse("dataset", f"{dataset} needs its data; expected --data with the folder of the dataset")
        elif source.argument == "PATH" and not path and not data:
            self._refuse("dataset", f"{dataset} needs a path; expected {source.form}, or --data")
        elif source.argument == "PATH" and path and (data is None or path.startswith("~")):
            dataset = f"{source.name}:{self._path('dataset', path)}"
        try:
            return dataset, data, dataset_title(dataset, data)
        except TrainerError as error:
            self._refuse("dataset", str(error))
            return dataset, data, ""

    def _source(self, dataset: str) -> DatasetSource | None:
        try:
            return find_source(dataset) if dataset else None
        except TrainerError as error:
            self._refuse("dataset", str(error))
            return None

    def _unasked(self) -> frozenset[str]:
        """What holds a default; who gives one of LMF's factors leaves only the other to a stored comparison."""
        asked = set(self.given)
        if "from" in asked:
            asked |= {"alpha", "beta"}
        if asked & {"alpha", "beta"}:
            asked.add("factors_from")
        return frozenset({"settings", "grid", "seeds", *SEARCH_FIGURES, *LOSS_FIGURES, *MACHINE_FIGURES} - asked)

    def _comparison(self) -> dict[str, Any]:
        """The losses of a comparison, and what is said of LMF's factors."""
        for name in ("settings", "grid", *SEARCH_FIGURES):
            if name in self.given:
                self._refuse(name, "is for a study of alpha and beta, while a comparison trains each loss once")
        losses = self._take_list("losses", values.text, PAPER_LOSSES)
        for loss in losses:
            if loss not in LOSS_NAMES:
                close = difflib.get_close_matches(loss.lower(), LOSS_NAMES, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected some of {', '.join(LOSS_NAMES)}"
                self._refuse("losses", f"{loss!r} is no loss; {hint}")
        self._add(f"losses: {repeat}" for repeat in repeats(losses))
        if not losses:
            self._refuse("losses", f"is empty; expected some of {', '.join(LOSS_NAMES)}")
        return {"settings": (), "grid": (), "losses": losses, **self._factors(losses)}

    def _factors(self, losses: tuple[str, ...]) -> dict[str, Any]:
        """LMF's factors as far as they are given; where one is, the other is 1 in a new comparison."""
        given = [name for name in ("alpha", "beta", "from") if name in self.given]
        if STUDIED_LOSS not in losses:
            for name in given:
                self._refuse(name, f"is for {STUDIED_LOSS}, which is not among the losses {', '.join(losses)}")
            return {}
        if "from" in given:
            for name in given[:-1]:
                self._refuse(name, f"cannot go with {self.given['from'].where}; give one of them")
            return {"factors_from": self._take("from", values.text, "")}
        found = {}
        for name, plain in zip(("alpha", "beta"), PLAIN_FACTORS, strict=True):
            value = self._take(name, values.number, plain)
            self._add(factor_problems(name, value))
            found[name] = canonical_value(value)
        return found if given else {}

    def _tried(self) -> dict[str, Any]:
        """What a study of alpha and beta tries."""
        for name in LOSS_KEYS:
            if name in self.given:
                self._refuse(name, "is for a comparison of losses, which `lmf compare` or losses in the file asks for")
        search, trials, pruner = self._search()
        settings, grid = self._points(search)
        return {"settings": settings, "grid": grid, "search": search, "trials": trials, "pruner": pruner}

    def _search(self) -> tuple[str, int | None, str]:
        """How points are found, how many a search has, and its pruner."""
        search = self._take("search", values.one_of(SEARCHES), "")
        trials = self._take("trials", values.whole_number, DEFAULT_TRIALS)
        pruner = self._take("pruner", values.one_of(PRUNERS), NO_PRUNER)
        if not search and "search" in self.given:
            return GRID, None, NO_PRUNER
        if search not in ("", GRID):
            if not 1 <= trials <= MOST_TRIALS:
                self._refuse("trials", f"{trials} is outside [1, {MOST_TRIALS}]")
            return search, trials, pruner
        others = f"is for --search {', '.join(name for name in SEARCHES if name != GRID)}"
        if "trials" in self.given:
            self._refuse("trials", f"{others}, since a grid trains all its points")
        if pruner != NO_PRUNER:
            self._refuse(
                "pruner", f"{pruner} {others}, since the mean over a setting needs each of a grid's points to its end"
            )
        return GRID, None, NO_PRUNER

    def _points(self, search: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """The settings and values of a grid; a search has none and takes none."""
        if search != GRID:
            for name in ("settings", "grid"):
                if name in self.given:
                    where = self.given["search"].where
                    self._refuse(name, f"cannot go with {where} {search}, which chooses alpha and beta itself")
            return (), ()
        settings = self._take_list("settings", values.text, SETTINGS)
        grid = self._take_list("grid", values.number, DEFAULT_GRID)
        self._add(settings_problems(settings) + grid_problems(grid))
        return (
            tuple(name for name in SETTINGS if name in settings),
            tuple(sorted(canonical_value(value) for value in grid)),
        )

    def _split(self, dataset: str) -> tuple[str | None, int | None, Path | None]:
        """What keeps images together, the seed of the split, and the file of the split."""
        named = self._take("group", values.text, "none")
        group = None if named == "none" else named
        if "split_file" in self.given:
            for other in ("group", "split_seed"):
                if other in self.given:
                    self._refuse("split_file", f"cannot go with {self.given[other].where}; give one of them")
            return None, None, self._path("split_file", self._take("split_file", values.text, ""))
        start = dataset.partition(":")[0]
        published = start in dataset_sources() and dataset_sources()[start].publishes_split
        if "split_seed" in self.given or group or not published:
            seed = self._take("split_seed", values.whole_number, DEFAULT_SEED)
            self._add(seed_problems("split_seed", [seed]))
            return group, seed, None
        return None, None, None

    def _recipe(self, base: Recipe, resolve_model: Callable[[str], str]) -> tuple[str, Recipe]:
        """The model as it was named, and the recipe with its full name."""
        chosen: dict[str, Any] = {
            name: self._take(name, _READERS[type(getattr(base, name))], getattr(base, name)) for name in RECIPE_KEYS
        }
        model = chosen["model"]
        if chosen["weights"] not in WEIGHT_SOURCES:
            file = self._path("weights", chosen["weights"])
            chosen |= {"weights": str(file), "weights_sha256": self._hash(file)}
        try:
            chosen["model"] = resolve_model(model)
        except TrainerError as error:
            self._refuse("model", str(error).removeprefix("model: "))
        recipe = replace(base, **chosen)
        self._add(recipe.problems())
        return model, recipe

    def _hash(self, weights: Path) -> str | None:
        try:
            with weights.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._refuse("weights", f"cannot read {weights}: {reason}; expected hub, none or a file of weights")
            return None
