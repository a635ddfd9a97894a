from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from study.reporting.comparing import (
    BETTER,
    SAME,
    UNKNOWN,
    WORSE,
    LossRun,
    compare_losses,
    least_p,
    loss_runs,
    seeds_p,
)
from study.reporting.resampling import difference_interval, swap_test
from study.reporting.statistics import summarize

CLASSES = 3
TRUTH = np.repeat(np.arange(CLASSES), (300, 80, 20))
FAST = {"resamples": 300, "permutations": 499}


def run_of(loss, scores, predictions=None):
    return LossRun(loss, dict(enumerate(scores, start=23)), dict(enumerate(predictions or [], start=23)))


def trained(loss, right, seeds=5, noise=0.0, random=None):
    """A loss whose trainings are right with a probability, its macro F1 from scikit-learn."""
    random = random or np.random.default_rng(list(loss.encode()))
    found = []
    for _ in range(seeds):
        luck = random.random(len(TRUTH)) < right + noise * random.normal()
        found.append(np.where(luck, TRUTH, random.integers(0, CLASSES, len(TRUTH))))
    return run_of(loss, [f1_score(TRUTH, row, average="macro") for row in found], found)


@pytest.mark.parametrize("sizes", [(5, 5), (3, 4), (2, 2)])
def test_p_over_seeds_is_that_of_all_partings(sizes):
    random = np.random.default_rng(sum(sizes))
    first, second = random.normal(1, 1, sizes[0]), random.normal(0, 1, sizes[1])
    together = np.concatenate([first, second])
    found = []
    for chosen in combinations(range(len(together)), sizes[0]):
        rest = np.delete(together, chosen)
        found.append(together[list(chosen)].mean() - rest.mean())
    observed = first.mean() - second.mean()
    above = np.mean(np.array(found) >= observed - 1e-12)
    below = np.mean(np.array(found) <= observed + 1e-12)
    assert seeds_p(list(first), list(second)) == pytest.approx(min(1, 2 * min(above, below)))


@pytest.mark.parametrize(
    ("sizes", "expected"), [((5, 5), 2 / 252), ((3, 3), 0.1), ((2, 2), 1 / 3), ((9, 9), 2 / 48620)]
)
def test_the_least_p_is_reached_where_all_scores_of_one_loss_are_above(sizes, expected):
    high, low = [10.0 + i for i in range(sizes[0])], [float(i) for i in range(sizes[1])]
    assert least_p(*sizes) == pytest.approx(expected)
    assert seeds_p(high, low) == pytest.approx(expected)


def test_with_many_seeds_partings_are_drawn_and_p_keeps_its_floor():
    high, low = [10.0 + i for i in range(10)], [float(i) for i in range(10)]
    assert comb(20, 10) > 50_000
    assert seeds_p(high, low) == pytest.approx(least_p(10, 10)) == pytest.approx(2 / 50_001)


def test_each_loss_is_compared_with_the_reference_and_p_is_the_larger_of_both():
    runs = [trained("cce", 0.70), trained("ldam", 0.86), trained("lmf", 0.87)]
    found = compare_losses(runs, TRUTH, CLASSES, **FAST)
    assert found.reference == "lmf"
    assert [(one.first, one.second) for one in found.comparisons] == [("lmf", "cce"), ("lmf", "ldam")]
    lmf = runs[2]
    for one, run in zip(found.comparisons, runs[:2], strict=True):
        stacks = [np.stack(list(part.predictions.values())) for part in (lmf, run)]
        assert one.difference == pytest.approx(lmf.mean - run.mean)
        assert one.p_seeds == pytest.approx(seeds_p(list(lmf.scores.values()), list(run.scores.values())))
        assert one.p_images == swap_test(TRUTH, *stacks, CLASSES, permutations=499)
        assert one.p == max(one.p_seeds, one.p_images)
        interval = difference_interval(TRUTH, *stacks, CLASSES, resamples=300)
        assert one.interval == (interval.low, interval.high)
        assert interval.value == pytest.approx(one.difference)
    smaller, larger = sorted(one.p for one in found.comparisons)
    corrected = sorted(one.p_corrected for one in found.comparisons)
    assert corrected == pytest.approx([min(1, 2 * smaller), max(2 * smaller, larger)])


