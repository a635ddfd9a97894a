"""Do the paper's tables agree with each other? Everything that can be recomputed from them is."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor

from study.paper.inconsistency import ABOVE, BELOW, Inconsistency, cell, points, shown
from study.paper.names import SCORE_TABLES, model_name
from study.paper.published import CLASS_MODEL, ClassScores, Published, Scores
from study.settings import HIGHEST, LOWEST

_HELD_OUT_SHARE = Fraction(15, 100)
"""What share of the images validation and test have each (Datasets)."""


def table_inconsistencies(paper: Published) -> Iterator[Inconsistency]:
    """Where the tables disagree with each other, or with what figures of their kind can be, table by table."""
    yield from _parts(paper)
    yield from _class_means(paper)
    for row in paper.scores:
        yield from _accuracy(paper, row)
        yield from _bound(row)
    yield from _training_images(paper)
    yield from _factors(paper)


def classes_of(paper: Published, dataset: str) -> list[ClassScores]:
    """Table 5's rows of a dataset."""
    return [row for row in paper.classes if row.dataset == dataset]


def _parts(paper: Published) -> Iterator[Inconsistency]:
    """Table 1 against 70:15:15; rounded in each class, a part is off by at most half an image a class."""
    for row in paper.splits:
        share = _HELD_OUT_SHARE * (row.train + row.val + row.test)
        for name, images in (("validation", row.val), ("test", row.test)):
            if abs(images - share) > Fraction(len(classes_of(paper, row.dataset)), 2):
                yield Inconsistency(
                    "Table 1",
                    cell(row.dataset, f"{name} images"),
                    str(images),
                    "15 % of the images (Datasets)",
                    f"{float(share):.1f}",
                    float(share - images),
                    "images",
                )


def _class_means(paper: Published) -> Iterator[Inconsistency]:
    """Table 2's macro F1 against the mean of Table 5's F1, which is what Eq. 13 says it is."""
    for row in paper.scores:
        values = [points(one.f1[row.loss]) for one in classes_of(paper, row.dataset) if row.loss in one.f1]
        if row.model != CLASS_MODEL or not values:
            continue
        stated, mean = points(row.macro_f1), sum(values, Fraction()) / len(values)
        if abs(mean - stated) >= BELOW + ABOVE:
            yield Inconsistency(
                f"Table {SCORE_TABLES[row.model]}",
                cell(row.dataset, "macro F1", loss=row.loss),
                shown(stated),
                f"mean of the {len(values)} F1 of Table 5",
                shown(mean),
                float(mean - stated),
            )


def _accuracy(paper: Published, row: Scores) -> Iterator[Inconsistency]:
    """An accuracy against Table 1: it is a whole number of the test images, whichever those are."""
    stated = points(row.accuracy)
    for images in (one.test for one in paper.splits if one.dataset == row.dataset):
        right = floor(stated / 100 * images)
        nearest = min((right, right + 1), key=lambda count: abs(Fraction(100 * count, images) - stated))
        possible = [Fraction(100 * count, images) - stated for count in (right, right + 1)]
        if not any(-BELOW <= difference < ABOVE for difference in possible):
            found = Fraction(100 * nearest, images)
            yield Inconsistency(
                f"Table {SCORE_TABLES[row.model]}",
                cell(row.dataset, "accuracy", loss=row.loss),
                shown(stated),
                f"nearest share of Table 1's {images} test images",
                f"{shown(found)} ({nearest} of {images})",
                float(found - stated),
            )


def _bound(row: Scores) -> Iterator[Inconsistency]:
    """A macro F1 against the harmonic mean of macro precision and recall, which it cannot exceed.

    Each class's F1 is the harmonic mean of its precision and recall, and the harmonic mean is concave, so by Jensen's
    inequality the mean of the classes' F1 is at most the harmonic mean of the classes' means.
    """
    precision, recall = points(row.precision), points(row.recall)
    stated = points(row.macro_f1)
    if stated - BELOW > _harmonic_mean(precision + ABOVE, recall + ABOVE):
        most = _harmonic_mean(precision, recall)
        yield Inconsistency(
            f"Table {SCORE_TABLES[row.model]}",
            cell(row.dataset, "macro F1", loss=row.loss),
            shown(stated),
            "the most that its precision and recall allow",
            shown(most),
            float(most - stated),
        )


def _harmonic_mean(first: Fraction, second: Fraction) -> Fraction:
    return 2 * first * second / (first + second)


def _training_images(paper: Published) -> Iterator[Inconsistency]:
    """Table 5's training images together against Table 1's."""
    for row in paper.splits:
        found = sum(one.train for one in classes_of(paper, row.dataset))
        if found != row.train:
            yield Inconsistency(
                "Table 1",
                cell(row.dataset, "training images"),
                str(row.train),
                "sum over the classes of Table 5",
                str(found),
                found - row.train,
                "images",
            )


def _factors(paper: Published) -> Iterator[Inconsistency]:
    """Table 6 against the range and the three settings of the text."""
    for row in paper.factors:
        where = (row.dataset, f"α = {row.alpha}, β = {row.beta}")
        for value in (row.alpha, row.beta):
            nearest = min(max(value, LOWEST), HIGHEST)
            if value != nearest:
                yield Inconsistency(
                    "Analysis of LMF loss hyperparameters",
                    "range of α and β",
                    f"{LOWEST} to {HIGHEST}",
                    f"Table 6: {cell(*where, model=row.model)}",
                    str(value),
                    value - nearest,
                    "values",
                )
        if row.alpha != row.beta and 1.0 not in (row.alpha, row.beta):
            off = min(
                (row.beta - row.alpha, row.alpha - 1, row.beta - 1),
                key=abs,
            )
            yield Inconsistency(
                "Analysis of LMF loss hyperparameters",
                "settings 1 to 3",
                "α = β, α = 1 or β = 1",
                f"Table 6: {model_name(row.model)}",
                cell(*where),
                off,
                "values",
            )
