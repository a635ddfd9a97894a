"""`lmf model`: fetching weights into the home, and listing them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from rich.console import Console
from torch import Tensor

from study.cli.main import main
from study.home import Home, find_home
from study.running import _check_model
from study.spec import StudySpec
from trainer.config import Recipe
from trainer.errors import ModelError

RESNET = "test_resnet.r160_in1k"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("LMF_STORAGE", "LMF_STORAGE_FILE", "LMF_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMF_HOME", str(tmp_path / "home"))
    return find_home()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the hub, which knows two models, and notes what is asked of it."""
    noted: list[str] = []

    def download(model_id: str, *_: Any, **__: Any) -> dict[str, Tensor]:
        noted.append(model_id)
        if model_id not in ("timm/test_resnet.r160_in1k", "timm/test_efficientnet.r160_in1k"):
            raise ConnectionError("no route")
        torch.manual_seed(5)
        return dict(timm.create_model(model_id.removeprefix("timm/")).state_dict())

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    return noted


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capsys.readouterr())

    return run


def test_weights_are_fetched_into_the_home_once(run: Run, home: Home, asked: list[str]) -> None:
    files = [home.weights / f"{name}.safetensors" for name in (RESNET, "test_efficientnet.r160_in1k")]
    code, out, err = run("model", "fetch", "test_resnet", "test_efficientnet.r160_in1k", RESNET)
    assert (code, err) == (0, "")
    sizes = [f"{file.stat().st_size / 1e6:,.1f} MB in {file}" for file in files]
    assert out.splitlines() == [
        f"{RESNET}: fetched, {sizes[0]}",
        f"test_efficientnet.r160_in1k: fetched, {sizes[1]}",
    ]
    assert len(asked) == 2
    assert run("model", "fetch", "test_resnet") == (0, f"{RESNET}: there already, {sizes[0]}\n", "")
    assert len(asked) == 2
    assert run("model", "fetch", "test_resnet", "--force") == (0, f"{RESNET}: fetched, {sizes[0]}\n", "")
    assert len(asked) == 3


def test_weights_may_be_fetched_elsewhere(run: Run, home: Home, asked: list[str], tmp_path: Path) -> None:
    code, out, _ = run("model", "fetch", "test_resnet", "--to", str(tmp_path / "stick"))
    assert code == 0
    assert out.endswith(f"in {tmp_path / 'stick' / RESNET}.safetensors\n")
    assert not home.root.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'NAME...'"),
        (["test_resnet", "resnet5"], "close ones: resnet50"),
        (["efficientnet_b6"], "no pretrained weights for efficientnet_b6"),
        (["test_vit"], "cannot get those of test_vit.r160_in1k from the hub (no route)"),
        (["test_resnet", "--to", "/dev/null/x"], "cannot write /dev/null/x"),
    ],
)
def test_bad_requests_are_refused_in_one_line(arguments: list[str], says: str, run: Run, asked: list[str]) -> None:
    """Also those that name other models that could be fetched: names are looked at before anything is downloaded."""
    code, out, err = run("model", "fetch", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("lmf: ")
    assert says in err
    assert asked in ([], ["timm/test_vit.r160_in1k"])


def test_weights_are_listed(run: Run, home: Home, asked: list[str]) -> None:
    assert run("model", "list") == (0, f"no weights in {home.weights}; `lmf model fetch NAME` puts them there\n", "")
    assert json.loads(run("model", "list", "--json")[1]) == {"folder": str(home.weights), "models": []}
    assert not home.root.exists()
    run("model", "fetch", "test_resnet")
    path = home.weights / f"{RESNET}.safetensors"
    size = path.stat().st_size
    assert run("model", "list") == (0, f"{RESNET}: {size / 1e6:,.1f} MB in {path}\n", "")
    assert json.loads(run("model", "list", "--json")[1]) == {
        "folder": str(home.weights),
        "models": [{"model": RESNET, "path": str(path), "bytes": size}],
    }


def test_cleaning_the_cache_leaves_the_weights(run: Run, home: Home, asked: list[str]) -> None:
    run("model", "fetch", "test_resnet")
    run("data", "prepare", "digits-lt")
    code, out, _ = run("data", "prepare", "--clean")
    assert code == 0
    assert "removed: " in out
    assert [path.name for path in home.weights.iterdir()] == [f"{RESNET}.safetensors"]


def test_help_and_list_load_no_torch(home: Home) -> None:
    for arguments in (["--help"], ["model", "--help"], ["model", "list"]):
        code = (
            f"import sys\nfrom study.cli.main import main\ntry:\n    main({arguments})\nexcept SystemExit:\n"
            "    print(sorted({'torch', 'timm', 'optuna', 'huggingface_hub'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def planned(home: Home, **figures: Any) -> str:
    """What is said when a study with this recipe is planned."""
    recipe = Recipe(**figures)
    spec = StudySpec(name="s", dataset="folder:skin", title="skin", data=None, model=recipe.model, recipe=recipe)
    console = Console(width=20)
    with console.capture() as said:
        _check_model(spec, 7, home, console)
    return said.get()


def test_planning_tells_what_was_taken_of_the_weights(run: Run, home: Home, asked: list[str]) -> None:
    told = "tensors taken, head fc (1000 classes) replaced for 7 classes\n"
    from_hub = planned(home, model="test_resnet")
    assert from_hub.startswith("weights: timm/test_resnet.r160_in1k of the hub: ")
    assert from_hub.endswith(told)
    run("model", "fetch", "test_resnet")
    asked.clear()
    line = planned(home, model="test_resnet")
    assert line.startswith(f"weights: {RESNET}.safetensors in {home.weights}: ")
    assert line.endswith(told)
    assert planned(home, model="test_resnet", weights="none") == ""
    assert asked == []


def test_planning_without_a_network_says_what_to_do(home: Home, asked: list[str]) -> None:
    with pytest.raises(ModelError, match=f"copy test_vit.r160_in1k.safetensors into {home.weights}, or pass"):
        planned(home, model="test_vit")
