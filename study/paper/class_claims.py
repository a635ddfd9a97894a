"""What the paper's text says of Tables 5 and 6, and the figures that it repeats, held against its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from study.paper.inconsistency import ABOVE, BELOW, Inconsistency, cell, points, shown
from study.paper.names import LOSSES, class_name, loss_name
from study.paper.published import ClassScores, Published, Quoted
from study.settings import HIGHEST, LOWEST

_CLASSES = "Results, class-wise analysis"
_FACTORS = "Analysis of LMF loss hyperparameters"

BEST_COUNTS: Mapping[str, int] = {"ham10000": 4, "isic2019": 7, "covid19-radiography": 3}
"""In how many classes LMF is said to have the best F1."""

BEST_CLASSES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("odir5k", "lmf"): ("H", "M", "N"),
    ("odir5k", "bwcce"): ("C", "O"),
    ("ham10000", "lmf"): ("AKIEC", "BCC"),
    ("ham10000", "ldam"): ("DF",),
    ("isic2019", "lmf"): ("DF", "VASC", "SCC"),
}
"""Which classes a loss is said to do best."""

SMALLEST: Mapping[str, tuple[str, ...]] = {"odir5k": ("H", "M"), "ham10000": ("DF",), "isic2019": ("DF",)}
"""Which classes are said to have the fewest training images."""

CLASS_GAINS = (
    ("odir5k", "M", "focal", 4, 5),
    ("ham10000", "AKIEC", "bwcce", 4, 5),
    ("ham10000", "BCC", "bwcce", 4, 5),
    ("isic2019", "DF", "cce", 12, 12),
    ("isic2019", "DF", "bwcce", 4, 4),
)
"""By how many points LMF is said to exceed a loss in a class: the least and the most; "over 4" is 4 to 5."""

EXTREME_BETAS, EXTREME_COUNT = (0.5, 2.0), 6
"""How many of Table 6's β are said to be one of these."""

FIRST_STEP, GRID_SIZE = (0.5, 0.7), 11
"""The values that the description of each setting begins with ("and so on"), and how many it has."""

Classes = Mapping[str, Mapping[str, ClassScores]]
"""Rows of Table 5 by dataset and class."""


def class_claim_inconsistencies(paper: Published) -> Iterator[Inconsistency]:
    """Where Tables 5 and 6, and repeated figures, contradict what is said of them."""
    classes: dict[str, dict[str, ClassScores]] = {}
    for row in paper.classes:
        classes.setdefault(row.dataset, {})[row.name] = row
    for quoted in paper.quoted:
        yield from _quoted(quoted, paper, classes)
    yield from _best_classes(classes)
    yield from _smallest(classes)
    yield from _class_gains(classes)
    yield from _lesions(classes["ham10000"])
    yield from _factors(paper)


def _quoted(quoted: Quoted, paper: Published, classes: Classes) -> Iterator[Inconsistency]:
    """A figure that the text repeats, against its table."""
    if not quoted.name:
        key = (quoted.model, quoted.dataset, quoted.loss)
        rows = [row for row in paper.scores if (row.model, row.dataset, row.loss) == key]
        printed = rows[0].macro_f1
    else:
        one = classes[quoted.dataset][quoted.name]
        printed = one.f1[quoted.loss] if quoted.loss else one.train
    if printed == quoted.value:
        return
    images = not quoted.loss
    stated, found = ((Fraction(value) if images else points(value)) for value in (quoted.value, printed))
    what = ("training images" if images else "F1") if quoted.name else "macro F1"
    yield Inconsistency(
        "Results",
        cell(quoted.dataset, class_name(quoted.name), what, model=quoted.model, loss=quoted.loss),
        str(stated) if images else shown(stated),
        f"Table {quoted.table}",
        str(found) if images else shown(found),
        float(found - stated),
        "images" if images else "points",
    )


def _lead(row: ClassScores, loss: str) -> tuple[Fraction, str]:
    """By how much a loss exceeds the best other one in a class (negative where it does not), and that one."""
    other = max((name for name in LOSSES if name != loss), key=lambda name: row.f1[name])
    return points(row.f1[loss]) - points(row.f1[other]), other


def _best_classes(classes: Classes) -> Iterator[Inconsistency]:
    for dataset, stated in BEST_COUNTS.items():
        found = sum(_lead(row, "lmf")[0] >= 0 for row in classes[dataset].values())
        if found != stated:
            yield Inconsistency(
                _CLASSES,
                cell(dataset, "classes that LMF does best"),
                f"{stated} of {len(classes[dataset])}",
                "Table 5",
                str(found),
                found - stated,
                "values",
            )
    for (dataset, loss), names in BEST_CLASSES.items():
        for name in names:
            row = classes[dataset][name]
            lead, other = _lead(row, loss)
            if lead < 0:
                yield Inconsistency(
                    _CLASSES,
                    cell(dataset, class_name(name), "F1"),
                    f"{loss_name(loss)} is best",
                    "Table 5",
                    _two(row, loss, other),
                    float(lead),
                )


