from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.extension import compare
from study.spec import StudySpec, points
from trainer.config import Recipe

STORED = StudySpec(
    name="skin-resnet50",
    dataset="folder:skin",
    title="skin",
    data=Path("/data"),
    model="resnet50",
    recipe=Recipe(threads=2, precision="bf16"),
    settings=("joint", "alpha"),
    grid=(0.5, 1.0),
    seeds=(23,),
)


def test_the_same_study_neither_extends_nor_is_refused() -> None:
    comparison = compare(STORED, STORED)
    assert (comparison.refusals, comparison.additions, comparison.merged) == ((), (), STORED)


def test_more_settings_values_and_seeds_extend() -> None:
    asked = replace(STORED, settings=("beta",), grid=(0.7, 1.0), seeds=(22, 23))
    comparison = compare(STORED, asked)
    assert comparison.refusals == ()
    assert comparison.additions == ("settings: beta", "grid: 0.7", "seeds: 22")
    merged = comparison.merged
    assert merged.settings == ("joint", "beta", "alpha")
    assert merged.grid == (0.5, 0.7, 1.0)
    assert merged.seeds == (22, 23)
    assert {point.key for point in points(STORED)} < {point.key for point in points(merged)}
    assert {point.key for point in points(asked)} < {point.key for point in points(merged)}


def test_fewer_settings_values_or_seeds_change_nothing() -> None:
    comparison = compare(STORED, replace(STORED, settings=("joint",), grid=(0.5,)))
    assert (comparison.refusals, comparison.additions, comparison.merged) == ((), (), STORED)


def test_another_recipe_is_refused_with_every_difference_named() -> None:
    asked = replace(STORED, recipe=replace(STORED.recipe, epochs=30, lr=0.01))
    assert compare(STORED, asked).refusals == ("epochs: 60 stored, 30 asked", "lr: 0.0001 stored, 0.01 asked")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"title": "ham", "dataset": "folder:ham"}, "dataset: skin stored, ham asked"),
        ({"split_seed": 24}, "split_seed: 23 stored, 24 asked"),
        ({"group": "lesion"}, "group: none stored, lesion asked"),
        ({"split_seed": None}, "split_seed: 23 stored, published asked"),
        ({"split_seed": None, "split_file": Path("split.csv")}, "split_seed: 23 stored, file asked"),
        ({"drop_empty": True}, "drop_empty: False stored, True asked"),
        ({"recipe": replace(STORED.recipe, model="vgg11")}, "model: efficientnetv2 stored, vgg11 asked"),
        ({"recipe": replace(STORED.recipe, threads=1)}, "threads: 2 stored, 1 asked"),
        ({"recipe": replace(STORED.recipe, precision="fp32")}, "precision: bf16 stored, fp32 asked"),
    ],
)
def test_what_makes_another_study_is_refused(change: dict[str, Any], refusal: str) -> None:
    assert compare(STORED, replace(STORED, **change)).refusals == (refusal,)


def test_what_nobody_asked_for_is_taken_from_the_stored_study() -> None:
    unasked = frozenset({"settings", "grid", "seeds", "precision", "threads"})
    asked = replace(STORED, recipe=Recipe(), settings=("beta",), grid=(2.0,), seeds=(1,), unasked=unasked)
    comparison = compare(STORED, asked)
    assert (comparison.refusals, comparison.additions, comparison.merged) == ((), (), STORED)


SEARCH = replace(STORED, search="tpe", trials=31, pruner="median", settings=(), grid=())


def test_more_trials_extend_a_search_and_fewer_change_nothing() -> None:
    comparison = compare(SEARCH, replace(SEARCH, trials=50))
    assert (comparison.refusals, comparison.additions) == ((), ("trials: 31 -> 50",))
    assert comparison.merged == replace(SEARCH, trials=50)
    comparison = compare(SEARCH, replace(SEARCH, trials=20))
    assert (comparison.refusals, comparison.additions, comparison.merged) == ((), (), SEARCH)


def test_a_search_goes_on_where_nobody_asks_for_another() -> None:
    names = frozenset({"settings", "grid", "seeds", "search", "trials", "pruner"})
    for asked in (
        replace(STORED, unasked=names),
        replace(SEARCH, seeds=(7,), trials=99, pruner="none", unasked=names - {"search"}),
    ):
        comparison = compare(SEARCH, asked)
        assert (comparison.refusals, comparison.additions, comparison.merged) == ((), (), SEARCH)


@pytest.mark.parametrize(
    ("stored", "change", "refusals"),
    [
        (SEARCH, {"search": "gp"}, ("search: tpe stored, gp asked",)),
        (SEARCH, {"search": "grid", "trials": None, "pruner": "none"}, ("search: tpe stored, grid asked",)),
        (STORED, {"search": "tpe", "trials": 31, "settings": (), "grid": ()}, ("search: grid stored, tpe asked",)),
        (SEARCH, {"pruner": "none"}, ("pruner: median stored, none asked",)),
        (SEARCH, {"seeds": (24,)}, ("seeds: 23 stored, 24 asked",)),
        (
            SEARCH,
            {"search": "grid", "settings": ("joint",), "seeds": (23, 24), "unasked": frozenset({"search", "pruner"})},
            (
                "settings: a search (tpe) is stored, which chooses alpha and beta itself",
                "seeds: 23 stored, 23, 24 asked",
            ),
        ),
    ],
)
def test_another_search_is_refused(stored: StudySpec, change: dict[str, Any], refusals: tuple[str, ...]) -> None:
    assert compare(stored, replace(stored, **change)).refusals == refusals


def test_recipe_defaults_count_as_asked() -> None:
    stored = replace(STORED, recipe=replace(STORED.recipe, epochs=5))
    asked = replace(STORED, unasked=frozenset({"precision", "threads"}))
    assert compare(stored, asked).refusals == ("epochs: 5 stored, 60 asked",)


def test_data_may_lie_elsewhere() -> None:
    asked = replace(STORED, dataset="folder:/new/skin", data=Path("/new"))
    comparison = compare(STORED, asked)
    assert comparison.refusals == ()
    assert (comparison.merged.dataset, comparison.merged.data) == ("folder:/new/skin", Path("/new"))
    assert compare(STORED, replace(STORED, data=None)).merged.data == Path("/data")


def test_weights_may_lie_elsewhere_but_not_differ() -> None:
    recipe = replace(STORED.recipe, weights="/old/w.pth", weights_sha256="a" * 64)
    stored = replace(STORED, recipe=recipe)
    moved = compare(stored, replace(stored, recipe=replace(recipe, weights="/new/w.pth")))
    assert moved.refusals == ()
    assert (moved.merged.recipe.weights, moved.merged.recipe.weights_sha256) == ("/new/w.pth", "a" * 64)
    other = compare(stored, replace(stored, recipe=replace(recipe, weights_sha256="b" * 64)))
    assert other.refusals == (f"weights_sha256: {'a' * 64} stored, {'b' * 64} asked",)
    hub = compare(stored, STORED)
    assert "weights: /old/w.pth stored, hub asked" in hub.refusals
