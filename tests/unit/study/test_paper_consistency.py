from __future__ import annotations

from dataclasses import replace

import pytest

from study.paper.consistency import inconsistencies
from study.paper.published import published

FOUND = (
    ("Table 2", "ODIR-5K, CCE, macro F1", "60.34", "60.08", -0.26),
    ("Table 2", "HAM-10K, CCE, macro F1", "81.85", "81.67", -0.18),
    ("Table 2", "ISIC-2019, CCE, macro F1", "75.46", "75.86", 0.40),
    ("Table 2", "ISIC-2019, LDAM, macro F1", "78.50", "78.53", 0.02625),
    ("Table 2", "ODIR-5K, CCE, accuracy", "67.64", "67.67 (649 of 959)", 64900 / 959 - 67.64),
    ("Table 2", "HAM-10K, CCE, accuracy", "89.65", "89.68 (1347 of 1502)", 134700 / 1502 - 89.65),
    (
        "Abstract and Conclusion",
        "LMF's gain in macro F1",
        "2 to 9",
        "-0.47 over ODIR-5K, EfficientNetV2, BWCCE; 19 below",
        -2.47,
    ),
    (
        "Results, Performance comparison, ODIR-5K",
        "LMF's gain in macro F1",
        "up to 3",
        "5.51 over ODIR-5K, EfficientNetV2, LDAM; 2 above",
        2.51,
    ),
    (
        "Results, Performance comparison, HAM-10K",
        "LMF's gain in macro F1",
        "2 to 4",
        "0.91 over HAM-10K, DenseNet-121, LDAM; 1 below",
        -1.09,
    ),
    (
        "Results, Performance comparison, ISIC-2019",
        "LMF's gain in macro F1",
        "2 to 6",
        "1.13 over ISIC-2019, DenseNet-121, BWCCE; 2 below",
        -0.87,
    ),
    (
        "Results, Performance comparison, ISIC-2019",
        "LMF's gain in macro F1",
        "2 to 6",
        "6.57 over ISIC-2019, ResNet-50, BWCCE; 1 above",
        0.57,
    ),
    (
        "Abstract and Conclusion",
        "ODIR-5K, EfficientNetV2, macro F1",
        "LMF is best",
        "rank 2: LMF 62.94, BWCCE 63.41",
        -0.47,
    ),
    (
        "Abstract and Conclusion",
        "ODIR-5K, DenseNet-121, macro F1",
        "LMF is best",
        "rank 2: LMF 59.97, BWCCE 60.39",
        -0.42,
    ),
    (
        "Table 4, note",
        "ISIC-2019, DenseNet-121, recall",
        "LMF is best",
        "rank 4: LMF 72.39, CCE 73.87",
        -1.48,
    ),
    (
        "Results, class-wise analysis",
        "HAM-10K, VASC, F1",
        "LMF improves on all classes",
        "LMF 88.37, CCE 95.24",
        -6.87,
    ),
    (
        "Results, class-wise analysis",
        "HAM-10K, VASC, F1",
        "LDAM does well in DF alone",
        "LDAM is best: LDAM 95.45, CCE 95.24",
        0.21,
    ),
    (
        "Analysis of LMF loss hyperparameters",
        "values of a setting",
        "11 from 0.5 to 2.0: 0.5, 0.7, and so on",
        "8 values, without Table 6's 0.6, 1.0, 1.2, 2.0",
        -3.0,
    ),
)


def test_the_paper_disagrees_with_itself_here_and_nowhere_else():
    found = inconsistencies()
    assert [(one.place, one.subject, one.stated, one.found) for one in found] == [one[:4] for one in FOUND]
    assert [one.difference for one in found] == pytest.approx([one[4] for one in FOUND], abs=1e-9)


def test_some_printed_figures_are_cut_off_and_not_rounded():
    """The reason why a printed figure may stand for up to 0.01 more: DF has 17 or 18 test images."""
    shares = {
        200 * right / (images + predicted)
        for images in (17, 18)
        for right in range(1, images + 1)
        for predicted in range(right, 1502)
    }
    assert not any(abs(share - 77.41) <= 0.005 for share in shares)
    assert any(77.41 <= share < 77.42 for share in shares)


def altered_scores(**changes):
    """The paper with another figure for LMF on ISIC-2019 with EfficientNetV2."""
    paper = published()
    rows = tuple(
        replace(row, **changes) if (row.model, row.dataset, row.loss) == ("efficientnetv2", "isic2019", "lmf") else row
        for row in paper.scores
    )
    return replace(paper, scores=rows)


