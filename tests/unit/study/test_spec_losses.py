"""Comparisons of losses: what may be asked, their points, what is stored, and what extends them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.errors import StudyError
from study.extension import compare
from study.spec import StudySpec, comparison_name, name_problems, points
from study.spec_input import build_study
from trainer.config import Recipe, demo_recipe

FIVE = ("cce", "focal", "ldam", "bwcce", "lmf")
STORED = StudySpec(
    name="skin-resnet50-losses",
    dataset="folder:skin",
    title="skin",
    data=Path("/data"),
    model="resnet50",
    recipe=Recipe(epochs=100),
    settings=(),
    grid=(),
    seeds=(23,),
    losses=("cce", "lmf"),
    alpha=1.0,
    beta=0.6,
    factors_from="skin-resnet50",
)
UNASKED = frozenset({"losses", "alpha", "beta", "factors_from", "settings", "grid", "seeds", "search"})


def build(dataset: str = "digits-lt", *, comparing: bool = True, **flags: object) -> StudySpec:
    flags = {name.rstrip("_"): value for name, value in flags.items()}
    return build_study(dataset, flags, resolve_model=lambda name: name, comparing=comparing)[0]


def problems(dataset: str = "digits-lt", *, comparing: bool = True, **flags: object) -> list[str]:
    with pytest.raises(StudyError) as caught:
        build(dataset, comparing=comparing, **flags)
    return str(caught.value).split("; ")


class TestPoints:
    def test_are_every_loss_with_every_seed_and_the_first_seed_first(self) -> None:
        found = points(replace(STORED, losses=("cce", "lmf", "cb_cce"), alpha=1.0, beta=0.5, seeds=(24, 23)))
        assert [point.key for point in found] == [
            "cce seed=23",
            "lmf a=1 b=0.5 seed=23",
            "cb_cce seed=23",
            "cce seed=24",
            "lmf a=1 b=0.5 seed=24",
            "cb_cce seed=24",
        ]
        assert {point.settings for point in found} == {()}
        assert [(point.loss, point.alpha, point.beta) for point in found[:2]] == [
            ("cce", None, None),
            ("lmf", 1.0, 0.5),
        ]

    def test_without_lmf_need_no_factors(self) -> None:
        assert [point.key for point in points(replace(STORED, losses=("cce",), alpha=None, beta=None))] == [
            "cce seed=23"
        ]

    def test_of_lmf_need_both(self) -> None:
        with pytest.raises(ValueError, match="not settled"):
            points(replace(STORED, alpha=None))


class TestDescription:
    def test_survives_json(self) -> None:
        assert StudySpec.from_dict(json.loads(json.dumps(STORED.to_dict()))) == STORED

    def test_from_before_there_were_comparisons_is_of_alpha_and_beta(self) -> None:
        older = replace(STORED, losses=(), alpha=None, beta=None, factors_from=None, settings=("joint",), grid=(1.0,))
        document = older.to_dict()
        for name in ("losses", "alpha", "beta", "factors_from"):
            del document[name]
        assert StudySpec.from_dict(document) == older

    def test_has_a_name_of_its_own_however_long_the_others_are(self) -> None:
        assert comparison_name("skin", "resnet50") == "skin-resnet50-losses"
        long = comparison_name("x" * 300, "m")
        assert long.endswith("-losses")
        assert name_problems(long) == []


class TestAsking:
    def test_without_flags_the_papers_losses_and_epochs_are_taken(self, tmp_path: Path) -> None:
        spec = build("ham10000", data=str(tmp_path))
        assert (spec.name, spec.losses, spec.seeds) == ("ham10000-efficientnetv2-losses", FIVE, (23,))
        assert (spec.alpha, spec.beta, spec.factors_from) == (None, None, None)
        assert (spec.settings, spec.grid, spec.search, spec.trials) == ((), (), "grid", None)
        assert spec.recipe.epochs == 100
        assert spec.unasked >= {"losses", "alpha", "beta", "factors_from"}
        assert build("ham10000", data=str(tmp_path), epochs="7").recipe.epochs == 7
        assert build().recipe.epochs == demo_recipe().epochs, "the demo's dataset keeps its own"

    def test_the_losses_keep_the_order_in_which_they_are_given(self) -> None:
        spec = build(losses="lmf,wcce,cce", seeds="25,24", alpha="0.50", beta="1.5", study="mine")
        assert (spec.name, spec.losses, spec.seeds) == ("mine", ("lmf", "wcce", "cce"), (24, 25))
        assert (spec.alpha, spec.beta) == (0.5, 1.5)
        assert not spec.unasked & {"losses", "alpha", "beta", "factors_from", "seeds"}

    def test_one_factor_leaves_the_other_at_1(self) -> None:
        spec = build(beta="0.6")
        assert (spec.alpha, spec.beta, spec.factors_from) == (1.0, 0.6, None)
        assert spec.unasked & {"alpha", "beta", "factors_from"} == {"alpha"}

    def test_one_factor_asks_a_stored_comparison_for_that_one_only(self) -> None:
        stored = replace(build(), alpha=1.0, beta=0.7)
        assert compare(stored, build(alpha="0.7")).refusals == ("alpha: 1 stored, 0.7 asked",)
        same = compare(stored, build(alpha="1"))
        assert (same.refusals, same.additions, same.merged) == ((), (), stored)
        both = build(alpha="0.7", beta="1")
        assert compare(stored, both).refusals == ("alpha: 1 stored, 0.7 asked", "beta: 0.7 stored, 1 asked")
        without = replace(stored, losses=("cce",), alpha=None, beta=None)
        assert compare(without, build(beta="0.7")).refusals == (
            "beta: no lmf among the losses stored; --losses lmf adds it",
        )
        added = compare(without, build(losses="lmf", beta="0.7")).merged
        assert (added.alpha, added.beta) == (1.0, 0.7)

    def test_the_factors_may_be_those_of_a_study(self) -> None:
        spec = build(from_="skin-resnet50")
        assert (spec.alpha, spec.beta, spec.factors_from) == (None, None, "skin-resnet50")
        assert not spec.unasked & {"alpha", "beta", "factors_from"}

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            ({"losses": "cce,CCE"}, ["--losses: 'CCE' is no loss", "did you mean cce?"]),
            ({"losses": ","}, ["--losses: ',' has an empty place", "expected items with commas between them"]),
            (
                {"losses": "cce,,CCE"},
                [
                    *("--losses: 'cce,,CCE' has an empty place", "expected items with commas between them"),
                    *("--losses: 'CCE' is no loss", "did you mean cce?"),
                ],
            ),
            ({"losses": "cce,focal,cce"}, ["--losses: cce is given 2 times"]),
            ({"alpha": "2.5"}, ["--alpha: 2.5 is outside [0.5, 2.0]"]),
            ({"beta": "x"}, ["--beta: 'x' is not a finite number"]),
            ({"alpha": "1", "from_": "s"}, ["--alpha: cannot go with --from", "give one of them"]),
            ({"losses": "cce", "alpha": "1"}, ["--alpha: is for lmf, which is not among the losses cce"]),
            ({"losses": "cce,wcce", "from_": "s"}, ["--from: is for lmf, which is not among the losses cce, wcce"]),
            *(
                ({name: "1"}, [f"--{name}: is for a study of alpha and beta, while a comparison trains each loss once"])
                for name in ("settings", "grid", "search", "trials", "pruner")
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, flags: dict[str, Any], expected: list[str]) -> None:
        assert problems(**flags) == expected

    def test_no_loss_at_all_is_refused(self) -> None:
        assert problems(losses="")[0] == "--losses: is empty"

    def test_a_file_that_names_losses_is_a_comparison_whatever_command_reads_it(self, tmp_path: Path) -> None:
        file = tmp_path / "study.toml"
        file.write_text('[study]\ndataset = "digits-lt"\nlosses = ["cce", "lmf"]\nalpha = 1\nbeta = 0.6\n')
        expected = build(losses="cce,lmf", alpha="1", beta="0.6")
        assert build(str(file), comparing=False) == build(str(file)) == expected
        file.write_text('[study]\ndataset = "digits-lt"\nlosses = ["lmf"]\nfrom = "other"\n')
        assert build(str(file), comparing=False).factors_from == "other"
        file.write_text('[study]\ndataset = "digits-lt"\nlosses = ["lmf", 3]\ngrid = [0.5]\n')
        assert problems(str(file), comparing=False) == [
            f"{file}: grid: is for a study of alpha and beta, while a comparison trains each loss once",
            f"{file}: losses: 3 is not a text",
        ]

    def test_a_study_of_alpha_and_beta_takes_none_of_it(self) -> None:
        text = "is for a comparison of losses, which `lmf compare` or losses in the file asks for"
        assert problems(comparing=False, alpha="1", from_="s") == [f"--alpha: {text}", f"--from: {text}"]
        assert build(comparing=False).losses == ()


class TestExtending:
    def test_the_same_neither_extends_nor_is_refused(self) -> None:
        for asked in (STORED, replace(STORED, losses=FIVE, alpha=None, beta=None, seeds=(1,), unasked=UNASKED)):
            comparison = compare(STORED, asked)
            assert (comparison.refusals, comparison.additions, comparison.merged) == ((), (), STORED)

    def test_more_losses_and_seeds_extend(self) -> None:
        asked = replace(STORED, losses=("wcce", "cce"), seeds=(22, 23), alpha=None, beta=None, unasked=UNASKED)
        comparison = compare(STORED, replace(asked, unasked=UNASKED - {"losses", "seeds"}))
        assert comparison.refusals == ()
        assert comparison.additions == ("seeds: 22", "losses: wcce")
        merged = comparison.merged
        assert (merged.losses, merged.seeds) == (("cce", "lmf", "wcce"), (22, 23))
        assert (merged.alpha, merged.beta, merged.factors_from) == (1.0, 0.6, "skin-resnet50")
        assert {point.key for point in points(STORED)} < {point.key for point in points(merged)}

    def test_lmf_that_is_added_brings_its_factors(self) -> None:
        stored = replace(STORED, losses=("cce",), alpha=None, beta=None, factors_from=None)
        comparison = compare(stored, STORED)
        assert comparison.refusals == ()
        assert comparison.merged == STORED

    @pytest.mark.parametrize(
        ("change", "refusals"),
        [
            ({"alpha": 0.5}, ("alpha: 1 stored, 0.5 asked",)),
            ({"alpha": 0.5, "beta": 1.0}, ("alpha: 1 stored, 0.5 asked", "beta: 0.6 stored, 1 asked")),
            ({"losses": ()}, ("losses: a comparison of cce, lmf stored, a study of alpha and beta asked",)),
            ({"recipe": Recipe(epochs=60)}, ("epochs: 100 stored, 60 asked",)),
        ],
    )
    def test_another_comparison_is_refused(self, change: dict[str, Any], refusals: tuple[str, ...]) -> None:
        assert compare(STORED, replace(STORED, **change)).refusals == refusals

    def test_a_study_of_alpha_and_beta_does_not_become_one(self) -> None:
        stored = replace(STORED, losses=(), alpha=None, beta=None, settings=("joint",), grid=(1.0,))
        assert compare(stored, STORED).refusals == (
            "losses: a study of alpha and beta stored, a comparison of cce, lmf asked",
        )

    def test_factors_for_a_comparison_without_lmf_are_refused(self) -> None:
        stored = replace(STORED, losses=("cce",), alpha=None, beta=None)
        asked = replace(STORED, losses=FIVE, unasked=frozenset({"losses"}))
        assert compare(stored, asked).refusals == ("alpha: no lmf among the losses stored; --losses lmf adds it",)
