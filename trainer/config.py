"""The recipe of one training: every figure that decides what comes out, with the paper's values as defaults.

Nothing here needs torch, so that a study can be described and checked without loading it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

from trainer.errors import RecipeError

LOSS_NAMES = (
    "cce",
    "wcce",
    "bwcce",
    "ldam",
    "focal",
    "lmf",
    "cb_cce",
    "balanced_softmax",
    "logit_adjustment",
)
"""Every loss that `trainer.losses.build_loss` makes."""

ALIASES = {
    "efficientnetv2": "tf_efficientnetv2_s.in1k",
    "resnet50": "resnet50.tv2_in1k",
    "densenet121": "densenet121.tv_in1k",
}
"""Short names of the paper's backbones, and the timm models that they stand for."""

VARIANTS = ("reference", "equations")
"""LDAM as its authors ran it, and as the paper's equations say."""

SELECTORS = (
    "macro_f1",
    "balanced_accuracy",
    "macro_auc",
    "macro_average_precision",
    "sensitivity_at_specificity",
    "mcc",
    "kappa",
)
"""The validation scores that an epoch, and a point, may be chosen by."""

PRECISIONS = ("fp32", "bf16", "fp16")
"""What the network may be computed in."""

AUTO = "auto"
"""Said of a precision that is to be chosen by measuring, before anything is trained."""

