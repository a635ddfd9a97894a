"""The paper's experiments as studies: what may be asked, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.data_search import DataAtHand
from study.errors import StudyError
from study.extension import compare
from study.paper.names import DATASETS, MODELS
from study.reproduction_plan import (
    TABLE_6,
    Choice,
    Experiment,
    check_flags,
    make_experiments,
    read_choice,
)
from study.run_options import RunOptions
from study.spec import PAPER_LOSSES, points
from trainer.errors import ModelError


def resolve(name: str) -> str:
    if name == "nothing":
        raise ModelError("model: timm has no 'nothing'; close ones: none")
    return name


def choose(flags: dict[str, Any] | None = None, **given: str | None) -> Choice:
    return read_choice(given, flags or {}, resolve)


def problems(flags: dict[str, Any] | None = None, **given: str) -> list[str]:
    with pytest.raises(StudyError) as caught:
        choose(flags, **given)
    return str(caught.value).split("; ")


def experiments(
    folder: Path, choice: Choice, loss_epochs: object = None, **flags: object
) -> tuple[tuple[Experiment, ...], RunOptions]:
    counts = {"train": 30, "val": 6, "test": 6}
    found = [DataAtHand(name, folder, 7, counts) for name in choice.datasets]
    return make_experiments(choice, found, flags, resolve, loss_epochs)


class TestChoice:
    def test_without_flags_is_all_of_the_paper(self) -> None:
        assert choose(datasets=None) == Choice(tuple(DATASETS), tuple(MODELS), "study", False)

    def test_may_be_less_and_have_other_models(self) -> None:
        choice = choose(datasets="isic2019,odir5k", models="resnet18, resnet50", factors="1,0.60")
        assert choice == Choice(("isic2019", "odir5k"), ("resnet18", "resnet50"), (1.0, 0.6), True)
        assert choose(factors="paper").factors == "paper"

    def test_all_that_is_wrong_is_said_at_once(self) -> None:
        found = problems({"weights": "w.pth"}, datasets="ham,odir5k,odir5k", models="nothing,x,", factors="1,3")
        assert [problem for problem in found if problem.startswith("--")] == [
            "--datasets: odir5k is given 2 times",
            "--datasets: 'ham' is none of the paper's datasets",
            "--models: 'nothing,x,' has an empty place",
            "--models: timm has no 'nothing'",
            "--weights: w.pth can be of one model only",
            "--factors: 3 is outside [0.5, 2.0]",
        ]
        for wrong in ("best", "1", "1,2,2", "x,1"):
            assert problems(factors=wrong) == [f"--factors: {wrong!r} is not study, paper or two numbers such as 1,0.6"]

    def test_the_papers_factors_are_there_for_its_models_only(self) -> None:
        assert problems(datasets="ham10000", models="resnet18,resnet50", factors="paper") == [
            "--factors: the paper has no alpha and beta of resnet18 on ham10000",
            "--factors study takes yours",
        ]


class TestExperiments:
    def test_are_the_papers(self, tmp_path: Path) -> None:
        found, options = experiments(tmp_path, choose())
        assert options == RunOptions()
        assert len(found) == 4 * 3
        studies = [spec for experiment in found for spec in (experiment.study, experiment.losses)]
        assert len({spec.name for spec in studies}) == len(studies)
        first = found[0]
        assert (first.study.name, first.losses.name) == ("odir5k-efficientnetv2", "odir5k-efficientnetv2-losses")
        for experiment in found:
            assert len(points(experiment.study)) == 31
            assert experiment.losses.losses == PAPER_LOSSES
            assert (experiment.study.recipe.epochs, experiment.losses.recipe.epochs) == (60, 100)
            assert (experiment.losses.alpha, experiment.losses.factors_from) == (None, experiment.study.name)
            assert experiment.study.data == experiment.losses.data == tmp_path

    def test_take_what_lmf_run_and_lmf_compare_take(self, tmp_path: Path) -> None:
        choice = choose(datasets="ham10000", models="resnet18", factors="0.5,1")
        flags: dict[str, Any] = {"epochs": "2", "grid": "0.5,1", "settings": "joint", "seeds": "1,2", "losses": "lmf"}
        flags |= {"weights": "none", "image_size": "32", "workers": "3", "plan_only": True, "split_seed": "5"}
        (only,), options = experiments(tmp_path, choice, "3", **flags)
        assert (only.study.settings, only.study.grid, only.study.seeds) == (("joint",), (0.5, 1.0), (1, 2))
        assert (only.losses.losses, only.losses.seeds) == (("lmf",), (1, 2))
        assert (only.study.recipe.epochs, only.losses.recipe.epochs) == (2, 3)
        for spec in (only.study, only.losses):
            assert (spec.recipe.weights, spec.recipe.image_size, spec.split_seed) == ("none", 32, 5)
        assert (only.losses.alpha, only.losses.beta, only.losses.factors_from) == (0.5, 1.0, None)
        assert not only.losses.unasked & {"alpha", "beta", "factors_from"}
        assert options == RunOptions(workers=3, plan_only=True)

    def test_may_have_the_papers_factors(self, tmp_path: Path) -> None:
        found, _ = experiments(tmp_path, choose(datasets="ham10000", factors="paper"))
        assert [(one.losses.alpha, one.losses.beta) for one in found] == [(1.0, 2.0), (0.5, 1.0), (1.0, 1.3)]
        assert {one.losses.factors_from for one in found} == {TABLE_6}

    def test_extend_what_is_stored_with_less_and_keep_what_it_has_more(self, tmp_path: Path) -> None:
        (only,), _ = experiments(tmp_path, choose(datasets="ham10000", models="resnet18"))
        less = compare(replace(only.study, settings=("joint",), grid=(0.5, 1.0, 1.75)), only.study)
        assert (less.refusals, less.merged.settings) == ((), only.study.settings)
        assert less.merged.grid == tuple(sorted((*only.study.grid, 1.75)))
        fewer = compare(replace(only.losses, losses=("wcce", "cce"), factors_from=None), only.losses)
        assert (fewer.refusals, fewer.merged.losses) == ((), ("wcce", "cce", "focal", "ldam", "bwcce", "lmf"))

    def test_refuse_a_search_that_is_stored(self, tmp_path: Path) -> None:
        (only,), _ = experiments(tmp_path, choose(datasets="ham10000", models="resnet18"))
        search = replace(only.study, search="tpe", trials=5, settings=(), grid=())
        assert compare(search, only.study).refusals == ("search: tpe stored, grid asked",)

    def test_without_lmf_need_no_factors(self, tmp_path: Path) -> None:
        (one, *_), _ = experiments(tmp_path, choose(factors="paper"), losses="cce,wcce")
        assert (one.losses.alpha, one.losses.factors_from) == (None, None)


class TestFlags:
    def test_are_checked_before_there_are_any_data(self) -> None:
        assert check_flags({"data": "gone", "epochs": "1"}) == (23, False)
        assert check_flags({"split_seed": "0", "drop_empty": True}, "1") == (0, True)
        with pytest.raises(StudyError) as caught:
            check_flags({"grid": "3", "lr": "x", "losses": "cces", "epochs": "0"}, "none")
        assert [problem for problem in str(caught.value).split("; ") if problem.startswith("--")] == [
            "--lr: 'x' is not a finite number",
            "--epochs: value is 0, expected a whole number from 1 to 10000",
            "--grid: 3 is outside [0.5, 2.0]",
            "--loss-epochs: 'none' is not a whole number",
            "--losses: 'cces' is no loss",
        ]
