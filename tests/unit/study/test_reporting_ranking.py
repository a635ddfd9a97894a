from __future__ import annotations

import csv
from collections import defaultdict
from itertools import product

import numpy as np
import pytest
from scipy import stats

from study.reporting.holm import holm
from study.reporting.ranking import rank_losses, rank_table, wilcoxon_blocks_needed

LOSSES = ("lmf", "cce", "focal", "ldam", "bwcce")


def table(blocks, seed=0, losses=LOSSES, ahead=0.0):
    random = np.random.default_rng(seed)
    return {
        f"set {block}": {loss: float(random.normal()) + ahead * (loss == "lmf") for loss in losses}
        for block in range(blocks)
    }


@pytest.fixture(scope="module")
def published(test_data):
    """The published macro F1 by dataset and model, then loss."""
    scores = defaultdict(dict)
    with (test_data / "paper" / "tables2-4.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            scores[f"{row['dataset']} {row['model']}"][row["loss"].lower()] = float(row["macro_f1"])
    return scores


def test_the_published_losses_have_these_average_ranks(published):
    """Counted by hand in each of the twelve blocks of Tables 2 to 4."""
    found = rank_losses(published)
    assert (found.blocks, found.left_out) == (12, 0)
    by_hand = {
        loss: np.mean([sum(other > block[loss] for other in block.values()) + 1 for block in published.values()])
        for loss in LOSSES
    }
    assert all(len(set(block.values())) == 5 for block in published.values())
    assert dict(found.ranks) == pytest.approx(by_hand)
    assert dict(found.ranks)["lmf"] == pytest.approx(14 / 12)
    assert found.ranks[0][0] == "lmf"
    columns = np.array([[block[loss] for loss in LOSSES] for block in published.values()]).T
    assert found.overall_p == pytest.approx(stats.friedmanchisquare(*columns).pvalue)
    raw = [stats.wilcoxon(columns[0] - column, method="exact").pvalue for column in columns[1:]]
    found_p = {one.loss: (one.p, one.p_corrected) for one in found.differences}
    for loss, p, corrected in zip(LOSSES[1:], raw, holm(raw), strict=True):
        assert found_p[loss] == pytest.approx((p, corrected))
    wins = {one.loss: (one.wins, one.losses) for one in found.differences}
    assert wins["bwcce"] == (10, 2)
    assert wins["cce"] == (12, 0)


def test_ties_share_their_ranks():
    found = rank_losses({"a": {"lmf": 0.5, "cce": 0.5, "ldam": 0.4}, "b": {"lmf": 0.3, "cce": 0.2, "ldam": 0.2}})
    assert dict(found.ranks) == pytest.approx({"lmf": 1.25, "cce": 2.0, "ldam": 2.75})


def test_comparisons_in_which_a_loss_is_not_complete_are_left_out():
    scores = table(9, ahead=5.0)
    scores["set 3"]["cce"] = None
    found = rank_losses(scores)
    assert (found.blocks, found.left_out, found.missing_losses) == (8, 1, ())
    assert "1 comparison that still lacks one of these losses left out." in found.sentences()


def test_losses_that_not_every_comparison_has_are_left_out_and_named():
    scores = table(9, ahead=5.0)
    del scores["set 3"]["cce"]
    scores["set 4"]["wcce"] = 0.5
    found = rank_losses(scores)
    assert (found.blocks, found.left_out, found.missing_losses) == (9, 0, ("cce", "wcce"))
    assert found.ranks[0][0] == "lmf"
    assert {loss for loss, _ in found.ranks} == {"lmf", "focal", "ldam", "bwcce"}
    assert found.sentences()[1] == "Left out, since not every comparison has them: CCE, WCCE."


def test_a_comparison_that_has_not_begun_takes_no_loss_away():
    scores = table(8) | {"new": {"cce": None, "lmf": None}}
    found = rank_table(scores)
    assert (found.losses, len(found.comparisons), found.missing_losses, found.unfinished) == (LOSSES, 8, (), ())


@pytest.mark.parametrize(("comparisons", "blocks"), [(1, 6), (2, 7), (4, 8), (8, 9)])
def test_wilcoxon_needs_enough_blocks_to_reach_the_level_after_holm(comparisons, blocks):
    assert wilcoxon_blocks_needed(comparisons) == blocks
    least = stats.wilcoxon(np.arange(1.0, blocks + 1)).pvalue
    assert least * comparisons <= 0.05
    assert stats.wilcoxon(np.arange(1.0, blocks)).pvalue * comparisons > 0.05


def test_with_too_few_blocks_no_pair_is_tested():
    few, enough = rank_losses(table(7, ahead=9.0)), rank_losses(table(8, ahead=9.0))
    assert (few.differences, few.wilcoxon_blocks) == ((), 8)
    assert few.overall_p is not None
    assert few.sentences()[-1] == (
        "Comparing LMF with each other loss by Wilcoxon's test takes at least 8 comparisons; there are 7."
    )
    assert [one.p_corrected for one in enough.differences] == pytest.approx([4 * 2 / 256] * 4)
    assert "LMF is better than CCE (ahead in 8, behind in 0; p = 0.031)." in enough.sentences()


def test_signed_ranks_with_ties_are_those_of_all_signs():
    differences = np.array([0.1, 0.1, -0.1, 0.3, 0.3, 0.2, 0.4, -0.2])
    scores = {str(i): {"lmf": 0.5 + value, "cce": 0.5} for i, value in enumerate(np.round(differences, 10))}
    rest = np.array([block["lmf"] - block["cce"] for block in scores.values()])
    ranks = stats.rankdata(np.abs(rest))
    observed = ranks[rest > 0].sum()
    sums = [ranks[np.array(signs, bool)].sum() for signs in product([0, 1], repeat=8)]
    p = 2 * min(np.mean(np.array(sums) >= observed), np.mean(np.array(sums) <= observed))
    (one,) = rank_losses(scores).differences
    assert one.p == pytest.approx(p)


def test_equal_losses_are_not_told_apart():
    (one,) = rank_losses({str(i): {"lmf": 0.5, "cce": 0.5} for i in range(9)}).differences
    assert (one.wins, one.losses, one.p, one.p_corrected) == (0, 0, 1.0, 1.0)


def test_two_losses_have_no_overall_test_and_three_blocks_do():
    assert rank_losses(table(12, losses=("lmf", "cce"))).overall_p is None
    three = ("lmf", "cce", "focal")
    two = rank_losses(table(2, losses=three))
    assert (two.overall_p, two.friedman_blocks) == (None, 3)
    assert "Whether that is chance takes at least 3 comparisons to say." in two.sentences()
    assert rank_losses(table(3, losses=three)).overall_p is not None
    assert rank_losses(table(2)).overall_p is not None


def test_without_the_reference_there_are_ranks_alone():
    found = rank_losses(table(12, losses=("cce", "focal", "ldam")))
    assert (found.reference, found.differences) == (None, ())
    assert len(found.sentences()) == 2


@pytest.mark.parametrize("scores", [{}, {"a": {"lmf": 0.5}}, {"a": {"lmf": 0.5}, "b": {"cce": 0.4}}])
def test_nothing_complete_is_said_so(scores):
    found = rank_losses(scores)
    assert found.sentences()[0] == (
        "No comparison is complete in two losses that all of them have, so there are no ranks."
    )
    assert (found.overall_p, found.differences) == (None, ())


def test_many_blocks_are_tested_too():
    found = rank_losses(table(40, ahead=3.0))
    assert all(one.p_corrected < 0.01 for one in found.differences)
    assert found.sentences()[0].startswith("Average ranks over 40 comparisons, 1 the best: LMF 1.")
