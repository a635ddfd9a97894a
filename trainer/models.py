"""Backbones: any image classifier of timm, from scratch or from pretrained weights."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.models import PretrainedCfg, get_deprecated_models, get_pretrained_cfg, is_model_pretrained, load_state_dict
from torch import Tensor, nn

from trainer.config import ALIASES, Recipe
from trainer.errors import ModelError

_NAMES_SHOWN = 3
_LONGEST_REASON = 300
_READ_BYTES = 1 << 20


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


def build_model(recipe: Recipe, num_classes: int) -> nn.Module:
    """Make the recipe's model with a fresh head for `num_classes`; draws from torch's global random state.

    The same seed gives the same head whether the pretrained weights come from the hub or from a file.

    Args:
        recipe: its `model`, `weights`, `weights_sha256` and `image_size` are used.
        num_classes: width of the head, at least 2.

    Returns:
        A model on the CPU that takes float images ``(N, 3, image_size, image_size)`` and gives logits
        ``(N, num_classes)``.

    Raises:
        ModelError: the model is unknown or does not take images of this size, the weights cannot be had, or they
            belong to another model.
    """
    name = resolve_model_name(recipe.model)
    arguments = _size_arguments(name, recipe.image_size)
    if recipe.weights == "hub":
        model = _build_from_hub(name, num_classes, arguments)
    elif recipe.weights == "none":
        model = _build(name, num_classes, arguments)
    else:
        path = Path(recipe.weights).expanduser()
        model = _build_from_file(name, num_classes, arguments, path, recipe.weights_sha256)
    _try_out(model, name, num_classes, recipe.image_size)
    return model


def input_statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per colour channel that a timm model's pretraining used, on the [0, 1] scale."""
    settings: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return tuple(settings["mean"]), tuple(settings["std"])


def weights_file_sha256(path: Path | str) -> str:
    """The SHA-256 of a weights file, in lower-case hexadecimal.

    Raises:
        ModelError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise ModelError(
            f"weights: cannot read {path}: {error.strerror or error}; expected a checkpoint file"
        ) from None
    return digest.hexdigest()


def _size_arguments(name: str, image_size: int) -> dict[str, Any]:
    """`img_size` for models built for one input size (transformers mostly); others take any and no such argument."""
    return {"img_size": image_size} if _settings(name).fixed_input_size else {}


def _settings(name: str) -> PretrainedCfg:
    """What timm knows of a model's weights; its defaults for a model without any."""
    return get_pretrained_cfg(name) or PretrainedCfg()


def _build(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        asked = f" with {arguments}" if arguments else ""
        raise ModelError(f"model: timm cannot build {name}{asked}: {_one_line(error)}") from error
    return model


def _try_out(model: nn.Module, name: str, num_classes: int, image_size: int) -> None:
    """Pass one blank image through, since many models find out only then that a size does not suit them."""
    native = " x ".join(str(side) for side in _settings(name).input_size[1:])
    refused = f"model: {name} does not take images of {image_size} x {image_size}"
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{refused}: {_one_line(error)}; its pretraining used {native}") from error
    model.train()
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise ModelError(f"model: {name} gives no logits of shape (N, {num_classes}); expected an image classifier")


def _build_from_hub(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    ways_out = "pass `--weights FILE` for a checkpoint on this machine or `--weights none` to train from scratch"
    if not is_model_pretrained(name):
        raise ModelError(f"weights: timm offers no pretrained weights for {name}; {ways_out}")
    # What the hub's client says of its retries would bury the one line that counts.
    huggingface_hub.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=num_classes, **arguments)
    except Exception as error:  # the hub's client and the network beneath it raise errors of many libraries
        _build(name, num_classes, arguments)  # where the model itself is at fault, this says so instead
        raise ModelError(
            f"weights: cannot get those of {name} from the hub ({_one_line(error)}); {ways_out}"
        ) from error
    return model


def _build_from_file(
    name: str, num_classes: int, arguments: dict[str, Any], path: Path, sha256: str | None
) -> nn.Module:
    """Load everything but the head from a file, with timm's own conversion of foreign names and shapes.

    timm skips what does not fit as soon as the number of classes differs. So the file is loaded into a model with as
    many classes as the file has, where timm insists on every weight, and all but that model's head is taken over.
    """
    weights = _read_weights(path, sha256)
    model = _build(name, num_classes, arguments)
    settings = _settings(name)
    heads = (settings.classifier,) if isinstance(settings.classifier, str) else tuple(settings.classifier or ())
    widths = [len(weights[f"{head}.weight"]) for head in heads if f"{head}.weight" in weights]
    file_classes = widths[0] if widths else settings.num_classes
    source = {"file": str(path), "num_classes": file_classes, "custom_load": False}
    with torch.random.fork_rng(devices=[]):
        donor = _build(name, file_classes, arguments)
        try:
            donor = timm.create_model(
                name, pretrained=True, num_classes=file_classes, pretrained_cfg_overlay=source, **arguments
            )
        except Exception as error:  # converters of foreign checkpoints raise anything on a file that is none
            raise ModelError(f"weights: {path} does not fit {name}: {_misfit(weights, donor, error)}") from error
    body = {key: value for key, value in donor.state_dict().items() if not key.startswith(_inside(heads))}
    model.load_state_dict(body, strict=False)
    return model


def _inside(heads: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{head}." for head in heads)


def _read_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"weights: no file at {path}; expected hub, none or the path of a checkpoint")
    if sha256 is not None and (found := weights_file_sha256(path)) != sha256:
        raise ModelError(f"weights: {path} has SHA-256 {found}, expected {sha256}; it is not the file of this recipe")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file raises errors of safetensors, pickle, zip, struct and more
        raise ModelError(
            f"weights: cannot read {path} ({_one_line(error)}); expected an undamaged .safetensors file "
            "or a PyTorch checkpoint that holds only tensors"
        ) from error
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelError(f"weights: {path} holds no named tensors; expected a model's state dict")
    return weights


def _misfit(weights: dict[str, Tensor], model: nn.Module, error: Exception) -> str:
    """What tells a file's weights from a model's, by name and shape, in one line."""
    wanted = model.state_dict()
    reshaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    findings = {
        "missing": [key for key in wanted if key not in weights],
        "left over": [key for key in weights if key not in wanted],
        "of another shape": reshaped,
    }
    said = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in findings.items() if keys]
    return ", ".join(said) or _one_line(error)


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMES_SHOWN]) + (", ..." if len(keys) > _NAMES_SHOWN else "")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
