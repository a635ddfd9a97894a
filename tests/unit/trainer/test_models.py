"""Backbones: their names, and pretrained weights from a file, from the hub and from nowhere."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from trainer.config import ALIASES, Recipe, demo_recipe
from trainer.errors import ModelError
from trainer.models import (
    build_model,
    build_model_with_report,
    full_model_name,
    input_statistics,
    resolve_model_name,
)
from trainer.pretrained import WeightsReport, weights_file_sha256

pytestmark = pytest.mark.usefixtures("one_thread")

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def lite0_weights(test_data: Path) -> Path:
    return test_data / "weights" / f"{LITE0}.safetensors"


def built(num_classes: int = 7, seed: int = 0, folder: Path | None = None, **figures: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(Recipe(**figures), num_classes, folder)


def reported(folder: Path | None = None, **figures: Any) -> WeightsReport | None:
    return build_model_with_report(Recipe(**figures), 7, folder)[1]


def small_weights(seed: int = 5, num_classes: int = 1000) -> dict[str, Tensor]:
    """The state of a small model, in every tensor unlike that of a fresh one."""
    torch.manual_seed(seed)
    state = timm.create_model("test_resnet", num_classes=num_classes).state_dict()
    return {
        name: value + torch.rand_like(value) if value.is_floating_point() else value for name, value in state.items()
    }


def body(model: nn.Module, head: str) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith(f"{head}.")}


def assert_loaded(model: nn.Module, weights: dict[str, Tensor], head: str) -> None:
    """All but the head is the file's, bit for bit."""
    own = body(model, head)
    assert own
    for name, value in own.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, weights[name]), name


def equal_states(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == other and torch.equal(value, twin) for (name, value), (other, twin) in pairs)


def set_hub(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Tensor] | Exception) -> list[str]:
    """Lets the hub give these weights, or fail; gives the list of what it is asked for from now on."""
    asked: list[str] = []

    def download(model_id: str, *_: Any, **__: Any) -> dict[str, Tensor]:
        asked.append(model_id)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    return asked


def refusal(**figures: Any) -> str:
    with pytest.raises(ModelError) as caught:
        built(**figures)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_demo_model_is_named_in_full() -> None:
    model = demo_recipe().model
    assert resolve_model_name(model) == model


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_name_pretrained_models_of_timm(alias: str, name: str) -> None:
    assert resolve_model_name(alias) == name
    assert timm.is_model_pretrained(name)


def test_the_aliases_of_the_paper() -> None:
    assert ALIASES == {
        "efficientnetv2": "tf_efficientnetv2_s.in1k",
        "resnet50": "resnet50.tv2_in1k",
        "densenet121": "densenet121.tv_in1k",
    }


