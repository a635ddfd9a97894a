from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from study.errors import StudyError
from study.run_options import RunOptions
from study.settings import DEFAULT_GRID, SETTINGS
from study.spec import StudySpec
from study.spec_input import build_study, read_run_options
from trainer.config import Recipe, demo_recipe
from trainer.errors import ModelError

ALIASES = {"efficientnetv2": "tf_efficientnetv2_s.in1k", "test_efficientnet": "test_efficientnet.r160_in1k"}
OF_LOSSES = {"losses", "alpha", "beta", "factors_from"}
ALL_UNASKED = {"settings", "grid", "seeds", "search", "trials", "pruner", "precision", "threads", *OF_LOSSES}


def resolve_model(name: str) -> str:
    if name == "nothing":
        raise ModelError("model: timm has no 'nothing'; close ones: none")
    return ALIASES.get(name, name)


def build(dataset: str | Path, **flags: object) -> tuple[StudySpec, RunOptions]:
    return build_study(str(dataset), flags, resolve_model=resolve_model)


def problems(dataset: str | Path, **flags: object) -> list[str]:
    with pytest.raises(StudyError) as caught:
        build(dataset, **flags)
    assert "\n" not in str(caught.value)
    return str(caught.value).split("; ")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory and no data folder in the environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LMF_DATA", raising=False)
    return folder


def test_without_flags_everything_is_the_papers(here: Path) -> None:
    spec, options = build("ham10000", data=".")
    assert spec == StudySpec(
        name="ham10000-efficientnetv2",
        dataset="ham10000",
        title="ham10000",
        data=here,
        model="efficientnetv2",
        recipe=Recipe(model="tf_efficientnetv2_s.in1k", precision="auto"),
        settings=SETTINGS,
        grid=DEFAULT_GRID,
        seeds=(23,),
        split_seed=23,
        group=None,
    )
    assert spec.unasked == ALL_UNASKED
    assert options == RunOptions()


def test_the_demo_dataset_starts_from_its_own_recipe_and_flags_win() -> None:
    spec, _ = build("digits-lt", epochs="2")
    demo = demo_recipe()
    assert spec.name == f"digits-lt-{demo.model}"
    assert (spec.data, spec.model, spec.recipe.model) == (None, demo.model, resolve_model(demo.model))
    assert (spec.recipe.image_size, spec.recipe.lr, spec.recipe.weights) == (demo.image_size, demo.lr, "none")
    assert spec.recipe.epochs == 2 != demo.epochs


def test_the_demo_dataset_takes_no_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems("digits-lt", data=".") == ["--data: digits-lt is built in and takes no data"]
    monkeypatch.setenv("LMF_DATA", str(here))
    assert build("digits-lt")[0].data is None


@pytest.mark.parametrize(
    ("dataset", "flags", "precision"),
    [
        ("ham10000", {"data": "."}, "auto"),
        ("ham10000", {"data": ".", "precision": "fp16"}, "fp16"),
        ("digits-lt", {}, "fp32"),
        ("digits-lt", {"precision": "auto"}, "auto"),
    ],
)
def test_the_precision_is_left_to_the_machine_but_for_the_demos(
    here: Path, dataset: str, flags: dict[str, Any], precision: str
) -> None:
    assert build(dataset, **flags)[0].recipe.precision == precision


def test_trials_that_share_a_gpu_are_a_number_or_auto(here: Path) -> None:
    assert build("ham10000", data=".", per_gpu="3")[1].per_gpu == 3
    assert build("ham10000", data=".", per_gpu="auto")[1].per_gpu == "auto"
    assert problems("ham10000", data=".", per_gpu="some") == ["--per-gpu: 'some' is not a whole number or auto"]


