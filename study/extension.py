"""What may change when a study is run again: more points extend it, another recipe is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from storage.search_plan import GRID
from study.settings import SETTINGS, value_text
from study.spec import MACHINE_FIGURES, STUDIED_LOSS, StudySpec
from trainer.config import AUTO, Recipe

Value = TypeVar("Value")


@dataclass(frozen=True)
class Comparison:
    """A stored study beside what is asked of it now.

    Attributes:
        refusals: the differences that make it another study, such as `epochs: 60 stored, 30 asked`.
        additions: what is asked beyond the stored study, such as `seeds: 24, 25`.
        merged: the description to store and to work by; of no use where there are refusals.
    """

    refusals: tuple[str, ...]
    additions: tuple[str, ...]
    merged: StudySpec


def compare(stored: StudySpec, asked: StudySpec) -> Comparison:
    """Compare a stored study with what is asked under its name.

    Settings, grid values and seeds that are new extend a grid, more trials a search, losses and seeds a comparison;
    what it has stays.
    Everything else in the description must be the same, except where data, split file and weights lie: whether images
    and split are the same is told by their fingerprints, and whether the weights are by their hash. What nobody asked
    for (`StudySpec.unasked`) is taken from the stored study.
    """
    recipe = _continued_recipe(stored.recipe, asked)
    refusals = stored.recipe.differences(recipe)
    for name, before, now in (
        ("dataset", stored.title, asked.title),
        ("split_seed", _split_text(stored), _split_text(asked)),
        ("group", stored.group or "none", asked.group or "none"),
        ("drop_empty", stored.drop_empty, asked.drop_empty),
    ):
        if before != now:
            refusals.append(f"{name}: {before} stored, {now} asked")
    if bool(stored.losses) != bool(asked.losses):
        refusals.append(f"losses: {_losses_text(stored)} stored, {_losses_text(asked)} asked")
    else:
        refusals += _factor_differences(stored, asked) if stored.losses else _search_differences(stored, asked)

    more_losses = [] if "losses" in asked.unasked else _new(asked.losses, stored.losses)
    more_settings = [] if "settings" in asked.unasked else _new(asked.settings, stored.settings)
    more_values = [] if "grid" in asked.unasked else _new(asked.grid, stored.grid)
    more_seeds = [] if "seeds" in asked.unasked else _new(asked.seeds, stored.seeds)
    added = {
        "settings": more_settings,
        "grid": [value_text(value) for value in more_values],
        "seeds": [str(seed) for seed in more_seeds],
        "losses": more_losses,
    }
    factors = asked if STUDIED_LOSS in more_losses else stored
    merged = replace(
        stored,
        dataset=asked.dataset,
        data=asked.data or stored.data,
        split_file=asked.split_file,
        recipe=replace(stored.recipe, weights=recipe.weights),
        settings=tuple(name for name in SETTINGS if name in (*stored.settings, *more_settings)),
        grid=tuple(sorted((*stored.grid, *more_values))),
        seeds=tuple(sorted((*stored.seeds, *more_seeds))),
        trials=_more_trials(stored, asked),
        losses=(*stored.losses, *more_losses),
        alpha=factors.alpha,
        beta=factors.beta,
        factors_from=factors.factors_from,
    )
    additions = [f"{name}: {', '.join(texts)}" for name, texts in added.items() if texts]
    if merged.trials != stored.trials:
        additions.append(f"trials: {stored.trials} -> {merged.trials}")
    return Comparison(tuple(refusals), tuple(additions), merged)


def _search_differences(stored: StudySpec, asked: StudySpec) -> list[str]:
    """What makes it another search; a grid that is extended differs in nothing here."""
    if "search" not in asked.unasked and asked.search != stored.search:
        return [f"search: {stored.search} stored, {asked.search} asked"]
    if stored.search == GRID:
        return []
    refusals = [
        f"{name}: a search ({stored.search}) is stored, which chooses alpha and beta itself"
        for name in ("settings", "grid")
        if name not in asked.unasked and getattr(asked, name)
    ]
    if "seeds" not in asked.unasked and asked.seeds != stored.seeds:
        there, wanted = (", ".join(map(str, seeds)) for seeds in (stored.seeds, asked.seeds))
        refusals.append(f"seeds: {there} stored, {wanted} asked")
    if "pruner" not in asked.unasked and asked.pruner != stored.pruner:
        refusals.append(f"pruner: {stored.pruner} stored, {asked.pruner} asked")
    return refusals


def _factor_differences(stored: StudySpec, asked: StudySpec) -> list[str]:
    """What makes it LMF with other factors; a comparison that has no LMF yet takes what is asked."""
    named = [name for name in ("alpha", "beta") if name not in asked.unasked]
    if not named or not asked.compares_lmf:
        return []
    if not stored.compares_lmf and "losses" in asked.unasked:
        return [f"{named[0]}: no {STUDIED_LOSS} among the losses stored; --losses {STUDIED_LOSS} adds it"]
    return [
        f"{name}: {value_text(before)} stored, {value_text(now)} asked"
        for name, before, now in (("alpha", stored.alpha, asked.alpha), ("beta", stored.beta, asked.beta))
        if name in named and before is not None and now is not None and before != now
    ]


def _losses_text(spec: StudySpec) -> str:
    return f"a comparison of {', '.join(spec.losses)}" if spec.losses else "a study of alpha and beta"


def _more_trials(stored: StudySpec, asked: StudySpec) -> int | None:
    """The greater budget of a search; None for a grid."""
    if stored.trials is None or asked.trials is None or "trials" in asked.unasked:
        return stored.trials
    return max(stored.trials, asked.trials)


def _continued_recipe(stored: Recipe, asked: StudySpec) -> Recipe:
    """The asked recipe with the stored values of what nobody asked for."""
    kept = {name: getattr(stored, name) for name in MACHINE_FIGURES if name in asked.unasked}
    if asked.recipe.precision == AUTO:
        kept["precision"] = stored.precision
    return replace(asked.recipe, **kept)


def _split_text(spec: StudySpec) -> str:
    if spec.split_seed is not None:
        return str(spec.split_seed)
    return "file" if spec.split_file else "published"


def _new(asked: Sequence[Value], stored: Sequence[Value]) -> list[Value]:
    return [value for value in asked if value not in stored]
