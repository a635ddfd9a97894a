"""What choosing by test scores would have seemed to gain: how far the honest choice lies below the luckiest point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.reporting.noise import Factors, points_text
from study.reporting.text import counted, factor, score_figure, score_name, score_unit

if TYPE_CHECKING:
    from study.reporting.statistics import StudySummary


@dataclass(frozen=True)
class Peeking:
    """The test score of the validation-best (α, β) beside the best test score of all.

    Attributes:
        score: name of the score.
        chosen: α and β that validation chose.
        chosen_score: their mean on test.
        best: α and β with the best mean on test; `chosen` where none is better.
        best_score: that mean.
        points: how many (α, β) were compared.
    """

    score: str
    chosen: Factors
    chosen_score: float
    best: Factors
    best_score: float
    points: int

    @property
    def difference(self) -> float:
        """What peeking would have seemed to gain, at least 0, in the score's own unit."""
        return self.best_score - self.chosen_score

    def sentence(self) -> str:
        """What it says, in plain words."""
        name, unit = score_name(self.score), score_unit(self.score)
        chosen = f"{score_figure(self.score, self.chosen_score)}{unit}"
        if self.best == self.chosen:
            return (
                f"The point that validation chose has also the best test {name} of {counted(self.points, 'point')}, "
                f"{chosen}, so choosing by test would have gained nothing."
            )
        return (
            f"The point that validation chose has a test {name} of {chosen}; on test, the best of "
            f"{counted(self.points, 'point')} is α = {factor(self.best[0])}, β = {factor(self.best[1])} with "
            f"{score_figure(self.score, self.best_score)}{unit}. Choosing by test would have seemed to gain "
            f"{points_text(self.difference, self.score)}, which is luck as much as merit and must not be reported."
        )


def peeking(summary: StudySummary, name: str | None = None) -> Peeking | None:
    """Compare the validation-best (α, β) with the best on test.

    Args:
        summary: the study.
        name: the score on test; by default the one that chooses in this study.

    Returns:
        None where there is no best yet or it lacks the score on test.
    """
    score = name or summary.select
    if summary.best is None:
        return None
    chosen = summary.best.alpha, summary.best.beta
    tested = {(pair.alpha, pair.beta): pair.score("test", score) for pair in (summary.best, *summary.ranking)}
    known = {factors: value for factors, value in tested.items() if value is not None}
    if chosen not in known:
        return None
    best = max(known, key=lambda factors: known[factors])
    return Peeking(score, chosen, known[chosen], best, known[best], len(known))
