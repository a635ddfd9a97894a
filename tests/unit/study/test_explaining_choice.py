"""Which trials are explained, and on which images."""

from __future__ import annotations

import numpy as np
import pytest

from study.errors import StudyError
from study.explaining.choice import (
    ALL_RIGHT,
    ALL_WRONG,
    ONLY_FIRST_RIGHT,
    ONLY_FIRST_WRONG,
    choose_images,
    choose_trials,
    kind_text,
    kinds_of_images,
    rule_text,
)
from study.reporting.predictions import Predictions

TRAIN = (30, 10, 20)


def predicted(**images):
    """Predictions of three classes: by image, its class, the predicted class and how sure that is."""
    rows = list(images.values())
    probabilities = np.array(
        [[sure if index == guess else (1 - sure) / 2 for index in range(3)] for _, guess, sure in rows]
    )
    return Predictions("test", np.array([truth for truth, _, _ in rows]), probabilities, tuple(images))


def chosen(images):
    return [(image.name, image.truth, image.kind) for image in images]


class TestImages:
    def test_classes_take_turns_rarest_first_and_kinds_even_out(self):
        first = predicted(
            a=(0, 0, 0.9), b=(0, 0, 0.8), c=(0, 1, 0.7), d=(1, 1, 0.6), e=(1, 2, 0.9), f=(2, 2, 0.5), g=(2, 0, 0.99)
        )
        other = predicted(
            a=(0, 0, 0.4), b=(0, 1, 0.9), c=(0, 0, 0.9), d=(1, 1, 0.9), e=(1, 0, 0.4), f=(2, 0, 0.5), g=(2, 1, 0.4)
        )
        # Turn by turn: class 1, then 2, then 0. Each takes the kind shown least, of those that it has left.
        assert chosen(choose_images([first, other], TRAIN, 7)) == [
            ("d", 1, ALL_RIGHT),
            ("f", 2, ONLY_FIRST_RIGHT),
            ("c", 0, ONLY_FIRST_WRONG),
            ("e", 1, ALL_WRONG),
            ("g", 2, ALL_WRONG),
            ("a", 0, ALL_RIGHT),
            ("b", 0, ONLY_FIRST_RIGHT),
        ]

    def test_of_a_kind_the_reference_is_surest_of_the_first(self):
        first = predicted(z=(0, 0, 0.6), y=(0, 0, 0.9), x=(0, 0, 0.6), w=(0, 0, 0.95))
        other = predicted(z=(0, 0, 0.99), y=(0, 0, 0.4), x=(0, 0, 0.99), w=(0, 1, 0.9))
        images = choose_images([first, other], (4, 4, 4), 3)
        assert [image.name for image in images] == ["y", "w", "x"]

    def test_images_with_boxes_go_before_all_others_of_their_class(self):
        first = predicted(a=(0, 0, 0.9), b=(0, 0, 0.5), c=(0, 1, 0.9), d=(0, 1, 0.4))
        boxed = frozenset({"b", "d"})
        images = choose_images([first], (4, 4, 4), 4, boxed)
        assert [image.name for image in images] == ["b", "d", "a", "c"]
        assert [image.name for image in choose_images([first], (4, 4, 4), 1, frozenset({"d"}))] == ["d"]

    def test_images_with_boxes_go_before_those_of_rarer_classes(self):
        first = predicted(a=(1, 1, 0.9), b=(2, 2, 0.9), c=(0, 0, 0.9), d=(0, 0, 0.5), e=(0, 1, 0.7), f=(2, 2, 0.5))
        boxed = frozenset({"d", "e", "f"})
        # Class 1 is the rarest and has no boxes: it waits. Among those with boxes class 2 is rarer than class 0.
        assert [image.name for image in choose_images([first], TRAIN, 6, boxed)] == ["f", "e", "d", "a", "b", "c"]
        for count in (1, 2, 3):
            assert {image.name for image in choose_images([first], TRAIN, count, boxed)} <= boxed

    def test_images_on_which_the_others_disagree_are_not_shown(self):
        first, second, third = (predicted(a=(0, guess, 0.9), b=(0, 0, 0.5)) for guess in (0, 0, 1))
        assert chosen(choose_images([first, second, third], TRAIN, 6)) == [("b", 0, ALL_RIGHT)]
        assert chosen(choose_images([first, second, third], TRAIN, 6, frozenset({"a"}))) == [("b", 0, ALL_RIGHT)]
        assert kinds_of_images([first, second, third]) == {"a": None, "b": ALL_RIGHT}

    def test_rows_in_another_order_are_the_same_images(self):
        first = predicted(a=(0, 0, 0.9), b=(1, 0, 0.5))
        other = predicted(b=(1, 1, 0.9), a=(0, 0, 0.9))
        assert dict((name, kind) for name, _, kind in chosen(choose_images([first, other], TRAIN, 6))) == {
            "a": ALL_RIGHT,
            "b": ONLY_FIRST_WRONG,
        }

    def test_never_more_than_asked_for(self):
        first = predicted(**{f"i{number}": (number % 3, number % 3, 0.9) for number in range(20)})
        assert len(choose_images([first], TRAIN, 6)) == 6
        assert len(choose_images([first], TRAIN, 50)) == 20

    def test_other_images_are_refused(self):
        with pytest.raises(StudyError, match="predicted different test images"):
            choose_images([predicted(a=(0, 0, 0.9)), predicted(b=(0, 0, 0.9))], TRAIN, 6)