def altered_class(dataset, name, **changes):
    paper = published()
    rows = tuple(
        replace(row, **changes) if (row.dataset, row.name) == (dataset, name) else row for row in paper.classes
    )
    return replace(paper, classes=rows)


def altered_f1(dataset, name, **f1):
    row = next(row for row in published().classes if (row.dataset, row.name) == (dataset, name))
    return altered_class(dataset, name, f1={**row.f1, **f1})


def altered_factors(alpha, beta):
    paper = published()
    return replace(paper, factors=(replace(paper.factors[0], alpha=alpha, beta=beta), *paper.factors[1:]))


def altered_split(**changes):
    paper = published()
    return replace(paper, splits=(replace(paper.splits[0], **changes), *paper.splits[1:]))


CHANGES = {
    "the mean of the class F1": (lambda: altered_scores(macro_f1=0.8014), ("Table 2", "mean of the 8 F1 of Table 5")),
    "an accuracy that no number of images gives": (
        lambda: altered_scores(accuracy=0.8619),
        ("Table 2", "nearest share of Table 1's 3799 test images"),
    ),
    "a macro F1 above the harmonic mean": (
        lambda: altered_scores(precision=0.7900, recall=0.8100),
        ("Table 2", "the most that its precision and recall allow"),
    ),
    "training images": (
        lambda: altered_class("odir5k", "A", train=187),
        ("Table 1", "sum over the classes of Table 5"),
    ),
    "parts of another size": (lambda: altered_split(val=964), ("Table 1", "15 % of the images (Datasets)")),
    "a factor outside the range": (
        lambda: altered_factors(1.0, 2.1),
        ("Analysis of LMF loss hyperparameters", "Table 6: ODIR-5K, EfficientNetV2, α = 1.0, β = 2.1"),
    ),
    "a pair in no setting": (
        lambda: altered_factors(1.1, 0.6),
        ("Analysis of LMF loss hyperparameters", "Table 6: EfficientNetV2"),
    ),
    "a count of factors": (lambda: altered_factors(1.0, 0.5), ("Analysis of LMF loss hyperparameters", "Table 6")),
    "a repeated score": (lambda: altered_scores(macro_f1=0.8016), ("Results", "Table 2")),
    "a repeated number of images": (lambda: altered_class("odir5k", "H", train=91), ("Results", "Table 5")),
    "the smallest class": (
        lambda: altered_class("isic2019", "DF", train=178),
        ("Results, class-wise analysis", "Table 5"),
    ),
    "a best class": (lambda: altered_f1("odir5k", "C", lmf=0.86), ("Results, class-wise analysis", "Table 5")),
    "a count of best classes": (
        lambda: altered_f1("covid19-radiography", "Normal", cce=0.9673),
        ("Results, class-wise analysis", "Table 5"),
    ),
    "a gain in a class": (lambda: altered_f1("isic2019", "DF", cce=0.68), ("Results, class-wise analysis", "Table 5")),
    "the second best in DF": (
        lambda: altered_f1("ham10000", "DF", cce=0.81),
        ("Results, class-wise analysis", "Table 5"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_figure_would_be_found(change):
    make, expected = CHANGES[change]
    new = set(inconsistencies(make())) - set(inconsistencies())
    assert expected in {(one.place, one.against) for one in new}
    assert all(one.difference for one in new)


def test_a_best_mean_or_rank_lost_would_be_found():
    paper = published()
    rows = tuple(
        replace(row, macro_f1=row.macro_f1 + 0.03) if (row.dataset, row.loss) == ("isic2019", "ldam") else row
        for row in paper.scores
    )
    new = [one for one in inconsistencies(replace(paper, scores=rows)) if one not in inconsistencies()]
    assert ("Fig 1", "ISIC-2019, mean macro F1 over the models") in {(one.place, one.subject) for one in new}
    assert "Results, Performance comparison, LMF and its halves" in {one.place for one in new}


def test_rounding_alone_is_no_inconsistency():
    """78.50 for a mean of 78.526 is found; 80.15 for 80.1625 and 71.73 for 71.739 may be cut off."""
    means = {one.subject for one in inconsistencies() if one.against.startswith("mean of")}
    assert "ISIC-2019, LDAM, macro F1" in means
    assert not {"ISIC-2019, LMF, macro F1", "ISIC-2019, Focal, macro F1"} & means
