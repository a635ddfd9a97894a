"""Pretrained weights, from the hub or from a file, under a model's own new head; and what was taken of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg, load_state_dict
from torch import Tensor, nn

from trainer.errors import ModelError, one_line

_NAMES_SHOWN = 3
_READ_BYTES = 1 << 20
_FIRST_MARK = 1 << 16


@dataclass(frozen=True)
class WeightsReport:
    """What a model took of pretrained weights.

    Attributes:
        source: where they come from.
        taken: tensors of theirs that are in the model now.
        heads: names of the layers that are new instead, since they are the classifier; most models have one.
        source_classes: number of classes that the weights were trained for; None where they have no head.
        num_classes: number of classes of the new head.
        missing: tensors of the new head that the weights have no counterpart of. Nothing else may be missing.
        left_over: tensors of the weights that the model has no place for.
    """

    source: str
    taken: int
    heads: tuple[str, ...]
    source_classes: int | None
    num_classes: int
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()

    def line(self) -> str:
        """All of it in one line for people."""
        what = f"head {' and '.join(self.heads)}"
        if self.source_classes is None:
            head = f"{what} new for {self.num_classes} classes"
        else:
            head = f"{what} ({self.source_classes} classes) replaced for {self.num_classes} classes"
        others = _told({"missing": self.missing, "left over": self.left_over})
        return f"weights: {self.source}: {self.taken} tensors taken, {head}" + (f"; {others}" if others else "")


def model_settings(name: str) -> PretrainedCfg:
    """What timm knows of a model's weights; its defaults for a model without any."""
    return get_pretrained_cfg(name) or PretrainedCfg()


def build_plain(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Make a model from scratch.

    Args:
        name: its timm name.
        num_classes: width of the head.
        arguments: what timm is told besides.

    Raises:
        ModelError: timm cannot build it.
    """
    try:
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        asked = f" with {arguments}" if arguments else ""
        raise ModelError(f"model: timm cannot build {name}{asked}: {one_line(error)}") from error
    return model


def download(name: str, ways_out: str, arguments: dict[str, Any] | None = None) -> nn.Module:
    """The model with its pretrained weights and its original head, from the hub or what the hub's client has of it.

    Torch's global random state stays as it is.

    Args:
        name: its timm name.
        ways_out: what to do where that fails, for the message.
        arguments: what timm is told besides.

    Raises:
        ModelError: the weights cannot be had.
    """
    # What the hub's client says of its retries would bury the one line that counts.
    huggingface_hub.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]):
        try:
            model: nn.Module = timm.create_model(name, pretrained=True, **(arguments or {}))
        except Exception as error:  # the hub's client and the network beneath it raise errors of many libraries
            raise ModelError(
                f"weights: cannot get those of {name} from the hub ({one_line(error)}); {ways_out}"
            ) from error
    return model


def take_from_hub(
    model: nn.Module, name: str, num_classes: int, arguments: dict[str, Any], ways_out: str
) -> WeightsReport:
    """Load everything but the head of a new model from the hub.

    timm refuses weights of its own that do not fit the model, so none are missing or left over.

    Args:
        model: the new model.
        name: its timm name.
        num_classes: width of its head.
        arguments: what timm was told besides.
        ways_out: what to do where that fails, for the message.

    Raises:
        ModelError: the weights cannot be had.
    """
    settings = model_settings(name)
    heads = _heads(settings)
    body = _take_body(model, download(name, ways_out, arguments), heads)
    return WeightsReport(
        source=f"{settings.hf_hub_id} of the hub" if settings.hf_hub_id else str(settings.url),
        taken=len(body),
        heads=heads,
        source_classes=settings.num_classes or None,
        num_classes=num_classes,
        missing=() if settings.num_classes else tuple(key for key in model.state_dict() if key not in body),
    )


def take_from_file(
    model: nn.Module, name: str, num_classes: int, arguments: dict[str, Any], path: Path, sha256: str | None = None
) -> WeightsReport:
    """Load everything but the head of a new model from a file, with timm's own conversion of foreign names and shapes.

    timm skips what does not fit as soon as the number of classes differs. So the file is loaded into a model with as
    many classes as the file has, where timm insists on every weight, and all but that model's head is taken over.

    Args:
        model: the new model.
        name: its timm name.
        num_classes: width of its head.
        arguments: what timm was told besides.
        path: the file.
        sha256: what it must hash to; None where it is not pinned.

    Raises:
        ModelError: the file cannot be read, is another one, or does not hold the weights of this model.
    """
    weights = _read_weights(path, sha256)
    settings = model_settings(name)
    heads = _heads(settings)
    new_head = {key: value for key, value in model.state_dict().items() if _belongs(key, heads)}
    classes = _count_classes(weights, heads)
    has_head = classes is not None or bool(_absent(model.state_dict().keys() - new_head.keys(), weights))
    if has_head:
        given, classes = weights, classes or settings.num_classes
    else:
        given, classes = weights | new_head, num_classes
    convert = partial(_convert, name, classes, arguments)
    try:
        donor = convert(given)
        origins = _origins(given, donor, convert)
    except Exception as error:  # converters of foreign checkpoints raise anything on a file that is none
        with torch.random.fork_rng(devices=[]):
            wanted = build_plain(name, classes, arguments).state_dict()
        raise ModelError(f"weights: {path} does not fit {name}: {_misfit(weights, wanted, error)}") from error
    used = set().union(*origins.values())
    left_over = tuple(key for key in weights if key not in used)
    lost = _absent((key for key in donor.state_dict() if not _belongs(key, heads)), origins)
    if lost and _is_lenient(convert):
        raise ModelError(f"weights: {path} does not fit {name}: {_told({'missing': lost, 'left over': left_over})}")
    body = _take_body(model, donor, heads)
    return WeightsReport(
        source=path.name,
        taken=len(set().union(*(origins[key] for key in body if key in origins))),
        heads=heads,
        source_classes=classes if has_head else None,
        num_classes=num_classes,
        missing=() if has_head else tuple(new_head),
        left_over=left_over,
    )


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


def _heads(settings: PretrainedCfg) -> tuple[str, ...]:
    """Names of the layers that tell the classes; a few models have two."""
    return (settings.classifier,) if isinstance(settings.classifier, str) else tuple(settings.classifier or ())


def _belongs(key: str, heads: tuple[str, ...]) -> bool:
    return key.startswith(tuple(f"{head}." for head in heads))


def _count_classes(weights: Mapping[str, Tensor], heads: tuple[str, ...]) -> int | None:
    """The width of a file's head; None where it has none by timm's name."""
    shapes = [weights[f"{head}.weight"].shape for head in heads if f"{head}.weight" in weights]
    return shapes[0][0] if shapes and shapes[0] else None


def _absent(wanted: Iterable[str], there: Container[str]) -> list[str]:
    """The names that are not there; batch norm's counters, which old files lack and nothing reads, do not count."""
    return [key for key in wanted if key not in there and not key.endswith("num_batches_tracked")]


def _take_body(model: nn.Module, donor: nn.Module, heads: tuple[str, ...]) -> dict[str, Tensor]:
    """Copy all but the head, which is all that differs between models of other numbers of classes, and return it."""
    body = {key: value for key, value in donor.state_dict().items() if not _belongs(key, heads)}
    model.load_state_dict(model.state_dict() | body)
    return body


def _read_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"weights: no file at {path}; expected hub, none or the path of a checkpoint")
    if sha256 is not None and (found := weights_file_sha256(path)) != sha256:
        raise ModelError(f"weights: {path} has SHA-256 {found}, expected {sha256}; it is not the file of this recipe")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file raises errors of safetensors, pickle, zip, struct and more
        raise ModelError(
            f"weights: cannot read {path} ({one_line(error)}); expected an undamaged .safetensors file "
            "or a PyTorch checkpoint that holds only tensors"
        ) from error
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelError(f"weights: {path} holds no named tensors; expected a model's state dict")
    return weights


