"""What is taken of a file of weights, what is missing there, and what is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from trainer.config import Recipe
from trainer.errors import ModelError
from trainer.models import build_model_with_report
from trainer.pretrained import WeightsReport

pytestmark = pytest.mark.usefixtures("one_thread")


def weights_of(name: str, **arguments: int) -> dict[str, Tensor]:
    """The state of a model, in every tensor unlike that of a fresh one."""
    torch.manual_seed(5)
    state = timm.create_model(name, **arguments).state_dict()
    return {key: value + 0.1 if value.is_floating_point() else value.clone() for key, value in state.items()}


def load(path: Path, name: str, weights: dict[str, Tensor], size: int = 224) -> tuple[nn.Module, WeightsReport]:
    """A model of three classes with these weights, and the report."""
    safetensors.torch.save_file({key: value.contiguous() for key, value in weights.items()}, path)
    model, report = build_model_with_report(Recipe(model=name, weights=str(path), image_size=size), 3)
    assert report is not None
    return model, report


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.safetensors"


def test_a_line_names_the_first_three_of_what_is_missing_or_left_over() -> None:
    report = WeightsReport("f.pth", 5, ("head", "head_dist"), None, 7, ("a", "b"), ("c", "d", "e", "f"))
    assert report.line() == (
        "weights: f.pth: 5 tensors taken, head head and head_dist new for 7 classes; "
        "2 missing (a, b), 4 left over (c, d, e, ...)"
    )


def test_what_timm_passes_over_is_told(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """timm builds this model without its auxiliary classifier, and ignores whatever else there is in a file."""
    weights = weights_of("inception_v3")
    extra = {f"AuxLogits.{name}": torch.zeros(3) for name in ("conv0.conv.weight", "fc.bias", "fc.weight")}
    model, report = load(file, "inception_v3.tv_in1k", weights | extra, size=96)
    assert report.left_over == tuple(sorted(extra))
    assert report.missing == ()
    assert report.taken == len(weights) - 2
    assert "3 left over (AuxLogits.conv0.conv.weight, AuxLogits.fc.bias, AuxLogits.fc.weight)" in report.line()
    assert torch.equal(model.get_parameter("Mixed_7c.branch_pool.bn.bias"), weights["Mixed_7c.branch_pool.bn.bias"])
    assert capfd.readouterr() == ("", "")


def test_a_body_that_misses_a_tensor_is_refused_where_timm_would_let_it_pass(file: Path) -> None:
    weights = weights_of("dla34")
    load(file, "dla34", weights, size=64)
    del weights["level2.root.bn.running_mean"], weights["level2.root.bn.weight"]
    with pytest.raises(ModelError, match=re.escape(f"{file} does not fit dla34: 2 missing (level2.root.bn.weight, ")):
        load(file, "dla34", weights | {"extra": torch.zeros(1)}, size=64)


def test_counters_may_be_missing(file: Path) -> None:
    """Checkpoints of old versions of PyTorch have none."""
    weights = {key: value for key, value in weights_of("dla34").items() if not key.endswith("num_batches_tracked")}
    _, report = load(file, "dla34", weights, size=64)
    assert report == WeightsReport(file.name, len(weights) - 2, ("fc",), 1000, 3)


def original_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ConvNeXt's weights under the names, and in the shapes, of its authors."""
    theirs = {}
    for key, value in weights.items():
        key = key.replace("head.fc.", "head.").replace("head.norm.", "norm.").replace("stem.", "downsample_layers.0.")
        key = re.sub(r"stages\.(\d+)\.blocks\.(\d+)", r"stages.\1.\2", key)
        key = re.sub(r"stages\.(\d+)\.downsample\.(\d+)", r"downsample_layers.\1.\2", key)
        theirs[key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")] = value
    return theirs


def test_names_that_timm_converts_are_neither_missing_nor_left_over(file: Path) -> None:
    ours = weights_of("test_convnext")
    theirs = original_names(ours)
    assert len(theirs.keys() - ours.keys()) > len(ours) / 2
    model, report = load(file, "test_convnext", theirs)
    assert report == WeightsReport(file.name, len(ours) - 2, ("head.fc",), 1000, 3)
    assert torch.equal(model.state_dict()["stem.0.weight"], ours["stem.0.weight"])


def test_what_timm_drops_when_it_converts_is_left_over(file: Path) -> None:
    theirs = original_names(weights_of("test_convnext"))
    extra = {"norms.0.weight": torch.zeros(4), "projectors.0.weight": torch.zeros(4)}
    _, report = load(file, "test_convnext", theirs | extra)
    assert report.left_over == tuple(extra)
    assert report.taken == len(theirs) - 2


def test_tensors_that_timm_splits_are_taken(file: Path) -> None:
    """Its authors' files have one tensor for query, key and value, where the model has three."""
    ours = weights_of("xcit_nano_12_p16_224")
    theirs = dict(ours)
    for block in (0, 1):
        for kind in ("weight", "bias"):
            parts = [theirs.pop(f"cls_attn_blocks.{block}.attn.{part}.{kind}") for part in "qkv"]
            theirs[f"cls_attn_blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    model, report = load(file, "xcit_nano_12_p16_224", theirs)
    assert report == WeightsReport(file.name, len(theirs) - 2, ("head",), 1000, 3)
    assert torch.equal(model.state_dict()["cls_attn_blocks.1.attn.k.bias"], ours["cls_attn_blocks.1.attn.k.bias"])


def test_a_part_of_a_larger_model_is_taken_and_the_rest_told(file: Path) -> None:
    """OpenCLIP's files hold a model of images among others; timm makes up a bias for its head."""
    ours = weights_of("test_vit")
    body = {f"visual.trunk.{key}": value for key, value in ours.items() if not key.startswith("head.")}
    rest = {"text.token": torch.zeros(3), "scale": torch.zeros(())}
    model, report = load(file, "test_vit", body | rest | {"visual.head.proj.weight": ours["head.weight"]})
    assert set(report.left_over) == set(rest)
    assert (report.taken, report.missing) == (len(body), ())
    assert torch.equal(model.state_dict()["norm.bias"], ours["norm.bias"])


def test_what_timm_makes_up_is_not_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(weights: dict[str, Tensor], *_: object, **__: object) -> dict[str, Tensor]:
        return {key.removeprefix("theirs."): value for key, value in weights.items()} | {"norm.bias": torch.zeros(64)}

    monkeypatch.setattr("timm.models.vision_transformer.checkpoint_filter_fn", convert)
    ours = weights_of("test_vit")
    assert ours.pop("norm.bias").shape == (64,)
    _, report = load(file, "test_vit", {f"theirs.{key}": value for key, value in ours.items()}, size=160)
    assert (report.taken, report.missing, report.left_over) == (len(ours) - 2, (), ())


def test_a_file_without_a_head_is_taken_and_that_is_told(file: Path) -> None:
    weights = weights_of("test_resnet")
    del weights["fc.weight"], weights["fc.bias"]
    model, report = load(file, "test_resnet", weights)
    assert report == WeightsReport(file.name, len(weights), ("fc",), None, 3, ("fc.weight", "fc.bias"))
    assert "head fc new for 3 classes; 2 missing (fc.weight, fc.bias)" in report.line()
    assert torch.equal(model.state_dict()["bn1.bias"], weights["bn1.bias"])
    del weights["bn1.bias"]
    with pytest.raises(ModelError, match=r"3 missing \(bn1.bias, fc.weight, fc.bias\)"):
        load(file, "test_resnet", weights)


def test_models_with_two_heads(file: Path) -> None:
    weights = weights_of("deit_tiny_distilled_patch16_224")
    model, report = load(file, "deit_tiny_distilled_patch16_224", weights)
    assert report == WeightsReport(file.name, len(weights) - 4, ("head", "head_dist"), 1000, 3)
    assert model(torch.zeros(1, 3, 224, 224))[0].shape[-1] == 3