def test_a_better_loss_is_called_so_and_equal_ones_cannot_be_told_apart():
    runs = [trained("lmf", 0.87), trained("cce", 0.60), trained("focal", 0.87)]
    found = compare_losses(runs, TRUTH, CLASSES, **FAST)
    assert [one.verdict for one in found.comparisons] == [BETTER, SAME]
    assert found.winner is None
    better, same = found.sentences()
    assert better.startswith("LMF is better than CCE by ")
    assert " points of macro F1 on test (95 % interval " in better
    assert better.count("Holm's correction") == same.count("Holm's correction") == 1
    assert "cannot be told apart" in same
    turned = compare_losses(runs[::-1], TRUTH, CLASSES, reference="cce", **FAST)
    assert [(one.second, one.verdict) for one in turned.comparisons] == [("focal", WORSE), ("lmf", WORSE)]
    assert turned.sentences()[0].startswith("Focal is better than CCE by ")


def test_without_a_reference_all_pairs_are_compared_and_a_winner_beats_each():
    runs = [trained("cce", 0.60), trained("focal", 0.75), trained("ldam", 0.95)]
    found = compare_losses(runs, TRUTH, CLASSES, **FAST)
    assert found.reference is None
    assert [(one.first, one.second) for one in found.comparisons] == [
        ("cce", "focal"),
        ("cce", "ldam"),
        ("focal", "ldam"),
    ]
    assert found.means[0][0] == "ldam"
    assert found.winner == "ldam"


def test_the_interval_turns_with_the_sentence():
    runs = [run_of("lmf", [0.50, 0.51, 0.52, 0.53, 0.54]), run_of("cce", [0.70, 0.71, 0.72, 0.73, 0.74])]
    (one,) = compare_losses(runs).comparisons
    expected = stats.ttest_ind(*(list(run.scores.values()) for run in runs), equal_var=False).confidence_interval(0.95)
    assert one.interval == pytest.approx((expected.low, expected.high))
    assert one.interval[1] < 0
    assert one.sentence().startswith(
        f"CCE is ahead of LMF by 20.00 points of macro F1 on test (95 % interval {-100 * expected.high:.2f} to "
        f"{-100 * expected.low:.2f} points; p = 0.008 after Holm's correction). "
    )


def test_seeds_of_one_loss_that_score_the_same_leave_the_others_noise():
    (one,) = compare_losses([run_of("lmf", [0.70, 0.72]), run_of("cce", [0.4, 0.4])]).comparisons
    reach = stats.t.isf(0.025, 1) * 0.01
    assert one.interval == pytest.approx((0.31 - reach, 0.31 + reach))
    (none,) = compare_losses([run_of("lmf", [0.7, 0.7]), run_of("cce", [0.4, 0.4])]).comparisons
    assert none.interval is None


def test_without_predictions_of_the_images_no_loss_is_better():
    high, low = [0.70, 0.71, 0.72, 0.73, 0.74], [0.50, 0.51, 0.52, 0.53, 0.54]
    found = compare_losses([run_of("lmf", high), run_of("cce", low)])
    (one,) = found.comparisons
    assert one.p == one.p_seeds == pytest.approx(2 / 252)
    assert (one.p_images, one.verdict, found.winner) == (None, UNKNOWN, None)
    assert one.sentence().endswith(
        "That can hardly be chance in the seeds, but whether it is chance in the test images is unknown, since the "
        "predictions for them are missing; so neither is called better."
    )
    assert "since macro AUC is not of predicted classes alone; so neither" in one.sentence("macro_auc")
    (same,) = compare_losses([run_of("lmf", high), run_of("cce", [value - 0.001 for value in high])]).comparisons
    assert same.verdict == SAME
    assert same.sentence().endswith(" after Holm's correction). Chance in the test images is not in this.")


