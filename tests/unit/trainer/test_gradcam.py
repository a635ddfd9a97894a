"""Grad-CAM against a plain computation by hand, on networks of several families."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import timm
import torch
from lmf_testing.training import config_of, make_data
from safetensors.torch import load_file
from torch import nn

from trainer.data.images import decode_image
from trainer.errors import DataError, DivergedError, ModelError, TrainerError
from trainer.gradcam import check_captum, explain, find_layer
from trainer.learner import Learner

CPU = torch.device("cpu")
CLASSES = 4
SMALL_SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
MODELS = [
    ("test_resnet", 96, "layer4", (3, 3), {}),
    ("test_efficientnet", 96, "bn2", (3, 3), {}),
    ("densenet121", 64, "features", (2, 2), {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    ("test_convnext", 64, "norm_pre", (2, 2), {}),
    ("swin_tiny_patch4_window7_224", 64, "norm", (2, 2), SMALL_SWIN),
]


def model_of(name: str, **arguments) -> nn.Module:
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=CLASSES, **arguments).eval()
    for module in model.modules():
        # Statistics as of a trained network, so that channels differ.
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


def images_of(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def by_hand(model: nn.Module, layer: str, pixels: torch.Tensor, target: int, *, channels_last: bool) -> np.ndarray:
    """The map of one image before it is enlarged: shape (H, W), not scaled."""
    kept: list[torch.Tensor] = []

    def hook(_module, _inputs, output):
        kept.append(output)
        return output.clone()

    handle = model.get_submodule(layer).register_forward_hook(hook)
    try:
        logits = model(pixels)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, target], kept[0])
    values, slopes = kept[0][0].detach().numpy(), gradient[0].numpy()
    if channels_last:
        values, slopes = values.transpose(2, 0, 1), slopes.transpose(2, 0, 1)
    total = np.zeros(values.shape[1:])
    for channel in range(values.shape[0]):
        total += slopes[channel].mean(dtype=np.float64) * values[channel]
    return np.maximum(total, 0)


def enlarged(small: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, written out place by place, and divided by the greatest value."""
    height, width = small.shape
    large = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y = min(max((row + 0.5) * height / size - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / size - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = small[top, left] * (1 - x + left) + small[top, right] * (x - left)
            lower = small[bottom, left] * (1 - x + left) + small[bottom, right] * (x - left)
            large[row, column] = upper * (1 - y + top) + lower * (y - top)
    return large / large.max() if large.max() > 0 else large


def assert_as_by_hand(model: nn.Module, images: np.ndarray, targets: list[int], explanation) -> None:
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32)) / 255
        layer = explanation.layer
        small = by_hand(model, layer.name, pixels, target, channels_last=layer.channels_last)
        assert small.shape == layer.places
        np.testing.assert_allclose(explanation.maps[number], enlarged(small, image.shape[0]), atol=2e-4)
        with torch.no_grad():
            expected = torch.softmax(model(pixels), dim=1)[0].numpy()
        np.testing.assert_allclose(explanation.probabilities[number], expected, atol=1e-5)


@pytest.mark.parametrize(("name", "size", "layer", "places", "arguments"), MODELS)
def test_maps_are_those_of_a_plain_computation(name, size, layer, places, arguments):
    model = model_of(name, **arguments)
    images, targets = images_of(size), [0, 3, 1]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    explanation = explain(model, images, targets, CPU)
    assert (explanation.layer.name, explanation.layer.places) == (layer, places)
    assert explanation.layer.channels_last == name.startswith("swin")
    assert explanation.maps.shape == (3, size, size)
    assert explanation.maps.dtype == explanation.probabilities.dtype == np.float32
    assert explanation.maps.min() >= 0
    greatest = explanation.maps.max(axis=(1, 2))
    assert 1 in greatest
    assert set(greatest.tolist()) <= {0, 1}
    assert_as_by_hand(model, images, targets, explanation)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_class_and_the_image_decide_and_nothing_else():
    model = model_of("test_efficientnet")
    images = images_of(96, 11)  # more than are computed at a time
    targets = [number % CLASSES for number in range(11)]
    whole = explain(model, images, targets, CPU)
    again = explain(model, images, targets, CPU)
    np.testing.assert_array_equal(whole.maps, again.maps)
    np.testing.assert_allclose(explain(model, images[9:], targets[9:], CPU).maps, whole.maps[9:], atol=1e-4)
    other = explain(model, images, [(target + 1) % CLASSES for target in targets], CPU)
    assert np.abs(other.maps - whole.maps).max() > 0.1
    np.testing.assert_array_equal(other.probabilities, whole.probabilities)


def test_probabilities_are_those_of_an_evaluation_with_normalisation():
    data = make_data()
    learner = Learner(config_of(normalize=True), [13, 9, 7], data.images, data.labels, CPU)
    expected, _ = learner.evaluate(data.split.test, lambda: None)
    statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    targets = data.labels[data.split.test]
    explanation = explain(learner._model, data.images[data.split.test], targets, CPU, statistics=statistics)
    np.testing.assert_allclose(explanation.probabilities, expected, atol=1e-6)
    plain = explain(learner._model, data.images[data.split.test], targets, CPU)
    assert np.abs(plain.probabilities - expected).max() > 1e-4


def test_where_the_last_map_has_one_place_the_last_one_that_all_passes_is_taken():
    # Within the last stage of a ResNet of bottlenecks there are maps of 2 x 2, but beside them the shortcut passes.
    model = timm.create_model("resnet26", num_classes=CLASSES).eval()
    assert find_layer(model, 32, CPU).name == "layer3"
    assert find_layer(model, 64, CPU).name == "layer4"