def test_names_of_timm_pass_and_old_ones_become_current() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_model_name("resnet18") == "resnet18"
        assert resolve_model_name("resnet18.tv_in1k") == "resnet18.tv_in1k"
        assert resolve_model_name("tv_resnet50") == "resnet50.tv_in1k"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet5", "no 'resnet5'; close ones: resnet50"),
        ("efficientnetv3", "close ones: efficientnetv2"),
        ("qqqq", "for example efficientnetv2, resnet50, densenet121"),
        ("resnet18.nope", "no weights tagged 'nope'; its tags: .*tv_in1k"),
        ("hf-hub:timm/resnet18.a1_in1k", "timm .* has no"),
        ("", "timm .* has no ''"),
    ],
)
def test_unknown_names_are_refused(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        resolve_model_name(name)
    with pytest.raises(ModelError, match=says):
        build_model(Recipe(model=name, weights="none"), 3)


def test_from_scratch_follows_the_seed() -> None:
    first, again, other = (built(3, seed, model="test_resnet", weights="none") for seed in (0, 0, 1))
    assert equal_states(first, again)
    assert not equal_states(first, other)
    assert first(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_a_model_of_fixed_size_is_built_for_the_size_of_the_recipe() -> None:
    model = built(3, model="test_vit", weights="none", image_size=48).eval()
    assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 3)


@pytest.mark.parametrize(
    ("model", "size", "says"),
    [
        ("nest_tiny_jx", 100, "timm cannot build nest_tiny_jx with {'img_size': 100}: "),
        ("test_vit", 100, "test_vit does not take images of 100 x 100: .*; its pretraining used 160 x 160"),
        ("densenet121", 16, "densenet121.tv_in1k does not take images of 16 x 16: "),
    ],
)
@pytest.mark.parametrize("weights", ["none", "hub"])
def test_a_size_that_a_model_cannot_have_is_refused(
    model: str, size: int, says: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the weights come from the hub: the size is to blame, not the hub."""
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: None)
    assert re.search(says, refusal(model=model, weights=weights, image_size=size))


def test_a_model_that_classifies_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.create_model", lambda *_, **__: nn.Flatten())
    assert "test_resnet gives no logits of shape (N, 7)" in refusal(model="test_resnet", weights="none", image_size=32)


def test_a_model_is_ready_to_train_and_its_statistics_untouched() -> None:
    model = built(model="test_resnet", weights="none", image_size=32)
    assert all(module.training for module in model.modules())
    state = model.state_dict()
    assert all(
        torch.equal(state[name], torch.zeros_like(state[name])) for name in state if name.endswith("running_mean")
    )


def test_statistics_are_those_of_the_pretraining() -> None:
    assert input_statistics(built(model=LITE0, weights="none")) == ((0.5,) * 3, (0.5,) * 3)
    mean, deviation = input_statistics(built(model="test_efficientnet", weights="none"))
    assert (mean, deviation) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_real_weights_are_loaded_under_a_new_head(lite0_weights: Path) -> None:
    model = built(model=LITE0, weights=str(lite0_weights))
    assert_loaded(model, safetensors.torch.load_file(lite0_weights), "classifier")
    fresh = built(model=LITE0, weights="none")
    assert torch.equal(model.get_parameter("classifier.weight"), fresh.get_parameter("classifier.weight"))
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_the_hub_and_a_file_give_the_same_model(lite0_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_hub(monkeypatch, safetensors.torch.load_file(lite0_weights))
    from_hub = built(model=LITE0, weights="hub")
    after_hub = torch.rand(1)
    from_file = built(model=LITE0, weights=str(lite0_weights))
    assert equal_states(from_hub, from_file)
    assert torch.equal(after_hub, torch.rand(1))


def test_a_pinned_file_must_be_that_file(lite0_weights: Path) -> None:
    found = hashlib.sha256(lite0_weights.read_bytes()).hexdigest()
    assert weights_file_sha256(lite0_weights) == found
    built(model=LITE0, weights=str(lite0_weights), weights_sha256=found)
    message = refusal(model=LITE0, weights=str(lite0_weights), weights_sha256="0" * 64)
    assert found in message
    assert "0" * 64 in message


@pytest.mark.parametrize("classes", [1000, 7, 4])
@pytest.mark.parametrize("form", ["safetensors", "pth", "timm checkpoint", "wrapped"])
def test_every_form_of_file_is_loaded(form: str, classes: int, tmp_path: Path) -> None:
    """The file's own head is dropped, also where it has as many classes as are asked for."""
    weights = small_weights(num_classes=classes)
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.pth")
    if form == "safetensors":
        safetensors.torch.save_file(weights, path)
    elif form == "pth":
        torch.save(weights, path)
    elif form == "timm checkpoint":
        torch.save({"epoch": 3, "state_dict": weights, "arch": "test_resnet"}, path)
    else:
        torch.save({f"module.{name}": value for name, value in weights.items()}, path)
    model = built(7, model="test_resnet", weights=str(path))
    assert_loaded(model, weights, "fc")
    assert torch.equal(model.get_parameter("fc.weight"), built(7, model="test_resnet", weights="none").fc.weight)


def test_weights_in_torchvision_names_are_converted(tmp_path: Path) -> None:
    torch.manual_seed(5)
    ours = timm.create_model("densenet121", num_classes=1000).state_dict()
    theirs = {
        name.replace(".norm1.", ".norm.1.")
        .replace(".conv1.", ".conv.1.")
        .replace(".norm2.", ".norm.2.")
        .replace(".conv2.", ".conv.2."): value
        for name, value in ours.items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in theirs
    torch.save(theirs, tmp_path / "densenet121.pth")
    assert_loaded(built(model="densenet121", weights=str(tmp_path / "densenet121.pth")), ours, "classifier")


def test_a_transformer_is_loaded_for_another_image_size(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit", num_classes=1000).state_dict()
    safetensors.torch.save_file(weights, tmp_path / "vit.safetensors")
    model = built(3, model="test_vit", weights=str(tmp_path / "vit.safetensors"), image_size=64)
    block = "blocks.0.attn.qkv.weight"
    assert torch.equal(model.state_dict()[block], weights[block])
    assert model.state_dict()["pos_embed"].shape != weights["pos_embed"].shape


def test_weights_of_another_model_are_refused(lite0_weights: Path) -> None:
    message = refusal(model="test_resnet", weights=str(lite0_weights))
    assert str(lite0_weights) in message
    assert "does not fit test_resnet" in message
    theirs = safetensors.torch.load_file(lite0_weights).keys()
    ours = timm.create_model("test_resnet").state_dict().keys()
    assert f"{len(ours - theirs)} missing (conv1.0.weight, " in message
    assert f"{len(theirs - ours)} left over (" in message
    for sibling in ("tf_efficientnet_lite1", "vit_tiny_patch16_224"):
        assert f"does not fit {sibling}: " in refusal(model=sibling, weights=str(lite0_weights))


@pytest.mark.parametrize("num_classes", [7, 1000])
def test_weights_that_miss_a_tensor_are_refused(num_classes: int, tmp_path: Path) -> None:
    """Loaded loosely, the one tensor would stay random and nobody would know."""
    path = tmp_path / "model.safetensors"
    weights = small_weights()
    safetensors.torch.save_file({name: value for name, value in weights.items() if name != "bn1.bias"}, path)
    assert "1 missing (bn1.bias)" in refusal(num_classes=num_classes, model="test_resnet", weights=str(path))
    safetensors.torch.save_file(weights | {"extra": torch.zeros(1)}, path)
    assert "1 left over (extra)" in refusal(num_classes=num_classes, model="test_resnet", weights=str(path))
    safetensors.torch.save_file(weights | {"bn1.bias": torch.zeros(3)}, path)
    message = refusal(num_classes=num_classes, model="test_resnet", weights=str(path))
    assert "1 of another shape (bn1.bias (3,) instead of " in message


class Unsafe:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "text", "flipped header"])
def test_a_damaged_file_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save(small_weights(), path)
    else:
        safetensors.torch.save_file(small_weights(), path)
    whole = path.read_bytes()
    contents = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "noise": bytes(range(256)) * 40,
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "flipped header": b"\xff" * 8 + whole[8:],
    }
    path.write_bytes(contents[damage])
    message = refusal(model="test_resnet", weights=str(path))
    assert f"cannot read {path}" in message
    assert "expected an undamaged .safetensors file or a PyTorch checkpoint" in message


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": small_weights(), "extra": Unsafe()}, tmp_path / "model.pth")
    assert "cannot read" in refusal(model="test_resnet", weights=str(tmp_path / "model.pth"))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, torch.zeros(3), [1, 2]])
