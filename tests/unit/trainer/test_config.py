"""The recipe: its defaults, its limits, how it is stored and compared."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from trainer.config import LOSS_NAMES, SELECTORS, Recipe, TrialConfig, demo_recipe
from trainer.errors import RecipeError
from trainer.losses import ClassificationLoss, build_loss
from trainer.models import resolve_model_name


def test_defaults_are_those_of_the_paper() -> None:
    assert asdict(Recipe()) == {
        "model": "efficientnetv2",
        "weights": "hub",
        "weights_sha256": None,
        "image_size": 224,
        "exact": False,
        "normalize": False,
        "augment": "none",
        "epochs": 60,
        "batch_size": 32,
        "lr": 1e-4,
        "weight_decay": 5e-4,
        "lr_step_epochs": 30,
        "lr_gamma": 0.1,
        "select": "macro_f1",
        "specificity": 0.95,
        "precision": "fp32",
        "threads": 1,
        "compile": False,
        "deterministic": False,
        "max_margin": 0.5,
        "gamma": 1.5,
        "scale": 30.0,
        "variant": "reference",
    }
    assert Recipe().problems() == []


def test_the_demo_trains_a_known_small_model_from_scratch() -> None:
    recipe = demo_recipe()
    assert recipe.problems() == []
    assert recipe.weights == "none"
    assert recipe.image_size == 32
    assert resolve_model_name(recipe.model).startswith("test_")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("model", "", "a timm model name"),
        ("model", 7, "a timm model name"),
        ("weights", " ", "hub, none or the path of a file"),
        ("weights_sha256", "abc", "64 lower-case hexadecimal digits"),
        ("image_size", 15, "a whole number from 16 to 2048"),
        ("image_size", 2049, "a whole number from 16 to 2048"),
        ("image_size", 224.0, "a whole number from 16 to 2048"),
        ("image_size", "224", "a whole number from 16 to 2048"),
        ("normalize", 1, "true or false"),
        ("augment", "heavy", "one of none, standard"),
        ("epochs", 0, "a whole number from 1 to 10000"),
        ("epochs", True, "a whole number from 1 to 10000"),
        ("batch_size", 1, "a whole number from 2 to 65536"),
        ("lr", 0.0, "a number above 0, at most 10"),
        ("lr", float("nan"), "a number above 0, at most 10"),
        ("lr", "fast", "a number above 0, at most 10"),
        ("weight_decay", -1e-9, "a number from 0 to 10"),
        ("weight_decay", float("inf"), "a number from 0 to 10"),
        ("weight_decay", 10**400, "a number from 0 to 10"),
        ("lr_step_epochs", 0, "a whole number from 1 to 10000"),
        ("lr_gamma", 0.0, "a number above 0, at most 1"),
        ("lr_gamma", 1.1, "a number above 0, at most 1"),
        ("select", "accuracy", f"one of {', '.join(SELECTORS)}"),
        ("specificity", 0.0, "a number above 0, at most 1"),
        ("specificity", 1.1, "a number above 0, at most 1"),
        ("compile", "yes", "true or false"),
        ("deterministic", 1, "true or false"),
        ("precision", "fp64", "one of fp32, bf16, fp16, auto"),
        ("threads", 0, "a whole number from 1 to 256"),
        ("max_margin", 0.0, "a number above 0, at most 100"),
        ("gamma", -0.5, "a number from 0 to 100"),
        ("scale", 0.0, "a number above 0, at most 1000"),
        ("variant", "paper", "one of reference, equations"),
    ],
)
def test_a_figure_out_of_range_is_named(name: str, value: Any, expected: str) -> None:
    recipe = Recipe.from_dict({"weights": "w.pth", name: value})
    assert recipe.problems() == [f"{name}: value is {getattr(recipe, name)!r}, expected {expected}"]


@pytest.mark.parametrize(
    "values",
    [
        {"weights": "none", "image_size": 16, "epochs": 1, "batch_size": 2, "threads": 1, "lr_step_epochs": 1},
        {"lr": 10, "weight_decay": 0, "lr_gamma": 1, "gamma": 0, "max_margin": 100, "scale": 1000},
        {"weights": "a/b.pth", "weights_sha256": "0" * 64, "normalize": True, "augment": "standard"},
        {"variant": "equations", "precision": "bf16", "select": "macro_auc"},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(values: dict[str, Any]) -> None:
    assert Recipe.from_dict(values).problems() == []


def test_all_problems_come_together() -> None:
    recipe = Recipe(epochs=0, lr=-1, variant="equations", scale=10.0, weights_sha256="0" * 64)
    lines = recipe.problems()
    assert [line.partition(":")[0] for line in lines] == ["epochs", "lr", "weights_sha256", "scale"]
    assert "names no file" in lines[2]
    assert "equations has no scale" in lines[3]
    assert not any("\n" in line for line in lines)


def test_selectors_are_those_of_the_metrics() -> None:
    assert all(Recipe(select=selector).problems() == [] for selector in SELECTORS)


def test_survives_json_and_toml_whole() -> None:
    recipe = replace(demo_recipe(), lr=1 / 3, weights_sha256="a" * 64, weights="w.pth", normalize=True)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert Recipe.from_dict(tomllib.loads("epochs = 3\nlr = 1\n")) == Recipe(epochs=3, lr=1.0)


def test_equal_recipes_are_stored_alike() -> None:
    real = {field.name for field in fields(Recipe) if isinstance(field.default, float)}
    assert "lr" in real
    assert "scale" in real
    stored = Recipe.from_dict({name: 2 for name in real}).to_dict()
    assert {name: repr(stored[name]) for name in real} == {name: "2.0" for name in real}


def test_unknown_figures_are_refused_together() -> None:
    with pytest.raises(RecipeError, match=r"epoch: .*did you mean epochs\?; zzz: .*expected one of model, weights"):
        Recipe.from_dict({"epoch": 3, "zzz": 1, "lr": 0.1})


def test_differences_are_told_one_by_one() -> None:
    stored = Recipe()
    assert stored.differences(Recipe()) == []
    asked = replace(stored, epochs=30, model="resnet50")
    assert stored.differences(asked) == [
        "model: efficientnetv2 stored, resnet50 asked",
        "epochs: 60 stored, 30 asked",
    ]


def test_a_pinned_weights_file_may_lie_elsewhere() -> None:
    stored = Recipe(weights="a/w.pth", weights_sha256="a" * 64)
    assert stored.differences(Recipe(weights="b/w.pth", weights_sha256="a" * 64)) == []
    other = stored.differences(Recipe(weights="b/w.pth", weights_sha256="b" * 64))
    assert [line.partition(":")[0] for line in other] == ["weights", "weights_sha256"]
    assert Recipe(weights="a/w.pth").differences(Recipe(weights="b/w.pth")) == [
        "weights: a/w.pth stored, b/w.pth asked"
    ]


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("variant", ["reference", "equations"])
def test_a_trial_gives_its_loss_what_it_takes(loss: str, variant: str) -> None:
    recipe = Recipe(variant=variant, max_margin=0.4, gamma=2.0, scale=7.0)
    margins = {"max_margin": 0.4, "variant": variant} | ({"scale": 7.0} if variant == "reference" else {})
    focal = {"max_margin": 0.4, "gamma": 2.0}
    weights = {"alpha": 0.5, "beta": 1.5}
    wanted = {"ldam": margins, "focal": focal, "lmf": weights | margins | focal}.get(loss, {})
    config = TrialConfig(recipe, loss, seed=23, **(weights if loss == "lmf" else {"alpha": None, "beta": None}))
    assert config.loss_hyperparameters() == wanted
    assert isinstance(build_loss(loss, (9, 3), **config.loss_hyperparameters()), ClassificationLoss)


@pytest.mark.parametrize(("loss", "alpha", "beta"), [("lmf", None, None), ("lmf", 1.0, None), ("cce", 1.0, None)])
def test_alpha_and_beta_belong_to_lmf_alone(loss: str, alpha: float | None, beta: float | None) -> None:
    with pytest.raises(RecipeError, match=loss):
        TrialConfig(Recipe(), loss, alpha, beta, seed=1).loss_hyperparameters()


def test_needs_no_torch() -> None:
    code = "import sys, trainer.config; print([name for name in ('torch', 'timm', 'sklearn') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
