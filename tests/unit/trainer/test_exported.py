"""A model's folder: what is written is read again, and nothing that is damaged is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from lmf_testing.exported import CLASSES, describe_tiny, export_tiny, train_tiny
from lmf_testing.training import Data

from trainer.errors import ModelError
from trainer.exported import FORMAT, ModelDescription, read_description, read_weights, write_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Path:
    return export_tiny(tmp_path_factory.mktemp("exported") / "model", data, statistics=((0.1, 0.2, 0.3), (0.4, 0.5, 1)))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / "model"
    copy.mkdir()
    for file in whole.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_what_was_written_is_read_again(whole: Path) -> None:
    description = read_description(whole)
    assert description.classes == CLASSES
    assert description.statistics == ((0.1, 0.2, 0.3), (0.4, 0.5, 1))
    assert description.temperature == 0.5
    assert description.recipe.image_size == 32
    assert description.origin == {"study": "tiny", "trial": 0}
    again = ModelDescription.from_dict(json.loads(json.dumps(description.to_dict())))
    assert again == description
    assert read_weights(whole, description).keys() == safetensors.torch.load_file(whole / "model.safetensors").keys()


def test_files_may_be_read_by_whoever_may_read_the_folder(whole: Path) -> None:
    modes = {file.stat().st_mode for file in whole.iterdir()}
    assert len(modes) == 1


def test_the_document_says_what_a_reader_without_lmf_needs(whole: Path) -> None:
    document = json.loads((whole / "model.json").read_text())
    assert document["model"] == "test_efficientnet"
    assert document["image_size"] == 32
    assert document["classes"] == list(CLASSES)
    assert "32 x 32" in document["preprocessing"]["resize"]
    assert document["preprocessing"]["normalise"] == {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 1]}


def change(**parts: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | parts))

    return damage


def reseal(**parts: Any) -> Callable[[Path], None]:
    """Write a document that is sealed, as another version could have written it."""

    def damage(folder: Path) -> None:
        from trainer.exported import _seal

        path = folder / "model.json"
        document = json.loads(path.read_text()) | parts
        del document["sha256"]
        path.write_text(json.dumps({**document, "sha256": _seal(document)}))

    return damage


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def flip_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.json").unlink(), "holds no model.json; expected a folder that `lmf export"),
        (lambda folder: (folder / "model.safetensors").unlink(), "there is no such file"),
        (cut("model.json"), "is no JSON document"),
        (cut("model.safetensors"), "cannot be read"),
        (flip_a_weight, "holds other weights than model.json names"),
        (change(temperature=1.0), "was changed or damaged after it was written"),
        (change(classes=list(CLASSES[::-1])), "was changed or damaged after it was written"),
        (change(format=FORMAT + 1), f"is of format {FORMAT + 1}, while this lmf reads {FORMAT}"),
        (change(kind="cake"), "describes no model of lmf"),
        (reseal(recipe={"sugar": 1}), "was written by another version of lmf"),
        (reseal(temperature="hot"), "was written by another version of lmf"),
        (reseal(temperature=-1.0), "temperature: value is -1.0, expected a number above 0"),
        (reseal(classes=["nv", "nv"]), "expected at least 2 names, all different"),
        (lambda folder: (folder / "model.json").write_text("[1]"), "describes no model of lmf"),
        (lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe{"), "is no JSON document"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(folder: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(folder)
    with pytest.raises(ModelError) as error:
        read_weights(folder, read_description(folder))
    assert said in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        read_description(tmp_path / "nothing")


def test_other_weights_than_described_are_not_written(data: Data, tmp_path: Path) -> None:
    trial, result = train_tiny(tmp_path / "training", data)
    described = replace(describe_tiny(trial, result), weights_sha256="0" * 64)
    with pytest.raises(ModelError, match="their SHA-256 is"):
        write_model(tmp_path, described, result.best_state)
    assert not list(tmp_path.glob("model.*"))


def test_a_recipe_whose_precision_is_not_chosen_is_not_written(data: Data, tmp_path: Path) -> None:
    trial, result = train_tiny(tmp_path / "training", data)
    described = describe_tiny(trial, result, recipe=replace(trial.config.recipe, precision="auto"))
    with pytest.raises(ModelError, match="precision"):
        write_model(tmp_path, described, result.best_state)
