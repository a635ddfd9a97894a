"""Backbones: any image classifier of timm, from scratch or from pretrained weights."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_deprecated_models, is_model_pretrained
from torch import Tensor, nn

from trainer.config import ALIASES, Recipe
from trainer.errors import ModelError, one_line
from trainer.pretrained import WeightsReport, build_plain, model_settings, take_from_file, take_from_hub
from trainer.weights_folder import weights_path

_WAYS_OUT = "pass `--weights FILE` for a checkpoint on this machine or `--weights none` to train from scratch"


def resolve_model_name(name: str) -> str:
    """The timm name behind a model's name, known to exist; nothing is downloaded.

    Args:
        name: an alias, or a timm name with or without a tag of pretrained weights.

    Raises:
        ModelError: timm has no such model, or the model has no such tag; the message names close ones.
    """
    full = ALIASES.get(name, name)
    full = get_deprecated_models().get(full) or full
    architecture, _, tag = full.partition(".")
    if not timm.is_model(architecture) or architecture in get_deprecated_models():
        known = list(dict.fromkeys([*ALIASES, *timm.list_models()]))
        close = difflib.get_close_matches(architecture, known, n=3)
        hint = f"close ones: {', '.join(close)}" if close else f"for example {', '.join(ALIASES)}"
        raise ModelError(f"model: timm {timm.__version__} has no {name!r}; {hint}")
    tags = [other.partition(".")[2] for other in timm.list_models(architecture, include_tags=True)]
    if tag and tag not in tags:
        known_tags = ", ".join(filter(None, tags)) or "none"
        raise ModelError(f"model: {architecture} has no weights tagged {tag!r}; its tags: {known_tags}")
    return full


def full_model_name(name: str) -> str:
    """The timm name of a model with the tag of its pretrained weights: timm's first, where the name has none.

    Args:
        name: an alias, or a timm name with or without a tag of pretrained weights.

    Raises:
        ModelError: timm has no such model, or the model has no such tag.
    """
    full = resolve_model_name(name)
    return full if "." in full or not is_model_pretrained(full) else f"{full}.{model_settings(full).tag}"


def build_model(recipe: Recipe, num_classes: int, weights_folder: Path | None = None) -> nn.Module:
    """Make the recipe's model, as `build_model_with_report` does, and say nothing of its weights."""
    return build_model_with_report(recipe, num_classes, weights_folder)[0]


def build_model_with_report(
    recipe: Recipe, num_classes: int, weights_folder: Path | None = None
) -> tuple[nn.Module, WeightsReport | None]:
    """Make the recipe's model with a fresh head for `num_classes`; draws from torch's global random state.

    The same seed gives the same head whether the pretrained weights come from the hub or from a file.

    Args:
        recipe: its `model`, `weights`, `weights_sha256` and `image_size` are used.
        num_classes: width of the head, at least 2.
        weights_folder: a folder of weights as `trainer.fetching.fetch_weights` fills it. Where the weights are to come
            from the hub and this folder has them, nothing is asked of the hub.

    Returns:
        A model on the CPU that takes float images ``(N, 3, image_size, image_size)`` and gives logits
        ``(N, num_classes)``, and what was taken of pretrained weights; None for a model from scratch.

    Raises:
        ModelError: the model is unknown or does not take images of this size, the weights cannot be had, or they
            belong to another model.
    """
    name = resolve_model_name(recipe.model)
    arguments = _size_arguments(name, recipe.image_size)
    model = build_plain(name, num_classes, arguments)
    _try_out(model, name, num_classes, recipe.image_size)
    if recipe.weights == "none":
        return model, None
    if recipe.weights != "hub":
        path = Path(recipe.weights).expanduser()
        return model, take_from_file(model, name, num_classes, arguments, path, recipe.weights_sha256)
    if not is_model_pretrained(name):
        raise ModelError(f"weights: timm offers no pretrained weights for {name}; {_WAYS_OUT}")
    full_name = full_model_name(name)
    stored = weights_path(weights_folder, full_name) if weights_folder else None
    if stored is None or not stored.is_file():
        return model, take_from_hub(model, name, num_classes, arguments, _how_to_get(full_name, weights_folder))
    try:
        report = take_from_file(model, name, num_classes, arguments, stored)
    except ModelError as error:
        raise ModelError(
            f"{error}; fetch it again: run `lmf model fetch {full_name} --force` on a machine with a network and put "
            f"{stored.name} into {weights_folder}"
        ) from error
    return model, replace(report, source=f"{stored.name} in {weights_folder}")


def input_statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per colour channel that a timm model's pretraining used, on the [0, 1] scale."""
    settings: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return tuple(settings["mean"]), tuple(settings["std"])


def _size_arguments(name: str, image_size: int) -> dict[str, Any]:
    """`img_size` for models built for one input size (transformers mostly); others take any and no such argument."""
    return {"img_size": image_size} if model_settings(name).fixed_input_size else {}


def _try_out(model: nn.Module, name: str, num_classes: int, image_size: int) -> None:
    """Pass one blank image through, since many models find out only then that a size does not suit them."""
    native = " x ".join(str(side) for side in model_settings(name).input_size[1:])
    refused = f"model: {name} does not take images of {image_size} x {image_size}"
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{refused}: {one_line(error)}; its pretraining used {native}") from error
    model.train()
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise ModelError(f"model: {name} gives no logits of shape (N, {num_classes}); expected an image classifier")


def _how_to_get(full_name: str, weights_folder: Path | None) -> str:
    """What to do where the hub cannot be reached."""
    copied = f" and copy {weights_path(weights_folder, full_name).name} into {weights_folder}" if weights_folder else ""
    return f"run `lmf model fetch {full_name}` on a machine with a network{copied}, or {_WAYS_OUT}"