class TestWords:
    def test_kinds(self):
        assert [kind_text(kind, "LMF", 3) for kind in (ALL_RIGHT, ONLY_FIRST_RIGHT, ONLY_FIRST_WRONG, ALL_WRONG)] == [
            "all right",
            "only LMF right",
            "only LMF wrong",
            "all wrong",
        ]
        assert kind_text(ALL_WRONG, "LMF", 2) == "both wrong"
        assert kind_text(ALL_RIGHT, "LMF", 1) == "right"
        assert kind_text(ALL_WRONG, "LMF", 1) == "wrong"

    def test_the_rule_names_kinds_reference_and_boxes(self):
        rule = rule_text("LMF", 2, boxed=False)
        assert "(both right, only LMF right, only LMF wrong, both wrong; on a tie in this order)" in rule
        assert rule.endswith("of that kind the one of whose prediction LMF is surest.")
        assert "boxes" not in rule
        boxed = rule_text("LMF", 2, boxed=True)
        assert "a rule: all that have boxes come first, and then the others. Among either, the classes take" in boxed
        assert "(right, wrong; on a tie in this order)" in rule_text("LMF", 1, boxed=False)


class TestTrials:
    def test_of_factors_the_best_and_the_plain_sum(self, records):
        plain = records.point(1.0, 1.0, val=0.5)
        best = records.point(0.8, 1.2, val=0.7)
        study = records.study([plain, best, records.point(2.0, 2.0, val=0.6)])
        trials = choose_trials(study)
        assert trials.points == (best, plain)
        assert trials.names == ("LMF (α = 0.8, β = 1.2)", "LMF (α = 1.0, β = 1.0)")
        assert trials.reference == "the best trial"
        assert trials.remarks == ()

    def test_the_plain_sum_alone_where_it_is_the_best(self, records):
        plain = records.point(1.0, 1.0, val=0.9)
        trials = choose_trials(records.study([plain, records.point(0.8, 1.2, val=0.7)]))
        assert trials.points == (plain,)
        assert trials.reference == "LMF"

    def test_the_best_pair_is_that_of_the_mean_over_seeds(self, records):
        steady = [records.point(0.5, 0.5, val=value, seed=seed) for seed, value in ((23, 0.7), (24, 0.7))]
        lucky = [records.point(2.0, 2.0, val=value, seed=seed) for seed, value in ((23, 0.9), (24, 0.2))]
        assert choose_trials(records.study([*steady, *lucky])).points[0] == steady[0]

    def test_another_trial_stands_for_a_best_one_without_weights_and_that_is_said(self, records):
        best = records.point(0.8, 1.2, val=0.7, weights=None)
        second = records.point(0.9, 1.2, val=0.6)
        trials = choose_trials(records.study([second, best]))
        assert trials.points == (second,)
        (remark,) = trials.remarks
        assert remark == (
            f"the weights of the best trial of the study ({best.trial_number}) are not kept, so trial "
            f"{second.trial_number} stands for it"
        )

    def test_without_weights_the_way_out_is_told(self, records):
        study = records.study([records.point(0.8, 1.2, val=0.7, weights=None)])
        with pytest.raises(StudyError, match=r"the weights of no trial of the study are kept; .*`--keep-weights 1`"):
            choose_trials(study)
        with pytest.raises(StudyError, match="no trial of the study is complete yet"):
            choose_trials(records.study([records.point()]))

    def test_of_a_comparison_the_best_kept_of_each_loss_lmf_first(self, records):
        cce = [
            records.point(None, None, val=value, loss="cce", weights=kept) for value, kept in ((0.9, None), (0.5, "w"))
        ]
        lmf = records.point(0.8, 1.2, val=0.4)
        focal = records.point(None, None, val=0.6, loss="focal", weights=None)
        study = records.study([*cce, focal, lmf])
        study.spec["losses"] = ["cce", "focal", "lmf", "ldam"]
        trials = choose_trials(study)
        assert trials.points == (lmf, cce[1])
        assert trials.names == ("LMF (α = 0.8, β = 1.2)", "CCE")
        assert trials.reference == "LMF"
        assert trials.remarks == (
            f"the weights of the best trial of CCE ({cce[0].trial_number}) are not kept, so trial "
            f"{cce[1].trial_number} stands for it",
            "the weights of no trial of Focal are kept",
            "no trial of LDAM is complete yet",
        )

    def test_without_lmf_the_first_loss_is_the_reference(self, records):
        points = [records.point(None, None, val=0.5, loss=loss) for loss in ("focal", "cce")]
        study = records.study(points)
        study.spec["losses"] = ["focal", "cce"]
        assert choose_trials(study).reference == "Focal"
