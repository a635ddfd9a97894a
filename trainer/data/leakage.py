"""Groups that a split takes apart: the same lesion or patient trained on and tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.dataset import ImageDataset
from trainer.data.findings import Finding
from trainer.data.splits import Split


@dataclass(frozen=True)
class GroupLeakage:
    """How far a split takes the groups of one kind apart.

    Attributes:
        group: the kind, such as `lesion`.
        groups: how many groups of it there are.
        leaking_groups: groups with images both in test and in training.
        leaking_val_groups: groups with images both in validation and in training.
        test_images: images in test.
        leaking_test_images: images in test whose group is in training too.
    """

    group: str
    groups: int
    leaking_groups: int
    leaking_val_groups: int
    test_images: int
    leaking_test_images: int

    def to_dict(self) -> dict[str, Any]:
        """As a JSON document has it."""
        return asdict(self)


def group_leakage(dataset: ImageDataset, split: Split) -> tuple[GroupLeakage, ...]:
    """What a split does to each known kind of group.

    Args:
        dataset: whose groups.
        split: of all its images.

    Returns:
        One entry a kind: first the one that the dataset was asked to keep together, the others in the dataset's order.
        Empty where nothing is known of groups.
    """
    kinds = sorted(dataset.groups, key=lambda kind: kind != dataset.group)
    return tuple(_leakage_of(kind, dataset.groups[kind], split) for kind in kinds)


def leakage_findings(leakages: Iterable[GroupLeakage]) -> tuple[Finding, ...]:
    """One warning for each kind of group that is in training and also in test or validation."""
    return tuple(
        Finding("leaking group", "warning", _message(leakage))
        for leakage in leakages
        if leakage.leaking_groups or leakage.leaking_val_groups
    )


def _leakage_of(kind: str, names: Sequence[str], split: Split) -> GroupLeakage:
    numbers: dict[str, int] = {}
    group_of = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)

    def present(part: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.bincount(group_of[part], minlength=len(numbers)) > 0

    trained = present(split.train)
    return GroupLeakage(
        group=kind,
        groups=len(numbers),
        leaking_groups=int((trained & present(split.test)).sum()),
        leaking_val_groups=int((trained & present(split.val)).sum()),
        test_images=len(split.test),
        leaking_test_images=int(trained[group_of[split.test]].sum()),
    )


def _message(leakage: GroupLeakage) -> str:
    said = []
    if leakage.leaking_groups:
        share = 100 * leakage.leaking_test_images / leakage.test_images
        said.append(
            f"{leakage.leaking_groups:,} of {leakage.groups:,} groups have images in training and in test, so that "
            f"{leakage.leaking_test_images:,} of {leakage.test_images:,} test images ({share:.0f} %) are of a group "
            "that is trained on"
        )
    if leakage.leaking_val_groups:
        said.append(
            f"{leakage.leaking_val_groups:,} of {leakage.groups:,} groups have images in training and in validation"
        )
    return f"{leakage.group}: {'; '.join(said)}; --group {leakage.group} keeps groups together"
