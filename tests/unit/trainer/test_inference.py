"""Predicting with an exported model gives what the test of its training gave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmf_testing.exported import CLASSES, describe_tiny, export_tiny, train_tiny
from lmf_testing.images import encode
from lmf_testing.training import CPU, Data
from PIL import Image

from trainer.data.dataset import ImageDataset
from trainer.data.images import BrokenImageError, decode_image
from trainer.errors import DivergedError, ModelError
from trainer.exported import read_description, write_model
from trainer.inference import ExportedModel, Predicted, Unusable, build_network, open_model, predict_images

pytestmark = pytest.mark.usefixtures("one_thread")


def dataset_of(data: Data, broken: tuple[int, ...] = ()) -> ImageDataset:
    """The images as PNG files in memory, some of them broken."""
    files = [encode(Image.fromarray(pixels), "PNG") for pixels in data.images]

    def read(index: int) -> bytes:
        if index in broken:
            raise BrokenImageError("cannot be read: gone")
        return files[index]

    names = tuple(f"{index:02}.png" for index in range(len(files)))
    return ImageDataset("colours", CLASSES, names, data.labels, read, decode_image)


def predicted(model: ExportedModel, dataset: ImageDataset, indices: np.ndarray, **how: Any) -> np.ndarray:
    results = list(predict_images(model, dataset, indices.tolist(), **how))
    assert [result.index for result in results] == indices.tolist()
    assert all(isinstance(result, Predicted) for result in results)
    return np.stack([result.raw for result in results if isinstance(result, Predicted)])


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"normalize": True},
        {"model": "test_resnet.r160_in1k"},
        {"model": "test_vit"},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_it_predicts_what_its_test_predicted(data: Data, tmp_path: Path, recipe: dict[str, Any]) -> None:
    trial, result = train_tiny(tmp_path / "training", data, **recipe)
    folder = tmp_path / "model"
    folder.mkdir()
    write_model(folder, describe_tiny(trial, result), result.best_state)
    model = open_model(folder, CPU)
    assert model.precision == trial.config.recipe.precision
    for part, expected in (("val", result.val_probabilities), ("test", result.test_probabilities)):
        indices = getattr(data.split, part)
        raw = predicted(model, dataset_of(data), indices)
        np.testing.assert_array_equal(raw, expected)
        if recipe.get("precision") != "bf16":
            alone = predicted(model, dataset_of(data), indices, batch_size=1)
            np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Path:
    return export_tiny(tmp_path_factory.mktemp("inference") / "model", data)


@pytest.fixture
def model(folder: Path) -> ExportedModel:
    return open_model(folder, CPU)


def test_the_temperature_divides_the_logits(model: ExportedModel, data: Data) -> None:
    raw, calibrated = model.predict(data.images[:5])
    assert calibrated is not None
    assert model.description.temperature == 0.5
    # A temperature of one half squares the probabilities before they are made to sum to 1.
    np.testing.assert_allclose(calibrated, raw**2 / (raw**2).sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(raw.argmax(axis=1), calibrated.argmax(axis=1))


def test_without_a_temperature_nothing_is_calibrated(folder: Path, data: Data) -> None:
    description = replace(read_description(folder), temperature=None)
    network = build_network(description.recipe, 3, open_model(folder, CPU)._network.state_dict())
    raw, calibrated = ExportedModel(description, network, CPU).predict(data.images[:2])
    assert raw.shape == (2, 3)
    assert calibrated is None


def test_broken_images_are_told_of_and_the_others_predicted(model: ExportedModel, data: Data) -> None:
    indices = np.array([3, 4, 5, 6, 0])
    results = list(predict_images(model, dataset_of(data, broken=(4, 0)), indices.tolist(), batch_size=2, workers=2))
    told = {result.index: result.reason for result in results if isinstance(result, Unusable)}
    assert told == {4: "cannot be read: gone", 0: "cannot be read: gone"}
    good = {result.index: result.raw for result in results if isinstance(result, Predicted)}
    assert list(good) == [3, 5, 6]
    # Broken images take no place in a batch.
    np.testing.assert_array_equal(np.stack([good[3], good[5]]), model.predict(data.images[[3, 5]])[0])


def test_progress_counts_the_images_that_are_asked_for(model: ExportedModel, data: Data) -> None:
    told: list[tuple[int, int]] = []
    list(predict_images(model, dataset_of(data), [1, 2, 3], progress=lambda done, total: told.append((done, total))))
    assert told == [(3, 3)]


def test_the_default_batch_is_that_of_the_test(model: ExportedModel) -> None:
    assert model.default_batch_size == 2 * model.description.recipe.batch_size


def test_predicting_leaves_the_random_state_alone(folder: Path, data: Data) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    open_model(folder, CPU).predict(data.images[:2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_threads_are_those_of_the_training_or_as_asked(folder: Path) -> None:
    open_model(folder, CPU, threads=2)
    assert torch.get_num_threads() == 2
    open_model(folder, CPU)
    assert torch.get_num_threads() == read_description(folder).recipe.threads == 1


class NoHalf(torch.nn.Module):
    """A network that cannot compute under autocast, as on a device without the kernels."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")
        return pixels.mean(dim=(2, 3))


def test_a_precision_that_the_device_lacks_becomes_float32(folder: Path, data: Data) -> None:
    description = read_description(folder)
    half = replace(description, recipe=replace(description.recipe, precision="fp16"))
    model = ExportedModel(half, NoHalf(), CPU)
    assert model.precision == "fp32"
    assert model.predict(data.images[:2])[0].shape == (2, 3)


def test_predictions_that_are_no_numbers_are_refused(folder: Path, data: Data) -> None:
    description = read_description(folder)
    model = ExportedModel(description, NoHalf(), CPU)
    with pytest.raises(DivergedError, match="infinite or not a number"):
        ExportedModel.predict(_with(model, torch.nn.Sequential(NoHalf(), _Nan())), data.images[:2])


class _Nan(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * float("nan")


def _with(model: ExportedModel, network: torch.nn.Module) -> ExportedModel:
    return ExportedModel(model.description, network, CPU)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    recipe = read_description(folder).recipe
    with pytest.raises(ModelError, match="do not fit test_efficientnet with 4 classes"):
        build_network(recipe, 4, open_model(folder, CPU)._network.state_dict())


@pytest.mark.gpu
def test_a_gpu_predicts_the_same_classes(folder: Path, data: Data, gpu: torch.device) -> None:
    raw, calibrated = open_model(folder, gpu).predict(data.images)
    expected, _ = open_model(folder, CPU).predict(data.images)
    assert calibrated is not None
    np.testing.assert_allclose(raw, expected, atol=5e-3)