def test_every_flag_arrives(here: Path) -> None:
    recipe = {
        "model": "resnet18",
        "weights": "none",
        "image_size": 64,
        "exact": True,
        "normalize": True,
        "augment": "standard",
        "epochs": 7,
        "batch_size": 8,
        "lr": 0.5,
        "weight_decay": 0.25,
        "lr_step_epochs": 3,
        "lr_gamma": 0.75,
        "select": "macro_auc",
        "specificity": 0.75,
        "precision": "bf16",
        "threads": 3,
        "compile": True,
        "deterministic": True,
        "max_margin": 0.125,
        "gamma": 2.0,
        "scale": 10.0,
        "variant": "reference",
    }
    flags: dict[str, Any] = {name: value if isinstance(value, bool) else str(value) for name, value in recipe.items()}
    flags |= {"study": "mine", "data": ".", "settings": "alpha,joint", "grid": "2,0.50", "seeds": "25,24"}
    flags |= {"search": "grid", "pruner": "none"}
    flags |= {"split_seed": "1", "group": "lesion", "workers": "4", "device": "cuda:1", "keep_weights": "all"}
    flags |= {"max_attempts": "3", "lease_seconds": "2.5", "storage": "sqlite://", "plan_only": True}
    flags |= {"database_patience": "30"}
    spec, options = build("ham10000", **flags, allow_versions=True)
    assert spec.recipe.to_dict() == recipe | {"weights_sha256": None}
    assert (spec.name, spec.data, spec.settings, spec.grid) == ("mine", here, ("joint", "alpha"), (0.5, 2.0))
    assert (spec.seeds, spec.split_seed, spec.group, spec.unasked) == ((24, 25), 1, "lesion", {"trials", *OF_LOSSES})
    assert options == RunOptions(
        workers=4,
        device="cuda:1",
        keep_weights="all",
        max_attempts=3,
        lease_seconds=2.5,
        database_patience=30.0,
        storage="sqlite://",
        plan_only=True,
        allow_versions=True,
    )


def test_a_file_says_the_same_and_flags_win(here: Path) -> None:
    Path("study.toml").write_text(
        '[study]\ndataset = "ham10000"\ndata = "."\nstudy = "mine"\ngrid = [0.5, 1]\nseeds = 24\ngroup = "lesion"\n'
        '[recipe]\nepochs = 3\nlr = 1\nnormalize = true\n[run]\nworkers = 2\nkeep_weights = "none"\n'
    )
    spec, options = build("study.toml", epochs="4", group="none", normalize=False, workers="1")
    assert (spec.name, spec.dataset, spec.data, spec.grid, spec.seeds) == ("mine", "ham10000", here, (0.5, 1.0), (24,))
    assert (spec.recipe.epochs, spec.recipe.lr, spec.recipe.normalize, spec.group) == (4, 1.0, False, None)
    assert spec.unasked == {"settings", "search", "trials", "pruner", "precision", "threads", *OF_LOSSES}
    assert (options.workers, options.keep_weights) == (1, "none")


def test_relative_paths_start_from_the_file_or_from_here(tmp_path: Path, here: Path) -> None:
    away = tmp_path / "away"
    (away / "images").mkdir(parents=True)
    (away / "w.pth").write_bytes(b"weights")
    (here / "images").mkdir()
    file = away / "study.toml"
    file.write_text('[study]\ndataset = "folder:skin"\ndata = "images"\n[recipe]\nweights = "w.pth"\n')
    spec, _ = build(file)
    assert (spec.dataset, spec.data, spec.recipe.weights) == ("folder:skin", away / "images", str(away / "w.pth"))
    assert build(file, data="images")[0].data == here / "images"
    file.write_text('[study]\ndataset = "folder:images"\n')
    assert build(file)[0].dataset == f"folder:{away / 'images'}"
    assert build("folder:images")[0].dataset == f"folder:{here / 'images'}"


