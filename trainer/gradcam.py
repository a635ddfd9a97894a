"""Grad-CAM (Selvaraju et al. 2020): where in an image a trained classifier sees what speaks for a class.

The map is the sum over a layer's channels, each weighted by the mean over its places of the gradient of the class's
logit, cut at 0. captum computes it; here the layer is found, and the map is brought to the image's size and to [0, 1].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.batches import Batches
from trainer.data.dataset import Labels, first_few
from trainer.data.images import Pixels
from trainer.errors import DataError, DivergedError, ModelError, TrainerError, one_line

INSTALL = "pip install 'lmf[gradcam]'"
_BATCH_SIZE = 8
_PROBE_IMAGES = 2


@dataclass(frozen=True)
class CamLayer:
    """A layer that gives a map.

    Attributes:
        name: its name among the model's modules, such as `layer4`.
        places: height and width of its map for images of the model's size.
        channels_last: its map has shape ``(N, H, W, C)``, not ``(N, C, H, W)``.
    """

    name: str
    places: tuple[int, int]
    channels_last: bool = False


@dataclass(frozen=True, eq=False)
class Explanation:
    """Grad-CAM of some images.

    Attributes:
        layer: the layer whose map was weighted.
        maps: float32, shape ``(N, size, size)``, in [0, 1]: the greatest value of each is 1, or the whole is 0 where
            nothing in the layer speaks for the class.
        probabilities: float32, shape ``(N, num_classes)``: what the model predicts, in float32.
    """

    layer: CamLayer
    maps: np.ndarray
    probabilities: np.ndarray


def check_captum() -> None:
    """Make sure that captum, which computes Grad-CAM, is installed.

    Raises:
        TrainerError: it is not; with the command that installs it.
    """
    _grad_cam_class()


def explain(
    model: nn.Module,
    images: Pixels,
    targets: Labels | Sequence[int],
    device: torch.device,
    *,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
    layer: str | None = None,
) -> Explanation:
    """Compute Grad-CAM of images for one class each, in float32 and in evaluation mode; the weights stay as they are.

    The same images give the same maps, bit for bit on one machine.

    Args:
        model: a classifier of timm; it is moved to the device and left in evaluation mode.
        images: uint8, shape ``(N, size, size, 3)``, at least one.
        targets: the class to explain of each image, shape ``(N,)``, in ``[0, num_classes)``.
        device: where to compute.
        statistics: mean and standard deviation per channel where the model was trained on normalised images.
        layer: name of the layer; None finds it as `find_layer` does.

    Raises:
        TrainerError: captum is not installed.
        ModelError: the model has no such layer, or none that gives a map.
        DataError: images and targets do not fit each other.
        DivergedError: the model gives infinite values, or some that are not numbers.
    """
    grad_cam_class = _grad_cam_class()
    classes = np.asarray(targets, dtype=np.int64)
    if len(images) < 1 or classes.shape != (len(images),):
        raise DataError(
            f"targets: shape is {classes.shape} for {len(images)} images; expected one class for each of at least one"
        )
    model = model.float().eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = Batches(images, classes, device, statistics=statistics)
    slices = [slice(start, start + _BATCH_SIZE) for start in range(0, len(images), _BATCH_SIZE)]
    maps, probabilities = [], []
    with _exact_kernels():
        chosen = find_layer(model, images.shape[1], device, layer)
        with (
            _map_module(model, chosen) as module,
            closing(batches.iterate(np.arange(len(images)), slices)) as made,
        ):
            grad_cam = grad_cam_class(model, module)
            for pixels, wanted in made:
                with torch.no_grad():
                    logits = model(pixels)
                _check_targets(wanted, logits.shape[1])
                cams = _attribute(grad_cam, pixels, wanted, chosen)
                maps.append(_scaled(cams, images.shape[1]))
                probabilities.append(torch.softmax(logits, dim=1).cpu().numpy())
    explanation = Explanation(chosen, np.concatenate(maps), np.concatenate(probabilities))
    if not (np.isfinite(explanation.maps).all() and np.isfinite(explanation.probabilities).all()):
        raise DivergedError("Grad-CAM: the model gives infinite values, or some that are not numbers")
    return explanation


def find_layer(model: nn.Module, size: int, device: torch.device, name: str | None = None) -> CamLayer:
    """Find the layer to weight: the last of a model's features with more than one place that all of an image passes.

    A layer within a residual block, beside which the block's input passes, tells only a part.

    Args:
        model: a classifier of timm in evaluation mode, on the device.
        size: side of its images in pixels.
        device: where it is.
        name: the layer that was asked for, or None.

    Raises:
        ModelError: there is no such layer, it gives no map, or the features of the model are no map at all.
    """
    features = getattr(model, "forward_features", None)
    if not callable(features):
        raise ModelError("Grad-CAM: the model has no forward_features; expected an image classifier of timm")
    outputs, calls, whole = _try_layers(model, size, device)
    found = {
        layer: shape
        for layer, shape in outputs.items()
        if calls[layer] == 1 and len(shape) == 4 and shape[0] == _PROBE_IMAGES
    }
    maps = {layer: _as_layer(layer, shape, model) for layer, shape in found.items()}
    with_places = [layer for layer in maps.values() if layer is not None and layer.places > (1, 1)]
    if name is not None:
        return _named_layer(name, model, with_places, calls)
    if len(whole) != 4:
        raise ModelError(
            f"Grad-CAM: the features of this model have the shape {_show(whole)} and are no map; expected a "
            "convolutional network, or name a layer that gives a map with --layer"
        )
    if not with_places:
        raise ModelError(f"Grad-CAM: no layer has more than one place for images of {size} x {size}; train larger ones")
    through = (layer for layer in reversed(with_places) if _carries_all(model, layer, size, device))
    return next(through, with_places[-1])


def _carries_all(model: nn.Module, layer: CamLayer, size: int, device: torch.device) -> bool:
    """Whether nothing of an image reaches the features but through a layer."""
    image = _blank(1, size, device).requires_grad_()
    handle = model.get_submodule(layer.name).register_forward_hook(lambda _module, _inputs, output: output.detach())
    try:
        with torch.enable_grad():
            features = model.forward_features(image)  # type: ignore[operator]
    finally:
        handle.remove()
    return not features.requires_grad or torch.autograd.grad(features.sum(), image, allow_unused=True)[0] is None


def _blank(count: int, size: int, device: torch.device) -> Tensor:
    return torch.zeros(count, 3, size, size, device=device).to(memory_format=torch.channels_last)


def _try_layers(
    model: nn.Module, size: int, device: torch.device
) -> tuple[dict[str, tuple[int, ...]], Counter[str], tuple[int, ...]]:
    """Pass blank images through the features.

    Returns:
        The shape that each module gave, in the order in which they ended, how often each ran, and the features' shape.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            calls[name] += 1
            shapes.pop(name, None)
            if isinstance(output, Tensor):
                shapes[name] = tuple(output.shape)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            whole = model.forward_features(_blank(_PROBE_IMAGES, size, device))  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return shapes, calls, tuple(whole.shape) if isinstance(whole, Tensor) else ()