def _smallest(classes: Classes) -> Iterator[Inconsistency]:
    for dataset, names in SMALLEST.items():
        by_size = sorted(classes[dataset].values(), key=lambda row: row.train)[: len(names)]
        if {row.name for row in by_size} != set(names):
            largest = max(classes[dataset][name].train for name in names)
            yield Inconsistency(
                _CLASSES,
                cell(dataset, "classes with the fewest training images"),
                ", ".join(names),
                "Table 5",
                ", ".join(row.name for row in by_size),
                by_size[-1].train - largest,
                "images",
            )


def _class_gains(classes: Classes) -> Iterator[Inconsistency]:
    for dataset, name, loss, least, most in CLASS_GAINS:
        row = classes[dataset][name]
        gain = points(row.f1["lmf"]) - points(row.f1[loss])
        slack = (Fraction(1, 2) if least == most else 0) + BELOW + ABOVE
        if not least - slack <= gain <= most + slack:
            yield Inconsistency(
                _CLASSES,
                cell(dataset, class_name(name), f"LMF's gain over {loss_name(loss)}"),
                f"{least}" if least == most else f"{least} to {most}",
                "Table 5",
                shown(gain),
                float(gain - (least if gain < least else most)),
            )


def _lesions(classes: Mapping[str, ClassScores]) -> Iterator[Inconsistency]:
    """HAM-10K: LMF improves consistently over all classes, LDAM does well in none but DF; DF is LMF's second best."""
    dataset = "ham10000"
    for name, row in classes.items():
        gain = points(row.f1["lmf"]) - points(row.f1["cce"])
        if gain < -(BELOW + ABOVE):
            yield Inconsistency(
                _CLASSES,
                cell(dataset, name, "F1"),
                "LMF improves on all classes",
                "Table 5",
                _two(row, "lmf", "cce"),
                float(gain),
            )
        lead, other = _lead(row, "ldam")
        if name != "DF" and lead > 0:
            yield Inconsistency(
                _CLASSES,
                cell(dataset, name, "F1"),
                "LDAM does well in DF alone",
                "Table 5",
                f"LDAM is best: {_two(row, 'ldam', other)}",
                float(lead),
            )
    row = classes["DF"]
    better = [loss for loss in LOSSES if row.f1[loss] > row.f1["lmf"]]
    if len(better) != 1:
        lead, other = _lead(row, "lmf")
        yield Inconsistency(
            _CLASSES,
            cell(dataset, "DF", "F1"),
            "LMF is second",
            "Table 5",
            f"rank {len(better) + 1}: {_two(row, 'lmf', other)}",
            float(lead),
        )


def _factors(paper: Published) -> Iterator[Inconsistency]:
    betas = [row.beta for row in paper.factors]
    fixed = sum(row.alpha == 1.0 for row in paper.factors)
    if 2 * fixed <= len(paper.factors):
        yield Inconsistency(
            _FACTORS, "best results with α = 1", "most", "Table 6", f"{fixed} of {len(betas)}", fixed, "values"
        )
    extreme = sum(beta in EXTREME_BETAS for beta in betas)
    if extreme != EXTREME_COUNT:
        yield Inconsistency(
            _FACTORS,
            "best results with β of 0.5 or 2.0",
            f"{EXTREME_COUNT} of {len(betas)}",
            "Table 6",
            str(extreme),
            extreme - EXTREME_COUNT,
            "values",
        )
    yield from _steps(paper)


def _steps(paper: Published) -> Iterator[Inconsistency]:
    """The values tried: continued as they begin, they are neither as many as stated nor those of Table 6."""
    first, second = (Fraction(str(value)) for value in FIRST_STEP)
    count = int((Fraction(str(HIGHEST)) - first) / (second - first)) + 1
    steps = {first + (second - first) * number for number in range(count)}
    factors = {Fraction(str(value)) for row in paper.factors for value in (row.alpha, row.beta)}
    missing = sorted(factors - steps)
    if count != GRID_SIZE or missing:
        yield Inconsistency(
            _FACTORS,
            "values of a setting",
            f"{GRID_SIZE} from {LOWEST} to {HIGHEST}: {FIRST_STEP[0]}, {FIRST_STEP[1]}, and so on",
            "steps of that size, and Table 6",
            f"{count} values, without Table 6's {', '.join(str(float(value)) for value in missing)}",
            count - GRID_SIZE,
            "values",
        )


def _two(row: ClassScores, first: str, second: str) -> str:
    return ", ".join(f"{loss_name(loss)} {shown(points(row.f1[loss]))}" for loss in (first, second))