def _convert(name: str, num_classes: int, arguments: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """A model that timm made of a file's tensors; of all of them and of nothing else, where timm insists on that."""
    source = {"state_dict": weights, "num_classes": num_classes, "custom_load": False}
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would warn of what the report tells
    try:
        with torch.random.fork_rng(devices=[]):
            model: nn.Module = timm.create_model(
                name, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=source, **arguments
            )
    finally:
        logger.setLevel(level)
    return model


def _origins(
    weights: dict[str, Tensor], model: nn.Module, convert: Callable[[dict[str, Tensor]], nn.Module]
) -> dict[str, set[str]]:
    """Which tensors of a file each tensor of a model was made of; those made of none are left out.

    Where the file has the model's names, the names tell. Where it does not, timm renamed, split or joined tensors, or
    passed over missing ones. So the conversion is repeated with tensors that hold nothing but a number of their own,
    and these numbers are looked for in what comes out.

    Args:
        weights: the file's tensors.
        model: the model that was made of them.
        convert: makes such a model.
    """
    wanted = model.state_dict()
    if not _absent(wanted, weights):
        return {key: {key} for key in wanted if key in weights}
    names = list(weights)
    marks = {key: torch.full(value.shape, float(_FIRST_MARK + n)) for n, (key, value) in enumerate(weights.items())}
    origins = {}
    for key, value in convert(marks).state_dict().items():
        if value.numel() == 0 or value.double().abs().max() > _FIRST_MARK / 2:
            numbers = {round(number) - _FIRST_MARK for number in value.unique().tolist()}
            origins[key] = {names[number] for number in numbers if 0 <= number < len(names)}
    return origins


def _is_lenient(convert: Callable[[dict[str, Tensor]], nn.Module]) -> bool:
    """Whether timm, for a few models, passes over missing tensors; for others, what a file lacks timm has made up."""
    try:
        convert({"of no model": torch.zeros(1)})
    except Exception:  # a converter may raise anything on a file that is none
        return False
    return True


def _misfit(weights: dict[str, Tensor], wanted: dict[str, Tensor], error: Exception) -> str:
    """What tells a file's weights from a model's, by name and shape, in one line."""
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
    return _told(findings) or one_line(error)


def _told(findings: Mapping[str, Sequence[str]]) -> str:
    """How many names there are of each finding, and the first of them; empty where there are none."""
    said = [
        f"{len(names)} {what} ({', '.join(names[:_NAMES_SHOWN])}{', ...' if len(names) > _NAMES_SHOWN else ''})"
        for what, names in findings.items()
        if names
    ]
    return ", ".join(said)
