"""What trainings warned of, the same warning of several trials said once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.reporting.text import counted

if TYPE_CHECKING:
    from storage.queries import StudyRecord

_TRIALS_SHOWN = 5


@dataclass(frozen=True)
class Caution:
    """A warning and the trials that gave it.

    Attributes:
        warning: what was warned of, one line.
        trials: numbers of the trials, rising.
    """

    warning: str
    trials: tuple[int, ...]

    @property
    def trials_text(self) -> str:
        """The trials in a few words: `trial 3`, or `12 trials (0, 1, 2, 3, 4, ...)`."""
        if len(self.trials) == 1:
            return f"trial {self.trials[0]}"
        shown = ", ".join(map(str, self.trials[:_TRIALS_SHOWN]))
        return f"{counted(len(self.trials), 'trial')} ({shown}{', ...' if len(self.trials) > _TRIALS_SHOWN else ''})"

    @property
    def line(self) -> str:
        """Warning and trials in one line."""
        return f"{self.trials_text}: {self.warning}"


def cautions(study: StudyRecord) -> tuple[Caution, ...]:
    """All warnings of a study's trainings, those of most trials first."""
    trials: dict[str, list[int]] = {}
    for point in study.points:
        if point.trial_number is not None:
            for warning in point.warnings:
                trials.setdefault(warning, []).append(point.trial_number)
    found = (Caution(warning, tuple(sorted(numbers))) for warning, numbers in trials.items())
    return tuple(sorted(found, key=lambda caution: (-len(caution.trials), caution.warning)))
