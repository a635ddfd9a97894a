"""Fetching weights: what is asked of the hub, and that a file is there whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor

from trainer.config import Recipe
from trainer.errors import ModelError
from trainer.fetching import fetch_weights
from trainer.models import build_model
from trainer.weights_folder import list_weights

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = "test_resnet.r160_in1k.safetensors"


class Hub:
    """Gives weights in place of the real hub, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.weights: dict[str, Tensor] = {}

    def __call__(self, model_id: str, *_: Any, **__: Any) -> dict[str, Tensor]:
        self.asked.append(model_id)
        if not self.weights:
            raise ConnectionError("no route")
        return dict(self.weights)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    torch.manual_seed(5)
    hub.weights = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", hub)
    return hub


@pytest.mark.parametrize("name", ["test_resnet", "test_resnet.r160_in1k"])
def test_weights_are_stored_under_their_full_name(name: str, hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    path = fetch_weights(name, folder)
    assert path == folder / FILE
    assert list(folder.iterdir()) == [path]
    assert hub.asked == ["timm/test_resnet.r160_in1k"]
    stored = safetensors.torch.load_file(path)
    assert stored.keys() == hub.weights.keys()
    assert all(torch.equal(stored[key], value) for key, value in hub.weights.items())
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "model": "test_resnet.r160_in1k", "timm": timm.__version__}


def test_an_alias_is_fetched_as_what_it_stands_for(hub: Hub, tmp_path: Path) -> None:
    torch.manual_seed(5)
    hub.weights = timm.create_model("densenet121").state_dict()
    assert fetch_weights("densenet121", tmp_path).name == "densenet121.tv_in1k.safetensors"


def test_weights_that_are_there_are_fetched_again_only_by_force(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"old")
    assert fetch_weights("test_resnet", tmp_path).read_bytes() == b"old"
    assert hub.asked == []
    assert fetch_weights("test_resnet", tmp_path, force=True).read_bytes() != b"old"
    assert len(hub.asked) == 1


def test_fetched_weights_build_the_model_that_the_hub_builds(hub: Hub, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fetch_weights("test_resnet", tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    from_hub = build_model(Recipe(model="test_resnet"), 3).state_dict()
    torch.manual_seed(0)
    hub.weights = {}
    from_folder = build_model(Recipe(model="test_resnet"), 3, tmp_path).state_dict()
    assert all(torch.equal(value, from_folder[key]) for key, value in from_hub.items())


def test_a_model_of_another_image_size_takes_fetched_weights(hub: Hub, tmp_path: Path) -> None:
    """A transformer's are stored for its own size, and resampled as those of the hub are."""
    torch.manual_seed(5)
    hub.weights = timm.create_model("test_vit").state_dict()
    fetch_weights("test_vit", tmp_path)
    models = []
    for folder in (None, tmp_path):
        torch.manual_seed(0)
        models.append(build_model(Recipe(model="test_vit", image_size=64), 3, folder).state_dict())
    assert all(torch.equal(value, models[1][key]) for key, value in models[0].items())


def test_tensors_that_share_memory_are_stored(hub: Hub, tmp_path: Path) -> None:
    hub.weights = timm.create_model("coat_tiny").state_dict()
    stored = safetensors.torch.load_file(fetch_weights("coat_tiny", tmp_path))
    assert stored.keys() == hub.weights.keys()


def test_others_may_read_the_file(hub: Hub, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        path = fetch_weights("test_resnet", tmp_path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_failed_download_leaves_nothing_and_takes_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.weights = {}
    for _ in range(2):
        with pytest.raises(ModelError, match=r"cannot get those of test_resnet\.r160_in1k from the hub \(no route\)"):
            fetch_weights("test_resnet", tmp_path, force=True)
        assert [path.name for path in tmp_path.iterdir()] in ([], [FILE])
        (tmp_path / FILE).write_bytes(b"old")
    assert (tmp_path / FILE).read_bytes() == b"old"


def test_unknown_models_and_models_without_weights_are_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="close ones: resnet50"):
        fetch_weights("resnet5", tmp_path / "new")
    with pytest.raises(ModelError, match="no pretrained weights for efficientnet_b6, so there is nothing to fetch"):
        fetch_weights("efficientnet_b6", tmp_path / "new")
    assert hub.asked == []
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=f"cannot write {tmp_path}/file/new/{FILE}: Not a directory; make room"):
        fetch_weights("test_resnet", tmp_path / "file" / "new")
    assert hub.asked == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_what_was_there(
    step: str, error: BaseException, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    expected = ModelError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left on device; make room" if expected is ModelError else None):
        fetch_weights("test_resnet", tmp_path, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == b"old"


KILLED = """
import os, signal, sys
from pathlib import Path
import timm
from trainer.fetching import fetch_weights

timm.models._builder.load_state_dict_from_hf = lambda *_, **__: timm.create_model("test_resnet").state_dict()
os.fsync = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
fetch_weights("test_resnet", Path(sys.argv[1]))
"""


def test_a_killed_write_leaves_no_file_under_the_final_name(hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    assert left[0].name != FILE
    assert list_weights(tmp_path) == ()
    assert fetch_weights("test_resnet", tmp_path).is_file()
    assert len(hub.asked) == 1