def test_chance_in_the_images_alone_can_forbid_a_verdict():
    """All seeds of one loss are better, by one image of 400."""
    base = np.where(np.arange(len(TRUTH)) % 10 == 0, (TRUTH + 1) % CLASSES, TRUTH)
    plus = base.copy()
    plus[0] = TRUTH[0]
    assert base[0] != TRUTH[0]
    scores = [f1_score(TRUTH, row, average="macro") for row in (plus, base)]
    runs = [
        run_of("lmf", [scores[0] + 1e-6 * seed for seed in range(5)], [plus] * 5),
        run_of("cce", [scores[1] + 1e-6 * seed for seed in range(5)], [base] * 5),
    ]
    (one,) = compare_losses(runs, TRUTH, CLASSES, **FAST).comparisons
    assert one.p_seeds == pytest.approx(2 / 252)
    assert one.p_images == 1.0
    assert one.verdict == SAME


def test_chance_in_the_seeds_alone_can_forbid_a_verdict():
    random = np.random.default_rng(3)
    runs = [trained("lmf", 0.8, 2, random=random), trained("cce", 0.4, 2, random=random)]
    found = compare_losses(runs, TRUTH, CLASSES, **FAST)
    (one,) = found.comparisons
    assert one.p_images == 0.002
    assert one.p_seeds == pytest.approx(1 / 3)
    assert one.verdict == SAME
    assert found.sentences()[0] == (
        "With 2 seeds a loss no difference in 1 comparison can reach p = 0.05, however large it is; 4 seeds can."
    )


@pytest.mark.parametrize(
    ("losses", "seeds", "least", "needed"), [(5, 5, 4 * 2 / 252, 5), (5, 3, 0.4, 5), (2, 4, 2 / 70, 4)]
)
def test_what_so_few_seeds_can_show_is_computed(losses, seeds, least, needed):
    names = ("lmf", "cce", "focal", "ldam", "bwcce")[:losses]
    runs = [run_of(name, [0.1 * index + 0.001 * s for s in range(seeds)]) for index, name in enumerate(names)]
    found = compare_losses(runs)
    assert found.least_p == pytest.approx(least)
    assert found.seeds_needed == needed
    assert (found.reach_sentence() == "") is (least <= 0.05)


def test_with_one_seed_only_images_are_tested_and_no_loss_is_better():
    random = np.random.default_rng(3)
    runs = [trained("lmf", 0.9, 1, random=random), trained("cce", 0.4, 1, random=random)]
    found = compare_losses(runs, TRUTH, CLASSES, **FAST)
    (one,) = found.comparisons
    assert (one.p_seeds, one.p, one.verdict) == (None, one.p_images, UNKNOWN)
    assert one.p_images == 0.002
    assert found.winner is None
    reach, text = found.sentences()
    assert reach.startswith("With one seed a loss, no loss is called better: the noise of training is unknown. 4 seeds")
    assert text.startswith("LMF is ahead of CCE by ")
    assert text.endswith(
        "That can hardly be chance in the test images, but how much the seeds do is unknown with one seed, so neither "
        "is called better."
    )


def test_with_one_seed_and_no_predictions_nothing_is_tested():
    found = compare_losses([run_of("lmf", [0.9]), run_of("cce", [0.4])])
    (one,) = found.comparisons
    assert (one.p, one.p_corrected, one.interval, one.verdict) == (None, None, None, UNKNOWN)
    assert one.sentence() == (
        "LMF is ahead of CCE by 50.00 points of macro F1 on test. With one seed and no stored predictions, nothing "
        "tells whether that is chance, so neither is called better."
    )


def test_an_unfinished_loss_is_not_called_worse():
    found = compare_losses([run_of("lmf", [0.9, 0.91, 0.92, 0.93, 0.94]), run_of("cce", [0.4]), run_of("ldam", [])])
    assert [one.second for one in found.comparisons] == ["cce"]
    assert found.comparisons[0].verdict == UNKNOWN