def test_a_layer_can_be_named():
    model = model_of("test_resnet")
    images = images_of(96, 2)
    explanation = explain(model, images, [1, 2], CPU, layer="layer2")
    assert (explanation.layer.name, explanation.layer.places) == ("layer2", (12, 12))
    assert_as_by_hand(model, images, [1, 2], explanation)


def test_a_layer_within_a_block_that_is_changed_in_place_is_read_before():
    model = model_of("test_resnet")
    images = images_of(96, 1)
    assert_as_by_hand(model, images, [2], explain(model, images, [2], CPU, layer="layer4.0.bn2"))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("layer9", "has no layer 'layer9'; those with a map, the last first: layer4, "),
        ("fc", "fc is not among the model's features"),
        ("global_pool", "global_pool is not among the model's features"),
    ],
)
def test_a_layer_that_cannot_be_explained_is_refused(layer, reason):
    with pytest.raises(ModelError, match=r"^--layer: ") as refused:
        explain(model_of("test_resnet"), images_of(96, 1), [0], CPU, layer=layer)
    assert reason in str(refused.value)


def test_a_layer_without_places_is_refused():
    with pytest.raises(ModelError, match="layer4 gives no map with more than one place"):
        find_layer(model_of("test_resnet"), 32, CPU, "layer4")


def test_a_layer_that_runs_again_and_again_is_refused():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.end = nn.Conv2d(3, CLASSES, 1)

        def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.end(self.conv(self.conv(pixels)))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.forward_features(pixels).mean(dim=(2, 3))

    with pytest.raises(ModelError, match="conv runs 2 times an image"):
        find_layer(Twice(), 8, CPU, "conv")
    assert find_layer(Twice(), 8, CPU).name == "end"


def test_tokens_are_no_map_unless_a_layer_is_named():
    model = model_of("test_vit", img_size=64)
    with pytest.raises(ModelError, match=r"have the shape \(N, 17, 64\) and are no map; expected a convolutional"):
        find_layer(model, 64, CPU)
    assert find_layer(model, 64, CPU, "patch_embed.proj").places == (4, 4)


def test_a_map_on_which_no_score_depends_is_refused():
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.aside = nn.Conv2d(3, CLASSES, 1), nn.Conv2d(3, CLASSES, 1)

        def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
            self.aside(pixels)
            return self.used(pixels)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.forward_features(pixels).mean(dim=(2, 3))

    with pytest.raises(ModelError, match="class scores do not depend on aside"):
        explain(Aside(), images_of(8, 1), [0], CPU, layer="aside")


def test_what_is_no_classifier_of_timm_is_refused():
    with pytest.raises(ModelError, match="no forward_features"):
        find_layer(nn.Conv2d(3, 3, 1), 8, CPU)


def test_targets_must_fit():
    model, images = model_of("test_resnet"), images_of(96, 2)
    with pytest.raises(DataError, match=r"shape is \(1,\) for 2 images"):
        explain(model, images, [0], CPU)
    with pytest.raises(DataError, match="classes run from 0 to 4, expected 0 to 3"):
        explain(model, images, [0, 4], CPU)
    with pytest.raises(DataError, match="at least one"):
        explain(model, images[:0], [], CPU)


def test_a_model_that_diverged_is_refused():
    model = model_of("test_resnet")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match="not numbers"):
        explain(model, images_of(96, 1), [0], CPU)


def test_a_class_for_which_nothing_speaks_has_an_empty_map():
    class Against(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.conv(pixels).abs()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            pooled = self.forward_features(pixels).sum(dim=(1, 2, 3))
            return torch.stack([pooled, -pooled], dim=1)

    # The layer is the convolution, whose sign the network drops: made positive, it speaks for class 0 alone.
    model = Against()
    nn.init.constant_(model.conv.weight, 1.0)
    nn.init.constant_(model.conv.bias, 0.1)
    explanation = explain(model, images_of(8, 2), [0, 1], CPU)
    assert explanation.maps[0].max() == 1
    assert not explanation.maps[1].any()


def test_without_captum_the_command_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(TrainerError, match=r"install it with: pip install 'lmf\[gradcam\]'"):
        check_captum()


def test_real_weights_on_real_images(test_data):
    state = load_file(test_data / "weights" / "tf_efficientnet_lite0.safetensors")
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(state)
    folder = test_data / "data" / "images" / "HAM10000" / "images"
    images = np.stack([decode_image(path.read_bytes(), 224) for path in sorted(folder.iterdir())[:1]])
    explanation = explain(model, images, [111], CPU)
    assert (explanation.layer.name, explanation.layer.places) == ("bn2", (7, 7))
    assert_as_by_hand(model, images, [111], explanation)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_maps(gpu):
    images, targets = images_of(96, 4), [0, 1, 2, 3]
    on_gpu = explain(model_of("test_efficientnet"), images, targets, gpu)
    again = explain(model_of("test_efficientnet"), images, targets, gpu)
    np.testing.assert_array_equal(on_gpu.maps, again.maps)
    on_cpu = explain(model_of("test_efficientnet"), images, targets, CPU)
    np.testing.assert_allclose(on_gpu.maps, on_cpu.maps, atol=2e-3)
    np.testing.assert_allclose(on_gpu.probabilities, on_cpu.probabilities, atol=1e-4)