def _as_layer(name: str, shape: tuple[int, ...], model: nn.Module) -> CamLayer | None:
    """What a module's output of four dimensions is a map of, seen by where its equal sides stand."""
    _, first, middle, last = shape
    either_way = first == middle == last
    if middle == last and not (either_way and getattr(model, "output_fmt", "NCHW") == "NHWC"):
        return CamLayer(name, (middle, last))
    return CamLayer(name, (first, middle), channels_last=True) if first == middle else None


def _named_layer(name: str, model: nn.Module, layers: Sequence[CamLayer], calls: Counter[str]) -> CamLayer:
    for layer in layers:
        if layer.name == name:
            return layer
    last = first_few([layer.name for layer in reversed(layers)]) or "none"
    if name not in dict(model.named_modules()):
        raise ModelError(f"--layer: the model has no layer {name!r}; those with a map, the last first: {last}")
    why = (
        "is not among the model's features"
        if not calls[name]
        else f"runs {calls[name]} times an image"
        if calls[name] > 1
        else "gives no map with more than one place"
    )
    raise ModelError(f"--layer: {name} {why}; those with a map, the last first: {last}")


class _ChannelsFirst(nn.Module):
    """Passes a map on with its channels moved from the end to the second place."""

    def forward(self, values: Tensor) -> Tensor:
        return values.permute(0, 3, 1, 2)


class _ChannelsLast(nn.Module):
    """Moves them back."""

    def forward(self, values: Tensor) -> Tensor:
        return values.permute(0, 2, 3, 1)


@contextmanager
def _map_module(model: nn.Module, layer: CamLayer) -> Iterator[nn.Module]:
    """The module whose output is the map, channels first; for a map with channels last, one put in for the time."""
    module = model.get_submodule(layer.name)
    if not layer.channels_last:
        yield module
        return
    turned = _ChannelsFirst()
    parent_name, _, own_name = layer.name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, own_name, nn.Sequential(module, turned, _ChannelsLast()))
    try:
        yield turned
    finally:
        setattr(parent, own_name, module)


def _attribute(grad_cam: Any, pixels: Tensor, targets: Tensor, layer: CamLayer) -> Tensor:
    """The weighted sums of the map, cut at 0: float32, shape ``(n, 1, H, W)``, without gradients."""
    try:
        cams: Tensor = grad_cam.attribute(pixels, target=targets, relu_attributions=True)
    except RuntimeError as error:
        if "not have been used in the graph" not in str(error):
            raise
        raise ModelError(f"--layer: the class scores do not depend on {layer.name}: {one_line(error)}") from None
    return cams.detach()


def _scaled(cams: Tensor, size: int) -> np.ndarray:
    """Maps in the size of the images, each divided by its greatest value."""
    maps = nn.functional.interpolate(cams, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    greatest = maps.amax(dim=(1, 2), keepdim=True)
    scaled: np.ndarray = (maps / torch.where(greatest > 0, greatest, 1.0)).cpu().numpy()
    return scaled


def _check_targets(targets: Tensor, num_classes: int) -> None:
    lowest, highest = int(targets.min()), int(targets.max())
    if lowest < 0 or highest >= num_classes:
        raise DataError(f"targets: classes run from {lowest} to {highest}, expected 0 to {num_classes - 1}")


@contextmanager
def _exact_kernels() -> Iterator[None]:
    """Let a GPU compute in whole float32, with kernels that repeat themselves, within the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _grad_cam_class() -> Any:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise TrainerError(f"Grad-CAM needs captum ({one_line(error)}); install it with: {INSTALL}") from None
    return LayerGradCam


def _show(shape: Sequence[int]) -> str:
    return f"({', '.join(['N', *map(str, shape[1:])])})"
