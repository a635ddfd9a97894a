"""Which class of a dataset is which class of a model that was trained on another one."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from study.errors import StudyError


@dataclass(frozen=True)
class ClassMatch:
    """A dataset's classes beside a model's.

    Attributes:
        theirs: the dataset's class names, in the order of its labels.
        targets: index of the model's class that each of them is; None where the model does not know it.
    """

    theirs: tuple[str, ...]
    targets: tuple[int | None, ...]

    @property
    def pairs(self) -> tuple[tuple[str, int | None], ...]:
        """Each class of the dataset with the index of the model's."""
        return tuple(zip(self.theirs, self.targets, strict=True))


def match_classes(theirs: Sequence[str], ours: Sequence[str], mapping: Sequence[str] = ()) -> ClassMatch:
    """Match classes by their names: as the user says, else the same name, else the same but for case and accents' form.

    Several classes of the dataset may be one of the model's.

    Args:
        theirs: the dataset's class names.
        ours: the model's.
        mapping: texts such as ``nevus=NV,melanoma=MEL``; a name with a comma is put in double quotes.

    Raises:
        StudyError: the mapping cannot be read, or names a class that is not there; one line with every problem.
    """
    asked, problems = _read(mapping, theirs, ours)
    if problems:
        raise StudyError(f"--map: {'; '.join(problems)}")
    folded: dict[str, list[int]] = {}
    for index, name in enumerate(ours):
        folded.setdefault(_fold(name), []).append(index)

    def target(name: str) -> int | None:
        if name in asked:
            return asked[name]
        if name in ours:
            return ours.index(name)
        alike = folded.get(_fold(name), [])
        return alike[0] if len(alike) == 1 else None

    return ClassMatch(tuple(theirs), tuple(target(name) for name in theirs))


def _read(mapping: Sequence[str], theirs: Sequence[str], ours: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The mapping as far as it can be read, and what is wrong with the rest."""
    asked: dict[str, int] = {}
    problems: list[str] = []
    for item in (item for row in csv.reader(mapping, skipinitialspace=True) for item in row):
        cuts = [at for at, letter in enumerate(item) if letter == "="]
        if not cuts:
            problems.append(f"{item!r} is not of the form THEIRS=OURS")
            continue
        # A name may hold the sign itself, so the cut is where both sides are names.
        sides = [(item[:at].strip(), item[at + 1 :].strip()) for at in cuts]
        their, our = next(((a, b) for a, b in sides if a in theirs and b in ours), sides[0])
        if their not in theirs:
            problems.append(f"{their!r} is no class of the dataset, whose classes are {', '.join(theirs)}")
        if our not in ours:
            problems.append(f"{our!r} is no class of the model, whose classes are {', '.join(ours)}")
        if their in asked:
            problems.append(f"{their!r} is named twice")
        if their in theirs and our in ours:
            asked[their] = ours.index(our)
    return asked, problems


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