def test_a_file_without_named_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert str(tmp_path / "model.pth") in refusal(model="test_resnet", weights=str(tmp_path / "model.pth"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        assert f"no file at {path}; expected hub, none or" in refusal(model="test_resnet", weights=str(path))
        with pytest.raises(ModelError, match="cannot read"):
            weights_file_sha256(path)


@pytest.mark.parametrize("error", [OSError("no\nroute"), ConnectionError(), RuntimeError("invalid hash value")])
def test_a_failed_download_says_all_ways_out(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_hub(monkeypatch, error)
    for folder in (None, tmp_path / "weights"):
        message = refusal(model="test_resnet", weights="hub", folder=folder)
        assert "run `lmf model fetch test_resnet.r160_in1k` on a machine with a network" in message
        assert "`--weights FILE`" in message
        assert "`--weights none`" in message
        assert (" ".join(str(error).split()) or type(error).__name__) in message
        assert (f"copy test_resnet.r160_in1k.safetensors into {folder}, or" in message) == (folder is not None)


def test_a_model_without_weights_on_the_hub_says_both_ways_out(tmp_path: Path) -> None:
    name = next(name for name in timm.list_models("resnet*") if not timm.is_model_pretrained(name))
    message = refusal(model=name, weights="hub", folder=tmp_path)
    assert f"no pretrained weights for {name}" in message
    assert "`--weights FILE`" in message
    assert "`--weights none`" in message
    assert "fetch" not in message


def test_names_are_completed_with_the_tag_of_their_weights() -> None:
    assert full_model_name("efficientnetv2") == "tf_efficientnetv2_s.in1k"
    assert full_model_name(LITE0) == f"{LITE0}.in1k"
    assert full_model_name("resnet18.tv_in1k") == "resnet18.tv_in1k"
    assert full_model_name("efficientnet_b6") == "efficientnet_b6"
    with pytest.raises(ModelError, match="has no 'resnet5'"):
        full_model_name("resnet5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the weights of one model."""
    safetensors.torch.save_file(small_weights(), tmp_path / "test_resnet.r160_in1k.safetensors")
    return tmp_path


@pytest.mark.parametrize("name", ["test_resnet", "test_resnet.r160_in1k"])
def test_a_folder_of_weights_stands_in_for_the_hub(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set_hub(monkeypatch, small_weights())
    from_hub = built(model=name, weights="hub")
    after_hub = torch.rand(1)
    assert len(asked) == 1
    from_folder = built(model=name, weights="hub", folder=folder)
    assert torch.equal(after_hub, torch.rand(1))
    assert equal_states(from_hub, from_folder)
    assert len(asked) == 1


def test_a_folder_without_the_weights_leaves_it_to_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = timm.create_model("test_efficientnet").state_dict()
    asked = set_hub(monkeypatch, weights)
    for place in (folder, folder / "absent"):
        assert_loaded(built(model="test_efficientnet", weights="hub", folder=place), weights, "classifier")
    assert asked == ["timm/test_efficientnet.r160_in1k"] * 2


def test_a_folder_of_weights_is_for_the_hub_alone(folder: Path, tmp_path: Path) -> None:
    fresh = built(model="test_resnet", weights="none")
    assert equal_states(built(model="test_resnet", weights="none", folder=folder), fresh)
    other = small_weights(seed=6)
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    path = str(tmp_path / "other.safetensors")
    assert_loaded(built(model="test_resnet", weights=path, folder=folder), other, "fc")


@pytest.mark.parametrize("damage", ["empty", "cut", "of another model"])
def test_damaged_weights_in_the_folder_are_to_be_fetched_again(
    damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set_hub(monkeypatch, small_weights())
    path = folder / "test_resnet.r160_in1k.safetensors"
    whole = path.read_bytes()
    if damage == "of another model":
        safetensors.torch.save_file(timm.create_model("test_efficientnet").state_dict(), path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    message = refusal(model="test_resnet", weights="hub", folder=folder)
    assert str(path) in message
    assert "fetch it again: run `lmf model fetch test_resnet.r160_in1k --force` on a machine with a network" in message
    assert message.endswith(f"put {path.name} into {folder}")
    assert asked == []


def test_weights_of_the_hub_that_miss_a_tensor_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = small_weights()
    del weights["bn1.bias"]
    set_hub(monkeypatch, weights)
    assert "bn1.bias" in refusal(model="test_resnet", weights="hub")


def test_a_report_says_where_weights_come_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_hub(monkeypatch, small_weights())
    told = f"{len(small_weights()) - 2} tensors taken, head fc (1000 classes) replaced for 7 classes"
    file = folder / "test_resnet.r160_in1k.safetensors"
    places = {
        "timm/test_resnet.r160_in1k of the hub": reported(model="test_resnet"),
        f"{file.name} in {folder}": reported(folder, model="test_resnet"),
        file.name: reported(model="test_resnet", weights=str(file)),
    }
    for source, report in places.items():
        assert report is not None
        assert report.line() == f"weights: {source}: {told}"
    assert reported(folder, model="test_resnet", weights="none") is None


def test_a_report_of_real_weights(lite0_weights: Path) -> None:
    report = reported(model=LITE0, weights=str(lite0_weights))
    assert report == WeightsReport(lite0_weights.name, 294, ("classifier",), 1000, 7)
