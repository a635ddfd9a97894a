from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from study.errors import StudyError
from study.spec import StudySpec, default_name, name_problems, points, seed_problems
from trainer.config import Recipe
from trainer.errors import RecipeError

SPEC = StudySpec(
    name="skin-resnet50",
    dataset="folder:skin",
    title="skin",
    data=Path("/data"),
    model="resnet50",
    recipe=Recipe(model="resnet50.tv2_in1k", epochs=5),
    settings=("joint", "beta"),
    grid=(0.5, 1.0),
    seeds=(23, 24),
    split_seed=7,
    group="lesion",
)


def test_points_are_every_pair_with_every_seed_and_the_first_seed_first() -> None:
    assert [point.key for point in points(SPEC)] == [
        "lmf a=0.5 b=0.5 seed=23",
        "lmf a=1 b=1 seed=23",
        "lmf a=1 b=0.5 seed=23",
        "lmf a=0.5 b=0.5 seed=24",
        "lmf a=1 b=1 seed=24",
        "lmf a=1 b=0.5 seed=24",
    ]
    both = points(SPEC)[4]
    assert (both.loss, both.alpha, both.beta, both.seed) == ("lmf", 1.0, 1.0, 24)
    assert both.settings == ("joint", "beta")


def test_points_of_the_default_are_the_papers_31() -> None:
    spec = StudySpec(name="n", dataset="d", title="d", data=None, model="m", recipe=Recipe())
    assert len({point.key for point in points(spec)}) == len(points(spec)) == 31
    assert {point.seed for point in points(spec)} == {23}


def test_point_keys_do_not_depend_on_how_a_value_was_written() -> None:
    written = replace(SPEC, grid=(0.50, 1), seeds=(24, 23))
    assert points(written) == points(SPEC)


def test_a_description_survives_json() -> None:
    document = json.loads(json.dumps(SPEC.to_dict()))
    assert StudySpec.from_dict(document) == SPEC
    assert StudySpec.from_dict(document).recipe.epochs == 5
    bare = replace(SPEC, data=None, group=None, unasked=frozenset({"threads"}))
    assert StudySpec.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare
    assert "unasked" not in bare.to_dict()


def test_a_search_has_no_points_before_it_chooses_them_and_survives_json() -> None:
    search = replace(SPEC, search="tpe", trials=40, pruner="median", settings=(), grid=(), seeds=(23,))
    assert points(search) == ()
    assert StudySpec.from_dict(json.loads(json.dumps(search.to_dict()))) == search


def test_a_description_from_before_there_were_searches_is_of_a_grid() -> None:
    document = SPEC.to_dict()
    for name in ("search", "trials", "pruner"):
        del document[name]
    assert StudySpec.from_dict(document) == SPEC
    assert (SPEC.search, SPEC.trials, SPEC.pruner) == ("grid", None, "none")


def test_a_description_of_another_version_is_refused() -> None:
    document = SPEC.to_dict()
    document["rounds"] = 3
    del document["grid"]
    with pytest.raises(StudyError, match="study skin-resnet50: grid is missing, rounds is unknown; it was written by"):
        StudySpec.from_dict(document)
    with pytest.raises(RecipeError, match="epoch"):
        StudySpec.from_dict(SPEC.to_dict() | {"recipe": {"epoch": 3}})


def test_the_machine_fills_in_only_what_nobody_asked_for() -> None:
    spec = replace(SPEC, unasked=frozenset({"threads", "grid"}))
    filled = spec.with_machine_figures(threads=4, precision="bf16")
    assert (filled.recipe.threads, filled.recipe.precision) == (4, "fp32")
    assert replace(filled, recipe=spec.recipe) == spec
    assert SPEC.with_machine_figures(threads=4) == SPEC


@pytest.mark.parametrize(
    ("title", "model", "name"),
    [
        ("ham10000", "efficientnetv2", "ham10000-efficientnetv2"),
        ("skin", "tf_efficientnetv2_s.in1k", "skin-tf_efficientnetv2_s.in1k"),
        ("my skin (2)", "hf_hub:timm/x", "my-skin-2-hf_hub-timm-x"),
        ("../x", "m", "x-m"),
        ("皮膚", "m", "data-m"),
        ("x" * 300, "m", "x" * 120),
    ],
)
def test_default_names_are_safe(title: str, model: str, name: str) -> None:
    assert default_name(title, model) == name
    assert name_problems(name) == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "-x", "x\n", "ä", "x" * 121])
def test_unsafe_names_are_refused(name: str) -> None:
    (problem,) = name_problems(name)
    assert problem.startswith(f"study: {name!r} is no name")


def test_all_problems_of_seeds_are_named() -> None:
    assert seed_problems("seeds", [-1, 2**32, 3, 3]) == [
        "seeds: -1 is outside [0, 4294967295]",
        "seeds: 4294967296 is outside [0, 4294967295]",
        "seeds: 3 is given 2 times",
    ]
    assert seed_problems("split_seed", [-1]) == ["split_seed: -1 is outside [0, 4294967295]"]
    assert seed_problems("seeds", []) == ["seeds: is empty; expected whole numbers such as 23"]
    assert seed_problems("seeds", [0, 2**32 - 1]) == []


def test_describing_a_study_loads_nothing_heavy() -> None:
    heavy = ("torch", "timm", "optuna", "sqlalchemy", "sklearn")
    code = (
        "import sys, study.spec, study.spec_input, study.extension, study.cli.spec_options\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