WEIGHT_SOURCES = ("hub", "none")
"""What `weights` may say besides naming a file."""


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _integer(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _is_integer(value) and low <= value <= high, f"a whole number from {low} to {high}"


def _number(low: float, high: float, *, above: bool = False) -> tuple[Callable[[Any], bool], str]:
    if above:
        return (
            lambda value: _is_number(value) and low < value <= high,
            f"a number above {low:g}, at most {high:g}",
        )
    return lambda value: _is_number(value) and low <= value <= high, f"a number from {low:g} to {high:g}"


def _choice(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in allowed, "one of " + ", ".join(allowed)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_sha256(value: object) -> bool:
    return value is None or (isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "a timm model name"),
    "weights": (_is_text, "hub, none or the path of a file"),
    "weights_sha256": (_is_sha256, "64 lower-case hexadecimal digits"),
    "image_size": _integer(16, 2048),
    "exact": (lambda value: isinstance(value, bool), "true or false"),
    "normalize": (lambda value: isinstance(value, bool), "true or false"),
    "augment": _choice("none", "standard"),
    "epochs": _integer(1, 10_000),
    "batch_size": _integer(2, 65_536),
    "lr": _number(0, 10, above=True),
    "weight_decay": _number(0, 10),
    "lr_step_epochs": _integer(1, 10_000),
    "lr_gamma": _number(0, 1, above=True),
    "select": _choice(*SELECTORS),
    "specificity": _number(0, 1, above=True),
    "precision": _choice(*PRECISIONS, AUTO),
    "compile": (lambda value: isinstance(value, bool), "true or false"),
    "deterministic": (lambda value: isinstance(value, bool), "true or false"),
    "threads": _integer(1, 256),
    "max_margin": _number(0, 100, above=True),
    "gamma": _number(0, 100),
    "scale": _number(0, 1000, above=True),
    "variant": _choice(*VARIANTS),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one model is trained; the defaults are the paper's for its study of α and β.

    Attributes:
        model: a timm model name, or an alias of `ALIASES`.
        weights: `hub` (timm's pretrained weights), `none` (from scratch), or the path of a checkpoint.
        weights_sha256: what the file of `weights` must hash to; None where it is not pinned.
        image_size: side of the square input, in pixels.
        exact: decode JPEGs at their full size before they are shrunk; off, large ones are decoded at a half, a quarter
            or an eighth, which is faster and differs by a grey level or so.
        normalize: subtract the mean and divide by the deviation of the model's pretraining.
        augment: `none`, or `standard` (flips, quarter turns, brightness, contrast and saturation).
        epochs: passes over the training images.
        batch_size: images per step.
        lr: Adam's learning rate in the first epoch.
        weight_decay: L2 penalty, added to the gradient.
        lr_step_epochs: epochs after which the learning rate is multiplied by `lr_gamma`, again and again.
        lr_gamma: that factor.
        select: the validation score that chooses the epoch to keep, one of `SELECTORS`.
        specificity: at which specificity sensitivity is stated, above 0, at most 1.
        precision: `fp32`, or autocast to `bf16` or `fp16`; losses are always computed in float32. `auto` stands for
            the fastest of these and is replaced by it before anything is trained, see `trainer.probe`.
        threads: threads of one training on the processor; the results depend on it.
        compile: compile the network with `torch.compile`; the results differ a little from those without.
        deterministic: on a GPU, use only kernels that repeat themselves bit for bit, which may be slower.
        max_margin: margin of the rarest class, in logit units (paper Eq. 4).
        gamma: focusing exponent of the focal half (paper Eq. 7).
        scale: factor on LDAM's logits in the `reference` variant; `equations` has no such factor.
        variant: `reference` or `equations`, see `trainer.losses.LDAMLoss`.
    """

    model: str = "efficientnetv2"
    weights: str = "hub"
    weights_sha256: str | None = None
    image_size: int = 224
    exact: bool = False
    normalize: bool = False
    augment: str = "none"
    epochs: int = 60
    batch_size: int = 32
    lr: float = 1e-4
    weight_decay: float = 5e-4
    lr_step_epochs: int = 30
    lr_gamma: float = 0.1
    select: str = "macro_f1"
    specificity: float = 0.95
    precision: str = "fp32"
    threads: int = 1
    compile: bool = False
    deterministic: bool = False
    max_margin: float = 0.5
    gamma: float = 1.5
    scale: float = 30.0
    variant: str = "reference"

    def problems(self) -> list[str]:
        """Everything that is wrong with this recipe, one line each; empty where nothing is.

        Returns:
            Lines such as ``epochs: value is 0, expected a whole number from 1 to 10000``.
        """
        lines = []
        for name, (accepts, expected) in _RULES.items():
            value = getattr(self, name)
            if not accepts(value):
                lines.append(f"{name}: value is {value!r}, expected {expected}")
        if self.weights_sha256 is not None and self.weights in WEIGHT_SOURCES:
            lines.append(
                f"weights_sha256: value is {self.weights_sha256!r}, expected it unset, "
                f"since weights is {self.weights!r} and names no file"
            )
        if self.variant == "equations" and self.scale != _DEFAULT_SCALE:
            lines.append(f"scale: value is {self.scale!r}, expected it unset, since the variant equations has no scale")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, in plain values that JSON and TOML can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe from named values; what is not named takes its default.

        Whole numbers given for real-valued fields become floats, so that equal recipes are stored alike.
        Ranges are not checked here: `problems` reports them all together.

        Raises:
            RecipeError: a name is not a field; the message says which ones exist or come close.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise RecipeError("; ".join(_unknown_field(str(name), known) for name in unknown))
        plain: dict[str, Any] = {name: _as_stored(name, value) for name, value in values.items()}
        return cls(**plain)

    def differences(self, other: Recipe) -> list[str]:
        """What another recipe would change, as ``epochs: 60 stored, 30 asked``.

        A weights file counts by its content where both recipes pin it, wherever it lies.

        Args:
            other: the recipe that is asked for; this one is the stored one.
        """
        same_file = self.weights_sha256 is not None and self.weights_sha256 == other.weights_sha256
        return [
            f"{field.name}: {getattr(self, field.name)} stored, {getattr(other, field.name)} asked"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name) and not (field.name == "weights" and same_file)
        ]


_DEFAULT_SCALE = Recipe.scale
_REAL_FIELDS = {field.name for field in fields(Recipe) if field.type == "float"}
_LARGEST_EXACT = 2**53


def _as_stored(name: str, value: object) -> object:
    if name in _REAL_FIELDS and _is_integer(value) and abs(value) <= _LARGEST_EXACT:
        return float(value)
    return value


def _unknown_field(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(known)}"
    return f"{name}: no such figure in a recipe, {hint}"


def demo_recipe() -> Recipe:
    """The recipe of `digits-lt`: small images, a small model from scratch, few epochs."""
    return Recipe(
        model="test_efficientnet_gn",
        weights="none",
        image_size=32,
        epochs=14,
        lr=4e-3,
        lr_step_epochs=10,
    )


@dataclass(frozen=True)
class TrialConfig:
    """One training: a recipe and the point that it is run at.

    Attributes:
        recipe: how to train.
        loss: one of `LOSS_NAMES`.
        alpha: weight of LMF's LDAM half; None for every other loss.
        beta: weight of LMF's focal half; None for every other loss.
        seed: seeds the initial weights, the order of the images and the augmentation.
    """

    recipe: Recipe
    loss: str
    alpha: float | None
    beta: float | None
    seed: int

    def loss_hyperparameters(self) -> dict[str, float | str]:
        """What `trainer.losses.build_loss` takes for this trial besides the name and the class counts.

        Raises:
            RecipeError: α and β are missing for `lmf`, or given for a loss that has none.
        """
        weights = {"alpha": self.alpha, "beta": self.beta}
        given = {name: value for name, value in weights.items() if value is not None}
        if self.loss == "lmf" and len(given) < len(weights):
            raise RecipeError("lmf: alpha and beta are expected, both as numbers")
        if self.loss != "lmf" and given:
            raise RecipeError(f"{self.loss}: has no {' and '.join(given)}; only lmf takes them")
        chosen: dict[str, float | str] = dict(given)
        if self.loss in ("ldam", "lmf"):
            chosen |= {"max_margin": self.recipe.max_margin, "variant": self.recipe.variant}
            if self.recipe.variant == "reference":
                chosen["scale"] = self.recipe.scale
        if self.loss in ("focal", "lmf"):
            chosen |= {"max_margin": self.recipe.max_margin, "gamma": self.recipe.gamma}
        return chosen