def test_data_come_from_the_environment_last(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMF_DATA", str(tmp_path))
    assert build("ham10000")[0].data == tmp_path
    assert build("ham10000", data=".")[0].data == here
    monkeypatch.setenv("LMF_DATA", str(tmp_path / "gone"))
    assert problems("ham10000")[0] == f"LMF_DATA: there is nothing at {tmp_path / 'gone'}"


def test_a_dataset_named_by_its_form_has_its_title_from_the_data(tmp_path: Path) -> None:
    (tmp_path / "skin").mkdir()
    spec, _ = build("folder", data=str(tmp_path / "skin"))
    assert (spec.dataset, spec.title, spec.name) == ("folder", "skin", "skin-efficientnetv2")
    assert problems("csv") == ["DATASET: csv needs a path", "expected csv:PATH, or --data"]


def test_a_home_folder_is_spelled_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    assert build("folder:~/images", data="~/images")[0].dataset == f"folder:{tmp_path / 'images'}"
    assert build("ham10000", data="~/images")[0].data == tmp_path / "images"


def test_a_weights_file_is_pinned_by_its_hash(here: Path) -> None:
    Path("w.pth").write_bytes(b"weights")
    recipe = build("ham10000", data=".", weights="w.pth")[0].recipe
    assert recipe.weights == str(here / "w.pth")
    assert recipe.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    expected = "expected hub, none or a file of weights"
    assert problems("ham10000", data=".", weights="x.pth") == [
        f"--weights: cannot read {here / 'x.pth'}: No such file or directory",
        expected,
    ]
    assert problems("ham10000", data=".", weights=".") == [f"--weights: cannot read {here}: Is a directory", expected]


def test_all_problems_of_flags_are_reported_together() -> None:
    found = problems(
        "hamm",
        grid="2.5,x,1,1.0",
        settings="joint,gamma",
        seeds="-1,1.5",
        split_seed="x",
        study="a b",
        model="nothing",
        epochs="0",
        lr="fast",
        precision="fp8",
        data="gone",
        workers="0",
        keep_weights="few",
    )
    assert {problem for problem in found if problem.startswith(("--", "DATASET"))} == {
        "DATASET: unknown dataset 'hamm'",
        "--data: there is nothing at " + str(Path.cwd() / "gone"),
        "--grid: 'x' is not a finite number",
        "--grid: 2.5 is outside [0.5, 2.0]",
        "--grid: 1 is given 2 times",
        "--settings: 'gamma' is not one of joint, beta, alpha",
        "--seeds: '1.5' is not a whole number",
        "--seeds: -1 is outside [0, 4294967295]",
        "--split-seed: 'x' is not a whole number",
        "--study: 'a b' is no name for a study",
        "--model: timm has no 'nothing'",
        "--epochs: value is 0, expected a whole number from 1 to 10000",
        "--lr: 'fast' is not a finite number",
        "--precision: value is 'fp8', expected one of fp32, bf16, fp16, auto",
        "--workers: 0 is less than 1",
        "--keep-weights: 'few' is not a whole number, all or none",
    }


def test_all_problems_of_a_file_are_reported_together() -> None:
    Path("study.toml").write_text(
        '[study]\ndataset = "folder:skin"\ngrid = [2.5, "x"]\nseeds = []\n'
        '[recipe]\nepochs = "many"\nscale = -1\nlayers = 3\n[run]\ndry_run = 1\n'
    )
    found = problems("study.toml", lr="-1")
    assert {problem for problem in found if problem.startswith(("--", "study.toml"))} == {
        "study.toml: [recipe] layers is an unknown key",
        "study.toml: epochs: 'many' is not a whole number",
        "study.toml: scale: value is -1.0, expected a number above 0, at most 1000",
        "study.toml: grid: 'x' is not a finite number",
        "study.toml: grid: 2.5 is outside [0.5, 2.0]",
        "study.toml: seeds: is empty",
        "study.toml: dry_run: 1 is not true or false",
        "--lr: value is -1.0, expected a number above 0, at most 10",
    }


def test_run_options_are_read_without_a_study() -> None:
    assert read_run_options({}) == RunOptions()
    assert read_run_options({"device": "cpu", "max_attempts": "5"}) == RunOptions(device="cpu", max_attempts=5)
    with pytest.raises(StudyError, match=r"^--device: 'gpu' is no device; .*; --max-attempts: 0 is less than 1$"):
        read_run_options({"device": "gpu", "max_attempts": "0"})


def test_a_study_file_that_is_not_there_is_named() -> None:
    assert problems("gone.toml")[0] == "gone.toml: cannot be read: No such file or directory"


def test_a_dataset_that_ships_as_files_needs_a_place() -> None:
    assert problems("isic2019") == [
        "DATASET: isic2019 needs its data",
        "expected --data with the folder of the dataset",
    ]


def test_a_published_split_is_taken_unless_something_else_is_asked_for(here: Path) -> None:
    assert build("medmnist:dermamnist")[0].split_seed is None
    assert build("medmnist:dermamnist", split_seed="23")[0].split_seed == 23
    assert build("ham10000", data=".")[0].split_seed == 23


def test_a_split_file_takes_the_place_of_a_seed(here: Path, tmp_path: Path) -> None:
    spec, _ = build("ham10000", data=".", split_file="split.csv", drop_empty=True)
    assert (spec.split_file, spec.split_seed, spec.group, spec.drop_empty) == (here / "split.csv", None, None, True)
    assert StudySpec.from_dict(spec.to_dict()) == spec
    study = tmp_path / "study.toml"
    study.write_text(f'[study]\ndataset = "ham10000"\ndata = "{here}"\nsplit_file = "mine.csv"\ndrop_empty = true\n')
    assert build(study)[0].split_file == tmp_path / "mine.csv"
    assert build(study)[0].drop_empty
    assert problems("ham10000", data=".", split_file="split.csv", group="lesion", split_seed="1") == [
        "--split-file: cannot go with --group",
        "give one of them",
        "--split-file: cannot go with --split-seed",
        "give one of them",
    ]
