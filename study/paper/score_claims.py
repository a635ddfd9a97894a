"""What the paper's text says of Tables 2 to 4 and of Fig 1, held against those tables.

It gives gains in percent, which are read as percentage points: relative to the other loss, the largest would be 13.5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from study.paper.inconsistency import ABOVE, BELOW, Inconsistency, cell, points, shown
from study.paper.names import DATASETS, LOSSES, MODELS, SCORE_TABLES, dataset_name, loss_name
from study.paper.published import METRICS, Published, Scores

_BASELINES = tuple(loss for loss in LOSSES if loss != "lmf")
_SKIN = ("ham10000", "isic2019")

Cells = Mapping[tuple[str, str, str], Scores]
"""Rows of Tables 2 to 4 by model, dataset and loss."""


@dataclass(frozen=True)
class GainClaim:
    """By how many percentage points LMF's macro F1 is said to exceed others'.

    Attributes:
        place: where it is said.
        lowest: the least gain; None where only the largest is stated.
        highest: the largest gain.
        digit: the last digit that the claim is given to, in points; it stands for half of it more or less.
        datasets: what it is said of.
        models: what it is said of.
        losses: what it is said against.
        of_means: it is said of the mean over the models.
    """

    place: str
    lowest: Fraction | None
    highest: Fraction
    digit: Fraction = Fraction(1)
    datasets: tuple[str, ...] = tuple(DATASETS)
    models: tuple[str, ...] = tuple(MODELS)
    losses: tuple[str, ...] = _BASELINES
    of_means: bool = False

    @property
    def stated(self) -> str:
        """The claim as a table shows it."""
        if self.lowest is None:
            return f"up to {float(self.highest):g}"
        return f"{float(self.lowest):g} to {float(self.highest):g}"


@dataclass(frozen=True)
class RankClaim:
    """How LMF is said to rank.

    Attributes:
        place: where it is said.
        datasets: what it is said of.
        models: what it is said of.
        metrics: what it is said of.
        rank: the worst rank that the claim allows, 1 for the best score.
        losses: what it is said against.
        exceptions: pairs of dataset and score that it excepts.
    """

    place: str
    datasets: tuple[str, ...] = tuple(DATASETS)
    models: tuple[str, ...] = tuple(MODELS)
    metrics: tuple[str, ...] = ("macro_f1",)
    rank: int = 1
    losses: tuple[str, ...] = _BASELINES
    exceptions: frozenset[tuple[str, str]] = frozenset()


_RESULTS = "Results, Performance comparison"

GAINS = (
    GainClaim("Abstract and Conclusion", Fraction(2), Fraction(9)),
    GainClaim(
        f"{_RESULTS}, ODIR-5K",
        None,
        Fraction(3),
        digit=Fraction(1, 2),
        datasets=("odir5k",),
        losses=("cce", "focal", "ldam"),
    ),
    GainClaim(f"{_RESULTS}, HAM-10K", Fraction(2), Fraction(4), datasets=("ham10000",)),
    GainClaim(f"{_RESULTS}, ISIC-2019", None, Fraction(9), datasets=("isic2019",)),
    GainClaim(
        f"{_RESULTS}, ISIC-2019",
        Fraction(5),
        Fraction(9),
        datasets=("isic2019",),
        models=("efficientnetv2", "resnet50"),
        losses=("cce", "focal"),
    ),
    GainClaim(f"{_RESULTS}, ISIC-2019", Fraction(2), Fraction(6), datasets=("isic2019",), losses=("ldam", "bwcce")),
    GainClaim(f"{_RESULTS}, Fig 1", Fraction(2), Fraction(7), datasets=_SKIN, of_means=True),
)

RANKS = (
    RankClaim("Abstract and Conclusion"),
    RankClaim(f"{_RESULTS}, LMF and its halves", losses=("focal", "ldam")),
    RankClaim(
        "Table 2, note",
        models=("efficientnetv2",),
        metrics=METRICS,
        exceptions=frozenset({("odir5k", "recall"), ("odir5k", "macro_f1")}),
    ),
    RankClaim("Table 3, note", models=("resnet50",), metrics=("accuracy", "macro_f1")),
    RankClaim("Table 3, note", models=("resnet50",), metrics=("precision", "recall"), rank=2),
    RankClaim("Table 4, note", datasets=(*_SKIN, "covid19-radiography"), models=("densenet121",), metrics=METRICS),
    RankClaim("Table 4, note", datasets=("odir5k",), models=("densenet121",), metrics=METRICS, rank=2),
)


def score_claim_inconsistencies(paper: Published) -> Iterator[Inconsistency]:
    """Where Tables 2 to 4 contradict what is said of them."""
    cells = {(row.model, row.dataset, row.loss): row for row in paper.scores}
    for gain in GAINS:
        yield from _gain(gain, cells)
    for rank in RANKS:
        yield from _rank(rank, cells)
    yield from _means(cells)


def _gain(claim: GainClaim, cells: Cells) -> Iterator[Inconsistency]:
    gains: dict[str, Fraction] = {}
    for dataset in claim.datasets:
        for loss in claim.losses:
            if claim.of_means:
                over = _mean(cells, dataset, "lmf", claim.models) - _mean(cells, dataset, loss, claim.models)
                gains[f"over {cell(dataset, 'mean', loss=loss)}"] = over
                continue
            for model in claim.models:
                over = _macro_f1(cells, model, dataset, "lmf") - _macro_f1(cells, model, dataset, loss)
                gains[f"over {cell(dataset, model=model, loss=loss)}"] = over
    slack = claim.digit / 2 + BELOW + ABOVE
    tables = f"Tables 2 to 4, {len(gains)} gains" if len(claim.models) > 1 else f"{len(gains)} gains"
    low, high = min(gains, key=lambda name: gains[name]), max(gains, key=lambda name: gains[name])
    if claim.lowest is not None and gains[low] < claim.lowest - slack:
        outside = sum(gain < claim.lowest - slack for gain in gains.values())
        yield _gain_found(claim, tables, gains[low], low, outside, "below", claim.lowest)
    if gains[high] > claim.highest + slack:
        outside = sum(gain > claim.highest + slack for gain in gains.values())
        yield _gain_found(claim, tables, gains[high], high, outside, "above", claim.highest)


def _gain_found(
    claim: GainClaim, tables: str, gain: Fraction, name: str, outside: int, side: str, bound: Fraction
) -> Inconsistency:
    return Inconsistency(
        claim.place,
        "LMF's gain in macro F1",
        claim.stated,
        tables,
        f"{shown(gain)} {name}; {outside} {side}",
        float(gain - bound),
    )


def _rank(claim: RankClaim, cells: Cells) -> Iterator[Inconsistency]:
    for model in claim.models:
        for dataset in claim.datasets:
            for metric in claim.metrics:
                if (dataset, metric) in claim.exceptions:
                    continue
                scores = {loss: points(cells[model, dataset, loss].get(metric)) for loss in (*claim.losses, "lmf")}
                rank = 1 + sum(score > scores["lmf"] for score in scores.values())
                if rank <= claim.rank:
                    continue
                best = max(scores, key=lambda loss: scores[loss])
                yield Inconsistency(
                    claim.place,
                    cell(dataset, metric.replace("_f1", " F1"), model=model),
                    "LMF is best" if claim.rank == 1 else f"LMF is among the best {claim.rank}",
                    f"Table {SCORE_TABLES[model]}",
                    f"rank {rank}: LMF {shown(scores['lmf'])}, {loss_name(best)} {shown(scores[best])}",
                    float(scores["lmf"] - scores[best]),
                )


def _means(cells: Cells) -> Iterator[Inconsistency]:
    """Fig 1 and its text: LMF has the best mean over the models everywhere, and deviates less than BWCCE on ODIR-5K."""
    for dataset in DATASETS:
        means = {loss: _mean(cells, dataset, loss) for loss in LOSSES}
        best = max(means, key=lambda loss: means[loss])
        if best != "lmf":
            yield Inconsistency(
                "Fig 1",
                cell(dataset, "mean macro F1 over the models"),
                "LMF is best",
                "Tables 2 to 4",
                f"LMF {shown(means['lmf'])}, {loss_name(best)} {shown(means[best])}",
                float(means["lmf"] - means[best]),
            )
    deviations = {loss: _deviation(cells, "odir5k", loss) for loss in ("bwcce", "lmf")}
    if deviations["bwcce"] <= deviations["lmf"]:
        yield Inconsistency(
            f"{_RESULTS}, Fig 1",
            f"{dataset_name('odir5k')}, average deviation over the models",
            "BWCCE's is much higher than LMF's",
            "Tables 2 to 4",
            f"BWCCE {shown(deviations['bwcce'])}, LMF {shown(deviations['lmf'])}",
            float(deviations["bwcce"] - deviations["lmf"]),
        )


def _macro_f1(cells: Cells, model: str, dataset: str, loss: str) -> Fraction:
    return points(cells[model, dataset, loss].macro_f1)


def _mean(cells: Cells, dataset: str, loss: str, models: tuple[str, ...] = tuple(MODELS)) -> Fraction:
    return _over_models(lambda model: _macro_f1(cells, model, dataset, loss), models)


def _deviation(cells: Cells, dataset: str, loss: str) -> Fraction:
    mean = _mean(cells, dataset, loss)
    return _over_models(lambda model: abs(_macro_f1(cells, model, dataset, loss) - mean), tuple(MODELS))


def _over_models(value: Callable[[str], Fraction], models: tuple[str, ...]) -> Fraction:
    return sum((value(model) for model in models), Fraction()) / len(models)