@pytest.mark.parametrize("runs", [[], [run_of("lmf", [0.5, 0.6])]])
def test_fewer_than_two_losses_are_nothing_to_compare(runs):
    found = compare_losses(runs)
    assert (found.comparisons, found.winner, found.least_p) == ((), None, None)
    assert found.sentences() == ("There are not two losses to compare yet.",)


def test_seeds_without_predictions_leave_the_seeds_that_have_them():
    whole, part = trained("lmf", 0.9), trained("cce", 0.6)
    part = LossRun("cce", part.scores, {seed: part.predictions[seed] for seed in (24, 26)})
    (one,) = compare_losses([whole, part], TRUTH, CLASSES, **FAST).comparisons
    stacks = [np.stack([run.predictions[seed] for seed in (24, 26)]) for run in (whole, part)]
    assert one.p_images == swap_test(TRUTH, *stacks, CLASSES, permutations=499)
    welch = stats.ttest_ind(list(whole.scores.values()), list(part.scores.values()), equal_var=False)
    assert one.interval == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_a_score_that_needs_probabilities_is_compared_over_seeds_alone():
    runs = [trained("lmf", 0.9), trained("cce", 0.6)]
    (one,) = compare_losses(runs, TRUTH, CLASSES, score="macro_auc", **FAST).comparisons
    assert one.p_images is None
    assert one.p == one.p_seeds
    assert one.verdict == UNKNOWN


def test_no_difference_is_found_in_losses_that_do_the_same(tell):
    """Four losses against a fifth with the same chances, five seeds: any difference is a false one."""
    random, false, studies = np.random.default_rng(20_240_005), 0, 100
    for _ in range(studies):
        runs = [run_of(name, random.normal(0.8, 0.01, 5)) for name in ("lmf", "cce", "focal", "ldam", "bwcce")]
        false += any(one.verdict != SAME for one in compare_losses(runs).comparisons)
    tell("false differences of losses", f"in {false} of {studies} studies of five equal losses (at most 7 allowed)")
    assert false <= 7


def test_a_studys_losses_come_with_scores_and_predictions_by_seed(records):
    points = [
        records.point(None, None, 0.5, 0.4, loss="cce", seed=23),
        records.point(1.0, 0.5, 0.6, 0.7, loss="lmf", seed=23),
        records.point(None, None, 0.5, 0.45, loss="cce", seed=24),
        records.point(1.0, 0.5, loss="lmf", seed=24),
    ]
    spec = records.study().spec | {"losses": ["cce", "lmf"]}
    predicted = {points[0].point_id: TRUTH, points[1].point_id: TRUTH, points[2].point_id: TRUTH}
    cce, lmf = loss_runs(summarize(records.study(points, spec=spec)), predicted)
    assert (cce.loss, cce.scores, set(cce.predictions)) == ("cce", {23: 0.4, 24: 0.45}, {23, 24})
    assert (lmf.loss, lmf.scores, set(lmf.predictions)) == ("lmf", {23: 0.7}, {23})


def test_several_pairs_of_lmf_keep_their_factors(records):
    points = [
        records.point(alpha, 0.5, 0.6, 0.7, loss="lmf", seed=seed, settings=())
        for alpha in (1.0, 2.0)
        for seed in (1, 2)
    ]
    points.append(records.point(None, None, 0.5, 0.4, loss="cce", seed=1, settings=()))
    spec = records.study().spec | {"losses": ["cce", "lmf"]}
    runs = loss_runs(summarize(records.study(points, spec=spec)), {})
    assert [run.loss for run in runs] == ["cce", "LMF α 1.0, β 0.5", "LMF α 2.0, β 0.5"]
    said = " ".join(compare_losses(runs).sentences())
    assert "LMF α 1.0, β 0.5 is ahead of CCE" in said
    assert "LMF α 1.0, β 0.5 and LMF α 2.0, β 0.5 cannot be told apart" in said
